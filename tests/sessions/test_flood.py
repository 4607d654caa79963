"""A server that pushes events faster than anybody could wish for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.answers import confirm, pushed
from tests.peer import Peer, open_to

if TYPE_CHECKING:
    from trio.testing import MockClock

EVENTS = 100_000
BODY = 2e-6
"""Seconds that the consumer needs for an event; only then does the clock go on, so that no machine is too slow."""


async def test_a_flood_of_small_events_loses_none(autojump_clock: MockClock) -> None:
    """The stream always has more, and brings thousands of events at each turn that the consumer gives away."""
    peer = Peer()
    numbers: list[int] = []

    async def flood() -> None:
        request = await confirm(peer)
        peer.send_bytes(pushed(request, *range(EVENTS)))

    async with open_to(peer) as conn, trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        async with conn.subscribe_live("s") as events:
            async for event in events:
                autojump_clock.jump(BODY)
                numbers.append(event.number)
                if len(numbers) == EVENTS:
                    break
    assert numbers == list(range(EVENTS))
