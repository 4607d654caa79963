"""`protocol_version=3`: never identified, and numbers of 32 bits, as clients of old had them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import confirmed, page
from tests.following import open_to_each
from tests.helpers import assert_nothing_left, new_events
from tests.kinds import EVENTS
from tests.peer import ANONYMOUS, Peer, open_to
from trio_extreme import (
    ANY,
    END,
    Acl,
    CaughtUp,
    Connection,
    DefaultAcl,
    EventNotFound,
    InvalidArgument,
    NewEvent,
    ProtocolError,
    Settings,
    StreamDeleted,
    StreamMetadata,
    StreamNotFound,
    open_connection,
)
from trio_extreme.embedded import VERSIONS
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio_extreme.embedded import Node

pytestmark = pytest.mark.usefixtures("autojump_clock")

NARROW = ANONYMOUS.replace(protocol_version=3)
TOMBSTONE = 2**31 - 1
LAST_NUMBER = 2**63 - 1


# --- what is sent


async def test_it_never_identifies_itself() -> None:
    peer = Peer()
    async with open_to(peer, NARROW) as conn:
        await conn.ping()
    assert [request.command for request in peer.log] == [Command.PING, Command.PING]


@pytest.mark.parametrize("value", [2, 5, True, "3", None])
def test_there_are_two(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"protocol_version: {value!r} is no whole number from 3 to 4"):
        Settings(protocol_version=value)


def test_a_url_can_say_it() -> None:
    assert Settings.from_url("eventstore://localhost?protocol_version=3").protocol_version == 3
    assert Settings().protocol_version == 4


BEYOND: dict[str, Callable[[Connection, int], Any]] = {
    "expected of append": lambda conn, number: conn.append("s", EVENTS, expected=number),
    "expected of delete": lambda conn, number: conn.delete_stream("s", expected=number),
    "expected of transaction": lambda conn, number: conn.transaction("s", expected=number),
    "expected of metadata": lambda conn, number: conn.set_metadata("s", StreamMetadata(), expected=number),
    "expected of default rights": lambda conn, number: conn.set_default_acl(DefaultAcl(), expected=number),
    "number of an event": lambda conn, number: conn.read_event("s", number),
    "start of reading": lambda conn, number: conn.read_stream("s", start=number),
    "start of following": lambda conn, number: conn.subscribe("s", start=number),
    "after of following": lambda conn, number: conn.subscribe("s", after=number),
}


@pytest.mark.parametrize("name", BEYOND)
@pytest.mark.parametrize("number", [TOMBSTONE, 2**31, 2**62])
async def test_numbers_that_cannot_be_said_are_refused(name: str, number: int) -> None:
    peer = Peer()
    async with open_to(peer, NARROW) as conn:
        argument = name.partition(" ")[0]
        with pytest.raises(
            InvalidArgument, match=f"^{argument}: {number} is beyond 2,147,483,646, .*protocol_version=4"
        ):
            await ask(BEYOND[name], conn, number)
    assert peer.commands() == []


async def ask(verb: Callable[[Connection, int], Any], conn: Connection, number: int) -> None:
    asked = verb(conn, number)
    assert hasattr(asked, "__await__"), "it was not refused"
    await asked


async def test_the_largest_number_that_can_be_said() -> None:
    async with open_to(Peer(), NARROW) as conn:
        conn.read_stream("s", start=TOMBSTONE - 1)
        conn.subscribe("s", after=TOMBSTONE - 1)


# --- what comes


def pushed(number: int) -> schema.StreamEventAppeared:
    record = schema.EventRecord(event_stream_id="s", event_number=number, event_id=bytes(range(16)), event_type="t")
    return schema.StreamEventAppeared(event=schema.ResolvedEvent(event=record, commit_position=1, prepare_position=1))


async def test_a_stream_that_grows_beyond_32_bits_ends_with_an_error(nursery: trio.Nursery) -> None:
    """Servers send the lower half: taken as it is it would be an old number, and the event be left out."""
    peer = Peer()
    peer.handlers[Command.READ_STREAM_EVENTS_FORWARD] = lambda request: peer.send(
        Command.READ_STREAM_EVENTS_FORWARD_COMPLETED,
        request.correlation,
        page([], TOMBSTONE - 1, end=True, last=TOMBSTONE - 2),
    )
    async with open_to_each(peer, settings=NARROW) as conn, conn.subscribe("s", after=TOMBSTONE - 3) as events:
        nursery.start_soon(push, peer)
        items = events.with_notices()
        assert await anext(items) == CaughtUp()
        assert getattr(await anext(items), "number", None) == TOMBSTONE - 1
        with pytest.raises(ProtocolError, match="-2147483648 for an event number; protocol_version=3 cannot"):
            await anext(items)


async def push(peer: Peer) -> None:
    request = await peer.receive(Command.SUBSCRIBE_TO_STREAM)
    peer.send(Command.SUBSCRIPTION_CONFIRMATION, request.correlation, confirmed(TOMBSTONE - 2))
    await trio.sleep(1)
    peer.send(Command.STREAM_EVENT_APPEARED, request.correlation, pushed(TOMBSTONE - 1))
    await trio.sleep(1)
    peer.send(Command.STREAM_EVENT_APPEARED, request.correlation, pushed(-(2**31)))


async def test_a_stream_that_is_beyond_32_bits_is_not_followed() -> None:
    peer = Peer()
    peer.handlers[Command.READ_STREAM_EVENTS_FORWARD] = lambda request: peer.send(
        Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, request.correlation, page([7], 8, end=True, last=7)
    )
    peer.handlers[Command.SUBSCRIBE_TO_STREAM] = lambda request: peer.send(
        Command.SUBSCRIPTION_CONFIRMATION, request.correlation, confirmed(-(2**31) + 5)
    )
    async with open_to_each(peer, settings=NARROW) as conn, conn.subscribe("s", start=7) as events:
        assert (await anext(events)).number == 7
        with pytest.raises(ProtocolError, match="-2147483643 for an event number"):
            await anext(events)


# --- against the embedded node


@pytest.fixture
async def narrow(node: Node) -> AsyncIterator[Connection]:
    async with open_connection(node.settings.replace(protocol_version=3), connect=node.connect) as conn:
        yield conn
        assert_nothing_left(conn)


async def test_writing_and_reading(narrow: Connection) -> None:
    assert await narrow.last_number("s") is None
    await narrow.append("s", new_events(3), expected=-1)
    assert await narrow.last_number("s") == 2
    assert [event.number async for event in narrow.read_stream("s")] == [0, 1, 2]
    assert [event.number async for event in narrow.read_stream("s", backwards=True)] == [2, 1, 0]
    assert (await narrow.read_event("s", END)).number == 2
    with pytest.raises(EventNotFound):
        await narrow.read_event("s", TOMBSTONE - 1)
    log = [event async for event in narrow.read_all()]
    assert [event.number for event in log if event.stream == "s"] == [0, 1, 2]


async def test_a_tombstone_has_the_last_number_of_32_bits(narrow: Connection, version: str) -> None:
    """Whatever it is in the server, where the server cuts numbers for who does not identify."""
    last = TOMBSTONE if VERSIONS[version].narrows_numbers else LAST_NUMBER
    await narrow.append("s", new_events(1))
    async with narrow.subscribe_all_live() as pushes, narrow.subscribe_live("s") as live:
        await narrow.delete_stream("s", expected=0, hard=True)
        assert (await anext(pushes)).number == last
        with pytest.raises(StreamDeleted):
            await anext(live)
    (tombstone,) = [event async for event in narrow.read_all() if event.type == "$streamDeleted"]
    assert tombstone.number == last
    with pytest.raises(StreamDeleted):
        await narrow.last_number("s")
    with pytest.raises(StreamDeleted):
        async with narrow.subscribe_live("s"):
            pass


async def test_a_stream_that_was_deleted_softly(narrow: Connection) -> None:
    await narrow.append("s", new_events(3))
    await narrow.delete_stream("s", expected=2)
    assert await narrow.last_number("s") is None
    with pytest.raises(StreamNotFound) as caught:
        await anext(narrow.read_stream("s"))
    assert caught.value.last_number == 2
    await narrow.append("s", new_events(1), expected=ANY)
    assert await narrow.last_number("s") == 3


async def test_following_a_stream(narrow: Connection) -> None:
    await narrow.append("s", new_events(3))
    async with narrow.subscribe("s", page_size=2) as events:
        assert [(await anext(events)).number for _ in range(3)] == [0, 1, 2]
        await narrow.append("s", NewEvent("t"))
        assert (await anext(events)).number == 3
        await narrow.delete_stream("s", expected=3, hard=True)
        with pytest.raises(StreamDeleted):
            await anext(events)
    async with narrow.subscribe("s") as again:
        with pytest.raises(StreamDeleted):
            await anext(again)


async def test_following_the_log_over_a_reconnect(narrow: Connection, node: Node) -> None:
    async with narrow.subscribe_all(start=END) as events:
        await narrow.append("s", new_events(2))
        assert [(await anext(events)).number for _ in range(2)] == [0, 1]
        node.faults.kill_connections()
        await narrow.append("s", new_events(1))
        assert (await anext(events)).number == 2


async def test_rights_are_as_ever(narrow: Connection) -> None:
    await narrow.set_metadata("s", StreamMetadata(max_count=2, acl=Acl(read="admin")), expected=ANY)
    assert (await narrow.get_metadata("s")).max_count == 2
