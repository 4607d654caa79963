"""Standard output: results and nothing else, whole lines, in bytes."""

from __future__ import annotations

import os

import trio

STDOUT = 1


def is_terminal() -> bool:
    """Whether a human reads the results."""
    return os.isatty(STDOUT)


async def write(data: bytes) -> None:
    """Write all of it. Raises `BrokenPipeError` where nobody reads any more.

    In a thread, because a full pipe (`| less`) must not keep the connection from answering heartbeats. Past Python's
    own buffers, whose locks a thread that was left behind would hold at exit.
    """
    await trio.to_thread.run_sync(_write_all, data, abandon_on_cancel=True)


def _write_all(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(STDOUT, rest) :]
