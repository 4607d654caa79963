"""Live subscriptions across reconnects: what is told of the gap, and what the next session may say."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from tests.answers import Drop, NotHandled, confirm, confirmed, dropped, event_read, not_handled, pushed
from tests.following import (
    CONFIRMATION,
    DROPPED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Open,
    assert_silent,
    followed,
    open_on,
    open_to_each,
    opened,
    play,
    push,
    take,
    unsubscribed,
)
from tests.peer import ANONYMOUS, Call, Peer, Request, encode
from trio_extreme import (
    AccessDenied,
    BadRequest,
    ConnectFailed,
    ConnectionClosed,
    DropReason,
    ProtocolError,
    Reconnected,
    StreamDeleted,
    open_connection,
)
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from tests.following import Consumer

pytestmark = pytest.mark.usefixtures("autojump_clock")

GAP = Reconnected(gap_possible=True)


# --- the connection is lost, and comes back


async def open_live(peer: Peer, conn: Any) -> Open:
    play(peer)
    return await open_on(peer, conn, "live")


async def test_it_goes_on_in_the_next_session(caplog: pytest.LogCaptureFixture) -> None:
    """What came before the gap, the gap, what comes after it: whenever the consumer looks."""
    first, second = Peer(), Peer()
    play(second, 8, then=(9,))
    async with open_to_each(first, second) as conn:
        live = await open_live(first, conn)
        await live.push(5, 6)
        first.hang_up()
        await trio.sleep(1)
        assert await take(live.events.with_notices(), 4) == [5, 6, GAP, 9]
        assert unsubscribed(first) == []
        await live.events.__aexit__(None, None, None)
    # Who asked for notices needs no line in the log.
    assert "events may be missing" not in caplog.text
    assert unsubscribed(second) == [second.log[-2].correlation]
    assert first.log[-1].correlation != second.log[-2].correlation


async def test_who_does_not_listen_for_notices_finds_the_gap_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    first, second = Peer(), Peer()
    play(second, then=(9,))
    async with open_to_each(first, second) as conn:
        live = await open_live(first, conn)
        first.hang_up()
        assert await live.take(1) == [9]
        await live.events.__aexit__(None, None, None)
    said = [entry for entry in caplog.records if "events may be missing" in entry.getMessage()]
    assert [entry.levelno for entry in said] == [logging.WARNING]
    assert "stream 's'" in said[0].getMessage()


async def test_it_comes_before_all_requests(nursery: trio.Nursery) -> None:
    """Of requests that waited, too: who appends to see the event come back must see it."""
    first, second = Peer(), Peer()
    async with open_to_each(first, second) as conn:
        lives = [await open_live(first, conn) for _ in range(2)]
        pending = Call(nursery, conn.read_event, "s", 0)
        await first.receive(Command.READ_EVENT)
        first.hang_up()
        await wait_all_tasks_blocked()
        later = Call(nursery, conn.read_event, "s", 1)
        await trio.sleep(1)
        said = second.unanswered()
        assert [request.command for request in said] == [SUBSCRIBE, SUBSCRIBE, Command.READ_EVENT, Command.READ_EVENT]
        for request in said[2:]:
            second.send(Command.READ_EVENT_COMPLETED, request.correlation, event_read())
        await pending.value()
        await later.value()
        for live in lives:
            await live.events.__aexit__(None, None, None)


async def test_each_gap_is_told_where_it_is() -> None:
    peers = [Peer() for _ in range(4)]
    for number, peer in enumerate(peers):
        # The third session brings nothing.
        play(peer, then=() if number == 2 else (number * 10,))
    async with open_to_each(*peers) as conn:
        live = await open_on(peers[0], conn, "live")
        items = live.events.with_notices()
        assert await take(items, 1) == [0]
        for peer in peers[:3]:
            peer.hang_up()
            await trio.sleep(1)
        # Of two gaps with nothing between them one is enough.
        assert await take(items, 4) == [GAP, 10, GAP, 30]
        await assert_silent(items)
        await live.events.__aexit__(None, None, None)


async def test_lost_while_entering(nursery: trio.Nursery) -> None:
    """Whoever has seen no confirmation has missed nothing: there is no gap."""
    first, second = Peer(), Peer()
    play(second, then=(7,))
    async with open_to_each(first, second) as conn:
        events = conn.subscribe_live("s")
        entering = Call(nursery, events.__aenter__)
        await first.receive(SUBSCRIBE)
        first.hang_up()
        await entering.value()
        assert await take(events.with_notices(), 1) == [7]
        await events.__aexit__(None, None, None)


async def test_lost_right_after_it_was_confirmed(nursery: trio.Nursery) -> None:
    """In the same chunk, so that whoever enters did not know of it yet."""
    first, second = Peer(), Peer()
    play(second, then=(7,))
    async with open_to_each(first, second) as conn:
        events = conn.subscribe_live("s")
        entering = Call(nursery, events.__aenter__)
        request = await first.receive(SUBSCRIBE)
        first.send_bytes(encode(CONFIRMATION, request.correlation, confirmed()) + b"\xff" * 21)
        await entering.value()
        assert await take(events.with_notices(), 2) == [GAP, 7]
        await events.__aexit__(None, None, None)


@pytest.mark.parametrize("chunks", [1, 2])
async def test_a_server_that_stops_says_unsubscribed(chunks: int) -> None:
    """That is no end: the next session goes on, or this one, if the server does not stop after all."""
    async with opened("live", ANONYMOUS) as live:
        drop = encode(DROPPED, live.request.correlation, dropped(Drop.Unsubscribed))
        if chunks == 1:
            live.peer.send_bytes(pushed(live.request, 5, 6) + drop)
        else:
            await live.push(5, 6)
            live.peer.send_bytes(drop)
        play(live.peer, then=(9,))
        assert await take(live.events.with_notices(), 4) == [5, 6, GAP, 9]
        assert live.conn.statistics().reconnects == 0
        assert live.unsubscribed() == []


async def test_unsubscribed_and_then_closed() -> None:
    first, second = Peer(), Peer()
    play(second, then=(9,))
    async with open_to_each(first, second) as conn:
        live = await open_live(first, conn)
        live.send(DROPPED, dropped(Drop.Unsubscribed))
        first.hang_up()
        items = live.events.with_notices()
        assert await take(items, 2) == [GAP, 9]
        await assert_silent(items)
        await live.events.__aexit__(None, None, None)
    assert first.commands().count(SUBSCRIBE) == second.commands().count(SUBSCRIBE) == 1


async def test_unsubscribed_in_one_chunk_with_the_confirmation(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to_each(peer) as conn:
        events = conn.subscribe_live("s")
        entering = Call(nursery, events.__aenter__)
        request = await peer.receive(SUBSCRIBE)
        drop = encode(DROPPED, request.correlation, dropped(Drop.Unsubscribed))
        peer.send_bytes(encode(CONFIRMATION, request.correlation, confirmed()) + pushed(request, 5) + drop)
        play(peer, then=(9,))
        await entering.value()
        assert await take(events.with_notices(), 3) == [5, GAP, 9]
        await events.__aexit__(None, None, None)


async def test_unsubscribed_in_one_chunk_with_a_later_confirmation() -> None:
    first, second = Peer(), Peer()
    async with open_to_each(first, second) as conn:
        live = await open_live(first, conn)
        first.hang_up()
        request = await second.receive(SUBSCRIBE)
        drop = encode(DROPPED, request.correlation, dropped(Drop.Unsubscribed))
        second.send_bytes(encode(CONFIRMATION, request.correlation, confirmed()) + pushed(request, 5) + drop)
        play(second, then=(9,))
        assert await take(live.events.with_notices(), 4) == [GAP, 5, GAP, 9]
        await live.events.__aexit__(None, None, None)
    assert second.commands().count(SUBSCRIBE) == 2


# --- the next session does not confirm it at once


async def lose(first: Peer, second: Peer, consumer: Consumer) -> Request:
    """The connection is lost; the request by which it is opened anew."""
    first.hang_up()
    request = await second.receive(SUBSCRIBE)
    assert consumer.seen == []
    return request


async def test_a_next_session_that_is_not_ready() -> None:
    first, second = Peer(), Peer()
    play(first)
    async with open_to_each(first, second) as conn, followed(conn.subscribe_live("s")) as consumer:
        request = await lose(first, second, consumer)
        second.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
        await confirm(second, then=[9])
        await wait_all_tasks_blocked()
        assert consumer.seen == [GAP, 9]
        assert unsubscribed(second) == []


async def test_a_next_session_that_stops_at_once() -> None:
    """Unsubscribed instead of a confirmation."""
    first, second = Peer(), Peer()
    play(first)
    async with open_to_each(first, second) as conn, followed(conn.subscribe_live("s")) as consumer:
        request = await lose(first, second, consumer)
        second.send(DROPPED, request.correlation, dropped(Drop.Unsubscribed))
        await confirm(second, then=[9])
        await wait_all_tasks_blocked()
        assert consumer.seen == [GAP, 9]


async def test_a_next_session_that_does_not_answer() -> None:
    """It is asked again, under another id; what comes late, under the first, is nobody's."""
    first, second = Peer(), Peer()
    play(first)
    async with open_to_each(first, second) as conn, followed(conn.subscribe_live("s")) as consumer:
        request = await lose(first, second, consumer)
        again = await confirm(second)
        assert trio.current_time() >= ANONYMOUS.attempt_timeout
        assert unsubscribed(second) == [request.correlation]
        await push(second, request, 7)
        await push(second, again, 9)
        assert consumer.seen == [GAP, 9]


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        (DROPPED, dropped(Drop.AccessDenied), AccessDenied),
        (Command.BAD_REQUEST, b"no", BadRequest),
    ],
)
async def test_a_next_session_that_refuses(command: int, answer: Any, kind: type[Exception]) -> None:
    first, second = Peer(), Peer()
    play(first)
    async with open_to_each(first, second) as conn, followed(conn.subscribe_live("s")) as consumer:
        request = await lose(first, second, consumer)
        second.send(command, request.correlation, answer)
        await trio.sleep(60)
        assert isinstance(consumer.error, kind)
        assert consumer.seen == []
    assert second.commands() == [SUBSCRIBE]


async def test_a_next_session_whose_confirmation_is_none() -> None:
    """It ends this one and that session; the connection goes on with another."""
    first, second, third = Peer(), Peer(), Peer()
    play(first)
    async with open_to_each(first, second, third) as conn, followed(conn.subscribe_live("s")) as consumer:
        request = await lose(first, second, consumer)
        second.send(CONFIRMATION, request.correlation, b"\xff\xff")
        await trio.sleep(1)
        assert isinstance(consumer.error, ProtocolError)
        assert conn.statistics().reconnects == 2
    assert third.commands() == []


async def test_what_an_earlier_session_pushed_ends_no_later_one() -> None:
    """Garbage that waited in the mailbox until its session was gone: the one there is has nothing to do with it."""
    first, second = Peer(), Peer()
    play(second)
    async with open_to_each(first, second) as conn:
        live = await open_live(first, conn)
        live.send(Command.STREAM_EVENT_APPEARED, b"\xff\xff")
        await wait_all_tasks_blocked()
        first.hang_up()
        await trio.sleep(1)
        assert isinstance(await live.end(), ProtocolError)
        await trio.sleep(1)
        assert not second.closed
        assert conn.statistics().reconnects == 1
        await live.events.__aexit__(None, None, None)


async def test_hard_deleted_meanwhile() -> None:
    first, second = Peer(), Peer()
    play(first)
    async with open_to_each(first, second) as conn, followed(conn.subscribe_live("s")) as consumer:
        request = await lose(first, second, consumer)
        second.send(CONFIRMATION, request.correlation, confirmed(2**63 - 1))
        await trio.sleep(1)
        assert isinstance(consumer.error, StreamDeleted)
        assert unsubscribed(second) == [request.correlation]


async def test_lost_again_before_it_is_confirmed() -> None:
    peers = [Peer() for _ in range(5)]
    play(peers[0])
    async with open_to_each(*peers) as conn, followed(conn.subscribe_live("s")) as consumer:
        for peer, following in pairwise(peers):
            await lose(peer, following, consumer)
        await wait_all_tasks_blocked()
        second = [request for request in peers[4].log if request.command == SUBSCRIBE][-1]
        peers[4].send_bytes(encode(CONFIRMATION, second.correlation, confirmed()) + pushed(second, 9))
        await wait_all_tasks_blocked()
        assert consumer.seen == [GAP, 9]


async def test_lost_again_when_it_was_just_confirmed() -> None:
    """In the same chunk, so that nobody here had seen the confirmation."""
    peers = [Peer() for _ in range(3)]
    play(peers[0])
    play(peers[2], then=(9,))
    async with open_to_each(*peers) as conn, followed(conn.subscribe_live("s")) as consumer:
        request = await lose(peers[0], peers[1], consumer)
        peers[1].send_bytes(encode(CONFIRMATION, request.correlation, confirmed()) + pushed(request, 7) + b"\xff" * 21)
        await trio.sleep(1)
        assert consumer.seen == [GAP, 7, GAP, 9]


# --- leaving it, or the connection, meanwhile


async def test_left_while_offline() -> None:
    first, second = Peer(), Peer()
    async with open_to_each(first, None, second) as conn:
        live = await open_live(first, conn)
        first.hang_up()
        await wait_all_tasks_blocked()
        await live.events.__aexit__(None, None, None)
        assert (await live.end()).reason is DropReason.LEFT
        await conn.ping()
    assert second.commands() == []


async def test_left_while_it_is_opened_again() -> None:
    first, second = Peer(), Peer()
    async with open_to_each(first, second) as conn:
        live = await open_live(first, conn)
        first.hang_up()
        request = await second.receive(SUBSCRIBE)
        await live.events.__aexit__(None, None, None)
        # Confirmed all the same, it is nobody's.
        second.send_bytes(encode(CONFIRMATION, request.correlation, confirmed()) + pushed(request, 5))
        await trio.sleep(60)
        assert unsubscribed(second) == [request.correlation]
        assert conn.statistics().stray_frames == 2
    assert second.commands() == [SUBSCRIBE, UNSUBSCRIBE]


async def test_left_before_it_is_asked_again() -> None:
    """After an answer that says later."""
    first, second = Peer(), Peer()
    async with open_to_each(first, second) as conn:
        live = await open_live(first, conn)
        first.hang_up()
        request = await second.receive(SUBSCRIBE)
        second.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
        await wait_all_tasks_blocked()
        await live.events.__aexit__(None, None, None)
        await trio.sleep(60)
    assert second.commands() == [SUBSCRIBE]


async def test_overflow_while_offline_and_after() -> None:
    """What was buffered when the connection was lost counts on; the mark of the gap has its place among it."""
    first, second = Peer(), Peer()
    play(second, then=(8, 9, 10))
    async with open_to_each(first, second, settings=ANONYMOUS.replace(live_buffer_events=3)) as conn:
        live = await open_live(first, conn)
        await live.push(5, 6)
        first.hang_up()
        await trio.sleep(1)
        assert await take(live.events.with_notices(), 3) == [5, 6, GAP]
        assert (await live.end()).reason is DropReason.OVERFLOW
        assert len(unsubscribed(second)) == 1
        await live.events.__aexit__(None, None, None)


async def test_attempts_are_used_up() -> None:
    first = Peer()
    async with open_to_each(first, settings=ANONYMOUS.replace(max_attempts=3)) as conn:
        live = await open_live(first, conn)
        await live.push(5)
        first.hang_up()
        await trio.sleep(60)
        assert await live.take(1) == [5]
        error = await live.end()
        assert isinstance(error, ConnectFailed)
        assert len(error.attempts) == 3
        await live.events.__aexit__(None, None, None)


async def test_the_connections_block_is_left_while_offline(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        live = await open_live(peer, conn)
        waiting = Call(nursery, live.events.__anext__)
        peer.hang_up()
        await wait_all_tasks_blocked()
    assert isinstance(await waiting.error(), ConnectionClosed)
    await live.events.__aexit__(None, None, None)
