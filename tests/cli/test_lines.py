"""Lines of events: what is written can be read, to the last byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import given, strategies as st

from trio_extreme.cli.lines import parse_line, to_exact_line
from trio_extreme.events import JSON_CONTENT, RecordedEvent
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from trio_extreme import NewEvent

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
JSON_BYTES = st.builds(
    lambda value, indent, plain: json.dumps(value, indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass"),
    JSON_VALUES,
    st.sampled_from([None, 0, 2, "\t"]),
    st.booleans(),
)
SPACES = st.sampled_from([b"", b" ", b"\n", b"\r\n", b"\t", b"\xef\xbb\xbf"])
CONTENTS = st.binary(max_size=40) | st.builds(lambda *parts: b"".join(parts), SPACES, JSON_BYTES, SPACES)


def recorded(data: bytes, metadata: bytes = b"", *, is_json: bool, type: str = "born") -> RecordedEvent:
    return RecordedEvent(
        schema.EventRecord(
            event_stream_id="people",
            event_number=7,
            event_id=uuid4().bytes_le,
            event_type=type,
            data_content_type=JSON_CONTENT if is_json else 0,
            data=data,
            metadata=metadata,
            created=621_355_968_000_000_000,
        )
    )


def content(event: RecordedEvent | NewEvent) -> tuple[object, ...]:
    return event.type, event.id, event.data, event.metadata, event.is_json


@given(data=CONTENTS, metadata=CONTENTS, is_json=st.booleans(), type=st.text(min_size=1, max_size=9))
def test_an_exact_line_is_the_same_event_again(data: bytes, metadata: bytes, *, is_json: bool, type: str) -> None:
    event = recorded(data, metadata, is_json=is_json, type=type)
    line = to_exact_line(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    parsed = parse_line(line)
    assert content(parsed.event) == content(event)
    assert (parsed.members["stream"], parsed.members["number"]) == ("people", 7)
    assert parsed.members["created"] == "1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1.10, "b":1e999, "a":2}',
        b'"\\ud800"',
        b"9" * 10_000,
        b"null",
        b'{"data":{"type":"x"},"}":"\\""}',
        '"\u2028\u0085"'.encode(),
    ],
    ids=["numbers", "surrogate", "digits", "null", "nested", "line ends of others"],
)
def test_json_stands_in_it_as_json(data: bytes) -> None:
    line = to_exact_line(recorded(data, is_json=True))
    assert b'"data":' + data + b"," in line
    assert parse_line(line).event.data == data


@pytest.mark.parametrize("data", [b'{\n"a": 1}', b" 1", b"[1]\r", b"\xef\xbb\xbf1", b"[" * 100_000, b"NaN", b""])
def test_json_that_would_change_stands_in_it_as_text(data: bytes) -> None:
    line = to_exact_line(recorded(data, is_json=True))
    assert b'"data_text":' in line
    assert b'"is_json":true' in line
    assert (parse_line(line).event.data, parse_line(line).event.is_json) == (data, True)


def test_metadata_that_says_null_is_not_none() -> None:
    assert b'"metadata_text":"null"' in to_exact_line(recorded(b"", b"null", is_json=True))
    assert b'"metadata":null' in to_exact_line(recorded(b"", is_json=True))


def test_where_a_line_says_a_thing_twice_the_last_counts() -> None:
    event = parse_line(b'{ "type" : "x" , "data" : [1 ] , "type":"y","data": {"type": 2}  }').event
    assert (event.type, event.data) == ("y", b'{"type": 2}')


def test_a_byte_order_mark_is_no_part_of_a_line() -> None:
    assert parse_line(b'\xef\xbb\xbf{"type": "x"}').event.type == "x"
