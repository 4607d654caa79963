"""A server that breaks the rules, played by the test."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio

from tests.sessions.story import client_tasks
from tests.sessions.streams import PLAYED, Peer, open_played
from trio_extreme.client import Connection, open_connection
from trio_extreme.errors import (
    BadRequest,
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    FrameTooLarge,
    NotAuthenticated,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    SubscriptionDropped,
    TrioExtremeError,
)
from trio_extreme.events import NewEvent
from trio_extreme.values import DropReason
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION, encode_frame

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_extreme.wire.framing import Frame

Reply: TypeAlias = Callable[[Peer, "Frame"], Awaitable[None]]
LOST = "lost"


def raw(data: bytes) -> Reply:
    """Bytes, whatever was asked."""

    async def reply(peer: Peer, frame: Frame) -> None:
        await peer.send(data)

    return reply


def answered(command: int, payload: bytes = b"") -> Reply:
    """A frame under the request's own id."""

    async def reply(peer: Peer, frame: Frame) -> None:
        await peer.answer(frame, command, payload)

    return reply


def head_of(length: int) -> Reply:
    """The head of an answer that says this length, and no more."""

    async def reply(peer: Peer, frame: Frame) -> None:
        await peer.send(struct.pack("<iBB16s", length, Command.READ_EVENT_COMPLETED, 0, frame[2]))

    return reply


async def garbage(peer: Peer, frame: Frame) -> None:
    await peer.answer(frame, frame[0] + 1, b"\xff")


async def cut(peer: Peer, frame: Frame) -> None:
    await peer.send(encode_frame(Command.READ_EVENT_COMPLETED, frame[2], b"12345678")[:-1])
    await peer.aclose()


async def stop_talking(peer: Peer, frame: Frame) -> None:
    """Only the mock clock gets on."""


def event_read(number: int = 0) -> bytes:
    record = schema.EventRecord(event_stream_id="s", event_number=number, event_id=b"i" * 16, event_type="t")
    return schema.ReadEventCompleted(event=schema.ResolvedIndexedEvent(event=record)).SerializeToString()


# What ends the session. For a read it is the error; a write might have happened.
FATAL = [
    pytest.param(raw(bytes(4)), ProtocolError, "length 0", id="length 0"),
    pytest.param(raw(struct.pack("<i", 17)), ProtocolError, "length 17", id="length 17"),
    pytest.param(raw(struct.pack("<i", -1)), ProtocolError, "length -1", id="length -1"),
    pytest.param(raw(struct.pack("<i", 2**31 - 1) + bytes(18)), ProtocolError, "unasked", id="2 GB"),
    pytest.param(garbage, ProtocolError, "1 bytes", id="garbage payload"),
    pytest.param(answered(Command.PONG), ProtocolError, "PONG came as the answer to", id="answer of the wrong type"),
    pytest.param(answered(0x99), ProtocolError, "0x99 came as the answer to", id="unknown command"),
    pytest.param(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ProtocolError, "max_frame_size", id="text"),
    pytest.param(cut, ConnectionLost, "the server closed it", id="cut frame"),
    pytest.param(stop_talking, ConnectionLost, "silent for 5 s", id="silence"),
    pytest.param(
        raw(encode_frame(Command.BAD_REQUEST, NO_CORRELATION, b"Connection queue size is too large\r\n")),
        ConnectionLost,
        "the server says: Connection queue size is too large",
        id="bad request for all",
    ),
]


@pytest.mark.parametrize(("reply", "error", "text"), FATAL)
async def test_fatal_answers_to_a_read(
    reply: Reply, error: type[TrioExtremeError], text: str, autojump_clock: MockClock
) -> None:
    async with open_played() as (conn, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_once, peer, reply)
            with trio.fail_after(20), pytest.raises(error, match=text):
                await conn.read_event("s", 0)
        await check_ended(conn, text)


@pytest.mark.parametrize(("reply", "error", "text"), FATAL)
async def test_fatal_answers_to_a_write(
    reply: Reply, error: type[TrioExtremeError], text: str, autojump_clock: MockClock
) -> None:
    """Whether it was written nobody knows, whatever is wrong."""
    event = NewEvent("t")
    async with open_played() as (conn, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_once, peer, reply)
            with trio.fail_after(20), pytest.raises(OutcomeUnknown, match=text) as caught:
                await conn.append("s", event)
        assert caught.value.event_ids == (event.id,)
        assert isinstance(caught.value.__cause__, error)
        await check_ended(conn, text)


async def answer_once(peer: Peer, reply: Reply) -> None:
    await reply(peer, await peer.request())


async def check_ended(conn: Connection, text: str) -> None:
    """Every later call meets the cause, at once, and nothing waits."""
    with trio.fail_after(0.001), pytest.raises(TrioExtremeError, match=text):
        await conn.ping()
    statistics = conn.statistics()
    assert (statistics.in_flight, statistics.waiting, statistics.queued_bytes) == (0, 0, 0)


async def test_a_fatal_answer_reaches_everybody_who_waits(autojump_clock: MockClock) -> None:
    errors: list[TrioExtremeError] = []

    async def ask(conn: Connection) -> None:
        try:
            await conn.read_event("s", 0)
        except TrioExtremeError as error:
            errors.append(error)

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, conn)
        for _ in range(5):
            await peer.request()
        await peer.send(bytes(4))
    assert [type(error) for error in errors] == [ProtocolError] * 5
    # Each its own, for each grows its own traceback.
    assert len({id(error) for error in errors}) == 5


# What concerns one request.


async def test_an_answer_of_nearly_2_gb_fails_its_request_alone(autojump_clock: MockClock) -> None:
    """It is skipped as it comes, not stored; the next frame is read."""
    length = 2**31 - 1
    async with open_played() as (conn, peer), trio.open_nursery() as nursery:

        async def flood() -> None:
            first = await peer.request(Command.READ_EVENT)
            await head_of(length)(peer, first)
            second = await peer.request(Command.READ_EVENT)
            chunk = bytes(16 * 1024 * 1024)
            left = length - 18
            while left:
                await peer.send(chunk[:left])
                left -= min(left, len(chunk))
                await trio.testing.wait_all_tasks_blocked()
            await peer.answer(second, Command.READ_EVENT_COMPLETED, event_read(7))

        nursery.start_soon(flood)
        with pytest.raises(FrameTooLarge) as caught:
            await conn.read_event("s", 0)
        assert (caught.value.size, caught.value.limit) == (length, 64 * 1024 * 1024)
        assert (await conn.read_event("s", 7)).number == 7


async def test_a_bad_request_fails_its_request_alone(autojump_clock: MockClock) -> None:
    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, peer, answered(Command.BAD_REQUEST, b"Could not unwrap network package"))
        with pytest.raises(BadRequest, match="Could not unwrap"):
            await conn.read_event("s", 0)
        await check_alive(conn, peer)


async def check_alive(conn: Connection, peer: Peer) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, peer, answered(Command.READ_EVENT_COMPLETED, event_read(3)))
        assert (await conn.read_event("s", 3)).number == 3


@pytest.mark.parametrize(
    "stray",
    [
        encode_frame(Command.READ_EVENT_COMPLETED, b"nobody's id here", event_read(1)),
        encode_frame(0x99, b"nobody's id here", b"\xff"),
        encode_frame(Command.STREAM_EVENT_APPEARED, b"nobody's id here", b"\xff"),
        encode_frame(Command.NOT_AUTHENTICATED, NO_CORRELATION),
        encode_frame(Command.BAD_REQUEST, b"nobody's id here", b"no"),
    ],
)
async def test_what_nobody_waits_for_is_counted_and_dropped(stray: bytes, autojump_clock: MockClock) -> None:
    async with open_played() as (conn, peer):
        await peer.send(stray * 3)
        await check_alive(conn, peer)
        assert conn.statistics().stray_frames == 3


async def test_an_answer_that_comes_twice(autojump_clock: MockClock) -> None:
    """The first counts: side by side, apart in one chunk, and later."""

    async def twice(peer: Peer, frame: Frame) -> None:
        first, second = (encode_frame(Command.READ_EVENT_COMPLETED, frame[2], event_read(n)) for n in (1, 2))
        await peer.send(first + second + encode_frame(Command.HEARTBEAT_RESPONSE, b"h" * 16) + second)
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(second)

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, peer, twice)
        assert (await conn.read_event("s", 0)).number == 1
        await check_alive(conn, peer)


async def test_an_answer_after_its_caller_has_gone(autojump_clock: MockClock) -> None:
    async with open_played() as (conn, peer):
        with trio.move_on_after(1) as scope:
            await conn.read_event("s", 1)
        assert scope.cancelled_caught
        frame = await peer.request(Command.READ_EVENT)
        await peer.answer(frame, Command.READ_EVENT_COMPLETED, event_read(1))
        await check_alive(conn, peer)
        assert conn.statistics().stray_frames == 1


async def test_the_late_answer_to_an_earlier_attempt_finds_nobody(autojump_clock: MockClock) -> None:
    """Each attempt has its own id: pitfall 7."""

    async def play(peer: Peer) -> None:
        first = await peer.request(Command.READ_EVENT)
        # Heartbeats show that the connection lives; only this answer is late.
        for _ in range(8):
            await trio.sleep(1)
            await peer.send(encode_frame(Command.HEARTBEAT_REQUEST, b"h" * 16))
            while (frame := await peer.request())[0] == Command.HEARTBEAT_RESPONSE and frame[2] != b"h" * 16:
                pass
            if frame[0] == Command.READ_EVENT:
                break
        second = frame if frame[0] == Command.READ_EVENT else await peer.request(Command.READ_EVENT)
        assert second[2] != first[2]
        assert second[3] == first[3]
        await peer.answer(first, Command.READ_EVENT_COMPLETED, event_read(1))
        await trio.testing.wait_all_tasks_blocked()
        await peer.answer(second, Command.READ_EVENT_COMPLETED, event_read(2))

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        nursery.start_soon(play, peer)
        assert (await conn.read_event("s", 0)).number == 2


async def test_answers_in_another_order(autojump_clock: MockClock) -> None:
    """Pitfall 9."""
    numbers: dict[int, int] = {}

    async def ask(conn: Connection, number: int) -> None:
        numbers[number] = (await conn.read_event("s", number)).number

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, conn, number)
        frames = [await peer.request(Command.READ_EVENT) for _ in range(20)]
        for frame in reversed(frames):
            # The request's header carries admin/changeit.
            wanted = schema.ReadEvent.FromString(frame[3][len("admin") + len("changeit") + 2 :]).event_number
            await peer.answer(frame, Command.READ_EVENT_COMPLETED, event_read(wanted))
    assert numbers == {number: number for number in range(20)}


async def test_heartbeats_are_answered_while_nobody_asks_anything(autojump_clock: MockClock) -> None:
    async with open_played() as (_, peer):
        for number in range(3):
            await peer.send(encode_frame(Command.HEARTBEAT_REQUEST, bytes([number]) * 16))
            assert await peer.request() == (Command.HEARTBEAT_RESPONSE, 0, bytes([number]) * 16, b"")


# Subscriptions.


def pushed(number: int) -> bytes:
    record = schema.EventRecord(event_stream_id="s", event_number=number, event_id=b"i" * 16, event_type="t")
    event = schema.ResolvedEvent(event=record, commit_position=number, prepare_position=number)
    return schema.StreamEventAppeared(event=event).SerializeToString()


async def confirm(peer: Peer) -> Frame:
    frame = await peer.request(Command.SUBSCRIBE_TO_STREAM)
    await peer.answer(frame, Command.SUBSCRIPTION_CONFIRMATION, b"")
    return frame


@pytest.mark.parametrize(
    ("command", "payload", "error", "text"),
    [
        (Command.STREAM_EVENT_APPEARED, b"\xff", ProtocolError, "no StreamEventAppeared"),
        (Command.STREAM_EVENT_APPEARED, b"", ProtocolError, "1 pushed frames hold 0 events"),
        (Command.STREAM_EVENT_APPEARED, pushed(1) * 2, ProtocolError, "hold 2 events"),
        (Command.PONG, b"", ProtocolError, "PONG came to a subscription"),
        (Command.SUBSCRIPTION_CONFIRMATION, b"", ProtocolError, "SUBSCRIPTION_CONFIRMATION came to a subscription"),
        (0x99, b"", ProtocolError, "0x99 came to a subscription"),
        (Command.SUBSCRIPTION_DROPPED, b"", SubscriptionDropped, "the server ended the subscription"),
        (Command.SUBSCRIPTION_DROPPED, b"\xff", ProtocolError, "no SubscriptionDropped"),
    ],
)
async def test_odd_pushes(
    command: int, payload: bytes, error: type[TrioExtremeError], text: str, autojump_clock: MockClock
) -> None:
    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        frames: list[Frame] = []

        async def play() -> None:
            frames.append(await confirm(peer))

        nursery.start_soon(play)
        async with conn.subscribe_live("s") as events:
            [frame] = frames
            await peer.answer(frame, Command.STREAM_EVENT_APPEARED, pushed(0))
            assert (await anext(events)).number == 0
            await peer.answer(frame, command, payload)
            for _ in range(2):
                with trio.fail_after(1), pytest.raises(error, match=text):
                    await anext(events)


async def test_events_in_one_chunk_with_the_confirmation(autojump_clock: MockClock) -> None:
    """Pitfall 10."""

    async def play(peer: Peer) -> None:
        frame = await peer.request(Command.SUBSCRIBE_TO_STREAM)
        await peer.send(
            encode_frame(Command.SUBSCRIPTION_CONFIRMATION, frame[2])
            + b"".join(encode_frame(Command.STREAM_EVENT_APPEARED, frame[2], pushed(n)) for n in range(3))
            + encode_frame(Command.SUBSCRIPTION_DROPPED, frame[2])
        )

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        nursery.start_soon(play, peer)
        async with conn.subscribe_live("s") as events:
            assert [(await anext(events)).number for _ in range(3)] == [0, 1, 2]
            with pytest.raises(SubscriptionDropped) as caught:
                await anext(events)
        assert caught.value.reason is DropReason.UNSUBSCRIBED


async def test_events_after_leaving_are_dropped(autojump_clock: MockClock) -> None:
    """Pitfall 11."""
    async with open_played() as (conn, peer):
        frames: list[Frame] = []
        async with trio.open_nursery() as nursery:

            async def play() -> None:
                frames.append(await confirm(peer))

            nursery.start_soon(play)
            async with conn.subscribe_live("s"):
                pass
        [frame] = frames
        assert (await peer.request(Command.UNSUBSCRIBE_FROM_STREAM))[2] == frame[2]
        await peer.answer(frame, Command.STREAM_EVENT_APPEARED, pushed(0))
        await peer.answer(frame, Command.SUBSCRIPTION_DROPPED)
        await check_alive(conn, peer)
        assert conn.statistics().stray_frames == 2


async def test_a_subscription_cancelled_before_its_confirmation_is_given_back(autojump_clock: MockClock) -> None:
    async with open_played() as (conn, peer):
        with trio.move_on_after(1):
            async with conn.subscribe_live("s"):
                pytest.fail("nobody confirmed")
        frame = await peer.request(Command.SUBSCRIBE_TO_STREAM)
        assert (await peer.request(Command.UNSUBSCRIBE_FROM_STREAM))[2] == frame[2]
        await peer.answer(frame, Command.SUBSCRIPTION_CONFIRMATION)
        await check_alive(conn, peer)
        assert conn.statistics().subscriptions == ()


# Opening.


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes(4), "length 0"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the port of the web interface"),
        (b"\x15\x03\x03\x00\x02\x02\x46" + bytes(22), "this is a TLS port"),
        (encode_frame(Command.BAD_REQUEST, NO_CORRELATION, b"go away"), "go away"),
        (b"", "before it said a word"),
    ],
)
async def test_a_peer_that_is_no_event_store(data: bytes, text: str, autojump_clock: MockClock) -> None:
    peer = Peer()
    await peer.send(data)
    await peer.aclose()
    with trio.fail_after(20), pytest.raises(ConnectFailed, match=text) as caught:
        async with open_connection(PLAYED, connect=peer.connect):
            pytest.fail("that was no server")
    assert len(caught.value.attempts) == 1
    assert client_tasks() == []


async def test_a_peer_that_says_nothing(autojump_clock: MockClock) -> None:
    peer = Peer()
    with trio.fail_after(20), pytest.raises(ConnectFailed):
        async with open_connection(PLAYED, connect=peer.connect):
            pytest.fail("that was no server")
    assert client_tasks() == []


async def test_a_peer_that_only_lives(autojump_clock: MockClock) -> None:
    """It answers heartbeats and nothing else."""
    peer = Peer()

    async def beat() -> None:
        while True:
            await peer.send(encode_frame(Command.HEARTBEAT_REQUEST, b"h" * 16))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        with trio.fail_after(20), pytest.raises(ConnectFailed) as caught:
            async with open_connection(PLAYED, connect=peer.connect):
                pytest.fail("that was no server")
        assert isinstance(caught.value.attempts[0], OperationTimedOut)
        nursery.cancel_scope.cancel()


async def test_a_wrong_password_is_told_at_once(autojump_clock: MockClock) -> None:
    peer = Peer()

    async def refuse() -> None:
        await peer.answer(await peer.request(Command.IDENTIFY_CLIENT), Command.CLIENT_IDENTIFIED)
        await peer.answer(await peer.request(Command.PING), Command.NOT_AUTHENTICATED, b"Not Authenticated")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(NotAuthenticated):
            async with open_connection(PLAYED.replace(first_attempts=5), connect=peer.connect):
                pytest.fail("the password is wrong")
    assert peer.connects == 1
    assert trio.current_time() < 1


@pytest.mark.parametrize("reply", [Command.BAD_REQUEST, None], ids=["refused", "unanswered"])
async def test_servers_before_3_9_4_do_not_know_identify(reply: int | None, autojump_clock: MockClock) -> None:
    """Pitfall 6."""
    peer = Peer()

    async def old_server() -> None:
        frame = await peer.request(Command.IDENTIFY_CLIENT)
        if reply is not None:
            await peer.answer(frame, reply, b"Could not unwrap network package for command 245.")
        await peer.answer(await peer.request(Command.PING), Command.PONG)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(old_server)
        async with open_connection(PLAYED, connect=peer.connect) as conn:
            await check_alive(conn, peer)


# Leaving.


@pytest.mark.parametrize("size", [0, 10_000_000])
@pytest.mark.parametrize("hurry", [False, True])
async def test_leaving_takes_less_than_a_second_though_the_peer_is_dead(
    *, size: int, hurry: bool, autojump_clock: MockClock
) -> None:
    """Guarantee 1: nothing is read, messages are unread, a request is under way, maybe in the middle of its bytes."""
    errors: list[TrioExtremeError] = []

    async def append(conn: Connection) -> None:
        with pytest.raises((OutcomeUnknown, ConnectionClosed)) as caught:
            await conn.append("s", NewEvent("t", bytes(size)))
        errors.append(caught.value)

    async with trio.open_nursery() as calls:
        with trio.CancelScope() as scope:
            async with open_played() as (conn, peer):
                calls.start_soon(append, conn)
                await trio.testing.wait_all_tasks_blocked()
                await peer.send(encode_frame(Command.STREAM_EVENT_APPEARED, b"nobody's id here", bytes(100_000)))
                left_at = trio.current_time()
                if hurry:
                    scope.cancel()
        assert trio.current_time() - left_at < 1
        assert client_tasks() == []
    assert len(errors) == 1
