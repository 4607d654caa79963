"""Clusters under a mock clock, and what their nodes tell."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from tests.embedded.talk import ADMIN, Clock, Reply, Talk, append, new_events, pack, read_stream, talk_to
from tests.embedded.visiting import document, get
from trio_extreme.embedded import open_cluster
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trio_extreme.embedded import Cluster, Node

Result = schema.OperationResult
FAILOVER = 1.0


@asynccontextmanager
async def small_cluster(size: int = 3, seed: int = 0, **options: Any) -> AsyncIterator[Cluster]:
    """A cluster in memory that does the same each time."""
    options = {"port": None, "failover_time": FAILOVER, "now": Clock(), "random": Random(seed)} | options
    async with open_cluster(size, **options) as cluster:
        yield cluster


class Awake(Talk):
    """A talk that goes on for longer than a server waits for a sign of life."""

    async def hear(self) -> Reply | None:
        while (reply := await super().hear()) and reply.command == Command.HEARTBEAT_REQUEST:
            await self.stream.send_all(pack(Command.HEARTBEAT_RESPONSE, correlation=reply.correlation))
        return reply


async def talk_with(node: Node) -> Talk:
    return Awake(await node.connect(node.host, node.port))


class Told(NamedTuple):
    """What gossip says of one node."""

    port: int
    state: str
    is_alive: bool
    epoch: int


async def gossip(node: Node) -> Sequence[Told]:
    told = document(await get(node, "/gossip"))
    return [Told(one["externalTcpPort"], one["state"], one["isAlive"], one["epochNumber"]) for one in told["members"]]


async def states(node: Node) -> Sequence[str]:
    """The states of all nodes, as this one knows them; those of the dead in brackets."""
    return [told.state if told.is_alive else f"({told.state})" for told in await gossip(node)]


async def write(talk: Talk, stream: str = "people", count: int = 1, expected: int = -2) -> Any:
    """Append to a stream, and return the answer."""
    reply = await talk.ask(Command.WRITE_EVENTS, append(stream, new_events(count), expected))
    return None if reply is None else reply.message


async def count(node: Node, stream: str = "people") -> int:
    """How many events this node shows."""
    talk = await talk_to(node)
    reply = await talk.ask(Command.READ_STREAM_EVENTS_FORWARD, read_stream(stream), ADMIN)
    await talk.stream.aclose()
    assert reply is not None
    return len(reply.message.events)


async def settle(seconds: float = 0.01) -> None:
    """Long enough for what nodes say to each other."""
    await trio.sleep(seconds)


def master_of(cluster: Cluster) -> Node:
    assert cluster.master is not None
    return cluster.master


async def master_told_by(talk: Talk) -> schema.NotHandled.MasterInfo:
    """Whom a node names that is asked for what the master should do."""
    request = append("people", new_events(1))
    request.require_master = True
    reply = await talk.ask(Command.WRITE_EVENTS, request)
    assert reply is not None
    assert (reply.command, reply.message.reason) == (Command.NOT_HANDLED, schema.NotHandled.NotHandledReason.NotMaster)
    return schema.NotHandled.MasterInfo.FromString(reply.message.additional_info)
