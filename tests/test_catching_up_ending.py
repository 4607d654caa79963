"""Catch-up subscriptions that end: what the server says, and leaving them at any moment."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import Drop, confirmed, dropped, not_handled, page, pushed
from tests.following import (
    CONFIRMATION,
    DROPPED,
    MOMENTS,
    READ,
    READ_COMPLETED,
    SUBSCRIBE,
    confirm_now,
    followed,
    give,
    open_to_each,
    opened,
    play,
    push,
    reach,
    take,
    take_until,
    unsubscribed,
)
from tests.helpers import assert_nothing_left
from tests.peer import ANONYMOUS, Call, Peer, encode, open_to
from trio_extreme import (
    AccessDenied,
    CaughtUp,
    DropReason,
    FellBehind,
    Reconnected,
    SubscriptionDropped,
)
from trio_extreme.catching_up import PATIENCE
from trio_extreme.wire.commands import Command

pytestmark = pytest.mark.usefixtures("autojump_clock")

BACK = Reconnected(gap_possible=False)


# --- the server ends it


@pytest.mark.parametrize("chunks", [1, 2])
async def test_a_server_that_stops_says_unsubscribed(chunks: int) -> None:
    """It goes on from the store, here or in the next session."""
    async with opened("catching up") as subscription:
        peer, items = subscription.peer, subscription.events.with_notices()
        drop = encode(DROPPED, subscription.request.correlation, dropped(Drop.Unsubscribed))
        if chunks == 1:
            peer.send_bytes(pushed(subscription.request, 5, 6) + drop)
        else:
            await subscription.push(5, 6)
            peer.send_bytes(drop)
        play(peer, 6, then=(7,))
        assert await take(items, 5) == [5, 6, BACK, CaughtUp(), 7]
        assert subscription.unsubscribed() == []


async def test_unsubscribed_as_soon_as_it_is_confirmed() -> None:
    """Again and again, which does not go without a pause; what comes after that trouble has none."""
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(buffer_events=2)) as conn, followed(conn.subscribe("s")) as consumer:
        play(peer)
        peer.handlers[SUBSCRIBE] = lambda request: peer.send_bytes(
            encode(CONFIRMATION, request.correlation, confirmed())
            + encode(DROPPED, request.correlation, dropped(Drop.Unsubscribed))
        )
        await trio.sleep(60)
        assert 10 < peer.commands().count(SUBSCRIBE) < 100
        play(peer)
        await trio.sleep(10)
        # Too much at once: it goes back to pages, and is live again.
        request = [request for request in peer.log if request.command == SUBSCRIBE][-1]
        play(peer, 7)
        before = trio.current_time()
        await push(peer, request, 5, 6, 7)
        assert consumer.seen[-5:] == [FellBehind(), 5, 6, 7, CaughtUp()]
        assert trio.current_time() == before
        # And what brought something begins anew with short pauses.
        request = [request for request in peer.log if request.command == SUBSCRIBE][-1]
        await push(peer, request, 8)
        play(peer, 8)
        peer.send(DROPPED, request.correlation, dropped(Drop.Unsubscribed))
        await trio.sleep(ANONYMOUS.reconnect_delay + 0.01)
        assert consumer.seen[-3:] == [8, BACK, CaughtUp()]


async def test_unsubscribed_together_with_the_confirmation() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, end=True)
        request = await peer.receive(SUBSCRIBE)
        drop = encode(DROPPED, request.correlation, dropped(Drop.Unsubscribed))
        peer.send_bytes(encode(CONFIRMATION, request.correlation, confirmed(0)) + pushed(request, 1) + drop)
        await give(peer, 2, end=True)
        await trio.sleep(1)
        await confirm_now(peer, 2)
        assert consumer.seen == [0, CaughtUp(), 1, BACK, 2, CaughtUp()]


async def test_unsubscribed_while_the_rest_is_read() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, end=True)
        request = await confirm_now(peer, 2, then=[3])
        peer.send(DROPPED, request.correlation, dropped(Drop.Unsubscribed))
        await give(peer, 1, 2, end=True)
        await give(peer, 4, end=True)
        await trio.sleep(1)
        await confirm_now(peer, 4)
        assert consumer.numbers == [0, 1, 2, 3, 4]
        assert consumer.seen[-3:] == [BACK, 4, CaughtUp()]


async def test_unsubscribed_instead_of_a_confirmation() -> None:
    """It asks again, but not without a pause; and what was never open was not interrupted."""
    peer = Peer()
    play(peer)
    peer.handlers[SUBSCRIBE] = lambda request: peer.send(DROPPED, request.correlation, dropped(Drop.Unsubscribed))
    async with open_to(peer) as conn, followed(conn.subscribe("s", start=5)) as consumer:
        await trio.sleep(60)
        assert 10 < peer.commands().count(SUBSCRIBE) < 300
        play(peer, then=(5,))
        await trio.sleep(10)
        assert consumer.seen == [CaughtUp(), 5]


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [(DROPPED, dropped(Drop.AccessDenied), AccessDenied), (DROPPED, dropped(Drop.NotFound), SubscriptionDropped)],
)
async def test_a_refusal(command: int, answer: Any, kind: type[Exception]) -> None:
    """What may be read and not subscribed to is handed out before it."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s")) as consumer:
        await give(peer, 0, 1, end=True)
        request = await peer.receive(SUBSCRIBE)
        peer.send(command, request.correlation, answer)
        await wait_all_tasks_blocked()
        assert consumer.seen == [0, 1]
        assert isinstance(consumer.error, kind)
    assert peer.commands() == [READ, SUBSCRIBE]


# --- leaving


@pytest.mark.parametrize("moment", MOMENTS)
async def test_cancelled_and_left(moment: str) -> None:
    peer = Peer()
    async with open_to_each(peer) as conn:
        async with followed(conn.subscribe("s")):
            await reach(peer, moment)
        assert_nothing_left(conn)
        await wait_all_tasks_blocked()
    opened = [request.correlation for request in peer.log if request.command == SUBSCRIBE]
    assert unsubscribed(peer) == opened


@pytest.mark.parametrize("moment", MOMENTS)
async def test_left_while_another_task_iterates(moment: str, nursery: trio.Nursery) -> None:
    """It is woken at once: what it waits for may never come."""
    peer = Peer()
    async with open_to_each(peer) as conn:
        events = conn.subscribe("s")
        items = (await events.__aenter__()).with_notices()
        waiting = Call(nursery, take_until, items, None)
        request = await reach(peer, moment)
        await events.__aexit__(None, None, None)
        await trio.sleep(PATIENCE)
        assert waiting.done
        assert (await waiting.error()).reason is DropReason.LEFT
        # What comes late changes nothing.
        if moment == "the confirmation":
            await push(peer, request, 5)
        assert_nothing_left(conn)
    opened = [request.correlation for request in peer.log if request.command == SUBSCRIBE]
    assert unsubscribed(peer) == opened


@pytest.mark.parametrize("moment", ["the first page", "the confirmation"])
async def test_left_when_the_answer_is_just_there(moment: str, nursery: trio.Nursery) -> None:
    """Another task iterates, and has not had its turn yet: what it gets then it must not keep open."""
    peer = Peer()
    async with open_to_each(peer) as conn:
        events = await conn.subscribe("s").__aenter__()
        waiting = Call(nursery, take_until, events, None)
        request = await reach(peer, moment)
        (slot,) = conn._engine.calls._calls
        answer = (CONFIRMATION, confirmed(0)) if moment == "the confirmation" else (READ_COMPLETED, page([0], 1))
        slot.deliver((answer[0], 0, request.correlation, [answer[1].SerializeToString()]))
        await events.__aexit__(None, None, None)
        assert (await waiting.error()).reason is DropReason.LEFT
        assert_nothing_left(conn)
    opened = [request.correlation for request in peer.log if request.command == SUBSCRIBE]
    assert unsubscribed(peer) == opened


async def test_left_with_much_in_hand() -> None:
    async with opened("catching up") as subscription:
        await subscription.push(5, 6)
        assert await subscription.take(1) == [5]
        await subscription.push(7, 8)
        await subscription.events.__aexit__(None, None, None)
        assert await subscription.take(1) == [6]
        assert (await subscription.end()).reason is DropReason.LEFT


async def test_left_before_it_is_asked_again() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn:
        async with followed(conn.subscribe("s")):
            request = await peer.receive(READ)
            peer.send(Command.NOT_HANDLED, request.correlation, not_handled(0))
            await wait_all_tasks_blocked()
        await trio.sleep(60)
    assert peer.commands() == [READ]
