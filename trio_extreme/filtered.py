"""Reading the log and following it with a filter: by the server where it can, and else here.

Which of the two may change with each session. A page and a feed each keep to what they were asked for; what comes next
is asked of the server that there is then.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import trio

from trio_extreme.catching_up import CatchUpSubscription
from trio_extreme.errors import InvalidArgument, ProtocolError, Unsupported
from trio_extreme.events import LogEvent
from trio_extreme.notices import Checkpoint
from trio_extreme.operations.filtered_following import FilteredLogTrack
from trio_extreme.operations.filtering import (
    CHECKPOINT_INTERVAL,
    FilteredPages,
    SubscribeFiltered,
    read_checkpoint,
)
from trio_extreme.operations.paging import SearchSizer
from trio_extreme.reading import MAX_DEATHS, MAX_DEATHS_LASTING, LogReader, Pager
from trio_extreme.values import MAX_READ
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.calls import Calls
    from trio_extreme.filter_support import FilterSupport
    from trio_extreme.filters import Filter
    from trio_extreme.operations.base import Operation
    from trio_extreme.operations.reading import LogPage
    from trio_extreme.operations.subscribing import Subscribe
    from trio_extreme.values import Credentials, Position
    from trio_extreme.wire.framing import Run

_CHECKPOINT = int(Command.CHECKPOINT_REACHED)


class MakePage(Protocol):
    """Makes the request for the page that begins where one stands."""

    def __call__(self, count: int, *, by_server: bool) -> Operation[LogPage]:
        """What matches out of so many events, chosen by the server or here."""
        ...


class FilteredPager(Pager):
    """Fetches pages of what matches: `request` makes one from how many events to look through, and from who does it.

    Whatever is wanted, as many are looked through as a page may have: nobody knows how few of them match.
    """

    _sizer: SearchSizer

    def __init__(
        self,
        support: FilterSupport,
        calls: Calls,
        credentials: Credentials | None,
        page_size: int,
        request: MakePage,
        *,
        max_deaths: int = MAX_DEATHS,
    ) -> None:
        super().__init__(calls, credentials, page_size, self._make, max_deaths=max_deaths)
        self._sizer = SearchSizer(page_size, self._page_bytes)
        self._support = support
        self._make_page = request

    def _make(self, count: int) -> Operation[LogPage]:
        return self._make_page(count, by_server=bool(self._support.known))

    def _learn(self, page: LogPage) -> None:
        self._sizer.learn_search(len(page.events) + page.sifted, page.passed - page.sifted, page.size)

    async def _fetch(self, deadline: float, most: int) -> Any:  # noqa: ARG002 - see above
        while True:
            if self._ahead is None and self._support.known is None:
                await self._support.find_out(self._credentials, deadline)
            try:
                return await super()._fetch(deadline, MAX_READ)
            except Unsupported:
                self._support.lacks_it()

    async def fetch_ahead(self, most: int = MAX_READ) -> None:  # noqa: ARG002 - see above
        """Have the next page on its way, if it is known who chooses. What cannot be asked for is told by `fetch`."""
        if self._support.known is not None:
            with suppress(InvalidArgument):
                await super().fetch_ahead()
                return
        await trio.lowlevel.cancel_shielded_checkpoint()


class FilteredLogReader(LogReader):
    """Reads what matches of the log of all streams."""

    __slots__ = ("_pages",)

    def __init__(
        self,
        calls: Calls,
        start: Position,
        *,
        filter: Filter,
        support: FilterSupport,
        backwards: bool,
        count: int | None,
        resolve_links: bool,
        require_master: bool,
        page_size: int,
        credentials: Credentials | None,
    ) -> None:
        super().__init__(
            calls,
            start,
            backwards=backwards,
            count=count,
            resolve_links=resolve_links,
            require_master=require_master,
            page_size=page_size,
            credentials=credentials,
        )
        self._pages = FilteredPages(
            filter, backwards=backwards, resolve_links=resolve_links, require_master=require_master
        )
        self._pager = FilteredPager(support, calls, credentials, page_size, self._request)

    def _request(self, count: int, *, by_server: bool) -> Operation[LogPage]:
        return self._pages.request(self._next, count, by_server=by_server)


class FilteredSubscription(CatchUpSubscription[LogEvent]):
    """What `subscribe_all` returns with a filter: a `CatchUpSubscription` to the events that match.

    `with_notices()` also gives `Checkpoint`s, places to go on from where no event was: while reading, each time that
    many events did not match, and when it has caught up; and so on when it is live.
    """

    __slots__ = ()

    @property
    def _filtered(self) -> FilteredLogTrack:
        assert isinstance(self._track, FilteredLogTrack)
        return self._track

    @property
    def _support(self) -> FilterSupport:
        return self._engine.filter_support

    def _make_pager(self) -> Pager:
        return FilteredPager(
            self._support,
            self._engine.calls,
            self._credentials,
            self._page_size,
            self._filtered.request,
            max_deaths=MAX_DEATHS_LASTING,
        )

    def _accept(self, page: Any) -> None:
        super()._accept(page)
        self._tell_place(CHECKPOINT_INTERVAL)

    def _tell_place(self, least: int) -> None:
        place = self._filtered.checkpoint(least)
        if place is not None:
            self._out.append(Checkpoint(place))

    async def _open(self, operation: Subscribe) -> None:  # noqa: ASYNC910 - it waits for what the server says
        if self._support.known is None:
            await self._support.find_out(self._credentials, inf)
        if not self._support.known:
            self._filtered.sieve = self._filtered.pages.sieve
            await super()._open(operation)
            return
        self._filtered.sieve = None
        try:
            await super()._open(SubscribeFiltered(self._filtered.pages.filter, resolve_links=self._resolve_links))
        except Unsupported:
            self._support.lacks_it()

    def _go_live(self) -> None:
        assert self._feed is not None
        if not self._feed.mailbox.ended and not self._told_caught_up:
            self._tell_place(0)
        super()._go_live()

    def _take_runs(self, runs: Sequence[Run]) -> None:
        events = [run for run in runs if run[0] != _CHECKPOINT]
        if events:
            super()._take_runs(events)
            self._tell_place(CHECKPOINT_INTERVAL)
        # What the server has looked through lies behind the events before it; the last place is beyond the others.
        if self._live and len(events) < len(runs):
            self._pass_by([run for run in runs if run[0] == _CHECKPOINT][-1])

    def _pass_by(self, run: Run) -> None:
        _, _, correlation, checkpoints = run
        try:
            place = read_checkpoint(checkpoints[-1])
        except ProtocolError as error:
            self._ended(error, correlation)
            return
        if self._filtered.pass_by(place):
            self._fill_gap()
        self._tell_place(0)
