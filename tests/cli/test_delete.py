"""`trio-extreme delete`: what it says there is to lose, that it asks, and what it deletes."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.shell import Result, Server, at_terminal, read_until, shown
from trio_extreme import NewEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    Cli = Callable[..., Result]


def line(result: Result) -> Any:
    assert result.code == 0, result.err
    (found,) = map(json.loads, result.lines)
    return found


def fill(server: Server, count: int = 3) -> None:
    server.append("people", *[NewEvent("born") for _ in range(count)])


@pytest.mark.parametrize(("options", "hard"), [([], False), (["--hard"], True)])
def test_without_asking(cli: Cli, server: Server, options: list[str], *, hard: bool) -> None:
    fill(server)
    result = cli("delete", "people", "--yes", *options)
    found = line(result)
    assert found.pop("position").startswith("C:")
    assert found == {"stream": "people", "hard": hard, "events": 3, "first": 0, "last": 2}
    assert result.err == f"people is deleted{' for ever' if hard else ', softly'}\n"
    again = cli("append", "people", stdin='{"type": "born"}')
    assert (again.code, "was deleted for ever" in again.err) == ((1, True) if hard else (0, False))
    if not hard:
        assert json.loads(again.out)["first"] == 3


def test_events_that_are_hidden_do_not_count(cli: Cli, server: Server) -> None:
    fill(server, 10)
    cli("meta", "set", "people", "--max-count", "4")
    found = line(cli("delete", "people", "--yes"))
    assert (found["events"], found["first"], found["last"]) == (4, 6, 9)


@pytest.mark.parametrize("yes", [["--yes"], []])
def test_what_is_not_there(cli: Cli, server: Server, yes: list[str]) -> None:
    result = cli("delete", "people", "--yes")
    assert (result.code, result.out) == (1, "")
    assert "stream 'people' does not exist, or was deleted softly before" in result.err
    fill(server)
    server.delete("people", hard=False)
    assert cli("delete", "people", "--yes").code == 1
    # Its name can be taken all the same.
    found = line(cli("delete", "people", "--yes", "--hard"))
    assert (found["events"], found["first"], found["last"]) == (0, None, None)
    result = cli("delete", "people", "--yes", "--hard")
    assert result.code == 1
    assert "was deleted for ever" in result.err


def test_it_does_not_delete_where_it_cannot_ask(cli: Cli, server: Server) -> None:
    fill(server)
    result = cli("delete", "people")
    assert (result.code, result.out) == (2, "")
    assert "there is no terminal to ask at: add --yes" in result.err
    assert len(cli("read", "people").lines) == 3


def test_where_it_must_be(cli: Cli, server: Server) -> None:
    fill(server)
    for hard in ([], ["--hard"]):
        result = cli("delete", "people", "--yes", "--expected", "1", *hard)
        assert (result.code, result.out) == (5, "")
        assert "Try: trio-extreme read people --backwards --count 1" in result.err
    assert cli("delete", "people", "--yes", "--expected", "exists").code == 2
    assert cli("delete", "people", "--yes", "--expected", "2").code == 0


def test_who_may_not_delete_and_who_may_not_read(cli: Cli, server: Server) -> None:
    fill(server)
    url = ("--url", server.admin_url)
    cli("meta", "set", "people", "--delete", "", *url)
    result = cli("delete", "people", "--yes")
    assert result.code == 4
    assert "may not delete stream 'people' (the right $d)" in result.err
    cli("meta", "set", "people", "--delete", "$all", "--read", "", *url)
    found = line(cli("delete", "people", "--yes"))
    assert (found["events"], found["first"], found["last"]) == (None, None, None)


def ask(server: Server, answer: bytes, *options: str, meanwhile: Callable[[], None] = lambda: None) -> Result:
    """What the terminal shows up to the question, and after it was answered."""
    with at_terminal("delete", "people", "--url", server.url, *options) as process:
        assert process.stdin is not None
        question = read_until(process.stdout, b"[y/N]: ")
        meanwhile()
        process.stdin.write(answer)
        process.stdin.flush()
        result = shown(process)
    return Result(result.code, " ".join((question.decode() + result.out).split()), "")


def test_at_a_terminal_it_says_what_there_is_to_lose(cli: Cli, server: Server) -> None:
    fill(server)
    result = ask(server, b"n\n")
    assert result.code == 1
    assert (
        f"Stream people at {server.address}: 3 events, number 0 to 2. Softly: nobody reads them any more" in result.out
    )
    assert result.out.endswith("nothing was deleted")
    assert len(cli("read", "people").lines) == 3
    result = ask(server, b"y\n", "--hard")
    assert "3 events, number 0 to 2. For ever: a tombstone is written, and nobody can ever use this name" in result.out
    assert (result.code, result.out.endswith("people is deleted for ever")) == (0, True)
    assert "was deleted for ever" in cli("read", "people").err


def test_what_came_while_it_was_asking_is_not_deleted(cli: Cli, server: Server) -> None:
    fill(server)
    result = ask(server, b"y\n", meanwhile=lambda: fill(server, 1))
    assert result.code == 5
    assert "is not at expected version 2" in result.out
    assert len(cli("read", "people").lines) == 4


def test_interrupted_at_the_question(cli: Cli, server: Server) -> None:
    fill(server)
    with at_terminal("delete", "people", "--url", server.url) as process:
        read_until(process.stdout, b"[y/N]: ")
        # Python notices a signal late that comes in the moment in which it begins to wait for a line.
        while process.poll() is None:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.write(b"\x03")
                process.stdin.flush()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
        assert process.returncode == 130
    assert len(cli("read", "people").lines) == 3


def test_at_a_terminal_where_there_is_nothing(server: Server) -> None:
    result = ask(server, b"y\n", "--hard")
    assert "there are no events that can be read. For ever" in result.out
    assert result.code == 0


def test_at_a_terminal_where_nothing_may_be_read(cli: Cli, server: Server) -> None:
    fill(server)
    cli("meta", "set", "people", "--read", "", "--url", server.admin_url)
    result = ask(server, b"y\n")
    assert "you may not read what is in it. Softly" in result.out
    assert result.code == 0
