"""`trio-extreme export`: which events come, and as what."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trio

from tests.cli.shell import TIMEOUT, Server, started
from trio_extreme import NewEvent, open_connection
from trio_extreme.cli.exporting import _Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.shell import Result
    from trio_extreme import Connection

    Cli = Callable[..., Result]


def numbered(count: int) -> list[NewEvent]:
    return [NewEvent("counted", str(number).encode()) for number in range(count)]


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.code == 0
    return [json.loads(line) for line in result.lines]


def places(result: Result) -> list[str]:
    return [f"{line['number']}@{line['stream']}" for line in lines(result)]


def test_a_line_has_all_of_an_event(cli: Cli, server: Server) -> None:
    event = NewEvent("born", b'{"name": "Pera"}', b"\xff", is_json=True)
    server.append("people", event)
    (line,) = lines(result := cli("export", "people"))
    assert line.pop("created").endswith("Z")
    assert UUID(line.pop("id")) == event.id
    assert line == {
        "stream": "people",
        "number": 0,
        "type": "born",
        "is_json": True,
        "data": {"name": "Pera"},
        "metadata_base64": "/w==",
    }
    assert result.err == "1 event of 1 stream exported\n"


def test_streams_come_one_after_the_other_each_once(cli: Cli, server: Server) -> None:
    server.append("b", *numbered(2))
    server.append("a", *numbered(1))
    result = cli("export", "b", "a", "b")
    assert places(result) == ["0@b", "1@b", "0@a"]
    assert result.err == "3 events of 2 streams exported\n"


def test_many_pages(cli: Cli, server: Server) -> None:
    server.append("people", *numbered(1200))
    assert [line["data_text"] for line in lines(cli("export", "people"))] == list(map(str, range(1200)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--from 3", "34"),
        ("--from -2", "34"),
        ("--from start --count 2", "01"),
        ("--from -4 --count 3", "123"),
        ("--count 9", "01234"),
    ],
)
def test_a_part_of_it(cli: Cli, server: Server, options: str, expected: str) -> None:
    server.append("people", *numbered(5))
    assert "".join(line["data_text"] for line in lines(cli("export", "people", *options.split()))) == expected


def test_links_are_exported_as_links(cli: Cli, server: Server) -> None:
    server.append("people", NewEvent("born"))
    server.append("linked", NewEvent("$>", b"0@people"))
    (line,) = lines(cli("export", "linked"))
    assert (line["stream"], line["type"], line["data_text"]) == ("linked", "$>", "0@people")


def test_nothing_is_exported_where_one_stream_is_missing(cli: Cli, server: Server) -> None:
    server.append("people", NewEvent("born"))
    server.append("gone", NewEvent("born"))
    server.delete("gone", hard=False)
    for missing in ("nobody", "gone"):
        result = cli("export", "people", missing)
        assert (result.code, result.out) == (1, "")
        assert f"stream {missing!r} does not exist" in result.err
        assert "trio-extreme report" in result.err
    server.delete("gone", hard=True)
    result = cli("export", "people", "gone")
    assert (result.code, result.out) == (1, "")
    assert "was deleted for ever" in result.err


def test_a_truncated_stream_keeps_its_numbers(cli: Cli, server: Server) -> None:
    server.append("people", *numbered(4))
    server.append("$$people", NewEvent.json("$metadata", {"$tb": 2}))
    assert places(cli("export", "people")) == ["2@people", "3@people"]


# --- the log


def fill(server: Server) -> None:
    """A stream that is whole, a truncated one, and both kinds of deleted ones."""
    for stream in ("a", "cut", "soft", "hard"):
        server.append(stream, *numbered(3))
    server.append("$$cut", NewEvent.json("$metadata", {"$tb": 1}))
    server.append("a", *numbered(1))
    server.delete("soft", hard=False)
    server.delete("hard", hard=True)


def test_of_the_log_comes_what_streams_still_show(cli: Cli, server: Server) -> None:
    fill(server)
    result = cli("export", "$all", "--exclude-system", "--url", server.admin_url)
    assert places(result) == ["0@a", "1@a", "2@a", "1@cut", "2@cut", "3@a"]
    # The tombstone counts.
    assert result.err == "6 events of the log exported, 8 left out that were deleted or truncated\n"


def test_with_it_comes_what_the_system_wrote(cli: Cli, server: Server) -> None:
    fill(server)
    found = places(cli("export", "$all", "--url", server.admin_url))
    assert [place for place in found if "$" not in place] == ["0@a", "1@a", "2@a", "1@cut", "2@cut", "3@a"]
    assert {"0@$$cut", "0@$$soft"} <= set(found)


def test_a_part_of_the_log(cli: Cli, server: Server) -> None:
    server.append("a", *numbered(5))
    assert places(cli("export", "$all", "--exclude-system", "--count", "2", "--url", server.admin_url)) == [
        "0@a",
        "1@a",
    ]
    assert places(cli("export", "$all", "--from", "-2", "--url", server.admin_url)) == ["3@a", "4@a"]
    position = cli("read", "$all", "--types", "counted", "--format", "%p\n", "--url", server.admin_url).lines[3]
    assert places(cli("export", "$all", "--from", position, "--url", server.admin_url)) == ["3@a", "4@a"]


def test_who_may_not_read_the_log(cli: Cli) -> None:
    assert cli("export", "$all").code == 4


async def test_what_comes_later_is_not_exported(conn: Connection) -> None:
    await conn.append("a", numbered(2))
    log = _Log(conn, await conn.head(), exclude_system=True)
    await conn.append("a", numbered(1))
    page = [event async for event in conn.read_all()]
    assert [event.number for event in await log.select(page)] == [0, 1]
    assert log.hidden == 0


def test_a_stream_ends_where_it_ended_when_it_began(server: Server) -> None:
    async def export() -> bytes:
        async with open_connection(server.settings) as conn:
            await conn.append("people", numbered(1000))
            with started("export", "people", "--url", f"{server.url}?page_size=100") as process:
                assert process.stdout is not None
                # It is in the midst of it: more would not fit into the pipe.
                first = process.stdout.read(1)
                await conn.append("people", numbered(1000))
                rest: bytes = await trio.to_thread.run_sync(process.stdout.read)
                assert process.wait(TIMEOUT) == 0
        return first + rest

    printed = trio.run(export)
    assert [json.loads(line)["number"] for line in printed.splitlines()] == list(range(1000))


# --- usage, and what is shown


def test_what_cannot_be_meant(cli: Cli) -> None:
    for arguments, words in (
        (["$all", "people"], "$all has all streams in it"),
        (["people", "--exclude-system"], "it is for $all"),
        (["people", "--from", "end"], "nothing lies after it"),
        (["$all", "--from", "5"], "the log has no numbers"),
        ([], "Missing argument"),
    ):
        result = cli("export", *arguments)
        assert (result.code, result.out) == (2, "")
        assert words in " ".join(result.err.split())


@pytest.mark.parametrize("command", [["export", "[b]people"], ["export", "$all"], ["report"], ["import"]])
def test_progress_is_shown_where_somebody_watches(server: Server, command: list[str]) -> None:
    server.append("[b]people", *numbered(3))
    watched, terminal = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with started(*command, "--url", server.admin_url, stderr=terminal, env=environment) as process:
        os.close(terminal)
        assert process.wait(TIMEOUT) == 0
    shown = os.read(watched, 100_000).decode()
    os.close(watched)
    # How large its input is, import does not know here.
    name, count = {"report": ("reading the log", "%"), "import": ("importing", "0/?")}.get(
        command[0], (command[-1], "%")
    )
    assert f"{name} " in shown
    assert count in shown
