"""`trio-extreme parked`: what a listener put aside, one of it whole, and some of it handled again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.cli.shell import Result, Server
from trio_extreme import STOP, Event, Listener, MemoryCheckpoints, NewEvent, Park, open_connection
from trio_extreme.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for all: each test has streams of its own."""
    running = Server()
    running.start()
    yield running
    running.stop()


def lines(result: Result) -> list[Any]:
    assert result.code == 0, result.err
    return list(map(json.loads, result.lines))


def listen(server: Server, stream: str, until: int, *, bad: tuple[int, ...] = ()) -> list[tuple[str, int]]:
    """Handle a stream up to its event `until`, parking those that are bad; what was handled."""
    handled: list[tuple[str, int]] = []

    async def handle(event: Event) -> object:
        if event.checkpoint > until:
            return STOP
        if event.number in bad:
            # As an exception of a program that met a broken file name says it.
            msg = f"no {event.number} \x1b[31m \udcff"
            raise ValueError(msg)
        handled.append((event.stream, event.number))
        return None

    async def follow() -> None:
        async with open_connection(server.settings) as conn, trio.open_nursery() as nursery:
            listener = Listener(
                conn, stream, handle, checkpoints=MemoryCheckpoints(), name="jobs", on_error=Park(f"{stream}-parked")
            )
            nursery.start_soon(listener.run)
            await listener.reached(until)
            nursery.cancel_scope.cancel()

    trio.run(follow)
    return handled


def park(server: Server, stream: str) -> None:
    """Five events, of which 1, 2 and 4 are put aside."""
    server.append(stream, *[NewEvent.json("Asked", {"n": number}) for number in range(5)])
    assert listen(server, stream, 4, bad=(1, 2, 4)) == [(stream, 0), (stream, 3)]


def test_what_a_listener_parked_and_why(cli: Cli, server: Server) -> None:
    park(server, "told")
    result = cli("parked", "told-parked")
    found = lines(result)
    assert [(one["parked"], one["stream"], one["number"], one["type"]) for one in found] == [
        (0, "told", 1, "Asked"),
        (1, "told", 2, "Asked"),
        (2, "told", 4, "Asked"),
    ]
    (listener, error, reason, added) = (found[0][key] for key in ("listener", "error", "reason", "added"))
    assert (listener, error, reason) == ("jobs", "ValueError", "no 1 \x1b[31m \\udcff")
    assert added.endswith("Z")
    assert result.err == "3 parked; replay leaves them here\n"
    # One of it whole, which `append` takes as it takes what `read` prints.
    whole = cli("parked", "told-parked", "--show", "1")
    (one,) = lines(whole)
    assert (one["stream"], one["number"], one["data"], one["parked"]) == ("told", 2, {"n": 2}, 1)
    assert one["link"] == {"stream": "told-parked", "number": 1}
    assert (one["listener"], one["error"]) == ("jobs", "ValueError")
    assert cli("append", "taken", stdin=whole.out).code == 0
    result = cli("parked", "told-parked", "--show", "3")
    assert (result.code, "has no event 3" in result.err) == (1, True)


def test_what_is_parked_at_a_terminal(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    park(server, "seen")
    for options, words in (
        ((), ("0  seen/1  Asked  ", "Z  ValueError: no 1 \\x1b[31m", "2  seen/4")),
        (("--show", "2"), ("stream: seen", "reason: no 4 \\x1b[31m", "data:", '  {"n":4}')),
    ):
        told = cli("parked", "seen-parked", *options)
        assert told.code == 0
        assert all(word in told.out for word in words), told.out
    assert cli("parked", "seen-parked", "replay", "0", "--to", "seen").out == "0  seen/1 -> seen/5\n"
    assert cli("parked", "never").err == "nothing is parked\n"


def test_the_chosen_ones_are_handled_again(cli: Cli, server: Server) -> None:
    park(server, "again")
    result = cli("parked", "again-parked", "replay", "2", "0", "2", "--to", "again-retried")
    assert lines(result) == [
        {"parked": 2, "stream": "again", "number": 4, "to": "again-retried", "appended": 0},
        {"parked": 0, "stream": "again", "number": 1, "to": "again-retried", "appended": 1},
    ]
    assert result.err == "2 links appended to again-retried; what is parked stays in again-parked\n"
    assert listen(server, "again-retried", 1) == [("again", 4), ("again", 1)]
    assert len(lines(cli("parked", "again-parked"))) == 3
    # Again is again, and the stream that the listener followed will do as well.
    assert lines(cli("parked", "again-parked", "replay", "0", "--to", "again-retried"))[0]["appended"] == 2
    assert lines(cli("parked", "again-parked", "replay", "1", "--to", "again"))[0]["appended"] == 5
    assert listen(server, "again", 5)[-1] == ("again", 2)
    # What fails again is put aside already.
    assert listen(server, "again", 5, bad=(1, 2, 4)) == [("again", 0), ("again", 3)]
    assert len(lines(cli("parked", "again-parked"))) == 3


def test_what_cannot_be_replayed_appends_nothing(cli: Cli, server: Server) -> None:
    server.append("short-lived", NewEvent("Asked"))
    server.append("odd", NewEvent("$>", b"0@gone"), NewEvent("Note", metadata=b"["), NewEvent("$>", b"0@short-lived"))
    server.append("odd", NewEvent("$>", b"\xff@", metadata=b'{"reason": 1}'))
    found = lines(cli("parked", "odd"))
    assert [(one["stream"], one["number"], one["type"], one["reason"]) for one in found] == [
        ("gone", 0, None, None),
        ("odd", 1, "Note", None),
        ("short-lived", 0, "Asked", None),
        ("", None, None, None),
    ]
    result = cli("parked", "odd", "--show", "0")
    assert (result.code, result.err) == (0, "gone/0, behind link 0, is not there any more\n")
    for number, why in (("0", "gone/0, behind link 0, is not there"), ("1", "no link"), ("9", "has no event 9")):
        result = cli("parked", "odd", "replay", "2", number, "--to", "elsewhere")
        assert (result.code, result.out, why in result.err) == (1, "", True), result.err
    assert cli("read", "elsewhere").code == 1


def test_whose_output_is_closed_is_told_how_far_it_came(
    cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(_data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise BrokenPipeError

    server.append("piped", NewEvent("Asked"))
    server.append("piped-parked", NewEvent("$>", b"0@piped"), NewEvent("$>", b"0@piped"))
    with monkeypatch.context() as patched:
        patched.setattr(output, "write", write)
        result = cli("parked", "piped-parked", "replay", "0", "1", "--to", "piped-retried")
    assert (result.code, "after 1 link had been appended" in result.err) == (1, True), result.err
    assert cli("read", "piped-retried", "--format", "%n ").out == "0 "


def test_what_contradicts_itself_is_a_usage_error(cli: Cli) -> None:
    for arguments, why in (
        (("--to", "x"), "it is for replay"),
        (("replay", "--to", "x"), "it wants the numbers of links"),
        (("replay", "1"), "it wants the numbers of links"),
        (("replay", "1", "--to", "odd"), "is where they are parked"),
        (("replay", "1", "--to", "x", "--show", "1"), "give one of them"),
        (("replay", "-1", "--to", "x"), "-1"),
        (("repeat", "1"), "'repeat' is not"),
    ):
        result = cli("parked", "odd", *arguments)
        assert (result.code, result.out, why in result.err) == (2, "", True), result.err
