"""A lock that two nodes cannot have at once, and that no crash leaves behind: the system frees it with its process.

It is on a file of its own beside what it protects: SQLite's locks on the database itself would get in its way.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30
    """The byte that is locked. Nobody can read it, so it is not one of those that say who has the lock."""

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        # Of the descriptor, and not of the process as `lockf` has it: two nodes may be in one process.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Held(Exception):
    """Another has the lock: the process of this id, where that can be told."""

    def __init__(self, process: int | None) -> None:
        super().__init__(process)
        self.process = process


class FileLock:
    """The lock that the file at `path` stands for, from now until `release`.

    Raises `Held` where another has it, and `OSError` where the file cannot be made or locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = _open_locked(path)
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, b"%d\n" % os.getpid())

    def __repr__(self) -> str:
        return f"<FileLock {self._path}>"

    def release(self) -> None:
        """Give it back, and remove the file."""
        if sys.platform == "win32":
            # An open file cannot be removed there, nor can one that somebody else has opened meanwhile.
            os.close(self._descriptor)
            with suppress(OSError):
                self._path.unlink()
        else:
            # While it is locked: nobody can have this file and believe that it has the lock.
            with suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(descriptor)
            # Who had it before may have removed the file after we had opened it: then others lock another file.
            if _is_at(path, descriptor):
                return descriptor
        except (BlockingIOError, PermissionError):
            held = Held(_read_process(descriptor))
            os.close(descriptor)
            raise held from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read_process(descriptor: int) -> int | None:
    try:
        return int(os.read(descriptor, 20))
    except (OSError, ValueError):
        return None
