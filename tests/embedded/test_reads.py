from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.talk import (
    ADMIN,
    Desk,
    delete,
    link,
    new_event,
    new_events,
    read_event,
    read_log,
    read_stream,
)
from trio_extreme.embedded.reading import EventResult, StreamResult
from trio_extreme.embedded.reads import LogResult
from trio_extreme.embedded.records import NARROW_TOMBSTONE, WIDE_TOMBSTONE
from trio_extreme.values import MAX_READ
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from trio_extreme.wire.schema import ReadAllEventsCompleted, ReadEventCompleted, ReadStreamEventsCompleted

FORWARD, BACKWARD = Command.READ_STREAM_EVENTS_FORWARD, Command.READ_STREAM_EVENTS_BACKWARD
LOG_FORWARD, LOG_BACKWARD = Command.READ_ALL_EVENTS_FORWARD, Command.READ_ALL_EVENTS_BACKWARD
FIRST = 168


@pytest.fixture
def desk() -> Desk:
    """A stream of three events."""
    desk = Desk()
    desk.write("people", new_events(3))
    return desk


def numbers(page: ReadStreamEventsCompleted | ReadAllEventsCompleted) -> list[int]:
    return [(one.link if one.HasField("link") else one.event).event_number for one in page.events]


def deny(desk: Desk, stream: str) -> None:
    """Let only admins read it."""
    desk.write(f"$${stream}", [new_event("$metadata", b'{"$acl":{"$r":"$admins"}}')])


# Single events


def test_an_event_is_the_one_that_was_written(desk: Desk) -> None:
    reply: ReadEventCompleted = desk.ask(Command.READ_EVENT, read_event("people", -1), None)
    assert reply.result == EventResult.Success
    assert reply.event.event == desk.store.records("people")[2].event
    assert not reply.event.HasField("link")
    assert not reply.HasField("error")


@pytest.mark.parametrize(
    ("stream", "number", "result"), [("people", 3, EventResult.NotFound), ("none", 0, EventResult.NoStream)]
)
def test_an_event_that_is_not_there_leaves_its_wrapper_empty(
    desk: Desk, stream: str, number: int, result: EventResult
) -> None:
    reply: ReadEventCompleted = desk.ask(Command.READ_EVENT, read_event(stream, number))
    assert reply.result == result
    assert reply.HasField("event")
    assert not reply.event.ListFields()


def test_no_metadata_is_a_success_without_an_event(desk: Desk) -> None:
    reply: ReadEventCompleted = desk.ask(Command.READ_EVENT, read_event("$$people", -1))
    assert (reply.result, reply.event.ListFields()) == (EventResult.Success, [])
    assert desk.ask(Command.READ_EVENT, read_event("$$none", -1)).result == EventResult.NoStream
    desk.ask(Command.DELETE_STREAM, delete("people", hard=True))
    assert desk.ask(Command.READ_EVENT, read_event("$$people", -1)).result == EventResult.StreamDeleted


def test_who_may_not_read_gets_no_event(desk: Desk) -> None:
    deny(desk, "people")
    reply: ReadEventCompleted = desk.ask(Command.READ_EVENT, read_event("people", 0), None)
    assert (reply.result, reply.event.ListFields()) == (EventResult.AccessDenied, [])


def test_a_link_to_what_one_may_not_read_is_denied(desk: Desk) -> None:
    desk.write("links", [link("0@people")])
    deny(desk, "people")
    reply: ReadEventCompleted = desk.ask(Command.READ_EVENT, read_event("links", 0, links=True), None)
    assert reply.result == EventResult.AccessDenied
    assert desk.ask(Command.READ_EVENT, read_event("links", 0), None).result == EventResult.Success
    reply = desk.ask(Command.READ_EVENT, read_event("links", 0, links=True), ADMIN)
    assert reply.event.event.event_stream_id == "people"
    assert reply.event.link.event_stream_id == "links"


# Streams


def test_a_page_has_every_field(desk: Desk) -> None:
    page: ReadStreamEventsCompleted = desk.ask(FORWARD, read_stream("people", 0, 2), None)
    assert [one.event for one in page.events] == [record.event for record in desk.store.records("people")[:2]]
    assert (page.result, page.next_event_number, page.last_event_number) == (StreamResult.Success, 2, 2)
    assert page.HasField("error")
    assert (page.is_end_of_stream, page.error) == (False, "")
    assert page.last_commit_position == desk.store.log.last


def test_a_page_backward_descends(desk: Desk) -> None:
    page: ReadStreamEventsCompleted = desk.ask(BACKWARD, read_stream("people", -1, 2), None)
    assert numbers(page) == [2, 1]
    assert (page.next_event_number, page.is_end_of_stream) == (0, False)


@pytest.mark.parametrize("command", [FORWARD, BACKWARD])
@pytest.mark.parametrize("count", [0, -1, MAX_READ + 1])
def test_an_impossible_count_is_an_error_and_no_bad_request(desk: Desk, command: Command, count: int) -> None:
    page: ReadStreamEventsCompleted = desk.ask(command, read_stream("people", 0, count))
    assert page.result == StreamResult.Error
    assert (page.next_event_number, page.last_event_number, page.is_end_of_stream) == (-1, -1, True)
    assert page.error != ""


def test_the_largest_page_is_read(desk: Desk) -> None:
    assert numbers(desk.ask(FORWARD, read_stream("people", 0, MAX_READ))) == [0, 1, 2]


def test_minus_one_is_the_end_backward_and_an_error_forward(desk: Desk) -> None:
    assert desk.ask(BACKWARD, read_stream("people", -1)).result == StreamResult.Success
    assert desk.ask(FORWARD, read_stream("people", -1)).result == StreamResult.Error


def test_who_may_not_read_gets_no_page(desk: Desk) -> None:
    deny(desk, "people")
    page: ReadStreamEventsCompleted = desk.ask(FORWARD, read_stream("people"), None)
    assert (page.result, numbers(page)) == (StreamResult.AccessDenied, [])
    assert (page.next_event_number, page.last_event_number, page.is_end_of_stream) == (-1, -1, True)


def test_links_are_followed_when_that_is_asked_for(desk: Desk) -> None:
    desk.write("links", [link("1@people"), link("9@people"), new_event()])
    plain: ReadStreamEventsCompleted = desk.ask(FORWARD, read_stream("links"))
    assert [one.event.event_type for one in plain.events] == ["$>", "$>", "happened"]
    page: ReadStreamEventsCompleted = desk.ask(FORWARD, read_stream("links", links=True))
    assert [one.HasField("link") for one in page.events] == [True, True, False]
    assert [one.HasField("event") for one in page.events] == [True, False, True]
    assert page.events[0].event.event_number == 1


def test_one_link_to_what_one_may_not_read_denies_the_page(desk: Desk) -> None:
    desk.write("secret", new_events(1))
    deny(desk, "secret")
    desk.write("links", [link("1@people"), link("0@secret"), link("rubbish")])
    page: ReadStreamEventsCompleted = desk.ask(FORWARD, read_stream("links", links=True), None)
    assert (page.result, numbers(page)) == (StreamResult.AccessDenied, [])
    assert numbers(desk.ask(FORWARD, read_stream("links", links=True), ADMIN)) == [0, 1, 2]


@pytest.mark.parametrize(("version", "number"), [(0, NARROW_TOMBSTONE), (1, WIDE_TOMBSTONE)])
def test_the_last_number_of_a_deleted_stream_is_one_the_client_knows(desk: Desk, version: int, number: int) -> None:
    desk.ask(Command.DELETE_STREAM, delete("people", hard=True))
    desk.caller.client.speaks = version
    page: ReadStreamEventsCompleted = desk.ask(FORWARD, read_stream("people"))
    assert (page.result, page.last_event_number) == (StreamResult.StreamDeleted, number)
    log: ReadAllEventsCompleted = desk.ask(LOG_FORWARD, read_log())
    assert numbers(log) == [0, 1, 2, number]


# The log


def test_the_log_is_read_page_by_page(desk: Desk) -> None:
    page: ReadAllEventsCompleted = desk.ask(LOG_FORWARD, read_log(size=2))
    first, second, third = desk.store.records("people")
    assert [(one.commit_position, one.prepare_position) for one in page.events] == [
        (record.position, record.position) for record in (first, second)
    ]
    assert (page.commit_position, page.prepare_position) == (0, 0)
    assert (page.next_commit_position, page.next_prepare_position) == (third.position, 0)
    assert not page.HasField("result")
    assert not page.HasField("error")
    assert numbers(desk.ask(LOG_FORWARD, read_log((page.next_commit_position, 0)))) == [2]


def test_the_log_is_read_from_its_end(desk: Desk) -> None:
    page: ReadAllEventsCompleted = desk.ask(LOG_BACKWARD, read_log((-1, -1), 2))
    assert numbers(page) == [2, 1]
    end = desk.store.log.end
    assert (page.commit_position, page.prepare_position) == (end, end)
    following = page.next_commit_position, page.next_prepare_position
    assert numbers(desk.ask(LOG_BACKWARD, read_log(following, 2))) == [0]
    assert numbers(desk.ask(LOG_FORWARD, read_log((-1, -1)))) == []


@pytest.mark.parametrize("command", [LOG_FORWARD, LOG_BACKWARD])
@pytest.mark.parametrize(
    ("start", "size"), [((-5, -5), 5), ((FIRST, -1), 5), ((1, 1), 5), ((FIRST, FIRST), MAX_READ + 1)]
)
def test_what_cannot_be_read_of_the_log(desk: Desk, command: Command, start: tuple[int, int], size: int) -> None:
    page: ReadAllEventsCompleted = desk.ask(command, read_log(start, size))
    assert (page.result, numbers(page)) == (LogResult.Error, [])
    assert page.error != ""
    assert (page.commit_position, page.prepare_position) == start
    assert (page.next_commit_position, page.next_prepare_position) == (-1, -1)


def test_who_may_not_read_the_log(desk: Desk) -> None:
    page: ReadAllEventsCompleted = desk.ask(LOG_FORWARD, read_log(), None)
    assert (page.result, numbers(page)) == (LogResult.AccessDenied, [])
    assert (page.next_commit_position, page.next_prepare_position) == (-1, -1)
    assert not page.HasField("error")


def test_links_in_the_log_are_followed_and_keep_their_own_position(desk: Desk) -> None:
    desk.write("links", [link("1@people")])
    (record,) = desk.store.records("links")
    page: ReadAllEventsCompleted = desk.ask(LOG_FORWARD, read_log((record.position, 0), links=True))
    (one,) = page.events
    assert (one.event.event_stream_id, one.link.event_stream_id) == ("people", "links")
    assert one.commit_position == one.prepare_position == record.position


def test_one_link_to_what_one_may_not_read_denies_the_log(desk: Desk) -> None:
    desk.write("$$$all", [new_event("$metadata", b'{"$acl":{"$r":"$all"}}')])
    desk.write("links", [link("0@people")])
    assert desk.ask(LOG_FORWARD, read_log(links=True), None).result == LogResult.Success
    deny(desk, "people")
    assert desk.ask(LOG_FORWARD, read_log(links=True), None).result == LogResult.AccessDenied
    assert desk.ask(LOG_FORWARD, read_log(), None).result == LogResult.Success


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Command.READ_EVENT, read_event("", 0)),
        (Command.READ_EVENT, read_event("people", -2)),
        (FORWARD, read_stream("")),
        (FORWARD, read_stream("people", -2)),
        (BACKWARD, read_stream("people", -2)),
    ],
    ids=range(5),
)
def test_impossible_arguments_are_a_bad_request(desk: Desk, command: Command, message: Message) -> None:
    reply: Any = desk.caller.ask(command, message, ADMIN)
    assert reply.command == Command.BAD_REQUEST
