"""Streams, and what appending, deleting and transactions do to them (docs/protocol.md, 3.1 to 3.3). Pure.

Rule 1: everything that changes the log is in this file.
Rule 2: nothing here knows who asks; `acl` decides that before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from trio_extreme.embedded.cache import Cache
from trio_extreme.embedded.log import EPOCH_SIZE, Log
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
from trio_extreme.embedded.recent import Recent
from trio_extreme.embedded.records import (
    COMMIT_OVERHEAD,
    DELETED_TYPE,
    JSON,
    METADATA_TYPE,
    WIDE_TOMBSTONE,
    Writing,
    make_event,
    make_record,
    record_size,
)
from trio_extreme.embedded.storage import Batch, MemoryStorage
from trio_extreme.values import ANY, NO_STREAM, STREAM_EXISTS
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.storage import Storage
    from trio_extreme.embedded.versions import ServerVersion

SETTINGS_STREAM = "$settings"
_CACHE_SIZE = 4 * 1024 * 1024
"""Bytes, roughly, of what is remembered of streams' metadata."""


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


class OwnEvent(NamedTuple):
    """An event that the node itself has to write."""

    stream: str
    type: str
    data: bytes
    metadata: bytes = b""
    is_json: bool = False


@dataclass(frozen=True, slots=True)
class _Fresh:
    """The events may be written: after `current`, and `recreates` tells that a soft-deleted stream comes back."""

    current: int
    recreates: bool = False


_Decision: TypeAlias = _Fresh | Written | Refused


class Store:
    """Everything one node holds.

    `storage` is what keeps it, memory if there is none. `now` gives seconds since 1970 and is what events are dated
    with and `$maxAge` is counted from; `random` makes the ids of the few events that the server itself writes.
    """

    def __init__(
        self,
        version: ServerVersion,
        *,
        storage: Storage | None = None,
        now: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        self.version = version
        self.storage: Storage = MemoryStorage() if storage is None else storage
        self.log = Log(self.storage)
        self._now = now
        self._random = random or Random()  # noqa: S311 - ids, not secrets
        self._recent = Recent()
        # What the last events of metastreams and `$settings` say, for those that somebody asked about.
        self._metadata: Cache[Metadata] = Cache(_CACHE_SIZE)
        self._settings: tuple[Acl, Acl] | None = None
        # How transactions were begun that were used of late.
        self._begun: Cache[schema.TransactionStart] = Cache(_CACHE_SIZE)

    def __repr__(self) -> str:
        return f"<Store {self.version.name}: {self.log.end} bytes>"

    def now(self) -> int:
        """Microseconds since 1970."""
        return round(self._now() * 1_000_000)

    # What is there

    def records(self, stream: str) -> Sequence[Record]:
        """All events of a stream, for tests that look inside; what answers requests asks the storage for a few."""
        return self.storage.events(stream, 0, WIDE_TOMBSTONE)

    def last_number(self, stream: str) -> int:
        """The number of the last event, -1 where there never was one, WIDE_TOMBSTONE where it was hard-deleted."""
        owner = split_metastream(stream)[1]
        # A metastream goes with its stream.
        if owner != stream and self.storage.last_number(owner) == WIDE_TOMBSTONE:
            return WIDE_TOMBSTONE
        return self.storage.last_number(stream)

    def metadata(self, stream: str) -> Metadata:
        """What the server obeys of the stream's metadata."""
        metadata = self._metadata.get(stream)
        if metadata is None:
            metadata = self._read_metadata(stream)
            self._metadata.put(stream, metadata)
        return metadata

    def _read_metadata(self, stream: str) -> Metadata:
        if stream.startswith(META):
            return METASTREAM
        last = self.storage.last_event(META + stream)
        if last is None:
            return NO_METADATA
        event = last.event
        return parse_metadata(event.data) if event.data_content_type == JSON else NO_METADATA

    def settings(self) -> tuple[Acl, Acl]:
        """The default rights on user streams and on system streams, where `$settings` gives any."""
        if self._settings is None:
            is_gone = self.last_number(SETTINGS_STREAM) == WIDE_TOMBSTONE
            last = None if is_gone else self.storage.last_event(SETTINGS_STREAM)
            self._settings = (NO_ACL, NO_ACL) if last is None else parse_settings(last.event.data)
        return self._settings

    @property
    def allows_anonymous(self) -> bool:
        """Whether someone anonymous can have any rights."""
        return self.version.allows_anonymous

    @property
    def opens_nested_metastreams(self) -> bool:
        """Whether anybody may read and write the metadata of a metastream."""
        return self.version.opens_nested_metastreams

    def is_soft_deleted(self, stream: str) -> bool:
        """Whether `$tb` hides the whole stream, events to come included."""
        return self.metadata(stream).truncate_before == self.version.tombstone

    def _ever_was(self, stream: str) -> bool:
        """Whether it has events, or metadata."""
        return self.last_number(stream) >= 0 or self.last_number(META + stream) >= 0

    # What changes it

    def append(self, stream: str, expected: int, events: Sequence[schema.NewEvent]) -> Written | Refused:
        """Write all events, or none; events that were written before, as the expected version tells, only once."""
        decision = self._decide(stream, expected, [event.event_id for event in events])
        if not isinstance(decision, _Fresh):
            return decision
        batch = Batch(self.storage)
        writing = self._writing(stream)
        for number, event in enumerate(events, decision.current + 1):
            batch.write(writing.make(batch.end, number, event))
        if not events:
            batch.mark(self._empty_size(stream))
        return self._conclude(batch, stream, decision, len(events))

    def delete(self, stream: str, expected: int, *, hard: bool) -> Written | Refused:
        """Hide the stream, for ever with `hard`: a metadata event, or a tombstone.

        Of a stream that never was, some servers refuse the former.
        """
        decision = self._decide(stream, expected, [self.new_id()])
        if not isinstance(decision, _Fresh):
            return decision
        if not (hard or self.version.deletes_what_never_was or self._ever_was(stream)):
            return self._wrong(decision.current)
        batch = Batch(self.storage)
        if hard:
            new = schema.NewEvent(event_id=self.new_id(), event_type=DELETED_TYPE)
            record = self._write(batch, stream, WIDE_TOMBSTONE, new)
        else:
            # This replaces all other metadata: rights and limits are gone too.
            record = self._write_metadata(batch, stream, dump({"$tb": self.version.tombstone}))
        self._add(batch)
        return Written(record.number, record.number, record.position, batch.records)

    def emit(self, events: Sequence[OwnEvent]) -> Sequence[Record]:
        """Write events of the node's own, all or none, each behind the last of its stream; what was written.

        What would go into a hard-deleted stream is left out.
        """
        batch = Batch(self.storage)
        numbers: dict[str, int] = {}
        for stream, type_, data, metadata, is_json in events:
            last = numbers[stream] if stream in numbers else self.last_number(stream)
            numbers[stream] = min(last + 1, WIDE_TOMBSTONE)
            if last != WIDE_TOMBSTONE:
                new = schema.NewEvent(
                    event_id=self.new_id(),
                    event_type=type_,
                    data_content_type=JSON if is_json else 0,
                    data=data,
                    metadata=metadata,
                )
                self._write(batch, stream, last + 1, new)
        if batch.records:
            self._add(batch)
        return batch.records

    def begin(self, stream: str, expected: int) -> int:
        """Begin an explicit transaction; its id. Whether the stream is as expected is asked when it is committed."""
        batch = Batch(self.storage)
        begun = schema.TransactionStart(event_stream_id=stream, expected_version=expected)
        batch.mark(self._empty_size(stream), batch.end, begun.SerializeToString(), commits=False)
        self._add(batch)
        return batch.marks[0].position

    def begun(self, transaction: int) -> schema.TransactionStart | None:
        """How a transaction was begun; None where none has this id."""
        begun = self._begun.get(str(transaction))
        if begun is None and (marks := self.storage.transaction(transaction)):
            begun = schema.TransactionStart.FromString(marks[0].data)
            self._begun.put(str(transaction), begun)
        return begun

    def write(self, transaction: int, stream: str, events: Sequence[schema.NewEvent]) -> None:
        """Put events into a transaction on this stream. They are in the log, dated, and nobody sees them."""
        batch = Batch(self.storage)
        for new in events:
            event = make_event(stream, 0, new, self.now())
            batch.mark(self._size(event), transaction, event.SerializeToString(), commits=False)
        self._add(batch)

    def commit(self, transaction: int, begun: schema.TransactionStart) -> Written | Refused:
        """Let all of a transaction be seen, or nothing; committed before, as the expected version tells, not again."""
        stream = begun.event_stream_id
        marks = self.storage.transaction(transaction)[1:]
        events = [schema.EventRecord.FromString(mark.data) for mark in marks]
        decision = self._decide(stream, begun.expected_version, [event.event_id for event in events])
        batch = Batch(self.storage)
        # Servers note that a transaction is to end before they look whether it may.
        batch.mark(self._empty_size(stream), commits=False)
        if not isinstance(decision, _Fresh):
            self._add(batch)
            return decision
        begin = batch.mark(COMMIT_OVERHEAD + self.version.number_size)
        for event, mark in zip(events, marks, strict=True):
            event.event_number = decision.current + 1 + len(batch.records)
            batch.write(make_record(mark.position, self._size(event), event, (begin, batch.end)))
        return self._conclude(batch, stream, decision, len(events))

    def _conclude(self, batch: Batch, stream: str, decision: _Fresh, count: int) -> Written:
        """Add what was written, and behind it what brings a soft-deleted stream back."""
        first, position = decision.current + 1, batch.last
        if decision.recreates:
            self._recreate(batch, stream, first)
        owner = stream.removeprefix(META)
        if owner != stream and self.is_soft_deleted(owner):
            # New metadata brings it back empty: its events stay hidden.
            self._recreate(batch, owner, self.last_number(owner) + 1)
        self._add(batch)
        return Written(first, first + count - 1, position, batch.records)

    def begin_epoch(self) -> int:
        """Write the record with which a new master begins; where it is."""
        batch = Batch(self.storage)
        position = batch.mark(EPOCH_SIZE)
        self._add(batch)
        return position

    def follow(self, batch: Batch) -> None:
        """Know what is new in the storage, which another node wrote. Ids are the memory of who writes."""
        self._forget(batch)

    def restart(self, *, crashed: bool) -> None:
        """Forget what a server forgets that starts again, such as which ids were written of late.

        Where it `crashed`, it has lost what was not on the disk.
        """
        if crashed:
            self.storage.crash()
        self._recent = Recent()
        self._metadata.clear()
        self._settings = None
        self._begun.clear()

    def _add(self, batch: Batch) -> None:
        self.storage.add(batch)
        self._recent.add(batch.records)
        self._forget(batch)

    def _forget(self, batch: Batch) -> None:
        """What was remembered of these streams is not so any more."""
        for stream in {record.stream for record in batch.records}:
            if stream.startswith(META):
                self._metadata.forget(stream.removeprefix(META))
            elif stream == SETTINGS_STREAM:
                self._settings = None

    def _decide(self, stream: str, expected: int, ids: Sequence[bytes]) -> _Decision:
        """What to do with an append (docs/protocol.md, 3.1): write it, call it written already, or refuse it."""
        current = self.last_number(stream)
        if current == WIDE_TOMBSTONE or (expected == STREAM_EXISTS and self.is_soft_deleted(stream)):
            return Refused(schema.OperationResult.StreamDeleted)
        if expected == STREAM_EXISTS and not self._ever_was(stream):
            return self._wrong(current)
        if expected in (ANY, STREAM_EXISTS):
            return self._decide_any(stream, current, ids)
        if expected < current:
            return self._decide_earlier(stream, current, expected, ids)
        if expected > current:
            return self._wrong(current)
        return _Fresh(current, self.version.number_recreates and self.is_soft_deleted(stream))

    def _decide_any(self, stream: str, current: int, ids: Sequence[bytes]) -> _Decision:
        if not ids or self._recent.find(ids[0], stream) is None:
            return _Fresh(current, self.is_soft_deleted(stream))
        numbers = [number for event_id in ids if (number := self._recent.find(event_id, stream)) is not None]
        if len(numbers) < len(ids):
            return self._wrong(current)
        return Written(numbers[0], numbers[-1], -1)

    def _decide_earlier(self, stream: str, current: int, expected: int, ids: Sequence[bytes]) -> _Decision:
        """A version the stream has left behind: right only where exactly these events followed it."""
        following = self.storage.events(stream, expected + 1, expected + len(ids))
        if ids and [record.id for record in following] == list(ids):
            return Written(expected + 1, expected + len(ids), -1)
        is_new = bool(ids) and (not following or following[0].id != ids[0])
        if is_new and expected == NO_STREAM and self.is_soft_deleted(stream):
            return _Fresh(current, recreates=True)
        return self._wrong(current)

    @staticmethod
    def _wrong(current: int) -> Refused:
        return Refused(schema.OperationResult.WrongExpectedVersion, current)

    def _write(self, batch: Batch, stream: str, number: int, new: schema.NewEvent) -> Record:
        return batch.write(self._writing(stream).make(batch.end, number, new))

    def _writing(self, stream: str) -> Writing:
        return Writing(stream, self.now(), self.version.number_size)

    def _size(self, event: schema.EventRecord) -> int:
        size = len(event.data) + len(event.metadata)
        return record_size(event.event_stream_id, event.event_type, size, self.version.number_size)

    def _empty_size(self, stream: str) -> int:
        """Bytes of a record that is no event."""
        return record_size(stream, "", 0, self.version.number_size)

    def _write_metadata(self, batch: Batch, stream: str, data: bytes) -> Record:
        metastream = META + stream
        last = batch.last_event(metastream)
        new = schema.NewEvent(event_id=self.new_id(), event_type=METADATA_TYPE, data_content_type=JSON, data=data)
        return self._write(batch, metastream, 0 if last is None else last.number + 1, new)

    def new_id(self) -> bytes:
        """The bytes of an id that the server makes."""
        return self._random.randbytes(16)

    def _recreate(self, batch: Batch, stream: str, first: int) -> None:
        """Let a soft-deleted stream be seen again from the event `first` on; its other metadata stays as it is."""
        metadata = batch.last_event(META + stream)
        # Data that is no JSON object cannot have hidden the stream, but new metadata may be anything.
        if metadata and (data := with_truncate_before(metadata.event.data, first)) is not None:
            self._write_metadata(batch, stream, data)
