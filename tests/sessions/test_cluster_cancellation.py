"""Opening a connection to a cluster, and being moved to its master, cancelled at each step: nothing is left."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio
import trio.testing

from tests.helpers import assert_nothing_left
from tests.sessions.steps import cancelled_at
from tests.test_moves import settings_of
from tests.test_tls import client, server
from trio_extreme import NewEvent, open_connection
from trio_extreme.embedded import open_cluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme import Settings
    from trio_extreme.embedded import Cluster

MOST = 2000


class Counted:
    """A `connect` that knows which of its streams are still open."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._streams: list[trio.abc.Stream] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        stream = await self._cluster.connect(host, port)
        self._streams.append(stream)
        return stream

    async def assert_all_closed(self) -> None:
        for stream in self._streams:
            try:
                await stream.send_all(b"x")
            except trio.ClosedResourceError:
                continue
            raise AssertionError(stream)
        self._streams.clear()


async def at_each_step(counted: Counted, body: Callable[[], Awaitable[None]], stride: int = 1) -> None:
    """Cancel it at its first, second, … step, until it gets through."""
    for step in range(1, MOST, stride):
        with cancelled_at(step, of_all=True) as instrument:
            await body()
        await trio.testing.wait_all_tasks_blocked()
        await counted.assert_all_closed()
        if not instrument.reached:
            assert step > 20
            return
    raise AssertionError(MOST)


async def write(settings: Settings, counted: Counted) -> None:
    async with open_connection(settings, connect=counted.connect) as conn:
        await conn.append("orders", NewEvent("OrderPlaced"))
        assert_nothing_left(conn)


async def test_at_each_step_of_opening(autojump_clock: object) -> None:
    async with open_cluster(3, port=None, tls=server(), http_tls=server()) as cluster:
        await cluster.wait_for_master()
        settings = settings_of(cluster, tls=client(), tls_server_name="localhost")
        counted = Counted(cluster)
        # Handshakes take their time: not each one of some hundreds.
        await at_each_step(counted, partial(write, settings, counted), stride=5)


async def test_at_each_step_of_a_move(autojump_clock: object) -> None:
    async with open_cluster(3, port=None) as cluster:
        master = await cluster.wait_for_master()
        slave = cluster.replicas[0]
        # To begin with, whoever wants the master comes to a slave; where that sends it is not mapped again.
        told = [(slave.host, slave.port)]

        def first_the_slave(host: str, port: int) -> tuple[str, int]:
            return told.pop() if told else (host, port)

        counted = Counted(cluster)

        async def moved() -> None:
            told[:] = [(slave.host, slave.port)]
            await write(settings_of(cluster, endpoint_map=first_the_slave), counted)

        await at_each_step(counted, moved)
        assert cluster.master is master
