from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.embedded.talk import new_event
from trio_extreme.embedded.log import Log, LogReadError
from trio_extreme.embedded.records import Place, make_event, make_record
from trio_extreme.embedded.storage import Batch, MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST = 168
START = Place(0, 0)


def filled(count: int = 5) -> Log:
    """Events of 100 bytes each."""
    log = Log(MemoryStorage())
    write(log, range(count))
    return log


def write(log: Log, numbers: Iterable[int], *, mark: int = 0) -> int:
    """Add events, or what is no event, of this size; returns where it is."""
    storage = log._storage
    batch = Batch(storage)
    for number in numbers:
        batch.write(make_record(batch.end, 100, make_event("people", number, new_event(), 0)))
    if mark:
        batch.mark(mark)
    storage.add(batch)
    return batch.last


def with_transaction() -> Log:
    """Event 0, event 1 while the transaction of 2 and 3 lasts, which is committed 400 behind the first, and event 4."""
    log = filled(1)
    storage = log._storage
    begun = Batch(storage)
    places = [begun.mark(100, begun.end, commits=False) for _ in range(2)]
    storage.add(begun)
    write(log, [1])
    batch = Batch(storage)
    commit = batch.mark(60)
    for number, place in enumerate(places, 2):
        event = make_event("people", number, new_event(), 0)
        batch.write(make_record(place, 100, event, (commit, batch.end)))
    storage.add(batch)
    write(log, [4])
    return log


def numbers(log: Log, start: Place, count: int = 10, *, forward: bool = True) -> list[int]:
    page = log.forward(start, count) if forward else log.backward(start, count)
    return [record.number for record in page.records]


def test_a_log_begins_with_what_is_no_event() -> None:
    log = Log(MemoryStorage())
    assert (log.last, log.end) == (0, FIRST)
    assert log.forward(START, 10) == ([], START, START)


def test_positions_grow_by_the_size_of_records() -> None:
    log = filled()
    assert (log.last, log.end) == (FIRST + 400, FIRST + 500)
    assert "668 bytes" in repr(log)


def test_forward_is_inclusive_and_goes_on_after_the_last_event() -> None:
    log = filled()
    page = log.forward(START, 2)
    assert [record.number for record in page.records] == [0, 1]
    assert (page.start, page.next) == (START, (FIRST + 200, 0))
    assert numbers(log, page.next, 2) == [2, 3]
    assert log.forward(Place(log.end, log.end), 2) == ([], (log.end, log.end), (log.end, log.end))


def test_a_prepare_position_behind_the_event_leaves_it_out() -> None:
    log = filled()
    assert numbers(log, Place(FIRST, FIRST)) == [0, 1, 2, 3, 4]
    assert numbers(log, Place(FIRST, FIRST + 1)) == [1, 2, 3, 4]


def test_beyond_the_end_there_is_nothing_forward_and_an_error_backward() -> None:
    log = filled()
    assert log.forward(Place(10**12, 10**12), 5) == ([], (10**12, 10**12), (10**12, 10**12))
    with pytest.raises(LogReadError, match="greater than writer checkpoint"):
        log.backward(Place(10**12, 10**12), 5)


def test_backward_is_exclusive_and_goes_on_before_the_last_event() -> None:
    log = filled()
    page = log.backward(Place(log.end, log.end), 2)
    assert [record.number for record in page.records] == [4, 3]
    assert page.next == (FIRST + 300, FIRST + 300)
    assert numbers(log, page.next, forward=False) == [2, 1, 0]
    assert numbers(log, START, forward=False) == []


def test_backward_leaves_out_what_ends_behind_the_place() -> None:
    log = filled()
    assert numbers(log, Place(FIRST + 200, FIRST + 150), forward=False) == [0]


@pytest.mark.parametrize("position", [1, FIRST + 50])
def test_no_record_begins_between_records(position: int) -> None:
    for read in (filled().forward, filled().backward):
        with pytest.raises(LogReadError, match=f"actual pos {position}"):
            read(Place(position, position), 5)


def test_what_is_no_event_is_passed_over() -> None:
    log = filled(2)
    place = write(log, [], mark=90)
    write(log, [2])
    assert place == FIRST + 200
    assert numbers(log, START) == [0, 1, 2]
    assert numbers(log, Place(place, 0)) == [2]
    assert numbers(log, Place(log.end, log.end), forward=False) == [2, 1, 0]


def test_no_count_gives_no_events() -> None:
    assert filled().forward(START, 0) == ([], START, START)
    assert numbers(filled(), Place(FIRST, FIRST), -1, forward=False) == []


# Explicit transactions


def test_the_events_of_a_transaction_come_where_it_was_committed() -> None:
    log = with_transaction()
    records = log.forward(START, 10).records
    assert [(record.number, record.commit, record.position) for record in records] == [
        (0, FIRST, FIRST),
        (1, FIRST + 300, FIRST + 300),
        (2, FIRST + 400, FIRST + 100),
        (3, FIRST + 400, FIRST + 200),
        (4, FIRST + 460, FIRST + 460),
    ]
    assert log.last == FIRST + 460


def test_what_is_not_committed_does_not_count_as_last() -> None:
    log = filled(1)
    batch = Batch(log._storage)
    batch.mark(100, 1, b"start", commits=False)
    log._storage.add(batch)
    assert (log.last, log.end) == (FIRST, FIRST + 200)


def test_pages_go_on_inside_a_transaction() -> None:
    log = with_transaction()
    page = log.forward(START, 3)
    assert page.next == (FIRST + 400, FIRST + 200)
    page = log.forward(page.next, 1)
    assert ([record.number for record in page.records], page.next) == ([3], (FIRST + 400, FIRST + 300))
    assert numbers(log, page.next) == [4]
    page = log.backward(Place(log.end, log.end), 2)
    assert ([record.number for record in page.records], page.next) == ([4, 3], (FIRST + 460, FIRST + 200))
    page = log.backward(page.next, 1)
    assert ([record.number for record in page.records], page.next) == ([2], (FIRST + 460, FIRST + 100))
    assert numbers(log, page.next, forward=False) == [1, 0]


def test_pages_may_begin_where_a_transaction_was_begun() -> None:
    log = with_transaction()
    assert numbers(log, Place(FIRST + 100, FIRST + 100)) == [1, 2, 3, 4]
    assert numbers(log, Place(FIRST + 200, FIRST + 200), forward=False) == [0]
