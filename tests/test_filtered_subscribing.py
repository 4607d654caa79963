"""Following the log with a filter: pages, then live, and places to go on from where nothing matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import dropped
from tests.filtering import (
    CHECKPOINT,
    FILTERED,
    READ,
    SUBSCRIBE,
    SUBSCRIBE_FILTERED,
    UNSUBSCRIBE,
    LogServer,
    open_to_servers,
)
from tests.following import DROPPED, Consumer, assert_silent, followed, take, take_until
from tests.lost import AT_ONCE, lose, settle, warnings
from tests.peer import ANONYMOUS, open_to
from trio_extreme import (
    END,
    AccessDenied,
    AheadOfServer,
    BadRequest,
    CaughtUp,
    Checkpoint,
    CheckpointBeyondEnd,
    FellBehind,
    Filter,
    InvalidArgument,
    Position,
    ProtocolError,
    Reconnected,
)
from trio_extreme.catching_up import PATIENCE
from trio_extreme.operations.filtering import CHECKPOINT_INTERVAL
from trio_extreme.reading import MAX_DEATHS_LASTING
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from trio_extreme import CatchUpSubscription, Connection, LogEvent

pytestmark = pytest.mark.usefixtures("autojump_clock")

YES = Filter.by_stream("yes")
BACK = Reconnected(gap_possible=False)

each_server = pytest.mark.parametrize("filters", [True, False], ids=["filters", "does not"])


def between(commit: int, prepare: int | None = None) -> Checkpoint:
    """A place that is told: behind a record by pages, at one that was pushed by the server's checkpoints."""
    return Checkpoint(Position(commit, commit if prepare is None else prepare, inclusive=True))


def subscribe(conn: Connection, **options: Any) -> CatchUpSubscription[LogEvent]:
    return conn.subscribe_all(filter=YES, **options)


async def write(server: LogServer, *streams: str) -> None:
    """Have it pushed in one chunk, and let all settle."""
    server.write(*streams)
    await settle()


# --- pages, then live


@each_server
async def test_pages_then_live(filters: bool) -> None:
    server = LogServer(["no", "yes", "no", "yes", "no"], filters=filters)
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        assert consumer.seen == [10, 30, between(50, 0), CaughtUp()]
        await write(server, "yes", "no")
        await write(server, "no", "yes")
        assert consumer.seen[4:] == [50, 80]
        assert server.questions == 1
    assert [asked.start for asked in server.asked] == [0] if filters else [0, 50]
    assert server.commands()[-2:] == [SUBSCRIBE_FILTERED if filters else SUBSCRIBE, UNSUBSCRIBE]


@each_server
async def test_a_log_in_which_nothing_matches(filters: bool) -> None:
    server = LogServer(["no"] * 5, filters=filters)
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        assert consumer.seen == [between(50, 0), CaughtUp()]
        await write(server, "yes1")
        assert consumer.seen[2:] == [50]


@each_server
async def test_written_between_the_last_page_and_the_confirmation(filters: bool) -> None:
    server = LogServer(["yes", "no"], filters=filters)
    command = SUBSCRIBE_FILTERED if filters else SUBSCRIBE
    handler = server.handlers.pop(command)
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        request = await server.receive(command)
        server.write("no", "yes")
        handler(request)
        server.write("yes")
        await settle()
        await write(server, "yes")
        assert consumer.numbers == [0, 30, 40, 50]


@each_server
async def test_who_does_not_ask_for_notices_gets_events(filters: bool, caplog: pytest.LogCaptureFixture) -> None:
    server = LogServer(["no", "yes", "no"], filters=filters)
    async with open_to(server) as conn, subscribe(conn) as events:
        assert await take(events, 1) == [10]
        await assert_silent(events)
        await write(server, "no", "yes", "yes")
        assert [[event.position.commit for event in await anext(events.batches())]] == [[40, 50]]
    assert [text for text in warnings(caplog) if "20.6" not in text] == []


@each_server
async def test_what_was_said_goes_with_every_request(filters: bool) -> None:
    server = LogServer(["yes"], filters=filters)
    options = {"resolve_links": True, "require_master": True, "page_size": 5, "after": Position(0, 0, inclusive=True)}
    async with open_to(server) as conn, followed(subscribe(conn, **options)):
        await settle()
    requests = {request.command: request for request in server.log}
    page: Any = requests[FILTERED if filters else READ].message
    assert (page.resolve_link_tos, page.require_master, page.max_count) == (True, True, 5)
    feed: Any = requests[SUBSCRIBE_FILTERED if filters else SUBSCRIBE].message
    assert (feed.event_stream_id, feed.resolve_link_tos) == ("", True)
    if filters:
        assert page.filter == feed.filter == schema.Filter(context=0, type=1, data=["yes"])
        assert feed.checkpoint_interval == CHECKPOINT_INTERVAL


# --- places between events, while it reads


@each_server
async def test_while_nothing_matches_the_place_is_told_now_and_then(filters: bool) -> None:
    """Not with each page, but at least about every so many events."""
    server = LogServer(["no"] * 45_000, filters=filters)
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        places = [notice.position.commit // 10 for notice in consumer.notices if isinstance(notice, Checkpoint)]
        assert consumer.seen[-1] == CaughtUp()
        assert len(consumer.seen) == len(places) + 1 == 6
    assert places[-1] == 45_000
    distances = [after - before for before, after in zip([0, *places], places, strict=False)]
    assert all(CHECKPOINT_INTERVAL <= distance < CHECKPOINT_INTERVAL + 500 for distance in distances[:-1])


async def test_an_event_is_as_good_a_place() -> None:
    server = LogServer([*["no"] * 9000, "yes"] * 3 + ["no"] * 9000)
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        assert [type(item) for item in consumer.seen] == [int, int, int, Checkpoint, CaughtUp]


async def test_the_end_is_a_place_for_who_begins_there() -> None:
    server = LogServer(["yes", "no"])
    async with open_to(server) as conn, followed(subscribe(conn, start=END)) as consumer:
        await settle()
        assert consumer.seen == [between(20), CaughtUp()]
        await write(server, "yes")
        assert consumer.seen[2:] == [20]


@each_server
@pytest.mark.parametrize("place", [Position(10, 10), Position(10, 10, inclusive=True), Position(20, 0, inclusive=True)])
async def test_going_on_after_a_place(place: Position, filters: bool) -> None:
    """Its own event is left out, and the event of a place between events is not: KurrentDB#4970."""
    server = LogServer(["yes"] * 4, filters=filters)
    async with open_to(server) as conn, subscribe(conn, after=place) as events:
        expected = [number for number in (0, 10, 20, 30) if Position(number, number) > place]
        assert await take(events, len(expected)) == expected


@each_server
async def test_a_place_that_an_event_comes_to_be_at(filters: bool) -> None:
    """The end of the log, when it was told: going on after it loses nothing, and it was told before."""
    server = LogServer(["yes", "no"], filters=filters)
    async with open_to(server) as conn:
        async with subscribe(conn) as events:
            items = events.with_notices()
            assert await take(items, 1) == [0]
            place = await anext(items)
            assert place == between(20, 0)
        server.write("yes")
        async with subscribe(conn, after=Position.parse(str(place.position))) as events:
            assert await take(events, 1) == [20]


# --- places between events, live


async def test_the_server_says_how_far_it_has_looked() -> None:
    server = LogServer(["yes"])
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        (feed,) = server.feeds
        server.write("no", "no")
        server.send_bytes(server.checkpoint(feed, 20))
        await settle()
        assert consumer.seen == [0, between(10, 0), CaughtUp(), between(20)]
        # One at an event that came says nothing that the event does not.
        server.write("yes")
        server.send_bytes(server.checkpoint(feed, 30))
        await settle()
        assert consumer.seen[4:] == [30]


async def test_events_and_places_in_one_chunk() -> None:
    """Of several places the last, behind the events before it."""
    server = LogServer(["yes"])
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        server.set_interval(2)
        await write(server, "no", "no", "yes", "no", "no", "no", "yes")
        assert consumer.seen[3:] == [30, 70]
        await write(server, "yes", "no", "no", "no", "no", "no")
        assert consumer.seen[5:] == [80, between(120)]


async def test_what_is_sifted_here_tells_places_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_extreme.filtered.CHECKPOINT_INTERVAL", 5)
    server = LogServer(["yes"], filters=False)
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        for _ in range(6):
            await write(server, "no", "no")
        assert consumer.seen[3:] == [between(60), between(120)]
        await write(server, "no", "no")
        await write(server, "yes")
        await write(server, "no", "no", "no", "no")
        assert consumer.seen[5:] == [150]


async def test_a_lost_session_goes_on_behind_what_was_looked_through() -> None:
    servers = LogServer(["yes"]), LogServer(["yes", *["no"] * 50])
    async with open_to_servers(*servers) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        servers[0].write(*["no"] * 50)
        servers[0].send_bytes(servers[0].checkpoint(servers[0].feeds[0], 400))
        await settle()
        await lose(servers[0])
        assert consumer.seen[3:] == [between(400), BACK, between(510, 0), CaughtUp()]
    assert servers[1].asked[0].start == 400


async def test_a_place_that_is_none() -> None:
    server = LogServer(["yes"])
    async with open_to_servers(server, LogServer(["yes"])) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        server.send(CHECKPOINT, server.forget(), b"\xff")
        await settle()
        assert isinstance(consumer.error, ProtocolError)
    assert server.closed


async def test_a_place_that_is_none_and_came_in_an_earlier_session_ends_no_later_one() -> None:
    first, second = LogServer(["yes"]), LogServer(["yes"])
    async with open_to_servers(first, second) as conn, subscribe(conn) as events:
        items = events.with_notices()
        await take_until(items, CaughtUp())
        first.send(CHECKPOINT, first.forget(), b"\xff")
        await settle()
        await lose(first)
        with pytest.raises(ProtocolError):
            await anext(items)
        await settle()
        assert not second.closed
        assert conn.statistics().reconnects == 1


class Anything:
    """Whatever is asked for."""

    def __contains__(self, _: object) -> bool:
        return True


@each_server
async def test_one_event_of_which_sessions_die_by_chance(filters: bool) -> None:
    """Where a reader has long given up."""
    dying = [LogServer(["yes"], filters=filters, dies_of=Anything()) for _ in range(MAX_DEATHS_LASTING - 1)]
    async with (
        open_to_servers(*dying, LogServer(["yes"], filters=filters)) as conn,
        followed(subscribe(conn, page_size=1)) as consumer,
    ):
        await trio.sleep(60)
        assert consumer.numbers == [0]
        assert consumer.error is None


# --- what is counted, and is not shown, or not yet


@each_server
async def test_after_what_was_never_shown_pages_must_come_as_far_as_what_is_pushed(filters: bool) -> None:
    """Whether it matches, or does not: something that does may have been missing before it."""
    server = LogServer(["yes", "yes"], filters=filters)
    server.visible = 1
    async with open_to(server) as conn, followed(subscribe(conn)) as consumer:
        await trio.sleep(PATIENCE + 0.3)
        assert consumer.seen == [0, between(10, 0), CaughtUp()]
        server.visible = None
        server.write("no")
        if filters:
            server.send_bytes(server.checkpoint(server.feeds[0], 20))
        await settle()
        assert consumer.seen[3:] == [10]
        await write(server, "yes")
        assert consumer.seen[3:] == [10, 30]
    assert server.commands().count(SUBSCRIBE_FILTERED if filters else SUBSCRIBE) == 1


# --- slow consumers


@each_server
async def test_falls_behind_and_catches_up(filters: bool) -> None:
    server = LogServer(["yes"], filters=filters)
    async with open_to(server, ANONYMOUS.replace(buffer_events=10)) as conn, subscribe(conn) as events:
        items = events.with_notices()
        assert await take_until(items, CaughtUp()) == [0, between(10, 0), CaughtUp()]
        for _ in range(10):
            await write(server, "no", "yes", "yes")
        seen = await take_until(items, CaughtUp())
        assert FellBehind() in seen
        assert [item for item in seen if isinstance(item, int)] == [
            10 + 30 * chunk + place for chunk in range(10) for place in (10, 20)
        ]
        await write(server, "yes")
        assert await take(items, 1) == [310]


# --- other servers


@each_server
@pytest.mark.parametrize("moment", ["reading", "live"])
async def test_the_next_session_is_with_another_server(moment: str, filters: bool) -> None:
    """What the one was asked for the other need not know; it goes on where it was, without a gap or a repetition."""
    streams = ["no", "yes", "no"] * 30
    servers = [
        LogServer(streams, filters=filters),
        LogServer(streams, filters=not filters),
        LogServer(streams, filters=filters),
    ]
    async with open_to_servers(*servers) as conn, subscribe(conn, page_size=3) as events:
        items, seen = events.with_notices(), list[Any]()
        for server in servers:
            seen += await (take(items, 5) if moment == "reading" else take_until(items, CaughtUp()))
            if server is not servers[-1]:
                server.hang_up()
                for other in servers:
                    if not other.closed:
                        other.write("no", "yes")
                await settle()
        if moment == "reading":
            seen += await take_until(items, CaughtUp())
        servers[-1].write("yes")
        seen += await take(items, 1)
    assert [item for item in seen if isinstance(item, int)] == [
        event.commit_position for event in servers[-1].events if event.event.event_stream_id == "yes"
    ]
    assert seen.count(BACK) == 2
    used = [{asked.command for asked in server.asked} for server in servers]
    assert used == ([{FILTERED}, {READ}, {FILTERED}] if filters else [{READ}, {FILTERED}, {READ}])


async def test_a_subscription_that_was_held_comes_to_an_older_server() -> None:
    servers = LogServer(["yes"]), LogServer(["yes"], filters=False)
    del servers[0].handlers[SUBSCRIBE_FILTERED]
    async with open_to_servers(*servers) as conn, followed(subscribe(conn)) as consumer:
        await servers[0].receive(SUBSCRIBE_FILTERED)
        await lose(servers[0])
        assert consumer.seen == [0, BACK, between(10, 0), CaughtUp()]
        await write(servers[1], "no", "yes")
        assert consumer.seen[4:] == [20]
    assert servers[1].commands()[0] == SUBSCRIBE_FILTERED
    assert servers[1].questions == 0


@each_server
async def test_a_server_that_stops(filters: bool) -> None:
    """It ends the subscription first."""
    server = LogServer(["yes"], filters=filters)
    async with open_to(server, AT_ONCE) as conn, followed(subscribe(conn)) as consumer:
        await settle()
        server.send(DROPPED, server.forget(), dropped(0))
        await settle()
        await trio.sleep(1)
        assert consumer.seen == [0, between(10, 0), CaughtUp(), BACK, CaughtUp()]


# --- what goes wrong


@each_server
async def test_a_place_beyond_the_end(filters: bool) -> None:
    server = LogServer(["no"] * 5, filters=filters)
    place = Position(500, 0, inclusive=True)
    async with open_to(server) as conn:
        async with followed(subscribe(conn, after=place)) as consumer:
            await settle()
            assert consumer.seen == [AheadOfServer(place, Position(50, 50)), Checkpoint(place), CaughtUp()]
            # Nothing comes until the server has passed that place.
            await write(server, *["yes"] * 46)
            assert consumer.seen[3:] == [500]
        async with subscribe(conn, after=Position(900, 900), on_ahead="raise") as events:
            with pytest.raises(CheckpointBeyondEnd):
                await anext(events)


@each_server
async def test_at_the_end_where_nothing_matches_nobody_is_alarmed(
    filters: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = LogServer(["no"] * 5, filters=filters)
    async with open_to(server) as conn, followed(subscribe(conn, after=Position(50, 0, inclusive=True))) as consumer:
        await settle()
        assert consumer.seen == [between(50, 0), CaughtUp()]
    assert [text for text in warnings(caplog) if "20.6" not in text] == []


@each_server
async def test_who_may_not_read_the_log(filters: bool) -> None:
    server = LogServer(["yes"], filters=filters)
    server.denies = True
    async with open_to(server) as conn, subscribe(conn) as events:
        for _ in range(2):
            with pytest.raises(AccessDenied):
                await anext(events)


async def test_an_expression_that_cannot_be_read() -> None:
    for filters, regex, error in ((True, "a(", BadRequest), (False, r"\p{Lu}", InvalidArgument)):
        server = LogServer(["yes"], filters=filters)
        async with open_to(server) as conn, conn.subscribe_all(filter=Filter.by_type(regex=regex)) as events:
            for _ in range(2):
                with pytest.raises(error):
                    await anext(events)


async def test_bad_input(conn: Connection) -> None:
    with pytest.raises(InvalidArgument, match=r"^filter: 'yes' is no Filter"):
        conn.subscribe_all(filter="yes")  # type: ignore[arg-type]


@each_server
@pytest.mark.parametrize("moment", [FILTERED, SUBSCRIBE_FILTERED, READ])
async def test_the_block_is_left_while_it_waits(moment: int, filters: bool, nursery: trio.Nursery) -> None:
    server = LogServer(["yes", "no"], filters=filters)
    server.handlers.pop(moment)
    async with open_to(server) as conn:
        async with subscribe(conn) as events:
            consumer = Consumer(nursery, events.with_notices())
            await settle()
        await settle()
        assert consumer.error is not None
