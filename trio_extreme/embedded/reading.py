"""Pages of a stream, single events, and where links lead (docs/protocol.md, 3.4 and 3.5). Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.embedded.metadata import META
from trio_extreme.embedded.records import LINK_TYPE, WIDE_TOMBSTONE, Record, Resolved
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.embedded.metadata import Metadata
    from trio_extreme.embedded.store import Store

EventResult = schema.ReadEventCompleted.ReadEventResult
StreamResult = schema.ReadStreamEventsCompleted.ReadStreamResult


# Names may hold an @ themselves, so only the first one separates (docs/protocol.md, 6, 51).
_LINK = re.compile(rb"(-1|[0-9]{1,19})@(.*)", re.DOTALL)


class StreamPage(NamedTuple):
    """A page of a stream, and what the reply says beside its events."""

    result: schema.ReadStreamEventsCompleted.ReadStreamResult
    records: Sequence[Record] = ()
    next: int = -1
    last: int = -1
    is_end: bool = True


def read_event(store: Store, stream: str, number: int) -> Record | schema.ReadEventCompleted.ReadEventResult:
    """One event by its number, -1 for the last; why there is none otherwise."""
    last = store.last_number(stream)
    metadata = store.metadata(stream)
    if last == WIDE_TOMBSTONE:
        return EventResult.StreamDeleted
    if last < 0 or store.is_soft_deleted(stream):
        return EventResult.NoStream
    if number == -1:
        number = last
    if not first_visible(metadata, last) <= number <= last:
        return EventResult.NotFound
    record = store.storage.event(stream, number)
    return record if record is not None and alive(store, metadata, [record]) else EventResult.NotFound


def means_no_metadata(store: Store, stream: str) -> bool:
    """Whether an event that is not there is answered with Success and no event: "no metadata set".

    Meant for `$$x` where x exists; some servers cut the first two characters of any name that begins with `$`.
    """
    prefix = "$" if store.version.takes_any_for_metastream else META
    return stream.startswith(prefix) and store.last_number(stream[2:]) not in (-1, WIDE_TOMBSTONE)


def read_forward(store: Store, stream: str, start: int, count: int) -> StreamPage:
    """A page of ascending numbers from `start` on. Fewer events than `count` do not mean the end: `is_end` does."""
    last = store.last_number(stream)
    absent = _absent(store, stream, last)
    if absent is not None:
        return absent
    metadata = store.metadata(stream)
    stop = start + count - 1
    least = first_visible(metadata, last)
    if stop < least:
        # A page that is truncated as a whole says where to go on, not that this is the end.
        return StreamPage(StreamResult.Success, (), least, last, is_end=False)
    found = alive(store, metadata, store.storage.events(stream, max(start, least), stop))
    following = found[-1].number + 1 if found else min(stop, last) + 1
    if not found and metadata.max_age is not None and store.version.skips_expired:
        following = _first_alive(store, stream, following, last)
        return StreamPage(StreamResult.Success, (), following, last, is_end=following > last)
    return StreamPage(StreamResult.Success, found, following, last, is_end=stop >= last)


def read_backward(store: Store, stream: str, start: int, count: int) -> StreamPage:
    """A page of descending numbers from `start` on, -1 for the last."""
    last = store.last_number(stream)
    absent = _absent(store, stream, last)
    if absent is not None:
        return absent
    metadata = store.metadata(stream)
    stop = last if start < 0 else start
    least = first_visible(metadata, last)
    if stop < least:
        return StreamPage(StreamResult.Success, (), -1, last)
    begin = max(stop - count + 1, least)
    found = alive(store, metadata, store.storage.events(stream, begin, stop))[::-1]
    # Beside the lower bound, a gap at the page's far side is taken for the end: all below it has expired.
    is_gap = begin <= last and (not found or found[-1].number != begin)
    is_end = begin == least or is_gap
    return StreamPage(StreamResult.Success, found, -1 if is_end else min(begin - 1, last), last, is_end)


def resolve(store: Store, record: Record) -> Resolved:
    """Where a link leads. The link alone where its target is gone, or where its data is no `number@stream`."""
    target = link_target(record)
    if target is None:
        return Resolved(record, is_followed=record.type == LINK_TYPE)
    stream, number = target
    found = read_event(store, stream, number)
    return Resolved(record, is_followed=True, target=found if isinstance(found, Record) else None)


def link_target(record: Record) -> tuple[str, int] | None:
    """The stream and number that a link names; None where the record is no link, or names nothing."""
    if record.type != LINK_TYPE:
        return None
    match = _LINK.fullmatch(record.event.data)
    try:
        return None if match is None else (match[2].decode(), int(match[1]))
    except UnicodeDecodeError:
        return None


def _absent(store: Store, stream: str, last: int) -> StreamPage | None:
    if last == WIDE_TOMBSTONE:
        return StreamPage(StreamResult.StreamDeleted, last=last)
    if last < 0 or store.is_soft_deleted(stream):
        return StreamPage(StreamResult.NoStream, last=last)
    return None


def first_visible(metadata: Metadata, last: int) -> int:
    """The lowest number that `$tb` and `$maxCount` leave visible."""
    least = metadata.truncate_before or 0
    if metadata.max_count is not None:
        least = max(least, last - metadata.max_count + 1)
    return least


def _first_alive(store: Store, stream: str, first: int, last: int) -> int:
    """The lowest number from `first` to `last` that `$maxAge` leaves, or the one behind `last`.

    Events are older the lower their number is, so servers look for it by halves.
    """
    metadata = store.metadata(stream)

    def is_alive(number: int) -> bool:
        return bool(alive(store, metadata, store.storage.events(stream, number, number)))

    return first + bisect_left(range(first, last + 1), x=True, key=is_alive)


def alive(store: Store, metadata: Metadata, records: Sequence[Record]) -> Sequence[Record]:
    """Those that `$maxAge` leaves."""
    if metadata.max_age is None:
        return records
    oldest = store.now() - metadata.max_age * 1_000_000
    return [record for record in records if record.written >= oldest]
