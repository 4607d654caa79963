"""Groups in tests: a peer that is a group's server, and a consumer that is connected to it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import record
from tests.following import LONG_ENOUGH, UNSUBSCRIBE, ignore, unsubscribed
from tests.peer import ANONYMOUS, Peer, Request, encode, open_to
from trio_extreme import NakAction, TrioExtremeError
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from trio_extreme import Connection, PersistentSubscription, Settings

CONNECT = Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION
CONFIRMATION = Command.PERSISTENT_SUBSCRIPTION_CONFIRMATION
APPEARED = Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED
ACK, NAK = Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS, Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS


def id_of(number: int) -> bytes:
    """The id that the event of this number has in these tests."""
    return number.to_bytes(16, "big")


def confirmed(last_number: int = 4, subscription_id: str = "s::g") -> schema.PersistentSubscriptionConfirmation:
    return schema.PersistentSubscriptionConfirmation(
        last_commit_position=100, subscription_id=subscription_id, last_event_number=last_number
    )


def handed(
    number: int, *, retry: int | None = 0, id: bytes | None = None, link: int | None = None, data: bytes = b""
) -> schema.PersistentSubscriptionStreamEventAppeared:
    """An event of stream "s", or with `link` one of stream "t" that number `link` of "s" stands for."""
    event = record(number, stream="s" if link is None else "t", data=data)
    event.event_id = id_of(number) if id is None else id
    resolved = schema.ResolvedIndexedEvent(event=event)
    if link is not None:
        resolved.link.CopyFrom(record(link, type="$>"))
        resolved.link.event_id = id_of(link)
    return schema.PersistentSubscriptionStreamEventAppeared(event=resolved, retryCount=retry)


def frames(correlation: bytes, *numbers: int, **options: Any) -> bytes:
    """The frames of these events, in one piece."""
    return b"".join(encode(APPEARED, correlation, handed(number, **options)) for number in numbers)


def play(peer: Peer, *, last: int = 4, subscription_id: str = "s::g", then: Iterable[int] = (), **options: Any) -> None:
    """From now on it confirms whoever connects to the group, and hands out `then` with that."""

    def confirm(request: Request) -> None:
        confirmation = encode(CONFIRMATION, request.correlation, confirmed(last, subscription_id))
        peer.send_bytes(confirmation + frames(request.correlation, *then, **options))

    peer.handlers[CONNECT] = confirm
    peer.handlers[UNSUBSCRIBE] = peer.handlers[ACK] = peer.handlers[NAK] = ignore


def told(peer: Peer) -> list[int]:
    """The commands of all that the client said, but for signs of life."""
    return [command for command in peer.commands() if command != Command.HEARTBEAT_RESPONSE]


def connects(peer: Peer) -> list[Request]:
    return [request for request in peer.log if request.command == CONNECT]


def said(peer: Peer) -> list[Any]:
    """What was said of events, a message each: ("ack", numbers) or (action, message, numbers)."""
    return [_read(request) for request in peer.log if request.command in {ACK, NAK}]


def _read(request: Request) -> Any:
    message: Any = request.message
    numbers = [int.from_bytes(each, "big") for each in message.processed_event_ids]
    if request.command == ACK:
        return "ack", numbers
    return NakAction(message.action), message.message, numbers


def acked(peer: Peer) -> list[int]:
    """All that was acked, in order."""
    return [number for what, *_, numbers in said(peer) if what == "ack" for number in numbers]


async def settle() -> None:
    await wait_all_tasks_blocked()


class Group:
    """A subscription to group "g" of stream "s" that is open, and the request it was opened with."""

    def __init__(self, peer: Peer, conn: Connection, events: PersistentSubscription) -> None:
        self.peer = peer
        self.conn = conn
        self.events = events

    @property
    def correlation(self) -> bytes:
        """Of the latest connection to the group."""
        return connects(self.peer)[-1].correlation

    async def push(self, *numbers: int, **options: Any) -> None:
        """Hand out events in one chunk, which is filed when this returns."""
        self.peer.send_bytes(frames(self.correlation, *numbers, **options))
        await settle()

    async def push_each(self, *numbers: int, **options: Any) -> None:
        for number in numbers:
            await self.push(number, **options)

    def send(self, command: int, message: Any = b"") -> None:
        self.peer.send(command, self.correlation, message)

    async def take(self, count: int) -> list[Any]:
        return [await anext(self.events) for _ in range(count)]

    async def numbers(self, count: int) -> list[int]:
        return [event.number for event in await self.take(count)]

    async def end(self) -> Any:
        """The error that the iteration ends with, now and ever after."""
        with pytest.raises(TrioExtremeError) as first:
            await anext(self.events)
        with pytest.raises(type(first.value)):
            await anext(self.events)
        return first.value

    def unsubscribed(self) -> list[bytes]:
        return unsubscribed(self.peer)

    @property
    def held(self) -> tuple[int, int, int]:
        """What statistics say: waiting here, taken and not settled, settled in vain."""
        now = self.events.statistics()
        return now.buffered_events, now.held, now.ignored_acks


@asynccontextmanager
async def opened(settings: Settings = ANONYMOUS, *, then: Iterable[int] = (), **options: Any) -> AsyncIterator[Group]:
    """A subscription that is open, to a peer that plays; `then` come with the confirmation."""
    peer = Peer()
    async with open_to(peer, settings) as conn:
        play(peer, then=then)
        async with conn.subscribe_persistent("s", "g", **options) as events:
            with trio.fail_after(LONG_ENOUGH):  # noqa: ASYNC100 - the test waits
                yield Group(peer, conn, events)


async def open_on(peer: Peer, conn: Connection, **options: Any) -> Group:
    """As `opened`, on a connection there is, to a peer that plays. Whoever opens it leaves its block."""
    return Group(peer, conn, await conn.subscribe_persistent("s", "g", **options).__aenter__())


async def block_writer(peer: Peer) -> None:
    """The client's next `send_all` does not return: it is in the middle of an answer to a heartbeat."""
    peer.hold()
    peer.handlers[Command.HEARTBEAT_RESPONSE] = ignore
    peer.send(Command.HEARTBEAT_REQUEST, NO_CORRELATION)
    await settle()
