"""`trio-extreme user` and `projection`: over HTTP, and never with a password that others see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.shell import Result, Server, at_terminal, read_until, shown
from trio_extreme import NewEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Cli = Callable[..., Result]

SECRET, OTHER = "a-secret", "another-secret"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for all: each test has users of its own."""
    running = Server("20.10", projections=True)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def web(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line, as admin, and it knows where the web interface is."""
    monkeypatch.setenv("TRIO_EXTREME_URL", server.web_url)
    return cli


def line(result: Result) -> Any:
    assert result.code == 0, result.err
    assert SECRET not in result.out + result.err
    (found,) = map(json.loads, result.lines)
    return found


def create(web: Cli, login: str, *options: str) -> Any:
    return line(web("user", "create", login, *options, "--password-stdin", stdin=f"{SECRET}\n"))


def lets_in(web: Cli, server: Server, login: str, password: str) -> bool:
    url = server.web_url.replace("admin:changeit", f"{login}:{password}")
    return web("ping", "--url", url).code == 0


def test_a_user_from_the_beginning_to_the_end(web: Cli, server: Server) -> None:
    result = web("user", "create", "jane", "--name", "Jane Doe", "--group", "staff", "--password-stdin", stdin=SECRET)
    assert line(result) == {"login": "jane", "result": "created"}
    assert result.err == "user jane: created\n"
    jane = {"login": "jane", "full_name": "Jane Doe", "groups": ["staff"], "disabled": False}
    assert line(web("user", "info", "jane")) == jane
    assert jane in list(map(json.loads, web("user", "list").lines))
    assert lets_in(web, server, "jane", SECRET)

    assert line(web("user", "disable", "jane"))["result"] == "disabled"
    assert line(web("user", "info", "jane"))["disabled"] is True
    assert not lets_in(web, server, "jane", SECRET)
    assert line(web("user", "enable", "jane"))["result"] == "enabled"

    assert line(web("user", "update", "jane", "--group", "$ops"))["result"] == "updated"
    assert line(web("user", "info", "jane")) == jane | {"groups": ["$ops"]}
    line(web("user", "update", "jane", "--name", "Jane Roe"))
    assert line(web("user", "info", "jane")) == jane | {"groups": ["$ops"], "full_name": "Jane Roe"}
    line(web("user", "update", "jane", "--no-groups"))
    assert line(web("user", "info", "jane"))["groups"] == []

    assert line(web("user", "delete", "jane", "--yes"))["result"] == "deleted"
    gone = web("user", "info", "jane")
    assert (gone.code, gone.out) == (1, "")
    assert "jane" in gone.err


def test_passwords(web: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    create(web, "joe")
    monkeypatch.setenv("TRIO_EXTREME_NEW_PASSWORD", OTHER)
    assert line(web("user", "reset-password", "joe")) == {"login": "joe", "result": "password set"}
    assert lets_in(web, server, "joe", OTHER)
    monkeypatch.delenv("TRIO_EXTREME_NEW_PASSWORD")
    url = server.web_url.replace("admin:changeit", f"joe:{OTHER}")
    result = web("user", "password", "--password-stdin", "--url", url, stdin=SECRET)
    assert line(result) == {"login": "joe", "result": "password set"}
    assert lets_in(web, server, "joe", SECRET)
    assert not lets_in(web, server, "joe", OTHER)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "mary"), "no new password, and no terminal to ask at: set TRIO_EXTREME_NEW_PASSWORD"),
        (("create", "mary", "--password-stdin"), "the new password is empty"),
        (("delete", "joe"), "add --yes"),
        (("update", "joe"), "nothing is to be changed"),
        (("update", "joe", "--group", "a", "--no-groups"), "two different things"),
    ],
)
def test_what_cannot_be_meant(arguments: tuple[str, ...], words: str, web: Cli) -> None:
    result = web("user", *arguments)
    assert (result.code, result.out) == (2, "")
    assert words in result.err


def test_whose_password(web: Cli, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setenv("TRIO_EXTREME_URL", server.url)
    result = web("user", "password", "--password-stdin", stdin=SECRET)
    assert (result.code, result.out) == (2, "")
    assert "whose?" in result.err


def test_at_a_terminal(server: Server) -> None:
    with at_terminal("user", "create", "ann", "--url", server.web_url) as process:
        assert process.stdin is not None
        for words in (b"New password of ann", b"Repeat"):
            # The space behind the colon comes when nothing is echoed any more.
            assert words in read_until(process.stdout, b": ")
            process.stdin.write(f"{SECRET}\n".encode())
            process.stdin.flush()
        result = shown(process)
    assert result.code == 0
    assert SECRET not in result.out
    assert "user ann: created" in result.out


def test_projections(web: Cli, server: Server) -> None:
    server.append("order-1", NewEvent("Placed"))
    found = {one["name"]: one for one in map(json.loads, web("projection", "list").lines)}
    assert found["$by_category"]["status"].startswith("Running")
    assert line(web("projection", "disable", "$by_category")) == {"name": "$by_category", "result": "disabled"}
    stopped = {one["name"]: one["status"] for one in map(json.loads, web("projection", "list").lines)}
    assert stopped["$by_category"].startswith("Stopped")
    assert line(web("projection", "enable", "$by_category"))["result"] == "enabled"
    assert line(web("projection", "reset", "$by_category", "--yes"))["result"] == "reset"
    assert line(web("projection", "state", "$by_category"))["state"] is None
    result = web("projection", "reset", "$by_category")
    assert (result.code, "add --yes" in result.err) == (2, True)
    missing = web("projection", "enable", "nothing")
    assert (missing.code, missing.out) == (1, "")


def test_projections_for_humans(web: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_extreme.cli.output.is_terminal", lambda: True)
    assert "$by_category  Running" in web("projection", "list").out
    assert web("projection", "state", "$by_category").out == "null\n"


def test_where_there_are_none(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_EXTREME_URL", f"{server.admin_url}?http_port=1")
    result = cli("projection", "list")
    assert result.code == 3
    assert "Try: --url with ?http_port=" in result.err
