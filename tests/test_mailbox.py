"""Where a subscription's frames wait: in order, bounded, and taken to the last before an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.runs import frames_of
from trio_extreme.mailbox import MAX_TAKE, Mailbox

if TYPE_CHECKING:
    from trio_extreme.wire.framing import Run


class Overflown(Exception):
    pass


class Owner:
    """As a subscription does, it ends its mailbox when that overflows."""

    def __init__(self, max_events: int = 10, max_bytes: int = 100) -> None:
        self.box = Mailbox(max_events, max_bytes, self.overflow)
        self.overflows = 0

    def overflow(self) -> None:
        self.overflows += 1
        self.box.end(Overflown())


def run(*bodies: bytes) -> Run:
    return 0xC2, 0, bytes(16), list(bodies)


async def take(box: Mailbox) -> list[bytes]:
    return [frame[3] for frame in frames_of(await box.take())]


async def test_all_that_waits_is_taken_at_once() -> None:
    box = Owner().box
    box.put(run(b"1", b"2"))
    box.put(run(b"345"))
    assert (box.events, box.bytes) == (3, 5)
    assert await take(box) == [b"1", b"2", b"345"]
    assert (box.events, box.bytes) == (0, 0)


async def test_a_great_many_are_taken_in_parts() -> None:
    box = Owner(max_events=3 * MAX_TAKE, max_bytes=10**6).box
    for _ in range(3):
        box.put(run(*[b"x"] * (MAX_TAKE // 2 + 1)))
    assert len(await take(box)) == MAX_TAKE + 2
    assert (box.events, box.bytes) == (MAX_TAKE // 2 + 1,) * 2
    assert len(await take(box)) == MAX_TAKE // 2 + 1


async def test_a_consumer_waits(nursery: trio.Nursery) -> None:
    box = Owner().box
    got: list[bytes] = []

    async def consume() -> None:
        got.extend(await take(box))

    nursery.start_soon(consume)
    await trio.testing.wait_all_tasks_blocked()
    assert got == []
    box.put(run(b"now"))
    await trio.testing.wait_all_tasks_blocked()
    assert got == [b"now"]


async def test_taking_is_a_checkpoint() -> None:
    box = Owner().box
    box.put(run(b"1"))
    with trio.testing.assert_checkpoints():
        await box.take()


async def test_cancelling_loses_nothing() -> None:
    box = Owner().box
    box.put(run(b"1"))
    with trio.move_on_after(0) as scope:
        await box.take()
    assert scope.cancelled_caught
    assert (box.events, box.bytes) == (1, 1)
    assert await take(box) == [b"1"]


@pytest.mark.parametrize(
    ("fitting", "too_much"),
    [
        pytest.param([b""] * 10, [b""], id="events"),
        pytest.param([bytes(100)], [b"1"], id="bytes"),
        pytest.param([b""] * 9, [b"", b""], id="none of a list that does not fit whole"),
    ],
)
async def test_up_to_the_bound_and_no_further(fitting: list[bytes], too_much: list[bytes]) -> None:
    owner = Owner()
    owner.box.put(run(*fitting))
    assert owner.overflows == 0
    owner.box.put(run(*too_much))
    assert owner.overflows == 1
    # What comes later is not taken in, even where it would fit: there is a gap before it.
    owner.box.put(run())
    owner.box.put(run(b""))
    assert owner.overflows == 1
    assert owner.box.events == len(fitting)
    assert await take(owner.box) == fitting
    with pytest.raises(Overflown):
        await owner.box.take()


async def test_room_comes_back_with_taking() -> None:
    owner = Owner()
    for _ in range(5):
        owner.box.put(run(*[b"0123456789"] * 10))
        assert len(await take(owner.box)) == 10
    assert owner.overflows == 0


async def test_the_first_error_stays_and_is_raised_again_and_again() -> None:
    box = Owner().box
    first = KeyError("first")
    first.__cause__ = ValueError("why")
    box.put(run(b"1"))
    assert not box.ended
    box.end(first)
    assert box.ended
    box.end(KeyError("second"))
    box.put(run(b"2"))
    assert await take(box) == [b"1"]
    for _ in range(3):
        with pytest.raises(KeyError, match="first") as info:
            await box.take()
        assert isinstance(info.value.__cause__, ValueError)
        # It is one object, whose traceback must not grow.
        assert len(info.traceback) == 2


# --- marks


def mark(body: bytes = b"|") -> Run:
    return 0xC1, 0, bytes(16), [body]


async def test_a_mark_has_its_place_among_the_events() -> None:
    box = Owner().box
    box.put(run(b"1"))
    box.opened(mark(), again=True)
    box.put(run(b"2"))
    box.opened(mark(), again=True)
    assert await take(box) == [b"1", b"|", b"2", b"|"]
    assert (box.events, box.bytes) == (0, 0)


async def test_of_marks_with_nothing_between_them_the_first_stays() -> None:
    """So a connection that breaks again and again cannot fill the mailbox of who sleeps."""
    owner = Owner(max_events=3)
    owner.box.put(run(b"1"))
    for number in range(1000):
        owner.box.opened(mark(b"%d" % number), again=True)
    assert owner.box.events == 2
    owner.box.put(run(b"2"))
    assert owner.overflows == 0
    assert await take(owner.box) == [b"1", b"0", b"2"]


async def test_what_was_taken_is_not_between_any_more() -> None:
    """Each taking is a moment of its own: a mark after it is another."""
    box = Owner().box
    box.opened(mark(b"first"), again=True)
    assert await take(box) == [b"first"]
    box.opened(mark(b"second"), again=True)
    assert await take(box) == [b"second"]


async def test_a_mark_counts_against_the_bounds() -> None:
    owner = Owner(max_events=1)
    owner.box.put(run(b"1"))
    owner.box.opened(mark(), again=True)
    assert owner.overflows == 1
    assert await take(owner.box) == [b"1"]


async def test_behind_the_end_there_is_no_mark() -> None:
    box = Owner().box
    box.end(KeyError("over"))
    box.opened(mark(), again=True)
    with pytest.raises(KeyError):
        await box.take()


async def test_ending_wakes_the_consumer(nursery: trio.Nursery) -> None:
    box = Owner().box
    raised: list[BaseException] = []

    async def consume() -> None:
        try:
            await box.take()
        except KeyError as error:
            raised.append(error)

    nursery.start_soon(consume)
    await trio.testing.wait_all_tasks_blocked()
    error = KeyError()
    box.end(error)
    await trio.testing.wait_all_tasks_blocked()
    assert raised == [error]
