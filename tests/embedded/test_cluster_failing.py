"""What becomes of a cluster when some of its nodes are gone."""

from __future__ import annotations

import pytest
import trio

from tests.embedded.clustering import (
    FAILOVER,
    Result,
    count,
    gossip,
    master_of,
    master_told_by,
    settle,
    small_cluster,
    states,
    talk_with,
    write,
)
from tests.embedded.talk import (
    append,
    is_alive,
    new_events,
    read_stream,
    subscribe,
)
from tests.embedded.visiting import document, get
from trio_extreme.errors import InvalidArgument
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

NotHandled = schema.NotHandled


# The master is gone


async def test_another_one_is_appointed_and_the_dead_one_is_still_listed(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        await write(await talk_with(master_of(cluster)), count=5)
        killed = cluster.kill()
        assert cluster.master is None
        with pytest.raises(InvalidArgument, match="there is no master at present"):
            cluster.kill()
        for port in (killed.port, killed.http_port):
            assert port is not None
            with pytest.raises(ConnectionRefusedError):
                await cluster.connect(killed.host, port)
        viewer = cluster.replicas[0]
        assert sorted(await states(viewer)) == ["(Master)", "PreReplica", "PreReplica"]
        # It still takes the dead one for the master.
        assert (await master_told_by(await talk_with(viewer))).external_tcp_port == killed.port
        master = await cluster.wait_for_master()
        assert trio.current_time() == pytest.approx(FAILOVER, abs=0.01)
        assert master is not killed
        await settle()
        assert sorted(await states(viewer)) == ["(Master)", "Master", "Slave"]
        assert {told.port: told.epoch for told in await gossip(viewer) if told.is_alive} == {
            node.port: 1 for node in cluster.nodes if node is not killed
        }
        assert await count(master) == 5
        assert (await write(await talk_with(master))).last_event_number == 5
        cluster.start(killed)
        await settle()
        assert sorted(await states(killed)) == ["Master", "Slave", "Slave"]
        assert [await count(node) for node in cluster.nodes] == [6, 6, 6]


async def test_which_ids_were_written_of_late_dies_with_the_master(autojump_clock: None) -> None:
    """The reason for which an append with ANY that is sent again has to be looked up."""
    async with small_cluster() as cluster:
        events = new_events(1)
        for _ in range(2):
            talk = await talk_with(master_of(cluster))
            for _ in range(2):
                await talk.ask(Command.WRITE_EVENTS, append("people", events))
            cluster.kill()
            await cluster.wait_for_master()
            await settle()
            if len(cluster.replicas) == 1:
                killed = next(node for node in cluster.nodes if node.faults.is_away)
                cluster.start(killed)
                await settle()
        assert await count(master_of(cluster)) == 2


async def test_what_was_not_acknowledged_may_be_lost_and_is_seen_by_nobody(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        master = master_of(cluster)
        writer, reader = await talk_with(master), await talk_with(master)
        await reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        for node in cluster.replicas:
            cluster.isolate(node)
        await writer.tell(Command.WRITE_EVENTS, append("people", new_events(1)))
        await reader.tell(Command.READ_STREAM_EVENTS_FORWARD, read_stream("people"))
        with trio.move_on_after(FAILOVER / 2):
            assert await reader.hear() is None
        assert await is_alive(await talk_with(master))
        cluster.kill(master)
        for node in cluster.nodes:
            cluster.rejoin(node)
        assert [await talk.hear() for talk in (writer, reader)] == [None, None]
        await cluster.wait_for_master()
        cluster.start(master)
        await settle()
        assert [await count(node) for node in cluster.nodes] == [0, 0, 0]
        assert len({node.store.log.end for node in cluster.nodes}) == 1


async def test_what_the_dead_master_alone_had_is_kept_where_it_comes_back_in_time(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        master = master_of(cluster)
        talk = await talk_with(master)
        await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)))
        await trio.sleep(0.0005)
        assert await talk.hear_for(0) == []
        cluster.kill()
        cluster.start(master)
        # On its disk it is; nobody has to be told of it yet.
        assert await count(master) == 0
        assert await cluster.wait_for_master() is master
        await settle()
        assert [await count(node) for node in cluster.nodes] == [1, 1, 1]


async def test_subscriptions_to_replicas_outlive_the_master(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        talks = [await talk_with(node) for node in cluster.replicas]
        for talk in talks:
            await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        cluster.kill()
        await write(await talk_with(await cluster.wait_for_master()))
        await settle()
        for talk in talks:
            pushed = await talk.hear()
            assert pushed is not None
            assert pushed.command == Command.STREAM_EVENT_APPEARED


# Majorities


async def test_without_a_majority_there_is_no_master(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        master, replicas = master_of(cluster), cluster.replicas
        for node in replicas:
            cluster.kill(node)
        assert cluster.master is master
        await trio.sleep(FAILOVER + 0.01)
        assert cluster.master is None
        talk = await talk_with(master)
        reply = await talk.ask(Command.WRITE_EVENTS, append("people", new_events(1)))
        assert reply is not None
        assert (reply.command, reply.message.reason) == (Command.NOT_HANDLED, NotHandled.NotHandledReason.NotReady)
        assert await count(master) == 0
        await trio.sleep(60)
        assert sorted(await states(master)) == ["(Slave)", "(Slave)", "Unknown"]
        cluster.start(replicas[0])
        assert document(await get(replicas[0], "/info"))["state"] == "unknown"
        await cluster.wait_for_master()
        assert trio.current_time() == pytest.approx(60 + 2 * FAILOVER, abs=0.05)
        assert (await write(await talk_with(master_of(cluster)))).result == Result.Success


async def test_an_isolated_master_acknowledges_nothing(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        old = master_of(cluster)
        talk, idle = await talk_with(old), await talk_with(old)
        await write(talk)
        cluster.isolate(old)
        await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)))
        assert await talk.hear_for(FAILOVER / 2) == []
        assert sorted(await states(old)) == ["(Slave)", "(Slave)", "Master"]
        new = await cluster.wait_for_master()
        await settle()
        # It has found out, and starts again without what only it had.
        assert [await one.hear() for one in (talk, idle)] == [None, None]
        assert sorted(await states(old)) == ["(Slave)", "(Slave)", "Unknown"]
        assert sorted(await states(new)) == ["(Master)", "Master", "Slave"]
        assert await count(old) == 1
        assert (await write(await talk_with(new))).last_event_number == 1
        cluster.rejoin(old)
        await settle()
        assert sorted(await states(old)) == ["Master", "Slave", "Slave"]
        assert [await count(node) for node in cluster.nodes] == [2, 2, 2]


async def test_a_master_that_was_stopped_finds_another_one(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        old = master_of(cluster)
        talk = await talk_with(old)
        await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)))
        await trio.sleep(0.0005)
        with old.faults.pause():
            new = await cluster.wait_for_master()
            assert new is not old
            await settle()
        assert await talk.hear() is None
        assert [await count(node) for node in cluster.nodes] == [0, 0, 0]
        await settle()
        assert sorted(await states(old)) == ["Master", "Slave", "Slave"]


async def test_who_comes_back_in_time_is_still_the_master(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        master = master_of(cluster)
        talk = await talk_with(master)
        for begin_it, end_it in (
            (lambda: cluster.isolate(master), lambda: cluster.rejoin(master)),
            (master.faults.pause, master.faults.resume),
        ):
            begin_it()
            await trio.sleep(FAILOVER / 2)
            end_it()
            await trio.sleep(FAILOVER)
            assert cluster.master is master
            assert (await write(talk)).result == Result.Success
        assert sorted(await states(master)) == ["Master", "Slave", "Slave"]


async def test_a_replica_that_restarts_catches_up(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        talk, replica = await talk_with(master_of(cluster)), cluster.replicas[0]
        replica.faults.restart(down=0.5)
        await write(talk, count=3)
        assert await count(cluster.replicas[0]) == 3
        await trio.sleep(1)
        replica.faults.restart()
        await settle()
        assert await count(replica) == 3


async def test_a_master_that_is_restarted_is_no_master_any_more(autojump_clock: None) -> None:
    async with small_cluster() as cluster:
        await write(await talk_with(master_of(cluster)))
        master_of(cluster).faults.restart()
        assert cluster.master is None
        await cluster.wait_for_master()
        assert (await write(await talk_with(master_of(cluster)))).last_event_number == 1


async def test_of_five_nodes_two_can_be_missed(autojump_clock: None) -> None:
    async with small_cluster(5) as cluster:
        for expected in range(2):
            assert (await write(await talk_with(master_of(cluster)))).last_event_number == expected
            cluster.kill()
            await cluster.wait_for_master()
        assert (await write(await talk_with(master_of(cluster)))).last_event_number == 2
        # A master that only one other follows has no majority of five.
        cluster.kill(cluster.replicas[0])
        talk = await talk_with(master_of(cluster))
        await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)))
        assert await talk.hear_for(FAILOVER - 0.1) == []
        assert await count(cluster.replicas[0]) == 3


async def test_one_node_is_a_cluster_too(autojump_clock: None) -> None:
    async with small_cluster(1) as cluster:
        assert (await write(await talk_with(master_of(cluster)))).result == Result.Success
        killed = cluster.kill()
        cluster.start(killed)
        assert await cluster.wait_for_master() is killed
        assert await count(killed) == 1
