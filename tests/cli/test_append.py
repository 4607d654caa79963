"""`trio-extreme append`: what it takes, what it says, and what it does not do twice."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.shell import TIMEOUT, Server, at_terminal, finished, read_until, started

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.shell import Result

    Cli = Callable[..., Result]

ID = "6a1f3b52-32a5-4f0c-8d6b-4bb0cf6a7a11"


def test_an_event_a_line(cli: Cli) -> None:
    lines = [
        {"type": "PersonCreated", "data": {"name": "Pera Perić"}, "metadata": {"by": 1}, "id": ID},
        {"type": "PersonRenamed", "data_text": "plain"},
        {"type": "PersonSeen", "data_base64": "AP8="},
        {"type": "PersonLeft"},
    ]
    result = cli("append", "people", stdin="\n\n".join(map(json.dumps, lines)) + "\n")
    assert (result.code, result.err) == (0, "4 events appended to people\n")
    (answer,) = map(json.loads, result.lines)
    position = answer.pop("position")
    assert answer == {"stream": "people", "events": 4, "first": 0, "last": 3}
    assert position.startswith("C:")

    created, renamed, seen, left = map(json.loads, cli("read", "people").lines)
    assert created["id"] == ID
    assert created["data"] == {"name": "Pera Perić"}
    assert created["metadata"] == {"by": 1}
    assert (renamed["data_text"], renamed["metadata"]) == ("plain", None)
    assert seen["data_base64"] == "AP8="
    assert left["data_text"] == ""


def test_what_was_read_can_be_appended_and_is_the_same(cli: Cli) -> None:
    cli(
        "append",
        "people",
        stdin='{"type": "a", "data": [1, "ž"], "metadata_text": "x"}\n{"type": "b", "data_base64": "/w=="}',
    )
    copied = cli("read", "people").out
    assert cli("append", "copies", stdin=copied).code == 0
    ignored = ("stream", "created")
    first, second = (
        [{key: value for key, value in json.loads(line).items() if key not in ignored} for line in lines.splitlines()]
        for lines in (copied, cli("read", "copies").out)
    )
    assert first == second


def test_the_same_ids_are_written_once(cli: Cli) -> None:
    line = json.dumps({"type": "born", "id": ID})
    cli("append", "people", "--expected", "no-stream", stdin=line)
    again = cli("append", "people", "--expected", "no-stream", stdin=line)
    assert (again.code, json.loads(again.out)["first"]) == (0, 0)
    assert len(cli("read", "people").lines) == 1


def test_json_is_appended_as_it_stands_in_the_line(cli: Cli) -> None:
    data = '{"sum": 1.10,  "huge":1e999, "half":"\\ud800", "sum":2}'
    cli("append", "people", stdin=f'{{"type": "x", "data" :{data} , "metadata":[ 1 ]}}')
    assert cli("read", "people", "--format", "%d%m").out == data + "[ 1 ]"


def test_whether_data_is_json_can_be_said(cli: Cli) -> None:
    lines = ['{"type": "x", "data_text": "1", "is_json": true}', '{"type": "x", "data": 1, "is_json": false}']
    cli("append", "people", stdin="\n".join(lines))
    assert [list(json.loads(line))[-2] for line in cli("read", "people").lines] == ["data", "data_text"]


def test_a_type_for_lines_that_do_not_say_one(cli: Cli) -> None:
    cli("append", "people", "--type", "seen", stdin='{"data": 1}\n{"type": "heard", "data": 2}\n')
    assert cli("read", "people", "--format", "%t ").out == "seen heard "


def test_batches_expect_what_the_one_before_left(cli: Cli) -> None:
    result = cli("append", "people", "--expected", "no-stream", "--batch", "2", stdin='{"type": "x"}\n' * 5)
    assert [(line["first"], line["last"]) for line in map(json.loads, result.lines)] == [(0, 1), (2, 3), (4, 4)]
    assert cli("append", "people", "--expected", "4", "--batch", "1", stdin='{"type": "x"}\n' * 3).code == 0
    assert cli("append", "people", "--expected", "exists", "--batch", "1", stdin='{"type": "x"}\n' * 2).code == 0
    assert cli("append", "people", "--batch", "1", stdin='{"type": "x"}\n' * 2).code == 0
    assert len(cli("read", "people").lines) == 12


@pytest.mark.parametrize("expected", ["no-stream", "7"])
def test_a_stream_that_is_elsewhere(cli: Cli, expected: str) -> None:
    cli("append", "people", stdin='{"type": "x"}')
    result = cli("append", "people", "--expected", expected, stdin='{"type": "x"}')
    assert (result.code, result.out) == (5, "")
    assert "Try: trio-extreme read people --backwards --count 1, which" in result.err


def test_a_stream_that_should_be_there(cli: Cli) -> None:
    assert cli("append", "people", "--expected", "exists", stdin='{"type": "x"}').code == 5


def test_nothing_to_append(cli: Cli) -> None:
    result = cli("append", "people", stdin=" \n\n")
    assert (result.code, result.out, result.err) == (0, "", "0 events appended to people\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON: "),
        ('{"type": "x", "data": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "not JSON: "),
        (b"\xff", "not JSON: "),
        ("[]", "not a JSON object"),
        ('{"type": "x", "dta": 1}', "unknown key 'dta'"),
        ("{}", 'no "type" in it, and no --type'),
        ('{"type": ""}', "type: '' is no name"),
        ('{"type": 5}', "type: 5 is no name"),
        ('{"type": "x", "id": "5"}', "id: '5' is no UUID"),
        ('{"type": "x", "id": 5}', "id: 5 is no UUID"),
        ('{"type": "x", "data": 1, "data_text": ""}', "data and data_text in one line"),
        ('{"type": "x", "data_text": 1}', "data_text: a string is wanted"),
        ('{"type": "x", "data_text": "\\ud800"}', "surrogate"),
        ('{"type": "x", "is_json": 1}', "is_json: 1 is neither true nor false"),
        ('{"type": "x", "metadata_base64": "/"}', "metadata_base64: not base64"),
    ],
)
def test_a_wrong_line_is_named_and_what_was_before_it_is_there(cli: Cli, line: str | bytes, words: str) -> None:
    line = line.encode() if isinstance(line, str) else line
    result = cli("append", "people", stdin=b'{"type": "x"}\n\n' + line + b'\n{"type": "y"}\n')
    assert result.code == 1
    assert result.err.startswith("Error: line 3 of the input: ")
    assert words in result.err
    assert "appended before it: 1 event" in result.err
    assert "from line 3 on" in result.err
    assert len(result.lines) == 1
    assert cli("read", "people", "--format", "%t").out == "x"


def test_a_wrong_first_line_appends_nothing(cli: Cli) -> None:
    result = cli("append", "people", stdin="nonsense")
    assert (result.code, result.out) == (1, "")
    assert cli("read", "people").code == 1


def test_a_line_without_end(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_extreme.cli.input.MAX_LINE", 500_000)
    result = cli("append", "people", stdin='{"type": "x"}\n"' + "x" * 1_000_000)
    assert result.code == 1
    assert "line 2 of the input is longer than 500,000 bytes" in result.err


def test_a_last_line_without_end_counts(cli: Cli) -> None:
    assert "2 events appended" in cli("append", "people", stdin='{"type": "x"}\n{"type": "y"}').err


def test_a_line_longer_than_one_read(cli: Cli) -> None:
    text = "ž" * 500_000
    assert cli("append", "people", stdin=json.dumps({"type": "x", "data_text": text})).code == 0
    assert cli("read", "people", "--raw").out == text + "\n"


def test_lines_are_appended_as_they_come(server: Server) -> None:
    with started("append", "people", "--url", server.url, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(b'{"type": "x"}\n')
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["last"] == number
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0


def test_output_that_nobody_reads_is_told(server: Server) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with started("append", "people", "--url", server.url, stdin=subprocess.PIPE, stdout=write_end) as process:
        os.close(write_end)
        assert process.stdin is not None
        process.stdin.write(b'{"type": "x"}\n')
        process.stdin.flush()
        result = finished(process)
    assert result.code == 1
    assert "standard output was closed after 1 event had been appended" in result.err


def test_at_a_terminal_it_says_what_to_type(server: Server) -> None:
    with at_terminal("append", "people", "--url", server.url) as process:
        assert process.stdin is not None
        read_until(process.stdout, b"Ctrl-D ends")
        process.stdin.write(b'{"type": "x"}\n\x04')
        process.stdin.flush()
        read_until(process.stdout, b"1 event appended to people")
        assert process.wait(TIMEOUT) == 0
