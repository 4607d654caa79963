"""What all workloads share: what they have to do with, their haste, and the events they append."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import trio

from trio_extreme import NewEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from random import Random

    from tests.simulation.client import Client
    from trio_extreme.embedded.store import Store

_SIZES = (0, 10, 10, 10, 100, 100, 3000, 30_000)
"""Bytes of an event's data."""

_COUNTS = (0, 1, 1, 1, 1, 2, 3, 7)
"""Events of an append."""


class Stage(NamedTuple):
    """What a workload has to do with."""

    client: Client
    #: All that last for the day, this one among them.
    clients: Sequence[Client]
    #: Its own source of chance.
    random: Random
    #: For tasks that outlive a call by some turns.
    nursery: trio.Nursery
    #: What the node really holds, for those who want to look things up behind the client's back.
    store: Store
    calm_at: float
    #: Opens a connection that nobody else uses.
    visit: Callable[[Random], AbstractAsyncContextManager[Client]]


class Workload(ABC):
    """Something that a program does with a connection. How hasty it is, the seed says."""

    def __init__(self, stage: Stage, stream: str) -> None:
        self.stage = stage
        self.stream = stream
        self.client = stage.client
        self.random = stage.random
        self._impatience = stage.random.choice((0.0, 0.0, 0.2, 0.5))
        self._pause = stage.random.choice((0.0, 0.05, 0.5, 2.0))

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.stream!r} by {self.client.name}"

    @property
    def is_calm(self) -> bool:
        """Whether nothing breaks any more: then nobody gives up either, and nobody dawdles."""
        return trio.current_time() >= self.stage.calm_at

    @abstractmethod
    async def run(self) -> None:
        """Do it to the end."""

    async def pause(self) -> None:
        """Do nothing for a while."""
        if self._pause and not self.is_calm:
            await trio.sleep(self.random.expovariate(1 / self._pause))

    @contextmanager
    def impatience(self) -> Iterator[trio.CancelScope]:
        """Sometimes give the body up: after a time, or after some turns of the scheduler, in which no time passes."""
        with trio.CancelScope() as scope:
            if not self.is_calm and self.random.random() < self._impatience:
                if self.random.random() < 0.5:
                    scope.deadline = trio.current_time() + self.random.uniform(0, 1)
                else:
                    self.stage.nursery.start_soon(_cancel_after_turns, scope, self.random.randrange(15))
            yield scope

    def events(self, count: int | None = None) -> list[NewEvent]:
        """New events, as many as the seed says."""
        return [self.event() for _ in range(self.random.choice(_COUNTS) if count is None else count)]

    def event(self) -> NewEvent:
        """A new event."""
        data = bytes(self.random.choice(_SIZES))
        return NewEvent("happened", data, id=UUID(int=self.random.getrandbits(128) | 1))


async def _cancel_after_turns(scope: trio.CancelScope, turns: int) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    scope.cancel()
