"""What the fixtures `event_store` and `event_store_connection` do."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
from trio.testing import MockClock

from trio_extreme.client import open_connection
from trio_extreme.embedded import open_node, run_inline

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from trio_extreme.client import Connection
    from trio_extreme.embedded import Node


@asynccontextmanager
async def open_event_store(options: Mapping[str, Any]) -> AsyncIterator[Node]:
    """A node with these options of `open_node`, on a free port; without sockets where the clock is a mock.

    A mock clock knows nothing of sockets, nor of threads: it would jump past what comes from them.
    """
    defaults = {"port": None, "run_sync": run_inline} if _clock_is_mock() else {}
    async with open_node(**{**defaults, **options}) as node:
        yield node


@asynccontextmanager
async def connect_to_event_store(node: Node) -> AsyncIterator[Connection]:
    """A connection to it, as an administrator."""
    connect = node.connect if _clock_is_mock() else None
    async with open_connection(node.settings, connect=connect) as connection:
        yield connection


def _clock_is_mock() -> bool:
    return isinstance(trio.lowlevel.current_clock(), MockClock)
