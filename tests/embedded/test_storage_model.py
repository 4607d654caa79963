"""A storage in a file beside one in memory: whatever is added, removed, committed or lost, reads give the same."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.talk import new_event
from trio_extreme.embedded.records import WIDE_TOMBSTONE, Place, Record, make_event, make_record
from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.embedded.storage import Batch, MemoryStorage
from trio_extreme.embedded.versions import find_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trio_extreme.embedded.sqlite_writer import Group
    from trio_extreme.embedded.storage import Storage

STREAMS = ["people", "orders", "ђурђевак", "$$people", "x" * 300]
TRANSACTIONS = [7, 8]
VERSION = find_version("4.1.1")


class Pair:
    """Both, and what the one in memory is to be made of again when the other has lost something."""

    def __init__(self, path: Path, random: Random) -> None:
        self.path = path
        self.random = random
        self.file = SqliteStorage(path, VERSION)
        self.memory = MemoryStorage()
        self.history: list[Callable[[Storage], None]] = []
        self.in_flight: Group | None = None

    # Steps

    def write(self) -> None:
        """A batch: events of a stream or two, perhaps a tombstone, perhaps what is no event."""
        batch = Batch(self.memory)
        numbers = {stream: self.memory.last_number(stream) for stream in STREAMS}
        for stream in self.random.choices(STREAMS, k=self.random.randrange(5)):
            if numbers[stream] == WIDE_TOMBSTONE:
                continue
            is_tombstone = self.random.random() < 0.03
            numbers[stream] = WIDE_TOMBSTONE if is_tombstone else numbers[stream] + 1
            size = self.random.randrange(1, 500)
            batch.write(make_record(batch.end, size, make_event(stream, numbers[stream], new_event(), batch.end)))
        if self.random.random() < 0.3:
            batch.mark(self.random.randrange(1, 100), commits=self.random.random() < 0.5)
        self._change(lambda storage: storage.add(batch))

    def write_in_transaction(self) -> None:
        batch = Batch(self.memory)
        for _ in range(self.random.randrange(1, 4)):
            batch.mark(100, self.random.choice(TRANSACTIONS), self.random.randbytes(3), commits=False)
        self._change(lambda storage: storage.add(batch))

    def commit_transaction(self) -> None:
        places = [mark.position for mark in self.memory.transaction(self.random.choice(TRANSACTIONS))]
        stream = self.random.choice(STREAMS)
        last = self.memory.last_number(stream)
        taken = {record.position for record in self.log(self.memory)}
        if last == WIDE_TOMBSTONE or taken.intersection(places):
            return
        batch = Batch(self.memory)
        commit = batch.mark(60)
        for number, place in enumerate(places, last + 1):
            event = make_event(stream, number, new_event(), place)
            batch.write(make_record(place, 100, event, (commit, batch.end)))
        self._change(lambda storage: storage.add(batch))

    def remove(self) -> None:
        """Such as are durable: what is not yet may be seen until it is."""
        self.settle()
        self.commit()
        self.settle()
        records = [record for record in self.log(self.memory) if self._may_go(record)]
        removed = self.random.sample(records, min(len(records), self.random.randrange(1, 4)))
        self._change(lambda storage: storage.remove(removed))
        self.commit()
        self.settle()

    def _may_go(self, record: Record) -> bool:
        last = self.memory.last_event(record.stream)
        if self.memory.last_number(record.stream) == WIDE_TOMBSTONE:
            return record.number != WIDE_TOMBSTONE
        return last is not None and record.number != last.number

    def commit(self) -> None:
        """Begin a commit; it is settled later, or at once, or lost in between."""
        if self.in_flight is None:
            self.in_flight = self.file.take()
            if self.random.random() < 0.5:
                self.file.commit(self.in_flight)

    def settle(self) -> None:
        if self.in_flight is not None:
            if not self.in_flight.is_committed:
                self.file.commit(self.in_flight)
            self.file.settle(self.in_flight)
            self.in_flight = None

    def crash(self) -> None:
        self.file.crash()
        self._make_again(self.file.written)

    def reopen(self) -> None:
        """As a process does that is killed, or that ends."""
        if self.random.random() < 0.5:
            self.file.close()
        else:
            durable = self.in_flight.number if self.in_flight and self.in_flight.is_committed else self.file.durable
            self.file._close()
            self._make_again(durable)
        self.in_flight = None
        self.file = SqliteStorage(self.path, VERSION)
        self.file.written = self.file.durable = len(self.history)

    def _change(self, change: Callable[[Storage], None]) -> None:
        self.history.append(change)
        change(self.memory)
        change(self.file)
        assert self.file.written == len(self.history)

    def _make_again(self, changes: int) -> None:
        del self.history[changes:]
        self.memory = MemoryStorage()
        for change in self.history:
            change(self.memory)

    # Looks

    @staticmethod
    def log(storage: Storage) -> Sequence[Record]:
        return storage.forward(Place(0, 0), 10_000)

    def check(self) -> None:
        """Everything at once, and some of it in pieces."""
        assert self.look(self.memory) == self.look(self.file)

    def look(self, storage: Storage) -> list[Any]:
        random = Random(storage.end)
        places = [Place(0, 0), Place(storage.end, storage.end)]
        places += [Place(*sorted(random.choices(range(storage.end + 1), k=2), reverse=True)) for _ in range(4)]
        places += [Place(record.commit, record.position) for record in self.log(storage)[:3]]
        places += [Place(record.commit_end, record.end) for record in self.log(storage)[-3:]]
        counts = [-1, 0, 1, 3, 1000]
        begin = random.randrange(storage.end + 1)
        return [
            (storage.end, storage.last, list(storage.streams())),
            [(storage.last_number(stream), storage.last_event(stream)) for stream in [*STREAMS, "none"]],
            [list(storage.events(stream, 0, 2**63 + 5)) for stream in [*STREAMS, "none"]],
            [list(storage.events(stream, 2, 4)) for stream in STREAMS],
            [storage.event(stream, 1) for stream in STREAMS],
            [list(storage.forward(place, random.choice(counts))) for place in places],
            [list(storage.backward(place, random.choice(counts))) for place in places],
            [list(storage.transaction(number)) for number in TRANSACTIONS],
            [position for position in islice(range(begin, storage.end), 300) if storage.begins(position)],
        ]


STEPS = {
    Pair.write: 10,
    Pair.write_in_transaction: 3,
    Pair.commit_transaction: 3,
    Pair.remove: 1,
    Pair.commit: 4,
    Pair.settle: 4,
    Pair.crash: 2,
    Pair.reopen: 1,
}


def live_through(path: Path, seed: int) -> None:
    random = Random(seed)
    pair = Pair(path, random)
    try:
        for step in random.choices(list(STEPS), list(STEPS.values()), k=60):
            step(pair)
            pair.check()
    finally:
        pair.file._close()


@pytest.mark.parametrize("seed", range(15))
def test_they_give_the_same(tmp_path: Path, seed: int) -> None:
    live_through(tmp_path / "node.db", seed)


@pytest.mark.long
def test_they_give_the_same_for_long(tmp_path: Path) -> None:
    for seed in range(1000, 2000):
        live_through(tmp_path / f"{seed}.db", seed)
