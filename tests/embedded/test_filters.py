"""Filters as the servers from 20.6 on have them: what they choose, pages of it, and subscriptions to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.talk import (
    ADMIN,
    Desk,
    begin,
    choose,
    commit,
    delete,
    link,
    new_event,
    new_events,
    read_filtered,
    read_log,
    subscribe,
    subscribe_filtered,
    write,
)
from trio_extreme.embedded.reads import LogResult
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.embedded.talk import Caller, Reply

FORWARD, BACKWARD = Command.FILTERED_READ_ALL_EVENTS_FORWARD, Command.FILTERED_READ_ALL_EVENTS_BACKWARD
SUBSCRIBE = Command.FILTERED_SUBSCRIBE_TO_STREAM
APPEARED, CHECKPOINT = Command.STREAM_EVENT_APPEARED, Command.CHECKPOINT_REACHED

each_version = pytest.mark.parametrize("version", ["20.10", "22.10", "23.10"])
WITHOUT = [name for name, version in VERSIONS.items() if FORWARD in version.lacks]


def open_desk(*streams: str, version: str = "20.10") -> Desk:
    """A log with one event for each name."""
    desk = Desk(version)
    desk.caller.client.speaks = 1
    for stream in streams:
        desk.write(stream, [new_event(type=f"{stream}-event")])
    return desk


def streams_of(page: schema.FilteredReadAllEventsCompleted) -> list[str]:
    return [resolved.event.event_stream_id for resolved in page.events]


def position_of(event: schema.ResolvedEvent) -> tuple[int, int]:
    return event.commit_position, event.prepare_position


def following(page: schema.FilteredReadAllEventsCompleted) -> tuple[int, int]:
    return page.next_commit_position, page.next_prepare_position


# --- what is chosen


@pytest.mark.parametrize(
    ("filter", "chosen"),
    [
        (choose("a"), ["a1", "a2"]),
        (choose("a2", "b", "zzz"), ["a2", "b1"]),
        (choose("1"), []),
        (choose("[ab]1$", regex=True), ["a1", "b1"]),
        # Only the first expression counts.
        (choose("^a", "b", regex=True), ["a1", "a2"]),
        (choose("$", by_type=True), ["$s"]),
        (choose(r"^[^\$].*", by_type=True, regex=True), ["a1", "a2", "b1", "c1"]),
        (choose("-ev[a-f]nt", by_type=True, regex=True), ["a1", "a2", "b1", "$s", "c1"]),
        # Without any data nothing is left out, whatever else it says.
        (schema.Filter(), ["a1", "a2", "b1", "$s", "c1"]),
        (schema.Filter(context=7, type=7), ["a1", "a2", "b1", "$s", "c1"]),
    ],
)
@each_version
def test_what_is_chosen(filter: schema.Filter, chosen: list[str], version: str) -> None:
    desk = open_desk("a1", "a2", "b1", "$s", "c1", version=version)
    assert streams_of(desk.ask(FORWARD, read_filtered(filter))) == chosen
    assert streams_of(desk.ask(BACKWARD, read_filtered(filter, (-1, -1)))) == chosen[::-1]


@pytest.mark.parametrize(
    ("filter", "reason"),
    [
        (choose("a(", regex=True), "regular expression: missing )"),
        (choose("a{99999999999}", regex=True), "regular expression: the repetition number is too large"),
        (schema.Filter(context=2, type=1, data=["a"]), "filter context 2"),
        (schema.Filter(context=1, type=-1, data=["a"]), "filter type -1"),
    ],
)
def test_what_cannot_be_read(filter: schema.Filter, reason: str) -> None:
    """The text names the command, which is how clients tell it from a server that has no filters."""
    desk = open_desk("a")
    for command, message in (
        (FORWARD, read_filtered(filter)),
        (BACKWARD, read_filtered(filter, (-1, -1))),
        (SUBSCRIBE, subscribe_filtered(filter)),
    ):
        reply = desk.caller.ask(command, message, ADMIN)
        assert reply.command == Command.BAD_REQUEST
        name = "".join(part.capitalize() for part in command.name.split("_"))
        text = f"Could not unwrap network package for command {name}.\n{reason}"
        assert reply.message.decode().startswith(text)
    assert desk.caller.client.subscriptions == {}


@pytest.mark.parametrize("version", WITHOUT)
def test_servers_before_20_6_do_not_know_them(version: str) -> None:
    assert WITHOUT == ["3.9.4", "4.1.1", "5.0"]
    desk = open_desk("a", version=version)
    for command, message in (
        (FORWARD, read_filtered(choose("a"))),
        (BACKWARD, read_filtered(choose("a"), (-1, -1))),
        (SUBSCRIBE, subscribe_filtered(choose("a"))),
    ):
        reply = desk.caller.ask(command, message, ADMIN)
        assert reply.command == Command.BAD_REQUEST
        assert reply.message == f"Could not unwrap network package for command {int(command)}.\n".encode()


def test_a_link_is_chosen_by_what_it_is_itself() -> None:
    desk = open_desk("people")
    desk.write("links", [link("0@people"), link("9@people")])
    for links in (False, True):
        assert streams_of(desk.ask(FORWARD, read_filtered(choose("people"), links=links))) == ["people"]
        by_type = desk.ask(FORWARD, read_filtered(choose("$>", by_type=True), links=links)).events
        assert len(by_type) == 2
    assert by_type[0].event.event_stream_id == "people"
    assert by_type[0].link.event_stream_id == "links"
    assert not by_type[1].HasField("event")


# --- pages


@each_version
def test_a_page_goes_on_behind_what_was_looked_at(version: str) -> None:
    """Whether it matched or not."""
    desk = open_desk("no", "yes", "no", "no", "yes", version=version)
    places = [position_of(event) for event in desk.ask(Command.READ_ALL_EVENTS_FORWARD, read_log()).events]
    page = desk.ask(FORWARD, read_filtered(choose("yes"), size=1, window=1))
    assert (streams_of(page), page.is_end_of_stream) == ([], False)
    assert following(page) == (places[1][0], 0)
    page = desk.ask(FORWARD, read_filtered(choose("yes"), following(page), size=1, window=3))
    assert (streams_of(page), page.is_end_of_stream) == (["yes"], False)
    assert following(page) == (places[2][0], 0)
    page = desk.ask(FORWARD, read_filtered(choose("yes"), following(page), size=2, window=2))
    assert (streams_of(page), page.is_end_of_stream) == ([], False)
    assert following(page) == (places[4][0], 0)


@each_version
def test_the_end(version: str) -> None:
    """Whoever has enough does not look whether there is more."""
    desk = open_desk("no", "yes", version=version)
    end = desk.store.log.end
    page = desk.ask(FORWARD, read_filtered(choose("yes"), size=1, window=9))
    assert (streams_of(page), page.is_end_of_stream, following(page)) == (["yes"], False, (end, 0))
    page = desk.ask(FORWARD, read_filtered(choose("yes"), following(page), size=1))
    assert (streams_of(page), page.is_end_of_stream, following(page)) == ([], True, (end, 0))
    page = desk.ask(FORWARD, read_filtered(choose("yes"), size=2, window=2))
    assert (streams_of(page), page.is_end_of_stream) == (["yes"], False)
    page = desk.ask(FORWARD, read_filtered(choose("yes"), size=2, window=3))
    assert (streams_of(page), page.is_end_of_stream) == (["yes"], True)
    # From the end, and from beyond it.
    for start in ((-1, -1), (end, end), (end + 1000, end + 1000)):
        page = desk.ask(FORWARD, read_filtered(choose("yes"), start))
        assert (streams_of(page), page.is_end_of_stream) == ([], True)
        assert following(page) == ((end, end) if start[0] < 0 else start)


@each_version
def test_records_that_are_no_events_are_not_looked_at(version: str) -> None:
    desk = open_desk("no", version=version)
    desk.write("yes", [])
    desk.write("yes", [])
    page = desk.ask(FORWARD, read_filtered(choose("yes"), size=2, window=2))
    assert (streams_of(page), page.is_end_of_stream) == ([], True)
    desk.write("yes", [new_event()])
    page = desk.ask(FORWARD, read_filtered(choose("yes"), following(page), size=2, window=2))
    assert streams_of(page) == ["yes"]


@each_version
def test_backwards(version: str) -> None:
    desk = open_desk("yes", "no", "no", "yes", version=version)
    places = [position_of(event) for event in desk.ask(Command.READ_ALL_EVENTS_FORWARD, read_log()).events]
    page = desk.ask(BACKWARD, read_filtered(choose("yes"), (-1, -1), size=1, window=3))
    assert (streams_of(page), page.is_end_of_stream, following(page)) == (["yes"], False, places[3])
    page = desk.ask(BACKWARD, read_filtered(choose("yes"), following(page), size=2, window=2))
    assert (streams_of(page), page.is_end_of_stream, following(page)) == ([], False, places[1])
    page = desk.ask(BACKWARD, read_filtered(choose("yes"), following(page), size=2, window=5))
    assert (streams_of(page), page.is_end_of_stream, following(page)) == (["yes"], True, places[0])


@each_version
def test_a_window_that_is_not_said_is_as_wide_as_a_page(version: str) -> None:
    desk = open_desk(*["no"] * 5, "yes", version=version)
    page = desk.ask(FORWARD, read_filtered(choose("yes"), size=5))
    assert (streams_of(page), page.is_end_of_stream) == ([], False)
    assert streams_of(desk.ask(FORWARD, read_filtered(choose("yes"), size=6))) == ["yes"]


def test_a_window_that_is_too_wide_to_be_looked_through_at_once() -> None:
    desk = open_desk()
    for _ in range(5):
        desk.write("no", new_events(1000))
    desk.write("yes", new_events(1))
    page = desk.ask(FORWARD, read_filtered(choose("yes"), window=2**31 - 1))
    assert (streams_of(page), page.is_end_of_stream) == ([], False)
    assert streams_of(desk.ask(FORWARD, read_filtered(choose("yes"), following(page)))) == []
    page = desk.ask(FORWARD, read_filtered(choose("yes"), following(page), window=2000))
    assert streams_of(page) == ["yes"]


@each_version
def test_errors(version: str) -> None:
    desk = open_desk("a", version=version)
    for start, size, text in (
        ((0, 0), 4097, "Read size too big"),
        ((-1, 0), 10, "Invalid position."),
        ((1, 1), 10, "impossible length"),
    ):
        page = desk.ask(FORWARD, read_filtered(choose("a"), start, size))
        assert page.result == LogResult.Error
        assert text in page.error
        assert (page.is_end_of_stream, following(page)) == (False, (-1, -1))


@each_version
def test_a_refusal_comes_as_if_there_were_no_filter(version: str) -> None:
    """A bug that servers have to this day: docs/protocol.md, pitfall 34."""
    desk = open_desk("a", version=version)
    ops = Credentials("ops", "changeit")
    for command, plain in ((FORWARD, 0xB7), (BACKWARD, 0xB9)):
        reply = desk.caller.ask(command, read_filtered(choose("a")), ops)
        assert (reply.command, reply.message.result) == (plain, LogResult.AccessDenied)
        assert following(reply.message) == (-1, -1)


def test_the_reply_commands() -> None:
    desk = open_desk("a")
    assert desk.caller.ask(FORWARD, read_filtered(choose("a")), ADMIN).command == 0xBB
    assert desk.caller.ask(BACKWARD, read_filtered(choose("a"), (-1, -1)), ADMIN).command == 0xBE


# --- transactions


def write_transaction(desk: Desk, stream: str, count: int) -> None:
    transaction = desk.ask(Command.TRANSACTION_START, begin(stream)).transaction_id
    desk.ask(Command.TRANSACTION_WRITE, write(transaction, new_events(count)))
    desk.ask(Command.TRANSACTION_COMMIT, commit(transaction))


def read_pages(desk: Desk, command: Command, size: int, window: int) -> list[tuple[str, int]]:
    place, found, is_end = (0, 0) if command == FORWARD else (-1, -1), list[tuple[str, int]](), False
    while not is_end:
        page = desk.ask(command, read_filtered(choose("yes"), place, size, window))
        found += [(resolved.event.event_stream_id, resolved.event.event_number) for resolved in page.events]
        place, is_end = following(page), page.is_end_of_stream
    return found


@each_version
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_page_may_end_within_a_transaction(size: int, version: str) -> None:
    desk = open_desk("yes-0", "no", version=version)
    write_transaction(desk, "yes-1", 3)
    write_transaction(desk, "no", 3)
    write_transaction(desk, "yes-2", 2)
    desk.write("no", new_events(1))
    all_of_it = [("yes-0", 0), ("yes-1", 0), ("yes-1", 1), ("yes-1", 2), ("yes-2", 0), ("yes-2", 1)]
    assert read_pages(desk, FORWARD, size, size) == all_of_it
    assert read_pages(desk, BACKWARD, size, size) == all_of_it[::-1]


def test_some_servers_skip_what_is_left_of_a_transaction() -> None:
    """Where they look through more than is wanted, which is why our client does not ask for that."""
    desk = open_desk("no", "no", "yes-0")
    write_transaction(desk, "yes-1", 3)
    desk.write("yes-2", new_events(1))
    assert read_pages(desk, FORWARD, 4, 4) == [("yes-0", 0), *[("yes-1", n) for n in range(3)], ("yes-2", 0)]
    # Four are looked at, of which the last is the first of three.
    assert read_pages(desk, FORWARD, 4, 100) == [("yes-0", 0), ("yes-1", 0), ("yes-2", 0)]
    desk.write("no", new_events(2))
    assert read_pages(desk, BACKWARD, 3, 100) == [("yes-2", 0), ("yes-0", 0)]


# --- subscriptions


def subscribed(desk: Desk, filter: schema.Filter, interval: int = -1, **options: Any) -> Caller:
    caller = desk.new_caller()
    caller.client.speaks = 1
    reply = caller.ask(SUBSCRIBE, subscribe_filtered(filter, interval, **options), ADMIN)
    assert reply.command == Command.SUBSCRIPTION_CONFIRMATION
    return caller


def heard(caller: Caller) -> list[Any]:
    """The stream of each event that was pushed, and the place of each checkpoint."""
    replies = list(caller.replies)
    caller.replies.clear()
    return [_what(reply) for reply in replies]


def _what(reply: Reply) -> Any:
    if reply.command == APPEARED:
        return reply.message.event.event.event_stream_id
    assert reply.command == CHECKPOINT
    return reply.message.commit_position, reply.message.prepare_position


def places(desk: Desk) -> list[tuple[int, int]]:
    return [position_of(event) for event in desk.ask(Command.READ_ALL_EVENTS_FORWARD, read_log()).events]


@each_version
def test_only_what_is_chosen_is_pushed(version: str) -> None:
    desk = open_desk("yes", version=version)
    caller = subscribed(desk, choose("yes"))
    for stream in ("no", "yes", "yes2", "no"):
        desk.write(stream, new_events(1))
    assert heard(caller) == ["yes", "yes2"]
    assert caller.ask(Command.SUBSCRIBE_TO_STREAM, subscribe(""), ADMIN).command == Command.SUBSCRIPTION_CONFIRMATION
    desk.write("no", new_events(1))
    assert heard(caller) == ["no"]


def test_the_confirmation_says_where_it_begins() -> None:
    desk = open_desk("yes", "yes")
    reply = desk.new_caller().ask(SUBSCRIBE, subscribe_filtered(choose("no")), ADMIN)
    assert reply.message.last_commit_position == places(desk)[-1][0]
    assert not reply.message.HasField("last_event_number")


@each_version
@pytest.mark.parametrize(
    ("interval", "after"),
    [(1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (3, [2, 5]), (6, [5]), (7, []), (-1, []), (0, range(6)), (-5, range(6))],
)
def test_checkpoints(interval: int, after: Sequence[int], version: str) -> None:
    """So many events were looked at; whether they match makes no difference, but that they come first if they do."""
    desk = open_desk(version=version)
    caller = subscribed(desk, choose("yes"), interval)
    streams = ["no", "yes", "no", "no", "yes", "no"]
    for stream in streams:
        desk.write(stream, new_events(1))
    expected: list[Any] = []
    for number, (stream, place) in enumerate(zip(streams, places(desk), strict=True)):
        expected += [stream] if stream == "yes" else []
        expected += [place] if number in after else []
    assert heard(caller) == expected


def test_of_a_stream() -> None:
    """.NET clients only ask for the log so, and servers take any stream."""
    desk = open_desk()
    caller = subscribed(desk, choose("wanted", by_type=True), 2, stream="people")
    desk.write("people", [new_event("wanted"), new_event("other"), new_event("wanted"), new_event("other")])
    desk.write("others", [new_event("wanted")])
    of_people = places(desk)[:4]
    assert heard(caller) == ["people", of_people[1], "people", of_people[3]]


def test_links_are_chosen_by_what_they_are_themselves() -> None:
    desk = open_desk("people")
    caller = subscribed(desk, choose("people"), links=True)
    links = subscribed(desk, choose("links"), links=True)
    desk.write("links", [link("0@people")])
    assert heard(caller) == []
    assert heard(links) == ["people"]


def test_an_event_of_a_transaction_has_the_place_of_both() -> None:
    desk = open_desk()
    caller = subscribed(desk, choose("no"), 1)
    write_transaction(desk, "people", 2)
    assert heard(caller) == places(desk)
    (commit_1, prepare_1), (commit_2, prepare_2) = places(desk)
    assert commit_1 == commit_2 > prepare_2 > prepare_1


def test_it_ends_as_any_other() -> None:
    desk = open_desk()
    caller = subscribed(desk, choose("yes"), 1)
    (correlation,) = caller.client.subscriptions
    assert desk.service.hub.remove(caller.client, correlation)
    desk.write("yes", new_events(1))
    assert heard(caller) == []
    caller = subscribed(desk, choose("yes"), 1)
    desk.service.hub.drop_all(caller.client)
    assert [reply.command for reply in caller.replies] == [Command.SUBSCRIPTION_DROPPED]


def test_a_tombstone_is_looked_at() -> None:
    desk = open_desk("people")
    caller = subscribed(desk, choose("$streamDeleted", by_type=True), 1)
    desk.ask(Command.DELETE_STREAM, delete("people", hard=True))
    assert heard(caller) == ["people", places(desk)[-1]]


# --- zeros


@pytest.mark.parametrize(("version", "leaves_out"), [("20.10", False), ("22.10", True)])
def test_zeros_are_left_out_as_elsewhere(version: str, *, leaves_out: bool) -> None:
    desk = open_desk("a", version=version)
    frames: list[bytes] = []
    desk.caller.client.send = frames.append
    desk.caller.tell_as(ADMIN, FORWARD, read_filtered(choose("b"), window=1))
    (frame,) = frames
    page = schema.FilteredReadAllEventsCompleted.FromString(frame[22:])
    assert page.HasField("is_end_of_stream") is not leaves_out
    assert page.HasField("next_prepare_position") is not leaves_out
