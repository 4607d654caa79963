"""What can go wrong with a node, for tests: `node.faults`. docs/faults.md says what a client sees of each.

    async with open_node(port=None) as node, open_connection(node.settings, connect=node.connect) as conn:
        with node.faults.pause(): ...
        node.faults.drop_reply(Command.WRITE_EVENTS, kill=True)
        await conn.append(...)

Nothing here waits, but `play`, and all times are Trio's: under a mock clock and a seed, the same happens each time.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from functools import partial
from math import isfinite
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_extreme.embedded.line import AnswerTreatment, Line, Rule
from trio_extreme.errors import InvalidArgument
from trio_extreme.wire.commands import Command, command_name

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from typing import Self

    from trio_extreme.embedded.connection import Connection
    from trio_extreme.embedded.service import Service
    from trio_extreme.embedded.timetable import Timetable
    from trio_extreme.embedded.visits import Visits
    from trio_extreme.wire.framing import Frame

logger = logging.getLogger("trio_extreme.embedded")

_SUBSCRIBING = (
    Command.SUBSCRIBE_TO_STREAM,
    Command.FILTERED_SUBSCRIBE_TO_STREAM,
    Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION,
)


class Happening(NamedTuple):
    """One entry of `Faults.history`."""

    time: float
    #: The method of `Faults`.
    name: str
    #: With what it began; "over" where it ended; "hit: " and whom, where a package was what it waited for.
    details: str


class Lasting(AbstractContextManager["Lasting"]):
    """A fault that lasts until it is ended: by its own time, by the method for it, or with the block it is held in."""

    def __init__(self, timetable: Timetable, note: Callable[[str], None], end: Callable[[], None]) -> None:
        self.active = False
        self._timetable = timetable
        self._note = note
        self._end = end
        self._end_time = float("inf")

    def __repr__(self) -> str:
        return f"<Lasting, {'active' if self.active else 'over'}>"

    def begin(self, details: str, seconds: float | None) -> Self:
        """Begin, or begin again with another end."""
        self.active = True
        self._end_time = float("inf") if seconds is None else trio.current_time() + seconds
        self._note(details + ("" if seconds is None else f" for {seconds:g} s"))
        if seconds is not None:
            self._timetable.after(seconds, self._end_in_time)
        return self

    def end(self) -> None:
        """End it, where it has not ended yet."""
        if self.active:
            self.active = False
            self._note("over")
            self._end()

    def _end_in_time(self) -> None:
        # It may have begun again since.
        if trio.current_time() >= self._end_time:
            self.end()

    def __exit__(self, *_: object) -> None:
        self.end()


class Faults:
    """The faults of one node.

    Those that last take their `seconds`; without, they last until they are ended, and are a context manager that ends
    them. Begun again while it lasts, a fault has the new end.

    Those that wait for answers (`answer_late`, `answer_twice`, `drop_reply`) are for the next `count` answers to
    requests of `command`; without one, to any request that reads, writes or subscribes: pings, heartbeats,
    unsubscribing and what identifies a client only count where they are named. Where several wait for the same answer,
    the first one gets it.
    """

    def __init__(
        self,
        service: Service,
        connections: dict[Connection, None],
        visits: Visits,
        line: Line,
        *,
        timetable: Timetable,
        random: Random,
    ) -> None:
        #: All that was done and all that it hit, oldest first.
        self.history: list[Happening] = []
        #: How often the node was killed or restarted.
        self.deaths = 0
        #: Told when the process has stopped, ended, begun or gone on: what a cluster does then.
        self.watch: Callable[[], None] = lambda: None
        self._service = service
        self._connections = connections
        self._visits = visits
        self._line = line
        self._random = random
        self._timetable = timetable
        self._pause = self._lasting("pause", self._resume)
        self._refusal = self._lasting("refuse")
        self._down = self._lasting("restart", self._come_back)
        self._starting = self._lasting("not_ready", partial(service.set_ready, ready=True))
        self._delay = self._lasting("delay", partial(line.set_delay, 0))

    def __repr__(self) -> str:
        return f"<Faults: {len(self.history)} happened>"

    def _lasting(self, name: str, end: Callable[[], None] = lambda: None) -> Lasting:
        return Lasting(self._timetable, partial(self._note, name), end)

    # Of connections

    def kill_connections(self) -> None:
        """Cut every connection without a word, as a network does that fails. New ones are welcome."""
        self._note("kill_connections", self._everybody())
        self._visits.cut()
        for connection in self._connections:
            connection.cut()

    def half_open(self) -> None:
        """Let every connection die without its client being told: what is sent, either way, goes nowhere.

        New ones are fine. The node forgets these, and nothing brings them back; what a socket still has to deliver,
        it delivers. They are closed when the client closes them, or with the node.
        """
        self._note("half_open", self._everybody())
        for connection in self._connections:
            connection.vanish()
            self._line.forget(connection)
        self._connections.clear()

    def cut_inside_frame(self, where: int | Random | None = None, *, each: bool = True) -> None:
        """Send only the first `where` bytes of the next package to each connection there is, and then cut that one.

        At least one byte is sent and one left out. A `Random` draws how many; without, the node's own does. Not `each`:
        only the next package is cut, whichever connection it is for.
        """
        _check(not isinstance(where, int) or where > 0, f"where: {where} bytes are no part of a frame")
        self._note("cut_inside_frame", f"waits for {self._everybody() if each else 'one package'}")
        treat = partial(self._cut_inside, self._random if where is None else where)
        if each:
            self._line.treat_each(self._connections, treat)
        else:
            self._line.treat_next(treat)

    def _cut_inside(self, where: int | Random, connection: Connection, frame: bytes) -> None:
        most = len(frame) - 1
        size = where.randint(1, most) if isinstance(where, Random) else min(where, most)
        self._note("cut_inside_frame", f"hit: {size} of {len(frame)} bytes to {connection.client!r}")
        self._line.send(connection, frame[:size])
        connection.hang_up()

    def refuse(self, seconds: float | None = None) -> Lasting:
        """Refuse new connections; those that exist live on.

        `node.connect` raises `ConnectionRefusedError`. A socket is accepted and reset at once: closing the port would
        let others have it.
        """
        _check_seconds(seconds)
        return self._refusal.begin("new connections", seconds)

    def accept(self) -> None:
        """End `refuse`."""
        self._refusal.end()

    @property
    def refuses_connections(self) -> bool:
        """Whether new connections are refused at present: by `refuse`, or because the node is down."""
        return self._refusal.active or self._down.active

    # Of the node

    def pause(self, seconds: float | None = None) -> Lasting:
        """Stop the node's process: it reads, answers and sends nothing, heartbeats neither.

        Connections can be made, for that is what a system does for its processes, and wait. When it goes on, it does
        so where it was: with what was sent to it meanwhile.
        """
        _check_seconds(seconds)
        self._line.stop()
        pause = self._pause.begin("the process is stopped", seconds)
        self.watch()
        return pause

    def resume(self) -> None:
        """End `pause`."""
        self._pause.end()

    def _resume(self) -> None:
        self._line.resume()
        self.watch()

    @property
    def is_away(self) -> bool:
        """Whether the process is stopped, or there is none."""
        return self._pause.active or self._down.active

    def not_ready(self, seconds: float | None = None) -> Lasting:
        """Answer NotHandled with the reason NotReady whatever reads, writes or subscribes, as a node that starts.

        Pings, heartbeats and subscriptions that exist go on.
        """
        _check_seconds(seconds)
        self._service.set_ready(ready=False)
        return self._starting.begin("requests are refused", seconds)

    def ready(self) -> None:
        """End `not_ready`."""
        self._starting.end()

    def restart(self, down: float = 0.0, *, graceful: bool = False) -> None:
        """Stop the node and start it again: connections end, and new ones are refused for `down` seconds.

        What was written is kept, and which event ids were written of late is forgotten: whoever appends again what was
        written before, with ANY, writes it twice. Gracefully, subscriptions are told that they end and what was
        answered is still sent; else connections are cut, and a node with a file opens that again: what was not yet
        committed, and so not answered, is lost. A node that was paused runs again.
        """
        _check_seconds(down)
        self._note("restart", f"{'graceful' if graceful else 'killed'}, {self._everybody()}")
        if down:
            self._down.begin("down", down)
        self._end(graceful=graceful)

    def kill(self, seconds: float | None = None) -> Lasting:
        """Kill the node: as `restart`, but it is started again by `start`, or after so many seconds."""
        _check_seconds(seconds)
        self._note("kill", self._everybody())
        down = self._down.begin("down", seconds)
        self._end(graceful=False)
        return down

    def start(self) -> None:
        """End `kill`, or the time that a `restart` takes."""
        self._down.end()

    def _come_back(self) -> None:
        self.watch()

    def _end(self, *, graceful: bool) -> None:
        self.deaths += 1
        self._visits.cut()
        for connection in self._connections:
            if graceful:
                connection.shut_down()
            else:
                connection.cut()
        self._service.restart(crashed=not graceful)
        self._pause.end()
        self.watch()

    # Of packages

    def delay(self, seconds: float, *, lasting: float | None = None) -> Lasting:
        """Let every package of the node leave that much later, in the same order; 0 ends it.

        What is on its way when it ends leaves at once. `lasting`: the seconds after which it ends by itself.
        """
        _check_seconds(seconds)
        _check_seconds(lasting)
        if not seconds:
            self._delay.end()
            return self._delay
        self._line.set_delay(seconds)
        return self._delay.begin(f"{seconds:g} s", lasting)

    def answer_late(self, seconds: float, command: Command | None = None, *, count: int = 1) -> None:
        """Send the next answers that much later, and let others pass them.

        Requests are done when they come. What else is sent under the same correlation id waits with the answer: no
        server pushes an event before it confirmed the subscription.
        """
        _check_seconds(seconds)
        self._add("answer_late", f", {seconds:g} s late", command, count, partial(self._line.keep, seconds))

    def answer_twice(self, command: Command | None = None, *, count: int = 1) -> None:
        """Send the next answers twice. What is pushed to subscriptions is no answer."""
        self._add("answer_twice", "", command, count, self._send_twice)

    def _send_twice(self, connection: Connection, _: Frame, answer: bytes) -> None:
        self._line.pass_on(connection, answer)
        self._line.pass_on(connection, answer)

    def drop_reply(self, command: Command | None = None, *, count: int = 1, kill: bool = False) -> None:
        """Do what the next requests ask, and never answer them; `kill` cuts the connection instead of the answer.

        Who has sent a write then cannot know whether it was written. A subscription of which this is the confirmation
        is none: no server pushes events of one that it has not confirmed.
        """
        treat = _cut if kill else self._drop
        self._add("drop_reply", ", and cuts the connection" if kill else "", command, count, treat)

    def _drop(self, connection: Connection, request: Frame, _: bytes) -> None:
        command, _flags, correlation, _payload = request
        if command in _SUBSCRIBING:
            self._service.remove(connection.client, correlation)

    def _add(self, name: str, details: str, command: Command | None, count: int, treat: AnswerTreatment) -> None:
        _check(count > 0, f"count: {count} answers are none")
        is_answered = command is None or command in self._service.answered
        _check(is_answered, f"command: {command!r} is no request this node answers")
        commands: Container[int] = self._service.requests if command is None else (command,)
        self._note(name, f"waits for {count} × {command.name if command else 'any request'}{details}")

        def hit(connection: Connection, request: Frame, answer: bytes) -> None:
            self._note(name, f"hit: {command_name(request[0])} of {connection.client!r}")
            treat(connection, request, answer)

        self._line.add(Rule(commands, count, hit))

    # All of them

    def clear(self) -> None:
        """End every fault that lasts, and those that wait for a package. What is late leaves at once."""
        for fault in (self._pause, self._refusal, self._down, self._delay, self._starting):
            fault.end()
        self._line.clear()

    async def play(
        self,
        seed: int | Random,
        *,
        seconds: float,
        rate: float = 1.0,
        longest: float = 5.0,
        names: Iterable[str] | None = None,
    ) -> None:
        """Let faults happen for a while, drawn from a seed: when, which, and how long each lasts.

        On average there are `rate` a second, and none lasts longer than `longest`; `names` are those to draw from, all
        of `PLAYED` without. When it returns, or is cancelled, all faults are over.
        """
        random = seed if isinstance(seed, Random) else Random(seed)  # noqa: S311 - chance that can be repeated
        known = _check_names(PLAYED if names is None else names)
        _check(seconds >= 0, f"seconds: {seconds!r} is no time that faults can be played for")
        _check(rate > 0, f"rate: {rate!r} faults a second are none")
        _check_seconds(longest)
        try:
            with trio.move_on_after(seconds):
                while True:
                    await trio.sleep(random.expovariate(rate))
                    PLAYED[random.choice(known)](self, random, random.uniform(0, longest))
        finally:
            self.clear()

    def _everybody(self) -> str:
        number = len(self._connections)
        return f"{number} connection{'' if number == 1 else 's'}"

    def _note(self, name: str, details: str) -> None:
        happening = Happening(trio.current_time(), name, details)
        self.history.append(happening)
        logger.info("fault at %.3f: %s, %s", *happening)


PLAYED: Mapping[str, Callable[[Faults, Random, float], object]] = {
    "kill_connections": lambda faults, _, __: faults.kill_connections(),
    "half_open": lambda faults, _, __: faults.half_open(),
    "cut_inside_frame": lambda faults, random, _: faults.cut_inside_frame(random.randint(1, 100)),
    "refuse": lambda faults, _, seconds: faults.refuse(seconds),
    "pause": lambda faults, _, seconds: faults.pause(seconds),
    "not_ready": lambda faults, _, seconds: faults.not_ready(seconds),
    "restart": lambda faults, random, seconds: faults.restart(seconds, graceful=random.choice((True, False))),
    "delay": lambda faults, random, seconds: faults.delay(random.uniform(0.001, 0.5), lasting=seconds),
    "answer_late": lambda faults, random, seconds: faults.answer_late(seconds, count=random.randint(1, 3)),
    "answer_twice": lambda faults, random, _: faults.answer_twice(count=random.randint(1, 3)),
    "drop_reply": lambda faults, random, _: faults.drop_reply(kill=random.choice((True, False))),
}
"""What `Faults.play` draws from: a fault with chance for what it needs to know, and seconds for how long it lasts."""


def _cut(connection: Connection, _: Frame, __: bytes) -> None:
    connection.cut()


def _check_names(names: Iterable[str]) -> Sequence[str]:
    known = tuple(names)
    _check(bool(known), "names: there are none to draw from")
    for name in known:
        _check(name in PLAYED, f"names: {name!r} is none of {', '.join(PLAYED)}")
    return known


def _check_seconds(seconds: float | None) -> None:
    text = f"seconds: {seconds!r} is no time that can be waited for"
    _check(seconds is None or (isfinite(seconds) and seconds >= 0), text)


def _check(condition: bool, text: str) -> None:  # noqa: FBT001 - as `assert` has it
    if not condition:
        raise InvalidArgument(text)
