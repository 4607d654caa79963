"""Consumers file what they see, go on after their checkpoint, and notice what no subscription may say."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.soak.consumers import OURS, Consumer, NoticeFollower, follow, follow_batches, follow_drowsily, into, into_log
from tests.soak.ledger import Ledger, LogTrail, make_id
from trio_extreme import CaughtUp, Connection, FellBehind, NewEvent, Reconnected

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

STREAM = OURS + "orders"


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def ledger(complaints: list[str]) -> Ledger:
    return Ledger(complaints.append)


async def append(conn: Connection, ledger: Ledger, sequences: Iterable[int]) -> None:
    events = [NewEvent("happened", id=make_id(1, sequence)) for sequence in sequences]
    result = await conn.append(STREAM, events)
    ledger.acknowledged(STREAM, result.first, [event.id.int for event in events])


WAYS = {
    "follow": follow,
    "follow_batches": follow_batches,
    "follow_drowsily": lambda events, take: follow_drowsily(events, take, Random(0)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_sees_everything(conn: Connection, ledger: Ledger, way: str) -> None:
    trail = ledger.trail("reader", STREAM)
    await append(conn, ledger, range(20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(WAYS[way], conn.subscribe(STREAM), into(trail))
        await trio.sleep(60)
        await append(conn, ledger, range(20, 40))
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert (trail.delivered, trail.reached) == (40, 40)


async def test_of_the_log_it_sees_what_is_ours(conn: Connection, ledger: Ledger) -> None:
    trail = LogTrail(ledger, "reader")
    await conn.append("others", NewEvent("happened"))
    await append(conn, ledger, range(5))
    with trio.move_on_after(1):
        await follow(conn.subscribe_all(), into_log(trail))
    assert trail.trail(STREAM).reached == ledger.delivered() == 5


async def test_who_leaves_goes_on_after_the_checkpoint(conn: Connection, ledger: Ledger) -> None:
    trail = ledger.trail("reader", STREAM)
    consumer = Consumer(follow, lambda after: conn.subscribe(STREAM, after=after), into(trail))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumer.run)
        for first in (0, 5, 10):
            await append(conn, ledger, range(first, first + 5))
            await trio.sleep(1)
            consumer.leave()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert (trail.delivered, trail.reached) == (15, 15)


class Scripted:
    """A subscription that says what it is told to."""

    def __init__(self, *items: Any) -> None:
        self._items = iter(items)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def with_notices(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        for item in self._items:
            return item
        raise StopAsyncIteration


AGAIN = Reconnected(gap_possible=False)
GAP = Reconnected(gap_possible=True)


async def test_notices_are_counted(ledger: Ledger, complaints: list[str]) -> None:
    follower = NoticeFollower(ledger, "reader")
    await follower.follow(Scripted(CaughtUp(), FellBehind(), CaughtUp(), AGAIN, CaughtUp()), print)
    assert follower.told == {"CaughtUp": 3, "FellBehind": 1, "Reconnected": 1}
    assert complaints == []


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ((CaughtUp(), CaughtUp()), "reader: CaughtUp twice in a row"),
        ((GAP,), "reader: a catch-up subscription was told of a gap"),
    ],
)
async def test_what_no_catch_up_subscription_may_say_is_strange(
    ledger: Ledger, complaints: list[str], items: tuple[Any, ...], complaint: str
) -> None:
    await NoticeFollower(ledger, "reader").follow(Scripted(*items), print)
    assert (ledger.strange, complaints) == (1, [complaint])


async def test_a_live_consumer_may_be_told_of_a_gap(ledger: Ledger, complaints: list[str]) -> None:
    trail = ledger.trail("watcher", STREAM, live=True)
    trail.saw(1, 77)
    await NoticeFollower(ledger, "watcher", trail).follow(Scripted(GAP), print)
    trail.saw(5, 78)
    assert complaints == []
