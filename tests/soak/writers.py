"""Those who append, each in its own way, and take down what they were told of every single event."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import TYPE_CHECKING

import trio

from tests.soak.ledger import codes_of, make_id
from trio_extreme import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    ConnectionLost,
    NewEvent,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    WrongExpectedVersion,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.soak.ledger import Ledger
    from trio_extreme import Connection

PAUSE = 0.1
"""Seconds between two appends of a writer at most."""
BATCHES = (1, 1, 1, 2, 5, 20)
SIZES = (0, 20, 200, 200, 2_000, 20_000)
"""Bytes of data in an event; the largest are as rare as batches of twenty."""

NOT_WRITTEN = (ConnectionLost, NotReady, OperationTimedOut)
"""What an append raises that was never sent, or that the server did not do."""


class Told(Enum):
    """What a writer was told of an append."""

    WRITTEN = auto()
    WRONG_VERSION = auto()
    NOT_WRITTEN = auto()
    UNKNOWN = auto()


class Writer(ABC):
    """Appends to one stream. Its events have ids that nobody else's have, and that a checker can read."""

    def __init__(self, conn: Connection, ledger: Ledger, stream: str, number: int, random: Random) -> None:
        self.stream = stream
        self._conn = conn
        self._ledger = ledger
        self._number = number
        self._random = random
        self._sequence = 0

    async def run(self, enough: trio.Event) -> None:
        """Append until it is enough. Can be run again, and goes on where it was."""
        while not enough.is_set():
            await self.write()
            await trio.sleep(self._random.uniform(0, PAUSE))

    @abstractmethod
    async def write(self) -> None:
        """Append once, in this writer's way."""

    def new_events(self) -> list[NewEvent]:
        count = self._random.choice(BATCHES)
        size = self._random.choice(SIZES) if count < max(BATCHES) else 200
        data = self._random.randbytes(size)
        first = self._sequence
        self._sequence += count
        return [
            NewEvent("happened", data, id=make_id(self._number, sequence)) for sequence in range(first, first + count)
        ]

    async def append(self, events: Sequence[NewEvent], expected: int) -> Told:
        """Append, and take down what became of it."""
        codes = codes_of(events)
        try:
            result = await self._conn.append(self.stream, events, expected=expected)
        except OutcomeUnknown as error:
            self._ledger.doubtful(codes)
            self._check([event_id.int for event_id in error.event_ids] == codes, f"ids of others in {error!r}")
            return Told.UNKNOWN
        except trio.Cancelled:
            self._ledger.doubtful(codes)
            raise
        except (WrongExpectedVersion, *NOT_WRITTEN) as error:
            self._ledger.refused(codes)
            return Told.WRONG_VERSION if isinstance(error, WrongExpectedVersion) else Told.NOT_WRITTEN
        self._ledger.acknowledged(self.stream, result.first, codes)
        self._check(result.last - result.first + 1 == len(codes), f"{len(codes)} events, and {result}")
        return Told.WRITTEN

    def _check(self, condition: bool, text: str) -> None:
        if not condition:
            self._ledger.is_strange(f"writer {self._number} of {self.stream}: {text}")


class CarelessWriter(Writer):
    """Appends with ANY, or STREAM_EXISTS where it knows that the stream does; others do so beside it."""

    _exists = False

    async def write(self) -> None:
        expected = self._random.choice((ANY, STREAM_EXISTS)) if self._exists else ANY
        if await self.append(self.new_events(), expected) is Told.WRITTEN:
            self._exists = True


class ImpatientWriter(Writer):
    """Gives up on some of its appends before they are answered."""

    async def write(self) -> None:
        with trio.move_on_after(self._random.choice((0, 0.001, 0.01, 10))):
            await self.append(self.new_events(), ANY)


class CarefulWriter(Writer):
    """Alone on its stream, with version numbers. Where it cannot know, it appends the same events again until it does.

    So nothing but its own events can be in its way, and no version is ever wrong.
    """

    _version: int = NO_STREAM

    async def write(self) -> None:
        events = self.new_events()
        told = await self.append(events, self._version)
        unsure = told is Told.UNKNOWN
        while unsure and told in (Told.UNKNOWN, Told.NOT_WRITTEN):
            told = await self.append(events, self._version)
        self._check(told is not Told.WRONG_VERSION, f"version {self._version} is said to be wrong")
        if told is Told.WRITTEN:
            self._version += len(events)


class RivalWriter(Writer):
    """One of several on a stream, with version numbers: some are wrong by the time they arrive."""

    async def write(self) -> None:
        try:
            last = await self._conn.last_number(self.stream)
        except NOT_WRITTEN:
            return
        await self.append(self.new_events(), NO_STREAM if last is None else last)


class Founder(Writer):
    """Begins one stream after another with NO_STREAM, each of them once."""

    def __init__(self, conn: Connection, ledger: Ledger, streams: Sequence[str], number: int, random: Random) -> None:
        super().__init__(conn, ledger, streams[0], number, random)
        self._left = list(streams)

    async def write(self) -> None:
        if self._left:
            self.stream = self._left.pop()
            await self.append(self.new_events(), NO_STREAM)
        await trio.sleep(1)
