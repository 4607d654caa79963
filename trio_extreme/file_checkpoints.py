"""Checkpoints in a small JSON file, which is there as a whole whatever happens: the old one, or the new one."""

from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_extreme.checkpoints import Checkpoints
from trio_extreme.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from trio_extreme.checkpoints import RunSync


class FileCheckpoints(Checkpoints):
    """A store in a JSON file, `{"people": "41@people"}`, made when the first checkpoint is stored.

    What is stored survives a crash and a power cut: each time the file is written anew beside the old one, flushed to
    the disk, and put in its place. That takes milliseconds, so with many events give the listener a
    `checkpoint_events`. The disk is waited for in a thread, by `run_sync`. One process at a time uses a file; of two,
    one finds that it was changed by another, and raises `CheckpointError`, as for a file that is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, run_sync: RunSync = trio.to_thread.run_sync) -> None:
        self._path = Path(path).absolute()
        self._run_sync = run_sync
        # Names of one file are stored one after the other.
        self._turn = trio.Lock()
        self._holders = 0
        # What is in the file while somebody holds a name of it.
        self._known: bytes | None = None

    def __repr__(self) -> str:
        return f"<FileCheckpoints {self._path}>"

    @property
    def _identity(self) -> Hashable:
        return self._path.resolve()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Have the name for oneself. Raises `CheckpointError` where another listener has it, or the file is damaged."""
        async with super().hold(name):
            async with self._turn:
                if not self._holders:
                    self._known = await self._run_sync(_read, self._path)
                _parse(self._known, self._path)
                self._holders += 1
            try:
                yield
            finally:
                self._holders -= 1

    async def load(self, name: str) -> str | None:
        """What was stored last under this name, None where nothing was. Raises `CheckpointError` for a damaged file."""
        return _parse(await self._run_sync(_read, self._path), self._path).get(name)

    async def store(self, name: str, checkpoint: str) -> None:
        """Write the file anew. Cancelled, it is seen through, or was not begun."""
        async with self._turn:
            texts = {**_parse(self._known, self._path), name: checkpoint}
            data = json.dumps(texts, ensure_ascii=False, indent=1).encode() + b"\n"
            await self._run_sync(_replace, self._path, self._known, data)
            self._known = data


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"{path} cannot be read ({error.strerror}): see to its permissions, or name another file for checkpoints"
        raise CheckpointError(msg) from error


def _parse(data: bytes | None, path: Path) -> dict[str, str]:
    if data is None:
        return {}
    try:
        texts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "it is not JSON") from error
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise _damaged(path, "it is no object of texts by names")
    return texts


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is no file of checkpoints, or damaged ({why}): mend it, or name another file")


def _replace(path: Path, before: bytes | None, after: bytes) -> None:
    """Put new content in the place of what we know is there."""
    if _read(path) != before:
        msg = f"{path} was changed by somebody else: one FileCheckpoints at a time uses a file; name another file"
        raise CheckpointError(msg)
    draft = path.with_name(path.name + ".new")
    try:
        with draft.open("wb") as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror}): see to its disk and its permissions, or name another file"
        raise CheckpointError(msg) from error


def _sync_folder(path: Path) -> None:
    """Have the new name survive a power cut; Windows has no such thing, and needs none."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
