"""Workloads that ask: what they are answered is held against the store on the spot."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from tests.simulation.client import BAD_LUCK, REFUSALS
from tests.simulation.truth import Truth
from tests.simulation.workloads import Workload
from trio_extreme.notices import Closed, Connected, Lost, Reconnecting
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from typing import Any

    from tests.simulation.choices import Choice
    from tests.simulation.truth import Fact
    from tests.simulation.workloads import Stage
    from trio_extreme import Event
    from trio_extreme.notices import Change


_MAY_FOLLOW: dict[type[Change], tuple[type[Change], ...]] = {
    Connected: (Lost, Closed),
    Lost: (Reconnecting, Closed),
    Reconnecting: (Reconnecting, Connected, Closed),
    Closed: (),
}


class Reader(Workload):
    """Reads a stream or the log, in either direction, again and again. Its stream is never deleted nor truncated."""

    def __init__(self, stage: Stage, source: str, reads: int) -> None:
        super().__init__(stage, source)
        self._reads = reads
        self._truth = Truth(stage.store)
        self._options: dict[str, Any] = {}

    def _facts(self) -> list[Fact]:
        return self._truth.facts(self.stream)

    def _sure_facts(self) -> list[Fact]:
        return self._truth.sure_facts(self.stream)

    async def run(self) -> None:
        for _ in range(self._reads):
            with suppress(*BAD_LUCK, *REFUSALS), self.impatience():
                await self._read()
            await self.pause()
            await trio.sleep(0.1)

    async def _read(self) -> None:
        backwards, ahead = self.random.random() < 0.3, self.random.random() < 0.3
        before = self._sure_facts()
        options = self._options | {"backwards": backwards, "page_size": self.random.choice((1, 3, 500))}
        conn = self.client.conn
        reader = conn.read_all(**options) if self.stream == ALL else conn.read_stream(self.stream, **options)
        if ahead:
            async with reader:
                events: list[Event] = [event async for event in reader]
        else:
            events = [event async for event in reader]
        self._compare(events[::-1] if backwards else events, before)

    def _compare(self, events: list[Event], before: list[Fact]) -> None:
        """All that was there before was read, and whatever was read was there after, in order and without a gap."""
        after = self._facts()
        read = [(event.checkpoint, event.id.bytes_le) for event in events]
        if len(read) < len(before) or read != [(fact.place, fact.id) for fact in after[: len(read)]]:
            self.client.trace.problem(f"{self!r} read {len(read)} of {len(before)} to {len(after)}, or others")


class FilteredReader(Reader):
    """Reads what a filter leaves of the log."""

    def __init__(self, stage: Stage, choice: Choice, reads: int) -> None:
        super().__init__(stage, ALL, reads)
        self._choice = choice
        self._options = {"filter": choice.filter}

    def _facts(self) -> list[Fact]:
        return self._truth.chosen(self._choice.chooses)

    def _sure_facts(self) -> list[Fact]:
        sure = {fact.place for fact in self._truth.sure_facts(ALL)}
        return [fact for fact in self._facts() if fact.place in sure]


class Pinger(Workload):
    """Asks for a sign of life, and for single events and numbers."""

    def __init__(self, stage: Stage, stream: str, questions: int) -> None:
        super().__init__(stage, stream)
        self._questions = questions

    async def run(self) -> None:
        for _ in range(self._questions):
            with suppress(*BAD_LUCK), self.impatience():
                await self._ask()
            await self.pause()
            await trio.sleep(0.1)

    async def _ask(self) -> None:
        if self.random.random() < 0.5:
            await self.client.ping()
            return
        before = len(Truth(self.stage.store).sure_facts(self.stream))
        last = await self.client.last_number(self.stream)
        if not before - 1 <= (-1 if last is None else last) < len(self.stage.store.records(self.stream)):
            self.client.trace.problem(f"{self!r} was told that the last number is {last}")


class Watcher(Workload):
    """Watches what becomes of the connection: each change follows from the one before."""

    async def run(self) -> None:
        before: Change | None = None
        async for change in self.client.conn.changes():
            if before is not None and type(change) not in _MAY_FOLLOW[type(before)]:
                self.client.trace.problem(f"{self.client.name}: {change} follows {before}")
            self.client.trace.note(self.client.name, f"change: {change}")
            before = change
