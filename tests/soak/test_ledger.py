"""The ledger notices each way in which events can go wrong, and complains of nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.ledger import Ledger, LogTrail, Verdict, codes_of, make_id
from trio_extreme import NewEvent, Position

if TYPE_CHECKING:
    from collections.abc import Sequence

STREAM = "orders"
CODES = [make_id(1, sequence).int for sequence in range(10)]
STORED = {STREAM: CODES}


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def ledger(complaints: list[str]) -> Ledger:
    """A ledger that knows of ten events which were acknowledged."""
    ledger = Ledger(complaints.append)
    ledger.acknowledged(STREAM, 0, CODES)
    return ledger


def consume(ledger: Ledger, numbers: Sequence[int], *, live: bool = False) -> Verdict:
    trail = ledger.trail("reader", STREAM, live=live)
    for number in numbers:
        trail.saw(number, CODES[number])
    return ledger.judge(STORED)


def wrong(verdict: Verdict) -> tuple[int, int, int, int]:
    return verdict.lost, verdict.doubled, verdict.out_of_order, verdict.strange


def test_the_code_of_an_event_is_its_id() -> None:
    assert codes_of([NewEvent("happened", id=make_id(2, 3))]) == [make_id(2, 3).int]
    assert make_id(2, 3) != make_id(3, 2)


def test_a_faultless_run_is_found_faultless(ledger: Ledger, complaints: list[str]) -> None:
    verdict = consume(ledger, range(10))
    assert verdict == Verdict(written=10, delivered=10, lost=0, doubled=0, out_of_order=0, strange=0)
    assert verdict.faultless
    assert complaints == []


@pytest.mark.parametrize(
    ("numbers", "expected", "complaint"),
    [
        ([0, 1, 2, 5, 6, 7, 8, 9], (2, 0, 0, 0), "2 events of orders never came, the first 3"),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], (1, 0, 0, 0), "1 events of orders never came, the first 0"),
        (range(7), (3, 0, 0, 0), "3 events of orders never came, the first 7"),
        ([], (10, 0, 0, 0), "10 events of orders never came, the first 0"),
        ([0, 1, 2, 2, *range(3, 10)], (0, 1, 0, 0), "orders/2 came, where 3 was to come, again"),
        ([*range(10), *range(5, 10)], (0, 5, 0, 0), "orders/9 came, where 10 was to come, again"),
        ([0, 2, 1, *range(3, 10)], (0, 0, 1, 0), "orders/1 came, where 3 was to come, late"),
        ([0, 2, 1, 1, *range(3, 9)], (1, 1, 1, 0), "1 events of orders never came, the first 9"),
    ],
)
def test_lost_doubled_and_out_of_order(
    ledger: Ledger, complaints: list[str], numbers: Sequence[int], expected: tuple[int, ...], complaint: str
) -> None:
    verdict = consume(ledger, numbers)
    assert wrong(verdict) == expected
    assert not verdict.faultless
    assert f"reader: {complaint}" in complaints


def test_each_consumer_is_held_to_the_same(ledger: Ledger) -> None:
    consume(ledger, range(10))
    assert consume(ledger, range(9)).lost == 1


# --- what is in the store


def test_an_acknowledged_event_that_is_not_stored_is_lost(ledger: Ledger, complaints: list[str]) -> None:
    assert wrong(ledger.judge({STREAM: CODES[:8]})) == (2, 0, 0, 0)
    assert wrong(ledger.judge({})) == (10, 0, 0, 0)
    assert "orders: 2 events are not in the store that were acknowledged or seen" in complaints


def test_an_event_that_is_stored_twice_is_doubled(ledger: Ledger, complaints: list[str]) -> None:
    assert wrong(ledger.judge({STREAM: [*CODES, CODES[3]]})) == (0, 1, 0, 0)
    assert wrong(ledger.judge({STREAM: CODES, "others": CODES[3:5]})) == (0, 2, 0, 0)
    assert complaints[0] == "event 3 of writer 1 is in the store twice"


def test_a_doubtful_event_may_be_stored_once_or_not_at_all(ledger: Ledger) -> None:
    ledger.doubtful([77])
    assert ledger.doubtful_events == 1
    assert wrong(ledger.judge(STORED)) == (0, 0, 0, 0)
    assert wrong(ledger.judge({STREAM: [*CODES, 77]})) == (0, 0, 0, 0)
    assert wrong(ledger.judge({STREAM: [*CODES, 77, 77]})) == (0, 1, 0, 0)


def test_a_refused_event_that_is_stored_is_strange(ledger: Ledger, complaints: list[str]) -> None:
    refused = make_id(4, 2).int
    ledger.refused([refused])
    assert ledger.judge({STREAM: [*CODES, refused]}).strange == 1
    assert complaints == ["event 2 of writer 4 is in the store, and its writer was told that it is not"]


def test_what_was_doubtful_before_it_was_refused_may_be_stored(ledger: Ledger) -> None:
    ledger.doubtful([77])
    ledger.refused([77])
    assert ledger.judge({STREAM: [*CODES, 77]}).faultless


def test_another_event_than_was_acknowledged_is_strange(ledger: Ledger, complaints: list[str]) -> None:
    other = make_id(4, 2).int
    assert ledger.judge({STREAM: [*CODES[:9], other]}).strange == 1
    assert complaints == ["orders/9: stored is event 2 of writer 4, but it was event 9 of writer 1"]


def test_an_event_seen_with_another_content_is_strange(ledger: Ledger, complaints: list[str]) -> None:
    ledger.trail("reader", STREAM).saw(0, make_id(4, 2).int)
    assert ledger.strange == 1
    assert complaints == ["orders/0: reader saw event 2 of writer 4, but it was event 0 of writer 1"]


def test_an_event_that_was_seen_and_is_not_stored_is_strange_and_lost(ledger: Ledger) -> None:
    trail = ledger.trail("reader", STREAM)
    for number, code in enumerate([*CODES, 77]):
        trail.saw(number, code)
    assert wrong(ledger.judge(STORED)) == (1, 0, 0, 1)


# --- live consumers


def test_a_live_consumer_may_begin_anywhere(ledger: Ledger) -> None:
    assert consume(ledger, range(6, 10), live=True).faultless


def test_a_live_consumer_that_saw_nothing_yet_lost_nothing(ledger: Ledger) -> None:
    assert consume(ledger, [], live=True).faultless


def test_a_live_consumer_may_not_skip_untold(ledger: Ledger) -> None:
    assert wrong(consume(ledger, [3, 4, 7, 8, 9], live=True)) == (2, 0, 0, 0)


def test_a_live_consumer_may_not_miss_the_end_untold(ledger: Ledger) -> None:
    assert wrong(consume(ledger, [3, 4], live=True)) == (5, 0, 0, 0)


def test_a_live_consumer_may_skip_once_after_each_gap_it_was_told_of(ledger: Ledger) -> None:
    trail = ledger.trail("watcher", STREAM, live=True)
    trail.saw(1, CODES[1])
    trail.gap_told()
    for number in (4, 5, 8):
        trail.saw(number, CODES[number])
    trail.gap_told()
    assert wrong(ledger.judge(STORED)) == (2, 0, 0, 0)


def test_a_live_consumer_sees_nothing_again_after_a_gap(ledger: Ledger) -> None:
    trail = ledger.trail("watcher", STREAM, live=True)
    trail.saw(4, CODES[4])
    trail.gap_told()
    trail.saw(4, CODES[4])
    assert trail.doubled == 1


# --- consumers of the log


def at(place: int) -> Position:
    return Position(place, place)


def test_a_consumer_of_the_log_sees_every_stream(ledger: Ledger) -> None:
    ledger.acknowledged("others", 0, [77])
    trail = LogTrail(ledger, "log")
    for number, code in enumerate(CODES[:9]):
        trail.saw(STREAM, number, code, at(number))
    assert (trail.trail(STREAM).reached, trail.trail("others").reached) == (9, 0)
    assert ledger.behind() == ["log is at 9 of orders", "log is at 0 of others"]
    assert wrong(ledger.judge({STREAM: CODES, "others": [77]})) == (2, 0, 0, 0)


def test_positions_that_do_not_go_up_are_out_of_order(ledger: Ledger, complaints: list[str]) -> None:
    trail = LogTrail(ledger, "log")
    trail.saw(STREAM, 0, CODES[0], at(5))
    trail.saw("others", 0, 77, at(4))
    assert "log: others/0 at C:4/P:4 came after C:5/P:5" in complaints
    assert ledger.judge({STREAM: CODES[:1], "others": [77]}).out_of_order == 1


def test_an_event_of_the_log_that_comes_again_is_doubled_and_not_out_of_order_as_well(ledger: Ledger) -> None:
    trail = LogTrail(ledger, "log")
    for _ in range(2):
        trail.saw(STREAM, 0, CODES[0], at(5))
    verdict = ledger.judge({STREAM: CODES[:1]})
    assert (verdict.doubled, verdict.out_of_order) == (1, 0)


def test_a_live_consumer_of_the_log_is_told_of_gaps_in_all_streams(ledger: Ledger) -> None:
    trail = LogTrail(ledger, "log", live=True)
    trail.saw(STREAM, 2, CODES[2], at(2))
    trail.saw("others", 5, 75, at(3))
    trail.gap_told()
    trail.saw(STREAM, 8, CODES[8], at(8))
    trail.saw(STREAM, 9, CODES[9], at(9))
    assert ledger.judge({STREAM: CODES, "others": [70, 71, 72, 73, 74, 75, 76]}).faultless
