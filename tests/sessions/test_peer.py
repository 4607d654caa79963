"""A server that breaks the rules, played by the test."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import appeared, event_read, log_page, pushed, written
from tests.helpers import assert_nothing_left
from tests.peer import ANONYMOUS, ANSWERS, Network, Peer, Request, encode
from tests.sessions.story import client_tasks
from trio_extreme import (
    BadRequest,
    ConnectFailed,
    Connection,
    ConnectionClosed,
    ConnectionLost,
    DeleteResult,
    DropReason,
    FrameTooLarge,
    NewEvent,
    NotAuthenticated,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    Settings,
    SubscriptionDropped,
    TrioExtremeError,
    messages,
    open_connection,
)
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

PLAYED = Settings(host="played", username="admin", password="changeit", first_attempts=1)
NOBODY = b"nobody's id here"

Reply: TypeAlias = Callable[[Peer, Request], None]


def raw(data: bytes) -> Reply:
    """Bytes, whatever was asked."""
    return lambda peer, request: peer.send_bytes(data)


def answered(command: int, payload: bytes = b"") -> Reply:
    """A frame under the request's own id."""
    return lambda peer, request: peer.send(command, request.correlation, payload)


def garbage(peer: Peer, request: Request) -> None:
    peer.send(request.command + 1, request.correlation, b"\xff")


def cut(peer: Peer, request: Request) -> None:
    peer.send_bytes(encode(request.command + 1, request.correlation, b"12345678")[:-1])
    peer.hang_up()


def stop_talking(peer: Peer, request: Request) -> None:
    peer.handlers.clear()


def read_what_was_asked(peer: Peer, request: Request) -> None:
    number = schema.ReadEvent.FromString(request.payload).event_number
    peer.send(Command.READ_EVENT_COMPLETED, request.correlation, event_read(number))


@asynccontextmanager
async def open_played(settings: Settings = PLAYED) -> AsyncIterator[tuple[Connection, Peer]]:
    """A connection, and its server for the test to play."""
    peer = Peer()
    async with open_connection(settings, connect=peer.connect) as conn:
        yield conn, peer


def reply_to(peer: Peer, command: int, reply: Reply) -> None:
    peer.handlers[command] = lambda request: reply(peer, request)


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
        raw(encode(Command.BAD_REQUEST, NO_CORRELATION, b"Connection queue size is too large\r\n")),
        ConnectionLost,
        "the server says: Connection queue size is too large",
        id="bad request for all",
    ),
    pytest.param(
        raw(encode(Command.BAD_REQUEST, NO_CORRELATION, b"no\nERROR: a lie\x1b[31m")),
        ConnectionLost,
        r"the server says: no ERROR: a lie \[31m$",
        id="bad request for all that looks like a log",
    ),
]


each_fatal = pytest.mark.parametrize(("reply", "error", "text"), FATAL)


@each_fatal
async def test_fatal_answers_to_a_read(
    reply: Reply, error: type[TrioExtremeError], text: str, autojump_clock: MockClock
) -> None:
    async with open_played() as (conn, peer):
        reply_to(peer, Command.READ_EVENT, reply)
        with trio.fail_after(20), pytest.raises(error, match=text):
            await conn.read_event("s", 0)
        await check_ended(conn, text)


@each_fatal
async def test_fatal_answers_to_a_write(
    reply: Reply, error: type[TrioExtremeError], text: str, autojump_clock: MockClock
) -> None:
    """Whether it was written nobody knows, whatever is wrong."""
    event = NewEvent("t")
    async with open_played() as (conn, peer):
        reply_to(peer, Command.WRITE_EVENTS, reply)
        with trio.fail_after(20), pytest.raises(OutcomeUnknown, match=text) as caught:
            await conn.append("s", event)
        assert caught.value.event_ids == (event.id,)
        assert isinstance(caught.value.__cause__, error)
        await check_ended(conn, text)


async def check_ended(conn: Connection, text: str) -> None:
    """Every later call meets the cause, at once, and nothing waits."""
    with trio.fail_after(0.001), pytest.raises(TrioExtremeError, match=text):
        await conn.ping()
    assert_nothing_left(conn)


async def test_a_fatal_answer_reaches_everybody_who_waits(autojump_clock: MockClock) -> None:
    errors: list[TrioExtremeError] = []

    async def ask(conn: Connection) -> None:
        with pytest.raises(ProtocolError) as caught:
            await conn.read_event("s", 0)
        errors.append(caught.value)

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, conn)
        for _ in range(5):
            await peer.receive(Command.READ_EVENT)
        peer.send_bytes(bytes(4))
    # Each its own, for each grows its own traceback.
    assert len({id(error) for error in errors}) == 5


# What concerns one request.


async def check_alive(conn: Connection, peer: Peer) -> None:
    reply_to(peer, Command.READ_EVENT, read_what_was_asked)
    assert (await conn.read_event("s", 3)).number == 3


async def test_an_answer_of_nearly_2_gb_fails_its_request_alone(autojump_clock: MockClock) -> None:
    """It is skipped as it comes, not stored; the next frame is read."""
    length = 2**31 - 1

    async def flood(peer: Peer) -> None:
        first = await peer.receive(Command.READ_EVENT)
        peer.send_bytes(struct.pack("<iBB16s", length, Command.READ_EVENT_COMPLETED, 0, first.correlation))
        second = await peer.receive(Command.READ_EVENT)
        chunk = bytes(16 * 1024 * 1024)
        left = length - 18
        while left:
            peer.send_bytes(chunk[:left])
            left -= min(left, len(chunk))
            await wait_all_tasks_blocked()
        read_what_was_asked(peer, second)

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        nursery.start_soon(flood, peer)
        with pytest.raises(FrameTooLarge) as caught:
            await conn.read_event("s", 0)
        assert (caught.value.size, caught.value.limit) == (length, 64 * 1024 * 1024)
        assert (await conn.read_event("s", 7)).number == 7


async def test_a_bad_request_fails_its_request_alone(autojump_clock: MockClock) -> None:
    async with open_played() as (conn, peer):
        reply_to(peer, Command.READ_EVENT, answered(Command.BAD_REQUEST, b"Could not unwrap network package"))
        with pytest.raises(BadRequest, match="Could not unwrap"):
            await conn.read_event("s", 0)
        await check_alive(conn, peer)


@pytest.mark.parametrize(
    "stray",
    [
        encode(Command.READ_EVENT_COMPLETED, NOBODY, event_read(1)),
        encode(0x99, NOBODY, b"\xff"),
        encode(Command.STREAM_EVENT_APPEARED, NOBODY, b"\xff"),
        encode(Command.NOT_AUTHENTICATED, NO_CORRELATION),
        encode(Command.BAD_REQUEST, NOBODY, b"no"),
    ],
)
async def test_what_nobody_waits_for_is_counted_and_dropped(stray: bytes, autojump_clock: MockClock) -> None:
    async with open_played() as (conn, peer):
        peer.send_bytes(stray * 3)
        await check_alive(conn, peer)
        assert conn.statistics().stray_frames == 3


async def test_an_answer_that_comes_twice(autojump_clock: MockClock) -> None:
    """The first counts: side by side, and apart in one chunk."""

    def twice(peer: Peer, request: Request) -> None:
        first, second = (encode(Command.READ_EVENT_COMPLETED, request.correlation, event_read(n)) for n in (1, 2))
        peer.send_bytes(first + second + encode(Command.HEARTBEAT_RESPONSE, NOBODY) + second)

    async with open_played() as (conn, peer):
        reply_to(peer, Command.READ_EVENT, twice)
        assert (await conn.read_event("s", 0)).number == 1
        await check_alive(conn, peer)


async def test_an_answer_after_its_caller_has_gone(autojump_clock: MockClock) -> None:
    async with open_played() as (conn, peer):
        with trio.move_on_after(1) as scope:
            await conn.read_event("s", 1)
        assert scope.cancelled_caught
        read_what_was_asked(peer, await peer.receive(Command.READ_EVENT))
        await check_alive(conn, peer)
        assert conn.statistics().stray_frames == 1


async def test_an_answer_too_large_whose_caller_has_gone_is_skipped(autojump_clock: MockClock) -> None:
    """A page asked for by somebody who was cancelled must not cost the others their connection."""
    async with open_played() as (conn, peer):
        with trio.move_on_after(1):
            await conn.read_event("s", 1)
        request = await peer.receive(Command.READ_EVENT)
        length = PLAYED.max_frame_size + 1
        peer.send_bytes(struct.pack("<iBB16s", length, Command.READ_EVENT_COMPLETED, 0, request.correlation))
        peer.send_bytes(bytes(length - 18))
        await check_alive(conn, peer)
        assert conn.statistics().stray_frames == 1


async def test_an_answer_too_large_after_the_answer(autojump_clock: MockClock) -> None:
    """The first of two counts, in one chunk and apart."""

    def twice(peer: Peer, request: Request) -> None:
        first = encode(Command.READ_EVENT_COMPLETED, request.correlation, event_read(1))
        peer.send_bytes(first + encode(Command.READ_EVENT_COMPLETED, request.correlation, bytes(10_000)))

    async with open_played(PLAYED.replace(max_frame_size=4096)) as (conn, peer):
        reply_to(peer, Command.READ_EVENT, twice)
        assert (await conn.read_event("s", 0)).number == 1
        await check_alive(conn, peer)


async def test_an_answer_too_large_to_a_write(autojump_clock: MockClock) -> None:
    """Something was answered, and nobody knows what."""
    async with open_played(PLAYED.replace(max_frame_size=4096)) as (conn, peer):
        reply_to(peer, Command.WRITE_EVENTS, answered(Command.WRITE_EVENTS_COMPLETED, bytes(10_000)))
        with pytest.raises(OutcomeUnknown, match="max_frame_size") as caught:
            await conn.append("s", NewEvent("t"))
        assert isinstance(caught.value.__cause__, FrameTooLarge)
        await check_alive(conn, peer)


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_log_that_goes_in_a_circle(*, backwards: bool, autojump_clock: MockClock) -> None:
    """A reader would never end, and hand out the same events over and over."""

    def same_page(peer: Peer, request: Request) -> None:
        at, following = (51, 49) if backwards else (49, 51)
        peer.send(request.command + 1, request.correlation, log_page([50], at, following))

    async with open_played() as (conn, peer):
        reply_to(peer, Command.READ_ALL_EVENTS_FORWARD, same_page)
        reply_to(peer, Command.READ_ALL_EVENTS_BACKWARD, same_page)
        events = conn.read_all(backwards=backwards)
        assert (await anext(events)).position.commit == 50
        with pytest.raises(ProtocolError, match="which is no progress"):
            await anext(events)
        await check_ended(conn, "which is no progress")


async def test_a_page_with_more_than_was_asked_for(autojump_clock: MockClock) -> None:
    """Events of two bytes, millions in one frame."""
    async with open_played() as (conn, peer):
        reply_to(peer, Command.READ_STREAM_EVENTS_FORWARD, answered(0xB3, b"\x0a\x00" * 100_000))
        with pytest.raises(ProtocolError, match="a page of 100,000 events to who asked for "):
            await anext(conn.read_stream("s"))
        await check_ended(conn, "a page of 100,000 events")


async def test_a_scavenge_takes_its_time(autojump_clock: MockClock) -> None:
    """Servers answer it when it is done. It is asked for once, whatever `attempt_timeout` says."""
    async with open_played() as (conn, peer), trio.open_nursery() as nursery:

        async def scavenge() -> None:
            request = await peer.receive(Command.SCAVENGE_DATABASE)
            await trio.sleep(PLAYED.attempt_timeout * 2)
            done = messages.ScavengeDatabaseCompleted(result=0, total_time_ms=5, total_space_saved=5)
            peer.send(Command.SCAVENGE_DATABASE_COMPLETED, request.correlation, done)

        nursery.start_soon(scavenge)
        done = await conn.execute(messages.ScavengeDatabase())
        assert isinstance(done, messages.ScavengeDatabaseCompleted)
        assert done.total_time_ms == 5
        assert peer.commands() == [Command.SCAVENGE_DATABASE]


async def test_a_hard_delete_finds_its_own_tombstone(autojump_clock: MockClock) -> None:
    """The answer to the first attempt was lost."""
    async with open_played() as (conn, peer), trio.open_nursery() as nursery:

        async def delete() -> None:
            await peer.receive(Command.DELETE_STREAM)
            request = await peer.receive(Command.DELETE_STREAM)
            refusal = schema.DeleteStreamCompleted(result=schema.OperationResult.StreamDeleted)
            peer.send(Command.DELETE_STREAM_COMPLETED, request.correlation, refusal)

        nursery.start_soon(delete)
        assert await conn.delete_stream("s", expected=3, hard=True) == DeleteResult(None)


async def test_an_answer_before_garbage_counts(autojump_clock: MockClock) -> None:
    """In one chunk, as in two: what was written is known to be written."""

    def answer_and_break(peer: Peer, request: Request) -> None:
        peer.send_bytes(encode(Command.WRITE_EVENTS_COMPLETED, request.correlation, written(7, 7)) + bytes(4))

    async with open_played() as (conn, peer):
        reply_to(peer, Command.WRITE_EVENTS, answer_and_break)
        assert (await conn.append("s", NewEvent("t"))).last == 7
        await check_ended(conn, "length 0")


async def test_the_late_answer_to_an_earlier_attempt_finds_nobody(autojump_clock: MockClock) -> None:
    """Each attempt has its own id: pitfall 7."""

    async def play(peer: Peer) -> None:
        first = await peer.receive(Command.READ_EVENT)
        second = await peer.receive(Command.READ_EVENT)
        assert second.correlation != first.correlation
        assert second.payload == first.payload
        peer.send(Command.READ_EVENT_COMPLETED, first.correlation, event_read(1))
        await wait_all_tasks_blocked()
        peer.send(Command.READ_EVENT_COMPLETED, second.correlation, event_read(2))

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        nursery.start_soon(play, peer)
        assert (await conn.read_event("s", 0)).number == 2
        assert conn.statistics().stray_frames == 1


async def test_answers_in_another_order(autojump_clock: MockClock) -> None:
    """Pitfall 9."""
    numbers: dict[int, int] = {}

    async def ask(conn: Connection, number: int) -> None:
        numbers[number] = (await conn.read_event("s", number)).number

    async with open_played() as (conn, peer), trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, conn, number)
        for request in reversed([await peer.receive(Command.READ_EVENT) for _ in range(20)]):
            read_what_was_asked(peer, request)
    assert numbers == {number: number for number in range(20)}


async def test_heartbeats_are_answered_while_nobody_asks_anything(autojump_clock: MockClock) -> None:
    async with open_played() as (_, peer):
        for number in range(3):
            peer.send(Command.HEARTBEAT_REQUEST, bytes([number]) * 16)
            assert await peer.receive() == (Command.HEARTBEAT_RESPONSE, bytes([number]) * 16, b"", None)


# Subscriptions.


def confirm_each(peer: Peer) -> list[Request]:
    """Confirm every subscription from now on; they are added to the list."""
    requests: list[Request] = []

    def confirm(request: Request) -> None:
        requests.append(request)
        peer.send(Command.SUBSCRIPTION_CONFIRMATION, request.correlation)

    peer.handlers[Command.SUBSCRIBE_TO_STREAM] = confirm
    return requests


@pytest.mark.parametrize(
    ("command", "payload", "error", "text"),
    [
        (Command.STREAM_EVENT_APPEARED, b"\xff", ProtocolError, "no StreamEventAppeared"),
        (Command.STREAM_EVENT_APPEARED, b"", ProtocolError, "no StreamEventAppeared"),
        (Command.STREAM_EVENT_APPEARED, appeared(1).SerializeToString() * 2, ProtocolError, "no StreamEventAppeared"),
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
    async with open_played() as (conn, peer):
        requests = confirm_each(peer)
        async with conn.subscribe_live("s") as events:
            [request] = requests
            peer.send(Command.STREAM_EVENT_APPEARED, request.correlation, appeared(0))
            assert (await anext(events)).number == 0
            peer.send(command, request.correlation, payload)
            for _ in range(2):
                with trio.fail_after(1), pytest.raises(error, match=text):
                    await anext(events)


@pytest.mark.parametrize(
    "bad",
    [b"\xff", b"", appeared(1).SerializeToString() * 2, appeared(1).SerializeToString()[:-1]],
    ids=["garbage", "none", "two", "cut"],
)
async def test_good_events_in_one_chunk_with_garbage(bad: bytes, autojump_clock: MockClock) -> None:
    """What came before it is handed out, as if it had come in a chunk of its own; what came after it is not."""
    async with open_played() as (conn, peer):
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
            await check_ended(conn, "no StreamEventAppeared")


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
        peer.send(Command.SUBSCRIPTION_DROPPED, request.correlation)

    async with open_played() as (conn, peer):
        reply_to(peer, Command.SUBSCRIBE_TO_STREAM, confirm_and_push)
        async with conn.subscribe_live("s") as events:
            assert [(await anext(events)).number for _ in range(3)] == [0, 1, 2]
            with pytest.raises(SubscriptionDropped) as caught:
                await anext(events)
        assert caught.value.reason is DropReason.UNSUBSCRIBED


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


# Opening.


as_whoever = pytest.mark.parametrize("settings", [PLAYED, ANONYMOUS.replace(first_attempts=1)], ids=["admin", "nobody"])


async def open_in_vain(peer: Peer, settings: Settings = PLAYED) -> ConnectFailed:
    with trio.fail_after(20), pytest.raises(ConnectFailed) as caught:
        async with open_connection(settings, connect=peer.connect):
            pytest.fail("that was no server")
    assert len(caught.value.attempts) == 1
    assert client_tasks() == []
    return caught.value


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bytes(4), "length 0"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the port of the web interface"),
        (b"\x15\x03\x03\x00\x02\x02\x46" + bytes(22), "this is a TLS port"),
        (encode(Command.BAD_REQUEST, NO_CORRELATION, b"go away"), "go away"),
        (b"", "before it said a word"),
    ],
)
async def test_a_peer_that_is_no_event_store(data: bytes, text: str, autojump_clock: MockClock) -> None:
    peer = Peer()
    peer.send_bytes(data)
    peer.hang_up()
    assert text in str(await open_in_vain(peer))


@as_whoever
async def test_a_peer_that_says_nothing(settings: Settings, autojump_clock: MockClock) -> None:
    await open_in_vain(Peer(mute=ANSWERS), settings)


@as_whoever
@pytest.mark.parametrize("mute", [[Command.PING], [Command.IDENTIFY_CLIENT, Command.PING]], ids=["ping", "both"])
async def test_a_peer_that_only_lives(settings: Settings, mute: list[Command], autojump_clock: MockClock) -> None:
    """It answers heartbeats and no ping: no server is that old."""
    error = await open_in_vain(Peer(mute=mute), settings)
    assert isinstance(error.attempts[0], OperationTimedOut)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answered(Command.BAD_REQUEST, b"no\nERROR: a lie\x1b[31m"), BadRequest),
        (answered(Command.PONG, bytes(10_000)), FrameTooLarge),
        (answered(Command.PONG + 100), ProtocolError),
    ],
)
async def test_a_peer_that_gives_no_answer_to_the_ping(
    reply: Reply, kind: type[TrioExtremeError], autojump_clock: MockClock
) -> None:
    peer = Peer()
    reply_to(peer, Command.PING, reply)
    error = await open_in_vain(peer, PLAYED.replace(max_frame_size=4096))
    assert isinstance(error.attempts[0], kind)
    assert str(error).isprintable()


async def test_a_wrong_password_is_told_at_once(autojump_clock: MockClock) -> None:
    peer = Peer()
    reply_to(peer, Command.PING, answered(Command.NOT_AUTHENTICATED, b"Not Authenticated"))
    network = Network(peer)
    with pytest.raises(NotAuthenticated):
        async with open_connection(PLAYED.replace(first_attempts=5), connect=network.connect):
            pytest.fail("the password is wrong")
    assert network.times == [0]
    assert trio.current_time() < 1


@pytest.mark.parametrize("reply", [answered(Command.BAD_REQUEST), lambda peer, request: None], ids=["no", "silence"])
async def test_servers_before_3_9_4_do_not_know_identify(reply: Reply, autojump_clock: MockClock) -> None:
    """Pitfall 6."""
    peer = Peer()
    reply_to(peer, Command.IDENTIFY_CLIENT, reply)
    async with open_connection(PLAYED, connect=peer.connect) as conn:
        await check_alive(conn, peer)


# Leaving.


@pytest.mark.parametrize("size", [0, 10_000_000])
@pytest.mark.parametrize("hurry", [False, True])
async def test_leaving_takes_less_than_a_second_though_the_peer_is_dead(
    *, size: int, hurry: bool, autojump_clock: MockClock
) -> None:
    """Guarantee 1: nothing is read, messages are unread, a request is in the middle of being sent."""

    async def append(conn: Connection) -> None:
        with pytest.raises((OutcomeUnknown, ConnectionClosed)):
            await conn.append("s", NewEvent("t", bytes(size)))

    async with trio.open_nursery() as calls:
        with trio.CancelScope() as scope:
            async with open_played() as (conn, peer):
                peer.hold()
                calls.start_soon(append, conn)
                await wait_all_tasks_blocked()
                peer.send(Command.STREAM_EVENT_APPEARED, NOBODY, bytes(100_000))
                left_at = trio.current_time()
                if hurry:
                    scope.cancel()
        assert trio.current_time() - left_at < 1
        assert client_tasks() == []
