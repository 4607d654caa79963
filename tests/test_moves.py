"""Following the master: what a node refuses goes to the one that it names, in order, and subscriptions move along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.helpers import assert_nothing_left, new_events
from tests.peer import ADMIN, Call, Peer, Request, encode
from tests.test_discovery import Web, answer, gossip
from trio_extreme import (
    ANY,
    NO_STREAM,
    Closed,
    Connected,
    NewEvent,
    NotMaster,
    OutcomeUnknown,
    Redirected,
    Settings,
    open_connection,
)
from trio_extreme.embedded import open_cluster
from trio_extreme.messages import Command
from trio_extreme.wire import schema
from trio_extreme.wire.commands import decode_payload

if TYPE_CHECKING:
    from trio_extreme import Change, Connection
    from trio_extreme.embedded import Cluster, Node

pytestmark = pytest.mark.usefixtures("autojump_clock")

SEED = Settings(nodes=["s"])
WRITE, WRITTEN = Command.WRITE_EVENTS, Command.WRITE_EVENTS_COMPLETED


def not_master(host: str = "", port: int = 0, *, secure: bool = False) -> bytes:
    info = schema.NotHandled.MasterInfo()
    if secure:
        info.external_secure_tcp_address, info.external_secure_tcp_port = host, port
    else:
        info.external_tcp_address, info.external_tcp_port = host, port
    refusal = schema.NotHandled(reason=2, additional_info=info.SerializeToString())
    return refusal.SerializeToString()


def refuse(peer: Peer, said: bytes, *commands: int) -> Peer:
    for command in commands or (WRITE,):
        peer.handlers[command] = lambda request: peer.send(Command.NOT_HANDLED, request.correlation, said)
    return peer


def accept(peer: Peer) -> Peer:
    def take(request: Request) -> None:
        done = schema.WriteEventsCompleted(result=0, first_event_number=0, last_event_number=0)
        peer.send(WRITTEN, request.correlation, done)

    peer.handlers[WRITE] = take
    return peer


def streams(peer: Peer) -> list[str]:
    """Those that were written to, in order."""
    return [decode_payload(WRITE, each.payload).event_stream_id for each in peer.log if each.command == WRITE]  # type: ignore[attr-defined]


async def changes_of(conn: Connection, seen: list[Change]) -> None:
    async for change in conn.changes():
        seen.append(change)  # noqa: PERF401 - a test looks at it meanwhile


def slaves(*hosts: str) -> bytes:
    return answer(gossip(*(("Slave", host, 1113) for host in hosts)))


async def test_what_is_refused_follows_to_the_master(nursery: trio.Nursery) -> None:
    """X6, as far as it has to be understood by who connects."""
    slave, master = refuse(Peer(), not_master("n2", 1113)), accept(Peer())
    web = Web(nursery, {"s": slaves("n1")}, {"n1": slave, "n2": master})
    seen: list[Change] = []
    async with open_connection(SEED, connect=web.connect) as conn:
        nursery.start_soon(changes_of, conn, seen)
        await conn.append("orders", NewEvent("OrderPlaced"), expected=NO_STREAM)
        assert trio.current_time() < 0.1
        assert conn.statistics().reconnects == 1
        assert_nothing_left(conn)
    await trio.testing.wait_all_tasks_blocked()
    # Nobody is told of a loss: there was none.
    assert seen[:-1] == [Connected("n1", 1113), Redirected(("n2", 1113)), Connected("n2", 1113)]
    assert isinstance(seen[-1], Closed)
    # The cluster was not asked anew.
    assert web.log == ["s", "n1", "n2"]
    assert slave.closed


@pytest.mark.parametrize("named", [("n1", 1113), ("", 0)], ids=["itself", "nobody"])
async def test_who_names_itself_or_nobody_is_not_believed(nursery: trio.Nursery, named: tuple[str, int]) -> None:
    """Pitfall 46: the cluster is asked, more and more seldom, until there is a master."""
    told = [*[slaves("n1")] * 5, answer(gossip(("Master", "n2", 1113)))]
    peers = [refuse(Peer(), not_master(*named)) for _ in range(5)]
    web = Web(nursery, {"s": told}, {"n1": list(peers), "n2": accept(Peer())})
    seen: list[Change] = []
    async with open_connection(SEED, connect=web.connect) as conn:
        nursery.start_soon(changes_of, conn, seen)
        await conn.append("orders", NewEvent("OrderPlaced"))
        assert conn.statistics().reconnects == 5
    assert web.log == ["s", "n1"] * 5 + ["s", "n2"]
    assert seen.count(Redirected(None)) == 5
    # It did not go round as fast as it could.
    assert 0.2 < trio.current_time() < 5


async def test_nodes_that_name_each_other(nursery: trio.Nursery) -> None:
    others = {"n1": "n2", "n2": "n1"}
    peers: dict[str, Any] = {
        name: [refuse(Peer(), not_master(other, 1113)) for _ in range(99)] for name, other in others.items()
    }
    web = Web(nursery, {"s": slaves("n1")}, peers)
    settings = SEED.replace(operation_timeout=20)
    async with open_connection(settings, connect=web.connect) as conn:
        call = Call(nursery, conn.append, "orders", NewEvent("OrderPlaced"))
        assert "no answer within 20 s" in str(await call.error())
        assert conn.statistics().reconnects < 20


async def test_a_named_node_that_cannot_be_reached(nursery: trio.Nursery) -> None:
    slave = refuse(Peer(), not_master("n2", 1113))
    told = [slaves("n1"), answer(gossip(("Master", "n3", 1113)))]
    web = Web(nursery, {"s": told}, {"n1": slave, "n2": OSError("gone"), "n3": accept(Peer())})
    async with open_connection(SEED, connect=web.connect) as conn:
        await conn.append("orders", NewEvent("OrderPlaced"))
    assert web.log == ["s", "n1", "n2", "s", "n3"]


async def test_the_order_is_kept(nursery: trio.Nursery) -> None:
    """Whoever's task wakes up first, and whatever comes while the connection moves."""
    slave, master = Peer(), accept(Peer())
    web = Web(nursery, {"s": slaves("n1")}, {"n1": slave, "n2": master})
    async with open_connection(SEED, connect=web.connect) as conn:
        calls = []
        for number in range(20):
            calls.append(Call(nursery, conn.append, f"s{number:02}", NewEvent("x"), expected=5))
            await trio.testing.wait_all_tasks_blocked()
        requests = slave.unanswered()
        # All at once, so that their tasks wake up in any order; the last one never.
        said = [encode(Command.NOT_HANDLED, each.correlation, not_master("n2", 1113)) for each in requests[:-1]]
        slave.send_bytes(b"".join(said))
        await trio.lowlevel.checkpoint()
        calls.append(Call(nursery, conn.append, "s20", NewEvent("x"), expected=5))
        for call in calls:
            await call.value()
    assert streams(master) == [f"s{number:02}" for number in range(21)]
    # It waited for the one answer that never came, but not for long.
    assert 1 <= trio.current_time() < 1.1


async def test_what_is_under_way_gets_its_answer_before_the_node_is_left(nursery: trio.Nursery) -> None:
    slave, master = Peer(), accept(Peer())
    web = Web(nursery, {"s": slaves("n1")}, {"n1": slave, "n2": master})
    async with open_connection(SEED, connect=web.connect) as conn:
        other = Call(nursery, conn.delete_stream, "t", expected=ANY)
        refused = Call(nursery, conn.append, "s", NewEvent("x"))
        await trio.testing.wait_all_tasks_blocked()
        delete, write = sorted(slave.unanswered(), key=lambda each: -each.command)
        slave.send(Command.NOT_HANDLED, write.correlation, not_master("n2", 1113))
        await trio.sleep(0.5)
        slave.send(Command.DELETE_STREAM_COMPLETED, delete.correlation, schema.DeleteStreamCompleted(result=0))
        await other.value()
        await refused.value()
    assert 0.5 <= trio.current_time() < 0.6


async def test_what_nobody_can_repeat_and_has_no_answer_is_unknown(nursery: trio.Nursery) -> None:
    slave, master = refuse(Peer(), not_master("n2", 1113)), accept(Peer())
    web = Web(nursery, {"s": slaves("n1")}, {"n1": slave, "n2": master})
    async with open_connection(SEED, connect=web.connect) as conn:
        other = Call(nursery, conn.delete_stream, "t", expected=ANY)
        await trio.testing.wait_all_tasks_blocked()
        await conn.append("s", NewEvent("x"))
        assert isinstance(await other.error(), OutcomeUnknown)


@pytest.mark.parametrize("mode", ["read", "any", "one node"])
async def test_who_does_not_want_the_master_is_told(nursery: trio.Nursery, mode: str) -> None:
    web = Web(nursery, {"s": slaves("n1")}, {"n1": refuse(Peer(), not_master("n2", 1114))})
    settings = Settings(host="n1") if mode == "one node" else SEED.replace(mode=mode)
    async with open_connection(settings, connect=web.connect) as conn:
        with pytest.raises(NotMaster) as caught:
            await conn.append("orders", NewEvent("OrderPlaced"), require_master=True)
        assert (caught.value.endpoint, caught.value.secure_endpoint) == (("n2", 1114), None)
        assert await conn.ping() == 0
        assert conn.statistics().reconnects == 0


async def test_modes_other_than_write_let_the_node_pass_writes_on(nursery: trio.Nursery) -> None:
    for mode, wanted in (("write", True), ("read", False), ("any", False)):
        peer = accept(Peer())
        web = Web(nursery, {"s": slaves("n1")}, {"n1": peer})
        async with open_connection(SEED.replace(mode=mode), connect=web.connect) as conn:
            await conn.append("orders", NewEvent("OrderPlaced"))
        (request,) = [each for each in peer.log if each.command == WRITE]
        assert request.message.require_master is wanted  # type: ignore[attr-defined]


async def test_the_secure_address_and_those_that_are_mapped(nursery: trio.Nursery) -> None:
    info = not_master("n2", 1115, secure=True)
    web = Web(nursery, {"s": slaves("n1")}, {"n1": refuse(Peer(), info)})
    async with open_connection(SEED.replace(mode="any"), connect=web.connect) as conn:
        with pytest.raises(NotMaster, match="that is n2:1115") as caught:
            await conn.append("orders", NewEvent("OrderPlaced"))
    assert (caught.value.endpoint, caught.value.secure_endpoint) == (None, ("n2", 1115))
    web = Web(nursery, {"s": slaves("n1")}, {"n1": refuse(Peer(), not_master("n2", 1113)), "m": accept(Peer())})
    mapped = SEED.replace(endpoint_map={("n2", 1113): ("m", 5)})
    async with open_connection(mapped, connect=web.connect) as conn:
        await conn.append("orders", NewEvent("OrderPlaced"))
        assert await anext(conn.changes()) == Connected("m", 5)


async def test_a_call_that_is_cancelled_while_the_connection_moves(nursery: trio.Nursery) -> None:
    slave, master = refuse(Peer(), not_master("n2", 1113)), accept(Peer())
    gate = trio.Event()
    web = Web(nursery, {"s": slaves("n1")}, {"n1": slave})

    async def connect(host: str, port: int) -> trio.abc.Stream:
        if host == "n2":
            await gate.wait()
            return master.stream
        return await web.connect(host, port)

    async with open_connection(SEED.replace(connect_timeout=60), connect=connect) as conn:
        call = Call(nursery, conn.append, "gone", NewEvent("x"))
        stays = Call(nursery, conn.append, "stays", NewEvent("x"))
        await trio.sleep(1)
        call.scope.cancel()
        gate.set()
        await stays.value()
        assert_nothing_left(conn)
    assert streams(master) == ["stays"]


async def test_leaving_the_block_while_the_connection_moves(nursery: trio.Nursery) -> None:
    slave = refuse(Peer(), not_master("n2", 1113))
    web = Web(nursery, {"s": slaves("n1")}, {"n1": slave, "n2": OSError("gone")})
    async with open_connection(SEED, connect=web.connect) as conn:
        hanging = Call(nursery, conn.delete_stream, "t", expected=ANY)
        call = Call(nursery, conn.append, "s", NewEvent("x"))
        await trio.sleep(0.5)
        # The session is being left, but not yet gone.
        assert not slave.closed
    assert slave.closed
    for each in (hanging, call):
        assert "block was left" in str(await each.error())


# --- with a cluster


def settings_of(cluster: Cluster, **changes: Any) -> Settings:
    nodes = [("127.0.0.1", node.http_port) for node in cluster.nodes]
    return Settings(**({"nodes": nodes, "username": "admin", "password": "changeit"} | changes))


def at(node: Node) -> Settings:
    return ADMIN.replace(host=node.host, port=node.port)


async def depose(cluster: Cluster) -> None:
    """Let the master lose the others from sight: its clients keep their connections."""
    old = await cluster.wait_for_master()
    cluster.isolate(old)
    await trio.sleep(5)
    cluster.rejoin(old)
    assert await cluster.wait_for_master() is not old


async def test_failing_over_without_anyone_noticing() -> None:
    """Masters are killed under an appender and a consumer: each event once, in order, and nothing else is seen."""
    got: list[bytes] = []

    async def consume(conn: Connection) -> None:
        async with conn.subscribe("orders") as events:
            async for event in events:
                got.append(event.data)  # noqa: PERF401 - as above

    async with open_cluster(3, port=None) as cluster:
        await cluster.wait_for_master()
        async with (
            open_connection(settings_of(cluster), connect=cluster.connect) as conn,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(consume, conn)
            for number in range(30):
                (event,) = new_events(1, number)
                await conn.append("orders", event, expected=NO_STREAM if number == 0 else number - 1)
                if number % 10 == 5:
                    killed = cluster.kill()
                elif number % 10 == 9:
                    cluster.start(killed)
                    await trio.sleep(1)
            await trio.sleep(2)
            assert got == [str(number).encode() for number in range(30)]
            nursery.cancel_scope.cancel()


async def test_a_master_that_is_deposed() -> None:
    """It keeps its clients; what they write is refused there, and follows. Groups are consumed on at the new master."""
    got: list[bytes] = []

    async def work(conn: Connection) -> None:
        async with conn.subscribe_persistent("orders", "workers") as events:
            async for event in events:
                await events.ack(event)
                got.append(event.data)

    async with open_cluster(3, port=None) as cluster:
        master = await cluster.wait_for_master()
        async with (
            open_connection(settings_of(cluster), connect=cluster.connect) as conn,
            trio.open_nursery() as nursery,
        ):
            await conn.create_persistent("orders", "workers")
            nursery.start_soon(work, conn)
            await conn.append("orders", new_events(3), expected=NO_STREAM)
            await trio.sleep(1)
            await depose(cluster)
            await conn.append("orders", new_events(3, 3), expected=2)
            await trio.sleep(5)
            assert set(got) == {str(number).encode() for number in range(6)}
            assert (await anext(conn.changes())) != Connected(master.host, master.port)
            nursery.cancel_scope.cancel()


async def test_persistent_commands_at_a_slave_go_to_the_master(nursery: trio.Nursery) -> None:
    async with open_cluster(3, port=None) as cluster:
        master = await cluster.wait_for_master()
        slave = cluster.replicas[0]

        async def connect(host: str, port: int) -> trio.abc.Stream:
            """Gossip tells of slaves alone to begin with."""
            if port == 1:
                told = gossip(("Slave", slave.host, slave.port))
                return await Web(nursery, {host: answer(told)}).connect(host, port)
            return await cluster.connect(host, port)

        settings = settings_of(cluster, nodes=[("s", 1)])
        async with open_connection(settings, connect=connect) as conn:
            await conn.append("orders", new_events(1))
            assert await anext(conn.changes()) == Connected(master.host, master.port)
        async with open_connection(settings, connect=connect) as conn:
            await conn.create_persistent("orders", "workers")
            assert await anext(conn.changes()) == Connected(master.host, master.port)
        async with (
            open_connection(settings, connect=connect) as conn,
            conn.subscribe_persistent("orders", "workers") as events,
        ):
            assert await anext(conn.changes()) == Connected(master.host, master.port)
            await trio.lowlevel.checkpoint()
            del events
        async with open_connection(settings.replace(mode="read"), connect=connect) as conn:
            with pytest.raises(NotMaster):
                async with conn.subscribe_persistent("orders", "workers"):
                    pass
            # Written by the slave, which has it done by the master.
            await conn.append("orders", new_events(1, 1))


async def test_a_pause_of_the_master_under_load(nursery: trio.Nursery) -> None:
    """Many appends at once, none of them twice, whatever became of their first attempts."""
    async with open_cluster(3, port=None) as cluster:
        await cluster.wait_for_master()
        async with open_connection(settings_of(cluster), connect=cluster.connect) as conn:

            async def write(number: int) -> None:
                for step in range(5):
                    await conn.append(f"s{number}", new_events(1, step), expected=NO_STREAM if step == 0 else step - 1)
                    await trio.sleep(0.3)

            async with trio.open_nursery() as writers:
                for number in range(20):
                    writers.start_soon(write, number)
                await trio.sleep(0.4)
                await depose(cluster)
            for number in range(20):
                data = [event.data async for event in conn.read_stream(f"s{number}", require_master=True)]
                assert data == [b"0", b"1", b"2", b"3", b"4"]
