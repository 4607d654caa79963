"""What tests of several folders need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme import NewEvent

if TYPE_CHECKING:
    from trio_extreme import Connection


def new_events(count: int, first: int = 0) -> list[NewEvent]:
    """Events whose data is their place in the list, so that a test sees which is which."""
    return [NewEvent("happened", str(number).encode()) for number in range(first, first + count)]


def assert_nothing_left(conn: Connection) -> None:
    """No request waits and no subscription is open, so no correlation id is in use."""
    now = conn.statistics()
    assert (now.in_flight, now.waiting, now.queued_bytes, now.subscriptions) == (0, 0, 0, ()), now
