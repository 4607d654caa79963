"""What of a group waits for a consumer, and what is with one (docs/protocol.md, 3.10). Pure."""

from __future__ import annotations

from bisect import insort
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count, islice
from math import inf
from typing import TYPE_CHECKING, TypeVar

from trio_extreme.embedded.groups_consumers import Pushed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio_extreme.embedded.groups_consumers import Message


N = TypeVar("N", int, float)

_FORGOTTEN = 1000
"""Numbers and deadlines that may lie about of what nobody has any more."""


class Backlog:
    """Events that wait: first those that are to be delivered again, by their numbers, then new ones.

    Parked events that are replayed come after those that were never parked.
    """

    def __init__(self) -> None:
        self._again: deque[Message] = deque()
        self._new: deque[Message] = deque()

    def __repr__(self) -> str:
        return f"<Backlog: {len(self._again)} again, {len(self._new)} new>"

    def __len__(self) -> int:
        return len(self._again) + len(self._new)

    @property
    def new(self) -> int:
        """How many new ones there are."""
        return len(self._new)

    @property
    def again(self) -> int:
        """How many are to be delivered again."""
        return len(self._again)

    def add(self, message: Message) -> None:
        """A new one."""
        self._new.append(message)

    def add_again(self, message: Message) -> None:
        """One that was delivered before, or parked."""
        insort(self._again, message, key=_turn)

    def lowest(self) -> int | None:
        """The lowest number among them, parked ones left aside: their numbers are no places in the stream.

        Both are in order, whoever they wait for.
        """
        first = [*islice(self._again, 1), *islice(self._new, 1)]
        return min((message.number for message in first if not message.is_replayed), default=None)

    def hand_out(self, push: Callable[[Message], Pushed]) -> None:
        """Give away what consumers take, in order; what has to wait for one of them lets others pass."""
        if _hand_out(self._again, push):
            _hand_out(self._new, push)


def _turn(message: Message) -> tuple[bool, int]:
    return message.is_replayed, message.number


def _hand_out(messages: deque[Message], push: Callable[[Message], Pushed]) -> bool:
    """Whether all were offered: nobody has room otherwise."""
    waiting: list[Message] = []
    while messages:
        pushed = push(messages[0])
        if pushed is Pushed.FULL:
            break
        message = messages.popleft()
        if pushed is Pushed.WAITS:
            waiting.append(message)
    is_through = not messages
    messages.extendleft(reversed(waiting))
    return is_through


class Outstanding:
    """What is with consumers, by the ids to ack, and until when it has to be acked.

    Of two events with the same id the second is not known here. Some servers, `keeps_deadlines`, forget no deadline: an
    event that was delivered again before its time is taken for late when that has come.
    """

    def __init__(self, *, keeps_deadlines: bool) -> None:
        self._keeps_deadlines = keeps_deadlines
        self._messages: dict[bytes, tuple[Message, int]] = {}
        self._deadlines: list[tuple[float, int, bytes]] = []
        # By their numbers in the stream; what nobody has any more may still be there.
        self._numbers: list[tuple[int, int, bytes]] = []
        self._turns = count()

    def __repr__(self) -> str:
        return f"<Outstanding: {len(self._messages)} events>"

    def __len__(self) -> int:
        return len(self._messages)

    def __contains__(self, event_id: bytes) -> bool:
        return event_id in self._messages

    def get(self, event_id: bytes) -> Message | None:
        """What is with a consumer under this id."""
        found = self._messages.get(event_id)
        return None if found is None else found[0]

    def start(self, message: Message, deadline: float) -> None:
        """A consumer has this now."""
        if message.id in self._messages:
            return
        turn = next(self._turns)
        self._messages[message.id] = message, turn
        if not message.is_replayed:
            heappush(self._numbers, (message.number, turn, message.id))
        if deadline < inf:
            heappush(self._deadlines, (deadline, turn, message.id))
        most = _FORGOTTEN + 2 * len(self._messages)
        if len(self._numbers) > most:
            self._numbers = self._left(self._numbers)
        if len(self._deadlines) > most and not self._keeps_deadlines:
            self._deadlines = self._left(self._deadlines)

    def remove(self, event_id: bytes) -> None:
        """Nobody has it any more."""
        self._messages.pop(event_id, None)

    def take_late(self, now: float) -> Iterator[Message]:
        """Remove what had to be acked by now, in the order in which it had."""
        while self._deadlines and self._deadlines[0][0] <= now:
            _, turn, event_id = heappop(self._deadlines)
            message, started = self._messages.get(event_id, (None, -1))
            if message is not None and (started == turn or self._keeps_deadlines):
                del self._messages[event_id]
                yield message

    def _left(self, entries: list[tuple[N, int, bytes]]) -> list[tuple[N, int, bytes]]:
        """Those of what somebody still has."""
        left = [entry for entry in entries if self._is_out(entry[1], entry[2])]
        heapify(left)
        return left

    def lowest(self) -> int | None:
        """The lowest number among them, those left aside that were parked."""
        while self._numbers and not self._is_out(*self._numbers[0][1:]):
            heappop(self._numbers)
        return self._numbers[0][0] if self._numbers else None

    def _is_out(self, turn: int, event_id: bytes) -> bool:
        """Whether somebody has it since this turn."""
        return self._messages.get(event_id, (None, -1))[1] == turn
