"""What all subscriptions have in common: a block to be in, events to iterate over, and notices between them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from trio_extreme.errors import (
    ConnectFailed,
    ConnectionClosed,
    DropReason,
    ProtocolError,
    StreamDeleted,
    SubscriptionDropped,
    TrioExtremeError,
)
from trio_extreme.events import Event
from trio_extreme.iterating import Batches, ListIterator
from trio_extreme.notices import CaughtUp, FellBehind, Notice, Reconnected
from trio_extreme.operations.subscribing import ALL_STREAMS, drop_error, is_tombstone
from trio_extreme.pending import fresh
from trio_extreme.wire.commands import PARSE_ERRORS, Command, command_name
from trio_extreme.wire.framing import SKIPPED, too_large
from trio_extreme.wire.schema import StreamEventsAppeared

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from trio_extreme.engine import Engine
    from trio_extreme.statistics import SubscriptionStatistics
    from trio_extreme.wire.framing import Run
    from trio_extreme.wire.schema import ResolvedEvent

E = TypeVar("E", bound=Event)

logger = logging.getLogger("trio_extreme.subscriptions")

_PUSHED = int(Command.STREAM_EVENT_APPEARED)


class Subscription(ABC, Generic[E]):
    """Under `async with`, an async iterator of events. It has no task of its own: its consumer's does all."""

    # The kinds of subscription have the slots: two bases that both have some cannot meet in one class.
    _engine: Engine
    _stream: str
    _entered: bool
    _inside: bool

    def __repr__(self) -> str:
        held = self.statistics()
        return f"<{type(self).__name__} to {self._name}: {held.buffered_events} events buffered>"

    @property
    def _name(self) -> str:
        return f"stream {self._stream!r}" if self._stream else "the log of all streams"

    async def __aenter__(self) -> Self:
        if self._entered:
            msg = "a subscription is entered once; ask the connection for another"
            raise RuntimeError(msg)
        self._entered = True
        self._engine.join(self)
        try:
            await self._start()
        except BaseException:
            self._engine.part(self)
            raise
        self._inside = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._body_ended(kind)
        self._engine.part(self)
        self._stop(SubscriptionDropped(f"the subscription's block to {self._name} was left", DropReason.LEFT))

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> E:
        """The next event."""

    @abstractmethod
    async def next_list(self) -> Sequence[E]:
        """The next events, as many as came together."""

    @abstractmethod
    async def next_with_notices(self) -> E | Notice:
        """The next event or notice."""

    def batches(self) -> Batches[E]:
        """The events in lists, as they came; what was iterated over already does not come again."""
        return Batches(self)

    def with_notices(self) -> WithNotices[E]:
        """The events, and between them what else a consumer may want to know, in the order in which it belongs."""
        return WithNotices(self)

    @property
    def stream(self) -> str:
        """The stream; empty for the log of all."""
        return self._stream

    @abstractmethod
    def statistics(self) -> SubscriptionStatistics:
        """What it holds at this moment."""

    @abstractmethod
    async def _start(self) -> None:
        """What is to be done when the block is entered."""

    def _body_ended(self, kind: type[BaseException] | None) -> None:
        """The block is being left: normally, or with an exception of this kind."""

    @abstractmethod
    def _stop(self, error: TrioExtremeError) -> None:
        """Let go of everything. Whoever iterates all the same meets this error after what it had."""

    def _meaning(self, command: int, body: bytes) -> TrioExtremeError:
        """What came instead of an event, as an error."""
        try:
            if command == Command.SUBSCRIPTION_DROPPED:
                return self._drop_error(body)
            if command == SKIPPED:
                return too_large(body)
        except ProtocolError as error:
            return error
        return ProtocolError(f"{command_name(command)} came to a subscription")

    def _drop_error(self, body: bytes) -> TrioExtremeError:
        """The error for a SubscriptionDropped."""
        return drop_error(body, self._stream)

    def _log_end(self, error: TrioExtremeError) -> None:
        """Say that it ended, unless that was asked for, or the connection has said so for all it carries."""
        if isinstance(error, ConnectFailed | ConnectionClosed):
            return
        if not isinstance(error, SubscriptionDropped):
            logger.info("the subscription to %s ended: %s", self._name, error)
        elif error.reason is not DropReason.LEFT:
            logger.warning("the subscription to %s was dropped: %s", self._name, error)

    def _check_inside(self) -> None:
        if not self._inside:
            msg = "a subscription is iterated over inside its block: async with conn.subscribe(…) as events"
            raise RuntimeError(msg)


class SingleSubscription(ListIterator[E], Subscription[E]):
    """One that has one consumer: another task that iterates over it meanwhile meets `trio.BusyResourceError`."""

    __slots__ = ("_engine", "_entered", "_error", "_inside", "_out", "_stream", "_told_end", "_wants_notices")

    def __init__(self, engine: Engine, stream: str) -> None:
        super().__init__()
        self._engine = engine
        self._stream = stream
        self._entered = False
        self._inside = False
        self._wants_notices = False
        self._error: TrioExtremeError | None = None
        self._told_end = False
        # What is to be handed out next. It is the consumer's already: the place we go on from lies behind it.
        self._out: deque[Sequence[E] | Notice] = deque()

    @abstractmethod
    async def _advance(self) -> None:
        """Bring more into `_out`, or find out why there is none. Raises `TrioExtremeError` for an end."""

    async def next_with_notices(self) -> E | Notice:
        """The next event or notice."""
        # Before anything is changed under the task that waits.
        self._refuse_second_task()
        self._wants_notices = True
        try:
            return await anext(self)
        finally:
            self._wants_notices = False

    async def next_list_with_notices(self) -> Sequence[E | Notice]:
        """The next events, as many as came together, or a list of one notice."""
        self._refuse_second_task()
        self._wants_notices = True
        try:
            return await self.next_list()
        finally:
            self._wants_notices = False

    async def _take(self) -> Sequence[E]:
        self._check_inside()
        if self._out or self._error is not None:
            await trio.lowlevel.checkpoint()
        while True:
            while self._out:
                item = self._out.popleft()
                if not isinstance(item, Notice):
                    return item
                self._log_notice(item)
                if self._wants_notices:
                    # A list of one: it is handed out at once, to who asked for it.
                    return [item]  # type: ignore[list-item]
            if self._error is not None:
                if not self._told_end:
                    self._told_end = True
                    self._log_end(self._error)
                raise fresh(self._error)
            await self._advance()

    def _log_notice(self, notice: Notice) -> None:
        """What may have been lost is the consumer's business, and a warning where it does not listen for that."""
        if isinstance(notice, CaughtUp):
            logger.info("the subscription to %s has caught up", self._name)
        elif isinstance(notice, FellBehind):
            logger.info("the consumer of %s fell behind: going on from the store", self._name)
        elif isinstance(notice, Reconnected) and notice.gap_possible and not self._wants_notices:
            logger.warning("the subscription to %s was interrupted: events may be missing", self._name)

    def _read_pushed(self, runs: Sequence[Run]) -> tuple[Sequence[ResolvedEvent], TrioExtremeError | None]:
        """The messages of what was pushed, up to what ends the subscription, and that."""
        ending: TrioExtremeError | None = None
        bodies: list[bytes] = []
        for command, _, _, payloads in runs:
            if command != _PUSHED:
                ending = self._meaning(command, payloads[0])
                break
            bodies += payloads
        # Joined, the payloads are one message: decoded in one call, at a fifth of the price.
        messages = _parse(b"".join(bodies))
        if messages is None or len(messages) != len(bodies):
            messages, ending = _before_garbage(bodies)
        return self._without_tombstone(messages, ending)

    def _without_tombstone(
        self, messages: Sequence[ResolvedEvent], ending: TrioExtremeError | None
    ) -> tuple[Sequence[ResolvedEvent], TrioExtremeError | None]:
        """A tombstone is the last event a stream can have; in the log, or behind a link, it is one of many."""
        if self._stream == ALL_STREAMS or not messages:
            return messages, ending
        last = messages[-1].event
        if is_tombstone(last.event_number, last.event_type) and last.event_stream_id == self._stream:
            return messages[:-1], StreamDeleted(self._stream)
        return messages, ending


def _parse(joined: bytes) -> Sequence[ResolvedEvent] | None:
    try:
        return StreamEventsAppeared.FromString(joined).event
    except PARSE_ERRORS:
        return None


def _before_garbage(bodies: Sequence[bytes]) -> tuple[list[ResolvedEvent], TrioExtremeError]:
    messages = []
    for body in bodies:
        pushed = _parse(body)
        if pushed is None or len(pushed) != 1:
            break
        messages.append(pushed[0])
    return messages, ProtocolError("a pushed frame is no StreamEventAppeared")


class WithNotices(Generic[E]):
    """An async iterator over events and notices, in the order in which they belong."""

    __slots__ = ("_events",)

    def __init__(self, events: Subscription[E]) -> None:
        self._events = events

    def __aiter__(self) -> WithNotices[E]:
        return self

    async def __anext__(self) -> E | Notice:
        return await self._events.next_with_notices()
