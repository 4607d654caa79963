"""Append, read in both directions, and be refused: `python examples/first_steps.py`.

It runs against a node of its own. For a server, open the connection with `Settings.from_url("eventstore://…")`.
"""

from __future__ import annotations

import trio

from trio_extreme import END, NO_STREAM, NewEvent, WrongExpectedVersion, open_connection
from trio_extreme.embedded import open_node


async def main() -> None:
    """Write the life of a person, and read it."""
    async with open_node() as node, open_connection(node.settings) as conn:
        created = NewEvent.json("PersonCreated", {"name": "Pera Perić"})
        renamed = NewEvent.json("PersonRenamed", {"name": "Petar Perić"}, metadata={"why": "he said so"})
        result = await conn.append("person-1", [created, renamed], expected=NO_STREAM)
        print(f"appended events {result.first} to {result.last}")

        async for event in conn.read_stream("person-1"):
            print(f"forwards:  {event.number} {event.type} {event.json()['name']}")
        async for event in conn.read_stream("person-1", backwards=True):
            print(f"backwards: {event.number} {event.type} {event.json()['name']}")

        # The same objects again are the same events: nothing is written twice.
        again = await conn.append("person-1", [created, renamed], expected=NO_STREAM)
        print(f"appended again, still events {again.first} to {again.last}")

        try:
            await conn.append("person-1", NewEvent("PersonCreated"), expected=NO_STREAM)
        except WrongExpectedVersion as error:
            print(f"refused: the stream is at {error.actual}, not without events")
        last = await conn.read_event("person-1", END)
        print(f"the last event is still {last.type}")


if __name__ == "__main__":
    trio.run(main)
