"""A node on a real port, and the command line as users run it: with pipes, or at a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import trio

from trio_extreme import open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trio_extreme import NewEvent, Settings
    from trio_extreme.embedded import Node

TIMEOUT = 20


class Server:
    """A node that runs in a thread of its own."""

    def __init__(self, version: str = "4.1.1", *, projections: bool = False) -> None:
        self._version = version
        self._projections = projections
        self._started = threading.Event()
        self._node: Node
        self._token: trio.lowlevel.TrioToken
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._run,))

    async def _run(self) -> None:
        async with open_node(version=self._version, projections=self._projections) as self._node:
            self._token = trio.lowlevel.current_trio_token()
            self._started.set()
            with self._scope:
                await trio.sleep_forever()

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(TIMEOUT)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._token.run_sync_soon(self._scope.cancel)
            self._thread.join(TIMEOUT)

    @property
    def settings(self) -> Settings:
        return self._node.settings

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._node.port}"

    @property
    def url(self) -> str:
        return f"eventstore://{self.address}"

    @property
    def admin_url(self) -> str:
        return f"eventstore://admin:changeit@{self.address}"

    @property
    def web_url(self) -> str:
        """As admin, with the port of its web interface."""
        return f"{self.admin_url}?http_port={self._node.http_port}"

    def restart(self, down: float = 0.0) -> None:
        """Its log is kept; its connections are not."""
        self._token.run_sync_soon(self._node.faults.restart, down)

    def append(self, stream: str, *events: NewEvent) -> None:
        async def append() -> None:
            async with open_connection(self.settings) as conn:
                await conn.append(stream, events)

        trio.run(append)

    def delete(self, stream: str, *, hard: bool) -> None:
        async def delete() -> None:
            async with open_connection(self.settings) as conn:
                await conn.delete_stream(stream, expected=-2, hard=hard)

        trio.run(delete)


@dataclass
class Result:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Not `splitlines`, to which other characters end a line too."""
        return self.out.removesuffix("\n").split("\n") if self.out else []


@contextmanager
def standard_input(path: Path) -> Iterator[None]:
    """The file as descriptor 0."""
    saved = os.dup(0)
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


@contextmanager
def _killed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """At the end, or when it took too long: then whoever waits for its output waits no longer."""
    alarm = threading.Timer(TIMEOUT, process.kill)
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()
        process.kill()


@contextmanager
def started(
    *arguments: str, program: Sequence[str] = (sys.executable, "-m", "trio_extreme"), **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process of its own, with pipes."""
    command = [*program, *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **{**pipes, **options}) as process, _killed(process):
        yield process


def finished(process: subprocess.Popen[bytes]) -> Result:
    """Its end."""
    out, err = process.communicate(timeout=TIMEOUT)
    assert b"Traceback" not in err, err
    return Result(process.returncode, (out or b"").decode(), err.decode())


_AT_TERMINAL = """
import os, pty, signal, sys
# Where the tests run in the background, a shell may have had Ctrl-C ignored, and nohup that the terminal goes away.
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
status = pty.spawn([sys.executable, "-m", "trio_extreme", *sys.argv[1:]])
sys.exit(os.waitstatus_to_exitcode(status))
"""


@contextmanager
def at_terminal(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a terminal of its own: what it shows comes out of `stdout`, what is typed goes into `stdin`."""
    command = [sys.executable, "-c", _AT_TERMINAL, *arguments]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", **environment}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=environment) as process, _killed(process):
        yield process


def shown(process: subprocess.Popen[bytes]) -> Result:
    """What the terminal showed until the command ended."""
    assert process.stdout is not None
    out = process.stdout.read()
    code = process.wait(TIMEOUT)
    assert b"Traceback" not in out, out
    return Result(code, out.decode(), "")


def read_until(stream: IO[bytes] | None, words: bytes) -> bytes:
    """What comes on its output, up to these words."""
    assert stream is not None
    found = b""
    while words not in found:
        chunk = os.read(stream.fileno(), 4096)
        assert chunk, found
        found += chunk
    return found
