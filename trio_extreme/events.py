"""Events: what is appended, and what is read.

Events that were read are thin views on the message they came in. What nearly every consumer asks for, number, type and
data, is taken out of it at once; the rest when it is asked for, because building a value for each field of each event
would cost more than all else on the way of an event.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import eq
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, overload
from uuid import UUID

from trio_extreme.errors import InvalidArgument, ProtocolError
from trio_extreme.values import Position, utf8_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

MAX_EVENT_SIZE = 16 * 1024 * 1024 - 10_000
"""Bytes of data and metadata, plus two for each character of the type: servers refuse more (docs/protocol.md, 3.1)."""

JSON_CONTENT = 1
"""The content type that says JSON; anything else is binary."""

LINK_TYPE = "$>"
"""The type of an event whose data, `number@stream`, names another."""

TOMBSTONE_TYPE = "$streamDeleted"
"""The type of the last event of a hard-deleted stream."""

# .NET counts 100-nanosecond ticks from the year 1; bit 62 says UTC.
_TICKS_MASK = 0x3FFF_FFFF_FFFF_FFFF
_YEAR_1 = datetime(1, 1, 1, tzinfo=UTC)
_YEAR_1970 = datetime(1970, 1, 1, tzinfo=UTC)


def _new_id() -> bytes:
    """A random (version 4) UUID in .NET order, a tenth of the price of `uuid4().bytes_le`."""
    data = bytearray(os.urandom(16))
    data[7] = data[7] & 0x0F | 0x40
    data[8] = data[8] & 0x3F | 0x80
    return bytes(data)


class NewEvent:
    """An event to append.

    Its id is made once, here: appending the same object again is idempotent with a number or NO_STREAM as expected
    version, and with ANY only while the server remembers the id. `data` and `metadata` are opaque bytes;
    `is_json=True` says that they are JSON, which is what projections need. Raises `InvalidArgument` for an empty
    type, for data that is not bytes, for an id that is no `uuid.UUID`, and above `MAX_EVENT_SIZE`.
    """

    __slots__ = ("data", "id_bytes", "is_json", "metadata", "type")

    def __init__(
        self, type: str, data: bytes = b"", metadata: bytes = b"", *, id: UUID | None = None, is_json: bool = False
    ) -> None:
        self.type: Final = type
        self.data: Final = data
        self.metadata: Final = metadata
        self.is_json: Final = is_json
        self.id_bytes: Final = _new_id() if id is None else _id_bytes(id)
        if not isinstance(type, str) or not type:
            msg = f"type: {type!r} is no name of an event type; give a non-empty string"
            raise InvalidArgument(msg)
        if not type.isascii():
            utf8_size("type", type)
        if not isinstance(data, bytes) or not isinstance(metadata, bytes):
            self._refuse_non_bytes()
        if len(data) + len(metadata) + 2 * len(type) > MAX_EVENT_SIZE:
            size = len(data) + len(metadata) + 2 * len(type)
            msg = f"data: {size:,} bytes with metadata and type {type!r}; the servers' limit is {MAX_EVENT_SIZE:,}"
            raise InvalidArgument(msg)

    def _refuse_non_bytes(self) -> None:
        argument, value = ("metadata", self.metadata) if isinstance(self.data, bytes) else ("data", self.data)
        msg = f"{argument}: bytes are wanted, not {value.__class__.__name__}; NewEvent.json() takes what JSON can say"
        raise InvalidArgument(msg)

    @classmethod
    def json(
        cls,
        type: str,
        data: object,
        metadata: object = None,
        *,
        id: UUID | None = None,
        default: Callable[[Any], Any] | None = None,
    ) -> NewEvent:
        """An event whose data, and metadata where given, is JSON; `default` as in `json.dumps`.

        Raises `InvalidArgument` for what JSON cannot say, NaN and infinities included.
        """
        extra = b"" if metadata is None else _to_json("metadata", metadata, default)
        return cls(type, _to_json("data", data, default), extra, id=id, is_json=True)

    @classmethod
    def link(cls, event: RecordedEvent, *, id: UUID | None = None) -> NewEvent:
        """An event that stands for another: readers that resolve links get that one."""
        return cls(LINK_TYPE, f"{event.number}@{event.stream}".encode(), id=id)

    @property
    def id(self) -> UUID:
        """The event's id."""
        return UUID(bytes_le=self.id_bytes)

    def __repr__(self) -> str:
        return f"<NewEvent {self.type} {self.id}, {len(self.data)} bytes>"


def _id_bytes(id: UUID) -> bytes:
    if not isinstance(id, UUID) or not id.int:
        msg = f"id: {id!r} is no event id; give a uuid.UUID that is not all zero"
        raise InvalidArgument(msg)
    return id.bytes_le


def _to_json(argument: str, value: object, default: Callable[[Any], Any] | None) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=default)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"{argument}: not JSON: {error}"
        raise InvalidArgument(msg) from error


class Record(Protocol):
    """The message of one stored event."""

    event_stream_id: str
    event_number: int
    event_id: bytes
    event_type: str
    data_content_type: int
    data: bytes
    metadata: bytes
    created: int
    created_epoch: int


class Resolved(Protocol):
    """The message that holds an event, the link to it, or both."""

    @property
    def event(self) -> Record:
        """The event itself; empty where it is gone."""
        ...

    @property
    def link(self) -> Record:
        """The link through which it was read; empty where there was none."""
        ...

    def HasField(self, name: Any, /) -> bool:  # noqa: N802 - protobuf's name
        """Whether there is an event, or a link."""
        ...


class Positioned(Resolved, Protocol):
    """One that also says where in the log it is."""

    commit_position: int
    prepare_position: int


class RecordedEvent:
    """An event as it is stored. Two are equal where stream, number and id are."""

    __slots__ = ("_record", "data", "number", "type")

    #: Its number in its stream, from 0; a tombstone has 2**63 - 1.
    number: int
    #: Its type, as the writer named it.
    type: str
    #: Its data, as the writer gave it.
    data: bytes

    def __init__(self, record: Record) -> None:
        self._record = record
        self.number = record.event_number
        self.type = record.event_type
        self.data = record.data

    @property
    def stream(self) -> str:
        """The stream it was appended to."""
        return self._record.event_stream_id

    @property
    def metadata(self) -> bytes:
        """Its metadata, as the writer gave it; empty where there is none."""
        return self._record.metadata

    @property
    def id(self) -> UUID:
        """Its id, as the writer gave it. Raises `ProtocolError` where the server sent none of 16 bytes."""
        try:
            return UUID(bytes_le=self._record.event_id)
        except ValueError:
            size = len(self._record.event_id)
            msg = f"the id of event {self.number} of stream {self.stream!r} has {size} bytes, not 16"
            raise ProtocolError(msg) from None

    @property
    def id_bytes(self) -> bytes:
        """The id as it is on the wire, in .NET order."""
        return self._record.event_id

    @property
    def is_json(self) -> bool:
        """Whether the writer said that data and metadata are JSON."""
        return self._record.data_content_type == JSON_CONTENT

    @property
    def is_system(self) -> bool:
        """Whether the server, or something in its name, wrote it: the type begins with `$`."""
        return self.type.startswith("$")

    @property
    def created(self) -> datetime:
        """When the server wrote it, in UTC; 1970 where it does not say. Raises `ProtocolError` past the year 9999."""
        record = self._record
        try:
            if record.created:
                return _YEAR_1 + timedelta(microseconds=(record.created & _TICKS_MASK) // 10)
            return _YEAR_1970 + timedelta(milliseconds=record.created_epoch)
        except OverflowError:
            msg = f"the time of event {self.number} of stream {self.stream!r} is in no calendar: {record.created}"
            raise ProtocolError(msg) from None

    def json(self) -> Any:
        """Its data, read as JSON. Raises `ValueError` where it is none, whatever `is_json` says."""
        try:
            return json.loads(self.data)
        except RecursionError:
            msg = f"the data of event {self.number} of stream {self.stream!r} is nested too deeply"
            raise ValueError(msg) from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordedEvent):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, int, bytes]:
        record = self._record
        return record.event_stream_id, self.number, record.event_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.stream}/{self.number} {self.type}>"


class Event(RecordedEvent):
    """An event as it was read: the one a link stands for where links are resolved and it is still there.

    Where the target of a link is gone, the link itself is shown, and `resolved` is False: servers leave out the event
    that their own definition requires.
    """

    __slots__ = ("_resolved",)

    def __init__(self, resolved: Resolved) -> None:
        record = resolved.event
        kind = record.event_type
        # Each stored event has a type, so no type is no event, found out for nothing; HasField is dear.
        if not kind:
            record = resolved.link
            kind = record.event_type
        self._resolved = resolved
        self._record = record
        self.type = kind
        self.number = record.event_number
        self.data = record.data

    @property
    def resolved(self) -> bool:
        """False where this is a link whose target is gone."""
        return bool(self._resolved.event.event_type)

    @property
    def link(self) -> RecordedEvent | None:
        """The link through which this event was read, None where it was read itself."""
        return RecordedEvent(self._resolved.link) if self._resolved.HasField("link") else None

    @property
    def position(self) -> Position | None:
        """Where in the log it is (the link, where there is one); None where a stream was read: servers do not say."""
        return None

    @property
    def checkpoint(self) -> int:
        """What to keep to go on after this event: its number (the link's, where there is one)."""
        link = self.link
        return self.number if link is None else link.number


class PushedEvent(Event):
    """An event of a stream that came through a subscription: its position is known."""

    __slots__ = ()
    _resolved: Positioned

    @property
    def position(self) -> Position:
        """Where in the log it is (the link, where there is one)."""
        return Position(self._resolved.commit_position, self._resolved.prepare_position)


class PersistentEvent(Event):
    """An event that came through a group, to be acked or naked at the subscription that handed it out.

    Nobody says where in the log it is: `position` is None.
    """

    __slots__ = ("_link", "ack_id_bytes", "checkpoint", "lease", "retry_count")

    #: Its number in the stream of the group (the link's, where it came through one).
    checkpoint: int
    #: How often the group has delivered it before. None where the server does not tell: before 4.1 never, and from 22.6
    #: not at the first delivery.
    retry_count: int | None
    #: What an ack names, as it is on the wire.
    ack_id_bytes: bytes
    #: The connection to the group through which it came: as long as that is there, something can be said of the event.
    lease: Any

    def __init__(  # noqa: PLR0917 - it is made from columns
        self, lease: Any, ack_id: bytes, number: int, record: Record, link: Record | None, retry_count: int | None
    ) -> None:
        self.lease = lease
        self.ack_id_bytes = ack_id
        # A property elsewhere, and read only here too for who keeps to what is promised.
        self.checkpoint = number  # pyright: ignore[reportIncompatibleMethodOverride]
        self._link = link
        self.retry_count = retry_count
        kind = record.event_type
        if link is not None:
            if not kind:
                record = link
                kind = record.event_type
            number = record.event_number
        self._record = record
        self.type = kind
        self.number = number
        self.data = record.data

    @property
    def resolved(self) -> bool:
        """False where this is a link whose target is gone."""
        return self._record is not self._link

    @property
    def link(self) -> RecordedEvent | None:
        """The link through which this event came, None where it came by itself."""
        return None if self._link is None else RecordedEvent(self._link)

    @property
    def ack_id(self) -> UUID:
        """What an ack names: the id of the link through which it came, or else its own (docs/protocol.md, 3.10)."""
        return UUID(bytes_le=self.ack_id_bytes)


class LogEvent(PushedEvent):
    """An event of the log of all streams: its place is its position."""

    __slots__ = ()

    # Where a number does for events of a stream it does not here. Whoever keeps checkpoints of both knows which.
    @property
    def checkpoint(self) -> Position:  # type: ignore[override]
        """What to keep to go on after this event: its position."""
        return self.position


E = TypeVar("E", bound=Event)


class Events(Sequence[E]):
    """A read-only sequence of events that came together, each made when it is looked at.

    Making all of a page first would fill the processor's cache with what the loop has not come to yet: it took twice as
    long. Equal to any sequence of the same events.
    """

    __slots__ = ("_columns", "_event_class")

    def __init__(self, event_class: Callable[..., E], *columns: Sequence[Any]) -> None:
        self._event_class = event_class
        #: What the events are made of: an element of each column for each of them.
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[E]:
        return map(self._event_class, *self._columns)

    @overload
    def __getitem__(self, index: int) -> E: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> E | Self:
        if isinstance(index, slice):
            return self._of([column[index] for column in self._columns])
        return self._event_class(*[column[index] for column in self._columns])

    def _of(self, columns: Sequence[Sequence[Any]]) -> Self:
        return type(self)(self._event_class, *columns)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Events: {len(self)}>"
