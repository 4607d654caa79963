"""`python -m tests.soak.node`: an embedded node behind a proxy, and the faults of both, in processes of their own.

The node keeps its log in a file, and is killed and started again on it (`victim`); this process has the proxy. It
prints `{"port": …}`, then answers each line of standard input with a line of JSON: `storm` begins the faults, `calm`
ends them, `report` only tells what happened. At the end of standard input it stops.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from subprocess import PIPE
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import trio

from tests.soak.census import count_descriptors
from tests.soak.proxy import Proxy, listen
from tests.soak.victim import Victim
from tests.soak.weather import Weather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

RATE = 1.0
"""Faults of the network a second, and as many of the node."""
LONGEST = 2.0
"""Seconds a fault lasts at most."""
KILLS = 0.25
"""How often the node is killed, for each fault of the network."""


class _Command:
    """What the process does when it is told to."""

    def __init__(self, victim: Victim, proxy: Proxy, nursery: trio.Nursery, arguments: argparse.Namespace) -> None:
        self._victim = victim
        self._proxy = proxy
        self._nursery = nursery
        self._rate = arguments.rate
        self._longest = arguments.longest
        self._random = Random(arguments.seed)
        self._weather = Weather(proxy)
        self._storm = trio.CancelScope()
        self._is_calm = trio.Event()

    async def obey(self, command: str) -> dict[str, Any]:
        if command == "storm":
            self._storm, self._is_calm = trio.CancelScope(), trio.Event()
            self._nursery.start_soon(self._blow)
        elif command == "calm":
            self._storm.cancel()
            await self._is_calm.wait()
        return self._report()

    async def _blow(self) -> None:
        rate, longest = self._rate, self._longest
        with self._storm:
            async with trio.open_nursery() as nursery:
                random = Random(self._random.getrandbits(64))
                nursery.start_soon(partial(self._weather.storm, random, rate=rate, longest=longest))
                nursery.start_soon(partial(self._victim.haunt, rate=rate * KILLS, longest=longest / 2))
        self._is_calm.set()

    def _report(self) -> dict[str, Any]:
        faults = self._weather.counts + self._victim.counts
        return {"faults": dict(faults), "links": self._proxy.links, "descriptors": count_descriptors()}


async def _serve(arguments: argparse.Namespace) -> None:
    random = Random(arguments.seed)
    # Like the proxy's port, and for the same reason, not one that a client could have.
    async with await listen(random) as listener:
        port = listener.socket.getsockname()[1]
    with TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            victim = Victim(port, f"{folder}/node.db", random, arguments)
            proxy = Proxy(port, random)
            await nursery.start(victim.run)
            await nursery.start(proxy.run)
            command = _Command(victim, proxy, nursery, arguments)
            _say({"port": proxy.port})
            async for line in trio.wrap_file(sys.stdin):
                _say(await command.obey(line.strip()))
            nursery.cancel_scope.cancel()


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - to the process that asked


class NodeProcess:
    """The process, from outside."""

    def __init__(self, process: trio.Process, port: int, rest: bytes) -> None:
        self._process = process
        self._rest = rest
        #: The proxy's.
        self.port = port

    async def tell(self, command: str) -> dict[str, Any]:
        """Give a command, and return what is reported."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        await self._process.stdin.send_all(command.encode() + b"\n")
        answer, self._rest = await _read_line(self._process.stdout, self._rest)
        return answer


async def _read_line(stream: trio.abc.ReceiveStream, data: bytes) -> tuple[dict[str, Any], bytes]:
    while b"\n" not in data:
        chunk = await stream.receive_some()
        assert chunk, "the node's process has ended"
        data += chunk
    line, _, rest = data.partition(b"\n")
    return json.loads(line), rest


@asynccontextmanager
async def running_node(*options: str) -> AsyncIterator[NodeProcess]:
    """A node in a process of its own, which ends with this block, however that ends."""
    command = [sys.executable, "-m", "tests.soak.node", *options]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdin=PIPE, stdout=PIPE))
        answer, rest = await _read_line(process.stdout, b"")
        yield NodeProcess(process, answer["port"], rest)
        await process.stdin.aclose()


def _main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.node", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--version", default="4.1.1", help="the server that the node is")
    parser.add_argument("--rate", type=float, default=RATE, help="faults a second of the network, and of the node")
    parser.add_argument("--longest", type=float, default=LONGEST, help="seconds a fault lasts at most")
    parser.add_argument("--verbose", action="store_true", help="tell each fault on standard error")
    parsed = parser.parse_args(arguments)
    if parsed.verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(message)s", datefmt="%H:%M:%S")
    trio.run(_serve, parsed)


if __name__ == "__main__":
    _main()
