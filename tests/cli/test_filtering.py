"""`read` and `watch` of the log, of which the server chooses some: one that can, and one that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.shell import Server
from trio_extreme import NewEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.shell import Result

    Cli = Callable[..., Result]

SIFTED = "the server is older than 20.6 and does not filter: all events come, and are sifted here"


@pytest.fixture(params=["4.1.1", "20.10"], scope="module")
def version(request: pytest.FixtureRequest) -> str:
    """One of each kind."""
    value: str = request.param
    return value


@pytest.fixture(scope="module")
def filled(version: str) -> Iterator[Server]:
    """With orders and customers; nobody here changes it."""
    running = Server(version)
    running.start()
    for number in range(3):
        shipped = NewEvent("OrderShipped", b"s%d" % number)
        running.append(f"order-{number}", NewEvent("OrderPlaced", b"p%d" % number), shipped)
        running.append(f"customer-{number}", NewEvent("CustomerCreated", b"c%d" % number))
    yield running
    running.stop()


@pytest.fixture
def server(filled: Server) -> Server:
    """For `cli`."""
    return filled


def ask(cli: Cli, server: Server, command: str, *options: str) -> Result:
    return cli(command, "$all", "--format", "%d ", "--url", server.admin_url, *options)


WAYS: dict[str, tuple[list[str], str]] = {
    "streams by prefix": (["--filter-streams", "customer-"], "c0 c1 c2 "),
    "streams by prefixes": (["--filter-streams", "order-1, customer-1"], "p1 s1 c1 "),
    "streams by expression": (["--filter-streams", "/-[12]$/"], "p1 s1 c1 p2 s2 c2 "),
    "types by prefix": (["--filter-types", "OrderS"], "s0 s1 s2 "),
    "types by expression": (["--filter-types", "/(Placed|Created)$/"], "p0 c0 p1 c1 p2 c2 "),
    "no system events": (["--filter-types", "/^[^$]/"], "p0 s0 c0 p1 s1 c1 p2 s2 c2 "),
    "backwards": (["--filter-types", "OrderS", "--backwards"], "s2 s1 s0 "),
    "so many": (["--filter-types", "OrderS", "--count", "2"], "s0 s1 "),
    "the last of them": (["--filter-types", "OrderS", "--from", "-2"], "s1 s2 "),
    "types of what is left": (["--filter-streams", "order-", "--types", "*Placed"], "p0 p1 p2 "),
    "so many of what is left": (["--filter-streams", "order-", "--types", "*Placed", "--count", "2"], "p0 p1 "),
    "none": (["--filter-streams", "none"], ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_read(cli: Cli, server: Server, way: str) -> None:
    options, expected = WAYS[way]
    result = ask(cli, server, "read", *options)
    assert (result.code, result.out) == (0, expected)
    # Only that the server cannot is told.
    assert result.err.strip() in ("", SIFTED)


@pytest.mark.parametrize("way", ["streams by prefixes", "types by expression", "types of what is left"])
def test_watch(cli: Cli, server: Server, way: str) -> None:
    options, expected = WAYS[way]
    result = ask(cli, server, "watch", "--from", "start", "--exit-at-end", *options)
    assert (result.code, result.out) == (0, expected)
    lines = [line for line in result.err.splitlines() if line != SIFTED]
    assert lines[0].startswith("watching $all")
    assert lines[1:] == ["caught up; what follows comes as it is written"]


def test_the_last_that_match_are_watched(cli: Cli, server: Server) -> None:
    result = ask(cli, server, "watch", "--from", "-2", "--exit-at-end", "--filter-types", "OrderS")
    assert result.out == "s1 s2 "


@pytest.mark.parametrize("command", ["read", "watch --from start"])
def test_an_expression_that_cannot_be_read(cli: Cli, server: Server, version: str, command: str) -> None:
    name, *place = command.split()
    result = ask(cli, server, name, *place, "--filter-types", "/a(/")
    assert result.out == ""
    if version == "4.1.1":
        assert result.code == 2
        assert "Error: regex: 'a(' is none that Python can compile" in result.err
    else:
        assert result.code == 1
        assert "Error: the server cannot read the regular expression 'a(': " in result.err
        assert "Try: the same with another expression, as .NET reads them" in result.err


WRONG: dict[str, tuple[list[Any], str]] = {
    "of a stream": (["read", "people", "--filter-types", "a"], "they are for '$all'. In one stream, --types chooses."),
    "both": (["read", "$all", "--filter-types", "a", "--filter-streams", "b"], "servers take one of them; --types"),
    "nothing": (["read", "$all", "--filter-types", ""], "'' chooses nothing; give prefixes"),
    "commas": (["watch", "$all", "--filter-streams", " , "], "' , ' chooses nothing; give prefixes"),
    "an empty expression": (["read", "$all", "--filter-streams", "//"], "'//' chooses nothing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant(cli: Cli, name: str) -> None:
    arguments, message = WRONG[name]
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in " ".join(result.err.split())
