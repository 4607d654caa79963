"""What all commands share: usage, errors and their exit codes, signals, pipes, what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.shell import TIMEOUT, Server, at_terminal, finished, read_until, shown, started
from trio_extreme import (
    ConnectionLost,
    EventNotFound,
    FrameTooLarge,
    MetadataUnreadable,
    NewEvent,
    NotMaster,
    OutcomeUnknown,
    ProjectionNotFound,
    ProjectionsNotRunning,
    SubscriptionDropped,
    TrioExtremeError,
    UserExists,
    UserNotFound,
)
from trio_extreme.cli.connecting import Target
from trio_extreme.cli.failures import CommandFailed, explain
from trio_extreme.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.shell import Result

    Cli = Callable[..., Result]

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
COMMANDS = ["append", "completion", "delete", "demo", "export", "import", "meta", "read", "report", "serve", "watch"]


def python(code: str) -> Result:
    with started(program=[sys.executable, "-c", code]) as process:
        return finished(process)


# --- what is missing


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_sentence_says_how_to_get_it(missing: str) -> None:
    result = python(f"import sys; sys.modules[{missing!r}] = None; from trio_extreme.cli import main; main()")
    assert result.code == 2
    assert result.out == ""
    assert f"{missing} is not installed" in result.err
    assert "pip install 'trio-extreme[cli]'" in result.err
    assert result.err.count("\n") == 2


def test_another_module_that_is_missing_is_not_hidden() -> None:
    with started(
        program=[
            sys.executable,
            "-c",
            "import sys; sys.modules['h11'] = sys.modules['trio'] = None; import trio_extreme.cli",
        ]
    ) as process:
        _, err = process.communicate(timeout=TIMEOUT)
    assert b"trio" in err


# --- usage


def test_without_a_command_it_shows_what_there_is(cli: Cli) -> None:
    result = cli()
    assert (result.code, result.out) == (2, "")
    for command in COMMANDS:
        assert command in result.err


def test_its_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("trio-extreme, version ")


@pytest.mark.parametrize("command", [*COMMANDS, "meta get", "meta set"])
def test_every_command_has_help(cli: Cli, command: str) -> None:
    result = cli(*command.split(), "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: trio-extreme {command}")


@pytest.mark.parametrize("command", [*COMMANDS, "meta get", "meta set"])
def test_every_command_is_on_the_page(command: str) -> None:
    assert f"\n| `{command}" in PAGE or command == "meta"


def test_a_group_of_commands_shows_what_there_is(cli: Cli) -> None:
    result = cli("meta")
    assert (result.code, result.out) == (2, "")
    assert "Show the metadata of a stream." in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["raed"], "No such command"),
        (["read"], "Missing argument"),
        (["read", ""], "single quotes: '$all'"),
        (["read", "people", "--from", "yesterday"], "'yesterday' is none"),
        (["read", "people", "--from", "C:1/P:1"], "a position is a place in the log"),
        (["read", "$all", "--from", "5"], "the log has no numbers"),
        (["read", "people", "--from", "end"], "trio-extreme watch"),
        (["read", "people", "--from", "-5", "--backwards"], "say --backwards --count 5"),
        (["read", "people", "--from", str(2**63)], "is none"),
        (["read", "people", "--count", "0"], "--count"),
        (["read", "people", "--raw", "--json"], "exclude each other"),
        (["read", "people", "--format", "%n %q"], "'%q' is none of"),
        (["read", "people", "--format", "100%"], "'%' is none of"),
        (["read", "people", "--format", "\\x"], "'\\\\x' is none of"),
        (["append", "$all"], "it is the log of all streams"),
        (["append", "people", "--expected", "-1"], "any, no-stream, exists"),
        (["append", "people", "--batch", "0"], "--batch"),
        (["delete", "$all", "--yes"], "it is the log of all streams"),
        (["delete", "people", "--yes", "--expected", "exists"], "any, no-stream, or the number"),
        (["meta", "get", "$$people"], "'$$people' holds the metadata of 'people': give that name"),
        (["meta", "set", "people"], "nothing to set"),
        (["meta", "set", "people", "--replace", "--max-count", "5"], "--replace takes all from standard input"),
        (["meta", "set", "people", "--max-count", "0"], "--max-count: 0 is no whole number from 1 to 2**63 - 1."),
        (["meta", "set", "people", "--max-count", "many"], "'many' is no whole number; give one, or none."),
        (["meta", "set", "people", "--max-count", "9" * 100], "--max-count: 9999"),
        (["meta", "set", "people", "--max-age", "0"], "--max-age: datetime.timedelta(0) is no time"),
        (["meta", "set", "people", "--max-age", "999999999999d"], "--max-age: "),
        (["meta", "set", "people", "--max-age", "1w"], "'1w' is no time; give seconds, or 90s, 15m, 12h, 7d, or none."),
        (["meta", "set", "people", "--custom", "owner=Pera"], "'owner=Pera' is no KEY=JSON"),
        (["meta", "set", "people", "--custom", "$maxCount=5"], "'$maxCount' has an argument of its own: max_count"),
        (["import", "--stream", "$all"], "it is the log of all streams"),
        (["import", "--expected", "-1"], "any, no-stream, exists"),
        (["report", "--sort", "age"], "'age' is not one of"),
        (["report", "--top", "0"], "--top"),
        (
            ["serve", "--as", "5.0.0"],
            "'5.0.0' is none of those the node can be: 3.9.4, 4.1.1, 5.0, 20.10",
        ),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["demo", "/no/such/folder"], "does not exist"),
        (["read", "people", "--url", "esdb://localhost"], "gRPC"),
        (["read", "people", "--url", "eventstore://localhost?colour=red"], "unknown option 'colour'"),
    ],
)
def test_a_command_that_cannot_be_meant(cli: Cli, arguments: list[str], words: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert words in " ".join(result.err.split())
    assert "--help" in result.err


def test_no_error_shows_the_password(cli: Cli) -> None:
    for url in ("evenstore://admin:sesame@localhost", "eventstore://admin:sesame@localhost:99999"):
        result = cli("read", "people", "--url", url)
        assert result.code == 2
        assert "sesame" not in result.out + result.err


def test_a_name_that_utf_8_cannot_say(cli: Cli) -> None:
    result = cli("read", "caf\udce9")
    assert result.code == 2
    assert "UTF-8 cannot say it" in result.err


# --- exit codes


def test_nobody_there(cli: Cli) -> None:
    result = cli("read", "people", "--url", "eventstore://127.0.0.1:1?first_attempts=1")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("Error: could not connect to 127.0.0.1:1 in 1 attempts")
    assert "Try: trio-extreme serve --port 1" in result.err


def test_it_does_not_try_for_ever(cli: Cli) -> None:
    assert "in 4 attempts" in cli("read", "people", "--url", "eventstore://127.0.0.1:1").err


def test_a_wrong_password(cli: Cli, server: Server) -> None:
    result = cli("read", "people", "--url", server.admin_url.replace("changeit", "sesame"))
    assert (result.code, result.out) == (4, "")
    assert "TRIO_EXTREME_PASSWORD" in result.err
    assert "sesame" not in result.err


@pytest.mark.parametrize("command", ["read", "watch"])
def test_who_may_not(cli: Cli, server: Server, command: str) -> None:
    result = cli(command, "$all")
    assert (result.code, result.out) == (4, "")
    assert f"Try: the same with --url {server.url.replace('//', '//admin@')}" in result.err


def test_a_stream_that_is_not_there(cli: Cli) -> None:
    result = cli("read", "it's")
    assert (result.code, result.out) == (1, "")
    assert "does not exist" in result.err
    assert """Try: trio-extreme watch 'it'"'"'s', which waits""" in result.err


def test_what_to_try_next_goes_to_the_same_server(cli: Cli, server: Server) -> None:
    result = cli("read", "people", "--url", server.admin_url)
    assert f"trio-extreme watch people --url {server.url.replace('//', '//admin@')}, which" in result.err


def test_a_stream_that_is_gone_for_ever(cli: Cli, server: Server) -> None:
    server.append("people", NewEvent("born"))
    server.delete("people", hard=True)
    for arguments in (["read", "people"], ["watch", "people"]):
        result = cli(*arguments)
        assert (result.code, result.out) == (1, "")
        assert "another name" in result.err


TARGET = Target(Settings(), "", "people")


def test_errors_that_are_hard_to_provoke() -> None:
    assert explain(ConnectionLost("gone"), TARGET) == (3, "gone", "the same command again, when the server is back")
    assert explain(SubscriptionDropped("slow", None), TARGET)[0] == 1
    assert "master" in explain(NotMaster("no master", None), TARGET)[2]
    assert explain(ExceptionGroup("two", [ConnectionLost("gone"), OSError("x")]), TARGET)[0] == 3
    assert "read people" in explain(OutcomeUnknown("odd"), TARGET)[2]
    assert explain(OutcomeUnknown("odd"), Target(Settings())) == (1, "odd", "the same command again")
    assert explain(OSError("no space left"), None) == (1, "no space left", "")
    assert explain(TrioExtremeError("odd"), TARGET) == (1, "odd", "the same command again")
    assert explain(CommandFailed("no", "yes", 7), None) == (7, "no", "yes")


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (EventNotFound("people", 7), "trio-extreme read people --backwards --count 1"),
        (UserNotFound("jane"), "trio-extreme user list"),
        (UserExists("jane doe"), "trio-extreme user reset-password 'jane doe'"),
        (ProjectionNotFound("mine"), "trio-extreme projection list"),
        (ProjectionsNotRunning(), "trio-extreme serve --projections"),
        (MetadataUnreadable("people", 0, "no JSON"), "trio-extreme read '$$people' --backwards --count 1"),
        (FrameTooLarge("too large", 9, 8), "the same with fewer, or smaller, events at a time"),
    ],
)
def test_what_to_try_next(error: TrioExtremeError, command: str) -> None:
    assert explain(error, TARGET)[2].startswith(command)


def test_a_bug_of_ours_is_a_sentence_too() -> None:
    code, sentence, hint = explain(ZeroDivisionError("division by zero"), TARGET)
    assert (code, sentence) == (1, "this is a bug of trio-extreme: ZeroDivisionError: division by zero")
    assert "TRIO_EXTREME_DEBUG" in hint


def test_ipv6_addresses_stand_in_brackets() -> None:
    assert Target(Settings(host="::1")).url_for("") == "eventstore://[::1]:1113"


# --- passwords


def test_the_password_comes_from_the_environment(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_EXTREME_PASSWORD", "changeit")
    url = server.url.replace("//", "//admin@")
    assert cli("read", "$all", "--count", "1", "--url", url).code == 0
    monkeypatch.setenv("TRIO_EXTREME_URL", url)
    assert cli("read", "$all", "--count", "1").code == 0


def test_a_password_the_protocol_cannot_say(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_EXTREME_PASSWORD", "x" * 300)
    result = cli("read", "people", "--url", server.url.replace("//", "//admin@"))
    assert result.code == 2
    assert "255" in result.err


def test_without_a_terminal_it_is_not_asked_for(cli: Cli, server: Server) -> None:
    result = cli("read", "people", "--url", server.url.replace("//", "//admin@"))
    assert result.code == 2
    assert "set TRIO_EXTREME_PASSWORD" in result.err


def test_at_a_terminal_it_is_asked_for_and_not_shown(server: Server) -> None:
    server.append("people", NewEvent("born"))
    url = server.url.replace("//", "//admin@")
    with at_terminal("read", "$all", "--count", "1", "--format", "%s\\n", "--url", url) as process:
        assert process.stdin is not None
        # The space is written once the echo is off, and what was typed before is thrown away.
        assert b"Password of admin at " in read_until(process.stdout, b": ")
        process.stdin.write(b"changeit\n")
        process.stdin.flush()
        result = shown(process)
    assert result.code == 0
    assert "people" in result.out
    assert "changeit" not in result.out


# --- signals and pipes


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [["watch", "people"], ["serve", "--port", "0"], ["append", "people"]])
def test_a_signal_ends_it_quietly(server: Server, command: list[str], signum: int, code: int) -> None:
    more = [] if command[0] == "serve" else ["--url", server.url]
    with started(*command, *more, stdin=subprocess.PIPE) as process:
        if command[0] == "append":
            # Once it has appended it surely waits for more.
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b'{"type": "born"}\n')
            process.stdin.flush()
            process.stdout.readline()
        else:
            read_until(process.stderr, b"Ctrl-C ends")
        process.send_signal(signum)
        result = finished(process)
    assert result.code == code
    assert "Error" not in result.err


TWICE = """
import os, signal, trio
from trio_extreme.cli.running import run

async def stubborn():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()

run(stubborn)
"""


def test_a_second_signal_kills() -> None:
    assert python(TWICE).code == -signal.SIGINT


def test_an_error_on_the_way_out_does_not_hide_the_interruption() -> None:
    code = TWICE.replace("with trio.CancelScope(shield=True):", "raise ValueError").split("            os.kill")[0]
    assert python(code + "\nimport sys; sys.exit(run(stubborn))").code == 130


def test_where_bugs_are_looked_for_they_have_a_traceback() -> None:
    code = "from trio_extreme.cli.running import run; run(lambda: 1 / 0)"
    environment = {**os.environ, "TRIO_EXTREME_DEBUG": "1"}
    with started(program=[sys.executable, "-c", code], env=environment) as process:
        _, err = process.communicate(timeout=TIMEOUT)
    assert b"ZeroDivisionError" in err


def test_who_has_seen_enough_ends_it_quietly(server: Server) -> None:
    server.append("people", *[NewEvent("born", b"x" * 1000) for _ in range(1000)])
    with started("read", "people", "--url", server.url) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT) == 0


def test_a_full_disk_is_told(server: Server) -> None:
    server.append("people", NewEvent("born"))
    with Path("/dev/full").open("wb") as full, started("read", "people", "--url", server.url, stdout=full) as process:
        result = finished(process)
    assert result.code == 1
    assert "No space left" in result.err


@pytest.mark.parametrize(
    ("closed", "words"), [(">&-", "standard output is closed"), ("<&-", "standard input is closed")]
)
def test_a_closed_descriptor_is_not_taken_for_a_socket(server: Server, closed: str, words: str) -> None:
    program = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "trio_extreme"]
    with started("append", "people", "--url", server.url, program=program) as process:
        assert process.stderr is not None
        err = process.stderr.read().decode()
        assert process.wait(TIMEOUT) == 1
    assert words in err


def test_a_slow_reader_does_not_cost_the_connection(server: Server) -> None:
    """Standard output is full for longer than the server waits for a heartbeat."""
    server.append("people", *[NewEvent("born", b"x" * 1000) for _ in range(1000)])
    with started("read", "people", "--url", f"{server.url}?page_size=100", "--raw") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(4)
        result = finished(process)
    assert result.code == 0
    assert len(result.lines) == 1000


def test_attempts_that_failed_are_shown_at_a_terminal() -> None:
    with at_terminal("read", "people", "--url", "eventstore://127.0.0.1:1?first_attempts=2") as process:
        result = shown(process)
    assert result.code == 3
    assert "attempt 1 to connect" in result.out


def test_it_runs_as_a_module_and_by_its_name() -> None:
    with started("--version") as process:
        module = finished(process)
    with started(program=[str(Path(sys.executable).parent / "trio-extreme"), "--version"]) as process:
        script = finished(process)
    assert module == script
    assert module.code == 0
