"""What the node really holds, as consumers can be held against it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from trio_extreme import Position
from trio_extreme.embedded.records import Place as LogPlace
from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.store import Store

Place: TypeAlias = int | Position
"""Where an event is: its number in a stream, its position in the log."""

_EVERYTHING = 2**62


class Fact(NamedTuple):
    """One event, as it is stored."""

    place: Place
    id: bytes
    #: Whether it could be read at all times from its writing on, so that nobody may have missed it.
    lasting: bool


class Truth:
    """What is stored, at this moment.

    Of a node with a file, what is `sure` is in it: a crash takes the rest, and nobody was told of that.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def facts(self, source: str) -> list[Fact]:
        """The events of a stream, or of the log, in order."""
        if source == ALL:
            return [Fact(_position(record), record.id, lasting=True) for record in self.log()]
        records = self._store.records(source)
        return [Fact(record.number, record.id, self._is_lasting(record, len(records))) for record in records]

    def sure_facts(self, source: str) -> list[Fact]:
        """Those that no crash can take: what everybody must be able to see."""
        if source == ALL:
            return [fact for fact in self.facts(source) if fact.place < Position(self._sure_end, 0)]
        return self.facts(source)[: self._sure_count(source)]

    def chosen(self, chooses: Callable[[Record], bool]) -> list[Fact]:
        """The events of the log that a filter leaves, in order."""
        return [Fact(_position(record), record.id, lasting=True) for record in self.log() if chooses(record)]

    def log(self) -> Sequence[Record]:
        """Every event there is, in the order in which they were written."""
        return self._store.log.forward(LogPlace(0, 0), _EVERYTHING).records

    def next_place(self, source: str) -> Place:
        """Where the next event will be."""
        if source == ALL:
            return Position(self._store.log.end, self._store.log.end)
        return len(self._store.records(source))

    def sure_place(self, source: str) -> Place:
        """Where the next event will be at the earliest, whatever a crash takes."""
        return Position(self._sure_end, self._sure_end) if source == ALL else self._sure_count(source)

    @property
    def _sure_end(self) -> int:
        storage = self._store.storage
        return storage._durable_end if isinstance(storage, SqliteStorage) else storage.end

    def _sure_count(self, stream: str) -> int:
        return sum(record.commit < self._sure_end for record in self._store.records(stream))

    def ends(self, record: Record) -> tuple[int, ...]:
        """Where in the log an answer may say that a write ends whose last event this is.

        Of what was committed already, servers that say anything say where that event was written.
        """
        return (record.commit, record.position) if self._store.version.says_where_it_was else (record.commit,)

    @property
    def may_find_nothing(self) -> bool:
        """Whether a stream that never was cannot be deleted."""
        return not self._store.version.deletes_what_never_was

    def is_buried(self, source: str) -> bool:
        """Whether the stream was deleted for ever."""
        return source != ALL and self._store.last_number(source) > len(self._store.records(source))

    def _is_lasting(self, record: Record, count: int) -> bool:
        """Whether nothing ever hid this event: no `$tb` above its number, nor a `$maxCount` that it is too old for."""
        return all(hidden_below <= record.number for hidden_below in self._bounds_after(record, count))

    def _bounds_after(self, record: Record, count: int) -> Iterator[int]:
        """What the stream's metadata has hidden since: an event is written and its stream recreated in one step."""
        metadata = self._store.records(f"$${record.stream}")
        before = [entry for entry in metadata if entry.commit < record.commit]
        after = metadata[len(before) :]
        for entry in after or before[-1:]:
            settings = json.loads(entry.event.data)
            yield settings.get("$tb", 0)
            if "$maxCount" in settings:
                yield count - settings["$maxCount"]


def _position(record: Record) -> Position:
    return Position(record.commit, record.position)
