"""A storage that is an SQLite file: what is committed is read from there, what is not is kept here until it is. Pure.

Three layers, oldest first: the file, as far as it was committed when we were last told; the group that is being
committed, perhaps in another thread; the group that gathers what is added meanwhile, and is the next. Who reads is
given all three, one behind the other. The file may hold more than we were told: rows from `_durable_end` on are left
aside there, because the group has them.

Nothing here grows with what is stored but SQLite's cache and ours, which are bounded. Nothing grows with what is added
but the groups, so who adds must not do so without end while nothing is committed: `gathered` says how much it is.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from trio_extreme.embedded.cache import Cache
from trio_extreme.embedded.records import WIDE_TOMBSTONE, Place, Record
from trio_extreme.embedded.sqlite_file import EVENTS, StoreFile, failure, read_heads
from trio_extreme.embedded.sqlite_writer import Group, Writer
from trio_extreme.embedded.storage import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from trio_extreme.embedded.storage import Batch
    from trio_extreme.embedded.versions import ServerVersion

_CACHE_SIZE = 4 * 1024 * 1024
"""Bytes, roughly, of what is remembered of streams."""
_NAMES = 1000
"""How many names of streams are read at a time."""
_COLUMNS = ", ".join(f"events.{column}" for column in EVENTS[1:])
_FIND_HEAD = """
SELECT id, ifnull((SELECT max(number) FROM events WHERE stream = streams.id), -1) FROM streams WHERE name = ?
"""
_EVENTS = f"""
SELECT {_COLUMNS} FROM events WHERE stream = ? AND number BETWEEN ? AND ? AND commit_begin < ? ORDER BY number
"""  # noqa: S608 - the columns are ours
_LAST_EVENT = f"""
SELECT {_COLUMNS} FROM events WHERE stream = ? AND number < {WIDE_TOMBSTONE} AND commit_begin < ?
ORDER BY number DESC LIMIT 1
"""  # noqa: S608 - the columns are ours
_FORWARD = f"""
SELECT name, {_COLUMNS} FROM events JOIN streams ON streams.id = stream
WHERE (commit_begin, prepare_begin) >= (?, ?) AND commit_begin < ? ORDER BY commit_begin, prepare_begin LIMIT ?
"""  # noqa: S608 - the columns are ours
_BACKWARD = f"""
SELECT name, {_COLUMNS} FROM events JOIN streams ON streams.id = stream
WHERE commit_begin < ? AND (commit_end, prepare_end) <= (?, ?)
ORDER BY commit_begin DESC, prepare_begin DESC LIMIT ?
"""  # noqa: S608 - the columns are ours
_BEGINS = """
SELECT EXISTS (SELECT 1 FROM events WHERE commit_begin = ?) OR EXISTS (SELECT 1 FROM marks WHERE position = ?)
"""
_TRANSACTION = """
SELECT position, transaction_id, data FROM marks WHERE transaction_id = ? AND position < ? ORDER BY position
"""


class _Head(NamedTuple):
    """What is remembered of a stream: what it goes by in the file, 0 for nothing, and the number of its last event."""

    key: int
    number: int


_NO_STREAM = _Head(0, -1)


class SqliteStorage:
    """See `Storage`, and the module. Raises `StorageError` where the file fails.

    To open it, to `commit` and to `close` wait for the disk, and may be done in any thread. Nothing else may.
    """

    def __init__(self, path: Path, version: ServerVersion) -> None:
        #: What is to be called when there is something to commit.
        self.changed: Callable[[], None] = _do_nothing
        #: How many changes were made, and how many of them a crash would leave.
        self.written = 0
        self.durable = 0
        self._file = StoreFile(path, version)
        try:
            self._writer = Writer(self._file)
            self._open_reader()
        except BaseException:
            self._close()
            raise

    def __repr__(self) -> str:
        return f"<SqliteStorage at {self._file.path}: {self.end} bytes>"

    def _open_reader(self) -> None:
        self._reader = self._file.connect(writes=False)
        self._heads: Cache[_Head] = Cache(_CACHE_SIZE)
        self._in_flight: Group | None = None
        self._gathering = Group()
        try:
            self.end, self.last, self._streams = read_heads(self._reader)
        except sqlite3.Error as error:
            raise failure(self._file.path, error) from error
        self._durable_end = self.end

    # Streams

    def last_number(self, stream: str) -> int:
        """See `Storage`."""
        return self._head(stream).number

    def last_event(self, stream: str) -> Record | None:
        """See `Storage`."""
        for group in self._groups(newest_first=True):
            record = group.tail.last_event(stream)
            if record is not None:
                return record
        found = self._read_stream(_LAST_EVENT, stream, self._durable_end)
        return found[0] if found else None

    def event(self, stream: str, number: int) -> Record | None:
        """See `Storage`."""
        found = self.events(stream, number, number)
        return found[0] if found else None

    def events(self, stream: str, first: int, last: int) -> Sequence[Record]:
        """See `Storage`."""
        found = self._read_stream(_EVENTS, stream, first, min(last, WIDE_TOMBSTONE - 1), self._durable_end)
        for group in self._groups():
            found += group.tail.events(stream, first, last)
        return found

    def streams(self) -> Iterator[str]:
        """See `Storage`."""
        seen = 0
        while rows := self._read("SELECT id, name FROM streams WHERE id > ? ORDER BY id LIMIT ?", seen, _NAMES):
            seen = rows[-1][0]
            yield from [name for _, name in rows]
        yield from [name for group in self._groups() for number, name in group.new_streams if number > seen]

    def _read_stream(self, statement: str, stream: str, *values: int) -> list[Record]:
        key = self._head(stream).key
        return [Record(stream, *row) for row in self._read(statement, key, *values)] if key else []

    def _head(self, stream: str) -> _Head:
        head = self._heads.get(stream)
        if head is None:
            head = self._find_head(stream)
            self._heads.put(stream, head)
        return head

    def _find_head(self, stream: str) -> _Head:
        for group in self._groups(newest_first=True):
            if stream in group.stream_keys:
                return _Head(group.stream_keys[stream], group.tail.last_number(stream))
        rows = self._read(_FIND_HEAD, stream)
        return _Head(*rows[0]) if rows else _NO_STREAM

    # The log

    def begins(self, position: int) -> bool:
        """See `Storage`."""
        if position < self._durable_end:
            return bool(self._read(_BEGINS, position, position)[0][0])
        return any(group.tail.begins(position) for group in self._groups())

    def forward(self, place: Place, count: int) -> Sequence[Record]:
        """See `Storage`."""
        found = [Record._make(row) for row in self._read(_FORWARD, *place, self._durable_end, max(count, 0))]
        for group in self._groups():
            found += group.tail.forward(place, count - len(found))
        return found

    def backward(self, place: Place, count: int) -> Sequence[Record]:
        """See `Storage`."""
        found: list[Record] = []
        for group in self._groups(newest_first=True):
            found += group.tail.backward(place, count - len(found))
        before = min(place.commit, self._durable_end)
        rows = self._read(_BACKWARD, before, *place, max(count - len(found), 0))
        return found + [Record._make(row) for row in rows]

    def transaction(self, id: int) -> Sequence[Mark]:
        """See `Storage`."""
        found = [Mark._make(row) for row in self._read(_TRANSACTION, id, self._durable_end)]
        return [*found, *chain.from_iterable(group.tail.transaction(id) for group in self._groups())]

    def _groups(self, *, newest_first: bool = False) -> Sequence[Group]:
        """What the file may not have yet."""
        if self._in_flight is None:
            return (self._gathering,)
        return (self._gathering, self._in_flight) if newest_first else (self._in_flight, self._gathering)

    def _read(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._reader.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise failure(self._file.path, error) from error

    # Changes

    def add(self, batch: Batch) -> None:
        """See `Storage`."""
        group = self._gathering
        for stream, number in {record.stream: record.number for record in batch.records}.items():
            key = self._head(stream).key
            if not key:
                self._streams = key = self._streams + 1
                group.new_streams.append((key, stream))
            group.stream_keys[stream] = key
            self._heads.put(stream, _Head(key, number))
        group.tail.add(batch)
        group.marks += batch.marks
        group.size += batch.end - self.end
        self.end, self.last = batch.end, batch.last
        self._count_change()

    def remove(self, records: Iterable[Record]) -> None:
        """See `Storage`."""
        self._gathering.removed += records
        self._count_change()

    def _count_change(self) -> None:
        self.written += 1
        self.changed()

    # Committing

    @property
    def gathered(self) -> int:
        """Bytes that were added and that no `take` has taken."""
        return self._gathering.size

    def take(self) -> Group:
        """What was gathered, written and not committed: give it to `commit` and then to `settle`, before the next."""
        group = self._in_flight = self._gathering
        group.close(self.end, self.last, self.written)
        self._gathering = Group()
        self._writer.insert(group)
        return group

    def commit(self, group: Group) -> None:
        """Wait until a power cut would leave the group, unless it was lost meanwhile."""
        if group.claim():
            self._writer.commit()
            group.is_committed = True

    def settle(self, group: Group) -> None:
        """It was given to `commit`."""
        if group.is_committed:
            self._durable_end, self.durable = group.end, group.number
        self._in_flight = None

    def crash(self) -> None:
        """See `Storage`. What is being committed at this moment is not lost."""
        in_flight = self._in_flight
        self._reader.close()
        self._open_reader()
        if in_flight is None or in_flight.claim():
            self.written = self.durable
        else:
            self._in_flight = in_flight
            self._durable_end = in_flight.begin
            self.end, self.last, self.written = in_flight.end, in_flight.last, in_flight.number
            self._streams = max(self._streams, *in_flight.stream_keys.values(), 0)

    def close(self) -> None:
        """Commit what was added, unless that failed before, and give the file back. No `commit` may be running."""
        try:
            if not self._writer.failed:
                self._commit_all()
        finally:
            self._close()

    def _commit_all(self) -> None:
        if self._in_flight is not None and not self._in_flight.is_committed:
            self.commit(self._in_flight)
        if self.written > self.durable:
            self.commit(self.take())

    def _close(self) -> None:
        for name in ("_reader", "_writer"):
            with suppress(AttributeError):
                getattr(self, name).close()
        self._file.release()


def _do_nothing() -> None:
    pass
