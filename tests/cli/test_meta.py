"""`trio-extreme meta`: what it shows, what it changes, and what it does not destroy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.cli.shell import Server, at_terminal, shown
from trio_extreme import Connection, NewEvent, StreamMetadata
from trio_extreme.cli.meta_options import shown as words_of
from trio_extreme.errors import OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.shell import Result

    Cli = Callable[..., Result]


def line(result: Result) -> Any:
    assert result.code == 0, result.err
    (found,) = map(json.loads, result.lines)
    return found


# --- get


def test_a_stream_without_metadata(cli: Cli) -> None:
    result = cli("meta", "get", "people")
    assert line(result) == {"stream": "people", "version": -1, "metadata": {}, "problem": None}
    assert result.err == ""


def test_what_is_stored(cli: Cli, server: Server) -> None:
    stored = {"$maxCount": 5, "$acl": {"$r": "$all", "$w": ["a", "b"]}, "owner": "Pera Perić", "\ud800": [1.5, None]}
    server.append("$$people", NewEvent("$metadata", json.dumps(stored).encode(), is_json=True))
    assert line(cli("meta", "get", "people")) == {"stream": "people", "version": 0, "metadata": stored, "problem": None}


@pytest.mark.parametrize(
    ("data", "is_json", "problem"),
    [
        (b"not json", True, "no JSON: Expecting value"),
        (b'{"$maxCount":"5"}', True, "$maxCount is no whole number"),
        (b'{"$maxCount":5}', False, "its event is not marked as JSON"),
    ],
)
def test_what_cannot_be_read(cli: Cli, server: Server, data: bytes, *, is_json: bool, problem: str) -> None:
    server.append("$$people", NewEvent("$metadata", data, is_json=is_json))
    result = cli("meta", "get", "people")
    found = line(result)
    assert (found["version"], found["metadata"]) == (0, None)
    assert found["problem"].startswith(problem)
    assert "servers do not obey it" in result.err
    # What it says to try shows it.
    assert "trio-extreme read '$$people' --raw" in result.err
    assert cli("read", "$$people", "--raw").out.encode() == data + b"\n"


def test_the_rights_on_the_log(cli: Cli, server: Server) -> None:
    result = cli("meta", "get", "$all")
    assert result.code == 4
    assert "may not read the metadata of stream '$all' (the right $mr; by default only members of $admins" in result.err
    url = ("--url", server.admin_url)
    assert line(cli("meta", "set", "$all", "--read", "$ops", *url))["after"] == {"$acl": {"$r": "$ops"}}
    assert line(cli("meta", "get", "$all", *url))["metadata"] == {"$acl": {"$r": "$ops"}}


def test_a_stream_that_is_gone_for_ever(cli: Cli, server: Server) -> None:
    server.append("people", NewEvent("born"))
    server.delete("people", hard=True)
    for result in (cli("meta", "get", "people"), cli("meta", "set", "people", "--max-count", "5")):
        assert result.code == 1
        assert "was deleted for ever" in result.err


def test_at_a_terminal(server: Server) -> None:
    url = ("--url", server.url)
    changes = ("--max-count", "1000", "--max-age", "90m", "--write", "", "--custom", 'owner="P\x9b"')
    with at_terminal("meta", "set", "people", *changes, *url) as process:
        assert shown(process).out.replace("\r", "").split("\n") == [
            "metadata of people, version 0",
            "  max-count  - → 1000",
            "  max-age    - → 90m",
            "  write      - → nobody but $admins",
            '  owner      - → "P\\x9b"',
            "",
        ]
    with at_terminal("meta", "get", "people", *url) as process:
        assert "  max-age    90m\n" in shown(process).out.replace("\r", "")


def test_at_a_terminal_where_there_is_nothing(server: Server) -> None:
    with at_terminal("meta", "get", "people", "--url", server.url) as process:
        assert shown(process).out == "people has no metadata\r\n"


# --- set


def test_each_option(cli: Cli, server: Server) -> None:
    url = ("--url", server.admin_url)
    result = cli(
        *("meta", "set", "people", "--max-count", "10", "--max-age", "7d", "--truncate-before", "3"),
        *("--cache-control", "60", "--read", "$all", "--write", "jane, staff", "--delete", ""),
        *("--read-metadata", "a", "--write-metadata", "b", "--custom", 'owner="Pera"', "--custom", "n=[1, null]", *url),
    )
    found = line(result)
    after = {
        "$maxCount": 10,
        "$maxAge": 604_800,
        "$tb": 3,
        "$cacheControl": 60,
        "$acl": {"$r": "$all", "$w": ["jane", "staff"], "$d": [], "$mr": "a", "$mw": "b"},
        "owner": "Pera",
        "n": [1, None],
    }
    changed = ["$maxCount", "$maxAge", "$tb", "$cacheControl", "$acl", "owner", "n"]
    assert found == {"stream": "people", "version": 0, "changed": changed, "before": {}, "after": after}
    assert line(cli("meta", "get", "people", *url))["metadata"] == after


def test_what_is_not_given_stays(cli: Cli) -> None:
    cli(
        "meta",
        "set",
        "people",
        "--max-count",
        "10",
        "--read",
        "a",
        "--write",
        "b",
        "--custom",
        "x=1",
        "--custom",
        "y=2",
    )
    found = line(cli("meta", "set", "people", "--read", "none", "--delete", "c", "--remove", "x", "--remove", "gone"))
    assert found["after"] == {"$maxCount": 10, "$acl": {"$w": "b", "$d": "c"}, "y": 2}
    assert found["changed"] == ["$acl", "x"]
    found = line(cli("meta", "set", "people", "--max-count", "none", "--remove", "$acl", "--custom", "y=null"))
    assert found["after"] == {"y": None}
    found = line(cli("meta", "set", "people", "--remove", "$acl", "--read", "z"))
    assert found["after"] == {"$acl": {"$r": "z"}, "y": None}


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)])
def test_times(cli: Cli, text: str, seconds: int) -> None:
    assert line(cli("meta", "set", "people", "--max-age", text))["after"] == {"$maxAge": seconds}
    assert words_of(StreamMetadata.parse(b'{"$maxAge":%d}' % seconds)) == {"max-age": text if text != "90" else "90s"}


def test_where_nothing_changes_nothing_is_written(cli: Cli) -> None:
    cli("meta", "set", "people", "--max-count", "10")
    result = cli("meta", "set", "people", "--max-count", "10")
    assert (line(result)["version"], line(result)["changed"]) == (0, [])
    assert result.err == "nothing was to be changed, and nothing was written\n"


def test_the_version_it_must_have(cli: Cli) -> None:
    assert line(cli("meta", "set", "people", "--max-count", "1", "--expected", "no-stream"))["version"] == 0
    result = cli("meta", "set", "people", "--max-count", "2", "--expected", "no-stream")
    assert (result.code, result.out) == (5, "")
    assert "stream '$$people' is not at expected version -1" in result.err
    assert "Try: trio-extreme meta get people, to see what is stored" in result.err
    assert line(cli("meta", "set", "people", "--max-count", "2", "--expected", "0"))["version"] == 1
    # The same again is written all the same: who names a version means it.
    assert line(cli("meta", "set", "people", "--max-count", "2", "--expected", "any"))["version"] == 2


def test_somebody_else_was_faster(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    get_metadata = Connection.get_metadata

    async def get_and_change(conn: Connection, stream: str, **options: Any) -> StreamMetadata:
        stored = await get_metadata(conn, stream, **options)
        await conn.set_metadata(stream, StreamMetadata(max_count=7))
        return stored

    monkeypatch.setattr(Connection, "get_metadata", get_and_change)
    result = cli("meta", "set", "people", "--custom", "a=1")
    assert (result.code, result.out) == (5, "")
    monkeypatch.undo()


def test_nobody_knows_whether_it_was_done(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(*args: Any, **options: Any) -> None:
        await trio.lowlevel.checkpoint()
        msg = "it is not known"
        raise OutcomeUnknown(msg)

    monkeypatch.setattr(Connection, "set_metadata", lose)
    result = cli("meta", "set", "people", "--custom", "a=1")
    assert (result.code, result.out) == (1, "")
    assert "Try: trio-extreme meta get people, to see what is stored" in result.err


def test_all_of_it_from_standard_input(cli: Cli) -> None:
    cli("meta", "set", "people", "--max-count", "10", "--custom", "x=1")
    result = cli("meta", "set", "people", "--replace", stdin='{\n  "$maxAge": 60,\n\n  "a": [1,\n 2]\n}\n')
    assert line(result)["after"] == {"$maxAge": 60, "a": [1, 2]}
    assert line(result)["changed"] == ["$maxCount", "x", "$maxAge", "a"]
    # What is printed can be given again.
    printed = json.dumps(line(cli("meta", "get", "people"))["metadata"])
    assert line(cli("meta", "set", "others", "--replace", stdin=printed))["after"] == {"$maxAge": 60, "a": [1, 2]}


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        ("", "no JSON: Expecting value"),
        ("[]", "no JSON object"),
        ('{"$maxCount": "5"}', "$maxCount is no whole number"),
        ('{"$acl": {"$x": "a"}}', "'$x' in $acl is no right"),
    ],
)
def test_input_that_no_server_obeys(cli: Cli, stdin: str, words: str) -> None:
    result = cli("meta", "set", "people", "--replace", stdin=stdin)
    assert (result.code, result.out) == (1, "")
    assert f"standard input is no metadata that servers obey: {words}" in result.err
    assert line(cli("meta", "get", "people"))["version"] == -1


def test_too_much_input(cli: Cli) -> None:
    result = cli("meta", "set", "people", "--replace", stdin='{"a":\n' + f'"{"x" * 1000}",\n' * 17_000)
    assert result.code == 1
    assert "standard input has more than 16,767,216 bytes" in result.err


def test_what_cannot_be_read_is_only_replaced(cli: Cli, server: Server) -> None:
    server.append("$$people", NewEvent("$metadata", b"not json", is_json=True))
    result = cli("meta", "set", "people", "--max-count", "5")
    assert (result.code, result.out) == (1, "")
    assert "changing it would destroy it: no JSON" in result.err
    assert "Try: the same with --replace" in result.err
    found = line(cli("meta", "set", "people", "--replace", stdin="{}"))
    assert (found["version"], found["before"], found["after"]) == (1, None, {})


def test_who_may_not(cli: Cli, server: Server) -> None:
    url = ("--url", server.admin_url)
    cli("meta", "set", "people", "--write-metadata", "", "--read-metadata", "$all", *url)
    result = cli("meta", "set", "people", "--max-count", "5")
    assert result.code == 4
    assert "may not write the metadata of stream 'people' (the right $mw)" in result.err


def test_at_a_terminal_it_says_what_to_type(server: Server) -> None:
    with at_terminal("meta", "set", "people", "--replace", "--url", server.url) as process:
        assert process.stdin is not None
        process.stdin.write(b'{"$maxCount": 5}\n\x04')
        process.stdin.flush()
        out = shown(process).out
    assert "one JSON object, like" in out
    assert "Ctrl-D ends" in out
    assert "max-count  - → 5" in out
