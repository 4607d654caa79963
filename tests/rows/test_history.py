"""What broke in Extreme's history, and elsewhere, seen from the bytes: the server's end is played by the test."""

from __future__ import annotations

import ast
import re
import time
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.helpers import assert_nothing_left, new_events
from tests.rows.peer import ANONYMOUS, Peer, encode, open_to
from trio_extreme import (
    ANY,
    ConnectionLost,
    InvalidArgument,
    NewEvent,
    OutcomeUnknown,
    messages,
)
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme import Connection

ROOT = Path(__file__).parent.parent.parent
SILENCE = ANONYMOUS.heartbeat_interval + ANONYMOUS.heartbeat_timeout
"""How long a dead server may stay unnoticed."""


def page(count: int, size: int = 10) -> schema.ReadStreamEventsCompleted:
    """An answer to a read: this many events, numbered from 0."""
    events = [schema.ResolvedIndexedEvent(event=record(number, bytes(size))) for number in range(count)]
    return schema.ReadStreamEventsCompleted(
        events=events,
        result=schema.ReadStreamEventsCompleted.ReadStreamResult.Success,
        next_event_number=count,
        last_event_number=count - 1,
        is_end_of_stream=True,
        last_commit_position=0,
    )


def record(number: int, data: bytes = b"") -> schema.EventRecord:
    return schema.EventRecord(
        event_stream_id="people",
        event_number=number,
        event_id=bytes([1] * 16),
        event_type="happened",
        data_content_type=0,
        metadata_content_type=0,
        data=data,
    )


def one_event(number: int) -> schema.ReadEventCompleted:
    """An answer to a read of one event."""
    return schema.ReadEventCompleted(
        result=schema.ReadEventCompleted.ReadEventResult.Success,
        event=schema.ResolvedIndexedEvent(event=record(number)),
    )


async def error_of(call: Callable[[], Awaitable[object]], errors: list[type[BaseException]]) -> None:
    """Run a call that must fail, and keep the type of its error."""
    with pytest.raises(Exception) as info:  # noqa: PT011 - the caller looks at the type
        await call()
    errors.append(info.type)


# --- bytes in any portions


async def test_answers_byte_by_byte(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()

    async def answer() -> None:
        command, _, correlation, _ = await peer.receive()
        assert command == Command.READ_STREAM_EVENTS_FORWARD
        for byte in encode(Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, correlation, page(3)):
            await peer.stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()

    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert [event.number async for event in conn.read_stream("people")] == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_cut_length_prefix(size: int, autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()

    async def answer() -> None:
        _, _, correlation, _ = await peer.receive()
        frame = encode(Command.PONG, correlation)
        await peer.stream.send_all(frame[:size])
        await trio.testing.wait_all_tasks_blocked()
        await peer.stream.send_all(frame[size:])

    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await conn.ping()


# --- frames nobody expects


async def test_an_unknown_command(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()

    async def answer() -> None:
        _, _, correlation, _ = await peer.receive()
        await peer.send(0xEE, bytes(range(16)), b"no server sends this")
        await peer.send(Command.PONG, correlation)

    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await conn.ping()
        assert conn.statistics().stray_frames == 1


async def test_a_late_answer_is_ignored(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()

    async def answer_both() -> None:
        for number in range(2):
            _, _, correlation, _ = await requests.receive()
            await peer.send(Command.READ_EVENT_COMPLETED, correlation, one_event(number))

    send_requests, requests = trio.open_memory_channel[Any](2)
    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            await conn.read_event("people", 0)
        assert scope.cancelled_caught
        send_requests.send_nowait(await peer.receive())
        nursery.start_soon(answer_both)

        async def forward_second() -> None:
            send_requests.send_nowait(await peer.receive())

        nursery.start_soon(forward_second)
        assert (await conn.read_event("people", 1)).number == 1
        assert conn.statistics().stray_frames == 1
        assert_nothing_left(conn)


async def test_correlation_ids_are_unique(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()
    count = 1000
    numbers: list[tuple[int, int]] = []

    async def ask(number: int) -> None:
        numbers.append((number, (await conn.read_event("people", number)).number))

    async def answer_in_reverse() -> None:
        frames = [await peer.receive() for _ in range(count)]
        assert len({correlation for _, _, correlation, _ in frames}) == count
        for _, _, correlation, payload in reversed(frames):
            asked = schema.ReadEvent.FromString(payload).event_number
            await peer.send(Command.READ_EVENT_COMPLETED, correlation, one_event(asked))

    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        nursery.start_soon(answer_in_reverse)
        for number in range(count):
            nursery.start_soon(ask, number)
    assert sorted(numbers) == [(number, number) for number in range(count)]


async def test_event_numbers_have_64_bits(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()

    async def answer() -> None:
        _, _, correlation, payload = await peer.receive()
        asked = schema.ReadEvent.FromString(payload).event_number
        await peer.send(Command.READ_EVENT_COMPLETED, correlation, one_event(asked))

    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert (await conn.read_event("people", 2**40)).number == 2**40


# --- connections that break or die


async def test_pending_calls_end_with_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()
    errors: list[type[BaseException]] = []
    async with open_to(peer) as conn:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(error_of, partial(conn.append, "people", new_events(2)), errors)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(error_of, partial(conn.read_event, "people", 0), errors)
            nursery.start_soon(error_of, conn.ping, errors)
            await trio.testing.wait_all_tasks_blocked()
            await peer.stream.aclose()
        assert sorted(error.__name__ for error in errors) == ["ConnectionLost", "ConnectionLost", "OutcomeUnknown"]
        assert_nothing_left(conn)
        with pytest.raises(ConnectionLost):
            await conn.ping()


async def test_a_broken_send_is_told(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        peer.break_sending()
        with pytest.raises(ConnectionLost):
            await conn.read_event("people", 0)
        with pytest.raises(ConnectionLost):
            await conn.ping()
        assert_nothing_left(conn)


async def test_a_silent_server_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with open_to(Peer()) as conn:
        opened = trio.current_time()
        with pytest.raises(ConnectionLost):
            await conn.ping()
        assert trio.current_time() - opened <= SILENCE


async def test_an_append_to_a_dead_server(autojump_clock: trio.testing.MockClock) -> None:
    event = NewEvent("happened")
    async with open_to(Peer()) as conn:
        opened = trio.current_time()
        with trio.move_on_after(1):
            await conn.append("people", event)
        assert trio.current_time() - opened == 1
        with pytest.raises(OutcomeUnknown) as info:
            await conn.append("people", event)
        assert info.value.event_ids == (event.id,)
        assert trio.current_time() - opened <= SILENCE


async def test_leaving_while_the_server_is_dead(autojump_clock: trio.testing.MockClock) -> None:
    # A lockstep stream takes no byte that the other end does not read: the append hangs half sent.
    peer = Peer(trio.testing.lockstep_stream_pair)
    errors: list[type[BaseException]] = []
    async with trio.open_nursery() as nursery:
        async with open_to(peer) as conn:
            nursery.start_soon(error_of, partial(conn.append, "people", new_events(2)), errors)
            await trio.testing.wait_all_tasks_blocked()
            left = trio.current_time()
        assert trio.current_time() - left < 1
    assert errors == [OutcomeUnknown]


async def test_a_caller_chooses_its_own_deadline(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()

    async def answer() -> None:
        await peer.receive()
        _, _, correlation, _ = await peer.receive()
        await peer.send(Command.PONG, correlation)

    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.5):
            await conn.ping()
        assert trio.current_time() - began == 0.5
        nursery.start_soon(answer)
        await conn.ping()


# --- load


async def test_heartbeats_are_answered_under_load(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer(trio.testing.lockstep_stream_pair)
    correlation = bytes(range(16))
    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(conn.append, "people", NewEvent("happened", bytes(1000)))
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(Command.HEARTBEAT_REQUEST, correlation)
        before = 0
        while (await peer.receive_any())[:1] != (Command.HEARTBEAT_RESPONSE,):
            before += 1
        # What was under way, about 64 KiB of these requests; not the other nine hundred.
        assert before < 100
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("calls", [100, pytest.param(500, marks=pytest.mark.long)])
async def test_large_reads_and_writes_at_once(calls: int, conn: Connection) -> None:
    events = 1096
    await conn.append("large", [NewEvent("happened", bytes(200)) for _ in range(events)])
    async with trio.open_nursery() as nursery:
        for _ in range(calls):
            nursery.start_soon(conn.append, "small", NewEvent("happened", bytes(200)))
            nursery.start_soon(read_whole, conn, events)
    assert await conn.last_number("small") == calls - 1


async def read_whole(conn: Connection, count: int) -> None:
    assert [event.number async for event in conn.read_stream("large")] == list(range(count))


async def test_a_hundred_appends_of_ten(conn: Connection) -> None:
    assert await seconds_of_appends(conn, 100, 10) < 10


async def test_one_append_of_a_thousand(conn: Connection) -> None:
    assert await seconds_of_appends(conn, 1, 1000) < 10


async def test_appends_of_twenty_and_of_five_hundred(conn: Connection) -> None:
    assert await seconds_of_appends(conn, 50, 20) < 2.1
    assert await seconds_of_appends(conn, 2, 500) < 0.35


async def seconds_of_appends(conn: Connection, appends: int, events: int) -> float:
    began = time.perf_counter()
    for _ in range(appends):
        await conn.append("people", new_events(events))
    return time.perf_counter() - began


async def test_fifty_thousand_in_one_append(conn: Connection) -> None:
    began = time.perf_counter()
    await conn.append("people", new_events(50_000))
    numbers: list[int] = []

    async def read_all_there_will_be() -> None:
        async for event in conn.read_stream("people", start=0, page_size=1000):
            numbers.append(event.number)
        async for event in conn.read_stream("people", start=len(numbers), page_size=1000, missing_ok=True):
            numbers.append(event.number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all_there_will_be)
        await conn.append("people", new_events(1000))
    numbers += [event.number async for event in conn.read_stream("people", start=len(numbers))]
    assert numbers == list(range(51_000))
    assert time.perf_counter() - began < 60
    assert_nothing_left(conn)


# --- what is written is what is read


async def test_metadata_comes_back(conn: Connection) -> None:
    await conn.append("people", NewEvent.json("PersonCreated", {"name": "Pera"}, {"by": "test"}), expected=ANY)
    event = await conn.read_event("people", 0)
    assert (event.data, event.metadata, event.is_json) == (b'{"name":"Pera"}', b'{"by":"test"}', True)


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(TypeError):
        NewEvent("PersonCreated", b"{}", meta=b"{}")  # type: ignore[call-arg]
    with pytest.raises((TypeError, ValueError)):
        messages.NewEvent(meta=b"{}")  # type: ignore[call-arg]
    with pytest.raises(InvalidArgument):
        NewEvent("PersonCreated", metadata={"by": "test"})  # type: ignore[arg-type]


# --- the project itself


def library_sources() -> list[Path]:
    return sorted((ROOT / "trio_extreme").rglob("*.py"))


def test_module_names_are_short() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in library_sources()]
    names += [value.DESCRIPTOR.full_name for value in vars(schema).values() if hasattr(value, "DESCRIPTOR")]
    assert max(map(len, names)) < 80


def test_nothing_is_configured_at_import() -> None:
    readers = {"environ", "getenv"}
    for path in library_sources():
        for statement in ast.parse(path.read_text()).body:
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names = {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
                assert not names & readers, f"{path} reads the environment when it is imported"


def test_dependencies_have_no_upper_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    for requirement in project["dependencies"] + extras:
        own_extra = requirement.startswith("trio-extreme[")
        assert own_extra or re.fullmatch(r"[\w-]+>=[\d.]+", requirement), requirement
