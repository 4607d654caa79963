"""One session as programs have them, told to its end or to its error, and what must be true of it in any case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.leaks import tasks_below
from trio_extreme import (
    NO_STREAM,
    ConnectFailed,
    ConnectionLost,
    NewEvent,
    OutcomeUnknown,
    ProtocolError,
    TrioExtremeError,
    open_connection,
)

if TYPE_CHECKING:
    from trio_extreme import Connection, Settings
    from trio_extreme.embedded import Node
    from trio_extreme.transport import Connect

#: What a broken network may lead to.
BROKEN_NETWORK = (ConnectionLost, OutcomeUnknown, ConnectFailed, ProtocolError)
PUSHED = ("pushed", [3, 4])
#: Mock seconds. A silent peer costs some; more than this is hanging.
LONG_ENOUGH = 300.0


def make_events(first: int, count: int) -> list[NewEvent]:
    return [NewEvent("told", b"%d" % number * 5) for number in range(first, first + count)]


class Story:
    """What was told so far, of a stream of one's own."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.first = make_events(0, 3)
        self.second = make_events(3, 2)
        #: What was answered, in order.
        self.told: list[object] = []
        self.error: TrioExtremeError | None = None

    async def tell(self, conn: Connection) -> None:
        """Append, read, subscribe to what comes, append, receive, follow from the start, ping."""
        written = await conn.append(self.stream, self.first, expected=NO_STREAM)
        self.told.append(("appended", written.first, written.last))
        self.told.append(
            ("read", [(event.number, event.data) async for event in conn.read_stream(self.stream, page_size=2)])
        )
        async with conn.subscribe_live(self.stream) as events:
            written = await conn.append(self.stream, self.second, expected=written.last)
            self.told.append(("appended", written.first, written.last))
            with trio.move_on_after(60):  # noqa: ASYNC100 - anext waits
                self.told.append(("pushed", [((await anext(events)).number) for _ in self.second]))
        async with conn.subscribe(self.stream) as events:
            # A request that arrives damaged may have written to another stream, or follow another.
            with trio.move_on_after(120):  # noqa: ASYNC100 - anext waits
                self.told.append(("followed", [((await anext(events)).number) for _ in self.first + self.second]))
        await conn.ping()
        self.told.append("pinged")

    @property
    def appended(self) -> int:
        """How many appends were acknowledged."""
        return sum(isinstance(entry, tuple) and entry[0] == "appended" for entry in self.told)

    @property
    def whole(self) -> list[object]:
        """All that is told where nothing goes wrong."""
        read = [(number, event.data) for number, event in enumerate(self.first)]
        after_reading: list[object] = [("appended", 3, 4), PUSHED, ("followed", [0, 1, 2, 3, 4]), "pinged"]
        return [("appended", 0, 2), ("read", read), *after_reading]

    @property
    def is_complete(self) -> bool:
        """Whether all was told. A lost session may cost what is pushed, and nothing else."""
        return self.told in (self.whole, [entry for entry in self.whole if entry != PUSHED])


async def tell_story(stream: str, settings: Settings, connect: Connect) -> Story:
    """A whole session. Whatever happens, it ends, with an error of ours or none, and leaves no task."""
    before = client_tasks()
    story = Story(stream)
    with trio.fail_after(LONG_ENOUGH):  # noqa: ASYNC912 - opening a connection waits
        try:
            async with open_connection(settings, connect=connect) as conn:
                await story.tell(conn)
        except TrioExtremeError as error:
            story.error = error
    assert client_tasks() == before
    return story


async def check_against_store(story: Story, node: Node) -> None:
    """What was said to be written is there, once; what was said not to be is not; what is unknown may be either."""
    async with open_connection(node.settings, connect=node.connect) as conn:
        stored = [event.id async for event in conn.read_stream(story.stream, missing_ok=True)]
    batches = [story.first, story.second][: story.appended]
    acknowledged = [event.id for batch in batches for event in batch]
    possible = [acknowledged]
    if isinstance(story.error, OutcomeUnknown):
        possible.append(acknowledged + list(story.error.event_ids))
    assert stored in possible


def client_tasks() -> list[str]:
    """The client's tasks that live. The embedded node's are its own."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return sorted(
        task.name
        for task in tasks_below(root)
        if task.name.startswith("trio_extreme.") and not task.name.startswith("trio_extreme.embedded")
    )
