"""`trio-extreme watch`: what comes from a place on, whatever breaks."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.shell import TIMEOUT, Server, at_terminal, finished, read_until, shown, started
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
    # An event of a page of its stream has no position; which come in a page is chance.
    assert all(line["position"] is None or line["position"].startswith("C:") for line in lines)


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
        # Of a stream that is deleted for ever before it is subscribed to, nothing can be read any more.
        read_until(process.stderr, b"caught up")
        server.append("people", NewEvent("x", b"last words"))
        server.delete("people", hard=True)
        result = finished(process)
    assert (result.code, result.out) == (1, "last words\n")
    assert "deleted for ever" in result.err


# --- where it begins and ends


def numbered(first: int, last: int) -> list[NewEvent]:
    return [NewEvent("odd" if number % 2 else "even", b"%d" % number) for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--from start", "0123456789"),
        ("--from 0", "0123456789"),
        ("--from 7", "789"),
        ("--from 10", ""),
        ("--from -3", "789"),
        ("--from -100", "0123456789"),
        ("--from start --count 3", "012"),
        ("--from start --count 10", "0123456789"),
        ("--from -5 --count 2", "56"),
        ("--from start --types odd", "13579"),
        ("--from 2 --types odd --count 2", "35"),
        ("--from start --types none", ""),
    ],
)
def test_what_is_stored_up_to_the_end(cli: Cli, server: Server, options: str, expected: str) -> None:
    server.append("people", *numbered(0, 9))
    result = cli("watch", "people", "--exit-at-end", "--format", "%d", *options.split())
    assert (result.code, result.out) == (0, expected)


def test_many_pages(cli: Cli, server: Server) -> None:
    server.append("people", *numbered(0, 1999))
    result = cli("watch", "people", "--from", "start", "--exit-at-end", "--format", "%n\n")
    assert result.lines == [str(number) for number in range(2000)]


def test_what_is_stored_and_then_what_comes(server: Server) -> None:
    server.append("people", *numbered(0, 2))
    options = ["--from", "1", "--count", "4", "--format", "%d", "--url", server.url]
    with started("watch", "people", *options) as process:
        read_until(process.stderr, b"from 1; Ctrl-C ends\ncaught up; what follows comes as it is written\n")
        server.append("people", *numbered(3, 5))
        result = finished(process)
    assert (result.code, result.out) == (0, "1234")


@pytest.mark.parametrize(("place", "expected"), [("start", "01201"), ("-3", "201"), ("end", "")])
def test_the_log_of_all_streams(cli: Cli, server: Server, place: str, expected: str) -> None:
    server.append("a", *numbered(0, 2))
    server.append("b", *numbered(0, 1))
    options = ["--types", "odd,even", "--format", "%d", "--url", server.admin_url]
    if place == "end":
        with started("watch", "$all", "--count", "1", *options) as process:
            read_until(process.stderr, b"from now on; Ctrl-C ends\n")
            server.append("c", *numbered(7, 7))
            assert finished(process).out == "7"
    else:
        assert cli("watch", "$all", "--from", place, "--exit-at-end", *options).out == expected


def test_the_log_from_a_position_that_was_printed(cli: Cli, server: Server) -> None:
    server.append("a", *numbered(0, 2))
    options = ["--types", "odd,even", "--url", server.admin_url]
    positions = [json.loads(line)["position"] for line in cli("read", "$all", *options).lines]
    for place in (positions[1], f"{positions[1]}+"):
        found = cli("watch", "$all", "--from", place, "--exit-at-end", "--format", "%d", *options)
        assert (found.code, found.out) == (0, "12")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["$all", "--from", "3"], "the log has no numbers"),
        (["people", "--from", "C:1/P:1"], "a position is a place in the log"),
        (["people", "--from", "yesterday"], "'yesterday' is none"),
        (["people", "--exit-at-end"], "from now on there is no end to come to"),
        (["people", "--exit-at-end", "--from", "end"], "from now on there is no end to come to"),
    ],
)
def test_places_that_lead_nowhere(cli: Cli, arguments: list[str], words: str) -> None:
    result = cli("watch", *arguments)
    assert (result.code, result.out) == (2, "")
    assert words in result.err


# --- what is told beside the events


def test_a_stream_that_is_not_there_is_waited_for(server: Server) -> None:
    with started("watch", "people", "--from", "start", "--count", "1", "--raw", "--url", server.url) as process:
        read_until(process.stderr, b"the stream has never been written, or was deleted; waiting for its first event\n")
        server.append("people", NewEvent("born", b"at last"))
        result = finished(process)
    assert (result.code, result.out) == (0, "at last\n")


def test_a_place_beyond_the_end_is_told_once(cli: Cli, server: Server) -> None:
    server.append("people", *numbered(0, 2))
    result = cli("watch", "people", "--from", "9", "--exit-at-end")
    assert (result.code, result.out) == (0, "")
    assert result.err.count("beyond the server's end; its last is 2") == 1


def test_a_reader_that_is_slow_is_told_and_loses_nothing(server: Server) -> None:
    url = f"{server.url}?buffer_events=10"
    with started("watch", "people", "--count", "5000", "--raw", "--url", url) as process:
        read_until(process.stderr, b"caught up")
        # More than the pipe takes: nobody reads it yet.
        for _ in range(10):
            server.append("people", *[NewEvent("x", b"x" * 100)] * 500)
        read_until(process.stderr, b"events came faster than they were printed")
        result = finished(process)
    assert (result.code, result.out) == (0, ("x" * 100 + "\n") * 5000)


# --- whatever breaks


def test_it_survives_a_restart_of_the_server(server: Server) -> None:
    with started("watch", "people", "--count", "3", "--format", "%d", "--url", server.url) as process:
        read_until(process.stderr, b"as it is written\n")
        server.append("people", *numbered(0, 0))
        server.restart(down=0.3)
        said = read_until(process.stderr, b"connected again; nothing was missed\ncaught up")
        server.append("people", *numbered(1, 2))
        result = finished(process)
    assert (result.code, result.out) == (0, "012")
    lost, failed, *_ = said.decode().splitlines()
    assert "connecting again in" in lost
    assert f"attempt 1 to connect to {server.address} failed" in failed


def test_what_is_appended_while_it_is_offline_comes(server: Server) -> None:
    # It waits for up to two seconds before it connects again, and we do not.
    url = f"{server.url}?reconnect_delay=2"
    with started("watch", "people", "--count", "4", "--format", "%d", "--url", url) as process:
        read_until(process.stderr, b"caught up")
        server.append("people", *numbered(0, 0))
        server.restart()
        server.append("people", *numbered(1, 3))
        result = finished(process)
    assert (result.code, result.out) == (0, "0123")


def test_at_a_terminal_trouble_is_told_once_too(server: Server) -> None:
    with at_terminal("watch", "people", "--count", "1", "--url", server.url) as process:
        read_until(process.stdout, b"as it is written")
        server.restart()
        server.append("people", NewEvent("born"))
        result = shown(process)
    assert result.code == 0
    assert result.out.count("connecting again in") == 1
    assert "born" in result.out


def test_attempts_that_run_out_end_it(server: Server) -> None:
    with started("watch", "people", "--url", f"{server.url}?max_attempts=2&reconnect_delay=0") as process:
        read_until(process.stderr, b"caught up")
        server.stop()
        result = finished(process)
    assert (result.code, result.out) == (3, "")
    assert "Try: " in result.err


@pytest.mark.parametrize("offline", [False, True])
def test_ctrl_c_ends_it_at_once(server: Server, offline: bool) -> None:
    with started("watch", "people", "--url", server.url) as process:
        read_until(process.stderr, b"caught up")
        if offline:
            server.stop()
            read_until(process.stderr, b"failed")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        result = finished(process)
    assert (result.code, result.out) == (130, "")
    assert time.monotonic() - began < 2
    assert "Error" not in result.err


def test_ctrl_c_ends_it_while_nobody_reads(server: Server) -> None:
    server.append("people", *[NewEvent("x", b"x" * 1000)] * 500)
    with started("watch", "people", "--from", "start", "--raw", "--url", server.url) as process:
        read_until(process.stdout, b"x")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
