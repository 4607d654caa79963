"""What broke in Extreme's history, and elsewhere: seen from the bytes, under load, and in the project itself."""

from __future__ import annotations

import ast
import re
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.answers import event_read, page
from tests.helpers import new_events
from tests.peer import ANONYMOUS, Call, Peer, encode, open_to
from trio_extreme import ANY, InvalidArgument, NewEvent, OutcomeUnknown, messages, open_connection
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_extreme import Connection

ROOT = Path(__file__).parent.parent.parent
STRANGER = bytes(range(16))
"""A correlation id that nobody gave out."""


# --- bytes in any portions


async def test_answers_byte_by_byte(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        events = conn.read_stream("s", count=3)
        call = Call(nursery, events.pages().__anext__)
        request = await peer.receive(Command.READ_STREAM_EVENTS_FORWARD)
        for byte in encode(Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, request.correlation, page(range(3), 3)):
            peer.send_bytes(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert [event.number for event in await call.value()] == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_cut_length_prefix(size: int, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        call = Call(nursery, conn.read_event, "s", 7)
        request = await peer.receive(Command.READ_EVENT)
        frame = encode(Command.READ_EVENT_COMPLETED, request.correlation, event_read(7))
        peer.send_bytes(frame[:size])
        await trio.testing.wait_all_tasks_blocked()
        assert not call.done
        peer.send_bytes(frame[size:])
        assert (await call.value()).number == 7


# --- frames nobody expects


async def test_an_unknown_command(autojump_clock: MockClock) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        peer.send(0xEE, STRANGER, b"no server sends this")
        await conn.ping()
        assert conn.statistics().stray_frames == 1


async def test_a_late_answer_is_ignored(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        with trio.move_on_after(1) as scope:
            await conn.read_event("s", 0)
        assert scope.cancelled_caught
        cancelled = await peer.receive(Command.READ_EVENT)
        call = Call(nursery, conn.read_event, "s", 1)
        asked = await peer.receive(Command.READ_EVENT)
        peer.send(Command.READ_EVENT_COMPLETED, cancelled.correlation, event_read(0))
        peer.send(Command.READ_EVENT_COMPLETED, asked.correlation, event_read(1))
        assert (await call.value()).number == 1
        assert conn.statistics().stray_frames == 1


async def test_correlation_ids_are_unique(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        calls = [Call(nursery, conn.read_event, "s", number) for number in range(1000)]
        requests = [await peer.receive(Command.READ_EVENT) for _ in calls]
        assert len({request.correlation for request in requests}) == len(calls)
        for request in reversed(requests):
            number = schema.ReadEvent.FromString(request.payload).event_number
            peer.send(Command.READ_EVENT_COMPLETED, request.correlation, event_read(number))
        assert [(await call.value()).number for call in calls] == list(range(1000))


async def test_event_numbers_have_64_bits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        call = Call(nursery, conn.read_event, "s", 2**40)
        request = await peer.receive(Command.READ_EVENT)
        assert schema.ReadEvent.FromString(request.payload).event_number == 2**40
        peer.send(Command.READ_EVENT_COMPLETED, request.correlation, event_read(2**40))
        assert (await call.value()).number == 2**40


# --- connections that die


async def test_leaving_while_the_server_is_dead(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        peer.handlers.clear()
        peer.hold()
        append = Call(nursery, conn.append, "s", new_events(2))
        await trio.testing.wait_all_tasks_blocked()
        left = trio.current_time()
    assert trio.current_time() - left < 1
    assert isinstance(await append.error(), OutcomeUnknown)
    assert peer.closed


async def test_a_caller_chooses_its_own_deadline(autojump_clock: MockClock) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.5):
            await conn.read_event("s", 0)
        assert trio.current_time() - began == 0.5
        await conn.ping()


# --- load


async def test_heartbeats_are_answered_under_load(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        peer.hold()
        calls = [Call(nursery, conn.append, "s", NewEvent("happened", bytes(1000))) for _ in range(1000)]
        await trio.testing.wait_all_tasks_blocked()
        peer.send(Command.HEARTBEAT_REQUEST, STRANGER)
        await trio.testing.wait_all_tasks_blocked()
        peer.release()
        await trio.testing.wait_all_tasks_blocked()
        commands = [request.command for request in peer.log]
        assert commands.count(Command.WRITE_EVENTS) == 1000
        # What was under way, about 64 KiB of these requests; not the other nine hundred.
        assert commands.index(Command.HEARTBEAT_RESPONSE) < 100
        for call in calls:
            call.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()


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

    async def read_what_there_is() -> None:
        numbers.extend([event.number async for event in conn.read_stream("people", page_size=1000)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_what_there_is)
        await conn.append("people", new_events(1000))
    numbers += [event.number async for event in conn.read_stream("people", start=len(numbers))]
    assert numbers == list(range(51_000))
    assert time.perf_counter() - began < 60


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
