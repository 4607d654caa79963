"""What an event costs without a clock: the function calls that it takes, on each path of `benchmarks.library`.

The library talks to the canned peer of the benchmarks, but in memory: the same bytes in the same chunks, time standing
still and tasks in the same order, so that the counts are the same in each run and on each machine. What is counted are
calls of this library's own functions, and of C functions from them. What a run costs once is left out: a path is run
with some events and with three times as many, and the difference is what they cost.

`python -m tests.benchmarks.counting` prints the table of budgets anew.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter, deque
from contextlib import contextmanager
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import trio
import trio.testing

import trio_extreme
from benchmarks import library
from benchmarks.cases import WORKS, Run
from benchmarks.peer import EVENT_SIZE, Session, Stream
from tests.simulation.determinism import scheduled_by
from trio_extreme import open_connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_OURS = str(Path(trio_extreme.__file__).parent)
_PORT = 1113
_READ_SIZE = 65_536
_FROM_C = ", C"
# Functions of their own before Python 3.12, and none since.
_INLINED = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>"})


BUDGETS = Path(__file__).with_name("budgets.toml")

PATHS: dict[str, tuple[Run, int]] = {
    **{
        way.run.__name__: (way.run, 200 if "append" in way.run.__name__ else 1000)
        for work in WORKS
        for way in work.ways
        if way.run.__module__ == library.__name__
    },
    "append_batches": (library.append_batches, 1000),
}
"""Each way of the library's, and with how many events it is looked at."""


class CannedStream(trio.abc.Stream):
    """The canned peer at the other end of a stream in memory, which answers as soon as it is asked."""

    def __init__(self, stream: Stream) -> None:
        self._session = _Session(self, stream)
        self._unread = b""
        self._chunks: deque[Iterator[bytes]] = deque()
        self._there = trio.Event()

    async def send_all(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()
        with _uncounted():
            self._unread = self._session._answer(self._unread + bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        del max_bytes
        await trio.lowlevel.checkpoint()
        while True:
            while self._chunks:
                for chunk in self._chunks[0]:
                    return chunk
                self._chunks.popleft()
            self._there = trio.Event()
            await self._there.wait()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def sendall(self, data: bytes) -> None:
        """What the canned peer has a socket for."""
        self.bring(data[start : start + _READ_SIZE] for start in range(0, len(data), _READ_SIZE))

    def bring(self, chunks: Iterator[bytes]) -> None:
        self._chunks.append(chunks)
        self._there.set()


class _Session(Session):
    """One that has no more in memory than what is read next."""

    def __init__(self, connection: CannedStream, stream: Stream) -> None:
        super().__init__(connection, stream)
        self._canned = connection

    def _push(self, pushes: Iterator[bytes]) -> None:
        self._canned.bring(pushes)


@cache
def _stream(events: int) -> Stream:
    return Stream(events, EVENT_SIZE)


@contextmanager
def canned(events: int) -> Iterator[None]:
    """Whatever in `benchmarks.library` connects is connected to a canned peer in memory, with so many events."""

    async def connect(_host: str, _port: int) -> CannedStream:
        await trio.lowlevel.checkpoint()
        return CannedStream(_stream(events))

    with patch.object(library, "open_connection", partial(open_connection, connect=connect)):
        yield


def run_canned(run: Run, events: int) -> None:
    """Have a path take so many events, while time stands still."""
    with canned(events), scheduled_by(0):
        trio.run(run, _PORT, events, clock=trio.testing.MockClock())


def calls_of(run: Run, events: int) -> Counter[str]:
    """By function of this library: how often it was called or resumed, and how often it called C."""
    counts: Counter[str] = Counter()
    names: dict[Any, str | None] = {}

    def count(frame: FrameType, event: str, _: object) -> None:
        if event not in {"call", "c_call"}:
            return
        code = frame.f_code
        if code not in names:
            ours = code.co_filename.startswith(_OURS)
            names[code] = f"{Path(code.co_filename).stem}.{code.co_qualname}" if ours else None
        name = names[code]
        if name is not None and (event == "c_call" or code.co_name not in _INLINED):
            counts[name if event == "call" else name + _FROM_C] += 1

    _stream(events)
    sys.setprofile(count)
    try:
        run_canned(run, events)
    finally:
        sys.setprofile(None)
    return counts


@contextmanager
def _uncounted() -> Iterator[None]:
    """What the peer does costs nothing."""
    profile = sys.getprofile()
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.setprofile(profile)


class Cost(NamedTuple):
    """Calls that an event takes: of this library's functions, and of C functions from them."""

    python: float
    c: float


def cost_of(calls: Counter[str], events: int) -> Cost:
    """What so many events cost each."""
    c = sum(count for name, count in calls.items() if name.endswith(_FROM_C))
    return Cost((calls.total() - c) / events, c / events)


def calls_for(run: Run, few: int, many: int) -> Counter[str]:
    """By function: the calls for `many` events beyond those for `few`."""
    calls = calls_of(run, many)
    calls.subtract(calls_of(run, few))
    return calls


def peak_memory(run: Run, events: int) -> int:
    """The most bytes that a run had at a time, but for what the peer has."""
    # The peer keeps the pages that it has made.
    run_canned(run, events)
    gc.collect()
    tracemalloc.start()
    try:
        run_canned(run, events)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def budget(count: float) -> float:
    """A little more than it is."""
    return ceil((count * 1.03 + 0.005) * 100) / 100


def _main() -> None:
    sys.stdout.write(BUDGETS.read_text().partition("\n[")[0])
    for name, (run, events) in PATHS.items():
        cost = cost_of(calls_for(run, events, 3 * events), 2 * events)
        sys.stdout.write(f"\n[{name}]\npython = {budget(cost.python):.2f}\nc = {budget(cost.c):.2f}\n")


if __name__ == "__main__":
    _main()
