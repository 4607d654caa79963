from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from tests.embedded.talk import Clock, link, new_event, new_events
from trio_extreme.embedded.reading import (
    EventResult,
    StreamPage,
    StreamResult,
    link_target,
    means_no_metadata,
    read_backward,
    read_event,
    read_forward,
    resolve,
)
from trio_extreme.embedded.records import WIDE_TOMBSTONE, Record, Resolved
from trio_extreme.embedded.store import Store
from trio_extreme.embedded.versions import find_version
from trio_extreme.values import ANY

if TYPE_CHECKING:
    from trio_extreme.wire.schema import NewEvent


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    """A stream of ten events."""
    store = Store(find_version("4.1.1"), now=clock)
    store.append("people", ANY, new_events(10))
    return store


def set_metadata(store: Store, data: bytes) -> None:
    store.append("$$people", ANY, [new_event("$metadata", data)])


def told(page: StreamPage) -> tuple[list[int], int, int, bool]:
    """The numbers of a page, and what is said beside them."""
    assert page.result is StreamResult.Success
    return [record.number for record in page.records], page.next, page.last, page.is_end


def single(store: Store, number: int) -> int | EventResult:
    found = read_event(store, "people", number)
    return found.number if isinstance(found, Record) else found


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [
        (0, 3, ([0, 1, 2], 3, 9, False)),
        (0, 9, ([*range(9)], 9, 9, False)),
        (0, 10, ([*range(10)], 10, 9, True)),
        (8, 5, ([8, 9], 10, 9, True)),
        (10, 5, ([], 10, 9, True)),
        (2**63 - 1, 4096, ([], 10, 9, True)),
    ],
)
def test_forward(store: Store, start: int, count: int, expected: tuple[list[int], int, int, bool]) -> None:
    assert told(read_forward(store, "people", start, count)) == expected


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [
        (-1, 3, ([9, 8, 7], 6, 9, False)),
        (9, 9, ([9, 8, 7, 6, 5, 4, 3, 2, 1], 0, 9, False)),
        (9, 10, ([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], -1, 9, True)),
        (0, 3, ([0], -1, 9, True)),
        (11, 3, ([9], 8, 9, False)),
        (100, 3, ([], 9, 9, False)),
        (100, 200, ([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], -1, 9, True)),
    ],
)
def test_backward(store: Store, start: int, count: int, expected: tuple[list[int], int, int, bool]) -> None:
    assert told(read_backward(store, "people", start, count)) == expected


@pytest.mark.parametrize(
    "metadata", [b'{"$maxCount":3}', b'{"$tb":7}', b'{"$maxCount":5,"$tb":7}', b'{"$maxCount":3,"$tb":2}']
)
def test_what_is_truncated(store: Store, metadata: bytes) -> None:
    set_metadata(store, metadata)
    assert told(read_forward(store, "people", 0, 5)) == ([], 7, 9, False)
    assert told(read_forward(store, "people", 0, 9)) == ([7, 8], 9, 9, False)
    assert told(read_forward(store, "people", 0, 50)) == ([7, 8, 9], 10, 9, True)
    assert told(read_backward(store, "people", -1, 50)) == ([9, 8, 7], -1, 9, True)
    assert told(read_backward(store, "people", -1, 2)) == ([9, 8], 7, 9, False)
    assert told(read_backward(store, "people", 5, 5)) == ([], -1, 9, True)
    assert [single(store, number) for number in (6, 7, -1)] == [EventResult.NotFound, 7, 9]


def test_a_bound_beyond_the_end_hides_what_is_there_but_not_what_comes(store: Store) -> None:
    set_metadata(store, b'{"$tb":20}')
    assert told(read_forward(store, "people", 0, 5)) == ([], 20, 9, False)
    assert told(read_forward(store, "people", 0, 50)) == ([], 10, 9, True)
    assert told(read_backward(store, "people", -1, 5)) == ([], -1, 9, True)


def test_what_has_expired(store: Store, clock: Clock) -> None:
    set_metadata(store, b'{"$maxAge":60}')
    clock.seconds += 60
    assert told(read_forward(store, "people", 0, 3)) == ([0, 1, 2], 3, 9, False)
    clock.seconds += 1
    store.append("people", ANY, new_events(2))
    assert told(read_forward(store, "people", 0, 3)) == ([], 3, 11, False)
    assert told(read_forward(store, "people", 8, 3)) == ([10], 11, 11, False)
    assert told(read_forward(store, "people", 0, 50)) == ([10, 11], 12, 11, True)
    assert told(read_backward(store, "people", -1, 2)) == ([11, 10], 9, 11, False)
    # A page with a gap at its far side is taken for the last.
    assert told(read_backward(store, "people", -1, 5)) == ([11, 10], -1, 11, True)
    assert told(read_backward(store, "people", 5, 3)) == ([], -1, 11, True)
    assert [single(store, number) for number in (9, 10)] == [EventResult.NotFound, 10]


def test_single_events(store: Store) -> None:
    assert [single(store, number) for number in (0, 9, -1, 10)] == [0, 9, 9, EventResult.NotFound]


@pytest.mark.parametrize(
    ("hard", "event", "stream", "last"),
    [
        (False, EventResult.NoStream, StreamResult.NoStream, 9),
        (True, EventResult.StreamDeleted, StreamResult.StreamDeleted, WIDE_TOMBSTONE),
    ],
)
def test_a_deleted_stream(store: Store, event: EventResult, stream: StreamResult, last: int, *, hard: bool) -> None:
    store.delete("people", ANY, hard=hard)
    expected = StreamPage(stream, (), -1, last, is_end=True)
    assert read_forward(store, "people", 0, 5) == read_backward(store, "people", -1, 5) == expected
    assert read_event(store, "people", 0) is read_event(store, "people", -1) is event


def test_a_stream_that_never_was(store: Store) -> None:
    expected = StreamPage(StreamResult.NoStream, (), -1, -1, is_end=True)
    assert read_forward(store, "none", 0, 5) == read_backward(store, "none", -1, 5) == expected
    assert read_event(store, "none", 0) is EventResult.NoStream


def test_a_recreated_stream_shows_its_new_events_alone(store: Store) -> None:
    store.delete("people", ANY, hard=False)
    store.append("people", ANY, new_events(1))
    assert told(read_forward(store, "people", 0, 50)) == ([10], 11, 10, True)
    assert told(read_backward(store, "people", -1, 50)) == ([10], -1, 10, True)
    assert single(store, 9) is EventResult.NotFound


def test_which_missing_events_mean_no_metadata(store: Store) -> None:
    store.delete("buried", ANY, hard=True)
    names = ["$$people", "$$none", "$$buried", "$xpeople", "people"]
    assert [means_no_metadata(store, name) for name in names] == [True, False, False, True, False]


# Links


def written(store: Store, event: NewEvent) -> Record:
    store.append("links", ANY, [event])
    return store.records("links")[-1]


def test_an_event_that_is_no_link_leads_nowhere(store: Store) -> None:
    record = written(store, new_event(data=b"3@people"))
    assert link_target(record) is None
    assert resolve(store, record) == Resolved(record)


@pytest.mark.parametrize(("target", "number"), [("3@people", 3), ("-1@people", 9)])
def test_a_link_leads_to_its_target(store: Store, target: str, number: int) -> None:
    record = written(store, link(target))
    assert resolve(store, record) == Resolved(record, is_followed=True, target=store.records("people")[number])


def test_a_name_may_hold_what_separates(store: Store) -> None:
    store.append("a@b", ANY, new_events(1))
    record = written(store, link("0@a@b"))
    assert link_target(record) == ("a@b", 0)
    assert resolve(store, record).target is store.records("a@b")[0]


@pytest.mark.parametrize(
    "target",
    ["10@people", "0@none", "9223372036854775807@people", "rubbish", "", "x@people", "-2@people", "1_0@people"],
)
def test_a_dead_link_leads_nowhere(store: Store, target: str) -> None:
    record = written(store, link(target))
    assert resolve(store, record) == Resolved(record, is_followed=True)


def test_a_link_that_is_no_text_is_dead(store: Store) -> None:
    record = written(store, new_event("$>", b"0@\xff", is_json=False))
    assert resolve(store, record) == Resolved(record, is_followed=True)


def test_links_die_with_their_targets(store: Store) -> None:
    record = written(store, link("3@people"))
    store.delete("people", ANY, hard=True)
    assert resolve(store, record).target is None


# What holds for any page


@given(
    count=st.integers(0, 12),
    bound=st.integers(0, 14),
    size=st.integers(1, 6),
)
def test_pages_one_after_another_give_what_is_visible_once(count: int, bound: int, size: int) -> None:
    store = Store(find_version("4.1.1"))
    store.append("people", ANY, new_events(count + 1))
    set_metadata(store, b'{"$tb":%d}' % bound)
    visible = list(range(bound, count + 1))
    assert walk(store, 0, size) == visible
    assert walk_back(store, size) == visible[::-1]


def walk(store: Store, start: int, size: int) -> list[int]:
    found: list[int] = []
    while True:
        page = read_forward(store, "people", start, size)
        found += [record.number for record in page.records]
        assert page.is_end or page.next > start
        if page.is_end:
            return found
        start = page.next


def walk_back(store: Store, size: int) -> list[int]:
    found: list[int] = []
    start = -1
    while True:
        page = read_backward(store, "people", start, size)
        found += [record.number for record in page.records]
        if page.is_end:
            assert page.next == -1
            return found
        start = page.next
