"""Volatile subscriptions: what the server pushes from now on."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from trio_extreme.errors import DropReason, ProtocolError, StreamDeleted, SubscriptionDropped, TrioExtremeError
from trio_extreme.events import Events, PushedEvent
from trio_extreme.mailbox import Mailbox
from trio_extreme.notices import Reconnected, StreamMissing
from trio_extreme.operations.subscribing import Subscribe
from trio_extreme.statistics import SubscriptionStatistics
from trio_extreme.subscriptions import SingleSubscription
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_extreme.engine import Engine
    from trio_extreme.values import Credentials
    from trio_extreme.wire.framing import Run

E = TypeVar("E", bound=PushedEvent)

_CONFIRMATION = Command.SUBSCRIPTION_CONFIRMATION


class LiveSubscription(SingleSubscription[E]):
    """What `subscribe_live` and `subscribe_all_live` return: under `async with`, an async iterator of events.

    It promises no more than the server does: what is appended while the connection is down never comes. Each time it
    was down, `with_notices()` says `Reconnected(gap_possible=True)` at the right place, and the log does where nobody
    listens for notices. It has no task of its own. One task at a time may iterate over it; another meets
    `trio.BusyResourceError`.
    """

    __slots__ = ("_credentials", "_event_class", "_mailbox", "_missing", "_resolve_links", "_unsubscribe")

    def __init__(
        self, engine: Engine, stream: str, event_class: type[E], *, resolve_links: bool, credentials: Credentials | None
    ) -> None:
        super().__init__(engine, stream)
        self._event_class = event_class
        self._resolve_links = resolve_links
        self._credentials = credentials
        settings = engine.settings
        self._mailbox = Mailbox(settings.live_buffer_events, settings.live_buffer_bytes, self._overflow)
        self._missing = False
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def missing(self) -> bool:
        """Whether the stream had never been written when the server confirmed."""
        return self._missing

    def statistics(self) -> SubscriptionStatistics:
        """What it holds at this moment."""
        return SubscriptionStatistics(self._stream, self._mailbox.events, self._mailbox.bytes)

    async def _start(self) -> None:
        operation = Subscribe(self._stream, resolve_links=self._resolve_links)
        confirmation, self._unsubscribe = await self._engine.feeds.open(
            operation, self._mailbox, self._credentials, lasting=True
        )
        if self._mailbox.ended:
            # So many events came with the confirmation that there was nobody yet to unsubscribe.
            self._leave()
        if confirmation.is_of_deleted:
            self._leave()
            raise StreamDeleted(self._stream)
        if confirmation.last_number == -1:
            self._missing = True
            self._out.append(StreamMissing(self._stream))

    def _stop(self, error: TrioExtremeError) -> None:
        self._leave()
        self._mailbox.end(error)

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

    async def _advance(self) -> None:
        try:
            runs = await self._mailbox.take()
        except TrioExtremeError as error:
            self._error = error
            return  # noqa: ASYNC910 - it waited
        for confirms, some in groupby(runs, _confirms):
            if confirms:
                self._out.append(Reconnected(gap_possible=True))
            else:
                self._take_runs(list(some))
            if self._error is not None:
                break

    def _take_runs(self, runs: Sequence[Run]) -> None:
        messages, ending = self._read_pushed(runs)
        if messages:
            self._out.append(Events(self._event_class, messages))
        if ending is not None:
            self._end(ending, runs[0][2])

    def _end(self, error: TrioExtremeError, correlation: bytes) -> None:
        """End with this error, once the events before it were handed out; nothing that came after it counts."""
        self._error = error
        self._stop(error)
        if isinstance(error, ProtocolError):
            self._engine.line.give_up(error, correlation)


def _confirms(run: Run) -> bool:
    return run[0] == _CONFIRMATION
