"""Days of listeners: their processes die between handler and checkpoint, while the node and its connections break.

A process that dies runs no last words: what it would still store is thrown away, and the next one begins with what was
stored before. Then every event was handled at least once, in a life in order, of each key where several are handled at
a time; and in SQLite exactly once.
"""

from __future__ import annotations

import sqlite3
import traceback
from collections import defaultdict
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from trio.testing import MockClock

from tests.simulation.determinism import Livelock, chance, run_deterministically
from tests.simulation.trace import Trace, log_into
from trio_extreme import (
    Checkpoints,
    ConnectionLost,
    Filter,
    Listener,
    NewEvent,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    SqliteCheckpoints,
)
from trio_extreme.checkpoints import run_inline
from trio_extreme.client import serve
from trio_extreme.embedded import VERSIONS, open_node
from trio_extreme.engine import Engine
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from trio_extreme import Connection, Event, SqliteTransaction

EVENTS, STORM, PATIENCE, TOO_LONG = 150, 12.0, 60.0, 300.0
"""How many events there are, in so many seconds of bad luck; until all are handled; after which a run hangs."""
JOBS, KEYS = "jobs", 3
_EPOCH = 1_700_000_000
_SETUP = "CREATE TABLE IF NOT EXISTS done (number INTEGER)"


class ListeningOutcome(NamedTuple):
    """How a day went."""

    seed: int
    problems: list[str]
    trace: Trace
    lives: int
    #: How many events were handled more than once, by those who may.
    again: int

    @property
    def kind(self) -> str:
        """What the command line calls days like this one."""
        return "listen"


def simulate_listeners(seed: int) -> ListeningOutcome:
    """Run the day of this seed."""
    with TemporaryDirectory() as folder:
        day = _Day(seed, Path(folder) / "model.db")
        with log_into(day.trace):
            try:
                run_deterministically(seed, day.clock, day.run)
            except Exception:  # noqa: BLE001 - whatever it is, it is this seed's
                day.trace.problems.append(f"the run ended with\n{traceback.format_exc()}")
        again = sum(len(part.numbers()) - len(set(part.numbers())) for part in day.parts)
    return ListeningOutcome(seed, day.trace.problems, day.trace, sum(part.lives for part in day.parts), again)


class Mortal(Checkpoints):
    """What a process keeps on a disk; when it has died nothing more is."""

    def __init__(self, disk: dict[str, str]) -> None:
        self._disk = disk
        self.is_alive = True

    async def load(self, name: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return self._disk.get(name)

    async def store(self, name: str, checkpoint: str) -> None:
        await trio.sleep(0.01)
        if self.is_alive:
            self._disk[name] = checkpoint


class _Part:
    """One listener, life after life, and what its handler saw."""

    #: Whether an event may be handled again after a death.
    may_repeat = True

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.options = {"name": name} | options
        self.disk: dict[str, str] = {}
        self.lives = 0
        #: Life, key and number of each event that was handled, in this order.
        self.handled: list[tuple[int, int, int]] = []

    async def live(self, conn: Connection, random: Random, trace: Trace) -> None:
        """One process after another, each of which dies."""
        while True:
            self.lives += 1
            store = Mortal(self.disk)
            listener = self.listener(conn, store, random)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.run)
                await trio.sleep(random.uniform(0.2, 4))
                trace.note(self.name, f"dies at {listener.status.place}")
                store.is_alive = False
                nursery.cancel_scope.cancel()

    def listener(self, conn: Connection, store: Mortal, random: Random) -> Listener:
        async def handle(event: Event) -> None:
            await trio.sleep(random.choice((0, 0, 0.01, 0.1)))
            self.take(event)

        return Listener(conn, self.options.get("stream", JOBS), handle, checkpoints=store, **self._how())

    def _how(self) -> dict[str, Any]:
        return {key: value for key, value in self.options.items() if key != "stream"}

    def take(self, event: Event) -> None:
        key, number = event.json()
        self.handled.append((self.lives, key, number))

    def numbers(self) -> list[int]:
        """All that it did."""
        return [number for _, _, number in self.handled]

    def complaints(self) -> Iterator[str]:
        """What is wrong about it in the end."""
        done = self.numbers()
        if missing := set(range(EVENTS)) - set(done):
            yield f"{self.name}: {len(missing)} events were not handled, the first {min(missing)}"
        if len(done) > len(set(done)) and not self.may_repeat:
            yield f"{self.name}: {len(done) - len(set(done))} events count twice"
        yield from self._out_of_order()

    def _out_of_order(self) -> Iterator[str]:
        order: dict[tuple[int, int], list[int]] = defaultdict(list)
        for life, key, number in self.handled:
            order[life, key].append(number)
        for (life, key), numbers in order.items():
            if numbers != sorted(set(numbers)):
                yield f"{self.name}: in life {life} events of key {key} came in the order {numbers}"


class _ExactPart(_Part):
    """What its handler does is in one transaction with the checkpoint; what it did is what the database says."""

    may_repeat = False

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self._path = path

    def listener(self, conn: Connection, store: Mortal, random: Random) -> Listener:
        async def count(event: Event, db: SqliteTransaction) -> None:
            _, number = event.json()
            await db.execute("INSERT INTO done VALUES (?)", [number])
            await trio.sleep(random.choice((0, 0, 0.01, 0.1)))
            self.take(event)

        checkpoints = SqliteCheckpoints(self._path, setup=_SETUP, run_sync=run_inline)
        return Listener(conn, JOBS, count, checkpoints=checkpoints, name=self.name)

    def numbers(self) -> list[int]:
        with closing(sqlite3.connect(self._path)) as db:
            return [number for (number,) in db.execute("SELECT number FROM done ORDER BY rowid")]


class _Day:
    def __init__(self, seed: int, path: Path) -> None:
        self._seed = seed
        self.trace = Trace()
        self.clock = MockClock()
        self.parts = [
            _Part("plain"),
            _Part("seldom", checkpoint_events=10),
            _Part("many", concurrency=4, key=lambda event: event.json()[0]),
            _Part("log", stream=ALL, filter=Filter.by_stream(JOBS)),
            _ExactPart("exact", path),
        ]

    async def run(self) -> None:
        with trio.move_on_after(TOO_LONG) as scope:
            livelock = Livelock(scope)
            trio.lowlevel.add_instrument(livelock)
            await self._play()
        if scope.cancelled_caught:
            self.trace.problem("tasks run on and on, and no time passes" if livelock.found else "it hangs")

    async def _play(self) -> None:
        version = chance(self._seed, "version").choice(list(VERSIONS))
        async with open_node(port=None, version=version, random=chance(self._seed, "node"), now=self._now) as node:
            settings = node.settings.replace(reconnect_delay=0.05, max_reconnect_delay=1, attempt_timeout=3)
            engine = Engine(settings, node.connect, rng=chance(self._seed, "client"), now=self._now)
            async with serve(engine) as conn, trio.open_nursery() as nursery:
                for part in self.parts:
                    nursery.start_soon(part.live, conn, chance(self._seed, "deaths", of=part.name), self.trace)
                async with trio.open_nursery() as storm:
                    storm.start_soon(self._write, conn)
                    storm.start_soon(partial(node.faults.play, chance(self._seed, "weather"), seconds=STORM, rate=0.5))
                await self._come_right()
                nursery.cancel_scope.cancel()
        for part in self.parts:
            for complaint in part.complaints():
                self.trace.problem(complaint)

    def _now(self) -> float:
        return _EPOCH + trio.current_time()

    async def _write(self, conn: Connection) -> None:
        """One event after another, each with the number that it has."""
        random = chance(self._seed, "writer")
        for number in range(EVENTS):
            event = NewEvent.json("Given", [random.randrange(KEYS), number])
            await trio.sleep(random.uniform(0, 2 * STORM / EVENTS))
            while not await _appended(conn, event, number - 1):  # noqa: ASYNC110 - what is waited for has no event
                await trio.sleep(0.1)

    async def _come_right(self) -> None:
        with trio.move_on_after(PATIENCE):
            while True:
                await trio.sleep(0.5)
                if not any(set(range(EVENTS)) - set(part.numbers()) for part in self.parts):
                    return


async def _appended(conn: Connection, event: NewEvent, expected: int) -> bool:
    try:
        await conn.append(JOBS, event, expected=expected)
    except (OutcomeUnknown, ConnectionLost, OperationTimedOut, NotReady):
        # The same event at the same number is written once.
        return False
    return True
