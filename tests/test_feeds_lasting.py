"""Feeds that are opened again, by the next session or because the server wishes, until they are closed."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import Drop, NotHandled, confirm, confirmed, dropped, event_read, pushed
from tests.feeding import APPEARED, CONFIRMATION, SUBSCRIBE, UNSUBSCRIBE, commands, open_feed, opened
from tests.helpers import assert_nothing_left
from tests.lost import AT_ONCE, answer_all, asked, block_writer, lose, not_handled_by, open_over, settle
from tests.peer import ANONYMOUS, Call, Peer, encode, open_to
from trio_extreme import AccessDenied, ProtocolError, StreamDeleted
from trio_extreme.calls import ASK_AGAIN_DELAY
from trio_extreme.pending import Interrupted
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from tests.peer import Request

pytestmark = pytest.mark.usefixtures("autojump_clock")

SOON = AT_ONCE.replace(reconnect_delay=1, max_reconnect_delay=1)


# --- the session ends


async def test_one_that_does_not_last_ends_with_its_session() -> None:
    """After what it had; whoever wants it asks anew."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn, opened(conn, peer, lasting=False) as feed:
        peer.send_bytes(pushed(asked(peer)[0], 5))
        await lose(peer)
        assert await feed.take() == [APPEARED]
        for _ in range(2):
            with pytest.raises(Interrupted):
                await feed.take()
    assert commands(second) == []


async def test_one_that_lasts_is_opened_by_each_session() -> None:
    """Its consumer finds the confirmations where events may be missing."""
    peers = [Peer() for _ in range(4)]
    async with open_over(*peers) as conn, opened(conn, peers[0]) as feed:
        peers[0].send_bytes(pushed(asked(peers[0])[0], 5))
        for peer, following in pairwise(peers):
            await lose(peer)
            await confirm(following, then=[6, 7])
            await settle()
        assert await feed.take() == [APPEARED, *[CONFIRMATION, APPEARED, APPEARED] * 3]
    for peer in peers[1:-1]:
        assert commands(peer) == [SUBSCRIBE]
    assert commands(peers[-1]) == [SUBSCRIBE, UNSUBSCRIBE]
    assert len({asked(peer)[0].correlation for peer in peers}) == len(peers)


async def test_in_the_order_in_which_they_were_opened(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    answer_all(peer, SUBSCRIBE, (CONFIRMATION, confirmed()))
    answer_all(second, SUBSCRIBE, (CONFIRMATION, confirmed()))
    async with open_over(peer, second) as conn:
        feeds = [await open_feed(conn, stream=f"s-{number}") for number in range(50)]
        feeds.pop(20).close()
        await settle()
        await lose(peer)
        messages: list[Any] = [request.message for request in asked(second)]
        assert [message.event_stream_id for message in messages] == [f"s-{n}" for n in range(50) if n != 20]
        for feed in feeds:
            feed.close()


async def test_lost_in_the_moment_it_was_confirmed(nursery: trio.Nursery) -> None:
    """The last that was read, before its opener had its turn."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        opening = Call(nursery, open_feed, conn)
        confirm_and_break(peer, await peer.receive(SUBSCRIBE))
        feed = await opening.value()
        await confirm(second, then=[6])
        await settle()
        assert await feed.take() == [APPEARED, CONFIRMATION, APPEARED]
        feed.close()


async def test_one_that_does_not_last_is_lost_in_the_moment_it_was_confirmed(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        opening = Call(nursery, open_feed, conn, lasting=False)
        confirm_and_break(peer, await peer.receive(SUBSCRIBE))
        feed = await opening.value()
        assert await feed.take() == [APPEARED]
        with pytest.raises(Interrupted):
            await feed.take()
        feed.close()
        await conn.ping()
    assert commands(second) == [Command.PING]


def confirm_and_break(peer: Peer, request: Request) -> None:
    """In one chunk: what ends the session is read together with the confirmation."""
    confirmation = encode(CONFIRMATION, request.correlation, confirmed())
    peer.send_bytes(confirmation + pushed(request, 5) + bytes(4))


async def test_lost_again_before_it_is_confirmed() -> None:
    """By as many sessions as it takes."""
    peers = [Peer() for _ in range(5)]
    async with open_over(*peers) as conn, opened(conn, peers[0]) as feed:
        await lose(peers[0])
        for peer in peers[1:-1]:
            await peer.receive(SUBSCRIBE)
            await lose(peer)
        await confirm(peers[-1])
        assert await feed.take() == [CONFIRMATION]
    for peer in peers[1:-1]:
        assert commands(peer) == [SUBSCRIBE]


async def test_no_attempt_is_the_last() -> None:
    """A server that is not ready, or does not answer, is asked again, whatever `operation_timeout` says."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn, opened(conn, peer) as feed:
        await lose(peer)
        for _ in range(3):
            not_handled_by(second, await second.receive(SUBSCRIBE), NotHandled.NotReady)
        assert trio.current_time() == pytest.approx(2 * ASK_AGAIN_DELAY)
        for _ in range(6):
            await second.receive(SUBSCRIBE)
            assert (await second.receive(UNSUBSCRIBE)).command == UNSUBSCRIBE
        assert trio.current_time() > ANONYMOUS.operation_timeout
        await confirm(second)
        assert await feed.take() == [CONFIRMATION]


async def test_lost_while_it_waits_to_be_asked_for_again(nursery: trio.Nursery) -> None:
    """Whoever sees to it goes with the session, wherever it waits; the next one opens it all the same."""
    peer, second, third = Peer(), Peer(), Peer()
    answer_all(third, Command.READ_EVENT, (Command.READ_EVENT_COMPLETED, event_read()))
    settings = AT_ONCE.replace(max_in_flight=1)
    async with open_over(peer, second, third, settings=settings) as conn, opened(conn, peer) as feed:
        await lose(peer)
        request = await second.receive(SUBSCRIBE)
        not_handled_by(second, request, NotHandled.NotReady)
        await settle()
        read = Call(nursery, conn.read_event, "s", 0)
        await second.receive(Command.READ_EVENT)
        await trio.sleep(2 * ASK_AGAIN_DELAY)
        # At the door, for its place was free as soon as there was an answer.
        assert conn.statistics().waiting == 1
        await lose(second)
        await confirm(third)
        assert await feed.take() == [CONFIRMATION]
        await read.value()


async def test_it_is_sent_once_though_the_writer_is_blocked() -> None:
    """What is not sent yet is not overdue."""
    peer, second = Peer(), Peer(mute=[Command.PING])
    settings = AT_ONCE.replace(heartbeat_timeout=100)
    async with open_over(peer, second, settings=settings) as conn, opened(conn, peer) as feed:
        await lose(peer)
        ping = await second.receive(Command.PING)
        await block_writer(second)
        second.send(Command.PONG, ping.correlation)
        await trio.sleep(3 * settings.attempt_timeout)
        assert commands(second) == []
        second.release()
        await confirm(second)
        assert await feed.take() == [CONFIRMATION]
    assert commands(second) == [SUBSCRIBE, UNSUBSCRIBE]


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        (Command.SUBSCRIPTION_DROPPED, dropped(Drop.AccessDenied), AccessDenied),
        (CONFIRMATION, confirmed(2**63 - 1), StreamDeleted),
    ],
)
async def test_a_later_session_refuses_it(command: int, answer: Any, kind: type[Exception]) -> None:
    """Its consumer is told after what it had, and no further session is asked."""
    peer, second, third = Peer(), Peer(), Peer()
    answer_all(second, SUBSCRIBE, (command, answer))
    async with open_over(peer, second, third) as conn, opened(conn, peer) as feed:
        peer.send_bytes(pushed(asked(peer)[0], 5))
        await lose(peer)
        assert (await feed.take())[0] == APPEARED
        with pytest.raises(kind):
            await feed.take()
        assert conn.statistics().in_flight == 0
        await lose(second)
        await conn.ping()
    assert commands(third) == [Command.PING]


async def test_a_later_session_answers_with_garbage() -> None:
    """That session ends; the feed does, too, for the next one would do the same."""
    peer, second, third = Peer(), Peer(), Peer()
    answer_all(second, SUBSCRIBE, (CONFIRMATION, b"\xff"))
    async with open_over(peer, second, third) as conn, opened(conn, peer) as feed:
        await lose(peer)
        assert await feed.take() == [CONFIRMATION]
        with pytest.raises(ProtocolError):
            await feed.take()
        await conn.ping()
        assert conn.statistics().reconnects == 2
    assert commands(third) == [Command.PING]


# --- the server ends it


async def test_a_server_that_stops() -> None:
    """It says Unsubscribed: one that lasts is asked for again, a little later."""
    peer = Peer()
    async with open_to(peer) as conn, opened(conn, peer) as feed:
        first = asked(peer)[0]
        end = encode(Command.SUBSCRIPTION_DROPPED, first.correlation, dropped(Drop.Unsubscribed))
        peer.send_bytes(pushed(first, 5) + end)
        assert await feed.take() == [APPEARED]
        second = await confirm(peer, then=[9])
        assert trio.current_time() == pytest.approx(ASK_AGAIN_DELAY)
        # What is still pushed under the first id finds nobody.
        peer.send_bytes(pushed(first, 6))
        await settle()
        assert await feed.take() == [CONFIRMATION, APPEARED]
        assert second.correlation != first.correlation
        assert conn.statistics().stray_frames == 1


async def test_a_server_that_stops_in_the_moment_it_confirmed(nursery: trio.Nursery) -> None:
    """Nobody has it yet; it is asked for again by whoever opens it."""
    peer = Peer()
    async with open_to(peer) as conn:
        opening = Call(nursery, open_feed, conn)
        first = await peer.receive(SUBSCRIBE)
        end = encode(Command.SUBSCRIPTION_DROPPED, first.correlation, dropped(Drop.Unsubscribed))
        peer.send_bytes(encode(CONFIRMATION, first.correlation, confirmed()) + end)
        feed = await opening.value()
        await confirm(peer, then=[9])
        await settle()
        assert await feed.take() == [CONFIRMATION, APPEARED]
        await trio.sleep(10 * ASK_AGAIN_DELAY)
        feed.close()
    assert commands(peer) == [SUBSCRIBE, SUBSCRIBE, UNSUBSCRIBE]


async def test_a_server_that_stops_and_then_closes() -> None:
    """The next session opens it, and nobody else does."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn, opened(conn, peer) as feed:
        first = asked(peer)[0]
        peer.send(Command.SUBSCRIPTION_DROPPED, first.correlation, dropped(Drop.Unsubscribed))
        await lose(peer)
        await confirm(second)
        assert await feed.take() == [CONFIRMATION]
        await trio.sleep(10 * ASK_AGAIN_DELAY)
    assert commands(second) == [SUBSCRIBE, UNSUBSCRIBE]


# --- closing


async def test_closed_while_there_is_no_session() -> None:
    peer, second = Peer(), Peer()
    async with open_over(peer, second, settings=SOON) as conn:
        async with opened(conn, peer):
            await lose(peer)
        assert_nothing_left(conn)
        await conn.ping()
    assert commands(second) == [Command.PING]


@pytest.mark.parametrize("answer", ["none", "not ready"])
async def test_closed_while_it_is_opened_again(answer: str) -> None:
    """Nothing is asked for after that."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        async with opened(conn, peer):
            await lose(peer)
            request = await second.receive(SUBSCRIBE)
            if answer == "not ready":
                not_handled_by(second, request, NotHandled.NotReady)
                await settle()
        await settle()
        assert_nothing_left(conn)
        await trio.sleep(100)
    assert commands(second) == ([SUBSCRIBE, UNSUBSCRIBE] if answer == "none" else [SUBSCRIBE])


async def test_closed_before_it_is_asked_for_again() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        async with opened(conn, peer):
            peer.send(Command.SUBSCRIPTION_DROPPED, asked(peer)[0].correlation, dropped(Drop.Unsubscribed))
            await settle()
        await trio.sleep(100)
    assert commands(peer) == [SUBSCRIBE]


async def test_closed_twice() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        async with opened(conn, peer) as feed:
            feed.close()
        await conn.ping()
    assert commands(peer) == [SUBSCRIBE, UNSUBSCRIBE, Command.PING]


async def test_closed_in_the_moment_it_was_opened_again() -> None:
    """Confirmed, and whoever sees to it has not had its turn: the server is told."""
    for _ in range(10):
        peer, second = Peer(), Peer()
        async with open_over(peer, second) as conn:
            async with opened(conn, peer):
                await lose(peer)
                await confirm(second)
                await trio.lowlevel.checkpoint()
            await settle()
            assert_nothing_left(conn)
        assert commands(second) == [SUBSCRIBE, UNSUBSCRIBE]
