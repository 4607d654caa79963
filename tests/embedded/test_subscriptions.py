from __future__ import annotations

import pytest

from tests.embedded.talk import (
    ADMIN,
    Caller,
    Desk,
    append,
    delete,
    link,
    new_event,
    new_events,
    new_id,
    pack,
    subscribe,
)
from trio_extreme.embedded.records import NARROW_TOMBSTONE, WIDE_TOMBSTONE
from trio_extreme.embedded.subscriptions import DropReason
from trio_extreme.wire.commands import Command
from trio_extreme.wire.schema import ResolvedEvent, SubscribeToStream, SubscriptionConfirmation, UnsubscribeFromStream

APPEARED, DROPPED = Command.STREAM_EVENT_APPEARED, Command.SUBSCRIPTION_DROPPED


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def reader(desk: Desk) -> Caller:
    """Another client than the one that writes."""
    return desk.new_caller()


def pushed(caller: Caller) -> list[ResolvedEvent]:
    """What was pushed since the last look."""
    replies = list(caller.replies)
    caller.replies.clear()
    assert {reply.command for reply in replies} <= {APPEARED}
    return [reply.message.event for reply in replies]


def numbers(caller: Caller) -> list[int]:
    return [resolved.event.event_number for resolved in pushed(caller)]


def test_a_subscription_tells_where_the_stream_stands(desk: Desk, reader: Caller) -> None:
    confirmation: SubscriptionConfirmation = reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people")).message
    assert (confirmation.last_event_number, confirmation.last_commit_position) == (-1, desk.store.log.last)
    desk.write("people", new_events(3))
    confirmation = reader_of(desk).ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people")).message
    assert (confirmation.last_event_number, confirmation.last_commit_position) == (2, desk.store.log.last)
    desk.ask(Command.DELETE_STREAM, delete("people"))
    confirmation = reader_of(desk).ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people")).message
    assert confirmation.last_event_number == 2


def reader_of(desk: Desk) -> Caller:
    return desk.new_caller()


def test_a_subscription_to_the_log_has_no_last_number(reader: Caller) -> None:
    confirmation = reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe(""), ADMIN).message
    assert isinstance(confirmation, SubscriptionConfirmation)
    assert not confirmation.HasField("last_event_number")


def test_what_is_committed_from_now_on_is_pushed_in_order(desk: Desk, reader: Caller) -> None:
    desk.write("people", new_events(2))
    confirmed = reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    desk.write("people", new_events(2))
    desk.write("others", new_events(1))
    assert {reply.correlation for reply in reader.replies} == {confirmed.correlation}
    events = pushed(reader)
    records = desk.store.records("people")[2:]
    assert [one.event for one in events] == [record.event for record in records]
    assert [one.commit_position for one in events] == [record.position for record in records]
    assert [one.prepare_position for one in events] == [record.position for record in records]


def test_the_log_is_pushed_with_metadata_and_tombstones(desk: Desk, reader: Caller) -> None:
    reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe(""), ADMIN)
    desk.write("people", new_events(1))
    desk.ask(Command.DELETE_STREAM, delete("people"))
    desk.write("people", new_events(1))
    desk.ask(Command.DELETE_STREAM, delete("people", hard=True))
    streams = [one.event.event_stream_id for one in pushed(reader)]
    assert streams == ["people", "$$people", "people", "$$people", "people"]


def test_a_soft_delete_is_not_seen_in_the_stream_itself_and_a_hard_one_is(desk: Desk, reader: Caller) -> None:
    reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    desk.write("people", new_events(1))
    desk.ask(Command.DELETE_STREAM, delete("people"))
    desk.write("people", new_events(1))
    desk.ask(Command.DELETE_STREAM, delete("people", hard=True))
    assert [one.event.event_type for one in pushed(reader)] == ["happened", "happened", "$streamDeleted"]


@pytest.mark.parametrize(("version", "number"), [(0, NARROW_TOMBSTONE), (1, WIDE_TOMBSTONE)])
def test_a_tombstone_has_a_number_the_client_knows(desk: Desk, reader: Caller, version: int, number: int) -> None:
    reader.client.speaks = version
    reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    desk.ask(Command.DELETE_STREAM, delete("people", hard=True))
    assert numbers(reader) == [number]
    confirmation = reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people")).message
    assert confirmation.last_event_number == number


def test_links_are_followed_for_those_that_asked(desk: Desk, reader: Caller) -> None:
    other = desk.new_caller()
    reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("links", links=True))
    other.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("links"))
    desk.write("people", new_events(1))
    desk.write("links", [link("0@people"), link("9@people")])
    resolved, dead = pushed(reader)
    assert (resolved.event.event_stream_id, resolved.link.event_number) == ("people", 0)
    assert not dead.HasField("event")
    assert dead.link.event_number == 1
    assert [one.event.event_type for one in pushed(other)] == ["$>", "$>"]


def test_links_are_followed_to_what_one_may_not_read(desk: Desk, reader: Caller) -> None:
    desk.write("$secret", new_events(1))
    reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("links", links=True))
    desk.write("links", [link("0@$secret")])
    assert [one.event.event_stream_id for one in pushed(reader)] == ["$secret"]


def test_who_may_not_read_is_dropped(desk: Desk, reader: Caller) -> None:
    desk.write("$$people", [new_event("$metadata", b'{"$acl":{"$r":"$admins"}}')])
    for stream in ("", "people", "$settings"):
        reply = reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe(stream))
        assert (reply.command, reply.message.reason) == (DROPPED, DropReason.AccessDenied)
    desk.write("people", new_events(1))
    assert pushed(reader) == []


def test_a_stream_of_the_name_of_the_log_is_no_log(desk: Desk, reader: Caller) -> None:
    assert reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("$all"), ADMIN).message.last_event_number == -1
    desk.write("people", new_events(1))
    assert pushed(reader) == []


def test_a_missing_name_is_never_answered(reader: Caller) -> None:
    reader.tell(pack(Command.SUBSCRIBE_TO_STREAM, SubscribeToStream(resolve_link_tos=False), ADMIN))
    assert not reader.replies


def test_unsubscribing_ends_one_subscription(desk: Desk, reader: Caller) -> None:
    first = reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people")).correlation
    reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    reader.tell(pack(Command.UNSUBSCRIBE_FROM_STREAM, UnsubscribeFromStream(), None, first))
    dropped = reader.replies.popleft()
    assert (dropped.command, dropped.correlation) == (DROPPED, first)
    # Servers leave the reason out when it is this one.
    assert not dropped.message.ListFields()
    desk.write("people", new_events(1))
    assert numbers(reader) == [0]
    assert repr(desk.service.hub) == "<Hub: 1 subscriptions>"


def test_unsubscribing_what_is_none_is_not_answered(reader: Caller) -> None:
    reader.tell(pack(Command.UNSUBSCRIBE_FROM_STREAM, UnsubscribeFromStream()))
    assert not reader.replies


def test_an_id_used_twice_gets_events_twice(desk: Desk, reader: Caller) -> None:
    correlation = new_id()
    for _ in range(2):
        reader.tell(pack(Command.SUBSCRIBE_TO_STREAM, subscribe("people"), None, correlation))
    reader.replies.clear()
    desk.write("people", new_events(1))
    assert numbers(reader) == [0, 0]
    reader.tell(pack(Command.UNSUBSCRIBE_FROM_STREAM, UnsubscribeFromStream(), None, correlation))
    reader.replies.clear()
    desk.write("people", new_events(1))
    assert numbers(reader) == [1]


def test_a_client_that_is_gone_gets_nothing_more(desk: Desk, reader: Caller) -> None:
    other = desk.new_caller()
    for caller in (reader, other):
        caller.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        caller.ask(Command.SUBSCRIBE_TO_STREAM, subscribe(""), ADMIN)
    desk.service.hub.forget(reader.client)
    desk.write("people", new_events(1))
    assert pushed(reader) == []
    assert numbers(other) == [0, 0]
    desk.service.hub.forget(other.client)
    assert repr(desk.service.hub) == "<Hub: 0 subscriptions>"


def test_a_server_that_stops_drops_every_subscription(desk: Desk, reader: Caller) -> None:
    ids = [reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe(name)).correlation for name in ("a", "b")]
    desk.service.hub.drop_all(reader.client)
    assert [(reply.command, reply.correlation) for reply in reader.replies] == [(DROPPED, one) for one in ids]
    reader.replies.clear()
    desk.caller.ask(Command.WRITE_EVENTS, append("a", new_events(1)))
    assert pushed(reader) == []
