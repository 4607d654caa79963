"""One run: an unlucky day in the life of a program, as a function of its seed.

A node, a network, one or two clients and their workloads; a storm in which everything breaks; then a calm, in which
everything must come right in time; then the checks, against what the node holds. All of it runs in one thread, under a
clock that jumps, and is the same each time.

| module | what is in it |
|---|---|
| `determinism` | the order of trio's tasks, and all chance, from the seed; time in which the program stands still |
| `plan`, `casting` | what a seed stands for: the server, the settings, how bad it gets; who takes part |
| `weather`, `network` | what befalls connections; how it does |
| `client`, `wire`, `ledger` | the library's connection, watched: what is called, what is sent, what callers are told |
| `workloads`, `writers`, `transacting`, `readers` | what a program does, and comes to an end |
| `consumers`, `followers`, `choices` | what a program does without an end: subscriptions, and what they saw; filters |
| `competing`, `overseer` | consumers of a group; the node's groups, watched |
| `disk` | what a node with a file waits for |
| `truth`, `checker` | what the node really holds; what must be true of all the others then |
| `trace`, `report` | all that happened; what is shown of it |
| `clusters`, `listening` | days of a cluster, and of listeners, which share little but the way to repeat them |
| `planting`, `bugs…` | the library broken on purpose |
| `seeds`, `pinning` | the seeds that find that, and those that ever failed |
| `unlucky` | what has to happen |

A seed failed: `python -m tests.simulation --seed N` says what is wrong, and shows the frames around it; `--trace` shows
the whole day. In a trace `A3 →` is what client A hands to its third connection, `A3 ⇒` what of it arrives at the node,
and `A3 ⇐` what arrives at the client; `!!!` is where something is found to be wrong. Once it is mended, the seed goes
into `seeds`, and the bug into `bugs`.

Something new belongs into the simulation as a workload: a class with a `run`, which `casting.cast` lets take part. What
it writes goes through `Client`, so that the ledger knows of it; what it sees is judged by `checker`. Where that makes
other days of the seeds, `python -m tests.simulation --pin` finds those anew that `seeds` has.
"""

from __future__ import annotations

import traceback
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import trio
from trio.testing import MockClock

from tests.simulation.casting import cast
from tests.simulation.checker import check_everything, check_nothing_is_left
from tests.simulation.choices import EVENTS
from tests.simulation.client import Client
from tests.simulation.determinism import Livelock, Stalls, chance, run_deterministically
from tests.simulation.disk import Disk, file
from tests.simulation.ledger import Ledger
from tests.simulation.network import Network
from tests.simulation.overseer import Overseer
from tests.simulation.plan import make_plan
from tests.simulation.readers import Watcher
from tests.simulation.trace import Trace, log_into
from tests.simulation.truth import Truth
from tests.simulation.weather import Weather
from tests.simulation.workloads import Stage
from tests.simulation.writers import Curtain
from trio_extreme.embedded import open_node
from trio_extreme.embedded.faults import PLAYED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from random import Random

    from tests.simulation.competing import Team
    from tests.simulation.consumers import Consumer
    from tests.simulation.workloads import Workload
    from trio_extreme import Settings
    from trio_extreme.embedded import Node
    from trio_extreme.wire.commands import Command

_EPOCH = 1_700_000_000
_MORE_OFTEN = ("restart", "drop_reply", "drop_reply", "restart", "kill_connections", "answer_late")
"""Faults that are worth more than one in a dozen: those by which it is not known what was done."""
_TOO_LONG = 1000.0
"""Seconds after which a run is taken for one that hangs."""
_QUIET = 10.0
"""Seconds at the end in which nothing more may happen: what is sent twice would come now."""


class Outcome(NamedTuple):
    """How a run went."""

    seed: int
    problems: list[str]
    trace: Trace
    persists: bool

    @property
    def kind(self) -> str:
        """What the command line calls days like this one."""
        return "persist" if self.persists else ""


def simulate(seed: int, *, persists: bool = False) -> Outcome:
    """Run the day of this seed; with a node that keeps its log in a file, it is another day."""
    simulation = Simulation(seed, persists=persists)
    with log_into(simulation.trace), _places_told_often(), Overseer(simulation.trace).watching():
        try:
            run_deterministically(seed, simulation.clock, simulation.run)
        except Exception:  # noqa: BLE001 - whatever it is, it is this seed's
            simulation.trace.problems.append(f"the run ended with\n{traceback.format_exc()}")
    return Outcome(seed, simulation.trace.problems, simulation.trace, persists)


@contextmanager
def _places_told_often() -> Iterator[None]:
    with (
        patch("trio_extreme.operations.filtering.CHECKPOINT_INTERVAL", EVENTS),
        patch("trio_extreme.filtered.CHECKPOINT_INTERVAL", EVENTS),
    ):
        yield


class Simulation:
    """The parts of one run."""

    def __init__(self, seed: int, *, persists: bool) -> None:
        self._seed = seed
        self._persists = persists
        self._plan = make_plan(seed)
        self.trace = Trace()
        self.clock = MockClock()
        self._stalls = Stalls(self.clock)
        self._ledger = Ledger(self.trace)
        self._names = iter("ABCDEFGHIJ")
        self._clients = [self._client(settings) for settings in self._plan.settings]
        self._consumers: list[Consumer] = []
        self._teams: list[Team] = []
        self._node: Node
        self._network: Network
        # For what outlives the workload that started it.
        self._helpers: trio.Nursery

    async def run(self) -> None:
        """All of it."""
        with trio.move_on_after(_TOO_LONG) as scope:
            livelock = Livelock(scope)
            trio.lowlevel.add_instrument(livelock)
            await self._play()
        if scope.cancelled_caught:
            self.trace.problem("tasks run on and on, and no time passes" if livelock.found else "it hangs")

    async def _play(self) -> None:
        async with self._open_node() as self._node:
            weather = Weather(partial(chance, self._seed, of="weather"), self._plan.calm_at)
            self._network = Network(self._node.connect, weather, self.trace)
            async with self._network.running() as nursery, AsyncExitStack() as connections:
                if self._plan.fault_rate:
                    nursery.start_soon(self._break_node)
                for client in self._clients:
                    await connections.enter_async_context(self._connected(client))
                await self._act()
                for client in self._clients:
                    client.check_idle()
                await connections.aclose()
                await check_nothing_is_left(self._node, self.trace)
            check_everything(self._ledger, self._consumers, self._node.store, self.trace)

    @asynccontextmanager
    async def _open_node(self) -> AsyncIterator[Node]:
        with ExitStack() as stack:
            async with open_node(
                port=None,
                version=self._plan.version,
                path=stack.enter_context(file()) if self._persists else None,
                now=_calendar,
                random=chance(self._seed, "node"),
                run_sync=Disk(chance(self._seed, "disk"), self._plan.calm_at),
            ) as node:
                yield node

    async def _act(self) -> None:
        async with trio.open_nursery() as self._helpers:
            writers, self._consumers, self._teams, workers = cast(self._seed, self._node.store.version, self._stage)
            for client in self._clients:
                watcher = Watcher(self._stage(chance(self._seed, "watcher"), client), "changes")
                self._helpers.start_soon(self._guard, watcher)
            async with trio.open_nursery() as consuming:
                for consumer in (*self._consumers, *workers):
                    consuming.start_soon(self._guard, consumer)
                await self._storm(writers)
                await self._calm()
                consuming.cancel_scope.cancel()
            for worker in workers:
                worker.check_said()
            for problem in (problem for team in self._teams for problem in team.problems(self._node)):
                self.trace.problem(problem)
            self._helpers.cancel_scope.cancel()

    def _client(self, settings: Settings) -> Client:
        return Client(
            next(self._names),
            settings,
            calm_at=self._plan.calm_at,
            stalls=self._stalls,
            ledger=self._ledger,
            trace=self.trace,
        )

    def _connected(self, client: Client) -> AbstractAsyncContextManager[Client]:
        return client.connected(self._network, chance(self._seed, f"client {client.name}"), _calendar)

    def _visit(self, random: Random) -> AbstractAsyncContextManager[Client]:
        return self._connected(self._client(random.choice(self._plan.settings)))

    def _stage(self, random: Random, client: Client | None = None) -> Stage:
        client = client or random.choice(self._clients)
        return Stage(client, self._clients, random, self._helpers, self._node.store, self._plan.calm_at, self._visit)

    async def _guard(self, workload: Workload) -> None:
        """Run a workload. An error of it is a problem, but not the end of all others."""
        try:
            await workload.run()
        except Exception:  # noqa: BLE001 - whatever it is, it is reported with its seed
            self.trace.problem(f"{workload!r} ended with\n{traceback.format_exc()}")

    # --- the storm

    async def _storm(self, writers: list[Workload]) -> None:
        """Everything breaks, until it is over and the writers have done their share."""
        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(self._guard, writer)
            if self._plan.stall_rate:
                nursery.start_soon(self._stand_still)
            if self._plan.ambush is not None:
                nursery.start_soon(self._ambush, self._plan.ambush)
            await trio.sleep_until(self._plan.calm_at)
            self.trace.note("", "calm")
            for consumer in self._consumers:
                consumer.note_due()

    async def _break_node(self) -> None:
        await self._node.faults.play(
            chance(self._seed, "faults"),
            seconds=self._plan.calm_at,
            rate=self._plan.fault_rate,
            longest=self._plan.longest_fault,
            names=(*PLAYED, *_MORE_OFTEN),
        )

    async def _ambush(self, command: Command) -> None:
        """The node does what it was asked for, does not say so, and dies soon, with all that it remembers."""
        random, faults = chance(self._seed, "ambush"), self._node.faults
        with trio.move_on_at(self._plan.calm_at):
            while True:
                await trio.sleep(random.expovariate(0.5))
                faults.drop_reply(command, kill=random.random() < 0.3)
                if random.random() < 0.7:
                    await trio.sleep(random.uniform(0, 3))
                    faults.restart()
        faults.clear()

    async def _stand_still(self) -> None:
        """The program does not let its tasks run for some seconds, now and then."""
        random = chance(self._seed, "stalls")
        while True:
            await trio.sleep(random.expovariate(self._plan.stall_rate))
            seconds = random.uniform(0, 6)
            if trio.current_time() + seconds >= self._plan.calm_at:
                return
            self.trace.note("", f"the program stands still for {seconds:.3f} s")
            self._stalls.stall(seconds)

    # --- the calm

    async def _calm(self) -> None:
        """Everybody catches up, and then sees one event more; then nothing happens."""
        await self._wait_for_consumers(at_the_end=False)
        await trio.sleep_until(self._plan.calm_at + max(client.bound for client in self._clients))
        streams = dict.fromkeys(["sole", *(consumer.stream for consumer in self._consumers)])
        truth = Truth(self._node.store)
        for stream in streams:
            if stream.isalpha() and not truth.is_buried(stream):
                await self._guard(Curtain(self._stage(chance(self._seed, f"curtain {stream}")), stream))
        await self._wait_for_consumers(at_the_end=True)
        await trio.sleep(_QUIET)

    async def _wait_for_consumers(self, *, at_the_end: bool) -> None:
        """Wait until every consumer has seen what it must, or until it is far too late."""
        began = trio.current_time()
        patience = max([client.bound for client in self._clients] + [team.patience for team in self._teams])
        while self._is_behind(at_the_end=at_the_end):
            await trio.sleep(0.25)
            waited = trio.current_time() - began
            if waited > patience + sum(consumer.busy(began, trio.current_time()) for consumer in self._consumers):
                return

    def _is_behind(self, *, at_the_end: bool) -> bool:
        return any(consumer.is_behind(at_the_end=at_the_end) for consumer in self._consumers) or any(
            team.is_busy(self._node) or team.missing(self._node.store) for team in self._teams
        )


def _calendar() -> float:
    """What the clock on the wall shows, in seconds since 1970."""
    return _EPOCH + trio.current_time()
