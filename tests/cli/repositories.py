"""Git repositories for tests, with whatever commits can hold."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# The ones of whoever runs the tests: signing, hooks, names of branches.
ISOLATED = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, input=stdin, check=True, capture_output=True, env={**os.environ, **ISOLATED})
    return done.stdout.decode("utf-8", "replace").strip()


def make_repository(
    folder: Path, authors: Iterable[bytes], *, init: tuple[str, ...] = (), message: bytes = b"Some work\n"
) -> None:
    """A repository with a commit for each of these authors, which are raw: `Pera <pera@example.org>`."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "--quiet", *init)
    tree = git(folder, "mktree")
    parents = b""
    head = ""
    for number, author in enumerate(authors):
        when = b"%d +0100" % (1_700_000_000 + number)
        raw = b"tree %s\n%sauthor %s %s\ncommitter c <c@example.org> %s\n\n%s" % (
            tree.encode(),
            parents,
            author,
            when,
            when,
            message,
        )
        head = git(folder, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=raw)
        parents = b"parent %s\n" % head.encode()
    if head:
        git(folder, "update-ref", "HEAD", head)


def make_large_repository(folder: Path, commits: int) -> None:
    """One that takes a while."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    one = b"commit HEAD\ncommitter c <c@example.org> %d +0000\ndata 5\nhello\n"
    git(folder, "fast-import", "--quiet", stdin=b"".join(one % (1_700_000_000 + number) for number in range(commits)))
