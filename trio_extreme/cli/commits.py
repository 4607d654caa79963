"""The commits of a git repository, byte for byte as git stores them, as a stream that fits in any memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_extreme.cli.failures import CommandFailed
from trio_extreme.events import MAX_EVENT_SIZE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# Where these are set (in a hook), they would mean more to git than the folder that was named.
_IN_THE_WAY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NAMESPACE")
_HASHES = {40: "sha1", 64: "sha256"}
NOBODY = "nobody"
HEAD = 128
"""Bytes in which the first line of each commit ends, in what `git cat-file` says."""
METADATA = 64 * 1024
"""Bytes that an event leaves to its metadata and type."""


class Commit(NamedTuple):
    """A commit: its id, and the bytes whose hash that is."""

    id: str
    raw: bytes

    @property
    def is_merge(self) -> bool:
        """Whether it has more than one parent."""
        return self._header().count(b"\nparent ") > 1

    @property
    def author(self) -> str:
        """Whose it is, as one name for one person: `git shortlog` too goes by the name, not by the address.

        Case and spaces do not count. Without a name it is the address, without that `nobody`.
        """
        for line in self._header().split(b"\n"):
            if line.startswith(b"author "):
                name, _, rest = line[7:].partition(b"<")
                return _person(name) or _person(rest.partition(b">")[0]) or NOBODY
        return NOBODY

    def _header(self) -> bytes:
        return self.raw.partition(b"\n\n")[0]


def _person(words: bytes) -> str:
    try:
        text = words.decode()
    except UnicodeDecodeError:
        # Old commits: each byte is some letter in it, so that two people stay two.
        text = words.decode("latin-1")
    return " ".join(text.replace("\0", " ").casefold().split())


def commit_hash(raw: bytes, id_length: int) -> bytes:
    """The id that git gives to a commit of these bytes."""
    return hashlib.new(_HASHES[id_length], b"commit %d\0" % len(raw) + raw, usedforsecurity=False).digest()


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository, at the commit that was its newest when we looked."""

    path: Path
    name: str
    head: str
    total: int
    shallow: bool


async def find_repository(folder: Path) -> Repository:
    """The repository that a folder is in. Raises `CommandFailed` where there is none, or nothing in it."""
    try:
        top = await _ask(folder, "rev-parse", "--absolute-git-dir")
    except FileNotFoundError as error:
        msg = "git is not installed, or not in PATH"
        raise CommandFailed(msg, "the same once it is: the demo reads the commits with it") from error
    if top is None:
        msg = f"{folder} is no git repository, or one that git refuses to read"
        raise CommandFailed(msg, f"trio-extreme demo FOLDER with one that is; `git -C {folder} status` says more")
    head = await _ask(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head is None:
        msg = f"the repository {folder} has no commits: nothing can be shown"
        raise CommandFailed(msg, f"git -C {folder} commit --allow-empty -m 'The first'; or trio-extreme demo FOLDER")
    shallow = await _ask(folder, "rev-parse", "--is-shallow-repository") == "true"
    total = int(await _ask(folder, "rev-list", "--count", head) or 0)
    return Repository(folder, _name_of(top), head, total, shallow)


def _name_of(git_dir: str) -> str:
    path = Path(git_dir)
    folder = path.parent if path.name == ".git" else path
    return os.fsencode(folder.name.removesuffix(".git")).decode("utf-8", "replace") or "repository"


async def _ask(folder: Path, *arguments: str) -> str | None:
    """What git answers; None where it refuses."""
    command = _git(folder, *arguments)
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False, env=_environment())
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else None


def _git(folder: Path, *arguments: str) -> list[str]:
    # Replaced commits would come under the id of another.
    return ["git", "--no-replace-objects", "-C", str(folder), *arguments]


def _environment() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _IN_THE_WAY}


class CommitReader:
    """Commits from the oldest to the newest, read from `git cat-file --batch`."""

    def __init__(self, output: trio.abc.ReceiveStream) -> None:
        self._output = output
        self._buffer = bytearray()

    async def take(self, most: int, size: int) -> list[Commit]:
        """The next commits: `most` at most, and no more once they have `size` bytes. None at the end."""
        await trio.lowlevel.checkpoint()
        commits: list[Commit] = []
        while len(commits) < most and size > 0:
            commit = self._cut()
            if commit is not None:
                commits.append(commit)
                size -= len(commit.raw)
            elif not await self._read_more():
                break
        return commits

    def _cut(self) -> Commit | None:
        """The first commit of the buffer, `ID commit SIZE`, its bytes, a line end; None where it is not all there."""
        head, line_end, _ = self._buffer[:HEAD].partition(b"\n")
        if not line_end:
            return None
        name, kind, size = (*head.decode().split(" "), "")[:3]
        if kind != "commit":
            msg = f"git cannot read commit {name}"
            raise CommandFailed(msg, "git fsck, in that repository")
        if int(size) > MAX_EVENT_SIZE - METADATA:
            msg = f"commit {name} has {int(size):,} bytes, more than an event may have"
            raise CommandFailed(msg, "the same with a --count that leaves it out")
        first = len(head) + 1
        last = first + int(size)
        if len(self._buffer) <= last:
            return None
        raw = bytes(self._buffer[first:last])
        del self._buffer[: last + 1]
        if commit_hash(raw, len(name)).hex() != name:
            msg = f"commit {name} is damaged: its bytes have another hash"
            raise CommandFailed(msg, "git fsck, in that repository")
        return Commit(name, raw)

    async def _read_more(self) -> bool:
        chunk = await self._output.receive_some(64 * 1024)
        self._buffer += chunk
        if self._buffer and not chunk:
            msg = "git stopped in the middle of a commit"
            raise CommandFailed(msg, "the same again")
        return bool(chunk)


@asynccontextmanager
async def read_commits(repository: Repository, count: int) -> AsyncIterator[CommitReader]:
    """The newest `count` commits, oldest first. Git runs as long as the block."""
    listing = _git(repository.path, "rev-list", "--reverse", f"--max-count={count}", repository.head)
    reading = _git(repository.path, "cat-file", "--batch", "--buffer")
    read_end, write_end = os.pipe()
    try:
        lister = await trio.lowlevel.open_process(listing, stdout=write_end, env=_environment())
        reader = await trio.lowlevel.open_process(reading, stdin=read_end, stdout=subprocess.PIPE, env=_environment())
    finally:
        os.close(read_end)
        os.close(write_end)
    assert reader.stdout is not None
    try:
        yield CommitReader(reader.stdout)
    finally:
        for process in (lister, reader):
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
        with trio.CancelScope(shield=True):
            await reader.stdout.aclose()
