"""A connection that tells OpenTelemetry what it does."""

from __future__ import annotations

from functools import partial, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from uuid import uuid4

from opentelemetry.trace import SpanKind

from trio_extreme.catching_up import CatchUpSubscription
from trio_extreme.client import Connection
from trio_extreme.events import Event
from trio_extreme.filtered import FilteredLogReader, FilteredSubscription
from trio_extreme.live import LiveSubscription
from trio_extreme.metadata import SETTINGS
from trio_extreme.operations.checks import check_events
from trio_extreme.persistent import PersistentSubscription
from trio_extreme.reading import LogReader, StreamReader
from trio_extreme.telemetry.consuming import (
    TracedCatchUp,
    TracedFiltered,
    TracedLive,
    TracedPersistent,
)
from trio_extreme.telemetry.propagation import carrying
from trio_extreme.telemetry.requesting import (
    TracedFilteredLogReader,
    TracedLogReader,
    TracedStreamReader,
    TracedTransaction,
)
from trio_extreme.telemetry.spans import APPEND, READ, Spans, within
from trio_extreme.transactions import Transaction
from trio_extreme.values import ALL, ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from opentelemetry.trace import TracerProvider

    from trio_extreme.events import NewEvent
    from trio_extreme.values import Credentials, WriteResult

P = ParamSpec("P")
V = TypeVar("V")
F = TypeVar("F", bound="Callable[..., Coroutine[Any, Any, Any]]")

_TRACED: Mapping[Any, Any] = {
    CatchUpSubscription: TracedCatchUp,
    FilteredSubscription: TracedFiltered,
    LiveSubscription: TracedLive,
    PersistentSubscription: TracedPersistent,
    StreamReader: TracedStreamReader,
    LogReader: TracedLogReader,
    FilteredLogReader: TracedFilteredLogReader,
    Transaction: TracedTransaction,
}


def _traced(name: str, verb: F, stream: str | None = None) -> F:
    """A verb within a span. `stream` is what it is about where it does not take one first."""
    takes_stream = list(signature(verb).parameters)[1:2] == ["stream"]

    @wraps(verb)
    async def traced(self: TracedConnection, *args: Any, **options: Any) -> Any:
        about = (args[0] if args else options.get("stream")) if takes_stream else stream
        with self.spans.request(name, about, options.get("credentials")):
            return await verb(self, *args, **options)

    return cast("F", traced)


class TracedConnection(Connection):
    """What `instrument` returns: a `Connection` like any other."""

    def __init__(self, conn: Connection, tracer_provider: TracerProvider | None) -> None:
        super().__init__(conn._engine)  # noqa: SLF001 - another of the same class
        self.spans = Spans(self._engine.settings, self._engine.changes, tracer_provider)

    def traced(self, handle: F) -> F:
        """The same handler, of an event or a list of them, each call of it within a span: for listeners."""
        subscription_id = str(uuid4())

        @wraps(handle)
        async def traced(given: Event | Sequence[Event], *args: Any, **options: Any) -> Any:
            if isinstance(given, Event):
                span = self.spans.of_event(given, subscription_id)
            else:
                span = self.spans.of_batch(given, subscription_id)
            with within(span):
                return await handle(given, *args, **options)

        return cast("F", traced)

    async def append(
        self,
        stream: str,
        events: NewEvent | Iterable[NewEvent],
        *,
        expected: int = ANY,
        require_master: bool | None = None,
        credentials: Credentials | None = None,
    ) -> WriteResult:
        """Append as `Connection` does; the metadata of the events names the span."""
        batch = check_events(events)
        with self.spans.request(APPEND, stream, credentials, SpanKind.PRODUCER) as span:
            return await super().append(
                stream,
                [carrying(event, span.get_span_context()) for event in batch],
                expected=expected,
                require_master=require_master,
                credentials=credentials,
            )

    execute = _traced("execute", Connection.execute)
    ping = _traced("ping", Connection.ping)
    scavenge = _traced("scavenge", Connection.scavenge)
    delete_stream = _traced("streams.delete", Connection.delete_stream)
    read_event = _traced(READ, Connection.read_event)
    last_number = _traced(READ, Connection.last_number)
    head = _traced(READ, Connection.head, ALL)
    get_metadata = _traced("streams.get_metadata", Connection.get_metadata)
    set_metadata = _traced("streams.set_metadata", Connection.set_metadata)
    update_metadata = _traced("streams.update_metadata", Connection.update_metadata)
    get_default_acl = _traced("streams.get_default_acl", Connection.get_default_acl, SETTINGS)
    set_default_acl = _traced("streams.set_default_acl", Connection.set_default_acl, SETTINGS)
    create_persistent = _traced("persistent_subscriptions.create", Connection.create_persistent)
    update_persistent = _traced("persistent_subscriptions.update", Connection.update_persistent)
    delete_persistent = _traced("persistent_subscriptions.delete", Connection.delete_persistent)
    ensure_persistent = _traced("persistent_subscriptions.ensure", Connection.ensure_persistent)

    def _kind(self, kind: Callable[P, V]) -> Callable[P, V]:
        return partial(_TRACED[kind], spans=self.spans)


def instrument(conn: Connection, *, tracer_provider: TracerProvider | None = None) -> TracedConnection:
    """The same connection, whose calls and subscriptions are spans of OpenTelemetry (docs/observability.md).

    What is asked for through `conn` itself stays untraced, and costs what it did. `tracer_provider` is the global one
    where none is given. Nothing has to be undone, and nothing more ends with the connection than it did.
    """
    return TracedConnection(conn, tracer_provider)
