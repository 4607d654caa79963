"""Appends of which it is not known whether they were executed, and the looking into their streams.

What a look-up makes of its pages is in tests/operations/test_looking.py.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import NotHandled, Read, not_handled, page, written
from tests.helpers import new_events
from tests.kinds import NO_STREAM_YET, READ_BACKWARD
from tests.lost import AT_ONCE, answer_all, asked, open_over
from tests.peer import Call, Peer
from trio_extreme import (
    Credentials,
    NewEvent,
    OutcomeUnknown,
    WriteResult,
)
from trio_extreme.client import serve
from trio_extreme.engine import Engine
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from tests.peer import Request
    from trio_extreme import Connection, Settings

pytestmark = pytest.mark.usefixtures("autojump_clock")

PAGE_DONE = READ_BACKWARD + 1
WRITE_DONE = Command.WRITE_EVENTS_COMPLETED
OPS = Credentials("ops", "secret")


def stored(
    numbers: Iterable[int], ours: Mapping[int, NewEvent] | None = None, *, end: bool = False, last: int | None = None
) -> Any:
    """A page of these numbers, backwards; which of them are ours."""
    numbers = list(numbers)
    message = page(numbers, numbers[-1] - 1, end=end, last=numbers[0] if last is None else last)
    for number, found in zip(numbers, message.events, strict=True):
        new = ours.get(number) if ours else None
        found.event.event_id = new.id_bytes if new is not None else b"somebody else's "
    return message


class Doubtful:
    """An append that got no answer, and who is asked whether it is there."""

    def __init__(self, conn: Connection, peer: Peer, call: Call, first: Request, events: list[NewEvent]) -> None:
        self.conn = conn
        self.peer = peer
        self.call = call
        self.first = first
        self.events = events

    @property
    def pages(self) -> list[int]:
        """How many events were asked for each time."""
        messages: list[Any] = [request.message for request in asked(self.peer) if request.command == READ_BACKWARD]
        return [message.max_count for message in messages]

    @property
    def again(self) -> list[Request]:
        """The appends that were sent after the first one."""
        appends = [request for request in asked(self.peer) if request.command == Command.WRITE_EVENTS]
        return [request for request in appends if request.correlation != self.first.correlation]


@asynccontextmanager
async def doubtful(
    how: str, nursery: trio.Nursery, settings: Settings = AT_ONCE, **options: Any
) -> AsyncIterator[Doubtful]:
    """Of two events; on the session that lives, because nobody answered in time, or on the next."""
    peers = (Peer(),) if how == "overdue" else (Peer(), Peer())
    events = new_events(2)
    async with open_over(*peers, settings=settings) as conn:
        call = Call(nursery, conn.append, "s", events, **options)
        first = await peers[0].receive(Command.WRITE_EVENTS)
        if how == "lost":
            peers[0].hang_up()
        yield Doubtful(conn, peers[-1], call, first, events)


each_doubt = pytest.mark.parametrize("how", ["lost", "overdue"])


# --- what is asked, and what comes of it


@each_doubt
async def test_what_is_asked_for(how: str, nursery: trio.Nursery) -> None:
    """Backwards from the end, of the master, links as they are, as whoever asked to append."""
    async with doubtful(how, nursery, credentials=OPS) as append:
        request = await append.peer.receive(READ_BACKWARD)
        assert request.message == schema.ReadStreamEvents(
            event_stream_id="s", from_event_number=-1, max_count=8, resolve_link_tos=False, require_master=True
        )
        assert request.credentials == OPS
        append.peer.send(*as_answer(request, NO_STREAM_YET[1]))
        again = await append.peer.receive(Command.WRITE_EVENTS)
        append.peer.send(WRITE_DONE, again.correlation, written(4, 5))
        await append.call.value()


def as_answer(request: Request, message: Any) -> tuple[int, bytes, Any]:
    return request.command + 1, request.correlation, message


@each_doubt
async def test_found(how: str, nursery: trio.Nursery) -> None:
    async with doubtful(how, nursery) as append:
        first, second = append.events
        answer_all(append.peer, READ_BACKWARD, (PAGE_DONE, stored([8, 7, 6, 5], {7: second, 6: first})))
        assert await append.call.value() == WriteResult(6, 7, None)
        assert append.again == []
        assert append.pages == [8]


@each_doubt
@pytest.mark.parametrize(
    "answers",
    [
        [schema.ReadStreamEventsCompleted(result=Read.NoStream, last_event_number=-1)],
        [stored([2, 1, 0], end=True)],
        [stored([10, 9, 8]), stored([7, 6]), stored([5, 4, 3, 2, 1, 0], end=True)],
    ],
    ids=["no stream ever", "read to its first event", "in pages"],
)
async def test_surely_not_there(how: str, answers: list[Any], nursery: trio.Nursery) -> None:
    """It is sent again, with the same ids, and no look follows."""
    async with doubtful(how, nursery) as append:
        for answer in answers:
            append.peer.send(*as_answer(await append.peer.receive(READ_BACKWARD), answer))
        request = await append.peer.receive(Command.WRITE_EVENTS)
        assert request.correlation != append.first.correlation
        ids = [event.event_id for event in request.message.events]  # type: ignore[attr-defined]
        assert ids == [event.id_bytes for event in append.events]
        append.peer.send(WRITE_DONE, request.correlation, written(11, 12))
        assert (await append.call.value()).first == 11


async def test_it_goes_on_where_a_page_ended(nursery: trio.Nursery) -> None:
    """And asks for more at a time, where events are small."""
    async with doubtful("lost", nursery) as append:
        first, second = append.events
        append.peer.send(*as_answer(await append.peer.receive(READ_BACKWARD), stored(range(999, 991, -1))))
        request = await append.peer.receive(READ_BACKWARD)
        message = request.message
        assert (message.from_event_number, message.max_count) == (991, 64)  # type: ignore[attr-defined]
        assert message.require_master  # type: ignore[attr-defined]
        append.peer.send(*as_answer(request, stored(range(991, 927, -1), {991: second, 990: first})))
        assert await append.call.value() == WriteResult(990, 991, None)


NOW = 1_700_000_000.0


@pytest.mark.parametrize(("age", "sure"), [(301, True), (299, False)])
async def test_an_event_older_than_the_call(age: float, sure: bool, nursery: trio.Nursery) -> None:
    """By five minutes, for the server's clock is not ours."""
    peer = Peer()
    engine = Engine(AT_ONCE, peer.connect, now=lambda: NOW + trio.current_time())
    async with serve(engine) as conn:
        await trio.sleep(1000)
        append = Call(nursery, conn.append, "s", new_events(1))
        answer_all(peer, READ_BACKWARD, (PAGE_DONE, written_at(NOW + 1000 - age)))
        await peer.receive(Command.WRITE_EVENTS)
        if sure:
            again = await peer.receive(Command.WRITE_EVENTS)
            peer.send(WRITE_DONE, again.correlation, written(11, 11))
            assert (await append.value()).first == 11
        else:
            assert isinstance(await append.error(), OutcomeUnknown)
            assert trio.current_time() == pytest.approx(1000 + AT_ONCE.attempt_timeout)


def written_at(seconds: float) -> Any:
    """A page of the last event of a long stream."""
    message = stored([10], end=True)
    message.events[0].event.created_epoch = int(seconds * 1000)
    return message


# --- not sure


UNSURE: dict[str, Any] = {
    "not the master": (Command.NOT_HANDLED, not_handled(NotHandled.NotMaster)),
    "access denied": schema.ReadStreamEventsCompleted(result=Read.AccessDenied),
    "an error": schema.ReadStreamEventsCompleted(result=Read.Error, error="no"),
    "hard-deleted": schema.ReadStreamEventsCompleted(result=Read.StreamDeleted),
    "soft-deleted": schema.ReadStreamEventsCompleted(result=Read.NoStream, last_event_number=7),
    "a server that does not say": schema.ReadStreamEventsCompleted(result=Read.NoStream),
    "bad request": (Command.BAD_REQUEST, b"what?"),
    "not authenticated": (Command.NOT_AUTHENTICATED, b"who?"),
    "cut short": stored([8, 7], end=True),
    "an event missing on the way": stored([8, 7, 5, 4, 3, 2, 1, 0], end=True),
    "the last event missing": stored([7, 6, 5, 4, 3, 2, 1, 0], last=8, end=True),
}


@each_doubt
@pytest.mark.parametrize("answer", UNSURE)
async def test_not_sure(how: str, answer: str, nursery: trio.Nursery) -> None:
    async with doubtful(how, nursery) as append:
        message = UNSURE[answer]
        answer_all(append.peer, READ_BACKWARD, message if isinstance(message, tuple) else (PAGE_DONE, message))
        await check_unknown(append)
        # The connection goes on: nothing was wrong with it.
        await append.conn.ping()
        assert append.conn.statistics().reconnects == (how == "lost")


async def check_unknown(append: Doubtful) -> None:
    error = await append.call.error()
    assert isinstance(error, OutcomeUnknown)
    assert error.event_ids == tuple(event.id for event in append.events)
    assert append.again == []


@each_doubt
@pytest.mark.parametrize("places", [{7: 1}, {7: 0}, {7: 0, 6: 1}, {7: 1, 5: 0}])
async def test_only_some_of_them(how: str, places: dict[int, int], nursery: trio.Nursery) -> None:
    """Or not one after the other, as an append writes them: no server does that."""
    async with doubtful(how, nursery) as append:
        ours = {place: append.events[number] for place, number in places.items()}
        answer_all(append.peer, READ_BACKWARD, (PAGE_DONE, stored([7, 6, 5, 4, 3, 2, 1, 0], ours, end=True)))
        await check_unknown(append)


@each_doubt
async def test_too_many_events_to_look_through(how: str, nursery: trio.Nursery) -> None:
    async with doubtful(how, nursery) as append:
        append.peer.handlers[READ_BACKWARD] = lambda request: answer_page(append.peer, request)
        await check_unknown(append)
        assert append.pages == [8, 64, 512, 3512]


def answer_page(peer: Peer, request: Request, size: int = 0) -> None:
    """As many events of an endless stream as are asked for."""
    message: Any = request.message
    first = 100_000 if message.from_event_number == -1 else message.from_event_number
    answer = stored(range(first, first - message.max_count, -1))
    for found in answer.events:
        found.event.data = bytes(size)
    peer.send(*as_answer(request, answer))


@each_doubt
async def test_too_many_bytes_to_look_through(how: str, nursery: trio.Nursery) -> None:
    async with doubtful(how, nursery) as append:
        append.peer.handlers[READ_BACKWARD] = lambda request: answer_page(append.peer, request, 1024 * 1024)
        await check_unknown(append)
        assert sum(append.pages) == 16


@each_doubt
async def test_a_page_that_is_too_large(how: str, nursery: trio.Nursery) -> None:
    """A smaller one may be had."""
    settings = AT_ONCE.replace(max_frame_size=2000)
    async with doubtful(how, nursery, settings) as append:
        append.peer.handlers[READ_BACKWARD] = lambda request: answer_page(append.peer, request, 900)
        first, second = append.events
        for count in (8, 2):
            request = await take(append, count)
            append.peer.send(*as_answer(request, b"x" * 3000))
        request = await take(append, 1)
        append.peer.send(*as_answer(request, stored([5], {5: second})))
        request = await append.peer.receive(READ_BACKWARD)
        append.peer.send(*as_answer(request, stored([4], {4: first})))
        assert await append.call.value() == WriteResult(4, 5, None)


async def take(append: Doubtful, count: int) -> Request:
    append.peer.handlers.pop(READ_BACKWARD, None)
    request = await append.peer.receive(READ_BACKWARD)
    assert request.message.max_count == count  # type: ignore[attr-defined]
    return request


@each_doubt
async def test_an_event_that_is_too_large(how: str, nursery: trio.Nursery) -> None:
    async with doubtful(how, nursery, AT_ONCE.replace(max_frame_size=2000)) as append:
        answer_all(append.peer, READ_BACKWARD, (PAGE_DONE, b"x" * 3000))
        await check_unknown(append)
        assert append.pages == [8, 2, 1]
