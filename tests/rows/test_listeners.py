"""Listeners: what those of Extreme do, and what was wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.helpers import assert_nothing_left, new_events
from tests.listening import Seen, listen, running
from tests.rows.consuming import assert_server_pushes_nothing, lost
from trio_extreme import END, FanoutListener, ListenerState, MemoryCheckpoints

if TYPE_CHECKING:
    from trio_extreme import Connection
    from trio_extreme.embedded import Node


async def test_what_is_there_and_what_comes(conn: Connection) -> None:
    store, seen = MemoryCheckpoints(), Seen()
    await conn.append("people", new_events(2))
    async with running(listen(conn, seen, checkpoints=store, page_size=2)):
        assert await seen.come_to(2) == [0, 1]
        await trio.testing.wait_all_tasks_blocked()
        assert await store.load("people") == "1@people"
        await conn.append("people", new_events(1))
        assert await seen.come_to(3) == [0, 1, 2]
    assert await store.load("people") == "2@people"
    assert_nothing_left(conn)
    await assert_server_pushes_nothing(conn)


async def test_a_handler_that_takes_its_time(conn: Connection) -> None:
    seen = Seen(seconds=lambda event: 5.001 if event.number == 0 else 0)
    await conn.append("people", new_events(2))
    async with running(listen(conn, seen)):
        assert await seen.come_to(2) == [0, 1]
        await conn.append("people", new_events(1))
        assert await seen.come_to(3) == [0, 1, 2]


async def test_paused_and_resumed(conn: Connection) -> None:
    store, seen = MemoryCheckpoints(), Seen()
    await conn.append("people", new_events(2))
    listener = listen(conn, seen, checkpoints=store)
    async with running(listener):
        await seen.come_to(2)
        assert await listener.pause() == 1
        await conn.append("people", new_events(1))
        await trio.sleep(10)
        assert (seen.places, listener.status.state) == ([0, 1], ListenerState.PAUSED)
        listener.resume()
        assert await seen.come_to(3) == [0, 1, 2]
        assert await listener.pause() == 2
        assert await store.load("people") == "2@people"


async def test_started_paused(conn: Connection) -> None:
    seen = Seen()
    await conn.append("people", new_events(2))
    listener = listen(conn, seen, paused=True)
    async with running(listener):
        await trio.sleep(10)
        assert seen.places == []
        assert await listener.pause() is None
        listener.resume()
        assert await seen.come_to(2) == [0, 1]


async def test_it_begins_where_it_was_left(conn: Connection) -> None:
    for stream, text, expected in (("people", None, [0, 1, 2]), ("others", "0@others", [1, 2])):
        store, seen = MemoryCheckpoints(), Seen()
        await conn.append(stream, new_events(3))
        if text is not None:
            await store.store(stream, text)
        async with running(listen(conn, seen, stream, checkpoints=store)):
            assert await seen.come_to(len(expected)) == expected
            await conn.append(stream, new_events(1))
            assert await seen.come_to(len(expected) + 1) == [*expected, 3]


async def test_from_now_on(conn: Connection) -> None:
    store, seen = MemoryCheckpoints(), Seen()
    await conn.append("people", new_events(2))
    async with running(listen(conn, seen, checkpoints=store, start=END)):
        await trio.sleep(1)
        assert seen.places == []
        await conn.append("people", new_events(1))
        assert await seen.come_to(1) == [2]
    assert await store.load("people") == "2@people"


async def test_from_now_on_where_nothing_came_before_it_ended(conn: Connection) -> None:
    """The end is that of the first run: what is written between the two is handled. And of a stream that is missing."""
    store, seen = MemoryCheckpoints(), Seen()
    for stream in ("people", "missing"):
        if stream == "people":
            await conn.append(stream, new_events(2))
        async with running(listen(conn, seen, stream, checkpoints=store, start=END)):
            pass
        await conn.append(stream, new_events(2))
        async with running(listen(conn, seen, stream, checkpoints=store, start=END)):
            await seen.come_to(2 if stream == "people" else 4)
    assert seen.places == [2, 3, 0, 1]


async def test_patched(conn: Connection) -> None:
    store, seen, again = MemoryCheckpoints(), Seen(), Seen(seconds=lambda event: 1)
    await conn.append("people", new_events(2))
    listener = listen(conn, seen, checkpoints=store)
    async with running(listener) as nursery:
        await seen.come_to(2)
        nursery.start_soon(conn.append, "people", new_events(1))
        assert await listener.patch(again) == 1
        assert again.places == [0, 1]
        assert await seen.come_to(3) == [0, 1, 2]
        assert await listener.patch(again, first=2) == 2
        assert again.places == [0, 1, 2]
        # As it was before: it is not stuck, and gives nothing to the other handler any more.
        await conn.append("people", new_events(1))
        assert await seen.come_to(4) == [0, 1, 2, 3]
        assert again.places == [0, 1, 2]


async def test_a_patch_that_fails_is_cancelled_or_stops_leaves_the_listener_as_it_was(conn: Connection) -> None:
    store, seen = MemoryCheckpoints(), Seen()
    await conn.append("people", new_events(3))
    listener = listen(conn, seen, checkpoints=store)
    async with running(listener):
        await seen.come_to(3)
        failing, stopping, slow = Seen(), Seen(stop_at=1), Seen(seconds=lambda event: 60)
        failing.errors = {1: [KeyError()]}
        with pytest.raises(KeyError):
            await listener.patch(failing)
        assert await listener.patch(stopping) == 2
        with trio.move_on_after(90) as scope:
            await listener.patch(slow)
        assert scope.cancelled_caught
        assert failing.places == stopping.places == slow.places == [0]
        await trio.testing.wait_all_tasks_blocked()
        assert await store.load("people") == "2@people"
        await conn.append("people", new_events(1))
        assert await seen.come_to(4) == [0, 1, 2, 3]
        assert listener.status.state is ListenerState.LIVE


async def test_stopped_by_its_handler(conn: Connection) -> None:
    """What was taken with it is not handled either."""
    store, seen = MemoryCheckpoints(), Seen(stop_at=3)
    await conn.append("people", new_events(10))
    listener = listen(conn, seen, checkpoints=store)
    await listener.run()
    assert (seen.places, await store.load("people")) == ([0, 1, 2], "2@people")
    assert listener.status.state is ListenerState.STOPPED
    assert_nothing_left(conn)
    seen.stop_at = 5
    await listener.run()
    assert seen.places == [0, 1, 2, 3, 4]
    await conn.append("people", new_events(1))
    await trio.sleep(1)
    assert seen.places == [0, 1, 2, 3, 4]


async def test_twice_is_as_good_as_once(conn: Connection) -> None:
    """Paused or resumed twice, and not run twice at a time."""
    seen = Seen()
    await conn.append("people", new_events(1))
    listener = listen(conn, seen)
    assert await listener.pause() is None
    listener.resume()
    async with running(listener):
        await seen.come_to(1)
        with pytest.raises(trio.BusyResourceError, match="'people' runs already"):
            await listener.run()
        for _ in range(2):
            assert await listener.pause() == 0
        for _ in range(2):
            listener.resume()
        await conn.append("people", new_events(1))
        assert await seen.come_to(2) == [0, 1]
    for _ in range(2):
        assert await listener.pause() == 1
        listener.resume()
    await conn.append("people", new_events(1))
    async with running(listener):
        assert await seen.come_to(3) == [0, 1, 2]


async def test_a_long_absence_of_the_server_does_not_end_it(conn: Connection, node: Node) -> None:
    seen = Seen()
    async with running(listen(conn, seen)):
        node.faults.restart(down=100)
        await lost(conn)
        await trio.sleep(120)
        await conn.append("people", new_events(2))
        assert await seen.come_to(2) == [0, 1]


# --- those that remember nothing


async def test_fanout_gets_what_is_new(conn: Connection) -> None:
    seen = Seen()
    await conn.append("people", new_events(2))
    async with running(FanoutListener(conn, "people", seen)):
        # It has subscribed when it has started.
        await conn.append("people", new_events(1))
        assert await seen.come_to(1) == [2]


async def test_fanout_left_and_started_again(conn: Connection) -> None:
    seen = Seen()
    listener = FanoutListener(conn, "people", seen)
    async with running(listener):
        await conn.append("people", new_events(1))
        await seen.come_to(1)
    await conn.append("people", new_events(1))
    async with running(listener):
        await conn.append("people", new_events(1))
        assert await seen.come_to(2) == [0, 2]
        with pytest.raises(trio.BusyResourceError):
            await listener.run()
    assert_nothing_left(conn)


async def test_fanout_survives_a_disconnect(conn: Connection, node: Node, caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    gaps: list[int] = []

    async def gap() -> None:
        gaps.append(len(seen.places))

    async with running(FanoutListener(conn, "people", seen, gap=gap)):
        await conn.append("people", new_events(1))
        await seen.come_to(1)
        node.faults.kill_connections()
        await lost(conn)
        await conn.ping()
        await trio.sleep(1)
        await conn.append("people", new_events(1))
        assert await seen.come_to(2) == [0, 1]
    assert gaps == [1]
    assert "the listener to 'people' was interrupted: events may be missing" in caplog.text


async def test_fanout_is_started_once_it_is_subscribed(conn: Connection, node: Node) -> None:
    """Not before the server has confirmed, however long that takes."""
    seen = Seen()

    with node.faults.delay(1):
        async with running(FanoutListener(conn, "people", seen)):
            assert trio.current_time() >= 1
            await conn.append("people", new_events(1))
            assert await seen.come_to(1) == [0]
