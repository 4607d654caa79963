"""From calls to sessions: connecting, the door, deadlines, and what becomes of a call whose session ends.

The supervisor (`run`) owns the session, the session owns the socket. Callers put a slot into the session and wait for
it; every error they can meet is put into that slot, and raised in their own task.
"""

from __future__ import annotations

import logging
import os
import socket
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import trio

from trio_extreme.connecting import Attempts, open_stream
from trio_extreme.door import Door
from trio_extreme.errors import (
    BadRequest,
    ConnectionClosed,
    ConnectionLost,
    FrameTooLarge,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    ServerError,
    TrioExtremeError,
)
from trio_extreme.operations.base import AskAgain, Resend
from trio_extreme.operations.session import Identify, Ping
from trio_extreme.pending import Slot, SubscriptionSlot, fresh
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
    from trio_extreme.wire.framing import Frame

T = TypeVar("T")

logger = logging.getLogger("trio_extreme")

ASK_AGAIN_DELAY = 0.25
"""Seconds before a node that was not ready is asked again."""


class _AttemptExpired(TrioExtremeError):
    """No answer within `attempt_timeout`; taken by the loop of `Engine._answer`."""


class Engine:
    """All calls of one connection. `run` serves them until it is cancelled."""

    def __init__(self, settings: Settings, connect: Connect, rng: Random | None = None) -> None:
        self.settings = settings
        self._connect = connect
        self._rng = rng or Random()  # noqa: S311 - it only spreads the attempts of many clients
        self._counters = Counters()
        self._door = Door(settings.max_in_flight, settings.max_queued_bytes)
        self._credentials = encode_credentials(settings.credentials) if settings.credentials else b""
        # The newest one; there is none before the first has introduced itself, and no call either.
        self._session: Session
        self._ended: TrioExtremeError | None = None
        self._scope = trio.CancelScope()
        # Every call between its start and its end, wherever it waits: what the sweeper looks after.
        self._calls: dict[Slot[Any], None] = {}

    def __repr__(self) -> str:
        return f"<Engine for {self.settings.host}:{self.settings.port}: {len(self._calls)} calls>"

    # --- the life of the connection

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and serve; started when the server has accepted us. Only `close` ends it after that.

        Raises `ConnectFailed` when `first_attempts` are used up, and at once what no further attempt could mend.
        """
        with self._scope:
            attempts = Attempts(self.settings, self._rng)
            while (delay := await self._attempt(attempts, task_status)) is not None:  # noqa: ASYNC110 - it is no poll
                await trio.sleep(delay)
            await trio.sleep_forever()

    async def _attempt(  # noqa: ASYNC910 - connecting is a checkpoint, however it ends
        self, attempts: Attempts, task_status: trio.TaskStatus[None]
    ) -> float | None:
        """Open a session and serve it to its end; where it cannot be opened, the seconds until the next attempt."""
        try:
            stream = await open_stream(self.settings, self._connect)
            await self._serve(stream, task_status)
        except AskAgain as again:
            return attempts.failed(again.error)  # noqa: ASYNC910 - as above
        except (ConnectionLost, ProtocolError, OperationTimedOut, BadRequest, FrameTooLarge) as error:
            return attempts.failed(error)  # noqa: ASYNC910 - as above
        return None

    async def _serve(self, stream: trio.abc.Stream, task_status: trio.TaskStatus[None]) -> None:
        session = Session(stream, self.settings, self._counters, self._taken)
        async with open_plain_nursery() as nursery:
            nursery.start_soon(session.run)
            await self._introduce(session)
            self._session = session
            nursery.start_soon(self._sweep)
            task_status.started()
            # Where `nursery.start` was cancelled at this very moment, it stays with us, and nobody will call `close`.
            await trio.lowlevel.checkpoint_if_cancelled()
            # From here on only `close` stops the service, so that last words can be sent after a cancellation.
            self._scope.shield = True
            await session.ended()
            nursery.cancel_scope.cancel()
        self._end(session.cause or ConnectionLost("the connection is lost"))

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

    async def _ask(self, session: Session, operation: Operation[T], credentials: bytes) -> T:
        """One request of the session's own, past the door."""
        slot = Slot(operation, credentials, self._deadline(), self._door.leave)
        self._door.admit(slot.size)
        slot.inside = True
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
        if self._session.cause is None:
            with trio.move_on_after(seconds, shield=True):
                await self._session.flushed()
        self._scope.cancel()

    def _end(self, error: TrioExtremeError) -> None:
        """No session comes any more: `error` is what every call meets from now on."""
        if self._ended is None or isinstance(error, ConnectionClosed):
            self._ended = error
            for slot in tuple(self._calls):
                slot.fail(error)
            for slot in self._session.slots:
                slot.fail(error)

    # --- calls

    async def call(self, operation: Operation[T], credentials: Credentials | None = None) -> T:
        """Send a request and return the value of its answer, or raise its error.

        Cancelling it: not sent yet, it is never sent; sent, its answer is thrown away.
        """
        slot = Slot(operation, self._encode(credentials), self._deadline(), self._door.leave)
        await self._enter(slot)
        try:
            return await self._answer(slot)
        finally:
            self.abandon(slot)

    def begin(self, operation: Operation[T], credentials: Credentials | None) -> Slot[T] | None:
        """Send a request whose answer is asked for later by `finish`; None where it cannot be sent at once.

        Whoever gets a slot calls `finish` or `abandon`.
        """
        slot = Slot(operation, self._encode(credentials), inf, self._door.leave)
        if self._ended is not None or not self._door.try_enter(slot.size):
            return None
        self._calls[slot] = None
        self._submit(slot)
        return slot

    async def finish(self, slot: Slot[T]) -> T:
        """The value of a request that `begin` sent; its deadline counts from now."""
        slot.deadline = self._deadline()
        # What still waits to be sent had no end at all.
        slot.expires = min(slot.expires, slot.deadline)
        try:
            return await self._answer(slot)
        finally:
            self.abandon(slot)

    def abandon(self, slot: Slot[Any]) -> None:
        """Nobody waits for this request any more."""
        del self._calls[slot]
        self._session.forget(slot)
        slot.leave()

    async def subscribe(
        self, operation: Subscribe, mailbox: Mailbox, credentials: Credentials | None
    ) -> tuple[Confirmation, Callable[[], None]]:
        """Open a subscription: its confirmation, and what ends it. Cancelled or refused, nothing of it is left."""
        slot = SubscriptionSlot(operation, self._encode(credentials), self._deadline(), mailbox, self._door.leave)
        await self._enter(slot)
        try:
            confirmation = await self._answer(slot)
        except BaseException:
            self.abandon(slot)
            raise
        del self._calls[slot]
        return confirmation, lambda: self._session.forget(slot)

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
        self._submit(slot)

    def _submit(self, slot: Slot[Any]) -> None:
        slot.inside = True
        self._session.submit(slot)

    def give_up(self, error: ProtocolError) -> None:
        """The peer's bytes cannot be understood: the session ends with this."""
        self._session.end(error)

    def _encode(self, credentials: Credentials | None) -> bytes:
        return self._credentials if credentials is None else encode_credentials(credentials)

    def _deadline(self) -> float:
        return trio.current_time() + self.settings.operation_timeout

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
        self._door.taken(slot.size)
        if slot.operation.prompt:
            slot.expires = min(slot.deadline, now + self.settings.attempt_timeout)

    async def _answer(self, slot: Slot[T]) -> T:
        """Wait for the answer of a submitted slot, and ask again while that is safe and there is time."""
        while True:
            await slot.event.wait()
            if slot.answer is None:
                self._after_silence(slot)
            else:
                try:
                    return self._decide(slot, slot.answer)
                except AskAgain as again:
                    await self._before_asking_again(slot, again)
            await self._submit_again(slot)

    def _decide(self, slot: Slot[T], answer: Frame) -> T:
        try:
            return slot.operation.decide(answer[0], answer[3])
        except ServerError as refusal:
            return self._settle(slot, refusal)
        except ProtocolError as error:
            self.give_up(error)
            # Something came back, so it was done or refused, and nobody can tell which.
            slot.doubtful |= slot.operation.resend is not Resend.AGAIN
            self._raise_for(slot, error)

    async def _submit_again(self, slot: Slot[Any]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._ended is not None:
            self._raise_for(slot, fresh(self._ended))
        self._session.forget(slot)
        slot.leave()
        self._door.admit(slot.size)
        self._submit(slot)

    def _settle(self, slot: Slot[T], refusal: ServerError) -> T:
        """The meaning of a refusal. It is of this attempt alone: an earlier one may have been carried out."""
        if not slot.doubtful:
            raise refusal
        try:
            return slot.operation.settle(refusal)
        except ServerError as error:
            raise self._unknown(slot, error) from error

    def _after_silence(self, slot: Slot[Any]) -> None:
        """Return where a request that got no answer may be sent again; raise what it means otherwise."""
        error = slot.failure()
        resend = slot.operation.resend
        slot.doubtful |= slot.sent and resend is not Resend.AGAIN
        if not isinstance(error, _AttemptExpired) or resend not in (Resend.AGAIN, Resend.SAME_IDS):
            self._raise_for(slot, error)

    async def _before_asking_again(self, slot: Slot[Any], again: AskAgain) -> None:
        """Wait a little after an answer that says later; raise where it may have been done, or time runs out."""
        slot.doubtful |= again.executed
        wake = trio.current_time() + ASK_AGAIN_DELAY
        if wake >= slot.deadline or (again.executed and slot.operation.resend is not Resend.SAME_IDS):
            self._raise_for(slot, again.error)
        await trio.sleep_until(wake)

    def _raise_for(self, slot: Slot[Any], error: TrioExtremeError) -> NoReturn:
        """Raise what an error means to this call, which gets no answer."""
        final = self._unknown(slot, error) if slot.doubtful else error
        # The exception that said "ask again" is the loop's own business.
        final.__suppress_context__ = True
        raise final

    def _unknown(self, slot: Slot[Any], error: Exception) -> OutcomeUnknown:
        msg = f"it is not known whether the server did it: {error}"
        unknown = OutcomeUnknown(msg, slot.operation.event_ids)
        unknown.__cause__ = error
        return unknown

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
            await trio.sleep_until(wake)

    def _expire(self, slot: Slot[Any], now: float) -> None:
        if slot.answer is not None:
            return
        if now >= slot.deadline:
            seconds = self.settings.operation_timeout
            slot.fail(OperationTimedOut(f"no answer within {seconds:g} s (operation_timeout)"))
        else:
            seconds = self.settings.attempt_timeout
            slot.fail(_AttemptExpired(f"no answer within {seconds:g} s (attempt_timeout)"))

    # --- what is there

    @property
    def statistics(self) -> Statistics:
        """The connection at this moment."""
        counters = self._counters
        held = [slot for slot in self._session.slots if isinstance(slot, SubscriptionSlot)]
        return Statistics(
            bytes_sent=counters.bytes_sent,
            bytes_received=counters.bytes_received,
            frames_sent=counters.frames_sent,
            frames_received=counters.frames_received,
            stray_frames=counters.stray_frames,
            in_flight=self._door.in_flight,
            waiting=len(self._door.waiting),
            queued_bytes=self._door.queued_bytes,
            subscriptions=tuple(SubscriptionStatistics(s.stream, s.mailbox.events, s.mailbox.bytes) for s in held),
        )
