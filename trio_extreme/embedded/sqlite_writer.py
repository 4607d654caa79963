"""Writing to a node's file: many records in few statements, and one commit. Pure.

Only the commit waits for the disk, so only it is for a thread. Statements are not: while SQLite works, it lets go of
Python's lock, and where the node is busy it waits five milliseconds to have it back, after each of them.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from itertools import chain, repeat
from threading import Lock
from typing import TYPE_CHECKING, Any

from trio_extreme.embedded.records import Place
from trio_extreme.embedded.sqlite_file import EVENTS, failure
from trio_extreme.embedded.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.sqlite_file import StoreFile
    from trio_extreme.embedded.storage import Mark

_ROWS = 512
"""Rows that one statement writes at most."""
_EVERYTHING = 2**62
DELETE = "DELETE FROM events WHERE rowid IN (SELECT events.rowid FROM (VALUES"
DELETED = ") CROSS JOIN events ON (commit_begin, prepare_begin) = (column1, column2))"
"""Around the places of events to take out. Put more simply, SQLite would look at every event there is, each time."""


class Group:
    """What is committed together: all of it is in the file after a crash, or nothing."""

    def __init__(self) -> None:
        #: The events and marks, as the storage they are until they are in the file.
        self.tail = MemoryStorage()
        self.marks: list[Mark] = []
        self.removed: list[Record] = []
        #: What the streams of the events go by in the file, and those that are not in it yet.
        self.stream_keys: dict[str, int] = {}
        self.new_streams: list[tuple[int, str]] = []
        #: Bytes of the log.
        self.size = 0
        #: What the storage's `end`, `last` and `written` were when nothing more was added.
        self.end = self.last = self.number = 0
        self.is_committed = False
        self._claim = Lock()

    def __repr__(self) -> str:
        return f"<Group of {self.size} bytes, up to {self.end}>"

    def close(self, end: int, last: int, number: int) -> None:
        """Nothing more is added."""
        self.end, self.last, self.number = end, last, number

    def claim(self) -> bool:
        """Whether nobody did this before: either it is committed, perhaps in another thread, or a crash loses it."""
        return self._claim.acquire(blocking=False)

    @property
    def begin(self) -> int:
        """Where the log was before it."""
        return self.end - self.size


class Writer:
    """The connection that writes. Its thread may be another one each time."""

    def __init__(self, file: StoreFile) -> None:
        self._path = file.path
        self._db = file.connect(writes=True)
        self._most = self._db.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        #: Whether a group could not be written. Then no more can be: closing takes back what was inserted of it.
        self.failed = False

    def __repr__(self) -> str:
        return f"<Writer to {self._path}>"

    def close(self) -> None:
        """Close the connection; the last one to a file takes the write-ahead log in."""
        self._db.close()

    def insert(self, group: Group) -> None:
        """Write a group, without committing it. Raises `StorageError`."""
        with self._failing():
            if self._db.in_transaction:
                # A group that was lost.
                self._db.execute("ROLLBACK")
            self._db.execute("BEGIN IMMEDIATE")
            keys = group.stream_keys
            records = group.tail.forward(Place(0, 0), _EVERYTHING)
            rows = [(keys[record[0]], *record[1:]) for record in records]
            self._insert("INSERT INTO streams VALUES", 2, group.new_streams)
            self._insert("INSERT INTO events VALUES", len(EVENTS), rows)
            self._insert("INSERT INTO marks VALUES", 3, group.marks)
            self._remove(group.removed)
            self._db.execute('UPDATE log SET "end" = ?, last = ?', (group.end, group.last))

    def commit(self) -> None:
        """Commit what was inserted. When this returns, a power cut leaves it. Raises `StorageError`."""
        with self._failing():
            self._db.execute("COMMIT")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self.failed = True
            raise failure(self._path, error) from error

    def _remove(self, records: Sequence[Record]) -> None:
        self._insert("INSERT OR IGNORE INTO marks VALUES", 3, [(record.position, 0, b"") for record in records])
        places = [(record.commit, record.position) for record in records]
        self._insert(DELETE, 2, places, DELETED)

    def _insert(self, begin: str, width: int, rows: Sequence[Sequence[Any]], end: str = "") -> None:
        """Run one statement for many rows: powers of two, so that there are few of them, which SQLite remembers."""
        row = f"({','.join(repeat('?', width))})"
        start = 0
        while start < len(rows):
            count = 1 << min(len(rows) - start, _ROWS, self._most // width).bit_length() - 1
            values = list(chain.from_iterable(rows[start : start + count]))
            self._db.execute(f"{begin} {','.join(repeat(row, count))}{end}", values)
            start += count
