"""A server that breaks the rules in what it pushes, played by the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import Drop, appeared, dropped, pushed
from tests.helpers import assert_nothing_left
from tests.lost import asked
from tests.peer import Peer, Request, encode
from tests.sessions.played import (
    PLAYED,
    answered,
    check_alive,
    open_played,
    play_in_turn,
    reply_to,
)
from trio_extreme import (
    AccessDenied,
    DropReason,
    FrameTooLarge,
    ProtocolError,
    SubscriptionDropped,
)
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio.testing import MockClock


def confirm_each(peer: Peer) -> list[Request]:
    """Confirm every subscription from now on; they are added to the list."""
    requests: list[Request] = []

    def confirm(request: Request) -> None:
        requests.append(request)
        peer.send(Command.SUBSCRIPTION_CONFIRMATION, request.correlation)

    peer.handlers[Command.SUBSCRIBE_TO_STREAM] = confirm
    return requests


@pytest.mark.parametrize(
    ("command", "payload", "text"),
    [
        (Command.STREAM_EVENT_APPEARED, b"\xff", "no StreamEventAppeared"),
        (Command.STREAM_EVENT_APPEARED, b"", "no StreamEventAppeared"),
        (Command.STREAM_EVENT_APPEARED, appeared(1).SerializeToString() * 2, "no StreamEventAppeared"),
        (Command.PONG, b"", "PONG came to a subscription"),
        (0x99, b"", "0x99 came to a subscription"),
        (Command.SUBSCRIPTION_DROPPED, b"\xff", "no SubscriptionDropped"),
    ],
)
async def test_odd_pushes(command: int, payload: bytes, text: str, autojump_clock: MockClock) -> None:
    """They end the subscription, and the session with it; the next one does not open it again."""
    peer, good = Peer(), Peer()
    async with play_in_turn(peer, good) as conn:
        requests = confirm_each(peer)
        async with conn.subscribe_live("s") as events:
            [request] = requests
            peer.send(Command.STREAM_EVENT_APPEARED, request.correlation, appeared(0))
            assert (await anext(events)).number == 0
            peer.send(command, request.correlation, payload)
            for _ in range(2):
                with trio.fail_after(1), pytest.raises(ProtocolError, match=text):
                    await anext(events)
            await check_alive(conn, good)
    assert good.commands() == [Command.READ_EVENT]


@pytest.mark.parametrize(
    ("reason", "error"),
    [(Drop.AccessDenied, AccessDenied), (Drop.NotFound, SubscriptionDropped), (99, SubscriptionDropped)],
)
async def test_odd_ends(reason: int, error: type[Exception], autojump_clock: MockClock) -> None:
    """They end the subscription alone."""
    async with open_played() as (conn, peer):
        requests = confirm_each(peer)
        async with conn.subscribe_live("s") as events:
            [request] = requests
            peer.send(Command.SUBSCRIPTION_DROPPED, request.correlation, dropped(reason))
            for _ in range(2):
                with trio.fail_after(1), pytest.raises(error):
                    await anext(events)
            await check_alive(conn, peer)


async def test_a_confirmation_that_comes_twice(autojump_clock: MockClock) -> None:
    """It means nothing the second time: in one chunk with the first, and apart."""

    def confirm_twice(peer: Peer, request: Request) -> None:
        confirmation = encode(Command.SUBSCRIPTION_CONFIRMATION, request.correlation)
        peer.send_bytes(confirmation * 2 + pushed(request, 0))

    async with open_played() as (conn, peer):
        reply_to(peer, Command.SUBSCRIBE_TO_STREAM, confirm_twice)
        async with conn.subscribe_live("s") as events:
            assert (await anext(events)).number == 0
            [request] = asked(peer)
            peer.send_bytes(encode(Command.SUBSCRIPTION_CONFIRMATION, request.correlation))
            await wait_all_tasks_blocked()
            peer.send_bytes(pushed(request, 1))
            assert (await anext(events)).number == 1


@pytest.mark.parametrize(
    "bad",
    [b"\xff", b"", appeared(1).SerializeToString() * 2, appeared(1).SerializeToString()[:-1]],
    ids=["garbage", "none", "two", "cut"],
)
async def test_good_events_in_one_chunk_with_garbage(bad: bytes, autojump_clock: MockClock) -> None:
    """What came before it is handed out, as if it had come in a chunk of its own; what came after it is not."""
    peer, good = Peer(), Peer()
    async with play_in_turn(peer, good) as conn:
        requests = confirm_each(peer)
        async with conn.subscribe_live("s") as events:
            [request] = requests
            frames = [encode(Command.STREAM_EVENT_APPEARED, request.correlation, appeared(n)) for n in range(4)]
            frames[2] = encode(Command.STREAM_EVENT_APPEARED, request.correlation, bad)
            peer.send_bytes(b"".join(frames))
            assert [(await anext(events)).number for _ in range(2)] == [0, 1]
            for _ in range(2):
                with trio.fail_after(1), pytest.raises(ProtocolError, match="no StreamEventAppeared"):
                    await anext(events)
            await check_alive(conn, good)


@pytest.mark.parametrize("pieces", [1, 2, 100])
async def test_a_push_too_large_ends_its_subscription_alone(pieces: int, autojump_clock: MockClock) -> None:
    """The events before it are handed out, and everybody else goes on."""
    async with open_played(PLAYED.replace(max_frame_size=4096)) as (conn, peer):
        requests = confirm_each(peer)
        async with conn.subscribe_live("s") as events:
            [request] = requests
            data = pushed(request, 0, 1) + pushed(request, 2, data=bytes(10_000)) + pushed(request, 3)
            step = len(data) // pieces
            for at in range(0, len(data), step):
                peer.send_bytes(data[at : at + step])
                if pieces > 1:
                    await wait_all_tasks_blocked()
            assert [(await anext(events)).number for _ in range(2)] == [0, 1]
            for _ in range(2):
                with trio.fail_after(1), pytest.raises(FrameTooLarge, match="the limit is 4,096") as caught:
                    await anext(events)
                assert caught.value.size > 10_000
            assert (await peer.receive(Command.UNSUBSCRIBE_FROM_STREAM)).correlation == request.correlation
            await check_alive(conn, peer)


async def test_a_confirmation_too_large(autojump_clock: MockClock) -> None:
    async with open_played(PLAYED.replace(max_frame_size=4096)) as (conn, peer):
        reply_to(peer, Command.SUBSCRIBE_TO_STREAM, answered(Command.SUBSCRIPTION_CONFIRMATION, bytes(10_000)))
        with pytest.raises(FrameTooLarge):
            await conn.subscribe_live("s").__aenter__()
        await check_alive(conn, peer)
        assert_nothing_left(conn)


async def test_events_in_one_chunk_with_the_confirmation(autojump_clock: MockClock) -> None:
    """Pitfall 10."""

    def confirm_and_push(peer: Peer, request: Request) -> None:
        peer.send(Command.SUBSCRIPTION_CONFIRMATION, request.correlation)
        for number in range(3):
            peer.send(Command.STREAM_EVENT_APPEARED, request.correlation, appeared(number))
        peer.send(Command.SUBSCRIPTION_DROPPED, request.correlation, dropped(Drop.NotFound))

    async with open_played() as (conn, peer):
        reply_to(peer, Command.SUBSCRIBE_TO_STREAM, confirm_and_push)
        async with conn.subscribe_live("s") as events:
            assert [(await anext(events)).number for _ in range(3)] == [0, 1, 2]
            with pytest.raises(SubscriptionDropped) as caught:
                await anext(events)
        assert caught.value.reason is DropReason.OTHER


async def test_events_after_leaving_are_dropped(autojump_clock: MockClock) -> None:
    """Pitfall 11."""
    async with open_played() as (conn, peer):
        requests = confirm_each(peer)
        async with conn.subscribe_live("s"):
            pass
        [request] = requests
        assert (await peer.receive(Command.UNSUBSCRIBE_FROM_STREAM)).correlation == request.correlation
        peer.send(Command.STREAM_EVENT_APPEARED, request.correlation, appeared(0))
        peer.send(Command.SUBSCRIPTION_DROPPED, request.correlation)
        await check_alive(conn, peer)
        assert conn.statistics().stray_frames == 2


async def test_a_subscription_cancelled_before_its_confirmation_is_given_back(autojump_clock: MockClock) -> None:
    async with open_played() as (conn, peer):
        with trio.move_on_after(1):
            async with conn.subscribe_live("s"):
                pytest.fail("nobody confirmed")
        request = await peer.receive(Command.SUBSCRIBE_TO_STREAM)
        assert (await peer.receive(Command.UNSUBSCRIBE_FROM_STREAM)).correlation == request.correlation
        peer.send(Command.SUBSCRIPTION_CONFIRMATION, request.correlation)
        await check_alive(conn, peer)
        assert_nothing_left(conn)
