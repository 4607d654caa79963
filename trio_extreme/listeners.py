"""Listeners: a handler that is called for each event, and a checkpoint that says where to go on in the next process."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import trio

from trio_extreme.checkpoints import NOWHERE, check_name, text_of
from trio_extreme.delivering import Attempts, Brake, check_ways, delivery_of
from trio_extreme.errors import (
    ConnectionLost,
    DropReason,
    InvalidArgument,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    SubscriptionDropped,
)
from trio_extreme.handling import STOP, check_on_error, parked
from trio_extreme.notices import CaughtUp, Checkpoint, FellBehind, Notice, Reconnected, StreamMissing
from trio_extreme.progress import ListenerState, ListenerStatus, Progress, Rate
from trio_extreme.sqlite_checkpoints import SqliteCheckpoints
from trio_extreme.values import ALL, ANY, END, START, Position, WriteResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence

    from trio_extreme.catching_up import CatchUpSubscription
    from trio_extreme.checkpoints import Checkpoints
    from trio_extreme.client import Connection
    from trio_extreme.delivering import Call
    from trio_extreme.events import Event
    from trio_extreme.filters import Filter
    from trio_extreme.handling import Handler, OnError
    from trio_extreme.sqlite_checkpoints import SqliteTransaction
    from trio_extreme.values import Credentials, LogPlace, StreamPlace

logger = logging.getLogger("trio_extreme.listeners")

_LAST_WORDS = 0.8
"""Seconds for storing the last checkpoint when a listener ends."""

_PAUSE = 1.0
"""Seconds before the server is asked again that did not answer."""


class Listener:
    """Calls `handle` for each event of a stream, in order, and remembers in `checkpoints` how far it has come.

    `run` it as a task; it goes on across reconnects, for as long as its nursery lasts. An event is handled **at least
    once**: its checkpoint is stored after the handler has returned, so that a process that dies between the two handles
    it again. With `SqliteCheckpoints` it counts exactly once: the handler is `handle(event, db)`, and what it does with
    `db` is committed together with the checkpoint. `docs/listeners.md` has examples.

    - `stream`: a stream, of links too (`$ce-…`), or ALL, of which `filter` chooses
    - `handle`: a coroutine function, or `Handlers` for a handler for each type; a returned STOP ends the listener
    - `checkpoints`, `name`: where to keep the place, and under which name: the stream's, if nothing is said
    - `start`: where to begin when no checkpoint is stored: START, a place, or END, which is asked for once and kept
    - `batch`: give the handler lists of at most so many events, as they come
    - `on_error`: `Retry`, `Skip`, `Park`, `Stop`; None ends `run` with the error, its event not handled
    - `concurrency`, `key`: handle so many events at a time, those of one key in order, without keys in none
    - `checkpoint_events`, `checkpoint_seconds`: store after so many events, or so long after the first of them
    - `caught_up`: a coroutine function that is called whenever all that was stored has been handled
    - `paused`: begin paused

    The rest is as in `Connection.subscribe`. Two listeners with one name of one store cannot run at a time.
    """

    def __init__(
        self,
        conn: Connection,
        stream: str,
        handle: Handler,
        *,
        checkpoints: Checkpoints,
        name: str | None = None,
        filter: Filter | None = None,
        start: StreamPlace | LogPlace = START,
        paused: bool = False,
        on_error: OnError = None,
        batch: int | None = None,
        concurrency: int = 1,
        key: Callable[[Any], Hashable] | None = None,
        checkpoint_events: int = 1,
        checkpoint_seconds: float = inf,
        caught_up: Callable[[], Awaitable[object]] | None = None,
        on_ahead: Literal["wait", "raise"] = "wait",
        resolve_links: bool | None = None,
        require_master: bool = False,
        page_size: int | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._conn = conn
        self._stream = stream
        self._checkpoints = checkpoints
        self._filter = filter
        self._start = start
        self._paused = paused
        self._caught_up = caught_up
        self._credentials = credentials
        self._options: dict[str, Any] = {
            "on_ahead": on_ahead,
            "resolve_links": stream != ALL if resolve_links is None else resolve_links,
            "require_master": require_master,
            "page_size": page_size,
            "credentials": credentials,
        }
        # What a subscription refuses is refused here, and not when it is too late.
        self._subscribe(None, self._start)
        self._name = check_name(stream if name is None else name)
        check_ways(
            checkpoints,
            handle,
            batch=batch,
            concurrency=concurrency,
            key=key,
            events=checkpoint_events,
            seconds=checkpoint_seconds,
        )
        self._progress = Progress(checkpoints, self._name, stream, checkpoint_events, checkpoint_seconds)
        self._brake = Brake()
        call = self._in_transactions(handle) if isinstance(checkpoints, SqliteCheckpoints) else handle
        self._attempts = Attempts(call, check_on_error(on_error), self._brake, self._progress, self._park)  # type: ignore[arg-type]
        self._delivery = delivery_of(self._attempts, batch, concurrency, key)
        self._state = ListenerState.STOPPED
        self._events: CatchUpSubscription[Any] | None = None
        # The last event that was taken.
        self._taken: Event | None = None
        self._rate = Rate()
        self._task: trio.lowlevel.Task | None = None
        self._started = False
        # Set while nothing is handled, and what was is stored.
        self._at_rest = trio.Event()
        self._at_rest.set()
        self._changed = trio.Event()
        self._patch: trio.CancelScope | None = None
        self._patch_done = trio.Event()

    def __repr__(self) -> str:
        return f"<Listener {self._name!r}: {self._state.value}, at {self._progress.last}>"

    @property
    def name(self) -> str:
        """The name of its checkpoint."""
        return self._name

    @property
    def status(self) -> ListenerStatus:
        """What it is doing, how far it has come, and what is before it."""
        place, end = self._progress.last, self._end()
        behind = None if end is None else max(0, end - (place if isinstance(place, int) else NOWHERE))
        return ListenerStatus(
            self._state,
            place,
            end,
            behind,
            self._age(behind),
            self._attempts.last_error,
            self._progress.handled,
            self._rate.per_second(self._progress.handled),
        )

    # --- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handle events until it is cancelled, a handler returns STOP, or something fails.

        `await nursery.start(listener.run)` returns when the server has answered for the first time, or, where the
        listener begins paused, when its checkpoint was loaded. Raises what the handler raised, bare; `CheckpointError`
        for a checkpoint that cannot be used; and what iterating over a subscription raises, but not for being offline.

        However it ends, what was handled is stored. Cancelling interrupts the handler; its event comes again in the
        next run, of which there may be any number, one at a time.
        """
        if self._task is not None:
            msg = f"listener {self._name!r} runs already; run it once at a time"
            raise trio.BusyResourceError(msg)
        self._task = trio.lowlevel.current_task()
        self._started = False
        self._brake.stopped = False
        self._progress.begin()
        self._at_rest = trio.Event()
        try:
            async with self._checkpoints.hold(self._name):
                await self._begin()
                await self._go_on(task_status)
        finally:
            self._task = None
            self._state = ListenerState.STOPPED
            self._progress.end()
            self._at_rest.set()

    async def pause(self) -> int | Position | None:
        """Handle nothing more until `resume`; the place of the last event that was handled, None where there is none.

        Returns when the handler that is under way has returned, and its checkpoint is stored. What is paused already
        stays so. A handler cannot call it, since it would wait for itself. Cancelled, it is paused all the same.
        """
        self._refuse_handler("pause()")
        self._paused = True
        self._brake.pull()
        await self._at_rest.wait()
        return self._progress.last

    def resume(self) -> None:
        """Go on behind the last event that was handled, if it is paused."""
        self._paused = False
        self._changed.set()

    async def patch(self, handle: Handler, first: int | Position = 0) -> int | Position | None:
        """Have another handler do history again, from `first` up to where the listener stands, which waits meanwhile.

        Then the listener goes on as it was, whatever became of the patch: done, failed, cancelled, or gone with the
        process, for the checkpoint stays where it is. Returns the place up to which it went. What `handle` raises is
        raised here, and a returned STOP ends the patch. With `SqliteCheckpoints` it is given a `db`, and each event is
        a transaction. One patch at a time, of a listener that runs; where that ends before, `SubscriptionDropped`.
        """
        self._refuse_handler("patch()")
        if self._task is None or self._patch is not None:
            why = "does not run; start it first" if self._task is None else "is being patched; one at a time"
            msg = f"listener {self._name!r} {why}"
            raise trio.BusyResourceError(msg)
        with self._patching() as scope:
            await self._at_rest.wait()
            if self._task is not None:
                await self._replay(handle, first)
        if scope.cancelled_caught or self._task is None:
            msg = f"listener {self._name!r} ended before its patch was done"
            raise SubscriptionDropped(msg, DropReason.LEFT)
        return self._progress.last

    async def reached(self, written: WriteResult | int | Position) -> None:
        """Wait until this listener has handled what was written, so that what its handler makes can be read.

        `written` is what an append to its stream returned, or to any stream for a listener to the log; or a place. In a
        stream of links, whose numbers are its own, it is a place. Raises `SubscriptionDropped` where the listener ends
        before, or has ended. Paused, or not run yet, it is waited for. What its filter leaves out counts as handled
        when something behind it is, or the server tells how far it has looked: in a quiet log that may be long after.
        """
        await self._progress.reached(self._place_of(written))

    # --- what it does

    async def _begin(self) -> None:
        if await self._progress.load():
            return
        if self._start is END:
            # Kept at once: the next process would find another end.
            self._progress.move(await self._find_end(), 0)
            await self._progress.keep()
        elif isinstance(self._start, Position):
            self._progress.begin_behind(Position(self._start.commit, self._start.prepare, inclusive=True))
        elif isinstance(self._start, int):
            self._progress.begin_behind(self._start - 1)

    async def _find_end(self) -> int | Position:
        while True:
            try:
                return await self._ask_end()
            except (ConnectionLost, NotReady, OperationTimedOut):
                await trio.sleep(_PAUSE)

    async def _ask_end(self) -> int | Position:
        if self._stream == ALL:
            return await self._conn.head(credentials=self._credentials)
        last = await self._conn.last_number(self._stream, credentials=self._credentials)
        return NOWHERE if last is None else last

    async def _go_on(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            while not self._brake.stopped:
                await self._rest(task_status)
                self._brake.release()
                await self._follow(task_status)
            await self._progress.keep()
        finally:
            with trio.move_on_after(_LAST_WORDS, shield=True):
                await self._keep_last()
            self._task = None
            self._at_rest.set()
            if self._patch is not None:
                await self._end_patch(self._patch)  # noqa: ASYNC102 - it shields itself

    async def _keep_last(self) -> None:  # noqa: ASYNC910 - whatever it raised, it was awaited
        """Where it has failed: what ends it all is raised, and not that this could not be stored."""
        try:
            await self._progress.keep()
        except Exception:
            logger.exception("listener %r could not store its last checkpoint", self._name)

    async def _end_patch(self, patch: trio.CancelScope) -> None:
        """It may be in a transaction of the store, which is closed only then."""
        patch.cancel()
        with trio.CancelScope(shield=True):
            await self._patch_done.wait()

    async def _rest(self, task_status: trio.TaskStatus[None]) -> None:
        """Between two times of following: whoever wants it to be at rest has it so, for as long as they like."""
        await self._progress.keep()
        self._at_rest.set()
        while self._paused or self._patch is not None:
            self._state = ListenerState.PATCHING if self._patch is not None else ListenerState.PAUSED
            self._say_started(task_status)
            self._changed = trio.Event()
            await self._changed.wait()
        self._at_rest = trio.Event()

    async def _follow(self, task_status: trio.TaskStatus[None]) -> None:
        self._state = ListenerState.CATCHING_UP
        async with self._delivery.opened(), self._subscribe(self._progress.place) as events:
            self._events = events
            try:
                while not self._brake.pulled:
                    items = await self._next(events)
                    if items:
                        self._say_started(task_status)
                        await self._take(items)
                await self._delivery.settle()
            finally:
                self._events = None

    def _say_started(self, task_status: trio.TaskStatus[None]) -> None:
        if not self._started:
            self._started = True
            task_status.started()

    async def _next(self, events: CatchUpSubscription[Any]) -> Sequence[Event | Notice]:
        """What comes next; nothing where it was interrupted, or something waits to be stored."""
        with self._brake.waiting(self._progress.deadline) as scope:
            # Other tasks may handle something while it waits.
            self._progress.waiting = scope
            return await events.next_list_with_notices()
        if not self._brake.pulled:
            await self._progress.keep()
        return ()  # noqa: ASYNC910 - it has waited

    async def _take(self, items: Sequence[Any]) -> None:
        if isinstance(items[0], Notice):
            await self._hear(items[0])
        else:
            self._taken = items[-1]
            await self._delivery.deliver(items)
            self._rate.sample(self._progress.handled)

    async def _hear(self, notice: Notice) -> None:
        if isinstance(notice, Checkpoint):
            await self._delivery.pass_by(notice.position)
        elif isinstance(notice, FellBehind | Reconnected):
            self._state = ListenerState.CATCHING_UP
        elif isinstance(notice, CaughtUp):
            await self._delivery.settle()
            self._state = ListenerState.LIVE
            if self._caught_up is not None and not self._brake.pulled:
                await self._caught_up()
        await trio.lowlevel.checkpoint_if_cancelled()

    def _subscribe(
        self, after: int | Position | None, start: StreamPlace | LogPlace = START
    ) -> CatchUpSubscription[Any]:
        if after is not None:
            start = START
        if after == NOWHERE:
            after = None
        # That places are of the right kind is checked there.
        if self._stream == ALL:
            return self._conn.subscribe_all(after=after, start=start, filter=self._filter, **self._options)  # type: ignore[arg-type]
        if self._filter is not None:
            msg = f"filter: it chooses of the log, and {self._stream!r} is a stream; the stream is to be ALL"
            raise InvalidArgument(msg)
        return self._conn.subscribe(self._stream, after=after, start=start, **self._options)  # type: ignore[arg-type]

    # --- patches

    @contextmanager
    def _patching(self) -> Iterator[trio.CancelScope]:
        self._patch_done = trio.Event()
        with trio.CancelScope() as scope:
            self._patch = scope
            try:
                self._brake.pull()
                yield scope
            finally:
                self._patch = None
                self._patch_done.set()
                self._changed.set()

    async def _replay(self, handle: Any, first: int | Position) -> None:
        """Up to the place, or as far as there is anything."""
        place = self._progress.last
        if place is None:
            return  # noqa: ASYNC910 - whoever calls it has waited
        call = partial(self._transact, handle, None) if isinstance(self._checkpoints, SqliteCheckpoints) else handle
        start = START if first == 0 else first
        async with self._subscribe(None, start) as events:
            async for item in events.with_notices():
                if isinstance(item, CaughtUp | StreamMissing):
                    break
                if isinstance(item, Notice):
                    continue
                if item.checkpoint > place or await call(item) is STOP or item.checkpoint == place:
                    break

    # --- handlers

    def _in_transactions(self, handle: Any) -> Call:
        async def call(given: Any) -> object:
            place = (given[-1] if isinstance(given, list) else given).checkpoint
            outcome = await self._transact(handle, text_of(place, self._stream), given)
            if outcome is not STOP:
                self._progress.is_stored(place)
            return outcome

        return call

    async def _transact(self, handle: Any, checkpoint: str | None, given: Any) -> object:
        assert isinstance(self._checkpoints, SqliteCheckpoints)
        outcome: object = None

        async def work(db: SqliteTransaction) -> bool:
            nonlocal outcome
            outcome = await handle(given, db)
            return outcome is not STOP  # noqa: ASYNC910 - storing is one

        await self._checkpoints.transact(self._name, checkpoint, work)
        return outcome

    async def _park(self, stream: str, event: Event, error: Exception) -> bool:
        """False where the brake is pulled while the server cannot be asked."""
        link = parked(event, error, self._name)
        while True:
            try:
                await self._conn.append(stream, link, expected=ANY, credentials=self._credentials)
            except (NotReady, OperationTimedOut, OutcomeUnknown):
                # Being offline ends nothing. If it was written all the same, it has the same id this time.
                with self._brake.waiting():
                    await trio.sleep(_PAUSE)
            else:
                return True
            if self._brake.pulled:
                return False

    def _refuse_handler(self, what: str) -> None:
        task = trio.lowlevel.current_task()
        if task is self._task or task in self._delivery.tasks:
            msg = (
                f"{what} waits until the handler has returned, and was called by it; return STOP, or call it elsewhere"
            )
            raise RuntimeError(msg)

    # --- places

    def _place_of(self, written: WriteResult | int | Position) -> int | Position:
        place = written
        if isinstance(written, WriteResult):
            if self._stream != ALL:
                self._refuse_links()
                return written.last
            if written.position is None:
                msg = "written: the server did not say where this is in the log; give a Position"
                raise InvalidArgument(msg)
            place = written.position
        if isinstance(place, Position) != (self._stream == ALL) or not isinstance(place, int | Position):
            msg = f"written: {written!r} is no place in {self._stream!r}; give a WriteResult, or an event's checkpoint"
            raise InvalidArgument(msg)
        return place

    def _refuse_links(self) -> None:
        if self._stream.startswith(("$ce-", "$et-", "$bc-")):
            msg = f"written: what was appended has another number in {self._stream!r}; give the checkpoint of a link"
            raise InvalidArgument(msg)

    def _end(self) -> int | None:
        if self._taken is None or self._stream == ALL:
            return None
        beyond = None if self._events is None else self._events.statistics().lag
        return self._taken.checkpoint + (beyond or 0)

    def _age(self, behind: int | None) -> float | None:
        if self._state is ListenerState.LIVE and not behind:
            return 0.0
        if self._taken is None:
            return None
        return max(0.0, (datetime.now(UTC) - self._taken.created).total_seconds())
