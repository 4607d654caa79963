"""Subscriptions whose events are handled within spans: each from when it is handed out until the next is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

import trio
from opentelemetry import context, trace

from trio_extreme.catching_up import CatchUpSubscription
from trio_extreme.events import Event
from trio_extreme.filtered import FilteredSubscription
from trio_extreme.iterating import Batches
from trio_extreme.live import LiveSubscription
from trio_extreme.persistent import PersistentSubscription
from trio_extreme.subscriptions import Subscription
from trio_extreme.telemetry.spans import note_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from trio_extreme.telemetry.spans import Spans

E = TypeVar("E", bound=Event)


class Handling:
    """The spans of what is being handled, at most one in each task that iterates.

    A span is the task's present one until it ends, so that what a handler does is below it.
    """

    def __init__(self) -> None:
        self._open: dict[trio.lowlevel.Task, tuple[Span, Token[Context]]] = {}

    def begin(self, span: Span) -> None:
        """What this task has to handle now."""
        token = context.attach(trace.set_span_in_context(span))
        self._open[trio.lowlevel.current_task()] = span, token

    def end(self, error: BaseException | None = None) -> None:
        """It has handled that, if there was something."""
        mine = self._open.pop(trio.lowlevel.current_task(), None)
        if mine is None:
            return
        span, token = mine
        # Taken inside a block of the user's that has ended since, it is the present one no more.
        if trace.get_current_span() is span:
            context.detach(token)
        if isinstance(error, Exception):
            note_error(span, error)
        span.end()

    def end_all(self, error: BaseException | None) -> None:
        """The block of the subscription is left."""
        self.end(error)
        for span, _ in self._open.values():
            span.end()
        self._open.clear()


class _Traced(Subscription[E]):
    """What is common to the subscriptions below."""

    def __init__(self, *args: Any, spans: Spans, **options: Any) -> None:
        super().__init__(*args, **options)
        self._spans = spans
        self._id = self._subscription_id()
        self._handling = Handling()

    def _subscription_id(self) -> str:
        return str(uuid4())

    async def __anext__(self) -> E:
        self._handling.end()
        event = await super().__anext__()  # type: ignore[safe-super]
        # Under `with_notices` it may be none.
        if isinstance(event, Event):
            self._handling.begin(self._spans.of_event(event, self._id))
        return event

    def batches(self) -> Batches[E]:
        """The events in lists, as they came, each list within one span."""
        return Batches(_Lists(self))

    async def next_traced_list(self) -> Sequence[E]:
        """The next events, as many as came together; what is done with them is one span."""
        self._handling.end()
        events = await self.next_list()
        self._handling.begin(self._spans.of_batch(events, self._id))
        return events

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handling.end_all(error)
        await super().__aexit__(kind, error, traceback)  # noqa: ASYNC102 - it waits for nothing


class _Lists(Generic[E]):
    """What `Batches` takes its lists from."""

    def __init__(self, subscription: _Traced[E]) -> None:
        self._subscription = subscription

    async def next_list(self) -> Sequence[E]:
        """The next list."""
        return await self._subscription.next_traced_list()


class TracedCatchUp(_Traced[E], CatchUpSubscription[E]):
    """A catch-up subscription."""


class TracedFiltered(_Traced[Any], FilteredSubscription):
    """One with a filter."""


class TracedLive(_Traced[Any], LiveSubscription[Any]):
    """A live subscription."""


class TracedPersistent(_Traced[Any], PersistentSubscription):
    """A persistent subscription, whose events may be handled in several tasks."""

    def _subscription_id(self) -> str:
        return f"{self._stream}::{self._group}"

    async def next_with_notices(self) -> Any:
        """The next event or notice."""
        self._handling.end()
        item = await super().next_with_notices()
        if isinstance(item, Event):
            self._handling.begin(self._spans.of_event(item, self._id))
        return item
