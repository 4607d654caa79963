from __future__ import annotations

import json
from uuid import UUID

import pytest
from opentelemetry.trace import SpanContext, TraceFlags

from trio_extreme import NewEvent
from trio_extreme.events import MAX_EVENT_SIZE
from trio_extreme.telemetry.propagation import carrying, context_of
from trio_extreme.testing import recorded

CONTEXT = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
NAMED = {"$traceId": "00000000000000000000000000000abc", "$spanId": "0000000000000def"}


def event(metadata: bytes, data: bytes = b"data") -> NewEvent:
    return NewEvent("PersonCreated", data, metadata, id=UUID(int=7), is_json=True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b'{"$traceId":"00000000000000000000000000000abc","$spanId":"0000000000000def"}'),
        (b"{}", b'{"$traceId":"00000000000000000000000000000abc","$spanId":"0000000000000def"}'),
        (b' {"a": 1.0} ', b'{"a": 1.0,"$traceId":"00000000000000000000000000000abc","$spanId":"0000000000000def"}'),
    ],
    ids=["none", "empty", "some"],
)
def test_it_is_added_to_json_and_the_rest_stays_as_it_was(before: bytes, after: bytes) -> None:
    given = event(before)
    carried = carrying(given, CONTEXT)
    assert carried.metadata == after
    assert (carried.type, carried.data, carried.id, carried.is_json) == (given.type, given.data, given.id, True)
    json.loads(carried.metadata)
    found = context_of(recorded("PersonCreated", metadata=carried.metadata))
    assert found is not None
    assert (found.trace_id, found.span_id, found.is_remote, found.trace_flags.sampled) == (0xABC, 0xDEF, True, True)


@pytest.mark.parametrize(
    "metadata",
    [b"\x00\xff", b"[1]", b"{", b"{1}", "{}".encode("utf-16"), json.dumps(NAMED).encode(), b"{" + b'"a":[' * 100_000],
    ids=["binary", "list", "torn", "no JSON", "UTF-16", "named", "deep"],
)
def test_what_cannot_carry_it_stays_as_it_is(metadata: bytes) -> None:
    given = event(metadata)
    assert carrying(given, CONTEXT) is given


def test_what_has_no_room_stays_as_it_is() -> None:
    given = event(b"{}", bytes(MAX_EVENT_SIZE - 2 * len("PersonCreated") - 10))
    assert carrying(given, CONTEXT) is given


def test_without_a_trace_there_is_nothing_to_carry() -> None:
    given = event(b"{}")
    assert carrying(given, SpanContext(0, 0, is_remote=False)) is given


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"$traceId": "abc"},
        {**NAMED, "$spanId": 7},
        {**NAMED, "$spanId": "no number"},
        {**NAMED, "$spanId": "0"},
        {**NAMED, "$traceId": "f" * 33},
        [NAMED],
        b'{"$traceId"',
    ],
    ids=["empty", "half", "number", "text", "zero", "too long", "list", "torn"],
)
def test_what_names_no_context_has_none(metadata: object) -> None:
    assert context_of(recorded("PersonCreated", metadata=metadata)) is None
