"""Rights as they are enforced: each kind of request, by each kind of user, on streams that say who may, or do not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.competing import CONNECT, connect
from tests.embedded.talk import (
    ADMIN,
    Desk,
    append,
    begin,
    choose,
    delete,
    link,
    new_event,
    new_events,
    read_event,
    read_filtered,
    read_log,
    read_stream,
    subscribe,
    subscribe_filtered,
)
from trio_extreme.embedded.acl import User
from trio_extreme.embedded.reading import EventResult, StreamResult
from trio_extreme.embedded.reads import LogResult
from trio_extreme.embedded.subscriptions import DropReason
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from tests.embedded.talk import Reply

JANE, OPS = Credentials("jane", "secret"), Credentials("ops", "changeit")
EVERYBODY = {"anonymous": None, "ops": OPS, "jane": JANE, "admin": ADMIN}
RIGHTS = ("$r", "$w", "$d", "$mr", "$mw")
FORWARD, BACKWARD = Command.READ_STREAM_EVENTS_FORWARD, Command.READ_STREAM_EVENTS_BACKWARD
SUBSCRIBING = (
    Command.SUBSCRIBE_TO_STREAM,
    Command.FILTERED_SUBSCRIBE_TO_STREAM,
    Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION,
)
Written = schema.OperationResult


@dataclass(frozen=True)
class Kind:
    """One kind of request, on `guarded`: the right it needs there, and how it is refused."""

    name: str
    command: Command
    right: str
    message: Callable[[], Message]
    denied: Any
    stream: str = "guarded"
    #: The first server that knows it, of those that may stand for all.
    since: str = "4.1.1"

    def __str__(self) -> str:
        return self.name

    def is_refused(self, reply: Reply) -> bool:
        if self.command in SUBSCRIBING:
            return reply.command == Command.SUBSCRIPTION_DROPPED and reply.message.reason == self.denied
        return bool(reply.message.result == self.denied)


KINDS = [
    Kind("append", Command.WRITE_EVENTS, "$w", lambda: append("guarded", new_events(1)), Written.AccessDenied),
    Kind("append nothing", Command.WRITE_EVENTS, "$w", lambda: append("guarded", []), Written.AccessDenied),
    Kind("delete", Command.DELETE_STREAM, "$d", lambda: delete("guarded"), Written.AccessDenied),
    Kind("hard delete", Command.DELETE_STREAM, "$d", lambda: delete("guarded", hard=True), Written.AccessDenied),
    Kind("begin a transaction", Command.TRANSACTION_START, "$w", lambda: begin("guarded"), Written.AccessDenied),
    Kind("read an event", Command.READ_EVENT, "$r", lambda: read_event("guarded", 0), EventResult.AccessDenied),
    Kind("read", FORWARD, "$r", lambda: read_stream("guarded"), StreamResult.AccessDenied),
    Kind("read backwards", BACKWARD, "$r", lambda: read_stream("guarded", -1), StreamResult.AccessDenied),
    Kind("subscribe", Command.SUBSCRIBE_TO_STREAM, "$r", lambda: subscribe("guarded"), DropReason.AccessDenied),
    Kind("consume", CONNECT, "$r", lambda: connect(stream="guarded"), DropReason.AccessDenied),
    Kind("read metadata", Command.READ_EVENT, "$mr", lambda: read_event("$$guarded", -1), EventResult.AccessDenied),
    Kind("read all metadata", FORWARD, "$mr", lambda: read_stream("$$guarded"), StreamResult.AccessDenied),
    Kind(
        "subscribe to metadata",
        Command.SUBSCRIBE_TO_STREAM,
        "$mr",
        lambda: subscribe("$$guarded"),
        DropReason.AccessDenied,
    ),
    Kind(
        "write metadata",
        Command.WRITE_EVENTS,
        "$mw",
        lambda: append("$$guarded", [metadata(only("$mw"))]),
        Written.AccessDenied,
    ),
    Kind("read the log", Command.READ_ALL_EVENTS_FORWARD, "$r", read_log, LogResult.AccessDenied, "$all"),
    Kind(
        "read the log backwards",
        Command.READ_ALL_EVENTS_BACKWARD,
        "$r",
        lambda: read_log((-1, -1)),
        LogResult.AccessDenied,
        "$all",
    ),
    Kind(
        "subscribe to the log",
        Command.SUBSCRIBE_TO_STREAM,
        "$r",
        lambda: subscribe(""),
        DropReason.AccessDenied,
        "$all",
    ),
    Kind(
        "read with a filter",
        Command.FILTERED_READ_ALL_EVENTS_FORWARD,
        "$r",
        lambda: read_filtered(choose("g")),
        LogResult.AccessDenied,
        "$all",
        "20.10",
    ),
    Kind(
        "read with a filter backwards",
        Command.FILTERED_READ_ALL_EVENTS_BACKWARD,
        "$r",
        lambda: read_filtered(choose("g"), (-1, -1)),
        LogResult.AccessDenied,
        "$all",
        "20.10",
    ),
    Kind(
        "subscribe with a filter",
        Command.FILTERED_SUBSCRIBE_TO_STREAM,
        "$r",
        lambda: subscribe_filtered(choose("g")),
        DropReason.AccessDenied,
        "$all",
        "20.10",
    ),
    Kind(
        "subscribe to a stream with a filter",
        Command.FILTERED_SUBSCRIBE_TO_STREAM,
        "$r",
        lambda: subscribe_filtered(choose("g"), stream="guarded"),
        DropReason.AccessDenied,
        since="20.10",
    ),
]
ELSEWHERE: dict[Command, str] = {
    Command.TRANSACTION_WRITE: "tests/embedded/test_transactions.py",
    Command.TRANSACTION_COMMIT: "tests/embedded/test_transactions.py",
    Command.CREATE_PERSISTENT_SUBSCRIPTION: "tests/embedded/test_groups.py",
    Command.UPDATE_PERSISTENT_SUBSCRIPTION: "tests/embedded/test_groups.py",
    Command.DELETE_PERSISTENT_SUBSCRIPTION: "tests/embedded/test_groups.py",
}
"""Requests that are refused elsewhere, and the tests that show it."""

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
each_version = pytest.mark.parametrize("version", VERSIONS)
each_kind_of_each_version = pytest.mark.parametrize(
    ("kind", "version"),
    [(kind, name) for name, version in VERSIONS.items() for kind in KINDS if kind.command not in version.lacks],
    ids=str,
)


def metadata(acl: dict[str, Any]) -> schema.NewEvent:
    return new_event("$metadata", json.dumps({"$acl": acl}).encode())


def settings(**acls: dict[str, Any]) -> schema.NewEvent:
    return new_event("$settings", json.dumps({f"${name}Acl": acl for name, acl in acls.items()}).encode())


def only(right: str, roles: str = "staff") -> dict[str, Any]:
    """The right is given to these, and all others to nobody."""
    return {other: roles if other == right else [] for other in RIGHTS}


def open_desk(version: str = "4.1.1") -> Desk:
    desk = Desk(version)
    desk.users["jane"] = User("secret", ("staff",))
    desk.write("guarded", new_events(2))
    return desk


def who_may(kind: Kind, desk: Callable[[], Desk]) -> list[str]:
    """Each of them asks a desk of their own: what one deletes the next does not find."""
    found = []
    for name, credentials in EVERYBODY.items():
        reply = desk().hear(kind.command, kind.message(), credentials)
        if not kind.is_refused(reply):
            found.append(name)
    return found


def test_every_request_is_here() -> None:
    asked = {kind.command for kind in KINDS}
    assert open_desk("20.10").service.requests == asked | ELSEWHERE.keys()
    assert asked.isdisjoint(ELSEWHERE)


@each_kind_of_each_version
def test_a_stream_that_says_who_may(kind: Kind, version: str) -> None:
    def desk() -> Desk:
        opened = open_desk(version)
        opened.write(f"$${kind.stream}", [metadata(only(kind.right))])
        return opened

    assert who_may(kind, desk) == ["jane", "admin"]


@each_kind
def test_a_stream_that_does_not_say(kind: Kind) -> None:
    """Then `$settings` does, each right by itself."""

    def desk() -> Desk:
        opened = open_desk(kind.since)
        acl, other = only(kind.right), only("")
        log = kind.stream == "$all"
        acls = {"systemStream": acl, "userStream": other} if log else {"userStream": acl, "systemStream": other}
        opened.write("$settings", [settings(**acls)])
        opened.write(f"$${kind.stream}", [metadata({right: "$admins" for right in RIGHTS if right != kind.right})])
        return opened

    assert who_may(kind, desk) == ["jane", "admin"]


@each_kind
def test_where_nobody_says_anything(kind: Kind) -> None:
    everybody = ["admin"] if kind.stream == "$all" else [*EVERYBODY]
    assert who_may(kind, lambda: open_desk(kind.since)) == everybody
    # From 23.6 on, not without a name.
    assert who_may(kind, lambda: open_desk("23.10")) == [name for name in everybody if name != "anonymous"]


@each_kind
def test_everybody_is_also_who_has_no_name(kind: Kind) -> None:
    def desk() -> Desk:
        opened = open_desk(kind.since)
        opened.write("$settings", [settings(userStream=only(""), systemStream=only(""))])
        opened.write(f"$${kind.stream}", [metadata({kind.right: ["nobody", "$all"]})])
        return opened

    assert who_may(kind, desk) == [*EVERYBODY]


@pytest.mark.parametrize("stream", ["$settings", "$streams", "$ce-guarded", "$projections-$master", "$user-john"])
@each_version
def test_system_streams_are_of_admins(stream: str, version: str) -> None:
    desk = open_desk(version)
    desk.write(stream, new_events(1))
    for name, credentials in EVERYBODY.items():
        read = desk.ask(FORWARD, read_stream(stream), credentials).result != StreamResult.AccessDenied
        written = desk.ask(Command.WRITE_EVENTS, append(stream, new_events(1)), credentials).result
        asked_for = desk.ask(Command.READ_EVENT, read_event(f"$${stream}", -1), credentials).result
        assert [read, written != Written.AccessDenied, asked_for != EventResult.AccessDenied] == 3 * [name == "admin"]


@each_version
def test_the_log_is_committed_by_nobody(version: str) -> None:
    desk = open_desk(version)
    desk.write("$$$all", [metadata(dict.fromkeys(RIGHTS, "$all"))])
    assert desk.write("$all", new_events(1)).result == Written.AccessDenied
    assert desk.ask(Command.DELETE_STREAM, delete("$all")).result == Written.AccessDenied
    assert desk.ask(Command.DELETE_STREAM, delete("$$guarded")).result == Written.AccessDenied


# --- what changes


def test_rights_that_change_count_from_the_next_request_on() -> None:
    desk = open_desk()
    for roles, result in (("staff", StreamResult.Success), ("$ops", StreamResult.AccessDenied), ("jane", 0)):
        desk.write("$$guarded", [metadata({"$r": roles})])
        assert desk.ask(FORWARD, read_stream("guarded"), JANE).result == result
    desk.write("$settings", [settings(userStream={"$w": "$ops"})])
    assert desk.ask(Command.WRITE_EVENTS, append("guarded", []), JANE).result == Written.AccessDenied
    desk.write("$settings", [settings()])
    assert desk.ask(Command.WRITE_EVENTS, append("guarded", []), JANE).result == Written.Success


@each_version
@pytest.mark.parametrize("stream", ["guarded", ""])
def test_a_subscription_outlives_the_right_to_it(stream: str, version: str) -> None:
    """Servers look at rights when it begins; those after 23.10 look again when they change."""
    desk = open_desk(version)
    if not stream:
        desk.write("$$$all", [metadata({"$r": "staff"})])
    caller = desk.new_caller()
    assert caller.ask(Command.SUBSCRIBE_TO_STREAM, subscribe(stream), JANE).command == Command.SUBSCRIPTION_CONFIRMATION
    desk.write(f"$${stream or '$all'}", [metadata(only(""))])
    desk.write("$settings", [settings(userStream=only(""), systemStream=only(""))])
    caller.replies.clear()
    desk.write("guarded", new_events(1))
    assert [reply.command for reply in caller.replies] == [Command.STREAM_EVENT_APPEARED]
    caller.replies.clear()
    refused = caller.ask(Command.SUBSCRIBE_TO_STREAM, subscribe(stream), JANE)
    assert refused.message.reason == DropReason.AccessDenied


def test_a_soft_delete_takes_the_rights_with_it() -> None:
    desk = open_desk()
    desk.write("$$guarded", [metadata({"$d": "jane", "$w": "jane"})])
    assert desk.ask(Command.DELETE_STREAM, delete("guarded"), JANE).result == Written.Success
    assert desk.ask(Command.WRITE_EVENTS, append("guarded", new_events(1)), OPS).result == Written.Success


def test_default_rights_that_are_gone() -> None:
    """Deleted for ever, `$settings` says nothing any more."""
    desk = open_desk()
    desk.write("$settings", [settings(userStream=only(""))])
    assert desk.ask(FORWARD, read_stream("guarded"), JANE).result == StreamResult.AccessDenied
    desk.ask(Command.DELETE_STREAM, delete("$settings", hard=True))
    assert desk.ask(FORWARD, read_stream("guarded"), JANE).result == StreamResult.Success


@pytest.mark.parametrize(
    ("event", "obeyed"),
    [
        (new_event("$metadata", b'{"$acl":{"$r":[]}}'), True),
        # Any type, a byte order mark, and text of which a letter is no UTF-8.
        (new_event("other", b'\xef\xbb\xbf{"$acl":{"$r":[]},"a":"\xe9"}'), True),
        (new_event("$metadata", b'{"$acl":{"$r":[]}}', is_json=False), False),
        (new_event("$metadata", b'{"$acl":{"$r":[]}'), False),
        (new_event("$metadata", b'{"$acl":{"$r":[]},"$maxCount":null}'), False),
        (new_event("$metadata", b'{"$acl":{"$r":[],"$x":"a"}}'), False),
        (new_event("$metadata", b'{"$acl":{"$r":[],"$w":null}}'), False),
        (new_event("$metadata", b'{"$acl":{"$r":[]},"$cacheControl":"1"}'), False),
        (new_event("$metadata", b'{"$acl":{"$r":[]},"$tmp":1}'), False),
    ],
    ids=lambda value: repr(value.data)[:60] if isinstance(value, schema.NewEvent) else "",
)
def test_metadata_that_is_obeyed_and_metadata_that_is_none(event: schema.NewEvent, *, obeyed: bool) -> None:
    desk = open_desk()
    desk.write("$$guarded", [event])
    result = desk.ask(FORWARD, read_stream("guarded"), JANE).result
    assert result == (StreamResult.AccessDenied if obeyed else StreamResult.Success)


def test_default_rights_are_obeyed_whatever_their_event_is_marked_as() -> None:
    desk = open_desk()
    desk.write("$settings", [new_event("other", b'{"$userStreamAcl":{"$r":[]}}', is_json=False)])
    assert desk.ask(FORWARD, read_stream("guarded"), JANE).result == StreamResult.AccessDenied
    desk.write("$settings", [new_event("$settings", b'{"$userStreamAcl":{"$r":null}}')])
    assert desk.ask(FORWARD, read_stream("guarded"), JANE).result == StreamResult.Success


# --- links


@pytest.mark.parametrize(("version", "refused"), [(name, place < 3) for place, name in enumerate(VERSIONS)])
def test_a_link_to_what_may_not_be_read(version: str, *, refused: bool) -> None:
    """Servers up to 5.0 refuse the page in which it is; later ones do not look. Not followed, it is like any event."""
    desk = open_desk(version)
    desk.write("$$guarded", [metadata({"$r": "$ops"})])
    desk.write("links", [new_event(), link("1@guarded"), new_event()])
    desk.write("$$$all", [metadata({"$r": "$all"})])

    def results(*, links: bool) -> Sequence[int]:
        return [
            desk.ask(FORWARD, read_stream("links", links=links), JANE).result,
            desk.ask(BACKWARD, read_stream("links", -1, links=links), JANE).result,
            desk.ask(Command.READ_EVENT, read_event("links", 1, links=links), JANE).result,
            desk.ask(Command.READ_ALL_EVENTS_FORWARD, read_log(links=links), JANE).result,
        ]

    denied = [
        StreamResult.AccessDenied,
        StreamResult.AccessDenied,
        EventResult.AccessDenied,
        LogResult.AccessDenied,
    ]
    assert results(links=True) == (denied if refused else [0, 0, 0, 0])
    assert results(links=False) == [0, 0, 0, 0]
    # A page without it is given.
    assert desk.ask(FORWARD, read_stream("links", 2, links=True), JANE).result == StreamResult.Success


@each_version
def test_what_a_link_leads_to_is_pushed_to_whom_may_not_read_it(version: str) -> None:
    desk = open_desk(version)
    desk.write("$$guarded", [metadata({"$r": "$ops"})])
    caller = desk.new_caller()
    caller.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("links", links=True), JANE)
    desk.write("links", [link("1@guarded")])
    (pushed,) = caller.replies
    assert pushed.message.event.event.event_stream_id == "guarded"
