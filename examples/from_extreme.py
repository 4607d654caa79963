"""A listener of Extreme, moved over: `python examples/from_extreme.py`.

In Elixir it was

    defmodule MyApp.People do
      use Extreme.Listener

      def get_last_event(stream), do: MyApp.Repo.last_event(stream)
      def process_push(push, _stream) do
        handle(push.event.event_type, push.event.data)
        {:ok, MyApp.Repo.save_last_event(push.event.event_number)}
      end

      def caught_up, do: Logger.debug("up to date")
    end

started by `MyApp.People.start_link(MyApp.Conn, "people", read_per_page: 1000)`. `get_last_event` and what saved
it are `checkpoints`, `process_push` is `handle`, and what supervised it is the nursery.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_extreme import FileCheckpoints, Handlers, Listener, NewEvent, open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from trio_extreme import Connection, Event

handlers = Handlers()


@handlers.on("PersonCreated")
async def created(event: Event) -> None:
    """One function for each type, where Elixir has a clause."""
    print(f"{event.number}: {event.json()['name']} is there")


@handlers.on("PersonMoved")
async def moved(event: Event) -> None:
    """The event is the one that a link stands for, as `push.event` is."""
    print(f"{event.number}: {event.json()['name']} lives in {event.json()['town']}")


async def caught_up() -> None:
    """Called whenever all that was stored has been handled."""
    print("up to date")


async def live(conn: Connection, places: Path) -> None:
    """Listen, pause, resume, and do history again with another handler."""
    people = Listener(
        conn, "people", handlers, checkpoints=FileCheckpoints(places), caught_up=caught_up, page_size=1000
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(people.run)
        await people.reached(await conn.append("people", NewEvent.json("PersonCreated", {"name": "Pera"})))
        print("paused at", await people.pause())
        written = await conn.append("people", NewEvent.json("PersonMoved", {"name": "Pera", "town": "Niš"}))
        people.resume()
        await people.reached(written)
        print("patched up to", await people.patch(created, first=0))
        nursery.cancel_scope.cancel()


async def main() -> None:
    """Against a node of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_node() as node, open_connection(node.settings) as conn:
            await live(conn, Path(folder) / "places.json")


if __name__ == "__main__":
    trio.run(main)
