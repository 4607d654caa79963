"""Appends that wait behind a look into their stream: what was before them may have been executed, or not yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import Written, event_read, not_written, page, written
from tests.helpers import assert_nothing_left
from tests.kinds import NO_STREAM_YET, READ_BACKWARD
from tests.lost import AT_ONCE, MUCH_LATER, answer_all, asked, lose, open_over, settle
from tests.peer import Call, Network, Peer
from trio_extreme import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    ConnectionClosed,
    Credentials,
    NewEvent,
    OperationTimedOut,
    OutcomeUnknown,
    open_connection,
)
from trio_extreme.lookups import MOST_AT_ONCE
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from tests.peer import Request
    from trio_extreme import Connection

pytestmark = pytest.mark.usefixtures("autojump_clock")

WRITE, WRITE_DONE = Command.WRITE_EVENTS, Command.WRITE_EVENTS_COMPLETED


async def append(
    nursery: trio.Nursery, conn: Connection, name: str, expected: int = ANY, *, stream: str = "s", **options: Any
) -> Call:
    """An append of an event of this type, which has gone as far as it can."""
    call = Call(nursery, conn.append, stream, NewEvent(name), expected=expected, **options)
    await settle()
    return call


def write_all(peer: Peer) -> None:
    answer_all(peer, WRITE, (WRITE_DONE, written(7, 7)))


def absent(peer: Peer, look: Request) -> None:
    peer.send(look.command + 1, look.correlation, NO_STREAM_YET[1])


def names(peer: Peer) -> list[str]:
    """What came to a peer: the types of appended events, and "look"."""
    found = []
    for request in asked(peer):
        message: Any = request.message
        found.append("look" if request.command == READ_BACKWARD else message.events[0].event_type)
    return found


async def finish(*calls: Call) -> None:
    for call in calls:
        await call.value()


async def test_the_original_order(nursery: trio.Nursery) -> None:
    """What was before the one that is looked for goes before it, and what was behind it behind."""
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        before = await append(nursery, conn, "before", 3)
        looked_for = await append(nursery, conn, "looked for")
        behind = await append(nursery, conn, "behind", 5)
        await lose(peer)
        new = await append(nursery, conn, "new", 6)
        look = await second.receive(READ_BACKWARD)
        assert names(second) == ["before", "look"]
        absent(second, look)
        await finish(before, looked_for, behind, new)
    assert names(second) == ["before", "look", "looked for", "behind", "new"]


async def test_what_was_sent_goes_before_what_already_waited_when_its_session_died(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        looked_for = await append(nursery, conn, "looked for")
        await peer.receive(WRITE)
        await trio.sleep(3)
        sent = await append(nursery, conn, "sent", 5)
        await peer.receive(WRITE)
        # No answer to the first is waited for any longer.
        await peer.receive(READ_BACKWARD)
        behind = await append(nursery, conn, "behind", 6)
        await lose(peer)
        absent(second, await second.receive(READ_BACKWARD))
        await finish(looked_for, sent, behind)
    assert names(peer) == ["looked for", "sent", "look"]
    assert names(second) == ["look", "looked for", "sent", "behind"]


@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, NO_STREAM, 3])
async def test_whatever_is_expected(expected: int, nursery: trio.Nursery) -> None:
    """On the session that lives, too."""
    peer = Peer()
    async with open_over(peer) as conn:
        looked_for = await append(nursery, conn, "looked for")
        await peer.receive(WRITE)
        look = await peer.receive(READ_BACKWARD)
        behind = await append(nursery, conn, "behind", expected)
        assert names(peer) == ["looked for", "look"]
        write_all(peer)
        absent(peer, look)
        await finish(looked_for, behind)
    assert names(peer) == ["looked for", "look", "looked for", "behind"]


async def test_everything_else_goes_on(nursery: trio.Nursery) -> None:
    """Other streams, and what is no append."""
    peer, second = Peer(), Peer()
    answer_all(second, Command.READ_EVENT, (Command.READ_EVENT_COMPLETED, event_read()))
    async with open_over(peer, second) as conn:
        looked_for = await append(nursery, conn, "looked for")
        await lose(peer)
        look = await second.receive(READ_BACKWARD)
        write_all(second)
        await conn.append("other", NewEvent("other"))
        await conn.read_event("s", 0)
        await conn.ping()
        absent(second, look)
        await looked_for.value()


async def test_over_another_lost_session(nursery: trio.Nursery) -> None:
    peer, second, third = Peer(), Peer(), Peer()
    write_all(third)
    async with open_over(peer, second, third) as conn:
        looked_for = await append(nursery, conn, "looked for")
        await lose(peer)
        await second.receive(READ_BACKWARD)
        behind = await append(nursery, conn, "behind", 3)
        await lose(second)
        newest = await append(nursery, conn, "newest", 4)
        absent(third, await third.receive(READ_BACKWARD))
        await finish(looked_for, behind, newest)
    assert names(second) == ["look"]
    assert names(third) == ["look", "looked for", "behind", "newest"]


async def test_behind_all_looks_into_a_stream(nursery: trio.Nursery) -> None:
    """There is one for each that asked as somebody else."""
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        one = await append(nursery, conn, "one", credentials=Credentials("one", "secret"))
        other = await append(nursery, conn, "other", credentials=Credentials("other", "secret"))
        behind = await append(nursery, conn, "behind", 3)
        await lose(peer)
        looks = [await second.receive(READ_BACKWARD) for _ in range(2)]
        absent(second, looks[0])
        await settle()
        assert "behind" not in names(second)
        absent(second, looks[1])
        await finish(one, other, behind)
    assert names(second)[-1] == "behind"


async def test_when_nothing_comes_of_the_look(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    write_all(second)
    answer_all(second, READ_BACKWARD, (Command.BAD_REQUEST, b"what?"))
    async with open_over(peer, second) as conn:
        looked_for = await append(nursery, conn, "looked for")
        behind = await append(nursery, conn, "behind", 3)
        await lose(peer)
        assert isinstance(await looked_for.error(), OutcomeUnknown)
        await behind.value()
    assert names(second) == ["look", "behind"]


async def test_when_the_refusal_is_looked_for(nursery: trio.Nursery) -> None:
    """It is not sent again, and what is behind it goes on."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        refused = await append(nursery, conn, "refused", 3)
        await lose(peer)
        again = await second.receive(WRITE)
        second.send(WRITE_DONE, again.correlation, not_written(Written.WrongExpectedVersion))
        look = await second.receive(READ_BACKWARD)
        behind = await append(nursery, conn, "behind", 4)
        write_all(second)
        stored = page([4], 3, last=4)
        message: Any = again.message
        stored.events[0].event.event_id = message.events[0].event_id
        second.send(READ_BACKWARD + 1, look.correlation, stored)
        assert (await refused.value()).last == 4
        await behind.value()
    assert names(second) == ["refused", "look", "behind"]


async def test_so_many_looks_at_a_time(nursery: trio.Nursery) -> None:
    """Pages that come faster than they are read would get us cut off."""
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        calls = [await append(nursery, conn, "t", stream=f"s-{number}") for number in range(3 * MOST_AT_ONCE)]
        await lose(peer)
        for done in range(len(calls)):
            look = await second.receive(READ_BACKWARD)
            await settle()
            assert names(second).count("look") == min(done + MOST_AT_ONCE, len(calls))
            absent(second, look)
            await settle()
        await finish(*calls)


# --- who goes


async def test_cancelled(nursery: trio.Nursery) -> None:
    """It is never sent; what is behind it is."""
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        looked_for = await append(nursery, conn, "looked for")
        await lose(peer)
        look = await second.receive(READ_BACKWARD)
        calls = [await append(nursery, conn, f"behind {number}") for number in range(3)]
        before = conn.statistics().queued_bytes
        calls[1].scope.cancel()
        await settle()
        assert conn.statistics().queued_bytes == before * 2 // 3
        absent(second, look)
        await finish(looked_for, calls[0], calls[2])
    assert names(second) == ["look", "looked for", "behind 0", "behind 2"]


async def test_who_was_looked_for_is_cancelled(nursery: trio.Nursery) -> None:
    """There is nothing to find out any more."""
    peer, second = Peer(), Peer()
    write_all(second)
    async with open_over(peer, second) as conn:
        looked_for = await append(nursery, conn, "looked for")
        await lose(peer)
        await second.receive(READ_BACKWARD)
        behind = await append(nursery, conn, "behind")
        looked_for.scope.cancel()
        await behind.value()
    assert names(second) == ["look", "behind"]


@pytest.mark.parametrize("when", ["offline", "looking"])
async def test_all_are_cancelled(when: str, nursery: trio.Nursery) -> None:
    """In one moment: chance decides who of them is first."""
    for _ in range(10):
        peer, second = Peer(), Peer()
        settings = MUCH_LATER if when == "offline" else AT_ONCE
        async with open_connection(settings, connect=Network(peer, second).connect) as conn:
            calls = [await append(nursery, conn, "looked for")]
            await lose(peer)
            calls += [await append(nursery, conn, "behind") for _ in range(5)]
            for call in calls:
                call.scope.cancel()
            await settle()
            assert_nothing_left(conn)


@pytest.mark.parametrize("when", ["offline", "looking"])
async def test_all_are_out_of_time(when: str, nursery: trio.Nursery) -> None:
    """Of those behind, nothing was ever sent."""
    peer, second = Peer(), Peer()
    settings = MUCH_LATER if when == "offline" else AT_ONCE
    async with open_connection(settings, connect=Network(peer, second).connect) as conn:
        looked_for = await append(nursery, conn, "looked for")
        await lose(peer)
        behind = [await append(nursery, conn, "behind") for _ in range(5)]
        assert isinstance(await looked_for.error(), OutcomeUnknown)
        for call in behind:
            assert isinstance(await call.error(), OperationTimedOut)
        await settle()
        assert_nothing_left(conn)
    assert "behind" not in names(second)


@pytest.mark.parametrize("when", ["offline", "looking"])
async def test_the_block_is_left(when: str, nursery: trio.Nursery) -> None:
    for _ in range(10):
        peer, second = Peer(), Peer()
        settings = MUCH_LATER if when == "offline" else AT_ONCE
        async with open_connection(settings, connect=Network(peer, second).connect) as conn:
            looked_for = await append(nursery, conn, "looked for")
            await lose(peer)
            behind = [await append(nursery, conn, "behind") for _ in range(5)]
        assert isinstance(await looked_for.error(), OutcomeUnknown)
        for call in behind:
            assert isinstance(await call.error(), ConnectionClosed)
        assert_nothing_left(conn)
