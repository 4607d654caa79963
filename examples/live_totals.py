"""A total that follows a stream while it is written: `python examples/live_totals.py`.

Entering `subscribe_live` returns when the server has confirmed, so nothing that is appended after that is missed.
"""

from __future__ import annotations

from collections import Counter

import trio

from trio_extreme import Connection, NewEvent, open_connection
from trio_extreme.embedded import open_node

ORDERS = [("tea", 2), ("coffee", 1), ("tea", 1), ("water", 4), ("coffee", 2)]


async def count_orders(conn: Connection, *, task_status: trio.TaskStatus[None]) -> None:
    """Keep the totals until all orders were seen."""
    totals: Counter[str] = Counter()
    async with conn.subscribe_live("orders") as events:
        task_status.started()
        async for event in events:
            order = event.json()
            totals[order["drink"]] += order["count"]
            print(f"event {event.number}: {dict(totals)}")
            if event.number == len(ORDERS) - 1:
                break


async def main() -> None:
    """Orders come in while somebody counts them."""
    async with open_node() as node, open_connection(node.settings) as conn, trio.open_nursery() as nursery:
        await nursery.start(count_orders, conn)
        for drink, count in ORDERS:
            await conn.append("orders", NewEvent.json("Ordered", {"drink": drink, "count": count}))


if __name__ == "__main__":
    trio.run(main)
