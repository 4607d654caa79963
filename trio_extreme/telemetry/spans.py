"""Spans: their names and attributes, as the vendor's clients have them, and what becomes of one in the end."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, StatusCode

from trio_extreme.errors import ProtocolError
from trio_extreme.notices import Connected
from trio_extreme.telemetry.propagation import context_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from trio_extreme.changes import Changes
    from trio_extreme.events import Event
    from trio_extreme.settings import Settings
    from trio_extreme.values import Credentials

APPEND, READ, SUBSCRIBE = "streams.append", "streams.read", "streams.subscribe"


class Spans:
    """Opens the spans of one connection."""

    def __init__(self, settings: Settings, changes: Changes, provider: TracerProvider | None) -> None:
        self._tracer = trace.get_tracer("trio_extreme", version("trio-extreme"), provider)
        self._settings = settings
        self._changes = changes

    def request(
        self, name: str, stream: str | None, credentials: Credentials | None, kind: SpanKind = SpanKind.CLIENT
    ) -> AbstractContextManager[Span]:
        """A span around a request."""
        attributes = self._attributes(name, stream, credentials)
        return within(self._tracer.start_span(name, kind=kind, attributes=attributes))

    def of_event(self, event: Event, subscription_id: str) -> Span:
        """The span of an event that is about to be handled: below that of its append, where the event tells that.

        Otherwise it is below the present one, to which it is linked in any case.
        """
        attributes = self._attributes(SUBSCRIBE, event.stream, None)
        # Bytes that are none are no reason to lose the event.
        with suppress(ProtocolError):
            attributes["db.kurrentdb.event.id"] = str(event.id)
        attributes["db.kurrentdb.event.type"] = event.type
        attributes["db.kurrentdb.subscription.id"] = subscription_id
        appended = context_of(event)
        if appended is None:
            return self._tracer.start_span(SUBSCRIBE, kind=SpanKind.CONSUMER, attributes=attributes)
        here = trace.get_current_span().get_span_context()
        return self._tracer.start_span(
            SUBSCRIBE,
            trace.set_span_in_context(trace.NonRecordingSpan(appended)),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(here)] if here.is_valid else [],
        )

    def of_batch(self, events: Sequence[Event], subscription_id: str) -> Span:
        """The span of events that are handled together: linked to those of their appends."""
        streams = {event.stream for event in events}
        attributes = self._attributes(SUBSCRIBE, streams.pop() if len(streams) == 1 else None, None)
        attributes["db.kurrentdb.subscription.id"] = subscription_id
        appended = [context for event in events if (context := context_of(event)) is not None]
        links = [Link(context) for context in {context.span_id: context for context in appended}.values()]
        return self._tracer.start_span(SUBSCRIBE, kind=SpanKind.CONSUMER, attributes=attributes, links=links)

    def _attributes(
        self, operation: str, stream: str | None, credentials: Credentials | None
    ) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {"db.system": "kurrentdb", "db.operation": operation}
        attributes["server.address"], attributes["server.port"] = self._address()
        user = self._settings.username if credentials is None else credentials.login
        if user:
            attributes["db.user"] = user
        if stream is not None:
            attributes["db.kurrentdb.stream"] = stream
        return attributes

    def _address(self) -> tuple[str, int]:
        """Of the node that was connected last."""
        changes = self._changes
        for index in range(changes.newest, changes.oldest - 1, -1):
            change = changes.at(index)
            if isinstance(change, Connected):
                return change.host, change.port
        return self._settings.host, self._settings.port


@contextmanager
def within(span: Span) -> Iterator[Span]:
    """The span is the present one of what is done in this block, and ends with it."""
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception as error:
            note_error(span, error)
            raise


def note_error(span: Span, error: Exception) -> None:
    """Say that it failed, and with what kind of error; its text may quote what is nobody's business."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", name)
    span.add_event("exception", {"exception.type": name})
