"""`trio-extreme import`: what was exported, each event once."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from tests.cli.shell import Server, finished, started
from trio_extreme import NewEvent
from trio_extreme.cli import importing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.shell import Result

    Cli = Callable[..., Result]


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    """Another server."""
    running = Server()
    running.start()
    yield running
    running.stop()


def line(number: int, **more: Any) -> str:
    members = {"stream": "people", "id": str(UUID(int=number + 1)), "type": "counted", "data": number}
    return json.dumps(members | more) + "\n"


def lines(count: int, first: int = 0) -> str:
    return "".join(line(number) for number in range(first, first + count))


def data(cli: Cli, stream: str = "people") -> str:
    return cli("read", stream, "--format", "%d").out


def without(exported: str, *keys: str) -> list[dict[str, Any]]:
    members = [json.loads(text) for text in exported.splitlines()]
    return [{key: value for key, value in one.items() if key not in keys} for one in members]


def test_what_was_exported_is_the_same_elsewhere(cli: Cli, server: Server, elsewhere: Server) -> None:
    server.append(
        "people",
        NewEvent("born", b'{"sum": 1.10}', b'{"by":1}', is_json=True),
        NewEvent("seen", b"\x00\xff", b"\xfe"),
        NewEvent("said", b"two\nlines", is_json=True),
        NewEvent("$>", b"0@people"),
    )
    server.append("orders", NewEvent("placed"))
    exported = cli("export", "people", "orders").out
    result = cli("import", "--url", elsewhere.url, stdin=exported)
    assert (result.code, result.err) == (0, "5 events imported\n")
    assert list(map(json.loads, result.lines)) == [
        {"stream": "people", "imported": 4, "present": 0, "first": 0, "last": 3},
        {"stream": "orders", "imported": 1, "present": 0, "first": 0, "last": 0},
    ]
    copied = cli("export", "people", "orders", "--url", elsewhere.url).out
    assert without(copied, "created") == without(exported, "created")
    assert "0\n" not in copied


def test_twice_is_once(cli: Cli) -> None:
    assert cli("import", stdin=lines(5)).err == "5 events imported\n"
    again = cli("import", stdin=lines(5))
    assert (again.code, again.err) == (0, "0 events imported, 5 were there already\n")
    assert list(map(json.loads, again.lines)) == [
        {"stream": "people", "imported": 0, "present": 5, "first": None, "last": None}
    ]
    more = cli("import", stdin=lines(6))
    assert more.err == "1 event imported, 5 were there already\n"
    assert data(cli) == "012345"


def test_twice_with_a_restart_between_is_once(cli: Cli, server: Server) -> None:
    cli("import", stdin=lines(5))
    server.restart()
    cli("import", "--batch", "2", stdin=lines(7))
    assert data(cli) == "0123456"


def test_under_another_name(cli: Cli) -> None:
    cli("import", stdin=lines(2))
    result = cli("import", "--stream", "copy", stdin=cli("export", "people").out)
    assert json.loads(result.out)["stream"] == "copy"
    assert data(cli, "copy") == "01"


def test_what_was_interrupted_goes_on(cli: Cli, server: Server) -> None:
    with started("import", "--url", server.url, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(lines(300).encode())
        process.stdin.flush()
        while len(data(cli)) < len("".join(map(str, range(300)))):
            pass
        process.stdin.write(lines(1, 300).encode()[:-5])
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        result = finished(process)
    assert (result.code, result.out) == (130, "")
    assert result.err == "300 events imported\n"
    assert cli("import", stdin=lines(400)).err == "100 events imported, 300 were there already\n"
    assert data(cli) == "".join(map(str, range(400)))


def test_the_order_of_the_input_is_kept_across_streams(cli: Cli, server: Server) -> None:
    names = "aabbbacca"
    given = "".join(line(number, stream=name) for number, name in enumerate(names))
    cli("import", stdin=given)
    options = ("--types", "counted", "--url", server.admin_url)
    assert cli("read", "$all", "--format", "%s", *options).out == names
    assert cli("read", "$all", "--format", "%d", *options).out == "012345678"


def test_the_log_goes_elsewhere(cli: Cli, server: Server, elsewhere: Server) -> None:
    for stream in ("a", "b", "a"):
        server.append(stream, NewEvent("born"))
    exported = cli("export", "$all", "--exclude-system", "--url", server.admin_url).out
    assert cli("import", "--url", elsewhere.url, stdin=exported).err == "3 events imported\n"
    assert cli("import", "--url", elsewhere.url, stdin=exported).err == "0 events imported, 3 were there already\n"
    copied = cli("export", "$all", "--exclude-system", "--url", elsewhere.admin_url).out
    assert without(copied, "created") == without(exported, "created")


def test_a_fixture_is_put_back(cli: Cli, server: Server) -> None:
    cli("import", stdin=lines(3))
    exported = cli("export", "people").out
    server.append("people", NewEvent("changed"))
    server.delete("people", hard=False)
    result = cli("import", stdin=exported)
    assert (json.loads(result.out)["first"], json.loads(result.out)["last"]) == (4, 6)
    assert "what was exported as event 0 is 4 of people" in result.err
    assert data(cli) == "012"


def test_links_that_may_lead_elsewhere_now_are_told(cli: Cli, server: Server) -> None:
    server.append("linked", NewEvent("$>", b"0@people"))
    exported = cli("export", "linked").out
    assert "1 link among them" in cli("import", "--stream", "copy", stdin=exported).err
    assert "link" not in cli("import", "--stream", "copy", stdin=exported).err


def test_an_id_that_comes_again_counts_once(cli: Cli) -> None:
    assert cli("import", "--batch", "3", stdin=lines(4) + lines(5)).err == "5 events imported, 4 were there already\n"
    assert data(cli) == "01234"


def test_large_events_go_in_smaller_batches(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH_BYTES", 5)
    sizes = [1, 2, 2, 9, 4, 1, 1]
    items = [importing._Item("s", NewEvent("x", b"x" * size), None) for size in sizes]
    assert [[len(item.event.data) for item in batch] for batch in importing._batches(items)] == [
        [1, 2, 2],
        [9],
        [4, 1],
        [1],
    ]
    assert cli("import", stdin=lines(20)).code == 0
    assert data(cli) == "".join(map(str, range(20)))


def test_nothing_to_import(cli: Cli) -> None:
    result = cli("import", stdin="\n")
    assert (result.code, result.out, result.err) == (0, "", "0 events imported\n")


# --- what is wrong


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("{", "not JSON"),
        ('{"type": "x", "stream": "people"}', 'no "id" in it'),
        (f'{{"type": "x", "id": "{UUID(int=9)}"}}', 'no "stream" in it, and no --stream'),
        (f'{{"stream": "people", "id": "{UUID(int=9)}"}}', 'no "type" in it'),
        (line(9, stream="$all"), "'$all' is the log of all streams"),
        (line(9, stream=""), "'' is no name of a stream"),
        (line(9, stream=5), "5 is no name of a stream"),
        (line(9, id=str(UUID(int=0))), "no event id"),
        (line(9, colour="red"), "unknown key 'colour'"),
    ],
)
def test_a_wrong_line_is_named_and_what_was_before_it_is_there(cli: Cli, wrong: str, words: str) -> None:
    result = cli("import", stdin=lines(2) + "\n" + wrong.strip() + "\n" + lines(1, 2))
    assert (result.code, result.out) == (1, "")
    told, error, hint = result.err.splitlines()
    assert told == "2 events imported"
    assert error.startswith("Error: line 4 of the input: ")
    assert error.endswith("; what stands before it was imported")
    assert words in error
    assert "left out" in hint
    assert data(cli) == "01"
    assert cli("import", stdin=lines(3)).err == "1 event imported, 2 were there already\n"


@pytest.mark.parametrize(("expected", "code"), [("any", 0), ("exists", 0), ("0", 0), ("1", 5), ("no-stream", 5)])
def test_where_the_stream_must_be(cli: Cli, server: Server, expected: str, code: int) -> None:
    server.append("people", NewEvent("x", b"-"))
    for _ in range(2):
        assert cli("import", "--expected", expected, stdin=lines(2)).code == code
    assert data(cli) == ("-" if code else "-01")


def test_what_to_try_next_names_the_stream(cli: Cli) -> None:
    cli("import", stdin=lines(1))
    result = cli("import", "--expected", "7", stdin=lines(1, 1))
    assert "Try: trio-extreme read people --backwards --count 1, which shows its last event" in result.err


def test_a_new_stream_is_expected(cli: Cli) -> None:
    assert cli("import", "--expected", "exists", stdin=lines(2)).code == 5
    for _ in range(2):
        assert cli("import", "--expected", "no-stream", stdin=lines(2)).code == 0
    assert data(cli) == "01"


def test_a_stream_that_lost_its_beginning(cli: Cli, server: Server) -> None:
    cli("import", stdin=lines(4))
    server.append("$$people", NewEvent.json("$metadata", {"$maxCount": 2}))
    result = cli("import", stdin=lines(4))
    assert (result.code, result.out) == (1, "")
    assert "has lost its events before 2" in result.err
    assert "Try: the same with --expected 3 if it was not" in result.err
    assert data(cli) == "23"


def test_a_stream_that_is_gone_for_ever(cli: Cli, server: Server) -> None:
    server.delete("people", hard=True)
    result = cli("import", stdin=lines(1))
    assert result.code == 1
    assert "deleted for ever" in result.err
