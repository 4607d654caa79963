"""All streams of a kind, read as one: `python examples/categories.py`.

Each account is a stream of its own. The server's projection `$by_category` links what happens in any of them into
`$ce-account`, in the order in which it happened, so one subscription has them all.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio

from trio_extreme import Connection, NewEvent, open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from trio_extreme import Event

PAYMENTS = [("anna", 50), ("ben", 20), ("anna", -80), ("ben", -5), ("anna", 40)]


def book(balances: Counter[str], event: Event) -> None:
    """Keep the balance of each account, and say when one changes sides."""
    account = event.stream.removeprefix("account-")
    before = balances[account]
    balances[account] += event.json()["amount"]
    if (before < 0) != (balances[account] < 0):
        print(f"{account} is {'overdrawn' if before >= 0 else 'back'} at {balances[account]}")


async def pay(conn: Connection) -> None:  # noqa: ASYNC910 - there are some
    """Money comes and goes, in one account after the other."""
    for account, amount in PAYMENTS:
        await conn.append(f"account-{account}", NewEvent.json("Paid", {"amount": amount}))


async def main() -> None:
    """Follow all accounts at once; then say which there are."""
    async with open_node(projections=True) as node, open_connection(node.settings) as conn:
        await pay(conn)
        balances: Counter[str] = Counter()
        async with conn.subscribe("$ce-account") as events:
            async for event in events:
                book(balances, event)
                # The number of the link, not of the event: where to go on after a restart.
                if event.checkpoint == len(PAYMENTS) - 1:
                    break
        async for event in conn.read_stream("$streams"):
            print(f"{event.stream}: {balances[event.stream.removeprefix('account-')]}")


if __name__ == "__main__":
    trio.run(main)
