"""Calls: from the door to the outcome, over as many attempts and sessions as that takes.

Rule 1: when a session ends, or an answer is overdue, what becomes of each request is decided here and at once, by what
its operation says (`Resend`). Its caller is woken only where there is something to tell.
Rule 2: every error a caller can meet is put into its slot, and raised in its own task.
"""

from __future__ import annotations

from itertools import count
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import trio

from trio_extreme.door import Door
from trio_extreme.errors import (
    ConnectionLost,
    FrameTooLarge,
    NotMaster,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    ReadOnly,
    ServerError,
    TrioExtremeError,
    WrongExpectedVersion,
)
from trio_extreme.lookups import LookUps
from trio_extreme.operations.base import AskAgain, Resend
from trio_extreme.operations.looking import Verdict
from trio_extreme.pending import Interrupted, Slot, SubscriptionSlot, fresh
from trio_extreme.wire.commands import HARMLESS
from trio_extreme.wire.framing import LENGTH_SIZE, encode_credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.line import Line
    from trio_extreme.operations.base import Operation
    from trio_extreme.operations.looking import Finding
    from trio_extreme.session import Session
    from trio_extreme.settings import Settings
    from trio_extreme.values import Credentials

T = TypeVar("T")

_serial = attrgetter("serial")

ASK_AGAIN_DELAY = 0.25
"""Seconds before a node that was not ready is asked again."""

MAX_LOSSES = 2
"""Sessions in a row that may die of a request: it is not sent to a third one."""


GRAIN = 0.02
"""Seconds by which a deadline may be late: to look for each of many alone would cost more than all the rest."""


class Calls:
    """All calls of one connection, wherever they wait."""

    def __init__(
        self,
        settings: Settings,
        line: Line,
        now: Callable[[], float],
        follow: Callable[[Session | None, NotMaster], bool] = lambda _session, _refusal: False,
    ) -> None:
        self.settings = settings
        self.door = Door(settings.max_in_flight, settings.max_queued_bytes)
        self.credentials = encode_credentials(settings.credentials) if settings.credentials else b""
        #: What every call meets from now on.
        self.ended: TrioExtremeError | None = None
        #: The time of day, in seconds since 1970.
        self.now = now
        self._line = line
        # Whether what a session's node refused goes to the master.
        self._follow = follow
        # Every call between its start and its end: what the sweeper looks after.
        self._calls: dict[Slot[Any], None] = {}
        self._serials = count(1)
        # Those of them that wait for a session. Here and in the next, one that was sent may come to wait after others
        # that were never sent, and goes before them all the same.
        self._held: dict[Slot[Any], None] = {}
        # Those that wait, by stream, because of others before them it must be found out first what became of them.
        self._behind: dict[str, dict[Slot[Any], None]] = {}
        self._look_ups = LookUps(line, self._look, self._settle_look_up, self._go_on)
        # When the sweeper means to look next, and what wakes it earlier.
        self._wake = inf
        self._nap = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Calls: {len(self._calls)}, of which {len(self._held)} wait for a session>"

    def __contains__(self, slot: object) -> bool:
        return slot in self._calls

    @property
    def sessions(self) -> int:
        """How many sessions there have been."""
        return self._line.sessions

    # --- making a call

    async def call(
        self,
        operation: Operation[T],
        credentials: Credentials | None = None,
        *,
        deadline: float | None = None,
        began: float | None = None,
        is_page: bool = False,
    ) -> T:
        """Send a request and return the value of its answer, or raise its error.

        `began` is when the oldest event that it writes may have come to the server, where that was before now. A page
        raises `Interrupted` where no answer came, so that it can be asked for in a smaller one. Cancelling: not sent
        yet, it is never sent; sent, its answer is thrown away.
        """
        until = self.deadline() if deadline is None else deadline
        slot = Slot(operation, self.encode(credentials), until, self.door.leave, is_page=is_page)
        if operation.look_in is not None:
            slot.began = self.now() if began is None else began
        if until < self._wake:
            # As a deadline that was carried over may be. To move the scope's is dear.
            self._wake = self._nap.deadline = until
        await self.enter(slot)
        try:
            return await self.answer(slot)
        finally:
            self.abandon(slot)

    def begin(self, operation: Operation[T], credentials: Credentials | None) -> Slot[T] | None:
        """Send the request for a page that is asked for later by `finish`; None where it cannot be sent at once.

        Whoever gets a slot calls `finish` or `abandon`.
        """
        slot = Slot(operation, self.encode(credentials), inf, self.door.leave, is_page=True)
        if self._line.session is None or not self.door.try_enter(slot.size):
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
            return await self.answer(slot)
        finally:
            self.abandon(slot)

    def abandon(self, slot: Slot[Any]) -> None:
        """Nobody waits for this request any more."""
        self.release(slot)
        if slot.answer is None:
            self._stop_waiting(slot)
        self._line.forget(slot)

    def _stop_waiting(self, slot: Slot[Any]) -> None:
        """It got no answer: it may wait anywhere."""
        behind = self._behind.get(slot.operation.look_in or "", {})
        if slot in self._held or slot in behind:
            self._held.pop(slot, None)
            behind.pop(slot, None)
            self._forget_bytes(slot)
        self._look_ups.forget(slot)
        slot.leave()

    def release(self, slot: Slot[Any]) -> None:
        """It is no call any more; what it has opened stays open."""
        del self._calls[slot]

    def adopt(self, slot: Slot[Any]) -> None:
        """It is a call again: what it had opened is to be opened anew. Nothing holds it up at the door."""
        self._calls[slot] = None
        self.submit(slot)

    def deadline(self) -> float:
        """When a call that begins now is out of time."""
        return trio.current_time() + self.settings.operation_timeout

    def encode(self, credentials: Credentials | None) -> bytes:
        """Credentials as a frame has them; None is who the settings say."""
        return self.credentials if credentials is None else encode_credentials(credentials)

    async def enter(self, slot: Slot[Any]) -> None:
        """Pass the door, and be submitted."""
        # Who is cancelled already sends nothing: at the first wait below, the writer may be the faster one.
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check(slot)
        self._calls[slot] = None
        if not self.door.try_enter(slot.size):
            try:
                await self.door.wait(slot)
            except BaseException:
                del self._calls[slot]
                raise
        self._admitted(slot)

    def _check(self, slot: Slot[Any]) -> None:
        if slot.operation.command not in HARMLESS:
            self.check_writable()
        if self.ended is not None:
            raise fresh(self.ended)
        limit = self.settings.max_frame_size
        size = slot.size - LENGTH_SIZE
        if size > limit:
            msg = f"the request has {size:,} bytes; the limit is {limit:,} (max_frame_size): append less at a time"
            raise FrameTooLarge(msg, size, limit)

    def check_writable(self) -> None:
        """Refuse what could change something, where the settings say so. Raises `ReadOnly`."""
        if self.settings.read_only:
            msg = "nothing was sent: the connection is for reading, subscribing and ping alone (read_only=True)"
            raise ReadOnly(msg)

    def _admitted(self, slot: Slot[Any]) -> None:
        """The door has let it in, and counted it."""
        slot.inside = slot.queued = True
        self._place(slot)

    def submit(self, slot: Slot[Any]) -> None:
        """Have it sent, now or by the next session; all of it counts until then."""
        self.door.readmit(slot)
        self._place(slot)

    def _place(self, slot: Slot[Any]) -> None:
        """Find the place where it is to wait: for the writer, for a session, or behind others."""
        slot.serial = slot.serial or next(self._serials)
        stream = slot.operation.look_in
        if self.ended is not None:
            slot.renew()
            self._forget_bytes(slot)
            slot.fail(self.ended)
        elif stream is not None and self._look_ups.looks_into(stream):
            slot.renew()
            self._behind.setdefault(stream, {})[slot] = None
        else:
            self._send(slot)

    def _send(self, slot: Slot[Any]) -> None:
        session = self._line.session
        if session is None:
            slot.renew()
            self._held[slot] = None
        else:
            session.submit(slot)

    def _go_on(self, stream: str) -> None:
        """It is known what became of the appends to this stream: those behind them are next."""
        for slot in sorted(self._behind.pop(stream, ()), key=_serial):
            if slot.settled:
                # Out of time, and its caller has not looked yet.
                self._forget_bytes(slot)
            else:
                self.submit(slot)

    # --- sessions

    def connected(self) -> None:
        """There is a session: send what waits, in order, and look for what may have been executed."""
        # Not those who are out of time, and have not looked yet. Nor behind a look: they were before what waits for it.
        for slot in sorted([slot for slot in self._held if not slot.settled], key=_serial):
            del self._held[slot]
            self._send(slot)
        self._look_ups.connected()

    def end(self, error: TrioExtremeError) -> None:
        """There will be no session any more: `error` is what every call meets from now on."""
        self.ended = error
        for slot in self._calls:
            slot.fail(error)

    def taken(self, slot: Slot[Any], now: float) -> None:
        """The writer took a slot out of the queue, or the queue let go of it when its session ended."""
        if self._line.alive is None and slot in self._calls and not slot.settled:
            # It will wait for the next session: it makes no room for others.
            return
        self._forget_bytes(slot)
        if slot.operation.prompt:
            slot.expires = min(slot.deadline, now + self.settings.attempt_timeout)

    def _forget_bytes(self, slot: Slot[Any]) -> None:
        if slot.queued:
            slot.queued = False
            self.door.taken(slot.size)

    def lose(self, slot: Slot[Any], cause: TrioExtremeError) -> None:
        """The session that this call was in has ended."""
        if not slot.settled:
            slot.losses = slot.losses + 1 if slot.sent else 0
            self._silence(slot, cause)

    def _silence(self, slot: Slot[Any], cause: TrioExtremeError) -> None:
        """No answer came to this attempt, and none will: send it again, or look, where that is safe."""
        resend = slot.operation.resend
        slot.doubtful |= slot.sent and resend is not Resend.AGAIN
        if not slot.sent:
            self.submit(slot)
        elif slot.is_page:
            slot.fail(Interrupted(cause))
        elif resend is Resend.NEVER or (slot.losses >= MAX_LOSSES and not isinstance(slot, SubscriptionSlot)):
            slot.fail(cause)
        elif resend is Resend.LOOK_UP:
            self._wait_for_look_up(slot)
        else:
            self.submit(slot)

    async def ask(self, session: Session, operation: Operation[T], credentials: bytes) -> T:
        """One request of our own, past the door, on this session alone."""
        if session.cause is not None:
            raise fresh(session.cause)
        slot = Slot(operation, credentials, inf, self.door.leave)
        self.door.readmit(slot)
        session.submit(slot)
        try:
            await slot.event.wait()
            if slot.answer is None:
                raise slot.failure()
            return operation.decide(*slot.answer)
        finally:
            session.forget(slot)
            slot.leave()

    # --- outcomes

    async def answer(self, slot: Slot[T]) -> T:
        """Wait for the outcome of a submitted slot, and ask again where the answer is to ask again."""
        while True:
            await slot.event.wait()
            if slot.error is not None:
                self._raise_for(slot, slot.failure())
            if slot.found is not None:
                return slot.found
            assert slot.answer is not None
            try:
                return slot.operation.decide(*slot.answer)
            except AskAgain as again:
                await self._ask_again(slot, again)
            except ServerError as refusal:
                if isinstance(refusal, NotMaster) and self._goes_along(slot, refusal):
                    continue
                if not slot.doubtful:
                    raise
                return await self._settle(slot, refusal)
            except ProtocolError as error:
                # Something came back, so it was done or refused, and nobody can tell which.
                self._line.give_up(error, slot.correlation)
                self._raise_for(slot, error)

    def _goes_along(self, slot: Slot[Any], refusal: NotMaster) -> bool:
        """Have it asked of the master, if the connection moves there. It was not executed, so that is always safe."""
        session = self._line.session
        # A page that was asked for ahead may have been refused by an earlier node.
        if not self._follow(session if session and session.gave(slot.correlation) else None, refusal):
            return False
        slot.sent = False
        slot.losses = 0
        self._line.forget(slot)
        self.submit(slot)
        return True

    async def _ask_again(self, slot: Slot[Any], again: AskAgain) -> None:
        """Send a request again a little after an answer that says later, as far as that is safe and there is time."""
        # What was not executed is as good as not sent. The session did not die of it in any case.
        slot.doubtful |= again.executed
        slot.sent = again.executed
        slot.losses = 0
        wake = trio.current_time() + ASK_AGAIN_DELAY
        if wake >= slot.deadline or (again.executed and slot.operation.resend is Resend.NEVER):
            self._raise_for(slot, again.error)
        await trio.sleep_until(wake)
        if self.ended is not None:
            self._raise_for(slot, fresh(self.ended))
        self._line.forget(slot)
        if again.executed and slot.operation.resend is Resend.LOOK_UP:
            self._wait_for_look_up(slot)
        else:
            await self._enter_again(slot)

    async def _enter_again(self, slot: Slot[Any]) -> None:  # noqa: ASYNC910 - only after a wait
        """Pass the door once more: its place was free as soon as there was an answer, and others have taken it."""
        slot.renew()
        if not self.door.try_enter(slot.size):
            try:
                await self.door.wait(slot)
            except TrioExtremeError as error:
                self._raise_for(slot, error)
        self._admitted(slot)

    async def _settle(self, slot: Slot[T], refusal: ServerError) -> T:
        """The meaning of a refusal. It is of this attempt alone: an earlier one may have been carried out."""
        if slot.operation.believes(refusal):
            raise refusal
        try:
            return slot.operation.settle(refusal)  # noqa: ASYNC910 - the answer was waited for
        except ServerError as error:
            if not isinstance(error, WrongExpectedVersion) or slot.operation.look_in is None:
                raise self._unknown(slot, error) from error
            slot.refusal = error
        if self.ended is not None:
            self._raise_for(slot, fresh(self.ended))
        self._line.forget(slot)
        self._wait_for_look_up(slot)
        return await self.answer(slot)

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

    # --- looking whether it was done

    def _wait_for_look_up(self, slot: Slot[Any]) -> None:
        slot.renew()
        self._look_ups.add(slot)

    async def _look(self, operation: Operation[T], credentials: bytes) -> T:
        """One request of a look-up: asked again until there is an answer, or the session ends."""
        while (session := self._line.session) is not None:
            try:
                with trio.move_on_after(self.settings.attempt_timeout):
                    return await self.ask(session, operation, credentials)
            except AskAgain:
                await trio.sleep(ASK_AGAIN_DELAY)
            except NotMaster as refusal:
                if not self._follow(session if session is self._line.session else None, refusal):
                    raise
        msg = "the session has ended"
        raise ConnectionLost(msg)  # noqa: ASYNC910 - to be heard before the session's tasks are cancelled

    def _settle_look_up(self, slot: Slot[Any], finding: Finding, last_number: int) -> None:
        if slot.settled:
            # Out of time, and its caller has not looked yet.
            return
        refusal = slot.refusal
        if finding.verdict is Verdict.THERE:
            slot.resolve(slot.operation.found(finding.first, finding.last))
        elif finding.verdict is Verdict.UNSURE:
            slot.fail(refusal or ConnectionLost("no answer came, and the stream does not tell either"))
        elif refusal is not None:
            # No attempt was executed. Where the stream is beyond the version that was expected none ever will be, so
            # the refusal is the truth; where it has not come so far, an earlier one may still lie in the server. And
            # so it may where no version protects it, as NO_STREAM does not: a soft delete brings that one back.
            assert refusal.expected is not None
            slot.doubtful = slot.operation.resend is not Resend.SAME_IDS or refusal.expected >= last_number
            slot.fail(refusal)
        else:
            self.door.readmit(slot)
            self._send(slot)

    # --- deadlines

    async def sweep(self) -> None:
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
            self._wake = max(wake, now + GRAIN)
            with trio.CancelScope(deadline=self._wake) as self._nap:
                await trio.sleep_forever()

    def _expire(self, slot: Slot[Any], now: float) -> None:
        if slot.settled:
            return
        if now >= slot.deadline:
            slot.fail(self.out_of_time())
        else:
            seconds = self.settings.attempt_timeout
            self._line.forget(slot)
            self._silence(slot, OperationTimedOut(f"no answer within {seconds:g} s (attempt_timeout)"))

    def out_of_time(self) -> OperationTimedOut:
        """The error of a call whose deadline has passed."""
        offline = "" if self._line.session is not None else ": there is no connection at the moment"
        return OperationTimedOut(f"no answer within {self.settings.operation_timeout:g} s (operation_timeout){offline}")
