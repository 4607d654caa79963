"""The door: who waits, who passes, and that whoever leaves, however, leaves the counts right."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from trio_extreme.door import Door
from trio_extreme.errors import ConnectionLost
from trio_extreme.operations.session import Ping
from trio_extreme.pending import Slot

if TYPE_CHECKING:
    from collections.abc import Iterator


class Sized(Ping):
    """A request whose frame has just this many bytes."""

    command = 3
    answer = 4

    def __init__(self, size: int) -> None:
        self._size = size

    def payload(self) -> bytes:
        return bytes(self._size - 22)


def slot(size: int = 100) -> Slot[None]:
    return Slot(Sized(size), b"", 30)


async def enter(door: Door, who: Slot[None], inside: list[Slot[None]]) -> None:
    """As the engine does."""
    if not door.try_enter(who.size):
        await door.wait(who)
    inside.append(who)


class Crowd:
    """Some who want to enter, and how it goes on."""

    def __init__(self, door: Door, nursery: trio.Nursery) -> None:
        self.door = door
        self.inside: list[Slot[None]] = []
        self.errors: list[BaseException] = []
        self._nursery = nursery
        self._scopes: dict[Slot[None], trio.CancelScope] = {}

    async def _enter(self, who: Slot[None]) -> None:
        with self._scopes.setdefault(who, trio.CancelScope()):
            try:
                await enter(self.door, who, self.inside)
            except ConnectionLost as error:
                self.errors.append(error)

    async def come(self, *who: Slot[None]) -> None:
        for each in who:
            self._nursery.start_soon(self._enter, each)
            await trio.testing.wait_all_tasks_blocked()

    def cancel(self, who: Slot[None]) -> None:
        self._scopes[who].cancel()


@pytest.fixture
def crowd(nursery: trio.Nursery) -> Iterator[Crowd]:
    crowd = Crowd(Door(max_in_flight=2, max_queued_bytes=1000), nursery)
    yield crowd
    assert crowd.door.waiting == ()


async def test_there_is_room() -> None:
    door = Door(2, 1000)
    assert door.try_enter(400)
    assert door.try_enter(600)
    assert (door.in_flight, door.queued_bytes) == (2, 1000)


async def test_so_many_and_no_more(crowd: Crowd) -> None:
    one, two, three = slot(), slot(), slot()
    await crowd.come(one, two, three)
    assert crowd.inside == [one, two]
    assert crowd.door.waiting == (three,)
    # That its bytes were sent makes no room for another request, its answer does.
    crowd.door.taken(one.size)
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [one, two]
    crowd.door.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [one, two, three]
    assert (crowd.door.in_flight, crowd.door.queued_bytes) == (2, 200)


async def test_so_many_bytes_and_no_more(crowd: Crowd) -> None:
    one, two = slot(600), slot(500)
    await crowd.come(one, two)
    assert crowd.inside == [one]
    crowd.door.taken(one.size)
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [one, two]
    assert (crowd.door.in_flight, crowd.door.queued_bytes) == (2, 500)


async def test_one_larger_than_all_the_room_passes_alone(crowd: Crowd) -> None:
    small, large = slot(22), slot(5000)
    await crowd.come(small, large)
    assert crowd.inside == [small]
    crowd.door.taken(small.size)
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [small, large]
    crowd.door.leave()
    behind = slot(22)
    await crowd.come(behind)
    assert crowd.door.waiting == (behind,)
    crowd.door.taken(large.size)
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [small, large, behind]


async def test_first_come_first_served_even_where_a_later_one_would_fit(crowd: Crowd) -> None:
    first, large, small = slot(500), slot(600), slot(22)
    await crowd.come(first, large, small)
    assert crowd.door.waiting == (large, small)
    assert not crowd.door.try_enter(22)
    crowd.door.taken(first.size)
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [first, large]
    crowd.door.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [first, large, small]


async def test_a_waiter_that_is_cancelled_makes_way(crowd: Crowd) -> None:
    first, large, small = slot(500), slot(600), slot(22)
    await crowd.come(first, large, small)
    crowd.cancel(large)
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [first, small]
    assert (crowd.door.in_flight, crowd.door.queued_bytes) == (2, 522)


async def test_cancelled_in_the_moment_it_was_let_in(crowd: Crowd) -> None:
    one, two, three, four = slot(), slot(), slot(), slot()
    await crowd.come(one, two, three, four)
    crowd.cancel(three)
    crowd.door.leave()
    assert crowd.door.waiting == (four,)
    await trio.testing.wait_all_tasks_blocked()
    # Its place is the next one's, not lost.
    assert crowd.inside == [one, two, four]
    assert (crowd.door.in_flight, crowd.door.queued_bytes) == (2, 300)


async def test_let_in_and_cancelled_before_it_noticed(crowd: Crowd) -> None:
    """Trio does not cancel who was woken already; and what a caller gave up must not be sent."""
    one, two, three, four = slot(), slot(), slot(), slot()
    await crowd.come(one, two, three, four)
    crowd.door.leave()
    crowd.cancel(three)
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [one, two, four]
    assert (crowd.door.in_flight, crowd.door.queued_bytes) == (2, 300)


async def test_a_waiter_that_is_failed(crowd: Crowd) -> None:
    one, two, three, four = slot(), slot(), slot(), slot()
    await crowd.come(one, two, three, four)
    three.fail(ConnectionLost("gone"))
    await trio.testing.wait_all_tasks_blocked()
    assert [str(error) for error in crowd.errors] == ["gone"]
    assert crowd.door.waiting == (four,)
    crowd.door.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [one, two, four]


async def test_failed_in_the_moment_it_was_let_in(crowd: Crowd) -> None:
    one, two, three = slot(), slot(), slot()
    await crowd.come(one, two, three)
    crowd.door.leave()
    three.fail(ConnectionLost("gone"))
    await trio.testing.wait_all_tasks_blocked()
    assert len(crowd.errors) == 1
    assert (crowd.door.in_flight, crowd.door.queued_bytes) == (1, 200)


def test_what_is_asked_again_is_let_in_however_full_it_is() -> None:
    door = Door(1, 1000)
    assert door.try_enter(100)
    door.taken(100)
    door.admit(2000)
    assert (door.in_flight, door.queued_bytes) == (2, 2000)
    assert not door.try_enter(22)
    for size in (2000, 0):
        door.taken(size)
        door.leave()
    assert (door.in_flight, door.queued_bytes) == (0, 0)


async def test_what_must_not_wait_goes_before_who_waits(crowd: Crowd) -> None:
    one, two, three = slot(), slot(), slot()
    await crowd.come(one, two, three)
    crowd.door.admit(100)
    crowd.door.leave()
    await trio.testing.wait_all_tasks_blocked()
    # There is one more inside than there is room for, so one has to leave for nobody.
    assert crowd.inside == [one, two]
    crowd.door.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [one, two, three]


# --- in again


def counts(door: Door) -> tuple[int, int]:
    return door.in_flight, door.queued_bytes


async def test_what_is_sent_again_takes_its_place_and_its_bytes_again() -> None:
    door, again = Door(2, 1000), slot(300)
    door.readmit(again)
    assert counts(door) == (1, 300)
    assert (again.inside, again.queued) == (True, True)


async def test_what_has_its_place_takes_no_second_one() -> None:
    """It was taken to be sent, and its session died: its place it still has, its bytes wait again."""
    door, again = Door(2, 1000), slot(300)
    door.readmit(again)
    again.queued = False
    door.taken(again.size)
    assert counts(door) == (1, 0)
    door.readmit(again)
    assert counts(door) == (1, 300)


async def test_what_was_never_taken_counts_as_it_did() -> None:
    door, again = Door(2, 1000), slot(300)
    for _ in range(3):
        door.readmit(again)
    assert counts(door) == (1, 300)


async def test_what_had_its_answer_and_is_asked_again_takes_a_place() -> None:
    """The answer was to ask later; by then it had left."""
    door = Door(2, 1000)
    again = Slot(Sized(300), b"", 30, door.leave)
    door.readmit(again)
    again.queued = False
    door.taken(again.size)
    again.leave()
    assert counts(door) == (0, 0)
    door.readmit(again)
    assert counts(door) == (1, 300)


async def test_what_is_sent_again_goes_before_who_waits_however_full_it_is(crowd: Crowd) -> None:
    one, two, three = slot(), slot(), slot()
    await crowd.come(one, two, three)
    again = slot(5000)
    crowd.door.readmit(again)
    assert counts(crowd.door) == (3, 5200)
    # Who waits gets in when there is room for all of them.
    crowd.door.taken(again.size)
    crowd.door.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [one, two]
    crowd.door.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.inside == [one, two, three]


def seconds_to_pass(count: int) -> float:
    """How long so many who wait keep the door busy."""
    door = Door(1, 1000)
    assert door.try_enter(22)
    door.taken(22)
    door._waiting.update(dict.fromkeys(slot(22) for _ in range(count)))
    began = time.process_time()
    for _ in range(count):
        door.leave()
        door.taken(22)
    return time.process_time() - began


async def test_a_long_queue_is_no_slower_than_many_short_ones() -> None:
    """Twenty times as many take twenty times as long, and not four hundred times."""
    short = min(seconds_to_pass(1500) for _ in range(3))
    assert seconds_to_pass(30_000) < 100 * short


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(22, 1500), max_size=12), choose=st.randoms(use_true_random=False))
async def test_whatever_happens_nobody_is_forgotten(sizes: list[int], choose: object) -> None:
    """Sent, answered, cancelled and failed in any order: at the end nobody waits and all counts are zero."""
    pick = choose.choice  # type: ignore[attr-defined]
    async with trio.open_nursery() as nursery:
        crowd = Crowd(Door(max_in_flight=3, max_queued_bytes=1000), nursery)
        everybody = [slot(size) for size in sizes]
        await crowd.come(*everybody)
        gone: set[Slot[None]] = set()
        while len(gone) + len(crowd.errors) < len(everybody):
            waiting, here = crowd.door.waiting, [who for who in crowd.inside if who not in gone]
            assert len(here) <= 3
            # Somebody is always inside while somebody waits.
            assert here or not waiting
            if waiting and pick([True, False]):
                who = pick(waiting)
                if pick([True, False]):
                    who.fail(ConnectionLost("gone"))
                else:
                    crowd.cancel(who)
                    gone.add(who)
            elif here:
                who = pick(here)
                crowd.door.taken(who.size)
                crowd.door.leave()
                gone.add(who)
            await trio.testing.wait_all_tasks_blocked()
        assert (crowd.door.in_flight, crowd.door.queued_bytes, crowd.door.waiting) == (0, 0, ())
