"""A server's log, as property tests want it: records at places, with holes between them, shown late or at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.answers import record
from trio_extreme.values import Position
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.events import LogEvent
    from trio_extreme.operations.following import LogTrack
    from trio_extreme.operations.reading import LogPage


def asked(operation: Any, message: type[Any]) -> Any:
    return message.FromString(operation.payload())


START = Position(0, 0, inclusive=True)


SIZE = 10
"""Bytes of a record."""


class Log:
    """What a server has of its log: records of ten bytes, in order; `visible` is how many of them it shows."""

    def __init__(self, places: Sequence[Position]) -> None:
        self.places = sorted(places)
        self.visible = len(self.places)

    def read(self, track: LogTrack, count: int = 100) -> LogPage:
        """The page that the track asks for, over the wire."""
        operation = track.operation(count)
        question = asked(operation, schema.ReadAllEvents)
        start = Position(question.commit_position, question.prepare_position)
        found = [place for place in self.places[: self.visible] if place >= start][: question.max_count]
        following = self._behind(found[-1]) if found else start
        done = schema.ReadAllEventsCompleted(
            commit_position=start.commit,
            prepare_position=start.prepare,
            events=self.push(*found),
            next_commit_position=following.commit,
            next_prepare_position=following.prepare,
        )
        return operation.read(done.SerializeToString())

    @staticmethod
    def _behind(place: Position) -> Position:
        """Where the next page begins: behind a record, or within a transaction behind one of its events."""
        if place.commit == place.prepare:
            return Position(place.commit + SIZE, 0)
        return Position(place.commit, place.prepare + SIZE)

    @staticmethod
    def push(*places: Position) -> list[schema.ResolvedEvent]:
        return [
            schema.ResolvedEvent(event=record(0), commit_position=place.commit, prepare_position=place.prepare)
            for place in places
        ]


def at(*places: int) -> list[Position]:
    return [Position(place, place) for place in places]


def places_of(events: Sequence[LogEvent]) -> list[Position]:
    return [event.position for event in events]


class Choices:
    """What a server and a network do, drawn by Hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def number(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))

    def flag(self) -> bool:
        return self._data.draw(st.booleans())


def some_log(gaps: list[tuple[int, int]]) -> list[Position]:
    """Records with so many others between them, each a plain event or a transaction of some."""
    places: list[Position] = []
    position = 0
    for hidden, events in gaps:
        position += SIZE * hidden
        prepares = [position + SIZE * number for number in range(events)]
        position += SIZE * events
        places += [Position(position, prepare) for prepare in prepares] or at(position)
        position += SIZE
    return places


def with_transaction(places: Sequence[Position], count: int) -> int:
    """So many events, and the rest of the transaction that the last of them is in.

    A transaction shows as a whole: servers read it when they read its commit.
    """
    return count + len([place for place in places[count:] if count and place.commit == places[count - 1].commit])


LOGS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 1, 3])), max_size=15).map(some_log)
"""Places of all that a log has."""
