from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.embedded.talk import ADMIN, Talk, append, new_event, new_events, new_id, pack, read_stream, subscribe
from trio_extreme.embedded.acl import DEFAULT_USERS
from trio_extreme.embedded.commits import Commits, run_inline
from trio_extreme.embedded.connection import Connection
from trio_extreme.embedded.line import Line
from trio_extreme.embedded.memory import MemoryStream, memory_connection
from trio_extreme.embedded.service import Service
from trio_extreme.embedded.store import Store
from trio_extreme.embedded.timetable import Timetable
from trio_extreme.embedded.versions import VERSIONS, find_version
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024 * 1024
FORWARD = Command.READ_STREAM_EVENTS_FORWARD


def new_service(version: str = "4.1.1") -> Service:
    return Service(Store(find_version(version)), DEFAULT_USERS)


def new_connection(service: Service, stream: MemoryStream) -> Connection:
    line = Line(Timetable())
    return Connection(service, stream, Random(1), line, Commits(service.store.storage, run_inline, line, lambda: None))


@asynccontextmanager
async def serving(service: Service, capacity: int = 256 * 1024) -> AsyncIterator[tuple[Connection, Talk]]:
    ours, theirs = memory_connection(capacity)
    connection = new_connection(service, ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        yield connection, Talk(theirs)
        nursery.cancel_scope.cancel()


async def ended(talk: Talk) -> float:
    """How many seconds from now the node hangs up."""
    start = trio.current_time()
    while await talk.hear() is not None:
        pass
    return trio.current_time() - start


# Answers


async def test_requests_are_answered_in_order(autojump_clock: None) -> None:
    async with serving(new_service()) as (_, talk):
        ids = [new_id() for _ in range(100)]
        await talk.stream.send_all(b"".join(pack(Command.PING, b"", None, one) for one in ids))
        replies = [await talk.hear() for _ in ids]
    assert [reply.correlation for reply in replies if reply] == ids


async def test_a_request_may_come_in_pieces(autojump_clock: None) -> None:
    async with serving(new_service()) as (_, talk):
        for byte in pack(Command.PING, b"echo"):
            await talk.stream.send_all(bytes([byte]))
        reply = await talk.hear()
    assert reply is not None
    assert reply.message == b"echo"


async def test_many_pages_asked_for_at_once_reach_who_reads_them(autojump_clock: None) -> None:
    service = new_service()
    service.store.append("people", -2, [new_event(data=bytes(MIB)) for _ in range(4)])
    async with serving(service) as (_, talk):
        await talk.stream.send_all(b"".join(pack(FORWARD, read_stream("people", 0, 1)) for _ in range(30)))
        pages = [await talk.hear() for _ in range(30)]
    assert all(page is not None and len(page.message.events) == 1 for page in pages)


async def test_small_packages_leave_together(autojump_clock: None) -> None:
    async with serving(new_service()) as (_, talk):
        await talk.stream.send_all(pack(Command.PING) * 20)
        await wait_all_tasks_blocked()
        assert len(await talk.stream.receive_some()) == 20 * len(pack(Command.PING))


# Ends


@pytest.mark.parametrize("prefix", [3, 0, -1, 64 * MIB + 1, 2**31 - 1])
async def test_a_frame_of_impossible_length_ends_it(prefix: int, autojump_clock: None) -> None:
    async with serving(new_service()) as (_, talk):
        await talk.stream.send_all(prefix.to_bytes(4, "little", signed=True) + bytes(18))
        last_word = await talk.hear()
        assert last_word is not None
        assert last_word[:2] == (Command.BAD_REQUEST, NO_CORRELATION)
        assert await talk.hear() is None


async def test_what_came_before_such_a_frame_is_answered(autojump_clock: None) -> None:
    async with serving(new_service()) as (_, talk):
        await talk.stream.send_all(pack(Command.PING, b"echo") + (3).to_bytes(4, "little"))
        replies = [await talk.hear(), await talk.hear(), await talk.hear()]
        assert [reply and reply.command for reply in replies] == [Command.PONG, Command.BAD_REQUEST, None]


async def test_a_client_that_leaves_is_forgotten(autojump_clock: None) -> None:
    service = new_service()
    async with serving(service) as (_, talk):
        await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        assert repr(service.hub) == "<Hub: 1 subscriptions>"
        await talk.stream.aclose()
        await wait_all_tasks_blocked()
        assert repr(service.hub) == "<Hub: 0 subscriptions>"


async def test_a_client_that_leaves_while_it_is_sent_to_is_forgotten(autojump_clock: None) -> None:
    service = new_service()
    service.store.append("people", -2, [new_event(data=bytes(MIB))])
    async with serving(service) as (connection, talk):
        await talk.tell(FORWARD, read_stream("people"))
        await wait_all_tasks_blocked()
        assert connection._unsent > 0
        await talk.stream.aclose()
        await wait_all_tasks_blocked()
        assert connection._scope.cancel_called


class Resetting(MemoryStream):
    """A stream whose peer sent a reset."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError


async def test_a_reset_ends_it(autojump_clock: None) -> None:
    ours, theirs = memory_connection()
    ours.__class__ = Resetting
    await new_connection(new_service(), ours).run()
    assert await theirs.receive_some() == b""


async def test_a_cut_comes_without_a_word(autojump_clock: None) -> None:
    async with serving(new_service()) as (connection, talk):
        await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        connection.cut()
        assert await talk.hear() is None


async def test_shutting_down_tells_the_subscriptions(autojump_clock: None) -> None:
    async with serving(new_service()) as (connection, talk):
        await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        connection.shut_down()
        dropped = await talk.hear()
        assert dropped is not None
        assert dropped.command == Command.SUBSCRIPTION_DROPPED
        assert await talk.hear() is None


async def test_after_the_last_word_nothing_is_answered(autojump_clock: None) -> None:
    bad, ping = pack(Command.PING), pack(Command.PING)
    async with serving(new_service()) as (_, talk):
        frame = bytearray(bad)
        frame[5] = 0x02
        await talk.stream.send_all(bytes(frame) + ping)
        last_word = await talk.hear()
        assert last_word is not None
        assert last_word.command == Command.BAD_REQUEST
        assert await talk.hear() is None


async def test_last_words_that_nobody_reads_do_not_hold_it_up(autojump_clock: None) -> None:
    async with serving(new_service(), capacity=30) as (connection, talk):
        await talk.stream.send_all(pack(Command.PING, b"x" * 100))
        await wait_all_tasks_blocked()
        connection.shut_down()
        start = trio.current_time()
        await trio.sleep(5)
        assert connection._scope.cancelled_caught
        assert connection._scope.deadline - start == pytest.approx(1.0)


# Heartbeats


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_silent_client_is_asked_and_then_cut_off(version: str, autojump_clock: None) -> None:
    async with serving(new_service(version)) as (_, talk):
        start = trio.current_time()
        question = await talk.hear()
        assert question is not None
        assert question.command == Command.HEARTBEAT_REQUEST
        assert trio.current_time() - start == pytest.approx(2.0)
        assert await talk.hear() is None
        assert trio.current_time() - start == pytest.approx(3.0)


async def test_any_byte_is_a_sign_of_life(autojump_clock: None) -> None:
    async with serving(new_service()) as (_, talk):
        for byte in pack(Command.PING) * 2:
            await trio.sleep(2.9)
            await talk.stream.send_all(bytes([byte]))
        commands: list[int] = []
        while len(commands) < 3 or commands[-1] != Command.PONG:
            reply = await talk.hear()
            assert reply is not None
            commands.append(reply.command)
        assert set(commands) == {Command.HEARTBEAT_REQUEST, Command.PONG}


async def test_a_busy_client_is_not_asked(autojump_clock: None) -> None:
    async with serving(new_service()) as (_, talk):
        for _ in range(10):
            reply = await talk.ask(Command.PING, b"x")
            assert reply is not None
            assert reply.command == Command.PONG
            await trio.sleep(1.5)


@pytest.mark.parametrize(("version", "asks"), [("4.1.1", 0), ("5.0", 3)])
async def test_who_is_sent_nothing_is_asked_by_a_server_that_watches_both_ways(
    version: str, asks: int, autojump_clock: None
) -> None:
    """Every other interval, for the question itself is something that was sent."""
    async with serving(new_service(version)) as (_, talk):
        for _ in range(11):
            await talk.tell(Command.HEARTBEAT_RESPONSE)
            await trio.sleep(1)
        assert [reply and reply.command for reply in await talk.hear_for(0.1)] == [Command.HEARTBEAT_REQUEST] * asks


@pytest.mark.parametrize(("version", "asked"), [("4.1.1", [2, 5]), ("5.0", [2, 6])])
async def test_when_a_client_is_asked_that_answered_once(
    version: str, asked: list[float], autojump_clock: None
) -> None:
    """A server that watches both ways looks each interval, and another one an interval after it got its answer."""
    async with serving(new_service(version)) as (_, talk):
        times: list[float] = []
        start = trio.current_time()
        while await talk.hear():
            times.append(trio.current_time() - start)
            if len(times) == 1:
                await trio.sleep(0.5)
                await talk.tell(Command.HEARTBEAT_RESPONSE)
        assert times == [pytest.approx(time) for time in asked]
        assert trio.current_time() - start == pytest.approx(asked[-1] + 1)


async def test_a_client_that_does_not_read_is_cut_off_for_its_silence_too(autojump_clock: None) -> None:
    service = new_service()
    service.store.append("people", -2, [new_event(data=bytes(MIB))])
    async with serving(service) as (connection, talk):
        await talk.tell(FORWARD, read_stream("people"))
        await trio.sleep(5.1)
        assert connection._scope.cancel_called


# Limits


async def ask_for_pages(talk: Talk, number: int) -> None:
    for _ in range(number):
        await talk.tell(FORWARD, read_stream("people", 0, 1))
        await wait_all_tasks_blocked()


async def keep_alive(talk: Talk) -> None:
    with suppress(trio.BrokenResourceError):
        while True:
            await trio.sleep(0.5)
            await talk.tell(Command.HEARTBEAT_RESPONSE)


@pytest.mark.parametrize(("version", "arrive"), [("3.9.4", 12), ("4.1.1", None)])
async def test_a_client_that_does_not_read_its_pages(version: str, arrive: int | None, autojump_clock: None) -> None:
    """As seen of real servers: twelve pages of 10 MiB asked for, and none read for three seconds."""
    service = new_service(version)
    service.store.append("people", -2, [new_event(data=bytes(10 * MIB))])
    async with serving(service) as (connection, talk), trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, talk)
        await ask_for_pages(talk, 12)
        await trio.sleep(0.9)
        if arrive is None:
            await trio.sleep(0.2)
            assert connection._scope.cancelled_caught
        else:
            pages = [await talk.hear() for _ in range(arrive)]
            assert all(page is not None and page.command == FORWARD + 1 for page in pages)
        nursery.cancel_scope.cancel()


async def test_what_waits_is_counted_before_a_package_is_queued(autojump_clock: None) -> None:
    """One page above the limit is sent; what is queued behind it closes the connection."""
    service = new_service()
    service.store.append("people", -2, [new_event(data=bytes(11 * MIB))])
    async with serving(service) as (connection, talk):
        await ask_for_pages(talk, 1)
        assert not connection.hanging_up
        page = await talk.hear()
        assert page is not None
        assert len(page.message.events) == 1

        await ask_for_pages(talk, 1)
        await talk.tell(Command.PING)
        await wait_all_tasks_blocked()
        assert connection.hanging_up
        assert (await talk.hear() or page).command == FORWARD + 1
        reason = await talk.hear()
        assert reason is not None
        assert reason[:2] == (Command.BAD_REQUEST, NO_CORRELATION)
        assert b"Connection pending send bytes is too large" in reason.message
        assert await talk.hear() is None


async def test_too_many_packages_close_it(autojump_clock: None) -> None:
    service = new_service("3.9.4")
    async with serving(service, capacity=100) as (connection, talk):
        await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        (record,) = appended = service.store.append("people", -2, new_events(1)).records  # type: ignore[union-attr]
        service.hub.publish(appended)
        await wait_all_tasks_blocked()
        service.hub.publish([record] * 50_001)
        assert not connection.hanging_up
        service.hub.publish([record])
        assert connection.hanging_up
        service.hub.publish([record])
        assert len(connection._queue) == 1


async def test_a_slow_client_holds_up_nobody_else(autojump_clock: None) -> None:
    service = new_service()
    async with serving(service) as (_, slow), serving(service) as (_, other):
        await slow.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        for _ in range(15):
            reply = await other.ask(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(MIB))]), ADMIN)
            assert reply is not None
            assert reply.message.result == 0


async def test_it_shows_who_is_served(autojump_clock: None) -> None:
    async with serving(new_service()) as (connection, _):
        assert repr(connection) == "<Connection of <Client '', version 0>: 0 bytes to send>"
