"""Every verb against every server that the node can be: the client behaves the same, where its contract says so."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.embedded.talk import Clock
from tests.helpers import assert_nothing_left, new_events
from tests.rows.consuming import hear, soon, take
from trio_extreme import (
    ANY,
    END,
    NO_STREAM,
    START,
    STREAM_EXISTS,
    AccessDenied,
    Acl,
    CaughtUp,
    Checkpoint,
    Connected,
    Connection,
    ConsumerStrategy,
    Credentials,
    DefaultAcl,
    EventNotFound,
    Filter,
    GroupExists,
    GroupNotFound,
    InvalidArgument,
    NakAction,
    NewEvent,
    NotAuthenticated,
    OutcomeUnknown,
    PersistentSettings,
    Reconnected,
    ScavengeStatus,
    StreamDeleted,
    StreamMetadata,
    StreamMissing,
    StreamNotFound,
    TooManyConsumers,
    Transaction,
    Unsupported,
    WriteResult,
    WrongExpectedVersion,
    messages,
    open_connection,
)
from trio_extreme.embedded import VERSIONS, Node, User, open_node
from trio_extreme.messages import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    from trio.testing import MockClock

    Step: TypeAlias = Callable[["Scene"], Awaitable[None]]

JANE, OPS = Credentials("jane", "pony"), Credentials("ops", "changeit")
TOKEN = "header.payload.signature"
#: Where they are in the table, to tell what servers since some release do.
AGE = {short: age for age, short in enumerate(VERSIONS)}


@dataclass
class Scene:
    """A node, an administrator's connection to it, and the node's calendar."""

    node: Node
    conn: Connection
    clock: Clock
    version: str

    def is_since(self, short: str) -> bool:
        """Whether the server is this one or a later one."""
        return AGE[self.version] >= AGE[short]

    @asynccontextmanager
    async def connected(self, **changes: Any) -> AsyncIterator[Connection]:
        """Another connection, with other settings."""
        async with open_connection(self.node.settings.replace(**changes), connect=self.node.connect) as conn:
            yield conn
            assert_nothing_left(conn)


STEPS: list[Step] = []
TOLD: set[str] = set()


def step(*verbs: str) -> Callable[[Step], Step]:
    """A step of the story, and the verbs that it tells of."""

    def note(told: Step) -> Step:
        STEPS.append(told)
        TOLD.update(verbs)
        return told

    return note


@step("append")
async def appending(scene: Scene) -> None:
    first, second = new_events(2), new_events(1)
    written = await scene.conn.append("people", first, expected=NO_STREAM)
    assert (written.first, written.last) == (0, 1)
    assert written.position is not None
    for expected in (NO_STREAM, ANY, STREAM_EXISTS):
        again = await scene.conn.append("people", first, expected=expected)
        # Where it was is what servers up to 5.0 do not say.
        assert again == WriteResult(0, 1, written.position if scene.is_since("20.10") else None)
    assert (await scene.conn.append("people", second, expected=1)).last == 2
    nothing = await scene.conn.append("people", [])
    assert (nothing.first, nothing.last) == (3, 2)


@step("append")
async def versions_that_are_wrong(scene: Scene) -> None:
    await scene.conn.append("one", new_events(1))
    await scene.conn.append("three", new_events(3))
    for stream, expected, actual in (("one", 5, 0), ("three", 0, 2), ("none", 0, -1), ("none", STREAM_EXISTS, -1)):
        with pytest.raises(WrongExpectedVersion) as caught:
            await scene.conn.append(stream, new_events(1), expected=expected)
        assert (caught.value.expected, caught.value.actual) == (expected, actual if scene.is_since("4.1.1") else None)


@step("read_event")
async def reading_events(scene: Scene) -> None:
    empty = NewEvent("e")
    await scene.conn.append("people", [empty, NewEvent.json("j", {}, {"m": 0}), NewEvent("last")])
    event = await scene.conn.read_event("people", 0)
    assert (event.stream, event.number, event.type, event.data, event.metadata) == ("people", 0, "e", b"", b"")
    assert (event.id, event.is_json, event.resolved, event.link) == (empty.id, False, True, None)
    assert event.created.timestamp() == scene.clock.seconds
    assert (await scene.conn.read_event("people", 1)).is_json
    assert (await scene.conn.read_event("people", END)).type == "last"
    with pytest.raises(EventNotFound):
        await scene.conn.read_event("people", 3)
    with pytest.raises(StreamNotFound):
        await scene.conn.read_event("nobody", 0)
    # How a server says "no metadata" differs, and is not seen.
    with pytest.raises((EventNotFound, StreamNotFound)):
        await scene.conn.read_event("$$people", END)


async def numbers(reader: Any) -> list[int]:
    return [event.number async for event in reader]


@step("read_stream")
async def reading_streams(scene: Scene) -> None:
    read = scene.conn.read_stream
    await scene.conn.append("people", new_events(5))
    for size in (1, 2, 5, 500):
        assert await numbers(read("people", page_size=size)) == [0, 1, 2, 3, 4]
        assert await numbers(read("people", backwards=True, page_size=size)) == [4, 3, 2, 1, 0]
    assert await numbers(read("people", start=3)) == [3, 4]
    assert await numbers(read("people", start=9)) == []
    assert await numbers(read("people", start=0, backwards=True)) == [0]
    assert await numbers(read("people", count=2)) == [0, 1]
    reader = read("people", count=1)
    assert await numbers(reader) == [0]
    assert reader.last_number == 4
    with pytest.raises(StreamNotFound) as caught:
        await numbers(read("nobody"))
    assert caught.value.last_number == -1
    assert await numbers(read("nobody", missing_ok=True)) == []


@step("read_stream")
async def reading_what_has_expired(scene: Scene) -> None:
    await scene.conn.append("$$people", NewEvent.json("$metadata", {"$maxAge": 60}))
    await scene.conn.append("people", new_events(7))
    scene.clock.seconds += 61
    for size in (1, 2, 100):
        assert await numbers(scene.conn.read_stream("people", page_size=size)) == []
    await scene.conn.append("people", new_events(2))
    for size in (1, 2, 100):
        assert await numbers(scene.conn.read_stream("people", page_size=size)) == [7, 8]
        assert await numbers(scene.conn.read_stream("people", backwards=True, page_size=size)) == [8, 7]
    async with scene.conn.subscribe("people", page_size=2) as events:
        assert await hear(events, 3) == [7, 8, CaughtUp()]


@step("read_stream")
async def reading_what_is_truncated(scene: Scene) -> None:
    await scene.conn.append("people", new_events(9))
    await scene.conn.append("$$people", NewEvent.json("$metadata", {"$maxCount": 3, "$tb": 5}))
    for size in (1, 2, 100):
        assert await numbers(scene.conn.read_stream("people", page_size=size)) == [6, 7, 8]
        assert await numbers(scene.conn.read_stream("people", backwards=True, page_size=size)) == [8, 7, 6]
    with pytest.raises(EventNotFound):
        await scene.conn.read_event("people", 5)


@step("read_all", "head")
async def reading_the_log(scene: Scene) -> None:
    begin = await scene.conn.head()
    for stream in ("people", "other", "people"):
        await scene.conn.append(stream, new_events(2))
    await scene.conn.delete_stream("other", expected=1, hard=True)
    told = [("people", 0), ("people", 1), ("other", 0), ("other", 1), ("people", 2), ("people", 3)]
    for size in (1, 4, 100):
        events = [event async for event in scene.conn.read_all(page_size=size)]
        assert [(event.stream, event.number) for event in events[:-1]] == told
        assert (events[-1].stream, events[-1].type) == ("other", "$streamDeleted")
        assert sorted({event.position for event in events}) == [event.position for event in events]
        backwards = [event async for event in scene.conn.read_all(backwards=True, page_size=size)]
        assert [event.position for event in backwards] == [event.position for event in events][::-1]
    assert await numbers(scene.conn.read_all(start=events[4].position)) == [2, 3, events[-1].number]
    assert begin <= events[0].position < events[-1].position < await scene.conn.head()


@step("last_number")
async def last_numbers(scene: Scene) -> None:
    assert await scene.conn.last_number("people") is None
    await scene.conn.append("people", new_events(1))
    assert await scene.conn.last_number("people") == 0
    await scene.conn.append("people", new_events(4))
    assert await scene.conn.last_number("people") == 4
    await scene.conn.delete_stream("people", expected=4, hard=True)
    with pytest.raises(StreamDeleted):
        await scene.conn.last_number("people")


@step("delete_stream")
async def deleting_softly(scene: Scene) -> None:
    for expected in (ANY, NO_STREAM):
        # It was hidden, or there was nothing to hide: what is seen of it is the same.
        deleted = await scene.conn.delete_stream("nobody", expected=expected)
        assert (deleted.position is None) is scene.is_since("22.10")
        assert await scene.conn.last_number("nobody") is None
    assert (await scene.conn.append("nobody", new_events(1), expected=NO_STREAM)).last == 0
    await scene.conn.append("people", new_events(3))
    for expected in (0, 7, NO_STREAM):
        with pytest.raises(WrongExpectedVersion) as caught:
            await scene.conn.delete_stream("people", expected=expected)
        assert caught.value.actual == (2 if scene.is_since("22.10") else None)
    assert (await scene.conn.delete_stream("people", expected=2)).position is not None
    await scene.conn.delete_stream("people", expected=ANY)
    with pytest.raises(StreamNotFound) as missing:
        await numbers(scene.conn.read_stream("people"))
    assert missing.value.last_number == 2
    with pytest.raises(StreamDeleted):
        await scene.conn.append("people", new_events(1), expected=STREAM_EXISTS)
    assert (await scene.conn.append("people", new_events(2), expected=NO_STREAM)).first == 3
    assert await numbers(scene.conn.read_stream("people")) == [3, 4]


@step("delete_stream")
async def deleting_for_ever(scene: Scene) -> None:
    await scene.conn.append("people", new_events(3))
    with pytest.raises(WrongExpectedVersion):
        await scene.conn.delete_stream("people", expected=1, hard=True)
    assert (await scene.conn.delete_stream("people", expected=2, hard=True)).position is not None
    await scene.conn.delete_stream("nobody", expected=ANY, hard=True)
    for stream in ("people", "nobody"):
        for refused in (
            scene.conn.append(stream, new_events(1)),
            scene.conn.delete_stream(stream, expected=ANY),
            scene.conn.read_event(stream, 0),
            numbers(scene.conn.read_stream(stream, missing_ok=True)),
            take_one(scene.conn.subscribe(stream)),
            take_one(scene.conn.subscribe_live(stream)),
        ):
            with pytest.raises(StreamDeleted):
                await refused


async def take_one(subscription: Any) -> None:
    async with subscription as events:
        await soon(events)


@step("subscribe")
async def following_a_stream(scene: Scene) -> None:
    await scene.conn.append("people", new_events(3))
    conn = scene.conn
    async with conn.subscribe("people", page_size=2) as events, conn.subscribe("people", start=END) as late:
        assert await hear(events, 4) == [0, 1, 2, CaughtUp()]
        assert await hear(late, 1) == [CaughtUp()]
        await conn.append("people", new_events(2))
        assert await take(events, 2) == await take(late, 2) == [3, 4]
        scene.node.faults.restart()
        assert await hear(events, 2) == [Reconnected(gap_possible=False), CaughtUp()]
        await conn.append("people", new_events(1))
        assert await take(events, 1) == await take(late, 1) == [5]
    async with conn.subscribe("people", after=0) as events:
        assert await take(events, 5) == [1, 2, 3, 4, 5]


@step("subscribe")
async def following_what_is_not_there_yet(scene: Scene) -> None:
    async with scene.conn.subscribe("people") as events:
        assert await hear(events, 2) == [StreamMissing("people"), CaughtUp()]
        await scene.conn.append("people", new_events(1))
        assert await take(events, 1) == [0]
        await scene.conn.append("people", new_events(1))
        assert await take(events, 1) == [1]


@step("subscribe_all")
async def following_the_log(scene: Scene) -> None:
    for stream in ("people", "other"):
        await scene.conn.append(stream, new_events(2))
    async with scene.conn.subscribe_all(page_size=1) as events:
        assert await hear(events, 5) == [0, 1, 0, 1, CaughtUp()]
        await scene.conn.append("people", new_events(1))
        event = await soon(events)
        scene.node.faults.kill_connections()
        await scene.conn.append("other", new_events(1))
        assert (await soon(events)).stream == "other"
    async with scene.conn.subscribe_all(after=event.checkpoint) as events:
        assert [(await soon(events)).stream] == ["other"]


@step("read_all", "subscribe_all")
async def filtering_the_log(scene: Scene) -> None:
    """By the servers that can, and else by the client: of a transaction too, and whatever breaks."""
    wanted = Filter.by_stream("people")
    await scene.conn.append("other", new_events(3))
    async with scene.conn.transaction("people", expected=NO_STREAM) as transaction:
        await transaction.write(new_events(3))
    await scene.conn.append("other", new_events(3))
    for size in (1, 2, 100):
        assert await numbers(scene.conn.read_all(filter=wanted, page_size=size)) == [0, 1, 2]
        assert await numbers(scene.conn.read_all(filter=wanted, page_size=size, backwards=True)) == [2, 1, 0]
    assert await numbers(scene.conn.read_all(filter=wanted, count=2)) == [0, 1]
    async with scene.conn.subscribe_all(filter=wanted, page_size=2) as events:
        *stored, place, _ = await hear(events, 5)
        assert stored == [0, 1, 2]
        await scene.conn.append("people", new_events(1))
        assert (await soon(events)).number == 3
        scene.node.faults.kill_connections()
        await scene.conn.append("other", new_events(1))
        await scene.conn.append("people", new_events(1))
        assert (await soon(events)).number == 4
    assert isinstance(place, Checkpoint)
    async with scene.conn.subscribe_all(filter=wanted, after=place.position) as events:
        assert await take(events, 2) == [3, 4]


@step("subscribe_live", "subscribe_all_live")
async def hearing_what_comes(scene: Scene) -> None:
    await scene.conn.append("people", new_events(1))
    async with scene.conn.subscribe_live("people") as events, scene.conn.subscribe_all_live() as log:
        await scene.conn.append("people", [NewEvent("empty"), *new_events(1)])
        assert await take(events, 2) == await take(log, 2) == [1, 2]
        await scene.conn.append("other", new_events(1))
        assert (await soon(log)).stream == "other"
        scene.node.faults.restart(graceful=True)
        assert await hear(events, 1) == await hear(log, 1) == [Reconnected(gap_possible=True)]
        await scene.conn.append("people", new_events(1))
        assert await take(events, 1) == await take(log, 1) == [3]


@step("get_metadata", "set_metadata", "update_metadata")
async def limits_and_rights(scene: Scene) -> None:
    conn = scene.conn
    await conn.append("people", new_events(3))
    for stream in ("people", "nobody", "$system"):
        assert (await conn.get_metadata(stream)).version == NO_STREAM
    written = await conn.set_metadata("people", StreamMetadata(max_count=1, custom={"mine": 0}), expected=NO_STREAM)
    assert written.last == 0
    assert await numbers(conn.read_stream("people")) == [2]
    metadata = await conn.get_metadata("people")
    assert (metadata.max_count, metadata.custom, metadata.version) == (1, {"mine": 0}, 0)
    metadata = await conn.update_metadata("people", max_count=None, acl=Acl(read="jane"))
    assert (metadata.max_count, metadata.version) == (None, 1)
    assert await numbers(conn.read_stream("people", credentials=JANE)) == [0, 1, 2]
    with pytest.raises(AccessDenied):
        await numbers(conn.read_stream("people", credentials=OPS))
    with pytest.raises(WrongExpectedVersion) as caught:
        await conn.set_metadata("people", StreamMetadata(), expected=0)
    assert caught.value.actual == (1 if scene.is_since("4.1.1") else None)
    await conn.delete_stream("people", expected=ANY)
    assert (await conn.get_metadata("people")).custom == {}
    await conn.delete_stream("people", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        await conn.get_metadata("people")


@step("get_default_acl", "set_default_acl")
async def rights_on_all_streams(scene: Scene) -> None:
    conn = scene.conn
    assert (await conn.get_default_acl()).version == NO_STREAM
    await conn.append("people", new_events(1))
    await conn.set_default_acl(DefaultAcl(user_streams=Acl(read="jane"), system_streams=Acl(read=["jane", "ops"])))
    assert (await conn.get_default_acl()).user_streams.read == ("jane",)
    assert await numbers(conn.read_stream("people", credentials=JANE)) == [0]
    with pytest.raises(AccessDenied):
        await numbers(conn.read_stream("people", credentials=OPS))
    assert len(await numbers(conn.read_all(credentials=OPS))) == 2


@step("read_stream", "read_event", "subscribe")
async def following_links(scene: Scene) -> None:
    await scene.conn.append("people", new_events(2))
    people = [event async for event in scene.conn.read_stream("people")]
    await scene.conn.append("links", [NewEvent.link(event) for event in people])
    await scene.conn.append("links", NewEvent("$>", b"7@people"))
    async with scene.conn.subscribe("links") as events:
        followed = [await soon(events) for _ in range(3)]
    for events in (followed, [event async for event in scene.conn.read_stream("links")]):
        assert [event.number for event in events] == [0, 1, 2]
        assert [event.resolved for event in events] == [True, True, False]
        assert [event.data for event in events[:2]] == [event.data for event in people]
    assert (await scene.conn.read_event("links", 0)).type == "happened"
    assert not (await scene.conn.read_event("links", 2)).resolved
    assert (await scene.conn.read_event("links", 0, resolve_links=False)).type == "$>"


@step("read_stream")
async def links_to_what_one_may_not_read(scene: Scene) -> None:
    """Servers up to 5.0 refuse the page; later ones do not look. The client says what they say."""
    await scene.conn.append("$secret", new_events(1))
    await scene.conn.append("links", NewEvent("$>", b"0@$secret"))
    if scene.is_since("20.10"):
        assert (await scene.conn.read_event("links", 0, credentials=JANE)).data == b"0"
        assert await numbers(scene.conn.read_stream("links", credentials=JANE)) == [0]
    else:
        with pytest.raises(AccessDenied):
            await scene.conn.read_event("links", 0, credentials=JANE)
        with pytest.raises(AccessDenied):
            await numbers(scene.conn.read_stream("links", credentials=JANE))


@step("append", "delete_stream", "read_event", "read_stream", "read_all", "subscribe_live", "subscribe_all_live")
async def who_may_not(scene: Scene) -> None:
    conn = scene.conn
    await conn.append("people", new_events(1))
    await conn.append("$$people", NewEvent.json("$metadata", {"$acl": {"$r": [], "$w": [], "$d": []}}))
    for who in (JANE, OPS):
        for refused in (
            conn.append("people", new_events(1), credentials=who),
            conn.delete_stream("people", expected=ANY, credentials=who),
            conn.read_event("people", 0, credentials=who),
            conn.last_number("people", credentials=who),
            conn.head(credentials=who),
            numbers(conn.read_stream("people", credentials=who)),
            numbers(conn.read_stream("people", backwards=True, credentials=who)),
            numbers(conn.read_all(credentials=who)),
            numbers(conn.read_all(backwards=True, credentials=who)),
            take_one(conn.subscribe("people", credentials=who)),
            take_one(conn.subscribe_all(credentials=who)),
            take_one(conn.subscribe_live("people", credentials=who)),
            take_one(conn.subscribe_all_live(credentials=who)),
        ):
            with pytest.raises(AccessDenied):
                await refused
    assert await numbers(conn.read_stream("people")) == [0]


@step("ping", "read_stream")
async def who_is_not_known(scene: Scene) -> None:
    wrong = Credentials("admin", "wrong")
    for refused in (
        scene.conn.ping(credentials=wrong),
        scene.conn.append("people", new_events(1), credentials=wrong),
        numbers(scene.conn.read_stream("people", credentials=wrong)),
        take_one(scene.conn.subscribe_live("people", credentials=wrong)),
        take_one(scene.conn.subscribe("people", credentials=wrong)),
    ):
        with pytest.raises(NotAuthenticated):
            await refused
    with pytest.raises(NotAuthenticated):
        async with scene.connected(password="wrong"):
            pytest.fail("it was let in")
    # An empty password is refused as a package by some servers, unless there is something behind it.
    with pytest.raises(NotAuthenticated):
        async with scene.connected(password=""):
            pytest.fail("it was let in")


@step("append", "ping")
async def nobody_in_particular(scene: Scene) -> None:
    async with scene.connected(username="", password="") as conn:
        await conn.ping()
        if scene.is_since("23.10"):
            with pytest.raises(AccessDenied):
                await conn.append("people", new_events(1))
            with pytest.raises(AccessDenied):
                await numbers(conn.read_stream("people"))
        else:
            await conn.append("people", new_events(1))
            assert await numbers(conn.read_stream("people")) == [0]
        with pytest.raises(AccessDenied):
            await numbers(conn.read_all())


@step("ping", "append")
async def a_token(scene: Scene) -> None:
    if not scene.is_since("20.10"):
        return
    await scene.conn.append("people", new_events(1), credentials=Credentials(token=TOKEN))
    with pytest.raises(AccessDenied):
        await numbers(scene.conn.read_all(credentials=Credentials(token=TOKEN)))
    async with scene.connected(username="", password="", token=TOKEN) as conn:
        assert await numbers(conn.read_stream("people")) == [0]
    with pytest.raises(NotAuthenticated):
        async with scene.connected(username="", password="", token="nobody's"):
            pytest.fail("it was let in")


@step("append")
async def answers_that_are_lost(scene: Scene) -> None:
    for expected in (NO_STREAM, ANY, 3):
        events = new_events(2)
        scene.node.faults.drop_reply(Command.WRITE_EVENTS, kill=True)
        before = await scene.conn.last_number("people")
        written = await scene.conn.append("people", events, expected=expected)
        first = 0 if before is None else before + 1
        assert (written.first, written.last) == (first, first + 1)
    assert await numbers(scene.conn.read_stream("people")) == [0, 1, 2, 3, 4, 5]
    # The server has forgotten the ids: only a look into the stream finds the events.
    scene.node.faults.drop_reply(Command.WRITE_EVENTS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.conn.append, "people", new_events(1))
        await trio.sleep(1)
        scene.node.faults.restart(down=1)
    assert await scene.conn.last_number("people") == 6


@step("delete_stream")
async def a_tombstone_whose_answer_is_lost(scene: Scene) -> None:
    await scene.conn.append("people", new_events(1))
    scene.node.faults.drop_reply(Command.DELETE_STREAM, kill=True)
    assert (await scene.conn.delete_stream("people", expected=0, hard=True)).position is None


class Left(Exception):
    """Leaves a block without committing."""


@step("transaction", "continue_transaction")
async def writing_bit_by_bit(scene: Scene) -> None:
    conn = scene.conn
    async with conn.transaction("people", expected=NO_STREAM) as tx:
        await tx.write(new_events(2))
        scene.node.faults.restart()
        assert await conn.last_number("people") is None
        await tx.write(new_events(1, 2))
        assert await conn.last_number("people") is None
    assert tx.result is not None
    assert (tx.result.first, tx.result.last) == (0, 2)
    events = [event async for event in conn.read_all()]
    assert [(event.stream, event.number, event.data) for event in events] == [
        ("people", number, b"%d" % number) for number in range(3)
    ]
    assert tx.result.position is not None
    assert {event.position.commit for event in events} == {tx.result.position.commit}
    assert all(event.position < tx.result.position for event in events)
    with suppress(Left):
        async with conn.transaction("people", expected=2) as tx:
            await tx.write(new_events(1))
            raise Left
    assert await conn.last_number("people") == 2
    async with scene.connected() as other, other.continue_transaction(tx.id) as again:
        await again.write(new_events(1))
    assert again.result is not None
    assert (again.result.first, again.result.last) == (3, 4)


async def add_and_commit(transaction: Transaction) -> None:
    async with transaction as tx:
        await tx.write(new_events(1))


@step("transaction", "subscribe_all", "subscribe")
async def following_transactions(scene: Scene) -> None:
    conn = scene.conn
    async with conn.transaction("people", expected=ANY) as tx:
        await tx.write(new_events(3))
    start = trio.current_time()
    async with conn.subscribe_all(page_size=2) as log, conn.subscribe("people") as events:
        # That the log ends with a commit, which is no event, holds nobody up.
        assert await hear(log, 4) == await hear(events, 4) == [0, 1, 2, CaughtUp()]
        assert trio.current_time() - start < 0.5
        async with conn.transaction("people", expected=2) as tx:
            await tx.write(new_events(2))
        first = await soon(log)
        assert await take(log, 1) == [4]
        assert await take(events, 2) == [3, 4]
        scene.node.faults.kill_connections()
        await conn.append("people", new_events(1))
        assert await take(log, 1) == await take(events, 1) == [5]
    # From the middle of a transaction on.
    async with conn.subscribe_all(after=first.checkpoint) as log:
        assert await hear(log, 3) == [4, 5, CaughtUp()]


@step("transaction", "continue_transaction")
async def transactions_that_are_refused(scene: Scene) -> None:
    conn = scene.conn
    with pytest.raises(WrongExpectedVersion) as wrong:
        async with conn.transaction("people", expected=7):
            pass
    assert (wrong.value.stream, wrong.value.expected, wrong.value.actual) == ("people", 7, None)
    await conn.delete_stream("gone", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        async with conn.transaction("gone", expected=ANY):
            pass
    await conn.set_metadata("people", StreamMetadata(acl=Acl(write="jane")))
    with pytest.raises(AccessDenied):
        async with conn.transaction("people", expected=ANY, credentials=OPS):
            pytest.fail("it was begun")
    tx = await conn.transaction("people", expected=ANY, credentials=JANE).__aenter__()
    with pytest.raises(AccessDenied):
        # Here or at the end: servers up to 5.0 acknowledge a write before they look whose it is.
        await add_and_commit(conn.continue_transaction(tx.id, credentials=OPS))
    # Where no record begins, servers from 20.6 on say nothing at all.
    with pytest.raises(OutcomeUnknown if scene.is_since("20.10") else AccessDenied):
        async with conn.continue_transaction(7):
            pass
    assert await conn.last_number("people") is None


@step("transaction")
async def transactions_whose_answers_are_lost(scene: Scene) -> None:
    conn = scene.conn
    for expected, first in ((NO_STREAM, 0), (1, 2), (3, 4)):
        scene.node.faults.drop_reply(Command.TRANSACTION_COMMIT, kill=True)
        async with conn.transaction("people", expected=expected) as tx:
            await tx.write(new_events(2))
        assert tx.result is not None
        assert (tx.result.first, tx.result.last) == (first, first + 1)
    for command in (Command.TRANSACTION_COMMIT, Command.TRANSACTION_WRITE):
        scene.node.faults.drop_reply(command, kill=True)
        with pytest.raises(OutcomeUnknown) as unknown:
            async with conn.transaction("people", expected=ANY) as tx:
                await tx.write(new_events(2))
        assert len(unknown.value.event_ids) == 2
    # The commit was carried out, and of the other nothing was.
    assert await numbers(conn.read_stream("people")) == [0, 1, 2, 3, 4, 5, 6, 7]


@step("scavenge")
async def scavenging(scene: Scene) -> None:
    conn = scene.conn
    await conn.append("people", new_events(9))
    await conn.set_metadata("people", StreamMetadata(max_count=2))
    for who in (JANE, Credentials("admin", "changeit")):
        with nullcontext() if who is not JANE else pytest.raises(AccessDenied):
            result = await conn.scavenge(credentials=who)
    if scene.is_since("5.0"):
        assert result.status is ScavengeStatus.STARTED
        assert result.scavenge_id is not None
    else:
        assert result.status is ScavengeStatus.FINISHED
        assert result.space_saved is not None
        assert result.space_saved > 0
    assert [event.number async for event in conn.read_all() if event.stream == "people"] == [7, 8]
    assert await numbers(conn.read_stream("people")) == [7, 8]
    assert (await conn.append("people", new_events(1), expected=8)).last == 9


GROUP = PersistentSettings(start_from=START, message_timeout=5.0, max_retry_count=2, checkpoint_min_count=1)


@step("create_persistent", "update_persistent", "delete_persistent", "ensure_persistent")
async def groups(scene: Scene) -> None:
    conn = scene.conn
    await conn.create_persistent("people", "group", GROUP)
    with pytest.raises(GroupExists, match=r"Group 'group' already exists\."):
        await conn.create_persistent("people", "group", GROUP)
    assert not await conn.ensure_persistent("people", "group", GROUP, update=True)
    await conn.update_persistent("people", "group", GROUP.replace(max_retry_count=1))
    pinned = GROUP.replace(named_consumer_strategy=ConsumerStrategy.PINNED_BY_CORRELATION)
    with nullcontext() if scene.is_since("20.10") else pytest.raises(Unsupported):
        await conn.create_persistent("people", "pinned", pinned)
    for credentials, may in ((JANE, False), (OPS, scene.is_since("5.0"))):
        with nullcontext() if may else pytest.raises(AccessDenied):
            await conn.ensure_persistent("people", f"of {credentials.login}", credentials=credentials)
    await conn.delete_persistent("people", "group")
    for verb in (conn.delete_persistent("people", "group"), conn.update_persistent("people", "group", GROUP)):
        with pytest.raises(GroupNotFound, match=r"Group 'group' does not exist\."):
            await verb
    with pytest.raises(InvalidArgument):
        await conn.create_persistent("$all", "group", GROUP)


@step("subscribe_persistent")
async def consuming(scene: Scene) -> None:
    conn = scene.conn
    await conn.create_persistent("people", "group", GROUP)
    await conn.append("people", new_events(4))
    # 4.1.1 is the first that tells; from 22.6 on servers leave out zeros.
    first, second = (0 if scene.version in ("4.1.1", "5.0", "20.10") else None, 1 if scene.is_since("4.1.1") else None)
    async with conn.subscribe_persistent("people", "group", in_flight=1) as events:
        await events.ack(await soon(events))
        event = await soon(events)
        assert (event.number, event.retry_count) == (1, first)
        await events.nak(event, message="again")
        event = await soon(events)
        assert (event.number, event.retry_count) == (1, second)
        await events.nak(event, action=NakAction.PARK)
        assert await take(events, 1) == [2]
        scene.node.faults.restart()
        # What was acked was not yet written down, so it comes again.
        assert await hear(events, 2) == [Reconnected(gap_possible=False), 0]
    parked = [event.number async for event in conn.read_stream("$persistentsubscription-people::group-parked")]
    assert parked == [1]


@step("subscribe_persistent")
async def consumers_that_are_refused(scene: Scene) -> None:
    conn = scene.conn
    with pytest.raises(GroupNotFound):
        await take_one(conn.subscribe_persistent("people", "group"))
    await conn.create_persistent("people", "group", GROUP.replace(subscriber_max_count=1))
    await conn.set_metadata("people", StreamMetadata(acl=Acl(read="jane")))
    with pytest.raises(AccessDenied):
        await take_one(conn.subscribe_persistent("people", "group", credentials=OPS))
    async with conn.subscribe_persistent("people", "group", credentials=JANE):
        with pytest.raises(TooManyConsumers):
            await take_one(conn.subscribe_persistent("people", "group"))
    async with scene.connected(username="", password="") as nobody:
        with pytest.raises(AccessDenied):
            await take_one(nobody.subscribe_persistent("people", "group"))


@step("subscribe_persistent")
async def groups_that_change_under_their_consumers(scene: Scene) -> None:
    conn = scene.conn
    await conn.create_persistent("people", "group", GROUP)
    await conn.append("people", new_events(2))
    async with conn.subscribe_persistent("people", "group") as events:
        await events.ack(*[await soon(events) for _ in range(2)])
        # Checkpoints by time are looked at each second.
        await trio.sleep(5)
        await conn.update_persistent("people", "group", GROUP)
        await conn.append("people", new_events(1))
        # With 3.9.4 a checkpoint is the first event that was not handled, or else the last one.
        handled = [] if scene.is_since("4.1.1") else [1]
        assert await hear(events, 2 + len(handled)) == [Reconnected(gap_possible=False), *handled, 2]
        await conn.delete_persistent("people", "group")
        with pytest.raises(GroupNotFound):
            await soon(events)
    assert await conn.last_number("$persistentsubscription-people::group-checkpoint") is None


@step("append", "read_event")
async def a_node_that_starts(scene: Scene) -> None:
    scene.node.faults.not_ready(5)
    start = trio.current_time()
    await scene.conn.append("people", new_events(1))
    assert 5 <= trio.current_time() - start < 15
    scene.node.faults.not_ready(5)
    async with scene.conn.subscribe_live("people"):
        assert (await scene.conn.read_event("people", 0)).number == 0


@step("append", "read_stream", "read_all", "subscribe", "subscribe_live")
async def one_that_never_identified(scene: Scene) -> None:
    async with scene.connected(protocol_version=3) as conn:
        await conn.append("people", new_events(2), expected=NO_STREAM)
        assert await numbers(conn.read_stream("people")) == [0, 1]
        async with conn.subscribe("people") as events, conn.subscribe_all_live() as log:
            assert await hear(events, 3) == [0, 1, CaughtUp()]
            await conn.append("people", new_events(1), expected=1)
            assert await take(events, 1) == await take(log, 1) == [2]
            await conn.delete_stream("people", expected=2, hard=True)
            assert (await soon(log)).type == "$streamDeleted"
            with pytest.raises(StreamDeleted):
                await soon(events)
        for refused in (take_one(conn.subscribe("people")), take_one(conn.subscribe_live("people"))):
            with pytest.raises(StreamDeleted):
                await refused
        *_, tombstone = [event.number async for event in conn.read_all()]
        assert tombstone == (2**63 - 1 if scene.is_since("22.10") else 2**31 - 1)


@step("execute", "ping", "statistics", "changes")
async def what_concerns_the_connection(scene: Scene) -> None:
    assert isinstance(await soon(scene.conn.changes()), Connected)
    await scene.conn.append("people", new_events(1))
    assert await scene.conn.ping() >= 0
    request = messages.ReadStreamEvents(event_stream_id="people", from_event_number=0, max_count=5)
    page: Any = await scene.conn.execute(request, command=Command.READ_STREAM_EVENTS_FORWARD)
    assert (page.result, len(page.events), page.is_end_of_stream, page.next_event_number) == (0, 1, True, 1)
    before = scene.conn.statistics()
    # Both sides ask for signs of life, and neither ends it.
    await trio.sleep(60)
    now = scene.conn.statistics()
    assert now.frames_received > before.frames_received + 10
    assert now.reconnects == 0


@pytest.mark.parametrize("told", STEPS, ids=lambda told: told.__name__)
@pytest.mark.parametrize("version", VERSIONS)
async def test_it_behaves_the_same(told: Step, version: str, autojump_clock: MockClock) -> None:
    clock = Clock()
    users = {JANE.login: User(JANE.password)}
    tokens = {TOKEN: JANE.login} if VERSIONS[version].takes_tokens else None
    async with (
        open_node(port=None, version=version, users=users, tokens=tokens, now=clock) as node,
        open_connection(node.settings, connect=node.connect) as conn,
    ):
        await told(Scene(node, conn, clock, version))
        assert_nothing_left(conn)


def test_every_verb_is_told_of() -> None:
    verbs = {name for name, _ in inspect.getmembers(Connection, inspect.isfunction) if not name.startswith("_")}
    assert verbs == TOLD
