"""Where a subscription's frames wait for their consumer: bounded in events and in bytes."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.errors import TrioExtremeError
    from trio_extreme.wire.framing import Run

MAX_TAKE = 4096


class Inbox(Protocol):
    """Where what a feed brings is put. Nothing of it waits: the reader calls it."""

    def opened(self, run: Run, *, again: bool) -> None:
        """The server has confirmed with this; `again`: after the feed was interrupted."""
        ...

    def put(self, run: Run) -> None:
        """These came, all of one command."""
        ...

    def interrupted(self) -> None:
        """The feed has ended, and is to be opened again."""
        ...

    def end(self, error: TrioExtremeError) -> None:
        """The feed has ended for good."""
        ...


class Mailbox:
    """A memory channel of runs of frames, one for all that came together.

    The reader puts, and never waits; the consumer takes. Above a bound nothing more is taken in and `on_overflow` is
    called, once. However it ends, what it holds is taken first, and only then is the error raised that ended it.
    """

    def __init__(self, max_events: int, max_bytes: int, on_overflow: Callable[[], None]) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_overflow = on_overflow
        self._send, self._receive = trio.open_memory_channel["Run"](inf)
        self._error: TrioExtremeError | None = None
        self._ends_in_mark = False
        self.events = 0
        self.bytes = 0

    def put(self, run: Run) -> None:
        """Keep what came for the consumer, unless this has ended."""
        if self._error is not None:
            return
        bodies = run[3]
        size = sum(map(len, bodies))
        if self.events + len(bodies) > self._max_events or self.bytes + size > self._max_bytes:
            self._on_overflow()
            return
        self.events += len(bodies)
        self.bytes += size
        self._ends_in_mark = False
        self._send.send_nowait(run)

    def opened(self, run: Run, *, again: bool) -> None:
        """Keep a confirmation that follows an interruption, as its mark; of several with nothing between the first."""
        if again and not self._ends_in_mark:
            self.put(run)
            self._ends_in_mark = True

    def interrupted(self) -> None:
        """The feed has ended, and is to be opened again. What came before is handed out all the same."""

    @property
    def ended(self) -> bool:
        """Whether nothing is taken in any more."""
        return self._error is not None

    def end(self, error: TrioExtremeError) -> None:
        """Take nothing more in; `error` is raised once what is here was taken. The first error stays."""
        if self._error is None:
            self._error = error
            self._send.close()

    async def take(self) -> list[Run]:
        """What is here, about `MAX_TAKE` frames at most. Raises what this was ended with; cancelling loses nothing.

        All that waits is taken at once: the reader brings some at each of its turns, and a consumer that took as much
        at each of its own could never catch up.
        """
        try:
            runs = [await self._receive.receive()]
        except trio.EndOfChannel:
            assert self._error is not None
            raise self._error.with_traceback(None) from self._error.__cause__
        events = self._took(runs[0])
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while events < MAX_TAKE:
                runs.append(self._receive.receive_nowait())
                events += self._took(runs[-1])
        self._ends_in_mark = False
        return runs

    def _took(self, run: Run) -> int:
        bodies = run[3]
        self.events -= len(bodies)
        self.bytes -= sum(map(len, bodies))
        return len(bodies)
