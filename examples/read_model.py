"""A read model in SQLite in which each event counts once: `python examples/read_model.py`.

What the handler does with `db` and the checkpoint are one transaction. So it does not matter how often the program is
stopped, or killed, and where: what was committed last says from where to go on. With a URL and a file it follows that
server: `python examples/read_model.py eventstore://admin:changeit@localhost:1113 totals.db`.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_extreme import Listener, NewEvent, Settings, SqliteCheckpoints, open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from trio_extreme import Connection, Event, SqliteTransaction, WriteResult

SETUP = "CREATE TABLE IF NOT EXISTS totals (drink TEXT PRIMARY KEY, count INTEGER NOT NULL)"
ADD = "INSERT INTO totals VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count"


async def count(event: Event, db: SqliteTransaction) -> None:
    """Count an order."""
    order = event.json()
    await db.execute(ADD, [order["drink"], order["count"]])


def listener(conn: Connection, path: Path) -> Listener:
    """What keeps the totals in this file."""
    return Listener(conn, "orders", count, checkpoints=SqliteCheckpoints(path, setup=SETUP))


def totals(path: Path) -> dict[str, int]:
    """The totals, for which anybody may look at any time."""
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT drink, count FROM totals ORDER BY drink"))


async def order(conn: Connection, *drinks: str) -> WriteResult:
    """Order one of each of these."""
    return await conn.append("orders", [NewEvent.json("Ordered", {"drink": drink, "count": 1}) for drink in drinks])


async def follow(url: str, path: Path) -> None:
    """Keep the totals of a server, for as long as the program runs."""
    async with open_connection(Settings.from_url(url)) as conn:
        await listener(conn, path).run()


async def main() -> None:
    """Count some orders, stop, and go on with those that came meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "totals.db"
        async with open_node() as node, open_connection(node.settings) as conn:
            for drinks in (["tea", "coffee", "tea"], ["water", "tea"]):
                written = await order(conn, *drinks)
                async with trio.open_nursery() as nursery:
                    keeping = listener(conn, path)
                    await nursery.start(keeping.run)
                    await keeping.reached(written)
                    print(f"up to order {keeping.status.place}: {totals(path)}")
                    nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if len(sys.argv) == 3:  # noqa: PLR2004 - a URL and a file
        trio.run(follow, sys.argv[1], Path(sys.argv[2]))
    else:
        trio.run(main)
