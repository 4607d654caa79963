"""Who takes part in a day: those that come to an end by themselves, and those that do not.

Whether somebody takes part, how many and for how long is drawn from a source of its own, and so is what each of them
does. Who is new here changes nothing of the others but that they are not alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.choices import CHOICES
from tests.simulation.competing import Team, Worker, settings_of
from tests.simulation.determinism import chance
from tests.simulation.followers import CatchUp, Filtered, Live
from tests.simulation.readers import FilteredReader, Pinger, Reader
from tests.simulation.writers import (
    Bookkeeper,
    Contender,
    Crowd,
    Linker,
    Pipeline,
    Rebirth,
    SoleWriter,
    Trimmer,
    Undertaker,
    Visitor,
)
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from tests.simulation.consumers import Consumer
    from tests.simulation.workloads import Stage, Workload
    from trio_extreme.embedded.versions import ServerVersion


class Cast(NamedTuple):
    """All of them."""

    writers: list[Workload]
    consumers: list[Consumer]
    teams: list[Team]
    workers: list[Worker]


def cast(seed: int, version: ServerVersion, stage: Callable[[Random], Stage]) -> Cast:
    """All of them, each on a stage with its own chance."""
    casting = _Casting(seed, version, stage)
    streams = [stream for stream, likelihood in _STREAMS.items() if casting.draw(stream).random() < likelihood]
    writers = [writer for stream in streams for writer in casting.writers(stream)]
    consumers = list(casting.consumers(streams))
    if casting.draw("filters").random() < 0.3:
        consumers += casting.filtered()
        writers.append(casting.filtered_reader())
    teams = list(casting.teams(streams))
    workers = [worker for _, members in teams for worker in members]
    return Cast([*writers, *casting.readers()], consumers, [team for team, _ in teams], workers)


_STREAMS = {
    "sole": 1.0,
    "shared": 1.0,
    "reborn": 0.7,
    "pipe": 0.4,
    "doomed": 0.3,
    "trimmed": 0.3,
    "links": 0.4,
    "books": 0.5,
}
"""How likely it is that somebody writes to a stream."""


class _Casting:
    """The choices of one seed."""

    def __init__(self, seed: int, version: ServerVersion, stage: Callable[[Random], Stage]) -> None:
        self._seed = seed
        self._version = version
        self._stage = stage

    def draw(self, role: str) -> Random:
        """The source of what is chosen about a role."""
        return chance(self._seed, role, of="cast")

    def _on_stage(self, role: str, number: int = 0) -> Stage:
        return self._stage(chance(self._seed, f"{role} {number}", of="workload"))

    def _stages(self, role: str, numbers: Sequence[int]) -> Iterator[tuple[Stage, Random]]:
        """As many of a role as one of these numbers, each with the source of what is chosen about it."""
        for number in range(self.draw(f"{role}s").choice(numbers)):
            yield self._on_stage(role, number), self.draw(f"{role} {number}")

    def writers(self, stream: str) -> list[Workload]:
        """Who writes to a stream."""
        found: list[Workload] = []
        if stream in ("shared", "doomed", "trimmed"):
            found += self._contenders(stream)
        if stream == "sole":
            found.append(SoleWriter(self._on_stage("sole writer"), stream, self.draw("sole writer").randint(3, 20)))
        elif stream == "shared":
            found += [Crowd(stage, stream, draw.randint(2, 40)) for stage, draw in self._stages("crowd", (0, 0, 1))]
            found += [Visitor(stage, stream) for stage, _ in self._stages("visitor", (0, 0, 1, 2))]
        elif stream == "reborn":
            found += self._rebirths(stream, (1, 2, 3, 4))
        elif stream == "pipe":
            found.append(Pipeline(self._on_stage("pipeline"), stream))
        elif stream == "doomed":
            found.append(Undertaker(self._on_stage("undertaker"), stream))
        elif stream == "trimmed":
            found.append(Trimmer(self._on_stage("trimmer"), stream))
        elif stream == "links":
            found.append(Linker(self._on_stage("linker"), stream, ["sole", "shared", "doomed"]))
        else:
            found += self._bookkeepers(stream)
        return found

    def _contenders(self, stream: str) -> Iterator[Workload]:
        for stage, draw in self._stages(f"contender {stream}", (1, 2, 3) if stream == "shared" else (1,)):
            yield Contender(stage, stream, draw.randint(3, 15))

    def _rebirths(self, stream: str, numbers: Sequence[int]) -> Iterator[Workload]:
        for stage, draw in self._stages(f"rebirth {stream}", numbers):
            yield Rebirth(stage, stream, draw.randint(3, 15))

    def _bookkeepers(self, stream: str) -> Iterator[Workload]:
        for stage, draw in self._stages("bookkeeper", (1, 2, 3)):
            yield Bookkeeper(stage, stream, draw.randint(3, 10))
        yield from self._rebirths(stream, (0, 1))

    def readers(self) -> Iterator[Workload]:
        """Who asks again and again."""
        for stage, draw in self._stages("reader", (0, 1, 1)):
            yield Reader(stage, draw.choice(("sole", "shared", ALL)), 10)
        for stage, _ in self._stages("pinger", (0, 1)):
            yield Pinger(stage, "shared", 10)

    def consumers(self, streams: Sequence[str]) -> Iterator[Consumer]:
        """Who follows one of these streams, or the log."""
        for stage, draw in self._stages("consumer", range(2, 8)):
            kind = draw.choice((CatchUp, CatchUp, CatchUp, Live, Live))
            yield kind(stage, draw.choice((*streams, "sole", ALL)))

    def filtered(self) -> Iterator[Consumer]:
        """Who follows what a filter leaves."""
        for stage, draw in self._stages("filtered", (1, 2, 3)):
            yield Filtered(stage, draw.choice(CHOICES))

    def teams(self, streams: Sequence[str]) -> Iterator[tuple[Team, list[Worker]]]:
        """Who shares the events of a stream that nobody deletes."""
        for stream in ("sole", "shared", "links"):
            draw = self.draw(f"team of {stream}")
            if stream in streams and draw.random() < 0.3:
                team = Team(stream, settings_of(draw, self._version))
                yield team, [Worker(stage, team) for stage, _ in self._stages(f"worker {stream}", (1, 2, 3, 4))]

    def filtered_reader(self) -> Workload:
        """Who reads it."""
        return FilteredReader(self._on_stage("filtered reader"), self.draw("filtered reader").choice(CHOICES), 5)
