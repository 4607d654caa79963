"""Requests about groups: what is answered, and who may ask. What groups then do is in test_groups_running."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.embedded.competing import (
    ACK,
    APPEARED,
    CHECKPOINTS,
    CONFIRMED,
    CONNECT,
    CREATE,
    DELETE,
    DROPPED,
    NAK,
    PARKED,
    UNSUBSCRIBE,
    UPDATE,
    NakAction,
    Worker,
    ack,
    connect,
    create,
    delete_group,
    nak,
    start,
    texts,
    tick,
    update,
)
from tests.embedded.talk import (
    ADMIN,
    Desk,
    append,
    delete,
    new_event,
    new_events,
    new_id,
    pack,
    read_stream,
    talk_to,
)
from trio_extreme.embedded import open_node, run_inline
from trio_extreme.embedded.acl import User
from trio_extreme.embedded.reading import StreamResult
from trio_extreme.embedded.subscriptions import DropReason
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

Created = schema.CreatePersistentSubscriptionCompleted.CreatePersistentSubscriptionResult
Updated = schema.UpdatePersistentSubscriptionCompleted.UpdatePersistentSubscriptionResult
Deleted = schema.DeletePersistentSubscriptionCompleted.DeletePersistentSubscriptionResult
CONFIGURATION = "$persistentSubscriptionConfig"
JANE, OPS = Credentials("jane", "secret"), Credentials("ops", "changeit")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def told(reply: Any) -> tuple[int, str]:
    return reply.result, reply.reason


def test_a_group_is_created_updated_and_deleted(desk: Desk) -> None:
    assert told(desk.ask(CREATE, create())) == (Created.Success, "")
    assert told(desk.ask(CREATE, create())) == (Created.AlreadyExists, "Group 'group' already exists.")
    assert told(desk.ask(CREATE, create(event_stream_id="others"))) == (Created.Success, "")
    assert told(desk.ask(UPDATE, update(max_retry_count=7))) == (Updated.Success, "")
    missing = (Updated.DoesNotExist, "Group 'none' does not exist.")
    assert told(desk.ask(UPDATE, update(subscription_group_name="none"))) == missing
    assert told(desk.ask(DELETE, delete_group("none"))) == missing
    assert told(desk.ask(DELETE, delete_group())) == (Deleted.Success, "")
    assert told(desk.ask(DELETE, delete_group())) == (Deleted.DoesNotExist, "Group 'group' does not exist.")
    assert repr(desk.service.groups) == "<Groups: 1 groups, 0 consumers>"


@pytest.mark.parametrize("version", VERSIONS)
def test_settings_that_no_server_takes(version: str) -> None:
    desk = Desk(version)
    for changes in ({"event_stream_id": ""}, {"event_stream_id": "$all"}, {"named_consumer_strategy": "Random"}):
        outcome, reason = told(desk.ask(CREATE, create(**changes)))
        assert outcome == Created.Fail
        assert reason
    start(desk)
    worker = Worker(desk)
    reason = "Consumer strategy Random does not exist."
    assert told(desk.ask(UPDATE, update(named_consumer_strategy="Random"))) == (Updated.Fail, reason)
    desk.write("jobs", new_events(1))
    assert worker.numbers() == [0]


def test_what_is_preferred_counts_where_no_strategy_is_named(desk: Desk) -> None:
    for prefers, name in ((True, "RoundRobin"), (False, "DispatchToSingle")):
        start(desk, subscription_group_name=name, prefer_round_robin=prefers, named_consumer_strategy="")
        group = desk.service.groups.find("jobs", name)
        assert group is not None
        assert group.settings.named_consumer_strategy == name


def test_settings_that_make_no_sense_are_taken_by_old_servers(desk: Desk) -> None:
    desk.write("jobs", new_events(3))
    senseless: list[dict[str, int]] = [
        {"buffer_size": 0},
        {"read_batch_size": 600},
        {"start_from": -5},
        {"message_timeout_milliseconds": -1},
        {"checkpoint_max_count": -1, "checkpoint_min_count": -1},
        {"max_retry_count": -1},
        {"read_batch_size": -7},
    ]
    for number, changes in enumerate(senseless):
        start(desk, subscription_group_name=f"{number}", **changes)
        worker = Worker(desk, key=f"jobs::{number}")
        tick(desk)
        reads_nothing = changes.keys() & {"buffer_size", "start_from"} or changes.get("read_batch_size") == 600
        assert worker.numbers()[:3] == ([] if reads_nothing else [0, 1, 2])


@pytest.mark.parametrize("version", VERSIONS)
def test_who_may_change_groups(version: str) -> None:
    desk = Desk(version)
    desk.users["jane"] = User("secret", ("staff",))
    start(desk)
    everybody = {None: 3, JANE: 3, OPS: 3 if version in ("3.9.4", "4.1.1") else 0, ADMIN: 0}
    for credentials, result in everybody.items():
        for command, message in (
            (CREATE, create(subscription_group_name=credentials.login if credentials else "nobody")),
            (UPDATE, update()),
            (DELETE, delete_group(credentials.login if credentials else "group")),
        ):
            assert told(desk.ask(command, message, credentials))[0] == result
    if version == "4.1.1":
        desk.write("$settings", [new_event("$settings", b'{"$systemStreamAcl":{"$w":"staff"}}')])
        assert told(desk.ask(UPDATE, update(), JANE))[0] == 0


def test_a_refusal_says_why(desk: Desk) -> None:
    assert told(desk.ask(CREATE, create(), None))[1] == "You do not have permissions to create streams"
    assert told(desk.ask(UPDATE, update(), None))[1] == "You do not have permissions to update the subscription"
    assert told(desk.ask(DELETE, delete_group(), None))[1] == "You do not have permissions to create streams"


# Connecting


def test_a_consumer_is_told_where_the_stream_stands(desk: Desk) -> None:
    start(desk)
    confirmation = Worker(desk).confirmation
    assert (confirmation.subscription_id, confirmation.last_event_number) == ("jobs::group", -1)
    desk.write("jobs", new_events(2))
    confirmation = Worker(desk).confirmation
    assert (confirmation.last_event_number, confirmation.last_commit_position) == (1, desk.store.log.last)
    assert repr(desk.service.groups) == "<Groups: 1 groups, 2 consumers>"


def test_who_cannot_connect_is_told_why(desk: Desk) -> None:
    start(desk, subscriber_max_count=1)
    assert desk.hear(CONNECT, connect(group="none"), ADMIN).message.reason == DropReason.NotFound
    assert desk.hear(CONNECT, connect(stream="none"), ADMIN).message.reason == DropReason.NotFound
    desk.write("$$jobs", [new_event("$metadata", b'{"$acl":{"$r":"$admins"}}')])
    assert desk.hear(CONNECT, connect(), None).message.reason == DropReason.AccessDenied
    worker = Worker(desk)
    full = desk.hear(CONNECT, connect(), ADMIN)
    assert (full.command, full.message.reason) == (DROPPED, DropReason.SubscriberMaxCountReached)
    worker.unsubscribe()
    assert desk.hear(CONNECT, connect(), ADMIN).command == CONFIRMED


def test_what_can_be_no_request(desk: Desk) -> None:
    start(desk)
    for message in (connect(-1), connect(group=""), connect(stream="")):
        assert desk.hear(CONNECT, message, ADMIN).command == Command.BAD_REQUEST
    for command, said in ((ACK, ack([])), (NAK, nak([])), (ACK, ack([b"short"])), (NAK, nak([b"short"]))):
        assert desk.hear(command, said, ADMIN).command == Command.BAD_REQUEST
    worker = Worker(desk)
    worker.tell(CONNECT, connect())
    assert worker.caller.replies.popleft().command == Command.BAD_REQUEST


def test_what_is_said_of_nothing_is_not_answered(desk: Desk) -> None:
    caller = desk.caller
    for command, message in (
        (ACK, ack([bytes(16)], "jobs::none")),
        (NAK, nak([bytes(16)], key="jobs::none")),
        (UNSUBSCRIBE, b""),
    ):
        caller.tell(pack(command, message, ADMIN))
    start(desk)
    caller.tell(pack(ACK, ack([bytes(16)]), ADMIN))
    caller.tell(pack(NAK, nak([bytes(16)], 77), ADMIN))
    assert not caller.replies


def test_a_volatile_subscription_and_a_consumer_of_one_connection_end_each_by_itself(desk: Desk) -> None:
    start(desk)
    worker = Worker(desk)
    worker.caller.ask(Command.SUBSCRIBE_TO_STREAM, schema.SubscribeToStream(event_stream_id="jobs"), ADMIN)
    desk.write("jobs", new_events(1))
    assert sorted(reply.command for reply in worker.caller.replies) == [Command.STREAM_EVENT_APPEARED, APPEARED]
    worker.caller.replies.clear()
    worker.unsubscribe()
    desk.write("jobs", new_events(1))
    assert [reply.command for reply in worker.caller.replies] == [Command.STREAM_EVENT_APPEARED]


def test_an_unsubscribed_consumer_leaves_the_others_what_it_had(desk: Desk) -> None:
    start(desk)
    desk.write("jobs", new_events(4))
    first = Worker(desk, 3)
    assert first.take() == [(0, 0), (1, 0), (2, 0)]
    first.ack(1)
    first.unsubscribe()
    assert Worker(desk).take() == [(0, 1), (2, 1), (3, 1)]


@pytest.mark.parametrize("command", [UPDATE, DELETE])
def test_consumers_are_told_when_their_group_is_updated_or_deleted(desk: Desk, command: Command) -> None:
    start(desk)
    workers = [Worker(desk), Worker(desk)]
    assert desk.ask(command, update() if command == UPDATE else delete_group()).result == 0
    for worker in workers:
        worker.dropped()
        worker.tell(UNSUBSCRIBE)
        assert not worker.caller.replies
    assert repr(desk.service.groups).endswith("0 consumers>")
    desk.write("jobs", new_events(1))
    assert [worker.numbers() for worker in workers] == [[], []]


def test_an_update_goes_on_from_the_checkpoint(desk: Desk) -> None:
    start(desk)
    desk.write("jobs", new_events(6))
    worker = Worker(desk, 4)
    assert worker.numbers() == [0, 1, 2, 3]
    worker.ack(0, 1)
    tick(desk)
    worker.numbers()
    worker.ack(2)
    assert desk.ask(UPDATE, update(start_from=5)).result == 0
    assert Worker(desk).take() == [(2, 0), (3, 0), (4, 0), (5, 0)]


def test_a_deleted_group_leaves_nothing_to_the_next_of_its_name(desk: Desk) -> None:
    start(desk)
    desk.write("jobs", new_events(3))
    worker = Worker(desk)
    worker.numbers()
    worker.ack(0)
    worker.nak(1, action=NakAction.Park)
    tick(desk)
    assert desk.ask(DELETE, delete_group()).result == 0
    for stream in (CHECKPOINTS, PARKED):
        assert desk.ask(Command.READ_STREAM_EVENTS_FORWARD, read_stream(stream)).result == StreamResult.NoStream
    start(desk)
    worker = Worker(desk)
    assert worker.take() == [(0, 0), (1, 0), (2, 0)]
    worker.nak(2, action=NakAction.Park)
    worker.ack(0, 1)
    tick(desk)
    seen = desk.ask(Command.READ_STREAM_EVENTS_FORWARD, read_stream(PARKED)).events
    assert [event.event.data for event in seen] == [b"2@jobs"]
    start(desk, subscription_group_name="other")
    assert desk.ask(UPDATE, update()).result == 0
    assert Worker(desk).take() == []


# What is written down


def test_the_groups_are_written_down_as_servers_do(desk: Desk) -> None:
    start(desk)
    start(desk, subscription_group_name="second", message_timeout_milliseconds=0)
    (_, data) = texts(desk, CONFIGURATION)
    document = json.loads(data)
    assert (document["version"], document["updatedBy"]) == ("2", "admin")
    assert document["entries"][0] == {
        "stream": "jobs",
        "group": "group",
        "messageTimeout": 10_000,
        "liveBufferSize": 500,
        "historyBufferSize": 500,
        "maxRetryCount": 2,
        "readBatchSize": 20,
        "preferRoundRobin": True,
        "checkPointAfter": 1000,
        "minCheckPointCount": 1,
        "maxCheckPointCount": 500,
        "namedConsumerStrategy": "RoundRobin",
    }
    desk.service.groups.load()
    assert repr(desk.service.groups) == "<Groups: 2 groups, 0 consumers>"
    group = desk.service.groups.find("jobs", "second")
    assert group is not None
    expected = create(subscription_group_name="second", message_timeout_milliseconds=0)
    assert {field: getattr(group.settings, field) for field in expected.DESCRIPTOR.fields_by_name} == {
        field: getattr(expected, field) for field in expected.DESCRIPTOR.fields_by_name
    }


NO_LISTS = [
    *(b"", b"\xff", b"[]", b"{}", b'{"entries":1}', b'{"entries":[1]}', b'{"entries":[{"stream":7}]}', b"[" * 100_000),
    b'{"entries":[{"stream":"s","group":"g","namedConsumerStrategy":"Random"}]}',
]


@pytest.mark.parametrize("data", NO_LISTS, ids=range(len(NO_LISTS)))
def test_a_list_of_groups_that_no_server_wrote_is_empty(desk: Desk, data: bytes) -> None:
    start(desk)
    desk.write(CONFIGURATION, [new_event("anything", data)])
    desk.service.groups.load()
    assert repr(desk.service.groups) == "<Groups: 0 groups, 0 consumers>"


@pytest.mark.parametrize("data", [b"", b"null", b'"x"', b"-3", b"[]", b"9" * 30, b"1e999", b"true"], ids=range(8))
def test_a_checkpoint_that_no_server_wrote_is_none(desk: Desk, data: bytes) -> None:
    desk.write("jobs", new_events(2))
    desk.write(CHECKPOINTS, [new_event("anything", data)])
    start(desk)
    assert Worker(desk).numbers() == ([] if data == b"true" else [0, 1])


# In a node


async def test_a_node_ticks_while_it_has_groups(autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node:
        talk = await talk_to(node)
        await talk.ask(CREATE, create(message_timeout_milliseconds=1500))
        await talk.ask(CONNECT, connect())
        await talk.tell(Command.WRITE_EVENTS, append("jobs", new_events(1)), ADMIN)
        began = trio.current_time()
        pushes = []
        while len(pushes) < 3:
            reply = await talk.hear()
            assert reply is not None
            if reply.command == APPEARED:
                pushes.append((round(trio.current_time() - began, 6), reply.message.retryCount))
        assert pushes == [(0, 0), (2, 1), (4, 2)]
        await talk.ask(DELETE, delete_group())
        await trio.sleep(2)
        assert repr(node._timetable) == "<Timetable: 0 calls>"


async def test_in_a_pause_nothing_is_late(autojump_clock: MockClock) -> None:
    """What was acked in time lies unread until the node goes on."""
    async with open_node(port=None) as node:
        talk = await talk_to(node)
        await talk.ask(CREATE, create(message_timeout_milliseconds=1500, max_retry_count=3))
        await talk.ask(Command.WRITE_EVENTS, append("jobs", new_events(2)))
        heard = [await talk.ask(CONNECT, connect()), *await talk.hear_for(0.1)]
        ids = [reply.message.event.event.event_id for reply in heard[1:] if reply]
        node.faults.pause()
        await talk.tell(ACK, ack(ids[:1]), ADMIN)
        assert await talk.hear_for(60) == []
        node.faults.resume()
        heard = await talk.hear_for(1.5)
        pushed = [reply.message for reply in heard if reply and reply.command == APPEARED]
        assert [(push.event.event.event_number, push.retryCount) for push in pushed] == [(1, 1)]
        assert node.store.last_number(PARKED) == -1


@pytest.mark.parametrize("command", [CONNECT, ACK])
async def test_to_a_fault_what_is_handed_out_is_no_answer(command: int, autojump_clock: MockClock) -> None:
    """Though it comes under the id of the request for it, and of acks, which nobody answers."""
    async with open_node(port=None) as node:
        talk = await talk_to(node)
        await talk.ask(CREATE, create())
        await talk.ask(Command.WRITE_EVENTS, append("jobs", new_events(3)))
        node.faults.answer_twice(Command(command), count=2)
        correlation = new_id()
        await talk.stream.send_all(pack(CONNECT, connect(2), ADMIN, correlation))
        heard = [reply for reply in await talk.hear_for(0.1) if reply]
        await talk.stream.send_all(pack(ACK, ack([heard[-1].message.event.event.event_id]), ADMIN, correlation))
        commands = [reply.command for reply in (*heard, *await talk.hear_for(0.1)) if reply]
        assert commands == [CONFIRMED] * (2 if command == CONNECT else 1) + [APPEARED] * 3


async def test_a_node_with_a_file_goes_on_from_its_last_checkpoint(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "node.db"
    async with open_node(port=None, path=path, run_sync=run_inline) as node:
        talk = await talk_to(node)
        await talk.ask(CREATE, create())
        await talk.ask(Command.WRITE_EVENTS, append("jobs", new_events(5)))
        heard = [await talk.ask(CONNECT, connect(3)), *await talk.hear_for(0.1)]
        ids = [reply.message.event.event.event_id for reply in heard[1:] if reply]
        await talk.tell(ACK, ack(ids[:2]), ADMIN)
        await trio.sleep(1.5)
    async with open_node(port=None, path=path, run_sync=run_inline) as node:
        for _ in range(2):
            talk = await talk_to(node)
            heard = [await talk.ask(CONNECT, connect()), *await talk.hear_for(0.1)]
            pushed = [reply.message for reply in heard[1:] if reply]
            assert [(push.event.event.event_number, push.retryCount) for push in pushed] == [(2, 0), (3, 0), (4, 0)]
            node.faults.restart()
            await trio.sleep(0.1)


async def test_a_connection_that_ends_takes_its_consumers_along(autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node:
        talk, other = await talk_to(node), await talk_to(node)
        await talk.ask(CREATE, create(subscriber_max_count=1))
        await talk.ask(Command.WRITE_EVENTS, append("jobs", new_events(1)))
        await talk.ask(CONNECT, connect())
        refused = await other.ask(CONNECT, connect())
        assert refused is not None
        assert refused.command == DROPPED
        await talk.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        confirmed = await other.ask(CONNECT, connect())
        pushed = await other.hear()
        assert confirmed is not None
        assert pushed is not None
        assert (confirmed.command, pushed.message.retryCount) == (CONFIRMED, 1)


async def test_a_node_that_stops_tells_consumers_and_gives_their_events_to_nobody(autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node:
        talks = [await talk_to(node), await talk_to(node)]
        await talks[0].ask(CREATE, create())
        await talks[0].ask(Command.WRITE_EVENTS, append("jobs", new_events(1)))
        for talk in talks:
            await talk.ask(CONNECT, connect())
        node.faults.restart(graceful=True)
        heard = [[reply.command if reply else None for reply in await talk.hear_for(1)] for talk in talks]
        assert heard == [[APPEARED, DROPPED, None], [DROPPED, None]]


async def test_a_connection_to_a_group_of_which_the_confirmation_is_lost_is_none(autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node:
        talk = await talk_to(node)
        await talk.ask(CREATE, create(subscriber_max_count=1))
        node.faults.drop_reply(CONNECT)
        await talk.tell(CONNECT, connect(), ADMIN)
        assert await talk.hear_for(1) == []
        reply = await talk.ask(CONNECT, connect())
        assert reply is not None
        assert reply.command == CONFIRMED


def test_a_deleted_stream_of_a_group_is_deleted_for_its_consumers_too(desk: Desk) -> None:
    start(desk)
    worker = Worker(desk)
    desk.write("jobs", new_events(1))
    assert desk.ask(Command.DELETE_STREAM, delete("jobs", hard=True)).result == 0
    (first, tombstone) = worker.pushed()
    assert (first.event.event.event_number, tombstone.event.event.event_type) == (0, "$streamDeleted")
    assert Worker(desk).confirmation.last_event_number == 2**31 - 1
