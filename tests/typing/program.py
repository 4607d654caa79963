"""A user's program: it is type-checked, with strict settings, and never run.

Each `assert_type` is a promise to those who type-check theirs. The program uses of Trio only what `trio-typing` knows
too, so that it can be checked beside those stubs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, assert_type
from uuid import UUID

import trio

from trio_extreme import (
    ALL,
    ANY,
    END,
    NO_STREAM,
    START,
    STOP,
    AccessDenied,
    Acl,
    Checkpoints,
    Connection,
    ConsumerStrategy,
    Credentials,
    DefaultAcl,
    DropReason,
    Event,
    FanoutListener,
    FileCheckpoints,
    Filter,
    Handlers,
    Listener,
    ListenerState,
    LiveSubscription,
    LogEvent,
    MemoryCheckpoints,
    MetadataUnreadable,
    NakAction,
    NewEvent,
    Notice,
    OutcomeUnknown,
    Park,
    PersistentEvent,
    PersistentSettings,
    PersistentSubscription,
    Position,
    PushedEvent,
    Retry,
    ScavengeStatus,
    Settings,
    SqliteCheckpoints,
    SqliteTransaction,
    StreamMetadata,
    SubscriptionDropped,
    Transaction,
    WriteResult,
    WrongExpectedVersion,
    messages,
    open_connection,
)
from trio_extreme.embedded import open_node
from trio_extreme.telemetry import instrument
from trio_extreme.testing import recorded

SETTINGS = Settings.from_url("eventstore://admin:changeit@localhost:1113", connection_name="my-app")


async def write(conn: Connection) -> None:
    event = NewEvent.json("PersonCreated", {"name": "Pera"}, id=UUID(int=1))
    try:
        result = await conn.append("people", [event, NewEvent("PersonCreated")], expected=NO_STREAM)
    except WrongExpectedVersion as error:
        assert_type(error.actual, int | None)
    except OutcomeUnknown as error:
        assert_type(error.event_ids, tuple[UUID, ...])
    else:
        assert_type(result, WriteResult)
        assert_type(result.position, Position | None)
    await conn.append("people", event, expected=ANY, credentials=Credentials("ops", "changeit"))
    await conn.delete_stream("people", expected=ANY, hard=True)


async def write_bit_by_bit(conn: Connection) -> None:
    async with conn.transaction("people", expected=NO_STREAM) as tx:
        assert_type(tx, Transaction)
        await tx.write([NewEvent("PersonCreated"), NewEvent("PersonCreated")])
    assert_type(tx.result, WriteResult | None)
    async with conn.continue_transaction(tx.id) as tx:
        await tx.write(NewEvent("PersonCreated"))
    scavenged = await conn.scavenge()
    if scavenged.status is ScavengeStatus.FINISHED:
        assert_type(scavenged.space_saved, int | None)


async def describe(conn: Connection) -> None:
    stored = assert_type(await conn.get_metadata("people"), StreamMetadata)
    assert_type(stored.max_age, timedelta | None)
    assert_type(stored.acl.read, tuple[str, ...] | None)
    assert_type(stored.version, int)
    changed = assert_type(stored.replace(acl=Acl(read="$all", write=["jane", "staff"])), StreamMetadata)
    assert_type(await conn.set_metadata("people", changed, expected=stored.version), WriteResult)
    try:
        updated = await conn.update_metadata("people", max_count=10, max_age=None, acl=Acl(), custom={"owner": "Pera"})
    except MetadataUnreadable as error:
        assert_type(error.problem, str)
    except AccessDenied as error:
        assert_type(error.right, str | None)
    else:
        assert_type(updated, StreamMetadata)
    acl = assert_type(await conn.get_default_acl(), DefaultAcl)
    await conn.set_default_acl(acl.replace(user_streams=Acl(delete=())), expected=acl.version)


async def read(conn: Connection) -> None:
    event = assert_type(await conn.read_event("people", END), Event)
    assert_type(event.number, int)
    assert_type(event.data, bytes)
    assert_type(event.checkpoint, int)
    assert_type(event.json(), Any)
    async for one in conn.read_stream("people", start=event.number, backwards=True, count=10):
        assert_type(one, Event)
    async for page in conn.read_stream("people").pages():
        assert_type(page, Sequence[Event])
    async with conn.read_all() as log:
        async for entry in log:
            assert_type(entry, LogEvent)
            assert_type(entry.checkpoint, Position)
    assert_type(await conn.last_number("people"), int | None)


async def follow(conn: Connection) -> None:
    try:
        async with conn.subscribe_live("people") as events:
            assert_type(events, LiveSubscription[PushedEvent])
            async for event in events:
                assert_type(event, PushedEvent)
    except SubscriptionDropped as error:
        if error.reason is DropReason.OVERFLOW:
            await follow(conn)


async def consume(conn: Connection) -> None:
    settings = PersistentSettings(start_from=START, named_consumer_strategy=ConsumerStrategy.PINNED)
    assert_type(await conn.ensure_persistent("people", "mailing", settings), bool)
    async with conn.subscribe_persistent("people", "mailing", in_flight=5, on_error=NakAction.RETRY) as events:
        assert_type(events, PersistentSubscription)
        async for event in events:
            assert_type(event, PersistentEvent)
            assert_type(event.retry_count, int | None)
            await events.ack(event, event.ack_id)
            await events.nak(event, action=NakAction.PARK, message="no such person")
        async for batch in events.batches():
            assert_type(batch, Sequence[PersistentEvent])
            await events.ack(batch)
        async for item in events.with_notices():
            if not isinstance(item, PersistentEvent):
                assert_type(item, Notice)


class OwnCheckpoints(Checkpoints):
    async def load(self, name: str) -> str | None:
        return None

    async def store(self, name: str, checkpoint: str) -> None: ...


async def keep(*stores: Checkpoints) -> None:
    for store in stores or (OwnCheckpoints(), MemoryCheckpoints(), FileCheckpoints("a.json")):
        async with store.hold("people"):
            assert_type(await store.load("people"), str | None)


async def count(event: Event, db: SqliteTransaction) -> None:
    assert_type(await db.execute("UPDATE counts SET many = many + 1 WHERE type = ?", [event.type]), int)
    assert_type(
        await db.fetchall("SELECT many FROM counts WHERE type = :type", {"type": event.type}), list[tuple[Any, ...]]
    )


async def trace(conn: Connection) -> None:
    traced = instrument(conn)
    assert_type(await traced.append("people", NewEvent("PersonCreated")), WriteResult)
    assert_type(await traced.ping(), float)
    async with traced.subscribe_live("people") as events:
        async for event in events:
            assert_type(event, PushedEvent)

    async def handle(event: Event) -> bool:
        return event.is_json

    handler = traced.traced(handle)
    assert_type(await handler(await traced.read_event("people", END)), bool)


def make_by_hand() -> None:
    assert_type(recorded("PersonCreated", {"name": "Pera"}, number=3, link=("$ce-person", 41)), Event)
    assert_type(recorded("PersonCreated", b"", position=Position(0, 0)), LogEvent)
    assert_type(recorded("PersonCreated", retry_count=1), PersistentEvent)


HANDLERS = Handlers()


@HANDLERS.on("PersonCreated", "PersonRenamed")
async def change(event: Event) -> object:
    return STOP if event.is_system else None


async def change_many(events: list[LogEvent]) -> None: ...


async def listen(conn: Connection, nursery: trio.Nursery) -> None:
    store = FileCheckpoints("places.json")
    assert_type(await change(await conn.read_event("people", 0)), object)
    retry = Retry(3, backoff=0.5, then=Park("parked"))
    listener = Listener(conn, "people", HANDLERS, checkpoints=store, on_error=retry, concurrency=4, key=hash)
    await nursery.start(listener.run)
    assert_type(await listener.pause(), int | Position | None)
    listener.resume()
    assert_type(await listener.patch(change, first=5), int | Position | None)
    await listener.reached(await conn.append("people", NewEvent("PersonRenamed")))
    status = listener.status
    if status.state is ListenerState.LIVE:
        assert_type(status.lag_seconds, float | None)
    log = Listener(conn, ALL, change_many, checkpoints=store, batch=100, filter=Filter.by_stream("people"), start=END)
    nursery.start_soon(log.run)
    nursery.start_soon(Listener(conn, "people", count, checkpoints=SqliteCheckpoints("model.db"), name="counts").run)
    await nursery.start(FanoutListener(conn, "people", change).run)


async def ask(conn: Connection) -> None:
    reply = await conn.execute(messages.ReadEvent(event_stream_id="people", event_number=0))
    if isinstance(reply, messages.ReadEventCompleted):
        assert_type(reply.event.event.event_number, int)
    assert_type(await conn.ping(), float)


async def main() -> None:
    async with open_node(port=None) as node, open_connection(node.settings, connect=node.connect) as conn:
        with trio.fail_after(5):
            await write(conn)
        await read(conn)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, conn)
            await listen(conn, nursery)
            await keep(SqliteCheckpoints("model.db", setup="CREATE TABLE IF NOT EXISTS counts (type, many)"))
            await ask(conn)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
