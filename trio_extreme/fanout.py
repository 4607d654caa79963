"""A listener that remembers nothing: what is written while it runs, to everybody who runs one."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme.errors import (
    ConnectionLost,
    DropReason,
    NotMaster,
    NotReady,
    OperationTimedOut,
    SubscriptionDropped,
)
from trio_extreme.handling import STOP
from trio_extreme.notices import Notice, Reconnected
from trio_extreme.operations import checks
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme.client import Connection
    from trio_extreme.live import LiveSubscription
    from trio_extreme.values import Credentials

logger = logging.getLogger("trio_extreme.listeners")

PAUSE = 1.0
"""Seconds before it subscribes again where the server did not let it."""

_PASSING = (ConnectionLost, NotMaster, NotReady, OperationTimedOut)


class FanoutListener:
    """Calls `handle` for each event that is written to a stream, or to ALL, while it runs; older ones never.

    `run` it as a task. It comes back by itself after the connection was lost, and where it was too slow for what the
    server pushed and was dropped (`live_buffer_events`). In both cases events may be missing, and never come: that is
    logged, and `gap` is called, a coroutine function, before what comes next. A returned STOP ends it.
    """

    def __init__(
        self,
        conn: Connection,
        stream: str,
        handle: Callable[[Any], Awaitable[object]],
        *,
        gap: Callable[[], Awaitable[object]] | None = None,
        resolve_links: bool | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._conn = conn
        self._stream = stream if stream == ALL else checks.check_stream(stream)
        self._handle = handle
        self._gap = gap
        self._resolve_links = stream != ALL if resolve_links is None else resolve_links
        self._credentials = credentials
        self._running = False
        self._handled = 0

    def __repr__(self) -> str:
        state = "running" if self._running else "stopped"
        return f"<FanoutListener to {self._stream!r}: {state}, {self._handled} events handled>"

    @property
    def handled(self) -> int:
        """How many events were handled."""
        return self._handled

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handle events until it is cancelled, the handler returns STOP, or something fails.

        `await nursery.start(listener.run)` returns when the server has confirmed: what is written after that is
        handled. Raises what the handler raised, bare; what entering `Connection.subscribe_live` raises, the first time;
        and `StreamDeleted`. It may be run again, one at a time. Cancelling interrupts the handler.
        """
        if self._running:
            msg = f"the listener to {self._stream!r} runs already; run it once at a time"
            raise trio.BusyResourceError(msg)
        self._running = True
        try:
            await self._go_on(task_status)
        finally:
            self._running = False

    async def _go_on(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._subscribe() as events:
            task_status.started()
            stopped = await self._handle_all(events)
        while not stopped:
            logger.warning("the listener to %r was too slow, and was dropped: events may be missing", self._stream)
            async with AsyncExitStack() as stack:
                events = await self._enter_again(stack)
                await self._tell_gap()
                stopped = await self._handle_all(events)

    async def _enter_again(self, stack: AsyncExitStack) -> LiveSubscription[Any]:
        while True:
            try:
                return await stack.enter_async_context(self._subscribe())
            except _PASSING:
                await trio.sleep(PAUSE)

    async def _handle_all(self, events: LiveSubscription[Any]) -> bool:
        """True where a handler has stopped it, False where it was too slow. A handler's error is raised as it is."""
        items = events.with_notices()
        while True:
            try:
                item = await anext(items)
            except SubscriptionDropped as error:
                if error.reason is DropReason.OVERFLOW:
                    return False  # noqa: ASYNC910 - it has waited
                raise
            if isinstance(item, Reconnected):
                logger.warning("the listener to %r was interrupted: events may be missing", self._stream)
                await self._tell_gap()
            elif not isinstance(item, Notice):
                if await self._handle(item) is STOP:
                    return True
                self._handled += 1

    async def _tell_gap(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._gap is not None:
            await self._gap()

    def _subscribe(self) -> LiveSubscription[Any]:
        if self._stream == ALL:
            return self._conn.subscribe_all_live(resolve_links=self._resolve_links, credentials=self._credentials)
        return self._conn.subscribe_live(self._stream, resolve_links=self._resolve_links, credentials=self._credentials)
