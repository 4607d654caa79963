from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from tests.grouping import play
from tests.helpers import new_events
from tests.peer import Peer, open_to
from trio_extreme import CaughtUp, Event, Filter
from trio_extreme.telemetry import TracedConnection, instrument
from trio_extreme.testing import recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.telemetry.conftest import Recorder
    from trio_extreme import Connection


def ids(spans: Sequence[ReadableSpan]) -> list[int]:
    return [span.context.span_id for span in spans]


def present() -> int:
    return trace.get_current_span().get_span_context().span_id


async def test_an_event_is_handled_in_the_trace_of_its_append(traced: TracedConnection, spans: Recorder) -> None:
    first = await traced.append("people", new_events(1))
    (append,) = spans.take()
    with spans.tracer.start_as_current_span("worker") as worker:
        async with traced.subscribe("people") as events:
            event = await anext(events)
            await traced.append("others", new_events(1))
            (below,) = spans.take()
        assert present() == worker.get_span_context().span_id
    handled, _ = spans.take()

    assert first.first == event.number
    assert (handled.name, handled.kind) == ("streams.subscribe", SpanKind.CONSUMER)
    assert handled.context.trace_id == append.context.trace_id
    assert handled.parent is not None
    assert handled.parent.span_id == append.context.span_id
    assert [link.context for link in handled.links] == [worker.get_span_context()]
    attributes = dict(handled.attributes or {})
    assert attributes.pop("db.kurrentdb.subscription.id")
    assert attributes == {
        "db.system": "kurrentdb",
        "db.operation": "streams.subscribe",
        "db.user": "admin",
        "server.address": "127.0.0.1",
        "server.port": 1113,
        "db.kurrentdb.stream": "people",
        "db.kurrentdb.event.id": str(event.id),
        "db.kurrentdb.event.type": "happened",
    }
    # What the body did is below the event's span.
    assert below.parent is not None
    assert below.parent.span_id == handled.context.span_id


async def test_an_event_of_others_is_below_the_present_span(
    event_store_connection: Connection, traced: TracedConnection, spans: Recorder
) -> None:
    await event_store_connection.append("people", new_events(2))
    with spans.tracer.start_as_current_span("worker") as worker:
        async with traced.subscribe("people") as events:
            for _ in range(2):
                await anext(events)
    one, other, _ = spans.take()
    assert {span.parent and span.parent.span_id for span in (one, other)} == {worker.get_span_context().span_id}
    assert one.context.span_id != other.context.span_id
    assert one.end_time is not None
    assert other.start_time is not None
    assert one.end_time <= other.start_time


async def fail(traced: TracedConnection) -> None:
    async with traced.subscribe("people") as events:
        async for event in events:
            raise KeyError(event.data)


async def test_what_the_body_fails_with_is_told_by_its_kind(traced: TracedConnection, spans: Recorder) -> None:
    await traced.append("people", new_events(1))
    spans.take()
    with pytest.raises(KeyError):
        await fail(traced)
    (handled,) = spans.take()
    assert handled.status.status_code is StatusCode.ERROR
    assert (handled.attributes or {})["error.type"] == "KeyError"
    assert [dict(event.attributes or {}) for event in handled.events] == [{"exception.type": "KeyError"}]
    assert present() == 0


async def test_every_kind_of_subscription_is_traced(traced: TracedConnection, spans: Recorder) -> None:
    """And every way to iterate."""
    subscriptions: list[Any] = [
        traced.subscribe("people"),
        traced.subscribe_all(filter=Filter.by_stream("people")),
        traced.subscribe_live("people"),
        traced.subscribe_all_live(),
    ]
    for subscription in subscriptions:
        async with subscription as events, trio.open_nursery() as nursery:
            nursery.start_soon(traced.append, "people", new_events(1))
            async for item in events.with_notices():
                if isinstance(item, Event):
                    break
                assert present() == 0
            nursery.cancel_scope.cancel()
        assert [span.name for span in spans.take()][-1] == "streams.subscribe"
        assert present() == 0


async def test_a_list_is_one_span_with_a_link_to_each_append(traced: TracedConnection, spans: Recorder) -> None:
    await traced.append("people", new_events(2))
    await traced.append("people", new_events(1))
    appends = spans.take()
    async with traced.subscribe("people") as events:
        async for batch in events.batches():
            assert len(batch) == 3
            inside = present()
            break
    (handled,) = spans.take()
    assert ids([handled]) == [inside]
    assert [link.context.span_id for link in handled.links] == ids(appends)
    assert (handled.attributes or {})["db.kurrentdb.stream"] == "people"


async def test_a_handler_is_called_within_a_span(traced: TracedConnection, spans: Recorder) -> None:
    seen: list[tuple[object, int]] = []

    async def handle(given: Event | list[Event], extra: str) -> str:
        await trio.lowlevel.checkpoint()
        seen.append((given, present()))
        return extra

    handler = traced.traced(handle)
    named = {"$traceId": "abc", "$spanId": "def"}
    one, other = recorded("PersonCreated", metadata=named), recorded("PersonCreated", stream="test-2")
    assert await handler(one, "one") == "one"
    assert await handler([one, other], extra="both") == "both"
    first, both = spans.take()
    assert [inside for _, inside in seen] == ids([first, both])
    assert first.parent is not None
    assert first.parent.span_id == 0xDEF
    assert [link.context.span_id for link in both.links] == [0xDEF]
    assert "db.kurrentdb.stream" not in (both.attributes or {})


async def test_a_span_of_the_users_that_ended_meanwhile_is_not_brought_back(
    traced: TracedConnection, spans: Recorder
) -> None:
    await traced.append("people", new_events(2))
    async with traced.subscribe("people") as events:
        with spans.tracer.start_as_current_span("mine"):
            await anext(events)
        assert present() == 0
        await anext(events)
    assert present() == 0


async def test_tasks_that_share_a_group_have_spans_of_their_own(spans: Recorder, autojump_clock: object) -> None:
    peer = Peer()
    play(peer, then=(0, 1, 2))
    inside: dict[int, int] = {}

    async def work(events: Any, count: int) -> None:
        for _ in range(count):
            event = await anext(events)
            await trio.sleep(1)
            inside[event.number] = present()

    async with open_to(peer) as conn:
        traced = instrument(conn, tracer_provider=spans.provider)
        async with traced.subscribe_persistent("s", "g", in_flight=3) as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work, events, 2)
                nursery.start_soon(work, events, 1)
            assert len(spans.take()) == 1
        async with traced.subscribe_persistent("s", "g", in_flight=3) as events:
            assert isinstance(await events.next_with_notices(), Event)
    handled = spans.take()
    assert len(set(inside.values())) == 3
    assert {(span.attributes or {})["db.kurrentdb.subscription.id"] for span in handled} == {"s::g"}
    assert len(handled) == 3
    assert trace.get_current_span().get_span_context().is_valid is False


async def test_notices_are_no_events(traced: TracedConnection, spans: Recorder) -> None:
    await traced.append("people", new_events(1))
    spans.take()
    async with traced.subscribe("people") as events:
        told = events.with_notices()
        assert isinstance(await anext(told), Event)
        assert await anext(told) == CaughtUp()
        assert (len(spans.take()), present()) == (1, 0)
