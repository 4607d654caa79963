"""Every message and enumeration against the servers' own definitions, and what is written and read of them."""

from __future__ import annotations

import os
import subprocess
import sys
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor

from tests.wire.protocol import ENUMS, MESSAGES, Field
from trio_extreme.wire import schema
from trio_extreme.wire.descriptor import REQUIRED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

TYPES = {
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
}
# Names of servers up to 5.0 serve for what came under a new name only.
OLD_NAMES = {
    "require_leader": "require_master",
    "http_address": "external_http_address",
    "http_port": "external_http_port",
}
OLD_MESSAGES = {"NotHandled.LeaderInfo": "NotHandled.MasterInfo"}
VARINT, BYTES = 0, 2


def message_class(name: str) -> type[Message]:
    found: type[Message] = attrgetter(OLD_MESSAGES.get(name, name))(schema)
    return found


def type_name(field: Any) -> str:
    named = field.message_type or field.enum_type
    return named.name if named else TYPES[field.type]


def fields_on_the_wire(data: bytes) -> dict[int, list[bytes | int]]:
    """What is written, read without our schema."""
    found: dict[int, list[bytes | int]] = {}
    while data:
        tag, data = varint(data)
        size, data = varint(data)
        value: bytes | int = size
        if tag & 7 == BYTES:
            value, data = data[:size], data[size:]
        else:
            assert tag & 7 == VARINT
        found.setdefault(tag >> 3, []).append(value)
    return found


def varint(data: bytes) -> tuple[int, bytes]:
    value = 0
    for at, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            return value, data[at + 1 :]
    raise AssertionError(data)


def all_messages(descriptors: Iterable[Any], prefix: str = "") -> set[str]:
    names = {f"{prefix}{descriptor.name}" for descriptor in descriptors}
    return names.union(*(all_messages(d.nested_types, f"{prefix}{d.name}.") for d in descriptors))


@pytest.mark.parametrize("name", MESSAGES)
def test_fields_are_those_of_the_servers(name: str) -> None:
    ours = {field.number: field for field in message_class(name).DESCRIPTOR.fields}
    assert sorted(ours) == [field.number for field in MESSAGES[name]]
    for field in MESSAGES[name]:
        mine = ours[field.number]
        assert mine.name == OLD_NAMES.get(field.names[0], field.names[0])
        # What was widened from int32 to int64 is the same on the wire, for who reads 64 bits.
        assert type_name(mine) == field.types[-1]
        value = getattr(message_class(name)(), mine.name)
        assert hasattr(value, "extend") == (field.label == "repeated")


@pytest.mark.parametrize("name", MESSAGES)
def test_required_are_those_of_the_servers(name: str) -> None:
    descriptor = message_class(name).DESCRIPTOR
    required = [descriptor.fields_by_number[field.number].name for field in MESSAGES[name] if field.label == "required"]
    assert list(REQUIRED.get(OLD_MESSAGES.get(name, name), ())) == required


def test_there_is_no_other_message() -> None:
    file = schema.NewEvent.DESCRIPTOR.file
    ours = all_messages(file.message_types_by_name.values())
    own = {"StreamEventsAppeared", "PersistentSubscriptionStreamEventsAppeared", "HandedEvent"}
    assert ours == MESSAGES.keys() - OLD_MESSAGES.keys() | own
    assert REQUIRED.keys() <= ours


@pytest.mark.parametrize("name", ENUMS)
def test_enumerations_are_those_of_the_servers(name: str) -> None:
    enum: Any = attrgetter(name)(schema)
    assert {member.value: member.name for member in enum} == {value: names[0] for value, names in ENUMS[name].items()}


def required_fields(name: str) -> list[Field]:
    return [field for field in MESSAGES[name] if field.label == "required"]


@pytest.mark.parametrize("name", MESSAGES)
def test_everything_required_is_written_when_nothing_is_set(name: str) -> None:
    message = message_class(name)()
    schema.fill_required(message)
    check_written(name, message.SerializeToString())


def check_written(name: str, data: bytes) -> None:
    written = fields_on_the_wire(data)
    assert sorted(written) == [field.number for field in required_fields(name)]
    for field in required_fields(name):
        [value] = written[field.number]
        assert not value or field.types[-1] in MESSAGES
        if field.types[-1] in MESSAGES:
            assert isinstance(value, bytes)
            check_written(field.types[-1], value)


def test_what_is_set_stays() -> None:
    message = schema.ReadStreamEvents(event_stream_id="s", from_event_number=-1, require_master=True)
    schema.fill_required(message)
    assert message == schema.ReadStreamEvents(
        event_stream_id="s", from_event_number=-1, max_count=0, resolve_link_tos=False, require_master=True
    )


def test_messages_inside_are_filled_each() -> None:
    message = schema.WriteEvents(events=[schema.NewEvent(), schema.NewEvent(event_type="t"), schema.NewEvent()])
    schema.fill_required(message)
    for event in message.events:
        assert sorted(fields_on_the_wire(event.SerializeToString())) == [1, 2, 3, 4, 5]


def test_optional_messages_stay_away_but_are_filled_where_they_are() -> None:
    message = schema.ResolvedEvent()
    schema.fill_required(message)
    assert not message.HasField("link")
    message.link.event_number = 3
    schema.fill_required(message)
    assert message.link.HasField("event_type")
    assert message.link.event_number == 3


@pytest.mark.parametrize("name", MESSAGES)
def test_an_empty_payload_is_a_message_of_zeros(name: str) -> None:
    """Servers from 22.6 write no zeros, older ones leave out required messages."""
    message = message_class(name).FromString(b"")
    for field in message.DESCRIPTOR.fields:
        assert not getattr(message, field.name) or field.message_type is not None
    assert message.ListFields() == []


@pytest.mark.parametrize(
    "name", [name for name, fields in MESSAGES.items() if any("Result" in f.types[-1] for f in fields)]
)
def test_an_unknown_result_is_not_taken_for_success(name: str) -> None:
    number = next(field.number for field in MESSAGES[name] if "Result" in field.types[-1])
    data = bytes([number << 3, 99])
    message: Any = message_class(name).FromString(data)
    assert message.result == 99
    assert message.SerializeToString() == data


def test_unknown_fields_survive() -> None:
    data = bytes.fromhex("f2 7d 03 61 62 63".replace(" ", ""))
    assert schema.Filter.FromString(data).SerializeToString() == data


@pytest.mark.parametrize(
    ("number", "written"),
    [(-2, "feffffffffffffffff01"), (-2147483648, "80808080f8ffffffff01"), (2**63 - 1, "ffffffffffffffff7f")],
)
def test_numbers_on_the_wire(number: int, written: str) -> None:
    """The vectors of docs/protocol.md, 1.1."""
    data = schema.WriteEvents(expected_version=number).SerializeToString()
    assert data.hex() == f"10{written}"
    assert schema.WriteEvents.FromString(data).expected_version == number


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (schema.IdentifyClient(version=1, connection_name="py"), "080112027079"),
        (schema.SubscribeToStream(event_stream_id="", resolve_link_tos=True), "0a001001"),
    ],
)
def test_messages_on_the_wire(message: Message, written: str) -> None:
    assert message.SerializeToString().hex() == written


def test_joined_pushes_are_one_batch() -> None:
    pushes = [
        schema.StreamEventAppeared(
            event=schema.ResolvedEvent(event=schema.EventRecord(event_number=n), commit_position=n)
        )
        for n in range(5)
    ]
    batch = schema.StreamEventsAppeared.FromString(b"".join(push.SerializeToString() for push in pushes))
    assert list(batch.event) == [push.event for push in pushes]


@pytest.mark.parametrize("retries", [(0, 1, 7), (None, None, None)])
def test_joined_pushes_of_a_group_are_one_batch_too(retries: tuple[int | None, ...]) -> None:
    """Servers say how often an event was delivered in each of them or in none, but for those that leave out zeros."""
    pushes = [
        schema.PersistentSubscriptionStreamEventAppeared(
            event=schema.ResolvedIndexedEvent(
                event=schema.EventRecord(event_number=n), link=schema.EventRecord(event_number=n + 7) if n else None
            ),
            retryCount=retry,
        )
        for n, retry in enumerate(retries)
    ]
    joined = b"".join(push.SerializeToString() for push in pushes)
    batch = schema.PersistentSubscriptionStreamEventsAppeared.FromString(joined)
    assert [event.event.event_number for event in batch.event] == [0, 1, 2]
    assert [bool(event.link) for event in batch.event] == [False, True, True]
    assert schema.EventRecord.FromString(batch.event[2].link) == pushes[2].event.link
    assert list(batch.retryCount) == [retry for retry in retries if retry is not None]


def test_no_other_clients_messages_can_collide_with_ours() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName(schema.NewEvent.DESCRIPTOR.full_name)


def test_pure_python_protobuf_is_warned_of() -> None:
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    program = [sys.executable, "-W", "error::RuntimeWarning", "-c", "import trio_extreme"]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "protobuf runs in pure Python here" in ended.stderr
