"""A connection whose spans are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.helpers import assert_nothing_left
from trio_extreme.telemetry import TracedConnection, instrument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

    from trio_extreme import Connection


class Recorder:
    """The spans that have ended, in that order."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def tracer(self) -> Tracer:
        """For spans of the user's own."""
        return self.provider.get_tracer("user")

    def take(self) -> list[ReadableSpan]:
        """Those since it was asked last."""
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found


@pytest.fixture
def spans() -> Recorder:
    return Recorder()


@pytest.fixture
async def traced(
    event_store_connection: Connection, spans: Recorder, autojump_clock: object
) -> AsyncIterator[TracedConnection]:
    yield instrument(event_store_connection, tracer_provider=spans.provider)
    assert_nothing_left(event_store_connection)
