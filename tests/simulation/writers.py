"""Workloads that change streams. Each is one task, knows one stream, and ends when it has done its share."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from tests.simulation.client import BAD_LUCK, REFUSALS
from tests.simulation.transacting import Manner, transact
from tests.simulation.workloads import Workload
from trio_extreme import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    ConnectionClosed,
    NewEvent,
    StreamDeleted,
    WrongExpectedVersion,
)

if TYPE_CHECKING:
    from tests.simulation.client import Client
    from tests.simulation.workloads import Stage


class SoleWriter(Workload):
    """The only one who writes its stream: each append names the number it must come after.

    Whatever becomes of an append, it is made again with the same events and the same number until it succeeds. So no
    `WrongExpectedVersion` is ever right.
    """

    def __init__(self, stage: Stage, stream: str, appends: int) -> None:
        super().__init__(stage, stream)
        self._appends = appends

    async def run(self) -> None:
        last = int(NO_STREAM)
        for _ in range(self._appends):
            events = self.events()
            written = None
            while written is None:
                written = await self._append(events, last)
            last = written
            await self.pause()

    async def _append(self, events: list[NewEvent], last: int) -> int | None:
        try:
            with self.impatience():
                result = await self.client.append(self.stream, events, last)
                return result.last
        except WrongExpectedVersion as error:
            self.client.trace.problem(f"{self!r} is the only one, and was told: {error}")
            raise
        except BAD_LUCK:
            pass
        await trio.sleep(self.random.uniform(0, 0.5))
        return None


class Contender(Workload):
    """One of several who write the same stream, with every kind of expected version, and do not ask twice."""

    def __init__(self, stage: Stage, stream: str, appends: int) -> None:
        super().__init__(stage, stream)
        self._appends = appends
        self._guess = int(NO_STREAM)

    async def run(self) -> None:
        for _ in range(self._appends):
            with suppress(*BAD_LUCK, *REFUSALS), self.impatience():
                await self._append()
            await self.pause()

    async def _append(self) -> None:
        try:
            result = await self.client.append(self.stream, self.events(), self._expected())
            self._guess = result.last
        except WrongExpectedVersion as error:
            self._guess = self._guess + 1 if error.actual is None else error.actual
            if (error.actual is None) is self.stage.store.version.says_current_version:
                self.client.trace.problem(f"{self!r} was told: {error}, which is not what this server says")
            raise

    def _expected(self) -> int:
        return self.random.choice((ANY, ANY, ANY, NO_STREAM, STREAM_EXISTS, self._guess, self._guess, self._guess))


class Crowd(Workload):
    """Many who append at once."""

    def __init__(self, stage: Stage, stream: str, size: int) -> None:
        super().__init__(stage, stream)
        self._size = size

    async def run(self) -> None:
        await self.pause()
        async with trio.open_nursery() as nursery:
            for _ in range(self._size):
                nursery.start_soon(self._append)

    async def _append(self) -> None:
        with suppress(*BAD_LUCK, *REFUSALS), self.impatience():
            await self.client.append(self.stream, self.events(1), self.random.choice((ANY, STREAM_EXISTS)))


class Pipeline(Workload):
    """Appends one after another without waiting, each with the number that the one before will have.

    That they arrive in order is all that makes them succeed; where one fails, all that follow do.
    """

    async def run(self) -> None:
        for _ in range(5):
            with suppress(*BAD_LUCK, *REFUSALS):
                last = await self.client.last_number(self.stream)
                await self._burst(NO_STREAM if last is None else last)
            await self.pause()

    async def _burst(self, last: int) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(last, last + self.random.randint(2, 8)):
                # Each has sent its request, or waits at the door, when the next begins.
                await nursery.start(self._append, number)

    async def _append(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with suppress(*BAD_LUCK, *REFUSALS), self.impatience():
            await self.client.append(self.stream, self.events(1), number)


class Bookkeeper(Workload):
    """Writes its entries in explicit transactions, bit by bit, and sometimes tears up what it has begun.

    Or it leaves the rest to others, who know no more of it than its id.
    """

    def __init__(self, stage: Stage, stream: str, transactions: int) -> None:
        super().__init__(stage, stream)
        self._transactions = transactions
        self._guess = int(NO_STREAM)

    async def run(self) -> None:
        for _ in range(self._transactions):
            with suppress(*BAD_LUCK, *REFUSALS), self.impatience():
                await self._enter()
            await self.pause()

    async def _enter(self) -> None:
        batches = [self.events() for _ in range(self.random.randint(0, 3))]
        expected = self.random.choice((ANY, ANY, NO_STREAM, self._guess, self._guess))
        wrong: WrongExpectedVersion | None = None
        try:
            result = await transact(self.stream, batches, expected, self._manner())
            self._guess = result.last
        except WrongExpectedVersion as error:
            wrong = error
        if wrong is not None:
            # Of a transaction no server says where the stream is.
            last = await self.client.last_number(self.stream)
            self._guess = NO_STREAM if last is None else last
            raise wrong

    def _manner(self) -> Manner:
        others = [self.random.choice(self.stage.clients) for _ in range(self.random.choice((0, 0, 0, 1, 2)))]
        return Manner(
            hands=[self.client, *others],
            commits=self.random.random() < 0.8,
            haste=self.impatience if self.random.random() < 0.5 else None,
        )


class Rebirth(Workload):
    """Deletes its stream softly, now and then, and appends to it again."""

    def __init__(self, stage: Stage, stream: str, appends: int) -> None:
        super().__init__(stage, stream)
        self._appends = appends

    async def run(self) -> None:
        for _ in range(self._appends):
            with suppress(*BAD_LUCK, *REFUSALS), self.impatience():
                await self._act()
            await self.pause()

    async def _act(self) -> None:
        if self.random.random() < 0.4:
            await self.client.delete(self.stream)
        else:
            expected = self.random.choice((ANY, NO_STREAM, NO_STREAM, STREAM_EXISTS))
            await self.client.append(self.stream, self.events(), expected)


class Trimmer(Workload):
    """Lets its stream forget its oldest events, now and then, by writing its metadata as `$$stream`'s next event."""

    async def run(self) -> None:
        for _ in range(4):
            await self.pause()
            with suppress(*BAD_LUCK, *REFUSALS), self.impatience():
                await self.client.append(f"$${self.stream}", [self._metadata()], ANY)

    def _metadata(self) -> NewEvent:
        last = self.stage.store.last_number(self.stream)
        bound = max(0, last - self.random.randrange(8))
        return NewEvent.json("$metadata", {"$tb": bound}, id=UUID(int=self.random.getrandbits(128) | 1))


class Undertaker(Workload):
    """Deletes its stream for ever, after a while, and does not rest until it is sure."""

    async def run(self) -> None:
        await trio.sleep(self.random.uniform(0, self.stage.calm_at))
        while True:
            try:
                await self.client.delete(self.stream, hard=True)
            except StreamDeleted:
                return
            except BAD_LUCK:
                await trio.sleep(0.5)
            else:
                return


class Linker(Workload):
    """Appends links to what others have written."""

    def __init__(self, stage: Stage, stream: str, targets: list[str]) -> None:
        super().__init__(stage, stream)
        self._targets = targets

    async def run(self) -> None:
        for _ in range(15):
            with suppress(*BAD_LUCK, *REFUSALS), self.impatience():
                await self.client.append(self.stream, [self._link()], ANY)
            await self.pause()

    def _link(self) -> NewEvent:
        target = self.random.choice(self._targets)
        number = self.random.randrange(len(self.stage.store.records(target)) + 1)
        return NewEvent("$>", f"{number}@{target}".encode(), id=UUID(int=self.random.getrandbits(128) | 1))


class Visitor(Workload):
    """Opens a connection of its own, appends with many tasks at once, and leaves in the middle of it.

    It leaves one way or another, and the tasks outlive the connection.
    """

    async def run(self) -> None:
        await self.pause()
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(self.random.uniform(0, 6)), suppress(_Leaves):
                async with self.stage.visit(self.random) as client:
                    for _ in range(self.random.randint(1, 12)):
                        nursery.start_soon(self._append, client)
                    await trio.sleep(self.random.choice((0, 0, 0.01, 0.5)))
                    if self.random.random() < 0.5:
                        raise _Leaves

    async def _append(self, client: Client) -> None:
        with suppress(*BAD_LUCK, *REFUSALS, ConnectionClosed):
            await client.append(self.stream, self.events(), self.random.choice((ANY, NO_STREAM, STREAM_EXISTS)))


class _Leaves(Exception):
    """A visitor has enough."""


class Curtain(Workload):
    """The last event of a stream: a consumer that does not see it has gone deaf."""

    async def run(self) -> None:
        await self.client.append(self.stream, self.events(1))
