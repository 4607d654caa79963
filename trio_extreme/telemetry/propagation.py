"""The context of a trace in the metadata of an event, as the vendor's clients write it: `$traceId` and `$spanId`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanContext, TraceFlags

from trio_extreme.errors import InvalidArgument
from trio_extreme.events import NewEvent

if TYPE_CHECKING:
    from trio_extreme.events import RecordedEvent

TRACE_ID, SPAN_ID = "$traceId", "$spanId"
_MARK = f'"{TRACE_ID}"'.encode()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def carrying(event: NewEvent, context: SpanContext) -> NewEvent:
    """The same event, whose metadata names this context.

    It stays as it is where its metadata is no JSON object, where it names a context already, and where it has no room.
    """
    metadata = event.metadata.strip() or b"{}"
    known = _read(metadata)
    if not context.is_valid or known is None or TRACE_ID in known:
        return event
    added = f'"{TRACE_ID}":"{context.trace_id:032x}","{SPAN_ID}":"{context.span_id:016x}"}}'.encode()
    # What was there stays as it was written, to the byte.
    extended = metadata[:-1] + (b"," if known else b"") + added
    try:
        return NewEvent(event.type, event.data, extended, id=event.id, is_json=event.is_json)
    except InvalidArgument:
        return event


def context_of(event: RecordedEvent) -> SpanContext | None:
    """The context that the metadata of an event names, None where it names none that can be one."""
    metadata = event.metadata
    if _MARK not in metadata:
        return None
    known = _read(metadata) or {}
    try:
        trace_id, span_id = int(known[TRACE_ID], 16), int(known[SPAN_ID], 16)
    except (KeyError, TypeError, ValueError):
        return None
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=_SAMPLED)
    return context if context.is_valid else None


def _read(metadata: bytes) -> dict[str, Any] | None:
    if not metadata.lstrip().startswith(b"{"):
        return None
    try:
        known = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    return known if isinstance(known, dict) else None
