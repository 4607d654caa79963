"""Opening a cluster: its nodes, each with its own log, and what holds them together."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

from trio_extreme.embedded.acl import with_default_users
from trio_extreme.embedded.cluster import Cluster
from trio_extreme.embedded.cluster_commits import Acknowledgements
from trio_extreme.embedded.cluster_log import Copy
from trio_extreme.embedded.cluster_peer import Peer
from trio_extreme.embedded.commits import run_inline
from trio_extreme.embedded.log import Log
from trio_extreme.embedded.node import Node, check_tokens, running
from trio_extreme.embedded.service import Service
from trio_extreme.embedded.store import Store
from trio_extreme.embedded.versions import find_version
from trio_extreme.errors import InvalidArgument
from trio_extreme.tasks import open_plain_nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from ssl import SSLContext

    import trio

    from trio_extreme.embedded.acl import User
    from trio_extreme.embedded.commits import RunSync
    from trio_extreme.embedded.line import Line
    from trio_extreme.embedded.storage import Storage

FAILOVER_TIME = 1.0
"""Seconds until there is another master: what real clusters on one machine were seen to take."""
_HIGHEST_PORT = 65_535


@asynccontextmanager
async def open_cluster(
    size: int = 3,
    *,
    port: int | None = 0,
    http_port: int = 0,
    host: str = "127.0.0.1",
    version: str = "4.1.1",
    users: Mapping[str, User] | None = None,
    tokens: Mapping[str, str] | None = None,
    tls: SSLContext | None = None,
    http_tls: SSLContext | None = None,
    failover_time: float = FAILOVER_TIME,
    now: Callable[[], float] = time.time,
    random: Random | None = None,
) -> AsyncIterator[Cluster]:
    """A cluster of `size` nodes in this process, one of them the master, that fails over as real ones do.

    The first node has the ports `port` and `http_port`, the next ones those that follow; 0 takes free ones, and None no
    sockets at all: then only `cluster.connect` leads to the nodes, by the ports 1113 and 2113 and those that follow,
    which works under a mock clock.

    Once the master is killed, isolated or paused, another one is appointed after `failover_time` seconds, where a
    majority of all nodes is left. Logs are in memory; a node that is killed keeps its own. The other arguments are
    those of `open_node`, and leaving the block is like leaving that. Raises `OSError` where it cannot listen, and
    `InvalidArgument` as `open_node` does, and for a size or time that makes no cluster.
    """
    _check(size, port, http_port, failover_time)
    random = random or Random()  # noqa: S311 - ids and choices, not secrets
    model = find_version(version)
    accounts = with_default_users(users or {})
    known_tokens = check_tokens(tokens or {}, accounts, model)
    genesis = Copy()
    Log(genesis)

    def make_peer(index: int, cluster: Cluster) -> Peer:
        copy = Copy()
        copy.receive(genesis.journal)
        copy.show()
        chance = Random(random.getrandbits(64))  # noqa: S311 - as above
        service = Service(Store(model, storage=copy, now=now, random=chance), accounts, known_tokens)
        made: list[Acknowledgements] = []

        def acknowledge(_: Storage, run_sync: RunSync, line: Line, passed: Callable[[], None], /) -> Acknowledgements:
            made.append(Acknowledgements(copy, run_sync, line, passed))
            return made[0]

        node = Node(
            service,
            host,
            chance,
            run_inline,
            projections=False,
            gossips=True,
            make_commits=acknowledge,
            tls=tls,
            http_tls=http_tls,
        )
        node.name_ports(index)
        return Peer(node, service, copy, made[0], cluster.forward)

    cluster = Cluster(size, make_peer, random, failover_time)
    async with open_plain_nursery() as nursery:
        scope: trio.CancelScope = await nursery.start(cluster.run)
        try:
            async with running(*_places(cluster.nodes, port, http_port)):
                cluster.begin()
                yield cluster
        finally:
            scope.cancel()


def _places(nodes: Sequence[Node], port: int | None, http_port: int) -> Sequence[tuple[Node, int | None, int | None]]:
    """Each node with its ports: those that follow the first one's, where that has any of its own."""
    return [(node, port and port + index, http_port and http_port + index) for index, node in enumerate(nodes)]


def _check(size: int, port: int | None, http_port: int, failover_time: float) -> None:
    if size < 1:
        msg = f"size: a cluster has one node at least, and {size} is none"
        raise InvalidArgument(msg)
    if not 0 < failover_time < float("inf"):
        msg = f"failover_time: {failover_time!r} is no number of seconds above 0"
        raise InvalidArgument(msg)
    for name, first in (("port", port or 0), ("http_port", http_port)):
        last = first and first + size - 1
        if not 0 <= first <= last <= _HIGHEST_PORT:
            msg = f"{name}: {first} to {last} are no ports; the highest is {_HIGHEST_PORT}"
            raise InvalidArgument(msg)
