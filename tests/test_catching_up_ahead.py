"""Catch-up subscriptions whose place is beyond the server's end: the store was reset, or a replica lags behind."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import NotHandled, log_page, not_handled, page
from tests.following import (
    NO_STREAM,
    READ,
    READ_BACK,
    READ_BACK_COMPLETED,
    READ_LOG,
    READ_LOG_COMPLETED,
    SUBSCRIBE,
    append,
    assert_silent,
    confirm_now,
    followed,
    give,
    miss,
    open_to_each,
    play,
    push,
    set_metadata,
    take,
)
from tests.peer import Peer, answering
from trio_extreme import (
    ANY,
    AheadOfServer,
    CaughtUp,
    CheckpointBeyondEnd,
    Connection,
    Credentials,
    Position,
    Reconnected,
    StreamDeleted,
    StreamMissing,
    open_connection,
)
from trio_extreme.embedded import Node, open_node
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("autojump_clock")

BACK = Reconnected(gap_possible=False)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if "was the store reset" in entry.getMessage()]


async def tell_end(peer: Peer, last: int) -> Any:
    """Answer the next question for a stream's last event; what was asked."""
    request = await peer.receive(READ_BACK)
    answer = page([last] if last >= 0 else [], -1, end=True, last=last)
    if last < 0:
        answer.result = NO_STREAM
    peer.send(READ_BACK_COMPLETED, request.correlation, answer)
    await wait_all_tasks_blocked()
    return request


# --- of a stream


async def test_it_is_told_and_waits(caplog: pytest.LogCaptureFixture) -> None:
    peer, ops = Peer(), Credentials("ops", "secret")
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", after=9, credentials=ops)) as consumer:
        await give(peer, following=2, end=True, last=1)
        asked = await tell_end(peer, 1)
        assert asked.credentials == ops
        assert asked.message == schema.ReadStreamEvents(
            event_stream_id="s", from_event_number=-1, max_count=1, resolve_link_tos=False, require_master=True
        )
        request = await confirm_now(peer, 1)
        assert consumer.seen == [AheadOfServer(9, 1), CaughtUp()]
        # What the server writes until it has passed our place is not what we have handled, nor what we want.
        await push(peer, request, 2, 3, 4, 5, 6, 7, 8, 9)
        await push(peer, request, 10, 11)
        assert consumer.seen == [AheadOfServer(9, 1), CaughtUp(), 10, 11]
    [said] = warnings(caplog)
    assert "stream 's'" in said
    assert "9" in said
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING]


async def test_it_raises_where_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", after=9, on_ahead="raise")) as consumer:
        await give(peer, following=2, end=True, last=1)
        await tell_end(peer, 1)
        assert consumer.seen == []
        assert isinstance(consumer.error, CheckpointBeyondEnd)
        assert (consumer.error.ours, consumer.error.servers_last) == (9, 1)
        assert peer.commands() == [READ, READ_BACK]
    assert warnings(caplog) == []


@pytest.mark.parametrize("on_ahead", ["wait", "raise"])
async def test_a_replica_that_lags_is_no_reset(on_ahead: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Only the master's word counts. It is asked once a session, however often the replica's end is seen."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", after=9, on_ahead=on_ahead)) as consumer:
        await give(peer, following=2, end=True, last=1)
        await tell_end(peer, 9)
        request = await confirm_now(peer, 1)
        await push(peer, request, 2, 3)
        await push(peer, request, 12)
        await give(peer, following=4, end=True, last=3)
        await give(peer, 10, 11, 12, end=True)
        assert consumer.seen == [CaughtUp(), 10, 11, 12]
        assert peer.commands().count(READ_BACK) == 1
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (Command.NOT_HANDLED, not_handled(NotHandled.NotMaster)),
        (Command.NOT_HANDLED, not_handled(NotHandled.IsReadOnly)),
        (READ_BACK_COMPLETED, schema.ReadStreamEventsCompleted(result=5)),
    ],
)
async def test_the_master_does_not_tell(command: int, answer: Any) -> None:
    """Then nothing is confirmed."""
    peer = Peer()
    peer.handlers[READ_BACK] = answering(command, answer)(peer)
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", after=9, on_ahead="raise")) as consumer:
        await give(peer, following=2, end=True, last=1)
        await confirm_now(peer, 1)
        assert consumer.seen == [CaughtUp()]


@pytest.mark.parametrize(("last", "after"), [(9, 9), (9, 8), (0, 0)])
async def test_a_place_that_is_not_beyond_needs_no_asking(last: int, after: int) -> None:
    peer = Peer()
    play(peer, last)
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", after=after)) as consumer:
        await wait_all_tasks_blocked()
        assert consumer.notices == [CaughtUp()]
    assert READ_BACK not in peer.commands()


async def test_the_stream_is_gone() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", after=9)) as consumer:
        await miss(peer)
        await tell_end(peer, -1)
        await confirm_now(peer, -1)
        assert consumer.seen == [AheadOfServer(9, None), StreamMissing("s"), CaughtUp()]


async def test_soft_deleted_it_is_not_gone() -> None:
    """Its numbers go on."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", after=9, on_ahead="raise")) as consumer:
        await miss(peer, 9)
        await confirm_now(peer, 9)
        assert consumer.seen == [StreamMissing("s"), CaughtUp()]
    assert READ_BACK not in peer.commands()


async def test_hard_deleted_while_the_master_is_asked() -> None:
    peer = Peer()
    deleted = schema.ReadStreamEventsCompleted.ReadStreamResult.StreamDeleted
    peer.handlers[READ_BACK] = answering(READ_BACK_COMPLETED, schema.ReadStreamEventsCompleted(result=deleted))(peer)
    async with open_to_each(peer) as conn, followed(conn.subscribe("s", after=9)) as consumer:
        await give(peer, following=2, end=True, last=1)
        await confirm_now(peer, 2**63 - 1)
        assert isinstance(consumer.error, StreamDeleted)


async def test_once_in_each_session(caplog: pytest.LogCaptureFixture) -> None:
    peers = [Peer() for _ in range(3)]
    async with open_to_each(*peers) as conn, followed(conn.subscribe("s", after=9)) as consumer:
        for peer in peers:
            await give(peer, following=2, end=True, last=1)
            await tell_end(peer, 1)
            await confirm_now(peer, 1)
            peer.hang_up()
        ahead = AheadOfServer(9, 1)
        assert consumer.seen == [ahead, CaughtUp(), BACK, ahead, CaughtUp(), BACK, ahead, CaughtUp()]
    assert len(warnings(caplog)) == 3


async def test_cancelled_while_the_master_is_asked() -> None:
    """The page that was read before is read again, and so is the master's end."""
    peer = Peer()
    async with open_to_each(peer) as conn, conn.subscribe("s", after=9) as events, trio.open_nursery() as nursery:
        nursery.start_soon(give_nothing, peer)
        with trio.move_on_after(1) as scope:
            await anext(events)
        assert scope.cancelled_caught
        assert [request.command for request in peer.unanswered()] == [READ_BACK]
        nursery.start_soon(give_nothing, peer)
        peer.handlers[READ_BACK] = lambda request: peer.send(
            READ_BACK_COMPLETED, request.correlation, page([1], -1, end=True, last=1)
        )
        assert await take(events.with_notices(), 1) == [AheadOfServer(9, 1)]


async def give_nothing(peer: Peer) -> None:
    await give(peer, following=2, end=True, last=1)


async def test_lost_again_and_again_while_the_master_is_asked() -> None:
    """That is no reason to end: it is asked in a later session."""
    peers = [Peer() for _ in range(6)]
    for peer in peers:
        play(peer, 1, then=(10,))
        peer.handlers[READ_BACK] = lambda request, peer=peer: peer.hang_up()  # type: ignore[misc]
    async with open_to_each(*peers) as conn, followed(conn.subscribe("s", after=9)) as consumer:
        peers[5].handlers[READ_BACK] = lambda request: peers[5].send(
            READ_BACK_COMPLETED, request.correlation, page([1], -1, end=True, last=1)
        )
        await trio.sleep(10)
        assert consumer.seen[-3:] == [AheadOfServer(9, 1), CaughtUp(), 10]


async def test_the_store_was_reset_while_it_was_subscribed_to() -> None:
    """The confirmation is the first that a later session says; so it is asked for its end before it is live."""
    first, second = Peer(), Peer()
    async with open_to_each(first, second) as conn, followed(conn.subscribe("s", after=9)) as consumer:
        await give(first, end=True)
        await first.receive(SUBSCRIBE)
        first.hang_up()
        await confirm_now(second, 1)
        await give(second, following=2, end=True, last=1)
        await tell_end(second, 1)
        assert consumer.seen == [BACK, AheadOfServer(9, 1), CaughtUp()]


async def test_a_page_from_before_tells_nothing_of_the_server_after() -> None:
    """It was fetched ahead, in the session before the store was reset."""
    first, second = Peer(), Peer()
    async with open_to_each(first, second) as conn, followed(conn.subscribe("s"), pace=1) as consumer:
        await give(first, 0, 1, 2)
        await give(first, end=True)
        first.hang_up()
        await trio.sleep(5)
        await confirm_now(second, 0)
        await give(second, following=1, end=True, last=0)
        await tell_end(second, 0)
        await trio.sleep(5)
        assert consumer.seen == [0, 1, 2, BACK, AheadOfServer(2, 0), CaughtUp()]


async def test_a_stream_that_was_written_anew(conn: Connection) -> None:
    """From a place past the end, `start` too: nothing comes before it."""
    await append(conn, 3)
    async with conn.subscribe("s", start=6) as events:
        items = events.with_notices()
        assert await take(items, 2) == [AheadOfServer(5, 2), CaughtUp()]
        await append(conn, 3, 3)
        await assert_silent(items)
        await append(conn, 2, 6)
        assert await take(items, 2) == [6, 7]


# --- of the log


async def test_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    peer, place = Peer(), Position(900, 900)
    async with open_to_each(peer) as conn, followed(conn.subscribe_all(after=place)) as consumer:
        await answer_log(peer, at=900)
        asked = await answer_log(peer, at=300)
        assert (asked.commit_position, asked.prepare_position, asked.require_master) == (-1, -1, True)
        assert (asked.max_count, asked.resolve_link_tos) == (1, False)
        request = await peer.receive(SUBSCRIBE)
        peer.send(
            Command.SUBSCRIPTION_CONFIRMATION,
            request.correlation,
            schema.SubscriptionConfirmation(last_commit_position=250),
        )
        await wait_all_tasks_blocked()
        assert consumer.seen == [AheadOfServer(place, Position(300, 300)), CaughtUp()]
        await push(peer, request, 300, 900, 910)
        assert consumer.seen[2:] == [910]
    assert len(warnings(caplog)) == 1


async def answer_log(peer: Peer, *, at: int) -> Any:
    """Answer the next read of the log with nothing: the place that was asked for is understood as this."""
    request = await peer.receive(READ_LOG)
    peer.send(READ_LOG_COMPLETED, request.correlation, log_page([], at, at))
    await wait_all_tasks_blocked()
    return request.message


async def test_of_the_log_it_raises_where_that_is_wanted(conn: Connection) -> None:
    head = await conn.head()
    beyond = Position(head.commit + 1000, head.commit + 1000)
    async with conn.subscribe_all(after=beyond, on_ahead="raise") as events:
        for _ in range(2):
            with pytest.raises(CheckpointBeyondEnd) as info:
                await anext(events)
        assert (info.value.ours, info.value.servers_last) == (beyond, Position(head.commit, head.prepare))


async def test_of_the_log_a_replica_that_lags_is_no_reset() -> None:
    peer = Peer()
    async with (
        open_to_each(peer) as conn,
        followed(conn.subscribe_all(after=Position(900, 900), on_ahead="raise")) as consumer,
    ):
        await answer_log(peer, at=900)
        await answer_log(peer, at=905)
        await peer.receive(SUBSCRIBE)
        assert consumer.error is None


async def test_of_the_log_its_end_is_not_beyond_it(conn: Connection) -> None:
    await append(conn, 3)
    async with conn.subscribe_all(after=await conn.head(), on_ahead="raise") as events:
        assert await take(events.with_notices(), 1) == [CaughtUp()]


# --- another store behind the same address


@asynccontextmanager
async def moved_between(*nodes: Node) -> AsyncIterator[tuple[Connection, list[Node]]]:
    """A connection that each time leads to the first of the nodes that are left."""
    left = list(nodes)

    async def connect(host: str, port: int) -> trio.abc.Stream:
        return await left[0].connect(host, port)

    async with open_connection(nodes[0].settings, connect=connect) as conn:
        yield conn, left


async def test_the_store_was_reset() -> None:
    async with open_node(port=None) as old, open_node(port=None) as new, moved_between(old, new) as (conn, left):
        await append(conn, 3)
        async with followed(conn.subscribe("s")) as consumer, followed(conn.subscribe_all()) as of_log:
            await wait_all_tasks_blocked()
            last = Position(of_log.numbers[-1], of_log.numbers[-1])
            del left[0]
            old.faults.kill_connections()
            await trio.sleep(1)
            head = await conn.head()
            assert consumer.seen[3:] == [
                CaughtUp(),
                BACK,
                AheadOfServer(2, None),
                StreamMissing("s"),
                CaughtUp(),
            ]
            assert of_log.notices == [
                CaughtUp(),
                BACK,
                AheadOfServer(last, Position(head.commit, head.prepare)),
                CaughtUp(),
            ]
            await append(conn, 5)
            await trio.sleep(1)
            assert consumer.numbers == [0, 1, 2, 3, 4]
            stored = [event.position.commit async for event in conn.read_all()]
            assert of_log.numbers[3:] == [place for place in stored if place > last.commit]


async def test_the_store_was_reset_and_the_stream_is_longer_already() -> None:
    """Nobody can tell that from a stream that went on."""
    async with open_node(port=None) as old, open_node(port=None) as new, moved_between(old, new) as (conn, left):
        await append(conn, 3)
        async with followed(conn.subscribe("s", on_ahead="raise")) as consumer:
            await wait_all_tasks_blocked()
            async with open_connection(new.settings, connect=new.connect) as other:
                await append(other, 5)
            del left[0]
            old.faults.kill_connections()
            await trio.sleep(1)
            assert consumer.seen == [0, 1, 2, CaughtUp(), BACK, 3, 4, CaughtUp()]


async def test_soft_deleted_and_truncated_streams_are_not_ahead(conn: Connection, node: Node) -> None:
    await append(conn, 3)
    async with followed(conn.subscribe("s", on_ahead="raise")) as consumer:
        await wait_all_tasks_blocked()
        await conn.delete_stream("s", expected=ANY)
        node.faults.kill_connections()
        await trio.sleep(1)
        assert consumer.error is None
        assert consumer.notices == [CaughtUp(), BACK, StreamMissing("s"), CaughtUp()]


async def test_truncated_beyond_the_end(conn: Connection, node: Node) -> None:
    """Pages go on where the stream is truncated. That is no place that we ever had."""
    await append(conn, 3)
    await set_metadata(conn, tb=100)
    async with followed(conn.subscribe("s", on_ahead="raise")) as consumer:
        await trio.sleep(1)
        node.faults.kill_connections()
        await trio.sleep(1)
        assert consumer.error is None
        assert consumer.notices == [CaughtUp(), Reconnected(gap_possible=False), CaughtUp()]
