from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.embedded.talk import new_event
from trio_extreme.embedded.records import WIDE_TOMBSTONE, Place, Record, make_event, make_record
from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.embedded.storage import Batch, Mark, MemoryStorage
from trio_extreme.embedded.versions import find_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trio_extreme.embedded.storage import Storage


class Committing(SqliteStorage):
    """Where what is added is read from the file, and not from memory."""

    def add(self, batch: Batch) -> None:
        super().add(batch)
        commit(self)


def commit(storage: Storage) -> None:
    if isinstance(storage, SqliteStorage):
        group = storage.take()
        storage.commit(group)
        storage.settle(group)


@pytest.fixture(params=[MemoryStorage, SqliteStorage, Committing])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param is MemoryStorage:
        yield MemoryStorage()
    else:
        with closing(request.param(tmp_path / "node.db", find_version("4.1.1"))) as storage:
            yield storage


def add(storage: Storage, stream: str, numbers: Iterable[int]) -> Sequence[Record]:
    """Events of 100 bytes each, in one batch."""
    batch = Batch(storage)
    for number in numbers:
        batch.write(make_record(batch.end, 100, make_event(stream, number, new_event(), 0)))
    storage.add(batch)
    return batch.records


def numbers(records: Iterable[Record]) -> list[int]:
    return [record.number for record in records]


def log(storage: Storage) -> list[Record]:
    return list(storage.forward(Place(0, 0), 1000))


def test_a_new_one_is_empty(storage: Storage) -> None:
    assert (storage.end, storage.last, storage.last_number("a"), storage.last_event("a")) == (0, 0, -1, None)
    assert (list(storage.events("a", 0, 10)), storage.event("a", 0), list(storage.streams())) == ([], None, [])
    assert (log(storage), list(storage.backward(Place(0, 0), 10)), storage.begins(0)) == ([], [], False)


def test_streams_and_the_log(storage: Storage) -> None:
    people = add(storage, "people", range(3))
    others = add(storage, "others", range(2))
    more = add(storage, "people", [3])
    assert (storage.end, storage.last) == (600, 500)
    assert list(storage.events("people", 0, 10)) == [*people, *more]
    assert numbers(storage.events("people", 1, 2)) == [1, 2]
    assert numbers(storage.events("people", 3, 1)) == []
    assert storage.event("others", 1) == others[1]
    assert (storage.last_number("people"), storage.last_event("people")) == (3, more[0])
    assert list(storage.streams()) == ["people", "others"]
    assert log(storage) == [*people, *others, *more]


def test_a_piece_of_the_log(storage: Storage) -> None:
    records = add(storage, "people", range(6))
    assert list(storage.forward(Place(200, 200), 3)) == records[2:5]
    assert list(storage.forward(Place(200, 201), 3)) == records[3:6]
    assert list(storage.forward(Place(600, 0), 3)) == []
    assert list(storage.backward(Place(500, 500), 3)) == [records[4], records[3], records[2]]
    assert list(storage.backward(Place(500, 499), 3)) == [records[3], records[2], records[1]]
    assert [
        list(read(Place(300, 300), count)) for read in (storage.forward, storage.backward) for count in (0, -1)
    ] == [
        [],
        [],
        [],
        [],
    ]


def test_where_something_begins(storage: Storage) -> None:
    add(storage, "people", range(2))
    batch = Batch(storage)
    assert batch.mark(60) == 200
    storage.add(batch)
    assert [position for position in range(300) if storage.begins(position)] == [0, 100, 200]
    assert (storage.end, storage.last) == (260, 200)


def test_a_tombstone_is_the_streams_last_number_and_none_of_its_events(storage: Storage) -> None:
    people = add(storage, "people", range(2))
    (tombstone,) = add(storage, "people", [WIDE_TOMBSTONE])
    add(storage, "never", [WIDE_TOMBSTONE])
    assert storage.last_number("people") == storage.last_number("never") == WIDE_TOMBSTONE
    assert (storage.last_event("people"), storage.last_event("never")) == (people[1], None)
    assert list(storage.events("people", 0, WIDE_TOMBSTONE)) == people
    assert storage.event("people", WIDE_TOMBSTONE) is None
    assert log(storage)[2] == tombstone


def test_a_transaction(storage: Storage) -> None:
    begun = Batch(storage)
    places = [begun.mark(100, 7, b"%d" % number, commits=False) for number in range(2)]
    storage.add(begun)
    add(storage, "people", [0])
    assert list(storage.transaction(7)) == [Mark(0, 7, b"0"), Mark(100, 7, b"1")]
    assert list(storage.transaction(8)) == []
    batch = Batch(storage)
    commit = batch.mark(50)
    for number, place in enumerate(places, 1):
        event = make_event("people", number, new_event(), 0)
        batch.write(make_record(place, 100, event, (commit, batch.end)))
    storage.add(batch)
    assert (storage.last, storage.end) == (300, 350)
    assert numbers(log(storage)) == [0, 1, 2]
    assert numbers(storage.forward(Place(300, 1), 5)) == [2]
    assert numbers(storage.backward(Place(350, 350), 2)) == [2, 1]
    assert numbers(storage.backward(Place(350, 199), 5)) == [1, 0]
    assert numbers(storage.backward(Place(300, 300), 5)) == [0]
    assert [position for position in range(400) if storage.begins(position)] == [0, 100, 200, 300]


def test_what_is_removed_leaves_holes_and_marks(storage: Storage) -> None:
    people = add(storage, "people", range(5))
    others = add(storage, "others", range(2))
    storage.remove([people[0], people[2], people[3], others[0]])
    commit(storage)
    assert numbers(storage.events("people", 0, 10)) == [1, 4]
    assert numbers(storage.events("people", 2, 4)) == [4]
    assert (storage.event("people", 2), storage.event("people", 4)) == (None, people[4])
    assert (storage.last_number("people"), storage.end, storage.last) == (4, 700, 600)
    assert log(storage) == [people[1], people[4], others[1]]
    assert list(storage.backward(Place(500, 500), 5)) == [people[4], people[1]]
    assert all(storage.begins(position) for position in range(0, 700, 100))


def test_a_buried_stream_can_lose_all_its_events(storage: Storage) -> None:
    people = add(storage, "people", range(2))
    add(storage, "people", [WIDE_TOMBSTONE])
    storage.remove(people)
    commit(storage)
    assert (storage.last_number("people"), storage.last_event("people")) == (WIDE_TOMBSTONE, None)
    assert list(storage.events("people", 0, 10)) == []
    assert len(log(storage)) == 1


def test_a_batch_counts_what_it_holds(storage: Storage) -> None:
    (first,) = add(storage, "people", [0])
    batch = Batch(storage)
    assert (batch.last_event("people"), batch.last_event("others")) == (first, None)
    second = batch.write(make_record(batch.end, 100, make_event("people", 1, new_event(), 0)))
    assert (batch.last_event("people"), storage.last_event("people")) == (second, first)
    assert repr(batch) == "<Batch of 1 events and 0 marks, up to 200>"
    assert storage.end == 100
