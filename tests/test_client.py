"""Every verb: what it sends for what it was given, and what it returns. What it refuses is refused before."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import Written, event_read, log_page, page, written
from tests.helpers import new_events
from tests.peer import ADMIN, ANONYMOUS, Call, Network, Peer, Request, open_to
from tests.serving import OPS, Server
from trio_extreme import (
    ANY,
    END,
    NO_STREAM,
    START,
    STREAM_EXISTS,
    Closed,
    Connected,
    ConnectFailed,
    DeleteResult,
    InvalidArgument,
    NewEvent,
    OutcomeUnknown,
    Position,
    ScavengeResult,
    ScavengeStatus,
    StreamDeleted,
    StreamNotFound,
    Unsupported,
    WriteResult,
    messages,
    open_connection,
)
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, command_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio_extreme import Connection, Settings

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def collect(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


async def test_it_shows_where_it_goes_and_no_password() -> None:
    async with open_to(Peer(), ADMIN.replace(host="db.example", port=1234)) as conn:
        assert repr(conn) == "<Connection to db.example:1234>"


async def test_over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the seam of the tests it goes over TCP."""
    asked: list[tuple[str, int]] = []
    peer = Peer()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        asked.append((host, port))
        return await peer.connect(host, port)

    monkeypatch.setattr("trio_extreme.client.connect_tcp", connect)
    async with open_connection(ANONYMOUS.replace(host="db.example", port=1234)) as conn:
        await conn.ping()
    assert asked == [("db.example", 1234)]


async def test_it_cannot_be_opened() -> None:
    refused = Network(ConnectionRefusedError(111, "Connection refused"))
    with pytest.raises(ConnectFailed) as info:
        async with open_connection(ANONYMOUS.replace(first_attempts=2), connect=refused.connect):
            pytest.fail("it was opened")
    assert info.value.__cause__ is info.value.attempts[-1]


@pytest.mark.parametrize(("error", "share"), [(None, 1), (KeyError(), 1 / 3)])
async def test_left_by_an_error_it_is_in_a_hurry(error: Exception | None, share: float) -> None:
    """The peer is dead, so the block is left when its time is over."""
    peer = Peer()
    with nullcontext() if error is None else pytest.raises(KeyError):
        async with open_connection(ANONYMOUS.replace(close_timeout=3), connect=peer.connect):
            peer.hold()
            if error is not None:
                raise error
    assert trio.current_time() == pytest.approx(3 * share)


# --- anything


async def test_ping_takes_its_time(nursery: trio.Nursery) -> None:
    peer = Peer()

    async def late(request: Request) -> None:
        await trio.sleep(0.3)
        peer.send(Command.PONG, request.correlation)

    peer.handlers[Command.PING] = lambda request: nursery.start_soon(late, request)
    async with open_to(peer) as conn:
        assert await conn.ping(credentials=OPS) == pytest.approx(0.3)
        assert peer.log[-1].credentials == OPS


async def test_any_message() -> None:
    answer = schema.ReadEventCompleted(result=schema.ReadEventCompleted.ReadEventResult.NotFound)
    peer = Server(Command.READ_EVENT, answer)
    async with open_to(peer, ADMIN) as conn:
        request = messages.ReadEvent(event_stream_id="s", event_number=7)
        # Whatever its result says.
        reply: Any = await conn.execute(request, credentials=OPS)
        assert reply.result == answer.result
        assert peer.last.event_number == 7
        assert peer.log[-1].credentials == OPS
        with pytest.raises(InvalidArgument, match="command"):
            await conn.execute(messages.ReadStreamEvents(event_stream_id="s"))


async def test_a_message_that_may_have_changed_something() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        with pytest.raises(OutcomeUnknown):
            await conn.execute(messages.ScavengeDatabase())
    assert peer.commands() == [Command.SCAVENGE_DATABASE]


@pytest.mark.parametrize("version", ["3.9.4", "4.1.1", "5.0"])
async def test_a_message_of_later_servers(conn: Connection) -> None:
    message = messages.FilteredReadAllEvents(filter=messages.Filter(data=["a"]))
    with pytest.raises(Unsupported, match="filtered reads and subscriptions") as caught:
        await conn.execute(message, command=Command.FILTERED_READ_ALL_EVENTS_FORWARD)
    assert caught.value.since == "20.6.0"


async def test_scavenging_takes_as_long_as_it_takes(nursery: trio.Nursery) -> None:
    """Up to `operation_timeout`; an answer is not missed after `attempt_timeout`."""
    peer = Peer()
    settings = ANONYMOUS.replace(operation_timeout=60)
    async with open_to(peer, settings) as conn:
        scavenge = Call(nursery, conn.execute, messages.ScavengeDatabase())
        request = await peer.receive(Command.SCAVENGE_DATABASE)
        await trio.sleep(50)
        answer = schema.ScavengeDatabaseCompleted(result=0, total_time_ms=50_000, total_space_saved=7)
        peer.send(Command.SCAVENGE_DATABASE_COMPLETED, request.correlation, answer)
        assert (await scavenge.value()).total_space_saved == 7
        began = trio.current_time()
        with pytest.raises(OutcomeUnknown, match="operation_timeout"):
            await conn.execute(messages.ScavengeDatabase())
        assert trio.current_time() - began == pytest.approx(60)


async def test_statistics_count() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        before = conn.statistics()
        await conn.ping()
        now = conn.statistics()
        assert (now.frames_sent - before.frames_sent, now.frames_received - before.frames_received) == (1, 1)
        assert (now.bytes_sent - before.bytes_sent, now.bytes_received - before.bytes_received) == (23, 22)


async def test_changes_of_the_connection() -> None:
    """From the present state on."""
    async with open_to(Peer(), ANONYMOUS.replace(host="db.example", port=1234)) as conn:
        changes = conn.changes()
        assert await anext(changes) == Connected("db.example", 1234)
    assert isinstance(await anext(changes), Closed)
    with pytest.raises(StopAsyncIteration):
        await anext(changes)


# --- writing


async def test_append_one() -> None:
    peer = Server(Command.WRITE_EVENTS, written(5, 5))
    event = NewEvent.json("PersonCreated", {"name": "Pera Perić"}, {"by": "me"})
    async with open_to(peer) as conn:
        assert await conn.append("people", event) == WriteResult(5, 5, Position(9, 9))
    sent = peer.last
    assert (sent.event_stream_id, sent.expected_version, sent.require_master) == ("people", ANY, True)
    (only,) = sent.events
    assert (only.event_id, only.event_type, only.data, only.metadata) == (
        event.id_bytes,
        "PersonCreated",
        '{"name":"Pera Perić"}'.encode(),
        b'{"by":"me"}',
    )


@pytest.mark.parametrize("events", [new_events(3), tuple(new_events(3)), iter(new_events(3))])
async def test_append_several(events: Any) -> None:
    peer = Server(Command.WRITE_EVENTS, written(5, 7))
    async with open_to(peer) as conn:
        result = await conn.append("s", events, expected=4, require_master=False, credentials=OPS)
    assert (result.first, result.last) == (5, 7)
    assert [event.data for event in peer.last.events] == [b"0", b"1", b"2"]
    assert (peer.last.expected_version, peer.last.require_master) == (4, False)
    assert peer.log[-1].credentials == OPS


async def test_append_none() -> None:
    """A server answers that too, and says whether the version fits."""
    peer = Server(Command.WRITE_EVENTS, written(5, 4))
    async with open_to(peer) as conn:
        assert await conn.append("s", [], expected=4) == WriteResult(5, 4, Position(9, 9))


@pytest.mark.parametrize("expected", [NO_STREAM, STREAM_EXISTS, ANY, 0])
async def test_expected_versions(expected: int) -> None:
    peer = Server(Command.WRITE_EVENTS, written())
    async with open_to(peer) as conn:
        await conn.append("s", new_events(1), expected=expected)
    assert peer.last.expected_version == expected


async def test_an_error_while_events_are_made_is_the_callers() -> None:
    def make() -> Any:
        yield NewEvent("t")
        raise TypeError("mine")  # noqa: EM101

    async with open_to(Peer()) as conn:
        with pytest.raises(TypeError, match="mine"):
            await conn.append("s", make())


@pytest.mark.parametrize("hard", [False, True])
async def test_delete(hard: bool) -> None:
    answer = schema.DeleteStreamCompleted(result=Written.Success, commit_position=3, prepare_position=3)
    peer = Server(Command.DELETE_STREAM, answer)
    async with open_to(peer) as conn:
        result = await conn.delete_stream("s", expected=7, hard=hard, credentials=OPS)
    assert result == DeleteResult(Position(3, 3))
    sent = peer.last
    assert (sent.event_stream_id, sent.expected_version, sent.hard_delete, sent.require_master) == ("s", 7, hard, True)
    assert peer.log[-1].credentials == OPS


async def test_scavenge() -> None:
    done = schema.ScavengeDatabaseCompleted(result=0, total_time_ms=1500, total_space_saved=77)
    server = Server(Command.SCAVENGE_DATABASE, done)
    async with open_to(server) as conn:
        result = await conn.scavenge(credentials=OPS)
    assert result == ScavengeResult(ScavengeStatus.FINISHED, seconds=1.5, space_saved=77)
    assert server.log[-1].credentials == OPS


async def test_a_scavenge_that_takes_longer_than_a_call_may(nursery: trio.Nursery) -> None:
    """It has no attempt timeout, and the server goes on after the call has given up."""
    peer = Peer()
    settings = ANONYMOUS.replace(attempt_timeout=1, operation_timeout=20)
    async with open_to(peer, settings) as conn:
        call = Call(nursery, conn.scavenge)
        assert isinstance(await call.error(), OutcomeUnknown)
        assert trio.current_time() == pytest.approx(20)
    assert peer.commands() == [Command.SCAVENGE_DATABASE]


# --- reading


@pytest.mark.parametrize(("number", "wanted"), [(3, 3), (START, 0), (END, -1)])
async def test_read_one(number: Any, wanted: int) -> None:
    peer = Server(Command.READ_EVENT, event_read(3, b"hello"))
    async with open_to(peer) as conn:
        event = await conn.read_event("s", number, resolve_links=False, require_master=True, credentials=OPS)
    assert (event.number, event.data) == (3, b"hello")
    sent = peer.last
    assert (sent.event_stream_id, sent.event_number) == ("s", wanted)
    assert (sent.resolve_link_tos, sent.require_master) == (False, True)
    assert peer.log[-1].credentials == OPS


@pytest.mark.parametrize(
    ("options", "command", "start"),
    [
        ({}, Command.READ_STREAM_EVENTS_FORWARD, 0),
        ({"start": START}, Command.READ_STREAM_EVENTS_FORWARD, 0),
        ({"start": 5}, Command.READ_STREAM_EVENTS_FORWARD, 5),
        ({"backwards": True}, Command.READ_STREAM_EVENTS_BACKWARD, -1),
        ({"backwards": True, "start": END}, Command.READ_STREAM_EVENTS_BACKWARD, -1),
        ({"backwards": True, "start": START}, Command.READ_STREAM_EVENTS_BACKWARD, 0),
        ({"backwards": True, "start": 0}, Command.READ_STREAM_EVENTS_BACKWARD, 0),
    ],
)
async def test_where_reading_a_stream_begins(options: Any, command: int, start: int) -> None:
    peer = Server(command, page([7], -1, end=True))
    async with open_to(peer) as conn:
        assert len(await collect(conn.read_stream("s", **options))) == 1
    assert (peer.last.event_stream_id, peer.last.from_event_number) == ("s", start)
    assert (peer.last.resolve_link_tos, peer.last.require_master) == (True, False)


async def test_options_of_reading_a_stream() -> None:
    peer = Server(Command.READ_STREAM_EVENTS_FORWARD, page([7], -1, end=True))
    async with open_to(peer) as conn:
        reader = conn.read_stream("s", resolve_links=False, require_master=True, page_size=3, credentials=OPS)
        await collect(reader)
    assert (peer.last.resolve_link_tos, peer.last.require_master, peer.last.max_count) == (False, True, 3)
    assert peer.log[-1].credentials == OPS


async def test_the_page_size_of_the_settings() -> None:
    peer = Server(Command.READ_STREAM_EVENTS_FORWARD, page([7], -1, end=True))
    async with open_to(peer, ANONYMOUS.replace(page_size=5)) as conn:
        await collect(conn.read_stream("s"))
    assert peer.last.max_count == 5


@pytest.mark.parametrize(
    ("options", "command", "start"),
    [
        ({}, Command.READ_ALL_EVENTS_FORWARD, 0),
        ({"start": START}, Command.READ_ALL_EVENTS_FORWARD, 0),
        ({"start": Position(5, 5)}, Command.READ_ALL_EVENTS_FORWARD, 5),
        ({"backwards": True}, Command.READ_ALL_EVENTS_BACKWARD, -1),
        ({"backwards": True, "start": END}, Command.READ_ALL_EVENTS_BACKWARD, -1),
        ({"backwards": True, "start": START}, Command.READ_ALL_EVENTS_BACKWARD, 0),
    ],
)
async def test_where_reading_the_log_begins(options: Any, command: int, start: int) -> None:
    peer = Server(command, log_page([], max(start, 0), max(start, 0)))
    async with open_to(peer) as conn:
        assert await collect(conn.read_all(**options)) == []
    assert (peer.last.commit_position, peer.last.prepare_position) == (start, start)
    # With projections each event would come again through its links.
    assert (peer.last.resolve_link_tos, peer.last.require_master) == (False, False)


async def test_options_of_reading_the_log() -> None:
    peer = Server(Command.READ_ALL_EVENTS_FORWARD, log_page([], 0, 0))
    async with open_to(peer) as conn:
        await collect(conn.read_all(resolve_links=True, require_master=True, page_size=3, credentials=OPS))
    assert (peer.last.resolve_link_tos, peer.last.require_master, peer.last.max_count) == (True, True, 3)
    assert peer.log[-1].credentials == OPS


async def test_the_last_number() -> None:
    peer = Server(Command.READ_STREAM_EVENTS_BACKWARD, page([7], 6, last=7))
    async with open_to(peer) as conn:
        assert await conn.last_number("s", require_master=True, credentials=OPS) == 7
    sent = peer.last
    assert (sent.from_event_number, sent.max_count, sent.resolve_link_tos, sent.require_master) == (-1, 1, False, True)
    assert peer.log[-1].credentials == OPS


@pytest.mark.parametrize(("result", "deleted"), [(1, False), (2, True)])
async def test_the_last_number_of_what_is_not_there(result: Any, deleted: bool) -> None:
    peer = Server(Command.READ_STREAM_EVENTS_BACKWARD, schema.ReadStreamEventsCompleted(result=result))
    async with open_to(peer) as conn:
        if deleted:
            with pytest.raises(StreamDeleted):
                await conn.last_number("s")
        else:
            assert await conn.last_number("s") is None


async def test_the_end_of_the_log() -> None:
    peer = Server(Command.READ_ALL_EVENTS_FORWARD, log_page([], 500, 500))
    async with open_to(peer) as conn:
        head = await conn.head(require_master=True, credentials=OPS)
    # It is no event's own place: the next one may be just there.
    assert head == Position(500, 500, inclusive=True)
    assert (peer.last.commit_position, peer.last.max_count, peer.last.require_master) == (-1, 1, True)
    assert peer.log[-1].credentials == OPS


async def test_a_stream_that_may_be_missing() -> None:
    peer = Server(Command.READ_STREAM_EVENTS_FORWARD, schema.ReadStreamEventsCompleted(result=1))
    async with open_to(peer) as conn:
        assert await collect(conn.read_stream("s", missing_ok=True)) == []
        with pytest.raises(StreamNotFound):
            await collect(conn.read_stream("s"))


# --- what is refused


# What a type checker would refuse is refused where there is none.
REFUSED: list[tuple[str, Callable[[Any], Any]]] = [
    ("stream", lambda conn: conn.append("", new_events(1))),
    ("stream", lambda conn: conn.append("$all", new_events(1))),
    ("events", lambda conn: conn.append("s", "text")),
    ("events", lambda conn: conn.append("s", 7)),
    ("events", lambda conn: conn.append("s", [NewEvent("t"), None])),
    ("expected", lambda conn: conn.append("s", new_events(1), expected=-3)),
    ("stream", lambda conn: conn.delete_stream("", expected=ANY)),
    ("expected", lambda conn: conn.delete_stream("s", expected=STREAM_EXISTS)),
    ("stream", lambda conn: conn.read_event("", 0)),
    ("number", lambda conn: conn.read_event("s", -1)),
    ("stream", lambda conn: conn.read_stream("")),
    ("start", lambda conn: conn.read_stream("s", start=-1)),
    ("start", lambda conn: conn.read_stream("s", start=END)),
    ("count", lambda conn: conn.read_stream("s", count=0)),
    ("page_size", lambda conn: conn.read_stream("s", page_size=0)),
    ("start", lambda conn: conn.read_all(start=7)),
    ("start", lambda conn: conn.read_all(start=END)),
    ("count", lambda conn: conn.read_all(count=-1)),
    ("page_size", lambda conn: conn.read_all(page_size=4097)),
    ("stream", lambda conn: conn.last_number("")),
    ("stream", lambda conn: conn.subscribe_live("")),
    ("stream", lambda conn: conn.subscribe_live("$all")),
    ("stream", lambda conn: conn.subscribe("")),
    ("stream", lambda conn: conn.subscribe("$all")),
    ("start", lambda conn: conn.subscribe("s", start=-1)),
    ("after", lambda conn: conn.subscribe("s", after=-1)),
    ("after", lambda conn: conn.subscribe("s", start=3, after=3)),
    ("after", lambda conn: conn.subscribe("s", after=Position(5, 5))),
    ("on_ahead", lambda conn: conn.subscribe("s", on_ahead="hope")),
    ("page_size", lambda conn: conn.subscribe("s", page_size=0)),
    ("start", lambda conn: conn.subscribe_all(start=7)),
    ("after", lambda conn: conn.subscribe_all(after=7)),
    ("after", lambda conn: conn.subscribe_all(start=END, after=Position(5, 5))),
    ("on_ahead", lambda conn: conn.subscribe_all(on_ahead="hope")),
    ("page_size", lambda conn: conn.subscribe_all(page_size=4097)),
    ("message", lambda conn: conn.execute(messages.EventRecord())),
    ("stream", lambda conn: conn.transaction("$all", expected=ANY)),
    ("expected", lambda conn: conn.transaction("s", expected=STREAM_EXISTS)),
    ("id", lambda conn: conn.continue_transaction(1.5)),
]


async def ask(verb: Callable[[Connection], Any], conn: Connection) -> None:
    """A verb that is no coroutine refuses when it is called, not when its result is used."""
    asked = verb(conn)
    assert hasattr(asked, "__await__"), "it was not refused"
    await asked


@pytest.mark.parametrize(("argument", "verb"), REFUSED)
async def test_what_cannot_be_meant_is_not_sent(argument: str, verb: Callable[[Connection], Any]) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        with pytest.raises(InvalidArgument, match=f"^{argument}: "):
            await ask(verb, conn)
    assert [command_name(command) for command in peer.commands()] == []


@pytest.mark.parametrize("settings", [ANONYMOUS, ADMIN])
async def test_every_verb_is_a_checkpoint(settings: Settings) -> None:
    """Also where the answer was there before anybody waited for it."""
    peer = Server(Command.READ_STREAM_EVENTS_BACKWARD, page([7], 6))
    async with open_to(peer, settings) as conn:
        for verb in (conn.ping, lambda: conn.last_number("s")):
            with trio.testing.assert_checkpoints():
                await verb()
