"""Checkpoints in the SQLite database that the handler writes to, in the same transactions: each event counts once."""

from __future__ import annotations

import os
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import trio

from trio_extreme.checkpoints import Checkpoints
from trio_extreme.errors import CheckpointError, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence

    from trio_extreme.checkpoints import RunSync

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_TABLE = """
CREATE TABLE IF NOT EXISTS trio_extreme_checkpoints (name TEXT PRIMARY KEY, checkpoint TEXT NOT NULL)
"""
_LOAD = "SELECT checkpoint FROM trio_extreme_checkpoints WHERE name = ?"
_INSERT = "INSERT OR IGNORE INTO trio_extreme_checkpoints (checkpoint, name) VALUES (?, ?)"
_UPDATE = "UPDATE trio_extreme_checkpoints SET checkpoint = ? WHERE name = ? AND checkpoint = ?"

# No handler says them in just these words, so that no statement which was prepared for us is run for a handler.
_BEGIN = "BEGIN IMMEDIATE /* of the listener */"
_COMMIT = "COMMIT /* of the listener */"
_ROLLBACK = "ROLLBACK /* of the listener */"

_TRANSACTION = 22
"""What SQLite calls BEGIN, COMMIT and ROLLBACK when it asks whether a statement is allowed."""

_BUSY_WAIT = 0.02
_PATIENCE = 60.0
"""Seconds for which another writer may keep the database to itself."""
_LAST_WORDS = 5.0
"""Seconds for a rollback, and for closing the file; neither takes milliseconds."""


class SqliteTransaction:
    """What a handler has of the database: `handle(event, db)`. It is open until the handler returns.

    Statements run in a thread, one after the other. Their errors are those of `sqlite3`, bare. Whatever they did is
    there together with the checkpoint, or neither is. Beginning and ending the transaction is not for the handler, and
    refused as `InvalidArgument`; savepoints are. Cancelling waits for the statement under way.
    """

    __slots__ = ("_session",)

    def __init__(self, session: _Session) -> None:
        self._session: _Session | None = session

    def __repr__(self) -> str:
        return f"<SqliteTransaction, {'over' if self._session is None else 'open'}>"

    async def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """Run one statement; how many rows it changed, -1 where it is none that changes rows."""
        return await self._open.run(_Database.execute, sql, parameters)

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> int:
        """Run a statement for each of these; how many rows it changed in all."""
        return await self._open.run(_Database.executemany, sql, list(rows))

    async def fetchall(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, which see what the transaction has changed so far."""
        return await self._open.run(_Database.fetchall, sql, parameters)

    @property
    def _open(self) -> _Session:
        if self._session is None:
            msg = "this transaction is over: its handler has returned"
            raise RuntimeError(msg)
        return self._session

    def end(self) -> None:
        """The handler has returned."""
        self._session = None


class SqliteCheckpoints(Checkpoints):
    """A store in an SQLite file, for handlers that keep what they make of events in it: `handle(event, db)`.

    The listener begins a transaction, awaits the handler, stores the checkpoint, and commits. An exception or a
    cancellation rolls all of it back. So each event counts exactly once in this database, however often the process is
    killed. `setup` is SQL that is run when the file is opened: `CREATE TABLE IF NOT EXISTS …`.

    The file has a write-ahead log: others may read it meanwhile, with their own connections. A power cut may undo the
    last transactions, checkpoint and all, so their events are handled then. Several listeners may share the file, each
    with its own name and connection; while a handler is in a transaction, the others wait for it. A file that is no
    database, or is damaged, and a checkpoint that was moved by another process, raise `CheckpointError`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, setup: str = "", run_sync: RunSync = trio.to_thread.run_sync
    ) -> None:
        if os.fspath(path) in ("", ":memory:"):
            msg = f"path: {os.fspath(path)!r} is gone when it is closed; name a file, or take MemoryCheckpoints()"
            raise InvalidArgument(msg)
        self._path = Path(path).absolute()
        self._setup = setup
        self._run_sync = run_sync
        self._sessions: dict[str, _Session] = {}

    def __repr__(self) -> str:
        return f"<SqliteCheckpoints {self._path}>"

    @property
    def _identity(self) -> Hashable:
        return self._path.resolve()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Have the name, and a connection to the database. Raises `CheckpointError` where that cannot be."""
        async with super().hold(name), self._opened(name) as session:
            self._sessions[name] = session
            try:
                yield
            finally:
                del self._sessions[name]

    async def load(self, name: str) -> str | None:
        """What was stored last under this name, None where nothing was. Raises `CheckpointError` for a damaged file."""
        if name in self._sessions:
            return await self._sessions[name].outside(_Database.load)
        async with self._opened(name) as session:
            return await session.outside(_Database.load)

    async def store(self, name: str, checkpoint: str) -> None:
        """Store this in a transaction of its own. Cancelled, it is seen through, or was not begun."""
        await self.transact(name, checkpoint, _nothing)

    async def transact(
        self, name: str, checkpoint: str | None, work: Callable[[SqliteTransaction], Awaitable[bool]]
    ) -> bool:
        """Do this work and store the checkpoint, if there is one, in one transaction; what the work returned.

        It is rolled back where the work returns False, raises, or is cancelled.
        """
        if name not in self._sessions:
            msg = f"checkpoint {name!r} is stored by who holds it: async with checkpoints.hold({name!r})"
            raise RuntimeError(msg)
        return await self._sessions[name].transact(checkpoint, work)

    @asynccontextmanager
    async def _opened(self, name: str) -> AsyncIterator[_Session]:
        given_up = trio.current_time() + _PATIENCE
        database = await _patiently(self._run_sync, given_up, self._path, _Database, self._path, name, self._setup)
        try:
            yield _Session(database, self._run_sync)
        finally:
            with trio.move_on_after(_LAST_WORDS, shield=True):
                await self._run_sync(database.close)


async def _nothing(_: SqliteTransaction) -> bool:
    await trio.lowlevel.checkpoint()
    return True


class _Session:
    """One listener's connection, and the transaction it is in."""

    def __init__(self, database: _Database, run_sync: RunSync) -> None:
        self._database = database
        self._run_sync = run_sync
        # A handler may have several tasks.
        self._turn = trio.Lock()

    async def transact(self, checkpoint: str | None, work: Callable[[SqliteTransaction], Awaitable[bool]]) -> bool:
        """One transaction, begun when it is needed."""
        transaction = SqliteTransaction(self)
        done = False
        try:
            done = await work(transaction)
            if done:
                await self.outside(_Database.commit, checkpoint)
        finally:
            transaction.end()
            if self._database.begun:
                with trio.move_on_after(_LAST_WORDS, shield=True):
                    await self.outside(_Database.roll_back)
        return done

    async def run(self, call: Callable[[_Database, *Ts], T], *args: *Ts) -> T:
        """A statement of the handler."""
        return await self._in_turn(self._database.within, call, *args)

    async def outside(self, call: Callable[[_Database, *Ts], T], *args: *Ts) -> T:
        """What the listener itself does."""
        try:
            return await self._in_turn(call, self._database, *args)
        except sqlite3.Error as error:
            raise _failure(self._database.path, error) from error

    async def _in_turn(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """In a thread, nobody else meanwhile."""
        given_up = trio.current_time() + _PATIENCE
        async with self._turn:
            return await _patiently(self._run_sync, given_up, self._database.path, call, *args)


async def _patiently(run_sync: RunSync, given_up: float, path: Path, call: Callable[[*Ts], T], *args: *Ts) -> T:
    """In a thread. Other connections that write are waited for without keeping one."""
    while True:
        try:
            return await run_sync(call, *args)
        except _Busy as busy:
            if trio.current_time() >= given_up:
                raise _failure(path, busy.error) from busy.error
        await trio.sleep(_BUSY_WAIT)


class _Busy(Exception):
    """Somebody else writes; the transaction was not begun, or the file not opened."""

    def __init__(self, error: sqlite3.Error) -> None:
        super().__init__(error)
        self.error = error


class _Database:
    """All that blocks: called in threads, one call at a time."""

    def __init__(self, path: Path, name: str, setup: str) -> None:
        self.path = path
        self.begun = False
        self._name = name
        # What is stored, as far as we know: whoever finds something else there has a double.
        self._known: str | None = None
        self._of_handler = False
        self._refused = False
        self._db = _open(path, setup)
        self._db.set_authorizer(self._authorize)

    def close(self) -> None:
        """Close the file. What was not committed is gone."""
        self._db.close()

    def load(self) -> str | None:
        """The checkpoint that is stored."""
        row = self._db.execute(_LOAD, [self._name]).fetchone()
        self._known = None if row is None else row[0]
        return self._known

    def within(self, call: Callable[[_Database, *Ts], T], *args: *Ts) -> T:
        """A statement of the handler, inside the transaction."""
        self._begin()
        self._of_handler, self._refused = True, False
        try:
            return call(self, *args)
        except sqlite3.DatabaseError as error:
            if self._refused:
                msg = "sql: the listener begins and ends the transaction: return to commit it, raise to roll it back"
                raise InvalidArgument(msg) from error
            raise
        finally:
            self._of_handler = False

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> int:
        """Run one statement."""
        with closing(self._db.execute(sql, parameters)) as cursor:
            return cursor.rowcount

    def executemany(self, sql: str, rows: list[Sequence[Any] | Mapping[str, Any]]) -> int:
        """Run one statement for each of these."""
        with closing(self._db.executemany(sql, rows)) as cursor:
            return cursor.rowcount

    def fetchall(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run one statement, for its rows."""
        with closing(self._db.execute(sql, parameters)) as cursor:
            return cursor.fetchall()

    def commit(self, checkpoint: str | None) -> None:
        """End the transaction, with a checkpoint."""
        if checkpoint is None and not self.begun:
            return
        self._begin()
        if checkpoint is not None:
            self._store(checkpoint)
        self._db.execute(_COMMIT)
        self.begun = False
        if checkpoint is not None:
            self._known = checkpoint

    def roll_back(self) -> None:
        """End the transaction as if it had not been."""
        self.begun = False
        if self._db.in_transaction:
            self._db.execute(_ROLLBACK)

    def _begin(self) -> None:
        if self.begun:
            if not self._db.in_transaction:
                # An `OR ROLLBACK` did, or a disk that is full, and the handler went on all the same.
                msg = f"{self.path}: a statement of the handler rolled its transaction back"
                raise sqlite3.OperationalError(msg)
            return
        try:
            self._db.execute(_BEGIN)
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                raise _Busy(error) from None
            raise
        self.begun = True

    def _store(self, checkpoint: str) -> None:
        sql, known = (_INSERT, []) if self._known is None else (_UPDATE, [self._known])
        if self._db.execute(sql, [checkpoint, self._name, *known]).rowcount != 1:
            msg = (
                f"checkpoint {self._name!r} in {self.path} is not where this listener left it: another one runs with "
                "the same name, in another process perhaps; give each a name= of its own"
            )
            raise CheckpointError(msg)

    def _authorize(self, action: int, *_: object) -> int:
        if self._of_handler and action == _TRANSACTION:
            self._refused = True
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK


def _open(path: Path, setup: str) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            # What is in the log after a power cut is whole transactions, so there is no need to wait for the disk.
            db.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_TABLE}")
            _set_up(db, setup)
            # Whatever that has said.
            db.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        if _is_busy(error):
            raise _Busy(error) from None
        raise _failure(path, error) from error
    return db


def _set_up(db: sqlite3.Connection, setup: str) -> None:
    try:
        db.executescript(setup)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        msg = f"setup: {error}"
        raise InvalidArgument(msg) from error


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _failure(path: Path, error: sqlite3.Error) -> CheckpointError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        msg = f"{path} is no SQLite database, or damaged ({error}): put a backup in its place, or name another file"
    else:
        msg = f"{path} cannot be used ({error}): see to its disk, its permissions, and who else writes to it"
    return CheckpointError(msg)
