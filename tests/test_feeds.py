"""Feeds: opening what the server pushes, and closing it. What outlives its session is in test_feeds_lasting.py.

What a live subscription makes of them is in tests/test_live_reconnecting.py.
"""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import trio

from tests.answers import Drop, confirm, confirmed, dropped, pushed
from tests.feeding import APPEARED, CONFIRMATION, SUBSCRIBE, UNSUBSCRIBE, commands, each_sort, open_feed, opened
from tests.helpers import assert_nothing_left
from tests.lost import AT_ONCE, MUCH_LATER, answer_all, asked, block_writer, lose, open_over, settle
from tests.peer import ANONYMOUS, Call, Network, Peer, open_to
from trio_extreme import (
    AccessDenied,
    ConnectFailed,
    ConnectionClosed,
    Credentials,
    OperationTimedOut,
    ProtocolError,
    open_connection,
)
from trio_extreme.engine import Engine
from trio_extreme.pending import Interrupted
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

pytestmark = pytest.mark.usefixtures("autojump_clock")


# --- opening


@each_sort
async def test_open_and_close(lasting: bool, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        nursery.start_soon(confirm, peer, 7)
        feed = await open_feed(conn, lasting=lasting, credentials=Credentials("ops", "secret"))
        assert feed.confirmation.last_number == 7
        request = asked(peer)[0]
        assert request.message == schema.SubscribeToStream(event_stream_id="s", resolve_link_tos=False)
        assert request.credentials == Credentials("ops", "secret")
        peer.send_bytes(pushed(request, 8, 9))
        assert await feed.take() == [APPEARED] * 2
        feed.close()
        assert (await peer.receive(UNSUBSCRIBE)).correlation == request.correlation
        peer.send_bytes(pushed(request, 10))
        await settle()
        assert conn.statistics().stray_frames == 1


@each_sort
async def test_it_takes_no_place_at_the_door(lasting: bool) -> None:
    """Only while it is being opened."""
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=1)) as conn, opened(conn, peer, lasting=lasting):
        await conn.ping()
        assert conn.statistics().in_flight == 0


@each_sort
@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        (Command.SUBSCRIPTION_DROPPED, dropped(Drop.AccessDenied), AccessDenied),
        (CONFIRMATION, b"\xff", ProtocolError),
        (Command.PONG, b"", ProtocolError),
    ],
)
async def test_refused(lasting: bool, command: int, answer: Any, kind: type[Exception]) -> None:
    """Nothing of it is left, and no session opens it again."""
    peer, second = Peer(), Peer()
    answer_all(peer, SUBSCRIBE, (command, answer))
    async with open_over(peer, second) as conn:
        with pytest.raises(kind):
            await open_feed(conn, lasting=lasting)
        await settle()
        assert_nothing_left(conn)
        peer.hang_up()
        await conn.ping()
    assert commands(second)[-1:] == [Command.PING]
    assert SUBSCRIBE not in commands(second)


@each_sort
@pytest.mark.parametrize("was_sent", [False, True])
async def test_cancelled_while_it_is_opened(lasting: bool, was_sent: bool, nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        if not was_sent:
            await block_writer(peer)
        opening = Call(nursery, open_feed, conn, lasting=lasting)
        await settle()
        opening.scope.cancel()
        await settle()
        peer.release()
        await lose(peer)
        await conn.ping()
    # What the server may keep for us is taken back.
    assert commands(peer) == ([SUBSCRIBE, UNSUBSCRIBE] if was_sent else [])
    assert commands(second) == [Command.PING]


@each_sort
async def test_its_deadline(lasting: bool, nursery: trio.Nursery) -> None:
    """That of a call, unless whoever wants it waits for ever."""
    peer = Peer()
    async with open_to(peer) as conn:
        patient = Call(nursery, open_feed, conn, lasting=lasting, deadline=inf)
        with pytest.raises(OperationTimedOut):
            await open_feed(conn, lasting=lasting)
        assert trio.current_time() == pytest.approx(ANONYMOUS.operation_timeout)
        await trio.sleep(100)
        assert not patient.done
        peer.unanswered()
        answer_all(peer, SUBSCRIBE, (CONFIRMATION, confirmed()))
        (await patient.value()).close()


@each_sort
async def test_lost_while_it_is_opened(lasting: bool, nursery: trio.Nursery) -> None:
    """As often as it takes: a subscription is never too much for a session."""
    *peers, last = [Peer() for _ in range(5)]
    async with open_over(*peers, last) as conn:
        opening = Call(nursery, open_feed, conn, lasting=lasting)
        for peer in peers:
            await peer.receive(SUBSCRIBE)
            await lose(peer)
        request = await confirm(last, then=[5])
        feed = await opening.value()
        assert await feed.take() == [APPEARED]
        feed.close()
    assert commands(last) == [SUBSCRIBE, UNSUBSCRIBE]
    assert request.command == SUBSCRIBE


# --- no session comes any more


@each_sort
@pytest.mark.parametrize("offline", [False, True])
async def test_the_block_is_left(lasting: bool, offline: bool) -> None:
    peer = Peer()
    async with open_connection(MUCH_LATER, connect=peer.connect) as conn:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(confirm, peer)
            feed = await open_feed(conn, lasting=lasting)
        if offline:
            await lose(peer)
    with pytest.raises(Interrupted if offline and not lasting else ConnectionClosed):
        await feed.take()
    feed.close()
    assert_nothing_left(conn)


async def test_attempts_are_used_up(nursery: trio.Nursery) -> None:
    network = Network(peer := Peer(), OSError("gone"))
    async with open_connection(AT_ONCE.replace(max_attempts=1), connect=network.connect) as conn:
        async with opened(conn, peer) as feed:
            opening = Call(nursery, open_feed, conn)
            await settle()
            await lose(peer)
            with pytest.raises(ConnectFailed):
                await feed.take()
            assert isinstance(await opening.error(), ConnectFailed)
        with pytest.raises(ConnectFailed):
            await open_feed(conn)
        assert_nothing_left(conn)


def test_they_show_themselves() -> None:
    assert repr(Engine(ANONYMOUS, Peer().connect).feeds) == "<Feeds: 0 lasting>"
