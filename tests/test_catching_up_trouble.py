"""Catch-up subscriptions in trouble: servers that stop, stall or do not answer, and what became of the stream."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import NotHandled, not_handled
from tests.following import (
    READ,
    SUBSCRIBE,
    append,
    assert_silent,
    confirm_now,
    followed,
    give,
    open_to_each,
    play,
    push,
    set_metadata,
    take,
    take_until,
    unsubscribed,
)
from tests.helpers import new_events
from tests.peer import ANONYMOUS, Call, Peer, open_to
from trio_extreme import (
    ANY,
    CaughtUp,
    Connection,
    ConnectionLost,
    OutcomeUnknown,
    Reconnected,
    StreamDeleted,
    StreamMissing,
    open_connection,
)
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.embedded import Node

pytestmark = pytest.mark.usefixtures("autojump_clock")

BACK = Reconnected(gap_possible=False)


# --- what the embedded node can do to it


@pytest.mark.parametrize("pace", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_to_the_node(node: Node, seed: int, pace: float) -> None:
    settings = node.settings.replace(buffer_events=5, operation_timeout=600)
    seen: list[int] = []
    async with (
        open_connection(settings, connect=node.connect) as writer,
        open_connection(settings, connect=node.connect) as conn,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(write_all, writer, 100)
        nursery.start_soon(see_all, conn, seen, pace)
        await node.faults.play(Random(seed), seconds=40, rate=1, longest=3)
        await trio.sleep(120)
        assert seen == [event.number async for event in writer.read_stream("s")] == list(range(100))
        nursery.cancel_scope.cancel()


async def see_all(conn: Connection, seen: list[int], pace: float) -> None:
    async with conn.subscribe("s", page_size=7) as events:
        async for event in events:
            seen.append(event.number)
            await trio.sleep(pace)


async def write_all(conn: Connection, size: int) -> None:
    """Each event once: its id and its number see to that."""
    for number, event in enumerate(new_events(size)):
        done = False
        while not done:
            with suppress(OutcomeUnknown):
                await conn.append("s", event, expected=number - 1)
                done = True
        await trio.sleep(0.3)


async def test_a_server_that_stops_and_starts_again(conn: Connection, node: Node) -> None:
    await append(conn, 3)
    async with conn.subscribe("s") as events:
        items = events.with_notices()
        assert await take(items, 4) == [0, 1, 2, CaughtUp()]
        node.faults.restart(graceful=True, down=2)
        await append(conn, 2, 3)
        assert await take(items, 4) == [BACK, 3, 4, CaughtUp()]
        await assert_silent(items)


@pytest.mark.parametrize("fault", ["refuse", "pause", "not_ready", "restart"])
async def test_offline_for_longer_than_any_call_may_take(conn: Connection, node: Node, fault: str) -> None:
    """That ends no subscription, wherever it is: at a page, at the confirmation, live."""
    await append(conn, 3)
    seconds = conn._engine.settings.operation_timeout * 3
    async with conn.subscribe("s", page_size=1) as reading, conn.subscribe("s") as live:
        assert await take(reading, 1) == [0]
        assert await take(live.with_notices(), 4) == [0, 1, 2, CaughtUp()]
        async with trio.open_nursery() as nursery:
            calls = [Call(nursery, take_until, events, 4) for events in (reading, live)]
            getattr(node.faults, fault)(seconds)
            if fault in {"refuse", "not_ready"}:
                node.faults.kill_connections()
            await trio.sleep(seconds + 10)
            await append(conn, 2, 3)
            assert await calls[0].value() == [1, 2, 3, 4]
            assert await calls[1].value() == [3, 4]


async def test_a_dead_connection_that_nobody_closed(conn: Connection, node: Node) -> None:
    async with conn.subscribe("s") as events:
        items = events.with_notices()
        assert await take(items, 2) == [StreamMissing("s"), CaughtUp()]
        node.faults.half_open()
        async with open_connection(node.settings, connect=node.connect) as other:
            await append(other, 2)
        began = trio.current_time()
        assert await take(items, 4) == [BACK, 0, 1, CaughtUp()]
        assert trio.current_time() - began < 6


# --- what became of the stream meanwhile


async def lose_and(conn: Connection, node: Node, change: Any) -> list[Any]:
    """What a subscription that is live at number 3 sees after this happened while it was offline."""
    await append(conn, 3)
    async with open_connection(node.settings, connect=node.connect) as other, followed(conn.subscribe("s")) as consumer:
        await wait_all_tasks_blocked()
        assert consumer.seen == [0, 1, 2, CaughtUp()]
        await other.ping()
        with node.faults.refuse():
            [mine, *_] = list(node._connections)
            mine.cut()
            await change(other)
        await trio.sleep(10)
        await append_if_possible(other)
        return [*consumer.seen[4:], *([type(consumer.error)] if consumer.error else [])]


async def append_if_possible(conn: Connection) -> None:
    try:
        await append(conn, 1)
    except StreamDeleted:
        return
    await wait_all_tasks_blocked()


async def delete(conn: Connection) -> None:
    await conn.delete_stream("s", expected=ANY)


async def delete_for_ever(conn: Connection) -> None:
    await conn.delete_stream("s", expected=ANY, hard=True)


async def delete_and_write(conn: Connection) -> None:
    await delete(conn)
    await append(conn, 2)


async def truncate(conn: Connection) -> None:
    await append(conn, 5)
    await set_metadata(conn, tb=6)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (delete, [BACK, StreamMissing("s"), CaughtUp(), 3]),
        (delete_for_ever, [StreamDeleted]),
        (delete_and_write, [BACK, 3, 4, CaughtUp(), 5]),
        (truncate, [BACK, 6, 7, CaughtUp(), 8]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_the_stream_changed_meanwhile(conn: Connection, node: Node, change: Any, seen: list[Any]) -> None:
    assert await lose_and(conn, node, change) == seen


async def test_still_missing_after_a_reconnect(conn: Connection, node: Node) -> None:
    """That it is missing is told once, until it was there."""
    async with conn.subscribe("s") as events:
        items = events.with_notices()
        assert await take(items, 2) == [StreamMissing("s"), CaughtUp()]
        node.faults.kill_connections()
        assert await take(items, 2) == [BACK, CaughtUp()]
        await append(conn, 1)
        assert await take(items, 1) == [0]
        await conn.delete_stream("s", expected=ANY)
        node.faults.kill_connections()
        assert await take(items, 3) == [BACK, StreamMissing("s"), CaughtUp()]


# --- a server that does not answer


async def test_a_page_that_is_not_answered_is_asked_for_in_smaller_ones() -> None:
    """A page whose session died, too: a server may fail for ever over the same one."""
    peers = [Peer() for _ in range(3)]
    play(peers[2], 9)
    async with open_to_each(*peers) as conn, followed(conn.subscribe("s")) as consumer:
        sizes = [(await peers[0].receive(READ)).message.max_count, (await peers[0].receive(READ)).message.max_count]
        assert trio.current_time() == ANONYMOUS.attempt_timeout
        peers[0].hang_up()
        sizes.append((await peers[1].receive(READ)).message.max_count)
        assert sizes == [8, 2, 1]
        peers[1].hang_up()
        await trio.sleep(1)
        assert consumer.seen == [*range(10), CaughtUp()]


async def test_one_event_of_which_sessions_die_by_chance() -> None:
    """Fewer than ten in a row are no proof, and what comes makes up for them."""
    peers = [Peer() for _ in range(19)]
    play(peers[-1], 2)
    async with open_to_each(*peers) as conn, followed(conn.subscribe("s", page_size=1)) as consumer:
        await give(peers[0], 0)
        for peer in peers[:9]:
            await peer.receive(READ)
            peer.hang_up()
        await give(peers[9], 1)
        for peer in peers[9:-1]:
            await peer.receive(READ)
            peer.hang_up()
        await trio.sleep(30)
        assert [one for one in consumer.seen if one != BACK] == [0, 1, 2, CaughtUp()]


async def test_one_event_of_which_ten_sessions_die() -> None:
    """Then it is what breaks the server, and everybody else goes on."""
    peers = [Peer() for _ in range(11)]
    async with open_to_each(*peers) as conn, followed(conn.subscribe("s", page_size=1)) as consumer:
        await give(peers[0], 0)
        for peer in peers[:10]:
            await peer.receive(READ)
            peer.hang_up()
        await trio.sleep(30)
        assert consumer.seen == [0]
        assert type(consumer.error) is ConnectionLost
        await conn.ping()


async def test_sessions_that_die_while_it_waits_behind_the_end(conn: Connection, node: Node) -> None:
    """There is no event to blame, so that may be chance: each answer clears it, and so do five deaths in a row."""
    async with followed(conn.subscribe("s")) as consumer:
        await append(conn, 3)
        await trio.sleep(1)
        for deaths in (2, 2, 5):
            node.faults.drop_reply(READ, count=deaths, kill=True)
            node.faults.kill_connections()
            await trio.sleep(60)
        await append(conn, 1, first=3)
        await trio.sleep(1)
        assert consumer.numbers == [0, 1, 2, 3]


async def test_sessions_that_die_of_something_behind_the_end(conn: Connection, node: Node) -> None:
    """Many in a row are no chance any more, and nobody waits for ever."""
    async with followed(conn.subscribe("s")) as consumer:
        await append(conn, 3)
        await trio.sleep(1)
        node.faults.drop_reply(READ, count=30, kill=True)
        node.faults.kill_connections()
        await trio.sleep(60)
        assert type(consumer.error) is ConnectionLost
        assert consumer.numbers == [0, 1, 2]


async def test_a_confirmation_that_does_not_come() -> None:
    """It is asked for again, for as long as it takes, each time under another id; the earlier ones are taken back."""
    first, second = Peer(), Peer()
    async with open_to_each(first, second) as conn, followed(conn.subscribe("s")) as consumer:
        await give(first, 0, end=True)
        asked = [await first.receive(SUBSCRIBE) for _ in range(5)]
        assert trio.current_time() == 4 * ANONYMOUS.attempt_timeout
        assert unsubscribed(first) == [request.correlation for request in asked[:4]]
        first.hang_up()
        for _ in range(5):
            request = await second.receive(SUBSCRIBE)
        second.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
        await push(second, request, 1)
        await confirm_now(second, 0, then=[1])
        # What the first session said of its end need not be true of the second's.
        await give(second, end=True)
        assert consumer.seen == [0, BACK, CaughtUp(), 1]


async def test_a_node_that_is_not_ready_for_long() -> None:
    peer = Peer()
    play(peer)
    play_read = peer.handlers[READ]
    peer.handlers[READ] = lambda request: peer.send(
        Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady)
    )
    async with open_to(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await trio.sleep(ANONYMOUS.operation_timeout * 2)
        assert consumer.seen == []
        peer.handlers[READ] = play_read
        await trio.sleep(1)
        assert consumer.seen == [0, 1, 2, 3, 4, CaughtUp()]
