"""A group's window by itself: whatever is pushed, taken, settled and interrupted, in whatever order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, strategies as st

from tests.grouping import APPEARED, CONFIRMATION, confirmed, handed, id_of
from trio_extreme.errors import ConnectionLost, ProtocolError, StreamDeleted
from trio_extreme.window import Window
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import FrameBuffer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme import PersistentEvent, TrioExtremeError
    from trio_extreme.operations.handing import HandedEvents
    from trio_extreme.wire.framing import Run

IN_FLIGHT = 4


class Owner:
    """Whose window it is: what it was told."""

    def __init__(self, max_bytes: int = 1_000_000) -> None:
        self.window = Window(
            "s",
            2 * IN_FLIGHT,
            max_bytes,
            b"",
            on_overflow=self._overflow,
            on_handled=self._acked_again,
            on_failed=self._fail,
            explain=lambda command, _: ProtocolError(f"command {command}"),
        )
        self.overflows = 0
        self.again: list[bytes] = []
        self.errors: list[TrioExtremeError] = []
        self._leases = 0

    def _overflow(self) -> None:
        self.overflows += 1
        self.window.shut = True
        self.window.close()

    def _acked_again(self, ids: Sequence[bytes]) -> None:
        self.again += ids

    def _fail(self, error: TrioExtremeError) -> None:
        self.errors.append(error)
        self.window.end(error)

    def open(self, *, again: bool = False) -> None:
        self._leases += 1
        correlation = self._leases.to_bytes(16, "big")
        self.window.shut = False
        self.window.opened((CONFIRMATION, 0, correlation, [confirmed().SerializeToString()]), again=again)

    def push(self, *numbers: int, retry: int | None = 0) -> None:
        self.window.put(run_of(*[pushed(number, retry=retry) for number in numbers]))

    def take(self) -> PersistentEvent | None:
        return next(self.window.run) if self.window.fill(3) else None

    def settle(self, event: PersistentEvent, *, handled: bool = True) -> bool:
        """As a subscription does it."""
        if event.lease is not self.window.lease:
            self.window.ignored += 1
            return False
        if handled and self.window.ack(event):
            return True
        settled = self.window.settle(event.ack_id_bytes, handled=handled)
        if settled and handled:
            event.lease.said.add([event.ack_id_bytes], None)
        return settled


def pushed(number: int, **options: Any) -> bytes:
    return handed(number, **options).SerializeToString()


def run_of(*bodies: bytes) -> Run:
    return APPEARED, 0, bytes(16), list(bodies)


def opened() -> Owner:
    owner = Owner()
    owner.open()
    return owner


def numbers(owner: Owner) -> list[int]:
    """All that can be taken."""
    found = []
    while (event := owner.take()) is not None:
        found.append(event.number)
    return found


def test_nothing_is_handed_out_before_it_is_confirmed() -> None:
    owner = Owner()
    owner.push(1, 2)
    assert owner.take() is None
    assert owner.window.events == 2
    owner.open()
    assert numbers(owner) == [1, 2]


def test_sizes_are_those_of_what_nobody_took() -> None:
    owner = opened()
    bodies = [pushed(number, data=bytes(number)) for number in range(1, 6)]
    sizes = list(map(len, bodies))
    owner.window.put(run_of(*bodies))
    for taken in range(6):
        assert (owner.window.events, owner.window.size) == (5 - taken, sum(sizes[taken:]))
        owner.take()


def test_a_tombstone_has_no_size() -> None:
    owner = opened()
    end = handed(2**63 - 1, data=bytes(100))
    end.event.event.event_type = "$streamDeleted"
    bodies = [pushed(1), pushed(2, data=b"two")]
    owner.window.put(run_of(*bodies, end.SerializeToString()))
    assert owner.take() is not None
    assert (owner.window.events, owner.window.size) == (1, len(bodies[1]))
    assert owner.take() is not None
    assert owner.take() is None
    assert [type(error) for error in owner.errors] == [StreamDeleted]


def test_a_copy_of_what_is_next_is_replaced_where_there_is_too_much() -> None:
    owner = opened()
    owner.push(*range(IN_FLIGHT))
    assert owner.take() is not None
    # Two more are next, and cannot be replaced; the rest was not looked at.
    for retry in range(1, 10):
        owner.push(*range(IN_FLIGHT), retry=retry)
    assert owner.overflows == 0
    assert owner.window.events <= 2 * IN_FLIGHT
    assert sorted(set(numbers(owner))) == [0, 1, 2, 3]


def test_a_frame_that_is_no_event_is_found_where_there_is_too_much() -> None:
    owner = opened()
    owner.push(*range(2 * IN_FLIGHT))
    owner.window.put((Command.STREAM_EVENT_APPEARED, 0, bytes(16), [b""]))
    assert [str(error) for error in owner.errors] == [f"command {int(Command.STREAM_EVENT_APPEARED)}"]
    assert owner.overflows == 0
    assert owner.window.events == 0


def test_ended_once() -> None:
    owner = opened()
    owner.push(1)
    first, second = ConnectionLost("first"), ConnectionLost("second")
    owner.window.end(first)
    owner.window.end(second)
    assert owner.window.error is first
    owner.push(2)
    assert owner.window.events == 0
    assert owner.take() is None


def test_those_that_nobody_acks_are_forgotten_in_the_end() -> None:
    """Bounded memory, for who takes and never says a word."""
    owner = opened()
    for number in range(1000):
        owner.push(number)
        assert owner.take() is not None
    lease = owner.window.lease
    assert lease is not None
    assert len(lease.held) <= 2 * IN_FLIGHT
    # The latest can still be acked.
    assert owner.window.settle(id_of(999), handled=True)
    assert not owner.window.settle(id_of(0), handled=True)


def test_those_that_were_acked_are_forgotten_in_the_end() -> None:
    owner = opened()
    for number in range(1000):
        owner.push(number)
        event = owner.take()
        assert event is not None
        owner.settle(event)
    lease = owner.window.lease
    assert lease is not None
    assert len(lease.done) + len(lease._done_before) <= 4 * IN_FLIGHT + 6


class Model:
    """What has to come of it, told without any of its machinery."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.open = False
        self.lease = 0
        #: By number: what was pushed under this lease and not taken since, acked under it, or held by somebody.
        self.waiting: set[int] = set()
        self.acked: dict[int, int] = {}
        self.held: list[tuple[int, PersistentEvent]] = []
        self.lists: list[tuple[int, HandedEvents]] = []
        self.clock = 0

    def step(self, what: str, number: int) -> None:
        getattr(self, f"_{what}")(number)
        window = self.owner.window
        assert window.events <= 2 * IN_FLIGHT
        assert not self.owner.errors
        if self.owner.overflows:
            self.owner.overflows = 0
            self._end_lease()

    def _end_lease(self) -> None:
        self.open = False
        self.waiting.clear()
        self.acked.clear()

    def _connect(self, _: int) -> None:
        if not self.open:
            self.lease += 1
            self.open = True
            self.owner.open(again=self.lease > 1)

    def _interrupt(self, _: int) -> None:
        self.owner.window.interrupted()
        self._end_lease()

    def _push(self, number: int) -> None:
        if self.open:
            self.owner.push(number)
            if number not in self.acked:
                self.waiting.add(number)

    def _take(self, _: int) -> None:
        event = self.owner.take()
        if event is None:
            # Nothing that was pushed is kept back.
            assert not self.waiting
            return
        # Of this lease, pushed and not acked since.
        assert self.open
        assert event.lease is self.owner.window.lease
        had = {held.number for lease, held in self.held if lease == self.lease}
        had |= {number for lease, events in self.lists if lease == self.lease for number in events.numbers}
        assert event.number in self.waiting | had
        assert event.number not in self.acked
        self.waiting.discard(event.number)
        self.held.append((self.lease, event))

    def _take_all(self, _: int) -> None:
        if self.owner.window.fill(IN_FLIGHT):
            events = self.owner.window.take()
            assert {event.number for event in events}.isdisjoint(self.acked)
            self.waiting -= set(events.numbers)
            self.lists.append((self.lease, events))

    def _ack_all(self, number: int) -> None:
        if not self.lists:
            return
        lease, events = self.lists.pop(number % len(self.lists))
        ids = self.owner.window.ack_all(events)
        if ids is None:
            # For the usual way: event by event.
            self.held += [(lease, event) for event in events]
            return
        assert self.open
        assert lease == self.lease
        assert self.acked.keys().isdisjoint(events.numbers)
        self.acked.update(dict.fromkeys(events.numbers, self.clock))
        self.waiting -= set(events.numbers)
        events.lease.said.add(ids, None)

    def _ack(self, number: int) -> None:
        if not self.held:
            return
        lease, event = self.held.pop(number % len(self.held))
        accepted = self.owner.settle(event)
        if not self.open or lease != self.lease:
            assert not accepted
        elif event.number not in self.acked:
            assert accepted
            self.acked[event.number] = self.clock
            self.waiting.discard(event.number)
        else:
            assert not accepted

    def _nak(self, number: int) -> None:
        if not self.held:
            return
        lease, event = self.held.pop(number % len(self.held))
        accepted = self.owner.settle(event, handled=False)
        assert not accepted or (self.open and lease == self.lease)


STEPS = st.sampled_from(["push", "push", "push", "take", "take", "take_all", "ack", "ack_all", "connect", "interrupt"])


@given(st.lists(st.tuples(STEPS, st.integers(0, 5)), max_size=80))
def test_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """Each pushed event can be taken, unless it was acked or its lease has ended; acked is acked once in a lease."""
    model = Model()
    for what, number in [("connect", 0), *steps, *[("take", 0)] * 20]:
        model.step(what, number)
    assert not model.waiting


@given(st.lists(st.tuples(st.sampled_from(["push", "take", "nak", "ack", "connect", "interrupt"]), st.integers(0, 5))))
def test_nothing_of_an_old_lease_is_said_in_a_new_one(steps: list[tuple[str, int]]) -> None:
    owner = Owner()
    held: list[PersistentEvent] = []
    for what, number in steps:
        window = owner.window
        if what == "connect" and window.lease is None:
            owner.open()
        elif what == "interrupt":
            window.interrupted()
        elif what == "push":
            owner.push(number)
        elif what == "take":
            event = owner.take()
            if event is not None:
                held.append(event)
        elif held:
            event = held.pop(number % len(held))
            before = None if window.lease is None else window.lease.said.count
            accepted = owner.settle(event, handled=what == "ack")
            assert not accepted or event.lease is window.lease
            if not accepted:
                assert before == (None if window.lease is None else window.lease.said.count)


def test_what_is_said_goes_out_under_the_confirmed_names() -> None:
    owner = opened()
    owner.push(1)
    event = owner.take()
    assert event is not None
    owner.settle(event)
    lease = owner.window.lease
    assert lease is not None
    (frame,) = FrameBuffer().feed(b"".join(lease.frames()))
    command, flags, correlation, payload = frame
    assert (command, flags, correlation) == (Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS, 0, (1).to_bytes(16, "big"))
    assert schema.PersistentSubscriptionAckEvents.FromString(payload).subscription_id == "s::g"
    assert lease.frames() == []
