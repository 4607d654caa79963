"""Lists, handed out one by one: none lost, none twice, and others get their turn."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_extreme.iterating import RUN, TURN, Batches, ListIterator

if TYPE_CHECKING:
    from collections.abc import Sequence


class Lists(ListIterator[int]):
    """Brings these lists, then waits or ends."""

    def __init__(self, *lists: Sequence[int], endless: bool = False) -> None:
        super().__init__()
        self.left = list(lists)
        self.endless = endless

    async def _take(self) -> Sequence[int]:
        await trio.lowlevel.checkpoint()
        if self.left:
            return self.left.pop(0)
        if self.endless:
            await trio.sleep_forever()
        raise StopAsyncIteration


MANY = list(range(3 * RUN + 5))


async def test_one_by_one() -> None:
    assert [item async for item in Lists([1, 2], [3], MANY)] == [1, 2, 3, *MANY]


async def test_an_exhausted_iterator_stays_exhausted() -> None:
    items = Lists([1])
    assert [item async for item in items] == [1]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        with pytest.raises(StopAsyncIteration):
            await items.next_list()


async def test_it_is_its_own_iterator() -> None:
    items = Lists([1, 2])
    async for item in items:
        assert item == 1
        break
    assert [item async for item in items] == [2]


async def test_in_lists() -> None:
    batches = Batches(Lists([1, 2], MANY))
    assert [list(batch) async for batch in batches] == [[1, 2], MANY]


@pytest.mark.parametrize("before", [1, RUN - 1, RUN, RUN + 1, 3 * RUN, len(MANY)])
async def test_in_lists_after_some_one_by_one(before: int) -> None:
    items = Lists(MANY, [-1])
    first = [await anext(items) for _ in range(before)]
    rest = [list(batch) async for batch in Batches(items)]
    assert [*first, *chain(*rest)] == [*MANY, -1]
    assert len(rest) == (2 if before < len(MANY) else 1)


async def test_one_by_one_after_lists() -> None:
    items = Lists([1, 2], [3, 4], [5])
    assert await anext(Batches(items)) == [1, 2]
    assert await anext(items) == 3
    assert await anext(Batches(items)) == [4]
    assert [item async for item in items] == [5]


async def test_nothing_of_a_list_is_handed_out_twice() -> None:
    """A batch is the list itself: what the consumer does with it must not come back."""
    items = Lists([1, 2], [3])
    batch = await items.next_list()
    assert list(batch) == [1, 2]
    assert list(await items.next_list()) == [3]


# --- cancelling


async def test_cancellation_is_noticed_before_each_item_and_loses_none() -> None:
    items = Lists(MANY, [-1])
    got: list[int] = []
    while len(got) <= len(MANY):
        with trio.CancelScope() as scope:
            got.append(await anext(items))
            scope.cancel()
            await anext(items)
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await items.next_list()
        assert scope.cancelled_caught
    assert got == [*MANY, -1]


async def test_cancelled_while_it_waits() -> None:
    items = Lists(endless=True)
    with trio.move_on_after(0) as scope:
        await anext(items)
    assert scope.cancelled_caught
    items.left = [[1]]
    assert await anext(items) == 1


# --- one at a time


async def wait_for_ever(items: ListIterator[int]) -> None:
    await anext(items)


async def test_a_second_task_is_refused(nursery: trio.Nursery) -> None:
    items = Lists(endless=True)
    nursery.start_soon(wait_for_ever, items)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(trio.BusyResourceError, match="one at a time"):
        await anext(items)
    with pytest.raises(trio.BusyResourceError):
        await items.next_list()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("together", [1, 2])
async def test_two_tasks_lose_nothing_between_them(
    together: int, mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Where other tasks get their turn, a second one finds the iterator busy, and takes nothing from the first."""
    items = Lists(MANY)
    got: list[int] = []

    async def consume(first: bool) -> None:
        try:
            while True:
                # At each list both want to go on in the same turn.
                mock_clock.jump(2 * TURN)
                got.extend([await anext(items)] if first or together == 1 else await items.next_list())
        except (trio.BusyResourceError, StopAsyncIteration):
            pass

    got.append(await anext(items))
    async with trio.open_nursery() as inner:
        inner.start_soon(consume, True)  # noqa: FBT003
        inner.start_soon(consume, False)  # noqa: FBT003
    assert sorted(got) == MANY


# --- turns


async def run_beside(items: ListIterator[int], clock: trio.testing.MockClock, seconds: float) -> list[int]:
    """How many turns another task had before each item, where each takes its consumer so long."""
    turns = 0
    seen = []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        async for _ in items:
            seen.append(turns)
            clock.jump(seconds)
        nursery.cancel_scope.cancel()
    return seen


async def test_others_get_their_turn_in_a_loop_that_never_waits(mock_clock: trio.testing.MockClock) -> None:
    seen = await run_beside(Lists(MANY), mock_clock, TURN / RUN * 1.5)
    # One turn a run; whether the other task comes before or after this one in it is chance.
    assert seen[0] < seen[2 * RUN]
    assert seen[RUN] < seen[-1]


async def test_a_fast_loop_is_not_stopped_at_each_run(mock_clock: trio.testing.MockClock) -> None:
    seen = await run_beside(Lists(MANY), mock_clock, TURN / len(MANY) / 2)
    assert seen[0] == seen[-1]


def test_what_takes_lists_has_to_be_written() -> None:
    with pytest.raises(TypeError, match="abstract"):
        ListIterator[int]()  # type: ignore[abstract]
