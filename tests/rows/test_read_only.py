"""A connection that cannot write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers import assert_nothing_left, new_events
from trio_extreme import ANY, Connection, ReadOnly, Settings, messages, open_connection
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_extreme.embedded import Node


@pytest.fixture
async def reader(node: Node) -> AsyncIterator[Connection]:
    """A read-only connection to a node that has a stream of three events."""
    async with open_connection(node.settings, connect=node.connect) as conn:
        await conn.append("people", new_events(3))
    settings = node.settings.replace(read_only=True)
    async with open_connection(settings, connect=node.connect) as conn:
        yield conn
        assert_nothing_left(conn)


async def test_an_append_is_refused(reader: Connection) -> None:
    before = reader.statistics().frames_sent
    with pytest.raises(ReadOnly):
        await reader.append("people", new_events(1))
    with pytest.raises(ReadOnly):
        await reader.execute(messages.WriteEvents(event_stream_id="people", expected_version=ANY))
    assert reader.statistics().frames_sent == before
    assert await reader.last_number("people") == 2


async def test_a_hard_delete_is_refused(reader: Connection) -> None:
    before = reader.statistics().frames_sent
    with pytest.raises(ReadOnly):
        await reader.delete_stream("people", expected=ANY, hard=True)
    assert reader.statistics().frames_sent == before
    assert await reader.last_number("people") == 2


async def test_it_reads(reader: Connection) -> None:
    assert [event.number async for event in reader.read_stream("people")] == [0, 1, 2]
    assert (await reader.read_event("people", 1)).data == b"1"
    assert await reader.ping() >= 0
    async with reader.subscribe("people") as events:
        assert (await anext(events)).number == 0
    async with reader.subscribe_live("people"):
        pass
    message = messages.ReadAllEvents(commit_position=-1, prepare_position=-1, max_count=1)
    reply = await reader.execute(message, command=Command.READ_ALL_EVENTS_BACKWARD)
    assert isinstance(reply, messages.ReadAllEventsCompleted)
    assert len(reply.events) == 1


def test_a_url_can_say_it() -> None:
    assert Settings.from_url("eventstore://admin:changeit@localhost?read_only=true").read_only
    assert not Settings.from_url("eventstore://admin:changeit@localhost").read_only
