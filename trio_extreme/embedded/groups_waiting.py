"""What of a group waits for a consumer, and what is with one (docs/protocol.md, 3.10). Pure."""

from __future__ import annotations

from bisect import insort
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count, islice
from math import inf
from typing import TYPE_CHECKING

from trio_extreme.embedded.groups_consumers import Pushed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from trio_extreme.embedded.groups_consumers import Message


_FORGOTTEN = 1000
"""Deadlines of what was acked that may lie about."""


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
        """The lowest number among them. New ones are in order, whoever they wait for."""
        return lowest((*self._again, *islice(self._new, 1)))

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


def lowest(messages: Iterable[Message]) -> int | None:
    """The lowest number among these, those left aside that were parked: their numbers are no places in the stream."""
    return min((message.number for message in messages if not message.is_replayed), default=None)


class Outstanding:
    """What is with consumers, by the ids to ack, and until when it has to be acked.

    Of two events with the same id the second is not known here. Some servers, `keeps_deadlines`, forget no deadline: an
    event that was delivered again before its time is taken for late when that has come.
    """

    def __init__(self, *, keeps_deadlines: bool) -> None:
        self._keeps_deadlines = keeps_deadlines
        self._messages: dict[bytes, tuple[Message, int]] = {}
        self._deadlines: list[tuple[float, int, bytes]] = []
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
        if deadline < inf:
            heappush(self._deadlines, (deadline, turn, message.id))
            if len(self._deadlines) > _FORGOTTEN + 2 * len(self._messages) and not self._keeps_deadlines:
                self._forget_deadlines()

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

    def _forget_deadlines(self) -> None:
        """Of all that was acked in time."""
        self._deadlines = [
            (deadline, turn, event_id)
            for deadline, turn, event_id in self._deadlines
            if self._messages.get(event_id, (None, -1))[1] == turn
        ]
        heapify(self._deadlines)

    def lowest(self) -> int | None:
        """The lowest number among them."""
        return lowest(message for message, _ in self._messages.values())
