"""What only the master does: groups of persistent subscriptions, and the pages that change something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from tests.embedded.clustering import master_of, settle, small_cluster, talk_with, write
from tests.embedded.securing import make_secret, over_tls
from tests.embedded.visiting import ADMIN, basic, document, get
from trio_extreme.http import Request, Response, exchange
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from tests.embedded.talk import Talk
    from trio_extreme.embedded import Node
    from trio_extreme.transport import Connect

CREATE = schema.CreatePersistentSubscription(
    subscription_group_name="g",
    event_stream_id="people",
    message_timeout_milliseconds=10_000,
    live_buffer_size=500,
    read_batch_size=20,
    buffer_size=500,
    max_retry_count=10,
    checkpoint_after_time=1000,
    checkpoint_min_count=1,
    checkpoint_max_count=100,
    prefer_round_robin=True,
)
CONNECT = schema.ConnectToPersistentSubscription(
    subscription_id="g", event_stream_id="people", allowed_in_flight_messages=10
)


async def connect(talk: Talk) -> list[Any]:
    """The numbers of what a new consumer is handed at once."""
    confirmed, *pushed = await connect_and_hear(talk)
    assert confirmed.command == Command.PERSISTENT_SUBSCRIPTION_CONFIRMATION
    return [reply.message.event.event.event_number for reply in pushed]


async def connect_and_hear(talk: Talk) -> list[Any]:
    await talk.tell(Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION, CONNECT)
    return await talk.hear_for(0.5)


async def test_groups_move_with_the_master(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        old = master_of(cluster)
        talk = await talk_with(old)
        created = await talk.ask(Command.CREATE_PERSISTENT_SUBSCRIPTION, CREATE)
        assert created is not None
        assert created.message.result == 0
        await write(talk, count=3)
        assert await connect(talk) == [0, 1, 2]
        (refused,) = await connect_and_hear(await talk_with(cluster.replicas[0]))
        assert refused.command == Command.NOT_HANDLED
        cluster.isolate(old)
        new = await cluster.wait_for_master()
        await settle()
        # Who is no master any more tells its consumers; that nobody acknowledged is what the new one knows.
        dropped = await talk.hear()
        assert dropped is not None
        assert dropped.command == Command.SUBSCRIPTION_DROPPED
        assert await connect(await talk_with(new)) == [0, 1, 2]
        (refused,) = await connect_and_hear(talk)
        assert refused.command == Command.NOT_HANDLED


async def test_a_group_writes_nothing_where_its_node_is_no_master(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        talk = await talk_with(master_of(cluster))
        await talk.ask(Command.CREATE_PERSISTENT_SUBSCRIPTION, CREATE)
        await write(talk, count=3)
        await connect(talk)
        for _ in range(3):
            killed = cluster.kill()
            await cluster.wait_for_master()
            cluster.start(killed)
            await trio.sleep(5)
            assert len({node.store.log.end for node in cluster.nodes}) == 1
        assert await connect(await talk_with(master_of(cluster))) == [0, 1, 2]


async def post(node: Node, target: str, body: bytes, through: Connect) -> Response:
    assert node.http_port is not None
    stream = await through(node.host, node.http_port)
    try:
        headers = (basic(*ADMIN), ("content-type", "application/json"))
        return await exchange(stream, node.host, Request("POST", target, headers, body))
    finally:
        await trio.aclose_forcefully(stream)


async def test_pages_that_change_something_are_the_masters(autojump_clock: None) -> None:
    secret = make_secret()
    jane = b'{"loginName": "jane", "fullName": "Jane", "groups": [], "password": "sesame"}'
    async with small_cluster(version="20.10", http_tls=secret.server) as cluster:
        through = over_tls(cluster.connect, secret.client)
        master, replica = master_of(cluster), cluster.replicas[0]
        away = replica.web.answer(Request("POST", "/users/?x=1", (basic(*ADMIN),), jane))
        assert (away.status, away.header("location")) == (307, f"https://127.0.0.1:{master.http_port}/users/?x=1")
        assert replica.web.answer(Request("POST", "/nothing")).status == 404
        # Groups are the master's, so of them the others do not even tell.
        told = [node.web.answer(Request("GET", "/subscriptions", (basic(*ADMIN),))) for node in (master, replica)]
        assert [response.status for response in told] == [200, 307]
        assert told[1].header("location") == f"https://127.0.0.1:{master.http_port}/subscriptions"
        assert (await post(master, "/users/", jane, through)).status == 201
        await settle()
        # All know it now.
        for node in cluster.nodes:
            found = document(await get(node, "/users/jane", through, headers=(basic("jane", "sesame"),)))
            assert found["data"]["loginName"] == "jane"
        cluster.kill()
        assert replica.web.answer(Request("POST", "/users/", (basic(*ADMIN),), jane)).status == 307
        cluster.kill(replica)
        cluster.start(replica)
        assert replica.web.answer(Request("POST", "/users/", (basic(*ADMIN),), jane)).status == 503
