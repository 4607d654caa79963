"""One client's side of the network: what it hands over and takes, and the rules that can be seen there.

Rule 1: the answer to a heartbeat leaves with the next send, before whatever else waits.
Rule 2: nothing is sent for a caller who has gone.
Rule 3: an attempt has a correlation id of its own, and one at all; only an unsubscribe repeats one.
Rule 4: a connection is closed before the next one is opened.
Rule 5: what waits for consumers and for the socket stays within the bounds, looked at after each chunk.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tests.simulation.trace import Cutter
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, command_name
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.ledger import Ledger
    from tests.simulation.network import ClientEnd
    from tests.simulation.trace import Frame, Trace

_ANSWERS = (Command.HEARTBEAT_RESPONSE, Command.UNSUBSCRIBE_FROM_STREAM)
"""Commands under an id that was used before."""


class Wire:
    """What one client does on all its connections, one after another."""

    def __init__(self, client: str, ledger: Ledger, trace: Trace) -> None:
        self.client = client
        self.ends: list[ClientEnd] = []
        #: Looks at the client's buffers; set once there is a connection to look at.
        self.look: Callable[[], None] = lambda: None
        self._ledger = ledger
        self._trace = trace
        self._used: set[bytes] = set()
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
        self._asked.extend(frame.correlation for frame in frames if frame.command == Command.HEARTBEAT_REQUEST)

    def asks_for_more(self, label: str) -> None:
        """All that the client took so far is filed."""
        self._owed += self._asked
        self._asked.clear()
        self.look()

    def sends(self, label: str, frames: Sequence[Frame]) -> None:
        """The client hands frames to its socket."""
        for frame in frames:
            self._trace.note(f"{label} →", frame)
            self._check_caller(frame)
            self._check_id(frame)
        self._check_heartbeats(label, frames)

    def _check_caller(self, frame: Frame) -> None:
        if frame.command != Command.WRITE_EVENTS:
            return
        message = frame.message
        assert isinstance(message, schema.WriteEvents)
        if gone := [event.event_id.hex()[:8] for event in message.events if not self._ledger.is_awaited(event.event_id)]:
            self._trace.problem(f"sent for a caller who has gone: events {', '.join(gone)}")

    def _check_id(self, frame: Frame) -> None:
        if frame.command in _ANSWERS:
            return
        if frame.correlation == NO_CORRELATION:
            self._trace.problem(f"{command_name(frame.command)} is sent under no id")
        elif frame.correlation in self._used:
            self._trace.problem(f"{command_name(frame.command)} is sent under an id that was used before")
        self._used.add(frame.correlation)

    def _check_heartbeats(self, label: str, frames: Sequence[Frame]) -> None:
        answered = [frame.correlation for frame in frames if frame.command == Command.HEARTBEAT_RESPONSE]
        while self._owed:
            if self._owed.popleft() not in answered:
                self._trace.problem(f"{label} sends requests before its answer to a heartbeat")
