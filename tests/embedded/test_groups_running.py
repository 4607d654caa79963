"""What groups do: who gets which event, how often, and what is written down of it."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.competing import (
    APPEARED,
    CHECKPOINTS,
    DELETE,
    DROPPED,
    PARKED,
    NakAction,
    Worker,
    delete_group,
    start,
    texts,
    tick,
)
from tests.embedded.talk import Desk, delete, link, new_event, new_events, new_id, read_stream
from trio_extreme.embedded.clients import Client
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.embedded.groups_running import Group

KEY = "jobs::group"


@pytest.fixture
def desk() -> Desk:
    return Desk()


def the_group(desk: Desk) -> Group:
    group = desk.service.groups.find("jobs", "group")
    assert group is not None
    return group


# Who gets what


def test_in_turn_to_those_with_room(desk: Desk) -> None:
    start(desk)
    first, second = Worker(desk, 3), Worker(desk, 2)
    desk.write("jobs", new_events(12))
    assert (first.numbers(), second.numbers()) == ([0, 2, 4], [1, 3])
    first.ack(0, 2, 4)
    assert (first.numbers(), second.numbers()) == ([5, 6, 7], [])
    second.ack(1, 3)
    assert (first.numbers(), second.numbers()) == ([], [8, 9])


def test_to_one_until_it_is_full(desk: Desk) -> None:
    start(desk, named_consumer_strategy="DispatchToSingle")
    first, second = Worker(desk, 3), Worker(desk, 2)
    desk.write("jobs", new_events(12))
    assert (first.numbers(), second.numbers()) == ([0, 1, 2], [3, 4])
    first.ack(0)
    second.ack(3)
    assert (first.numbers(), second.numbers()) == ([5], [6])


def categories(desk: Desk, *streams: str, metadata: bytes = b"") -> None:
    """An event in each of these, and a link to it in "jobs"."""
    for stream in streams:
        number = desk.write(stream, [new_event(metadata=metadata)]).first_event_number
        desk.write("jobs", [link(f"{number}@{stream}")])


@pytest.mark.parametrize("resolves", [True, False])
def test_pinned_to_the_stream_that_an_event_is_from(desk: Desk, *, resolves: bool) -> None:
    start(desk, named_consumer_strategy="Pinned", resolve_link_tos=resolves)
    first, second = Worker(desk, 2), Worker(desk, 9)
    categories(desk, "a", "b", "a", "b", "a", "b")
    # The third of the first stream waits for its consumer, and others pass.
    assert (first.numbers(), second.numbers()) == ([0, 2], [1, 3, 5])
    first.ack(0)
    assert (first.numbers(), second.numbers()) == ([4], [])
    first.unsubscribe()
    assert second.take() == [(2, 1), (4, 1)]
    second.ack(1, 3, 5)
    second.unsubscribe()
    third = Worker(desk)
    categories(desk, "a")
    assert third.numbers() == [2, 4, 6]


def test_pinned_events_wait_for_nobody_where_nobody_has_room(desk: Desk) -> None:
    start(desk, named_consumer_strategy="Pinned")
    desk.write("jobs", new_events(1))
    worker = Worker(desk, 0)
    assert worker.numbers() == []
    other = Worker(desk)
    # The bucket was given to nobody yet, so the one with room may have it, or the one without: the first is pinned.
    assert (worker.numbers(), other.numbers()) == ([], [])
    worker.unsubscribe()
    assert other.numbers() == [0]


def test_pinned_to_a_correlation_of_the_metadata() -> None:
    desk = Desk("20.10")
    start(desk, named_consumer_strategy="PinnedByCorrelation")
    first, second = Worker(desk), Worker(desk)
    metadata = [b'{"$correlationId":"x"}', b'{"$correlationId":"y"}', b'{"$correlationId":7}', b"[]", b"\xff", b""]
    desk.write("jobs", [new_event(metadata=data) for data in metadata + metadata])
    # What says nothing of that goes by its stream.
    assert (first.numbers(), second.numbers()) == ([0, 2, 3, 4, 5, 6, 8, 9, 10, 11], [1, 7])


@pytest.mark.parametrize("strategy", ["Pinned", "PinnedByCorrelation"])
def test_dead_links_are_pinned_to_the_stream_they_name(strategy: str) -> None:
    desk = Desk("20.10")
    start(desk, named_consumer_strategy=strategy, resolve_link_tos=True)
    first, second = Worker(desk), Worker(desk)
    desk.write("jobs", [link(data) for data in ("0@gone", "0@lost", "1@gone", "1@lost", "nowhere")])
    assert (first.numbers(), second.numbers()) == ([0, 2, 4], [1, 3])


def test_a_window_of_none_gets_nothing(desk: Desk) -> None:
    start(desk)
    worker = Worker(desk, 0)
    desk.write("jobs", new_events(1))
    assert worker.numbers() == []


def test_an_event_with_the_id_of_another_takes_room_that_no_ack_gives_back(desk: Desk) -> None:
    start(desk)
    worker = Worker(desk, 2)
    same = new_id()
    desk.write("jobs", [new_event(id=same)])
    desk.write("jobs", [new_event(id=same)], expected=0)
    desk.write("jobs", new_events(3))
    assert worker.numbers() == [0, 1]
    worker.ack(0)
    worker.ack(1)
    assert worker.numbers() == [2]
    worker.unsubscribe()
    assert Worker(desk).take() == [(2, 1), (3, 0), (4, 0)]


# Where a group begins


def test_from_a_number_from_the_end_and_live(desk: Desk) -> None:
    desk.write("jobs", new_events(5))
    for name, begin in (("from 3", 3), ("from the end", -1), ("from behind the end", 6)):
        start(desk, subscription_group_name=name, start_from=begin)
    workers = [Worker(desk, key=f"jobs::{name}") for name in ("from 3", "from the end", "from behind the end")]
    assert [worker.numbers() for worker in workers] == [[3, 4], [], []]
    desk.write("jobs", new_events(3))
    assert [worker.numbers() for worker in workers] == [[5, 6, 7], [5, 6, 7], [6, 7]]


def test_more_than_there_is_room_for_is_read_as_room_comes(desk: Desk) -> None:
    start(desk, buffer_size=10, read_batch_size=4)
    worker = Worker(desk, 3)
    desk.write("jobs", new_events(50))
    assert repr(the_group(desk)) == (
        "<Group jobs::group: 1 consumers, <Outstanding: 3 events>, <Backlog: 0 again, 10 new>>"
    )
    got = []
    while numbers := worker.numbers():
        got += numbers
        worker.ack(*numbers)
        if len(got) == 30:
            desk.write("jobs", new_events(10))
    assert got == list(range(60))
    assert the_group(desk).is_live


def test_what_was_truncated_or_has_expired_is_passed_over(desk: Desk) -> None:
    desk.write("jobs", new_events(30))
    desk.write("$$jobs", [new_event("$metadata", b'{"$tb":25}')])
    start(desk, read_batch_size=5)
    worker = Worker(desk)
    assert worker.numbers() == [25, 26, 27, 28, 29]
    desk.write("$$jobs", [new_event("$metadata", b'{"$maxAge":10}')])
    desk.clock.seconds += 60
    desk.write("jobs", new_events(1))
    start(desk, subscription_group_name="late", read_batch_size=1)
    assert Worker(desk, key="jobs::late").numbers() == [30]


def test_a_long_expired_stretch_is_read_over_some_ticks(desk: Desk) -> None:
    desk.write("jobs", new_events(250))
    desk.write("$$jobs", [new_event("$metadata", b'{"$maxAge":10}')])
    desk.clock.seconds += 60
    desk.write("jobs", new_events(1))
    start(desk, read_batch_size=1, start_from=0)
    worker = Worker(desk)
    heard = []
    for _ in range(3):
        heard.append(worker.numbers())
        tick(desk)
    assert heard == [[], [], [250]]


def test_of_a_deleted_stream_nothing_comes_until_it_is_written_again(desk: Desk) -> None:
    desk.write("jobs", new_events(3))
    desk.ask(Command.DELETE_STREAM, delete("jobs"))
    start(desk)
    worker = Worker(desk)
    assert worker.numbers() == []
    desk.write("jobs", new_events(1))
    assert worker.numbers() == [3]


# Links


def test_links_are_resolved_where_that_is_asked_for_and_acked_by_their_own_ids(desk: Desk) -> None:
    start(desk, resolve_link_tos=True, checkpoint_after_time=0)
    worker = Worker(desk, 1)
    desk.write("work", new_events(2))
    desk.write("jobs", [link("0@work"), link("7@work"), link("1@work")])
    (push,) = worker.pushed()
    resolved = push.event
    assert (resolved.event.event_stream_id, resolved.link.event_stream_id) == ("work", "jobs")
    worker.ids[0] = resolved.event.event_id
    worker.ack(0)
    assert worker.pushed() == []
    worker.ids[0] = resolved.link.event_id
    worker.ack(0)
    (push,) = worker.pushed()
    assert (push.event.HasField("event"), push.event.link.event_number) == (False, 1)
    worker.nak(1, action=NakAction.Park)
    assert worker.numbers() == [2]
    worker.nak(2, action=NakAction.Park)
    assert texts(desk, PARKED) == [b"7@work", b"1@work"]
    assert [json.loads(record.event.metadata)["subscriptionEventNumber"] for record in desk.store.records(PARKED)] == [
        1,
        2,
    ]


# What is said of events


def test_each_nak_does_what_it_does(desk: Desk) -> None:
    start(desk)
    worker = Worker(desk, 5)
    desk.write("jobs", new_events(6))
    worker.numbers()
    worker.nak(0, action=NakAction.Retry)
    worker.nak(1, action=NakAction.Unknown)
    assert worker.take() == [(0, 1), (1, 1)]
    worker.nak(2, action=NakAction.Skip)
    assert worker.take() == [(5, 0)]
    worker.nak(3, action=NakAction.Stop)
    worker.nak(4, action=NakAction.Park, message="no good")
    worker.nak(1, action=77)
    assert worker.take() == []
    (parked,) = desk.store.records(PARKED)
    assert (parked.event.data, parked.event.event_type, parked.event.data_content_type) == (b"4@jobs", "$>", 0)
    assert json.loads(parked.event.metadata) == {
        "added": "2023-11-14T22:13:20.000000+00:00",
        "reason": "Client explicitly NAK'ed message.\nno good",
        "subscriptionEventNumber": 4,
    }
    assert len(the_group(desk).outstanding) == 2


def test_too_many_retries_park(desk: Desk) -> None:
    start(desk, max_retry_count=2)
    worker = Worker(desk)
    desk.write("jobs", new_events(2))
    for retries in range(3):
        assert worker.take() == [(0, retries), (1, retries)]
        worker.nak(1, 0)
    assert worker.take() == []
    assert texts(desk, PARKED) == [b"1@jobs", b"0@jobs"]
    reasons = [json.loads(record.event.metadata) for record in desk.store.records(PARKED)]
    assert {reason["reason"] for reason in reasons} == {"Reached retry count of 2"}
    assert "subscriptionEventNumber" not in reasons[1]


def test_what_is_late_comes_again_and_makes_room(desk: Desk) -> None:
    start(desk, message_timeout_milliseconds=1500, max_retry_count=1)
    worker = Worker(desk, 2)
    desk.write("jobs", new_events(4))
    assert worker.take() == [(0, 0), (1, 0)]
    tick(desk)
    worker.ack(0)
    assert worker.take() == [(2, 0)]
    tick(desk)
    assert worker.take() == [(1, 1)]
    tick(desk)
    assert worker.take() == [(2, 1)]
    tick(desk)
    assert worker.take() == [(3, 0)]
    assert texts(desk, PARKED) == [b"1@jobs"]


def test_a_late_ack_counts_for_the_next_delivery(desk: Desk) -> None:
    start(desk, message_timeout_milliseconds=1000)
    first, second = Worker(desk, 1), Worker(desk, 1)
    desk.write("jobs", new_events(1))
    assert (first.take(), second.take()) == ([(0, 0)], [])
    tick(desk)
    assert (first.take(), second.take()) == ([], [(0, 1)])
    first.ack(0)
    assert len(the_group(desk).outstanding) == 0
    assert [consumer.room for consumer in the_group(desk).consumers] == [1, 1]
    second.ack(0)
    tick(desk)
    assert (first.take(), second.take()) == ([], [])


@pytest.mark.parametrize("version", VERSIONS)
def test_how_often_counts_when_consumers_leave(version: str) -> None:
    """Servers before 20.6 begin to count anew; later ones park what a lost connection had too often."""
    desk = Desk(version)
    start(desk, max_retry_count=2)
    desk.write("jobs", new_events(1))
    heard: list[int] = []
    for lost in (False, False, False, True, True, True, True):
        worker = Worker(desk)
        heard += [len(worker.pushed())]
        if lost:
            desk.service.forget(worker.caller.client)
        else:
            worker.unsubscribe()
    assert heard == ([1] * 7 if version in ("3.9.4", "4.1.1", "5.0") else [1, 1, 1, 1, 0, 0, 0])
    assert (texts(desk, PARKED) == [b"0@jobs"]) is (heard[-1] == 0)


def test_a_connection_with_several_consumers_is_lost_once() -> None:
    """None of them hands on to the next what it had."""
    desk = Desk("20.10")
    start(desk, max_retry_count=1)
    desk.write("jobs", new_events(4))
    caller = desk.new_caller()
    workers = [Worker(desk, 2, caller=caller) for _ in range(5)]
    assert sorted([taken for worker in workers for taken in worker.take()]) == [(n, 0) for n in range(4)]
    caller.replies.clear()
    desk.service.forget(caller.client)
    assert not caller.replies
    assert Worker(desk).take() == [(n, 1) for n in range(4)]
    assert texts(desk, PARKED) == []


def break_over(worker: Worker, command: int, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection breaks over the first frame of this command."""
    client = worker.caller.client
    reply = Client.reply

    def broken(to: Client, sent: int, *args: Any) -> None:
        reply(to, sent, *args)
        if to is client and sent == command:
            monkeypatch.undo()
            desk.service.forget(client)

    monkeypatch.setattr(Client, "reply", broken)


@pytest.mark.parametrize("strategy", ["RoundRobin", "DispatchToSingle", "Pinned"])
def test_a_connection_that_breaks_over_an_event(desk: Desk, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get what it had, each event once: it was going round with what waited, in the middle of that."""
    start(desk, named_consumer_strategy=strategy)
    first = Worker(desk, 3)
    desk.write("jobs", new_events(6))
    assert first.numbers() == [0, 1, 2]
    break_over(first, APPEARED, desk, monkeypatch)
    first.ack(1)
    assert [consumer.client for consumer in the_group(desk).consumers] == []
    assert len(the_group(desk).outstanding) == 0
    second = Worker(desk)
    assert sorted(second.numbers()) == [0, 2, 3, 4, 5]
    assert [consumer.room for consumer in the_group(desk).consumers] == [5]


def test_a_connection_that_breaks_over_being_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has two consumers; the group of one is deleted."""
    start(desk)
    start(desk, subscription_group_name="other")
    worker = Worker(desk)
    Worker(desk, key="jobs::other", caller=worker.caller)
    break_over(worker, DROPPED, desk, monkeypatch)
    assert desk.ask(DELETE, delete_group()).result == 0
    other = desk.service.groups.find("jobs", "other")
    assert other is not None
    assert other.consumers == []


def test_what_cannot_be_parked_is_lost_and_the_group_goes_on(desk: Desk) -> None:
    start(desk)
    desk.write(PARKED, new_events(1))
    assert desk.ask(Command.DELETE_STREAM, delete(PARKED, hard=True)).result == 0
    worker = Worker(desk, 1)
    desk.write("jobs", new_events(2))
    worker.numbers()
    worker.nak(0, action=NakAction.Park)
    assert worker.numbers() == [1]


# What was parked


def test_parked_events_are_replayed_as_new_ones_by_the_ids_of_their_links(desk: Desk) -> None:
    start(desk, checkpoint_after_time=0)
    worker = Worker(desk)
    desk.write("jobs", new_events(4))
    worker.numbers()
    worker.nak(1, 2, 3, action=NakAction.Park)
    the_group(desk).replay(stop_at=2)
    pushes = worker.pushed()
    assert [(push.event.event.event_number, push.event.link.event_number, push.retryCount) for push in pushes] == [
        (1, 0, 0),
        (2, 1, 0),
    ]
    visible = desk.ask(Command.READ_STREAM_EVENTS_FORWARD, read_stream(PARKED)).events
    assert [event.event.data for event in visible] == [b"3@jobs"]
    worker.ids = {number: push.event.link.event_id for number, push in enumerate(pushes)}
    worker.ack(0)
    worker.nak(1, action=NakAction.Park)
    visible = desk.ask(Command.READ_STREAM_EVENTS_FORWARD, read_stream(PARKED)).events
    assert [event.event.data for event in visible] == [b"3@jobs", b"2@jobs"]
    the_group(desk).replay()
    assert [push.event.event.event_number for push in worker.pushed()] == [3, 2]
    the_group(desk).replay()
    assert worker.pushed() == []


def test_a_replay_says_nothing_of_the_place(desk: Desk) -> None:
    start(desk)
    worker = Worker(desk)
    desk.write("jobs", new_events(6))
    worker.numbers()
    worker.nak(0, action=NakAction.Park)
    worker.ack(1, 2, 3, 4, 5)
    tick(desk)
    the_group(desk).replay()
    tick(desk, 5)
    assert texts(desk, CHECKPOINTS) == [b"5"]
    desk.service.forget(worker.caller.client)
    assert len(Worker(desk).pushed()) == 1


# Checkpoints


def test_by_time_no_sooner_than_that_and_with_as_many_at_least(desk: Desk) -> None:
    start(desk, checkpoint_after_time=3000, checkpoint_min_count=2, checkpoint_max_count=100)
    worker = Worker(desk, 50)
    desk.write("jobs", new_events(20))
    worker.numbers()
    worker.ack(0)
    tick(desk)
    assert texts(desk, CHECKPOINTS) == []
    worker.ack(1)
    tick(desk)
    assert texts(desk, CHECKPOINTS) == [b"1"]
    worker.ack(2, 3, 5)
    for _ in range(2):
        tick(desk)
        assert texts(desk, CHECKPOINTS) == [b"1"]
    tick(desk)
    assert texts(desk, CHECKPOINTS) == [b"1", b"3"]


def test_by_count_at_once(desk: Desk) -> None:
    start(desk, checkpoint_after_time=0, checkpoint_min_count=1, checkpoint_max_count=4)
    worker = Worker(desk, 50)
    desk.write("jobs", new_events(20))
    worker.numbers()
    worker.ack(3, 2, 1)
    tick(desk)
    assert texts(desk, CHECKPOINTS) == []
    worker.ack(0)
    assert texts(desk, CHECKPOINTS) == [b"3"]
    worker.nak(*range(4, 9), action=NakAction.Park)
    assert texts(desk, CHECKPOINTS) == [b"3", b"8"]


def test_what_waits_to_be_delivered_again_holds_it_back(desk: Desk) -> None:
    start(desk)
    worker = Worker(desk, 3)
    desk.write("jobs", new_events(3))
    worker.numbers()
    worker.ack(0, 2)
    worker.unsubscribe()
    tick(desk)
    assert texts(desk, CHECKPOINTS) == [b"0"]
    assert Worker(desk).take() == [(1, 1)]


def test_what_waits_for_its_consumer_holds_it_back(desk: Desk) -> None:
    start(desk, named_consumer_strategy="Pinned")
    first, second = Worker(desk, 1), Worker(desk)
    categories(desk, "a", "b", "a", "b")
    assert (first.numbers(), second.numbers()) == ([0], [1, 3])
    second.ack(1, 3)
    tick(desk)
    assert texts(desk, CHECKPOINTS) == []
    first.ack(0)
    tick(desk)
    assert texts(desk, CHECKPOINTS) == [b"1"]


# Time


def test_what_was_acked_is_forgotten_though_an_earlier_event_is_not() -> None:
    desk = Desk()
    start(desk)
    worker = Worker(desk, 1001)
    for _ in range(4):
        desk.write("jobs", new_events(1000))
        worker.ack(*[number for number in worker.numbers() if number])
    outstanding = the_group(desk).outstanding
    assert repr(outstanding) == "<Outstanding: 1 events>"
    assert len(outstanding._deadlines) <= 1000 + 2 * 1001
    assert len(outstanding._numbers) <= 1000 + 2 * 1001
    assert outstanding.lowest() == 0


# All of it together


@pytest.mark.parametrize("version", ["3.9.4", "4.1.1", "23.10"])
@pytest.mark.parametrize("strategy", ["RoundRobin", "DispatchToSingle", "Pinned"])
def test_whatever_happens_every_event_is_handled_or_parked(version: str, strategy: str) -> None:
    for seed in range(8):
        day = Day(Random(seed), version, strategy)
        for _ in range(150):
            day.step()
        day.end()


class Day:
    """Workers come, go, ack, nak and stall, and the node starts again; in the end one handles all that is left."""

    def __init__(self, random: Random, version: str, strategy: str) -> None:
        self.random = random
        self.desk = Desk(version)
        self.workers: list[Worker] = []
        self.handled: set[int] = set()
        self.written = 0
        room, retries = random.choice((5, 50)), random.choice((0, 3))
        start(
            self.desk,
            named_consumer_strategy=strategy,
            message_timeout_milliseconds=3000,
            buffer_size=room,
            read_batch_size=4,
            max_retry_count=retries,
        )

    def step(self) -> None:
        step = self.random.choice(("write", "write", "join", "tick", "leave", "lose", "say", "say", "say", "restart"))
        if step == "write":
            self.written = self.desk.write("jobs", new_events(self.random.randrange(1, 7))).last_event_number + 1
        elif step == "join":
            self.workers.append(Worker(self.desk, self.random.randrange(1, 6)))
        elif step == "tick":
            tick(self.desk, self.random.choice((1.0, 4.0)))
        elif step == "restart" and self.random.random() < 0.2:
            self.desk.service.groups.load()
            self.workers.clear()
        elif step in ("leave", "lose", "say") and self.workers:
            getattr(self, step)(self.random.choice(self.workers))
        for consumer in the_group(self.desk).consumers:
            assert 0 <= consumer.room <= consumer.size
            assert len(consumer.held) == consumer.size - consumer.room

    def leave(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.unsubscribe()

    def lose(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.desk.service.forget(worker.caller.client)

    def say(self, worker: Worker) -> None:
        """Something of events that it got of late; it may have them no more."""
        worker.pushed()
        numbers = [*worker.ids][-3:]
        action = self.random.choice((None, None, *NakAction))
        if numbers and action is None:
            worker.ack(*numbers)
        elif numbers and action is not None:
            worker.nak(*numbers, action=action)
        if action in (None, NakAction.Skip, NakAction.Stop):
            self.handled.update(numbers)

    def end(self) -> None:
        for worker in self.workers:
            worker.unsubscribe()
        last = Worker(self.desk, 1000)
        while numbers := last.numbers():
            last.ack(*numbers)
            self.handled.update(numbers)
            tick(self.desk)
        parked = {int(data.partition(b"@")[0]) for data in texts(self.desk, PARKED)}
        assert self.handled | parked == set(range(self.written))
        group = the_group(self.desk)
        assert len(group.outstanding) == len(group.backlog) == 0
