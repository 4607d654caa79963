"""How many events to ask for at a time."""

from __future__ import annotations

PAGE_BYTES = 1024 * 1024
"""What a page should have: servers since 4.1 cut off who has 10 MiB unread (docs/protocol.md, pitfall 19)."""

FIRST_PAGE = 8
"""Events of the first page, whose size nobody knows yet: of 1 MiB each they stay below that."""

GROWTH = 8


BURST = 8
"""How many times as large as it should be a page of a search may be, should all match that is looked through: less than
what servers cut off for."""


class PageSizer:
    """How many events to ask for next, by the mean size of those that came, so that a page stays near `PAGE_BYTES`."""

    def __init__(self, limit: int, page_bytes: int = PAGE_BYTES) -> None:
        self._limit = limit
        self._page_bytes = page_bytes
        self._mean = 0.0
        self.count = min(limit, FIRST_PAGE)

    def learn(self, events: int, size: int) -> None:
        """Take a page into account; old ones fade, because streams change. One without events says that pages come."""
        if events:
            self._mean = _fade(self._mean, size / events)
            self.count = max(1, min(self._limit, self._fitting, self.count * GROWTH))
        else:
            self.count = max(self.count, min(self._limit, self._fitting, FIRST_PAGE))

    @property
    def _fitting(self) -> int:
        return int(self._page_bytes / self._mean) if self._mean else FIRST_PAGE

    def shrink(self, asked: int) -> bool:
        """Ask for a quarter, after a page that could not be had. False where it was one event."""
        if asked == 1:
            return False
        self.count = max(1, asked // 4)
        return True


class SearchSizer(PageSizer):
    """How many events to look through next, where only some match a filter, by what each of them brings."""

    def __init__(self, limit: int, page_bytes: int = PAGE_BYTES) -> None:
        super().__init__(limit, page_bytes)
        self._mean_sent = 0.0

    def learn_search(self, sent: int, unsent: int, size: int) -> None:
        """Take a page into account: how many events came with it, and how many more were looked through for it."""
        if sent:
            self._mean_sent = _fade(self._mean_sent, size / sent)
        self.learn(sent + unsent, size)

    @property
    def _fitting(self) -> int:
        fitting = super()._fitting
        return min(fitting, int(BURST * self._page_bytes / self._mean_sent)) if self._mean_sent else fitting


def _fade(mean: float, new: float) -> float:
    """The mean, of which what is old counts for less and less."""
    return (mean + new) / 2 if mean else new
