"""`trio-extreme watch`: what comes from now on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.shell import Server, finished, read_until, started
from trio_extreme import NewEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.shell import Result

    Cli = Callable[..., Result]


def test_it_shows_what_comes_and_not_what_was(server: Server) -> None:
    server.append("people", NewEvent("before"))
    with started("watch", "people", "--count", "2", "--url", server.url) as process:
        read_until(process.stderr, b"watching people at 127.0.0.1:")
        server.append("others", NewEvent("elsewhere"))
        server.append("people", NewEvent("first"), NewEvent("second"), NewEvent("third"))
        result = finished(process)
    assert result.code == 0
    lines = list(map(json.loads, result.lines))
    assert [(line["number"], line["type"]) for line in lines] == [(1, "first"), (2, "second")]
    assert lines[0]["position"].startswith("C:")


def test_all_streams_some_types(server: Server) -> None:
    options = ["--types", "b*", "--count", "2", "--format", "%s:%t\n", "--url", server.admin_url]
    with started("watch", "$all", *options) as process:
        read_until(process.stderr, b"watching $all")
        server.append("one", NewEvent("a"), NewEvent("b"))
        server.append("two", NewEvent("c"), NewEvent("bb"), NewEvent("b"))
        result = finished(process)
    assert (result.code, result.out) == (0, "one:b\ntwo:bb\n")


def test_a_stream_that_is_deleted_for_ever_ends_it(server: Server) -> None:
    server.append("people", NewEvent("before"))
    with started("watch", "people", "--raw", "--url", server.url) as process:
        read_until(process.stderr, b"watching")
        server.append("people", NewEvent("x", b"last words"))
        server.delete("people", hard=True)
        result = finished(process)
    assert (result.code, result.out) == (1, "last words\n")
    assert "deleted for ever" in result.err


def test_a_server_that_stops_ends_it(server: Server) -> None:
    with started("watch", "people", "--url", server.url) as process:
        read_until(process.stderr, b"watching")
        server.stop()
        result = finished(process)
    assert result.code in (1, 3)
    assert "Try: " in result.err
