from __future__ import annotations

from statistics import median
from time import perf_counter

from hypothesis import given, strategies as st

from tests.embedded.talk import new_id
from trio_extreme.embedded.recent import Recent
from trio_extreme.embedded.records import Record


def record(event_id: bytes, number: int, stream: str = "people") -> Record:
    return Record(stream, number, event_id, "happened", 0, 0, 0, 0, 0, b"")


def test_recent_ids_are_bounded() -> None:
    recent = Recent(limit=3 * (28 + 2 * 6))
    ids = [new_id() for _ in range(4)]
    recent.add(record(event_id, number) for number, event_id in enumerate(ids))
    assert [recent.find(event_id, "people") for event_id in ids] == [None, 1, 2, 3]
    assert repr(recent) == "<Recent: 3 ids>"


@given(st.lists(st.integers(0, 3)))
def test_recent_ids_cost_what_is_remembered(ids: list[int]) -> None:
    recent = Recent(limit=80)
    for number, event_id in enumerate(ids):
        recent.add([record(bytes([event_id]), number)])
        assert recent.find(bytes([event_id]), "people") == number
    assert recent._size == 40 * len(recent._places) <= 80


def test_remembering_costs_no_more_once_old_ids_are_forgotten() -> None:
    recent = Recent(limit=60_000 * 30)
    chunks = []
    for start in range(0, 180_000, 1000):
        records = [record(number.to_bytes(16, "big"), 0, "a") for number in range(start, start + 1000)]
        begun = perf_counter()
        recent.add(records)
        chunks.append(perf_counter() - begun)
    assert repr(recent) == "<Recent: 60000 ids>"
    # Medians, so that what else the machine does for a moment counts for nothing; a scan made it 90 times as much.
    assert median(chunks[60:]) < 15 * median(chunks[:60])
