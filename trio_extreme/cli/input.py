"""Standard input, in lines."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

import trio

from trio_extreme.cli.failures import CommandFailed

STDIN = 0
CHUNK = 256 * 1024
MAX_LINE = 64 * 1024 * 1024
"""Bytes of a line; no event that a server takes needs more."""


class Line(NamedTuple):
    """A line and its place in the input, counted from 1."""

    number: int
    text: bytes


class Lines:
    """The lines of standard input that are not blank, as they come: a slow writer's are not held back.

    Read in a thread, because waiting for a terminal must not stop the rest; past Python's own buffers, whose locks a
    thread that was left behind would hold at exit.
    """

    def __init__(self) -> None:
        if sys.stdin is None:
            msg = "standard input is closed"
            raise CommandFailed(msg, "the same with events on standard input, one JSON object a line")
        self._rest = b""
        self._ready: list[Line] = []
        self._count = 0
        self._ended = False

    async def take(self, most: int) -> list[Line]:
        """The next lines, `most` at most; none at the end."""
        await trio.lowlevel.checkpoint()
        while not self._ready and not self._ended:
            await self._read()
        taken, self._ready = self._ready[:most], self._ready[most:]
        return taken

    async def _read(self) -> None:
        pieces = [self._rest]
        while True:
            chunk = await trio.to_thread.run_sync(os.read, STDIN, CHUNK, abandon_on_cancel=True)
            pieces.append(chunk)
            if not chunk or b"\n" in chunk:
                break
            self._check(sum(map(len, pieces)))
        self._ended = not chunk
        *lines, self._rest = b"".join(pieces).split(b"\n")
        if self._ended:
            lines.append(self._rest)
        for line in lines:
            self._count += 1
            if line.strip():
                self._ready.append(Line(self._count, line))

    def _check(self, size: int) -> None:
        if size > MAX_LINE:
            msg = f"line {self._count + 1} of the input is longer than {MAX_LINE:,} bytes"
            raise CommandFailed(msg, "one JSON object a line")
