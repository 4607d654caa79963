"""One client's side of the network: what it hands over and takes, and the rules that can be seen there.

Rule 1: what is urgent leaves before whatever else waits, and the answer to a heartbeat with the next send.
Rule 2: nothing is sent for a caller who has gone.
Rule 3: an attempt has a correlation id of its own, and one at all; only an unsubscribe repeats one.
Rule 4: a connection is closed before the next one is opened.
Rule 5: what a session left unanswered and may be sent again as it is, the next one sends first and in the same order.
Rule 6: what waits for consumers and for the socket stays within the bounds, looked at after each chunk.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

import trio

from tests.simulation.trace import Cutter
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, command_name
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.ledger import Call, Ledger
    from tests.simulation.network import ClientEnd
    from tests.simulation.trace import Frame, Trace

_SAID = (Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS, Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS)
"""What is said of a group's events."""

_ANSWERS = (Command.HEARTBEAT_RESPONSE, Command.UNSUBSCRIBE_FROM_STREAM, *_SAID)
"""Commands under an id that was used before."""

_URGENT = (*_ANSWERS, Command.HEARTBEAT_REQUEST)
"""What never waits behind requests."""


class Wire:
    """What one client does on all its connections, one after another."""

    def __init__(self, client: str, attempt_timeout: float, ledger: Ledger, trace: Trace) -> None:
        self.client = client
        self.ends: list[ClientEnd] = []
        #: Looks at the client's buffers; set once there is a connection to look at.
        self.look: Callable[[], None] = lambda: None
        #: The ids of the events of groups of which something was said.
        self.said: set[bytes] = set()
        self._ledger = ledger
        self._trace = trace
        self._used: set[bytes] = set()
        self._order = Order(attempt_timeout, trace)
        self._incoming = Cutter()
        # Heartbeats that the client was asked for, and has filed once it comes back for more.
        self._asked: deque[bytes] = deque()
        self._owed: deque[bytes] = deque()

    def connecting(self, label: str) -> None:
        """The client opens a connection."""
        if open_ones := [end.label for end in self.ends if not end.is_closed]:
            self._trace.problem(f"{label} is opened while {', '.join(open_ones)} is not closed yet")
        self._incoming = Cutter()
        self._asked.clear()
        self._owed.clear()

    def receives(self, label: str, chunk: bytes) -> None:
        """The client takes what has come."""
        frames = self._incoming.feed(chunk)
        for frame in frames:
            if frame.command == Command.HEARTBEAT_REQUEST:
                self._asked.append(frame.correlation)
            elif frame.command in (Command.NOT_HANDLED, Command.WRITE_EVENTS_COMPLETED):
                self._order.answered(frame.correlation)

    def asks_for_more(self, label: str) -> None:
        """All that the client took so far is filed."""
        self._owed += self._asked
        self._asked.clear()
        self.look()

    def sends(self, label: str, frames: Sequence[Frame]) -> None:
        """The client hands frames to its socket."""
        for frame in frames:
            self._trace.note(f"{label} →", frame)
            self._check_id(frame)
            if frame.command in (Command.WRITE_EVENTS, Command.TRANSACTION_WRITE):
                self._check_caller(label, frame)
            elif frame.command in _SAID:
                message = frame.message
                assert isinstance(
                    message, schema.PersistentSubscriptionAckEvents | schema.PersistentSubscriptionNakEvents
                )
                self.said.update(message.processed_event_ids)
        # What a session has to send when it has just ended is nothing.
        if frames:
            self._check_lanes(label, frames)
            self._check_heartbeats(label, frames)

    def arrives(self, label: str, frame: Frame) -> None:
        """The node gets what was sent, perhaps long after the client has closed that connection."""
        if frame.command == Command.WRITE_EVENTS:
            message = frame.message
            assert isinstance(message, schema.WriteEvents)
            self._ledger.arrived([event.event_id for event in message.events], int(label.removeprefix(self.client)))

    def _check_caller(self, label: str, frame: Frame) -> None:
        message = frame.message
        assert isinstance(message, schema.WriteEvents | schema.TransactionWrite)
        calls = [self._ledger.waiting_for(event.event_id) for event in message.events]
        if None in calls:
            ids = ", ".join(event.event_id.hex()[:8] for event in message.events)
            self._trace.problem(f"sent for a caller who has gone: events {ids}")
        elif calls and isinstance(message, schema.WriteEvents) and message.expected_version >= 0:
            self._order.sends(label, frame.correlation, calls[0])

    def _check_id(self, frame: Frame) -> None:
        if frame.command in _ANSWERS:
            return
        if frame.correlation == NO_CORRELATION:
            self._trace.problem(f"{command_name(frame.command)} is sent under no id")
        elif frame.correlation in self._used:
            self._trace.problem(f"{command_name(frame.command)} is sent under an id that was used before")
        self._used.add(frame.correlation)

    def _check_lanes(self, label: str, frames: Sequence[Frame]) -> None:
        urgent = [frame.command in _URGENT for frame in frames]
        if urgent != sorted(urgent, reverse=True):
            self._trace.problem(f"{label} sends what is urgent after requests")

    def _check_heartbeats(self, label: str, frames: Sequence[Frame]) -> None:
        answered = [frame.correlation for frame in frames if frame.command == Command.HEARTBEAT_RESPONSE]
        while self._owed:
            if self._owed.popleft() not in answered:
                self._trace.problem(f"{label} sends requests before its answer to a heartbeat")


class Order:
    """In which order one client sends appends that a number protects, to each stream: those it may simply send again.

    Appends to other streams may wait meanwhile until it is known what became of what was sent before them.
    """

    def __init__(self, attempt_timeout: float, trace: Trace) -> None:
        self._attempt_timeout = attempt_timeout
        self._trace = trace
        # Of each call: which of all sendings was its first.
        self._first: dict[int, int] = {}
        # Of each that was sent and not answered: which of all sendings was its last, and when it was.
        self._sent: dict[int, tuple[int, float]] = {}
        self._by_correlation: dict[bytes, int] = {}
        self._count = 0
        self._label = ""
        # How many sendings there had been when this connection began, and by stream which call it repeated last, by
        # its first sending; what was sent for the first time is behind all of them.
        self._began = 0
        self._repeated: dict[str, float] = {}

    def sends(self, label: str, correlation: bytes, call: Call) -> None:
        """The client sends the append of this call."""
        if label != self._label:
            self._label, self._began, self._repeated = label, self._count, {}
        before, sent_at = self._sent.get(call.number, (inf, inf))
        rank = self._first.get(call.number, inf)
        # What was not answered in time, or by a node that was not ready, is sent again whatever becomes of the
        # connection: that is no matter of order.
        if rank == inf or (before <= self._began and trio.current_time() < sent_at + self._attempt_timeout):
            if rank < self._repeated.get(call.stream, 0):
                self._trace.problem(f"{label} sends call {call.number} after others that came later")
            self._repeated[call.stream] = rank
        self._count += 1
        self._first.setdefault(call.number, self._count)
        self._sent[call.number] = self._count, trio.current_time()
        self._by_correlation[correlation] = call.number

    def answered(self, correlation: bytes) -> None:
        """Something came back to it, so the next session owes it nothing."""
        self._sent.pop(self._by_correlation.get(correlation, 0), None)
