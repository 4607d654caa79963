"""What a group has sent to one consumer: the events that nobody has taken yet, and what is to be said of those taken.

Rule 1: all of it belongs to one confirmed connection to the group, the `Lease`. When that ends the server gives the
events to others, or again to us: nothing of it is handed out any more, and nothing said.
Rule 2: what was acked is not handed out again. Where the ack came too late, and the server delivers the event again,
the second delivery is acked at once.
Rule 3: what can be done for all events that came together is not done for each; but no more of them are decoded at a
time than the processor's cache holds.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme.errors import ProtocolError, StreamDeleted, TrioExtremeError
from trio_extreme.events import PersistentEvent
from trio_extreme.notices import Notice, Reconnected
from trio_extreme.operations.persistent import Settlements
from trio_extreme.operations.subscribing import TOMBSTONE_NUMBERS, is_tombstone
from trio_extreme.wire import schema
from trio_extreme.wire.commands import PARSE_ERRORS, Command
from trio_extreme.wire.framing import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from trio_extreme.wire.framing import Frame

_PUSHED = {int(Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED)}
_ID_SIZE = 16
_LEAST_TOMBSTONE = min(TOMBSTONE_NUMBERS)


class Lease:
    """One confirmed connection to a group: which events it gave, and what of them is to be said."""

    __slots__ = ("_correlation", "_credentials", "_done_before", "_size", "done", "held", "of", "said", "sent")

    def __init__(self, of: object, correlation: bytes, subscription_id: str, credentials: bytes, size: int) -> None:
        #: What all leases of one subscription have in common.
        self.of = of
        # Those of the request that was confirmed; acks go under them too.
        self._correlation = correlation
        self._credentials = credentials
        self._size = size
        #: What somebody has or is next to have, and of which nothing was said yet: numbers, by the ids to ack.
        self.held: dict[bytes, int] = {}
        #: What was handled; in two generations, so that the older can be forgotten at once.
        self.done: dict[bytes, int] = {}
        self._done_before: dict[bytes, int] = {}
        self.said = Settlements(subscription_id)
        #: Who waits for it to be sent.
        self.sent = trio.lowlevel.ParkingLot()

    def frames(self) -> list[bytes]:
        """All that is to be said; then there is nothing left."""
        said = self.said.take()
        self.sent.unpark_all()
        return [encode_frame(command, self._correlation, payload, self._credentials) for command, payload in said]

    def hold(self, ids: Sequence[bytes], numbers: Iterable[int]) -> None:
        """Somebody has these, or is next to have them."""
        self.held.update(zip(ids, numbers, strict=True))
        while len(self.held) > self._size:
            # For a consumer that acks nothing. The server has long given up waiting for the oldest.
            del self.held[next(iter(self.held))]
        if len(self.done) > self._size:
            self._done_before, self.done = self.done, {}

    def knows_none(self, ids: Sequence[bytes]) -> bool:
        """Whether none of these ids was held or done before, and none is there twice."""
        return (
            self.done.keys().isdisjoint(ids)
            and self._done_before.keys().isdisjoint(ids)
            and self.held.keys().isdisjoint(ids)
            and len(set(ids)) == len(ids)
        )

    def is_done(self, ack_id: bytes, number: int) -> bool:
        """Whether this was handled, as far as that was said not long ago. Two events of a stream can have one id."""
        return number in (self.done.get(ack_id), self._done_before.get(ack_id))


class Window:
    """An inbox for the events of a group, from which several tasks may take.

    The reader puts lists of frames, and never waits. Who takes decodes them, a run at a time; the reader itself only
    looks at them when there are too many, to find out whether they are the same ones again. `on_handled` is told the
    ids of events that come once more after they were handled. What is no event is told to `on_failed`: the error that
    `explain` finds for a command and its payload, or that of bytes that are none.
    """

    def __init__(
        self,
        stream: str,
        max_events: int,
        max_bytes: int,
        credentials: bytes,
        *,
        on_overflow: Callable[[], None],
        on_handled: Callable[[Sequence[bytes]], None],
        on_failed: Callable[[TrioExtremeError], None],
        explain: Callable[[int, bytes], TrioExtremeError],
    ) -> None:
        self._stream = stream
        self.max_events = max_events
        self._max_bytes = max_bytes
        self._credentials = credentials
        self._on_overflow = on_overflow
        self._on_handled = on_handled
        self._on_failed = on_failed
        self._explain = explain
        self._waiting = trio.lowlevel.ParkingLot()
        #: What its leases have in common; events that outlive all this keep no more of it alive.
        self.identity = object()
        #: There is none while there is no connection to the group, and then there is nothing to take.
        self.lease: Lease | None = None
        #: What it was ended with.
        self.error: TrioExtremeError | None = None
        #: Nothing is taken in: somebody has to connect first.
        self.shut = False
        self.notices: deque[Notice] = deque()
        #: Of how many events something was said in vain.
        self.ignored = 0

        # What nobody has looked at, and its bytes.
        self._frames: list[Frame] = []
        self._size = 0
        # The events that are next, and what is left of them.
        self._next: list[PersistentEvent] = []
        self.run: Iterator[PersistentEvent] = iter(())
        #: Of these, the ids of events that somebody has, and that were delivered again.
        self.again: set[bytes] = set()
        # The stream has come to its end, which is behind them.
        self._ends = False

    @property
    def events(self) -> int:
        """How many events nobody has taken yet."""
        return len(self._frames) + length_hint(self.run)

    @property
    def size(self) -> int:
        """Their bytes."""
        return self._size + sum([event.size for event in self.untaken()])

    def untaken(self) -> Sequence[PersistentEvent]:
        """What is left of those that are next."""
        return self._next[len(self._next) - length_hint(self.run) :]

    def taken(self) -> list[bytes]:
        """The ids of what somebody has, and of which nothing was said yet."""
        held = {} if self.lease is None else self.lease.held
        untaken = {event.ack_id_bytes for event in self.untaken()} - self.again
        return [ack_id for ack_id in held if ack_id not in untaken]

    # --- what the reader calls

    def opened(self, frame: Frame, *, again: bool) -> None:
        """The group has taken us for a consumer."""
        try:
            confirmed = schema.PersistentSubscriptionConfirmation.FromString(frame[3])
        except PARSE_ERRORS:
            # Whoever waits for the answer finds out too, and ends the session.
            return
        self.lease = Lease(self.identity, frame[2], confirmed.subscription_id, self._credentials, self.max_events)
        if again and not self.notices:
            self.notices.append(Reconnected(gap_possible=False))
        self.wake()

    def put(self, frames: list[Frame]) -> None:
        """Keep what was pushed."""
        if self.shut or self.error is not None:
            return
        self._frames += frames
        self._size += sum([len(frame[3]) for frame in frames])
        self._waiting.unpark(count=len(frames))
        if self._is_full():
            self._compact()
            if self.error is None and self._is_full():
                self._on_overflow()

    def _is_full(self) -> bool:
        if self.events > self.max_events:
            return True
        # One event alone is let in whatever its size, or nobody would ever get it.
        return self._size > self._max_bytes and self.events > 1

    def _compact(self) -> None:
        """Of each event that was delivered again keep the last copy: nobody can have taken an earlier one."""
        events = self._read(self._frames)
        first = {(event.ack_id_bytes, event.checkpoint): 0 for event in self.untaken()}
        last = {(event.ack_id_bytes, event.checkpoint): place for place, event in enumerate(events)}
        # Those that are next stay as they are.
        kept = [place for key, place in last.items() if key not in first]
        if self.error is None:
            self._frames = [self._frames[place] for place in kept]
            self._size = sum([events[place].size for place in kept])

    def interrupted(self) -> None:
        """The connection to the group has ended: nothing of it counts any more."""
        lease = self.lease
        if lease is not None:
            self.ignored += lease.said.count
            lease.said.clear()
        self.close()

    def end(self, error: TrioExtremeError) -> None:
        """There will be no connection any more; whoever takes raises this. The first error stays."""
        if self.error is None:
            self.error = error
            self.close()
            self.wake()

    def close(self) -> None:
        """Drop what nobody has taken. What was said is still sent, where the session lives."""
        if self.lease is not None:
            # They only wait so that not too much is said at once.
            self.lease.sent.unpark_all()
            self.lease = None
        self._frames = []
        self._size = 0
        self._line_up([])
        self.again.clear()

    # --- what consumers call

    def wake(self) -> None:
        """Have all who wait look again."""
        self._waiting.unpark_all()

    async def wait(self) -> None:
        """Wait until something has happened; what, is to be looked at."""
        await self._waiting.park()

    def fill(self, limit: int) -> bool:
        """Have `run` give what is left of it, or else so many more events at most; whether there are any."""
        while self.lease is not None and self._frames and not self._ends and not length_hint(self.run):
            self._decode(self.lease, limit)
        if self._ends and not length_hint(self.run):
            self._on_failed(StreamDeleted(self._stream))
        return length_hint(self.run) > 0

    def _decode(self, lease: Lease, limit: int) -> None:
        """Make frames into the events that are next."""
        frames = self._frames[:limit]
        del self._frames[:limit]
        events = self._read(frames)
        self._size -= sum([event.size for event in events])
        numbers = [event.checkpoint for event in events]
        if max(numbers, default=0) >= _LEAST_TOMBSTONE:
            events = self._until_tombstone(events)
            numbers = numbers[: len(events)]
        ids = [event.ack_id_bytes for event in events]
        self.again.clear()
        if not lease.knows_none(ids):
            events = self._without_repetitions(events, lease)
            ids = [event.ack_id_bytes for event in events]
            numbers = [event.checkpoint for event in events]
        lease.hold(ids, numbers)
        self._line_up(events)

    def _read(self, frames: Sequence[Frame]) -> list[PersistentEvent]:
        """The events of these frames; none where one of them is something else, which is the end."""
        if {frame[0] for frame in frames} != _PUSHED:
            command, _, _, body = next(frame for frame in frames if frame[0] not in _PUSHED)
            self._on_failed(self._explain(command, body))
            return []
        bodies = [frame[3] for frame in frames]
        batch = _parse(bodies)
        if batch is None:
            self._on_failed(ProtocolError("a pushed frame is no PersistentSubscriptionStreamEventAppeared"))
            return []
        events = list(map(PersistentEvent, *batch, repeat(self.lease), map(len, bodies)))
        if len(b"".join([event.ack_id_bytes for event in events])) != _ID_SIZE * len(events):
            self._on_failed(ProtocolError("a pushed event has an id that is none"))
            return []
        return events

    def _until_tombstone(self, events: list[PersistentEvent]) -> list[PersistentEvent]:
        """A tombstone is the end of its stream. It is not acked, so that each consumer of the group gets to know."""
        for place, event in enumerate(events):
            if is_tombstone(event.number, event.type) and event.stream == self._stream:
                self._ends = True
                return events[:place]
        return events

    def _without_repetitions(self, events: Iterable[PersistentEvent], lease: Lease) -> list[PersistentEvent]:
        """Without those that were handled; of two copies the last; and with a note of those that somebody has."""
        kept: dict[tuple[bytes, int], PersistentEvent] = {}
        handled: list[bytes] = []
        for event in events:
            ack_id, number = event.ack_id_bytes, event.checkpoint
            if lease.is_done(ack_id, number):
                handled.append(ack_id)
                continue
            kept[ack_id, number] = event
            if lease.held.get(ack_id) == number:
                self.again.add(ack_id)
        self._on_handled(handled)
        return list(kept.values())

    def _line_up(self, events: list[PersistentEvent]) -> None:
        self._next = events
        self.run = iter(events)

    def ack(self, event: Any) -> bool:
        """The usual case, as cheap as can be: an event that was handled, and others that are to be acked with it.

        False for all others, of which nothing is changed here.
        """
        lease = self.lease
        if lease is None or event.__class__ is not PersistentEvent or event.lease is not lease or self.again:
            return False
        ack_id, acks = event.ack_id_bytes, lease.said.acks
        if not acks or lease.held.pop(ack_id, None) is None:
            return False
        acks.append(ack_id)
        lease.done[ack_id] = event.checkpoint
        return True

    def ack_all(self, events: Sequence[Any]) -> list[bytes] | None:
        """The same for many: their ids, where all of them are ours, once, and nothing was said of any.

        None for all others, of which nothing is changed here.
        """
        lease = self.lease
        if lease is None or self.again or {event.__class__ for event in events} != {PersistentEvent}:
            return None
        if {event.lease for event in events} != {lease}:
            return None
        numbers = {event.ack_id_bytes: event.checkpoint for event in events}
        if len(numbers) != len(events) or not lease.held.keys() >= numbers.keys():
            return None
        lease.done |= numbers
        for ack_id in numbers:
            del lease.held[ack_id]
        return list(numbers)

    def settle(self, ack_id: bytes, *, handled: bool) -> bool:
        """Something is said of an event; whether the server waits for that.

        Where it was delivered again already, that counts for the second delivery, which is not handed out any more.
        """
        lease = self.lease
        number = None if lease is None else lease.held.pop(ack_id, None)
        if lease is None or number is None:
            self.ignored += 1
            return False
        if handled:
            lease.done[ack_id] = number
        if ack_id in self.again:
            self.again.remove(ack_id)
            left = self.untaken()
            self._line_up([event for event in left if (event.ack_id_bytes, event.checkpoint) != (ack_id, number)])
        return True


def _parse(bodies: Sequence[bytes]) -> tuple[Sequence[schema.ResolvedIndexedEvent], Iterable[int | None]] | None:
    """The events, and how often each was delivered before; None where the bytes are no events.

    Joined, the payloads are one message: decoded in one call, at a fifth of the price.
    """
    try:
        batch = schema.PersistentSubscriptionStreamEventsAppeared.FromString(b"".join(bodies))
        if len(batch.event) != len(bodies):
            return None
        counts = batch.retryCount
        if not counts:
            return batch.event, repeat(None, len(bodies))
        if len(counts) == len(bodies):
            return batch.event, counts
        # Some have none: which, only each by itself can tell.
        each = [schema.PersistentSubscriptionStreamEventAppeared.FromString(body) for body in bodies]
    except PARSE_ERRORS:
        return None
    return [push.event for push in each], [push.retryCount if push.HasField("retryCount") else None for push in each]
