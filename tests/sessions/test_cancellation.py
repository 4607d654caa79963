"""Every verb cancelled at each of its checkpoints, and at each step that anything takes meanwhile.

Afterwards the next request gets its own answer, no correlation id is in use, and the server keeps nothing for us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.sessions.steps import cancelled_at
from tests.sessions.story import client_tasks
from trio_extreme import (
    ANY,
    END,
    START,
    AheadOfServer,
    CaughtUp,
    Connection,
    DefaultAcl,
    Filter,
    GroupExists,
    NewEvent,
    Notice,
    PersistentSettings,
    StreamMetadata,
    StreamMissing,
    messages,
    open_connection,
)
from trio_extreme.embedded import Node, open_node

if TYPE_CHECKING:
    from trio.testing import MockClock

Action: TypeAlias = Callable[[Connection], Awaitable[object]]

PEOPLE = "people"
SIZE = 5
OTHERS = 16
#: No action takes so many steps; one that does never ends.
TOO_MANY = 2000


async def ping(conn: Connection) -> None:
    await conn.ping()


async def execute(conn: Connection) -> None:
    await conn.execute(messages.ReadEvent(event_stream_id=PEOPLE, event_number=0))


async def append(conn: Connection) -> None:
    await conn.append("appended", [NewEvent("t"), NewEvent("t")])


async def append_much(conn: Connection) -> None:
    """More than the streams between hold: the writer is in the middle of it."""
    await conn.append("appended", NewEvent("t", bytes(1_000_000)))


async def delete_stream(conn: Connection) -> None:
    await conn.append("deleted", NewEvent("t"))
    await conn.delete_stream("deleted", expected=ANY)


async def transaction(conn: Connection) -> None:
    async with conn.transaction("committed", expected=ANY) as tx:
        await tx.write(NewEvent("t"))
        await tx.write([NewEvent("t"), NewEvent("t")])
    assert tx.result is not None
    assert tx.result.last - tx.result.first == 2


async def continue_transaction(conn: Connection) -> None:
    """Left without a commit, and gone on with."""
    begun = await conn.transaction("committed", expected=ANY).__aenter__()
    async with conn.continue_transaction(begun.id) as tx:
        await tx.write(NewEvent("t"))
    assert tx.result is not None


async def scavenge(conn: Connection) -> None:
    await conn.scavenge()


async def set_metadata(conn: Connection) -> None:
    await conn.set_metadata("limited", StreamMetadata(max_count=3))


async def update_metadata(conn: Connection) -> None:
    """Both ways, so that there is something to change each time."""
    for most in (1, None):
        assert (await conn.update_metadata("limited", max_count=most)).max_count == most


async def get_metadata(conn: Connection) -> None:
    assert (await conn.get_metadata(PEOPLE)).max_count == 1000


async def default_acl(conn: Connection) -> None:
    acl = await conn.get_default_acl()
    await conn.set_default_acl(DefaultAcl(), expected=acl.version)


async def read_event(conn: Connection) -> None:
    assert (await conn.read_event(PEOPLE, 2)).data == b"2"


async def last_number(conn: Connection) -> None:
    assert await conn.last_number(PEOPLE) == SIZE - 1


async def head(conn: Connection) -> None:
    await conn.head()


async def read_stream(conn: Connection) -> None:
    assert [event.number async for event in conn.read_stream(PEOPLE, page_size=2)] == [0, 1, 2, 3, 4]


async def read_pages(conn: Connection) -> None:
    reader = conn.read_stream(PEOPLE, backwards=True, page_size=2)
    assert [[event.number for event in page] async for page in reader.pages()] == [[4, 3], [2, 1], [0]]


async def read_ahead(conn: Connection) -> None:
    async with conn.read_stream(PEOPLE, page_size=2) as reader:
        async for event in reader:
            assert event.data == b"%d" % event.number
            await trio.lowlevel.checkpoint()


async def read_ahead_and_break(conn: Connection) -> None:
    async with conn.read_stream(PEOPLE, page_size=2) as reader:
        async for _ in reader:
            break


async def read_all(conn: Connection) -> None:
    assert len([event async for event in conn.read_all(count=5, page_size=2)]) == 5


async def read_filtered(conn: Connection) -> None:
    """Whether the server filters is asked first, and again in the next session."""
    reader = conn.read_all(filter=Filter.by_stream(PEOPLE), count=SIZE)
    assert [event.number async for event in reader] == [0, 1, 2, 3, 4]


async def read_filtered_ahead(conn: Connection) -> None:
    async with conn.read_all(filter=Filter.by_stream(PEOPLE), count=2, page_size=2) as reader:
        assert [event.number async for event in reader] == [0, 1]


async def subscribe_live(conn: Connection) -> None:
    async with conn.subscribe_live("live") as events:
        written = await conn.append("live", [NewEvent("t"), NewEvent("t")])
        assert (await anext(events)).number == written.first
        assert (await anext(events)).number == written.last


async def subscribe_live_batches(conn: Connection) -> None:
    async with conn.subscribe_live("live") as events:
        await conn.append("live", NewEvent("t"))
        async for _ in events.batches():
            break


async def subscribe_live_notices(conn: Connection) -> None:
    async with conn.subscribe_live("live") as events:
        await conn.append("live", NewEvent("t"))
        await anext(events.with_notices())


async def subscribe_all_live(conn: Connection) -> None:
    async with conn.subscribe_all_live() as events:
        await conn.append("live", NewEvent("t"))
        await anext(events)


async def subscribe(conn: Connection) -> None:
    async with conn.subscribe(PEOPLE, page_size=2) as events:
        items = events.with_notices()
        assert [getattr(await anext(items), "number", None) for _ in range(SIZE + 1)] == [0, 1, 2, 3, 4, None]


async def subscribe_and_break(conn: Connection) -> None:
    """The next page is under way then."""
    async with conn.subscribe(PEOPLE, page_size=2) as events:
        async for event in events:
            assert event.number == 0
            break


async def subscribe_batches(conn: Connection) -> None:
    async with conn.subscribe(PEOPLE, after=0, page_size=2) as events:
        batches = events.batches()
        assert [[event.number for event in await anext(batches)] for _ in range(2)] == [[1, 2], [3, 4]]


async def subscribe_from_end(conn: Connection) -> None:
    """Left with more to come."""
    async with conn.subscribe("live", start=END) as events:
        assert await anext(events.with_notices()) in (CaughtUp(), StreamMissing("live"))
        written = await conn.append("live", [NewEvent("t"), NewEvent("t"), NewEvent("t")])
        assert (await anext(events)).number == written.first


async def subscribe_beyond_end(conn: Connection) -> None:
    """The master is asked."""
    async with conn.subscribe(PEOPLE, after=100) as events:
        assert await anext(events.with_notices()) == AheadOfServer(100, SIZE - 1)


async def subscribe_all(conn: Connection) -> None:
    async with conn.subscribe_all(start=END, page_size=2) as events:
        written = await conn.append("live", NewEvent("t"))
        # Others may write too.
        while (await anext(events)).position != written.position:
            pass


async def subscribe_filtered(conn: Connection) -> None:
    """What was looked through may be told on the way."""
    async with conn.subscribe_all(filter=Filter.by_stream("live"), start=END) as events:
        items = events.with_notices()
        written = await conn.append("live", NewEvent("t"))
        while isinstance(item := await anext(items), Notice) or item.position != written.position:
            pass


GROUP = PersistentSettings(start_from=START, message_timeout=3600.0, max_retry_count=10_000)


async def change_groups(conn: Connection) -> None:
    with suppress(GroupExists):
        await conn.create_persistent(PEOPLE, "changed", GROUP)
    await conn.ensure_persistent(PEOPLE, "changed", GROUP, update=True)
    await conn.update_persistent(PEOPLE, "changed", GROUP)
    await conn.delete_persistent(PEOPLE, "changed")


async def consume(conn: Connection) -> None:
    """What an earlier attempt did not come to ack is there too."""
    async with conn.subscribe_persistent("live", "group", in_flight=1) as events:
        await conn.append("live", NewEvent("t"))
        await events.nak(await anext(events))
        await events.ack(await anext(events))


async def consume_batches(conn: Connection) -> None:
    async with conn.subscribe_persistent(PEOPLE, "group") as events:
        batch = await anext(events.batches())
        await events.nak(*batch, message="again")


async def consume_notices(conn: Connection) -> None:
    async with conn.subscribe_persistent("live", "group", auto_ack=True) as events:
        items = events.with_notices()
        await conn.append("live", NewEvent("t"))
        while isinstance(await anext(items), Notice):
            pass


ACTIONS: list[Action] = [
    ping,
    execute,
    append,
    append_much,
    delete_stream,
    transaction,
    continue_transaction,
    scavenge,
    set_metadata,
    update_metadata,
    get_metadata,
    default_acl,
    read_event,
    last_number,
    head,
    read_stream,
    read_pages,
    read_ahead,
    read_ahead_and_break,
    read_all,
    read_filtered,
    read_filtered_ahead,
    subscribe_live,
    subscribe_live_batches,
    subscribe_live_notices,
    subscribe_all_live,
    subscribe,
    subscribe_and_break,
    subscribe_batches,
    subscribe_from_end,
    subscribe_beyond_end,
    subscribe_all,
    subscribe_filtered,
    change_groups,
    consume,
    consume_batches,
    consume_notices,
]
each_action = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)


async def fill(conn: Connection) -> None:
    await conn.append(PEOPLE, [NewEvent("t", b"%d" % number) for number in range(SIZE)])
    await conn.set_metadata(PEOPLE, StreamMetadata(max_count=1000))
    await conn.append("marker", NewEvent("t", b"marker"))
    for stream in (PEOPLE, "live"):
        await conn.create_persistent(stream, "group", GROUP)


async def nothing_before() -> None:
    await trio.lowlevel.checkpoint()


async def cancel_at_each_step(
    conn: Connection,
    action: Action,
    check: Callable[[Connection], Awaitable[None]],
    before: Callable[[], Awaitable[None]] = nothing_before,
) -> int:
    """Do it again and again, cancelled one step later each time, until it comes to its end; how many steps it has."""
    of_all = check is check_all_quiet
    for step in count(1):
        assert step < TOO_MANY
        try:
            await before()
            with cancelled_at(step, of_all=of_all) as cancelled:
                await action(conn)
            await check(conn)
        except BaseException as error:
            error.add_note(f"{action.__name__} cancelled at step {step}")
            raise
        if not cancelled.reached:
            return step
    raise AssertionError


async def check_own_answer(conn: Connection) -> None:
    with trio.fail_after(1):
        await conn.ping()
        assert (await conn.read_event("marker", 0)).data == b"marker"


async def check_all_quiet(conn: Connection) -> None:
    await check_own_answer(conn)
    statistics = conn.statistics()
    assert (statistics.in_flight, statistics.waiting, statistics.queued_bytes) == (0, 0, 0)
    assert statistics.subscriptions == ()
    # What the server was told last, it knows once it has answered this.
    await conn.append("live", NewEvent("t"))
    await wait_all_tasks_blocked()
    assert conn.statistics().stray_frames - statistics.stray_frames == 0


@each_action
async def test_alone_at_each_step_of_anything(action: Action, autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node, open_connection(node.settings, connect=node.connect) as conn:
        await fill(conn)
        tasks = client_tasks()
        assert await cancel_at_each_step(conn, action, check_all_quiet) > 3
        assert client_tasks() == tasks


@each_action
async def test_begun_while_offline_at_each_step_of_anything(action: Action, autojump_clock: MockClock) -> None:
    """It waits for the next session, to which nothing is sent for a caller that has gone."""
    async with open_node(port=None) as node, open_connection(node.settings, connect=node.connect) as conn:

        async def lose_connection() -> None:
            node.faults.kill_connections()
            await wait_all_tasks_blocked()

        await fill(conn)
        tasks = client_tasks()
        assert await cancel_at_each_step(conn, action, check_all_quiet, lose_connection) > 3
        assert client_tasks() == tasks


@each_action
@pytest.mark.parametrize("max_in_flight", [5000, 4])
async def test_beside_others_at_each_own_step(action: Action, max_in_flight: int, autojump_clock: MockClock) -> None:
    """Room for all, and so little that most wait at the door."""
    async with open_node(port=None) as node:
        settings = node.settings.replace(max_in_flight=max_in_flight)
        async with open_connection(settings, connect=node.connect) as conn:
            await cancel_beside_others(conn, action)


async def cancel_beside_others(conn: Connection, action: Action) -> None:
    await fill(conn)
    tasks = client_tasks()
    async with trio.open_nursery() as nursery:
        others = [Other(conn, number) for number in range(OTHERS)]
        for other in others:
            nursery.start_soon(other.run)
        steps = await cancel_at_each_step(conn, action, check_own_answer)
        for other in others:
            other.stopping = True
    assert steps > 1
    # They had their turns, and their own answers.
    assert min(other.done for other in others) >= 1
    await check_all_quiet(conn)
    assert client_tasks() == tasks


class Other:
    """A task that appends and reads back, and looks whether it gets its own answers."""

    def __init__(self, conn: Connection, number: int) -> None:
        self._conn = conn
        self._stream = f"other-{number}"
        self.done = 0
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            data = f"{self._stream} {self.done}".encode()
            written = await self._conn.append(self._stream, NewEvent("t", data))
            assert written.last == self.done
            event = await self._conn.read_event(self._stream, self.done)
            assert event.data == data
            self.done += 1


async def whole_session(node: Node) -> None:
    async with open_connection(node.settings, connect=node.connect) as conn, conn.subscribe_live("live") as events:
        await conn.append("live", NewEvent("t"))
        await anext(events)


@pytest.mark.parametrize("of_all", [False, True])
async def test_open_connection_at_each_step(*, of_all: bool, autojump_clock: MockClock) -> None:
    """Connecting, identifying, the body, the last words: nothing is left, within a second."""
    async with open_node(port=None) as node:
        for step in count(1):
            assert step < TOO_MANY
            started = trio.current_time()
            with cancelled_at(step, of_all=of_all) as cancelled:
                await whole_session(node)
            assert trio.current_time() - started < 1
            assert client_tasks() == [], step
            await wait_all_tasks_blocked()
            assert repr(node).endswith(" 0 connections>"), step
            if not cancelled.reached:
                break
        assert step > 5
        # The node is as well as it was.
        await whole_session(node)


@pytest.mark.parametrize("of_all", [False, True])
async def test_open_node_at_each_step(*, of_all: bool, autojump_clock: MockClock) -> None:
    """The node is part of users' tests, which are cancelled too."""
    for step in count(1):
        assert step < TOO_MANY
        with cancelled_at(step, of_all=of_all) as cancelled:
            async with open_node(port=None) as node:
                await whole_session(node)
        await wait_all_tasks_blocked()
        if not cancelled.reached:
            break


async def test_what_was_not_sent_when_its_caller_went_is_never_sent(autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node, open_connection(node.settings, connect=node.connect) as conn:
        # Trio draws lots for who runs first, the caller or the writer.
        for _ in range(20):
            with trio.CancelScope() as scope:
                scope.cancel()
                await conn.append("never", NewEvent("t"))
            assert scope.cancelled_caught
        assert await conn.last_number("never") is None
