from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.embedded.talk import append, new_event, new_events, read_log, read_stream, talk_to
from trio_extreme.embedded import StorageError, open_node, run_inline
from trio_extreme.embedded.sqlite_file import StoreFile
from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.embedded.storage import Batch
from trio_extreme.embedded.versions import find_version
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio.testing import MockClock

MALFORMED = r"is damaged \(.*malformed\): put a backup"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A node's file, with a few streams, closed."""
    path = tmp_path / "node.db"
    fill(path)
    return path


def fill(path: Path, version: str = "4.1.1") -> None:
    with closing(open_(path, version)) as storage:
        batch = Batch(storage)
        batch.mark(168)
        storage.add(batch)


def open_(path: Path, version: str = "4.1.1") -> SqliteStorage:
    return SqliteStorage(path, find_version(version))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The files of a folder, with the times when they were written to."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir() if file.is_file()}


@contextmanager
def refused(path: Path, match: str) -> Iterator[None]:
    """Opening is refused by one sentence that names the file, and changes nothing at all."""
    before = contents(path.parent)
    with pytest.raises(StorageError, match=match) as caught:
        open_(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.path == str(path)
    assert contents(path.parent) == before
    yield


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


# What is opened


def test_it_says_where_it_is(tmp_path: Path) -> None:
    file = StoreFile(tmp_path / "node.db", find_version("4.1.1"))
    assert repr(file) == f"<StoreFile {tmp_path / 'node.db'}>"
    file.release()


def test_a_new_file_is_made_and_an_old_one_opened(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    for end in (0, 168):
        with closing(open_(path)) as storage:
            assert (storage.end, storage.last_number("people")) == (end, -1)
            assert repr(storage) == f"<SqliteStorage at {path}: {end} bytes>"
        assert sorted(contents(tmp_path)) == ["node.db"]
        if not end:
            fill(path)


def test_its_header_says_whose_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (0x54724578,)
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT version, end FROM log").fetchall() == [("4.1.1", 168)]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_is_committed_waits_for_the_disk(path: Path) -> None:
    with closing(open_(path)) as storage:
        db = storage._writer._db
        assert [db.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous", "fullfsync")] == [
            ("wal",),
            (2,),
            (1,),
        ]


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    path.touch()
    fill(path)
    assert path.stat().st_size > 0


def test_a_draft_that_was_left_by_a_crash_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "node.db.new").write_bytes(b"half of it")
    fill(tmp_path / "node.db")
    assert sorted(contents(tmp_path)) == ["node.db"]


def test_what_a_killed_process_left_is_opened(path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from tests.embedded.test_sqlite_file import *\n"
        "storage = open_(Path(sys.argv[1])); batch = Batch(storage); batch.mark(100); storage.add(batch)\n"
        "storage.commit(storage.take()); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    assert sorted(contents(path.parent)) == ["node.db", "node.db-shm", "node.db-wal", "node.db.lock"]
    with closing(open_(path)) as storage:
        assert storage.end == 268
    assert sorted(contents(path.parent)) == ["node.db"]


def test_a_copy_that_sqlite_made_is_opened(path: Path) -> None:
    change(path, f"VACUUM INTO '{path}.copy'")
    with closing(open_(path.with_name("node.db.copy"))) as storage:
        assert storage.end == 168


@pytest.mark.parametrize(("written", "opened"), [("4.1.1", "5.0"), ("23.10", "4.1.1"), ("3.9.4", "3.9.4")])
def test_a_server_goes_on_with_anothers_log(tmp_path: Path, written: str, opened: str) -> None:
    fill(tmp_path / "node.db", written)
    with closing(open_(tmp_path / "node.db", opened)) as storage:
        assert storage.end == 168


# What is refused


def test_a_file_that_another_node_holds(path: Path) -> None:
    held = open_(path)
    with refused(path, f"is in use by another node, process {os.getpid()}: stop that one, or name another file"):
        held.close()
    open_(path).close()


def test_another_name_of_a_held_file(path: Path) -> None:
    (path.parent / "link.db").symlink_to(path)
    with closing(open_(path)), pytest.raises(StorageError, match="in use by another node"):
        open_(path.parent / "link.db")


@pytest.mark.parametrize("size", [1, 99, 100, 5000])
def test_what_is_no_database(tmp_path: Path, size: int) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"x" * size)
    with refused(path, "is no file of a node, or its beginning is damaged"):
        pass


def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    change(path, "PRAGMA application_id = 1", "CREATE TABLE events (id)")
    with refused(path, "is the database of another program: name another file"):
        pass


def test_a_newer_format(path: Path) -> None:
    change(path, "PRAGMA user_version = 2")
    with refused(path, "has format 2, and this release knows 1: open it with the release that wrote it"):
        pass


def test_a_truncated_file(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, size - 4096)
    with refused(path, rf"is damaged \(it has {size - 4096:,} bytes, and had {size:,}\): put a backup in its place"):
        pass


@pytest.mark.parametrize("content", [None, b""])
def test_a_write_ahead_log_without_its_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "node.db"
    if content is not None:
        path.write_bytes(content)
    (tmp_path / "node.db-wal").write_bytes(b"x")
    with refused(path, "its write-ahead log is there, and nothing else of it"):
        pass


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DROP TABLE marks", "its marks is missing"),
        ("DROP INDEX events_by_place", "its events_by_place is missing"),
        ("ALTER TABLE events ADD COLUMN more", "its events is missing, or another one"),
        ("DELETE FROM log", "it does not say where its log ends"),
    ],
)
def test_tables_that_are_not_ours(path: Path, statement: str, why: str) -> None:
    change(path, statement)
    with refused(path, why):
        pass


def test_tables_of_others_are_let_be(path: Path) -> None:
    change(path, "CREATE TABLE mine (x)", "ANALYZE")
    open_(path).close()


def test_damaged_tables(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    with refused(path, "is damaged"):
        pass


@pytest.mark.parametrize(("written", "opened"), [("3.9.4", "4.1.1"), ("4.1.1", "3.9.4")])
def test_the_log_of_a_server_that_tells_deleted_streams_otherwise(tmp_path: Path, written: str, opened: str) -> None:
    path = tmp_path / "node.db"
    fill(path, written)
    match = f"was written as Event Store {written}: open it as that version, not as {opened}"
    with pytest.raises(StorageError, match=match):
        open_(path, opened)


def test_a_version_that_this_release_does_not_know(path: Path) -> None:
    change(path, "UPDATE log SET version = '26.0'")
    with refused(path, "was written as Event Store 26.0"):
        pass


def test_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with refused(path, "cannot be read"):
        pass


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none" / "node.db", tmp_path / "file" / "node.db"):
        with pytest.raises(
            StorageError, match=f"{path} cannot be locked .*: name a file in a folder that can be written"
        ):
            open_(path)


def test_a_disk_without_room_for_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trio_extreme.embedded.sqlite_file.os.fsync", fail)
    with pytest.raises(StorageError, match=r"cannot be made .*No space left"):
        open_(tmp_path / "node.db")


# Damage that is found later


@pytest.fixture
async def damaged(tmp_path: Path, autojump_clock: MockClock) -> Path:
    """A file of which the beginning is fine, and most of the rest is not."""
    path = tmp_path / "node.db"
    async with open_node(port=None, path=path, run_sync=run_inline) as node:
        talk = await talk_to(node)
        for _ in range(20):
            await talk.ask(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(3000)) for _ in range(10)]))
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096 * 100)
    return path


async def test_damage_ends_the_node_and_is_no_bad_request(damaged: Path) -> None:
    replies = []
    with pytest.raises(StorageError, match=MALFORMED) as caught:  # noqa: PT012 - of the block
        async with open_node(port=None, path=damaged, run_sync=run_inline) as node:
            # Two at once find it, and one error is told.
            talks = [await talk_to(node) for _ in range(2)]
            for talk in talks:
                await talk.tell(Command.READ_STREAM_EVENTS_FORWARD, read_stream("people"))
                await talk.tell(Command.READ_ALL_EVENTS_FORWARD, read_log())
            for talk in talks:
                replies += await talk.hear_for(5)
    assert caught.value.path == str(damaged)
    assert {reply and reply.command for reply in replies} <= {None}


async def test_damage_that_projections_find_ends_the_node(damaged: Path) -> None:
    with pytest.raises(StorageError, match=MALFORMED):
        async with open_node(port=None, path=damaged, projections=True, run_sync=run_inline):
            await trio.sleep_forever()


async def test_a_file_may_be_named_by_anything_that_names_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for count, path in enumerate(["node.db", tmp_path / "node.db", "./node.db"]):
        async with open_node(port=None, path=path) as node:
            talk = await talk_to(node)
            reply = await talk.ask(Command.WRITE_EVENTS, append("people", new_events(1), count - 1))
            assert reply is not None
            assert reply.message.first_event_number == count
    assert await trio.Path(tmp_path / "node.db").exists()
