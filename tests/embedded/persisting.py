"""`python -m tests.embedded.persisting FILE`: a node that keeps its log in a file, to be killed.

It prints its port, and runs until it is killed or its standard input ends.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING

import trio

from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


async def _serve(path: str) -> None:
    async with open_node(path=path) as node:
        print(node.port, flush=True)  # noqa: T201 - to the process that asked
        async for _ in trio.wrap_file(sys.stdin):
            pass


@contextmanager
def running_node(path: Path) -> Iterator[tuple[Popen[bytes], int]]:
    """The process, and its port. It is killed at the end, where it still runs."""
    command = [sys.executable, "-m", "tests.embedded.persisting", str(path)]
    with Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


if __name__ == "__main__":
    trio.run(_serve, sys.argv[1])
