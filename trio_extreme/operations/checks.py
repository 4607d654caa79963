"""What is refused before it is sent. Each error names the argument, the value and the limit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeGuard, TypeVar

from trio_extreme.errors import InvalidArgument
from trio_extreme.events import NewEvent
from trio_extreme.filters import Filter
from trio_extreme.groups import MAX_INT32, NakAction, PersistentSettings
from trio_extreme.metadata import is_metastream, stream_of
from trio_extreme.values import (
    ALL,
    MAX_NARROW_NUMBER,
    MAX_NUMBER,
    MAX_READ,
    ExpectedVersion,
    Place,
    Position,
    utf8_size,
)

MAX_MESSAGE = 64 * 1024
"""Bytes of a reason why an event was not handled."""

D = TypeVar("D")

_NAMED_VERSIONS = frozenset(map(int, ExpectedVersion))
_VERSIONS_OF_ANY_STREAM = _NAMED_VERSIONS - {ExpectedVersion.STREAM_EXISTS}


def check_stream(stream: str) -> str:
    """A stream's name; `$all` is none on the wire."""
    if not isinstance(stream, str) or not stream:
        msg = f"stream: {stream!r} is no name of a stream; give a non-empty string"
        raise InvalidArgument(msg)
    if stream == ALL:
        verbs = "read_all(), subscribe_all() and subscribe_all_live()"
        msg = f"stream: {ALL!r} is the log of all streams: {verbs} are for it"
        raise InvalidArgument(msg)
    if not stream.isascii():
        utf8_size("stream", stream)
    return stream


def check_stream_of_group(stream: str) -> str:
    """A stream that can have groups."""
    if stream == ALL:
        msg = f"stream: {ALL!r} has groups only where servers speak gRPC; over TCP give the name of a stream"
        raise InvalidArgument(msg)
    return check_stream(stream)


def check_group(group: str) -> str:
    """A group's name."""
    if not isinstance(group, str) or not group:
        msg = f"group: {group!r} is no name of a group; give a non-empty string"
        raise InvalidArgument(msg)
    utf8_size("group", group)
    return group


def check_group_settings(settings: PersistentSettings) -> PersistentSettings:
    """How a group is to be run."""
    if not isinstance(settings, PersistentSettings):
        msg = f"settings: a PersistentSettings is wanted, not {type(settings).__name__}"
        raise InvalidArgument(msg)
    return settings


def check_in_flight(in_flight: int) -> int:
    """How many events a consumer may have at a time."""
    if not _is_integer(in_flight) or not 1 <= in_flight <= MAX_INT32:
        msg = (
            f"in_flight: {in_flight!r} is out of range; with less than 1 no event ever comes, {MAX_INT32:,} is the most"
        )
        raise InvalidArgument(msg)
    return in_flight


def check_on_error(on_error: NakAction | None) -> NakAction | None:
    """What is to become of the events that a consumer had when it failed."""
    if on_error is not None:
        _check_action("on_error", on_error, " or None")
    return on_error


def check_nak(action: NakAction, message: str) -> tuple[NakAction, str]:
    """What is to become of an event that was not handled, and why."""
    _check_action("action", action)
    if not isinstance(message, str):
        msg = f"message: a string is wanted, not {type(message).__name__}"
        raise InvalidArgument(msg)
    if (size := utf8_size("message", message)) > MAX_MESSAGE:
        msg = f"message: {size:,} bytes of UTF-8; the limit is {MAX_MESSAGE:,}, for it is kept with each parked event"
        raise InvalidArgument(msg)
    return action, message


def check_owner(stream: str) -> str:
    """The name of what has metadata: a stream, or `$all`, whose rights are those on the log."""
    if stream == ALL:
        return stream
    check_stream(stream)
    if is_metastream(stream):
        msg = f"stream: {stream!r} holds the metadata of {stream_of(stream)!r}, and has none itself; give that name"
        raise InvalidArgument(msg)
    return stream


def check_document(argument: str, document: D, kind: type[D]) -> D:
    """Metadata, or default rights, to write."""
    if not isinstance(document, kind):
        msg = f"{argument}: {document!r} is no {kind.__name__}"
        raise InvalidArgument(msg)
    return document


def _check_action(name: str, action: object, otherwise: str = "") -> None:
    if not isinstance(action, NakAction):
        names = ", ".join(f"NakAction.{action.name}" for action in NakAction)
        msg = f"{name}: {action!r} is none; give {names}{otherwise}"
        raise InvalidArgument(msg)


def check_expected(expected: int, *, exists: bool = True) -> int:
    """An expected version; `exists`: STREAM_EXISTS is allowed."""
    named = _NAMED_VERSIONS if exists else _VERSIONS_OF_ANY_STREAM
    if not _is_integer(expected) or not (0 <= expected < MAX_NUMBER or expected in named):
        names = "ANY, NO_STREAM, STREAM_EXISTS" if exists else "ANY, NO_STREAM"
        msg = f"expected: {expected!r} is no expected version; give the number of the stream's last event, or {names}"
        raise InvalidArgument(msg)
    return int(expected)


def check_narrow(argument: str, value: object) -> None:
    """A number of an event, where the connection's numbers have 32 bits. The last of them is the tombstone's."""
    if _is_integer(value) and value >= MAX_NARROW_NUMBER:
        msg = (
            f"{argument}: {value!r} is beyond {MAX_NARROW_NUMBER - 1:,}, the last event number of 32 bits; "
            "connect with protocol_version=4 for larger ones"
        )
        raise InvalidArgument(msg)


def check_events(events: NewEvent | Iterable[NewEvent]) -> list[NewEvent]:
    """What is to be written: one event, or any number of them."""
    if isinstance(events, NewEvent):
        return [events]
    batch: list[NewEvent] = list(events) if isinstance(events, Iterable) else [events]
    for event in batch:
        if not isinstance(event, NewEvent):
            msg = f"events: {type(event).__name__} is no event to append; give NewEvent objects"
            raise InvalidArgument(msg)
    return batch


def check_transaction(id: int) -> int:
    """The id of a transaction, which is a place in the log."""
    if not _is_integer(id) or not 0 <= id <= MAX_NUMBER:
        msg = f"id: {id!r} is no transaction's; give the `id` of one that was begun"
        raise InvalidArgument(msg)
    return id


def check_number(number: int) -> int:
    """The number of an event."""
    if not _is_integer(number) or not 0 <= number < MAX_NUMBER:
        msg = f"number: {number!r} is no event number; they count from 0, and END is the last event"
        raise InvalidArgument(msg)
    return number


def check_place_in_stream(start: int | Place) -> int | Place:
    """Where to begin in a stream."""
    if isinstance(start, Place):
        return start
    if not _is_integer(start) or not 0 <= start < MAX_NUMBER:
        msg = f"start: {start!r} is no place in a stream; give an event number from 0 up, START or END"
        raise InvalidArgument(msg)
    return start


def check_place_in_log(start: Position | Place) -> Position | Place:
    """Where to begin in the log."""
    if isinstance(start, Place):
        return start
    if not isinstance(start, Position) or not _is_in_log(start):
        msg = f"start: {start!r} is no place in the log; give the Position of an event, START or END"
        raise InvalidArgument(msg)
    return start


def check_after_in_stream(after: int) -> int:
    """What was handled last of a stream."""
    if not _is_integer(after) or not 0 <= after < MAX_NUMBER - 1:
        msg = f"after: {after!r} is no event number; give an event's checkpoint, or None where nothing was handled yet"
        raise InvalidArgument(msg)
    return after


def check_after_in_log(after: Position) -> Position:
    """What was handled last of the log."""
    if not isinstance(after, Position) or not _is_in_log(after):
        msg = f"after: {after!r} is no place in the log; give an event's checkpoint, or None for nothing handled yet"
        raise InvalidArgument(msg)
    return after


def check_one_place(start: int | Position | Place, after: int | Position | None) -> None:
    """A place that is included and one that is not say different things."""
    if after is not None and start is not Place.START:
        msg = f"after: {after!r} is given, and start={start!r} too; give one: `after` is left out, `start` is not"
        raise InvalidArgument(msg)


def check_on_ahead(on_ahead: Literal["wait", "raise"]) -> Literal["wait", "raise"]:
    """What to do about a place beyond the server's end."""
    if on_ahead not in ("wait", "raise"):
        msg = f"on_ahead: {on_ahead!r} is neither 'wait' nor 'raise'"
        raise InvalidArgument(msg)
    return on_ahead


def check_filter(filter: Filter) -> Filter:
    """What of the log is wanted."""
    if not isinstance(filter, Filter):
        msg = f"filter: {filter!r} is no Filter; give one such as Filter.by_stream('order-')"
        raise InvalidArgument(msg)
    return filter


def check_count(count: int | None) -> int | None:
    """How many events in all."""
    if count is not None and (not _is_integer(count) or count < 1):
        msg = f"count: {count!r} is no number of events; give 1 or more, or None for all"
        raise InvalidArgument(msg)
    return count


def check_page_size(page_size: int) -> int:
    """How many events at a time."""
    if not _is_integer(page_size) or not 1 <= page_size <= MAX_READ:
        msg = f"page_size: {page_size!r} is out of range; servers give from 1 to {MAX_READ} events at a time"
        raise InvalidArgument(msg)
    return page_size


def _is_in_log(place: Position) -> bool:
    return min(place.commit, place.prepare) >= 0 and max(place.commit, place.prepare) <= MAX_NUMBER


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
