"""The log with filters, of a server that filters and of one that does not: users see no difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.helpers import new_events
from tests.rows.consuming import assert_silent, connected, soon
from trio_extreme import (
    BadRequest,
    CaughtUp,
    Checkpoint,
    Filter,
    InvalidArgument,
    LogEvent,
    NewEvent,
    Notice,
    Position,
    Reconnected,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_extreme import Connection
    from trio_extreme.embedded import Node


@pytest.fixture(params=["4.1.1", "20.10", pytest.param("23.10", marks=pytest.mark.long)])
def version(request: pytest.FixtureRequest) -> str:
    """The last one that was recorded does not filter."""
    value: str = request.param
    return value


async def write_orders(conn: Connection, first: int = 0, count: int = 3) -> None:
    """Of each number an order, an invoice and a customer."""
    for number in range(first, first + count):
        await conn.append(f"order-{number}", [NewEvent("OrderPlaced"), NewEvent("OrderShipped")])
        await conn.append(f"invoice-{number}", NewEvent("InvoiceSent"))
        await conn.append(f"customer-{number}", NewEvent("CustomerCreated"))


def name(event: LogEvent) -> str:
    return f"{event.stream} {event.type}"


async def take_names(items: AsyncIterator[Any], count: int) -> list[str]:
    return [name(await soon(items)) for _ in range(count)]


FILTERS: dict[str, tuple[Filter, list[str]]] = {
    "streams by prefix": (
        Filter.by_stream("customer-", "invoice-"),
        ["invoice-{} InvoiceSent", "customer-{} Customer…"],
    ),
    "streams by expression": (Filter.by_stream(regex="^(customer|none)-[0-9]+$"), ["customer-{} Customer…"]),
    "types by prefix": (Filter.by_type("OrderS", "Cust"), ["order-{} OrderShipped", "customer-{} Customer…"]),
    "types by expression": (Filter.by_type(regex="(Placed|Sent)$"), ["order-{} OrderPlaced", "invoice-{} InvoiceSent"]),
}


def names(number: int, patterns: list[str]) -> list[str]:
    return [pattern.format(number).replace("…", "Created") for pattern in patterns]


@pytest.mark.parametrize("which", FILTERS)
async def test_the_log_by_prefix_or_expression(conn: Connection, which: str) -> None:
    """What is stored and what is written, whatever breaks on the way."""
    filter, patterns = FILTERS[which]  # noqa: A001 - as its argument is called
    await write_orders(conn)
    stored = [each for number in range(3) for each in names(number, patterns)]
    assert [name(event) async for event in conn.read_all(filter=filter)] == stored
    assert [name(event) async for event in conn.read_all(filter=filter, backwards=True)] == stored[::-1]
    async with conn.subscribe_all(filter=filter, page_size=2) as events:
        assert await take_names(events, len(stored)) == stored
        for number in range(3, 6):
            await write_orders(conn, number, 1)
            assert await take_names(events, len(patterns)) == names(number, patterns)
        await assert_silent(events)


async def test_without_what_the_server_writes_for_itself(conn: Connection) -> None:
    await conn.append("people", NewEvent("PersonCreated"))
    await conn.update_metadata("people", max_count=10)
    await conn.append("links", NewEvent.link(await conn.read_event("people", 0)))
    types = [event.type async for event in conn.read_all(filter=Filter.exclude_system())]
    assert types == ["PersonCreated"]
    assert {"$metadata", "$>"} <= {event.type async for event in conn.read_all()}


async def test_of_links_the_link_counts(conn: Connection) -> None:
    await conn.append("people", NewEvent("PersonCreated"))
    await conn.append("links", NewEvent.link(await conn.read_event("people", 0)))
    through_links = [event async for event in conn.read_all(filter=Filter.by_stream("links"), resolve_links=True)]
    assert [(event.stream, event.link is not None) for event in through_links] == [("people", True)]
    plain = [event async for event in conn.read_all(filter=Filter.by_stream("people"), resolve_links=True)]
    assert [(event.stream, event.link is not None) for event in plain] == [("people", False)]


async def test_an_expression_that_cannot_be_read(conn: Connection, version: str) -> None:
    error = InvalidArgument if version == "4.1.1" else BadRequest
    with pytest.raises(error):
        [event async for event in conn.read_all(filter=Filter.by_type(regex="a("))]
    async with conn.subscribe_all(filter=Filter.by_type(regex="a(")) as events:
        with pytest.raises(error):
            await anext(events)


async def test_a_place_that_no_event_had_is_where_the_next_may_be(conn: Connection) -> None:
    """Told when nothing matched for a while, it may come to be an event's own (KurrentDB#4970)."""
    rare = Filter.by_type("Rare")
    await write_orders(conn)
    async with conn.subscribe_all(filter=rare) as events:
        items = events.with_notices()
        told = [await soon(items), await soon(items)]
        assert told[1] == CaughtUp()
        assert isinstance(told[0], Checkpoint)
    written = await conn.append("people", NewEvent("Rare"))
    kept = Position.parse(str(told[0].position))
    assert written.position is not None
    assert (kept.commit, kept.inclusive) == (written.position.commit, True)
    async with conn.subscribe_all(filter=rare, after=kept) as events:
        items = events.with_notices()
        assert (await soon(items)).type == "Rare"
        assert [type(await soon(items)) for _ in range(2)] == [Checkpoint, CaughtUp]
        await assert_silent(events)


async def test_a_follower_of_rare_events_goes_on_where_it_was(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again in another process, from whatever place it was told last: each event once."""
    for module in ("filtered", "operations.filtering"):
        monkeypatch.setattr(f"trio_extreme.{module}.CHECKPOINT_INTERVAL", 7)
    rare = Filter.by_stream("rare")
    kept: Position | None = None
    seen: list[int] = []
    async with connected(node) as conn, trio.open_nursery() as nursery:

        async def write() -> None:
            for number in range(20):
                await conn.append(f"other-{number}", new_events(11))
                await conn.append("rare", new_events(1, number))
                await trio.sleep(1)

        nursery.start_soon(write)
        while len(seen) < 20:
            async with conn.subscribe_all(filter=rare, after=kept) as events:
                with trio.move_on_after(2.5):
                    async for item in events.with_notices():
                        if isinstance(item, Checkpoint):
                            kept = item.position
                        elif not isinstance(item, Notice):
                            seen.append(item.number)
                            kept = item.checkpoint
        assert seen == list(range(20))
        assert kept is not None


async def test_nothing_is_asked_for_twice_after_a_lost_connection(node: Node) -> None:
    """The next session goes on behind what was looked through, not behind the last event."""
    async with connected(node, reconnect_delay=0.01) as conn:
        await conn.append("others", new_events(1000))
        async with conn.subscribe_all(filter=Filter.by_stream("rare")) as events:
            items = events.with_notices()
            first = await soon(items)
            assert await soon(items) == CaughtUp()
            node.faults.kill_connections()
            assert await soon(items) == Reconnected(gap_possible=False)
            await conn.append("rare", new_events(1))
            before = conn.statistics().bytes_received
            while isinstance(item := await soon(items), Notice):
                assert item in (CaughtUp(), first) or isinstance(item, Checkpoint)
            assert item.stream == "rare"
            # A thousand events would be more.
            assert conn.statistics().bytes_received - before < 10_000
