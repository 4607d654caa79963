"""The log: every record in the order of its position (docs/protocol.md, 3.6). Pure."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.errors import TrioExtremeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.embedded.records import Record

_EPOCH_SIZE = 168
"""Bytes of the record that real servers begin their log with; it is no event."""


class LogReadError(TrioExtremeError):
    """A page that cannot be read. Its text is what the server answers."""


class Place(NamedTuple):
    """A position as requests and replies carry it: compared as a pair, whatever it means."""

    commit: int
    prepare: int


class LogPage(NamedTuple):
    """A page of the log: the events, where it began, and where the next page begins."""

    records: Sequence[Record]
    start: Place
    next: Place


class Log:
    """Records by position. Some are no events: the epoch that comes first, and what an empty append leaves."""

    def __init__(self) -> None:
        self.end = 0
        """Where the next record will be."""
        self.last = 0
        """Where the last record is that was committed."""
        self._starts: list[int] = []
        self._records: list[Record | None] = []
        self.skip(_EPOCH_SIZE)

    def __repr__(self) -> str:
        return f"<Log of {len(self._starts)} records, {self.end} bytes>"

    def add(self, record: Record) -> None:
        """Put a record at the end; its position must be `end`."""
        self._put(record, record.end)

    def skip(self, size: int) -> int:
        """Put something at the end that is no event; returns where it is."""
        self._put(None, self.end + size)
        return self.last

    def _put(self, record: Record | None, end: int) -> None:
        self.last = self.end
        self._starts.append(self.end)
        self._records.append(record)
        self.end = end

    def forward(self, start: Place, count: int) -> LogPage:
        """From a place on, inclusive. Beyond the end there is nothing, and that is no error."""
        index = len(self._starts) if start.commit > self.end else self._index(start.commit)
        found: list[Record] = []
        following = start
        while index < len(self._records) and len(found) < count:
            record = self._records[index]
            index += 1
            # Inside one record the prepare position decides: (9, 12) is after the event at 9.
            if record is not None and (record.position, record.position) >= start:
                found.append(record)
                # Zero is what servers say here: the pair still sorts before everything at that commit position.
                following = Place(record.end, 0)
        return LogPage(found, start, following)

    def backward(self, start: Place, count: int) -> LogPage:
        """From a place down, exclusive: a record belongs to it if it ends there or before."""
        if start.commit > self.end:
            msg = f"Requested position {start.commit} is greater than writer checkpoint {self.end}."
            raise LogReadError(msg)
        index = self._index(start.commit) - 1
        found: list[Record] = []
        following = start
        while index >= 0 and len(found) < count:
            record = self._records[index]
            index -= 1
            if record is not None and (record.end, record.end) <= start:
                found.append(record)
                following = Place(record.position, record.position)
        return LogPage(found, start, following)

    def _index(self, position: int) -> int:
        """Which record begins at the position; where the log ends, the one to come."""
        index = bisect_left(self._starts, position)
        start = self._starts[index] if index < len(self._starts) else self.end
        if start != position:
            msg = f"Log record at actual pos {position} has an impossible length: no record begins there."
            raise LogReadError(msg)
        return index
