"""Stream metadata and rights, by typed calls, against the node."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import trio

from tests.helpers import new_events
from trio_extreme import (
    ANY,
    END,
    NO_STREAM,
    AccessDenied,
    Acl,
    CaughtUp,
    Credentials,
    DefaultAcl,
    EventNotFound,
    MetadataUnreadable,
    NewEvent,
    StreamDeleted,
    StreamMetadata,
    StreamNotFound,
    WrongExpectedVersion,
    open_connection,
)
from trio_extreme.embedded import User, open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from trio_extreme import Connection

JANE = Credentials("jane", "secret")
OPS = Credentials("ops", "changeit")


async def numbers(conn: Connection, stream: str) -> list[int]:
    return [event.number async for event in conn.read_stream(stream)]


# --- limits


async def test_metadata_is_written_and_read(conn: Connection) -> None:
    await conn.append("persona", new_events(3))
    written = await conn.set_metadata("persona", StreamMetadata(max_count=2, custom={"owner": "Pera Perić"}))
    assert written.last == 0
    stored = await conn.get_metadata("persona")
    assert stored == StreamMetadata(max_count=2, custom={"owner": "Pera Perić"})
    assert stored.version == 0
    assert await numbers(conn, "persona") == [1, 2]


async def test_what_nobody_said(conn: Connection) -> None:
    for stream in ("persona", "$ce-persona", "$all"):
        stored = await conn.get_metadata(stream)
        assert (stored, stored.version) == (StreamMetadata(), NO_STREAM)
    # The same with a stream that is there, where servers say it in another way.
    await conn.append("persona", new_events(1))
    assert (await conn.get_metadata("persona")).version == NO_STREAM


async def test_a_stream_that_is_not_there_yet(conn: Connection) -> None:
    await conn.set_metadata("persona", StreamMetadata(max_count=2), expected=NO_STREAM)
    with pytest.raises(StreamNotFound):
        await numbers(conn, "persona")
    await conn.append("persona", new_events(3), expected=NO_STREAM)
    assert await numbers(conn, "persona") == [1, 2]


async def test_truncated(conn: Connection) -> None:
    await conn.append("persona", new_events(5))
    await conn.set_metadata("persona", StreamMetadata(truncate_before=3))
    assert await numbers(conn, "persona") == [3, 4]
    with pytest.raises(EventNotFound):
        await conn.read_event("persona", 2)


async def test_too_old(autojump_clock: MockClock) -> None:
    now = lambda: 1_700_000_000 + trio.current_time()  # noqa: E731 - shorter than what it stands for
    async with open_node(port=None, now=now) as node, open_connection(node.settings, connect=node.connect) as conn:
        await conn.set_metadata("persona", StreamMetadata(max_age=timedelta(minutes=1)))
        await conn.append("persona", new_events(2))
        await trio.sleep(40)
        await conn.append("persona", new_events(2))
        assert await numbers(conn, "persona") == [0, 1, 2, 3]
        await trio.sleep(40)
        assert await numbers(conn, "persona") == [2, 3]


async def test_a_version_that_is_not_the_stored_one(conn: Connection) -> None:
    await conn.set_metadata("persona", StreamMetadata(max_count=2), expected=NO_STREAM)
    for expected in (NO_STREAM, 5):
        with pytest.raises(WrongExpectedVersion) as info:
            await conn.set_metadata("persona", StreamMetadata(max_count=3), expected=expected)
        assert info.value.stream == "$$persona"
    assert (await conn.get_metadata("persona")).max_count == 2
    assert (await conn.set_metadata("persona", StreamMetadata(), expected=0)).last == 1
    assert await conn.get_metadata("persona") == StreamMetadata()


# --- streams that were deleted


async def test_a_stream_that_was_deleted_for_ever(conn: Connection) -> None:
    await conn.append("persona", new_events(1))
    await conn.set_metadata("persona", StreamMetadata(max_count=2))
    await conn.delete_stream("persona", expected=ANY, hard=True)
    for attempt in (
        conn.get_metadata("persona"),
        conn.set_metadata("persona", StreamMetadata()),
        conn.update_metadata("persona", max_count=3),
    ):
        with pytest.raises(StreamDeleted) as info:
            await attempt
        assert info.value.stream == "persona"


async def test_a_soft_delete_drops_the_metadata(conn: Connection, version: str) -> None:
    await conn.append("persona", new_events(2))
    await conn.set_metadata("persona", StreamMetadata(max_count=2, custom={"owner": "Pera"}))
    await conn.delete_stream("persona", expected=ANY)
    stored = await conn.get_metadata("persona")
    assert stored == StreamMetadata(truncate_before=2**31 - 1 if version.startswith("3.") else 2**63 - 1)
    # New metadata brings the stream back; what was in it stays hidden.
    await conn.update_metadata("persona", truncate_before=None, max_count=5)
    stored = await conn.get_metadata("persona")
    assert (stored.max_count, stored.truncate_before) == (5, 2)
    assert await numbers(conn, "persona") == []
    await conn.append("persona", new_events(1))
    assert await numbers(conn, "persona") == [2]


# --- changes


async def test_what_is_not_given_stays(conn: Connection) -> None:
    await conn.set_metadata(
        "persona", StreamMetadata(max_count=2, acl=Acl(write="jane"), custom={"owner": "Pera", "$later": [1.5]})
    )
    stored = await conn.update_metadata("persona", max_age=timedelta(days=1), custom={"owner": None, "team": "a"})
    assert stored == StreamMetadata(
        max_count=2, max_age=timedelta(days=1), acl=Acl(write="jane"), custom={"$later": [1.5], "team": "a"}
    )
    assert stored.version == 1
    assert await conn.get_metadata("persona") == stored
    assert (await conn.update_metadata("persona", acl=None, max_count=None)).acl == Acl()


async def test_the_first_that_is_said(conn: Connection) -> None:
    stored = await conn.update_metadata("persona", max_count=10)
    assert (stored.max_count, stored.version) == (10, 0)


async def test_where_nothing_changes_nothing_is_written(conn: Connection) -> None:
    await conn.update_metadata("persona", max_count=10, custom={"flag": True})
    assert (await conn.update_metadata("persona", max_count=10)).version == 0
    assert (await conn.update_metadata("persona")).version == 0
    assert (await conn.update_metadata("other", max_count=None)).version == NO_STREAM
    # To Python they are equal, to others they are not.
    assert (await conn.update_metadata("persona", custom={"flag": 1})).version == 1


async def test_many_change_it_at_once(conn: Connection) -> None:
    async def change(number: int) -> None:
        await conn.update_metadata("persona", custom={f"key-{number}": number})

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(change, number)
    stored = await conn.get_metadata("persona")
    assert stored.custom == {f"key-{number}": number for number in range(12)}
    assert stored.version == 11


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (NewEvent("$metadata", b"not json", is_json=True), "no JSON: Expecting value"),
        (NewEvent.json("$metadata", {"$maxCount": "3", "owner": "Pera"}), "$maxCount is no whole number"),
        (NewEvent("$metadata", b'{"$maxCount":3}'), "its event is not marked as JSON"),
    ],
    ids=["no json", "a wrong type", "not marked"],
)
async def test_what_cannot_be_read_is_not_destroyed(conn: Connection, event: NewEvent, problem: str) -> None:
    await conn.append("persona", new_events(5))
    await conn.append("$$persona", event)
    stored = await conn.get_metadata("persona")
    assert stored.problem is not None
    assert stored.problem.startswith(problem)
    # So do servers see it.
    assert await numbers(conn, "persona") == [0, 1, 2, 3, 4]
    with pytest.raises(MetadataUnreadable) as info:
        await conn.update_metadata("persona", max_count=1)
    assert (info.value.stream, info.value.version, info.value.problem) == ("persona", 0, stored.problem)
    assert (await conn.read_event("$$persona", END)).id == event.id
    # Who means it can.
    await conn.set_metadata("persona", StreamMetadata(max_count=1), expected=info.value.version)
    assert await numbers(conn, "persona") == [4]


# --- rights


@pytest.fixture
async def guarded(version: str, autojump_clock: MockClock) -> AsyncIterator[Connection]:
    """A connection as admin to a node with a stream and a user of their own."""
    users = {"jane": User("secret", ("staff",))}
    async with (
        open_node(port=None, version=version, users=users) as node,
        open_connection(node.settings, connect=node.connect) as conn,
    ):
        await conn.append("persona", new_events(1))
        yield conn


KEYS = {"read": "$r", "write": "$w", "read_metadata": "$mr", "write_metadata": "$mw", "delete": "$d"}


async def use(conn: Connection, right: str) -> None:
    """What this right is needed for, done by Jane."""
    if right == "read":
        await conn.read_event("persona", END, credentials=JANE)
    elif right == "write":
        await conn.append("persona", new_events(1), credentials=JANE)
    elif right == "read_metadata":
        await conn.get_metadata("persona", credentials=JANE)
    elif right == "write_metadata":
        await conn.set_metadata("persona", await conn.get_metadata("persona"), credentials=JANE)
    else:
        await conn.delete_stream("persona", expected=ANY, credentials=JANE)


@pytest.mark.parametrize("given", KEYS)
async def test_each_right_alone(guarded: Connection, given: str) -> None:
    await guarded.set_metadata("persona", StreamMetadata(acl=Acl(**dict.fromkeys(KEYS, ()) | {given: "jane"})))
    for right, key in KEYS.items():
        if right != given:
            with pytest.raises(AccessDenied) as info:
                await use(guarded, right)
            assert (info.value.stream, info.value.right) == ("persona", key)
    await use(guarded, given)


@pytest.mark.parametrize("roles", ["jane", "staff", "$all", ["others", "staff"]])
async def test_a_right_is_given_to_users_and_groups(guarded: Connection, roles: str | list[str]) -> None:
    await guarded.set_metadata("persona", StreamMetadata(acl=Acl(read=roles)))
    assert (await guarded.read_event("persona", END, credentials=JANE)).number == 0
    if roles != "$all":
        with pytest.raises(AccessDenied):
            await guarded.read_event("persona", END, credentials=OPS)
    # Members of $admins always may.
    assert (await guarded.read_event("persona", END)).number == 0


async def test_a_right_that_goes_while_subscribed(version: str, autojump_clock: MockClock) -> None:
    """Servers look at it when a subscription begins; a catch-up subscription begins again with each session."""
    async with (
        open_node(port=None, version=version, users={"jane": User("secret")}) as node,
        open_connection(node.settings, connect=node.connect) as conn,
        conn.subscribe("persona", credentials=JANE) as events,
        conn.subscribe_live("persona", credentials=JANE) as live,
    ):
        items = events.with_notices()
        await conn.append("persona", new_events(1))
        while await anext(items) != CaughtUp():
            pass
        await conn.set_metadata("persona", StreamMetadata(acl=Acl(read=())))
        await conn.append("persona", new_events(1))
        assert (await anext(live)).number == 0
        assert [(await anext(events)).number, (await anext(live)).number] == [1, 1]
        node.faults.kill_connections()
        for feed in (events, live):
            with pytest.raises(AccessDenied):
                await anext(feed)


async def test_default_rights(guarded: Connection) -> None:
    assert await guarded.get_default_acl() == DefaultAcl()
    acl = DefaultAcl(user_streams=Acl(write="staff"), system_streams=Acl(read=("$admins", "jane")))
    assert (await guarded.set_default_acl(acl, expected=NO_STREAM)).last == 0
    stored = await guarded.get_default_acl()
    assert (stored, stored.version) == (acl, 0)
    await guarded.append("persona", new_events(1), credentials=JANE)
    with pytest.raises(AccessDenied, match=r"may not write to stream 'persona' \(the right \$w\)"):
        await guarded.append("persona", new_events(1), credentials=OPS)
    # Jane reads system streams now, the log too; what $settings does not say is as it was.
    assert (await guarded.get_default_acl(credentials=JANE)) == acl
    assert [event async for event in guarded.read_all(count=1, credentials=JANE)]
    with pytest.raises(AccessDenied):
        await guarded.set_default_acl(DefaultAcl(), credentials=JANE)
    with pytest.raises(WrongExpectedVersion):
        await guarded.set_default_acl(DefaultAcl(), expected=NO_STREAM)
    await guarded.set_default_acl(stored.replace(user_streams=Acl()), expected=stored.version)
    await guarded.append("persona", new_events(1), credentials=OPS)


async def test_the_default_rights_are_read_by_admins(guarded: Connection) -> None:
    with pytest.raises(AccessDenied) as info:
        await guarded.get_default_acl(credentials=OPS)
    assert (info.value.stream, info.value.right) == ("$settings", "$r")


async def test_default_rights_that_cannot_be_read(guarded: Connection) -> None:
    await guarded.append("$settings", NewEvent("$settings", b"no"))
    stored = await guarded.get_default_acl()
    assert (stored.user_streams, stored.version) == (Acl(), 0)
    assert stored.problem


async def test_the_log_is_opened_to_others(guarded: Connection) -> None:
    with pytest.raises(AccessDenied, match="by default only members of"):
        await guarded.head(credentials=JANE)
    await guarded.update_metadata("$all", acl=Acl(read="staff"))
    assert await guarded.head(credentials=JANE)
    assert [event async for event in guarded.read_all(count=1, credentials=JANE)]
    assert (await guarded.get_metadata("$all")).acl == Acl(read="staff")
    with pytest.raises(AccessDenied) as info:
        await guarded.get_metadata("$all", credentials=JANE)
    assert (info.value.stream, info.value.right) == ("$all", "$mr")
