"""What makes several requests, each within a span of its own: readers a page at a time, and transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.trace import SpanKind

from trio_extreme.events import Event
from trio_extreme.filtered import FilteredLogReader
from trio_extreme.operations.checks import check_events
from trio_extreme.reading import LogReader, Reader, StreamReader
from trio_extreme.telemetry.propagation import carrying
from trio_extreme.telemetry.spans import READ
from trio_extreme.transactions import Transaction
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from trio_extreme.events import NewEvent
    from trio_extreme.telemetry.spans import Spans

E = TypeVar("E", bound=Event)


class _Traced(Reader[E]):
    """What is common to the readers below."""

    _stream = ALL

    def __init__(self, *args: Any, spans: Spans, **options: Any) -> None:
        super().__init__(*args, **options)
        self._spans = spans
        self._credentials = options["credentials"]

    async def _next_page(self) -> Sequence[E]:
        with self._spans.request(READ, self._stream, self._credentials):
            return await super()._next_page()


class TracedStreamReader(_Traced[Event], StreamReader):
    """Reads one stream."""


class TracedLogReader(_Traced[Any], LogReader):
    """Reads the log of all streams."""


class TracedFilteredLogReader(_Traced[Any], FilteredLogReader):
    """Reads it with a filter."""


class TracedTransaction(Transaction):
    """A transaction."""

    def __init__(self, *args: Any, spans: Spans, **options: Any) -> None:
        super().__init__(*args, **options)
        self._spans = spans

    @property
    def _stream(self) -> str | None:
        return None if self._begun is None else self._begun.stream

    async def __aenter__(self) -> Self:
        with self._spans.request("transactions.start", self._stream, self._credentials):
            return await super().__aenter__()

    async def write(self, events: NewEvent | Iterable[NewEvent]) -> None:
        """Add one event, or several, which carry the context of this span."""
        batch = check_events(events)
        with self._spans.request("transactions.write", self._stream, self._credentials, SpanKind.PRODUCER) as span:
            await super().write([carrying(event, span.get_span_context()) for event in batch])

    async def _commit(self, id: int) -> None:
        with self._spans.request("transactions.commit", self._stream, self._credentials):
            await super()._commit(id)
