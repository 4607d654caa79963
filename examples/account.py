"""Many tasks change one account, and none overdraws it: `python examples/account.py`.

Each reads the stream, decides, and appends only if the stream is still where it was read. Who was overtaken decides
again. This is all that event sourcing needs of locks.
"""

from __future__ import annotations

import trio

from trio_extreme import Connection, NewEvent, WrongExpectedVersion, open_connection
from trio_extreme.embedded import open_node

STREAM = "account-1"


async def withdraw(conn: Connection, amount: int) -> bool:
    """Take money out of the account, if there is enough."""
    while True:
        balance = 0
        reader = conn.read_stream(STREAM)
        async for event in reader:
            balance += event.json()["amount"]
        if balance < amount:
            return False
        try:
            await conn.append(STREAM, NewEvent.json("Withdrawn", {"amount": -amount}), expected=reader.last_number)
        except WrongExpectedVersion:
            continue
        return True


async def customer(conn: Connection, name: str) -> None:
    """Take 30 out, and tell whether it was there."""
    given = await withdraw(conn, 30)
    print(f"{name}: {'got 30' if given else 'there was not enough left'}")


async def main() -> None:
    """Five customers want 30 each, and there are 100."""
    async with open_node() as node, open_connection(node.settings) as conn:
        await conn.append(STREAM, NewEvent.json("Deposited", {"amount": 100}))
        async with trio.open_nursery() as nursery:
            for name in ("Ana", "Boris", "Ceca", "Dejan", "Ema"):
                nursery.start_soon(customer, conn, name)
        print("left:", sum([event.json()["amount"] async for event in conn.read_stream(STREAM)]))


if __name__ == "__main__":
    trio.run(main)
