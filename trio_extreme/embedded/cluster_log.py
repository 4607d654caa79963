"""One node's copy of the log of a cluster. Pure.

Rule 1: what the master writes it receives, and shows only once a majority has it. The master shows it at once, and says
nothing of it before that (`Acknowledgements`).
Rule 2: what a majority has is never taken back. What only a master had that is none any more is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.embedded.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_extreme.embedded.storage import Batch


class Entry(NamedTuple):
    """What was written at once, and how many masters there were before the one that wrote it."""

    epoch: int
    batch: Batch


class Copy(MemoryStorage):
    """The storage is what is shown, the journal what is on the disk, were there one: the former is its beginning.

    `written` is called when the node itself has written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.journal: list[Entry] = []
        #: Of what this node writes.
        self.epoch = 0
        #: How many batches of the journal are shown.
        self.shown = 0
        self.written: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Copy of {len(self.journal)} batches, {self.shown} shown>"

    def add(self, batch: Batch) -> None:
        """See `Storage`: what this node writes."""
        self.receive((Entry(self.epoch, batch),))
        self.show()
        self.written()

    def receive(self, entries: Sequence[Entry]) -> None:
        """Take what another node wrote. Nobody sees it yet."""
        self.journal += entries

    @property
    def age(self) -> tuple[int, int]:
        """The larger this is, the more it has of what was confirmed, whoever wrote more that was not."""
        return self.journal[-1].epoch, len(self.journal)

    def show(self) -> Batch:
        """Let the next batch be seen, and return it."""
        batch = self.journal[self.shown].batch
        super().add(batch)
        self.shown += 1
        return batch

    def hide(self, count: int) -> None:
        """Let only the first `count` batches be seen, one at least."""
        gone = [entry.batch for entry in self.journal[count : self.shown]]
        if not gone:
            return
        self.remove(record for batch in gone for record in batch.records)
        for mark in (mark for batch in gone for mark in batch.marks if mark.transaction):
            self._transactions[mark.transaction].remove(mark)
        self.shown = count
        last = self.journal[count - 1].batch
        self.end, self.last = last.end, last.last
        self._marks = {position for position in self._marks if position < self.end}

    def cut(self, count: int) -> bool:
        """Forget all but the first `count` batches, one at least; whether there was more."""
        self.hide(count)
        is_more = len(self.journal) > count
        del self.journal[count:]
        return is_more

    def common(self, other: Copy) -> int:
        """How many batches both begin with. What both have of one master is the same objects."""
        least, most = 0, min(len(self.journal), len(other.journal))
        while least < most:
            middle = (least + most + 1) // 2
            if self.journal[middle - 1] is other.journal[middle - 1]:
                least = middle
            else:
                most = middle - 1
        return least
