"""Writing events to a stream that may have some of them: each once, by its id, whoever else writes there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_extreme.cli.failures import CommandFailed
from trio_extreme.errors import StreamNotFound, WrongExpectedVersion
from trio_extreme.values import ANY, NO_STREAM, STREAM_EXISTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.client import Connection
    from trio_extreme.events import NewEvent
    from trio_extreme.values import WriteResult


class Additions(NamedTuple):
    """Events that were written, the first of them with this number, the others behind it."""

    first: int
    events: Sequence[NewEvent]


class Once:
    """One stream that is written. What is there is read before the first event is written, and remembered by its ids.

    The server's own memory of ids is not relied on: it keeps some for a while. `expected` says where the stream is to
    be before the first of all events that are ever written like this; with NO_STREAM or a number nobody else's events
    may come behind that. An id that comes again counts once.
    """

    def __init__(self, conn: Connection, name: str, expected: int) -> None:
        self.name = name
        #: How many events were written, and how many were there already.
        self.written = 0
        self.present = 0
        #: The numbers of the first and of the last one written.
        self.first: int = NO_STREAM
        self.last: int = NO_STREAM
        self._conn = conn
        self._expected = expected
        # Behind this number there may be nothing but what we write; None: anything may.
        self._base = None if expected in (ANY, STREAM_EXISTS) else expected
        # The number of the stream's last event.
        self._end: int = NO_STREAM if self._base is None else self._base
        # The number of the first event that it still shows, and where its numbers go on, were it soft-deleted.
        self._begins: int | None = None
        self._deleted_at: int = NO_STREAM
        # The ids of all that is there; and where only we may write, of what was there and has not come yet.
        self._known: set[bytes] = set()
        self._foreign: set[bytes] = set()
        # Whether the first event of all was there; None until it has come.
        self._first_was_there: bool | None = None

    async def write(self, events: Sequence[NewEvent]) -> Additions | None:
        """Write those that are not there yet; None where all were there.

        Raises `WrongExpectedVersion` where the stream is not where it was expected, and `CommandFailed` where it has
        lost its beginning, so that nobody can say whether these events were there. Cancelled, they may be written.
        """
        await trio.lowlevel.checkpoint()
        if self._first_was_there is None:
            await self._read_on()
            self._first_was_there = events[0].id_bytes in self._known
        missing, additions = self._missing(events), None
        while missing and additions is None:
            additions = await self._append(missing)
            if additions is None:
                missing = self._missing(missing)
        self.present += len(events) - len(missing)
        return additions

    def _missing(self, events: Sequence[NewEvent]) -> list[NewEvent]:
        self._foreign.difference_update(event.id_bytes for event in events)
        missing = {event.id_bytes: event for event in events if event.id_bytes not in self._known}
        return list(missing.values())

    async def _read_on(self) -> bool:
        """Read what is behind the last event that we know of. Returns whether the stream has moved."""
        before = self._end
        reader = self._conn.read_stream(self.name, start=before + 1, resolve_links=False, require_master=True)
        try:
            async for page in reader.pages():
                self._begins = page[0].number if self._begins is None else self._begins
                self._learn([event.id_bytes for event in page])
            self._end = reader.last_number
        except StreamNotFound as error:
            self._end = NO_STREAM
            self._deleted_at = NO_STREAM if error.last_number is None else error.last_number
        return self._end != before  # noqa: ASYNC910 - reading was a checkpoint

    def _learn(self, ids: Sequence[bytes]) -> None:
        self._known.update(ids)
        if self._base is not None:
            self._foreign.update(ids)

    async def _append(self, events: Sequence[NewEvent]) -> Additions | None:
        """Write all of them; None where somebody else wrote meanwhile: it may have been the same events."""
        if not self.written:
            self._check_start()
        if self._end == NO_STREAM and self._deleted_at > NO_STREAM:
            await self._recreate()
        try:
            result = await self._conn.append(self.name, events, expected=self._end)
        except WrongExpectedVersion as error:
            refusal = error
        else:
            self._add(result, events)
            return Additions(result.first, events)
        if self._base is not None or not await self._read_on():
            raise refusal
        return None  # noqa: ASYNC910 - the refusal was a checkpoint

    def _add(self, result: WriteResult, events: Sequence[NewEvent]) -> None:
        self._known.update(event.id_bytes for event in events)
        self.first = self.first if self.written else result.first
        self._end = self.last = result.last
        self.written += len(events)

    def _check_start(self) -> None:
        """Whether the first event may be written to the stream as it was read."""
        if self._expected == STREAM_EXISTS and self._end == NO_STREAM:
            raise WrongExpectedVersion(self.name, self._expected, self._end)
        if self._base is not None:
            has_others = bool(self._foreign) or (self._end > self._base and not self._first_was_there)
            if has_others or self._end < self._base:
                raise WrongExpectedVersion(self.name, self._base, self._end)
        elif self._end > NO_STREAM and self._begins != 0 and not self._first_was_there:
            gone = "all its events" if self._begins is None else f"its events before {self._begins}"
            msg = f"stream {self.name!r} has lost {gone}; what is imported may have been among them"
            raise CommandFailed(
                msg, f"the same with --expected {self._end} if it was not, or --stream with another name"
            )

    async def _recreate(self) -> None:
        """Let a soft-deleted stream be seen again, empty.

        With NO_STREAM the events that it had would be taken for a repetition of those that are hidden, and some servers
        keep hidden what is appended with a number.
        """
        result = await self._conn.append(self.name, (), expected=ANY)
        self._end = result.last
        self._begins, self._deleted_at = 0, NO_STREAM
