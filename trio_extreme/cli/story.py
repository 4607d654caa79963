"""What the demo does with the commits, and how it knows that each came back once, in order, byte for byte."""

from __future__ import annotations

import json
import re
import secrets
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme.cli.commits import commit_hash
from trio_extreme.cli.running import counted, log_hidden
from trio_extreme.events import NewEvent
from trio_extreme.tasks import open_plain_nursery
from trio_extreme.values import NO_STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from trio_extreme.cli.commits import Commit, CommitReader
    from trio_extreme.cli.progress import ProgressBar
    from trio_extreme.client import Connection
    from trio_extreme.events import RecordedEvent
    from trio_extreme.subscriptions import Subscription

BATCH = 500
BATCH_BYTES = 1024 * 1024
LIVE = 200
"""Commits that are appended one by one while the stream is followed, at most: a quarter of them all."""
"""And as many again while it is followed from the start."""
RESTARTS = 3
SILENCE = 30.0
"""Seconds without an event, after which no more is waited for."""
MAX_NAME = 200
"""Characters of an author that go into the name of a stream."""
READERS = 8
"""Streams of authors that are read at the same time."""


@dataclass(slots=True)
class Step:
    """Something that was done, and what it took."""

    name: str
    events: int = 0
    bytes: int = 0
    seconds: float = 0.0
    _started: float = field(default_factory=trio.current_time, repr=False)

    def add(self, events: Sequence[RecordedEvent | NewEvent]) -> None:
        """Count some events."""
        self.events += len(events)
        self.bytes += sum(len(event.data) for event in events)

    def end(self) -> None:
        """Stop the clock."""
        self.seconds = trio.current_time() - self._started


@dataclass(slots=True)
class Check:
    """Whether what should be true is; `detail` is the first thing that was not."""

    name: str
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is true."""
        return not self.detail

    def fail(self, detail: str) -> None:
        """The first failure counts; those that follow are often made by it."""
        self.detail = self.detail or detail


class Ledger:
    """The commits that were appended, and the stream of each author, in a few bytes a commit."""

    def __init__(self, id_length: int) -> None:
        self._id_length = id_length
        self._hashes = bytearray()
        self._size = id_length // 2
        #: The places of each author's commits among all.
        self.authors: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self._hashes) // self._size

    def add(self, commit: Commit, stream: str) -> None:
        """The next commit of the repository, and the next in its author's stream."""
        self.authors.setdefault(stream, array("L")).append(len(self))
        self._hashes += bytes.fromhex(commit.id)

    def holds(self, place: int, data: bytes) -> bool:
        """Whether these are the bytes of the commit at this place."""
        at = place * self._size
        return commit_hash(data, self._id_length) == self._hashes[at : at + self._size]


class Story:
    """Appending, following, reading back."""

    def __init__(
        self,
        conn: Connection,
        name: str,
        id_length: int,
        total: int,
        progress: ProgressBar,
        *,
        restart: Callable[[], None] | None = None,
    ) -> None:
        # One run must not meet the streams of another on the same server.
        self._run = secrets.token_hex(4)
        self._conn = conn
        self._progress = progress
        # Restarts the node, where it is ours.
        self._restart = restart
        self._last: dict[str, int] = {}
        self.repository = name
        self.stream = f"demo_repository-{_word(name)}-{self._run}"
        self.total = total
        self.ledger = Ledger(id_length)
        self.steps: list[Step] = []
        self.checks: list[Check] = []

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return all(check.ok for check in self.checks)

    # --- there

    async def append(self, commits: CommitReader) -> None:
        """Append most commits in batches, and the last ones, one by one, while the stream is followed in two ways."""
        live, last = min(LIVE, (self.total + 3) // 4), min(LIVE, self.total // 4)
        step = self._begin("append, in batches", 2 * (self.total - live - last))
        while batch := await commits.take(min(BATCH, self.total - live - last - len(self.ledger)), BATCH_BYTES):
            await self._append(batch, step)
        step.end()
        await self._follow_live(commits, live)
        await self._follow_from_the_start(commits, last)
        if len(self.ledger) != self.total:
            self._check("git gave all commits").fail(f"{len(self.ledger)} of {self.total}")

    async def _follow_live(self, commits: CommitReader, count: int) -> None:
        check = self._check("followed live: each commit once, in order, byte for byte")
        numbers = range(len(self.ledger), len(self.ledger) + count)
        appending = self._begin("append, one by one", 2 * count)
        async with self._conn.subscribe_live(self.stream) as events, open_plain_nursery() as nursery:
            nursery.start_soon(self._append_singly, commits, count, appending)
            await self._follow(events, "follow live", numbers, check)

    async def _follow_from_the_start(self, commits: CommitReader, count: int) -> None:
        """Follow all that is stored and all that comes, while the node is restarted under both sides."""
        breaks = _places_to_break(count) if self._restart else ()
        how = f"through {counted(len(breaks), 'restart')}" if breaks else "from the start"
        check = self._check(f"followed {how}: each commit once, in order, byte for byte")
        numbers = range(len(self.ledger) + count)
        appending = self._begin("append, through restarts" if breaks else "append, once more", 2 * count)
        with log_hidden():
            async with self._conn.subscribe(self.stream) as events, open_plain_nursery() as nursery:
                nursery.start_soon(self._append_singly, commits, count, appending, breaks)
                await self._follow(events, "follow from the start", numbers, check)

    async def _follow(self, events: Subscription[Any], name: str, numbers: range, check: Check) -> None:
        step = Step(name)
        self.steps.append(step)
        expected = iter(numbers)
        with trio.move_on_after(SILENCE) as scope:
            async for batch in events.batches():
                scope.deadline = trio.current_time() + SILENCE
                step.add(batch)
                for event, number in zip(batch, expected, strict=False):
                    self._compare(check, number, number, event)
                if step.events >= len(numbers):
                    break
        step.end()
        if step.events != len(numbers):
            check.fail(f"{step.events} of {len(numbers)} came")

    async def _append_singly(self, commits: CommitReader, count: int, step: Step, breaks: Collection[int] = ()) -> None:
        await trio.lowlevel.checkpoint()
        for place in range(count):
            batch = await commits.take(1, BATCH_BYTES)
            if place in breaks and self._restart is not None:
                # Nobody here knows yet that the connection is gone: the next request goes nowhere, and is sent again.
                self._restart()
            await self._append(batch, step)
        step.end()

    async def _append(self, batch: Sequence[Commit], step: Step) -> None:
        """Append commits to the repository's stream, and at the same time to their authors'."""
        by_stream: dict[str, list[NewEvent]] = {self.stream: [self._event(commit) for commit in batch]}
        for commit in batch:
            stream = f"demo_author-{commit.author[:MAX_NAME]}-{self._run}"
            self.ledger.add(commit, stream)
            by_stream.setdefault(stream, []).append(self._event(commit))
        async with open_plain_nursery() as nursery:
            for stream, events in by_stream.items():
                nursery.start_soon(self._append_to, stream, events, step)

    async def _append_to(self, stream: str, events: list[NewEvent], step: Step) -> None:
        result = await self._conn.append(stream, events, expected=self._last.get(stream, NO_STREAM))
        self._last[stream] = result.last
        step.add(events)
        self._progress.show(step.events)

    def _event(self, commit: Commit) -> NewEvent:
        metadata = json.dumps({"commit": commit.id, "repository": self.repository}).encode()
        return NewEvent("Merged" if commit.is_merge else "Committed", commit.raw, metadata)

    # --- and back

    async def read_back(self) -> None:
        """Read every stream in both directions."""
        everything = range(len(self.ledger))
        for backwards in (False, True):
            way = "backwards" if backwards else "forwards"
            check = self._check(f"the repository read {way}: each commit once, in order, byte for byte")
            step = self._begin(f"read the repository {way}", len(everything))
            await self._read(self.stream, everything, check, step, backwards=backwards)
            step.end()
        for backwards in (False, True):
            await self._read_authors(backwards=backwards)

    async def _read_authors(self, *, backwards: bool) -> None:
        way = "backwards" if backwards else "forwards"
        check = self._check(f"the authors read {way}: each commit once, in order, byte for byte")
        step = self._begin(f"read the authors {way}", len(self.ledger))
        streams = iter(self.ledger.authors.items())
        async with open_plain_nursery() as nursery:
            for _ in range(READERS):
                nursery.start_soon(self._read_some, streams, check, step, backwards)
        step.end()

    async def _read_some(
        self,
        streams: Iterator[tuple[str, array[int]]],
        check: Check,
        step: Step,
        backwards: bool,  # noqa: FBT001
    ) -> None:
        """Streams until none is left; several tasks share the iterator."""
        await trio.lowlevel.checkpoint()
        for stream, places in streams:
            await self._read(stream, places, check, step, backwards=backwards)

    async def _read(self, stream: str, places: Sequence[int], check: Check, step: Step, *, backwards: bool) -> None:
        numbers = range(len(places))
        expected = iter(reversed(numbers) if backwards else numbers)
        async with self._conn.read_stream(stream, backwards=backwards) as reader:
            async for page in reader.pages():
                step.add(page)
                self._progress.show(step.events)
                for event in page:
                    number = next(expected, None)
                    if number is None:
                        check.fail(f"{event!r} was never appended by us")
                    else:
                        self._compare(check, number, places[number], event)
        if (missing := next(expected, None)) is not None:
            check.fail(f"event {missing} of {stream} did not come back")

    def _compare(self, check: Check, number: int, place: int, event: RecordedEvent) -> None:
        if event.number != number:
            check.fail(f"{event!r} came where event {number} belongs")
        elif not self.ledger.holds(place, event.data):
            check.fail(f"{event!r} came back with other bytes")

    def _check(self, name: str) -> Check:
        self.checks.append(Check(name))
        return self.checks[-1]

    def _begin(self, name: str, total: int) -> Step:
        self._progress.begin(name, total)
        self.steps.append(Step(name))
        return self.steps[-1]


def _places_to_break(count: int) -> Collection[int]:
    """Before which of so many appends the node is restarted: never two in a row, so each finds a connection to end."""
    return range(0, count, max(2, -(-count // RESTARTS)))


def _word(text: str) -> str:
    """A name as a part of a stream's name: categories of projections end at the first dash."""
    return re.sub(r"[^\w.@]+", "_", text)[:100].strip("_") or "_"
