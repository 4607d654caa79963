"""The log: what a page of it is, and where the next one begins (docs/protocol.md, 3.6). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.embedded.records import Place, Record
from trio_extreme.embedded.storage import Batch
from trio_extreme.errors import TrioExtremeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.embedded.storage import Storage

EPOCH_SIZE = 168
"""Bytes of the record that real servers begin their log with, and that each new master writes; it is no event."""


class LogReadError(TrioExtremeError):
    """A page that cannot be read. Its text is what the server answers."""


class LogPage(NamedTuple):
    """A page of the log: the events, where it began, and where the next page begins."""

    records: Sequence[Record]
    start: Place
    next: Place


class Log:
    """The log that a storage holds. A new one begins with its epoch."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        if not storage.end:
            batch = Batch(storage)
            batch.mark(EPOCH_SIZE)
            storage.add(batch)

    def __repr__(self) -> str:
        return f"<Log of {self.end} bytes>"

    @property
    def end(self) -> int:
        """Where the next record will be."""
        return self._storage.end

    @property
    def last(self) -> int:
        """Where the last record is that was committed."""
        return self._storage.last

    def forward(self, start: Place, count: int) -> LogPage:
        """From a place on, inclusive. Beyond the end there is nothing, and that is no error."""
        if start.commit > self.end:
            return LogPage([], start, start)
        self._check(start.commit)
        records = self._storage.forward(start, count)
        return LogPage(records, start, place_after(records[-1]) if records else start)

    def backward(self, start: Place, count: int) -> LogPage:
        """From a place down, exclusive: a record belongs to it if it ends there or before."""
        if start.commit > self.end:
            msg = f"Requested position {start.commit} is greater than writer checkpoint {self.end}."
            raise LogReadError(msg)
        self._check(start.commit)
        records = self._storage.backward(start, count)
        return LogPage(records, start, place_before(records[-1]) if records else start)

    def _check(self, position: int) -> None:
        """Servers refuse a position where no record begins; where the log ends, one will."""
        if position != self.end and not self._storage.begins(position):
            msg = f"Log record at actual pos {position} has an impossible length: no record begins there."
            raise LogReadError(msg)


def place_after(record: Record) -> Place:
    """Where a page goes on forwards that ends with this record."""
    if record.commit == record.position:
        # Zero is what servers say here: the pair still sorts before everything at that commit position.
        return Place(record.end, 0)
    return Place(record.commit, record.end)


def place_before(record: Record) -> Place:
    """Where a page goes on backwards that ends with this record.

    Places there are behind a record, so a transaction's is behind its commit.
    """
    if record.commit == record.position:
        return Place(record.position, record.position)
    return Place(record.commit_end, record.position)
