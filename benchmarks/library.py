"""The work of `benchmarks.bare`, done through the library as its users would write it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import trio

from benchmarks.bare import BATCH, IN_FLIGHT, WINDOW, check_all
from benchmarks.peer import (
    BUSY_ROUNDS,
    BUSY_STREAM,
    EVENT_SIZE,
    EVENT_TYPE,
    GROUP,
    NEW_STREAM,
    SHORT,
    SHORT_STREAM,
    STORED_STREAM,
    STREAM,
)
from trio_extreme import ANY, STOP, Listener, MemoryCheckpoints, NewEvent, Settings, open_connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme import Connection, Event, Handler, Subscription

_DATA = bytes(EVENT_SIZE)


def settings(port: int) -> Settings:
    """How the library is connected here: as its defaults are."""
    return Settings(host="127.0.0.1", port=port, username="admin", password="changeit")


async def _take(subscription: Subscription[Any], events: int) -> None:
    """So many, one at a time."""
    numbers = size = 0
    async for event in subscription:
        number = event.number
        numbers += number
        size += len(event.data)
        if number == events - 1:
            break
    check_all(events, numbers, size)


async def _take_lists(subscription: Subscription[Any], events: int) -> None:
    """So many, a list at a time."""
    seen = numbers = size = 0
    async for batch in subscription.batches():
        for event in batch:
            numbers += event.number
            size += len(event.data)
        seen += len(batch)
        if seen == events:
            break
    check_all(events, numbers, size)


async def live_batches(port: int, events: int) -> float:
    """Live events, a list of those that came together at a time."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with conn.subscribe_live(STREAM) as subscription:
            await _take_lists(subscription, events)
        return time.perf_counter() - began


async def live_events(port: int, events: int) -> float:
    """Live events, one at a time."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with conn.subscribe_live(STREAM) as subscription:
            await _take(subscription, events)
        return time.perf_counter() - began


async def live_to_many(port: int, events: int) -> float:
    """Live events of many subscriptions on one connection, `SHORT` to each; so many in all."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(events // SHORT):
                nursery.start_soon(_take_live, conn)
        return time.perf_counter() - began


async def _take_live(conn: Connection) -> None:
    async with conn.subscribe_live(SHORT_STREAM) as subscription:
        await _take(subscription, SHORT)


async def ping_under_load(port: int, events: int) -> list[float]:
    """Seconds of each ping, one after the other, while live events come as fast as they are taken.

    So many events, `BUSY_ROUNDS` times, on the same connection.
    """
    seconds: list[float] = []
    async with open_connection(settings(port)) as conn, trio.open_nursery() as nursery:
        subscription = await nursery.start(_keep_taking, conn, events)
        while not subscription.is_set():
            began = time.perf_counter()
            await conn.ping()
            seconds.append(time.perf_counter() - began)
    return seconds


async def _keep_taking(conn: Connection, events: int, *, task_status: trio.TaskStatus[trio.Event]) -> None:
    ended = trio.Event()
    async with conn.subscribe_live(BUSY_STREAM) as subscription:
        task_status.started(ended)
        seen = 0
        async for _ in subscription:
            seen += 1
            if seen == events * BUSY_ROUNDS:
                break
    ended.set()


async def acked_batches(port: int, events: int) -> float:
    """Events of a group, a list of those that came together at a time, acked together."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with conn.subscribe_persistent(STREAM, GROUP, in_flight=IN_FLIGHT) as subscription:
            seen = numbers = size = 0
            async for batch in subscription.batches():
                for event in batch:
                    numbers += event.number
                    size += len(event.data)
                await subscription.ack(batch)
                seen += len(batch)
                if seen == events:
                    break
            took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def acked_events(port: int, events: int) -> float:
    """Events of a group, each acked by itself."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with conn.subscribe_persistent(STREAM, GROUP, in_flight=IN_FLIGHT) as subscription:
            numbers = size = 0
            async for event in subscription:
                number = event.number
                numbers += number
                size += len(event.data)
                await subscription.ack(event)
                if number == events - 1:
                    break
            took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def auto_acked_events(port: int, events: int) -> float:
    """Events of a group, each acked by asking for the next."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with conn.subscribe_persistent(STREAM, GROUP, in_flight=IN_FLIGHT, auto_ack=True) as subscription:
            await _take(subscription, events)
        return time.perf_counter() - began


async def pages(port: int, events: int) -> float:
    """A stream, a page at a time."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        numbers = size = 0
        async for page in conn.read_stream(STREAM).pages():
            for event in page:
                numbers += event.number
                size += len(event.data)
        took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def pages_ahead(port: int, events: int) -> float:
    """A stream, a page at a time, while the next one is under way."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        numbers = size = 0
        async with conn.read_stream(STREAM) as reader:
            async for page in reader.pages():
                for event in page:
                    numbers += event.number
                    size += len(event.data)
        took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def page_events(port: int, events: int) -> float:
    """A stream, an event at a time."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        numbers = size = 0
        async for event in conn.read_stream(STREAM):
            numbers += event.number
            size += len(event.data)
        took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def page_events_ahead(port: int, events: int) -> float:
    """A stream, an event at a time, while the next page is under way."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        numbers = size = 0
        async with conn.read_stream(STREAM) as reader:
            async for event in reader:
                numbers += event.number
                size += len(event.data)
        took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def catch_up_batches(port: int, events: int) -> float:
    """A catch-up subscription to what is stored, a list at a time."""
    return await _in_batches(port, STORED_STREAM, events)


async def catch_up_events(port: int, events: int) -> float:
    """A catch-up subscription to what is stored, an event at a time."""
    return await _one_by_one(port, STORED_STREAM, events)


async def caught_up_batches(port: int, events: int) -> float:
    """A catch-up subscription that is live, a list of those that came together at a time."""
    return await _in_batches(port, NEW_STREAM, events)


async def caught_up_events(port: int, events: int) -> float:
    """A catch-up subscription that is live, an event at a time."""
    return await _one_by_one(port, NEW_STREAM, events)


def _patient(port: int, events: int) -> Settings:
    """With room for all events at once: who falls behind reads, and what is live would not be measured."""
    return settings(port).replace(buffer_events=events, buffer_bytes=events * 2 * EVENT_SIZE)


async def _in_batches(port: int, stream: str, events: int) -> float:
    async with open_connection(_patient(port, events)) as conn:
        began = time.perf_counter()
        async with conn.subscribe(stream) as subscription:
            await _take_lists(subscription, events)
        return time.perf_counter() - began


async def _one_by_one(port: int, stream: str, events: int) -> float:
    async with open_connection(_patient(port, events)) as conn:
        began = time.perf_counter()
        async with conn.subscribe(stream) as subscription:
            await _take(subscription, events)
        return time.perf_counter() - began


async def followed(port: int, events: int) -> float:
    """A catch-up subscription whose events nobody looks at, but for where they end."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with conn.subscribe(STREAM) as subscription:
            async for event in subscription:
                if event.number == events - 1:
                    break
            return time.perf_counter() - began


async def listened(port: int, events: int) -> float:
    """A listener with a handler that does as much, and stores each thousandth checkpoint in memory."""
    return await _listen(port, _until(events), checkpoint_events=1000)


async def listened_each(port: int, events: int) -> float:
    """The same, and each checkpoint."""
    return await _listen(port, _until(events))


async def listened_batches(port: int, events: int) -> float:
    """The same, by lists of up to 500 events, and the checkpoint of each list."""
    stop_at = _until(events)
    return await _listen(port, lambda batch: stop_at(batch[-1]), batch=500)


def _until(events: int) -> Callable[[Event], Awaitable[object]]:
    """An empty handler that ends its listener at the last event."""
    last = events - 1

    async def handle(event: Event) -> object:
        return STOP if event.number == last else None

    return handle


async def _listen(port: int, handle: Handler, *, batch: int | None = None, checkpoint_events: int = 1) -> float:
    async with open_connection(settings(port)) as conn:
        listener = Listener(
            conn,
            STREAM,
            handle,
            checkpoints=MemoryCheckpoints(),
            batch=batch,
            checkpoint_events=checkpoint_events,
        )
        began = time.perf_counter()
        await listener.run()
        return time.perf_counter() - began


async def append_batches(port: int, events: int) -> float:
    """Appends of `BATCH` events, one after the other."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        for _ in range(events // BATCH):
            await conn.append(STREAM, [NewEvent(EVENT_TYPE, _DATA) for _ in range(BATCH)], expected=ANY)
        return time.perf_counter() - began


async def append_pipelined(port: int, appends: int) -> float:
    """Appends of one event by `WINDOW` tasks that share a connection."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(WINDOW):
                nursery.start_soon(_append_in_turn, conn, appends // WINDOW)
        return time.perf_counter() - began


async def append_in_turn(port: int, appends: int) -> float:
    """Appends of one event, one after the other."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        await _append_in_turn(conn, appends)
        return time.perf_counter() - began


async def _append_in_turn(conn: Connection, appends: int, stream: str = STREAM) -> None:
    for _ in range(appends):
        await conn.append(stream, NewEvent(EVENT_TYPE, _DATA), expected=ANY)


async def b1(port: int, events: int) -> float:
    """Extreme's first benchmark: appends of ten events, one after the other."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        for _ in range(events // 10):
            await conn.append("b1", [NewEvent(EVENT_TYPE, _DATA) for _ in range(10)], expected=ANY)
        return time.perf_counter() - began


async def b2(port: int, events: int) -> float:
    """Its second: one append of all."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        await conn.append("b2", [NewEvent(EVENT_TYPE, _DATA) for _ in range(events)], expected=ANY)
        return time.perf_counter() - began


async def b3(port: int, events: int) -> float:
    """Its third: many in one append, then a thousand by themselves while another reads all, a thousand at a time."""
    async with open_connection(settings(port)) as conn:
        began = time.perf_counter()
        await conn.append("b3", [NewEvent(EVENT_TYPE, _DATA) for _ in range(events)], expected=ANY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_append_in_turn, conn, 1000, "b3")
            nursery.start_soon(_read_so_many, conn, "b3", events + 1000)
        return time.perf_counter() - began


async def _read_so_many(conn: Connection, stream: str, events: int) -> None:
    seen = 0
    while seen < events:
        async for page in conn.read_stream(stream, start=seen, page_size=1000).pages():
            seen += len(page)
