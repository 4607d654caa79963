from __future__ import annotations

import pytest

from tests.embedded.talk import new_event
from trio_extreme.embedded.log import Log, LogReadError, Place
from trio_extreme.embedded.records import Record, make_event

FIRST = 168
START = Place(0, 0)


def filled(count: int = 5) -> Log:
    """Events of 100 bytes each."""
    log = Log()
    for number in range(count):
        log.add(Record(log.end, 100, make_event("people", number, new_event(), 0)))
    return log


def numbers(log: Log, start: Place, count: int = 10, *, forward: bool = True) -> list[int]:
    page = log.forward(start, count) if forward else log.backward(start, count)
    return [record.number for record in page.records]


def test_a_log_begins_with_what_is_no_event() -> None:
    log = Log()
    assert (log.last, log.end) == (0, FIRST)
    assert log.forward(START, 10) == ([], START, START)


def test_positions_grow_by_the_size_of_records() -> None:
    log = filled()
    assert (log.last, log.end) == (FIRST + 400, FIRST + 500)
    assert "6 records" in repr(log)


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
    place = log.skip(90)
    log.add(Record(log.end, 100, make_event("people", 2, new_event(), 0)))
    assert place == FIRST + 200
    assert numbers(log, START) == [0, 1, 2]
    assert numbers(log, Place(place, 0)) == [2]
    assert numbers(log, Place(log.end, log.end), forward=False) == [2, 1, 0]


def test_no_count_gives_no_events() -> None:
    assert filled().forward(START, 0) == ([], START, START)
    assert numbers(filled(), Place(FIRST, FIRST), -1, forward=False) == []
