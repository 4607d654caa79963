"""A cluster of which all nodes are there, its beginning and its end."""

from __future__ import annotations

import logging
import re
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.embedded.clustering import (
    Result,
    Told,
    count,
    gossip,
    master_of,
    master_told_by,
    settle,
    small_cluster,
    talk_with,
    write,
)
from tests.embedded.securing import make_secret, over_tls
from tests.embedded.talk import (
    Talk,
    append,
    assert_ended,
    begin,
    commit,
    delete,
    is_alive,
    new_event,
    new_events,
    read_stream,
    subscribe,
    write as write_into,
)
from tests.embedded.visiting import document, get
from trio_extreme.embedded import User, open_cluster, open_node
from trio_extreme.errors import InvalidArgument
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.embedded import Node

NotHandled = schema.NotHandled


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


# Nobody is gone


@pytest.mark.parametrize(("version", "names"), [("4.1.1", ("Master", "Slave")), ("20.10", ("Leader", "Follower"))])
async def test_one_is_the_master_and_all_say_so(version: str, names: tuple[str, str], autojump_clock: None) -> None:
    async with small_cluster(version=version) as cluster:
        master = master_of(cluster)
        assert [node.port for node in cluster.nodes] == [1113, 1114, 1115]
        assert [node.http_port for node in cluster.nodes] == [2113, 2114, 2115]
        assert sorted(node.port for node in (master, *cluster.replicas)) == [1113, 1114, 1115]
        expected = [Told(node.port, names[node is not master], is_alive=True, epoch=0) for node in cluster.nodes]
        for node in cluster.nodes:
            assert await gossip(node) == expected
            assert document(await get(node, "/info"))["state"] == names[node is not master].lower()
            told = document(await get(node, "/gossip"))
            assert told["serverPort"] == node.http_port
        assert repr(cluster) == f"<Cluster of 3, master: {master!r}>"


async def test_the_seam_leads_to_each_node_by_its_ports(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        for node in cluster.nodes:
            talk = Talk(await cluster.connect("anywhere", node.port))
            assert await is_alive(talk)
            assert len(node.traffic()) == 1
            assert node.http_port is not None
            assert document(await get(node, "/gossip", cluster.connect))["serverPort"] == node.http_port
        with pytest.raises(ConnectionRefusedError, match="no node of the cluster has this port"):
            await cluster.connect("127.0.0.1", 1116)


async def test_what_the_master_writes_replicas_show(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        talk, follower = await talk_with(master_of(cluster)), await talk_with(cluster.replicas[0])
        await follower.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        assert (await write(talk, count=3)).result == Result.Success
        # It took the way to another node and back.
        assert trio.current_time() == pytest.approx(0.001)
        assert [await count(node) for node in cluster.nodes] == [3, 3, 3]
        pushed = await follower.hear_for(0.1)
        assert [reply and reply.message.event.event.event_number for reply in pushed] == [0, 1, 2]
        logs = {(node.store.log.end, node.store.log.last) for node in cluster.nodes}
        assert len(logs) == 1


async def test_metadata_that_was_cached_is_not_kept_by_replicas(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        talk = await talk_with(master_of(cluster))
        await write(talk, count=3)
        assert [await count(node) for node in cluster.nodes] == [3, 3, 3]
        await talk.ask(Command.WRITE_EVENTS, append("$$people", [new_event("$metadata", b'{"$maxCount":1}')]))
        assert [await count(node) for node in cluster.nodes] == [1, 1, 1]


async def test_a_replica_that_lags_shows_an_older_place(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        talk, (late, timely) = await talk_with(master_of(cluster)), cluster.replicas
        cluster.lag(late, 5)
        await write(talk)
        assert [await count(late), await count(timely)] == [0, 1]
        await trio.sleep(3)
        await write(talk)
        await trio.sleep(2.5)
        assert [await count(late), await count(timely)] == [1, 2]
        assert (await gossip(late))[0].state in ("Master", "Slave")
        # What it has, it shows at once when it does not lag any more.
        cluster.lag(late, 0)
        assert await count(late) == 2


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
async def test_what_is_no_lag(seconds: float, autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        with pytest.raises(InvalidArgument, match="is no time that a replica can lag behind"):
            cluster.lag(cluster.replicas[0], seconds)


async def test_users_are_those_of_all_nodes(autojump_clock: None) -> None:
    async with small_cluster(version="20.10", users={"jane": User("x")}, tokens={"a.b": "jane"}) as cluster:
        for node in cluster.nodes:
            talk = await talk_with(node)
            for credentials in (Credentials("jane", "x"), Credentials(token="a.b")):
                reply = await talk.ask(Command.PING, b"", credentials)
                assert reply is not None
                assert reply.command == Command.PONG


async def test_a_cluster_behind_tls(autojump_clock: None) -> None:
    secret = make_secret()
    async with small_cluster(version="20.10", tls=secret.server, http_tls=secret.server) as cluster:
        replica = cluster.replicas[0]
        secure = over_tls(cluster.connect, secret.client)
        told = document(await get(replica, "/gossip", secure))["members"]
        assert [(one["externalTcpPort"], one["externalSecureTcpPort"]) for one in told] == [
            (0, port) for port in (1113, 1114, 1115)
        ]
        talk = Talk(await secure(replica.host, replica.port))
        info = await master_told_by(talk)
        assert (info.external_tcp_port, info.external_secure_tcp_port) == (0, master_of(cluster).port)


async def test_what_requires_the_master_is_told_where_it_is(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        master = master_of(cluster)
        talk = await talk_with(cluster.replicas[0])
        info = await master_told_by(talk)
        assert (info.external_tcp_address, info.external_tcp_port) == (master.host, master.port)
        assert (info.external_http_address, info.external_http_port) == (master.host, master.http_port)
        page = read_stream("people")
        page.require_master = True
        reply = await talk.ask(Command.READ_STREAM_EVENTS_FORWARD, page)
        assert reply is not None
        assert reply.command == Command.NOT_HANDLED
        reply = await (await talk_with(master)).ask(Command.READ_STREAM_EVENTS_FORWARD, page)
        assert reply is not None
        assert reply.command == Command.READ_STREAM_EVENTS_FORWARD_COMPLETED


# Forwarded writes


async def test_a_replica_has_the_master_do_what_does_not_require_it(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        talk = await talk_with(cluster.replicas[0])
        assert (await write(talk, count=2)).last_event_number == 1
        assert trio.current_time() == pytest.approx(0.003)
        assert (await write(talk, expected=7)).result == Result.WrongExpectedVersion
        started = await talk.ask(Command.TRANSACTION_START, begin("people"))
        assert started is not None
        begun = started.message.transaction_id
        await talk.ask(Command.TRANSACTION_WRITE, write_into(begun, new_events(2)))
        committed = await talk.ask(Command.TRANSACTION_COMMIT, commit(begun))
        assert committed is not None
        assert (committed.message.result, committed.message.last_event_number) == (Result.Success, 3)
        deleted = await talk.ask(Command.DELETE_STREAM, delete("people", hard=True))
        assert deleted is not None
        assert deleted.message.result == Result.Success
        # What nobody could do is refused by the master, and the rights are looked at there.
        reply = await talk.ask(Command.WRITE_EVENTS, append("", new_events(1)))
        assert reply is not None
        assert reply.command == Command.BAD_REQUEST
        reply = await talk.ask(Command.WRITE_EVENTS, append("$orders", new_events(1)), None)
        assert reply is not None
        assert reply.message.result == Result.AccessDenied
        reply = await talk.ask(Command.WRITE_EVENTS, append("people", new_events(1)), Credentials("admin", "wrong"))
        assert reply is not None
        assert reply.command == Command.NOT_AUTHENTICATED


async def test_what_is_forwarded_to_nobody_times_out(autojump_clock: None) -> None:
    async with small_cluster(failover_time=60) as cluster:
        replica = cluster.replicas[0]
        talk = await talk_with(replica)
        cluster.kill()
        requests = (
            (Command.WRITE_EVENTS, append("people", new_events(1))),
            (Command.DELETE_STREAM, delete("people")),
            (Command.TRANSACTION_START, begin("people")),
            (Command.TRANSACTION_WRITE, write_into(168, new_events(1))),
            (Command.TRANSACTION_COMMIT, commit(168)),
        )
        for command, message in requests:
            start = trio.current_time()
            reply = await talk.ask(command, message)
            assert reply is not None
            assert reply.command == command + 1
            assert reply.message.result == Result.ForwardTimeout
            assert trio.current_time() - start == pytest.approx(4.3)


async def test_an_answer_that_comes_too_late_is_not_passed_on(autojump_clock: None) -> None:
    async with small_cluster(failover_time=60) as cluster:
        talk = await talk_with(cluster.replicas[0])
        await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)))
        await trio.sleep(0.0015)
        # The master has written it, and is alone before anybody knows.
        for node in cluster.replicas:
            cluster.isolate(node)
        replies = await talk.hear_for(10)
        assert [reply and reply.message.result for reply in replies] == [Result.ForwardTimeout]


async def test_a_client_that_left_meanwhile_costs_nobody_anything(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        replica = cluster.replicas[0]
        talk = await talk_with(replica)
        await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)))
        await trio.sleep(0.0005)
        await talk.stream.aclose()
        await settle()
        assert await count(replica) == 1
        talk = await talk_with(replica)
        await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)))
        await trio.sleep(0.0005)
        cluster.kill(replica)
        cluster.start(replica)
        await trio.sleep(10)
        assert await count(replica) == 2


# Opening and leaving


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 0}, "size: a cluster has one node at least, and 0 is none"),
        ({"failover_time": 0}, "failover_time: 0 is no number of seconds above 0"),
        ({"failover_time": float("inf")}, "failover_time: inf"),
        ({"port": 65_534}, "port: 65534 to 65536 are no ports; the highest is 65535"),
        ({"http_port": -1}, "http_port: -1 to 1 are no ports"),
        ({"version": "4"}, "version: '4'"),
        ({"tokens": {"a": "admin"}}, "tokens: a server 4.1.1 takes none"),
    ],
)
async def test_what_makes_no_cluster(options: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        async with open_cluster(**options):  # type: ignore[arg-type]
            pass


async def test_a_stranger_is_no_node_of_it(autojump_clock: None) -> None:
    async with small_cluster() as cluster, open_node(port=None) as stranger:
        for call in (cluster.kill, cluster.start, cluster.isolate, cluster.rejoin):
            with pytest.raises(InvalidArgument, match="is none of this cluster"):
                call(stranger)


async def test_leaving_ends_every_connection_and_task(autojump_clock: None) -> None:
    before = tasks()
    async with small_cluster() as cluster:
        talks = [await talk_with(node) for node in cluster.nodes]
        for talk in talks:
            await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    assert tasks() == before
    for talk in talks:
        dropped = await talk.hear()
        assert dropped is not None
        assert dropped.command == Command.SUBSCRIPTION_DROPPED
        assert await talk.hear() is None
    assert trio.current_time() < 0.1


async def test_leaving_does_not_wait_for_each_node_in_turn(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        talk = await talk_with(master_of(cluster))
        await talk.ask(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(1_000_000))]))
        for node in cluster.nodes:
            await (await talk_with(node)).tell(Command.READ_STREAM_EVENTS_FORWARD, read_stream("people"))
        await settle()
        start = trio.current_time()
    assert trio.current_time() - start == pytest.approx(0.5)


async def test_in_a_cancelled_block_the_cluster_lives_until_it_is_left(autojump_clock: None) -> None:
    before = tasks()
    with trio.move_on_after(1) as scope:
        async with small_cluster() as cluster:
            talk = await talk_with(master_of(cluster))
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    assert (await write(talk)).result == Result.Success
    assert scope.cancelled_caught
    assert tasks() == before


async def test_a_cancelled_opening_leaves_nothing() -> None:
    before = tasks()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_cluster():
            pytest.fail("it was cancelled")
    assert tasks() == before


async def test_waiting_for_a_master_can_be_cancelled(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        cluster.kill()
        with trio.move_on_after(0.1) as scope:
            await cluster.wait_for_master()
        assert scope.cancelled_caught
        assert await cluster.wait_for_master() is cluster.master


async def test_sockets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_extreme.embedded")
    before = tasks()
    async with open_cluster(failover_time=0.05) as cluster:
        assert len({port for node in cluster.nodes for port in (node.port, node.http_port)}) == 6

        async def talk_through(node: Node) -> Talk:
            return Talk(await trio.open_tcp_stream(node.host, node.port))

        talk = await talk_through(cluster.replicas[0])
        assert (await write(talk)).result == Result.Success
        told = document(await get(cluster.nodes[0], "/gossip", trio.open_tcp_stream))
        assert [one["externalTcpPort"] for one in told["members"]] == [node.port for node in cluster.nodes]
        with trio.fail_after(5):
            killed = cluster.kill()
            await assert_ended(await talk_through(killed))
            new = await talk_through(await cluster.wait_for_master())
            assert (await write(new)).last_event_number == 1
        assert f"<Peer {killed.port}, MASTER> is lost from sight" in caplog.text
        for one in (talk, new):
            await one.stream.aclose()
    assert tasks() == before


async def test_the_ports_of_a_cluster_follow_each_other() -> None:
    # Free ones, as many as it takes to find three in a row.
    for port in range(20_000 + Random().randrange(1000), 30_000, 10):
        try:
            async with open_cluster(port=port, http_port=port + 3) as cluster:
                found = [(node.port, node.http_port) for node in cluster.nodes]
        except OSError:
            continue
        assert found == [(port, port + 3), (port + 1, port + 4), (port + 2, port + 5)]
        break
