"""Faults of packages, as a client of bytes sees them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.embedded.talk import (
    ADMIN,
    Talk,
    append,
    assert_ended,
    choose,
    is_alive,
    new_events,
    new_id,
    pack,
    read_event,
    subscribe,
    subscribe_filtered,
    talk_through_socket,
    talk_to,
)
from trio_extreme.embedded import Node, open_node
from trio_extreme.errors import InvalidArgument
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from tests.embedded.talk import Reply

READ = read_event("people", 0)
FRAME = pack(Command.PONG, b"echo")


def commands(replies: list[Reply | None]) -> list[int | None]:
    return [reply and reply.command for reply in replies]


async def ask_all(talk: Talk, *requests: Command) -> list[bytes]:
    """Send pings, reads and appends; returns their correlation ids."""
    ids = [new_id() for _ in requests]
    for command, correlation in zip(requests, ids, strict=True):
        messages = {Command.READ_EVENT: READ, Command.WRITE_EVENTS: append("people", new_events(1))}
        await talk.stream.send_all(pack(command, messages.get(command, b"echo"), ADMIN, correlation))
    return ids


# Delay


async def test_every_package_leaves_later_in_the_same_order(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    node.faults.delay(0.5)
    ids = await ask_all(talk, Command.PING, Command.WRITE_EVENTS, Command.PING)
    assert await talk.hear_for(0.49) == []
    heard = await talk.hear_for(0.02)
    assert [reply.correlation for reply in heard if reply and reply.command != Command.STREAM_EVENT_APPEARED] == ids


async def test_a_question_for_a_sign_of_life_is_late_too(node: Node) -> None:
    node.faults.delay(0.5)
    talk = await talk_to(node)
    assert commands([await talk.hear()]) == [Command.HEARTBEAT_REQUEST]
    assert trio.current_time() == pytest.approx(2.5)


async def test_a_delay_of_none_ends_it(node: Node) -> None:
    talk = await talk_to(node)
    with node.faults.delay(60):
        await talk.tell(Command.PING, b"first")
        assert await talk.hear_for(1) == []
        node.faults.delay(0)
        assert len(await talk.hear_for(0.1)) == 1
    assert await is_alive(talk)
    assert [happening.details for happening in node.faults.history] == ["60 s", "over"]


async def test_a_delay_ends_by_itself(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.delay(60, lasting=1)
    assert await is_alive(talk)
    assert trio.current_time() == pytest.approx(1)
    assert await is_alive(talk)
    assert trio.current_time() == pytest.approx(1)


async def test_last_words_are_late_too(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.delay(1.5)
    await talk.stream.send_all(pack(Command.PING, b"echo") + (3).to_bytes(4, "little"))
    assert await talk.hear_for(1.4) == []
    assert commands(await talk.hear_for(0.2)) == [Command.PONG, Command.BAD_REQUEST, None]


async def test_packages_for_a_connection_that_was_killed_are_lost(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.delay(1)
    await talk.tell(Command.PING)
    await trio.sleep(0.5)
    node.faults.kill_connections()
    assert await talk.hear_for(5) == [None]


# Late answers


async def test_a_late_answer_lets_others_pass(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.answer_late(1)
    late, *others = await ask_all(talk, Command.READ_EVENT, Command.READ_EVENT, Command.WRITE_EVENTS)
    heard = await talk.hear_for(0.9)
    assert [reply and reply.correlation for reply in heard] == others
    (reply,) = await talk.hear_for(0.2)
    assert reply is not None
    assert reply.correlation == late


async def test_an_event_does_not_come_before_its_subscription(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.answer_late(1, Command.SUBSCRIBE_TO_STREAM)
    await talk.tell(Command.SUBSCRIBE_TO_STREAM, subscribe("people"), ADMIN)
    await ask_all(talk, Command.WRITE_EVENTS)
    assert commands(await talk.hear_for(0.9)) == [Command.WRITE_EVENTS_COMPLETED]
    expected = [Command.SUBSCRIPTION_CONFIRMATION, Command.STREAM_EVENT_APPEARED]
    assert commands(await talk.hear_for(0.2)) == expected


async def test_unsubscribing_does_not_overtake_the_subscription(node: Node) -> None:
    talk, correlation = await talk_to(node), new_id()
    node.faults.answer_late(1)
    await talk.stream.send_all(pack(Command.SUBSCRIBE_TO_STREAM, subscribe("people"), ADMIN, correlation))
    await talk.stream.send_all(pack(Command.UNSUBSCRIBE_FROM_STREAM, b"", ADMIN, correlation))
    assert await talk.hear_for(0.9) == []
    expected = [Command.SUBSCRIPTION_CONFIRMATION, Command.SUBSCRIPTION_DROPPED]
    assert commands(await talk.hear_for(0.2)) == expected


async def test_cleared_a_late_answer_comes_at_once(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.answer_late(60)
    await ask_all(talk, Command.READ_EVENT)
    assert await talk.hear_for(1) == []
    node.faults.clear()
    assert commands(await talk.hear_for(0.1)) == [Command.READ_EVENT_COMPLETED]


async def test_a_late_answer_ends_with_its_connection(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.answer_late(1)
    await ask_all(talk, Command.READ_EVENT)
    await trio.sleep(0.5)
    node.faults.restart(graceful=True)
    assert await talk.hear_for(5) == [None]
    await wait_all_tasks_blocked()
    assert not node._line.busy


# Answers that come twice


async def test_the_next_answers_come_twice(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.answer_twice(count=2)
    one, two, three = await ask_all(talk, Command.READ_EVENT, Command.WRITE_EVENTS, Command.WRITE_EVENTS)
    heard = await talk.hear_for(0.1)
    assert [reply and reply.correlation for reply in heard] == [one, one, two, two, three]
    assert heard[0] == heard[1]
    assert node.store.last_number("people") == 1


async def test_what_is_pushed_comes_once(node: Node) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    node.faults.answer_twice()
    await ask_all(talk, Command.WRITE_EVENTS)
    heard = commands(await talk.hear_for(0.1))
    assert heard.count(Command.STREAM_EVENT_APPEARED) == 1
    assert heard.count(Command.WRITE_EVENTS_COMPLETED) == 2


# Answers that never come


async def test_a_write_is_done_and_never_answered(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.drop_reply(Command.WRITE_EVENTS)
    await ask_all(talk, Command.READ_EVENT, Command.WRITE_EVENTS, Command.READ_EVENT)
    assert commands(await talk.hear_for(1)) == [Command.READ_EVENT_COMPLETED] * 2
    assert node.store.last_number("people") == 0
    assert await talk.ask(Command.WRITE_EVENTS, append("people", new_events(1))) is not None


async def test_a_write_is_done_and_its_connection_cut(node: Node) -> None:
    talk, reader = await talk_to(node), await talk_to(node)
    await reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    node.faults.drop_reply(kill=True)
    await ask_all(talk, Command.WRITE_EVENTS, Command.WRITE_EVENTS)
    assert await talk.hear_for(1) == [None]
    assert node.store.last_number("people") == 0
    assert commands(await reader.hear_for(1)) == [Command.STREAM_EVENT_APPEARED]


async def test_a_subscription_that_is_not_confirmed_is_none(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.drop_reply()
    await talk.tell(Command.SUBSCRIBE_TO_STREAM, subscribe("people"), ADMIN)
    await ask_all(talk, Command.WRITE_EVENTS)
    assert commands(await talk.hear_for(1)) == [Command.WRITE_EVENTS_COMPLETED]


async def test_a_filtered_one_that_is_not_confirmed_is_none(autojump_clock: MockClock) -> None:
    async with open_node(port=None, version="20.10") as node:
        talk = await talk_to(node)
        node.faults.drop_reply(Command.FILTERED_SUBSCRIBE_TO_STREAM)
        await talk.tell(Command.FILTERED_SUBSCRIBE_TO_STREAM, subscribe_filtered(choose("p"), 1), ADMIN)
        await ask_all(talk, Command.WRITE_EVENTS)
        assert commands(await talk.hear_for(1)) == [Command.WRITE_EVENTS_COMPLETED]


async def test_answers_of_any_kind_are_dropped(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.drop_reply(Command.READ_EVENT, count=2)
    await talk.tell(Command.READ_EVENT, read_event("", 0), ADMIN)
    with node.faults.not_ready():
        await talk.tell(Command.READ_EVENT, READ, ADMIN)
        assert await talk.hear_for(1) == []


async def test_drops_over_sockets() -> None:
    async with open_node() as node:
        talk = await talk_through_socket(node)
        node.faults.drop_reply(kill=True)
        await ask_all(talk, Command.WRITE_EVENTS)
        await assert_ended(talk)
        assert node.store.last_number("people") == 0


# Which answers


async def test_without_a_command_what_reads_writes_or_subscribes_counts(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.drop_reply()
    for command, message in (
        (Command.PING, b"echo"),
        (Command.HEARTBEAT_REQUEST, b"x"),
        (Command.AUTHENTICATE, b"x"),
        (Command.IDENTIFY_CLIENT, schema.IdentifyClient(version=1, connection_name="test")),
    ):
        assert await talk.ask(command, message) is not None
    await talk.tell(Command.READ_EVENT, READ, ADMIN)
    assert await talk.hear_for(1) == []


@pytest.mark.parametrize(
    "command", [Command.PING, Command.HEARTBEAT_REQUEST, Command.AUTHENTICATE, Command.IDENTIFY_CLIENT]
)
async def test_what_concerns_the_connection_counts_where_it_is_named(node: Node, command: Command) -> None:
    talk = await talk_to(node)
    node.faults.drop_reply(command)
    await talk.tell(command, b"")
    assert await talk.hear_for(1) == []
    assert await talk.ask(command, b"") is not None


async def test_each_answer_meets_the_first_fault_that_waits_for_it(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.drop_reply(Command.WRITE_EVENTS)
    node.faults.answer_twice()
    write, read = await ask_all(talk, Command.WRITE_EVENTS, Command.READ_EVENT)
    heard = await talk.hear_for(1)
    assert [reply and reply.correlation for reply in heard] == [read, read]
    assert write not in {reply.correlation for reply in heard if reply}
    assert not node._line.busy


# Frames that are cut


async def rest(talk: Talk) -> bytes:
    """All bytes until the end."""
    parts = []
    while chunk := await talk.stream.receive_some():
        parts.append(bytes(chunk))
    return b"".join(parts)


@pytest.mark.parametrize(("where", "size"), [(1, 1), (3, 3), (4, 4), (21, 21), (22, 22), (25, 25), (26, 25), (999, 25)])
async def test_a_frame_is_cut_where_it_is_asked_for(node: Node, where: int, size: int) -> None:
    assert len(FRAME) == 26
    talk = await talk_to(node)
    assert await is_alive(talk)
    node.faults.cut_inside_frame(where)
    correlation, _ = await ask_all(talk, Command.PING, Command.WRITE_EVENTS)
    assert await rest(talk) == pack(Command.PONG, b"echo", None, correlation)[:size]
    assert node.store.last_number("people") == -1


async def test_chance_decides_where_a_frame_is_cut(node: Node) -> None:
    sizes = []
    for where in (*map(Random, range(100)), None):
        talk = await talk_to(node)
        node.faults.cut_inside_frame(where)
        await ask_all(talk, Command.PING)
        sizes.append(len(await rest(talk)))
    assert set(sizes) == set(range(1, 26))


async def test_one_frame_to_each_connection_is_cut(node: Node) -> None:
    talks = [await talk_to(node) for _ in range(2)]
    node.faults.cut_inside_frame(5)
    other = await talk_to(node)
    assert await is_alive(other)
    for talk in talks:
        await ask_all(talk, Command.PING)
        assert len(await rest(talk)) == 5
    again = await talk_to(node)
    assert await is_alive(again)


async def test_one_frame_of_all_is_cut(node: Node) -> None:
    talks = [await talk_to(node) for _ in range(2)]
    node.faults.cut_inside_frame(5, each=False)
    new = await talk_to(node)
    await ask_all(new, Command.PING)
    assert len(await rest(new)) == 5
    for talk in talks:
        assert await is_alive(talk)


async def test_a_question_for_a_sign_of_life_is_cut_too(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.cut_inside_frame(5)
    assert await rest(talk) == b"\x12\0\0\0\x01"
    assert trio.current_time() == pytest.approx(2)


async def test_what_was_answered_before_arrives_whole(node: Node) -> None:
    talk = await talk_to(node)
    with node.faults.delay(1):
        (correlation,) = await ask_all(talk, Command.PING)
        await trio.sleep(0.5)
        node.faults.cut_inside_frame(5)
        await ask_all(talk, Command.PING)
        assert await rest(talk) == pack(Command.PONG, b"echo", None, correlation) + b"\x16\0\0\0\x04"


async def test_an_answer_that_comes_twice_is_cut_once(node: Node) -> None:
    talk = await talk_to(node)
    node.faults.answer_twice()
    node.faults.cut_inside_frame(5)
    await ask_all(talk, Command.READ_EVENT)
    assert len(await rest(talk)) == 5


async def test_frames_through_sockets_are_cut() -> None:
    async with open_node() as node:
        talk = await talk_through_socket(node)
        assert await is_alive(talk)
        node.faults.cut_inside_frame(5)
        await ask_all(talk, Command.PING)
        assert await talk.stream.receive_some() == b"\x16\0\0\0\x04"
        await assert_ended(talk)


# What cannot be meant


@pytest.mark.parametrize(
    ("begin", "text"),
    [
        (lambda faults: faults.pause(-1), "seconds: -1"),
        (lambda faults: faults.refuse(float("nan")), "seconds: nan"),
        (lambda faults: faults.not_ready(float("inf")), "seconds: inf"),
        (lambda faults: faults.restart(-1), "seconds: -1"),
        (lambda faults: faults.delay(-1), "seconds: -1"),
        (lambda faults: faults.delay(1, lasting=-1), "seconds: -1"),
        (lambda faults: faults.answer_late(-1), "seconds: -1"),
        (lambda faults: faults.answer_late(1, count=0), "count: 0"),
        (lambda faults: faults.answer_twice(count=-1), "count: -1"),
        (lambda faults: faults.drop_reply(Command.PONG), "command: .*PONG"),
        (lambda faults: faults.drop_reply(Command.CHECKPOINT_REACHED), "command: .*CHECKPOINT_REACHED"),
        (lambda faults: faults.cut_inside_frame(0), "where: 0"),
    ],
)
async def test_what_cannot_be_meant_is_refused(node: Node, begin: Callable[[object], None], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        begin(node.faults)
    assert node.faults.history == []
    assert await is_alive(await talk_to(node))
