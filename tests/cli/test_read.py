"""`trio-extreme read`: where it begins and ends, and how events are shown."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trio

from tests.cli.shell import Server, at_terminal, shown
from trio_extreme import NewEvent, Position, open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.shell import Result

    Cli = Callable[..., Result]


def numbered(count: int) -> list[NewEvent]:
    return [NewEvent("odd" if number % 2 else "even", str(number).encode()) for number in range(count)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "0123456789"),
        ("--from start", "0123456789"),
        ("--from 7", "789"),
        ("--from 100", ""),
        ("--from -3", "789"),
        ("--from -100", "0123456789"),
        ("--from -0", "0123456789"),
        ("--backwards", "9876543210"),
        ("--backwards --from end", "9876543210"),
        ("--backwards --from 2", "210"),
        ("--backwards --from start", "0"),
        ("--count 3", "012"),
        ("--backwards --count 3", "987"),
        ("--from -5 --count 2", "56"),
        ("--types odd", "13579"),
        ("--types odd --count 2", "13"),
        ("--types e*,odd --count 3", "012"),
        ("--types none", ""),
        ("--types , --count 1", "0"),
    ],
)
def test_where_it_begins_and_ends(cli: Cli, server: Server, options: str, expected: str) -> None:
    server.append("people", *numbered(10))
    result = cli("read", "people", "--format", "%d", *options.split())
    assert (result.code, result.out, result.err) == (0, expected, "")


def test_many_pages(cli: Cli, server: Server) -> None:
    server.append("people", *numbered(2000))
    assert cli("read", "people", "--format", "%n\n").lines == [str(number) for number in range(2000)]
    assert len(cli("read", "people", "--types", "odd", "--count", "777").lines) == 777


def test_the_last_of_a_stream_that_is_not_there(cli: Cli) -> None:
    assert cli("read", "people", "--from", "-5").code == 1


# --- the log


def read_log(cli: Cli, server: Server, *options: str) -> str:
    result = cli("read", "$all", "--types", "odd,even", "--format", "%d", "--url", server.admin_url, *options)
    assert (result.code, result.err) == (0, "")
    return result.out


def test_the_log_of_all_streams(cli: Cli, server: Server) -> None:
    assert read_log(cli, server) == ""
    assert read_log(cli, server, "--from", "-3") == ""
    server.append("a", *numbered(3))
    server.append("b", *numbered(2))
    assert read_log(cli, server) == "01201"
    assert read_log(cli, server, "--backwards") == "10210"
    assert read_log(cli, server, "--from", "-3") == "201"
    assert read_log(cli, server, "--count", "4") == "0120"


def test_the_log_from_a_position_that_was_printed(cli: Cli, server: Server) -> None:
    server.append("a", *numbered(3))
    lines = cli("read", "$all", "--types", "odd,even", "--url", server.admin_url).lines
    position = json.loads(lines[1])["position"]
    assert str(Position.parse(position)) == position
    assert read_log(cli, server, "--from", position) == "12"
    assert read_log(cli, server, "--from", position, "--backwards") == "0"


# --- how events are shown


async def append_link(server: Server) -> None:
    async with open_connection(server.settings) as conn:
        async for event in conn.read_stream("people"):
            await conn.append("links", NewEvent.link(event))


def line_of(cli: Cli, server: Server, event: NewEvent) -> dict[str, Any]:
    server.append("people", event)
    (line,) = cli("read", "people").lines
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_the_keys_of_a_line(cli: Cli, server: Server) -> None:
    event = NewEvent.json("PersonCreated", {"name": "Pera Perić"}, {"by": "me"})
    line = line_of(cli, server, event)
    assert datetime.fromisoformat(line.pop("created")).tzinfo
    assert UUID(line.pop("id")) == event.id
    assert line == {
        "stream": "people",
        "number": 0,
        "type": "PersonCreated",
        "position": None,
        "link": None,
        "data": {"name": "Pera Perić"},
        "metadata": {"by": "me"},
    }


def test_a_link_is_told(cli: Cli, server: Server) -> None:
    server.append("people", NewEvent("born"))
    trio.run(append_link, server)
    (line,) = cli("read", "links").lines
    assert json.loads(line)["stream"] == "people"
    assert json.loads(line)["link"] == {"stream": "links", "number": 0}


@pytest.mark.parametrize(
    "data",
    [
        b'{\r\n  "a": 1.10,\n  "b": 12345678901234567890.123, "a": 1e999}',
        b'"\\ud800 \xe2\x80\xa8 \\n"',
        b"-0.0",
        b"1" * 5000,
        b"null",
    ],
)
def test_json_stands_as_it_was_stored(cli: Cli, server: Server, data: bytes) -> None:
    server.append("people", NewEvent("x", data, is_json=True))
    (line,) = cli("read", "people").out.split("\n")[:-1]
    stored = data.replace(b"\n", b" ").replace(b"\r", b" ").decode()
    assert f'"data":{stored},"metadata":null}}' in line


@pytest.mark.parametrize(
    ("data", "is_json"),
    [
        (b"", True),
        (b"", False),
        (b"{", True),
        (b"NaN", True),
        (b"[" * 100_000, True),
        (b'\xef\xbb\xbf{"a": 1}', True),
        (b'{"a": 1}', False),
        ("žluť\n\0\x1b[2J\u2028".encode(), False),
    ],
)
def test_what_is_no_json_is_text(cli: Cli, server: Server, data: bytes, is_json: bool) -> None:
    line = line_of(cli, server, NewEvent("x", data, is_json=is_json))
    assert line["data_text"] == data.decode()
    assert "data" not in line


def test_what_is_no_text_is_base64(cli: Cli, server: Server) -> None:
    everything = bytes(range(256))
    line = line_of(cli, server, NewEvent("x", everything, everything, is_json=True))
    assert base64.b64decode(line["data_base64"]) == everything
    assert base64.b64decode(line["metadata_base64"]) == everything


def test_raw_is_the_data_and_a_line_end(cli: Cli, server: Server) -> None:
    server.append("people", NewEvent("x", b'{"a":\t1}', is_json=True), NewEvent("y"))
    assert cli("read", "people", "--raw").out == '{"a":\t1}\n\n'


def test_a_format_of_ones_own(cli: Cli, server: Server) -> None:
    event = NewEvent("born", b"data", b"metadata")
    server.append("people", event)
    template = "%s|%n|%t|%d|%m|%i|%p|100%%|ž|\\\\\\t\\n\\r\\0"
    out = cli("read", "people", "--format", template).out
    assert out == f"people|0|born|data|metadata|{event.id}||100%|ž|\\\t\n\r\0"
    assert datetime.fromisoformat(cli("read", "people", "--format", "%c").out).tzinfo
    position = cli("read", "$all", "--types", "born", "--format", "%p", "--url", server.admin_url).out
    assert str(Position.parse(position)) == position


def test_at_a_terminal_each_event_is_a_line_that_moves_no_cursor(server: Server) -> None:
    server.append("people", NewEvent("born", b"\x1b[2J\nsecond line \xff" + b"x" * 500))
    with at_terminal("read", "people", "--url", server.url, TERM="dumb") as process:
        (line,) = shown(process).out.splitlines()
    assert "people/0" in line
    assert "born" in line
    assert r"\x1b[2J\x0asecond line �xxx" in line
    assert len(line) < 130


def test_colours_are_for_terminals_that_want_them(server: Server) -> None:
    server.append("people", NewEvent("born"))
    with at_terminal("read", "people", "--url", server.url) as process:
        assert "\x1b[36m" in shown(process).out
    with at_terminal("read", "people", "--url", server.url, NO_COLOR="1") as process:
        assert "\x1b[3" not in shown(process).out


def test_json_at_a_terminal_is_asked_for(server: Server) -> None:
    server.append("people", NewEvent("born"))
    with at_terminal("read", "people", "--json", "--url", server.url) as process:
        assert json.loads(shown(process).out)["type"] == "born"
