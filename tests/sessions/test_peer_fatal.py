"""A server that breaks the rules so that no session survives it, played by the test."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
import trio

from tests.answers import log_page, written
from tests.kinds import NO_STREAM_YET, READ_BACKWARD
from tests.lost import answer_all
from tests.peer import Peer, Request, encode
from tests.sessions.played import (
    Reply,
    answered,
    check_alive,
    cut,
    garbage,
    play_in_turn,
    raw,
    read_what_was_asked,
    reply_to,
    stop_talking,
)
from trio_extreme import (
    Connection,
    ConnectionLost,
    NewEvent,
    OutcomeUnknown,
    ProtocolError,
    TrioExtremeError,
)
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from trio.testing import MockClock

# The answer itself is none: who asked is told, and is not asked for again.
NO_ANSWERS = [
    pytest.param(garbage, "1 bytes", id="garbage payload"),
    pytest.param(answered(Command.PONG), "PONG came as the answer to", id="answer of the wrong type"),
    pytest.param(answered(0x99), "0x99 came as the answer to", id="unknown command"),
]
each_no_answer = pytest.mark.parametrize(("reply", "text"), NO_ANSWERS)

# Nobody is told anything: to whoever waits the session is lost, and what waits is asked for again.
FATAL = [
    pytest.param(raw(bytes(4)), ProtocolError, "length 0", id="length 0"),
    pytest.param(raw(struct.pack("<i", 17)), ProtocolError, "length 17", id="length 17"),
    pytest.param(raw(struct.pack("<i", -1)), ProtocolError, "length -1", id="length -1"),
    pytest.param(raw(struct.pack("<i", 2**31 - 1) + bytes(18)), ProtocolError, "unasked", id="2 GB"),
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


def playing(command: int, reply: Reply) -> Peer:
    """A server that answers this command so, and finds nothing in any stream."""
    peer = Peer()
    answer_all(peer, READ_BACKWARD, NO_STREAM_YET)
    reply_to(peer, command, reply)
    return peer


@each_no_answer
async def test_no_answer_to_a_read(reply: Reply, text: str, autojump_clock: MockClock) -> None:
    good = Peer()
    async with play_in_turn(playing(Command.READ_EVENT, reply), good) as conn:
        with trio.fail_after(1), pytest.raises(ProtocolError, match=text):
            await conn.read_event("s", 0)
        await check_alive(conn, good)
    assert good.commands() == [Command.READ_EVENT]


@each_no_answer
async def test_no_answer_to_a_write(reply: Reply, text: str, autojump_clock: MockClock) -> None:
    """It was done or refused, and the next server would not tell which."""
    good, event = Peer(), NewEvent("t")
    async with play_in_turn(playing(Command.WRITE_EVENTS, reply), good) as conn:
        with trio.fail_after(1), pytest.raises(OutcomeUnknown, match=text) as caught:
            await conn.append("s", event)
        assert caught.value.event_ids == (event.id,)
        assert isinstance(caught.value.__cause__, ProtocolError)
        await check_alive(conn, good)
    assert good.commands() == [Command.READ_EVENT]


@each_fatal
async def test_a_read_that_one_session_dies_of(
    reply: Reply, error: type[TrioExtremeError], text: str, autojump_clock: MockClock
) -> None:
    good = playing(Command.READ_EVENT, read_what_was_asked)
    async with play_in_turn(playing(Command.READ_EVENT, reply), good) as conn:
        assert (await conn.read_event("s", 7)).number == 7


@each_fatal
async def test_a_read_that_two_sessions_die_of(
    reply: Reply, error: type[TrioExtremeError], text: str, autojump_clock: MockClock
) -> None:
    good = Peer()
    bad = [playing(Command.READ_EVENT, reply) for _ in range(2)]
    async with play_in_turn(*bad, good) as conn:
        with trio.fail_after(20), pytest.raises(error, match=text):
            await conn.read_event("s", 0)
        await check_alive(conn, good)
    assert good.commands() == [Command.READ_EVENT]


@each_fatal
async def test_a_write_that_two_sessions_die_of(
    reply: Reply, error: type[TrioExtremeError], text: str, autojump_clock: MockClock
) -> None:
    """Whether it was written nobody knows, whatever is wrong."""
    good, event = Peer(), NewEvent("t")
    bad = [playing(Command.WRITE_EVENTS, reply) for _ in range(2)]
    async with play_in_turn(*bad, good) as conn:
        with trio.fail_after(20), pytest.raises(OutcomeUnknown, match=text) as caught:
            await conn.append("s", event)
        assert caught.value.event_ids == (event.id,)
        assert isinstance(caught.value.__cause__, error)
        await check_alive(conn, good)
    assert good.commands() == [Command.READ_EVENT]


async def test_a_fatal_answer_reaches_everybody_who_waits(autojump_clock: MockClock) -> None:
    errors: list[TrioExtremeError] = []

    async def ask(conn: Connection) -> None:
        with pytest.raises(ProtocolError) as caught:
            await conn.read_event("s", 0)
        errors.append(caught.value)

    *bad, good = Peer(), Peer(), Peer()
    async with play_in_turn(*bad, good) as conn, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask, conn)
        for peer in bad:
            for _ in range(5):
                await peer.receive(Command.READ_EVENT)
            peer.send_bytes(bytes(4))
    # Each its own, for each grows its own traceback.
    assert len({id(error) for error in errors}) == 5


async def test_an_answer_before_garbage_counts(autojump_clock: MockClock) -> None:
    """In one chunk, as in two: what was written is known to be written."""

    def answer_and_break(peer: Peer, request: Request) -> None:
        peer.send_bytes(encode(Command.WRITE_EVENTS_COMPLETED, request.correlation, written(7, 7)) + bytes(4))

    good = Peer()
    async with play_in_turn(playing(Command.WRITE_EVENTS, answer_and_break), good) as conn:
        assert (await conn.append("s", NewEvent("t"))).last == 7
        await check_alive(conn, good)


@pytest.mark.parametrize("backwards", [False, True])
async def test_a_log_that_goes_in_a_circle(*, backwards: bool, autojump_clock: MockClock) -> None:
    """A reader would never end, and hand out the same events over and over."""

    def same_page(peer: Peer, request: Request) -> None:
        at, following = (51, 49) if backwards else (49, 51)
        peer.send(request.command + 1, request.correlation, log_page([50], at, following))

    command = Command.READ_ALL_EVENTS_BACKWARD if backwards else Command.READ_ALL_EVENTS_FORWARD
    good = Peer()
    async with play_in_turn(playing(command, same_page), good) as conn:
        events = conn.read_all(backwards=backwards)
        assert (await anext(events)).position.commit == 50
        with pytest.raises(ProtocolError, match="which is no progress"):
            await anext(events)
        await check_alive(conn, good)


async def test_a_page_with_more_than_was_asked_for(autojump_clock: MockClock) -> None:
    """Events of two bytes, millions in one frame."""
    good = Peer()
    too_many = answered(0xB3, b"\x0a\x00" * 100_000)
    async with play_in_turn(playing(Command.READ_STREAM_EVENTS_FORWARD, too_many), good) as conn:
        with pytest.raises(ProtocolError, match="a page of 100,000 events to who asked for "):
            await anext(conn.read_stream("s"))
        await check_alive(conn, good)
