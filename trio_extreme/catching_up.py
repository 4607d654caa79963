"""Catch-up subscriptions: everything that is stored, then everything that is written, each event once.

The consumer's task drives it all. It reads pages until one says that this is the end, subscribes, and reads on until
nothing can be missing between the pages and what is pushed. Then it is live, until it falls behind or the session ends;
then it reads pages again, from the place behind the last event that it handed out.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import trio

from trio_extreme.errors import (
    CheckpointBeyondEnd,
    ConnectionLost,
    DropReason,
    FrameTooLarge,
    ProtocolError,
    ServerError,
    StreamDeleted,
    StreamNotFound,
    SubscriptionDropped,
    TrioExtremeError,
)
from trio_extreme.events import Event
from trio_extreme.mailbox import Mailbox
from trio_extreme.notices import AheadOfServer, CaughtUp, FellBehind, Reconnected, StreamMissing
from trio_extreme.operations.subscribing import Subscribe
from trio_extreme.pending import Interrupted
from trio_extreme.reading import MAX_DEATHS_LASTING, Pager
from trio_extreme.statistics import SubscriptionStatistics
from trio_extreme.subscriptions import SingleSubscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trio_extreme.engine import Engine
    from trio_extreme.operations.following import Track
    from trio_extreme.settings import Settings
    from trio_extreme.values import Credentials
    from trio_extreme.wire.framing import Run

E = TypeVar("E", bound=Event)

logger = logging.getLogger("trio_extreme.subscriptions")

PATIENCE = 1.0
"""Seconds for which pages may end before what the server has confirmed: it shows some records a little later than it
counts them, and some never (docs/protocol.md, pitfall 32)."""

PUSH_PATIENCE = 10.0
"""Seconds for which they may end before what was pushed to us, which must be readable before long."""

_FIRST_WAIT, _LONGEST_WAIT = 0.001, 0.25


class _Overflowed(TrioExtremeError):
    """More was pushed than the consumer took."""


class _Feed:
    """What the server pushes, from the request for it on."""

    def __init__(self, settings: Settings) -> None:
        self.mailbox = Mailbox(settings.buffer_events, settings.buffer_bytes, self._overflowed)
        self._leave: Callable[[], None] | None = None

    def confirmed(self, leave: Callable[[], None]) -> None:
        """The server has confirmed; this ends it."""
        self._leave = leave
        if self.mailbox.ended:
            # So much came with the confirmation that there was nobody yet to unsubscribe.
            self.leave()

    def _overflowed(self) -> None:
        """Take no more: what is here is handed out, the rest is read from the store."""
        self.mailbox.end(_Overflowed())
        self.leave()

    def leave(self) -> None:
        """Tell the server, if it does not know yet."""
        if self._leave is not None:
            self._leave()
            self._leave = None


class CatchUpSubscription(SingleSubscription[E]):
    """What `subscribe` and `subscribe_all` return: under `async with`, an async iterator of events.

    All events from its place on, in order, each once, whatever is disconnected, slow or restarted in between: first
    those that are stored, then each that is written. `with_notices()` also says when it has caught up, and when it
    falls behind; `batches()` gives lists. A consumer that is slower than the events come costs no more memory than
    `buffer_events` and `buffer_bytes` allow, and a page or two: what does not fit is read again later. It has no task
    of its own. One task at a time may iterate over it; another meets `trio.BusyResourceError`.
    """

    __slots__ = (
        "_at_end",
        "_backoff",
        "_begin",
        "_checked_end",
        "_credentials",
        "_feed",
        "_interrupted",
        "_live",
        "_on_ahead",
        "_page_size",
        "_pager",
        "_pause",
        "_resolve_links",
        "_seeking",
        "_session",
        "_told_caught_up",
        "_told_missing",
        "_track",
        "_waited",
    )

    def __init__(
        self,
        engine: Engine,
        stream: str,
        begin: Callable[[], Awaitable[Track[E, Any]]],
        *,
        on_ahead: Literal["wait", "raise"],
        resolve_links: bool,
        page_size: int,
        credentials: Credentials | None,
    ) -> None:
        super().__init__(engine, stream)
        self._begin = begin
        self._on_ahead = on_ahead
        self._resolve_links = resolve_links
        self._page_size = page_size
        self._credentials = credentials
        self._track: Track[E, Any]
        self._pager: Pager
        self._feed: _Feed | None = None
        # What is cancelled where the block is left while another task iterates.
        self._seeking = trio.CancelScope()
        self._live = False
        self._at_end = False
        self._waited = 0.0
        self._backoff = engine.backoff()
        self._pause = 0.0
        # The session that was there when something last came.
        self._session = 0
        self._interrupted = False
        self._checked_end = False
        self._told_caught_up = False
        self._told_missing = False

    def statistics(self) -> SubscriptionStatistics:
        """What it holds at this moment."""
        if not self._inside:
            return SubscriptionStatistics(self._stream, 0, 0)
        mailbox = None if self._feed is None else self._feed.mailbox
        events, size = (0, 0) if mailbox is None else (mailbox.events, mailbox.bytes)
        return SubscriptionStatistics(self._stream, events, size, events if self._live else self._track.lag)

    async def _start(self) -> None:
        self._track = await self._begin()
        self._pager = self._make_pager()

    def _make_pager(self) -> Pager:
        return Pager(
            self._engine.calls,
            self._credentials,
            self._page_size,
            self._track.operation,
            max_deaths=MAX_DEATHS_LASTING,
        )

    def _stop(self, error: TrioExtremeError) -> None:
        if self._error is None:
            self._error = error
        if self._feed is not None:
            self._feed.mailbox.end(error)
        self._seeking.cancel()
        self._release()

    def _release(self) -> None:
        self._live = False
        self._pager.drop()
        if self._feed is not None:
            self._feed.leave()
            self._feed = None

    async def _advance(self) -> None:  # noqa: ASYNC910 - each step waits for the server
        try:
            if self._live:
                await self._listen()
            else:
                with trio.CancelScope() as self._seeking:
                    await self._seek()
        except TrioExtremeError as error:
            # Events that came before it are handed out first.
            self._stop(error)
        if self._error is not None:
            # It ended just when it got an answer: let go of that too.
            self._release()

    async def _seek(self) -> None:
        if self._at_end and self._feed is None:
            await self._subscribe()
        else:
            await self._read()

    # --- reading

    async def _read(self) -> None:
        try:
            page = await self._pager.fetch(inf)
        except StreamNotFound as error:
            self._came()
            await self._check_end(None, error.last_number)
            self._miss()
        else:
            self._came()
            await self._check_end(page, None)
            self._accept(page)
            if not self._at_end and not self._live:
                await self._pager.fetch_ahead()
            elif self._feed is not None and not self._live and not self._out:
                await self._be_patient()

    def _accept(self, page: Any) -> None:
        events = self._track.take_page(page)
        if events:
            self._told_missing = False
            self._out.append(events)
        self._at_end = page.is_end
        if self._feed is not None and self._track.reached:
            self._go_live()

    def _miss(self) -> None:
        """There is no stream. Should there be one later, all of it is pushed."""
        if not self._told_missing:
            self._told_missing = True
            self._out.append(StreamMissing(self._stream))
        self._at_end = True
        if self._track.withholds:
            self._settle_for_less()
        if self._feed is not None:
            self._go_live()

    async def _be_patient(self) -> None:  # noqa: ASYNC910 - whoever calls it has waited
        """Pages end before what is pushed begins: read again a little later, but not for ever."""
        if self._waited >= (PUSH_PATIENCE if self._track.withholds else PATIENCE):
            self._settle_for_less()
            self._go_live()
        else:
            wait = min(_LONGEST_WAIT, max(_FIRST_WAIT, self._waited))
            self._waited += wait
            await trio.sleep(wait)

    def _settle_for_less(self) -> None:
        events = self._track.settle_for_less()
        if events:
            logger.warning(
                "%s: pages do not come as far as what is pushed; going on with %s, and what may be missing before it",
                self._name,
                events[0].checkpoint,
            )
            self._out.append(events)

    def _came(self) -> None:
        """Something came from the server: say so, if it could not for a while."""
        if self._session not in (0, self._engine.line.sessions) or self._interrupted:
            self._out.append(Reconnected(gap_possible=False))
            self._told_caught_up = self._interrupted = self._checked_end = False
        self._session = self._engine.line.sessions

    # --- live

    async def _subscribe(self) -> None:
        if self._pause:
            await trio.sleep(self._pause)
            self._pause = 0.0
        await self._open(Subscribe(self._stream, resolve_links=self._resolve_links))

    async def _open(self, operation: Subscribe) -> None:
        feed = _Feed(self._engine.settings)
        confirmation, leave = await self._engine.feeds.open(
            operation, feed.mailbox, self._credentials, lasting=False, deadline=inf
        )
        feed.confirmed(leave)
        self._feed = feed
        self._came()
        if confirmation.is_of_deleted:
            raise StreamDeleted(self._stream)
        self._track.aim(confirmation)
        self._waited = 0.0
        self._at_end = False
        # In a new session its end is looked at first.
        if self._track.reached and self._checked_end:
            self._go_live()

    def _go_live(self) -> None:
        assert self._feed is not None
        if self._feed.mailbox.ended:
            # It ended while pages were read: what it holds they will bring, and more.
            self._read_on()
            return
        self._live = True
        self._pager.drop()
        if not self._told_caught_up:
            self._told_caught_up = True
            self._out.append(CaughtUp())

    async def _listen(self) -> None:  # noqa: ASYNC910 - what it takes from waits, even where it has ended
        assert self._feed is not None
        try:
            runs = await self._feed.mailbox.take()
        except Interrupted:
            self._interrupted = True
            self._read_on()
        except _Overflowed:
            self._told_caught_up = False
            self._out.append(FellBehind())
            self._read_on()
        else:
            self._take_runs(runs)

    def _take_runs(self, runs: Sequence[Run]) -> None:
        messages, ending = self._read_pushed(runs)
        if messages:
            self._take_pushed(messages)
        if ending is not None:
            self._ended(ending, runs[0][2])

    def _take_pushed(self, messages: Any) -> None:
        self._backoff.reset()
        self._told_missing = False
        events, gap = self._track.take_pushed(messages)
        if events:
            self._out.append(events)
        if gap:
            self._fill_gap()

    def _fill_gap(self) -> None:
        """The feed stays: what is missing before it, and what of it was not taken, pages will bring."""
        self._live = self._at_end = False
        self._waited = 0.0

    def _ended(self, ending: TrioExtremeError, correlation: bytes) -> None:
        """The server ended it. A server that stops does: go on in the next session then, or here a little later."""
        if isinstance(ending, SubscriptionDropped) and ending.reason is DropReason.UNSUBSCRIBED:
            self._interrupted = True
            self._pause = self._backoff.next()
            self._read_on()
        else:
            self._stop(ending)
        if isinstance(ending, ProtocolError):
            self._engine.line.give_up(ending, correlation)

    def _read_on(self) -> None:
        """Go back to pages."""
        self._release()
        self._at_end = False

    # --- a place beyond the end

    async def _check_end(self, page: Any, last_number: int | None) -> None:  # noqa: ASYNC910 - whoever calls it has waited
        """Once a session: is our place beyond what the server has? A lagging replica looks the same: ask the master."""
        # A page that was fetched ahead in an earlier session tells nothing of this one.
        if self._checked_end or not self._pager.is_fresh:
            return  # noqa: ASYNC910 - as above
        if self._track.may_be_ahead(page, last_number):
            ahead = await self._ask_master()
            if ahead is not None:
                self._tell_ahead(AheadOfServer(*ahead))
        self._checked_end = True

    async def _ask_master(self) -> tuple[Any, Any] | None:
        try:
            page = await self._engine.calls.call(self._track.probe(), self._credentials, deadline=inf)
        except StreamNotFound as error:
            return self._track.ahead_of(None, error.last_number)  # noqa: ASYNC910 - the call waited
        except (ServerError, ConnectionLost, FrameTooLarge):
            # No master, or none that tells us: it is not confirmed.
            return None  # noqa: ASYNC910 - the call waited
        return self._track.ahead_of(page, None)

    def _tell_ahead(self, notice: AheadOfServer) -> None:
        error = CheckpointBeyondEnd(self._name, notice.ours, notice.servers_last)
        if self._on_ahead == "raise":
            raise error
        logger.warning("%s: was the store reset or restored? Nothing comes until it has passed that place", error)
        self._out.append(notice)
