"""`python -m benchmarks.serving`: an embedded node in a process of its own; it prints the port it listens on."""

from __future__ import annotations

import sys

import trio

from trio_extreme.embedded import open_node


async def _main() -> None:
    async with open_node() as node:
        print(node.port, flush=True)
        # Whoever started this process holds the other end.
        await trio.to_thread.run_sync(sys.stdin.buffer.read)


if __name__ == "__main__":
    trio.run(_main)
