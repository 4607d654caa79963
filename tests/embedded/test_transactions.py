"""Explicit transactions, request by request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.recorded import load
from tests.embedded.talk import (
    ADMIN,
    Clock,
    Desk,
    begin,
    commit,
    delete,
    new_event,
    new_events,
    pack,
    read_log,
    read_stream,
    subscribe,
    write,
)
from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.embedded.store import Store
from trio_extreme.embedded.versions import VERSIONS, find_version
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Result = schema.OperationResult
FORWARD, BACKWARD = Command.READ_STREAM_EVENTS_FORWARD, Command.READ_STREAM_EVENTS_BACKWARD
LOG, LOG_BACKWARD = Command.READ_ALL_EVENTS_FORWARD, Command.READ_ALL_EVENTS_BACKWARD
INVALID = -(2**31)
OPS = Credentials("ops", "changeit")


@pytest.fixture(params=VERSIONS)
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(request.param)


def started(desk: Desk, stream: str = "s", expected: int = -2) -> int:
    reply: schema.TransactionStartCompleted = desk.ask(Command.TRANSACTION_START, begin(stream, expected))
    assert reply.result == Result.Success
    return reply.transaction_id


def added(desk: Desk, transaction: int, events: Sequence[schema.NewEvent]) -> None:
    reply: schema.TransactionWriteCompleted = desk.ask(Command.TRANSACTION_WRITE, write(transaction, events))
    assert (reply.result, reply.transaction_id) == (Result.Success, transaction)


def committed(desk: Desk, transaction: int) -> schema.TransactionCommitCompleted:
    reply: schema.TransactionCommitCompleted = desk.ask(Command.TRANSACTION_COMMIT, commit(transaction))
    assert reply.transaction_id == transaction
    return reply


def numbers(desk: Desk, stream: str = "s") -> list[int]:
    return [one.event.event_number for one in desk.ask(FORWARD, read_stream(stream)).events]


# --- what becomes visible when


def test_events_are_there_when_they_are_committed(desk: Desk) -> None:
    transaction = started(desk)
    added(desk, transaction, new_events(2))
    added(desk, transaction, new_events(1))
    before = desk.store.log.last
    assert desk.ask(FORWARD, read_stream("s")).result == schema.ReadStreamEventsCompleted.ReadStreamResult.NoStream
    assert len(desk.ask(LOG, read_log()).events) == 0
    assert (desk.store.log.last, desk.store.last_number("s")) == (before, -1)

    reply = committed(desk, transaction)
    assert (reply.result, reply.first_event_number, reply.last_event_number) == (Result.Success, 0, 2)
    assert reply.commit_position == reply.prepare_position == desk.store.log.last
    assert numbers(desk) == [0, 1, 2]


def test_subscribers_hear_of_it_at_the_commit(desk: Desk) -> None:
    caller = desk.new_caller()
    caller.tell(pack(Command.SUBSCRIBE_TO_STREAM, subscribe("s"), ADMIN))
    caller.replies.clear()
    transaction = started(desk)
    added(desk, transaction, new_events(2))
    assert not caller.replies
    reply = committed(desk, transaction)
    pushed = [reply.message.event for reply in caller.replies]
    assert [one.event.event_number for one in pushed] == [0, 1]
    assert {one.commit_position for one in pushed} == {reply.commit_position}


def test_what_others_write_meanwhile_comes_before(desk: Desk) -> None:
    transaction = started(desk)
    added(desk, transaction, new_events(1))
    desk.write("s", [new_event("other")])
    added(desk, transaction, new_events(1))
    reply = committed(desk, transaction)
    assert (reply.first_event_number, reply.last_event_number) == (1, 2)
    assert [one.event.event_type for one in desk.ask(LOG, read_log()).events] == ["other", "happened", "happened"]


def test_two_at_a_time(desk: Desk) -> None:
    first, second = started(desk), started(desk)
    assert first < second
    added(desk, first, [new_event("first")])
    added(desk, second, [new_event("second")])
    added(desk, first, [new_event("first")])
    assert committed(desk, second).last_event_number == 0
    assert committed(desk, first).first_event_number == 1
    types = [one.event.event_type for one in desk.ask(FORWARD, read_stream("s")).events]
    assert types == ["second", "first", "first"]


def test_an_event_is_as_old_as_its_write() -> None:
    clock = Clock()
    desk = Desk(clock=clock)
    transaction = started(desk)
    added(desk, transaction, new_events(1))
    clock.seconds += 1000
    committed(desk, transaction)
    (found,) = desk.ask(FORWARD, read_stream("s")).events
    assert found.event.created_epoch == (clock.seconds - 1000) * 1000


# --- places


@pytest.mark.parametrize("version", ["3.9.4", "4.1.1"])
def test_places_are_as_far_apart_as_in_a_real_log(version: str) -> None:
    """The first transaction of the recording: to its commit, and, where nobody else wrote, to the next one."""
    answers = load(version, "transaction").answers
    ids = [int(a.message["transaction_id"]) for a in answers if a.command == "TransactionStartCompleted" and a.message]
    ends = [
        int(a.message["commit_position"]) for a in answers if a.command.startswith("TransactionCommit") and a.message
    ]
    desk = Desk(version)
    stream = "tx-12345678"
    transaction = started(desk, stream, -1)
    added(desk, transaction, [new_event("tested", b'{"n":1}') for _ in range(3)])
    reply = committed(desk, transaction)
    assert reply.commit_position - transaction == ends[0] - ids[0]
    committed(desk, transaction)
    if version == "3.9.4":
        assert started(desk, stream) - transaction == ids[1] - ids[0]


def test_positions_are_the_commits_and_the_events_own(desk: Desk) -> None:
    transaction = started(desk)
    added(desk, transaction, new_events(3))
    reply = committed(desk, transaction)
    page = desk.ask(LOG, read_log())
    assert {one.commit_position for one in page.events} == {reply.commit_position}
    prepares = [one.prepare_position for one in page.events]
    assert prepares == sorted(set(prepares))
    assert transaction < prepares[0]
    assert prepares[-1] < reply.commit_position


def test_the_log_page_by_page_through_a_transaction(desk: Desk) -> None:
    """Inside one, the next page begins at the commit's position and the end of the event."""
    desk.write("before", new_events(1))
    transaction = started(desk)
    added(desk, transaction, new_events(3))
    committed(desk, transaction)
    desk.write("after", new_events(1))
    forward = read_one_by_one(desk, LOG, (0, 0))
    assert forward == [("before", 0), ("s", 0), ("s", 1), ("s", 2), ("after", 0)]
    assert read_one_by_one(desk, LOG_BACKWARD, (-1, -1)) == forward[::-1]


def read_one_by_one(desk: Desk, command: int, place: tuple[int, int]) -> list[tuple[str, int]]:
    found = []
    while (page := desk.ask(command, read_log(place, 1))).events:
        (one,) = page.events
        found.append((one.event.event_stream_id, one.event.event_number))
        place = page.next_commit_position, page.next_prepare_position
    return found


# --- versions


@pytest.mark.parametrize(
    ("expected", "result"),
    [
        (-2, Result.Success),
        (-1, Result.WrongExpectedVersion),
        (0, Result.WrongExpectedVersion),
        (1, Result.Success),
        (7, Result.WrongExpectedVersion),
    ],
)
def test_the_version_is_asked_for_at_the_end(desk: Desk, expected: int, result: int) -> None:
    transaction = started(desk, expected=expected)
    added(desk, transaction, new_events(1))
    desk.write("s", new_events(2))
    reply = committed(desk, transaction)
    assert reply.result == result
    if result != Result.Success:
        assert (reply.first_event_number, reply.last_event_number) == (INVALID, INVALID)
        assert (reply.prepare_position, reply.commit_position) == (0, 0)
        assert reply.message
        assert numbers(desk) == [0, 1]


def test_a_wrong_version_may_be_right_later(desk: Desk) -> None:
    transaction = started(desk, expected=0)
    added(desk, transaction, new_events(1))
    assert committed(desk, transaction).result == Result.WrongExpectedVersion
    desk.write("s", new_events(1))
    assert committed(desk, transaction).result == Result.Success
    assert numbers(desk) == [0, 1]


def test_a_stream_that_was_deleted_for_ever(desk: Desk) -> None:
    transaction = started(desk)
    desk.ask(Command.DELETE_STREAM, delete("s", hard=True))
    assert committed(desk, transaction).result == Result.StreamDeleted


def test_a_stream_that_was_deleted_softly_comes_back(desk: Desk) -> None:
    desk.write("s", new_events(2))
    transaction = started(desk)
    added(desk, transaction, new_events(1))
    desk.ask(Command.DELETE_STREAM, delete("s"))
    assert committed(desk, transaction).first_event_number == 2
    assert numbers(desk) == [2]


def test_metadata_in_a_transaction(desk: Desk) -> None:
    desk.write("s", new_events(3))
    transaction = started(desk, "$$s")
    added(desk, transaction, [new_event("$metadata", b'{"$maxCount":1}')])
    assert numbers(desk) == [0, 1, 2]
    committed(desk, transaction)
    assert numbers(desk) == [2]


# --- again


@pytest.mark.parametrize("expected", [-2, -1])
def test_committed_twice_it_is_there_once(desk: Desk, expected: int) -> None:
    transaction = started(desk, expected=expected)
    added(desk, transaction, new_events(2))
    first, again = committed(desk, transaction), committed(desk, transaction)
    assert (again.result, again.first_event_number, again.last_event_number) == (Result.Success, 0, 1)
    assert numbers(desk) == [0, 1]
    known = desk.store.version.says_where_it_was
    assert (again.commit_position == again.prepare_position == -1) is not known
    assert (transaction < again.commit_position < first.commit_position) is known


def test_with_any_version_a_restart_makes_it_forget(desk: Desk) -> None:
    """As with an append: seen on a 4.1.1 that was killed and started again."""
    any_one, none = started(desk, "any"), started(desk, "none", -1)
    for transaction in (any_one, none):
        added(desk, transaction, new_events(1))
        committed(desk, transaction)
    desk.store.restart(crashed=False)
    assert committed(desk, any_one).first_event_number == 1
    assert committed(desk, none).first_event_number == 0


def test_events_of_a_transaction_are_found_by_an_append(desk: Desk) -> None:
    events = new_events(2)
    transaction = started(desk)
    added(desk, transaction, events)
    committed(desk, transaction)
    reply = desk.write("s", events, -1)
    assert (reply.result, reply.first_event_number, reply.last_event_number) == (Result.Success, 0, 1)
    assert numbers(desk) == [0, 1]


def test_nothing_at_all_can_be_committed(desk: Desk) -> None:
    desk.write("s", new_events(3))
    before = desk.store.log.last
    reply = committed(desk, started(desk))
    assert (reply.result, reply.first_event_number, reply.last_event_number) == (Result.Success, 3, 2)
    assert reply.commit_position == desk.store.log.last > before
    assert numbers(desk) == [0, 1, 2]


def test_it_outlives_its_connection_and_its_server(desk: Desk) -> None:
    transaction = started(desk)
    desk.service.hub.forget(desk.caller.client)
    desk.caller = desk.new_caller()
    added(desk, transaction, new_events(1))
    desk.store.restart(crashed=True)
    added(desk, transaction, new_events(1))
    assert committed(desk, transaction).last_event_number == 1


def test_it_outlives_its_process(tmp_path: Path) -> None:
    """Where the log is in a file, and was written."""
    path, version = tmp_path / "events.db", find_version("4.1.1")
    storage = SqliteStorage(path, version)
    store = Store(version, storage=storage)
    transaction = store.begin("s", -1)
    store.write(transaction, "s", new_events(2))
    storage.close()
    storage = SqliteStorage(path, version)
    store = Store(version, storage=storage)
    begun = store.begun(transaction)
    assert begun is not None
    assert (begun.event_stream_id, begun.expected_version) == ("s", -1)
    assert store.last_number("s") == -1
    store.write(transaction, "s", new_events(1))
    store.commit(transaction, begun)
    assert [record.number for record in store.records("s")] == [0, 1, 2]
    storage.close()


# --- what is refused


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Command.TRANSACTION_START, begin("")),
        (Command.TRANSACTION_START, begin("s", -3)),
        (Command.TRANSACTION_START, begin("s", -4)),
        (Command.TRANSACTION_WRITE, write(-1, [])),
        (Command.TRANSACTION_WRITE, write(1, [new_event("")])),
        (Command.TRANSACTION_WRITE, write(1, [new_event(id=bytes(16))])),
        (Command.TRANSACTION_COMMIT, commit(-1)),
    ],
)
def test_what_cannot_be_meant_is_a_bad_request(desk: Desk, command: int, message: object) -> None:
    assert desk.caller.ask(command, message, ADMIN).command == Command.BAD_REQUEST  # type: ignore[arg-type]


def protected(desk: Desk) -> int:
    """A transaction of an administrator's, on a stream to which nobody else may write."""
    desk.write("$$s", [new_event("$metadata", b'{"$acl":{"$w":"$admins"}}')])
    return started(desk)


def test_who_may_not_write_may_not_begin(desk: Desk) -> None:
    protected(desk)
    end = desk.store.log.end
    reply = desk.ask(Command.TRANSACTION_START, begin("s"), OPS)
    assert (reply.result, reply.transaction_id) == (Result.AccessDenied, -1)
    assert desk.store.log.end == end


def test_who_may_not_write_may_not_commit(desk: Desk) -> None:
    transaction = protected(desk)
    end = desk.store.log.end
    reply = desk.ask(Command.TRANSACTION_COMMIT, commit(transaction), OPS)
    assert reply.result == Result.AccessDenied
    assert desk.store.log.end == end
    assert committed(desk, transaction).result == Result.Success


def test_who_may_not_write_and_adds_all_the_same(desk: Desk) -> None:
    """Servers up to 5.0 ask nobody."""
    transaction = protected(desk)
    reply = desk.ask(Command.TRANSACTION_WRITE, write(transaction, new_events(1)), OPS)
    open_to_all = desk.store.version.acknowledges_before_looking
    assert reply.result == (Result.Success if open_to_all else Result.AccessDenied)
    committed(desk, transaction)
    assert numbers(desk) == ([0] if open_to_all else [])


def test_an_id_that_is_an_events_is_no_transactions(desk: Desk) -> None:
    """It is where a record begins, so there is an answer in any case."""
    event = desk.write("s", new_events(1)).commit_position
    end = desk.store.log.end
    reply = desk.ask(Command.TRANSACTION_WRITE, write(event, new_events(1)))
    assert reply.result == (Result.Success if desk.store.version.acknowledges_before_looking else Result.AccessDenied)
    assert committed(desk, event).result == Result.AccessDenied
    assert desk.store.log.end == end
    assert numbers(desk) == [0]


def test_an_id_where_nothing_begins(desk: Desk) -> None:
    answers = desk.store.version.answers_impossible_transactions
    for command, message in (
        (Command.TRANSACTION_WRITE, write(123_456_789, new_events(1))),
        (Command.TRANSACTION_COMMIT, commit(123_456_789)),
    ):
        desk.caller.tell(pack(command, message, ADMIN))
        assert bool(desk.caller.replies) is answers
        desk.caller.replies.clear()
    assert len(desk.ask(LOG, read_log()).events) == 0
