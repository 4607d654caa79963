"""Stores of checkpoints: what the kit asks of all, what they refuse, and what is left where they are stopped."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.sessions.steps import cancelled_at
from trio_extreme import (
    CheckpointError,
    Checkpoints,
    FileCheckpoints,
    InvalidArgument,
    MemoryCheckpoints,
    Position,
    SqliteCheckpoints,
)
from trio_extreme.checkpoints import NOWHERE, place_in, run_inline, text_of
from trio_extreme.testing import check_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_extreme import SqliteTransaction

ALL = "$all"
SETUP = "CREATE TABLE IF NOT EXISTS counts (what TEXT PRIMARY KEY, many INTEGER NOT NULL)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "čekpoint.db"


def in_file(path: Path) -> FileCheckpoints:
    return FileCheckpoints(path, run_sync=run_inline)


def in_sqlite(path: Path) -> SqliteCheckpoints:
    return SqliteCheckpoints(path, setup=SETUP, run_sync=run_inline)


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def number_of(path: Path) -> int:
    """What tells a file from another that has taken its place."""
    return path.stat().st_ino


# --- the kit


@pytest.mark.parametrize("make", [FileCheckpoints, in_file, SqliteCheckpoints, in_sqlite])
async def test_the_kit_finds_nothing(make: Callable[[Path], Checkpoints], path: Path) -> None:
    await check_checkpoints(partial(make, path))


async def test_the_kit_finds_nothing_in_memory() -> None:
    await check_checkpoints(MemoryCheckpoints, lasting=False)


class Odd(MemoryCheckpoints):
    """A store with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    async def load(self, name: str) -> str | None:
        found = await super().load(self._known(name))
        return "" if found is None and self.fault == "has something" else found

    async def store(self, name: str, checkpoint: str) -> None:
        if self.fault == "first stays" and await self.load(name):
            return
        if self.fault == "torn":
            self._texts[name] = checkpoint[:3]
            await trio.sleep(0.0015)
        await super().store(self._known(name), checkpoint)

    def _known(self, name: str) -> str:
        return name.strip() if self.fault == "strips" else name.lower() if self.fault == "no case" else name

    def hold(self, name: str) -> Any:
        return trio.CancelScope() if self.fault == "not held" else super().hold(name)


class Shared(MemoryCheckpoints):
    """Reads all, waits, and writes all."""

    async def store(self, name: str, checkpoint: str) -> None:
        texts = {**self._texts, name: checkpoint}
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._texts = texts


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("has something", "nothing was stored"),
        ("first stays", "was stored last"),
        ("strips", "has a checkpoint"),
        ("no case", "has a checkpoint"),
        ("torn", "neither the old nor the new"),
    ],
)
async def test_the_kit_finds(fault: str, complaint: str, autojump_clock: object) -> None:
    with pytest.raises(AssertionError, match=complaint):
        await check_checkpoints(partial(Odd, fault), lasting=False)


async def test_the_kit_finds_what_is_shared_or_forgotten() -> None:
    with pytest.raises(AssertionError, match="overwrite each other"):
        await check_checkpoints(Shared, lasting=False)
    with pytest.raises(AssertionError, match="a new store has None"):
        await check_checkpoints(MemoryCheckpoints)


# --- places


@pytest.mark.parametrize(
    ("place", "stream", "text"),
    [
        (41, "people", "41@people"),
        (NOWHERE, "a@b", "-1@a@b"),
        (Position(12, 10), ALL, "C:12/P:10@$all"),
        (Position(12, 10, inclusive=True), ALL, "C:12/P:10+@$all"),
    ],
)
def test_a_place_is_a_text_and_comes_back(place: int | Position, stream: str, text: str) -> None:
    assert text_of(place, stream) == text
    assert place_in(text, stream, "it") == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "41",
        "@people",
        "4 1@people",
        "-2@people",
        "99999999999999999999@people",
        f"{2**63}@people",
        "C:1/P:1@people",
    ],
)
def test_a_text_that_is_no_place_is_told(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint 'x' is damaged"):
        place_in(text, "people", "checkpoint 'x'")


def test_the_checkpoint_of_another_stream_is_told() -> None:
    with pytest.raises(CheckpointError, match=r"'x' is of a listener to 'orders', not to 'people': give this one"):
        place_in("41@orders", "people", "'x'")
    with pytest.raises(CheckpointError, match="damaged"):
        place_in("41@$all", ALL, "x")


# --- who has a name


@pytest.mark.parametrize("make", [in_file, in_sqlite])
async def test_a_name_of_one_file_is_held_once_whoever_asks(make: Callable[[Path], Checkpoints], path: Path) -> None:
    (path.parent / "link").symlink_to(path)
    async with make(path).hold("people"):
        for other in (make(path), make(path.parent / "link")):
            with pytest.raises(CheckpointError, match=r"'people' of <.*: another listener runs with it"):
                async with other.hold("people"):
                    pytest.fail("it was held twice")
    async with make(path).hold("people"):
        pass


# --- damaged files


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"people": 41}', b"\xff", b"[" * 100_000])
async def test_a_file_that_is_none_of_checkpoints_is_told_and_not_touched(content: bytes, path: Path) -> None:
    fill(path, content)
    for action in (in_file(path).load("people"), in_file(path).hold("people").__aenter__()):
        with pytest.raises(CheckpointError, match=r"čekpoint.db is no file of checkpoints, or damaged"):
            await action
    assert content_of(path) == content


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_database_is_told_and_not_touched(content: bytes, path: Path) -> None:
    fill(path, content)
    for action in (in_sqlite(path).load("people"), in_sqlite(path).hold("people").__aenter__()):
        with pytest.raises(CheckpointError, match=r"čekpoint.db (is no SQLite database, or damaged|cannot be used)"):
            await action
    assert content_of(path) == content


async def test_a_place_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    for store in (in_file(tmp_path), in_sqlite(tmp_path)):
        with pytest.raises(CheckpointError, match=f"{tmp_path.name} cannot be"):
            await store.load("people")
    file = in_file(tmp_path / "missing" / "file")
    async with file.hold("people"):
        with pytest.raises(CheckpointError, match="file cannot be written"):
            await file.store("people", "1@people")
    with pytest.raises(CheckpointError, match="cannot be used"):
        await in_sqlite(tmp_path / "missing" / "file").load("people")
    with pytest.raises(InvalidArgument, match=r"path: ':memory:'"):
        SqliteCheckpoints(":memory:")
    with pytest.raises(InvalidArgument, match=r"setup: near \"CRATE\""):
        await SqliteCheckpoints(tmp_path / "x", setup="CRATE TABLE", run_sync=run_inline).load("people")


# --- files


async def test_a_file_is_readable_and_replaced_as_a_whole(path: Path) -> None:
    store = in_file(path)
    async with store.hold("people"), store.hold("osobe"):
        await store.store("people", "1@people")
        before = number_of(path)
        await store.store("osobe", "2@osobe")
    assert json.loads(content_of(path)) == {"people": "1@people", "osobe": "2@osobe"}
    assert number_of(path) != before
    assert list(path.parent.iterdir()) == [path]


async def test_a_file_that_somebody_else_changes_is_told(path: Path) -> None:
    ours, theirs = in_file(path), in_file(path)
    async with ours.hold("people"), theirs.hold("orders"):
        await ours.store("people", "1@people")
        with pytest.raises(CheckpointError, match="was changed by somebody else"):
            await theirs.store("orders", "1@orders")
    assert await ours.load("people") == "1@people"


async def test_a_file_at_each_step_of_cancelling(path: Path) -> None:
    store = in_file(path)
    for step in range(1, 20):
        with cancelled_at(step, of_all=False) as cancelled:
            async with store.hold("people"):
                await store.store("people", f"{step}@people")
        async with store.hold("people"):
            assert await store.load("people") in (None, f"{step}@people", f"{step - 1}@people")
            await store.store("people", f"{step}@people")
        if not cancelled.reached:
            return
    pytest.fail("it never ends")


# --- SQLite: transactions


class Count:
    """Work that counts, and then does something else."""

    def __init__(self, *, then: Callable[[SqliteTransaction], Any] | None = None, done: bool = True) -> None:
        self._then = then
        self._done = done

    async def __call__(self, db: SqliteTransaction) -> bool:
        self.db = db
        sql = "INSERT INTO counts VALUES (?, 1) ON CONFLICT DO UPDATE SET many = many + 1"
        assert await db.execute(sql, ["all"]) == 1
        assert await db.executemany(sql, [["a"], ["b"]]) == 2
        if self._then is not None:
            await self._then(db)
        return self._done


def counted(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        ((total,),) = db.execute("SELECT ifnull(sum(many), 0) FROM counts")
    assert isinstance(total, int)
    return total


async def test_work_and_checkpoint_are_there_together(path: Path) -> None:
    store = in_sqlite(path)
    async with store.hold("people"):
        work = Count()
        assert await store.transact("people", "1@people", work)
        assert (await store.load("people"), counted(path)) == ("1@people", 3)
        # One without a checkpoint, and one that wants none of it.
        assert await store.transact("people", None, Count())
        assert not await store.transact("people", "2@people", Count(done=False))
        assert (await store.load("people"), counted(path)) == ("1@people", 6)
        with pytest.raises(RuntimeError, match="this transaction is over"):
            await work.db.execute("SELECT 1")
    with pytest.raises(RuntimeError, match="is stored by who holds it"):
        await store.store("people", "9@people")


async def fail(db: SqliteTransaction) -> None:
    raise KeyError


async def roll_back(db: SqliteTransaction) -> None:
    """As a careless handler may."""
    with pytest.raises(sqlite3.IntegrityError):
        await db.execute("INSERT OR ROLLBACK INTO counts VALUES ('all', 1)")


async def roll_back_and_go_on(db: SqliteTransaction) -> None:
    await roll_back(db)
    await db.fetchall("SELECT * FROM counts")


async def say(sql: str, db: SqliteTransaction) -> None:
    await db.execute(sql)


@pytest.mark.parametrize(
    ("then", "error"),
    [
        (fail, KeyError),
        (roll_back, CheckpointError),
        (roll_back_and_go_on, sqlite3.OperationalError),
        *((partial(say, sql), InvalidArgument) for sql in ("COMMIT", "rollback", "BEGIN", "end transaction")),
        (partial(say, "SELECT * FROM nothing"), sqlite3.OperationalError),
    ],
    ids=range(8),
)
async def test_what_fails_leaves_nothing(then: Any, error: type[Exception], path: Path) -> None:
    store = in_sqlite(path)
    async with store.hold("people"):
        await store.store("people", "1@people")
        with pytest.raises(error):
            await store.transact("people", "2@people", Count(then=then))
        assert (await store.load("people"), counted(path)) == ("1@people", 0)
        await store.transact("people", "2@people", Count(then=partial(say, "SAVEPOINT a")))
        assert counted(path) == 3


async def test_a_handler_sees_what_it_has_changed_and_may_have_tasks(path: Path) -> None:
    async def look(db: SqliteTransaction) -> None:
        assert await db.fetchall("SELECT what, many FROM counts WHERE what = :what", {"what": "a"}) == [("a", 1)]
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(say, "UPDATE counts SET many = many + 10", db)

    store = SqliteCheckpoints(path, setup=SETUP)
    async with store.hold("people"):
        await store.transact("people", "1@people", Count(then=look))
    assert counted(path) == 3 + 5 * 3 * 10


async def test_at_each_step_of_cancelling_both_are_there_or_neither(path: Path) -> None:
    store = in_sqlite(path)
    done = 0
    for step in range(1, 40):
        with cancelled_at(step, of_all=False) as cancelled:
            async with store.hold("people"):
                before = await store.load("people")
                await store.transact("people", f"{step}@people", Count())
        done += await store.load("people") == f"{step}@people"
        assert counted(path) == 3 * done, step
        if not cancelled.reached:
            assert before != f"{step}@people"
            assert done > 1
            return
    pytest.fail("it never ends")


async def test_two_listeners_of_two_processes_do_not_both_count(path: Path) -> None:
    """As another process would do it: with the same name, and no claim that we could see."""
    ours, theirs = in_sqlite(path), in_sqlite(path)
    async with ours.hold("people"), theirs._opened("people") as session:
        assert await ours.load("people") is await session.outside(type(session._database).load) is None
        await ours.transact("people", "0@people", Count())
        with pytest.raises(CheckpointError, match=r"'people' in .* is not where this listener left it"):
            await session.transact("0@people", Count())
        assert (await ours.load("people"), counted(path)) == ("0@people", 3)


async def test_who_writes_is_waited_for_but_not_for_ever(path: Path, autojump_clock: object) -> None:
    store = in_sqlite(path)
    async with store.hold("people"):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with trio.move_on_after(50) as scope:
                await store.store("people", "1@people")
            assert scope.cancelled_caught
            with pytest.raises(CheckpointError, match="database is locked"):
                await store.store("people", "1@people")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.store, "people", "2@people")
                await trio.sleep(5)
                other.execute("ROLLBACK")
        assert await store.load("people") == "2@people"


async def test_who_writes_is_waited_for_when_the_file_is_opened(path: Path, autojump_clock: object) -> None:
    store = SqliteCheckpoints(path, setup="CREATE TABLE IF NOT EXISTS more (number INTEGER)", run_sync=run_inline)
    async with in_sqlite(path).hold("other"):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with trio.move_on_after(50) as scope:
                await store.load("people")
            assert scope.cancelled_caught
            with pytest.raises(CheckpointError, match="database is locked"):
                await store.load("people")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hold, store)
                await trio.sleep(50)
                other.execute("ROLLBACK")
        assert await store.load("people") == "1@people"


async def hold(store: SqliteCheckpoints) -> None:
    async with store.hold("people"):
        await store.store("people", "1@people")
