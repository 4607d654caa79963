"""Places, their order and their text; credentials; what operations return."""

from __future__ import annotations

import operator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_extreme.errors import InvalidArgument
from trio_extreme.values import (
    ALL,
    ANY,
    END,
    MAX_NAME_SIZE,
    MAX_NUMBER,
    MAX_READ,
    MAX_TOKEN_SIZE,
    NO_STREAM,
    START,
    STREAM_EXISTS,
    Credentials,
    DeleteResult,
    Place,
    Position,
    WriteResult,
    utf8_size,
)

numbers = st.integers(-1, MAX_NUMBER)
positions = st.builds(Position, numbers, numbers, st.booleans())

# Oldest first; the inclusive one stands before the event that may be there.
IN_ORDER = [
    Position(-1, -1),
    Position(0, 0, inclusive=True),
    Position(0, 0),
    Position(5, 4),
    Position(5, 5, inclusive=True),
    Position(5, 5),
    # The place after an event is (x, 0) now and then: pitfall 31.
    Position(10, 0),
    Position(10, 9),
    Position(MAX_NUMBER, MAX_NUMBER),
]


def test_positions_are_ordered() -> None:
    shuffled = IN_ORDER[1::2] + IN_ORDER[::2]
    assert sorted(shuffled) == IN_ORDER
    for first, second in pairwise(IN_ORDER):
        assert first < second
        assert first <= second
        assert second > first
        assert second >= first
        assert first != second
        assert not first > second
        assert not first >= second
        assert not second < first
        assert not second <= first


@given(positions, positions)
def test_order_is_one_of_three(first: Position, second: Position) -> None:
    assert (first < second) + (first > second) + (first == second) == 1
    assert (first <= second) == (not first > second)
    assert (first >= second) == (not first < second)


@given(positions)
def test_positions_come_back_from_their_text(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert hash(Position.parse(str(position))) == hash(position)


@pytest.mark.parametrize("other", [5, None, "C:1/P:1", (1, 1, False)])
def test_what_a_position_cannot_be_compared_with(other: Any) -> None:
    position = Position(1, 1)
    assert position != other
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        with pytest.raises(TypeError, match="not supported between instances of"):
            compare(position, other)


class Beyond:
    """Knows positions, as somebody else's class may."""

    def __gt__(self, other: object) -> bool:
        return isinstance(other, Position)


def test_other_classes_may_know_positions() -> None:
    assert Position(1, 1) < Beyond()


def test_the_text_of_a_position() -> None:
    assert str(Position(1250, 1249)) == "C:1250/P:1249"
    assert str(Position(1250, 1249, inclusive=True)) == "C:1250/P:1249+"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "C:1/P:",
        "C:1/P:2 ",
        "C:1/P:2++",
        "c:1/p:2",
        "C:1/P:2\n",
        # Digits of other scripts: int() would take them.
        "C:\u0663/P:\u0663",
        # Past 64 bits; past what int() converts at all.
        "C:9223372036854775808/P:0",
        "C:0/P:" + "9" * 5000,
    ],
)
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(InvalidArgument, match="position: "):
        Position.parse(text)


def test_numbers_on_the_wire() -> None:
    assert (ANY, NO_STREAM, STREAM_EXISTS) == (-2, -1, -4)
    assert MAX_NUMBER == 9223372036854775807
    assert MAX_READ == 4096
    assert ALL == "$all"
    assert {START, END} == set(Place)


def test_results_are_values() -> None:
    assert WriteResult(0, 1, Position(5, 5)) == WriteResult(0, 1, Position(5, 5))
    assert DeleteResult(None) != DeleteResult(Position(0, 0))


def test_the_longest_credentials() -> None:
    assert len(Credentials("l" * MAX_NAME_SIZE, "\u00e9" * 127 + "p").login) == 255
    assert len(Credentials(token="t" * MAX_TOKEN_SIZE).token) == 32765


@pytest.mark.parametrize(
    ("login", "password", "token", "text"),
    [
        ("l" * 256, "secret", "", "username: 256 bytes of UTF-8; the protocol's limit is 255"),
        # One that wrapped its length byte was refused as a wrong password elsewhere.
        ("l" * 300, "secret", "", "username: 300 bytes"),
        ("\u00e9" * 128, "secret", "", "username: 256 bytes"),
        ("l", "secret" * 50, "", "password: 300 bytes"),
        ("\ud800", "secret", "", "username: half of a surrogate pair"),
        ("l", "secret\ud800", "", "password: half of a surrogate pair"),
        ("", "", "secret" * 5462, "token: must be ASCII and at most 32765 characters; this one has 32772"),
        ("", "", "secr\u00e9t", "token: must be ASCII"),
        ("", "", "", "credentials: give a login"),
        ("l", "secret", "secret", "credentials: give a login"),
        ("", "secret", "", "credentials: give a login"),
    ],
)
def test_credentials_no_frame_can_carry(login: str, password: str, token: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text) as caught:
        Credentials(login, password, token)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_repr_hides_secrets() -> None:
    assert repr(Credentials("admin", "secret")) == "Credentials('admin', …)"
    assert repr(Credentials(token="secret")) == "Credentials(token=…)"


def test_size_on_the_wire() -> None:
    assert utf8_size("x", "a\u00e9\U0001f600") == 7
