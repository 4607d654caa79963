"""From calls to sessions: connecting, the door, deadlines, and what becomes of a call whose session ends.

The supervisor (`run`) owns the session, the session owns the socket. Callers put a slot into the session and wait for
it; every error they can meet is put into that slot, and raised in their own task.

Rule 1: when a session ends, or an answer is overdue, what becomes of each request is decided here and at once, by what
its operation says (`Resend`). Its caller is woken only where there is something to tell.
Rule 2: a new session sends what lasts, then what was kept, in the order in which it came, then what is new.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from functools import partial
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import trio

from trio_extreme.changes import Changes
from trio_extreme.connecting import Attempts, Backoff, open_stream
from trio_extreme.door import Door
from trio_extreme.errors import (
    BadRequest,
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    FrameTooLarge,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    ServerError,
    StreamDeleted,
    TrioExtremeError,
    WrongExpectedVersion,
)
from trio_extreme.lookups import LookUps
from trio_extreme.notices import Closed, Connected, Lost, Reconnecting
from trio_extreme.operations.base import AskAgain, Resend
from trio_extreme.operations.looking import Verdict
from trio_extreme.operations.session import Identify, Ping
from trio_extreme.pending import Interrupted, Slot, SubscriptionSlot, fresh
from trio_extreme.session import Session
from trio_extreme.statistics import Counters, Statistics, SubscriptionStatistics
from trio_extreme.tasks import open_plain_nursery
from trio_extreme.wire.framing import LENGTH_SIZE, encode_credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.mailbox import Mailbox
    from trio_extreme.operations.base import Operation
    from trio_extreme.operations.subscribing import Confirmation, Subscribe
    from trio_extreme.settings import Settings
    from trio_extreme.transport import Connect
    from trio_extreme.values import Credentials

T = TypeVar("T")

logger = logging.getLogger("trio_extreme")

ASK_AGAIN_DELAY = 0.25
"""Seconds before a node that was not ready is asked again."""

MAX_LOSSES = 2
"""Sessions in a row that may die of a request: it is not sent to a third one."""

_MENDABLE = (ConnectionLost, ProtocolError, OperationTimedOut, BadRequest, FrameTooLarge, NotReady)
"""What a further attempt to connect may do away with, the first time; once we were accepted, anything."""


class Observed(Protocol):
    """A subscription, as statistics see it."""

    def statistics(self) -> SubscriptionStatistics:
        """What it holds at this moment."""
        ...


class Engine:
    """All calls of one connection. `run` serves them until it is cancelled.

    With a seeded `rng`, a `now` that gives seconds since 1970, and streams that are deterministic, so is all of this.
    """

    def __init__(
        self, settings: Settings, connect: Connect, rng: Random | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self._connect = connect
        self._rng = rng or Random()  # noqa: S311 - ids that must differ, and delays that should
        self._now = now
        self._counters = Counters()
        self._door = Door(settings.max_in_flight, settings.max_queued_bytes)
        self._credentials = encode_credentials(settings.credentials) if settings.credentials else b""
        self._session: Session | None = None
        self._nursery: trio.Nursery | None = None
        self._ended: TrioExtremeError | None = None
        self._scope = trio.CancelScope()
        self._nap = trio.CancelScope()
        # Every call between its start and its end, wherever it waits: what the sweeper looks after.
        self._calls: dict[Slot[Any], None] = {}
        # Those of them that wait for a session, in the order in which they are to be sent.
        self._held: dict[Slot[Any], None] = {}
        self._look_ups = LookUps(self._look, self._settle_look_up, self._wall_clock)
        # Subscriptions that each new session opens again.
        self._lasting: dict[SubscriptionSlot, None] = {}
        self._observed: dict[Observed, None] = {}
        self.changes = Changes()
        #: How many sessions there have been.
        self.sessions = 0

    def __repr__(self) -> str:
        return f"<Engine for {self.settings.host}:{self.settings.port}: {len(self._calls)} calls>"

    # --- the life of the connection

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and serve, session after session; started when the server has accepted us for the first time.

        Raises `ConnectFailed` when `first_attempts` are used up, and at once what no further attempt could mend. After
        it has started only `close` ends it.
        """
        with self._scope:
            async with open_plain_nursery() as nursery:
                nursery.start_soon(self._sweep)
                await self._keep_connected(task_status)

    async def _keep_connected(self, task_status: trio.TaskStatus[None]) -> None:
        attempts = Attempts(self.settings, self._rng, self.settings.first_attempts)
        while True:
            try:
                cause = await self._attempt(task_status)
                attempts = Attempts(self.settings, self._rng, self.settings.max_attempts)
                delay = attempts.lost(cause)
                self.changes.note(Lost(cause))
            except AskAgain as again:
                delay = self._failed(attempts, again.error)
            except TrioExtremeError as error:
                delay = self._failed(attempts, error)
            if self._ended is not None:
                await trio.sleep_forever()
            self.changes.note(Reconnecting(attempts.count + 1, delay))
            await trio.sleep(delay)

    def _failed(self, attempts: Attempts, error: TrioExtremeError) -> float:
        if self.sessions == 0 and not isinstance(error, _MENDABLE):
            raise error
        try:
            return attempts.failed(error)
        except ConnectFailed as failed:
            if self.sessions == 0:
                raise
            self._end(failed)
            return 0.0

    async def _attempt(self, task_status: trio.TaskStatus[None]) -> TrioExtremeError:
        """Open a session and serve it to its end; what it ended with. Raises what it could not be opened for."""
        stream = await open_stream(self.settings, self._connect)
        session = Session(
            stream, self.settings, self._counters, self._taken, self._lose, random_bytes=self._rng.randbytes
        )
        async with open_plain_nursery() as nursery:
            nursery.start_soon(session.run)
            await self._introduce(session)
            await self._open(session, nursery, task_status)
            await session.ended()
            nursery.cancel_scope.cancel()
        self._look_ups.end()
        self._nursery = None
        return session.cause or ConnectionLost("the connection is lost")

    async def _introduce(self, session: Session) -> None:
        """Say who we are, then prove the default credentials: Authenticate would poison what follows (pitfall 13)."""
        name = self.settings.connection_name or f"{socket.gethostname()}:{os.getpid()}"
        with trio.move_on_after(self.settings.identify_timeout):
            if not await self._ask(session, Identify(name), b""):
                logger.info("the server is older than 3.9.4: it does not know IdentifyClient")
        try:
            with trio.fail_after(self.settings.attempt_timeout):
                await self._ask(session, Ping(), self._credentials)
        except trio.TooSlowError as error:
            msg = "the peer accepts connections and answers nothing: is it the TCP port (1113), not HTTP's (2113)?"
            raise OperationTimedOut(msg) from error

    async def _open(self, session: Session, nursery: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
        """Let calls in: first what lasts, then what was kept, then what is new."""
        self._session = session
        self._nursery = nursery
        self.sessions += 1
        self.changes.note(Connected(self.settings.host, self.settings.port))
        for subscription in tuple(self._lasting):
            if subscription not in self._calls:
                self._open_again(subscription, 0.0)
        held = tuple(self._held)
        self._held.clear()
        for slot in held:
            self._submit(slot)
        self._look_ups.begin(nursery)
        if self.sessions == 1:
            task_status.started()
            # Where `nursery.start` was cancelled at this very moment, it stays with us, and nobody will call `close`.
            await trio.lowlevel.checkpoint_if_cancelled()
            # From here on only `close` stops the service, so that last words can be sent after a cancellation.
            self._scope.shield = True

    async def _ask(self, session: Session, operation: Operation[T], credentials: bytes) -> T:
        """One request of the engine's own, past the door, on this session alone."""
        if session.cause is not None:
            raise fresh(session.cause)
        slot = Slot(operation, credentials, inf, self._door.leave)
        self._door.readmit(slot)
        session.submit(slot)
        try:
            await slot.event.wait()
            if slot.answer is None:
                raise slot.failure()
            return operation.decide(slot.answer[0], slot.answer[3])
        finally:
            session.forget(slot)
            slot.leave()

    async def close(self, *, hurry: bool) -> None:  # noqa: ASYNC910 - there may be nothing to wait for
        """Fail what waits, send the last words within `close_timeout`, and end."""
        self._end(ConnectionClosed("the connection's block was left"))
        seconds = self.settings.close_timeout * (1 / 3 if hurry else 1)
        if self._open_session is not None:
            with trio.move_on_after(seconds, shield=True):
                await self._open_session.flushed()
        self._scope.cancel()

    @property
    def _open_session(self) -> Session | None:
        session = self._session
        return session if session is not None and session.cause is None else None

    def _end(self, error: TrioExtremeError) -> None:
        """No session comes any more: `error` is what every call and iterator meets from now on."""
        if self._ended is None:
            self.changes.note(Closed(error))
        if self._ended is None or isinstance(error, ConnectionClosed):
            self._ended = error
            for slot in self._calls:
                slot.fail(error)
            for subscription in self._lasting:
                subscription.mailbox.end(fresh(error))
            for slot in self._session.slots if self._session is not None else ():
                slot.fail(error)

    # --- calls

    async def call(
        self,
        operation: Operation[T],
        credentials: Credentials | None = None,
        *,
        deadline: float | None = None,
        is_page: bool = False,
    ) -> T:
        """Send a request and return the value of its answer, or raise its error.

        A page raises `Interrupted` where no answer came, so that it can be asked for in a smaller one. Cancelling: not
        sent yet, it is never sent; sent, its answer is thrown away.
        """
        until = self.deadline() if deadline is None else deadline
        slot = Slot(operation, self._encode(credentials), until, self._door.leave, is_page=is_page)
        # A deadline that was carried over may come before the sweeper means to look next.
        self._nap.deadline = min(self._nap.deadline, until)
        await self._enter(slot)
        try:
            return await self._answer(slot)
        finally:
            self.abandon(slot)

    def begin(self, operation: Operation[T], credentials: Credentials | None) -> Slot[T] | None:
        """Send the request for a page that is asked for later by `finish`; None where it cannot be sent at once.

        Whoever gets a slot calls `finish` or `abandon`.
        """
        slot = Slot(operation, self._encode(credentials), inf, self._door.leave, is_page=True)
        if self._open_session is None or not self._door.try_enter(slot.size):
            return None
        self._calls[slot] = None
        self._admitted(slot)
        return slot

    async def finish(self, slot: Slot[T], deadline: float) -> T:
        """The value of a request that `begin` sent."""
        slot.deadline = deadline
        # What still waits to be sent had no end at all.
        slot.expires = min(slot.expires, slot.deadline)
        try:
            return await self._answer(slot)
        finally:
            self.abandon(slot)

    def abandon(self, slot: Slot[Any]) -> None:
        """Nobody waits for this request any more."""
        del self._calls[slot]
        if slot in self._held:
            del self._held[slot]
            self._forget_bytes(slot)
        self._look_ups.forget(slot)
        self._forget(slot)
        slot.leave()

    def deadline(self) -> float:
        """When a call that begins now is out of time."""
        return trio.current_time() + self.settings.operation_timeout

    async def _enter(self, slot: Slot[Any]) -> None:
        """Pass the door, and be submitted."""
        # Who is cancelled already sends nothing: at the first wait below, the writer may be the faster one.
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check(slot)
        self._calls[slot] = None
        if not self._door.try_enter(slot.size):
            try:
                await self._door.wait(slot)
            except BaseException:
                del self._calls[slot]
                raise
        self._admitted(slot)

    def _admitted(self, slot: Slot[Any]) -> None:
        """The door has let it in, and counted it."""
        slot.inside = slot.queued = True
        self._submit(slot)

    def _submit(self, slot: Slot[Any]) -> None:
        """Have it sent, now or by the next session; all of it counts until then."""
        self._door.readmit(slot)
        session = self._open_session
        if session is not None:
            session.submit(slot)
        elif self._ended is None:
            slot.renew()
            self._held[slot] = None
        else:
            self._forget_bytes(slot)
            slot.renew()
            slot.fail(self._ended)

    def _forget(self, slot: Slot[Any]) -> None:
        slot.gone = True
        if self._session is not None:
            self._session.forget(slot)

    def _forget_bytes(self, slot: Slot[Any]) -> None:
        if slot.queued:
            slot.queued = False
            self._door.taken(slot.size)

    def give_up(self, error: ProtocolError) -> None:
        """The peer's bytes cannot be understood: the session ends with this."""
        if self._session is not None:
            self._session.end(error)

    def _encode(self, credentials: Credentials | None) -> bytes:
        return self._credentials if credentials is None else encode_credentials(credentials)

    def _check(self, slot: Slot[Any]) -> None:
        if self._ended is not None:
            raise fresh(self._ended)
        limit = self.settings.max_frame_size
        size = slot.size - LENGTH_SIZE
        if size > limit:
            msg = f"the request has {size:,} bytes; the limit is {limit:,} (max_frame_size): append less at a time"
            raise FrameTooLarge(msg, size, limit)

    def _taken(self, slot: Slot[Any], now: float) -> None:
        """The writer took a slot out of the queue."""
        self._forget_bytes(slot)
        if slot.operation.prompt:
            slot.expires = min(slot.deadline, now + self.settings.attempt_timeout)

    # --- answers

    async def _answer(self, slot: Slot[T]) -> T:
        """Wait for the outcome of a submitted slot, and ask again where the answer is to ask again."""
        while True:
            await slot.event.wait()
            if slot.error is not None:
                self._raise_for(slot, slot.failure())
            if slot.found is not None:
                return slot.found
            if slot.answer is not None:
                try:
                    return slot.operation.decide(slot.answer[0], slot.answer[3])
                except AskAgain as again:
                    await self._ask_again(slot, again)
                except ServerError as refusal:
                    if slot.doubtful:
                        return await self._settle(slot, refusal)
                    raise
                except ProtocolError as error:
                    self.give_up(error)
                    # Something came back, so it was done or refused, and nobody can tell which.
                    slot.doubtful |= slot.operation.resend is not Resend.AGAIN
                    self._raise_for(slot, error)

    async def _ask_again(self, slot: Slot[Any], again: AskAgain) -> None:
        """Send a request again a little after an answer that says later, as far as that is safe and there is time."""
        slot.doubtful |= again.executed
        wake = trio.current_time() + ASK_AGAIN_DELAY
        if wake >= slot.deadline or (again.executed and slot.operation.resend is Resend.NEVER):
            self._raise_for(slot, again.error)
        await trio.sleep_until(wake)
        if self._ended is not None:
            self._raise_for(slot, fresh(self._ended))
        self._forget(slot)
        if again.executed and slot.operation.resend is Resend.LOOK_UP:
            self._wait_for_look_up(slot)
        else:
            self._submit(slot)

    async def _settle(self, slot: Slot[T], refusal: ServerError) -> T:
        """The meaning of a refusal. It is of this attempt alone: an earlier one may have been carried out."""
        try:
            return slot.operation.settle(refusal)  # noqa: ASYNC910 - the answer was waited for
        except ServerError as error:
            if not isinstance(error, WrongExpectedVersion) or slot.operation.look_in is None:
                raise self._unknown(slot, error) from error
        self._forget(slot)
        slot.refusal = refusal
        self._wait_for_look_up(slot)
        return await self._answer(slot)

    def _raise_for(self, slot: Slot[Any], error: TrioExtremeError) -> NoReturn:
        """Raise what an error means to this call, which gets no answer."""
        doubtful = slot.doubtful or (slot.sent and slot.operation.resend is not Resend.AGAIN)
        final = self._unknown(slot, error) if doubtful else error
        # The exception that said "ask again" is the loop's own business.
        final.__suppress_context__ = True
        raise final

    def _unknown(self, slot: Slot[Any], error: Exception) -> OutcomeUnknown:
        msg = f"it is not known whether the server did it: {error}"
        unknown = OutcomeUnknown(msg, slot.operation.event_ids)
        unknown.__cause__ = error
        return unknown

    # --- silence

    def _lose(self, slot: Slot[Any], cause: TrioExtremeError) -> None:
        """The session that this slot was in has ended."""
        if slot not in self._calls:
            self._lose_open(slot, cause)
        elif not slot.settled:
            slot.losses = slot.losses + 1 if slot.sent else 0
            self._silence(slot, cause)
        elif isinstance(slot, SubscriptionSlot) and slot.is_open:
            # Its caller does not know yet that it was open.
            self._lose_open(slot, cause)

    def _lose_open(self, slot: Slot[Any], cause: TrioExtremeError) -> None:
        """Nobody waits for an answer: a request of our own, or a subscription."""
        if not isinstance(slot, SubscriptionSlot):
            slot.fail(cause)
        elif slot.lasting:
            slot.interrupted = True
        else:
            slot.fail(Interrupted(str(cause)))

    def _silence(self, slot: Slot[Any], cause: TrioExtremeError) -> None:
        """No answer came to this attempt, and none will: send it again, or look, where that is safe."""
        resend = slot.operation.resend
        slot.doubtful |= slot.sent and resend is not Resend.AGAIN
        if not slot.sent:
            self._submit(slot)
        elif slot.is_page:
            slot.fail(Interrupted(str(cause)))
        elif resend is Resend.NEVER or (slot.losses >= MAX_LOSSES and not isinstance(slot, SubscriptionSlot)):
            slot.fail(cause)
        elif resend is Resend.LOOK_UP:
            self._wait_for_look_up(slot)
        else:
            self._submit(slot)

    def _wait_for_look_up(self, slot: Slot[Any]) -> None:
        slot.renew()
        self._look_ups.add(slot)

    async def _look(self, operation: Operation[T], credentials: bytes) -> T:
        """One request of a look-up: asked again until there is an answer, or the session ends."""
        while True:
            session = self._session
            assert session is not None
            try:
                with trio.move_on_after(self.settings.attempt_timeout):
                    return await self._ask(session, operation, credentials)
            except AskAgain:
                await trio.sleep(ASK_AGAIN_DELAY)

    def _settle_look_up(self, slot: Slot[Any], verdict: Verdict, first: int, last: int) -> None:
        if verdict is Verdict.THERE:
            slot.resolve(slot.operation.found(first, last))
        elif verdict is Verdict.UNSURE:
            slot.fail(slot.refusal or ConnectionLost("no answer came, and the stream does not tell either"))
        elif slot.refusal is not None:
            # No attempt was executed, so the refusal is the truth.
            slot.doubtful = False
            slot.fail(slot.refusal)
        else:
            self._submit(slot)

    def _wall_clock(self, moment: float) -> float:
        """Seconds since 1970 at a moment of Trio's clock."""
        return self._now() - (trio.current_time() - moment)

    # --- subscriptions

    async def subscribe(
        self,
        operation: Subscribe,
        mailbox: Mailbox,
        credentials: Credentials | None,
        *,
        lasting: bool,
        deadline: float | None = None,
    ) -> tuple[Confirmation, Callable[[], None]]:
        """Open a subscription: its confirmation, and what ends it. Cancelled or refused, nothing of it is left.

        A lasting one is opened again by each later session. The mailbox of another ends with the session's cause.
        """
        slot = SubscriptionSlot(
            operation,
            self._encode(credentials),
            self.deadline() if deadline is None else deadline,
            mailbox,
            self._door.leave,
            on_interrupted=self._on_interrupted if lasting else None,
        )
        if lasting:
            self._lasting[slot] = None
        try:
            await self._enter(slot)
            confirmation = await self._answer(slot)
        except BaseException:
            self._lasting.pop(slot, None)
            if slot in self._calls:
                self.abandon(slot)
            raise
        del self._calls[slot]
        if slot.interrupted and self._open_session is not None:
            self._open_again(slot, 0.0)
        return confirmation, partial(self._unsubscribe, slot)

    def _unsubscribe(self, slot: SubscriptionSlot) -> None:
        self._lasting.pop(slot, None)
        self._forget(slot)
        slot.leave()
        # Whoever is opening it again may stop.
        slot.event.set()

    def _on_interrupted(self, slot: SubscriptionSlot) -> None:
        """The server ended a lasting subscription, as it does when it stops."""
        if slot not in self._calls:
            self._open_again(slot, ASK_AGAIN_DELAY)

    def _open_again(self, slot: SubscriptionSlot, delay: float) -> None:
        """Have a lasting subscription confirmed anew by the present session."""
        if self._nursery is not None and self._open_session is not None:
            self._forget(slot)
            if not delay:
                self._submit(slot)
            self._nursery.start_soon(self._confirm_again, slot, delay)

    async def _confirm_again(self, slot: SubscriptionSlot, delay: float) -> None:
        """See a lasting subscription through to its confirmation, or to the refusal that its consumer is told."""
        backoff = self.backoff()
        while True:
            if delay:
                await trio.sleep(delay)
                if slot not in self._lasting:
                    return
                self._forget(slot)
                self._submit(slot)
            with trio.move_on_after(self.settings.attempt_timeout):
                await slot.event.wait()
            if slot not in self._lasting:
                return
            if slot.settled and self._is_confirmed(slot):
                return
            delay = ASK_AGAIN_DELAY + backoff.next()

    def _is_confirmed(self, slot: SubscriptionSlot) -> bool:
        """Whether nothing more is to be done: it is confirmed, or refused for good. False to ask again."""
        try:
            if slot.answer is None:
                raise slot.failure()
            confirmation = slot.operation.decide(slot.answer[0], slot.answer[3])
            if confirmation.is_of_deleted:
                raise StreamDeleted(slot.stream)
            slot.interrupted = False
        except AskAgain:
            return False
        except TrioExtremeError as error:
            self._unsubscribe(slot)
            slot.mailbox.end(error)
            if isinstance(error, ProtocolError):
                self.give_up(error)
        return True

    def backoff(self) -> Backoff:
        """Delays for whoever tries again on their own."""
        return Backoff(self.settings, self._rng)

    def join(self, subscription: Observed) -> None:
        """A subscription's block was entered."""
        self._observed[subscription] = None

    def part(self, subscription: Observed) -> None:
        """A subscription's block was left."""
        self._observed.pop(subscription, None)

    # --- deadlines

    async def _sweep(self) -> None:
        """Fail calls that are out of time.

        One task for all of them: a cancel scope a request would cost more than the request. A call that starts while
        this sleeps cannot be out of time before it wakes, because no deadline is nearer than the shortest timeout.
        """
        shortest = min(self.settings.attempt_timeout, self.settings.operation_timeout)
        while True:
            now = trio.current_time()
            wake = now + shortest
            for slot in self._calls:
                due = slot.expires
                if due <= now:
                    self._expire(slot, now)
                    # Asked again, its deadline is what it was.
                    due = slot.deadline
                if now < due < wake:
                    wake = due
            with trio.CancelScope(deadline=wake) as self._nap:
                await trio.sleep_forever()

    def _expire(self, slot: Slot[Any], now: float) -> None:
        if slot.settled:
            return
        if now >= slot.deadline:
            slot.fail(OperationTimedOut(self._too_late()))
        else:
            seconds = self.settings.attempt_timeout
            self._forget(slot)
            self._silence(slot, OperationTimedOut(f"no answer within {seconds:g} s (attempt_timeout)"))

    def _too_late(self) -> str:
        msg = f"no answer within {self.settings.operation_timeout:g} s (operation_timeout)"
        return msg if self._open_session is not None else f"{msg}: there is no connection at the moment"

    # --- what is there

    @property
    def statistics(self) -> Statistics:
        """The connection at this moment."""
        counters = self._counters
        return Statistics(
            bytes_sent=counters.bytes_sent,
            bytes_received=counters.bytes_received,
            frames_sent=counters.frames_sent,
            frames_received=counters.frames_received,
            stray_frames=counters.stray_frames,
            reconnects=max(0, self.sessions - 1),
            in_flight=self._door.in_flight,
            waiting=len(self._door.waiting),
            queued_bytes=self._door.queued_bytes,
            subscriptions=tuple(subscription.statistics() for subscription in self._observed),
        )
