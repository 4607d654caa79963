from __future__ import annotations

from hypothesis import given, strategies as st

from tests.embedded.talk import new_event
from trio_extreme.embedded.encoding import Form
from trio_extreme.embedded.records import (
    NARROW_TOMBSTONE,
    WIDE_TOMBSTONE,
    Record,
    Resolved,
    Writing,
    encode_field,
    encode_indexed,
    encode_resolved,
    encode_varint,
    make_event,
    make_record,
    record_size,
)
from trio_extreme.wire import schema


def record(number: int = 3, position: int = 168) -> Record:
    return make_record(position, 100, make_event("people", number, new_event(metadata=b"m"), 1_577_836_800_000_123))


def test_a_record_keeps_the_whole_event() -> None:
    made = record()
    assert (made.stream, made.number, made.type, made.position, made.end) == ("people", 3, "happened", 168, 268)
    assert made.id == made.event.event_id
    assert (made.event.data, made.event.metadata) == (b"{}", b"m")
    assert repr(made) == "<Record 3@people happened at 168>"


def test_times_are_ticks_and_milliseconds() -> None:
    event = record().event
    assert event.created == 5248820354427387904 - 2**62 + 1230
    assert event.created_epoch == 1_577_836_800_000
    assert record().written == 1_577_836_800_000_123


def test_one_flag_says_json_for_data_and_metadata() -> None:
    for content, stored in ((1, 1), (0, 0), (2, 0)):
        new = new_event()
        new.data_content_type, new.metadata_content_type = content, 1
        event = make_event("people", 0, new, 0)
        assert (event.data_content_type, event.metadata_content_type) == (stored, stored)


def test_fields_are_present_even_when_empty() -> None:
    event = make_event("people", 0, schema.NewEvent(event_id=b"i" * 16, event_type="t"), 0)
    assert len(event.ListFields()) == len(schema.EventRecord.DESCRIPTOR.fields)


@given(
    st.text(max_size=40),
    st.integers(0, WIDE_TOMBSTONE),
    st.builds(
        schema.NewEvent,
        event_id=st.binary(min_size=16, max_size=16),
        event_type=st.text(max_size=200),
        data_content_type=st.integers(0, 2),
        data=st.binary(max_size=300) | st.integers(0, 70_000).map(bytes),
        metadata=st.binary(max_size=300),
    ),
    st.integers(0, 2**52),
)
def test_many_are_made_as_one_is(stream: str, number: int, new: schema.NewEvent, created: int) -> None:
    event = make_event(stream, number, new, created)
    size = record_size(stream, new.event_type, len(new.data) + len(new.metadata), 8)
    assert Writing(stream, created, 8).make(500, number, new) == make_record(500, size, event)


def test_sizes_are_those_of_real_logs() -> None:
    # Both are differences of positions in the recordings.
    assert record_size("sa-4388c637", "tested", 7, number_size=8) == 36252548 - 36252434
    assert record_size("ds-c9fbbe36b", "tested", 7, number_size=4) == 35121799 - 35121688
    assert record_size("ђ", "t", 0, 8) == record_size("ab", "t", 0, 8)


@given(st.integers(0, 2**63 - 1))
def test_numbers_are_written_as_protobuf_writes_them(value: int) -> None:
    assert (
        b"\x08" + encode_varint(value)
        == schema.SubscriptionConfirmation(last_commit_position=value).SerializePartialToString()
    )


def test_a_field_holds_a_message() -> None:
    event = record().event
    field = encode_field(1, event.SerializeToString())
    assert schema.StreamEventAppeared(
        event=schema.ResolvedEvent(event=event)
    ).SerializePartialToString() == encode_field(1, field)


def test_an_event_that_is_no_link_stands_alone() -> None:
    read = record()
    decoded = schema.ResolvedIndexedEvent.FromString(encode_indexed(Resolved(read), Form()))
    assert decoded == schema.ResolvedIndexedEvent(event=read.event)


def test_a_followed_link_stands_beside_its_target() -> None:
    target, link = record(), record(9, 400)
    resolved = Resolved(link, is_followed=True, target=target)
    decoded = schema.ResolvedIndexedEvent.FromString(encode_indexed(resolved, Form()))
    assert decoded == schema.ResolvedIndexedEvent(event=target.event, link=link.event)


def test_a_dead_link_stands_without_an_event() -> None:
    link = record(9, 400)
    decoded = schema.ResolvedIndexedEvent.FromString(encode_indexed(Resolved(link, is_followed=True), Form()))
    assert decoded == schema.ResolvedIndexedEvent(link=link.event)
    assert not decoded.HasField("event")


def test_positions_are_those_of_the_link() -> None:
    target, link = record(), record(9, 400)
    encoded = encode_resolved(Resolved(link, is_followed=True, target=target), Form())
    assert schema.ResolvedEvent.FromString(encoded) == schema.ResolvedEvent(
        event=target.event, link=link.event, commit_position=400, prepare_position=400
    )


def test_an_event_of_a_transaction_has_the_place_of_its_commit_and_its_own() -> None:
    event = make_event("people", 3, new_event(), 0)
    made = make_record(168, 100, event, (900, 960))
    assert (made.position, made.end, made.commit, made.commit_end) == (168, 268, 900, 960)
    decoded = schema.ResolvedEvent.FromString(encode_resolved(Resolved(made), Form()))
    assert (decoded.commit_position, decoded.prepare_position) == (900, 168)


def test_a_tombstone_has_the_number_its_reader_knows() -> None:
    tombstone = Resolved(record(WIDE_TOMBSTONE))
    numbers = [
        schema.ResolvedEvent.FromString(encode_resolved(tombstone, Form(wide=wide))).event.event_number
        for wide in (True, False)
    ]
    assert numbers == [WIDE_TOMBSTONE, NARROW_TOMBSTONE]
