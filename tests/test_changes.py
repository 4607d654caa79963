"""What becomes of the connection, told to whoever watches: from the present state to the end, each at its own pace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_extreme.changes import KEPT, ChangeIterator, Changes
from trio_extreme.errors import ConnectionClosed, ConnectionLost
from trio_extreme.notices import Closed, Connected, Lost, Reconnecting

if TYPE_CHECKING:
    from trio_extreme.notices import Change

pytestmark = pytest.mark.usefixtures("autojump_clock")

CONNECTED = Connected("h", 1113)
LOST = Lost(ConnectionLost("gone"))
CLOSED = Closed(ConnectionClosed("left"))
REASON = LOST.reason


class Watcher:
    """A task that watches to the end, and what it saw."""

    def __init__(self, nursery: trio.Nursery, changes: ChangeIterator) -> None:
        self.seen: list[Change] = []
        self.ended = False
        nursery.start_soon(self._watch, changes)

    async def _watch(self, changes: ChangeIterator) -> None:
        async for change in changes:
            self.seen.append(change)
        self.ended = True


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def connected(*more: Change) -> Changes:
    changes = Changes()
    for change in (CONNECTED, *more):
        changes.note(change)
    return changes


async def test_it_begins_with_the_present_state_and_ends_after_closed(nursery: trio.Nursery) -> None:
    changes = connected(LOST, Reconnecting(1, 0.5, REASON))
    watcher = Watcher(nursery, changes.watch())
    await settle()
    assert watcher.seen == [Reconnecting(1, 0.5, REASON)]
    changes.note(CONNECTED)
    await settle()
    assert watcher.seen == [Reconnecting(1, 0.5, REASON), CONNECTED]
    changes.note(CLOSED)
    await settle()
    assert watcher.seen == [Reconnecting(1, 0.5, REASON), CONNECTED, CLOSED]
    assert watcher.ended


async def test_several_that_come_at_once(nursery: trio.Nursery) -> None:
    changes = connected()
    watcher = Watcher(nursery, changes.watch())
    await settle()
    for change in (LOST, Reconnecting(1, 0, REASON), CONNECTED, LOST):
        changes.note(change)
    await settle()
    assert watcher.seen == [CONNECTED, LOST, Reconnecting(1, 0, REASON), CONNECTED, LOST]
    nursery.cancel_scope.cancel()


async def test_who_watches_after_the_end_is_told_so() -> None:
    watching = connected(CLOSED).watch()
    assert [change async for change in watching] == [CLOSED]
    assert [change async for change in watching] == []
    with pytest.raises(StopAsyncIteration):
        await anext(watching)


async def test_who_watches_before_anything_is_known_waits(nursery: trio.Nursery) -> None:
    changes = Changes()
    watcher = Watcher(nursery, changes.watch())
    await settle()
    assert watcher.seen == []
    changes.note(CONNECTED)
    changes.note(CLOSED)
    await settle()
    assert watcher.seen == [CONNECTED, CLOSED]


async def test_each_goes_its_own_way() -> None:
    changes = connected()
    first = changes.watch()
    assert await anext(first) == CONNECTED
    changes.note(LOST)
    second = changes.watch()
    changes.note(CLOSED)
    assert [change async for change in second] == [LOST, CLOSED]
    assert [change async for change in first] == [LOST, CLOSED]


async def test_several_wait_and_all_are_told(nursery: trio.Nursery) -> None:
    changes = connected()
    watchers = [Watcher(nursery, changes.watch()) for _ in range(3)]
    await settle()
    changes.note(CLOSED)
    await settle()
    assert [watcher.seen for watcher in watchers] == [[CONNECTED, CLOSED]] * 3


async def test_two_tasks_at_one_iterator_share_what_comes(nursery: trio.Nursery) -> None:
    changes = connected()
    watching = changes.watch()
    await anext(watching)
    watchers = [Watcher(nursery, watching) for _ in range(2)]
    await settle()
    for attempt in range(10):
        changes.note(Reconnecting(attempt, 0, REASON))
        await settle()
    assert sorted(change.attempt for watcher in watchers for change in watcher.seen) == list(range(10))  # type: ignore[union-attr]
    nursery.cancel_scope.cancel()


async def test_who_is_far_behind_misses_the_oldest() -> None:
    changes = connected()
    watching = changes.watch()
    for attempt in range(3 * KEPT):
        changes.note(Reconnecting(attempt, 0, REASON))
    changes.note(CLOSED)
    seen = [change async for change in watching]
    assert seen == [*(Reconnecting(attempt, 0, REASON) for attempt in range(2 * KEPT + 1, 3 * KEPT)), CLOSED]
    assert len(seen) == KEPT


async def test_who_is_just_not_too_far_behind_misses_none() -> None:
    changes = connected()
    watching = changes.watch()
    for attempt in range(KEPT - 1):
        changes.note(Reconnecting(attempt, 0, REASON))
    assert await anext(watching) == CONNECTED
    assert await anext(watching) == Reconnecting(0, 0, REASON)


async def test_cancelling_loses_none() -> None:
    changes = connected()
    watching = changes.watch()
    seen: list[Change] = []
    for _ in range(3):
        with trio.move_on_after(1):
            while True:
                seen.append(await anext(watching))
        with trio.CancelScope() as scope:
            scope.cancel()
            seen.append(await anext(watching))
        changes.note(LOST)
        changes.note(CONNECTED)
    seen += [await anext(watching) for _ in range(2)]
    assert seen == [CONNECTED, *[LOST, CONNECTED] * 3]


async def test_each_step_is_a_checkpoint() -> None:
    watching = connected(CLOSED).watch()
    with trio.testing.assert_checkpoints():
        await anext(watching)
    with trio.testing.assert_checkpoints(), pytest.raises(StopAsyncIteration):
        await anext(watching)


async def test_nobody_has_to_watch() -> None:
    changes = Changes()
    for attempt in range(100_000):
        changes.note(Reconnecting(attempt, 0, REASON))
    assert await anext(changes.watch()) == Reconnecting(99_999, 0, REASON)
    assert changes.newest - changes.oldest == KEPT - 1
