from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from trio_extreme import Event, InvalidArgument, LogEvent, NewEvent, PersistentEvent, Position
from trio_extreme.testing import recorded

if TYPE_CHECKING:
    from trio_extreme import Connection

ID = UUID(int=7)


def seen(event: Event) -> list[object]:
    """All that a handler can ask of it, but when it was written."""
    link = event.link
    return [
        *(type(event), event.stream, event.number, event.type, event.data, event.metadata, event.id, event.is_json),
        *(event.is_system, event.resolved, event.position, event.checkpoint, event),
        link and (link.stream, link.number, link.type, link.data),
    ]


def pera(**arguments: Any) -> Event:
    event: Event = recorded(
        "PersonCreated", {"name": "Pera Perić"}, stream="people", metadata={"by": "anna"}, id=ID, **arguments
    )
    return event


async def test_it_is_what_a_read_gives(event_store_connection: Connection, autojump_clock: object) -> None:
    conn = event_store_connection
    await conn.append("people", NewEvent.json("PersonCreated", {"name": "Pera Perić"}, {"by": "anna"}, id=ID))
    stored = await conn.read_event("people", 0)
    assert seen(pera()) == seen(stored)

    await conn.append("links", [NewEvent("Other"), NewEvent.link(stored)])
    linked = await conn.read_event("links", 1)
    assert seen(pera(link=("links", 1))) == seen(linked)
    assert linked.checkpoint == 1

    (in_log,) = [event async for event in conn.read_all() if event.stream == "people"]
    assert seen(pera(position=in_log.position)) == seen(in_log)
    assert type(in_log) is LogEvent


def test_what_nobody_gives_is_made_up() -> None:
    before = datetime.now(UTC)
    event = recorded("PersonCreated")
    assert (event.stream, event.number, event.data, event.metadata, event.is_json) == ("test-1", 0, b"", b"", False)
    assert abs((event.created - before).total_seconds()) < 60
    assert event.id != recorded("PersonCreated").id


def test_it_was_written_when_it_is_said() -> None:
    when = datetime(2020, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
    assert recorded("PersonCreated", created=when).created == when


def test_bytes_are_data_as_they_are() -> None:
    event = recorded("PersonCreated", b"\x00\xff", metadata=b"\x01")
    assert (event.data, event.metadata, event.is_json) == (b"\x00\xff", b"\x01", False)


def test_an_event_of_a_group_is_told_apart() -> None:
    event = recorded("PersonCreated", {"name": "Pera"}, number=3, retry_count=2, link=("$ce-person", 41))
    assert isinstance(event, PersistentEvent)
    assert (event.number, event.checkpoint, event.retry_count, event.position) == (3, 41, 2, None)
    assert event.link is not None
    assert event.ack_id == event.link.id


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"type": ""}, "type: '' is no name"),
        ({"number": -1}, "number: -1"),
        ({"stream": ""}, "stream: ''"),
        ({"data": {1, 2}}, "data: not JSON"),
        ({"metadata": {1, 2}}, "metadata: not JSON"),
        ({"link": ("", 1)}, "stream: ''"),
        ({"created": datetime(2020, 1, 1)}, "created: 2020-01-01 00:00:00 has no time zone"),  # noqa: DTZ001 - it is the case
        ({"position": Position(0, 0), "retry_count": 0}, "position: events of a group have none"),
    ],
    ids=["type", "number", "stream", "data", "metadata", "link", "created", "position"],
)
def test_what_no_server_would_send_is_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        recorded(**{"type": "PersonCreated", **arguments})
    assert complaint in str(caught.value)
