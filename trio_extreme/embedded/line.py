"""What all packages of a node go through: nothing, until a fault is put there (see `faults`).

Rule 1: without a fault it costs a connection one look at `stopped` for what comes and one at `busy` for what goes.
Rule 2: what a fault keeps back keeps its order: nothing overtakes what is delayed, and under the correlation id of an
answer that is late everything waits with it, for no server sends an event before its subscription's confirmation.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import trio

from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import Frame, FrameBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from trio_extreme.embedded.connection import Connection
    from trio_extreme.embedded.timetable import Timetable

Treatment: TypeAlias = "Callable[[Connection, bytes], None]"
"""What is done with a package in place of sending it; it may call `Line.send`."""
_PUSHED = (
    Command.STREAM_EVENT_APPEARED,
    Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED,
    Command.CHECKPOINT_REACHED,
)
AnswerTreatment: TypeAlias = "Callable[[Connection, Frame, bytes], None]"
"""What is done with the answer to a request; it may call `Line.pass_on`."""


@dataclass
class Rule:
    """What becomes of the next answers to some requests."""

    commands: Container[int]
    """Those of the requests."""
    left: int
    """How many answers it is still for."""
    treat: AnswerTreatment


class Line:
    """What lies between a node and its clients. One for each node; all its connections share it."""

    def __init__(self, timetable: Timetable) -> None:
        #: Whether the node's process is stopped.
        self.stopped = False
        #: Whether packages must go through `take`.
        self.busy = False
        #: Seconds that each package takes longer than it would.
        self.delay = 0.0
        self._timetable = timetable
        self._going_on = trio.lowlevel.ParkingLot()
        self._rules: list[Rule] = []
        self._late: dict[tuple[Connection, bytes], list[bytes]] = {}
        self._treat_each: dict[Connection, Treatment] = {}
        self._treat_next: Treatment | None = None
        self._travelling: deque[tuple[float, Connection, bytes]] = deque()

    def __repr__(self) -> str:
        return f"<Line{' stopped' if self.stopped else ''}: {len(self._travelling)} packages on their way>"

    # The process

    def stop(self) -> None:
        """Stop the process: whoever calls `go_on` waits."""
        self.stopped = True

    def resume(self) -> None:
        """Let it go on where it was."""
        self.stopped = False
        self._going_on.unpark_all()

    async def go_on(self) -> None:
        """Let others have their turn, and wait as long as the process is stopped."""
        await trio.lowlevel.checkpoint()
        while self.stopped:
            await self._going_on.park()

    # What faults ask for

    def add(self, rule: Rule) -> None:
        """Use this rule, after those that are there."""
        self._rules.append(rule)
        self._look()

    def treat_each(self, connections: Iterable[Connection], treat: Treatment) -> None:
        """Treat so the next package to each of these connections."""
        self._treat_each.update(dict.fromkeys(connections, treat))
        self._look()

    def treat_next(self, treat: Treatment) -> None:
        """Treat so the next package, whoever it is for."""
        self._treat_next = treat
        self._look()

    def set_delay(self, seconds: float) -> None:
        """Delay packages from now on; 0 lets go of those that are on their way."""
        self.delay = seconds
        self._arrive()
        self._look()

    def clear(self) -> None:
        """Let go of what is late, and treat no package any more."""
        self._rules.clear()
        self._treat_each.clear()
        self._treat_next = None
        for connection, correlation in list(self._late):
            self._release(connection, correlation)
        self._look()

    def forget(self, connection: Connection) -> None:
        """The connection has ended."""
        self._treat_each.pop(connection, None)
        for key in [key for key in self._late if key[0] is connection]:
            del self._late[key]
        self._look()

    def _look(self) -> None:
        """Whether there is anything to do."""
        self.busy = bool(self._rules or self._late or self._treat_each or self._treat_next or self.delay)

    # What becomes of a package

    def take(self, connection: Connection, frame: bytes) -> None:
        """One package that the node sends, while there is a fault."""
        command, correlation = _read_head(frame)
        late = self._late.get((connection, correlation))
        if late is not None:
            late.append(frame)
        elif connection.asked is None or not _is_answer(command, correlation, connection.asked):
            self.pass_on(connection, frame)
        else:
            self._answer(connection, connection.asked, frame)
        self._look()

    def _answer(self, connection: Connection, request: Frame, answer: bytes) -> None:
        for rule in self._rules:
            if request[0] in rule.commands:
                rule.left -= 1
                if not rule.left:
                    self._rules.remove(rule)
                rule.treat(connection, request, answer)
                return
        self.pass_on(connection, answer)

    def keep(self, seconds: float, connection: Connection, request: Frame, answer: bytes) -> None:
        """Send an answer later, and let others pass it."""
        _, _, correlation, _ = request
        self._late[connection, correlation] = [answer]
        self._timetable.after(seconds, partial(self._release, connection, correlation))

    def _release(self, connection: Connection, correlation: bytes) -> None:
        for frame in self._late.pop((connection, correlation), ()):
            self.pass_on(connection, frame)
        self._look()

    def pass_on(self, connection: Connection, frame: bytes) -> None:
        """Send it, or what it is in for."""
        if connection.hanging_up:
            return
        treat = self._treat_each.pop(connection, None)
        if treat is None:
            treat, self._treat_next = self._treat_next, None
        (treat or self.send)(connection, frame)

    def send(self, connection: Connection, frame: bytes) -> None:
        """Send it, later where there is a delay."""
        if self.delay:
            self._travelling.append((trio.current_time() + self.delay, connection, frame))
            connection.on_its_way += 1
            self._timetable.after(self.delay, self._arrive)
        else:
            connection.queue(frame)

    def _arrive(self) -> None:
        """Send what was delayed for long enough: all of it where there is no delay any more."""
        now = trio.current_time() if self.delay else float("inf")
        while self._travelling and self._travelling[0][0] <= now:
            _, connection, frame = self._travelling.popleft()
            connection.on_its_way -= 1
            connection.queue(frame)


def _is_answer(command: int, correlation: bytes, request: Frame) -> bool:
    """Whether what goes out while a request is handled is its answer: events may be pushed meanwhile."""
    return correlation == request[2] and command not in _PUSHED


def _read_head(frame: bytes) -> tuple[int, bytes]:
    """Command and correlation id."""
    # The limit is on what servers take, not on what they send.
    ((command, _, correlation, _),) = FrameBuffer(len(frame)).feed(frame)
    return command, correlation
