"""Volatile subscriptions: what the server pushes from now on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from trio_extreme.errors import DropReason, ProtocolError, StreamDeleted, SubscriptionDropped, TrioExtremeError
from trio_extreme.events import TOMBSTONE_TYPE, Events, PushedEvent
from trio_extreme.iterating import Batches, ListIterator
from trio_extreme.mailbox import Mailbox
from trio_extreme.operations.subscribing import ALL_STREAMS, Subscribe, drop_error
from trio_extreme.pending import fresh
from trio_extreme.values import StreamMissing
from trio_extreme.wire.commands import PARSE_ERRORS, Command, command_name
from trio_extreme.wire.framing import SKIPPED, too_large
from trio_extreme.wire.schema import StreamEventsAppeared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from trio_extreme.engine import Engine
    from trio_extreme.operations.subscribing import Confirmation
    from trio_extreme.values import Credentials
    from trio_extreme.wire.framing import Frame
    from trio_extreme.wire.schema import ResolvedEvent

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
        "_entered",
        "_error",
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
        self._entered = False
        self._error: TrioExtremeError | None = None
        self._confirmation: Confirmation | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<LiveSubscription to {self._name}: {self._mailbox.events} events buffered>"

    @property
    def _name(self) -> str:
        return f"stream {self._stream!r}" if self._stream else "the log of all streams"

    async def __aenter__(self) -> Self:
        if self._entered:
            msg = "a subscription is entered once; call subscribe_live() again for another"
            raise RuntimeError(msg)
        self._entered = True
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
        """The events, and between them what else a consumer may want to know.

        That is `StreamMissing`, first of all, where the stream had never been written when it was subscribed to.
        """
        return WithNotices(self)

    @property
    def stream(self) -> str:
        """The stream; empty for the log of all."""
        return self._stream

    @property
    def missing(self) -> bool:
        """Whether the stream had never been written when the server confirmed."""
        return self._confirmation is not None and self._confirmation.last_number == -1

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
        while self._error is None:
            events = self._decode(await self._mailbox.take())
            if events:
                return events
        await trio.lowlevel.checkpoint()
        raise fresh(self._error)

    def _end(self, error: TrioExtremeError) -> None:
        """End with this error, once the events before it were handed out; nothing that came after it counts."""
        self._error = error
        self._mailbox.end(error)
        self._leave()
        if isinstance(error, ProtocolError):
            self._engine.give_up(error)

    def _decode(self, frames: Sequence[Frame]) -> Sequence[E]:
        """The events of a list of frames, up to what ends the subscription."""
        bodies = [frame[3] for frame in frames]
        if {frame[0] for frame in frames} != _PUSHED:
            bodies = self._before_end(frames)
        # Joined, the payloads are one message: decoded in one call, at a fifth of the price.
        pushed = _parse(b"".join(bodies))
        if pushed is None or len(pushed) != len(bodies):
            pushed = self._before_garbage(bodies)
        return self._without_tombstone(Events(self._event_class, pushed))

    def _before_end(self, frames: Sequence[Frame]) -> list[bytes]:
        bodies = []
        for command, _, _, body in frames:
            if command != Command.STREAM_EVENT_APPEARED:
                self._end(self._meaning(command, body))
                break
            bodies.append(body)
        return bodies

    def _meaning(self, command: int, body: bytes) -> TrioExtremeError:
        """What came instead of an event, as an error."""
        try:
            if command == Command.SUBSCRIPTION_DROPPED:
                return drop_error(body, self._stream)
            if command == SKIPPED:
                return too_large(body)
        except ProtocolError as error:
            return error
        return ProtocolError(f"{command_name(command)} came to a subscription")

    def _before_garbage(self, bodies: Sequence[bytes]) -> list[ResolvedEvent]:
        events = []
        for body in bodies:
            pushed = _parse(body)
            if pushed is None or len(pushed) != 1:
                self._end(ProtocolError("a pushed frame is no StreamEventAppeared"))
                break
            events.append(pushed[0])
        return events

    def _without_tombstone(self, events: Sequence[E]) -> Sequence[E]:
        """A tombstone is the last event a stream can have; in the log, or behind a link, it is one of many."""
        if self._stream == ALL_STREAMS or not events:
            return events
        last = events[-1]
        if last.type == TOMBSTONE_TYPE and last.stream == self._stream:
            self._end(StreamDeleted(self._stream))
            return events[:-1]
        return events


def _parse(joined: bytes) -> Sequence[ResolvedEvent] | None:
    try:
        return StreamEventsAppeared.FromString(joined).event
    except PARSE_ERRORS:
        return None


class WithNotices(Generic[E]):
    """An async iterator over events and notices, in the order in which they belong."""

    __slots__ = ("_events", "_looked")

    def __init__(self, events: LiveSubscription[E]) -> None:
        self._events = events
        self._looked = False

    def __aiter__(self) -> WithNotices[E]:
        return self

    async def __anext__(self) -> E | StreamMissing:
        if not self._looked:
            await trio.lowlevel.checkpoint()
            self._looked = True
            if self._events.missing:
                return StreamMissing(self._events.stream)
        return await anext(self._events)
