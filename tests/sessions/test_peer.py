"""A server that breaks the rules in its answer to one request, played by the test."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import event_read
from tests.peer import Peer, Request, encode
from tests.sessions.played import (
    NOBODY,
    PLAYED,
    answered,
    check_alive,
    open_played,
    read_what_was_asked,
    reply_to,
)
from trio_extreme import (
    BadRequest,
    Connection,
    DeleteResult,
    FrameTooLarge,
    NewEvent,
    OutcomeUnknown,
    messages,
)
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from trio.testing import MockClock

# What concerns one request.


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
