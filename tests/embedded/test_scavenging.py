"""Scavenging: what is taken out of the log, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.embedded.talk import (
    ADMIN,
    Clock,
    Desk,
    begin,
    commit,
    delete,
    link,
    new_event,
    new_events,
    read_event,
    read_log,
    read_stream,
    write,
)
from trio_extreme.embedded import scavenging
from trio_extreme.embedded.acl import User
from trio_extreme.embedded.scavenging import scavenge
from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.embedded.sqlite_writer import DELETE, DELETED
from trio_extreme.embedded.store import Store
from trio_extreme.embedded.versions import VERSIONS, find_version
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from pathlib import Path

FORWARD, BACKWARD = Command.READ_STREAM_EVENTS_FORWARD, Command.READ_STREAM_EVENTS_BACKWARD
LOG = Command.READ_ALL_EVENTS_FORWARD
OPS, OTHER = Credentials("ops", "changeit"), Credentials("other", "secret")
Finished = schema.ScavengeDatabaseCompleted.ScavengeResult
Started = schema.ScavengeDatabaseResponse.ScavengeResult


@pytest.fixture(params=VERSIONS)
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(request.param)


def limit(desk: Desk, stream: str, metadata: bytes) -> None:
    desk.write(f"$${stream}", [new_event("$metadata", metadata)])


def in_log(desk: Desk, stream: str = "s") -> list[int]:
    """The numbers of a stream's events that are in the log."""
    events = desk.ask(LOG, read_log(size=4096)).events
    return [one.event.event_number for one in events if one.event.event_stream_id == stream]


def visible(desk: Desk, stream: str = "s") -> list[int]:
    return [one.event.event_number for one in desk.ask(FORWARD, read_stream(stream)).events]


# --- what is taken out


@pytest.mark.parametrize(
    ("metadata", "left"),
    [
        (b'{"$maxCount":2}', [3, 4]),
        (b'{"$tb":3}', [3, 4]),
        (b'{"$maxCount":3,"$tb":1}', [2, 3, 4]),
        (b'{"$maxCount":4,"$tb":4}', [4]),
        # All of them are hidden; the last one stays, for its number is the stream's.
        (b'{"$tb":5}', [4]),
        (b'{"$tb":1000}', [4]),
        (b'{"$maxCount":9}', [0, 1, 2, 3, 4]),
        (b"no metadata", [0, 1, 2, 3, 4]),
    ],
)
def test_what_truncation_hides(desk: Desk, metadata: bytes, left: list[int]) -> None:
    desk.write("s", new_events(5))
    limit(desk, "s", metadata)
    before = visible(desk)
    scavenge(desk.store)
    assert in_log(desk) == left
    assert visible(desk) == before


def test_what_has_expired() -> None:
    desk = Desk(clock=(clock := Clock()))
    desk.write("s", new_events(2))
    clock.seconds += 100
    desk.write("s", new_events(1))
    limit(desk, "s", b'{"$maxAge":50}')
    assert scavenge(desk.store) > 0
    assert in_log(desk) == visible(desk) == [2]
    clock.seconds += 100
    scavenge(desk.store)
    # It has expired too, and stays in the log.
    assert (in_log(desk), visible(desk)) == ([2], [])


def test_what_has_expired_among_what_has_not() -> None:
    """A transaction's events are as old as their write, whatever they come after."""
    desk = Desk(clock=(clock := Clock()))
    transaction = desk.ask(Command.TRANSACTION_START, begin("s")).transaction_id
    desk.ask(Command.TRANSACTION_WRITE, write(transaction, new_events(1)))
    clock.seconds += 100
    desk.write("s", new_events(1))
    desk.ask(Command.TRANSACTION_COMMIT, commit(transaction))
    desk.write("s", new_events(1))
    limit(desk, "s", b'{"$maxAge":50}')
    scavenge(desk.store)
    assert in_log(desk) == [0, 2]


def test_a_stream_that_was_deleted_softly(desk: Desk) -> None:
    desk.write("s", new_events(5))
    desk.ask(Command.DELETE_STREAM, delete("s"))
    scavenge(desk.store)
    assert in_log(desk) == [4]
    # It goes on with its numbers.
    assert desk.write("s", new_events(1)).first_event_number == 5
    assert visible(desk) == [5]


def test_a_stream_that_was_deleted_for_ever(desk: Desk) -> None:
    """The tombstone stays, for its name must never be used again; of its metadata the last."""
    desk.write("s", new_events(5))
    for _ in range(2):
        limit(desk, "s", b'{"$maxCount":9}')
    desk.ask(Command.DELETE_STREAM, delete("s", hard=True))
    scavenge(desk.store)
    (tombstone,) = in_log(desk)
    assert tombstone in (2**31 - 1, 2**63 - 1)
    assert in_log(desk, "$$s") == [1]
    assert desk.write("s", new_events(1)).result == schema.OperationResult.StreamDeleted


def test_earlier_metadata(desk: Desk) -> None:
    for count in (3, 2, 1):
        limit(desk, "s", b'{"$maxCount":%d}' % count)
    scavenge(desk.store)
    assert in_log(desk, "$$s") == [2]
    assert desk.store.metadata("s").max_count == 1


def test_what_a_transaction_wrote(desk: Desk) -> None:
    transaction = desk.ask(Command.TRANSACTION_START, begin("s")).transaction_id
    desk.ask(Command.TRANSACTION_WRITE, write(transaction, new_events(3)))
    desk.ask(Command.TRANSACTION_COMMIT, commit(transaction))
    limit(desk, "s", b'{"$maxCount":1}')
    scavenge(desk.store)
    assert in_log(desk) == [2]


# --- what stays


def test_numbers_and_positions_stay(desk: Desk) -> None:
    desk.write("before", new_events(1))
    positions = [desk.write("s", new_events(1)).commit_position for _ in range(5)]
    desk.write("after", new_events(1))
    limit(desk, "s", b'{"$tb":3}')
    places = {one.event.event_id: one.commit_position for one in desk.ask(LOG, read_log()).events}
    end, last = desk.store.log.end, desk.store.log.last
    scavenge(desk.store)
    assert (desk.store.log.end, desk.store.log.last) == (end, last)
    page = desk.ask(LOG, read_log())
    assert all(places[one.event.event_id] == one.commit_position for one in page.events)
    assert [one.event.event_number for one in desk.ask(FORWARD, read_stream("s", 0)).events] == [3, 4]
    # What was a place to read from is one.
    for position, left in zip(positions, [2, 2, 2, 2, 1], strict=True):
        events = desk.ask(LOG, read_log((position, position))).events
        assert [one.event.event_stream_id for one in events].count("s") == left


def test_what_was_taken_out_does_not_come_back(desk: Desk) -> None:
    """Unlike what was only hidden."""
    desk.write("s", new_events(5))
    limit(desk, "s", b'{"$tb":3}')
    scavenge(desk.store)
    limit(desk, "s", b"{}")
    assert visible(desk) == [3, 4]
    assert [one.event.event_number for one in desk.ask(BACKWARD, read_stream("s", -1)).events] == [4, 3]
    result = schema.ReadEventCompleted.ReadEventResult.NotFound
    assert desk.ask(Command.READ_EVENT, read_event("s", 1)).result == result
    assert desk.ask(FORWARD, read_stream("s")).last_event_number == 4


def test_a_link_to_what_was_taken_out_leads_nowhere(desk: Desk) -> None:
    desk.write("s", new_events(2))
    desk.write("links", [link("0@s"), link("1@s")])
    limit(desk, "s", b'{"$maxCount":1}')
    scavenge(desk.store)
    first, second = desk.ask(FORWARD, read_stream("links", links=True)).events
    assert (first.HasField("event"), second.HasField("event")) == (False, True)


def test_an_append_that_is_repeated_finds_what_is_left(desk: Desk) -> None:
    events = new_events(3)
    desk.write("s", events)
    limit(desk, "s", b'{"$maxCount":1}')
    scavenge(desk.store)
    assert desk.write("s", events[2:], 1).last_event_number == 2
    assert desk.write("s", events, -1).result == schema.OperationResult.WrongExpectedVersion


def test_a_second_one_finds_nothing(desk: Desk) -> None:
    desk.write("s", new_events(5))
    limit(desk, "s", b'{"$maxCount":2}')
    size = desk.store.log.end
    saved = scavenge(desk.store)
    assert 0 < saved < size
    assert scavenge(desk.store) == 0


def test_what_it_saves_is_what_it_took_out(desk: Desk) -> None:
    first, second = [desk.write("s", new_events(1)).commit_position for _ in range(2)]
    limit(desk, "s", b'{"$maxCount":1}')
    assert scavenge(desk.store) == second - first


@pytest.mark.parametrize("size", [1, 2, 3])
def test_bit_by_bit(desk: Desk, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events are looked at, and taken out, at a time."""
    monkeypatch.setattr(scavenging, "_PAGE", size)
    monkeypatch.setattr(scavenging, "_AT_ONCE", size)
    for stream in ("s", "t"):
        desk.write(stream, new_events(7))
        limit(desk, stream, b'{"$maxCount":2}')
    scavenge(desk.store)
    assert in_log(desk) == in_log(desk, "t") == [5, 6]


def test_in_a_file(tmp_path: Path) -> None:
    path, version = tmp_path / "events.db", find_version("4.1.1")
    storage = SqliteStorage(path, version)
    store = Store(version, storage=storage)
    store.append("s", -2, new_events(5))
    store.append("$$s", -2, [new_event("$metadata", b'{"$maxCount":2}')])
    assert scavenge(store) > 0
    storage.close()
    storage = SqliteStorage(path, version)
    assert [record.number for record in Store(version, storage=storage).records("s")] == [3, 4]
    storage.close()


def test_in_a_file_it_looks_for_places_and_not_through_all_there_is(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "events.db", find_version("4.1.1"))
    statement = f"EXPLAIN QUERY PLAN {DELETE} (?, ?), (?, ?) {DELETED}"
    plan = [row[3] for row in storage._reader.execute(statement, (1, 1, 2, 2))]
    assert any(step.startswith("SEARCH events USING COVERING INDEX events_by_place") for step in plan)
    assert not any(step.startswith("SCAN events") for step in plan)
    storage.close()


# --- what is answered


def test_the_answer_when_it_is_finished() -> None:
    desk = Desk("4.1.1")
    desk.write("s", new_events(5))
    limit(desk, "s", b'{"$maxCount":1}')
    for credentials, saved in ((OPS, True), (ADMIN, False)):
        reply = desk.ask(Command.SCAVENGE_DATABASE, b"", credentials)
        assert isinstance(reply, schema.ScavengeDatabaseCompleted)
        assert (reply.result, reply.HasField("error"), reply.total_time_ms) == (Finished.Success, False, 1)
        assert bool(reply.total_space_saved) is saved
    assert in_log(desk) == [4]


def test_the_answer_when_it_has_begun() -> None:
    desk = Desk("5.0")
    desk.write("s", new_events(5))
    limit(desk, "s", b'{"$maxCount":1}')
    ids = set()
    for credentials in (OPS, ADMIN):
        reply = desk.ask(Command.SCAVENGE_DATABASE, b"", credentials)
        assert isinstance(reply, schema.ScavengeDatabaseResponse)
        assert reply.result == Started.Started
        ids.add(UUID(reply.scavengeId))
    assert len(ids) == 2
    assert in_log(desk) == [4]


@pytest.mark.parametrize("who", [None, OTHER])
def test_who_may_not(desk: Desk, who: Credentials | None) -> None:
    desk.users[OTHER.login] = User(OTHER.password)
    desk.write("s", new_events(5))
    limit(desk, "s", b'{"$maxCount":1}')
    reply = desk.ask(Command.SCAVENGE_DATABASE, b"", who)
    if isinstance(reply, schema.ScavengeDatabaseCompleted):
        assert (reply.result, reply.error) == (Finished.Failed, "Access denied.")
    else:
        assert isinstance(reply, schema.ScavengeDatabaseResponse)
        assert (reply.result, reply.HasField("scavengeId")) == (Started.Unauthorized, False)
    assert len(in_log(desk)) == 5
