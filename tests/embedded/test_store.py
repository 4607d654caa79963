from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.embedded.talk import Clock, new_event, new_events
from trio_extreme.embedded.metadata import NO_ACL, NO_METADATA, Metadata, Right
from trio_extreme.embedded.recent import Recent
from trio_extreme.embedded.records import WIDE_TOMBSTONE
from trio_extreme.embedded.store import Refused, Store, Written
from trio_extreme.embedded.versions import VERSIONS, find_version
from trio_extreme.values import ANY, NO_STREAM, STREAM_EXISTS
from trio_extreme.wire.schema import NewEvent, OperationResult

if TYPE_CHECKING:
    from collections.abc import Sequence

WRONG = OperationResult.WrongExpectedVersion
DELETED = Refused(OperationResult.StreamDeleted)
HIDES_ALL = 2**63 - 1


def new_store(version: str = "4.1.1") -> Store:
    return Store(find_version(version), now=Clock(), random=Random(1))


@pytest.fixture
def store() -> Store:
    return new_store()


def write(store: Store, stream: str, events: Sequence[NewEvent], expected: int = ANY) -> Written:
    outcome = store.append(stream, expected, events)
    assert isinstance(outcome, Written), outcome
    return outcome


def numbers(written: Written) -> tuple[int, int]:
    return written.first, written.last


def set_metadata(store: Store, stream: str, data: bytes, *, is_json: bool = True) -> Written:
    return write(store, f"$${stream}", [new_event("$metadata", data, is_json=is_json)])


# Appending


def test_a_new_store_is_empty(store: Store) -> None:
    assert (store.last_number("people"), store.metadata("people"), store.settings()) == (
        -1,
        NO_METADATA,
        (NO_ACL, NO_ACL),
    )
    assert repr(store) == "<Store 4.1.1: 168 bytes>"


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
def test_a_stream_begins_with_its_first_events(store: Store, expected: int) -> None:
    written = write(store, "people", new_events(3), expected)
    assert numbers(written) == (0, 2)
    assert written.position == store.log.last == written.records[-1].position
    assert list(written.records) == list(store.records("people"))


@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, 1])
def test_a_stream_grows(store: Store, expected: int) -> None:
    write(store, "people", new_events(2))
    assert numbers(write(store, "people", new_events(2), expected)) == (2, 3)


def test_a_name_may_be_any_number_of_dollars(store: Store) -> None:
    name = "$" * 20_000
    assert store.last_number(name) == -1
    assert numbers(write(store, name, new_events(2))) == (0, 1)
    assert store.last_number(name) == 1


@pytest.mark.parametrize("expected", [NO_STREAM, 0, 2, 99])
def test_another_version_is_refused_with_the_real_one(store: Store, expected: int) -> None:
    write(store, "people", new_events(2))
    assert store.append("people", expected, new_events(1)) == Refused(WRONG, 1)
    assert store.last_number("people") == 1


@pytest.mark.parametrize("expected", [0, STREAM_EXISTS])
def test_a_missing_stream_is_refused(store: Store, expected: int) -> None:
    assert store.append("people", expected, new_events(1)) == Refused(WRONG, -1)


def test_a_stream_with_metadata_alone_exists(store: Store) -> None:
    set_metadata(store, "people", b"{}")
    assert numbers(write(store, "people", new_events(1), STREAM_EXISTS)) == (0, 0)


def test_an_empty_append_takes_place_in_the_log_alone(store: Store) -> None:
    assert numbers(write(store, "people", [])) == (0, -1)
    written = write(store, "people", new_events(2))
    assert numbers(written) == (0, 1)
    empty = write(store, "people", [], 1)
    assert numbers(empty) == (2, 1)
    assert empty.position == written.records[-1].end
    assert not empty.records
    assert store.append("people", 0, []) == Refused(WRONG, 1)
    assert store.append("people", 99, []) == Refused(WRONG, 1)


def test_events_are_dated_by_the_calendar() -> None:
    clock = Clock()
    store = Store(find_version("4.1.1"), now=clock)
    write(store, "people", new_events(1))
    clock.seconds += 1.5
    write(store, "people", new_events(1))
    first, second = (record.written for record in store.records("people"))
    assert second - first == 1_500_000
    assert first == 1_700_000_000_000_000


# Appending again


@pytest.mark.parametrize("expected", [NO_STREAM, ANY, STREAM_EXISTS])
def test_a_repeated_append_is_not_written_again(store: Store, expected: int) -> None:
    events = new_events(3)
    write(store, "people", events)
    assert write(store, "people", events, expected) == Written(0, 2, -1)
    assert store.last_number("people") == 2


def test_a_part_of_an_append_is_a_repetition_too(store: Store) -> None:
    events = new_events(3)
    write(store, "people", events)
    assert write(store, "people", events[:1], NO_STREAM) == Written(0, 0, -1)
    assert write(store, "people", events[1:2], 0) == Written(1, 1, -1)
    assert write(store, "people", events[1:]) == Written(1, 2, -1)


@pytest.mark.parametrize("expected", [NO_STREAM, ANY])
def test_known_events_before_unknown_ones_are_refused(store: Store, expected: int) -> None:
    events = new_events(2)
    write(store, "people", events)
    assert store.append("people", expected, [*events, new_event()]) == Refused(WRONG, 1)


def test_other_events_where_the_version_was_left_behind_are_refused(store: Store) -> None:
    events = new_events(3)
    write(store, "people", events)
    assert store.append("people", NO_STREAM, events[1:]) == Refused(WRONG, 2)
    assert store.append("people", 0, events[:1]) == Refused(WRONG, 2)


def test_an_id_is_known_in_its_own_stream_alone(store: Store) -> None:
    events = new_events(1)
    write(store, "people", events)
    assert numbers(write(store, "others", events)) == (0, 0)
    # Only the later place is remembered.
    assert numbers(write(store, "people", events)) == (1, 1)


def test_an_id_twice_in_one_append_is_not_noticed(store: Store) -> None:
    event = new_event()
    assert numbers(write(store, "people", [event, event], NO_STREAM)) == (0, 1)
    assert write(store, "people", [event, event], NO_STREAM) == Written(0, 1, -1)


def test_a_number_finds_a_repetition_for_ever_and_any_while_it_is_remembered() -> None:
    store = new_store()
    store._recent = Recent(limit=100)
    events = new_events(1)
    write(store, "people", events)
    write(store, "people", new_events(5))
    assert write(store, "people", events, NO_STREAM) == Written(0, 0, -1)
    assert numbers(write(store, "people", events, ANY)) == (6, 6)


# Soft deletion


def soft_delete(store: Store, stream: str = "people", expected: int = ANY) -> Written:
    outcome = store.delete(stream, expected, hard=False)
    assert isinstance(outcome, Written)
    return outcome


@pytest.mark.parametrize("version", VERSIONS)
def test_soft_deletion_hides_everything_and_replaces_all_metadata(version: str) -> None:
    store = new_store(version)
    write(store, "people", new_events(2))
    set_metadata(store, "people", b'{"$maxCount":1,"mine":2}')
    deleted = soft_delete(store)
    (record,) = deleted.records
    assert record.event.data == b'{"$tb":%d}' % store.version.tombstone
    assert (record.stream, record.number, record.type) == ("$$people", 1, "$metadata")
    assert store.is_soft_deleted("people")
    assert store.last_number("people") == 1


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
def test_a_stream_that_never_was_can_be_deleted(store: Store, expected: int) -> None:
    soft_delete(store, expected=expected)
    assert store.is_soft_deleted("people")


def test_a_wrong_version_is_not_deleted(store: Store) -> None:
    write(store, "people", new_events(2))
    assert store.delete("people", 9, hard=False) == Refused(WRONG, 1)
    assert store.delete("people", 0, hard=True) == Refused(WRONG, 1)
    assert store.delete("people", NO_STREAM, hard=False) == Refused(WRONG, 1)
    assert not store.is_soft_deleted("people")


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
def test_a_soft_deleted_stream_comes_back_with_what_is_appended(store: Store, expected: int) -> None:
    write(store, "people", new_events(2))
    soft_delete(store)
    written = write(store, "people", new_events(2), expected)
    assert numbers(written) == (2, 3)
    assert written.position == store.records("people")[3].position
    assert [record.stream for record in written.records] == ["people", "people", "$$people"]
    assert store.metadata("people") == Metadata(truncate_before=2)


def test_an_empty_append_brings_a_stream_back(store: Store) -> None:
    write(store, "people", new_events(2))
    soft_delete(store)
    assert numbers(write(store, "people", [])) == (2, 1)
    assert store.metadata("people") == Metadata(truncate_before=2)


@pytest.mark.parametrize(("version", "recreates"), [("3.9.4", True), ("4.1.1", False)])
def test_whether_a_number_brings_a_stream_back_depends_on_the_server(version: str, *, recreates: bool) -> None:
    store = new_store(version)
    write(store, "people", new_events(2))
    soft_delete(store)
    assert numbers(write(store, "people", new_events(1), 1)) == (2, 2)
    assert store.is_soft_deleted("people") is not recreates


def test_stream_exists_does_not_bring_it_back(store: Store) -> None:
    write(store, "people", new_events(2))
    soft_delete(store)
    assert store.append("people", STREAM_EXISTS, new_events(1)) == DELETED


def test_the_old_events_of_a_soft_deleted_stream_are_still_a_repetition(store: Store) -> None:
    events = new_events(2)
    write(store, "people", events)
    soft_delete(store)
    assert write(store, "people", events, NO_STREAM) == Written(0, 1, -1)
    assert store.is_soft_deleted("people")


def test_a_stream_can_be_deleted_again(store: Store) -> None:
    write(store, "people", new_events(2))
    soft_delete(store)
    assert soft_delete(store, expected=NO_STREAM).records[0].number == 1
    assert soft_delete(store, expected=1).records[0].number == 2


def test_new_metadata_brings_a_stream_back_empty(store: Store) -> None:
    write(store, "people", new_events(2))
    soft_delete(store)
    written = set_metadata(store, "people", b'{"$maxCount":5}')
    assert [record.event.data for record in written.records] == [b'{"$maxCount":5}', b'{"$maxCount":5,"$tb":2}']
    assert store.metadata("people") == Metadata(max_count=5, truncate_before=2)


def test_metadata_that_is_no_json_brings_a_stream_back_with_all_it_had(store: Store) -> None:
    write(store, "people", new_events(2))
    soft_delete(store)
    assert len(set_metadata(store, "people", b"no json").records) == 1
    assert store.metadata("people") == NO_METADATA


def test_metadata_with_half_a_surrogate_pair_does_not_keep_a_stream_from_coming_back(store: Store) -> None:
    write(store, "people", new_events(2))
    set_metadata(store, "people", rb'{"mine":"\ud800","$tb":%d}' % HIDES_ALL)
    written = write(store, "people", new_events(1))
    assert [record.event.data for record in written.records] == [b"0", rb'{"mine":"\ud800","$tb":2}']
    assert not store.is_soft_deleted("people")


# Hard deletion


@pytest.mark.parametrize("expected", [ANY, 1])
def test_a_tombstone_is_for_ever(store: Store, expected: int) -> None:
    events = new_events(2)
    write(store, "people", events)
    deleted = store.delete("people", expected, hard=True)
    assert isinstance(deleted, Written)
    (tombstone,) = deleted.records
    assert (tombstone.number, tombstone.type, deleted.position) == (WIDE_TOMBSTONE, "$streamDeleted", store.log.last)
    for name in ("people", "$$people", "$$$$people"):
        assert store.last_number(name) == WIDE_TOMBSTONE
    for version in (ANY, NO_STREAM, STREAM_EXISTS, 1):
        assert store.append("people", version, events) == DELETED
        assert store.append("$$people", version, new_events(1)) == DELETED
    assert store.delete("people", ANY, hard=True) == store.delete("people", ANY, hard=False) == DELETED


def test_a_stream_that_never_was_can_be_buried(store: Store) -> None:
    assert isinstance(store.delete("people", NO_STREAM, hard=True), Written)
    assert store.append("people", ANY, new_events(1)) == DELETED


# Metadata and settings


def test_the_last_metadata_counts(store: Store) -> None:
    set_metadata(store, "people", b'{"$maxCount":5}')
    assert store.metadata("people") == Metadata(max_count=5)
    set_metadata(store, "people", b'{"$maxAge":5}')
    assert store.metadata("people") == Metadata(max_age=5)


def test_metadata_must_be_marked_as_json(store: Store) -> None:
    set_metadata(store, "people", b'{"$maxCount":5}', is_json=False)
    assert store.metadata("people") == NO_METADATA


def test_metastreams_keep_one_event(store: Store) -> None:
    assert store.metadata("$$people") == Metadata(max_count=1)


def test_an_empty_append_to_a_metastream_is_no_metadata(store: Store) -> None:
    write(store, "$$people", [])
    write(store, "$settings", [])
    assert store.metadata("people") == NO_METADATA
    assert store.settings() == (NO_ACL, NO_ACL)


def test_the_last_settings_count(store: Store) -> None:
    write(store, "$settings", [new_event("$settings", b'{"$userStreamAcl":{"$r":"jane"}}')])
    assert store.settings() == ({Right.READ: ("jane",)}, NO_ACL)
    assert store.settings() is store.settings()
    write(store, "$settings", [new_event("$settings", b"{}")])
    assert store.settings() == (NO_ACL, NO_ACL)


def test_an_event_a_server_writes_has_an_id_of_the_given_chance() -> None:
    ids = [soft_delete(new_store()).records[0].id for _ in range(2)]
    assert ids[0] == ids[1] != soft_delete(Store(find_version("4.1.1"), random=Random(2))).records[0].id
