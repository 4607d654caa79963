"""Filters: what they say, what is refused, and what Python makes of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import pytest

from trio_extreme import Filter, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

SAYINGS: dict[str, Callable[[], Filter]] = {
    "Filter.by_stream('order-')": lambda: Filter.by_stream("order-"),
    "Filter.by_stream('order-', 'customer-')": lambda: Filter.by_stream("order-", "customer-"),
    "Filter.by_stream(regex='^(a|b)')": lambda: Filter.by_stream(regex="^(a|b)"),
    "Filter.by_type('Person', 'Ž')": lambda: Filter.by_type("Person", "Ž"),
    "Filter.by_type(regex='Created$')": lambda: Filter.by_type(regex="Created$"),
    "Filter.exclude_system()": Filter.exclude_system,
}
each = pytest.mark.parametrize("said", SAYINGS)


@each
def test_says_what_it_is(said: str) -> None:
    chosen = SAYINGS[said]()
    assert repr(chosen) == said
    assert eval(said) == chosen  # noqa: S307 - a repr of ours, from above


@each
def test_equal_by_value_and_frozen(said: str) -> None:
    chosen = SAYINGS[said]()
    assert chosen == SAYINGS[said]()
    assert hash(chosen) == hash(SAYINGS[said]())
    assert [other for other in SAYINGS if SAYINGS[other]() == chosen] == [said]
    with pytest.raises(FrozenInstanceError):
        chosen.regex = "another"  # type: ignore[misc]


def test_fields() -> None:
    chosen = Filter.by_stream("a", "b")
    assert (chosen.by, chosen.prefixes, chosen.regex) == ("stream", ("a", "b"), None)
    chosen = Filter.by_type(regex="^a")
    assert (chosen.by, chosen.prefixes, chosen.regex) == ("type", (), "^a")
    # What .NET clients send: docs/protocol.md, 3.7.
    assert Filter.exclude_system() == Filter("type", regex=r"^[^\$].*")


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (Filter.by_stream, r"^filter: Filter\.by_stream\(\) says neither; give prefixes, or regex="),
    "both": (lambda: Filter.by_type("a", regex="b"), r"^filter: Filter\.by_type\('a', regex='b'\) says both"),
    "an empty prefix": (lambda: Filter.by_type("a", ""), r"^prefixes: '' is no prefix"),
    "a list of prefixes": (lambda: Filter.by_type(["a"]), r"^prefixes: \['a'\] is no prefix"),  # type: ignore[arg-type]
    "bytes": (lambda: Filter.by_stream(b"a"), r"^prefixes: b'a' is no prefix"),  # type: ignore[arg-type]
    "half a character": (lambda: Filter.by_stream("\ud800"), r"^prefixes: half of a surrogate pair"),
    "an empty expression": (lambda: Filter.by_stream(regex=""), r"^regex: '' is no regular expression"),
    "an expression of bytes": (lambda: Filter.by_stream(regex=b"a"), r"^regex: b'a' is no regular"),  # type: ignore[arg-type]
    "half a character in it": (lambda: Filter.by_stream(regex="\ud800"), r"^regex: half of a surrogate pair"),
    "letters for prefixes": (lambda: Filter("type", "ab"), r"^prefixes: 'ab' is no tuple; Filter\.by_type"),  # type: ignore[arg-type]
    "by what": (lambda: Filter("data", ("a",)), r"^by: 'data' is neither 'stream' nor 'type'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(InvalidArgument, match=message):
        make()


NAMES = ["order-1", "customer-1", "reorder-1", "$ce-order", "", "Order-1", "ordéř"]


@pytest.mark.parametrize(
    ("filter", "chosen"),
    [
        (Filter.by_stream("order-", "cust"), ["order-1", "customer-1"]),
        (Filter.by_type("$"), ["$ce-order"]),
        (Filter.by_type("ordé"), ["ordéř"]),
        # Found anywhere, unless it says where.
        (Filter.by_stream(regex="order"), ["order-1", "reorder-1", "$ce-order"]),
        (Filter.by_stream(regex="^order"), ["order-1"]),
        (Filter.by_stream(regex="(?i)^order-[0-9]$"), ["order-1", "Order-1"]),
        # Dots and stars of a prefix mean themselves.
        (Filter.by_stream("o.*"), []),
        (Filter.exclude_system(), ["order-1", "customer-1", "reorder-1", "Order-1", "ordéř"]),
    ],
)
def test_chooses(filter: Filter, chosen: list[str]) -> None:
    assert [name for name in NAMES if filter.chooser()(name)] == chosen


@pytest.mark.parametrize("regex", ["(?<year>[0-9]+)", r"\p{Lu}", "a(", "a{99999999999}"])
def test_what_only_dotnet_can_compile_is_no_mistake_until_it_is_done_here(regex: str) -> None:
    chosen = Filter.by_type(regex=regex)
    with pytest.raises(InvalidArgument, match=r"^regex: .* is none that Python can compile \(.*older than 20\.6"):
        chosen.chooser()
