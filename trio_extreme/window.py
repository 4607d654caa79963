"""What a group has sent to one consumer: the events that nobody has taken yet, and what is to be said of those taken.

Rule 1: all of it belongs to one confirmed connection to the group, the `Lease`. When that ends the server gives the
events to others, or again to us: nothing of it is handed out any more, and nothing said.
Rule 2: what was acked is not handed out again. Where the ack came too late, and the server delivers the event again,
the second delivery is acked at once.
Rule 3: what can be done for all events that came together is not done for each; and an event is made when it is about
to be looked at, so that neither the processor's cache nor Python's collector ever sees many of them.
"""

from __future__ import annotations

from collections import deque
from operator import length_hint
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme.errors import ProtocolError, StreamDeleted, TrioExtremeError
from trio_extreme.events import PersistentEvent
from trio_extreme.notices import Notice, Reconnected
from trio_extreme.operations.handing import HandedEvents, read_handed
from trio_extreme.operations.persistent import Settlements
from trio_extreme.operations.subscribing import TOMBSTONE_NUMBERS, is_tombstone
from trio_extreme.wire import schema
from trio_extreme.wire.commands import PARSE_ERRORS, Command
from trio_extreme.wire.framing import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, KeysView, Sequence

    from trio_extreme.wire.framing import Run

_PUSHED = int(Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED)
_NOTHING = HandedEvents(None, (), (), (), (), ())
_LEAST_TOMBSTONE = min(TOMBSTONE_NUMBERS)


class Lease:
    """One confirmed connection to a group: which events it gave, and what of them is to be said."""

    __slots__ = ("_correlation", "_credentials", "_done_before", "_size", "done", "held", "naked", "of", "said", "sent")

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
        #: The ids of what was naked. Each delivery of an event has a bytes object of its own for its id; here is the
        #: one of that which was naked: what is said of it later is not meant for the next.
        self.naked: dict[bytes, bytes] = {}
        self.said = Settlements(subscription_id)
        #: Who waits for it to be sent.
        self.sent = trio.lowlevel.ParkingLot()

    def frames(self) -> list[bytes]:
        """All that is to be said; then there is nothing left."""
        said = self.said.take()
        self.sent.unpark_all()
        return [encode_frame(command, self._correlation, payload, self._credentials) for command, payload in said]

    def hold(self, numbers: dict[bytes, int]) -> None:
        """Somebody has these, or is next to have them."""
        self.held |= numbers
        while len(self.held) > self._size:
            # For a consumer that acks nothing. The server has long given up waiting for the oldest.
            del self.held[next(iter(self.held))]
        if len(self.done) > self._size:
            self._done_before, self.done = self.done, {}

    def note_nak(self, ack_id: bytes) -> None:
        """The delivery whose id this object is was naked."""
        # The key has to be the same object as the value: a delivery before may have left another one.
        self.naked.pop(ack_id, None)
        self.naked[ack_id] = ack_id
        while len(self.naked) > self._size:
            del self.naked[next(iter(self.naked))]

    def knows_none(self, ids: KeysView[bytes]) -> bool:
        """Whether none of these ids was held or done before."""
        return (
            self.done.keys().isdisjoint(ids)
            and self._done_before.keys().isdisjoint(ids)
            and self.held.keys().isdisjoint(ids)
        )

    def is_done(self, ack_id: bytes, number: int) -> bool:
        """Whether this was handled, as far as that was said not long ago. Two events of a stream can have one id."""
        return number in (self.done.get(ack_id), self._done_before.get(ack_id))


class Window:
    """An inbox for the events of a group, from which several tasks may take.

    The reader puts what was pushed, and never waits. Who takes decodes it, a few or many at a time; the reader itself
    only looks at it when there is too much, to find out whether these are the same ones again. `on_handled` is told the
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

        # What nobody has looked at, its bytes, and what followed that is no event.
        self._bodies: list[bytes] = []
        self._size = 0
        self._odd: Run | None = None
        # The events that are next, and their bytes.
        self._next = _NOTHING
        self._sizes: list[int] = []
        #: What is left of them, and what of that tells how many there are.
        self.run: Iterator[PersistentEvent]
        self._marks: Iterator[bytes]
        self.run, self._marks = _NOTHING.handing_out()
        #: Of these, the ids of events that somebody has, and that were delivered again.
        self.again: set[bytes] = set()
        # The stream has come to its end, which is behind them.
        self._ends = False

    @property
    def events(self) -> int:
        """How many events nobody has taken yet."""
        return len(self._bodies) + (self._odd is not None) + self._left()

    @property
    def size(self) -> int:
        """Their bytes."""
        return self._size + sum(self._sizes[len(self._sizes) - self._left() :])

    def _left(self) -> int:
        """How many there are of those that are next."""
        return length_hint(self._marks)

    def _untaken(self) -> HandedEvents:
        """What is left of those that are next."""
        left = self._left()
        return self._next if left == len(self._next) else self._next[len(self._next) - left :]

    def taken(self) -> list[bytes]:
        """The ids of what somebody has, and of which nothing was said yet."""
        held = {} if self.lease is None else self.lease.held
        untaken = set(self._untaken().ids) - self.again
        return [ack_id for ack_id in held if ack_id not in untaken]

    # --- what the reader calls

    def opened(self, run: Run, *, again: bool) -> None:
        """The group has taken us for a consumer."""
        try:
            confirmed = schema.PersistentSubscriptionConfirmation.FromString(run[3][0])
        except PARSE_ERRORS:
            # Whoever waits for the answer finds out too, and ends the session.
            return
        self.lease = Lease(self.identity, run[2], confirmed.subscription_id, self._credentials, self.max_events)
        if again and not self.notices:
            self.notices.append(Reconnected(gap_possible=False))
        self.wake()

    def put(self, run: Run) -> None:
        """Keep what was pushed. What follows something that is no event is nothing to anybody."""
        if self.shut or self.error is not None or self._odd is not None:
            return
        command, _, _, bodies = run
        if command == _PUSHED:
            self._bodies += bodies
            self._size += sum(map(len, bodies))
        else:
            self._odd = run
        self._waiting.unpark(count=len(bodies))
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
        events = self._read(self._bodies, ends=True)
        untaken = self._untaken()
        # Those that are next stay as they are.
        first = set(zip(untaken.ids, untaken.numbers, strict=True))
        last = {key: place for place, key in enumerate(zip(events.ids, events.numbers, strict=True))}
        if self.error is None:
            self._bodies = [self._bodies[place] for key, place in last.items() if key not in first]
            self._size = sum(map(len, self._bodies))

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
        self._bodies = []
        self._size = 0
        self._odd = None
        self._line_up(_NOTHING, [])
        self.again.clear()

    # --- what consumers call

    def wake(self) -> None:
        """Have all who wait look again."""
        self._waiting.unpark_all()

    async def wait(self) -> None:
        """Wait until something has happened; what, is to be looked at."""
        await self._waiting.park()

    def fill(self, limit: int) -> bool:
        """Have something next: what is left, or else so many more events at most. Whether there are any."""
        while self.lease is not None and not self._ends and not self._left() and (self._bodies or self._odd):
            self._decode(self.lease, limit)
        if self._ends and not self._left():
            self._on_failed(StreamDeleted(self._stream))
        return self._left() > 0

    def take(self) -> HandedEvents:
        """All that are next."""
        events = self._untaken()
        self._line_up(_NOTHING, [])
        self.again.clear()
        return events

    def _decode(self, lease: Lease, limit: int) -> None:
        """Make payloads into the events that are next."""
        bodies = self._bodies[:limit]
        del self._bodies[:limit]
        sizes = list(map(len, bodies))
        self._size -= sum(sizes)
        events = self._read(bodies, ends=len(bodies) < limit)
        if max(events.numbers, default=0) >= _LEAST_TOMBSTONE:
            events = self._until_tombstone(events)
            del sizes[len(events) :]
        self.again.clear()
        if len(events.by_id) < len(events) or not lease.knows_none(events.by_id.keys()):
            places = self._without_repetitions(events, lease)
            events, sizes = events.at(places), [sizes[place] for place in places]
        lease.hold(events.by_id)
        self._line_up(events, sizes)

    def _read(self, bodies: Sequence[bytes], *, ends: bool) -> HandedEvents:
        """The events of these payloads; none where one of them is something else, or what follows: that is the end."""
        if self._odd is not None and ends:
            command, _, _, payloads = self._odd
            self._on_failed(self._explain(command, payloads[0]))
            return _NOTHING
        events = read_handed(self.lease, bodies)
        if events is None:
            self._on_failed(ProtocolError("a pushed frame is no PersistentSubscriptionStreamEventAppeared"))
            return _NOTHING
        return events

    def _until_tombstone(self, events: HandedEvents) -> HandedEvents:
        """A tombstone is the end of its stream. It is not acked, so that each consumer of the group gets to know."""
        for place, event in enumerate(events):
            if is_tombstone(event.number, event.type) and event.stream == self._stream:
                self._ends = True
                return events[:place]
        return events

    def _without_repetitions(self, events: HandedEvents, lease: Lease) -> list[int]:
        """The places of those that were not handled; of two copies the last; and a note of those that somebody has."""
        kept: dict[tuple[bytes, int], int] = {}
        handled: list[bytes] = []
        for place, (ack_id, number) in enumerate(zip(events.ids, events.numbers, strict=True)):
            if lease.is_done(ack_id, number):
                handled.append(ack_id)
                continue
            kept[ack_id, number] = place
            if lease.held.get(ack_id) == number:
                self.again.add(ack_id)
        self._on_handled(handled)
        return list(kept.values())

    def _line_up(self, events: HandedEvents, sizes: list[int]) -> None:
        self._next, self._sizes = events, sizes
        self.run, self._marks = events.handing_out()

    # --- what is said of events

    def ack(self, event: Any) -> bool:
        """The usual case, as cheap as can be: an event that was handled, and others that are to be acked with it.

        False for all others, of which nothing is changed here.
        """
        lease = self.lease
        if lease is None or event.__class__ is not PersistentEvent or event.lease is not lease or self.again:
            return False
        ack_id, acks = event.ack_id_bytes, lease.said.acks
        if not acks or ack_id in lease.naked or lease.held.pop(ack_id, None) is None:
            return False
        acks.append(ack_id)
        lease.done[ack_id] = event.checkpoint
        return True

    def ack_all(self, events: HandedEvents) -> Sequence[bytes] | None:
        """The same for all that came together: their ids, where nothing was said of any."""
        lease = self.lease
        if lease is None or events.lease is not lease or self.again:
            return None
        numbers, held = events.by_id, lease.held
        if not held.keys() >= numbers.keys() or len(numbers) < len(events):
            return None
        if not lease.naked.keys().isdisjoint(numbers.keys()):
            return None
        lease.done |= numbers
        for ack_id in numbers:
            del held[ack_id]
        return events.ids

    def settle(self, ack_id: bytes, *, handled: bool) -> bool:
        """Something is said of an event; whether the server waits for that.

        Where it was delivered again already, that counts for the second delivery, which is not handed out any more.
        """
        lease = self.lease
        is_naked = lease is not None and lease.naked.get(ack_id) is ack_id
        number = None if lease is None or is_naked else lease.held.pop(ack_id, None)
        if lease is None or number is None:
            self.ignored += 1
            return False
        if handled:
            lease.done[ack_id] = number
        else:
            lease.note_nak(ack_id)
        if ack_id in self.again:
            self.again.remove(ack_id)
            self._leave_out(ack_id, number)
        return True

    def _leave_out(self, ack_id: bytes, number: int) -> None:
        """Do not hand this one out."""
        left = self._untaken()
        sizes = self._sizes[len(self._sizes) - len(left) :]
        keys = zip(left.ids, left.numbers, strict=True)
        places = [place for place, key in enumerate(keys) if key != (ack_id, number)]
        self._line_up(left.at(places), [sizes[place] for place in places])
