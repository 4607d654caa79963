"""Stream metadata and default rights: read and written as the events that hold them (docs/protocol.md, 3.12)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, TypeVar

from trio_extreme.errors import InvalidArgument, StreamDeleted
from trio_extreme.events import JSON_CONTENT, MAX_EVENT_SIZE, NewEvent
from trio_extreme.metadata import METADATA_TYPE, SETTINGS, DefaultAcl, StreamMetadata, metastream
from trio_extreme.operations.base import Operation, Resend, right_denied, server_error, unknown_result
from trio_extreme.operations.reading import LAST
from trio_extreme.operations.writing import Append
from trio_extreme.values import NO_STREAM
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, parse

if TYPE_CHECKING:
    from trio_extreme.events import Record
    from trio_extreme.values import WriteResult

D = TypeVar("D")

_Result = schema.ReadEventCompleted.ReadEventResult
_NOTHING = (_Result.NotFound, _Result.NoStream)


class _ReadDocument(Operation[D]):
    """The last event of a stream, read as what it says; where there is none, as what nothing says."""

    command = Command.READ_EVENT
    answer = Command.READ_EVENT_COMPLETED

    def __init__(self, stream: str, holder: str, *, require_master: bool) -> None:
        self._stream = stream
        self._holder = holder
        self._require_master = require_master

    @abstractmethod
    def nothing(self) -> D:
        """What nothing says."""

    @abstractmethod
    def document(self, record: Record) -> D:
        """What an event says."""

    def payload(self) -> bytes:
        """A ReadEvent."""
        return schema.ReadEvent(
            event_stream_id=self._holder,
            event_number=LAST,
            resolve_link_tos=False,
            require_master=self._require_master,
        ).SerializeToString()

    def read(self, payload: bytes) -> D:
        """What the event says. A success without an event is how servers say that there is none."""
        done = parse(schema.ReadEventCompleted, payload)
        if done.result in _NOTHING or (done.result == _Result.Success and not done.event.event.event_type):
            return self.nothing()
        if done.result == _Result.Success:
            return self.document(done.event.event)
        if done.result == _Result.StreamDeleted:
            raise StreamDeleted(self._stream)
        if done.result == _Result.AccessDenied:
            raise right_denied(self._holder, "$r")
        if done.result == _Result.Error:
            raise server_error(done.error)
        raise unknown_result("a read was answered", done.result)


class ReadMetadata(_ReadDocument[StreamMetadata]):
    """The metadata of a stream."""

    def __init__(self, stream: str, *, require_master: bool) -> None:
        super().__init__(stream, metastream(stream), require_master=require_master)

    def nothing(self) -> StreamMetadata:
        """A stream without metadata."""
        return StreamMetadata()

    def document(self, record: Record) -> StreamMetadata:
        """What is stored."""
        is_json = record.data_content_type == JSON_CONTENT
        return StreamMetadata.parse(record.data, is_json=is_json, version=record.event_number)


class ReadDefaultAcl(_ReadDocument[DefaultAcl]):
    """The default rights."""

    def __init__(self, *, require_master: bool) -> None:
        super().__init__(SETTINGS, SETTINGS, require_master=require_master)

    def nothing(self) -> DefaultAcl:
        """Default rights that nobody ever set."""
        return DefaultAcl()

    def document(self, record: Record) -> DefaultAcl:
        """What is stored."""
        return DefaultAcl.parse(record.data, version=record.event_number)


class SetMetadata(Append):
    """Write the metadata of a stream."""

    def __init__(self, stream: str, metadata: StreamMetadata, expected: int, *, require_master: bool) -> None:
        super().__init__(metastream(stream), [_event(METADATA_TYPE, metadata)], expected, require_master=require_master)
        self._owner = stream
        # A metastream cannot be soft-deleted, so that NO_STREAM protects as a number does. Nor is there any use in
        # looking for what was written without: but for its last event nothing of a metastream is seen.
        self.resend = Resend.SAME_IDS if expected >= NO_STREAM else Resend.NEVER

    def read(self, payload: bytes) -> WriteResult:
        """Where the metadata is."""
        try:
            return super().read(payload)
        except StreamDeleted:
            raise StreamDeleted(self._owner) from None


class SetDefaultAcl(Append):
    """Write the default rights."""

    def __init__(self, acl: DefaultAcl, expected: int, *, require_master: bool) -> None:
        super().__init__(SETTINGS, [_event(SETTINGS, acl)], expected, require_master=require_master)


def _event(type: str, document: StreamMetadata | DefaultAcl) -> NewEvent:
    data = document.to_json()
    if len(data) + 2 * len(type) > MAX_EVENT_SIZE:
        msg = f"custom: {len(data):,} bytes of JSON in all; the servers' limit is about {MAX_EVENT_SIZE:,}"
        raise InvalidArgument(msg)
    return NewEvent(type, data, is_json=True)
