from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trio_extreme.embedded.lock import FileLock, Held

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from trio_extreme.embedded.lock import FileLock
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.db.lock"


def test_nothing_is_left_open_where_it_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    close = os.close

    def note(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    def fail(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("trio_extreme.embedded.lock._is_at", fail)
    monkeypatch.setattr(os, "close", note)
    with pytest.raises(KeyboardInterrupt):
        FileLock(path)
    assert len(closed) == 1
    monkeypatch.undo()
    FileLock(path).release()


def test_only_one_has_it(path: Path) -> None:
    lock = FileLock(path)
    assert repr(lock) == f"<FileLock {path}>"
    with pytest.raises(Held) as held:
        FileLock(path)
    assert held.value.process == os.getpid()
    lock.release()
    assert not path.exists()
    FileLock(path).release()


def test_it_dies_with_its_process(path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Held) as held:
            FileLock(path)
        assert held.value.process == process.pid
        process.kill()
    assert path.exists()
    lock = FileLock(path)
    assert int(path.read_bytes()) == os.getpid()
    lock.release()


def test_who_cannot_be_told_is_not_named(path: Path) -> None:
    lock = FileLock(path)
    path.write_bytes(b"")
    with pytest.raises(Held) as held:
        FileLock(path)
    assert held.value.process is None
    lock.release()


def test_a_file_that_was_removed_before_it_was_locked_locks_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    really_open = os.open

    def open_late(path: Path, *options: int) -> int:
        """The first time, who had the lock removes the file, and another makes it again, before we lock it."""
        descriptor = really_open(path, *options)
        opened.append(descriptor)
        if len(opened) == 1:
            path.unlink()
        return descriptor

    monkeypatch.setattr("trio_extreme.embedded.lock.os.open", open_late)
    lock = FileLock(path)
    assert len(opened) == 2
    assert path.exists()
    with pytest.raises(Held):
        FileLock(path)
    lock.release()


def test_what_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "nowhere" / "lock")
