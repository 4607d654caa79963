"""Persistent subscriptions: the events of a group, for competing consumers that say of each what became of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from inspect import CORO_CLOSED, getcoroutinestate
from math import inf
from typing import TYPE_CHECKING
from uuid import UUID

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled

from trio_extreme.errors import InvalidArgument, ProtocolError, StreamDeleted, TrioExtremeError
from trio_extreme.events import PersistentEvent
from trio_extreme.groups import NakAction
from trio_extreme.iterating import RUN, TURN
from trio_extreme.mailbox import MAX_TAKE
from trio_extreme.notices import FellBehind, Notice, StreamMissing
from trio_extreme.operations.checks import check_nak
from trio_extreme.operations.handing import HandedEvents
from trio_extreme.operations.persistent import Connect, group_drop_error
from trio_extreme.pending import fresh
from trio_extreme.statistics import SubscriptionStatistics
from trio_extreme.subscriptions import Subscription
from trio_extreme.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from trio_extreme.engine import Engine
    from trio_extreme.values import Credentials

    What: TypeAlias = tuple[NakAction, str] | None
    """What is said of an event: that it was handled (None), or what is to become of it, and why."""

logger = logging.getLogger("trio_extreme.subscriptions")

_HANDLED = {NakAction.SKIP, NakAction.STOP}
"""What servers take for an ack. What was parked comes again when somebody has it replayed."""

MAX_UNSENT = 10_000
"""Events of which something was said that the writer has not come to. Who says more waits for it."""


class PersistentSubscription(Subscription[PersistentEvent]):
    """What `subscribe_persistent` returns: under `async with`, an async iterator of a group's events.

    The server hands out each event to one consumer of the group, and again, perhaps to another, where nobody acks it in
    time. So each comes at least once, and after a retry in any order. Several tasks may iterate, and ack, at the same
    time, unless `auto_ack` is on: then another task meets `trio.BusyResourceError`.

    When the connection is lost, or the group updated, it connects again by itself. Events that nobody had taken then
    are dropped, for the server delivers them again; so it does with those that were taken and not acked, and an ack of
    one of these is ignored, and counted in `statistics()`.
    """

    __slots__ = (
        "_auto_ack",
        "_busy",
        "_credentials",
        "_current",
        "_engine",
        "_entered",
        "_group",
        "_holder",
        "_in_flight",
        "_inside",
        "_leave",
        "_most",
        "_on_error",
        "_opening",
        "_reopening",
        "_steps",
        "_stream",
        "_turn_ends",
        "_window",
    )

    def __init__(
        self,
        engine: Engine,
        stream: str,
        group: str,
        *,
        in_flight: int,
        auto_ack: bool,
        on_error: NakAction | None,
        credentials: Credentials | None,
    ) -> None:
        self._engine = engine
        self._stream = stream
        self._group = group
        self._in_flight = in_flight
        # Events looked at together: where half of what may be in flight is acked, the server has something to do while
        # the other half is worked on. Of a few, all, so that one that was delivered again meanwhile is seen once.
        self._most = min(MAX_TAKE, max(RUN, in_flight // 2))
        self._auto_ack = auto_ack
        self._on_error = on_error
        self._credentials = credentials
        self._entered = False
        self._inside = False
        self._window = Window(
            stream,
            2 * in_flight,
            engine.settings.buffer_bytes,
            engine.calls.encode(credentials),
            on_overflow=self._overflow,
            on_handled=partial(self._say, what=None),
            on_failed=self._end,
            explain=self._meaning,
        )
        self._leave: Callable[[], None] | None = None
        # Whether a consumer connects again, and what is cancelled where the block is left meanwhile.
        self._reopening = False
        self._opening = trio.CancelScope()
        # With `auto_ack`: what the consumer has now, which task that is, and whether it waits for more.
        self._current: PersistentEvent | HandedEvents | None = None
        self._holder: trio.lowlevel.Task | None = None
        self._busy = False
        # How many more steps before the clock is looked at, and when others get their turn by it.
        self._steps = 0
        self._turn_ends = 0.0

    @property
    def _name(self) -> str:
        return f"group {self._group!r} of stream {self._stream!r}"

    @property
    def group(self) -> str:
        """The group's name."""
        return self._group

    def statistics(self) -> SubscriptionStatistics:
        """What it holds at this moment, and how many acks and naks came too late."""
        window = self._window
        return SubscriptionStatistics(
            self._stream,
            window.events,
            window.size,
            group=self._group,
            held=len(window.taken()),
            ignored_acks=window.ignored,
        )

    # --- its block

    async def _start(self) -> None:
        if await self._open(None):
            self._window.notices.append(StreamMissing(self._stream))

    def _body_ended(self, kind: type[BaseException] | None) -> None:
        if kind is None:
            self._ack_current()
        elif self._on_error is not None and issubclass(kind, Exception):
            self._nak_held(self._on_error, kind)

    def _stop(self, error: TrioExtremeError) -> None:
        self._window.end(error)
        self._opening.cancel()
        self._disconnect()

    def _end(self, error: TrioExtremeError) -> None:
        """It ends by itself, with this."""
        self._stop(error)
        self._log_end(error)
        if isinstance(error, ProtocolError):
            self._engine.line.give_up(error)

    async def _open(self, deadline: float | None) -> bool:
        """Connect to the group; whether its stream was never written."""
        window = self._window
        window.shut = False
        try:
            confirmation, self._leave = await self._engine.feeds.open(
                Connect(self._stream, self._group, self._in_flight),
                window,
                self._credentials,
                lasting=True,
                deadline=deadline,
            )
        except BaseException:
            # Events may have come already, under the id of a connection that has just been left.
            window.shut = True
            window.close()
            raise
        if window.shut or window.error is not None:
            # More came with the confirmation than is kept, or nobody is there any more.
            self._disconnect()
        if confirmation.is_of_deleted:
            self._disconnect()
            raise StreamDeleted(self._stream)
        return confirmation.last_number == -1

    def _disconnect(self) -> None:
        """Tell the server; it hears first what was said before."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def _overflow(self) -> None:
        """A consumer that is not there cannot be told; when it asks for the next event it connects again."""
        window, buffer_bytes = self._window, self._engine.settings.buffer_bytes
        if window.events <= window.max_events:
            # As many as were asked for, and too large: with fewer at a time there is an end of this.
            self._in_flight = max(1, self._in_flight // 2)
        logger.warning(
            "%s: %s events of %s bytes waited for their consumer (twice in_flight, or buffer_bytes, is %s bytes): it"
            " leaves the group until it asks for the next; the group delivers them again",
            self._name,
            window.events,
            window.size,
            buffer_bytes,
        )
        window.shut = True
        window.close()
        window.notices.append(FellBehind())
        self._disconnect()
        window.wake()

    def _drop_error(self, body: bytes) -> TrioExtremeError:
        return group_drop_error(body, self._stream, self._group) or super()._drop_error(body)

    # --- iterating

    async def __anext__(self) -> PersistentEvent:
        if self._auto_ack:
            return await self._next_alone()
        await checkpoint_if_cancelled()
        for event in self._window.run:
            return event
        await self._rest()
        await self._fill()
        return next(self._window.run)

    async def _next_alone(self) -> PersistentEvent:
        self._come_for_more()
        await checkpoint_if_cancelled()
        for event in self._window.run:
            self._current = event
            return event
        with self._waiting():
            await self._rest()
            await self._fill()
        self._current = event = next(self._window.run)
        return event

    async def next_list(self) -> Sequence[PersistentEvent]:
        """All events that are here, or else the next."""
        self._come_for_more()
        with self._waiting():
            await checkpoint()
            await self._fill()
        events = self._window.take()
        self._current = events if self._auto_ack else None
        return events

    async def next_with_notices(self) -> PersistentEvent | Notice:
        """The next event or notice."""
        self._come_for_more()
        with self._waiting():
            await checkpoint()
            notice = await self._fill(notices=True)
        if notice is not None:
            return notice
        event = next(self._window.run)
        self._current = event if self._auto_ack else None
        return event

    def _come_for_more(self) -> None:
        """With `auto_ack` this says that what the consumer had was handled; and there is only one consumer."""
        if self._busy:
            msg = "another task is waiting for this subscription's next event; with auto_ack one at a time"
            raise trio.BusyResourceError(msg)
        if self._auto_ack:
            task = trio.lowlevel.current_task()
            if self._current is not None and task is not self._holder and _is_running(self._holder):
                msg = (
                    "another task has an event of this subscription, which would be acked; with auto_ack one at a time"
                )
                raise trio.BusyResourceError(msg)
            self._holder = task
        self._ack_current()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """With `auto_ack`, keep others from coming for more meanwhile."""
        self._busy = self._auto_ack
        try:
            yield
        finally:
            self._busy = False

    async def _rest(self) -> None:  # noqa: ASYNC910 - only after a while
        """Let other tasks run now and then: a consumer for which there is always something never waits."""
        self._steps = RUN
        if trio.current_time() > self._turn_ends:
            await checkpoint()
            self._turn_ends = trio.current_time() + TURN

    async def _fill(self, *, notices: bool = False) -> Notice | None:  # noqa: ASYNC910 - whoever calls it has given way
        """Wait until there is an event, or a notice for who wants them. Raises what this ended with."""
        self._check_inside()
        window = self._window
        while True:
            if window.error is not None:
                raise fresh(window.error)
            while window.notices:
                notice = window.notices.popleft()
                if notices:
                    return notice
            if window.fill(self._most):
                return None  # noqa: ASYNC910 - as above
            if window.error is None:
                await self._wait()

    async def _wait(self) -> None:  # noqa: ASYNC910 - to connect is to wait
        """Wait until something happens. Who left because of too many events comes back now that one is asked for."""
        window = self._window
        if not window.shut or self._reopening:
            await window.wait()
            return
        self._reopening = True
        try:
            with trio.CancelScope() as self._opening:
                await self._open(inf)
        except TrioExtremeError as error:
            self._end(error)
        finally:
            self._reopening = False
            # Where this was cancelled, another who waits has to do it.
            window.wake()

    # --- saying what became of events

    async def ack(self, *events: PersistentEvent | UUID | Sequence[PersistentEvent]) -> None:  # noqa: ASYNC910 - it waits now and then
        """Say that these events were handled: the group goes on, and does not deliver them again.

        They are named by themselves, by their `ack_id` (the delivery that somebody has now), or as the list that
        `batches()` gave. What is said leaves with the next write, joined with what else is said and before all requests
        that wait, or when the block is left, however that happens. There is no answer. Nothing can be said any more of
        an event whose connection to the group has ended, or of a delivery that was naked: that is counted in
        `statistics()`, and the event comes again.

        Raises `InvalidArgument` for what is no event of this subscription, and what the subscription has ended with.
        Said is said: cancelling does not take it back, not even where the task was cancelled before.
        """
        if len(events) == 1 and self._window.ack(events[0]):
            self._steps -= 2
        else:
            self._steps -= 1 + self._say_of(events, handled=True)
        if self._steps < 0:
            await self._rest_from_saying()

    async def nak(  # noqa: ASYNC910 - as `ack`
        self,
        *events: PersistentEvent | UUID | Sequence[PersistentEvent],
        action: NakAction = NakAction.RETRY,
        message: str = "",
    ) -> None:
        """Say that these events were not handled, and what is to become of them; otherwise as `ack`.

        RETRY delivers them again at once, `max_retry_count` times, and parks them then. The message is kept with what
        is parked.
        """
        what = check_nak(action, message)
        self._steps -= 1 + self._say_of(events, handled=action in _HANDLED, what=what)
        if self._steps < 0:
            await self._rest_from_saying()

    def _say_of(
        self,
        events: Sequence[PersistentEvent | UUID | Sequence[PersistentEvent]],
        *,
        handled: bool,
        what: What = None,
    ) -> int:
        """Say it of those that the server waits for; how many these are."""
        ids = self._settle(events, handled=handled)
        self._say(ids, what)
        return len(ids)

    def _settle(
        self, events: Sequence[PersistentEvent | UUID | Sequence[PersistentEvent]], *, handled: bool
    ) -> Sequence[bytes]:
        """The ids of those that the server waits for. None is settled where one of them is no event of ours."""
        window = self._window
        if window.error is not None:
            raise fresh(window.error)
        if handled and len(events) == 1 and isinstance(events[0], HandedEvents):
            usual = window.ack_all(events[0])
            if usual is not None:
                return usual
        lease = window.lease
        each = list(_flat(events))
        for event in each:
            if not isinstance(event, PersistentEvent) or event.lease is not lease:
                self._check_own(event)
        ids = []
        for event in each:
            ack_id = event.bytes_le if isinstance(event, UUID) else event.ack_id_bytes
            if isinstance(event, PersistentEvent) and event.lease is not lease:
                window.ignored += 1
            elif window.settle(ack_id, handled=handled):
                ids.append(ack_id)
        return ids

    def _check_own(self, event: PersistentEvent | UUID) -> None:
        if isinstance(event, PersistentEvent):
            if event.lease.of is self._window.identity:
                return
            msg = f"events: {event!r} came through another subscription than that to {self._name}"
            raise InvalidArgument(msg)
        if not isinstance(event, UUID):
            msg = f"events: {type(event).__name__} is no event of a group; give what the subscription gave"
            raise InvalidArgument(msg)

    def _say(self, ids: Sequence[bytes], what: What) -> None:
        lease = self._window.lease
        if not ids or lease is None:
            return
        said = lease.said
        if not said.count:
            # Acks go where their events came from, also while that session is being left.
            session = self._engine.line.alive
            # A lease ends with its session, before anybody else is told.
            assert session is not None
            session.send_joined(lease.frames)
        said.add(ids, what)

    async def _rest_from_saying(self) -> None:  # noqa: ASYNC910 - only after a while
        lease = self._window.lease
        said = 0 if lease is None else lease.said.count
        if lease is not None and said >= MAX_UNSENT:
            await lease.sent.park()
        elif said >= self._most:
            # The server can go on with as many while the rest is worked on.
            self._steps = RUN
            await checkpoint()
        else:
            await self._rest()

    def _ack_current(self) -> None:
        """With `auto_ack`: what the consumer had was handled."""
        current, self._current = self._current, None
        if current is not None and not self._window.ack(current) and self._window.error is None:
            self._say_of((current,), handled=True)

    def _nak_held(self, action: NakAction, kind: type[BaseException]) -> None:
        window = self._window
        ids = [ack_id for ack_id in window.taken() if window.settle(ack_id, handled=action in _HANDLED)]
        self._say(ids, (action, f"its consumer ended with {kind.__name__}"))


def _is_running(task: trio.lowlevel.Task | None) -> bool:
    return task is not None and getcoroutinestate(task.coro) != CORO_CLOSED


def _flat(
    events: Sequence[PersistentEvent | UUID | Sequence[PersistentEvent]],
) -> Iterator[PersistentEvent | UUID]:
    for event in events:
        if isinstance(event, Sequence):
            yield from event
        else:
            yield event
