"""Appends and deletes: what is sent, what may be sent twice, and each result of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_extreme.errors import (
    AccessDenied,
    FrameTooLarge,
    InvalidTransaction,
    OutcomeUnknown,
    ProtocolError,
    ServerError,
    StreamDeleted,
    TrioExtremeError,
    WrongExpectedVersion,
)
from trio_extreme.events import NewEvent
from trio_extreme.operations.base import AskAgain, Resend
from trio_extreme.operations.writing import Append, Delete
from trio_extreme.values import ANY, NO_STREAM, STREAM_EXISTS, DeleteResult, Position, WriteResult
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.operations.base import Operation

Result = schema.OperationResult
EVENTS = [NewEvent.json("a", {"x": 1}, {"m": 2}), NewEvent("b", b"binary")]
# What every refusal of servers up to 21.10 carries.
NOTHING_WRITTEN = {"first_event_number": -2147483648, "last_event_number": -2147483648, "commit_position": 0}


def append(expected: int = ANY) -> Append:
    return Append("s", EVENTS, expected, require_master=True)


def delete(expected: int = ANY, *, hard: bool = False) -> Delete:
    return Delete("s", expected, hard=hard, require_master=False)


def test_an_append_on_the_wire() -> None:
    message = schema.WriteEvents.FromString(append(4).payload())
    first, second = EVENTS
    assert message == schema.WriteEvents(
        event_stream_id="s",
        expected_version=4,
        require_master=True,
        events=[
            schema.NewEvent(
                event_id=first.id.bytes_le,
                event_type="a",
                data_content_type=1,
                metadata_content_type=0,
                data=b'{"x":1}',
                metadata=b'{"m":2}',
            ),
            schema.NewEvent(
                event_id=second.id.bytes_le,
                event_type="b",
                data_content_type=0,
                metadata_content_type=0,
                data=b"binary",
                metadata=b"",
            ),
        ],
    )


def test_an_append_of_nothing_still_says_all_that_is_required() -> None:
    message = schema.WriteEvents.FromString(Append("s", [], ANY, require_master=False).payload())
    assert message == schema.WriteEvents(event_stream_id="s", expected_version=-2, require_master=False)


def test_a_delete_on_the_wire() -> None:
    assert schema.DeleteStream.FromString(delete().payload()) == schema.DeleteStream(
        event_stream_id="s", expected_version=-2, require_master=False, hard_delete=False
    )
    assert schema.DeleteStream.FromString(delete(3, hard=True).payload()).hard_delete


def test_commands() -> None:
    assert (append().command, append().answer) == (0x82, 0x83)
    assert (delete().command, delete().answer) == (0x8A, 0x8B)


def test_ids() -> None:
    assert append().event_ids == [event.id for event in EVENTS]
    assert list(delete().event_ids) == []


@pytest.mark.parametrize(
    ("operation", "resend"),
    [
        (append(0), Resend.SAME_IDS),
        (append(NO_STREAM), Resend.LOOK_UP),
        (append(ANY), Resend.LOOK_UP),
        (append(STREAM_EXISTS), Resend.LOOK_UP),
        (delete(0, hard=True), Resend.SAME_IDS),
        (delete(NO_STREAM, hard=True), Resend.SAME_IDS),
        (delete(ANY, hard=True), Resend.NEVER),
        (delete(0), Resend.NEVER),
        (delete(ANY), Resend.NEVER),
    ],
)
def test_what_may_be_sent_twice(operation: Operation[object], resend: Resend) -> None:
    """Section 5 of the design: a number protects an append and a tombstone, and nothing protects a soft delete."""
    assert operation.resend is resend


def test_an_append_of_nothing_may_be_sent_as_often_as_one_likes() -> None:
    for expected in (ANY, STREAM_EXISTS, NO_STREAM, 7):
        assert Append("s", [], expected, require_master=False).resend is Resend.SAME_IDS


@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, NO_STREAM, 3])
def test_where_to_look_for_an_append(expected: int) -> None:
    """Of their place in the log a stream does not tell."""
    assert append(expected).look_in == "s"
    assert append(expected).found(5, 6) == WriteResult(5, 6, None)


def test_for_a_delete_there_is_nothing_to_look_for() -> None:
    assert delete(3, hard=True).look_in is None
    assert delete().look_in is None


def test_more_than_a_frame_is_refused_before_it_is_encoded() -> None:
    big = NewEvent("t", bytes(16_000_000), b"m")
    Append("s", [big] * 4, ANY, require_master=False)
    with pytest.raises(FrameTooLarge, match="80,000,005 bytes in one append") as caught:
        Append("s", [big] * 5, ANY, require_master=False)
    assert (caught.value.size, caught.value.limit) == (80_000_005, 67_108_864)


def written(**fields: int) -> bytes:
    return schema.WriteEventsCompleted(**fields).SerializeToString()  # type: ignore[arg-type]


def deleted(**fields: int) -> bytes:
    return schema.DeleteStreamCompleted(**fields).SerializeToString()  # type: ignore[arg-type]


def test_an_append_succeeds() -> None:
    payload = written(result=0, first_event_number=5, last_event_number=6, prepare_position=100, commit_position=101)
    assert append().decide(Command.WRITE_EVENTS_COMPLETED, payload) == WriteResult(5, 6, Position(101, 100))


def test_an_append_that_was_there_already_has_no_position() -> None:
    payload = written(result=0, first_event_number=5, last_event_number=6, prepare_position=-1, commit_position=-1)
    assert append().read(payload) == WriteResult(5, 6, None)


def test_servers_from_22_6_leave_out_zeros() -> None:
    assert append().read(b"") == WriteResult(0, 0, Position(0, 0))
    assert delete().read(b"") == DeleteResult(Position(0, 0))


def test_a_delete_succeeds() -> None:
    payload = deleted(result=0, prepare_position=100, commit_position=101)
    assert delete().decide(Command.DELETE_STREAM_COMPLETED, payload) == DeleteResult(Position(101, 100))
    assert delete().read(deleted(result=0, prepare_position=-1, commit_position=-1)) == DeleteResult(None)


@pytest.mark.parametrize(
    ("server", "fields", "actual"),
    [
        ("3.9 does not say", NOTHING_WRITTEN, None),
        ("4.1", NOTHING_WRITTEN | {"current_version": 5}, 5),
        ("4.1, no stream", NOTHING_WRITTEN | {"current_version": -1}, -1),
        ("4.1, one event", NOTHING_WRITTEN | {"current_version": 0}, 0),
        ("22.6, which leaves out zeros", {"first_event_number": -2147483648, "last_event_number": -2147483648}, 0),
    ],
)
def test_wrong_expected_version_of_an_append(server: str, fields: dict[str, int], actual: int | None) -> None:
    with pytest.raises(WrongExpectedVersion) as caught:
        append(3).read(written(result=Result.WrongExpectedVersion, **fields))
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("s", 3, actual)


@pytest.mark.parametrize(("fields", "actual"), [({}, None), ({"current_version": 5}, 5)])
def test_wrong_expected_version_of_a_delete(fields: dict[str, int], actual: int | None) -> None:
    with pytest.raises(WrongExpectedVersion) as caught:
        delete(3).read(deleted(result=Result.WrongExpectedVersion, **fields))
    assert (caught.value.expected, caught.value.actual) == (3, actual)


@pytest.mark.parametrize(
    ("operation", "fields"),
    [(delete(ANY), {"current_version": -1}), (delete(ANY), {}), (delete(NO_STREAM), {"current_version": -1})],
)
def test_a_soft_delete_that_finds_nothing_is_done(operation: Delete, fields: dict[str, int]) -> None:
    """Servers from 21.10 on say WrongExpectedVersion to it: 3.3."""
    assert operation.read(deleted(result=Result.WrongExpectedVersion, **fields)) == DeleteResult(None)


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        (delete(NO_STREAM), {"current_version": 5}),
        (delete(NO_STREAM), {}),
        (delete(3), {"current_version": -1}),
        (delete(ANY, hard=True), {"current_version": -1}),
        (delete(NO_STREAM, hard=True), {"current_version": -1}),
    ],
)
def test_any_other_delete_that_finds_another_version_is_refused(operation: Delete, fields: dict[str, int]) -> None:
    with pytest.raises(WrongExpectedVersion):
        operation.read(deleted(result=Result.WrongExpectedVersion, **fields))


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (Result.StreamDeleted, StreamDeleted, "stream 's' was deleted"),
        (Result.AccessDenied, AccessDenied, r"may not (write to|delete) stream 's' \(the right \$[wd]\)"),
        (Result.InvalidTransaction, InvalidTransaction, "the transaction is not known"),
        (77, ProtocolError, "result 77"),
    ],
)
def test_refusals(result: int, error: type[TrioExtremeError], text: str) -> None:
    for operation, payload in ((append(), written(result=result)), (delete(), deleted(result=result))):
        with pytest.raises(error, match=text):
            operation.read(payload)


def test_the_right_that_is_missing() -> None:
    for operation, payload, right in (
        (append(), written(result=Result.AccessDenied), "$w"),
        (delete(), deleted(result=Result.AccessDenied), "$d"),
    ):
        with pytest.raises(AccessDenied) as caught:
            operation.read(payload)
        assert (caught.value.stream, caught.value.right) == ("s", right)


def test_a_hard_delete_asked_for_again_finds_its_own_tombstone() -> None:
    assert delete(3, hard=True).settle(StreamDeleted("s")) == DeleteResult(None)
    with pytest.raises(WrongExpectedVersion):
        delete(3, hard=True).settle(WrongExpectedVersion("s", 3, 4))


@pytest.mark.parametrize(
    ("operation", "refusal", "believed"),
    [
        # A stream that has a version has no tombstone.
        (delete(3, hard=True), WrongExpectedVersion("s", 3, 4), True),
        (delete(3, hard=True), StreamDeleted("s"), False),
        (delete(3, hard=True), AccessDenied("no"), False),
        # What was deleted softly has another version.
        (delete(3), WrongExpectedVersion("s", 3, 4), False),
        # So has what was written.
        (append(3), WrongExpectedVersion("s", 3, 4), False),
        (append(3), StreamDeleted("s"), False),
    ],
)
def test_what_a_refusal_of_a_repeated_write_proves(
    operation: Operation[object], refusal: ServerError, *, believed: bool
) -> None:
    """Whether no earlier attempt was carried out."""
    assert operation.believes(refusal) is believed


@pytest.mark.parametrize("operation", [append(3), delete(3), delete(3, hard=True)], ids=["append", "soft", "hard"])
@pytest.mark.parametrize("refusal", [WrongExpectedVersion("s", 3, 4), StreamDeleted("s")], ids=["version", "deleted"])
def test_what_a_refusal_of_a_repeated_write_does_not_tell(operation: Operation[object], refusal: ServerError) -> None:
    if operation.command == Command.DELETE_STREAM and operation.resend is Resend.SAME_IDS:
        refusal = WrongExpectedVersion("s", 3, 4)
    with pytest.raises(type(refusal)) as caught:
        operation.settle(refusal)
    assert caught.value is refusal


@pytest.mark.parametrize("result", [Result.PrepareTimeout, Result.CommitTimeout, Result.ForwardTimeout])
def test_a_timeout_of_the_servers_is_no_failure(result: int) -> None:
    """It may have been written: pitfall 21."""
    for operation, payload in ((append(), written(result=result)), (delete(), deleted(result=result))):
        with pytest.raises(AskAgain) as caught:
            operation.read(payload)
        assert caught.value.executed
        assert isinstance(caught.value.error, OutcomeUnknown)
