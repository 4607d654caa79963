"""How many events to ask for at a time."""

from __future__ import annotations

PAGE_BYTES = 1024 * 1024
"""What a page should have: servers since 4.1 cut off who has 10 MiB unread (docs/protocol.md, pitfall 19)."""

FIRST_PAGE = 8
"""Events of the first page, whose size nobody knows yet: of 1 MiB each they stay below that."""

GROWTH = 8


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
            mean = size / events
            self._mean = mean if not self._mean else (self._mean + mean) / 2
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
