"""Requests that wait for their answers."""

from __future__ import annotations

import os
from copy import copy
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from trio_extreme.operations.subscribing import Confirmation
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import HEADER_SIZE, LENGTH_SIZE, NO_CORRELATION, SKIPPED, encode_head, too_large

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.errors import TrioExtremeError
    from trio_extreme.mailbox import Mailbox
    from trio_extreme.operations.base import Operation
    from trio_extreme.operations.subscribing import Subscribe
    from trio_extreme.wire.framing import Frame

T = TypeVar("T")

_PREFIX_SIZE = LENGTH_SIZE + HEADER_SIZE


def correlation_ids(random_bytes: Callable[[int], bytes] = os.urandom) -> Callable[[], bytes]:
    """A source of correlation ids: eight random bytes and a counter, a tenth of the price of a UUID.

    They only have to be sixteen bytes, not all zero, and never the same twice on one connection.
    """
    prefix = random_bytes(8)
    number = count(1)
    return lambda: prefix + next(number).to_bytes(8, "little")


class Slot(Generic[T]):
    """One request: what is sent, and where its answer is put.

    The same slot serves each attempt, with a new correlation id and a new event: the late answer to an earlier one
    finds nobody.
    """

    __slots__ = (
        "_on_left",
        "answer",
        "correlation",
        "credentials",
        "deadline",
        "doubtful",
        "error",
        "event",
        "expires",
        "gone",
        "inside",
        "operation",
        "payload",
        "sent",
        "size",
    )

    def __init__(
        self,
        operation: Operation[T],
        credentials: bytes,
        deadline: float,
        on_left: Callable[[], None] | None = None,
    ) -> None:
        self.operation = operation
        self.credentials = credentials
        self.payload = operation.payload()
        #: Bytes of the frame.
        self.size = _PREFIX_SIZE + len(credentials) + len(self.payload)
        self.deadline = deadline
        #: Whether it has a place behind the door; given back when there is an answer, whoever fetches it when.
        self.inside = False
        self._on_left = on_left
        #: An earlier attempt may have changed something: no later one can say that nothing happened.
        self.doubtful = False
        self.renew()

    def renew(self, correlation: bytes = NO_CORRELATION) -> None:
        """Forget the last attempt."""
        self.correlation = correlation
        self.gone = False
        self.event = trio.Event()
        self.answer: Frame | None = None
        self.error: TrioExtremeError | None = None
        self.sent = False
        self.expires = self.deadline

    def head(self) -> bytes:
        """All of the frame that comes before the payload."""
        return encode_head(self.operation.command, self.correlation, len(self.payload), self.credentials)

    def deliver(self, frames: list[Frame]) -> None:
        """Take the answer; of two the first."""
        if frames[0][0] == SKIPPED:
            self.fail(too_large(frames[0][3]))
        elif self.answer is None:
            self.answer = frames[0]
            self.event.set()
            self.leave()

    def fail(self, error: TrioExtremeError) -> None:
        """Wake the caller with an error instead, unless it has its answer."""
        if self.answer is None and self.error is None:
            self.error = error
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
    """The request that opens a subscription. Its id stays in use: what is pushed under it goes to the mailbox."""

    __slots__ = ("dropped", "mailbox", "stream")

    def __init__(
        self,
        operation: Subscribe,
        credentials: bytes,
        deadline: float,
        mailbox: Mailbox,
        on_left: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(operation, credentials, deadline, on_left)
        self.mailbox = mailbox
        self.stream = operation.stream
        self.dropped = False

    def deliver(self, frames: list[Frame]) -> None:
        """The first frame confirms or refuses; events may follow it in the same chunk (pitfall 10)."""
        if self.answer is None:
            super().deliver(frames)
            frames = frames[1:]
        if frames:
            self.dropped |= frames[-1][0] == Command.SUBSCRIPTION_DROPPED
            self.mailbox.put(frames)

    def fail(self, error: TrioExtremeError) -> None:
        """Wake whoever waits: for the confirmation, which may be asked for again, or for events."""
        if self.answer is None:
            super().fail(error)
        else:
            self.mailbox.end(fresh(error))

    @property
    def holds(self) -> bool:
        """A subscription that was sent, was not refused, and which the server has not ended."""
        open_there = self.answer is None or self.answer[0] == self.operation.answer
        return self.sent and open_there and not self.dropped


def fresh(error: TrioExtremeError) -> TrioExtremeError:
    """A copy of an error, without the traceback of whoever raised it before."""
    again = copy(error)
    again.__cause__ = error.__cause__
    return again.with_traceback(None)
