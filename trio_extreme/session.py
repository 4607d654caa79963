"""One TCP connection: a reader, a writer, and a watch for silence. When one of them ends, all do.

Rule 1: the reader awaits the socket and nothing else. It cuts frames and files them; what they mean is decided in the
task that waits for them.
Rule 2: only the writer calls `send_all`, so that no cancelled caller can cut a frame.
Rule 3: nothing here raises an error that was to be expected: the session ends, and `cause` says why.
"""

from __future__ import annotations

import os
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme.errors import ConnectionLost, ProtocolError, TrioExtremeError
from trio_extreme.outbox import Outbox
from trio_extreme.pending import correlation_ids
from trio_extreme.tasks import open_plain_nursery
from trio_extreme.transport import READ_SIZE
from trio_extreme.wire.commands import Command, decode_text
from trio_extreme.wire.framing import NO_CORRELATION, FrameBuffer, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_extreme.pending import Slot
    from trio_extreme.settings import Settings
    from trio_extreme.statistics import Counters
    from trio_extreme.wire.framing import Run

TICKS = 4
"""How often the watch looks within a heartbeat interval."""

STALL = 0.5
"""Seconds by which the watch may be late before the program is said to have stood still."""

LAST_WORDS = 0.2
"""Seconds to read what the peer sent before it closed, when writing has failed already."""

_CRUMBS = 1024
"""Bytes of one frame that are a sign of life, after its first ones: answers to heartbeats alone bring fewer."""

_LOOK = 0.005
"""Seconds between two looks whether all was answered, when that is waited for."""

_TELLING = 5
"""How many of a peer's first bytes tell which protocol it speaks."""

_TLS_ALERT, _TLS_HANDSHAKE = b"\x15\x03", b"\x16\x03"


_serial = attrgetter("serial")


class Session:
    """One connection's tasks, and the requests that wait on it. `run` returns when the connection has ended."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        settings: Settings,
        counters: Counters,
        on_taken: Callable[[Slot[Any], float], None],
        on_lost: Callable[[Slot[Any], TrioExtremeError], None],
        *,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._counters = counters
        self._on_lost = on_lost
        self._outbox = Outbox(on_taken)
        self._buffer = FrameBuffer(settings.max_frame_size, self._oversize)
        self._slots: dict[bytes, Slot[Any]] = {}
        self._next_correlation = correlation_ids(random_bytes)
        # All of ours begin with it.
        self._prefix = self._next_correlation()[:8]
        self._scope = trio.CancelScope()
        self._last_received = trio.current_time()
        # Bytes of a frame that has not ended, since the last sign of life.
        self._crumbs = 0
        # When the watch means to look next, and how long the program last kept it from that, and until when.
        self._look_at = inf
        self._stalled = 0.0
        self._stalled_until = -inf
        self._first_bytes = b""
        self._ended = trio.Event()
        self.cause: TrioExtremeError | None = None
        #: What the server said to the connection as a whole before it closed.
        self.farewell = ""

    def __repr__(self) -> str:
        state = "open" if self.cause is None else f"ended: {self.cause}"
        return f"<Session: {state}, {len(self._slots)} slots>"

    @property
    def slots(self) -> tuple[Slot[Any], ...]:
        """All requests and subscriptions that are registered."""
        return tuple(self._slots.values())

    def submit(self, slot: Slot[Any]) -> None:
        """Register a request under a new id and queue it. Not to be called once the session has ended."""
        slot.renew(self._next_correlation())
        self._slots[slot.correlation] = slot
        self._outbox.put(slot)

    def forget(self, slot: Slot[Any]) -> None:
        """The caller has gone: what was not sent is not sent, and the answer finds nobody.

        Where the server keeps a subscription for it, it is told; what was never sent it never hears of.
        """
        slot.gone = True
        known = self._slots.pop(slot.correlation, None)
        if known is not None and slot.holds and self.cause is None:
            # Without credentials, which nobody looks at here: an empty password before an empty payload is no
            # package to servers up to 5.0, and they close (docs/protocol.md, 1.2).
            self._outbox.put_urgent(encode_frame(Command.UNSUBSCRIBE_FROM_STREAM, slot.correlation))

    def send_joined(self, make: Callable[[], Iterable[bytes]]) -> None:
        """Send frames before all that is queued; they are made when the writer comes to them."""
        self._outbox.put_joined(make)

    async def flushed(self) -> None:
        """Wait until all that is queued was given to the socket. Nobody sends any more once the session has ended."""
        await self._outbox.flushed()

    def end(self, cause: TrioExtremeError) -> None:
        """End the session; the first cause stays. What becomes of all that waits on it is decided at once, in order."""
        if self.cause is None:
            self.cause = cause
            self._scope.cancel()
            self._ended.set()
            self._outbox.close()
            # One that was sent again, because no answer had come in time, stands behind what came after it.
            slots = sorted(self.slots, key=_serial)
            self._slots.clear()
            for slot in slots:
                self._on_lost(slot, cause)

    def gave(self, correlation: bytes) -> bool:
        """Whether this id is one of ours."""
        return correlation.startswith(self._prefix)

    async def quiet(self) -> None:
        """Wait until all that was asked is answered. Cancelling is harmless."""
        # No event: the reader, who files answers, is not to look who waits for the last of them.
        while any(not slot.settled for slot in self._slots.values()):  # noqa: ASYNC110 - as above
            await trio.sleep(_LOOK)
        await trio.lowlevel.checkpoint()

    async def ended(self) -> None:
        """Wait until the session has ended."""
        await self._ended.wait()

    async def run(self) -> None:
        """Serve until the connection ends or this is cancelled; the stream is closed and all tasks gone afterwards."""
        try:
            with self._scope:
                async with open_plain_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch)
        finally:
            self.end(ConnectionLost("the session was cancelled"))
            # Shielded: whoever waited for the end cancels us now, and that would hide an error on its way.
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)

    async def _read(self) -> None:  # noqa: ASYNC910 - it ends with the connection
        receive = self._stream.receive_some
        try:
            while chunk := await receive(READ_SIZE):
                self._received(bytes(chunk))
            self.end(self._lost("the server closed it"))
        except ProtocolError as error:
            self.end(self._guess(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self.end(self._lost(f"it broke ({_reason(error)})", error))

    def _received(self, chunk: bytes) -> None:
        counters = self._counters
        if len(self._first_bytes) < _TELLING:
            self._first_bytes += chunk[:_TELLING]
        counters.bytes_received += len(chunk)
        runs = self._buffer.feed_runs(chunk)
        self._note_life(len(chunk), whole=bool(runs))
        self._file(runs)
        self._buffer.check()

    def _note_life(self, size: int, *, whole: bool) -> None:
        """Any byte is a sign of life, but not for ever.

        Where a length arrives wrong, all that follows is taken for the rest of that frame, answers to heartbeats too:
        such a connection would live for days, and nobody would get an answer.
        """
        begins = not self._crumbs
        self._crumbs += size
        if whole or begins or self._crumbs >= _CRUMBS:
            self._last_received = trio.current_time()
        if whole or self._crumbs >= _CRUMBS:
            self._crumbs = 0

    def _file(self, runs: list[Run]) -> None:
        """Give each run to whoever waits for its id."""
        counters = self._counters
        for run in runs:
            counters.frames_received += len(run[3])
            slot = self._slots.get(run[2])
            if slot is None:
                self._stray(run)
            else:
                slot.deliver(run)

    def _stray(self, run: Run) -> None:
        command, _, correlation, bodies = run
        if command == Command.HEARTBEAT_REQUEST:
            for _ in bodies:
                self._answer_heartbeat(correlation)
        elif command == Command.BAD_REQUEST and correlation == NO_CORRELATION:
            self.farewell = decode_text(bodies[0])
            self.end(self._lost(f"the server says: {self.farewell}"))
        elif command != Command.HEARTBEAT_RESPONSE:
            # Mostly answers whose caller has gone, and events after an unsubscribe (pitfall 11).
            self._counters.stray_frames += len(bodies)

    def _answer_heartbeat(self, correlation: bytes) -> None:
        # A peer that asks on and on and never reads the answers must not fill our memory with them.
        if not self._outbox.crowded:
            self._outbox.put_urgent(encode_frame(Command.HEARTBEAT_RESPONSE, correlation))

    def _oversize(self, correlation: bytes, length: int) -> None:
        """A frame above the limit is skipped where it comes to one of our ids, even of a caller who has gone."""
        if not correlation.startswith(self._prefix):
            limit = self._settings.max_frame_size
            msg = f"the peer sent a frame of {length:,} bytes, unasked; the limit is {limit:,} (max_frame_size)"
            raise ProtocolError(msg)

    async def _write(self) -> None:
        counters = self._counters
        try:
            while True:
                data, frames = await self._outbox.take()
                await self._stream.send_all(data)
                counters.bytes_sent += len(data)
                counters.frames_sent += frames
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            # The reader knows better why: it still gets what the peer sent before it closed.
            await trio.sleep(LAST_WORDS)
            self.end(self._lost(f"it broke while sending ({_reason(error)})", error))

    async def _watch(self) -> None:
        """Ask for a sign of life after a silence, and end the session when none comes.

        Time in which this program stood still is no silence of the peer: nobody listened. Only what was meant to be
        slept counts, so a program that stands still again and again notices a dead peer too, if later.
        """
        interval, timeout = self._settings.heartbeat_interval, self._settings.heartbeat_timeout
        heard, silence, limit = self._last_received, 0.0, interval
        while True:
            seconds = max(0.0, min(limit - silence, interval / TICKS))
            await self._sleep(seconds)
            silence += seconds
            if self._last_received != heard:
                heard, limit = self._last_received, interval
                silence = trio.current_time() - heard
            elif silence >= limit > interval:
                self.end(self._lost(self._silence(interval + timeout)))
            elif silence >= limit:
                self._outbox.put_urgent(encode_frame(Command.HEARTBEAT_REQUEST, self._next_correlation()))
                limit = silence + timeout

    def _silence(self, seconds: float) -> str:
        if self._crumbs:
            return f"in {seconds:g} s there came no more than {self._crumbs:,} bytes of a frame that does not end"
        return f"the server was silent for {seconds:g} s and gave no sign of life when asked"

    async def _sleep(self, seconds: float) -> None:
        """Sleep, and see whether the program stood still meanwhile."""
        self._look_at = trio.current_time() + seconds
        await trio.sleep_until(self._look_at)
        now = trio.current_time()
        if now - self._look_at >= STALL:
            self._stalled, self._stalled_until = now - self._look_at, now
            # What the peer said meanwhile still lies in the socket, and the reader comes first. Twice, because who runs
            # first within a turn is chance.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    def _lost(self, why: str, cause: BaseException | None = None) -> ConnectionLost:
        error = ConnectionLost(f"the connection is lost: {why}{self._stall()}{self._hint()}")
        error.__cause__ = cause
        return error

    def _stall(self) -> str:
        """How long the program kept its tasks from running just before, which servers take for silence."""
        now = trio.current_time()
        # The watch may not have had its turn yet after a stall that is only just over.
        late = now - self._look_at
        recent = now - self._stalled_until < self._settings.heartbeat_interval + self._settings.heartbeat_timeout
        seconds = max(late, self._stalled if recent else 0.0)
        if seconds < STALL:
            return ""
        return (
            f"; this program had not let other tasks run for {seconds:.1f} s, and servers cut off who is silent: "
            "await something in long work, or move it to a thread"
        )

    def _guess(self, error: ProtocolError) -> ProtocolError:
        guess = ProtocolError(f"{error}{self._hint()}")
        guess.__cause__ = error
        return guess

    def _hint(self) -> str:
        """What the peer probably is, where its first bytes tell."""
        if self._first_bytes.startswith(b"HTTP/"):
            return (
                "; it answers in HTTP: this is the port of the web interface, the TCP port is another (1113 by default)"
            )
        if self._first_bytes.startswith((_TLS_ALERT, _TLS_HANDSHAKE)):
            return "; it answers in TLS: this is a TLS port, and the connection was opened without TLS"
        if not self._first_bytes:
            return " before it said a word: a TLS port, a load balancer without a server, or no Event Store at all"
        return ""


def _reason(error: BaseException) -> str:
    """The system's own words, which trio keeps as the cause."""
    return str(error.__cause__ or error) or type(error).__name__
