"""Reading streams, single events and the log."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio.testing

from tests.helpers import new_events
from trio_extreme import (
    ANY,
    END,
    NO_STREAM,
    AccessDenied,
    BadRequest,
    EventNotFound,
    InvalidArgument,
    NewEvent,
    StreamDeleted,
    StreamNotFound,
    messages,
    open_connection,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from trio_extreme import Connection, Event
    from trio_extreme.embedded import Node


async def numbers(events: AsyncIterable[Event]) -> list[int]:
    return [event.number async for event in events]


# --- streams


async def test_an_answer_in_several_packets(node: Node) -> None:
    async def connect_in_small_packets(host: str, port: int) -> trio.abc.Stream:
        """The node's bytes in portions of 7: no frame comes whole."""
        ours, between = trio.testing.memory_stream_pair()
        theirs = await node.connect(host, port)
        nursery.start_soon(pump, theirs, between, 7)
        nursery.start_soon(pump, between, theirs, 65_536)
        return ours

    events = new_events(19)
    connection = open_connection(node.settings, connect=connect_in_small_packets)
    async with trio.open_nursery() as nursery, connection as conn:
        await conn.append("people", events)
        read = [event async for event in conn.read_stream("people", count=20)]
        assert [(event.number, event.id) for event in read] == [(n, event.id) for n, event in enumerate(events)]


async def pump(source: trio.abc.Stream, target: trio.abc.Stream, size: int) -> None:
    with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
        while data := await source.receive_some(size):
            await target.send_all(data)
    await target.aclose()


async def test_a_missing_stream(conn: Connection) -> None:
    reader = conn.read_stream("people")
    with pytest.raises(StreamNotFound) as info:
        await numbers(reader)
    assert info.value.stream == "people"
    assert await numbers(conn.read_stream("people", missing_ok=True)) == []
    assert await conn.last_number("people") is None


async def test_a_soft_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY)
    with pytest.raises(StreamNotFound):
        await numbers(conn.read_stream("people"))


async def test_a_hard_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        await numbers(conn.read_stream("people"))


async def test_backwards_from_the_end(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    reader = conn.read_stream("people", backwards=True, count=100)
    assert await numbers(reader) == [1, 0]
    assert reader.last_number == 1


async def test_one_event_backwards(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    reader = conn.read_stream("people", backwards=True, count=1)
    assert await numbers(reader) == [1]
    assert reader.last_number == 1
    request = messages.ReadStreamEvents(event_stream_id="people", from_event_number=-1, max_count=1)
    reply = await conn.execute(request, command=messages.Command.READ_STREAM_EVENTS_BACKWARD)
    assert isinstance(reply, messages.ReadStreamEventsCompleted)
    assert (reply.is_end_of_stream, reply.last_event_number, reply.next_event_number) == (False, 1, 0)


async def test_backwards_in_the_largest_page(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    assert await numbers(conn.read_stream("people", backwards=True, page_size=4096)) == [2, 1, 0]


async def test_from_after_the_end(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    reader = conn.read_stream("people", start=10)
    assert await numbers(reader) == []
    assert reader.last_number == 2


async def test_more_than_one_page(conn: Connection) -> None:
    await conn.append("people", new_events(5000))
    assert await numbers(conn.read_stream("people", count=4500)) == list(range(4500))
    with pytest.raises(InvalidArgument, match="page_size"):
        conn.read_stream("people", page_size=5000)


async def test_reading_is_lazy(conn: Connection) -> None:
    await conn.append("people", new_events(100))
    before = conn.statistics().frames_sent
    async for event in conn.read_stream("people", page_size=10):
        if event.number == 4:
            break
    assert conn.statistics().frames_sent == before + 1


# --- single events


async def test_the_first_event(conn: Connection) -> None:
    events = new_events(2)
    await conn.append("people", events)
    event = await conn.read_event("people", 0)
    assert (event.number, event.id, event.data) == (0, events[0].id, events[0].data)


async def test_the_last_event(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    assert (await conn.read_event("people", END)).number == 2


async def test_an_event_after_the_last(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    with pytest.raises(EventNotFound) as info:
        await conn.read_event("people", 2)
    assert (info.value.stream, info.value.number) == ("people", 2)


async def test_an_impossible_number_is_not_sent(conn: Connection) -> None:
    before = conn.statistics().frames_sent
    with pytest.raises(InvalidArgument, match="number"):
        await conn.read_event("people", -2)
    assert conn.statistics().frames_sent == before


async def test_an_impossible_number_sent_all_the_same(conn: Connection) -> None:
    with pytest.raises(BadRequest):
        await conn.execute(messages.ReadEvent(event_stream_id="people", event_number=-2))
    await conn.ping()


async def test_an_event_of_a_missing_stream(conn: Connection) -> None:
    with pytest.raises(StreamNotFound):
        await conn.read_event("people", 0)


async def test_an_event_of_a_soft_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.read_event("people", 0)
    await conn.delete_stream("people", expected=ANY)
    with pytest.raises(StreamNotFound):
        await conn.read_event("people", 0)


async def test_an_event_of_a_hard_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.read_event("people", 0)
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        await conn.read_event("people", 0)


# --- links


async def test_a_link_whose_target_is_gone(conn: Connection) -> None:
    await conn.append("people", new_events(1))
    target = await conn.read_event("people", 0)
    await conn.append("links", NewEvent.link(target), expected=NO_STREAM)
    resolved = await conn.read_event("links", 0)
    assert (resolved.resolved, resolved.stream, resolved.checkpoint) == (True, "people", 0)
    await conn.delete_stream("people", expected=ANY, hard=True)
    for event in [await conn.read_event("links", 0), *[event async for event in conn.read_stream("links")]]:
        assert not event.resolved
        assert (event.stream, event.number, event.type) == ("links", 0, "$>")


# --- the log


async def test_the_log_of_all_streams(conn: Connection) -> None:
    for stream in ("people", "places"):
        await conn.append(stream, new_events(2))
    places = [(event.stream, event.number) async for event in conn.read_all() if not event.is_system]
    assert places == [("people", 0), ("people", 1), ("places", 0), ("places", 1)]
    backwards = [(event.stream, event.number) async for event in conn.read_all(backwards=True) if not event.is_system]
    assert backwards == places[::-1]


async def test_the_log_from_a_position(conn: Connection) -> None:
    await conn.append("people", new_events(3))
    found = [event async for event in conn.read_all() if event.stream == "people"]
    again = [event async for event in conn.read_all(start=found[1].position) if event.stream == "people"]
    assert [event.number for event in again] == [1, 2]


async def test_the_log_is_for_administrators(node: Node) -> None:
    anonymous = node.settings.replace(username="", password="")
    async with open_connection(anonymous, connect=node.connect) as conn:
        with pytest.raises(AccessDenied):
            await numbers(conn.read_all())
