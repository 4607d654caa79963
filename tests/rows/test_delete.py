"""Deleting, softly and for ever, every kind of stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers import new_events
from trio_extreme import ANY, StreamDeleted, StreamNotFound

if TYPE_CHECKING:
    from trio_extreme import Connection


async def assert_missing(conn: Connection) -> None:
    with pytest.raises(StreamNotFound):
        await conn.read_event("people", 0)
    with pytest.raises(StreamNotFound):
        [event async for event in conn.read_stream("people")]


async def test_softly_twice(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    for _ in range(2):
        await conn.delete_stream("people", expected=ANY)
        await assert_missing(conn)


async def test_softly_with_an_append_between(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY)
    await conn.append("people", new_events(2))
    assert [event.number async for event in conn.read_stream("people")] == [2, 3]
    await conn.delete_stream("people", expected=ANY)
    await assert_missing(conn)


async def test_a_missing_stream_softly(conn: Connection) -> None:
    await conn.delete_stream("people", expected=ANY)
    await assert_missing(conn)


async def test_softly_after_hard(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        await conn.delete_stream("people", expected=ANY)


async def test_hard_twice(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        await conn.delete_stream("people", expected=ANY, hard=True)


async def test_hard_after_soft(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=ANY)
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        await conn.read_event("people", 0)


async def test_a_missing_stream_hard(conn: Connection) -> None:
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        await conn.read_event("people", 0)


async def test_nothing_works_after_hard(conn: Connection) -> None:
    await conn.append("people", new_events(2))
    await conn.delete_stream("people", expected=1, hard=True)
    with pytest.raises(StreamDeleted):
        [event async for event in conn.read_stream("people", missing_ok=True)]
    with pytest.raises(StreamDeleted):
        await conn.append("people", new_events(1))
