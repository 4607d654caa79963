"""Streams, and what appending and deleting does to them (docs/protocol.md, 3.1 and 3.3). Pure.

Rule 1: everything that changes the log is in this file.
Rule 2: nothing here knows who asks; `acl` decides that before.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from trio_extreme.embedded.log import Log
from trio_extreme.embedded.metadata import (
    META,
    METASTREAM,
    NO_ACL,
    NO_METADATA,
    Acl,
    Metadata,
    dump,
    parse_metadata,
    parse_settings,
    split_metastream,
    with_truncate_before,
)
from trio_extreme.embedded.records import (
    DELETED_TYPE,
    JSON,
    METADATA_TYPE,
    WIDE_TOMBSTONE,
    Record,
    make_event,
    record_size,
)
from trio_extreme.values import ANY, NO_STREAM, STREAM_EXISTS
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_extreme.embedded.versions import ServerVersion

SETTINGS_STREAM = "$settings"


@dataclass(frozen=True, slots=True)
class Written:
    """An append that is in the log, or was there already: then `position` is -1 and `records` is empty.

    `records` is all that became visible, in the order of the log: a recreated stream's metadata comes after its events.
    """

    first: int
    last: int
    position: int
    records: Sequence[Record] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """An append or delete that the state of the stream forbids. `current` is its last number, where the reply says."""

    result: schema.OperationResult
    current: int = -1


@dataclass(frozen=True, slots=True)
class _Fresh:
    """The events may be written: after `current`, and `recreates` tells that a soft-deleted stream comes back."""

    current: int
    recreates: bool = False


_Decision: TypeAlias = _Fresh | Written | Refused


class _Stream:
    """One stream that was ever written. Event n is `records[n]`: numbers begin at 0 and have no gaps."""

    __slots__ = ("metadata", "records", "settings", "tombstone")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.tombstone: Record | None = None
        #: What the last event says, where this is a metastream or `$settings`; None until somebody asks.
        self.metadata: Metadata | None = None
        self.settings: tuple[Acl, Acl] | None = None


class Recent:
    """The ids of recent events, and where they are: how an append that names no number is found to be a repetition.

    Servers keep about 8 MiB of them, so that such a repetition is found for a while only; so does this.
    """

    LIMIT = 8 * 1024 * 1024

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        # A plain dict looks for its first entry among all that were deleted before it.
        self._places: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Recent: {len(self._places)} ids>"

    def add(self, id: bytes, stream: str, number: int) -> None:
        """Remember an event, and forget the oldest ones beyond the limit."""
        before = self._places.pop(id, None)
        if before is not None:
            self._size -= self._cost(before[0])
        self._places[id] = stream, number
        self._size += self._cost(stream)
        while self._size > self._limit:
            _, (oldest, _) = self._places.popitem(last=False)
            self._size -= self._cost(oldest)

    def find(self, id: bytes, stream: str) -> int | None:
        """The number of this event in this stream; None where it is not remembered."""
        where, number = self._places.get(id, ("", 0))
        return number if where == stream else None

    @staticmethod
    def _cost(stream: str) -> int:
        return 28 + 2 * len(stream)


class Store:
    """Everything one node holds.

    `now` gives seconds since 1970 and is what events are dated with and `$maxAge` is counted from; `random` makes the
    ids of the few events that the server itself writes.
    """

    def __init__(
        self, version: ServerVersion, *, now: Callable[[], float] = time.time, random: Random | None = None
    ) -> None:
        self.version = version
        self.log = Log()
        self._now = now
        self._random = random or Random()  # noqa: S311 - ids, not secrets
        self._streams: dict[str, _Stream] = {}
        self._recent = Recent()

    def __repr__(self) -> str:
        return f"<Store {self.version.name}: {len(self._streams)} streams, {self.log.end} bytes>"

    def now(self) -> int:
        """Microseconds since 1970."""
        return round(self._now() * 1_000_000)

    # What is there

    def records(self, stream: str) -> Sequence[Record]:
        """All events of a stream; event n has index n."""
        found = self._streams.get(stream)
        return () if found is None else found.records

    def last_number(self, stream: str) -> int:
        """The number of the last event, -1 where there never was one, WIDE_TOMBSTONE where it was hard-deleted."""
        # A metastream goes with its stream.
        if self._is_hard_deleted(stream) or self._is_hard_deleted(split_metastream(stream)[1]):
            return WIDE_TOMBSTONE
        return len(self.records(stream)) - 1

    def metadata(self, stream: str) -> Metadata:
        """What the server obeys of the stream's metadata."""
        if stream.startswith(META):
            return METASTREAM
        metastream = self._streams.get(META + stream)
        if metastream is None or not metastream.records:
            return NO_METADATA
        if metastream.metadata is None:
            event = metastream.records[-1].event
            metastream.metadata = parse_metadata(event.data) if event.data_content_type == JSON else NO_METADATA
        return metastream.metadata

    def settings(self) -> tuple[Acl, Acl]:
        """The default rights on user streams and on system streams, where `$settings` gives any."""
        stream = self._streams.get(SETTINGS_STREAM)
        if stream is None or not stream.records:
            return NO_ACL, NO_ACL
        if stream.settings is None:
            stream.settings = parse_settings(stream.records[-1].event.data)
        return stream.settings

    def is_soft_deleted(self, stream: str) -> bool:
        """Whether `$tb` hides the whole stream, events to come included."""
        return self.metadata(stream).truncate_before == self.version.tombstone

    def _is_hard_deleted(self, stream: str) -> bool:
        found = self._streams.get(stream)
        return found is not None and found.tombstone is not None

    # What changes it

    def append(self, stream: str, expected: int, events: Sequence[schema.NewEvent]) -> Written | Refused:
        """Write all events, or none; events that were written before, as the expected version tells, only once."""
        decision = self._decide(stream, expected, [event.event_id for event in events])
        if not isinstance(decision, _Fresh):
            return decision
        first = decision.current + 1
        owner = stream.removeprefix(META)
        recreates_owner = owner != stream and self.is_soft_deleted(owner)
        records = [self._write(stream, first + index, event) for index, event in enumerate(events)]
        position = records[-1].position if records else self.log.skip(record_size(stream, "", 0, self._number_size))
        if decision.recreates:
            records += self._recreate(stream, first)
        if recreates_owner:
            # New metadata brings a soft-deleted stream back, empty: its events stay hidden.
            records += self._recreate(owner, self.last_number(owner) + 1)
        return Written(first, first + len(events) - 1, position, records)

    def delete(self, stream: str, expected: int, *, hard: bool) -> Written | Refused:
        """Hide the stream, for ever with `hard`: a metadata event, or a tombstone. The stream need not exist."""
        decision = self._decide(stream, expected, [self._new_id()])
        if not isinstance(decision, _Fresh):
            return decision
        if hard:
            new = schema.NewEvent(event_id=self._new_id(), event_type=DELETED_TYPE)
            record = self._write(stream, WIDE_TOMBSTONE, new)
        else:
            # This replaces all other metadata: rights and limits are gone too.
            record = self._write_metadata(stream, dump({"$tb": self.version.tombstone}))
        return Written(record.number, record.number, record.position, [record])

    def forget_recent(self) -> None:
        """Forget which ids were written of late, as a server does that starts again."""
        self._recent = Recent()

    def _decide(self, stream: str, expected: int, ids: Sequence[bytes]) -> _Decision:
        """What to do with an append (docs/protocol.md, 3.1): write it, call it written already, or refuse it."""
        current = self.last_number(stream)
        if current == WIDE_TOMBSTONE or (expected == STREAM_EXISTS and self.is_soft_deleted(stream)):
            return Refused(schema.OperationResult.StreamDeleted)
        if expected == STREAM_EXISTS and current < 0 and self.last_number(META + stream) < 0:
            return self._wrong(current)
        if expected in (ANY, STREAM_EXISTS):
            return self._decide_any(stream, current, ids)
        if expected < current:
            return self._decide_earlier(stream, current, expected, ids)
        if expected > current:
            return self._wrong(current)
        return _Fresh(current, self.version.number_recreates and self.is_soft_deleted(stream))

    def _decide_any(self, stream: str, current: int, ids: Sequence[bytes]) -> _Decision:
        numbers = [number for event_id in ids if (number := self._recent.find(event_id, stream)) is not None]
        if not ids or self._recent.find(ids[0], stream) is None:
            return _Fresh(current, self.is_soft_deleted(stream))
        if len(numbers) < len(ids):
            return self._wrong(current)
        return Written(numbers[0], numbers[-1], -1)

    def _decide_earlier(self, stream: str, current: int, expected: int, ids: Sequence[bytes]) -> _Decision:
        """A version the stream has left behind: right only where exactly these events followed it."""
        following = self.records(stream)[expected + 1 : expected + 1 + len(ids)]
        if ids and [record.id for record in following] == list(ids):
            return Written(expected + 1, expected + len(ids), -1)
        is_new = bool(ids) and following[0].id != ids[0]
        if is_new and expected == NO_STREAM and self.is_soft_deleted(stream):
            return _Fresh(current, recreates=True)
        return self._wrong(current)

    @staticmethod
    def _wrong(current: int) -> Refused:
        return Refused(schema.OperationResult.WrongExpectedVersion, current)

    @property
    def _number_size(self) -> int:
        return self.version.number_size

    def _write(self, stream: str, number: int, new: schema.NewEvent) -> Record:
        event = make_event(stream, number, new, self.now())
        size = record_size(stream, new.event_type, len(new.data) + len(new.metadata), self._number_size)
        record = Record(self.log.end, size, event)
        self.log.add(record)
        self._file(record)
        self._recent.add(record.id, stream, number)
        return record

    def _file(self, record: Record) -> None:
        stream = self._streams.get(record.stream)
        if stream is None:
            stream = self._streams[record.stream] = _Stream()
        if record.number == WIDE_TOMBSTONE:
            stream.tombstone = record
        else:
            stream.records.append(record)
        stream.metadata = stream.settings = None

    def _write_metadata(self, stream: str, data: bytes) -> Record:
        metastream = META + stream
        new = schema.NewEvent(event_id=self._new_id(), event_type=METADATA_TYPE, data_content_type=JSON, data=data)
        return self._write(metastream, self.last_number(metastream) + 1, new)

    def _new_id(self) -> bytes:
        return self._random.randbytes(16)

    def _recreate(self, stream: str, first: int) -> list[Record]:
        """Let a soft-deleted stream be seen again from the event `first` on; its other metadata stays as it is."""
        data = with_truncate_before(self.records(META + stream)[-1].event.data, first)
        # Data that is no JSON object cannot have hidden the stream, but new metadata may be anything.
        return [] if data is None else [self._write_metadata(stream, data)]
