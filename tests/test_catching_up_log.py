"""Catch-up subscriptions to the log of all streams, which go by positions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import appeared, log_page, record
from tests.following import (
    APPEARED,
    CONFIRMATION,
    READ_LOG,
    READ_LOG_COMPLETED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    append,
    assert_silent,
    followed,
    give_log,
    open_to_each,
    take,
    take_until,
)
from tests.peer import ANONYMOUS, Peer, open_to
from trio_extreme import (
    ANY,
    END,
    START,
    AccessDenied,
    CaughtUp,
    Connection,
    Credentials,
    InvalidArgument,
    LogEvent,
    NewEvent,
    Position,
    Reconnected,
    open_connection,
)
from trio_extreme.catching_up import PATIENCE, PUSH_PATIENCE
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from tests.peer import Request
    from trio_extreme.embedded import Node

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def places(conn: Connection) -> list[int]:
    """Where all events are."""
    return [event.position.commit async for event in conn.read_all()]


async def confirm_log(peer: Peer, last: int) -> Request:
    """Confirm the next subscription: the log's last record is at this place."""
    request = await peer.receive(SUBSCRIBE)
    confirmation = schema.SubscriptionConfirmation(last_commit_position=last)
    peer.send(CONFIRMATION, request.correlation, confirmation)
    await wait_all_tasks_blocked()
    return request


async def push_log(peer: Peer, request: Request, *at: int) -> None:
    """In the log, where an event is counts, and not its number."""
    for place in at:
        peer.send(APPEARED, request.correlation, appeared(place))
    await wait_all_tasks_blocked()


def asked_from(peer: Peer) -> list[int]:
    messages: list[Any] = [request.message for request in peer.log if request.command == READ_LOG]
    return [message.commit_position for message in messages if message.commit_position >= 0]


# --- pages, then live


async def test_pages_then_live() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe_all(page_size=2)) as consumer:
        await give_log(peer, 10, 20)
        # The log has no other sign of its end than a page with nothing on it.
        await give_log(peer)
        request = await confirm_log(peer, 20)
        await push_log(peer, request, 30, 40)
        assert consumer.seen == [10, 20, CaughtUp(), 30, 40]
    assert peer.commands() == [READ_LOG, READ_LOG, SUBSCRIBE, UNSUBSCRIBE]
    assert asked_from(peer) == [0, 25]


async def test_written_between_the_last_page_and_the_confirmation() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe_all()) as consumer:
        await give_log(peer, 10)
        await give_log(peer)
        request = await confirm_log(peer, 30)
        await push_log(peer, request, 40, 50)
        await give_log(peer, 20, 30, 40)
        await push_log(peer, request, 60)
        assert consumer.seen == [10, 20, 30, 40, CaughtUp(), 50, 60]


async def test_all_that_is_stored_then_all_that_is_written(conn: Connection) -> None:
    for number in range(5):
        await append(conn, 3, stream=f"s-{number}")
    async with conn.subscribe_all(page_size=4) as events:
        items = events.with_notices()
        stored = await places(conn)
        assert await take(items, len(stored) + 1) == [*stored, CaughtUp()]
        for number in range(5):
            await append(conn, 3, stream=f"s-{number}")
        assert await take(items, 15) == (await places(conn))[-15:]
        await assert_silent(items)


async def test_while_somebody_writes(conn: Connection, nursery: trio.Nursery) -> None:
    async def write() -> None:
        for number in range(200):
            await append(conn, 1, stream=f"s-{number % 7}")

    nursery.start_soon(write)
    async with conn.subscribe_all(page_size=2) as events:
        seen = await take(events, 200)
        await assert_silent(events)
    assert seen == await places(conn)


async def test_transactions_lie_within_a_position() -> None:
    """Their events share a commit position; the prepare position says which."""
    peer = Peer()
    inside = [schema.ResolvedEvent(event=record(0), commit_position=50, prepare_position=at) for at in (10, 20, 30)]
    async with open_to_each(peer) as conn, followed(conn.subscribe_all(after=Position(50, 10))) as consumer:
        request = await peer.receive(READ_LOG)
        answer = log_page([], 50, 50)
        answer.events.extend(inside[:2])
        answer.next_prepare_position = 21
        peer.send(READ_LOG_COMPLETED, request.correlation, answer)
        await give_log(peer)
        request = await confirm_log(peer, 49)
        peer.send(APPEARED, request.correlation, schema.StreamEventAppeared(event=inside[1]))
        peer.send(APPEARED, request.correlation, schema.StreamEventAppeared(event=inside[2]))
        await wait_all_tasks_blocked()
        assert consumer.seen == [50, CaughtUp(), 50]


async def test_links_stay_links_unless_asked(conn: Connection) -> None:
    """With projections each event would come again through its links."""
    await append(conn, 1)
    await conn.append("links", NewEvent("$>", b"0@s"))
    async with conn.subscribe_all() as events:
        assert [(await anext(events)).type for _ in range(2)] == ["happened", "$>"]
    async with conn.subscribe_all(resolve_links=True) as events:
        seen = [await anext(events) for _ in range(2)]
        assert [event.type for event in seen] == ["happened", "happened"]
        assert seen[0].position < seen[1].position


# --- where it begins


@pytest.mark.parametrize("which", [0, 3, 6])
async def test_start_is_inclusive_and_after_is_not(conn: Connection, which: int) -> None:
    await append(conn, 7)
    at = [event.position async for event in conn.read_all()]
    for place, first in (({"start": at[which]}, which), ({"after": at[which]}, which + 1)):
        async with conn.subscribe_all(**place) as events:  # type: ignore[arg-type]
            seen = await take_until(events.with_notices(), CaughtUp())
        assert seen == [*[position.commit for position in at[first:]], CaughtUp()]


@pytest.mark.parametrize("place", [{}, {"after": None}, {"start": START}, {"start": Position(0, 0)}])
async def test_from_the_beginning(conn: Connection, place: dict[str, Any]) -> None:
    await append(conn, 3)
    async with conn.subscribe_all(**place) as events:
        assert await take(events, 3) == await places(conn)


async def test_the_first_event_may_be_at_the_very_beginning() -> None:
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe_all()) as consumer:
        await give_log(peer, 0, 10)
        assert consumer.seen == [0, 10]


async def test_from_the_end_on(conn: Connection) -> None:
    await append(conn, 3)
    async with conn.subscribe_all(start=END) as events:
        await append(conn, 2)
        items = events.with_notices()
        assert await take(items, 3) == [*(await places(conn))[3:], CaughtUp()]


async def test_a_place_that_is_no_events_own(conn: Connection) -> None:
    """The next event may be right there: `head()` is such a place, and `after` does not leave it out."""
    await append(conn, 3)
    head = await conn.head()
    assert head.inclusive
    await append(conn, 2)
    for place in ({"after": head}, {"start": head}, {"after": Position.parse(str(head))}):
        async with conn.subscribe_all(**place) as events:  # type: ignore[arg-type]
            assert await take(events, 2) == (await places(conn))[3:]
            assert (await places(conn))[3] == head.commit


async def test_a_checkpoint_of_a_live_event(conn: Connection) -> None:
    async with conn.subscribe_all() as events:
        assert await anext(events.with_notices()) == CaughtUp()
        await append(conn, 3)
        seen = [await anext(events) for _ in range(3)]
    assert all(isinstance(event, LogEvent) for event in seen)
    async with conn.subscribe_all(after=seen[0].checkpoint) as events:
        assert await take(events, 2) == [event.position.commit for event in seen[1:]]


async def test_places_that_cannot_be_meant() -> None:
    async with open_to(Peer()) as conn:
        with pytest.raises(InvalidArgument, match=r"^after: "):
            conn.subscribe_all(start=Position(1, 1), after=Position(2, 2))
        with pytest.raises(InvalidArgument, match=r"^after: "):
            conn.subscribe_all(after=7)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match=r"^start: "):
            conn.subscribe_all(start=7)  # type: ignore[arg-type]


async def test_what_was_said_goes_with_every_request() -> None:
    peer, ops = Peer(), Credentials("ops", "secret")
    async with open_to_each(peer) as conn:
        place = Position(7, 3, inclusive=True)
        events = conn.subscribe_all(after=place, resolve_links=True, require_master=True, page_size=5, credentials=ops)
        async with followed(events):
            asked = await give_log(peer, 10)
            await give_log(peer)
            await confirm_log(peer, 10)
    assert asked == schema.ReadAllEvents(
        commit_position=7, prepare_position=3, max_count=5, resolve_link_tos=True, require_master=True
    )
    requests = {request.command: request for request in peer.log}
    assert requests[SUBSCRIBE].message == schema.SubscribeToStream(event_stream_id="", resolve_link_tos=True)
    assert requests[READ_LOG].credentials == requests[SUBSCRIBE].credentials == ops


async def test_who_may_not_read_it(node: Node) -> None:
    async with open_connection(ANONYMOUS, connect=node.connect) as conn:
        async with conn.subscribe_all() as events:
            for _ in range(2):
                with pytest.raises(AccessDenied):
                    await anext(events)
        with pytest.raises(AccessDenied):
            async with conn.subscribe_all(start=END):
                pytest.fail("it was let in")
        assert conn.statistics().subscriptions == ()


# --- tombstones


async def test_a_tombstone_of_any_stream_does_not_end_it(conn: Connection) -> None:
    """Stored, and live."""
    await append(conn, 1)
    await conn.delete_stream("s", expected=ANY, hard=True)
    async with conn.subscribe_all(page_size=1) as events:
        items = events.with_notices()
        stored = await take_until(items, CaughtUp())
        await append(conn, 1, stream="other")
        await conn.delete_stream("other", expected=ANY, hard=True)
        await append(conn, 1, stream="third")
        live = [await anext(items) for _ in range(3)]
        assert [*stored[:-1], *[event.position.commit for event in live]] == await places(conn)
        assert [event.type for event in live] == ["happened", "$streamDeleted", "happened"]
        await assert_silent(items)


# --- what is counted, and is not shown, or not yet


async def test_the_end_cannot_be_read_yet() -> None:
    """What servers count they show a little later (docs/protocol.md, pitfall 32): ask again, with pauses."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe_all()) as consumer:
        await give_log(peer, 10)
        await give_log(peer)
        request = await confirm_log(peer, 30)
        await push_log(peer, request, 40)
        for _ in range(5):
            await give_log(peer)
        assert 0 < trio.current_time() < 0.1
        await give_log(peer, 20, 30)
        assert consumer.seen == [10, 20, 30, CaughtUp(), 40]


def show_nothing(peer: Peer, request: Request) -> None:
    asked: Any = request.message
    peer.send(READ_LOG_COMPLETED, request.correlation, log_page([], asked.commit_position, asked.commit_position))


async def test_the_last_record_is_never_shown() -> None:
    """After a while it is live all the same; and then what is pushed is no proof that there was nothing before it."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe_all()) as consumer:
        await give_log(peer, 10)
        await give_log(peer)
        peer.handlers[READ_LOG] = partial(show_nothing, peer)
        request = await confirm_log(peer, 30)
        await trio.sleep(PATIENCE + 0.3)
        assert consumer.seen == [10, CaughtUp()]
        assert len(asked_from(peer)) < 25
        del peer.handlers[READ_LOG]
        await push_log(peer, request, 40)
        assert consumer.seen == [10, CaughtUp()]
        # It was shown after all, too late.
        await give_log(peer, 30, 40)
        await push_log(peer, request, 50)
        assert consumer.seen == [10, CaughtUp(), 30, 40, 50]
    assert peer.commands().count(SUBSCRIBE) == 1


async def test_what_was_pushed_can_never_be_read() -> None:
    """It was withheld, for something might have been missing before it; after a while it is handed out."""
    peer = Peer()
    async with open_to_each(peer) as conn, followed(conn.subscribe_all()) as consumer:
        await give_log(peer, 10)
        await give_log(peer)
        peer.handlers[READ_LOG] = partial(show_nothing, peer)
        request = await confirm_log(peer, 30)
        await trio.sleep(PATIENCE + 0.3)
        await push_log(peer, request, 40, 50)
        await trio.sleep(PUSH_PATIENCE - 1)
        await push_log(peer, request, 60)
        assert consumer.seen == [10, CaughtUp()]
        await trio.sleep(2)
        assert consumer.seen == [10, CaughtUp(), 40, 50, 60]
        await push_log(peer, request, 70)
        assert consumer.seen == [10, CaughtUp(), 40, 50, 60, 70]


async def test_a_log_that_ends_with_what_is_no_event(conn: Connection) -> None:
    """An empty append leaves such a record."""
    await append(conn, 3)
    await conn.append("s", [])
    began = trio.current_time()
    async with conn.subscribe_all() as events:
        items = events.with_notices()
        assert await take(items, 4) == [*await places(conn), CaughtUp()]
        assert PATIENCE <= trio.current_time() - began < PATIENCE + 0.5
        for _ in range(5):
            await append(conn, 2)
            await conn.append("s", [])
        assert await take(items, 10) == (await places(conn))[3:]
        await assert_silent(items)


async def test_it_ends_with_what_is_no_event_and_the_connection_is_lost(conn: Connection, node: Node) -> None:
    await append(conn, 3)
    await conn.append("s", [])
    async with conn.subscribe_all() as events:
        items = events.with_notices()
        assert await take(items, 4) == [*await places(conn), CaughtUp()]
        node.faults.kill_connections()
        assert await take(items, 1) == [Reconnected(gap_possible=False)]
        began = trio.current_time()
        assert await take(items, 1) == [CaughtUp()]
        assert trio.current_time() - began >= PATIENCE
        await append(conn, 2)
        assert await take(items, 2) == (await places(conn))[3:]
        await assert_silent(items)
