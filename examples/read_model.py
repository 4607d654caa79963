"""A read model in SQLite that goes on where it stopped: `python examples/read_model.py`.

The totals and the checkpoint are written in one transaction. So each order counts once, however often the program is
stopped, and wherever: what was written last says from where to read on.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_extreme import Connection, NewEvent, open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme import Event

_TABLES = """
CREATE TABLE IF NOT EXISTS totals (drink TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS place (stream TEXT PRIMARY KEY, checkpoint INTEGER NOT NULL);
"""
_ADD = "INSERT INTO totals VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"


class Totals:
    """The totals, and how far they have come. All of this blocks, so it is called in threads, one at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def checkpoint(self) -> int | None:
        """The checkpoint of the last order that counts; None where there is none yet."""
        row = self._db.execute("SELECT checkpoint FROM place WHERE stream = 'orders'").fetchone()
        return row[0] if row else None

    def add(self, orders: Sequence[Event]) -> None:
        """Count some orders, and remember that they count: both or neither."""
        with self._db:
            self._db.executemany(_ADD, [(order.json()["drink"], order.json()["count"]) for order in orders])
            self._db.execute("INSERT OR REPLACE INTO place VALUES ('orders', ?)", [orders[-1].checkpoint])

    def all(self) -> dict[str, int]:
        """The totals."""
        return dict(self._db.execute("SELECT drink, count FROM totals ORDER BY drink"))


async def keep_totals(conn: Connection, path: Path, last: int) -> None:
    """Count all orders that do not count yet, up to this one, so that the example ends; else it would go on."""
    with closing(await trio.to_thread.run_sync(Totals, path)) as totals:
        checkpoint = await trio.to_thread.run_sync(totals.checkpoint)
        print("from the start" if checkpoint is None else f"after order {checkpoint}")
        async with conn.subscribe("orders", after=checkpoint) as orders:
            async for batch in orders.batches():
                await trio.to_thread.run_sync(totals.add, batch)
                if batch[-1].number == last:
                    break
        print(f"up to order {last}: {await trio.to_thread.run_sync(totals.all)}")


async def order(conn: Connection, *drinks: str) -> None:
    """Order one of each of these."""
    for drink in drinks:
        await conn.append("orders", NewEvent.json("Ordered", {"drink": drink, "count": 1}))


async def main() -> None:
    """Count some orders, stop, and go on with those that came meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "totals.db"
        async with open_node() as node, open_connection(node.settings) as conn:
            await order(conn, "tea", "coffee", "tea")
            await keep_totals(conn, path, last=2)
            await order(conn, "water", "tea")
            await keep_totals(conn, path, last=4)


if __name__ == "__main__":
    trio.run(main)
