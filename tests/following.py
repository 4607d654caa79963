"""Subscriptions in tests: consumers that keep what they saw, and a server that is asked page by page."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import confirm, confirmed, log_page, page, pushed
from tests.helpers import assert_nothing_left, new_events
from tests.peer import ANONYMOUS, Network, Peer, Request, encode, open_to
from trio_extreme import CaughtUp, LogEvent, NewEvent, Notice, TrioExtremeError, open_connection
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from trio_extreme import Connection, Settings
    from trio_extreme.subscriptions import Subscription

READ, READ_COMPLETED = Command.READ_STREAM_EVENTS_FORWARD, Command.READ_STREAM_EVENTS_FORWARD_COMPLETED
READ_LOG, READ_LOG_COMPLETED = Command.READ_ALL_EVENTS_FORWARD, Command.READ_ALL_EVENTS_FORWARD_COMPLETED
READ_BACK, READ_BACK_COMPLETED = Command.READ_STREAM_EVENTS_BACKWARD, Command.READ_STREAM_EVENTS_BACKWARD_COMPLETED
SUBSCRIBE, UNSUBSCRIBE = Command.SUBSCRIBE_TO_STREAM, Command.UNSUBSCRIBE_FROM_STREAM
CONFIRMATION, APPEARED = Command.SUBSCRIPTION_CONFIRMATION, Command.STREAM_EVENT_APPEARED
DROPPED = Command.SUBSCRIPTION_DROPPED
NO_STREAM = schema.ReadStreamEventsCompleted.ReadStreamResult.NoStream

#: Mock seconds; a test that waits for longer waits for ever.
LONG_ENOUGH = 10_000

Kind: TypeAlias = Literal["live", "catching up"]


def ignore(request: Request) -> None:
    """Nobody answers this."""


async def append(conn: Connection, count: int, first: int = 0, *, stream: str = "s") -> None:
    await conn.append(stream, new_events(count, first))


async def set_metadata(conn: Connection, **metadata: int) -> None:
    """Of stream "s": `tb=3` sets `$tb`."""
    data = json.dumps({f"${name}": value for name, value in metadata.items()}).encode()
    await conn.append("$$s", NewEvent("$metadata", data, is_json=True))


# --- what a consumer saw


def place_of(item: Any) -> Any:
    """Of an event its place: its number, a link's where there is one; in the log its position. A notice as it is."""
    if isinstance(item, Notice):
        return item
    return item.position.commit if isinstance(item, LogEvent) else item.checkpoint


async def take(items: AsyncIterator[Any], count: int) -> list[Any]:
    """The next ones, by their places."""
    return [place_of(await anext(items)) for _ in range(count)]


async def take_until(items: AsyncIterator[Any], last: Any) -> list[Any]:
    """The next ones up to this, by their places."""
    seen: list[Any] = []
    while not seen or seen[-1] != last:
        seen += await take(items, 1)
    return seen


async def assert_silent(items: AsyncIterator[Any], seconds: float = 60) -> None:
    with trio.move_on_after(seconds) as scope:
        item = await anext(items)
        pytest.fail(f"{item} was not expected")
    assert scope.cancelled_caught


class Consumer:
    """A task that iterates over a subscription until it ends, and keeps what it saw, by place."""

    def __init__(self, nursery: trio.Nursery, items: AsyncIterator[Any]) -> None:
        self.seen: list[Any] = []
        self.error: Any = None
        #: Seconds that each item takes.
        self.pace = 0.0
        nursery.start_soon(self._run, items)

    async def _run(self, items: AsyncIterator[Any]) -> None:
        try:
            async for item in items:
                self.seen.append(place_of(item))
                if self.pace:
                    await trio.sleep(self.pace)
        except TrioExtremeError as error:
            self.error = error

    @property
    def numbers(self) -> list[int]:
        """The events among it."""
        return [item for item in self.seen if isinstance(item, int)]

    @property
    def notices(self) -> list[Notice]:
        return [item for item in self.seen if isinstance(item, Notice)]


def assert_caught_up_in_turns(consumer: Consumer, point: object) -> None:
    """At the end it has caught up, and never twice in a row."""
    notices = consumer.notices
    assert notices[-1] == CaughtUp(), point
    assert CaughtUp() not in [after for before, after in pairwise(notices) if before == after], point


@asynccontextmanager
async def followed(events: Subscription[Any], *, pace: float = 0.0) -> AsyncIterator[Consumer]:
    """The subscription's block, with somebody who iterates with notices."""
    async with events, trio.open_nursery() as nursery:
        consumer = Consumer(nursery, events.with_notices())
        consumer.pace = pace
        yield consumer
        nursery.cancel_scope.cancel()


# --- a server for each session


@asynccontextmanager
async def open_to_each(*outcomes: Peer | None, settings: Settings = ANONYMOUS) -> AsyncIterator[Connection]:
    """A connection to one peer after another, without delay, and then to nobody, which None stands for.

    Nobody answers what is unsubscribed.
    """
    for peer in outcomes:
        if peer is not None:
            peer.handlers[UNSUBSCRIBE] = ignore
    network = Network(*outcomes, None)
    async with open_connection(settings.replace(reconnect_delay=0), connect=network.connect) as conn:
        with trio.fail_after(LONG_ENOUGH):
            yield conn
            await wait_all_tasks_blocked()
        assert_nothing_left(conn)


async def give(
    peer: Peer, *numbers: int, end: bool = False, following: int | None = None, last: int | None = None, size: int = 0
) -> Any:
    """Answer the next read with these events of stream "s"; what was asked."""
    request = await peer.receive(READ)
    asked: Any = request.message
    onwards = following if following is not None else numbers[-1] + 1 if numbers else asked.from_event_number
    highest = last if last is not None else onwards - 1 if end else 999
    peer.send(READ_COMPLETED, request.correlation, page(numbers, onwards, end=end, last=highest, size=size))
    await wait_all_tasks_blocked()
    return asked


async def give_log(peer: Peer, *places: int, following: int | None = None) -> Any:
    """Answer the next read of the log with events at these places; what was asked."""
    request = await peer.receive(READ_LOG)
    asked: Any = request.message
    onwards = following if following is not None else places[-1] + 5 if places else asked.commit_position
    peer.send(READ_LOG_COMPLETED, request.correlation, log_page(places, asked.commit_position, onwards))
    await wait_all_tasks_blocked()
    return asked


async def miss(peer: Peer, last: int = -1) -> None:
    """Answer the next read of a stream that there is none, or none any more: then `last` is its old last number."""
    request = await peer.receive(READ)
    answer = page((), -1, end=True, last=last)
    answer.result = NO_STREAM
    peer.send(READ_COMPLETED, request.correlation, answer)
    await wait_all_tasks_blocked()


async def reach(peer: Peer, moment: str) -> Request:
    """Bring a subscription to a moment at which its consumer waits for the server; the request it waits for."""
    if moment == "the first page":
        return await peer.receive(READ)
    await give(peer, 0, end=moment != "a page ahead")
    if moment == "a page ahead":
        return await peer.receive(READ)
    if moment == "the confirmation":
        return await peer.receive(SUBSCRIBE)
    request = await confirm_now(peer, 4)
    if moment == "the rest":
        return await peer.receive(READ)
    await give(peer, end=True, last=0)
    assert moment == "patience"
    return request


MOMENTS = ["the first page", "a page ahead", "the confirmation", "the rest", "patience"]


async def confirm_now(peer: Peer, last_number: int, *, then: Iterable[int] = ()) -> Request:
    """Confirm the next subscription, and let all settle."""
    request = await confirm(peer, last_number, then=then)
    await wait_all_tasks_blocked()
    return request


async def push(peer: Peer, request: Request, *numbers: int, data: bytes = b"") -> None:
    """Push events in one chunk, which is filed when this returns."""
    peer.send_bytes(pushed(request, *numbers, data=data))
    await wait_all_tasks_blocked()


def asked_from(peer: Peer) -> list[int]:
    """The number that each page of a stream was to begin with, in order."""
    messages: list[Any] = [request.message for request in peer.log if request.command == READ]
    return [message.from_event_number for message in messages]


def unsubscribed(peer: Peer) -> list[bytes]:
    return [request.correlation for request in peer.log if request.command == UNSUBSCRIBE]


# --- a subscription that has come to what is live


class Open:
    """A subscription to stream "s" whose next event is number 5, and the request it was opened with."""

    def __init__(self, peer: Peer, conn: Connection, events: Any, request: Request) -> None:
        self.peer = peer
        self.conn = conn
        self.events = events
        self.request = request

    async def push(self, *numbers: int, data: bytes = b"") -> None:
        await push(self.peer, self.request, *numbers, data=data)

    async def push_each(self, *numbers: int, data: bytes = b"") -> None:
        for number in numbers:
            await self.push(number, data=data)

    def send(self, command: int, message: Any = b"") -> None:
        self.peer.send(command, self.request.correlation, message)

    async def take(self, count: int) -> list[Any]:
        return await take(self.events, count)

    async def end(self) -> Any:
        """The error that the iteration ends with, now and ever after."""
        with pytest.raises(TrioExtremeError) as first:
            await anext(self.events)
        with pytest.raises(type(first.value)):
            await anext(self.events)
        return first.value

    def unsubscribed(self) -> list[bytes]:
        return unsubscribed(self.peer)


def play(peer: Peer, last: int = 4, *, then: tuple[int, ...] = ()) -> None:
    """From now on it has a stream "s" that ends with this number, and pushes `then` to each who subscribes."""

    def read(request: Request) -> None:
        asked: Any = request.message
        numbers = range(asked.from_event_number, min(asked.from_event_number + asked.max_count, last + 1))
        following = numbers[-1] + 1 if numbers else last + 1
        answer = page(numbers, following, end=following > last, last=last)
        peer.send(READ_COMPLETED, request.correlation, answer)

    peer.handlers[READ] = read
    peer.handlers[SUBSCRIBE] = lambda request: peer.send_bytes(
        encode(CONFIRMATION, request.correlation, confirmed(last)) + pushed(request, *then)
    )
    peer.handlers[UNSUBSCRIBE] = ignore


def subscribe(conn: Connection, kind: Kind) -> Any:
    """To what comes after number 4."""
    return conn.subscribe_live("s") if kind == "live" else conn.subscribe("s", after=4)


@asynccontextmanager
async def opened(kind: Kind, settings: Settings = ANONYMOUS, *, then: tuple[int, ...] = ()) -> AsyncIterator[Open]:
    """A subscription that is open, to a peer that plays; `then` come with the confirmation."""
    peer = Peer()
    async with open_to(peer, settings) as conn:
        play(peer, then=then)
        subscription = await open_on(peer, conn, kind)
        with trio.fail_after(LONG_ENOUGH):  # noqa: ASYNC100 - the test waits
            yield subscription
        await subscription.events.__aexit__(None, None, None)


async def open_on(peer: Peer, conn: Connection, kind: Kind) -> Open:
    """As `opened`, on a connection there is, to a peer that plays. Whoever opens it leaves its block."""
    events = await subscribe(conn, kind).__aenter__()
    if kind == "catching up":
        assert await anext(events.with_notices()) == CaughtUp()
    return Open(peer, conn, events, [request for request in peer.log if request.command == SUBSCRIBE][-1])
