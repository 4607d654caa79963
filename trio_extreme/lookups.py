"""Appends of which it is not known whether they were executed, and the looking into their streams.

One look serves all appends to a stream that wait for one. Who waits is kept across sessions; who looks is a task of the
session, and ends where nobody waits any more.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from trio_extreme.errors import FrameTooLarge, ProtocolError, StreamNotFound, TrioExtremeError
from trio_extreme.operations.looking import MAX_EVENTS, LookUp
from trio_extreme.operations.paging import PageSizer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme.line import Line
    from trio_extreme.operations.looking import Finding
    from trio_extreme.operations.reading import ReadStream, StreamPage
    from trio_extreme.pending import Slot

    Key: TypeAlias = tuple[str, bytes]
    """A stream, and the credentials to read it with."""

    Ask: TypeAlias = Callable[[ReadStream, bytes], Awaitable[StreamPage]]


MOST_AT_ONCE = 16
"""Streams that are looked into at the same time."""


class LookUps:
    """Who waits for a look into which stream.

    `ask` sends a request with credentials. `settle` is given a slot, what was found out about it, and the stream's last
    number; `done` the name of a stream into which nobody waits for a look any more.
    """

    def __init__(
        self,
        line: Line,
        ask: Ask,
        settle: Callable[[Slot[Any], Finding, int], None],
        done: Callable[[str], None],
    ) -> None:
        self._line = line
        self._ask = ask
        self._settle = settle
        self._done = done
        self._waiting: dict[Key, dict[Slot[Any], None]] = {}
        # How many of these keys name a stream.
        self._streams: Counter[str] = Counter()
        # Many pages that were asked for at once would get us cut off, if we read them more slowly than they come.
        self._few = trio.Semaphore(MOST_AT_ONCE)
        self._looking: dict[Key, trio.CancelScope] = {}
        # Where the last session ended in the middle of a look.
        self._interrupted: set[Key] = set()

    def add(self, slot: Slot[Any]) -> None:
        """Look whether this append is there, now or in the next session."""
        key = _key(slot)
        if key not in self._waiting:
            self._waiting[key] = {}
            self._streams[key[0]] += 1
        self._waiting[key][slot] = None
        self._look(key)

    def looks_into(self, stream: str) -> bool:
        """Whether anybody waits for a look into this stream."""
        return stream in self._streams

    def forget(self, slot: Slot[Any]) -> bool:
        """Nobody wants to know any more; whether anybody did."""
        if slot.operation.look_in is None:
            return False
        key = _key(slot)
        slots = self._waiting.get(key, {})
        if slot not in slots:
            return False
        del slots[slot]
        if not slots:
            self._stop(key)
        return True

    def _stop(self, key: Key) -> None:
        """Nobody waits for this look any more."""
        del self._waiting[key]
        self._interrupted.discard(key)
        looking = self._looking.pop(key, None)
        if looking is not None:
            looking.cancel()
        self._streams[key[0]] -= 1
        if not self._streams[key[0]]:
            del self._streams[key[0]]
            self._done(key[0])

    def connected(self) -> None:
        """There is a session: look into all streams that are waited for."""
        self._looking.clear()
        for key in self._waiting:
            self._look(key)

    def _look(self, key: Key) -> None:
        if self._line.session is not None and key not in self._looking:
            self._looking[key] = trio.CancelScope()
            self._line.begin(self._run, key, self._looking[key])

    async def _run(self, key: Key, scope: trio.CancelScope) -> None:  # noqa: ASYNC910 - a task, which somebody waits for
        """Look for all who wait, and again for those who came meanwhile."""
        with scope:
            while slots := tuple(self._waiting.get(key, ())):
                oldest = min([slot.began for slot in slots])
                ids = [event_id for slot in slots for event_id in _ids(slot)]
                look = LookUp(key[0], ids, oldest, min([_floor(slot) for slot in slots]))
                async with self._few:
                    seen = await self._read(look, key[1])
                if not seen and key not in self._interrupted:
                    # The next session begins anew; but it may have died of this, so that no third one tries.
                    self._interrupted.add(key)
                    return
                waiting = [slot for slot in slots if slot in self._waiting.get(key, ())]
                # What is sent again goes before what waits behind the look.
                for slot in waiting:
                    self._settle(slot, look.finding(_ids(slot), _floor(slot)), look.last_number)
                for slot in waiting:
                    self.forget(slot)

    async def _read(self, look: LookUp, credentials: bytes) -> bool:
        """Read until it is known what can be known. False where the session ended before."""
        sizer = PageSizer(MAX_EVENTS)
        while not look.done:
            count = sizer.count
            try:
                page = await self._ask(look.operation(count), credentials)
                look.take(page)
                sizer.learn(len(page.events), page.size)
            except StreamNotFound as error:
                look.not_found(error)
            except FrameTooLarge:
                if not sizer.shrink(count):
                    look.give_up()
            except TrioExtremeError as error:
                if isinstance(error, ProtocolError):
                    self._line.give_up(error)
                if self._line.session is None:
                    return False  # noqa: ASYNC910 - asking waited
                look.give_up()
        return True  # noqa: ASYNC910 - an append of nothing is not looked for


def _ids(slot: Slot[Any]) -> list[bytes]:
    return [event_id.bytes_le for event_id in slot.operation.event_ids]


def _floor(slot: Slot[Any]) -> int:
    """The first number where its events can be: behind the one that was expected, where one was."""
    # Only a refusal tells, and only what a number protects is not looked for without one.
    expected = None if slot.refusal is None else slot.refusal.expected
    return 0 if expected is None else max(expected + 1, 0)


def _key(slot: Slot[Any]) -> Key:
    stream = slot.operation.look_in
    assert stream is not None
    return stream, slot.credentials
