"""New events, refused where they cannot be stored; stored ones, as views on the message they came in."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from trio_extreme.errors import InvalidArgument, ProtocolError
from trio_extreme.events import (
    LINK_TYPE,
    MAX_EVENT_SIZE,
    Event,
    Events,
    LogEvent,
    NewEvent,
    PushedEvent,
    RecordedEvent,
)
from trio_extreme.values import Position
from trio_extreme.wire import schema

ID = UUID("01234567-89ab-cdef-0123-456789abcdef")
OTHER = UUID("11111111-2222-3333-4444-555555555555")


# What is appended.


def test_defaults() -> None:
    event = NewEvent("Created")
    assert (event.type, event.data, event.metadata, event.is_json) == ("Created", b"", b"", False)
    assert event.id == event.id
    assert event.id_bytes == event.id.bytes_le


def test_ids_are_random_version_4() -> None:
    ids = {NewEvent("t").id for _ in range(200)}
    assert len(ids) == 200
    assert {(each.version, each.variant) for each in ids} == {(4, "specified in RFC 4122")}


def test_a_given_id_is_in_the_order_of_the_wire() -> None:
    event = NewEvent("t", id=ID)
    assert event.id == ID
    assert event.id_bytes.hex() == "67452301ab89efcd0123456789abcdef"


def test_json() -> None:
    event = NewEvent.json("t", {"name": "Pera Peri\u0107", "n": [1, None]}, {"by": "me"}, id=ID)
    assert event.data == '{"name":"Pera Peri\u0107","n":[1,null]}'.encode()
    assert event.metadata == b'{"by":"me"}'
    assert event.is_json
    assert event.id == ID
    assert NewEvent.json("t", None).data == b"null"
    assert NewEvent.json("t", {}).metadata == b""


def test_json_of_what_the_caller_converts() -> None:
    event = NewEvent.json("t", {"at": datetime(2020, 1, 1, tzinfo=UTC)}, {"id": ID}, default=str)
    assert event.data == b'{"at":"2020-01-01 00:00:00+00:00"}'
    assert json.loads(event.metadata) == {"id": str(ID)}


def endless() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, object(), b"", {1, 2}, "\ud800", endless()])
def test_what_json_cannot_say(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^data: not JSON"):
        NewEvent.json("t", {"x": value})
    with pytest.raises(InvalidArgument, match=r"^metadata: not JSON"):
        NewEvent.json("t", {}, {"x": value})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"type": ""}, "^type: '' is no name"),
        ({"type": 3}, "^type: 3 is no name"),
        ({"type": b"t"}, "^type: b't' is no name"),
        ({"type": "\ud800"}, "^type: half of a surrogate pair"),
        ({"type": "t", "data": "text"}, r"^data: bytes are wanted, not str; NewEvent.json\(\)"),
        ({"type": "t", "data": {}}, "^data: bytes are wanted, not dict"),
        ({"type": "t", "data": bytearray()}, "^data: bytes are wanted, not bytearray"),
        ({"type": "t", "metadata": "text"}, "^metadata: bytes are wanted, not str"),
        ({"type": "t", "id": str(ID)}, "^id: .* is no event id"),
        ({"type": "t", "id": UUID(int=0)}, "^id: .* not all zero"),
        ({"type": "t", "id": 0}, "^id: 0 is no event id"),
    ],
)
def test_what_cannot_be_an_event(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        NewEvent(**arguments)


def test_types_of_any_script() -> None:
    assert NewEvent("\u0160ta \U0001f600").type == "\u0160ta \U0001f600"


def test_the_largest_event() -> None:
    """Data and metadata, and two bytes for each character of the type: 3.1 of docs/protocol.md."""
    largest = MAX_EVENT_SIZE - 2 * len("type") - 10
    assert len(NewEvent("type", bytes(largest), bytes(10)).data) == largest
    for data, metadata in ((bytes(largest + 1), bytes(10)), (bytes(largest), bytes(11))):
        with pytest.raises(InvalidArgument, match=r"^data: 16,767,217 bytes .* 16,767,216$"):
            NewEvent("type", data, metadata)


def test_link() -> None:
    event = NewEvent.link(RecordedEvent(record(number=7)), id=ID)
    assert (event.type, event.data, event.is_json, event.id) == (LINK_TYPE, b"7@people", False, ID)


def test_repr_of_a_new_event_shows_no_data() -> None:
    assert repr(NewEvent("t", b"secret", id=ID)) == f"<NewEvent t {ID}, 6 bytes>"


# What is read.


def record(number: int = 3, *, id: bytes = ID.bytes_le, **changes: Any) -> schema.EventRecord:
    message = schema.EventRecord(event_stream_id="people", event_number=number, event_id=id, event_type="Created")
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_fields() -> None:
    event = RecordedEvent(record(data=b'{"a":1}', metadata=b"m", data_content_type=1))
    assert (event.stream, event.number, event.type, event.data) == ("people", 3, "Created", b'{"a":1}')
    assert (event.metadata, event.id, event.is_json, event.is_system) == (b"m", ID, True, False)
    assert event.json() == {"a": 1}


def test_its_id_as_it_came() -> None:
    """In the order of the wire, whatever it is: who compares many builds no UUID for each."""
    event = NewEvent("t", id=ID)
    assert RecordedEvent(record(id=event.id_bytes)).id_bytes == event.id_bytes == ID.bytes_le
    assert RecordedEvent(record(id=b"odd")).id_bytes == b"odd"


@pytest.mark.parametrize(("content", "is_json"), [(0, False), (1, True), (2, False)])
def test_only_content_type_1_is_json(content: int, is_json: bool) -> None:
    assert RecordedEvent(record(data_content_type=content)).is_json is is_json


def test_system_events() -> None:
    assert RecordedEvent(record(event_type="$metadata")).is_system


def test_json_that_is_none() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        RecordedEvent(record(data=b"x", data_content_type=1)).json()


def test_json_that_is_nested_too_deeply() -> None:
    """Anybody who may write to the stream can write this; who reads looks out for ValueError."""
    with pytest.raises(ValueError, match="the data of event 3 of stream 'people' is nested too deeply") as caught:
        RecordedEvent(record(data=b"[" * 1_000_000)).json()
    # Its thousands of frames tell nobody anything.
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("created", "epoch", "expected"),
    [
        # The example of docs/protocol.md, 2.4; the ticks are finer than the milliseconds.
        (5248820354427387904, 0, datetime(2020, 1, 1, tzinfo=UTC)),
        (5248820354427387904 + 12345670, 1577836801234, datetime(2020, 1, 1, 0, 0, 1, 234567, tzinfo=UTC)),
        (0, 1577836800000, datetime(2020, 1, 1, tzinfo=UTC)),
        (0, 0, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_created(created: int, epoch: int, expected: datetime) -> None:
    assert RecordedEvent(record(created=created, created_epoch=epoch)).created == expected


@given(st.binary(max_size=20), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_odd_ids_and_times_are_protocol_errors(id: bytes, created: int, epoch: int) -> None:
    event = Event(schema.ResolvedEvent(event=record(id=id, created=created, created_epoch=epoch)))
    assert "people/3" in repr(event) or not id
    for name in ("id", "created", "checkpoint", "position", "link", "resolved", "is_json", "is_system"):
        try:
            getattr(event, name)
        except ProtocolError as error:
            assert name in {"id", "created"}, error  # noqa: PT017 - most are fine


def test_equal_where_stream_number_and_id_are() -> None:
    event = RecordedEvent(record(data=b"1"))
    assert event == RecordedEvent(record(data=b"2"))
    assert hash(event) == hash(RecordedEvent(record(data=b"2")))
    assert event != RecordedEvent(record(number=4))
    assert event != RecordedEvent(record(id=OTHER.bytes_le))
    assert event != RecordedEvent(record(event_stream_id="other"))
    assert event != "event"


def test_repr_shows_no_data() -> None:
    assert repr(RecordedEvent(record(data=b"secret"))) == "<RecordedEvent people/3 Created>"


def link(number: int = 9) -> schema.EventRecord:
    return record(number, id=OTHER.bytes_le, event_stream_id="$ce-people", event_type=LINK_TYPE, data=b"3@people")


def test_an_event_of_a_stream() -> None:
    event = Event(schema.ResolvedIndexedEvent(event=record()))
    assert (event.number, event.checkpoint, event.position, event.link, event.resolved) == (3, 3, None, None, True)


def test_an_event_through_a_link() -> None:
    """The place is the link's: pitfall 36."""
    event = Event(schema.ResolvedIndexedEvent(event=record(), link=link()))
    assert (event.stream, event.number, event.id, event.resolved) == ("people", 3, ID, True)
    assert event.checkpoint == 9
    assert event.link == RecordedEvent(link())
    # The event's own, not the link's.
    assert event.id_bytes == ID.bytes_le


def test_a_link_whose_target_is_gone() -> None:
    """Servers leave out the event: pitfall 37."""
    event = Event(schema.ResolvedIndexedEvent(link=link()))
    assert (event.stream, event.number, event.type, event.resolved) == ("$ce-people", 9, LINK_TYPE, False)
    assert event.checkpoint == 9


def test_a_pushed_event_of_a_stream() -> None:
    event = PushedEvent(schema.ResolvedEvent(event=record(), link=link(), commit_position=50, prepare_position=49))
    assert event.position == Position(50, 49)
    assert event.checkpoint == 9


def test_an_event_of_the_log() -> None:
    event = LogEvent(schema.ResolvedEvent(event=record(), commit_position=50, prepare_position=49))
    assert event.position == event.checkpoint == Position(50, 49)


# Events that came together.


def events_read(count: int) -> Events[Event]:
    return Events(Event, [schema.ResolvedIndexedEvent(event=record(number)) for number in range(count)])


def test_events_that_came_together_are_a_sequence() -> None:
    events = events_read(5)
    assert len(events) == 5
    assert [event.number for event in events] == [0, 1, 2, 3, 4]
    assert (events[0].number, events[-1].number) == (0, 4)
    assert type(events[1:3]) is Events
    assert [event.number for event in events[1:3]] == [1, 2]
    assert events[2] in events
    with pytest.raises(IndexError):
        events[5]
    assert not events_read(0)
    assert repr(events) == "<Events: 5>"


def test_they_equal_any_sequence_of_the_same() -> None:
    events = events_read(3)
    assert events == events_read(3)
    assert events == list(events)
    assert events == tuple(events)
    assert events != events_read(2)
    assert events != [*events_read(2), RecordedEvent(record(7))]
    assert events != iter(events)
    with pytest.raises(TypeError):
        hash(events)
