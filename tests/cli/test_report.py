"""`trio-extreme report`: the streams there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.shell import Server, at_terminal, shown
from trio_extreme import NewEvent
from trio_extreme.cli.reporting import _size

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.shell import Result

    Cli = Callable[..., Result]


def append(server: Server, stream: str, count: int, size: int = 0) -> None:
    server.append(stream, *[NewEvent("x", b"d" * size, b"m") for _ in range(count)])


def report(cli: Cli, server: Server, *options: str) -> list[dict[str, Any]]:
    result = cli("report", "--url", server.admin_url, *options)
    assert result.code == 0
    return [json.loads(line) for line in result.lines]


def names(cli: Cli, server: Server, *options: str) -> str:
    return " ".join(row["stream"] for row in report(cli, server, *options))


def test_an_empty_log(cli: Cli, server: Server) -> None:
    result = cli("report", "--url", server.admin_url)
    assert (result.code, result.out, result.err) == (0, "", "0 streams, 0 events, 0 B\n")


def test_a_line_a_stream(cli: Cli, server: Server) -> None:
    append(server, "people", 3, size=9)
    append(server, "orders", 1)
    orders, people = report(cli, server)
    written = cli("read", "people", "--from", "2", "--format", "%c").out
    assert people == {"stream": "people", "events": 3, "bytes": 30, "last": 2, "written": written, "deleted": None}
    assert (orders["stream"], orders["events"], orders["bytes"], orders["last"]) == ("orders", 1, 1, 0)


def test_many_pages(cli: Cli, server: Server) -> None:
    for count in (700, 700, 1):
        append(server, "people", count)
        append(server, f"p{count}", 1)
    rows = {row["stream"]: (row["events"], row["last"]) for row in report(cli, server)}
    assert rows == {"people": (1401, 1400), "p700": (2, 1), "p1": (1, 0)}


def test_its_order_and_its_length(cli: Cli, server: Server) -> None:
    append(server, "few", 1, size=1000)
    append(server, "many", 5)
    append(server, "also", 5)
    append(server, "last", 2)
    assert names(cli, server) == "also few last many"
    assert names(cli, server, "--sort", "events") == "also many last few"
    assert names(cli, server, "--sort", "size") == "few also many last"
    assert names(cli, server, "--sort", "written") == "last also many few"
    result = cli("report", "--sort", "size", "--top", "1", "--url", server.admin_url)
    assert json.loads(result.out)["stream"] == "few"
    # Of all of them.
    assert result.err == "4 streams, 13 events, 1.0 kB\n"


def test_the_streams_of_the_system_are_for_who_asks(cli: Cli, server: Server) -> None:
    append(server, "people", 1)
    append(server, "$mine", 1)
    server.append("$$people", NewEvent.json("$metadata", {"$maxCount": 5}))
    assert names(cli, server) == "people"
    assert names(cli, server, "--include-system") == "$$people $mine people"


def test_what_was_deleted_counts_until_it_is_scavenged(cli: Cli, server: Server) -> None:
    for stream in ("soft", "hard", "back", "whole", "odd"):
        append(server, stream, 2)
    for stream in ("soft", "hard", "back"):
        server.delete(stream, hard=stream == "hard")
    server.delete("never", hard=True)
    append(server, "back", 1)
    server.append("$$whole", NewEvent.json("$metadata", {"$tb": 1}))
    server.append("$$odd", NewEvent("$metadata", b"no JSON"))
    server.append("$$odd", NewEvent("$metadata", b"[]"))
    rows = {row["stream"]: (row["events"], row["last"], row["deleted"]) for row in report(cli, server)}
    assert rows == {
        "soft": (2, 1, "soft"),
        "hard": (2, 1, "hard"),
        "back": (3, 2, None),
        "whole": (2, 1, None),
        "odd": (2, 1, None),
        "never": (0, None, "hard"),
    }


def test_who_may_not_read_the_log(cli: Cli, server: Server) -> None:
    result = cli("report")
    assert (result.code, result.out) == (4, "")
    assert f"Try: the same with --url {server.url.replace('//', '//admin@')}" in result.err


def test_at_a_terminal_it_is_a_table(server: Server) -> None:
    append(server, "people\x1b[2J", 1234, size=1000)
    server.append("$$people\x1b[2J", NewEvent.json("$metadata", {"$tb": 2**63 - 1}))
    with at_terminal("report", "--url", server.admin_url, TERM="dumb") as process:
        table = shown(process).out
    (row,) = (line.split() for line in table.splitlines() if "people" in line)
    assert row[:4] == [r"people\x1b[2J", "1,234", "1.2", "MB"]
    assert row[-1] == "soft"
    assert table.splitlines()[-1] == "1 stream, 1,234 events, 1.2 MB"


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (10**9, "1.0 GB"), (5 * 10**15, "5,000.0 TB")],
)
def test_sizes(size: int, words: str) -> None:
    assert _size(size) == words
