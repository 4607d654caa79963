"""What a node's store keeps its records in: the interface, and its implementation in memory. Pure.

A storage knows nothing of what records mean: that some events are hidden, or what a position between records is
answered with, is `store`, `reading` and `log`. It promises this:

Streams. The events of a stream have ascending numbers, and there may be holes among them once some were removed, so no
number is an index. A tombstone is an event of the log, and the last number of its stream; among the stream's events it
is not.

The log. Events are in the order of their place, which is (commit, prepare) of the record. `forward` and `backward` take
a bounded piece of it; who examines more goes on from the last record that it has got.

Marks are the positions where something begins that is no event: the epoch, an empty append, what belongs to an explicit
transaction, and where a removed event was. Marks of a transaction carry its id and data, so that it can be committed
after a restart.

Adding. A batch is seen at once, by every read that follows. A storage that writes to a disk has after a crash all of a
batch, or none of it, and no batch without those that were added before it.

No argument is checked, and nothing here waits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from trio_extreme.embedded.records import WIDE_TOMBSTONE
from trio_extreme.errors import TrioExtremeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from trio_extreme.embedded.records import Place, Record


class StorageError(TrioExtremeError):
    """A node's file that cannot be used: in use by another node, damaged, of another program, or on a full disk.

    The text names the file, says what is wrong, and what to do.
    """

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text)
        #: The file, in full.
        self.path = path


class Mark(NamedTuple):
    """A position where a record begins that is no event; `transaction` and `data` are for what is not committed yet."""

    position: int
    transaction: int = 0
    data: bytes = b""


class Storage(Protocol):
    """Records, by stream and by place; the module's docstring says what it promises."""

    @property
    def end(self) -> int:
        """Where the next record will be; 0 where nothing was ever added."""
        ...

    @property
    def last(self) -> int:
        """Where the last record is that was committed."""
        ...

    # Streams

    def last_number(self, stream: str) -> int:
        """The highest number there is: -1 where there never was an event, WIDE_TOMBSTONE behind a tombstone."""
        ...

    def last_event(self, stream: str) -> Record | None:
        """The event with the highest number, a tombstone left aside."""
        ...

    def event(self, stream: str, number: int) -> Record | None:
        """One event by its number."""
        ...

    def events(self, stream: str, first: int, last: int) -> Sequence[Record]:
        """The events whose number is from `first` to `last`, both included, ascending."""
        ...

    def streams(self) -> Iterator[str]:
        """The names of all streams that were ever written, oldest first.

        What is created meanwhile may be among them.
        """
        ...

    # The log

    def begins(self, position: int) -> bool:
        """Whether something begins at this position, be it an event or no event."""
        ...

    def forward(self, place: Place, count: int) -> Sequence[Record]:
        """The first `count` events whose place is this one or a later one, ascending."""
        ...

    def backward(self, place: Place, count: int) -> Sequence[Record]:
        """The last `count` events that end at this place or before, descending."""
        ...

    def transaction(self, id: int) -> Sequence[Mark]:
        """The marks that carry this transaction's id, ascending."""
        ...

    # Changes

    def add(self, batch: Batch) -> None:
        """Put all of it at the end. The batch must have been begun when nothing was missing that is here now."""
        ...

    def remove(self, records: Iterable[Record]) -> None:
        """Take events out, tombstones included, and leave a mark where each was.

        They may be seen until that has reached the disk. The last event of a stream must stay, unless a tombstone comes
        after it: its number is the stream's last one.
        """
        ...

    def crash(self) -> None:
        """Lose what is lost when a process is killed and started again: of a storage in memory nothing."""
        ...


class Batch:
    """What is added together, or not at all: `Batch(storage)`, then all its records, then `storage.add(batch)`."""

    def __init__(self, storage: Storage) -> None:
        self.records: list[Record] = []
        self.marks: list[Mark] = []
        #: What the storage's `end` and `last` will be.
        self.end = storage.end
        self.last = storage.last
        self._storage = storage

    def __repr__(self) -> str:
        return f"<Batch of {len(self.records)} events and {len(self.marks)} marks, up to {self.end}>"

    def write(self, record: Record) -> Record:
        """Add an event: at `end`, or where a transaction wrote it, if it is that one's commit that is being written."""
        self.records.append(record)
        self.last = record.commit
        self.end = max(self.end, record.commit_end)
        return record

    def mark(self, size: int, transaction: int = 0, data: bytes = b"", *, commits: bool = True) -> int:
        """Add what is no event, of this size; returns where. Not `commits`: it is not to be the log's `last`."""
        position = self.end
        self.marks.append(Mark(position, transaction, data))
        self.end += size
        if commits:
            self.last = position
        return position

    def last_event(self, stream: str) -> Record | None:
        """The stream's last event, those of this batch included."""
        for record in reversed(self.records):
            if record.stream == stream:
                return record
        return self._storage.last_event(stream)


_number = attrgetter("number")
_commit = attrgetter("commit")
_place: Callable[[Record], tuple[int, int]] = attrgetter("commit", "position")
_end_place: Callable[[Record], tuple[int, int]] = attrgetter("commit_end", "end")


class MemoryStorage:
    """A storage that is gone with its process."""

    def __init__(self) -> None:
        self.end = 0
        self.last = 0
        # A stream's tombstone is the last in its list.
        self._streams: dict[str, list[Record]] = {}
        self._log: list[Record] = []
        self._marks: set[int] = set()
        self._transactions: dict[int, list[Mark]] = {}

    def __repr__(self) -> str:
        return f"<MemoryStorage of {len(self._log)} events>"

    def last_number(self, stream: str) -> int:
        """See `Storage`."""
        records = self._streams.get(stream)
        return records[-1].number if records else -1

    def last_event(self, stream: str) -> Record | None:
        """See `Storage`."""
        for record in reversed(self._streams.get(stream, ())):
            if record.number != WIDE_TOMBSTONE:
                return record
        return None

    def event(self, stream: str, number: int) -> Record | None:
        """See `Storage`."""
        found = self.events(stream, number, number)
        return found[0] if found else None

    def events(self, stream: str, first: int, last: int) -> Sequence[Record]:
        """See `Storage`."""
        records = self._streams.get(stream, ())
        begin = bisect_left(records, first, key=_number)
        return records[begin : bisect_right(records, min(last, WIDE_TOMBSTONE - 1), begin, key=_number)]

    def streams(self) -> Iterator[str]:
        """See `Storage`."""
        return iter(list(self._streams))

    def begins(self, position: int) -> bool:
        """See `Storage`."""
        index = bisect_left(self._log, position, key=_commit)
        return position in self._marks or (index < len(self._log) and self._log[index].commit == position)

    def forward(self, place: Place, count: int) -> Sequence[Record]:
        """See `Storage`."""
        index = bisect_left(self._log, tuple(place), key=_place)
        return self._log[index : index + max(count, 0)]

    def backward(self, place: Place, count: int) -> Sequence[Record]:
        """See `Storage`."""
        index = bisect_right(self._log, tuple(place), key=_end_place)
        return self._log[max(index - max(count, 0), 0) : index][::-1]

    def transaction(self, id: int) -> Sequence[Mark]:
        """See `Storage`."""
        return self._transactions.get(id, ())

    def add(self, batch: Batch) -> None:
        """See `Storage`."""
        self._log += batch.records
        for record in batch.records:
            self._streams.setdefault(record.stream, []).append(record)
        for mark in batch.marks:
            self._marks.add(mark.position)
            if mark.transaction:
                self._transactions.setdefault(mark.transaction, []).append(mark)
        self.end, self.last = batch.end, batch.last

    def remove(self, records: Iterable[Record]) -> None:
        """See `Storage`."""
        removed = {_place(record): record for record in records}
        self._marks.update(record.position for record in removed.values())
        self._log = [record for record in self._log if _place(record) not in removed]
        for stream in {record.stream for record in removed.values()}:
            left = [record for record in self._streams[stream] if _place(record) not in removed]
            self._streams[stream] = left

    def crash(self) -> None:
        """See `Storage`."""
