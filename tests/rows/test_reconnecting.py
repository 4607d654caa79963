"""Connections that break, and how everything goes on: calls, catch-up subscriptions, live ones."""

from __future__ import annotations

import time
from operator import methodcaller
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.answers import event_read
from tests.helpers import assert_nothing_left, new_events
from tests.peer import ANONYMOUS, Call, Network, Peer, open_to
from tests.rows.consuming import assert_no_event, connected, hear, lost, next_of, soon, take, take_until_caught_up
from trio_extreme import (
    ANY,
    NO_STREAM,
    CaughtUp,
    Closed,
    Connected,
    ConnectFailed,
    ConnectionLost,
    Lost,
    NewEvent,
    OperationTimedOut,
    OutcomeUnknown,
    Reconnected,
    Reconnecting,
    StreamDeleted,
    StreamMetadata,
    StreamMissing,
    WrongExpectedVersion,
    open_connection,
)
from trio_extreme.embedded import open_node
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from trio_extreme import Connection
    from trio_extreme.embedded import Node
    from trio_extreme.embedded.faults import Faults

SILENCE = ANONYMOUS.heartbeat_interval + ANONYMOUS.heartbeat_timeout
"""How long a dead server may stay unnoticed."""
GAP = Reconnected(gap_possible=True)
NO_GAP = Reconnected(gap_possible=False)


# --- calls


async def test_pending_calls_go_on_in_the_next_session(conn: Connection, node: Node, nursery: trio.Nursery) -> None:
    await conn.append("people", new_events(1))
    node.faults.drop_reply(count=3)
    calls = [
        Call(nursery, conn.append, "people", NewEvent("happened"), expected=0),
        Call(nursery, conn.append, "places", NewEvent("happened")),
        Call(nursery, conn.read_event, "people", 0),
    ]
    await trio.testing.wait_all_tasks_blocked()
    # It forgets the ids of what was written of late: whoever sends it again writes it again.
    node.faults.restart()
    numbered, unnumbered, read = [await call.value() for call in calls]
    assert (numbered.last, unnumbered.last, read.number) == (1, 0, 0)
    # The first attempts were carried out.
    assert await conn.last_number("people") == 1
    assert await conn.last_number("places") == 0
    assert_nothing_left(conn)


async def test_pending_calls_end_by_their_deadline(conn: Connection, node: Node, nursery: trio.Nursery) -> None:
    event = NewEvent("happened")
    node.faults.drop_reply(Command.WRITE_EVENTS, kill=True)
    with node.faults.refuse():
        append, read = Call(nursery, conn.append, "people", event), Call(nursery, conn.read_event, "people", 0)
        errors = await append.error(), await read.error()
        assert trio.current_time() == 30
    assert [type(error) for error in errors] == [OutcomeUnknown, OperationTimedOut]
    assert errors[0].event_ids == (event.id,)
    assert_nothing_left(conn)


async def test_an_append_to_a_dead_server(conn: Connection, node: Node) -> None:
    event = NewEvent("happened")
    with node.faults.refuse():
        node.faults.half_open()
        with trio.move_on_after(1):
            await conn.append("people", event)
        assert trio.current_time() == 1
        with pytest.raises(OutcomeUnknown) as info:
            await conn.append("people", event)
        assert trio.current_time() == 1 + 30
    assert info.value.event_ids == (event.id,)


async def test_an_append_to_a_server_that_died_and_came_back(conn: Connection, node: Node) -> None:
    node.faults.half_open()
    with trio.fail_after(SILENCE + 1):
        assert (await conn.append("people", new_events(1), expected=NO_STREAM)).last == 0
        assert (await conn.append("people", new_events(1))).last == 1


async def test_an_append_to_a_stream_that_was_deleted_before_it_could_be_repeated(conn: Connection, node: Node) -> None:
    """The server would number it on: there NO_STREAM protects nothing."""
    node.faults.drop_reply(Command.WRITE_EVENTS)
    with node.faults.delay(1):
        async with trio.open_nursery() as nursery:
            call = Call(nursery, conn.append, "people", new_events(1), expected=NO_STREAM)
            await trio.sleep(5)
            node.store.delete("people", ANY, hard=False)
            node.faults.restart()
            assert isinstance(await call.error(), OutcomeUnknown)
    assert len(node.store.records("people")) == 1


async def test_an_append_below_a_transaction_that_was_written_long_before(autojump_clock: MockClock) -> None:
    """Its events are older than the append, and were committed after it: they are no end of the look."""
    ago = 600.0
    async with (
        open_node(port=None, now=lambda: time.time() - ago) as node,
        open_connection(node.settings, connect=node.connect) as conn,
        open_connection(node.settings, connect=node.connect) as other,
        trio.open_nursery() as nursery,
    ):
        async with other.transaction("people", expected=ANY) as tx:
            await tx.write(new_events(20))
            ago = 0.0
            node.faults.drop_reply(Command.WRITE_EVENTS, kill=True)
            node.faults.refuse(1)
            call = Call(nursery, conn.append, "people", new_events(1))
            await trio.testing.wait_all_tasks_blocked()
        node.faults.restart()
        assert (await call.value()).last == 0
        assert len(node.store.records("people")) == 21


async def test_metadata_that_was_set_by_somebody_else_before_it_could_be_set_again(
    conn: Connection, node: Node
) -> None:
    """Of metadata only the last is seen: where that has the number that ours would have, ours is none."""
    await conn.set_metadata("people", StreamMetadata(max_count=3))
    for others, told in ((1, WrongExpectedVersion), (2, OutcomeUnknown)):
        last = await conn.last_number("$$people")
        assert last is not None
        node.faults.half_open()
        async with open_connection(node.settings, connect=node.connect) as other, trio.open_nursery() as nursery:
            call = Call(nursery, conn.set_metadata, "people", StreamMetadata(max_count=4), expected=last)
            for _ in range(others):
                await other.set_metadata("people", StreamMetadata(max_count=5))
            assert isinstance(await call.error(), told)


async def test_a_broken_send(autojump_clock: MockClock) -> None:
    broken, whole = Peer(), Peer()
    whole.handlers[Command.READ_EVENT] = lambda request: whole.send(
        Command.READ_EVENT_COMPLETED, request.correlation, event_read(7)
    )
    async with open_connection(ANONYMOUS, connect=Network(broken, whole).connect) as conn:
        changes = conn.changes()
        assert isinstance(await soon(changes), Connected)
        broken.break_sending()
        assert (await conn.read_event("s", 7)).number == 7
        change = await soon(changes)
        assert isinstance(change, Lost)
        assert isinstance(change.reason, ConnectionLost)
        assert_nothing_left(conn)


@pytest.mark.parametrize("where", [1, 3, 4, 5, 21, 22, 30])
async def test_half_a_frame_does_not_survive(where: int, conn: Connection, node: Node) -> None:
    await conn.append("people", new_events(3))
    node.faults.cut_inside_frame(where)
    assert (await conn.append("people", new_events(1))).last == 3
    assert [event.number async for event in conn.read_stream("people")] == [0, 1, 2, 3]
    async with conn.subscribe("people") as events:
        assert await take_until_caught_up(events) == [0, 1, 2, 3]
        node.faults.cut_inside_frame(where)
        async with connected(node) as writer:
            await writer.append("people", new_events(1))
        assert await take(events, 1) == [4]
    assert conn.statistics().reconnects == 2


# --- silence


async def test_a_half_open_connection_is_noticed(conn: Connection, node: Node) -> None:
    await trio.sleep(60)
    node.faults.half_open()
    assert isinstance(await lost(conn), ConnectionLost)
    assert trio.current_time() <= 60 + SILENCE
    await conn.ping()


async def test_a_server_that_skips_heartbeats(conn: Connection, node: Node) -> None:
    with node.faults.pause():
        await lost(conn)
        assert trio.current_time() <= SILENCE
    await conn.ping()
    assert conn.statistics().reconnects == 1


async def test_a_server_that_skips_heartbeats_for_a_while(conn: Connection, node: Node) -> None:
    node.faults.pause(SILENCE - 1)
    await trio.sleep(60)
    await conn.ping()
    assert conn.statistics().reconnects == 0


async def test_a_machine_that_slept(conn: Connection, node: Node, autojump_clock: MockClock) -> None:
    """The server has given us up meanwhile, and nobody could tell us."""
    async with conn.subscribe("people") as events, conn.subscribe_live("people") as live:
        assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
        node.faults.half_open()
        autojump_clock.jump(8 * 3600)
        async with connected(node) as writer:
            await writer.append("people", new_events(3))
            with trio.fail_after(SILENCE + 1):
                assert await take(events, 3) == [0, 1, 2]
            await writer.append("people", new_events(1))
        assert await take(live, 1) == [3]


async def test_only_this_program_stood_still(autojump_clock: MockClock) -> None:
    """What the server said meanwhile waits to be read."""
    peer = Peer(mute=[Command.HEARTBEAT_REQUEST])
    async with open_to(peer) as conn:
        # Often, for who looks first is chance: who reads, or who watches for silence.
        for _ in range(20):
            with trio.fail_after(SILENCE):
                asked = await peer.receive(Command.HEARTBEAT_REQUEST)
            peer.send(Command.HEARTBEAT_RESPONSE, asked.correlation)
            autojump_clock.jump(60)
            await conn.ping()
        assert conn.statistics().reconnects == 0


# --- subscriptions


async def test_every_kind_of_subscription_goes_on(conn: Connection, node: Node) -> None:
    async with (
        conn.subscribe("people") as events,
        conn.subscribe_live("people") as live,
        conn.subscribe_all() as log,
        conn.subscribe_all_live() as live_log,
    ):
        await take_until_caught_up(events)
        for number in range(10):
            node.faults.kill_connections()
            assert (await conn.append("people", new_events(1))).last == number
            assert await take(events, 1) == await take(live, 1) == [number]
            assert await next_of(log, "people") == await next_of(live_log, "people") == number
    assert conn.statistics().reconnects == 10


@pytest.mark.parametrize("graceful", [False, True])
async def test_the_server_is_down_for_long(graceful: bool, conn: Connection, node: Node) -> None:
    async with conn.subscribe("people") as events, conn.subscribe_live("people") as live:
        await conn.append("people", new_events(3))
        assert await take_until_caught_up(events) == [0, 1, 2]
        node.faults.restart(down=600, graceful=graceful)
        await trio.sleep(600)
        with trio.fail_after(ANONYMOUS.max_reconnect_delay):
            await conn.append("people", new_events(3))
        assert await hear(events, 5) == [NO_GAP, 3, 4, 5, CaughtUp()]
        assert await hear(live, 8) == [StreamMissing("people"), 0, 1, 2, GAP, 3, 4, 5]


async def test_a_consumer_waits_while_the_server_is_down(conn: Connection, node: Node) -> None:
    """For as long as that takes: it has no deadline as a call has."""
    await conn.append("people", new_events(5))
    async with conn.subscribe("people", page_size=2) as events:
        assert await take(events, 1) == [0]
        node.faults.restart(down=90)
        assert await take(events, 4) == [1, 2, 3, 4]
        assert trio.current_time() >= 90


async def test_a_port_that_accepts_and_resets(node: Node) -> None:
    """As a load balancer does whose server has gone: it is tried again and again, at leisure."""
    times: list[float] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        times.append(trio.current_time())
        if len(times) > 1 and trio.current_time() < 600:
            peer = Peer()
            peer.hang_up()
            return peer.stream
        return await node.connect(host, port)

    async with open_connection(node.settings, connect=connect) as conn, conn.subscribe("people") as events:
        await take_until_caught_up(events)
        node.faults.kill_connections()
        await trio.sleep(600)
        await conn.append("people", new_events(1))
        assert await take(events, 1) == [0]
    # Delays are drawn from up to five seconds.
    assert 120 < len(times) < 480


async def test_every_disconnect_is_told(conn: Connection, node: Node) -> None:
    changes = conn.changes()
    up = await soon(changes)
    async with conn.subscribe_live("people") as events:
        assert await hear(events, 1) == [StreamMissing("people")]
        for number in range(5):
            node.faults.kill_connections()
            assert [type(await soon(changes)) for _ in range(2)] == [Lost, Reconnecting]
            assert await soon(changes) == up
            await conn.append("people", new_events(1))
            assert await hear(events, 2) == [GAP, number]


async def test_every_gap_is_logged(conn: Connection, node: Node, caplog: pytest.LogCaptureFixture) -> None:
    async with conn.subscribe_live("people") as events:
        for number in range(5):
            node.faults.kill_connections()
            await conn.append("people", new_events(1))
            assert await take(events, 1) == [number]
    assert len([record for record in caplog.records if "events may be missing" in record.message]) == 5


async def test_what_was_buffered_does_not_come_again(conn: Connection, node: Node) -> None:
    """Some in the consumer's hands, some in the mailbox, some never pushed."""
    async with conn.subscribe("people") as events:
        assert await take_until_caught_up(events) == []
        await conn.append("people", new_events(4))
        assert await take(events, 1) == [0]
        await conn.append("people", new_events(10))
        node.faults.kill_connections()
        async with connected(node) as writer:
            await writer.append("people", new_events(10))
            assert conn.statistics().reconnects == 0
        await conn.append("people", new_events(10))
        assert await take(events, 33) == list(range(1, 34))
        await assert_no_event(events)


@pytest.mark.parametrize("hard", [False, True])
async def test_deleted_while_the_connection_was_down(hard: bool, conn: Connection, node: Node) -> None:
    async with conn.subscribe("people") as events, conn.subscribe_live("people") as live:
        await conn.append("people", new_events(2))
        assert await take_until_caught_up(events) == await take(live, 2) == [0, 1]
        node.faults.kill_connections()
        async with connected(node) as writer:
            await writer.delete_stream("people", expected=1, hard=hard)
            assert conn.statistics().reconnects == 0
        if hard:
            for each in (events, live):
                with pytest.raises(StreamDeleted):
                    await take(each, 1)
        else:
            assert await hear(events, 3) == [NO_GAP, StreamMissing("people"), CaughtUp()]
            await conn.append("people", new_events(2))
            assert await take(events, 2) == await take(live, 2) == [2, 3]


async def test_recreated_while_the_connection_was_down(conn: Connection, node: Node) -> None:
    async with conn.subscribe("people") as events:
        await conn.append("people", new_events(2))
        assert await take_until_caught_up(events) == [0, 1]
        node.faults.kill_connections()
        async with connected(node) as writer:
            await writer.append("people", new_events(2))
            await writer.delete_stream("people", expected=3)
            await writer.append("people", new_events(2))
            assert conn.statistics().reconnects == 0
        assert await hear(events, 4) == [NO_GAP, 4, 5, CaughtUp()]


async def test_when_attempts_run_out_everybody_is_told(node: Node, nursery: trio.Nursery) -> None:
    async with connected(node, max_attempts=3) as conn:
        changes = conn.changes()
        async with conn.subscribe("people") as events, conn.subscribe_live("people") as live:
            waiting = [Call(nursery, anext, each) for each in (events, live)]
            await trio.testing.wait_all_tasks_blocked()
            with node.faults.refuse():
                node.faults.kill_connections()
                waiting += [Call(nursery, conn.ping)]
                errors = [await call.error() for call in waiting]
            # The server is back; this connection is not.
            errors += [await Call(nursery, late).error() for late in (conn.ping, live.__anext__, events.__anext__)]
        assert {type(error) for error in errors} == {ConnectFailed}
        assert {len(error.attempts) for error in errors} == {3}
        told = [type(change) async for change in changes]
        assert told == [Connected, Lost, Reconnecting, Reconnecting, Reconnecting, Closed]


# --- nothing is left


async def test_no_task_is_left_by_a_reconnect(conn: Connection, node: Node) -> None:
    tasks = set()
    async with conn.subscribe("people") as events, conn.subscribe_live("people"):
        for number in range(20):
            await conn.append("people", new_events(1))
            assert await take(events, 1) == [number]
            await trio.testing.wait_all_tasks_blocked()
            tasks.add(trio.lowlevel.current_statistics().tasks_living)
            node.faults.kill_connections()
    assert len(tasks) == 1


@pytest.mark.parametrize(
    "fault",
    [methodcaller("kill_connections"), methodcaller("half_open"), methodcaller("pause"), methodcaller("restart", 60)],
)
async def test_leaving_is_quick(fault: Callable[[Faults], object], node: Node, nursery: trio.Nursery) -> None:
    """With calls that wait, events that nobody has read, and subscriptions that are open."""
    async with (
        open_connection(node.settings, connect=node.connect) as conn,
        conn.subscribe("people") as events,
        conn.subscribe_live("people"),
    ):
        await take_until_caught_up(events)
        await conn.append("people", new_events(1000))
        fault(node.faults)
        await trio.sleep(0.2)
        waiting = [Call(nursery, conn.append, "people", new_events(1)), Call(nursery, conn.read_event, "people", 0)]
        await trio.testing.wait_all_tasks_blocked()
        left = trio.current_time()
    assert trio.current_time() - left < 1
    await trio.testing.wait_all_tasks_blocked()
    assert all(call.done for call in waiting)
    assert_nothing_left(conn)


async def test_leaving_after_a_restart(node: Node) -> None:
    async with (
        open_connection(node.settings, connect=node.connect) as conn,
        conn.subscribe("people") as events,
        conn.subscribe_live("people"),
    ):
        await take_until_caught_up(events)
        node.faults.restart()
        await conn.ping()
        left = trio.current_time()
    assert trio.current_time() == left
    assert_nothing_left(conn)
