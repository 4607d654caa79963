"""A refusal is of one attempt alone: what it means to a write of which an earlier one may have been executed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import NotHandled, Written, event_read, not_handled, not_written, page
from tests.helpers import assert_nothing_left
from tests.kinds import EVENTS, KINDS, NO_STREAM_YET, READ_BACKWARD, Kind, each, each_kind, of_kind, refusing, send
from tests.lost import AT_ONCE, MUCH_LATER, answer_all, asked, block_writer, lose, not_handled_by, open_over, settle
from tests.peer import Call, Network, Peer
from trio_extreme import (
    AccessDenied,
    BadRequest,
    ConnectionClosed,
    ConnectionLost,
    DeleteResult,
    FrameTooLarge,
    NotAuthenticated,
    NotMaster,
    NotReady,
    OutcomeUnknown,
    StreamDeleted,
    TrioExtremeError,
    WriteResult,
    WrongExpectedVersion,
    open_connection,
)
from trio_extreme.operations.base import Resend
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.peer import Request

pytestmark = pytest.mark.usefixtures("autojump_clock")

WRITES = [kind for kind in KINDS if kind.resend in {Resend.SAME_IDS, Resend.LOOK_UP}]
APPENDS = [kind for kind in WRITES if kind.command in {Command.WRITE_EVENTS, Command.TRANSACTION_COMMIT}]
"""And commits, which append too."""
DELETES = [kind for kind in WRITES if kind.command == Command.DELETE_STREAM]
each_append = pytest.mark.parametrize("kind", [kind for kind in APPENDS if kind.event_ids], ids=str)
each_delete = pytest.mark.parametrize("kind", DELETES, ids=str)

REFUSALS: list[tuple[Any, type[TrioExtremeError]]] = [
    (Written.StreamDeleted, StreamDeleted),
    (Written.AccessDenied, AccessDenied),
    (Written.WrongExpectedVersion, WrongExpectedVersion),
    ((Command.NOT_HANDLED, not_handled(NotHandled.NotMaster)), NotMaster),
    ((Command.NOT_HANDLED, not_handled(NotHandled.IsReadOnly)), NotMaster),
    ((Command.BAD_REQUEST, b"what?"), BadRequest),
    ((Command.NOT_AUTHENTICATED, b"who?"), NotAuthenticated),
]
TELLING = {StreamDeleted, WrongExpectedVersion}
"""What a hard delete that is sent again can be told only where the first attempt was executed, or was not."""

each_refusal = pytest.mark.parametrize(("answer", "error"), REFUSALS, ids=lambda value: getattr(value, "__name__", ""))

each_doubt = pytest.mark.parametrize("doubt", ["lost", "overdue", "not agreed"])


SMALL = AT_ONCE.replace(max_frame_size=10_000)


class Resent:
    """A write that was sent once, may have been executed, and has been sent again."""

    def __init__(self, call: Call, peer: Peer, request: Request) -> None:
        self.call = call
        self.peer = peer
        self._request = request

    def answer(self, kind: Kind, answer: Any) -> None:
        command, payload = answer if isinstance(answer, tuple) else refusing(kind, answer)
        self.peer.send(command, self._request.correlation, payload)


@asynccontextmanager
async def resent(kind: Kind, doubt: str, nursery: trio.Nursery) -> AsyncIterator[Resent]:
    """For each reason to doubt: its session died, nobody answered, or the servers did not agree in time."""
    peer = Peer()
    peers = (peer, Peer()) if doubt == "lost" else (peer,)
    answer_all(peers[-1], READ_BACKWARD, NO_STREAM_YET)
    async with open_over(*peers, settings=SMALL) as conn:
        call, request = await send(nursery, conn, peer, kind)
        if doubt == "lost":
            peer.hang_up()
        elif doubt == "not agreed":
            command, payload = refusing(kind, Written.CommitTimeout)
            peer.send(command, request.correlation, payload)
        yield Resent(call, peers[-1], await peers[-1].receive(kind.command))


@each_doubt
@each_append
@each_refusal
async def test_an_append_that_is_refused_when_sent_again(
    kind: Kind, doubt: str, answer: Any, error: type[TrioExtremeError], nursery: trio.Nursery
) -> None:
    """Whatever the server says now, the first attempt may have been executed before."""
    async with resent(kind, doubt, nursery) as write:
        answer_all(write.peer, READ_BACKWARD, (Command.BAD_REQUEST, b"not now"))
        write.answer(kind, answer)
        unknown = await write.call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert isinstance(unknown.__cause__, error)
        assert kind.writes(unknown.event_ids)


@each_doubt
@each_append
async def test_a_wrong_version_and_the_events_are_not_there(kind: Kind, doubt: str, nursery: trio.Nursery) -> None:
    """No attempt was executed. None can be, where the stream is beyond the number: then it is the truth.

    Without a number one may be: NO_STREAM is right again once the stream is deleted softly.
    """
    async with resent(kind, doubt, nursery) as write:
        others = page(range(5, -1, -1), -1, end=True, last=5)
        for event in others.events:
            event.event.event_id = bytes([event.event.event_number + 100]) * 16
        answer_all(write.peer, READ_BACKWARD, (READ_BACKWARD + 1, others))
        write.answer(kind, Written.WrongExpectedVersion)
        is_protected = kind.name.endswith("at a number")
        assert type(await write.call.error()) is (WrongExpectedVersion if is_protected else OutcomeUnknown)
    # The look is the last that was asked for: nothing is sent a third time.
    assert asked(write.peer)[-1].command == READ_BACKWARD


@each_doubt
@each_append
async def test_a_wrong_version_that_may_come_yet(kind: Kind, doubt: str, nursery: trio.Nursery) -> None:
    """The first attempt may still lie in the server, behind one that brings the stream to that version."""
    async with resent(kind, doubt, nursery) as write:
        write.answer(kind, Written.WrongExpectedVersion)
        unknown = await write.call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert isinstance(unknown.__cause__, WrongExpectedVersion)
    assert asked(write.peer)[-1].command == READ_BACKWARD


@each_doubt
@each_append
async def test_a_wrong_version_and_the_events_are_there(kind: Kind, doubt: str, nursery: trio.Nursery) -> None:
    """A soft-deleted stream was numbered on; or it was another attempt of ours that made the version a wrong one."""
    async with resent(kind, doubt, nursery) as write:
        stored = page([8, 7, 6], 5, last=8)
        for event, new in zip(reversed(stored.events[1:]), EVENTS, strict=True):
            event.event.event_id = new.id_bytes
        answer_all(write.peer, READ_BACKWARD, (READ_BACKWARD + 1, stored))
        write.answer(kind, Written.WrongExpectedVersion)
        assert await write.call.value() == WriteResult(6, 7, None)


@each_doubt
@each_delete
async def test_a_hard_delete_that_finds_its_own_tombstone(kind: Kind, doubt: str, nursery: trio.Nursery) -> None:
    """The stream is deleted, as was asked for; where the record of it is nobody said."""
    async with resent(kind, doubt, nursery) as write:
        write.answer(kind, Written.StreamDeleted)
        assert await write.call.value() == DeleteResult(None)


@each_doubt
@each_delete
@pytest.mark.parametrize(
    ("answer", "error"), [case for case in REFUSALS if case[1] not in {StreamDeleted, WrongExpectedVersion}]
)
async def test_a_hard_delete_that_is_refused_when_sent_again(
    kind: Kind, doubt: str, answer: Any, error: type[TrioExtremeError], nursery: trio.Nursery
) -> None:
    async with resent(kind, doubt, nursery) as write:
        write.answer(kind, answer)
        unknown = await write.call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert isinstance(unknown.__cause__, error)


@each_doubt
@each_delete
async def test_a_hard_delete_that_finds_a_wrong_version(kind: Kind, doubt: str, nursery: trio.Nursery) -> None:
    """It is that of a stream that is not hard-deleted: no attempt was executed."""
    async with resent(kind, doubt, nursery) as write:
        write.answer(kind, Written.WrongExpectedVersion)
        assert isinstance(await write.call.error(), WrongExpectedVersion)


@each_doubt
@each(Resend.SAME_IDS, Resend.LOOK_UP)
async def test_a_second_attempt_that_never_gets_through(kind: Kind, doubt: str, nursery: trio.Nursery) -> None:
    """Not ready until the time is over: of the first attempt that tells nothing."""
    async with resent(kind, doubt, nursery) as write:
        answer_all(write.peer, kind.command, (Command.NOT_HANDLED, not_handled(NotHandled.NotReady)))
        write.answer(kind, (Command.NOT_HANDLED, not_handled(NotHandled.NotReady)))
        unknown = await write.call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert isinstance(unknown.__cause__, NotReady)


@each_doubt
@each(Resend.SAME_IDS, Resend.LOOK_UP)
async def test_a_second_answer_too_large(kind: Kind, doubt: str, nursery: trio.Nursery) -> None:
    async with resent(kind, doubt, nursery) as write:
        write.answer(kind, (kind.answer[0], bytes(SMALL.max_frame_size)))
        unknown = await write.call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert isinstance(unknown.__cause__, FrameTooLarge)


@each_doubt
@each(Resend.SAME_IDS, Resend.LOOK_UP)
@pytest.mark.parametrize("when", ["waits", "was sent"])
async def test_the_block_is_left_after_a_first_attempt(
    kind: Kind, doubt: str, when: str, nursery: trio.Nursery
) -> None:
    first, second = Peer(), Peer()
    network = Network(first, second)
    for peer in (first, second):
        answer_all(peer, READ_BACKWARD, NO_STREAM_YET)
    settings = MUCH_LATER if when == "waits" else AT_ONCE
    async with open_connection(settings, connect=network.connect) as conn:
        call, request = await send(nursery, conn, first, kind)
        if doubt == "overdue":
            await trio.sleep(settings.attempt_timeout + 0.1)
        elif doubt == "not agreed":
            command, payload = refusing(kind, Written.CommitTimeout)
            first.send(command, request.correlation, payload)
            await settle()
        if when == "waits" or doubt == "lost":
            await lose(first)
    error = await call.error()
    assert isinstance(error, OutcomeUnknown)
    assert isinstance(error.__cause__, ConnectionClosed)
    assert kind.writes(error.event_ids)
    assert_nothing_left(conn)


@each_append
@pytest.mark.parametrize("turns", range(5))
async def test_the_block_is_left_when_a_refusal_comes(kind: Kind, turns: int, nursery: trio.Nursery) -> None:
    """Before, when and after its caller hears of it: there is no time left to look."""
    peer = Peer()
    async with open_connection(AT_ONCE, connect=Network(peer, second := Peer()).connect) as conn:
        answer_all(second, READ_BACKWARD, NO_STREAM_YET)
        call, _ = await send(nursery, conn, peer, kind)
        peer.hang_up()
        again = await second.receive(kind.command)
        command, payload = refusing(kind, Written.WrongExpectedVersion)
        second.send(command, again.correlation, payload)
        del second.handlers[READ_BACKWARD]
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
    assert isinstance(await call.error(), OutcomeUnknown)
    assert_nothing_left(conn)


@each(Resend.SAME_IDS, Resend.LOOK_UP)
async def test_a_second_attempt_that_was_not_sent(kind: Kind, nursery: trio.Nursery) -> None:
    """The session dies of something else, and there is none any more until its time is over."""
    peer = Peer()
    settings = MUCH_LATER.replace(heartbeat_timeout=100, operation_timeout=20)
    async with open_connection(settings, connect=peer.connect) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        await block_writer(peer)
        await trio.sleep(settings.attempt_timeout + 1)
        await lose(peer)
        unknown = await call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert trio.current_time() == pytest.approx(20)
        assert_nothing_left(conn)
    assert len(of_kind(peer, kind)) == 1


# --- where there is no doubt


@each_kind
@pytest.mark.parametrize("answer", [(Command.BAD_REQUEST, b"what?"), (Command.NOT_AUTHENTICATED, b"who?")])
async def test_the_only_attempt_is_refused(kind: Kind, answer: Any, nursery: trio.Nursery) -> None:
    async with open_over(peer := Peer()) as conn:
        call, request = await send(nursery, conn, peer, kind)
        peer.send(answer[0], request.correlation, answer[1])
        assert isinstance(await call.error(), BadRequest | NotAuthenticated)


@pytest.mark.parametrize("kind", [*APPENDS, *DELETES], ids=str)
@pytest.mark.parametrize(("answer", "error"), REFUSALS)
async def test_the_first_attempt_was_not_handled(
    kind: Kind, answer: Any, error: type[TrioExtremeError], nursery: trio.Nursery
) -> None:
    """It was turned away for certain, and the second too."""
    async with open_over(peer := Peer()) as conn:
        call, request = await send(nursery, conn, peer, kind)
        not_handled_by(peer, request, NotHandled.NotReady)
        Resent(call, peer, await peer.receive(kind.command)).answer(kind, answer)
        assert isinstance(await call.error(), error)


@pytest.mark.parametrize("kind", [*APPENDS, *DELETES], ids=str)
@pytest.mark.parametrize(("answer", "error"), REFUSALS)
async def test_the_first_attempt_was_not_sent(
    kind: Kind, answer: Any, error: type[TrioExtremeError], nursery: trio.Nursery
) -> None:
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        await block_writer(peer)
        call = Call(nursery, kind.verb, conn)
        await lose(peer)
        Resent(call, second, await second.receive(kind.command)).answer(kind, answer)
        assert isinstance(await call.error(), error)


@each_kind
async def test_not_ready_until_the_deadline(kind: Kind, nursery: trio.Nursery) -> None:
    """No attempt was executed, so there is nothing unknown about it."""
    peer = Peer()
    async with open_over(peer, settings=AT_ONCE.replace(operation_timeout=2)) as conn:
        answer_all(peer, kind.command, (Command.NOT_HANDLED, not_handled(NotHandled.NotReady)))
        with pytest.raises(NotReady):
            await kind.verb(conn)
        assert 1.5 <= trio.current_time() <= 2


@each_kind
@pytest.mark.parametrize("lost", [False, True])
async def test_the_block_is_left_after_it_was_not_handled(kind: Kind, lost: bool, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_connection(MUCH_LATER, connect=peer.connect) as conn:
        call, request = await send(nursery, conn, peer, kind)
        not_handled_by(peer, request, NotHandled.NotReady)
        await settle()
        if lost:
            await lose(peer)
    assert isinstance(await call.error(), ConnectionClosed)
    assert len(of_kind(peer, kind)) == 1


async def test_the_last_answer_before_the_end_counts(nursery: trio.Nursery) -> None:
    """Sending fails first, and what the peer had said before is still read."""
    peer, second = Peer(), Peer()
    answer_all(second, Command.READ_EVENT, (Command.READ_EVENT_COMPLETED, event_read(7)))
    async with open_over(peer, second) as conn:
        call, request = await send(nursery, conn, peer, APPENDS[0])
        peer.break_sending()
        read = Call(nursery, conn.read_event, "s", 0)
        await trio.sleep(0.1)
        peer.send(Command.WRITE_EVENTS_COMPLETED, request.correlation, not_written(Written.AccessDenied))
        peer.hang_up()
        assert isinstance(await call.error(), AccessDenied)
        assert (await read.value()).number == 7
    assert second.commands() == [Command.READ_EVENT]


@each(Resend.NEVER)
async def test_what_is_sent_once_tells_the_errors_cause(kind: Kind, nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        peer.send_bytes(bytes(4))
        unknown = await call.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert "length 0" in str(unknown)
        assert not isinstance(unknown.__cause__, ConnectionLost)
