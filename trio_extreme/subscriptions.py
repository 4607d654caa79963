"""Volatile subscriptions: what the server pushes from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio
from google.protobuf.message import DecodeError

from trio_extreme.errors import ProtocolError, StreamDeleted, SubscriptionDropped
from trio_extreme.events import TOMBSTONE_TYPE, Events, PushedEvent
from trio_extreme.iterating import Batches, ListIterator
from trio_extreme.mailbox import Mailbox
from trio_extreme.operations.subscribing import ALL_STREAMS, Subscribe, drop_error
from trio_extreme.values import DropReason, StreamMissing
from trio_extreme.wire.commands import Command, command_name
from trio_extreme.wire.schema import StreamEventsAppeared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from trio_extreme.engine import Engine
    from trio_extreme.operations.subscribing import Confirmation
    from trio_extreme.values import Credentials
    from trio_extreme.wire.framing import Frame

E = TypeVar("E", bound=PushedEvent)

_PUSHED = {int(Command.STREAM_EVENT_APPEARED)}
# Confirmed as a stream's last number: the stream is hard-deleted (2**31 - 1 for 3.9, and for who never identified).
_TOMBSTONES = (2**63 - 1, 2**31 - 1)


class LiveSubscription(ListIterator[E]):
    """What `subscribe_live` and `subscribe_all_live` return: under `async with`, an async iterator of events.

    It promises no more than the server does: what is appended while the connection is down never comes. It has no task
    of its own. One task at a time may iterate over it; another meets `trio.BusyResourceError`.
    """

    __slots__ = (
        "_confirmation",
        "_credentials",
        "_engine",
        "_event_class",
        "_mailbox",
        "_resolve_links",
        "_stream",
        "_unsubscribe",
    )

    def __init__(
        self, engine: Engine, stream: str, event_class: type[E], *, resolve_links: bool, credentials: Credentials | None
    ) -> None:
        super().__init__()
        self._engine = engine
        self._stream = stream
        self._event_class = event_class
        self._resolve_links = resolve_links
        self._credentials = credentials
        settings = engine.settings
        self._mailbox = Mailbox(settings.live_buffer_events, settings.live_buffer_bytes, self._overflow)
        self._confirmation: Confirmation | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<LiveSubscription to {self._name}: {self._mailbox.events} events buffered>"

    @property
    def _name(self) -> str:
        return f"stream {self._stream!r}" if self._stream else "the log of all streams"

    async def __aenter__(self) -> Self:
        if self._confirmation is not None:
            msg = "a subscription is entered once; call subscribe_live() again for another"
            raise RuntimeError(msg)
        operation = Subscribe(self._stream, resolve_links=self._resolve_links)
        self._confirmation, self._unsubscribe = await self._engine.subscribe(
            operation, self._mailbox, self._credentials
        )
        if self._mailbox.ended:
            # So many events came with the confirmation that there was nobody yet to unsubscribe.
            self._leave()
        if self._confirmation.last_number in _TOMBSTONES:
            self._leave()
            raise StreamDeleted(self._stream)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        self._mailbox.end(SubscriptionDropped(f"the subscription's block to {self._name} was left", DropReason.LEFT))

    def batches(self) -> Batches[E]:
        """The events in lists, as they came from the socket; what was iterated over already does not come again."""
        return Batches(self)

    def with_notices(self) -> WithNotices[E]:
        """The events, and between them what else a consumer may want to know: `StreamMissing`."""
        notices = []
        if self._confirmation is not None and self._confirmation.last_number == -1:
            notices.append(StreamMissing(self._stream))
        return WithNotices(self, notices)

    def _leave(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _overflow(self) -> None:
        settings = self._engine.settings
        msg = (
            f"the consumer of {self._name} was slower than its events came: more than {settings.live_buffer_events:,} "
            f"events (live_buffer_events) or {settings.live_buffer_bytes:,} bytes (live_buffer_bytes) waited for it"
        )
        self._mailbox.end(SubscriptionDropped(msg, DropReason.OVERFLOW))
        self._leave()

    async def _take(self) -> Sequence[E]:
        if self._confirmation is None:
            msg = "a subscription is iterated over inside its block: async with conn.subscribe_live(…) as events"
            raise RuntimeError(msg)
        while True:
            frames = await self._mailbox.take()
            try:
                events = self._decode(frames)
            except ProtocolError as error:
                self._engine.give_up(error)
                raise
            if events:
                return events

    def _decode(self, frames: Sequence[Frame]) -> Sequence[E]:
        """The events of a list of frames. What ends the subscription ends the mailbox, and is raised after them."""
        bodies = [frame[3] for frame in frames]
        if {frame[0] for frame in frames} != _PUSHED:
            bodies = self._before_end(frames)
        try:
            # Joined, the payloads are one message: decoded in one call, at a fifth of the price.
            pushed = StreamEventsAppeared.FromString(b"".join(bodies)).event
        except DecodeError as error:
            msg = "a pushed event is no StreamEventAppeared"
            raise ProtocolError(msg) from error
        if len(pushed) != len(bodies):
            msg = f"{len(bodies)} pushed frames hold {len(pushed)} events"
            raise ProtocolError(msg)
        return self._without_tombstone(Events(self._event_class, pushed))

    def _before_end(self, frames: Sequence[Frame]) -> list[bytes]:
        bodies = []
        for command, _, _, body in frames:
            if command == Command.SUBSCRIPTION_DROPPED:
                self._mailbox.end(drop_error(body, self._stream))
                self._leave()
                break
            if command != Command.STREAM_EVENT_APPEARED:
                msg = f"{command_name(command)} came to a subscription"
                raise ProtocolError(msg)
            bodies.append(body)
        return bodies

    def _without_tombstone(self, events: Sequence[E]) -> Sequence[E]:
        """A tombstone is the last event a stream can have; in the log, or behind a link, it is one of many."""
        if self._stream == ALL_STREAMS or not events:
            return events
        last = events[-1]
        if last.type == TOMBSTONE_TYPE and last.stream == self._stream:
            self._mailbox.end(StreamDeleted(self._stream))
            self._leave()
            return events[:-1]
        return events


class WithNotices(Generic[E]):
    """An async iterator over events and notices, in the order in which they belong."""

    __slots__ = ("_events", "_notices")

    def __init__(self, events: ListIterator[E], notices: list[StreamMissing]) -> None:
        self._events = events
        self._notices = notices

    def __aiter__(self) -> WithNotices[E]:
        return self

    async def __anext__(self) -> E | StreamMissing:
        if self._notices:
            await trio.lowlevel.checkpoint()
            return self._notices.pop(0)
        return await anext(self._events)
