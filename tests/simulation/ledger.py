"""What callers asked for and were told, to be held against what the node holds.

Everything that a workload appends or deletes goes through here, so that nothing is written that the ledger does not
know of.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

from trio_extreme import DeleteResult, OutcomeUnknown, TrioExtremeError, WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.trace import Trace
    from trio_extreme import NewEvent

Told: TypeAlias = WriteResult | DeleteResult | BaseException | None
"""What a call ended with; None while it lasts."""

Verdict: TypeAlias = Literal["done", "not done", "unknown"]


@dataclass
class Call:
    """One call that changes something, from its beginning to its end."""

    number: int
    client: str
    verb: str
    stream: str
    expected: int
    #: Of the events to append.
    ids: tuple[bytes, ...] = ()
    began: float = 0.0
    ended: float = inf
    told: Told = None
    #: Whether the server was ever asked to make it so: nothing of a transaction is to be there before its commit.
    is_asked: bool = True

    @property
    def verdict(self) -> Verdict:
        """What the caller may rely on. Whoever was cancelled knows as little as who was told that nobody knows."""
        if isinstance(self.told, WriteResult | DeleteResult):
            return "done"
        if not self.is_asked:
            return "not done"
        if isinstance(self.told, TrioExtremeError) and not isinstance(self.told, OutcomeUnknown):
            return "not done"
        return "unknown"

    def __str__(self) -> str:
        events = ", ".join(event_id.hex()[:8] for event_id in self.ids)
        return f"call {self.number}: {self.verb} {self.stream!r} expecting {self.expected} [{events}]"


class Ledger:
    """All calls of a run, in the order in which they began."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.calls: list[Call] = []
        # Who waits for this event to be written. The same event is never appended by two at once.
        self._waiting: dict[bytes, Call] = {}
        # Of each event the numbers of the connections over which it came to the node, in this order.
        self._arrived: dict[bytes, list[int]] = {}

    def begin(self, client: str, verb: str, stream: str, expected: int, events: Sequence[NewEvent] = ()) -> Call:
        """A call begins."""
        ids = tuple(event.id_bytes for event in events)
        call = Call(len(self.calls) + 1, client, verb, stream, expected, ids, trio.current_time())
        self.calls.append(call)
        self._waiting |= dict.fromkeys(ids, call)
        self._trace.note(client, str(call))
        return call

    def leave_out(self, call: Call, events: Sequence[NewEvent]) -> None:
        """These are known not to be there, and the call goes on without them."""
        rest = self.begin(call.client, call.verb, call.stream, call.expected, events)
        rest.is_asked = False
        call.ids = tuple(event_id for event_id in call.ids if event_id not in rest.ids)
        self.end(rest, None)

    def end(self, call: Call, told: Told) -> None:
        """It ended, one way or another."""
        call.told, call.ended = told, trio.current_time()
        for event_id in call.ids:
            del self._waiting[event_id]
        self._trace.note(call.client, f"call {call.number}: {call.verdict}: {in_words(told)}")

    def waiting_for(self, event_id: bytes) -> Call | None:
        """The call that waits for this event to be written."""
        return self._waiting.get(event_id)

    def arrived(self, event_ids: Sequence[bytes], connection: int) -> None:
        """The node was asked to append these."""
        for event_id in event_ids:
            self._arrived.setdefault(event_id, []).append(connection)

    def was_overtaken(self, event_id: bytes) -> bool:
        """Whether it came over a connection after it had come over a later one."""
        arrived = self._arrived.get(event_id, [])
        return arrived != sorted(arrived)

    def appends(self) -> Iterator[Call]:
        """The calls that append."""
        return (call for call in self.calls if call.verb == "append")

    def deletes(self, stream: str) -> list[Call]:
        """The soft deletes of a stream."""
        return [call for call in self.calls if call.verb == "delete" and call.stream == stream]


def in_words(told: object) -> str:
    """A result or an error in a line; what trio adds to its own errors differs between two runs."""
    if isinstance(told, TrioExtremeError):
        return f"{type(told).__name__}: {told}"
    return type(told).__name__ if isinstance(told, BaseException) else str(told)
