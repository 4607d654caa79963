"""Listeners: what is stored when, what becomes of errors, and what can be told of one that runs."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import defaultdict
from contextlib import closing
from functools import partial
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.helpers import assert_nothing_left, new_events
from tests.listening import Seen, listen, running
from tests.sessions.steps import cancelled_at
from tests.sessions.story import client_tasks
from trio_extreme import (
    ALL,
    END,
    STOP,
    AccessDenied,
    CheckpointError,
    Checkpoints,
    Event,
    FanoutListener,
    FileCheckpoints,
    Filter,
    Handlers,
    InvalidArgument,
    ListenerState,
    MemoryCheckpoints,
    NewEvent,
    Park,
    Position,
    Retry,
    Skip,
    SqliteCheckpoints,
    Stop,
    StreamDeleted,
    SubscriptionDropped,
    WriteResult,
    open_connection,
)
from trio_extreme.checkpoints import run_inline
from trio_extreme.embedded import open_node
from trio_extreme.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from trio_extreme import Connection, Listener, SqliteTransaction
    from trio_extreme.embedded import Node


@pytest.fixture
def version() -> str:
    """No server differs from another here."""
    return "4.1.1"


class Store(MemoryCheckpoints):
    """One that remembers each checkpoint, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[str] = []
        self.times: list[float] = []
        self.broken = False

    async def store(self, name: str, checkpoint: str) -> None:
        if self.broken:
            msg = "the disk is full"
            raise OSError(msg)
        await super().store(name, checkpoint)
        self.stored.append(checkpoint.partition("@")[0])
        self.times.append(trio.current_time())


async def run_to_end(listener: Listener, seconds: float = 10) -> None:
    """For so long."""
    with trio.move_on_after(seconds):
        await listener.run()


# --- what is stored when


async def test_after_each_event_and_never_before_its_handler_has_returned(conn: Connection) -> None:
    store = Store()

    async def handle(event: Event) -> None:
        assert store.stored == [str(number) for number in range(event.number)]
        await trio.sleep(1)
        assert store.stored == [str(number) for number in range(event.number)]

    await conn.append("people", new_events(3))
    await run_to_end(listen(conn, handle, checkpoints=store))
    assert store.stored == ["0", "1", "2"]


async def test_after_some_events_and_on_leaving(conn: Connection) -> None:
    store, seen = Store(), Seen()
    await conn.append("people", new_events(7))
    listener = listen(conn, seen, checkpoints=store, checkpoint_events=3)
    await run_to_end(listener)
    assert store.stored == ["2", "5", "6"]
    # Nothing new, nothing to store; and by an error, behind what was handled.
    await run_to_end(listener)
    assert store.stored == ["2", "5", "6"]
    await conn.append("people", new_events(2))
    seen.errors = {8: [KeyError()]}
    with pytest.raises(KeyError):
        await listener.run()
    assert store.stored == ["2", "5", "6", "7"]
    async with running(listener):
        await seen.come_to(9)
        assert await listener.pause() == 8
        assert store.stored[4:] == ["8"]


async def test_some_time_after_the_first_event_whether_more_come_or_not(conn: Connection) -> None:
    store, seen = Store(), Seen(seconds=lambda event: 0.3)
    options: dict[str, Any] = {"checkpoints": store, "checkpoint_events": 1000, "checkpoint_seconds": 1}
    await conn.append("people", new_events(5))
    async with running(listen(conn, seen, **options)):
        await seen.come_to(5)
        await trio.sleep(5)
        assert store.stored == ["4"]
        await conn.append("people", new_events(1))
        began = trio.current_time()
        await trio.sleep(5)
        assert store.stored == ["4", "5"]
        assert store.times[1] == pytest.approx(began + 1.3)


@pytest.mark.parametrize("while_handling", [False, True])
async def test_a_store_that_fails_ends_it(
    conn: Connection, caplog: pytest.LogCaptureFixture, *, while_handling: bool
) -> None:
    store, seen = Store(), Seen()
    await conn.append("people", new_events(3))
    listener = listen(conn, seen, checkpoints=store, checkpoint_events=1 if while_handling else 100)
    store.broken = True
    if while_handling:
        with pytest.raises(OSError, match="the disk is full"):
            await listener.run()
        assert seen.places == [0]
    else:
        seen.errors = {2: [KeyError()]}
        with pytest.raises(KeyError):
            await listener.run()
    assert "'people' could not store its last checkpoint" in caplog.text
    store.broken = False
    await run_to_end(listener)
    assert seen.places[-3:] == [0, 1, 2]


async def test_checkpoints_that_cannot_be_used(conn: Connection) -> None:
    store = MemoryCheckpoints()
    await store.store("people", "3@orders")
    await store.store("damaged", "three")
    await conn.append("people", new_events(3))
    with pytest.raises(
        CheckpointError, match=r"checkpoint 'people' of <MemoryCheckpoints.* is of a listener to 'orders'"
    ):
        await listen(conn, Seen(), checkpoints=store).run()
    with pytest.raises(CheckpointError, match=r"checkpoint 'damaged' of .* is damaged"):
        await listen(conn, Seen(), checkpoints=store, name="damaged").run()
    assert (await store.load("people"), await store.load("damaged")) == ("3@orders", "three")
    async with running(listen(conn, Seen(), checkpoints=store, name="mine")):
        with pytest.raises(CheckpointError, match="another listener runs with it"):
            await listen(conn, Seen(), checkpoints=store, name="mine").run()
        async with running(listen(conn, Seen(), checkpoints=store, name="other")):
            pass


# --- errors


async def test_an_error_ends_it_bare_and_its_event_comes_again(conn: Connection) -> None:
    store, seen = Store(), Seen()
    await conn.append("people", new_events(3))
    error = KeyError("why")
    seen.errors = {1: [error]}
    listener = listen(conn, seen, checkpoints=store)
    with pytest.raises(KeyError) as caught:
        await listener.run()
    assert caught.value is error is listener.status.last_error
    assert (store.stored, listener.status.place) == (["0"], 0)
    await run_to_end(listener)
    assert (seen.places, store.stored) == ([0, 1, 2], ["0", "1", "2"])


async def test_retried(conn: Connection) -> None:
    seen = Seen()
    await conn.append("people", new_events(3))
    seen.errors = {1: [KeyError(), ValueError()], 2: [KeyError(), KeyError(), ValueError("the last")]}
    began = trio.current_time()
    with pytest.raises(ValueError, match="the last"):
        await listen(conn, seen, on_error=Retry(2, backoff=5)).run()
    assert seen.places == [0, 1]
    assert trio.current_time() - began == pytest.approx(30)


async def test_a_retry_that_waits_is_interrupted_by_a_pause(conn: Connection) -> None:
    seen = Seen()
    await conn.append("people", new_events(3))
    seen.errors = {1: [KeyError()]}
    listener = listen(conn, seen, on_error=Retry(1, backoff=1000, max_backoff=1000))
    async with running(listener):
        await trio.sleep(5)
        assert await listener.pause() == 0
        assert trio.current_time() < 10
        listener.resume()
        assert await seen.come_to(3) == [0, 1, 2]


async def test_stop_as_the_answer_of_a_retry(conn: Connection) -> None:
    seen = Seen(stop_at=1)
    await conn.append("people", new_events(3))
    seen.errors = {1: [KeyError()]}
    await listen(conn, seen, on_error=Retry(3)).run()
    assert seen.places == [0]


@pytest.mark.parametrize("on_error", [Skip(), Retry(1, backoff=0.1, then=Skip())], ids=["skip", "retry"])
async def test_skipped(conn: Connection, on_error: Any, caplog: pytest.LogCaptureFixture) -> None:
    store, seen = Store(), Seen()
    await conn.append("people", new_events(3))
    seen.errors = {1: [KeyError("secret"), KeyError("secret")]}
    listener = listen(conn, seen, checkpoints=store, on_error=on_error)
    await run_to_end(listener)
    assert (seen.places, store.stored) == ([0, 2], ["0", "1", "2"])
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "listener 'people' skipped <Event people/1 happened>, whose handler raised KeyError"
    assert isinstance(listener.status.last_error, KeyError)


async def test_stopped_by_an_error(conn: Connection, caplog: pytest.LogCaptureFixture) -> None:
    store, seen = Store(), Seen()
    await conn.append("people", new_events(3))
    seen.errors = {1: [KeyError()]}
    await listen(conn, seen, checkpoints=store, on_error=Stop()).run()
    assert (seen.places, store.stored) == ([0], ["0"])
    assert "ends at <Event people/1 happened>, whose handler raised KeyError" in caplog.text


async def test_parked(conn: Connection) -> None:
    store, seen = Store(), Seen()
    await conn.append("people", new_events(3))
    seen.errors = {1: [KeyError("the reason")]}
    await run_to_end(listen(conn, seen, checkpoints=store, on_error=Park("parked")))
    assert (seen.places, store.stored) == ([0, 2], ["0", "1", "2"])
    event = await conn.read_event("parked", 0)
    assert (event.stream, event.number, event.data) == ("people", 1, b"1")
    assert event.link is not None
    assert event.link.json is not None
    assert json.loads(event.link.metadata) == {"listener": "people", "error": "KeyError", "reason": "'the reason'"}
    # Had it died before it could store that: it is parked once.
    await store.store("people", "0@people")
    seen.errors = {1: [KeyError("the reason")]}
    await run_to_end(listen(conn, seen, checkpoints=store, on_error=Park("parked")))
    assert await conn.last_number("parked") == 0


async def test_two_events_with_one_id_are_both_parked(conn: Connection) -> None:
    event = NewEvent("happened")
    for stream in ("order-1", "order-2"):
        await conn.append(stream, event)
    listener = listen(conn, raise_key_error, ALL, filter=Filter.by_stream("order-"), on_error=Park("parked"))
    await run_to_end(listener)
    links = [link.data async for link in conn.read_stream("parked", resolve_links=False)]
    assert links == [b"0@order-1", b"0@order-2"]


async def raise_key_error(event: Event) -> None:
    await trio.lowlevel.checkpoint()
    raise KeyError(event)


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_parked_when_it_is_online_again(conn: Connection, node: Node, concurrency: int) -> None:
    store, calls = Store(), list[int]()

    async def handle(event: Event) -> None:
        calls.append(event.number)
        if calls == [0]:
            node.faults.kill()
        await trio.sleep(1)
        if event.number == 0:
            raise KeyError

    await conn.append("people", new_events(1))
    listener = listen(conn, handle, checkpoints=store, on_error=Park("parked"), concurrency=concurrency)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run)
        await trio.sleep(100)
        assert (calls, store.stored) == ([0], [])
        # A pause does not wait until then, and the event comes again.
        with trio.fail_after(node.settings.operation_timeout + 1):
            assert await listener.pause() is None
        listener.resume()
        await trio.sleep(100)
        node.faults.start()
        await conn.append("people", new_events(1))
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert (calls, store.stored[-1]) == ([0, 0, 1], "1")
    assert await conn.last_number("parked") == 0


async def test_what_cannot_be_parked_ends_it(conn: Connection) -> None:
    seen = Seen()
    await conn.append("people", new_events(1))
    await conn.append("parked", new_events(1))
    await conn.delete_stream("parked", expected=-2, hard=True)
    seen.errors = {0: [KeyError()]}
    with pytest.raises(StreamDeleted):
        await listen(conn, seen, on_error=Park("parked")).run()


async def test_what_the_server_refuses_is_raised_where_it_is_started(node: Node) -> None:
    async with open_connection(node.settings.replace(username="", password=""), connect=node.connect) as conn:
        for listener in (listen(conn, Seen(), ALL), FanoutListener(conn, ALL, Seen())):
            with pytest.raises(AccessDenied):
                await listener.run(task_status=never)


class Never(trio.TaskStatus[None]):
    def started(self, value: None = None) -> None:
        pytest.fail("it has started")


never = Never()


# --- in batches


class Lists:
    """A handler that keeps the lists it was given, and fails where a list has one of these."""

    def __init__(self, *bad: int) -> None:
        self.lists: list[list[int]] = []
        self.bad = bad

    async def __call__(self, events: list[Event]) -> object:
        await trio.lowlevel.checkpoint()
        numbers = [event.number for event in events]
        if found := set(numbers) & set(self.bad):
            raise KeyError(found)
        self.lists.append(numbers)
        return STOP if 9 in numbers else None


async def test_in_batches(conn: Connection) -> None:
    store, lists = Store(), Lists()
    await conn.append("people", new_events(9))
    listener = listen(conn, lists, checkpoints=store, batch=3, page_size=4)
    await run_to_end(listener)
    assert lists.lists == [[0, 1, 2], [3], [4, 5, 6], [7], [8]]
    assert store.stored == ["2", "3", "6", "7", "8"]
    assert listener.status.handled == 9
    await conn.append("people", new_events(2))
    await listener.run()
    assert store.stored[5:] == []


async def test_of_a_batch_only_those_are_skipped_that_fail(conn: Connection) -> None:
    store, lists = Store(), Lists(1, 4)
    await conn.append("people", new_events(6))
    await run_to_end(listen(conn, lists, checkpoints=store, batch=3, on_error=Retry(1, backoff=0.1, then=Skip())))
    assert lists.lists == [[0], [2], [3], [5]]
    assert store.stored[-1] == "5"
    store, lists = Store(), Lists(1, 4)
    await run_to_end(listen(conn, lists, checkpoints=store, batch=3, on_error=Park("parked")))
    assert [event.number async for event in conn.read_stream("parked")] == [1, 4]
    with pytest.raises(KeyError):
        await listen(conn, Lists(1), batch=3).run()


# --- several at a time


async def test_several_at_a_time_in_order_by_key(conn: Connection) -> None:
    store = Store()
    places: defaultdict[str, list[int]] = defaultdict(list)
    now = most = 0

    async def handle(event: Event) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        # The first key is slow, and each takes its own time.
        await trio.sleep(event.number % 7 + (50 if event.type == "0" else 0))
        places[event.type].append(event.number)
        now -= 1

    await conn.append("people", [NewEvent(str(number % 5)) for number in range(100)])
    listener = listen(conn, handle, checkpoints=store, concurrency=4, key=lambda event: event.type)
    await run_to_end(listener, 5000)
    assert most == 4
    assert dict(places) == {str(key): list(range(key, 100, 5)) for key in range(5)}
    assert store.stored[-1] == "99"
    assert [int(place) for place in store.stored] == sorted({int(place) for place in store.stored})
    assert listener.status.handled == 100


async def test_what_is_stored_has_all_before_it_finished(conn: Connection) -> None:
    store, seen = Store(), Seen(seconds=lambda event: 100 if event.number == 2 else 1)
    await conn.append("people", new_events(8))
    listener = listen(conn, seen, checkpoints=store, concurrency=3)
    async with running(listener):
        await trio.sleep(50)
        assert sorted(seen.places) == [0, 1, 3, 4, 5, 6, 7]
        assert (store.stored[-1], listener.status.place) == ("1", 1)
        # A pause waits for all that was taken.
        assert await listener.pause() == 7
    assert store.stored[-1] == "7"


async def test_several_at_a_time_some_time_after_the_first_event(conn: Connection) -> None:
    store, seen = Store(), Seen(seconds=lambda event: 1)
    options: dict[str, Any] = {"checkpoint_events": 1000, "checkpoint_seconds": 5, "concurrency": 3}
    async with running(listen(conn, seen, checkpoints=store, **options)):
        for number in range(2):
            began = trio.current_time()
            await conn.append("people", new_events(1))
            await trio.sleep(50)
            assert store.stored[number:] == [str(number)]
            assert store.times[number] == pytest.approx(began + 6)


async def test_one_stores_at_a_time_whoever_is_cancelled_or_fails(autojump_clock: MockClock) -> None:
    store = SlowStore()
    progress = Progress(store, "people", "people", 1, inf)
    async with trio.open_nursery() as nursery:

        async def keep(place: int, scope: trio.CancelScope) -> None:
            with scope:
                progress.move(place)
                if place == 2:
                    with pytest.raises(OSError, match="full"):
                        await progress.keep()
                else:
                    await progress.keep()

        scopes = [trio.CancelScope() for _ in range(5)]
        for place, scope in enumerate(scopes):
            nursery.start_soon(keep, place, scope)
            await trio.sleep(0.1)
        # The one that stores, and the first two that wait for it: each goes, and the next one has its turn.
        store.broken = 1
        scopes[1].cancel()
        await trio.sleep(0.1)
        scopes[0].cancel()
    assert store.stored == ["4@people"]
    assert (store.most, autojump_clock.current_time() < 30) == (1, True)
    with trio.fail_after(20):
        progress.move(5)
        await progress.keep()
    assert store.stored[-1] == "5@people"


async def test_what_is_handled_while_it_stores_has_its_time_too(autojump_clock: MockClock) -> None:
    progress = Progress(SlowStore(), "people", "people", 1000, 60)
    progress.move(0)
    began = autojump_clock.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress.keep)
        await trio.sleep(1)
        progress.move(1)
    assert progress.deadline == pytest.approx(began + 60)
    await progress.keep()
    assert progress.deadline == inf


class SlowStore(MemoryCheckpoints):
    """One that takes ten seconds, and counts how many store at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[str] = []
        self.now = self.most = self.broken = 0

    async def store(self, name: str, checkpoint: str) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(10)
            if self.broken:
                self.broken -= 1
                msg = "the disk is full"
                raise OSError(msg)
            await super().store(name, checkpoint)
            self.stored.append(checkpoint)
        finally:
            self.now -= 1


async def test_several_at_a_time_and_one_fails(conn: Connection) -> None:
    store, seen = Store(), Seen(seconds=lambda event: 5)
    await conn.append("people", new_events(6))
    seen.errors = {4: [KeyError("alone")]}
    listener = listen(conn, seen, checkpoints=store, concurrency=3)
    with pytest.raises(KeyError, match="alone"):
        await listener.run()
    assert (sorted(seen.places), store.stored[-1]) == ([0, 1, 2], "2")
    await run_to_end(listener, 100)
    assert sorted(seen.places) == [0, 1, 2, 3, 4, 5]


async def test_several_at_a_time_and_one_stops(conn: Connection) -> None:
    """What was begun is finished, what was not is not, and all behind the one that stopped comes again."""
    store, seen = Store(), Seen(seconds=lambda event: 9 - event.number, stop_at=1)
    await conn.append("people", new_events(9))
    listener = listen(conn, seen, checkpoints=store, concurrency=3)
    await listener.run()
    assert sorted(seen.places) in ([0, 2], [0, 2, 3])
    assert store.stored == ["0"]
    seen.stop_at = None
    await run_to_end(listener, 100)
    assert set(seen.places) == set(range(9))


async def test_several_at_a_time_paused_while_one_waits_for_its_retry(conn: Connection) -> None:
    store, seen = Store(), Seen()
    await conn.append("people", new_events(6))
    seen.errors = {2: [KeyError()]}
    retry = Retry(1, backoff=1000, max_backoff=1000)
    listener = listen(conn, seen, checkpoints=store, concurrency=2, key=lambda event: event.number % 2, on_error=retry)
    async with running(listener):
        await trio.sleep(5)
        assert sorted(seen.places) == [0, 1, 3, 5]
        assert await listener.pause() == 1
        listener.resume()
        await seen.come_to(8)
        # What was finished behind it comes again, each key in order.
        assert sorted(seen.places[4:]) == [2, 3, 4, 5]
        assert seen.places.index(2) < seen.places.index(4)


# --- in SQLite


def in_sqlite(path: Path) -> SqliteCheckpoints:
    return SqliteCheckpoints(path, setup="CREATE TABLE IF NOT EXISTS seen (number INTEGER)", run_sync=run_inline)


class Insert:
    """A handler that writes down what it was given, and then may fail."""

    def __init__(self) -> None:
        self.errors: dict[int, list[Exception]] = {}
        self.stop_at: int | None = None

    async def __call__(self, given: Any, db: SqliteTransaction) -> object:
        events = given if isinstance(given, list) else [given]
        await db.executemany("INSERT INTO seen VALUES (?)", [[event.number] for event in events])
        for event in events:
            if self.errors.get(event.number):
                raise self.errors[event.number].pop(0)
            if event.number == self.stop_at:
                return STOP
        return None


def rows(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        return [number for (number,) in db.execute("SELECT number FROM seen ORDER BY rowid")]


@pytest.mark.parametrize("batch", [None, 2])
async def test_in_sqlite_each_event_counts_once(conn: Connection, tmp_path: Path, batch: int | None) -> None:
    path = tmp_path / "model.db"
    store, insert = in_sqlite(path), Insert()
    await conn.append("people", new_events(6))
    insert.errors = {1: [KeyError(), ValueError()], 4: [KeyError(), KeyError(), KeyError(), KeyError()]}
    listener = listen(conn, insert, checkpoints=store, batch=batch)
    for error in (KeyError, ValueError):
        with pytest.raises(error):
            await listener.run()
    assert (rows(path), await store.load("people")) == (([0], "0@people") if batch is None else ([], None))
    await run_to_end(listen(conn, insert, checkpoints=store, batch=batch, on_error=Retry(1, backoff=1, then=Skip())))
    assert (rows(path), await store.load("people")) == ([0, 1, 2, 3, 5], "5@people")
    await conn.append("people", new_events(3))
    insert.stop_at = 7
    await listener.run()
    assert rows(path) == ([0, 1, 2, 3, 5, 6] if batch is None else [0, 1, 2, 3, 5])


@pytest.mark.parametrize("on_error", [Skip(), Retry(2, backoff=1, then=Park("parked"))], ids=["at once", "retried"])
async def test_in_sqlite_a_file_that_is_locked_is_no_error_of_the_handler(
    conn: Connection, tmp_path: Path, on_error: Any
) -> None:
    path = tmp_path / "model.db"
    store, insert = in_sqlite(path), Insert()
    await conn.append("people", new_events(2))
    async with store.hold("other"):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:

            async def handle(event: Event, db: SqliteTransaction) -> None:
                if not other.in_transaction:
                    other.execute("BEGIN IMMEDIATE")
                    if isinstance(on_error, Retry):
                        raise KeyError
                await insert(event, db)

            listener = listen(conn, handle, checkpoints=store, on_error=on_error)
            with pytest.raises(CheckpointError, match="database is locked"):
                await listener.run()
    assert (listener.status.place, await conn.last_number("parked")) == (None, None)
    await run_to_end(listen(conn, insert, checkpoints=store))
    assert rows(path) == [0, 1]


async def test_in_sqlite_a_patch_moves_no_checkpoint(conn: Connection, tmp_path: Path) -> None:
    path = tmp_path / "model.db"
    store, insert, again = in_sqlite(path), Insert(), Insert()
    await conn.append("people", new_events(3))
    listener = listen(conn, insert, checkpoints=store)
    async with running(listener):
        await listener.reached(2)
        again.errors = {1: [KeyError()]}
        with pytest.raises(KeyError):
            await listener.patch(again)
        assert await listener.patch(again, first=1) == 2
        assert (rows(path), await store.load("people")) == ([0, 1, 2, 0, 1, 2], "2@people")
        written = await conn.append("people", new_events(1))
        await listener.reached(written)
    assert rows(path)[6:] == [3]


async def test_in_sqlite_a_listener_that_ends_waits_for_its_patch(conn: Connection, tmp_path: Path) -> None:
    path = tmp_path / "model.db"
    listener = listen(conn, Insert(), checkpoints=in_sqlite(path))
    outcome: list[object] = []

    async def slow(event: Event, db: SqliteTransaction) -> None:
        await db.execute("INSERT INTO seen VALUES (99)")
        await trio.sleep(1000)

    async def patch() -> None:
        with pytest.raises(SubscriptionDropped, match="'people' ended before its patch was done"):
            await listener.patch(slow)
        outcome.append(rows(path))

    await conn.append("people", new_events(2))
    async with trio.open_nursery() as nursery, running(listener):
        await listener.reached(1)
        nursery.start_soon(patch)
        await trio.sleep(1)
        assert listener.status.state is ListenerState.PATCHING
    assert outcome == [[0, 1]]


async def test_in_sqlite_cancelled_at_each_step(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Whatever is cancelled when: each event is there once, in order."""
    path = tmp_path / "model.db"
    async with open_node(port=None) as node, open_connection(node.settings, connect=node.connect) as conn:
        tasks = client_tasks()
        written = 0
        for step in count(1):
            await conn.append("people", new_events(2))
            written += 2
            listener = listen(conn, Insert(), checkpoints=in_sqlite(path))
            with cancelled_at(step, of_all=False) as cancelled, trio.move_on_after(10):
                await listener.run()
            if step > 2:
                assert rows(path) == list(range(len(rows(path)))), step
            assert_nothing_left(conn)
            assert client_tasks() == tasks
            if not cancelled.reached:
                break
            assert step < 500
        assert rows(path) == list(range(written))
        assert step > 20


# --- cancelled


async def handle_all(conn: Connection, store: Checkpoints, places: list[Any], **options: Any) -> None:
    async def handle(event: Event) -> None:
        await trio.lowlevel.checkpoint()
        places.append(event.checkpoint)

    listener = listen(conn, handle, checkpoints=store, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(listener.run)
        last = await conn.last_number("people")
        assert last is not None
        await listener.reached(last)
        await listener.pause()
        await listener.patch(Seen(), first=last)
        listener.resume()
        await listener.reached((await conn.append("people", new_events(1))).last)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("options", [{}, {"concurrency": 3}], ids=["one", "several"])
@pytest.mark.parametrize("of_all", [False, True])
async def test_at_each_step(options: dict[str, Any], autojump_clock: MockClock, *, of_all: bool) -> None:
    """Of the task that talks to it, and of any: nothing is lost, nothing is left, and it goes on where it was."""
    async with open_node(port=None) as node, open_connection(node.settings, connect=node.connect) as conn:
        tasks = client_tasks()
        store, places = MemoryCheckpoints(), list[Any]()
        await conn.append("people", new_events(3))
        for step in count(1):
            with cancelled_at(step, of_all=of_all) as cancelled:
                await handle_all(conn, store, places, **options)
            await trio.testing.wait_all_tasks_blocked()
            assert_nothing_left(conn)
            assert client_tasks() == tasks, step
            stored = await store.load("people")
            if stored is not None:
                # All before what is stored was handled.
                assert set(range(int(stored.partition("@")[0]) + 1)) <= set(places), step
            if not cancelled.reached:
                break
            assert step < 2000
        assert set(places) == set(range(len(set(places))))
        assert step > 10


# --- the log, links, handlers by type


async def test_of_the_log_what_a_filter_leaves_and_its_checkpoints(conn: Connection) -> None:
    store, seen = Store(), Seen()
    for number in range(3):
        await conn.append(f"order-{number}", new_events(1))
        await conn.append("noise", new_events(20))
    listener = listen(conn, seen, ALL, checkpoints=store, filter=Filter.by_stream("order-"))
    async with running(listener):
        await seen.come_to(3)
        head = await conn.head()
        await trio.testing.wait_all_tasks_blocked()
        # Behind the last event that matched, behind all that did not.
        assert store.stored[-1].endswith("+")
        assert Position.parse(store.stored[-1]) >= seen.places[-1]
        written = await conn.append("noise", new_events(1))
        status = listener.status
        assert (status.end, status.lag_events, status.state) == (None, None, ListenerState.LIVE)
        assert status.lag_seconds == 0
        assert written.position is not None
        order = await conn.append("order-3", new_events(1))
        await listener.reached(order)
        assert seen.places[-1] == order.position
    assert head < seen.places[-1]
    # In the next process it goes on there.
    async with running(listen(conn, seen, ALL, checkpoints=store, filter=Filter.by_stream("order-"))):
        await trio.sleep(1)
    assert len(seen.places) == 4


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_of_the_log_where_nothing_matches_for_long(conn: Connection, concurrency: int) -> None:
    store, seen = Store(), Seen()
    await conn.append("order-1", new_events(1))
    noise = await conn.append("noise", new_events(1000))
    options: dict[str, Any] = {"checkpoint_events": 100, "concurrency": concurrency}
    async with running(listen(conn, seen, ALL, checkpoints=store, filter=Filter.by_stream("order-"), **options)):
        await trio.sleep(100)
        # Whoever goes on there does not read all of it again.
        assert noise.position is not None
        assert Position.parse(store.stored[-1]) >= noise.position


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_of_the_log_all_of_it(conn: Connection, concurrency: int) -> None:
    seen = Seen()
    await conn.append("people", new_events(3))
    listener = listen(conn, seen, ALL, start=await conn.head(), concurrency=concurrency)
    async with running(listener):
        written = await conn.append("people", new_events(2))
        await listener.reached(written)
        assert written.position == listener.status.place == max(seen.places)
        again = Seen()
        await listener.patch(again, first=written.position)
        assert again.places == [written.position]


async def test_a_stream_of_links(autojump_clock: MockClock) -> None:
    """The number of the link is the place, not that of the event."""
    store, seen = Store(), Seen()
    async with (
        open_node(port=None, projections=True) as node,
        open_connection(node.settings, connect=node.connect) as conn,
    ):
        for stream in ("a-1", "a-2", "a-1"):
            await conn.append(stream, new_events(1))
        listener = listen(conn, seen, "$ce-a", checkpoints=store)
        async with running(listener):
            assert await seen.come_to(3) == [0, 1, 2]
            written = await conn.append("a-2", new_events(1))
            with pytest.raises(InvalidArgument, match=r"written: what was appended has another number in '\$ce-a'"):
                await listener.reached(written)
            await listener.reached(3)
        assert store.stored == ["0", "1", "2", "3"]


async def test_a_handler_for_each_type(conn: Connection) -> None:
    handlers, called = Handlers(), list[str]()

    @handlers.on("Created", "Renamed")
    async def change(event: Event) -> None:
        called.append(f"change {event.type}")

    @handlers.on("Closed")
    async def close(event: Event) -> object:
        called.append("close")
        return STOP

    assert repr(handlers) == "<Handlers of Created, Renamed, Closed>"
    with pytest.raises(InvalidArgument, match="'Closed' has a handler already"):
        handlers.on("Closed")
    with pytest.raises(InvalidArgument, match="none is given"):
        handlers.on()
    await conn.append("people", [NewEvent(type_) for type_ in ("Created", "Moved", "Renamed", "Closed", "Created")])
    await listen(conn, handlers).run()
    assert called == ["change Created", "change Renamed", "close"]

    @handlers.otherwise
    async def rest(event: Event) -> None:
        called.append(f"rest {event.type}")

    called.clear()
    await listen(conn, handlers).run()
    assert called == ["change Created", "rest Moved", "change Renamed", "close"]


# --- what can be told


async def test_caught_up(conn: Connection, node: Node) -> None:
    for concurrency in (1, 3):
        seen, heard = Seen(seconds=lambda event: 1), list[Any]()

        async def caught_up(seen: Seen, heard: list[Any]) -> None:
            await trio.lowlevel.checkpoint()
            heard.append(sorted(seen.places))

        hook = partial(caught_up, seen, heard)
        stream = f"people-{concurrency}"
        await conn.append(stream, new_events(2))
        async with running(listen(conn, seen, stream, caught_up=hook, concurrency=concurrency)):
            await trio.sleep(5)
            assert heard == [[0, 1]]
            await conn.append(stream, new_events(1))
            await trio.sleep(5)
            assert heard == [[0, 1]]
            node.faults.kill_connections()
            await trio.sleep(20)
            assert heard == [[0, 1], [0, 1, 2]]


async def test_its_status(conn: Connection) -> None:
    seen = Seen(seconds=lambda event: 1)
    listener = listen(conn, seen)
    status = listener.status
    assert (status.state, status.place, status.end, status.lag_events, status.handled) == (
        *(ListenerState.STOPPED, None, None, None, 0),
    )
    assert (status.lag_seconds, status.last_error, status.per_second) == (None, None, 0)
    assert repr(listener) == "<Listener 'people': stopped, at None>"
    await conn.append("people", new_events(20))
    async with running(listener):
        await trio.sleep(5.5)
        status = listener.status
        assert (status.state, status.place, status.end, status.lag_events) == (ListenerState.CATCHING_UP, 4, 19, 15)
        assert status.lag_seconds is not None
        assert 0 <= status.lag_seconds < 60
        await seen.come_to(20)
        await trio.testing.wait_all_tasks_blocked()
        status = listener.status
        assert (status.state, status.place, status.lag_events, status.lag_seconds) == (ListenerState.LIVE, 19, 0, 0)
        assert status.handled == 20
        for _ in range(5):
            await conn.append("people", new_events(1))
            await trio.sleep(2)
        assert listener.status.per_second == pytest.approx(0.5, abs=0.2)
        await trio.sleep(60)
        assert listener.status.per_second == 0


@pytest.mark.parametrize("stream", ["people", ALL])
async def test_the_end_is_asked_for_when_it_is_online_again(conn: Connection, node: Node, stream: str) -> None:
    seen = Seen()
    await conn.append("people", new_events(1))
    node.faults.kill()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen(conn, seen, stream, start=END).run)
        await trio.sleep(100)
        node.faults.start()
        await trio.sleep(100)
        assert seen.places == []
        written = await conn.append("people", new_events(1))
        await seen.come_to(1)
        nursery.cancel_scope.cancel()
    assert seen.places == [written.position if stream == ALL else 1]


async def test_what_was_written_can_be_waited_for(conn: Connection) -> None:
    seen = Seen(seconds=lambda event: 1)
    listener = listen(conn, seen)
    async with trio.open_nursery() as nursery:
        # It need not run yet.
        nursery.start_soon(listener.reached, 1)
        await trio.testing.wait_all_tasks_blocked()
        async with running(listener):
            written = await conn.append("people", new_events(3))
            await listener.reached(written)
            assert seen.places == [0, 1, 2]
            await listener.reached(written)
            with trio.move_on_after(5) as scope:
                await listener.reached(3)
            assert scope.cancelled_caught
            await listener.pause()
            nursery.start_soon(wait_in_vain, listener)
            await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(SubscriptionDropped, match="'people' ended before it came to 9"):
        await listener.reached(9)


@pytest.mark.parametrize("start", [0, 3])
async def test_what_counts_as_handled_when_it_begins_need_not_be_waited_for(conn: Connection, start: int) -> None:
    store = MemoryCheckpoints()
    written = await conn.append("people", new_events(3))
    if not start:
        await store.store("people", "2@people")
    listener = listen(conn, Seen(), checkpoints=store, start=start)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_to_end, listener)
        # Before the checkpoint is loaded.
        with trio.fail_after(5):
            await listener.reached(written)


async def wait_in_vain(listener: Listener) -> None:
    with pytest.raises(SubscriptionDropped):
        await listener.reached(WriteResult(3, 3, None))


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_handler_cannot_wait_for_itself(conn: Connection, concurrency: int) -> None:
    async def handle(event: Event) -> None:
        with pytest.raises(RuntimeError, match=r"pause\(\) waits until the handler has returned"):
            await listener.pause()
        with pytest.raises(RuntimeError, match=r"patch\(\) waits"):
            await listener.patch(Seen())
        listener.resume()
        raise KeyError

    await conn.append("people", new_events(1))
    listener = listen(conn, handle, concurrency=concurrency)
    with pytest.raises(KeyError):
        await listener.run()


async def test_a_patch_that_cannot_be(conn: Connection) -> None:
    listener = listen(conn, Seen())
    with pytest.raises(trio.BusyResourceError, match="does not run; start it first"):
        await listener.patch(Seen())
    async with running(listener) as nursery:
        # Nothing was handled yet.
        assert await listener.patch(Seen()) is None
        await listener.reached(await conn.append("people", new_events(1)))
        nursery.start_soon(listener.patch, Seen(seconds=lambda event: 100))
        await trio.sleep(1)
        with pytest.raises(trio.BusyResourceError, match="is being patched; one at a time"):
            await listener.patch(Seen())
        # Paused meanwhile, it stays so.
        assert await listener.pause() == 0
        await trio.sleep(200)
        assert listener.status.state is ListenerState.PAUSED


async def test_a_patch_goes_no_further_than_the_listener_was(conn: Connection) -> None:
    """Where the event there is gone, and others are behind it."""
    seen, again = Seen(), Seen()
    await conn.append("people", new_events(3))
    listener = listen(conn, seen)
    async with running(listener):
        await listener.reached(2)
        await listener.pause()
        await conn.append("people", new_events(3))
        await conn.update_metadata("people", truncate_before=3)
        assert await listener.patch(again) == 2
        assert again.places == []
        await conn.delete_stream("people", expected=-2)
        assert await listener.patch(again) == 2
        assert again.places == []


# --- bad input


@pytest.mark.parametrize(
    ("stream", "options", "complaint"),
    [
        ("", {}, "stream: ''"),
        ("people", {"name": ""}, "name: ''"),
        ("people", {"filter": Filter.by_stream("a")}, "filter: it chooses of the log"),
        (ALL, {"filter": "a"}, "filter: 'a' is no Filter"),
        ("people", {"start": Position(1, 1)}, "start: Position"),
        (ALL, {"start": 3}, "start: 3 is no place in the log"),
        ("people", {"batch": 0}, "batch: 0 is no number"),
        ("people", {"concurrency": True}, "concurrency: True is no number"),
        ("people", {"concurrency": 20_000}, "concurrency: 20,000 tasks are too many"),
        ("people", {"concurrency": 2, "batch": 2}, "batch: 2 at a time"),
        ("people", {"key": len}, "key: with concurrency=1"),
        ("people", {"checkpoint_events": 1.5}, "checkpoint_events: 1.5"),
        ("people", {"checkpoint_seconds": 0}, "checkpoint_seconds: 0"),
        ("people", {"on_error": KeyError}, "on_error: <class 'KeyError'>"),
        ("people", {"checkpoints": SqliteCheckpoints("x"), "concurrency": 2}, "concurrency: SqliteCheckpoints commits"),
        ("people", {"checkpoints": SqliteCheckpoints("x"), "checkpoint_events": 2}, "SqliteCheckpoints commits"),
        ("people", {"on_ahead": "run"}, "on_ahead: 'run'"),
        ("people", {"page_size": 5000}, "page_size: 5000"),
    ],
    ids=range(18),
)
async def test_what_cannot_be_meant(conn: Connection, stream: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        listen(conn, Seen(), stream, **options)
    assert str(caught.value).startswith(complaint) or complaint in str(caught.value)


async def test_what_else_cannot_be_meant(conn: Connection) -> None:
    for call, complaint in (
        (partial(listen, conn, Handlers(), batch=5), "batch: Handlers take one event at a time"),
        (partial(FanoutListener, conn, "", Seen()), "stream: ''"),
        (partial(Retry, 0), "count: 0"),
        (partial(Retry, 3, backoff=-1), "backoff: -1"),
        (partial(Retry, 3, backoff=60), "backoff: 60 seconds is not between 0 and max_backoff"),
        (partial(Park, ""), "stream: ''"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            call()
        assert str(caught.value).startswith(complaint)
    for stream, written in (("people", "x"), ("people", Position(1, 1)), (ALL, 1), (ALL, WriteResult(1, 1, None))):
        with pytest.raises(InvalidArgument, match="written: "):
            await listen(conn, Seen(), stream).reached(written)  # type: ignore[arg-type]


async def test_in_a_file(conn: Connection, tmp_path: Path) -> None:
    seen = Seen()
    await conn.append("people", new_events(3))
    store = FileCheckpoints(tmp_path / "places.json", run_sync=run_inline)
    await run_to_end(listen(conn, seen, checkpoints=store))
    await conn.append("people", new_events(1))
    await run_to_end(listen(conn, seen, checkpoints=store))
    assert seen.places == [0, 1, 2, 3]
