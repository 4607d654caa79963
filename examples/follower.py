"""A follower that says what becomes of it while its server is restarted: `python examples/follower.py`.

Who only wants the events leaves `with_notices()` away, and has them in the same order, each once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_extreme import (
    CaughtUp,
    Connection,
    Event,
    FellBehind,
    NewEvent,
    Reconnected,
    StreamMissing,
    open_connection,
)
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from trio_extreme import Notice


def words(item: Event | Notice) -> str:
    """An event, or a notice, in words."""
    match item:
        case Event():
            return f"event {item.number}: {item.type}"
        case CaughtUp():
            return "all that was stored has been seen"
        case FellBehind():
            return "events come faster than they are handled; they are read later"
        case Reconnected():
            return "the connection was lost, and is back; nothing was missed"
        case StreamMissing(stream):
            return f"nobody has written {stream!r} yet"
        case _:
            return str(item)


async def follow(conn: Connection, caught_up: trio.Event) -> None:
    """Follow the parcel until it is delivered."""
    async with conn.subscribe("parcel") as events:
        async for item in events.with_notices():
            print(words(item))
            if isinstance(item, CaughtUp):
                caught_up.set()
            elif isinstance(item, Event) and item.type == "Delivered":
                break


async def main() -> None:
    """Write what happens to a parcel, and restart the server in the middle of it."""
    caught_up = trio.Event()
    async with open_node() as node, open_connection(node.settings) as conn, trio.open_nursery() as nursery:
        nursery.start_soon(follow, conn, caught_up)
        await caught_up.wait()
        await conn.append("parcel", NewEvent("Sent"))
        await conn.append("parcel", NewEvent("Lost"))
        node.faults.restart(down=0.1)
        # These wait until the connection is back.
        await conn.append("parcel", NewEvent("Found"))
        await conn.append("parcel", NewEvent("Delivered"))


if __name__ == "__main__":
    trio.run(main)
