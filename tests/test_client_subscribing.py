"""The verbs that subscribe: what they send for what they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.answers import confirmed, log_page, page
from tests.peer import Peer, Request, open_to
from tests.serving import OPS, Server
from trio_extreme import (
    END,
    START,
    Position,
)
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    import trio

pytestmark = pytest.mark.usefixtures("autojump_clock")


@pytest.mark.parametrize("log", [False, True])
async def test_subscribe(log: bool, nursery: trio.Nursery) -> None:
    peer = Server(Command.SUBSCRIBE_TO_STREAM, confirmed())
    async with open_to(peer) as conn:
        if log:
            async with conn.subscribe_all_live(resolve_links=True, credentials=OPS):
                pass
        else:
            async with conn.subscribe_live("s", resolve_links=False, credentials=OPS):
                pass
    (request,) = [request for request in peer.log if request.command == Command.SUBSCRIBE_TO_STREAM]
    assert request.message == schema.SubscribeToStream(event_stream_id="" if log else "s", resolve_link_tos=log)
    assert request.credentials == OPS


async def first_asked(peer: Peer, events: Any, command: int) -> Request:
    """The first request of this command that a consumer sends on its way to its first event."""
    async with events:
        await anext(events)
    return next(request for request in peer.log if request.command == command)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({}, 0), ({"start": START}, 0), ({"start": 5}, 5), ({"after": None}, 0), ({"after": 5}, 6)],
)
async def test_where_following_a_stream_begins(options: Any, wanted: int) -> None:
    peer = Server(Command.READ_STREAM_EVENTS_FORWARD, page([7], 8))
    async with open_to(peer) as conn:
        request = await first_asked(peer, conn.subscribe("s", **options), Command.READ_STREAM_EVENTS_FORWARD)
    sent: Any = request.message
    assert (sent.event_stream_id, sent.from_event_number) == ("s", wanted)
    assert (sent.resolve_link_tos, sent.require_master) == (True, False)


async def test_options_of_following_a_stream() -> None:
    peer = Server(Command.READ_STREAM_EVENTS_FORWARD, page([7], 8))
    async with open_to(peer) as conn:
        events = conn.subscribe("s", resolve_links=False, require_master=True, page_size=3, credentials=OPS)
        request = await first_asked(peer, events, Command.READ_STREAM_EVENTS_FORWARD)
    sent: Any = request.message
    assert (sent.resolve_link_tos, sent.require_master, sent.max_count) == (False, True, 3)
    assert request.credentials == OPS


@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        (page([7], 6, last=7), 8),
        (schema.ReadStreamEventsCompleted(result=1, last_event_number=-1), 0),
        # Softly deleted, its numbers go on.
        (schema.ReadStreamEventsCompleted(result=1, last_event_number=7), 8),
    ],
)
async def test_following_a_stream_from_its_end(end: Any, wanted: int) -> None:
    """Which is asked for when it is entered, as it is asked for everything else."""
    peer = Server(Command.READ_STREAM_EVENTS_BACKWARD, end)
    peer.handlers[Command.READ_STREAM_EVENTS_FORWARD] = lambda request: peer.send(
        Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, request.correlation, page([9], 10)
    )
    async with open_to(peer) as conn:
        events = conn.subscribe("s", start=END, require_master=True, credentials=OPS)
        request = await first_asked(peer, events, Command.READ_STREAM_EVENTS_FORWARD)
    sent: Any = request.message
    assert sent.from_event_number == wanted
    (asked,) = [request for request in peer.log if request.command == Command.READ_STREAM_EVENTS_BACKWARD]
    message: Any = asked.message
    assert (message.from_event_number, message.max_count, message.require_master) == (-1, 1, True)
    assert asked.credentials == OPS


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, 0),
        ({"start": START}, 0),
        ({"start": Position(5, 5)}, 5),
        ({"after": None}, 0),
        ({"after": Position(5, 5)}, 5),
        ({"after": Position(5, 5, inclusive=True)}, 5),
    ],
)
async def test_where_following_the_log_begins(options: Any, wanted: int) -> None:
    peer = Server(Command.READ_ALL_EVENTS_FORWARD, log_page([7], wanted, 8))
    async with open_to(peer) as conn:
        request = await first_asked(peer, conn.subscribe_all(**options), Command.READ_ALL_EVENTS_FORWARD)
    sent: Any = request.message
    assert (sent.commit_position, sent.prepare_position) == (wanted, wanted)
    assert (sent.resolve_link_tos, sent.require_master) == (False, False)


async def test_options_of_following_the_log() -> None:
    peer = Server(Command.READ_ALL_EVENTS_FORWARD, log_page([7], 0, 8))
    async with open_to(peer) as conn:
        events = conn.subscribe_all(resolve_links=True, require_master=True, page_size=3, credentials=OPS)
        request = await first_asked(peer, events, Command.READ_ALL_EVENTS_FORWARD)
    sent: Any = request.message
    assert (sent.resolve_link_tos, sent.require_master, sent.max_count) == (True, True, 3)
    assert request.credentials == OPS


async def test_following_the_log_from_its_end() -> None:
    """A read at -1 tells where that is; the first page begins there."""
    peer = Peer()
    asked: list[Any] = []

    def answer(request: Request) -> None:
        message: Any = request.message
        asked.append(message)
        end = message.commit_position == -1
        peer.send(request.command + 1, request.correlation, log_page([] if end else [500], 500, 500 if end else 501))

    peer.handlers[Command.READ_ALL_EVENTS_FORWARD] = answer
    async with open_to(peer) as conn, conn.subscribe_all(start=END) as events:
        assert [message.commit_position for message in asked] == [-1]
        assert (await anext(events)).position == Position(500, 500)
    assert asked[1].commit_position == 500
