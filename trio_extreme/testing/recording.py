"""Events as handlers get them, made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, overload

from trio_extreme.errors import InvalidArgument
from trio_extreme.events import LINK_TYPE, Event, LogEvent, NewEvent, PersistentEvent
from trio_extreme.operations import checks
from trio_extreme.window import Lease
from trio_extreme.wire.schema import EventRecord, ResolvedEvent, ResolvedIndexedEvent

if TYPE_CHECKING:
    from uuid import UUID

    from trio_extreme.values import Position

_YEAR_1 = datetime(1, 1, 1, tzinfo=UTC)
_YEAR_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND, _MILLISECOND = timedelta(microseconds=1), timedelta(milliseconds=1)
_TICKS_A_MICROSECOND = 10
_SAYS_UTC = 1 << 62


@overload
def recorded(
    type: str,
    data: object = b"",
    *,
    number: int = 0,
    stream: str = "test-1",
    metadata: object = b"",
    id: UUID | None = None,
    created: datetime | None = None,
    link: tuple[str, int] | None = None,
) -> Event: ...
@overload
def recorded(
    type: str,
    data: object = b"",
    *,
    number: int = 0,
    stream: str = "test-1",
    metadata: object = b"",
    id: UUID | None = None,
    created: datetime | None = None,
    link: tuple[str, int] | None = None,
    position: Position,
) -> LogEvent: ...
@overload
def recorded(
    type: str,
    data: object = b"",
    *,
    number: int = 0,
    stream: str = "test-1",
    metadata: object = b"",
    id: UUID | None = None,
    created: datetime | None = None,
    link: tuple[str, int] | None = None,
    retry_count: int,
) -> PersistentEvent: ...
def recorded(
    type: str,
    data: object = b"",
    *,
    number: int = 0,
    stream: str = "test-1",
    metadata: object = b"",
    id: UUID | None = None,
    created: datetime | None = None,
    link: tuple[str, int] | None = None,
    position: Position | None = None,
    retry_count: int | None = None,
) -> Event:
    """An event as a handler gets it, for a unit test of the handler: `recorded("PersonCreated", {"name": "Pera"})`.

    It is what a read would give, made from the message that a server would send. `data` and `metadata` are bytes, or
    what JSON can say. `link` is the stream and number of the link through which it came: `("$ce-person", 41)`. With
    `position` it is the `LogEvent` that reading or following the log gives; with `retry_count` the `PersistentEvent` of
    a group, which belongs to no subscription that it could be acked at. Raises `InvalidArgument` for what no server
    would send.
    """
    if position is not None and retry_count is not None:
        msg = "position: events of a group have none; give position or retry_count"
        raise InvalidArgument(msg)
    event = _record(_as_new(type, data, metadata, id), stream, number, created)
    through = None if link is None else _record(NewEvent(LINK_TYPE, f"{number}@{stream}".encode()), *link, created)
    if position is not None:
        place = {"commit_position": position.commit, "prepare_position": position.prepare}
        return LogEvent(ResolvedEvent(event=event, link=through, **place))
    if retry_count is not None:
        lease, named = Lease(object(), b"", "", b"", 0), event if through is None else through
        return PersistentEvent(lease, named.event_id, named.event_number, event, through, retry_count)
    return Event(ResolvedIndexedEvent(event=event, link=through))


def _as_new(type: str, data: object, metadata: object, id: UUID | None) -> NewEvent:
    """The event as it would have been appended, which refuses what cannot be."""
    is_json = not isinstance(data, bytes)
    body = data if isinstance(data, bytes) else NewEvent.json(type, data).data
    extra = metadata if isinstance(metadata, bytes) else NewEvent.json(type, None, metadata).metadata
    return NewEvent(type, body, extra, id=id, is_json=is_json)


def _record(event: NewEvent, stream: str, number: int, created: datetime | None) -> EventRecord:
    since = _when(created) - _YEAR_1
    return EventRecord(
        event_stream_id=checks.check_stream(stream),
        event_number=checks.check_number(number),
        event_id=event.id_bytes,
        event_type=event.type,
        data_content_type=int(event.is_json),
        metadata_content_type=0,
        data=event.data,
        metadata=event.metadata,
        created=since // _MICROSECOND * _TICKS_A_MICROSECOND | _SAYS_UTC,
        created_epoch=(_YEAR_1 + since - _YEAR_1970) // _MILLISECOND,
    )


def _when(created: datetime | None) -> datetime:
    if created is None:
        return datetime.now(UTC)
    if created.tzinfo is None:
        msg = f"created: {created} has no time zone; give one, such as datetime(…, tzinfo=UTC)"
        raise InvalidArgument(msg)
    return created
