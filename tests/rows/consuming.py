"""What a consumer hears, as short as a test wants to say it, and who writes for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.helpers import assert_nothing_left, new_events
from trio_extreme import CaughtUp, Event, Lost, Notice, open_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_extreme import Connection, Subscription
    from trio_extreme.embedded import Node

LONG = 100
"""Seconds that are waited for the next event: without an end, a test of what never comes would go on for ever."""


@asynccontextmanager
async def connected(node: Node, **changes: Any) -> AsyncIterator[Connection]:
    """A connection with other settings, of which nothing may be left."""
    async with open_connection(node.settings.replace(**changes), connect=node.connect) as conn:
        yield conn
        assert_nothing_left(conn)


async def soon(items: AsyncIterator[Any]) -> Any:
    """The next of them."""
    with trio.fail_after(LONG):
        return await anext(items)


async def take(events: Subscription[Any], count: int) -> list[int]:
    """The numbers of the next events."""
    return [(await soon(events)).number for _ in range(count)]


async def take_slowly(events: Subscription[Any], count: int, seconds: float) -> list[int]:
    """The numbers of the next events, by a consumer that takes its time over each."""
    numbers = []
    for _ in range(count):
        numbers += await take(events, 1)
        await trio.sleep(seconds)
    return numbers


async def take_ours(events: Subscription[Any], count: int) -> list[str]:
    """The streams of the next events of the log that are not the server's own."""
    streams: list[str] = []
    while len(streams) < count:
        stream = (await soon(events)).stream
        streams += [] if stream.startswith("$") else [stream]
    return streams


async def next_of(events: Subscription[Any], stream: str) -> int:
    """The number of the next event of this stream in the log."""
    while (event := await soon(events)).stream != stream:
        pass
    number: int = event.number
    return number


async def hear(events: Subscription[Any], count: int) -> list[int | Notice]:
    """The next events, by number, and the notices between them: so many in all."""
    notices = events.with_notices()
    return [_short(await soon(notices)) for _ in range(count)]


async def hear_until(events: Subscription[Any], last: object) -> list[int | Notice]:
    """The same up to this one, which is the last of them."""
    heard: list[int | Notice] = []
    while not heard or heard[-1] != last:
        heard += await hear(events, 1)
    return heard


async def take_until_caught_up(events: Subscription[Any]) -> list[int]:
    """The numbers of all events there are."""
    return [number for number in await hear_until(events, CaughtUp()) if isinstance(number, int)]


def _short(item: Event | Notice) -> int | Notice:
    return item.number if isinstance(item, Event) else item


async def assert_silent(events: Subscription[Any], seconds: float = 10) -> None:
    """Neither an event nor a notice comes."""
    with trio.move_on_after(seconds) as scope:
        item = await anext(events.with_notices())
        pytest.fail(f"{item} was not expected")
    assert scope.cancelled_caught


async def assert_no_event(events: Subscription[Any], seconds: float = 10) -> None:
    """No event comes; notices may."""
    with trio.move_on_after(seconds) as scope:
        event = await anext(events)
        pytest.fail(f"{event} was not expected")
    assert scope.cancelled_caught


async def write_singly(conn: Connection, count: int, *, pause: float = 0.0, stream: str = "people") -> None:
    """Append so many events, each for itself."""
    for event in new_events(count):
        await conn.append(stream, event)
        await trio.sleep(pause)


async def break_each(seconds: float, node: Node) -> None:
    """Cut all connections again and again."""
    while True:
        await trio.sleep(seconds)
        node.faults.kill_connections()


async def lost(conn: Connection) -> object:
    """What the connection broke of, as soon as it has."""
    changes = conn.changes()
    while not isinstance(change := await soon(changes), Lost):
        pass
    return change.reason


async def assert_server_pushes_nothing(conn: Connection, stream: str = "people") -> None:
    """The server has nobody to push this stream to any more."""
    # What it still sent before it heard of that comes before this.
    await conn.ping()
    before = conn.statistics()
    await conn.append(stream, new_events(5))
    now = conn.statistics()
    # The answer to the append, and no event.
    assert now.frames_received == before.frames_received + 1
    assert now.stray_frames == before.stray_frames
