"""From calls to sessions: connecting, the door, deadlines, and what becomes of a call whose session ends.

The supervisor (`run`) owns the session, the session owns the socket. Callers put a slot into the session and wait for
it; every error they can meet is put into that slot, and raised in their own task.
"""

from __future__ import annotations

import logging
import os
import socket
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from trio_extreme.door import Door
from trio_extreme.errors import (
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    FrameTooLarge,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    ServerError,
    TrioExtremeError,
    WrongExpectedVersion,
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
            attempts: list[BaseException] = []
            while not await self._attempt(attempts, task_status):
                pass
            await trio.sleep_forever()

    async def _attempt(self, attempts: list[BaseException], task_status: trio.TaskStatus[None]) -> bool:
        """Try once to open a session and serve it to its end. False where it could not be opened."""
        try:
            stream = await self._open_stream()
            await self._serve(stream, task_status)
        except (ConnectionLost, ProtocolError, OperationTimedOut, AskAgain) as error:
            failure = error.error if isinstance(error, AskAgain) else error
            attempts.append(failure)
            await self._after_failure(attempts)
            return False
        return True

    async def _open_stream(self) -> trio.abc.Stream:
        host, port, seconds = self.settings.host, self.settings.port, self.settings.connect_timeout
        try:
            with trio.fail_after(seconds):
                return await self._connect(host, port)
        except trio.TooSlowError as error:
            why = f"no connection within {seconds:g} s (connect_timeout): a firewall, or a wrong address"
            raise ConnectionLost(why) from error
        except socket.gaierror as error:
            why = f"the name {host!r} cannot be looked up ({error.strerror}): check the host"
            raise ConnectionLost(why) from error
        except OSError as error:
            why = f"nothing accepts connections there ({_system_words(error)}): is the server up, and its TCP port on?"
            raise ConnectionLost(why) from error

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
        if self._credentials:
            try:
                with trio.fail_after(self.settings.attempt_timeout):
                    await self._ask(session, Ping(), self._credentials)
            except trio.TooSlowError as error:
                msg = "the peer accepts connections and answers nothing: is it the TCP port (1113), not HTTP's (2113)?"
                raise OperationTimedOut(msg) from error

    async def _ask(self, session: Session, operation: Operation[T], credentials: bytes) -> T:
        """One request of the session's own, past the door."""
        slot = Slot(operation, credentials, trio.current_time() + self.settings.operation_timeout)
        self._door.queue_again(slot.size)
        session.submit(slot)
        try:
            await slot.event.wait()
            if slot.answer is None:
                raise slot.failure()
            return operation.decide(slot.answer[0], slot.answer[3])
        finally:
            session.forget(slot)

    async def _after_failure(self, attempts: list[BaseException]) -> None:
        """Log a failed attempt and wait for the next, unless it was the last."""
        settings = self.settings
        where = f"{settings.host}:{settings.port}"
        if settings.first_attempts is not None and len(attempts) >= settings.first_attempts:
            logger.warning("attempt %d to connect to %s failed: %s; no further one", len(attempts), where, attempts[-1])
            msg = f"could not connect to {where} in {len(attempts)} attempts; the last: {attempts[-1]}"
            raise ConnectFailed(msg, attempts) from attempts[-1]
        ceiling = min(settings.max_reconnect_delay, settings.reconnect_delay * 2 ** min(len(attempts) - 1, 60))
        delay = self._rng.uniform(0, ceiling)
        logger.warning(
            "attempt %d to connect to %s failed: %s; next in %.2f s", len(attempts), where, attempts[-1], delay
        )
        await trio.sleep(delay)

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
        # A caller that is cancelled already sends nothing: at the first wait below, the writer may be the faster one.
        await trio.lowlevel.checkpoint_if_cancelled()
        slot = self._open(operation, credentials)
        self._calls[slot] = None
        try:
            if not self._door.try_enter(slot.size):
                await self._door.wait(slot)
        except BaseException:
            del self._calls[slot]
            raise
        self._session.submit(slot)
        try:
            return await self._answer(slot)
        finally:
            self.abandon(slot)

    def begin(self, operation: Operation[T], credentials: Credentials | None) -> Slot[T] | None:
        """Send a request whose answer is asked for later by `finish`; None where it cannot be sent at once.

        Whoever gets a slot calls `finish` or `abandon`.
        """
        if self._ended is not None:
            return None
        slot = self._open(operation, credentials)
        if not self._door.try_enter(slot.size):
            return None
        self._calls[slot] = None
        self._session.submit(slot)
        return slot

    async def finish(self, slot: Slot[T]) -> T:
        """The value of a request that was submitted; nothing of it is left afterwards, however this ends."""
        try:
            return await self._answer(slot)
        finally:
            self.abandon(slot)

    def abandon(self, slot: Slot[Any]) -> None:
        """Nobody waits for this request any more."""
        del self._calls[slot]
        self._session.forget(slot)
        self._door.leave()

    async def subscribe(
        self, operation: Subscribe, mailbox: Mailbox, credentials: Credentials | None
    ) -> tuple[Confirmation, Callable[[], None]]:
        """Open a subscription: its confirmation, and what ends it. Cancelled or refused, nothing of it is left."""
        slot = SubscriptionSlot(operation, self._encode(credentials), self._deadline(), mailbox)
        self._check(slot)
        self._calls[slot] = None
        try:
            if not self._door.try_enter(slot.size):
                await self._door.wait(slot)
            try:
                self._session.submit(slot)
                return await self._answer(slot), lambda: self._session.forget(slot)
            except BaseException:
                self._session.forget(slot)
                raise
            finally:
                self._door.leave()
        finally:
            del self._calls[slot]

    def give_up(self, error: ProtocolError) -> None:
        """The peer's bytes cannot be understood: the session ends with this."""
        self._session.end(error)

    def _open(self, operation: Operation[T], credentials: Credentials | None) -> Slot[T]:
        slot = Slot(operation, self._encode(credentials), self._deadline())
        self._check(slot)
        return slot

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
        slot.expires = min(slot.deadline, now + self.settings.attempt_timeout)

    async def _answer(self, slot: Slot[T]) -> T:
        """Wait for the answer of a submitted slot, and ask again while that is safe and there is time."""
        while True:
            await slot.event.wait()
            if slot.answer is None:
                self._after_silence(slot)
                slot.doubtful = slot.operation.resend is not Resend.AGAIN
                self._submit_again(slot)
                continue
            try:
                return slot.operation.decide(slot.answer[0], slot.answer[3])
            except AskAgain as again:
                slot.doubtful |= again.executed
                await self._before_asking_again(slot, again)
                self._submit_again(slot)
            except ServerError as error:
                if slot.doubtful and not isinstance(error, WrongExpectedVersion):
                    # The refusal is of this attempt alone: an earlier one may have been carried out all the same.
                    raise self._unknown(slot, error) from error
                raise
            except ProtocolError as error:
                self.give_up(error)
                if slot.operation.resend is not Resend.AGAIN:
                    # Something came back, so it was done or refused: nobody can tell which.
                    raise self._unknown(slot, error) from error
                raise

    def _submit_again(self, slot: Slot[Any]) -> None:
        self._session.forget(slot)
        self._door.queue_again(slot.size)
        self._session.submit(slot)

    def _after_silence(self, slot: Slot[Any]) -> None:
        """Return where a request that got no answer may be sent again; raise what it means otherwise."""
        error = slot.failure()
        changes = slot.operation.resend is not Resend.AGAIN
        if isinstance(error, _AttemptExpired) and slot.operation.resend in (Resend.AGAIN, Resend.SAME_IDS):
            return
        if (slot.sent or slot.doubtful) and changes and not isinstance(error, FrameTooLarge):
            raise self._unknown(slot, error)
        raise error

    async def _before_asking_again(self, slot: Slot[Any], again: AskAgain) -> None:
        """Wait a little after an answer that says later; raise where it may have been done, or time runs out."""
        if again.executed and slot.operation.resend is not Resend.SAME_IDS:
            raise self._unknown(slot, again.error) from None
        wake = trio.current_time() + ASK_AGAIN_DELAY
        if wake >= slot.deadline:
            raise (self._unknown(slot, again.error) if slot.doubtful else again.error) from None
        await trio.sleep_until(wake)
        if self._ended is not None:
            raise (self._unknown(slot, self._ended) if slot.doubtful else fresh(self._ended)) from None

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


def _system_words(error: OSError) -> str:
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return str(inner or error)
