"""A node that starts again, or is not ready yet, as a client of bytes sees it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.embedded.competing import CONNECT, CREATE, DELETE, UPDATE, connect, create, delete_group, update
from tests.embedded.talk import (
    ADMIN,
    append,
    assert_ended,
    begin,
    choose,
    commit,
    delete,
    is_alive,
    new_event,
    new_events,
    read_event,
    read_filtered,
    read_log,
    read_stream,
    subscribe,
    subscribe_filtered,
    talk_through_socket,
    talk_to,
    write,
)
from trio_extreme.embedded import VERSIONS, Node, open_node
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from google.protobuf.message import Message

FORWARD = Command.READ_STREAM_EVENTS_FORWARD


# Starting again


async def write_twice(node: Node, *, restart: bool) -> int:
    """The last number after an append with ANY that was sent a second time."""
    event = new_event()
    await (await talk_to(node)).ask(Command.WRITE_EVENTS, append("people", [event]))
    if restart:
        node.faults.restart()
    await (await talk_to(node)).ask(Command.WRITE_EVENTS, append("people", [event]))
    return node.store.last_number("people")


@pytest.mark.parametrize(("restart", "last"), [(False, 0), (True, 1)])
async def test_a_node_that_starts_again_has_forgotten_recent_ids(node: Node, restart: bool, last: int) -> None:
    assert await write_twice(node, restart=restart) == last


async def test_a_restart_keeps_what_was_written_and_does_no_more(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.WRITE_EVENTS, append("people", new_events(3)))
    await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)), ADMIN)
    node.faults.restart()
    assert await talk.hear() is None
    page = await (await talk_to(node)).ask(FORWARD, read_stream("people"))
    assert page is not None
    assert len(page.message.events) == 3


async def test_a_node_that_was_killed_is_away_until_it_is_started(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.WRITE_EVENTS, append("people", new_events(3)))
    for kill, end in (
        (node.faults.kill, node.faults.start),
        (partial(node.faults.kill, 5), partial(trio.sleep, 5.1)),
        (node.faults.kill, node.faults.clear),
    ):
        kill()
        assert await talk.hear() is None
        assert node.faults.is_away
        with pytest.raises(ConnectionRefusedError):
            await talk_to(node)
        ended = end()
        if ended is not None:
            await ended
        assert not node.faults.is_away
        talk = await talk_to(node)
        page = await talk.ask(FORWARD, read_stream("people"))
        assert page is not None
        assert len(page.message.events) == 3
    with node.faults.kill():
        pass
    assert await talk.hear() is None
    assert [name for _, name, _ in node.faults.history] == [*["kill", "restart", "restart"] * 4]


async def test_a_graceful_restart_tells_subscriptions(node: Node) -> None:
    talk, other = await talk_to(node), await talk_to(node)
    await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    node.faults.restart(graceful=True)
    dropped, end = await talk.hear_for(1)
    assert dropped is not None
    assert dropped.command == Command.SUBSCRIPTION_DROPPED
    assert dropped.message.reason == schema.SubscriptionDropped.SubscriptionDropReason.Unsubscribed
    assert end is None
    assert await other.hear() is None
    assert await is_alive(await talk_to(node))


@pytest.mark.parametrize("graceful", [False, True])
async def test_a_node_that_is_down_refuses_connections(node: Node, graceful: bool) -> None:
    node.faults.restart(5, graceful=graceful)
    await trio.sleep(4.9)
    with pytest.raises(ConnectionRefusedError):
        await talk_to(node)
    await trio.sleep(0.2)
    assert await is_alive(await talk_to(node))


async def test_being_down_and_refusing_end_each_for_itself(node: Node) -> None:
    with node.faults.refuse():
        node.faults.restart(1)
        await trio.sleep(2)
        with pytest.raises(ConnectionRefusedError):
            await talk_to(node)
        node.faults.restart(1)
    with pytest.raises(ConnectionRefusedError):
        await talk_to(node)
    await trio.sleep(1.1)
    assert await is_alive(await talk_to(node))


@pytest.mark.parametrize("graceful", [False, True])
async def test_a_paused_node_runs_when_it_was_started_again(node: Node, graceful: bool) -> None:
    talk = await talk_to(node)
    node.faults.pause()
    await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)), ADMIN)
    await wait_all_tasks_blocked()
    node.faults.restart(graceful=graceful)
    assert await talk.hear() is None
    assert node.store.last_number("people") == -1
    assert await is_alive(await talk_to(node))


async def test_a_node_of_sockets_starts_again() -> None:
    async with open_node() as node:
        talk = await talk_through_socket(node)
        await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        node.faults.restart(0.1, graceful=True)
        assert await talk.hear() is not None
        await assert_ended(talk)
        await assert_ended(await talk_through_socket(node))
        await trio.sleep(0.2)
        talk = await talk_through_socket(node)
        assert await is_alive(talk)
        await talk.stream.aclose()


# A node that is not ready

REQUESTS: list[tuple[Command, Message]] = [
    (Command.WRITE_EVENTS, append("people", new_events(1))),
    (Command.DELETE_STREAM, delete("people")),
    (Command.READ_EVENT, read_event("people", 0)),
    (FORWARD, read_stream("people")),
    (Command.READ_STREAM_EVENTS_BACKWARD, read_stream("people")),
    (Command.READ_ALL_EVENTS_FORWARD, read_log()),
    (Command.READ_ALL_EVENTS_BACKWARD, read_log()),
    (Command.SUBSCRIBE_TO_STREAM, subscribe("people")),
    (Command.TRANSACTION_START, begin("people")),
    (Command.TRANSACTION_WRITE, write(1, [])),
    (Command.TRANSACTION_COMMIT, commit(1)),
    (CREATE, create()),
    (UPDATE, update()),
    (CONNECT, connect()),
    (DELETE, delete_group()),
]
FILTERED: list[tuple[Command, Message]] = [
    (Command.FILTERED_READ_ALL_EVENTS_FORWARD, read_filtered(choose("p"))),
    (Command.FILTERED_READ_ALL_EVENTS_BACKWARD, read_filtered(choose("p"))),
    (Command.FILTERED_SUBSCRIBE_TO_STREAM, subscribe_filtered(choose("p"))),
]


async def test_a_node_that_is_not_ready_refuses_each_request(node: Node, version: str) -> None:
    requests = [request for request in REQUESTS + FILTERED if request[0] not in VERSIONS[version].lacks]
    assert {command for command, _ in requests} == node._service.requests
    talk = await talk_to(node)
    with node.faults.not_ready():
        for command, message in requests:
            reply = await talk.ask(command, message)
            assert reply is not None
            assert reply.command == Command.NOT_HANDLED
            assert reply.message.HasField("reason") is not VERSIONS[version].omits_zeros
            assert reply.message.reason == schema.NotHandled.NotHandledReason.NotReady
    assert (node.store.last_number("people"), repr(node._service.hub)) == (-1, "<Hub: 0 subscriptions>")
    for command, message in requests:
        reply = await talk.ask(command, message)
        assert reply is not None
        assert reply.command != Command.NOT_HANDLED


async def test_what_concerns_the_connection_goes_on_when_it_is_not_ready(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    node.faults.not_ready()
    identity = schema.IdentifyClient(version=1, connection_name="test")
    for command, message, answer in (
        (Command.PING, b"echo", Command.PONG),
        (Command.HEARTBEAT_REQUEST, b"x", Command.HEARTBEAT_RESPONSE),
        (Command.AUTHENTICATE, b"x", Command.AUTHENTICATED),
        (Command.IDENTIFY_CLIENT, identity, Command.CLIENT_IDENTIFIED),
        (Command.UNSUBSCRIBE_FROM_STREAM, schema.UnsubscribeFromStream(), None),
        (Command.SCAVENGE_DATABASE, schema.ScavengeDatabase(), Command.SCAVENGE_DATABASE_COMPLETED),
        (Command.CHECKPOINT_REACHED, schema.CheckpointReached(), Command.BAD_REQUEST),
    ):
        await talk.tell(command, message, ADMIN)
        assert [reply and reply.command for reply in await talk.hear_for(0.1)] == ([] if answer is None else [answer])


async def test_wrong_credentials_are_refused_before_it_is_ready(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.not_ready()
    reply = await talk.ask(FORWARD, read_stream("people"), Credentials("admin", "wrong"))
    assert reply is not None
    assert reply.command == Command.NOT_AUTHENTICATED
