"""The file of a node that keeps what it is told: what may be opened, and how it begins. Pure.

Rule 1: a file that is not ours, is damaged, of a newer format, or in use is told by a sentence and never written to. So
it is looked at before SQLite gets to open it, which might mend what it finds.
Rule 2: a new file comes into being as a whole: it is made under another name, and renamed.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.embedded.lock import FileLock, Held
from trio_extreme.embedded.storage import StorageError
from trio_extreme.embedded.versions import VERSIONS

if TYPE_CHECKING:
    from pathlib import Path

    from trio_extreme.embedded.versions import ServerVersion

APPLICATION = 0x54724578
"""What tells our files from those of other programs: "TrEx"."""
FORMAT = 1
"""Of the tables below. A file of a later one is refused."""

EVENTS = (
    *("stream", "number", "id", "type", "written", "prepare_begin", "prepare_end", "commit_begin", "commit_end"),
    "field",
)
"""The columns of `events`: the fields of a Record, with the stream's number in the place of its name."""

_SCHEMA = f"""
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE events ({", ".join(EVENTS)});
CREATE UNIQUE INDEX events_by_number ON events (stream, number);
CREATE UNIQUE INDEX events_by_place ON events (commit_begin, prepare_begin);
CREATE TABLE marks (position INTEGER PRIMARY KEY, transaction_id INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX marks_by_transaction ON marks (transaction_id, position) WHERE transaction_id > 0;
CREATE TABLE log (version TEXT NOT NULL, "end" INTEGER NOT NULL, last INTEGER NOT NULL);
"""
"""Rows of `events` are in the order of the log, because they are never written in another one; `log` has one row."""

_HEADER = Struct(">16sH10xI28xI4xI28x")
"""Magic, page size, pages, user_version, application_id: https://sqlite.org/fileformat.html, 1.3."""
_MAGIC = b"SQLite format 3\0"
_BUSY_TIMEOUT = 5.0
"""Seconds to wait for another program that looks into the file."""
_CACHE_KIB = 16 * 1024


class Heads(NamedTuple):
    """What is read when a file is opened."""

    end: int
    last: int
    streams: int
    """The highest number that a stream has."""


class StoreFile:
    """The file of one node, locked. Raises `StorageError` where it cannot be used."""

    def __init__(self, path: Path, version: ServerVersion) -> None:
        #: Links are followed, so that two names of a file have one lock.
        self.path = path.resolve()
        self._lock = _lock(self.path)
        try:
            if _is_new(self.path):
                _create(self.path, version)
            else:
                _check(self.path, version)
        except BaseException:
            self.release()
            raise

    def __repr__(self) -> str:
        return f"<StoreFile {self.path}>"

    def release(self) -> None:
        """Let others have the file; connections to it are closed before."""
        self._lock.release()

    def connect(self, *, writes: bool) -> sqlite3.Connection:
        """A connection that any thread may use, one at a time."""
        try:
            db = sqlite3.connect(_uri(self.path, "rw"), timeout=_BUSY_TIMEOUT, uri=True, check_same_thread=False)
            db.isolation_level = None
            try:
                self._set_up(db, writes=writes)
            except BaseException:
                db.close()
                raise
        except sqlite3.Error as error:
            raise failure(self.path, error) from error
        return db

    def _set_up(self, db: sqlite3.Connection, *, writes: bool) -> None:
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if not writes:
            db.execute("PRAGMA query_only = ON")
            return
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            msg = f"{self.path} cannot have a write-ahead log: put it on a local disk"
            raise StorageError(msg, str(self.path))
        # What is committed survives a power cut: macOS needs to be told twice.
        for pragma in ("synchronous = FULL", "fullfsync = ON", "checkpoint_fullfsync = ON"):
            db.execute(f"PRAGMA {pragma}")


def read_heads(db: sqlite3.Connection) -> Heads:
    """The ends of what is there."""
    ((end, last),) = db.execute('SELECT "end", last FROM log')
    ((streams,),) = db.execute("SELECT ifnull(max(id), 0) FROM streams")
    return Heads(end, last, streams)


def failure(path: Path, error: sqlite3.Error) -> StorageError:
    """The sentence for what SQLite says of a file that was fine when it was opened."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        msg = f"there is no room for {path} ({error}): make some and open it again; what was acknowledged is in it"
    else:
        msg = f"{path} cannot be used ({error}): see to its disk and its permissions; what was acknowledged is in it"
    return StorageError(msg, str(path))


def _damaged(path: Path, why: str) -> StorageError:
    return StorageError(f"{path} is damaged ({why}): put a backup in its place, or name another file", str(path))


def _lock(path: Path) -> FileLock:
    try:
        return FileLock(_beside(path, ".lock"))
    except Held as held:
        who = "" if held.process is None else f", process {held.process}"
        msg = f"{path} is in use by another node{who}: stop that one, or name another file"
    except OSError as error:
        msg = f"{path} cannot be locked ({error.strerror}): name a file in a folder that can be written to"
    raise StorageError(msg, str(path)) from None


def _is_new(path: Path) -> bool:
    """Whether there is nothing yet. A write-ahead log without its file would be taken for the new file's."""
    is_empty = not _size(path)
    if is_empty and _size(_beside(path, "-wal")):
        raise _damaged(path, "its write-ahead log is there, and nothing else of it")
    return is_empty


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _create(path: Path, version: ServerVersion) -> None:
    draft = _beside(path, ".new")
    try:
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft)) as db:
            # It needs no journal: half a draft is thrown away.
            db.executescript(f"PRAGMA journal_mode = MEMORY; PRAGMA fullfsync = ON; BEGIN; {_SCHEMA}")
            db.execute("INSERT INTO log VALUES (?, 0, 0)", (version.short,))
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
            db.commit()
        draft.replace(path)
        _sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        msg = f"{path} cannot be made ({error}): see to its disk and its permissions, or name another file"
        raise StorageError(msg, str(path)) from error


def _sync_folder(path: Path) -> None:
    """Have the new name survive a power cut; Windows has no such thing, and needs none."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check(path: Path, version: ServerVersion) -> None:
    """Look at a file without SQLite's help, and then at its tables as if nobody could ever change them."""
    _check_header(path)
    try:
        with closing(sqlite3.connect(_uri(path, "ro&immutable=1"), uri=True)) as db:
            _check_tables(path, db)
            row = db.execute("SELECT version FROM log").fetchone()
    except sqlite3.Error as error:
        raise failure(path, error) from error
    if row is None:
        raise _damaged(path, "it does not say where its log ends")
    _check_version(path, row[0], version)


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}): see to its permissions, or name another file"
        raise StorageError(msg, str(path)) from None
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        msg = (
            f"{path} is no file of a node, or its beginning is damaged: name another file, or put a backup in its place"
        )
        raise StorageError(msg, str(path))
    _, page_size, pages, format_, application = _HEADER.unpack(header)
    if application != APPLICATION:
        msg = f"{path} is the database of another program: name another file"
        raise StorageError(msg, str(path))
    if format_ > FORMAT:
        msg = f"{path} has format {format_}, and this release knows {FORMAT}: open it with the release that wrote it"
        raise StorageError(msg, str(path))
    expected = pages * (page_size if page_size > 1 else 65_536)
    # While the write-ahead log holds pages that are yet to come, the file may be shorter than it will be.
    if size < expected and not _size(_beside(path, "-wal")):
        raise _damaged(path, f"it has {size:,} bytes, and had {expected:,}")


def _check_tables(path: Path, db: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(_SCHEMA)
        missing = _tables(model) - _tables(db)
    if missing:
        raise _damaged(path, f"its {min(missing)[0]} is missing, or another one")


def _tables(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Names and definitions. Indexes that SQLite makes by itself have none."""
    return set(db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def _check_version(path: Path, written_as: str, version: ServerVersion) -> None:
    """Whether this server can go on with the log of that one: what tells a soft-deleted stream must be the same."""
    stored = VERSIONS.get(written_as)
    if stored is None or stored.tombstone != version.tombstone:
        msg = f"{path} was written as Event Store {written_as}: open it as that version, not as {version.short}"
        raise StorageError(msg, str(path))


def _uri(path: Path, mode: str) -> str:
    return f"{path.as_uri()}?mode={mode}"
