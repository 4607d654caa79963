"""Faults of connections and of the process, as a client of bytes sees them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.embedded.talk import (
    ADMIN,
    append,
    assert_ended,
    is_alive,
    new_event,
    new_events,
    pack,
    read_event,
    read_stream,
    subscribe,
    talk_through_socket,
    talk_to,
)
from trio_extreme.embedded import Node, open_node
from trio_extreme.wire.commands import Command

MIB = 1024 * 1024
FORWARD = Command.READ_STREAM_EVENTS_FORWARD


# Killed connections


async def test_killed_connections_end_without_a_word(node: Node) -> None:
    talks = [await talk_to(node) for _ in range(3)]
    await talks[0].ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    node.faults.kill_connections()
    assert [await talk.hear() for talk in talks] == [None] * 3
    assert repr(node._service.hub) == "<Hub: 0 subscriptions>"
    assert await is_alive(await talk_to(node))


async def test_what_a_killed_connection_has_sent_is_not_done(node: Node) -> None:
    talk = await talk_to(node)
    await is_alive(talk)
    await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)), ADMIN)
    node.faults.kill_connections()
    assert await talk.hear() is None
    assert node.store.last_number("people") == -1


async def test_a_connection_that_was_just_made_is_killed_too(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.kill_connections()
    assert await talk.hear() is None


async def test_connections_of_sockets_are_killed() -> None:
    async with open_node() as node:
        talk = await talk_through_socket(node)
        assert await is_alive(talk)
        node.faults.kill_connections()
        await assert_ended(talk)
        talk = await talk_through_socket(node)
        assert await is_alive(talk)
        await talk.stream.aclose()


# A paused node


async def test_a_paused_node_is_silent_and_then_goes_on(node: Node) -> None:
    talk = await talk_to(node)
    assert await is_alive(talk)
    node.faults.pause()
    await talk.tell(Command.PING, b"first")
    await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)), ADMIN)
    assert await talk.hear_for(60) == []
    assert node.store.last_number("people") == -1
    node.faults.resume()
    replies = await talk.hear_for(1)
    assert [reply and reply.command for reply in replies] == [Command.PONG, Command.WRITE_EVENTS_COMPLETED]
    assert node.store.last_number("people") == 0


async def test_connections_made_in_a_pause_wait(node: Node) -> None:
    with node.faults.pause():
        talk = await talk_to(node)
        await talk.tell(Command.PING, b"echo")
        assert await talk.hear_for(60) == []
    assert await talk.hear() is not None


async def test_who_was_silent_in_a_pause_is_asked_for_a_sign_of_life(node: Node) -> None:
    talk = await talk_to(node)
    await trio.sleep(1)
    with node.faults.pause(10):
        assert await talk.hear_for(9.9) == []
        (question,) = await talk.hear_for(0.2)
        assert question is not None
        assert question.command == Command.HEARTBEAT_REQUEST
        await talk.tell(Command.HEARTBEAT_RESPONSE)
    assert await is_alive(talk)


async def test_who_has_sent_something_in_a_pause_is_alive(node: Node) -> None:
    talk = await talk_to(node)
    with node.faults.pause(10):
        await talk.tell(Command.PING, b"echo")
        # Some servers ask for a sign of life all the same, before or after.
        heard = [reply and reply.command for reply in await talk.hear_for(11)]
        assert Command.PONG in heard
        assert None not in heard


async def test_a_page_half_sent_stops_in_a_pause(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(MIB))]))
    await talk.tell(FORWARD, read_stream("people"), ADMIN)
    await wait_all_tasks_blocked()
    with node.faults.pause():
        assert await talk.hear_for(1) == []
        assert await talk.hear_for(1) == []
    page = await talk.hear()
    assert page is not None
    assert len(page.message.events[0].event.data) == MIB


async def test_who_leaves_in_a_pause_is_noticed_after_it(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    with node.faults.pause():
        await talk.stream.aclose()
        await trio.sleep(60)
        assert repr(node._service.hub) == "<Hub: 1 subscriptions>"
    await trio.sleep(1)
    assert repr(node._service.hub) == "<Hub: 0 subscriptions>"


async def test_leaving_a_paused_node_says_goodbye(autojump_clock: None) -> None:
    async with open_node(port=None) as node:
        talk = await talk_to(node)
        await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        node.faults.pause()
        await talk.tell(Command.PING)
    replies = await talk.hear_for(1)
    assert [reply and reply.command for reply in replies] == [Command.SUBSCRIPTION_DROPPED, None]
    assert trio.current_time() < 0.1


async def test_a_node_of_sockets_is_paused() -> None:
    async with open_node() as node:
        talk = await talk_through_socket(node)
        assert await is_alive(talk)
        with node.faults.pause():
            other = await talk_through_socket(node)
            for one in (talk, other):
                await one.tell(Command.PING, b"echo")
                assert await one.hear_for(0.1) == []
        for one in (talk, other):
            assert await one.hear() is not None
            await one.stream.aclose()


# Refused connections


async def test_new_connections_are_refused_and_others_live_on(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.refuse()
    with pytest.raises(ConnectionRefusedError, match=r"127.0.0.1:1113: .* refuses"):
        await node.connect(node.host, node.port)
    assert await is_alive(talk)
    node.faults.accept()
    assert await is_alive(await talk_to(node))


async def test_new_sockets_are_reset() -> None:
    async with open_node() as node:
        talk = await talk_through_socket(node)
        assert await is_alive(talk)
        with node.faults.refuse():
            refused = await talk_through_socket(node)
            with pytest.raises(trio.BrokenResourceError):
                await refused.hear()
            await refused.stream.aclose()
            assert await is_alive(talk)
        again = await talk_through_socket(node)
        assert await is_alive(again)
        for one in (talk, again):
            await one.stream.aclose()


# Connections that are half open


async def test_a_half_open_connection_says_nothing_any_more(node: Node) -> None:
    talk, writer = await talk_to(node), await talk_to(node)
    await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    await writer.ask(Command.READ_EVENT, read_event("people", 0))
    await talk.tell(Command.WRITE_EVENTS, append("people", new_events(1)), ADMIN)
    node.faults.half_open()
    assert f"{node!r} {node._service.hub!r}".endswith("0 connections> <Hub: 0 subscriptions>")
    # More than any buffer takes: it goes nowhere, and does not block either.
    await talk.stream.send_all(pack(Command.PING, bytes(4 * MIB)))
    assert await talk.hear_for(600) == []
    assert node.store.last_number("people") == -1

    again = await talk_to(node)
    await again.ask(Command.WRITE_EVENTS, append("people", new_events(1)))
    assert await talk.hear_for(600) == []


async def test_what_was_sent_before_it_was_half_open_arrives(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(MIB))]))
    await talk.tell(Command.PING, b"echo")
    await talk.tell(FORWARD, read_stream("people"), ADMIN)
    await wait_all_tasks_blocked()
    node.faults.half_open()
    (pong,) = await talk.hear_for(600)
    assert pong is not None
    assert pong.message == b"echo"


async def test_a_killed_connection_is_not_half_open(node: Node) -> None:
    talk = await talk_to(node)
    assert await is_alive(talk)
    node.faults.kill_connections()
    node.faults.half_open()
    assert await talk.hear_for(1) == [None]


async def test_a_half_open_connection_ends_with_its_client(autojump_clock: None) -> None:
    async with open_node(port=None) as node:
        talk = await talk_to(node)
        await is_alive(talk)
        tasks = trio.lowlevel.current_statistics().tasks_living
        node.faults.half_open()
        await talk.stream.aclose()
        await wait_all_tasks_blocked()
        # A connection is four tasks.
        assert trio.lowlevel.current_statistics().tasks_living == tasks - 4


async def test_half_open_connections_end_with_the_node(autojump_clock: None) -> None:
    async with open_node(port=None) as node:
        talks = [await talk_to(node) for _ in range(2)]
        node.faults.half_open()
        node.faults.kill_connections()
        assert await talks[0].hear_for(60) == []
    assert [await talk.hear() for talk in talks] == [None, None]


async def test_connections_of_sockets_are_half_open() -> None:
    async with open_node() as node:
        talk = await talk_through_socket(node)
        assert await is_alive(talk)
        node.faults.half_open()
        await talk.stream.send_all(pack(Command.PING, bytes(8 * MIB)))
        assert await talk.hear_for(0.1) == []
        again = await talk_through_socket(node)
        assert await is_alive(again)
        for one in (talk, again):
            await one.stream.aclose()
