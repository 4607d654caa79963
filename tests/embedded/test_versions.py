"""What each server does, seen from outside: one row for each field of the table, and the sections that it is from."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.competing import ACK, CHECKPOINTS, CONNECT, CREATE, Worker, ack, connect, create, texts, tick
from tests.embedded.talk import (
    ADMIN,
    Clock,
    Desk,
    append,
    begin,
    choose,
    commit,
    delete,
    link,
    new_event,
    new_events,
    pack,
    read_event,
    read_filtered,
    read_log,
    read_stream,
    subscribe,
    talk_to,
    write,
)
from tests.embedded.visiting import ADMIN as ADMIN_LOGIN, ask, basic, document, pages_of
from trio_extreme.embedded import open_node, run_inline
from trio_extreme.embedded.acl import User
from trio_extreme.embedded.group_pages import GroupPages
from trio_extreme.embedded.http import Web
from trio_extreme.embedded.projection_pages import ProjectionPages
from trio_extreme.embedded.projections import Projections
from trio_extreme.embedded.reading import EventResult, StreamResult
from trio_extreme.embedded.reads import LogResult
from trio_extreme.embedded.records import Place
from trio_extreme.embedded.subscriptions import DropReason
from trio_extreme.embedded.user_pages import UserPages
from trio_extreme.embedded.versions import VERSIONS, GroupChecks, Nameless, ServerVersion, find_version
from trio_extreme.embedded.writes import MAX_EVENT_SIZE
from trio_extreme.errors import InvalidArgument
from trio_extreme.http import Request
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock

    from trio_extreme.embedded.records import Record

FORWARD, LOG_FORWARD = Command.READ_STREAM_EVENTS_FORWARD, Command.READ_ALL_EVENTS_FORWARD
FILTERED_FORWARD = Command.FILTERED_READ_ALL_EVENTS_FORWARD
WRONG_VERSION = schema.OperationResult.WrongExpectedVersion
TOKEN = Credentials(token="a.b.c")
WIDE, NARROW = 2**63 - 1, 2**31 - 1


def test_every_version_is_found_by_its_short_name_and_by_its_full_one() -> None:
    assert list(VERSIONS) == ["3.9.4", "4.1.1", "5.0", "20.10", "22.10", "23.10"]
    for short, version in VERSIONS.items():
        assert find_version(short) is find_version(version.name) is version
        assert re.fullmatch(r"\d+\.\d+\.\d+", version.name)
        assert version.name.startswith(short)


def test_the_recorded_ones_are_those_that_there_are_recordings_of() -> None:
    assert [version.name for version in VERSIONS.values() if version.is_recorded] == ["3.9.4", "4.1.1"]


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    known = r"3\.9\.4, 4\.1\.1, 5\.0, 20\.10, 22\.10, 23\.10"
    with pytest.raises(InvalidArgument, match=rf"version: '4\.1' is none of those the node can be: {known}"):
        find_version("4.1")


# What a server is seen to do: each of these finds out the value of one field


def takes_tokens(desk: Desk) -> bool:
    desk.caller.tell_as(TOKEN, Command.PING, b"x")
    return desk.caller.replies.popleft().command == Command.PONG


def longest_name(desk: Desk) -> int:
    accepted = []
    for size in (127, 128, 255):
        name = "n" * size
        desk.users[name] = User(name)
        caller = desk.new_caller()
        caller.tell_as(Credentials(name, name), Command.PING, b"x")
        if caller.replies.popleft().command == Command.PONG:
            accepted.append(size)
    return max(accepted)


def refuses_empty_passwords(desk: Desk) -> bool:
    desk.users["guest"] = User("")
    desk.caller.tell_as(Credentials("guest", ""), Command.PING)
    return desk.caller.hung_up


def rechecks_logins(desk: Desk) -> bool:
    desk.caller.ask(Command.AUTHENTICATE, b"", ADMIN)
    del desk.users[ADMIN.login]
    return desk.caller.ask(Command.PING).command == Command.NOT_AUTHENTICATED


def narrows_numbers(desk: Desk) -> bool:
    desk.ask(Command.DELETE_STREAM, delete("gone", hard=True))
    last = desk.ask(FORWARD, read_stream("gone")).last_event_number
    assert last in (WIDE, NARROW)
    return bool(last == NARROW)


def omits_zeros(desk: Desk) -> bool:
    return not desk.write("people", new_events(1)).HasField("first_event_number")


def nameless_subscription(desk: Desk) -> Nameless:
    caller = desk.new_caller()
    caller.tell_as(ADMIN, Command.SUBSCRIBE_TO_STREAM, schema.SubscribeToStream(resolve_link_tos=False))
    if not caller.replies:
        return Nameless.IGNORED
    reply = caller.replies.popleft()
    if reply.command == Command.SUBSCRIPTION_DROPPED:
        assert reply.message.reason == DropReason.AccessDenied
        return Nameless.DENIED
    desk.write("people", new_events(1))
    assert caller.replies.popleft().command == Command.STREAM_EVENT_APPEARED
    return Nameless.EVERYTHING


def tombstone(desk: Desk) -> int:
    desk.write("people", new_events(1))
    desk.ask(Command.DELETE_STREAM, delete("people"))
    return int(desk.store.records("$$people")[0].event.data.removeprefix(b'{"$tb":').removesuffix(b"}"))


def number_size(desk: Desk) -> int:
    first, second = (desk.write("s", [new_event("t", b"")]).commit_position for _ in range(2))
    # 82 bytes of every record of the recorded servers, and the two texts.
    return second - first - 82 - 2


def says_current_version(desk: Desk) -> bool:
    return desk.write("people", new_events(1), expected=7).HasField("current_version")


def says_current_version_of_deletes(desk: Desk) -> bool:
    desk.write("people", new_events(3))
    reply: schema.DeleteStreamCompleted = desk.ask(Command.DELETE_STREAM, delete("people", 7))
    assert reply.result == WRONG_VERSION
    assert reply.current_version in (0, 2)
    return reply.HasField("current_version")


def says_where_it_was(desk: Desk) -> bool:
    events = new_events(2)
    first, second = desk.write("people", events), desk.write("people", events)
    assert (second.prepare_position, second.commit_position) in (2 * (-1,), 2 * (first.commit_position,))
    return second.commit_position == first.commit_position


def number_recreates(desk: Desk) -> bool:
    desk.write("people", new_events(2))
    desk.ask(Command.DELETE_STREAM, delete("people"))
    desk.write("people", new_events(1), expected=1)
    return bool(desk.ask(FORWARD, read_stream("people")).result == StreamResult.Success)


def deletes_what_never_was(desk: Desk) -> bool:
    reply = desk.ask(Command.DELETE_STREAM, delete("people"))
    assert reply.result in (0, WRONG_VERSION)
    return bool(reply.result == 0)


def counts_data_only(desk: Desk) -> bool:
    large = new_event(metadata=bytes(MAX_EVENT_SIZE))
    reply = desk.caller.ask(Command.WRITE_EVENTS, append("people", [large]), ADMIN)
    return reply.command == Command.WRITE_EVENTS_COMPLETED


def pushes_first(desk: Desk) -> bool:
    desk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    pushed_or_answered = desk.caller.ask(Command.WRITE_EVENTS, append("people", new_events(1)), ADMIN)
    desk.caller.replies.clear()
    return pushed_or_answered.command == Command.STREAM_EVENT_APPEARED


def takes_any_for_metastream(desk: Desk) -> bool:
    desk.write("people", new_events(1))
    assert desk.ask(Command.READ_EVENT, read_event("$$people", -1)).result == EventResult.Success
    return bool(desk.ask(Command.READ_EVENT, read_event("$xpeople", -1)).result == EventResult.Success)


def checks_link_targets(desk: Desk) -> bool:
    desk.write("$hidden", new_events(1))
    desk.write("links", [link("0@$hidden")])
    desk.users["jane"] = User("x")
    page = desk.ask(FORWARD, read_stream("links", links=True), Credentials("jane", "x"))
    assert page.result in (StreamResult.Success, StreamResult.AccessDenied)
    return bool(page.result == StreamResult.AccessDenied)


def skips_expired(desk: Desk) -> bool:
    page = read_expired(desk)
    assert page.next_event_number in (2, 8)
    return page.next_event_number == 8


def read_expired(desk: Desk, start: int = 0) -> schema.ReadStreamEventsCompleted:
    """A page of two events that have expired, of a stream of ten of which the last two have not."""
    assert isinstance(desk.clock, Clock)
    desk.write("$$people", [new_event("$metadata", b'{"$maxAge":60}')])
    desk.write("people", new_events(8))
    desk.clock.seconds += 61
    desk.write("people", new_events(2))
    page: schema.ReadStreamEventsCompleted = desk.ask(FORWARD, read_stream("people", start, 2))
    assert not page.events
    return page


def has_memory_streams(desk: Desk) -> bool:
    desk.write("people", new_events(1))
    confirmation = desk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("$mem-gossip"))
    assert confirmation.last_event_number == -1
    return bool(confirmation.last_commit_position == -1)


def as_if_filtering(desk: Desk) -> Desk:
    """The same server, did it know filters."""
    return Desk(replace(desk.store.version, lacks=frozenset()))


def ignores_empty_windows(desk: Desk) -> bool:
    desk = as_if_filtering(desk)
    desk.write("people", new_events(2))
    assert len(desk.ask(FILTERED_FORWARD, read_filtered(choose("p"), size=2)).events) == 2
    found = desk.ask(FILTERED_FORWARD, read_filtered(choose("p"), size=2, window=0)).events
    assert len(found) in (0, 2)
    return len(found) == 2


def skips_in_transactions(desk: Desk) -> bool:
    """As many events as are wanted come before it, and a wide window would have room for all of it."""
    desk = as_if_filtering(desk)
    desk.write("others", new_events(2))
    transaction = desk.ask(Command.TRANSACTION_START, begin("people")).transaction_id
    desk.ask(Command.TRANSACTION_WRITE, write(transaction, new_events(3)))
    desk.ask(Command.TRANSACTION_COMMIT, commit(transaction))
    desk.write("others", new_events(2))
    narrow = find(desk, window=2)
    assert narrow == [0, 1, 2]
    wide = find(desk, window=100)
    assert wide in ([], narrow)
    return wide == []


def find(desk: Desk, window: int) -> list[int]:
    """All events of people, two at a time."""
    found, place, is_end = list[int](), (0, 0), False
    while not is_end:
        page = desk.ask(FILTERED_FORWARD, read_filtered(choose("people"), place, 2, window))
        found += [resolved.event.event_number for resolved in page.events]
        place, is_end = (page.next_commit_position, page.next_prepare_position), page.is_end_of_stream
    return found


def checks_access_first(desk: Desk) -> bool:
    page = desk.ask(FORWARD, read_stream("$hidden", 0, 0), None)
    assert page.result in (StreamResult.Error, StreamResult.AccessDenied)
    return bool(page.result == StreamResult.AccessDenied)


def allows_anonymous(desk: Desk) -> bool:
    return bool(desk.ask(Command.READ_EVENT, read_event("people", 0), None).result == EventResult.NoStream)


def opens_nested_metastreams(desk: Desk) -> bool:
    return bool(desk.ask(Command.READ_EVENT, read_event("$$$$people", -1)).result != EventResult.AccessDenied)


def projections(desk: Desk) -> tuple[str, ...]:
    made = project(desk, [new_event("first")])
    streams = {
        "$streams": "$streams",
        "$category": "$stream_by_category",
        "$ce": "$by_category",
        "$et": "$by_event_type",
    }
    signed = sorted((record.event.metadata[:9], record.stream.partition("-")[0]) for record in made)
    assert [number for number, _ in signed] == [b'{"$v":"%d:' % number for number in range(1, 5)]
    return tuple(streams[stream] for _, stream in signed)


def categorizes_metadata(desk: Desk) -> bool:
    desk.write("$$people-1", [new_event("$metadata", b"{}")])
    return any(record.stream == "$ce-people" and record.number == 1 for record in project(desk, new_events(1)))


def project(desk: Desk, events: list[schema.NewEvent]) -> list[Record]:
    """What projections make of them, in a stream that has a category."""
    desk.write("people-1", events)
    calls: list[Callable[[], None]] = []
    Projections(desk.store, desk.service.hub, lambda _, call: calls.append(call)).wake()
    while calls:
        calls.pop()()
    written = desk.store.storage.forward(Place(0, 0), 1000)
    return [record for record in written if record.event.metadata.startswith(b'{"$v"')]


def acknowledges_before_looking(desk: Desk) -> bool:
    event = desk.write("people", new_events(1)).commit_position
    return bool(desk.ask(Command.TRANSACTION_WRITE, write(event, [])).result == schema.OperationResult.Success)


def answers_impossible_transactions(desk: Desk) -> bool:
    desk.caller.tell(pack(Command.TRANSACTION_COMMIT, commit(7), ADMIN))
    return bool(desk.caller.replies)


def strategies(desk: Desk) -> tuple[str, ...]:
    known = ("RoundRobin", "DispatchToSingle", "Pinned", "PinnedByCorrelation", "Random")
    return tuple(name for name in known if created(desk, name, named_consumer_strategy=name))


def created(desk: Desk, name: str, **settings: Any) -> bool:
    return bool(desk.ask(CREATE, create(subscription_group_name=name, **settings)).result == 0)


def group_checks(desk: Desk) -> GroupChecks:
    desk.caller.tell(pack(CREATE, create(read_batch_size=500), ADMIN))
    if not desk.caller.replies:
        return GroupChecks.SILENT
    takes_all = desk.caller.replies.popleft().message.result == 0
    assert created(desk, "before the first", start_from=-2) is takes_all
    return GroupChecks.NONE if takes_all else GroupChecks.TOLD


def lets_settings_rule_groups(desk: Desk) -> bool:
    return bool(desk.ask(CREATE, create(), Credentials("ops", "changeit")).result != 0)


def refuses_anonymous_consumers(desk: Desk) -> bool:
    assert created(desk, "group")
    # Those for whom nobody anonymous has any rights refuse them without looking at groups.
    desk.service.groups._store.version = replace(desk.store.version, allows_anonymous=True)
    return bool(desk.hear(CONNECT, connect()).command == Command.SUBSCRIPTION_DROPPED)


def worker_with(desk: Desk, count: int, size: int = 10, **settings: Any) -> Worker:
    """A consumer of a new group, and so many events in its stream."""
    assert created(desk, "group", **settings)
    desk.write("jobs", new_events(count))
    return Worker(desk, size)


def tells_retries(desk: Desk) -> bool:
    worker = worker_with(desk, 1)
    worker.pushed()
    worker.nak(0)
    (push,) = worker.pushed()
    return push.HasField("retryCount")


def forgets_retries(desk: Desk) -> bool:
    worker = worker_with(desk, 1, max_retry_count=1)
    worker.numbers()
    worker.nak(0)
    desk.service.forget(worker.caller.client)
    return Worker(desk).numbers() == [0]


def loses_live_links(desk: Desk) -> bool:
    worker = worker_with(desk, 0, resolve_link_tos=True)
    desk.write("me@home", new_events(1))
    desk.write("jobs", [link("0@me@home")])
    # What is read is found.
    assert created(desk, "late", resolve_link_tos=True)
    (read,), (pushed,) = Worker(desk, key="jobs::late").pushed(), worker.pushed()
    assert read.event.event.event_stream_id == "me@home"
    return not pushed.event.HasField("event")


def keeps_deadlines(desk: Desk) -> bool:
    worker = worker_with(desk, 1)
    worker.numbers()
    tick(desk, 9)
    worker.nak(0)
    tick(desk, 1)
    return worker.numbers() == [0, 0]


def waits_forever_for_0(desk: Desk) -> bool:
    worker = worker_with(desk, 1, message_timeout_milliseconds=0)
    tick(desk, 1)
    return worker.numbers() == [0]


def notes_what_is_not_handled(desk: Desk) -> bool:
    worker = worker_with(desk, 3)
    worker.numbers()
    worker.ack(0)
    tick(desk)
    (noted,) = texts(desk, CHECKPOINTS)
    desk.service.groups.load()
    assert Worker(desk).numbers() == [1, 2]
    return noted.strip(b'"') == b"1"


def writes_checkpoints_as_text(desk: Desk) -> bool:
    worker = worker_with(desk, 8)
    worker.numbers()
    worker.ack(*range(8))
    tick(desk)
    return texts(desk, CHECKPOINTS) == [b'"7"']


def refuses_empty_acks(desk: Desk) -> bool:
    desk.caller.tell(pack(ACK, ack([]), ADMIN))
    return bool(desk.caller.replies)


def reports_end_of_scavenge(desk: Desk) -> bool:
    return isinstance(desk.ask(Command.SCAVENGE_DATABASE), schema.ScavengeDatabaseCompleted)


def says_leader(desk: Desk) -> bool:
    return bool(document(ask(pages_of(desk), "/info"))["state"] == "leader")


def has_one_http_endpoint(desk: Desk) -> bool:
    (member,) = document(ask(pages_of(desk), "/gossip"))["members"]
    assert ("httpEndPointPort" in member) is ("isReadOnlyReplica" in member) is ("internalHttpPort" not in member)
    return "httpEndPointPort" in member


def gossips_version(desk: Desk) -> bool:
    (member,) = document(ask(pages_of(desk), "/gossip"))["members"]
    return "esVersion" in member


def tells_features(desk: Desk) -> bool:
    told = document(ask(pages_of(desk), "/info"))
    assert ("features" in told) is ("authentication" in told) is ("projectionsMode" not in told)
    return "features" in told


def opens_statistics(desk: Desk) -> bool:
    (opens,) = {ask(pages_of(desk), target).status == 200 for target in ("/stats", "/stats/tcp")}
    return opens


def office_of(desk: Desk) -> Web:
    """The pages for users, where there is one more."""
    web = Web(desk.service)
    UserPages(desk.service, web)
    desk.users["jane"] = User("x")
    return web


def opens_administration(desk: Desk) -> bool:
    return ask(office_of(desk), "/users").status == 200


def lets_users_see_themselves(desk: Desk) -> bool:
    pages = ("/users/jane", "/users/ops")
    (one, another) = (ask(office_of(desk), page, basic("jane", "x")).status == 200 for page in pages)
    return one and not another


def owns_passwords(desk: Desk) -> bool:
    change = Request(
        *("POST", "/users/jane/command/change-password", (basic(*ADMIN_LOGIN),)),
        body=b'{"currentPassword": "x", "newPassword": "y"}',
    )
    return office_of(desk).answer(change).status == 401


def lets_operators_project(desk: Desk) -> bool:
    web = Web(desk.service)
    projections = Projections(desk.store, desk.service.hub, lambda *_: None)
    ProjectionPages(projections, desk.store, web)
    command = Request("POST", "/projection/$streams/command/disable", (basic("ops", "changeit"),))
    return web.answer(command).status == 200


def group_told(desk: Desk) -> Any:
    """What is told of a group with one consumer."""
    web = Web(desk.service)
    GroupPages(desk.service.groups, desk.store.version, web, lambda _: "")
    assert created(desk, "group")
    Worker(desk)
    return document(ask(web, "/subscriptions/jobs/group/info", basic(*ADMIN_LOGIN)))


def replays_some(desk: Desk) -> bool:
    (consumer,) = group_told(desk)["connections"]
    return "connectionName" in consumer


def tells_parked(desk: Desk) -> bool:
    return "parkedMessageCount" in group_told(desk)


@dataclass(frozen=True)
class Row:
    """What the six servers do, in order; `section` is where docs/protocol.md says so."""

    look: Callable[[Desk], Any]
    section: str
    values: tuple[Any, ...]

    @property
    def field(self) -> str:
        return self.look.__name__

    def __str__(self) -> str:
        return self.field


def since(place: int) -> tuple[bool, ...]:
    """True of the servers from this place in the table on."""
    return tuple(number >= place for number in range(6))


def until(place: int) -> tuple[bool, ...]:
    """True of those before it."""
    return tuple(number < place for number in range(6))


IGNORED, DENIED, EVERYTHING = Nameless.IGNORED, Nameless.DENIED, Nameless.EVERYTHING
UNCHECKED, SILENT, TOLD = GroupChecks.NONE, GroupChecks.SILENT, GroupChecks.TOLD
PINNING = ("RoundRobin", "DispatchToSingle", "Pinned")
BY_STREAM = ("$streams", "$stream_by_category", "$by_category", "$by_event_type")
BY_CATEGORY = ("$stream_by_category", "$by_category", "$streams", "$by_event_type")
ROWS = [
    Row(takes_tokens, "1.2: bearer token", since(3)),
    Row(longest_name, "1.2: login, password", (255, 255, 255, 127, 127, 127)),
    Row(refuses_empty_passwords, "1.2: login given, password empty and payload empty", until(3)),
    Row(rechecks_logins, "1.3: after a failed Authenticate", until(3)),
    Row(narrows_numbers, "1.3: version 0", until(4)),
    Row(omits_zeros, "2.4: from 22.6+", since(4)),
    Row(nameless_subscription, "2.4: missing event_stream_id", (*2 * [IGNORED], EVERYTHING, DENIED, *2 * [EVERYTHING])),
    Row(tombstone, "3.3: soft", (NARROW, *5 * [WIDE])),
    Row(number_size, "recordings: append", (4, *5 * [8])),
    Row(says_current_version, "3.1: current_version", since(1)),
    Row(says_current_version_of_deletes, "3.3: reply positions", since(4)),
    Row(says_where_it_was, "3.1: idempotent reply positions", since(3)),
    Row(number_recreates, "recordings: delete_soft", until(1)),
    Row(deletes_what_never_was, "3.3: stream does not exist", until(4)),
    Row(counts_data_only, "3.1: one event", since(4)),
    Row(pushes_first, "recordings: subscribe_stream", since(1)),
    Row(acknowledges_before_looking, "3.2: write", until(3)),
    Row(answers_impossible_transactions, "3.2: commit", until(3)),
    Row(takes_any_for_metastream, "3.4: Success with empty ResolvedIndexedEvent", until(4)),
    Row(checks_link_targets, "3.5: resolve_link_tos", until(3)),
    Row(skips_expired, "3.5: forward, page inside a `$maxAge`-expired region", since(3)),
    Row(ignores_empty_windows, "3.7: max_search_window", since(4)),
    Row(skips_in_transactions, "3.7: explicit transactions", until(5)),
    Row(has_memory_streams, "3.8: 23.10+", since(5)),
    Row(strategies, "3.10: PinnedByCorrelation 20.6+", (*3 * [PINNING], *3 * [(*PINNING, "PinnedByCorrelation")])),
    Row(group_checks, "3.10: read_batch_size ≥ buffer_size", (*3 * [UNCHECKED], SILENT, *2 * [TOLD])),
    Row(lets_settings_rule_groups, "3.10: who may create/update/delete", until(2)),
    Row(refuses_anonymous_consumers, "3.10: no read access", since(3)),
    Row(tells_retries, "3.10: retryCount (4.1.0+)", since(1)),
    Row(forgets_retries, "3.10: lost through a disconnect", until(3)),
    Row(loses_live_links, "6, 51: persistent live path", until(3)),
    Row(keeps_deadlines, "recordings: persistent_consume", until(1)),
    Row(waits_forever_for_0, "3.10: message_timeout_milliseconds", until(3)),
    Row(notes_what_is_not_handled, "recordings: persistent_consume", until(1)),
    Row(writes_checkpoints_as_text, "3.10: JSON string [23]", since(5)),
    Row(refuses_empty_acks, "3.10: several ids", until(4)),
    Row(reports_end_of_scavenge, "3.11", until(2)),
    Row(checks_access_first, "3.12: 20.6+ checks run before the operation in a gateway", since(3)),
    Row(allows_anonymous, "3.12: 23.6+", until(5)),
    Row(opens_nested_metastreams, "3.12: `$$$$x`", since(3)),
    Row(projections, "3.13: number", (BY_STREAM, BY_CATEGORY, *4 * [BY_STREAM])),
    Row(categorizes_metadata, "3.13: $by_category", until(2)),
    Row(says_leader, "5: State names", since(3)),
    Row(has_one_http_endpoint, "5: Gossip shapes", since(3)),
    Row(gossips_version, "5: [23] adds esVersion", since(5)),
    Row(tells_features, "5: GET /info", since(3)),
    Row(opens_statistics, "5: GET /stats", until(5)),
    Row(opens_administration, "5: GET /users", until(2)),
    Row(lets_users_see_themselves, "5: GET /users", since(3)),
    Row(owns_passwords, "5: POST /users/{login}/command/change-password", since(3)),
    Row(lets_operators_project, "5: POST /projection/{name}/command/enable", since(3)),
    Row(replays_some, "5: POST /subscriptions/{stream}/{group}/replayParked", since(3)),
    Row(tells_parked, "5: GET /subscriptions/{stream}/{group}/info", since(4)),
]
ELSEWHERE = {
    "name": "test_every_version_is_found",
    "short": "test_every_version_is_found",
    "is_recorded": "test_the_recorded_ones",
    "summary": "tests/cli/test_serve",
    "lacks": "test_service",
    "send_limit": "test_connection",
    "queue_limit": "test_connection",
    "heartbeat_interval": "test_connection",
    "heartbeat_timeout": "test_connection",
    "watches_both_ways": "test_connection",
    "gossips_alone": "test_visits",
}
"""Fields that no desk shows, and where they are tested."""


def open_desk(version: ServerVersion) -> Desk:
    return Desk(version, tokens={TOKEN.token: ADMIN.login})


def test_every_field_has_a_row() -> None:
    assert sorted([*(row.field for row in ROWS), *ELSEWHERE]) == sorted(field.name for field in fields(ServerVersion))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_each_server_does_as_it_does(row: Row) -> None:
    seen = [row.look(open_desk(version)) for version in VERSIONS.values()]
    assert tuple(seen) == row.values, row.section


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_it_is_that_field_and_no_other(row: Row, version: ServerVersion) -> None:
    """Each server with one value of another one does in this respect as that one does."""
    for value in set(row.values):
        assert row.look(open_desk(replace(version, **{row.field: value}))) == value


# What a field means in more than one place

OLDER, NEWER = (
    pytest.mark.parametrize("version", ["4.1.1", "5.0"]),
    pytest.mark.parametrize("version", ["20.10", "23.10"]),
)


@NEWER
@pytest.mark.parametrize("command", [FORWARD, Command.READ_STREAM_EVENTS_BACKWARD])
def test_a_refused_page_knows_nothing_where_access_comes_first(version: str, command: Command) -> None:
    """3.5: access denied."""
    page = Desk(version).ask(command, read_stream("$hidden"), None)
    assert (page.result, page.next_event_number, page.is_end_of_stream) == (StreamResult.AccessDenied, -1, True)
    assert (page.last_event_number, page.last_commit_position) == (0, 0)


@OLDER
def test_a_refused_page_knows_where_the_log_ends(version: str) -> None:
    desk = Desk(version)
    desk.write("people", new_events(2))
    page = desk.ask(FORWARD, read_stream("$hidden"), None)
    assert (page.last_event_number, page.last_commit_position) == (-1, desk.store.log.last)


@NEWER
@pytest.mark.parametrize("command", [LOG_FORWARD, Command.READ_ALL_EVENTS_BACKWARD])
@pytest.mark.parametrize("size", [10, 5000])
def test_a_refused_page_of_the_log_is_nowhere(version: str, command: Command, size: int) -> None:
    """3.6: AccessDenied. A page that is too large is denied all the same."""
    page = Desk(version).ask(command, read_log((168, 168), size), None)
    assert page.result == LogResult.AccessDenied
    assert {page.commit_position, page.prepare_position, page.next_commit_position, page.next_prepare_position} == {-1}


@OLDER
def test_a_refused_page_of_the_log_is_where_it_was_asked_for(version: str) -> None:
    desk = Desk(version)
    page = desk.ask(LOG_FORWARD, read_log((168, 168)), None)
    assert (page.result, page.commit_position, page.next_commit_position) == (LogResult.AccessDenied, 168, -1)
    assert desk.ask(LOG_FORWARD, read_log((168, 168), 5000), None).result == LogResult.Error


@NEWER
def test_links_lead_anywhere(version: str) -> None:
    """3.5: 20.6+ targets are not access-checked."""
    desk = Desk(version)
    desk.write("$hidden", new_events(1))
    desk.write("links", [link("0@$hidden")])
    desk.write("$$$all", [new_event("$metadata", b'{"$acl":{"$r":"jane"}}')])
    desk.users["jane"] = User("x")
    jane = Credentials("jane", "x")
    assert desk.ask(Command.READ_EVENT, read_event("links", 0, links=True), jane).event.event.data == b"0"
    targets = [event.event.event_stream_id for event in desk.ask(LOG_FORWARD, read_log(links=True), jane).events]
    assert targets == ["$hidden", "$hidden", "$$$all"]


@pytest.mark.parametrize("version", ["22.10", "23.10"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_delete_that_is_done_tells_the_number_of_its_event(version: str, *, hard: bool) -> None:
    desk = Desk(version)
    desk.write("people", new_events(3))
    reply = desk.ask(Command.DELETE_STREAM, delete("people", 2, hard=hard))
    assert reply.current_version == (WIDE if hard else 0)


@pytest.mark.parametrize("version", ["22.10", "23.10"])
def test_of_what_never_was_a_hard_delete_works(version: str) -> None:
    """3.3: stream does not exist."""
    desk = Desk(version)
    refused = desk.ask(Command.DELETE_STREAM, delete("people", -1))
    assert (refused.result, refused.current_version, refused.commit_position) == (WRONG_VERSION, -1, -1)
    assert desk.ask(Command.DELETE_STREAM, delete("people", -1, hard=True)).result == 0
    desk.write("$$folk", [new_event("$metadata", b"{}")])
    assert desk.ask(Command.DELETE_STREAM, delete("folk")).result == 0


@NEWER
def test_a_page_in_which_all_has_expired(version: str) -> None:
    """3.5. The next page holds what has not."""
    desk = Desk(version)
    page = read_expired(desk)
    assert (page.next_event_number, page.last_event_number, page.is_end_of_stream) == (8, 9, False)
    page = desk.ask(FORWARD, read_stream("people", 8, 2))
    assert [event.event.event_number for event in page.events] == [8, 9]
    desk.clock.seconds += 61
    for start, size in ((0, 2), (7, 2), (9, 100), (30, 5)):
        page = desk.ask(FORWARD, read_stream("people", start, size))
        assert (len(page.events), page.next_event_number, page.is_end_of_stream) == (0, 10, True)


@NEWER
def test_a_login_that_was_wrong_stays_wrong(version: str) -> None:
    """1.3: after a failed Authenticate."""
    desk = Desk(version)
    jane = Credentials("jane", "x")
    assert desk.caller.ask(Command.AUTHENTICATE, b"", jane).command == Command.NOT_AUTHENTICATED
    desk.users["jane"] = User("x")
    assert desk.caller.ask(Command.PING).command == Command.NOT_AUTHENTICATED
    assert desk.caller.ask(Command.PING, b"", jane).command == Command.PONG


@NEWER
def test_a_login_that_begins_with_no_ascii_is_a_bad_package(version: str) -> None:
    """1.2: misread as a token."""
    desk = Desk(version)
    desk.users["\u0111oka"] = User("x")
    desk.caller.tell_as(Credentials("\u0111oka", "x"), Command.PING)
    assert desk.caller.hung_up
    older = Desk("5.0")
    older.users["\u0111oka"] = User("x")
    older.caller.tell_as(Credentials("\u0111oka", "x"), Command.PING)
    assert not older.caller.hung_up


@NEWER
def test_a_token_is_its_users(version: str) -> None:
    desk = Desk(version, tokens={TOKEN.token: "ops"})
    assert desk.ask(LOG_FORWARD, read_log(), TOKEN).result == LogResult.AccessDenied
    assert desk.caller.ask(Command.AUTHENTICATE, b"", TOKEN).command == Command.AUTHENTICATED
    unknown = desk.caller.ask(Command.PING, b"", Credentials(token="b.c.d"))
    assert (unknown.command, unknown.message) == (Command.NOT_AUTHENTICATED, b"Not Authenticated")
    del desk.users["ops"]
    assert desk.caller.ask(Command.PING, b"", TOKEN).command == Command.NOT_AUTHENTICATED


def test_someone_anonymous_may_ping_and_nothing_else() -> None:
    """3.12: 23.6+."""
    desk = Desk("23.10")
    desk.write("people", new_events(1))
    assert desk.caller.ask(Command.PING, b"x").command == Command.PONG
    assert desk.ask(FORWARD, read_stream("people"), None).result == StreamResult.AccessDenied
    denied = schema.OperationResult.AccessDenied
    assert desk.ask(Command.WRITE_EVENTS, append("people", new_events(1)), None).result == denied
    assert desk.ask(Command.DELETE_STREAM, delete("people"), None).result == denied
    assert desk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"), None).reason == DropReason.AccessDenied


async def test_a_file_is_read_as_the_server_writes_that_has_it_now(tmp_path: Path, autojump_clock: MockClock) -> None:
    """2.4: which fields a reply has does not depend on who wrote the event."""
    payloads = {}
    for version in ("4.1.1", "22.10", "5.0", "23.10"):
        async with open_node(port=None, path=tmp_path / "log.db", version=version, run_sync=run_inline) as node:
            talk = await talk_to(node)
            if version == "4.1.1":
                await talk.ask(Command.WRITE_EVENTS, append("people", [new_event(data=b"", is_json=False)]))
            reply = await talk.ask(FORWARD, read_stream("people"))
            assert reply is not None
            record = reply.message.events[0].event
            payloads[version] = record.HasField("event_number"), record.HasField("data"), record.HasField("metadata")
    assert payloads["4.1.1"] == payloads["5.0"] == (True, True, True)
    assert payloads["22.10"] == payloads["23.10"] == (False, False, False)
