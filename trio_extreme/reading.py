"""Reading a stream or the log page by page."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from trio_extreme.errors import ConnectionLost, FrameTooLarge, StreamNotFound
from trio_extreme.events import Event, LogEvent
from trio_extreme.iterating import Batches, ListIterator
from trio_extreme.operations.paging import PAGE_BYTES, PageSizer
from trio_extreme.operations.reading import LogPage, ReadAll, ReadStream, StreamPage
from trio_extreme.pending import Interrupted
from trio_extreme.values import MAX_READ, NO_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from trio_extreme.calls import Calls
    from trio_extreme.operations.base import Operation
    from trio_extreme.pending import Slot
    from trio_extreme.values import Credentials, Position

E = TypeVar("E", bound=Event)


MAX_DEATHS, MAX_DEATHS_LASTING = 2, 10
"""Sessions in a row that may die while a single event is asked for, before that is told as an error: by a reader, and
by a subscription, which is there to outlast what may be chance."""


class Pager:
    """Fetches pages, one ahead where that is wanted; smaller ones where a large one could not be had.

    A page that is too large to take, overdue, or whose session died, is asked for with a quarter of its events: a
    server may fail for ever over the same large page. Of one event `max_deaths` sessions in a row may die.
    """

    def __init__(
        self,
        calls: Calls,
        credentials: Credentials | None,
        page_size: int,
        request: Callable[[int], Operation[Any]],
        *,
        max_deaths: int = MAX_DEATHS,
    ) -> None:
        self._calls = calls
        self._credentials = credentials
        self._page_bytes = min(PAGE_BYTES, calls.settings.max_frame_size // 2)
        self._sizer = PageSizer(page_size, self._page_bytes)
        self._request = request
        self._max_deaths = max_deaths
        self._ahead: Slot[Any] | None = None
        self._asked = 0
        self._session = 0

    async def fetch(self, deadline: float, most: int = MAX_READ) -> Any:
        """The page of `request`, or the one that was fetched ahead. Raises what a read raises."""
        deaths = 0
        while True:
            try:
                page = await self._fetch(deadline, most)
            except FrameTooLarge:
                if not self._sizer.shrink(self._asked):
                    raise
            except Interrupted as lost:
                if not self._sizer.shrink(self._asked):
                    deaths += lost.died
                    if deaths >= self._max_deaths:
                        raise ConnectionLost(str(lost)) from lost.__cause__
            except StreamNotFound:
                self._sizer.learn(0, 0)
                raise
            else:
                self._learn(page)
                return page

    def _learn(self, page: Any) -> None:
        """Take its size into account."""
        self._sizer.learn(len(page.events), page.size)

    async def _fetch(self, deadline: float, most: int) -> Any:
        slot, self._ahead = self._ahead, None
        if slot is not None:
            return await self._calls.finish(slot, deadline)
        self._asked = min(most, self._sizer.count)
        operation = self._request(self._asked)
        try:
            return await self._calls.call(operation, self._credentials, deadline=deadline, is_page=True)
        finally:
            self._session = self._calls.sessions

    async def fetch_ahead(self, most: int = MAX_READ) -> None:
        """Have the next page on its way while this one is worked on."""
        self._asked = min(most, self._sizer.count)
        self._session = self._calls.sessions
        self._ahead = self._calls.begin(self._request(self._asked), self._credentials)
        await _let_others_run()

    @property
    def is_fresh(self) -> bool:
        """Whether the last page was asked for in the present session."""
        return self._session == self._calls.sessions

    def drop(self) -> None:
        """Forget the page that was fetched ahead."""
        if self._ahead is not None:
            self._calls.abandon(self._ahead)
            self._ahead = None


async def _let_others_run() -> None:
    """Have the writer send what was queued, or it would wait for a body that never waits.

    Twice, because who runs first within a turn is chance. Not to be cancelled: the page in hand would be lost.
    """
    await trio.lowlevel.cancel_shielded_checkpoint()
    await trio.lowlevel.cancel_shielded_checkpoint()


class Reader(ListIterator[E]):
    """What `read_stream` and `read_all` return: an async iterator of events, in pages with `pages()`.

    It can be read once. Under `async with` the next page is already under way while this one is worked on; without it
    nothing runs between two pages, and there is nothing to close.
    """

    __slots__ = ("_calls", "_done", "_left", "_pager", "_read_ahead")

    def __init__(self, calls: Calls, credentials: Credentials | None, page_size: int, count: int | None) -> None:
        super().__init__()
        self._calls = calls
        self._pager = Pager(calls, credentials, page_size, self._operation)
        self._left = count
        self._done = False
        self._read_ahead = False

    def pages(self) -> Batches[E]:
        """The events in lists, a page each; what was iterated over already does not come again."""
        return Batches(self)

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        self._read_ahead = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._read_ahead = False
        self._pager.drop()

    async def _take(self) -> Sequence[E]:
        while not self._done:
            events = await self._next_page()
            if self._left is not None:
                events = events[: self._left]
                self._left -= len(events)
                self._done = self._done or not self._left
            if self._read_ahead and not self._done:
                await self._pager.fetch_ahead(self._most)
            if events:
                return events
        await trio.lowlevel.checkpoint()
        raise StopAsyncIteration

    async def _next_page(self) -> Sequence[E]:
        page = await self._pager.fetch(self._calls.deadline(), self._most)
        return self._accept(page)

    @property
    def _most(self) -> int:
        return MAX_READ if self._left is None else min(MAX_READ, self._left)

    @abstractmethod
    def _operation(self, count: int) -> Operation[Any]:
        """The request for the next page."""

    @abstractmethod
    def _accept(self, page: Any) -> Sequence[E]:
        """Remember where the next page begins; the events of this one."""


class StreamReader(Reader[Event]):
    """Reads one stream."""

    __slots__ = ("_backwards", "_last_number", "_missing_ok", "_next", "_require_master", "_resolve_links", "_stream")

    def __init__(
        self,
        calls: Calls,
        stream: str,
        start: int,
        *,
        backwards: bool,
        count: int | None,
        missing_ok: bool,
        resolve_links: bool,
        require_master: bool,
        page_size: int,
        credentials: Credentials | None,
    ) -> None:
        super().__init__(calls, credentials, page_size, count)
        self._stream = stream
        self._next = start
        self._backwards = backwards
        self._missing_ok = missing_ok
        self._resolve_links = resolve_links
        self._require_master = require_master
        self._last_number: int | None = None

    @property
    def last_number(self) -> int:
        """The number of the stream's last event when the last page was read, NO_STREAM where there was no stream.

        It is what `expected=` wants, to append only if nobody else did meanwhile. Raises `RuntimeError` before the
        first page.
        """
        if self._last_number is None:
            msg = "last_number is known once the first page was read"
            raise RuntimeError(msg)
        return self._last_number

    async def _next_page(self) -> Sequence[Event]:
        try:
            return await super()._next_page()
        except StreamNotFound:
            self._last_number = NO_STREAM
            self._done = True
            if not self._missing_ok:
                raise
            return []  # noqa: ASYNC910 - the call was a checkpoint

    def _operation(self, count: int) -> ReadStream:
        return ReadStream(
            self._stream,
            self._next,
            count,
            backwards=self._backwards,
            resolve_links=self._resolve_links,
            require_master=self._require_master,
        )

    def _accept(self, page: StreamPage) -> Sequence[Event]:
        self._next = page.next
        self._done = page.is_end
        self._last_number = page.last_number
        return page.events


class LogReader(Reader[LogEvent]):
    """Reads the log of all streams."""

    __slots__ = ("_backwards", "_next", "_require_master", "_resolve_links")

    def __init__(
        self,
        calls: Calls,
        start: Position,
        *,
        backwards: bool,
        count: int | None,
        resolve_links: bool,
        require_master: bool,
        page_size: int,
        credentials: Credentials | None,
    ) -> None:
        super().__init__(calls, credentials, page_size, count)
        self._next = start
        self._backwards = backwards
        self._resolve_links = resolve_links
        self._require_master = require_master

    def _operation(self, count: int) -> ReadAll:
        return ReadAll(
            self._next,
            count,
            backwards=self._backwards,
            resolve_links=self._resolve_links,
            require_master=self._require_master,
        )

    def _accept(self, page: LogPage) -> Sequence[LogEvent]:
        self._next = page.next
        self._done = page.is_end
        return page.events
