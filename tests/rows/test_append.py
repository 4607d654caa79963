"""Appending, to every kind of stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers import new_events
from trio_extreme import ANY, NO_STREAM, STREAM_EXISTS, InvalidArgument, NewEvent, StreamDeleted, WrongExpectedVersion

if TYPE_CHECKING:
    from trio_extreme import Connection


async def numbers(conn: Connection, stream: str) -> list[int]:
    return [event.number async for event in conn.read_stream(stream)]


async def test_to_a_new_stream(conn: Connection) -> None:
    result = await conn.append("people", new_events(2))
    assert (result.first, result.last) == (0, 1)
    assert result.position is not None


async def test_to_an_existing_stream(conn: Connection) -> None:
    first = await conn.append("people", new_events(2))
    second = await conn.append("people", new_events(2))
    assert (second.first, second.last) == (2, 3)
    assert first.position is not None
    assert second.position is not None
    assert first.position < second.position


async def test_to_a_soft_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY)
    result = await conn.append("people", new_events(2))
    assert (result.first, result.last) == (2, 3)
    assert await numbers(conn, "people") == [2, 3]


async def test_to_a_hard_deleted_stream(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted) as info:
        await conn.append("people", new_events(2))
    assert info.value.stream == "people"


async def test_a_wrong_expected_version(conn: Connection, version: str) -> None:
    await conn.append("people", new_events(2), expected=NO_STREAM)
    with pytest.raises(WrongExpectedVersion) as info:
        await conn.append("people", new_events(1), expected=7)
    # Servers of 3.9 do not say where the stream is.
    assert (info.value.expected, info.value.actual) == (7, None if version.startswith("3.") else 1)
    assert await numbers(conn, "people") == [0, 1]


async def test_the_same_events_again(conn: Connection) -> None:
    events = new_events(2)
    await conn.append("people", events, expected=NO_STREAM)
    for expected in (NO_STREAM, ANY):
        again = await conn.append("people", events, expected=expected)
        assert (again.first, again.last) == (0, 1)
    assert await numbers(conn, "people") == [0, 1]


async def test_where_expected_comes_from(conn: Connection) -> None:
    await conn.append("people", new_events(1), expected=NO_STREAM)
    last = await conn.last_number("people")
    assert last == 0
    await conn.append("people", new_events(1), expected=last)
    await conn.append("people", new_events(1), expected=STREAM_EXISTS)
    async with conn.read_stream("people") as reader:
        assert [event.number async for event in reader] == [0, 1, 2]
        await conn.append("people", new_events(1), expected=reader.last_number)


async def test_stream_metadata_by_hand(conn: Connection) -> None:
    await conn.append("$$persona", NewEvent.json("$metadata", {"$maxCount": 1}))
    await conn.append("persona", new_events(3))
    assert await numbers(conn, "persona") == [2]


async def test_a_dash_in_the_name(conn: Connection) -> None:
    await conn.append("people-of-the-house-1", new_events(1))
    event = await conn.read_event("people-of-the-house-1", 0)
    assert event.stream == "people-of-the-house-1"


@pytest.mark.parametrize("stream", ["", "$all"])
async def test_to_no_stream(conn: Connection, stream: str) -> None:
    with pytest.raises(InvalidArgument, match="stream"):
        await conn.append(stream, new_events(1))
