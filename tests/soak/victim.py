"""`python -m tests.soak.victim`: an embedded node with a file, in a process that is made to be killed.

It prints `{"ready": true}` when it listens, and then a line for each fault that it begins. `storm` on standard input
begins them, `calm` ends them, and is answered when that is so. At the end of standard input it stops.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from math import inf
from random import Random
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme.embedded import Node, open_node

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

SIGKILL = "node SIGKILL"
"""What a kill is counted as."""


class _Storm:
    """The faults of the node itself, told as they begin."""

    def __init__(self, node: Node, arguments: argparse.Namespace) -> None:
        self._faults = node.faults
        self._random = Random(arguments.seed)
        self._rate, self._longest = arguments.rate, arguments.longest
        self._scope = trio.CancelScope()
        self._told = 0

    async def blow(self) -> None:
        self._scope = trio.CancelScope()
        with self._scope:
            await self._faults.play(self._random, seconds=inf, rate=self._rate, longest=self._longest)

    def calm(self) -> None:
        self._scope.cancel()

    async def tell(self) -> None:
        while True:
            await trio.sleep(0.1)
            for happening in self._faults.history[self._told :]:
                if happening.details != "over" and "hit" not in happening.details:
                    _say({"fault": f"node {happening.name}"})
            self._told = len(self._faults.history)


async def _serve(arguments: argparse.Namespace) -> None:
    async with (
        open_node(port=arguments.port, version=arguments.version, path=arguments.path) as node,
        trio.open_nursery() as nursery,
    ):
        storm = _Storm(node, arguments)
        nursery.start_soon(storm.tell)
        _say({"ready": True})
        async for line in trio.wrap_file(sys.stdin):
            if line.strip() == "storm":
                nursery.start_soon(storm.blow)
            else:
                storm.calm()
                _say({"calm": True})
        nursery.cancel_scope.cancel()


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - to the process that asked


class Victim:
    """The process, from outside. What happens to it is counted."""

    def __init__(self, port: int, path: str, random: Random, arguments: argparse.Namespace) -> None:
        self._options = [f"--port={port}", f"--path={path}"]
        self._options += [f"--{name}={getattr(arguments, name)}" for name in ("version", "rate", "longest")]
        self._verbose = ["--verbose"] if arguments.verbose else []
        self._random = random
        self._process: trio.Process | None = None
        self._said = trio.Event()
        self._stopping = False
        #: What happened how often.
        self.counts: Counter[str] = Counter()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep it alive, until cancelled."""
        async with trio.open_nursery() as nursery:
            try:
                await self._start(nursery)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._stopping = True
                if self._process is not None:
                    self._process.kill()

    async def haunt(self, *, rate: float, longest: float) -> None:
        """Let it break, and kill it about `rate` times a second, until cancelled; then it lives, and is calm."""
        await self._tell("storm")
        try:
            while True:
                await trio.sleep(self._random.uniform(0, 2 / rate))
                with trio.CancelScope(shield=True):
                    await self._kill(self._random.uniform(0, longest))
                    await self._tell("storm")
        finally:
            with trio.CancelScope(shield=True):
                self._said = trio.Event()
                await self._tell("calm")
                await self._said.wait()

    async def _start(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._said = trio.Event()
        command = [sys.executable, "-m", "tests.soak.victim", f"--seed={self._random.getrandbits(32)}"]
        self._process = await trio.lowlevel.open_process(
            [*command, *self._options, *self._verbose], stdin=PIPE, stdout=PIPE
        )
        nursery.start_soon(self._listen, self._process)
        await self._said.wait()

    async def _kill(self, down: float) -> None:
        logger.info("%s, down for %.3f s", SIGKILL, down)
        self.counts[SIGKILL] += 1
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        await process.wait()
        await trio.sleep(down)
        await self._start(self._nursery)

    async def _tell(self, command: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        await self._process.stdin.send_all(command.encode() + b"\n")

    async def _listen(self, process: trio.Process) -> None:
        assert process.stdout is not None
        rest = b""
        async with process.stdout:
            async for chunk in process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))
        if process.stdin is not None:
            await process.stdin.aclose()
        assert self._stopping or process is not self._process, "the node's process has ended by itself"

    def _hear(self, said: dict[str, Any]) -> None:
        if "fault" in said:
            self.counts[said["fault"]] += 1
        else:
            self._said.set()


def _main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.victim", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--longest", type=float, required=True)
    parser.add_argument("--verbose", action="store_true")
    parsed = parser.parse_args(arguments)
    if parsed.verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(message)s", datefmt="%H:%M:%S")
    trio.run(_serve, parsed)


if __name__ == "__main__":
    _main()
