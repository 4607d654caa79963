"""Catch-up subscriptions across reconnects: wherever the connection breaks, each event comes once, and in order."""

from __future__ import annotations

import logging
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.following import (
    MOMENTS,
    SUBSCRIBE,
    append,
    asked_from,
    assert_caught_up_in_turns,
    assert_silent,
    confirm_now,
    followed,
    give,
    open_on,
    open_to_each,
    play,
    push,
    reach,
    take,
    take_until,
    unsubscribed,
)
from tests.helpers import assert_nothing_left
from tests.peer import ANONYMOUS, Call, Peer
from tests.sessions.streams import CutPoint, CutReceiving, CutSending, Then
from trio_extreme import (
    CaughtUp,
    ConnectFailed,
    ConnectionClosed,
    FellBehind,
    ProtocolError,
    Reconnected,
    open_connection,
)
from trio_extreme.embedded import open_node
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.embedded import Node

pytestmark = pytest.mark.usefixtures("autojump_clock")

BACK = Reconnected(gap_possible=False)


# --- at each point


@pytest.mark.parametrize(
    ("moment", "pushed"), [*((moment, False) for moment in MOMENTS), ("the rest", True), ("patience", True)]
)
async def test_while_it_waits_for_the_server(moment: str, pushed: bool) -> None:
    first, second = Peer(), Peer()
    play(second, 9, then=(10, 11))
    async with open_to_each(first, second) as conn, followed(conn.subscribe("s")) as consumer:
        await reach(first, moment)
        if pushed:
            [request] = [request for request in first.log if request.command == SUBSCRIBE]
            await push(first, request, 5, 6)
        first.hang_up()
        await trio.sleep(5)
        assert consumer.numbers == list(range(12))
        # Who had nothing yet was not interrupted.
        assert consumer.notices == ([CaughtUp()] if moment == "the first page" else [BACK, CaughtUp()])
    assert len(unsubscribed(second)) == 1
    assert second.commands().count(SUBSCRIBE) == 1


async def test_what_an_earlier_session_pushed_ends_no_later_one() -> None:
    """Garbage that waited in the mailbox until its session was gone: the one there is has nothing to do with it."""
    first, second = Peer(), Peer()
    play(first)
    async with open_to_each(first, second) as conn:
        subscription = await open_on(first, conn, "catching up")
        subscription.send(Command.STREAM_EVENT_APPEARED, b"\xff\xff")
        await wait_all_tasks_blocked()
        first.hang_up()
        await trio.sleep(1)
        assert isinstance(await subscription.end(), ProtocolError)
        await trio.sleep(1)
        assert not second.closed
        assert conn.statistics().reconnects == 1
        await subscription.events.__aexit__(None, None, None)


async def test_between_two_pages() -> None:
    """The page ahead was answered in the first session; what comes after it, the second one tells."""
    first, second = Peer(), Peer()
    play(second, 9)
    async with open_to_each(first, second) as conn, followed(conn.subscribe("s"), pace=1) as consumer:
        await give(first, 0, 1, 2)
        await give(first, 3, 4)
        first.hang_up()
        await trio.sleep(60)
        assert consumer.numbers == list(range(10))
        assert consumer.notices == [BACK, CaughtUp()]
    assert asked_from(second)[0] == 5


async def test_between_two_pages_with_none_ahead() -> None:
    first, second = Peer(), Peer()
    play(second, 9)
    async with open_to_each(first, second) as conn, followed(conn.subscribe("s"), pace=1) as consumer:
        await give(first, 0, 1, 2)
        first.hang_up()
        await trio.sleep(60)
        assert consumer.seen == [0, 1, 2, BACK, *range(3, 10), CaughtUp()]
    assert asked_from(second)[0] == 3


@pytest.mark.parametrize("held", [(), (5,), (5, 6, 7)])
async def test_while_it_is_live(held: tuple[int, ...]) -> None:
    """With events that the consumer has not come to: they are handed out, and not read again."""
    first, second = Peer(), Peer()
    play(first)
    play(second, 9, then=(10,))
    async with open_to_each(first, second) as conn:
        subscription = await open_on(first, conn, "catching up")
        await subscription.push_each(*held)
        first.hang_up()
        await trio.sleep(1)
        items = subscription.events.with_notices()
        assert await take_until(items, 10) == [*held, BACK, *range(5 + len(held), 10), CaughtUp(), 10]
        assert asked_from(second)[0] == 5 + len(held)
        await subscription.events.__aexit__(None, None, None)


async def test_while_it_falls_behind() -> None:
    first, second = Peer(), Peer()
    play(first)
    play(second, 9, then=(10,))
    async with open_to_each(first, second, settings=ANONYMOUS.replace(buffer_events=2)) as conn:
        subscription = await open_on(first, conn, "catching up")
        await subscription.push_each(5, 6, 7, 8)
        first.hang_up()
        await trio.sleep(1)
        items = subscription.events.with_notices()
        assert await take_until(items, 10) == [5, 6, FellBehind(), BACK, 7, 8, 9, CaughtUp(), 10]
        await subscription.events.__aexit__(None, None, None)


async def test_nothing_happened_meanwhile() -> None:
    """It is told all the same, for the one who listens may want to look after something else."""
    peers = [Peer() for _ in range(4)]
    for peer in peers:
        play(peer)
    async with open_to_each(*peers) as conn, followed(conn.subscribe("s", after=4)) as consumer:
        for peer in peers[:3]:
            await trio.sleep(1)
            peer.hang_up()
        await trio.sleep(1)
        assert consumer.seen == [CaughtUp(), *3 * [BACK, CaughtUp()]]


async def test_who_does_not_listen_for_notices_need_not_know(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is missing, so the log speaks of the connection alone."""
    caplog.set_level(logging.DEBUG, "trio_extreme")
    first, second = Peer(), Peer()
    play(first)
    play(second, 6)
    async with open_to_each(first, second) as conn, conn.subscribe("s") as events:
        assert await take(events, 5) == [0, 1, 2, 3, 4]
        first.hang_up()
        assert await take(events, 2) == [5, 6]
    assert {entry.name for entry in caplog.records} == {"trio_extreme.connection"}


async def test_a_consumer_that_hears_of_several_breaks_at_once() -> None:
    """While it worked the connection broke three times; to it that was one interruption."""
    peers = [Peer() for _ in range(4)]
    for peer in peers:
        play(peer)
    async with open_to_each(*peers) as conn:
        subscription = await open_on(peers[0], conn, "catching up")
        for peer in peers[:3]:
            peer.hang_up()
            await trio.sleep(1)
        items = subscription.events.with_notices()
        assert await take(items, 2) == [BACK, CaughtUp()]
        await assert_silent(items)
        await subscription.events.__aexit__(None, None, None)


# --- in each frame


@pytest.mark.parametrize("log", [False, True], ids=["stream", "log"])
@pytest.mark.parametrize(
    ("direction", "then"),
    [("received", "close"), ("received", "reset"), ("received", "silence"), ("sent", "close"), ("sent", "silence")],
)
async def test_cut_in_each_frame(direction: str, then: Then, log: bool) -> None:
    """The first session is cut there, while somebody else writes; all later ones are sound."""
    async with open_node(port=None) as node:
        # Before that it is not open yet.
        for frame in count(4):
            if not await see_all(node, f"s-{frame}", CutPoint(10, frame), direction, then, log=log):
                break
    assert frame > 15


async def see_all(node: Node, stream: str, point: CutPoint, direction: str, then: Then, *, log: bool) -> bool:
    """Whether the cut was reached; nothing of it may be seen."""
    cut = CutReceiving if direction == "received" else CutSending
    first = True

    async def connect(host: str, port: int) -> trio.abc.Stream:
        nonlocal first
        inner = await node.connect(host, port)
        first, is_first = False, first
        return cut(inner, point, then) if is_first else inner

    async with (
        open_connection(node.settings, connect=node.connect) as writer,
        open_connection(node.settings, connect=connect) as conn,
    ):
        start = await writer.head()
        await append(writer, 5, stream=stream)
        events: Any = conn.subscribe_all(start=start, page_size=2) if log else conn.subscribe(stream, page_size=2)
        async with followed(events) as consumer:
            for number in range(5, 11):
                await trio.sleep(0.01)
                await append(writer, 1, number, stream=stream)
            await trio.sleep(20)
        stored = [event.position.commit async for event in writer.read_all(start=start)]
        assert consumer.error is None, point
        assert consumer.numbers == (stored if log else list(range(11))), point
        assert_caught_up_in_turns(consumer, point)
    return point.reached


# --- there is no connection any more


@pytest.mark.parametrize("moment", [*MOMENTS, "live", "live with events"])
async def test_attempts_are_used_up(moment: str) -> None:
    peer = Peer()
    settings = ANONYMOUS.replace(max_attempts=3)
    async with open_to_each(peer, settings=settings) as conn, followed(conn.subscribe("s")) as consumer:
        before = await come_to(peer, moment)
        peer.hang_up()
        await trio.sleep(60)
        assert consumer.numbers == before
        assert isinstance(consumer.error, ConnectFailed)
        assert len(consumer.error.attempts) == 3


@pytest.mark.parametrize("moment", [*MOMENTS, "live", "live with events"])
async def test_the_connections_block_is_left(moment: str, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        events = await conn.subscribe("s").__aenter__()
        waiting = Call(nursery, take_until, events, None)
        await come_to(peer, moment)
    assert isinstance(await waiting.error(), ConnectionClosed)
    await events.__aexit__(None, None, None)
    assert_nothing_left(conn)


async def come_to(peer: Peer, moment: str) -> list[int]:
    """The numbers that the consumer has seen then."""
    if moment in MOMENTS:
        await reach(peer, moment)
        return [] if moment == "the first page" else [0]
    await give(peer, 0, end=True)
    request = await confirm_now(peer, 0)
    if moment == "live":
        return [0]
    await push(peer, request, 1, 2)
    return [0, 1, 2]
