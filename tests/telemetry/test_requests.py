from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from tests.helpers import new_events
from trio_extreme import (
    ANY,
    NO_STREAM,
    CatchUpSubscription,
    Connection,
    Credentials,
    DefaultAcl,
    Filter,
    NewEvent,
    PersistentSettings,
    StreamMetadata,
    StreamNotFound,
    TrioExtremeError,
    WrongExpectedVersion,
    messages,
    open_connection,
)
from trio_extreme.telemetry import TracedConnection, instrument

if TYPE_CHECKING:
    from tests.telemetry.conftest import Recorder
    from trio_extreme.embedded import Node

COMMON = {"db.system": "kurrentdb", "db.user": "admin", "server.address": "127.0.0.1", "server.port": 1113}


async def test_an_append_is_a_span_that_its_events_name(traced: TracedConnection, spans: Recorder) -> None:
    with spans.tracer.start_as_current_span("mine"):
        await traced.append("people", [NewEvent.json("PersonCreated", {}, {"by": "anna"}), NewEvent("PersonCreated")])
    append, mine = spans.take()
    assert (append.name, append.kind, append.status.status_code) == (
        "streams.append",
        SpanKind.PRODUCER,
        StatusCode.UNSET,
    )
    assert dict(append.attributes or {}) == {
        **COMMON,
        "db.operation": "streams.append",
        "db.kurrentdb.stream": "people",
    }
    assert append.parent is not None
    assert append.parent.span_id == mine.context.span_id
    named = f'"$traceId":"{append.context.trace_id:032x}","$spanId":"{append.context.span_id:016x}"}}'.encode()
    stored = [event.metadata async for event in traced.read_stream("people")]
    assert stored == [b'{"by":"anna",' + named, b"{" + named]


OPS = Credentials("ops", "changeit")
CALLS: dict[str, tuple[str, str | None, tuple[Any, ...], dict[str, Any]]] = {
    "append": ("streams.append", "people", ("people", new_events(1)), {}),
    "execute": ("execute", None, (messages.ReadEvent(event_stream_id="people", event_number=0),), {}),
    "ping": ("ping", None, (), {}),
    "scavenge": ("scavenge", None, (), {}),
    "read_event": ("streams.read", "people", ("people", 0), {}),
    "last_number": ("streams.read", "people", ("people",), {}),
    "head": ("streams.read", "$all", (), {}),
    "get_metadata": ("streams.get_metadata", "people", ("people",), {}),
    "set_metadata": ("streams.set_metadata", "people", ("people", StreamMetadata()), {}),
    "update_metadata": ("streams.update_metadata", "people", ("people",), {"max_count": 9}),
    "get_default_acl": ("streams.get_default_acl", "$settings", (), {}),
    "set_default_acl": ("streams.set_default_acl", "$settings", (DefaultAcl(),), {}),
    "create_persistent": ("persistent_subscriptions.create", "people", ("people", "g"), {}),
    "update_persistent": ("persistent_subscriptions.update", "people", ("people", "g", PersistentSettings()), {}),
    "ensure_persistent": ("persistent_subscriptions.ensure", "people", ("people", "g"), {}),
    "delete_persistent": ("persistent_subscriptions.delete", "people", ("people", "g"), {}),
    "delete_stream": ("streams.delete", "people", (), {"stream": "people", "expected": ANY}),
}


async def test_every_call_is_a_span(traced: TracedConnection, spans: Recorder) -> None:
    verbs = {name for name, verb in inspect.getmembers(Connection, inspect.iscoroutinefunction) if name[0] != "_"}
    assert verbs == CALLS.keys()
    for verb, (name, stream, arguments, options) in CALLS.items():
        # Some need rights that `ops` has not.
        with suppress(TrioExtremeError):
            await getattr(traced, verb)(*arguments, **options, credentials=OPS)
        (span,) = spans.take()
        attributes = dict(span.attributes or {})
        assert (span.name, attributes.get("db.kurrentdb.stream"), attributes["db.user"]) == (name, stream, "ops"), verb


async def test_an_error_is_told_by_its_kind_alone(traced: TracedConnection, spans: Recorder) -> None:
    with pytest.raises(WrongExpectedVersion):
        await traced.append("people", new_events(1), expected=7)
    (span,) = spans.take()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert (span.attributes or {})["error.type"] == "trio_extreme.errors.WrongExpectedVersion"
    ((name, attributes),) = [(event.name, dict(event.attributes or {})) for event in span.events]
    assert (name, attributes) == ("exception", {"exception.type": "trio_extreme.errors.WrongExpectedVersion"})


async def test_who_is_cancelled_did_not_fail(traced: TracedConnection, spans: Recorder) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await traced.append("people", new_events(1))
    (span,) = spans.take()
    assert span.status.status_code is StatusCode.UNSET
    assert not trace.get_current_span().get_span_context().is_valid
    assert await traced.last_number("people") is None


async def test_each_page_is_a_span(traced: TracedConnection, spans: Recorder) -> None:
    await traced.append("people", new_events(5))
    spans.take()
    readers = {
        "people": traced.read_stream("people", page_size=2),
        "$all": traced.read_all(start=await traced.head(), backwards=True, count=5, page_size=2),
    }
    spans.take()
    for stream, reader in readers.items():
        assert len([event async for event in reader]) == 5
        pages = spans.take()
        assert [span.name for span in pages] == 3 * ["streams.read"]
        assert {(span.attributes or {})["db.kurrentdb.stream"] for span in pages} == {stream}
    async with traced.read_all(filter=Filter.by_stream("people"), page_size=1000) as filtered:
        assert len([event async for event in filtered]) == 5
    assert {span.name for span in spans.take()} == {"streams.read"}
    with pytest.raises(StreamNotFound):
        await anext(traced.read_stream("nobody"))
    (span,) = spans.take()
    assert span.status.status_code is StatusCode.ERROR


async def test_a_transaction_is_a_span_for_each_request(traced: TracedConnection, spans: Recorder) -> None:
    async with traced.transaction("people", expected=NO_STREAM) as tx:
        await tx.write(new_events(2))
        await tx.write(NewEvent("PersonCreated"))
    told = [(span.name, span.kind, (span.attributes or {})["db.kurrentdb.stream"]) for span in spans.take()]
    assert told == [
        ("transactions.start", SpanKind.CLIENT, "people"),
        ("transactions.write", SpanKind.PRODUCER, "people"),
        ("transactions.write", SpanKind.PRODUCER, "people"),
        ("transactions.commit", SpanKind.CLIENT, "people"),
    ]
    assert b"$traceId" in (await traced.read_event("people", 2)).metadata


async def test_spans_tell_the_node_that_is_connected(
    event_store: Node, spans: Recorder, autojump_clock: object
) -> None:
    settings = event_store.settings.replace(host="elsewhere", username="", password="")
    async with open_connection(settings, connect=event_store.connect) as conn:
        await instrument(conn, tracer_provider=spans.provider).ping()
    (span,) = spans.take()
    assert "db.user" not in (span.attributes or {})
    assert (span.attributes or {})["server.address"] == "elsewhere"


async def test_what_is_not_traced_is_what_it_was(event_store_connection: Connection, traced: TracedConnection) -> None:
    conn = event_store_connection
    assert type(conn.subscribe("people")) is CatchUpSubscription
    await conn.append("people", new_events(1))
    assert (await conn.read_event("people", 0)).metadata == b""
    assert repr(traced) == repr(conn)


async def test_without_a_provider_nothing_is_recorded_or_carried(event_store_connection: Connection) -> None:
    conn = instrument(event_store_connection)
    await conn.append("people", new_events(1))
    async with conn.subscribe("people") as events:
        assert (await anext(events)).metadata == b""


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    monkeypatch.delitem(sys.modules, "trio_extreme.telemetry")
    with pytest.raises(ImportError, match=r"pip install 'trio-extreme\[otel\]'"):
        import_module("trio_extreme.telemetry")
