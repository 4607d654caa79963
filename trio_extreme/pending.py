"""Requests that wait for their answers."""

from __future__ import annotations

import os
from copy import copy
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from trio_extreme.errors import ConnectionLost, OperationTimedOut
from trio_extreme.operations.subscribing import Confirmation, is_unsubscribed
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import HEADER_SIZE, LENGTH_SIZE, NO_CORRELATION, SKIPPED, encode_head, too_large

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.errors import TrioExtremeError, WrongExpectedVersion
    from trio_extreme.mailbox import Inbox
    from trio_extreme.operations.base import Operation
    from trio_extreme.operations.subscribing import Subscribe
    from trio_extreme.wire.framing import Run

T = TypeVar("T")

_DROPPED = int(Command.SUBSCRIPTION_DROPPED)
_PREFIX_SIZE = LENGTH_SIZE + HEADER_SIZE


def correlation_ids(random_bytes: Callable[[int], bytes] = os.urandom) -> Callable[[], bytes]:
    """A source of correlation ids: eight random bytes and a counter, a tenth of the price of a UUID.

    They only have to be sixteen bytes, not all zero, and never the same twice on one connection.
    """
    # Of C alone: there is one for each request.
    numbers = map(partial(int.to_bytes, length=8, byteorder="little"), count(1))
    return map(random_bytes(8).__add__, numbers).__next__


class Interrupted(ConnectionLost):
    """A page or a feed was cut short: whoever wants it asks anew, from where it stood. It never leaves this library.

    `died`: the session did, perhaps of this; otherwise the answer was overdue.
    """

    def __init__(self, cause: TrioExtremeError) -> None:
        super().__init__(str(cause))
        self.__cause__ = cause.__cause__
        self.died = not isinstance(cause, OperationTimedOut)


class Slot(Generic[T]):
    """One request: what is sent, and where its answer is put.

    The same slot serves each attempt, with a new correlation id: the late answer to an earlier one finds nobody. Its
    caller waits on `event`, and is woken only when there is something to tell.
    """

    __slots__ = (
        "_on_left",
        "answer",
        "began",
        "correlation",
        "credentials",
        "deadline",
        "doubtful",
        "error",
        "event",
        "expires",
        "found",
        "gone",
        "inside",
        "is_page",
        "losses",
        "operation",
        "payload",
        "queued",
        "refusal",
        "sent",
        "serial",
        "size",
    )

    def __init__(
        self,
        operation: Operation[T],
        credentials: bytes,
        deadline: float,
        on_left: Callable[[], None] | None = None,
        *,
        is_page: bool = False,
    ) -> None:
        self.operation = operation
        self.credentials = credentials
        self.payload = operation.payload()
        #: Bytes of the frame.
        self.size = _PREFIX_SIZE + len(credentials) + len(self.payload)
        #: When the call ends, by Trio's clock; and when it began, in seconds since 1970, where that may be asked. The
        #: difference of two readings of Trio's clock would not do: it stands still while the machine sleeps.
        self.deadline = deadline
        self.began = 0.0
        #: Its place among all requests of the connection, in the order in which they were first to be sent; 0 before.
        self.serial = 0
        #: A page: not to be asked for again as it is where its session died, but in a smaller one.
        self.is_page = is_page
        #: Whether it has a place behind the door; given back when there is an answer, whoever fetches it when.
        self.inside = False
        #: Whether its bytes count among those that wait to be sent.
        self.queued = False
        self._on_left = on_left
        #: An earlier attempt may have changed something: no later one can say that nothing happened.
        self.doubtful = False
        #: How many sessions in a row died while it was in flight.
        self.losses = 0
        #: What a repeated attempt was refused with, until it is known whether an earlier one was executed.
        self.refusal: WrongExpectedVersion | None = None
        #: Its value where no answer told it.
        self.found: T | None = None
        #: What its caller waits on.
        self.event = trio.Event()
        self.correlation = NO_CORRELATION
        #: Its caller has gone: it is not sent any more.
        self.gone = False
        #: The command and the payload that came back.
        self.answer: tuple[int, bytes] | None = None
        self.error: TrioExtremeError | None = None
        #: It was given to the socket.
        self.sent = False
        #: When this attempt ends.
        self.expires = deadline

    def renew(self, correlation: bytes = NO_CORRELATION) -> None:
        """Forget the last attempt."""
        self.correlation = correlation
        self.gone = False
        if self.event.is_set():
            self.event = trio.Event()
        self.answer = None
        self.error = None
        self.sent = False
        self.expires = self.deadline

    @property
    def settled(self) -> bool:
        """Whether there is something for its caller, who may not have looked yet."""
        return self.answer is not None or self.error is not None or self.found is not None

    def head(self) -> bytes:
        """All of the frame that comes before the payload."""
        return encode_head(self.operation.command, self.correlation, len(self.payload), self.credentials)

    def deliver(self, run: Run) -> None:
        """Take the answer; of two the first."""
        command, _, _, bodies = run
        if command == SKIPPED:
            self.fail(too_large(bodies[0]))
        elif self.answer is None:
            self.answer = command, bodies[0]
            self.event.set()
            self.leave()

    def fail(self, error: TrioExtremeError) -> None:
        """Wake the caller with an error instead, unless it has its answer."""
        if not self.settled:
            self.error = error
            self.event.set()
            self.leave()

    def resolve(self, value: T) -> None:
        """Wake the caller with a value that was found out otherwise."""
        if not self.settled:
            self.found = value
            self.event.set()
            self.leave()

    def leave(self) -> None:
        """Make room behind the door, if this takes any."""
        if self.inside and self._on_left is not None:
            self.inside = False
            self._on_left()

    def failure(self) -> TrioExtremeError:
        """The error this was failed with, anew: many may share one, and each caller's grows its own traceback."""
        assert self.error is not None
        return fresh(self.error)

    @property
    def holds(self) -> bool:
        """Whether the server keeps something for this request until it is told otherwise."""
        return False


class SubscriptionSlot(Slot[Confirmation]):
    """The request that opens a subscription. Its id stays in use: what is pushed under it goes to the mailbox.

    A lasting one is opened anew by each later session. Its later confirmations go to the mailbox too: what came before
    them and what comes after may have a gap between.
    """

    __slots__ = ("_on_interrupted", "dropped", "drops", "interrupted", "mailbox", "stream")
    operation: Subscribe

    def __init__(
        self,
        operation: Subscribe,
        credentials: bytes,
        deadline: float,
        mailbox: Inbox,
        on_left: Callable[[], None] | None = None,
        *,
        on_interrupted: Callable[[SubscriptionSlot], None] | None = None,
    ) -> None:
        self.dropped = False
        self.mailbox = mailbox
        super().__init__(operation, credentials, deadline, on_left)
        self.stream = operation.stream
        #: It was open once and ended: what comes after may have a gap before it.
        self.interrupted = False
        #: How often in a row the server ended it before it pushed anything.
        self.drops = 0
        self._on_interrupted = on_interrupted

    def renew(self, correlation: bytes = NO_CORRELATION) -> None:
        """Forget the last attempt."""
        super().renew(correlation)
        self.dropped = False
        # What came before it was confirmed, if anything may.
        self.mailbox.interrupted()

    def deliver(self, run: Run) -> None:
        """An answer confirms or refuses; events may follow it in the same chunk (pitfall 10)."""
        command = run[0]
        if self.answer is None and command != self.operation.pushes:
            super().deliver(run)
            if self.is_open:
                self.mailbox.opened(run, again=self.interrupted)
        elif self.answer is None:
            # Where events may come before the answer, they are kept.
            self.mailbox.put(run)
        # An answer that comes twice means nothing the second time.
        elif command == self.operation.answer or not self.is_open:
            return
        elif command == _DROPPED:
            self._drop(run)
        else:
            self.drops = 0
            self.mailbox.put(run)

    def _drop(self, run: Run) -> None:
        """The server ends it. That it shuts down, which it tells as Unsubscribed, is no end to who lasts."""
        self.dropped = True
        command, flags, correlation, bodies = run
        if self._on_interrupted is None or not is_unsubscribed(bodies[0]):
            self.mailbox.put((command, flags, correlation, bodies[:1]))
            return
        self.drops += 1
        self.interrupt()
        self._on_interrupted(self)

    def interrupt(self) -> None:
        """What was open has ended, and is to be opened anew."""
        self.interrupted = True
        self.mailbox.interrupted()

    def fail(self, error: TrioExtremeError) -> None:
        """Wake whoever waits: for the confirmation, which may be asked for again, or for events."""
        if self.answer is None:
            super().fail(error)
        else:
            self.mailbox.end(fresh(error))

    @property
    def lasting(self) -> bool:
        """Whether a later session opens it anew."""
        return self._on_interrupted is not None

    @property
    def is_open(self) -> bool:
        """Whether the server has confirmed it, and not ended it since."""
        return self.answer is not None and self.answer[0] == self.operation.answer and not self.dropped

    @property
    def holds(self) -> bool:
        """A subscription that was sent, was not refused, and which the server has not ended."""
        return self.sent and (self.answer is None or self.is_open)


def fresh(error: TrioExtremeError) -> TrioExtremeError:
    """A copy of an error, without the traceback of whoever raised it before."""
    again = copy(error)
    again.__cause__ = error.__cause__
    return again.with_traceback(None)
