"""What cannot be meant is refused before anything is sent, with an error that names argument, value and limit."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any

import pytest

from trio_extreme import (
    ANY,
    END,
    NO_STREAM,
    START,
    STREAM_EXISTS,
    Acl,
    Connection,
    Credentials,
    DefaultAcl,
    FrameTooLarge,
    InvalidArgument,
    NewEvent,
    PersistentSettings,
    Position,
    Settings,
    StreamMetadata,
)
from trio_extreme.events import MAX_EVENT_SIZE
from trio_extreme.filters import Filter
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import MAX_FRAME_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVENT = NewEvent("tested", b"data")

CALLS: dict[str, tuple[Callable[[Connection], Awaitable[Any]], str]] = {
    "append to nothing": (lambda conn: conn.append("", EVENT), r"stream: '' is no name"),
    "append to $all": (lambda conn: conn.append("$all", EVENT), r"stream: '\$all' is the log of all streams"),
    "append to bytes": (lambda conn: conn.append(b"s", EVENT), r"stream: b's'"),  # type: ignore[arg-type]
    "append text": (lambda conn: conn.append("s", "data"), r"events: str is no event"),  # type: ignore[arg-type]
    "append None": (lambda conn: conn.append("s", None), r"events: NoneType is no event"),  # type: ignore[arg-type]
    "append at -3": (lambda conn: conn.append("s", EVENT, expected=-3), r"expected: -3 is no expected version"),
    "append at True": (lambda conn: conn.append("s", EVENT, expected=True), r"expected: True is no expected version"),
    "append at START": (lambda conn: conn.append("s", EVENT, expected=START), r"expected: .*START"),  # type: ignore[arg-type]
    "append at the tombstone": (
        lambda conn: conn.append("s", EVENT, expected=2**63 - 1),
        r"expected: 9223372036854775807",
    ),
    "append above a number": (lambda conn: conn.append("s", EVENT, expected=2**63), r"expected: 9223372036854775808"),
    "delete nothing": (lambda conn: conn.delete_stream("", expected=ANY), r"stream: ''"),
    "delete $all": (lambda conn: conn.delete_stream("$all", expected=ANY), r"stream: '\$all'"),
    "delete what exists": (
        lambda conn: conn.delete_stream("s", expected=STREAM_EXISTS),
        r"expected: .* or ANY, NO_STREAM",
    ),
    "metadata of nothing": (lambda conn: conn.get_metadata(""), r"stream: ''"),
    "metadata of metadata": (lambda conn: conn.get_metadata("$$s"), r"stream: '\$\$s' holds the metadata of 's'"),
    "set metadata of metadata": (lambda conn: conn.set_metadata("$$s", StreamMetadata()), r"stream: '\$\$s' holds"),
    "set no metadata": (
        lambda conn: conn.set_metadata("s", {"$maxCount": 3}),  # type: ignore[arg-type]
        r"metadata: .* is no StreamMetadata",
    ),
    "set metadata at -3": (lambda conn: conn.set_metadata("s", StreamMetadata(), expected=-3), r"expected: -3 is no"),
    "set metadata that could not be read": (
        lambda conn: conn.set_metadata("s", StreamMetadata.parse(b"no")),
        r"metadata: what is stored cannot be read",
    ),
    "update metadata of metadata": (lambda conn: conn.update_metadata("$$s", max_count=3), r"stream: '\$\$s' holds"),
    "update with count 0": (lambda conn: conn.update_metadata("s", max_count=0), r"max_count: 0 is no whole number"),
    "update with a number of seconds": (
        lambda conn: conn.update_metadata("s", max_age=60),  # type: ignore[arg-type]
        r"max_age: 60 is no time; give a timedelta",
    ),
    "update with a role": (
        lambda conn: conn.update_metadata("s", acl="$all"),  # type: ignore[arg-type]
        r"acl: '\$all' is no Acl",
    ),
    "update with a key of the server's": (
        lambda conn: conn.update_metadata("s", custom={"$maxCount": 3}),
        r"custom: the key '\$maxCount' has an argument of its own: max_count",
    ),
    "set no default rights": (lambda conn: conn.set_default_acl(Acl()), r"acl: .* is no DefaultAcl"),  # type: ignore[arg-type]
    "set default rights at -3": (lambda conn: conn.set_default_acl(DefaultAcl(), expected=-3), r"expected: -3 is no"),
    "read event -2": (lambda conn: conn.read_event("s", -2), r"number: -2 is no event number"),
    "read event 1.5": (lambda conn: conn.read_event("s", 1.5), r"number: 1.5"),  # type: ignore[arg-type]
    "read an event of nothing": (lambda conn: conn.read_event("", 0), r"stream: ''"),
    "last number of nothing": (lambda conn: conn.last_number(""), r"stream: ''"),
    "create a group of $all": (lambda conn: conn.create_persistent("$all", "g"), r"stream: '\$all' has groups only"),
    "create a group of nothing": (lambda conn: conn.create_persistent("", "g"), r"stream: ''"),
    "create a group without a name": (lambda conn: conn.create_persistent("s", ""), r"group: '' is no name of a group"),
    "create a group named by bytes": (lambda conn: conn.create_persistent("s", b"g"), r"group: b'g'"),  # type: ignore[arg-type]
    "create a group with half a character": (
        lambda conn: conn.create_persistent("s", "\ud800"),
        r"group: half of a surrogate pair",
    ),
    "create a group as a dict says": (
        lambda conn: conn.create_persistent("s", "g", {}),  # type: ignore[arg-type]
        r"settings: a PersistentSettings is wanted, not dict",
    ),
    "update a group without a name": (
        lambda conn: conn.update_persistent("s", "", PersistentSettings()),
        r"group: ''",
    ),
    "ensure a group of $all": (lambda conn: conn.ensure_persistent("$all", "g"), r"stream: '\$all' has groups only"),
    "delete a group of $all": (lambda conn: conn.delete_persistent("$all", "g"), r"stream: '\$all' has groups only"),
    "delete a group without a name": (lambda conn: conn.delete_persistent("s", ""), r"group: ''"),
    "execute no message": (lambda conn: conn.execute("ping"), r"message: str is no request"),  # type: ignore[arg-type]
    "execute a reply": (lambda conn: conn.execute(schema.WriteEventsCompleted()), r"WRITE_EVENTS_COMPLETED is not for"),
    "execute what is the session's": (
        lambda conn: conn.execute(schema.IdentifyClient()),
        r"IDENTIFY_CLIENT is not for",
    ),
    "execute what is a subscription's": (
        lambda conn: conn.execute(schema.SubscribeToStream()),
        r"SUBSCRIBE_TO_STREAM is not for",
    ),
    "execute with two commands": (
        lambda conn: conn.execute(schema.ReadStreamEvents()),
        r"READ_STREAM_EVENTS_FORWARD or",
    ),
    "execute with another command": (
        lambda conn: conn.execute(schema.ReadEvent(), command=Command.READ_ALL_EVENTS_FORWARD),
        r"carries a ReadAllEvents, not ReadEvent",
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_calls(conn: Connection, name: str) -> None:
    call, message = CALLS[name]
    before = conn.statistics().frames_sent
    with pytest.raises(InvalidArgument, match=message):
        await call(conn)
    await conn.ping()
    assert conn.statistics().frames_sent == before + 1


VERBS: dict[str, tuple[Callable[[Connection], Any], str]] = {
    "a stream without a name": (lambda conn: conn.read_stream(""), r"stream: ''"),
    "$all as a stream": (lambda conn: conn.read_stream("$all"), r"stream: '\$all'.*read_all\(\)"),
    "count 0": (lambda conn: conn.read_stream("s", count=0), r"count: 0 is no number of events"),
    "count -1": (lambda conn: conn.read_all(count=-1), r"count: -1"),
    "page size 0": (lambda conn: conn.read_stream("s", page_size=0), r"page_size: 0 is out of range.*4096"),
    "page size 4097": (lambda conn: conn.read_all(page_size=4097), r"page_size: 4097 is out of range.*4096"),
    "from -1": (lambda conn: conn.read_stream("s", start=-1), r"start: -1 is no place in a stream"),
    "from a position": (lambda conn: conn.read_stream("s", start=Position(1, 1)), r"start: .* is no place in a stream"),
    "from the end on": (lambda conn: conn.read_stream("s", start=END), r"start: nothing lies forwards of END"),
    "the log from the end on": (lambda conn: conn.read_all(start=END), r"start: nothing lies forwards of END"),
    "the log from a number": (lambda conn: conn.read_all(start=3), r"start: 3 is no place in the log"),
    "the log from below": (lambda conn: conn.read_all(start=Position(-5, -5)), r"start: .* is no place in the log"),
    "what is no filter": (lambda conn: conn.read_all(filter="s-"), r"filter: 's-' is no Filter; .*Filter\.by_stream"),  # type: ignore[arg-type]
    "to follow what is no filter": (lambda conn: conn.subscribe_all(filter=["s-"]), r"filter: \['s-'\] is no Filter"),  # type: ignore[arg-type]
    "a filter of nothing": (lambda conn: conn.read_all(filter=Filter.by_type()), r"filter: Filter\.by_type\(\) says"),
    "live from nothing": (lambda conn: conn.subscribe_live(""), r"stream: ''"),
    "a transaction on nothing": (lambda conn: conn.transaction("", expected=ANY), r"stream: ''"),
    "a transaction on what exists": (
        lambda conn: conn.transaction("s", expected=STREAM_EXISTS),
        r"expected: .* or ANY, NO_STREAM",
    ),
    "a transaction at -3": (lambda conn: conn.transaction("s", expected=-3), r"expected: -3 is no expected version"),
    "a transaction without an id": (lambda conn: conn.continue_transaction(-1), r"id: -1 is no transaction's"),
    "a group of $all": (lambda conn: conn.subscribe_persistent("$all", "g"), r"stream: '\$all' has groups only"),
    "a group of nothing": (lambda conn: conn.subscribe_persistent("", "g"), r"stream: ''"),
    "a group without a name": (lambda conn: conn.subscribe_persistent("s", ""), r"group: '' is no name of a group"),
    "none in flight": (
        lambda conn: conn.subscribe_persistent("s", "g", in_flight=0),
        r"in_flight: 0 is out of range; with less than 1 no event ever comes",
    ),
    "fewer than none in flight": (lambda conn: conn.subscribe_persistent("s", "g", in_flight=-1), r"in_flight: -1"),
    "more in flight than can be said": (
        lambda conn: conn.subscribe_persistent("s", "g", in_flight=2**31),
        r"in_flight: 2147483648 is out of range; .* 2,147,483,647 is the most",
    ),
    "in flight: True": (lambda conn: conn.subscribe_persistent("s", "g", in_flight=True), r"in_flight: True"),
    "on error: park": (
        lambda conn: conn.subscribe_persistent("s", "g", on_error="PARK"),
        r"on_error: 'PARK' is none; give NakAction\.PARK, .* or None",
    ),
    "live from $all": (lambda conn: conn.subscribe_live("$all"), r"stream: '\$all'.*subscribe_all_live\(\)"),
}


@pytest.mark.parametrize("name", VERBS)
async def test_reads_subscriptions_and_transactions(conn: Connection, name: str) -> None:
    """These are refused by the call itself, not by the first step of the iteration."""
    call, message = VERBS[name]
    before = conn.statistics().frames_sent
    with pytest.raises(InvalidArgument, match=message):
        call(conn)
    assert conn.statistics().frames_sent == before


EVENTS: dict[str, tuple[Callable[[], object], str]] = {
    "no type": (lambda: NewEvent(""), r"type: ''"),
    "data that is text": (lambda: NewEvent("t", "text"), r"data: bytes are wanted, not str"),  # type: ignore[arg-type]
    "metadata that is a dict": (lambda: NewEvent("t", b"", {}), r"metadata: bytes are wanted, not dict"),  # type: ignore[arg-type]
    "an id that is text": (lambda: NewEvent("t", id="7"), r"id: '7' is no event id"),  # type: ignore[arg-type]
    "NaN": (lambda: NewEvent.json("t", {"x": nan}), r"data: not JSON"),
    "NaN in metadata": (lambda: NewEvent.json("t", {}, nan), r"metadata: not JSON"),
    "what JSON cannot say": (lambda: NewEvent.json("t", {"x": object()}), r"data: not JSON"),
    "too large": (lambda: NewEvent("t", bytes(MAX_EVENT_SIZE)), f"limit is {MAX_EVENT_SIZE:,}"),
    "300 bytes of name": (lambda: Settings(username="n" * 300, password="p"), r"username: 300 bytes.* limit is 255"),
    "300 bytes of name in a call": (lambda: Credentials("n" * 300, "p"), r"username: 300 bytes.* limit is 255"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_events_and_credentials(name: str) -> None:
    make, message = EVENTS[name]
    with pytest.raises(InvalidArgument, match=message):
        make()


async def test_an_append_of_70_megabytes(conn: Connection) -> None:
    events = [NewEvent("large", bytes(14_000_000)) for _ in range(5)]
    before = conn.statistics().bytes_sent
    with pytest.raises(FrameTooLarge, match=f"limit of a frame is {MAX_FRAME_SIZE:,}") as caught:
        await conn.append("s", events)
    assert caught.value.size == 70_000_000
    assert caught.value.limit == MAX_FRAME_SIZE
    await conn.ping()
    assert conn.statistics().bytes_sent - before < 100


async def test_the_largest_frame_there_is(conn: Connection) -> None:
    """A length of exactly 64 MiB goes through; one byte more is refused before anything is sent."""
    sizes = [bytes(MAX_FRAME_SIZE // 5 - 100)] * 5
    # Everything but the data stays as it is: the lengths before it keep their number of bytes.
    sizes[4] += bytes(MAX_FRAME_SIZE - _frame_length("s", sizes))
    assert _frame_length("s", sizes) == MAX_FRAME_SIZE
    result = await conn.append("s", [NewEvent("t", data) for data in sizes], expected=NO_STREAM)
    assert result.last == 4
    assert [len(event.data) async for event in conn.read_stream("s", page_size=1)] == [len(data) for data in sizes]

    before = conn.statistics().bytes_sent
    sizes[4] += b"+"
    with pytest.raises(FrameTooLarge, match=f"has {MAX_FRAME_SIZE + 1:,} bytes; the limit is {MAX_FRAME_SIZE:,}"):
        await conn.append("s", [NewEvent("t", data) for data in sizes])
    assert conn.statistics().bytes_sent == before


def _frame_length(stream: str, data: list[bytes]) -> int:
    """The length that the frame of such an append by admin/changeit has."""
    events = [
        schema.NewEvent(
            event_id=bytes(16),
            event_type="t",
            data_content_type=0,
            metadata_content_type=0,
            data=item,
            metadata=b"",
        )
        for item in data
    ]
    message = schema.WriteEvents(event_stream_id=stream, expected_version=-1, events=events, require_master=True)
    return 18 + len(b"\x05admin\x08changeit") + message.ByteSize()


async def test_the_largest_event_there_is(conn: Connection) -> None:
    """Data, metadata and twice the type: docs/protocol.md, 3.1. One byte more is no event (see above)."""
    largest = NewEvent("t", bytes(MAX_EVENT_SIZE - 2))
    await conn.append("s", largest)
    assert len((await conn.read_event("s", END)).data) == MAX_EVENT_SIZE - 2
