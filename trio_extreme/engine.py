"""One connection: session after session, and what waits for them.

The supervisor (`run`) owns the session, the session owns the socket. A new session sends what lasts, then what was kept
in the order in which it came, then what is new. Where it must be found out first whether an append was executed, what
goes to the same stream waits behind it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import trio

from trio_extreme.calls import Calls
from trio_extreme.changes import Changes
from trio_extreme.connecting import Attempts, Backoff, open_stream
from trio_extreme.errors import (
    BadRequest,
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    FrameTooLarge,
    NotAuthenticated,
    NotReady,
    OperationTimedOut,
    ProtocolError,
    TrioExtremeError,
)
from trio_extreme.feeds import Feeds
from trio_extreme.filter_support import FilterSupport
from trio_extreme.line import Line
from trio_extreme.moves import Moves
from trio_extreme.notices import Closed, Connected, Lost, Reconnecting, Redirected
from trio_extreme.operations.base import AskAgain
from trio_extreme.operations.features import TOKENS
from trio_extreme.operations.session import Identify, Ping
from trio_extreme.pending import SubscriptionSlot
from trio_extreme.session import Session
from trio_extreme.settings import NARROW_VERSION
from trio_extreme.statistics import Counters, Statistics, SubscriptionStatistics
from trio_extreme.tasks import open_plain_nursery

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.errors import NotMaster
    from trio_extreme.moves import Move
    from trio_extreme.pending import Slot
    from trio_extreme.settings import Settings
    from trio_extreme.transport import Address, Connect

logger = logging.getLogger("trio_extreme.connection")

LAST_ANSWERS = 1.0
"""Seconds that a node which is left has for what it was asked."""

_MENDABLE = (ConnectionLost, ProtocolError, OperationTimedOut, BadRequest, FrameTooLarge, NotReady)
"""What a further attempt may do away with before we were ever accepted; later, anything may pass."""


class Observed(Protocol):
    """A subscription, as statistics see it."""

    def statistics(self) -> SubscriptionStatistics:
        """What it holds at this moment."""
        ...


class Engine:
    """One connection. `run` serves it until `close`.

    With a seeded `rng`, a `now` that gives seconds since 1970, and streams that are deterministic, so is all of this.
    """

    def __init__(
        self, settings: Settings, connect: Connect, rng: Random | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self.line = Line()
        self.calls = Calls(settings, self.line, now, self._follow)
        self.feeds = Feeds(self.calls, self.line)
        self.filter_support = FilterSupport(self.calls, self.line)
        self.changes = Changes()
        self._connect = connect
        self._rng = rng or Random()  # noqa: S311 - ids that must differ, and delays that should
        self._moves = Moves(settings, connect, self._rng)
        self._counters = Counters()
        self._scope = trio.CancelScope()
        self._observed: dict[Observed, None] = {}

    def __repr__(self) -> str:
        return f"<Engine for {self.settings.address}: {self.calls!r}, {self.line!r}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and serve, session after session; started when the server has accepted us for the first time.

        Raises `ConnectFailed` when `first_attempts` are used up, and at once what no further attempt could mend. After
        it has started only `close` ends it.
        """
        with self._scope:
            async with open_plain_nursery() as nursery:
                nursery.start_soon(self.calls.sweep)
                await self._keep_connected(task_status)

    async def _keep_connected(self, task_status: trio.TaskStatus[None]) -> None:
        attempts = Attempts(self.settings, self._rng, self.settings.first_attempts)
        while self.calls.ended is None:
            try:
                reason = await self._attempt(task_status)
            except AskAgain as again:
                reason = again.error
                delay = self._failed(attempts, reason)
            except TrioExtremeError as error:
                reason = error
                delay = self._failed(attempts, reason)
            else:
                attempts = Attempts(self.settings, self._rng, self.settings.max_attempts)
                if self._moves.move is not None:
                    await self._go(self._moves.move)
                    continue
                delay = attempts.lost(reason, self._moves.address)
                self.changes.note(Lost(reason))
            if self.calls.ended is None:
                self.changes.note(Reconnecting(attempts.count + 1, delay, reason))
                await trio.sleep(delay)
        await trio.sleep_forever()

    def _failed(self, attempts: Attempts, error: TrioExtremeError) -> float:
        """Seconds until the next attempt. After the last, the first time it raises; later everybody is told."""
        is_first = self.line.sessions == 0
        if is_first and not isinstance(error, _MENDABLE) and self._moves.is_final():
            raise error
        self._moves.failed()
        try:
            return attempts.failed(error, self._moves.address)
        except ConnectFailed as failed:
            if is_first:
                raise
            self._end(failed)
            return 0.0

    async def _attempt(self, task_status: trio.TaskStatus[None]) -> TrioExtremeError:
        """Open a session and serve it to its end; what it ended with. Raises what it could not be opened for."""
        address = await self._moves.next()
        stream = await open_stream(self.settings, self._connect, address)
        session = Session(
            stream, self.settings, self._counters, self.calls.taken, self._lose, random_bytes=self._rng.randbytes
        )
        async with open_plain_nursery() as nursery:
            nursery.start_soon(session.run)
            await self._introduce(session)
            self._open(session, nursery, address)
            if self.line.sessions == 1:
                await self._started(task_status)
            await session.ended()
            nursery.cancel_scope.cancel()
        self.line.disconnect()
        return session.cause or ConnectionLost("the connection is lost")

    # --- moving to the master

    def _follow(self, session: Session | None, refusal: NotMaster) -> bool:
        """Whether the connection moves to the master; for this refusal, where it comes from the present session."""
        if session is not None and self._moves.follows:
            self._moves.to_master(refusal)
            self.line.begin(self._leave, session)
            self.line.leave()
        return self._moves.follows

    async def _leave(self, session: Session) -> None:
        """End a session that is being left, a little later: what is under way gets its answer, which may be a refusal.

        What has none by then is asked again where that is safe, as when a session is lost.
        """
        with trio.move_on_after(LAST_ANSWERS):
            await session.quiet()
        session.end(ConnectionLost("the connection was moved to the master before there was an answer"))

    async def _go(self, move: Move) -> None:
        if self.calls.ended is None:
            self.changes.note(Redirected(move.endpoint))
        await trio.sleep(move.delay)

    # --- opening a session

    async def _introduce(self, session: Session) -> None:
        """Say who we are, then prove the default credentials: Authenticate would poison what follows (pitfall 13)."""
        if self.settings.protocol_version != NARROW_VERSION:
            await self._identify(session)
        try:
            with trio.fail_after(self.settings.attempt_timeout):
                await self.calls.ask(session, Ping(), self.calls.credentials)
        except trio.TooSlowError as error:
            msg = "the peer accepts connections and answers nothing: is it the TCP port (1113), not HTTP's (2113)?"
            raise OperationTimedOut(msg) from error
        except (ConnectionLost, NotAuthenticated) as error:
            if self.settings.token:
                raise _without_tokens(session, error) from error
            raise

    async def _identify(self, session: Session) -> None:
        """And that we take 64-bit numbers. Who never says so is given them cut to 32 bits (docs/protocol.md, 1.3)."""
        name = self.settings.connection_name or f"{socket.gethostname()}:{os.getpid()}"
        with trio.move_on_after(self.settings.identify_timeout):
            if not await self.calls.ask(session, Identify(name), b""):
                logger.info("the server is older than 3.9.4: it does not know IdentifyClient")

    def _open(self, session: Session, nursery: trio.Nursery, address: Address) -> None:
        """Let in first what lasts, then what was kept, then what is new."""
        self.line.connect(session, nursery)
        self.feeds.connected()
        self.calls.connected()
        self._moves.connected()
        self.changes.note(Connected(address.host, address.port))

    async def _started(self, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        # Where `nursery.start` was cancelled at this very moment, it stays with us, and nobody will call `close`.
        await trio.lowlevel.checkpoint_if_cancelled()
        # From here on only `close` stops the service, so that last words can be sent after a cancellation.
        self._scope.shield = True

    def _lose(self, slot: Slot[Any], cause: TrioExtremeError) -> None:
        """The session that this slot was in has ended."""
        if isinstance(slot, SubscriptionSlot) and (slot.is_open or slot not in self.calls):
            self.feeds.lose(slot, cause)
        elif slot in self.calls:
            self.calls.lose(slot, cause)
        else:
            # A request of our own, on that session alone.
            slot.fail(cause)

    async def close(self, *, hurry: bool) -> None:  # noqa: ASYNC910 - there may be nothing to wait for
        """Fail what waits, send the last words within `close_timeout`, and end."""
        self._end(ConnectionClosed("the connection's block was left"))
        seconds = self.settings.close_timeout * (1 / 3 if hurry else 1)
        session = self.line.alive
        if session is not None:
            with trio.move_on_after(seconds, shield=True):
                await session.flushed()
        self._scope.cancel()

    def _end(self, error: TrioExtremeError) -> None:
        """No session comes any more: `error` is what every call and iterator meets from now on."""
        if self.calls.ended is None:
            self.changes.note(Closed(error))
        self.calls.end(error)
        self.feeds.end(error)
        session = self.line.alive
        for slot in session.slots if session is not None else ():
            slot.fail(error)

    # --- for who uses it

    def backoff(self) -> Backoff:
        """Delays for whoever tries again on their own."""
        return Backoff(self.settings, self._rng)

    def join(self, subscription: Observed) -> None:
        """A subscription's block was entered."""
        self._observed[subscription] = None

    def part(self, subscription: Observed) -> None:
        """A subscription's block was left."""
        self._observed.pop(subscription, None)

    @property
    def statistics(self) -> Statistics:
        """The connection at this moment."""
        counters, door = self._counters, self.calls.door
        return Statistics(
            bytes_sent=counters.bytes_sent,
            bytes_received=counters.bytes_received,
            frames_sent=counters.frames_sent,
            frames_received=counters.frames_received,
            stray_frames=counters.stray_frames,
            reconnects=max(0, self.line.sessions - 1),
            in_flight=door.in_flight,
            waiting=len(door.waiting),
            queued_bytes=door.queued_bytes,
            subscriptions=tuple(subscription.statistics() for subscription in self._observed),
        )


def _without_tokens(session: Session, error: ConnectionLost | NotAuthenticated) -> TrioExtremeError:
    """What it means that a token was not accepted.

    A server that knows none takes its length for a login's. Where the frame has no room for such a login, it hangs up;
    where it has, it looks for the login's password further on (docs/protocol.md, 1.2).
    """
    if session.farewell:
        return TOKENS.missing()
    return type(error)(f"{error}; or it knows no {TOKENS.name}: servers have them since {TOKENS.since}")
