"""What is refused before it is sent, by an error that names the argument, the value and what may stand there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from trio_extreme.errors import InvalidArgument
from trio_extreme.operations.checks import (
    check_after_in_log,
    check_after_in_stream,
    check_count,
    check_expected,
    check_number,
    check_on_ahead,
    check_one_place,
    check_owner,
    check_page_size,
    check_place_in_log,
    check_place_in_stream,
    check_stream,
)
from trio_extreme.values import ANY, END, MAX_NUMBER, NO_STREAM, START, STREAM_EXISTS, Position

Check: TypeAlias = Callable[[Any], Any]


def check_expected_of_delete(value: Any) -> int:
    return check_expected(value, exists=False)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (check_stream, "people"),
        (check_stream, "$ce-people"),
        (check_stream, "$$people"),
        (check_stream, "\u0161ta \U0001f600"),
        (check_owner, "people"),
        (check_owner, "$ce-people"),
        (check_owner, "$all"),
        (check_expected, ANY),
        (check_expected, NO_STREAM),
        (check_expected, STREAM_EXISTS),
        (check_expected, -2),
        (check_expected, 0),
        (check_expected, MAX_NUMBER - 1),
        (check_expected_of_delete, ANY),
        (check_expected_of_delete, NO_STREAM),
        (check_number, 0),
        (check_number, MAX_NUMBER - 1),
        (check_place_in_stream, START),
        (check_place_in_stream, END),
        (check_place_in_stream, 0),
        (check_place_in_stream, MAX_NUMBER - 1),
        (check_place_in_log, START),
        (check_place_in_log, END),
        (check_place_in_log, Position(0, 0)),
        (check_place_in_log, Position(MAX_NUMBER, MAX_NUMBER, inclusive=True)),
        (check_after_in_stream, 0),
        (check_after_in_stream, MAX_NUMBER - 2),
        (check_after_in_log, Position(0, 0)),
        (check_after_in_log, Position(MAX_NUMBER, MAX_NUMBER, inclusive=True)),
        (check_on_ahead, "wait"),
        (check_on_ahead, "raise"),
        (check_count, None),
        (check_count, 1),
        (check_page_size, 1),
        (check_page_size, 4096),
    ],
)
def test_what_may_be_said(check: Check, value: object) -> None:
    assert check(value) == value


@pytest.mark.parametrize(
    ("check", "argument", "values"),
    [
        (check_stream, "stream", ["", "$all", None, 3, b"people", "\ud800"]),
        (check_owner, "stream", ["", None, 3, "$$people", "$$$all", "$$", "\ud800"]),
        (check_expected, "expected", [-3, -5, MAX_NUMBER, 2**70, None, "0", 1.0, True, START]),
        # Servers answer BadRequest: pitfall 26.
        (check_expected_of_delete, "expected", [STREAM_EXISTS, -4, -3]),
        (check_number, "number", [-1, MAX_NUMBER, None, "0", 1.0, True, END]),
        (check_place_in_stream, "start", [-1, MAX_NUMBER, None, "0", 1.0, True, Position(0, 0)]),
        (check_place_in_log, "start", [0, None, "C:0/P:0", Position(-1, -1), Position(0, -1), Position(2**63, 0)]),
        (check_place_in_log, "start", [Position(0, 2**63)]),
        # After the last number there can be there is nothing.
        (check_after_in_stream, "after", [-1, MAX_NUMBER - 1, MAX_NUMBER, None, "0", 1.0, True, START, Position(0, 0)]),
        (check_after_in_log, "after", [0, None, "C:0/P:0", START, END, Position(-1, -1), Position(2**63, 0)]),
        (check_on_ahead, "on_ahead", ["", "Wait", None, True, 1]),
        (check_count, "count", [0, -1, "1", 1.0, True]),
        (check_page_size, "page_size", [0, 4097, None, "1", 1.0, True]),
    ],
)
def test_what_may_not(check: Check, argument: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(InvalidArgument, match=rf"^{argument}: ") as caught:
            check(value)
        if value != "\ud800":
            assert repr(value) in str(caught.value)


def test_the_holder_of_metadata_is_told_whose_it_is() -> None:
    with pytest.raises(InvalidArgument, match=r"holds the metadata of 'people', and has none itself; give that name"):
        check_owner("$$people")


def test_the_name_of_the_log_is_told_what_to_call() -> None:
    with pytest.raises(InvalidArgument, match=r"read_all\(\)"):
        check_stream("$all")


@pytest.mark.parametrize(
    ("start", "after"),
    [(START, None), (START, 0), (START, Position(0, 0)), (END, None), (0, None), (7, None), (Position(0, 0), None)],
)
def test_one_place_to_begin_at(start: Any, after: Any) -> None:
    check_one_place(start, after)


@pytest.mark.parametrize(
    ("start", "after"), [(END, 0), (0, 0), (7, 6), (Position(0, 0), Position(0, 0)), (END, Position(0, 0))]
)
def test_two_places_to_begin_at(start: Any, after: Any) -> None:
    """Even where both could mean the same: one is included, the other is not."""
    with pytest.raises(InvalidArgument, match=r"^after: ") as caught:
        check_one_place(start, after)
    assert f"after: {after!r} is given, and start={start!r} too" in str(caught.value)


def test_only_what_may_stand_there_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"or ANY, NO_STREAM, STREAM_EXISTS$"):
        check_expected(-3)
    with pytest.raises(InvalidArgument, match=r"or ANY, NO_STREAM$"):
        check_expected_of_delete(-4)


def test_expected_becomes_a_plain_number() -> None:
    assert type(check_expected(ANY)) is int
