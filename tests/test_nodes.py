"""Addresses of nodes as settings name them, and where nodes are reached that tell another address of themselves."""

from __future__ import annotations

from typing import Any

import pytest

from trio_extreme.errors import InvalidArgument
from trio_extreme.nodes import Seed, map_endpoint, read_seed


@pytest.mark.parametrize(
    ("value", "seed", "text"),
    [
        ("h", Seed("h", 2113), "h:2113"),
        ("h:2114", Seed("h", 2114), "h:2114"),
        (("h", 2114), Seed("h", 2114), "h:2114"),
        ("https://h:2114/", Seed("h", 2114, tls=True), "https://h:2114"),
        (("http://h", 2114), Seed("h", 2114, tls=False), "http://h:2114"),
        ("[::1]:2114", Seed("::1", 2114), "[::1]:2114"),
        (("::1", 2114), Seed("::1", 2114), "[::1]:2114"),
        (Seed("h", 1), Seed("h", 1), "h:1"),
    ],
)
def test_what_names_a_node(value: Any, seed: Seed, text: str) -> None:
    assert read_seed(value) == seed
    assert str(seed) == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":2113",
        "h:x",
        "h:0",
        "h:70000",
        "h/path",
        "ftp://h",
        "h?x=1",
        ("h", 0),
        ("h", "2113"),
        ("h", True),
        ("h",),
        5,
        None,
        ("", 2113),
        ("h", 1, 2, 3),
    ],
)
def test_what_names_none(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^nodes: .* is no node; give 'host:2113'"):
        read_seed(value)


def test_a_password_that_came_here_is_not_shown() -> None:
    with pytest.raises(InvalidArgument, match="with an @ in it") as caught:
        read_seed("http://u:secret@h:2113")
    assert "secret" not in str(caught.value)


def test_tables_and_functions_of_addresses() -> None:
    table = {("10.0.0.1", 1113): ("localhost", 31113)}
    assert map_endpoint(None, "10.0.0.1", 1113) == ("10.0.0.1", 1113)
    assert map_endpoint(table, "10.0.0.1", 1113) == ("localhost", 31113)
    assert map_endpoint(table, "10.0.0.2", 1113) == ("10.0.0.2", 1113)
    assert map_endpoint(lambda host, port: (f"{host}.example", port + 1), "n", 1113) == ("n.example", 1114)
    for wrong in (None, "localhost:1", ("h", 0), ("h", "1"), (1, 1)):
        with pytest.raises(InvalidArgument, match=r"^endpoint_map: .* is what it gives for \('n', 1113\)"):
            map_endpoint(lambda _host, _port, wrong=wrong: wrong, "n", 1113)  # type: ignore[misc]
