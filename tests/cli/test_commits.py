"""Commits, byte for byte, from what git says."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
import trio

from tests.cli.repositories import git, make_repository
from trio_extreme.cli.commits import Commit, CommitReader, find_repository, read_commits
from trio_extreme.cli.failures import CommandFailed

if TYPE_CHECKING:
    from pathlib import Path


def raw_commit(author: bytes = b"Pera <pera@example.org> 1 +0000", message: bytes = b"Some work\n") -> bytes:
    return b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor %s\ncommitter c <c> 1 +0000\n\n%s" % (
        author,
        message,
    )


def said(raw: bytes) -> bytes:
    """What `git cat-file --batch` says of a commit."""
    name = hashlib.sha1(b"commit %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
    return b"%s commit %d\n%s\n" % (name.encode(), len(raw), raw)


class Chunks(trio.abc.ReceiveStream):
    """A stream that gives these bytes a few at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        chunk, self._data = self._data[: self._size], self._data[self._size :]
        return chunk

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
async def test_commits_come_whole_however_they_are_split(size: int) -> None:
    raws = [raw_commit(message=b"\n" * number + b"\0\xff") for number in range(5)]
    reader = CommitReader(Chunks(b"".join(map(said, raws)), size))
    first = await reader.take(2, 10_000)
    rest = await reader.take(100, 10_000)
    assert [commit.raw for commit in first + rest] == raws
    assert len(first) == 2
    assert await reader.take(100, 10_000) == []


async def test_a_list_ends_where_it_has_bytes_enough() -> None:
    reader = CommitReader(Chunks(said(raw_commit(message=b"x" * 1000)) * 5, 10_000))
    assert [len(await reader.take(10, 2000)) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (said(raw_commit())[:-10], "git stopped in the middle"),
        (b"abc", "git stopped in the middle"),
        (b"%s missing\n" % (b"a" * 40), "git cannot read commit aaaa"),
        (b"%s tree 0\n\n" % (b"a" * 40), "git cannot read commit aaaa"),
        (b"%s commit 1\nx\n" % (b"a" * 40), "is damaged"),
        (b"%s commit 99999999\nx\n" % (b"a" * 40), "more than an event may have"),
    ],
)
async def test_what_git_should_not_say(data: bytes, words: str) -> None:
    with pytest.raises(CommandFailed, match=words):
        await CommitReader(Chunks(data, 50)).take(10, 10_000)


@pytest.mark.parametrize(
    ("author", "person"),
    [
        (b"Pera Peri\xc4\x87 <pera@example.org>", "pera perić"),
        (b"PERA   peri\xc4\x87 <other@example.org>", "pera perić"),
        (b"Pera Peri\xe6 <pera@example.org>", "pera periæ"),
        (b" <Pera@Example.org>", "pera@example.org"),
        (b"<>", "nobody"),
        (b"", "nobody"),
        (b"Pera", "pera"),
    ],
)
def test_whose_it_is(author: bytes, person: str) -> None:
    assert Commit("", raw_commit(author)).author == person


def test_a_commit_of_nobody() -> None:
    assert Commit("", b"tree x\n\nauthor Pera <p>").author == "nobody"


def test_what_is_a_merge() -> None:
    assert not Commit("", b"tree x\nparent a\nauthor p\n\nparent b\nparent c").is_merge
    assert Commit("", b"tree x\nparent a\nparent b\nauthor p\n\n").is_merge


async def test_the_commits_of_a_repository_are_those_of_git(tmp_path: Path) -> None:
    make_repository(tmp_path, [b"a <a>", b"b <b>", b"c <c>"], message=b"\xff\0 odd \n\n")
    repository = await find_repository(tmp_path)
    assert (repository.name, repository.total, repository.shallow) == (tmp_path.name, 3, False)
    async with read_commits(repository, 2) as reader:
        commits = await reader.take(10, 10_000)
    assert [commit.id for commit in commits] == git(tmp_path, "rev-list", "--reverse", "HEAD").split()[1:]
    assert commits[0].raw.endswith(b"\n\n\xff\0 odd \n\n")


async def test_git_is_gone_when_the_block_is_left_early(tmp_path: Path) -> None:
    make_repository(tmp_path, [b"a <a>"] * 3)
    async with read_commits(await find_repository(tmp_path), 3):
        pass
