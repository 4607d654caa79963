"""A thousand reconnects of one connection, over real sockets, leave nothing behind."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from tests.soak.census import Census, take_census
from trio_extreme import CaughtUp, NewEvent, Reconnected, open_connection
from trio_extreme.embedded import Node, open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from trio_extreme import Connection

STREAM = "orders"
RECONNECTS = 1000
WARM_UP = 200
"""What is kept of the past, such as the last changes of a connection, is full by then."""
PATIENCE = 100
"""Seconds that all of it may take on a busy machine."""
FEW = 20
"""Objects of a kind that may be there by chance: a page under way, a traceback of one more step."""
TIMEOUT = 2.2
"""Seconds; a little more than the node's heartbeat interval."""
HASTY = {"reconnect_delay": 0, "connect_timeout": TIMEOUT, "identify_timeout": TIMEOUT, "attempt_timeout": TIMEOUT}


class Consumers:
    """A catch-up subscription and a live one, which are waited for."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.seen_live: list[int] = []
        self._caught_up = trio.Event()
        self._live_again = trio.Event()

    def expect_interruption(self) -> None:
        self._caught_up = trio.Event()
        self._live_again = trio.Event()

    async def back(self) -> None:
        """Wait until both are live again."""
        await self._caught_up.wait()
        await self._live_again.wait()

    async def follow(self, conn: Connection) -> None:
        async with conn.subscribe(STREAM) as events:
            async for item in events.with_notices():
                if item == CaughtUp():
                    self._caught_up.set()
                elif item != Reconnected(gap_possible=False):
                    self.seen.append(item.number)

    async def watch(self, conn: Connection) -> None:
        async with conn.subscribe_live(STREAM) as events:
            self._live_again.set()
            async for item in events.with_notices():
                if item == Reconnected(gap_possible=True):
                    self._live_again.set()
                else:
                    self.seen_live.append(item.number)


@asynccontextmanager
async def consuming(conn: Connection) -> AsyncIterator[Consumers]:
    consumers = Consumers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumers.follow, conn)
        nursery.start_soon(consumers.watch, conn)
        await consumers.back()
        yield consumers
        nursery.cancel_scope.cancel()


async def reconnect(node: Node, consumers: Consumers, times: int) -> None:
    for _ in range(times):
        consumers.expect_interruption()
        node.faults.kill_connections()
        await consumers.back()


async def quiet_census(node: Node) -> Census:
    """What is there once everything has come to rest."""
    # Trio keeps a cancel scope that was left until its deadline has passed.
    await trio.sleep(TIMEOUT)
    node.faults.history.clear()
    return take_census()


async def test_a_thousand_reconnects_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    # What is logged is kept by pytest.
    caplog.set_level(logging.ERROR, "trio_extreme")
    with trio.fail_after(PATIENCE):
        async with open_node() as node, open_connection(node.settings.replace(**HASTY)) as conn:
            await conn.append(STREAM, NewEvent("placed"))
            async with consuming(conn) as consumers:
                await reconnect(node, consumers, WARM_UP)
                before = await quiet_census(node)
                await reconnect(node, consumers, RECONNECTS - WARM_UP)
                after = await quiet_census(node)
                await conn.append(STREAM, NewEvent("placed"))
                await trio.testing.wait_all_tasks_blocked(0.05)
            reconnects = conn.statistics().reconnects

    assert reconnects >= RECONNECTS
    assert (consumers.seen, consumers.seen_live) == ([0, 1], [1])
    assert after.tasks == before.tasks
    assert after.descriptors == before.descriptors
    grown = {name: count for name, count in (after.objects - before.objects).items() if count > FEW}
    assert grown == {}
    assert after.blocks - before.blocks < (RECONNECTS - WARM_UP) / 2
