"""Events as the log holds them, each serialized once, when it is written. Pure.

A page of a thousand events is then a join of a thousand byte strings: nothing is encoded when it is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.embedded.encoding import Form, leave_out_zeros
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDE_TOMBSTONE = 2**63 - 1
NARROW_TOMBSTONE = 2**31 - 1
"""What a tombstone's number is for clients that never said they know 64-bit numbers (docs/protocol.md, 1.3)."""

DELETED_TYPE = "$streamDeleted"
LINK_TYPE = "$>"
METADATA_TYPE = "$metadata"
JSON = 1
"""The content type of JSON; all others are binary."""

_TICKS_OF_1970 = 621_355_968_000_000_000
_RECORD_OVERHEAD = 82
"""Bytes of a log record beside its texts, its data and its event number; seen in positions of real servers."""

COMMIT_OVERHEAD = 58
"""Bytes of the record that commits a transaction, beside an event number; seen likewise."""


class Place(NamedTuple):
    """A position as requests and replies carry it: compared as a pair, whatever it means."""

    commit: int
    prepare: int


class Record(NamedTuple):
    """One event in the log; `make_record` makes it."""

    stream: str
    number: int
    id: bytes
    type: str
    #: Microseconds since 1970.
    written: int
    #: Where its own record begins and ends: the prepare position.
    position: int
    end: int
    #: Where the record begins and ends that commits it: of all but explicit transactions its own.
    commit: int
    commit_end: int
    #: The EventRecord as field 1 of a message, tag and length included.
    field: bytes

    def __repr__(self) -> str:
        return f"<Record {self.number}@{self.stream} {self.type} at {self.position}>"

    @property
    def event(self) -> schema.EventRecord:
        """The whole event, decoded anew."""
        return schema.ResolvedIndexedEvent.FromString(self.field).event

    def field_for(self, form: Form) -> bytes:
        """`field` in this form. Only a tombstone's number does not fit into 32 bits."""
        field = self.field
        if self.number == WIDE_TOMBSTONE and not form.wide:
            event = self.event
            event.event_number = NARROW_TOMBSTONE
            field = encode_field(1, event.SerializeToString())
        return field if form.zeros else leave_out_zeros(schema.ResolvedIndexedEvent, field)


class Resolved(NamedTuple):
    """What a read gives for one record: the record itself, or where it leads if it is a link that was followed.

    The target of a dead link is None.
    """

    record: Record
    is_followed: bool = False
    target: Record | None = None


def make_record(position: int, size: int, event: schema.EventRecord, commit: tuple[int, int] | None = None) -> Record:
    """The record of an event. `commit`: where the record begins and ends that commits it, if it is not its own."""
    end = position + size
    begin, commit_end = commit or (position, end)
    return Record(
        event.event_stream_id,
        event.event_number,
        event.event_id,
        event.event_type,
        (event.created - _TICKS_OF_1970) // 10,
        position,
        end,
        begin,
        commit_end,
        encode_field(1, event.SerializeToString()),
    )


def make_event(stream: str, number: int, new: schema.NewEvent, created: int) -> schema.EventRecord:
    """The message, with every field present that servers always send. `created` is in microseconds since 1970.

    One flag says whether data and metadata are JSON. Times are plain ticks: the servers of the recordings leave out
    the two bits that say "UTC" (docs/protocol.md, 2.4, has them).
    """
    content = int(new.data_content_type == JSON)
    return schema.EventRecord(
        event_stream_id=stream,
        event_number=number,
        event_id=new.event_id,
        event_type=new.event_type,
        data_content_type=content,
        metadata_content_type=content,
        data=new.data,
        metadata=new.metadata,
        created=_TICKS_OF_1970 + created * 10,
        created_epoch=created // 1000,
    )


class Writing:
    """What the events of one append have in common: their stream and their time, and types, encoded once.

    It makes of each what `make_record` makes of its `make_event`, byte for byte, in a third of the time: this is what
    an append costs. An id has 16 bytes here.
    """

    def __init__(self, stream: str, created: int, number_size: int) -> None:
        name = stream.encode()
        self._stream = stream
        self._created = created
        self._size = _RECORD_OVERHEAD + number_size + len(name)
        self._head = encode_field(1, name) + b"\x10"
        self._tail = b"\x48" + encode_varint(_TICKS_OF_1970 + created * 10) + b"\x50" + encode_varint(created // 1000)
        self._types: dict[str, tuple[int, bytes]] = {}

    def make(self, position: int, number: int, new: schema.NewEvent) -> Record:
        """The record of one event, at this position."""
        type_, data, metadata, id_ = new.event_type, new.data, new.metadata, new.event_id
        known = self._types.get(type_)
        name_size, name = known or self._encode_type(type_)
        size, extra = len(data), len(metadata)
        end = position + self._size + name_size + size + extra
        body = b"".join(
            (
                *(self._head, encode_varint(number), b"\x1a\x10", id_, name),
                b"\x28\x01\x30\x01\x3a" if new.data_content_type == JSON else b"\x28\x00\x30\x00\x3a",
                *(encode_varint(size), data, b"\x42", encode_varint(extra), metadata, self._tail),
            )
        )
        field = b"\x0a" + encode_varint(len(body)) + body
        return Record(self._stream, number, id_, type_, self._created, position, end, position, end, field)

    def _encode_type(self, type_: str) -> tuple[int, bytes]:
        """The bytes of its name, how many, and the field that holds them."""
        name = type_.encode()
        known = self._types[type_] = len(name), encode_field(4, name)
        return known


def record_size(stream: str, type: str, data_size: int, number_size: int) -> int:
    """Bytes such a record takes in the log, by which the position of the next one is larger."""
    return _RECORD_OVERHEAD + number_size + len(stream.encode()) + len(type.encode()) + data_size


# The first byte of fields that hold bytes; no message here has a field above 15, which would need a second one.
_TAGS = [bytes((number << 3 | 2,)) for number in range(16)]


def encode_field(number: int, body: bytes) -> bytes:
    """A message, or bytes, as a field of a message."""
    return _TAGS[number] + encode_varint(len(body)) + body


# Lengths, nearly all of them, and the ends of larger numbers; then bytes that others follow.
_VARINTS = [bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80, value >> 7)) for value in range(2048)]  # noqa: PLR2004 - seven bits a byte
_LOWEST = [bytes((value | 0x80,)) for value in range(0x80)]


def encode_varint(value: int) -> bytes:
    """A number from 0 up, as protobuf writes it."""
    if value < len(_VARINTS):
        return _VARINTS[value]
    return _LOWEST[value & 0x7F] + encode_varint(value >> 7)


def encode_stored(records: Iterable[Record]) -> list[bytes]:
    """What a stream's page holds of records that lead nowhere, for who takes zeros and wide numbers, in pieces.

    As `encode_field(1, encode_indexed(...))` has it of each, and a page has many.
    """
    pieces: list[bytes] = []
    for record in records:
        field = record.field
        pieces += (b"\x0a", encode_varint(len(field)), field)
    return pieces


def encode_indexed(resolved: Resolved, form: Form) -> bytes:
    """A ResolvedIndexedEvent: what a stream's page holds. A dead link has no event there."""
    record, is_followed, target = resolved
    if not is_followed:
        return record.field_for(form)
    # A field of the same message under another number differs in its first byte alone.
    return (b"" if target is None else target.field_for(form)) + b"\x12" + record.field_for(form)[1:]


def encode_resolved(resolved: Resolved, form: Form) -> bytes:
    """A ResolvedEvent: what a page of the log and a subscription hold, with the place of the record itself."""
    record = resolved.record
    commit = encode_varint(record.commit)
    prepare = commit if record.position == record.commit else encode_varint(record.position)
    return b"".join((encode_indexed(resolved, form), b"\x18", commit, b"\x20", prepare))
