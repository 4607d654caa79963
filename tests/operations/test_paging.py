"""How many events a page has: few at first, then as many as fit, and fewer after one that could not be had."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from trio_extreme.operations.paging import BURST, FIRST_PAGE, PAGE_BYTES, PageSizer, SearchSizer


def test_a_page_should_have_a_mebibyte() -> None:
    """Servers since 4.1 cut off who has ten of them unread."""
    assert PAGE_BYTES == 1_048_576


def test_the_first_page_is_small_and_pages_grow() -> None:
    sizer = PageSizer(4096)
    counts = []
    for _ in range(6):
        counts.append(sizer.count)
        sizer.learn(sizer.count, sizer.count * 100)
    assert counts == [FIRST_PAGE, 64, 512, 4096, 4096, 4096]


@pytest.mark.parametrize(("arguments", "page_bytes"), [((4096,), PAGE_BYTES), ((4096, 50_000), 50_000)])
def test_pages_stay_near_what_they_should_have(arguments: tuple[int, ...], page_bytes: int) -> None:
    sizer = PageSizer(*arguments)
    for _ in range(6):
        sizer.learn(sizer.count, sizer.count * 10_000)
    assert sizer.count == page_bytes // 10_000


def test_events_of_a_mebibyte_come_one_by_one() -> None:
    sizer = PageSizer(500)
    sizer.learn(8, 8 * PAGE_BYTES)
    assert sizer.count == 1
    # And when they get small again, the old mean fades.
    for _ in range(30):
        sizer.learn(sizer.count, sizer.count * 100)
    assert sizer.count == 500


def test_half_of_what_is_known_is_the_last_page() -> None:
    sizer = PageSizer(4096)
    sizer.learn(8, 8 * 1000)
    sizer.learn(64, 64 * 20_000)
    # A mean of 10,500 bytes.
    assert sizer.count == PAGE_BYTES // 10_500


def test_an_empty_page_tells_nothing() -> None:
    sizer = PageSizer(500)
    sizer.learn(0, 30)
    assert sizer.count == FIRST_PAGE


def test_an_empty_page_says_that_pages_come_again() -> None:
    """After pages that could not be had; of their size it says nothing."""
    sizer = PageSizer(500)
    for _ in range(3):
        sizer.shrink(sizer.count)
    assert sizer.count == 1
    sizer.learn(0, 30)
    assert sizer.count == FIRST_PAGE
    sizer.learn(1, PAGE_BYTES)
    sizer.learn(0, 30)
    assert sizer.count == 1


def test_a_limit_below_the_first_page() -> None:
    sizer = PageSizer(3)
    assert sizer.count == 3
    sizer.learn(3, 30)
    assert sizer.count == 3


def test_a_quarter_after_a_page_that_could_not_be_had() -> None:
    sizer = PageSizer(4096)
    asked = [64]
    while sizer.shrink(asked[-1]):
        asked.append(sizer.count)
    assert asked == [64, 16, 4, 1]


@pytest.mark.parametrize(("asked", "then"), [(2, 1), (3, 1), (5, 1), (7, 1), (8, 2), (4096, 1024)])
def test_a_quarter_is_at_least_one(asked: int, then: int) -> None:
    sizer = PageSizer(4096)
    assert sizer.shrink(asked)
    assert sizer.count == then


def test_one_event_is_not_divided() -> None:
    sizer = PageSizer(500)
    assert not sizer.shrink(1)
    assert sizer.count == FIRST_PAGE


def test_pages_grow_again_from_what_could_be_had() -> None:
    sizer = PageSizer(4096)
    sizer.shrink(64)
    sizer.learn(16, 16 * 100)
    assert sizer.count == 128


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 5 * PAGE_BYTES))), st.integers(1, 4096))
def test_never_none_and_never_above_the_limit(pages: list[tuple[int, int]], limit: int) -> None:
    sizer = PageSizer(limit)
    for events, mean in pages:
        sizer.learn(events, events * mean)
        assert 1 <= sizer.count <= limit
        sizer.shrink(sizer.count)
        assert 1 <= sizer.count <= limit


# --- where a filter leaves out some


def test_a_search_looks_through_what_brings_enough() -> None:
    """One in a hundred of 1,000 bytes: ten bytes for each that is looked through, but never more than a page has."""
    sizer = SearchSizer(500)
    for _ in range(4):
        found = sizer.count // 100
        sizer.learn_search(found, sizer.count - found, 20 + 1000 * found)
    assert sizer.count == 500


def test_a_search_may_come_to_where_all_matches() -> None:
    sizer = SearchSizer(500)
    for _ in range(4):
        sizer.learn_search(1, 99, 100_000)
    assert sizer.count == BURST * PAGE_BYTES // 100_000 == 83
    # There it is as any other page.
    for _ in range(10):
        sizer.learn_search(10, 0, 1_000_000)
    assert sizer.count == PAGE_BYTES // 100_000
    assert BURST * PAGE_BYTES < 10 * 1024 * 1024


def test_a_search_that_finds_nothing_looks_through_more() -> None:
    sizer, counts = SearchSizer(500), []
    for _ in range(4):
        counts.append(sizer.count)
        sizer.learn_search(0, sizer.count, 20)
    assert counts == [8, 64, 500, 500]


def test_what_is_sifted_here_has_the_size_of_all_that_came() -> None:
    sizer, plain = SearchSizer(500), PageSizer(500)
    for _ in range(4):
        sizer.learn_search(10, 0, 100_000)
        plain.learn(10, 100_000)
        assert sizer.count == plain.count
