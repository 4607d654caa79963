"""The standard projections: streams of links to the events of others (docs/protocol.md, 3.13). Pure.

Rule 1: each event is worked on once, in the order of the log, a moment after it was written.
Rule 2: all that is made of some events is added in one batch. So the last link in the log tells how far they have come,
also after a crash, and nothing else needs to be kept. This holds for those that are in step, as all are that were never
stopped; with what one writes that is behind them is an event that says so, and where they are (`standings`).
Rule 3: nothing is made of the events of system streams, so nothing of those that are written here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from trio_extreme.embedded.log import place_after, place_before
from trio_extreme.embedded.metadata import META, dump, parse_metadata, with_truncate_before
from trio_extreme.embedded.reading import EventResult, link_target, read_event
from trio_extreme.embedded.records import (
    DELETED_TYPE,
    JSON,
    LINK_TYPE,
    METADATA_TYPE,
    WIDE_TOMBSTONE,
    Place,
    Record,
)
from trio_extreme.embedded.standings import FIRST_EPOCH, read_standing, read_step, tagged_epoch, tagged_place
from trio_extreme.embedded.store import OwnEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from trio_extreme.embedded.standings import Standing
    from trio_extreme.embedded.store import Store
    from trio_extreme.embedded.subscriptions import Hub

DELAY = 0.002
"""Seconds after an append until it is worked on: what real servers take."""
STEP = 100
"""Records that are worked on at a time, so that nobody waits for long."""

STREAMS, CATEGORY, BY_CATEGORY, BY_TYPE = "$streams", "$category-", "$ce-", "$et-"
REFERENCE_TYPE = "$@"
"""The type of an event whose data is the name of a stream."""
_OUTPUT = (CATEGORY, BY_CATEGORY, BY_TYPE)
_RIGHTS = b'{"$acl":{"$r":"$all","$mr":"$all"}}'
"""The metadata of every stream that projections write: anybody may read it, though it is a system stream."""
_GONE = (EventResult.NoStream, EventResult.StreamDeleted)


class _Source(NamedTuple):
    """An event of the log, as projections see it."""

    record: Record
    #: The event itself, or the one that it leads to, if it is a link; None where that one is gone.
    event: Record | None
    #: The stream that it is about: its own, or the one whose metadata it is.
    owner: str
    #: Whether it deletes that stream, for ever or softly.
    deletes: bool


class _Emitted(NamedTuple):
    """What a projection makes of an event. `extra` goes into the metadata."""

    stream: str
    data: str
    extra: Mapping[str, object] = {}
    type: str = LINK_TYPE


class Projections:
    """All standard projections of a node.

    `after` calls a function after some seconds; `is_crowded` tells whether nobody should write now.
    """

    def __init__(
        self,
        store: Store,
        hub: Hub,
        after: Callable[[float, Callable[[], None]], None],
        is_crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._hub = hub
        self._after = after
        self._is_crowded = is_crowded
        self._is_due = False
        self._forget()
        hub.on_publish = self.wake

    def __repr__(self) -> str:
        return f"<Projections of {self._store!r}, up to {self._next.commit}>"

    def _forget(self) -> None:
        # What is worked on next. It is not known until the last link was found, looking backwards from the end.
        self._next = Place(0, 0)
        self._unsearched: Place | None = Place(self._store.log.end, self._store.log.end)
        names = self._store.version.projections
        self._standings = {name: read_standing(self._store, name, number) for number, name in enumerate(names, 1)}

    def restart(self) -> None:
        """Go on from what is stored, as a node does that is started again: a crash may have taken the last links."""
        self._forget()
        self.wake()

    def wake(self) -> None:
        """Work on what is new, soon."""
        if not self._is_due:
            self._is_due = True
            self._after(DELAY, self._work)

    def _work(self) -> None:
        self._is_due = False
        if self._is_crowded():
            self.wake()
            return
        if self._unsearched is not None:
            self._search(self._unsearched)
        if self._unsearched is not None or self._go_on():
            self.wake()

    def _go_on(self) -> bool:
        """Work on the next records. False where there are none, for nobody."""
        behind = next((standing for standing in self._standings.values() if standing.is_behind), None)
        if behind is not None:
            self._catch_up(behind)
        return self._project() or behind is not None

    def _search(self, place: Place) -> None:
        """Look for the last link in the next records towards the start of the log."""
        records = self._store.storage.backward(place, STEP)
        for record in records:
            found = self._step_after(record)
            if found is not None:
                self._next, self._unsearched = found, None
                return
        self._unsearched = place_before(records[-1]) if records else None

    def _step_after(self, record: Record) -> Place | None:
        """Where those in step went on when this was written; None where it does not tell."""
        place = read_step(record, self._store.version.projections)
        if place is not None:
            return place if place.commit <= record.position else None
        source = self._source_of(record)
        return None if source is None else place_after(source)

    def _source_of(self, record: Record) -> Record | None:
        """The event of which this one was made; None where it is nothing that a projection wrote."""
        if record.type not in (LINK_TYPE, REFERENCE_TYPE) or not _is_output(record.stream):
            return None
        place = tagged_place(record.event.metadata)
        if place is None or place >= (record.commit, record.position):
            return None
        found = self._store.storage.forward(place, 1)
        is_there = bool(found) and (found[0].commit, found[0].position) == place
        return found[0] if is_there else None

    def _project(self) -> bool:
        """Work on the next records, with all that are in step. False where there are none."""
        records = self._store.storage.forward(self._next, STEP)
        if not records:
            return False
        self._next = place_after(records[-1])
        in_step = [standing for standing in self._standings.values() if standing.is_in_step]
        self._write(self._events(records, in_step))
        return True

    def _catch_up(self, standing: Standing) -> None:
        """Let one that is behind work on the next records, up to where the others are; then it is in step."""
        assert standing.place is not None
        records = [
            record
            for record in self._store.storage.forward(standing.place, STEP)
            if (record.commit, record.position) < self._next
        ]
        events = list(self._events(records, [standing]))
        standing.place = place_after(records[-1]) if records else None
        if events or standing.place is None:
            self._write([*events, standing.event(self._next)])

    def _write(self, events: Iterable[OwnEvent]) -> None:
        if written := self._store.emit(list(events)):
            self._hub.publish(written)

    def _events(self, records: Sequence[Record], standings: Sequence[Standing]) -> Iterator[OwnEvent]:
        begun: set[str] = set()
        for record in records:
            source = self._see(record)
            if source is None:
                continue
            causes = _causes(source.event)
            for standing in standings:
                standing.processed += 1
                emitted = _MAKE[standing.name](source, self._store)
                if emitted is None:
                    continue
                if emitted.stream not in begun:
                    yield from self._begin(emitted.stream, standing)
                begun.add(emitted.stream)
                tag = {"$v": standing.signature, "$c": record.commit, "$p": record.position}
                metadata = dump({**tag, **emitted.extra, **causes})
                yield OwnEvent(emitted.stream, emitted.type, emitted.data.encode(), metadata)

    def _begin(self, stream: str, standing: Standing) -> Iterator[OwnEvent]:
        """What comes before the first link of a stream: its metadata, which hides what was there before a reset."""
        number = self._store.last_number(stream)
        if number < 0:
            yield OwnEvent(META + stream, METADATA_TYPE, _RIGHTS, is_json=True)
        elif standing.epoch != FIRST_EPOCH and number != WIDE_TOMBSTONE:
            last = self._store.storage.last_event(stream)
            if last is not None and tagged_epoch(last.event.metadata) < standing.epoch:
                there = self._store.storage.last_event(META + stream)
                data = with_truncate_before(_RIGHTS if there is None else there.event.data, number + 1)
                yield OwnEvent(META + stream, METADATA_TYPE, data or _RIGHTS, is_json=True)

    # How they stand

    @property
    def standings(self) -> Sequence[Standing]:
        """All of them."""
        return list(self._standings.values())

    def standing(self, name: str) -> Standing | None:
        """One of them; None where there is none of this name."""
        return self._standings.get(name)

    def place_of(self, standing: Standing) -> Place:
        """What it works on next."""
        self._find_place()
        return standing.place or self._next

    def enable(self, standing: Standing) -> None:
        """Let one go on where it was."""
        if not standing.is_enabled:
            standing.is_enabled = True
            self._tell(standing)

    def disable(self, standing: Standing) -> None:
        """Stop one. It keeps its place."""
        if standing.is_enabled:
            standing.place, standing.is_enabled = self.place_of(standing), False
            self._tell(standing)

    def reset(self, standing: Standing) -> None:
        """Let one begin anew, when it is enabled. What it wrote is hidden as soon as it writes there again."""
        self._find_place()
        standing.place = Place(0, 0)
        standing.version += 1
        standing.processed = 0
        self._tell(standing)

    def _tell(self, standing: Standing) -> None:
        self._find_place()
        self._write([standing.event(self._next)])
        self.wake()

    def _find_place(self) -> None:
        """Look for the last link, all the way: who asks wants to know now."""
        while self._unsearched is not None:
            self._search(self._unsearched)

    def _see(self, record: Record) -> _Source | None:
        """The event with what it leads to; None where projections do not see it."""
        is_metadata = record.stream.startswith(META)
        owner = record.stream[len(META) :] if is_metadata else record.stream
        if owner.startswith("$"):
            return None
        event: Record | None = record
        if record.type == LINK_TYPE:
            target = link_target(record)
            found = EventResult.Error if target is None else read_event(self._store, *target)
            if found in _GONE:
                # A link into a stream that is missing, or deleted: no projection gets it.
                return None
            event = found if isinstance(found, Record) else None
        return _Source(record, event, owner, self._deletes(event, is_metadata=is_metadata))

    def _deletes(self, event: Record | None, *, is_metadata: bool) -> bool:
        if event is None:
            return False
        if not is_metadata:
            return event.type == DELETED_TYPE
        if event.type != METADATA_TYPE:
            return False
        return parse_metadata(event.event.data).truncate_before == self._store.version.tombstone


def _is_output(stream: str) -> bool:
    return stream == STREAMS or stream.startswith(_OUTPUT)


def _causes(event: Record | None) -> dict[str, str]:
    """What each event that is made of this one says of it."""
    if event is None:
        return {}
    causes = {"$causedBy": str(UUID(bytes_le=event.id))}
    message = event.event
    correlation = _correlation(message.metadata) if message.data_content_type == JSON and message.metadata else None
    return causes if correlation is None else causes | {"$correlationId": correlation}


def _correlation(metadata: bytes) -> str | None:
    try:
        document = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    correlation = document.get("$correlationId") if isinstance(document, dict) else None
    return correlation if isinstance(correlation, str) and correlation else None


# What each projection makes of an event


def _streams(source: _Source, _store: Store) -> _Emitted | None:
    record = source.record
    return _Emitted(STREAMS, f"0@{record.stream}") if record.number == 0 else None


def _stream_by_category(source: _Source, _store: Store) -> _Emitted | None:
    record = source.record
    category = category_of(record.stream)
    if record.number != 0 or category is None:
        return None
    return _Emitted(CATEGORY + category, record.stream, type=REFERENCE_TYPE)


def _by_category(source: _Source, store: Store) -> _Emitted | None:
    stream = source.owner if source.deletes or store.version.categorizes_metadata else source.record.stream
    category = category_of(stream)
    if category is None:
        return None
    extra = {"$o": stream, "$deleted": -1} if source.deletes else {"$o": stream}
    return _Emitted(BY_CATEGORY + category, _target(source.event, store), extra)


def _by_event_type(source: _Source, store: Store) -> _Emitted | None:
    record = source.record
    if record.type == LINK_TYPE:
        return None
    # Of metadata, the number is right and the stream is the one that it is of: an old bug of the servers'.
    target = f"{_number(record, store)}@{source.owner}"
    if source.deletes:
        return _Emitted(BY_TYPE + "$deleted", target, {"$deleted": -1})
    return _Emitted(BY_TYPE + record.type, target)


_MAKE: dict[str, Callable[[_Source, Store], _Emitted | None]] = {
    "$streams": _streams,
    "$stream_by_category": _stream_by_category,
    "$by_category": _by_category,
    "$by_event_type": _by_event_type,
}


def category_of(stream: str) -> str | None:
    """What stands before the first dash of a stream's name; None where there is no dash, or nothing before it."""
    category, dash, _ = stream.partition("-")
    return category if dash and category and not stream.startswith("$") else None


def _target(event: Record | None, store: Store) -> str:
    """What a link to this event says. A link to a link leads to where that one leads."""
    if event is None:
        return "-1@"
    if event.type == LINK_TYPE:
        return event.event.data.decode("utf-8", "replace")
    return f"{_number(event, store)}@{event.stream}"


def _number(event: Record, store: Store) -> int:
    return store.version.tombstone if event.number == WIDE_TOMBSTONE else event.number
