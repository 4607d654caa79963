"""Explicit transactions: what is sent, what may be sent twice, and each result of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.recorded import VERSIONS, load
from trio_extreme.errors import (
    AccessDenied,
    FrameTooLarge,
    InvalidTransaction,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    StreamDeleted,
    TrioExtremeError,
    WrongExpectedVersion,
)
from trio_extreme.events import NewEvent
from trio_extreme.operations.base import AskAgain, Resend
from trio_extreme.operations.transactions import Begun, CommitTransaction, StartTransaction, WriteTransaction
from trio_extreme.values import ANY, NO_STREAM, Position, WriteResult
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.operations.base import Operation

Result = schema.OperationResult
EVENTS = [NewEvent.json("a", {"x": 1}, {"m": 2}), NewEvent("b", b"binary")]
IDS = [event.id for event in EVENTS]
TIMEOUTS = [Result.PrepareTimeout, Result.CommitTimeout, Result.ForwardTimeout]


def start(expected: int = 3) -> StartTransaction:
    return StartTransaction(Begun("s", expected), require_master=True)


def write(events: list[NewEvent] = EVENTS) -> WriteTransaction:
    return WriteTransaction(7, events, require_master=True)


def commit(expected: int | None = 3) -> CommitTransaction:
    return CommitTransaction(7, None if expected is None else Begun("s", expected), IDS, require_master=True)


def test_a_start_on_the_wire() -> None:
    message = schema.TransactionStart.FromString(start(NO_STREAM).payload())
    assert message == schema.TransactionStart(event_stream_id="s", expected_version=-1, require_master=True)


def test_a_write_on_the_wire() -> None:
    """The events are the same bytes as in an append."""
    message = schema.TransactionWrite.FromString(write().payload())
    assert (message.transaction_id, message.require_master) == (7, True)
    assert [event.event_id for event in message.events] == [event.id_bytes for event in EVENTS]
    assert message.events[0] == schema.NewEvent(
        event_id=EVENTS[0].id_bytes,
        event_type="a",
        data_content_type=1,
        metadata_content_type=0,
        data=b'{"x":1}',
        metadata=b'{"m":2}',
    )


def test_a_commit_on_the_wire() -> None:
    message = schema.TransactionCommit.FromString(commit().payload())
    assert message == schema.TransactionCommit(transaction_id=7, require_master=True)


def test_the_master_need_not_be_required() -> None:
    for operation, kind in (
        (StartTransaction(Begun("s", 0), require_master=False), schema.TransactionStart),
        (WriteTransaction(7, [], require_master=False), schema.TransactionWrite),
        (CommitTransaction(7, None, [], require_master=False), schema.TransactionCommit),
    ):
        message: Any = kind.FromString(operation.payload())
        # Servers up to 21 miss what is not said.
        assert message.HasField("require_master")
        assert not message.require_master


def test_commands() -> None:
    assert (start().command, start().answer) == (0x84, 0x85)
    assert (write().command, write().answer) == (0x86, 0x87)
    assert (commit().command, commit().answer) == (0x88, 0x89)


def test_ids() -> None:
    assert list(start().event_ids) == []
    assert write().event_ids == commit().event_ids == IDS


@pytest.mark.parametrize(
    ("operation", "resend"),
    [
        (start(ANY), Resend.AGAIN),
        (start(3), Resend.AGAIN),
        (write(), Resend.NEVER),
        (write([]), Resend.AGAIN),
        (commit(0), Resend.SAME_IDS),
        (commit(NO_STREAM), Resend.LOOK_UP),
        (commit(ANY), Resend.NEVER),
        (commit(None), Resend.NEVER),
        (CommitTransaction(7, Begun("s", NO_STREAM), [], require_master=True), Resend.SAME_IDS),
        (CommitTransaction(7, Begun("s", ANY), [], require_master=True), Resend.NEVER),
    ],
)
def test_what_may_be_sent_twice(operation: Operation[object], resend: Resend) -> None:
    """Nobody sees a transaction that is begun and never committed; a write would be in it twice."""
    assert operation.resend is resend


@pytest.mark.parametrize("expected", [3, NO_STREAM])
def test_where_to_look_for_a_commit(expected: int) -> None:
    """Of their place in the log a stream does not tell."""
    assert commit(expected).look_in == "s"
    assert commit(expected).found(5, 6) == WriteResult(5, 6, None)


@pytest.mark.parametrize("operation", [start(), write(), commit(ANY), commit(None)])
def test_where_there_is_nothing_to_look_for(operation: Operation[object]) -> None:
    assert operation.look_in is None


def test_more_than_a_frame_is_refused_before_it_is_encoded() -> None:
    with pytest.raises(FrameTooLarge, match="80,000,000 bytes"):
        write([NewEvent("t", bytes(16_000_000))] * 5)


def started(**fields: Any) -> bytes:
    return schema.TransactionStartCompleted(**fields).SerializeToString()


def added(**fields: Any) -> bytes:
    return schema.TransactionWriteCompleted(**fields).SerializeToString()


def committed(**fields: Any) -> bytes:
    return schema.TransactionCommitCompleted(**fields).SerializeToString()


def test_a_start_succeeds() -> None:
    assert start().decide(Command.TRANSACTION_START_COMPLETED, started(transaction_id=2**40, result=0)) == 2**40


def test_a_write_succeeds() -> None:
    write().decide(Command.TRANSACTION_WRITE_COMPLETED, added(transaction_id=7, result=0))


def test_a_commit_succeeds() -> None:
    payload = committed(result=0, first_event_number=5, last_event_number=6, prepare_position=9, commit_position=9)
    assert commit().decide(Command.TRANSACTION_COMMIT_COMPLETED, payload) == WriteResult(5, 6, Position(9, 9))


def test_a_commit_that_was_there_already_has_no_position() -> None:
    payload = committed(result=0, first_event_number=5, last_event_number=6, prepare_position=-1, commit_position=-1)
    assert commit().read(payload) == WriteResult(5, 6, None)


def test_servers_from_22_6_leave_out_zeros() -> None:
    assert start().read(b"") == 0
    write().read(b"")
    assert commit().read(b"") == WriteResult(0, 0, Position(0, 0))


@pytest.mark.parametrize("result", TIMEOUTS)
def test_servers_that_did_not_agree_on_a_start(result: int) -> None:
    """Nothing was changed that anybody could see."""
    with pytest.raises(AskAgain) as caught:
        start().read(started(result=result))
    assert not caught.value.executed
    assert isinstance(caught.value.error, OperationTimedOut)


@pytest.mark.parametrize("result", TIMEOUTS)
@pytest.mark.parametrize(
    ("operation", "answer"),
    [(write(), added), (commit(), committed), (commit(None), committed)],
    ids=["write", "commit", "continued"],
)
def test_a_timeout_of_the_servers_is_no_failure(operation: Operation[Any], answer: Any, result: int) -> None:
    with pytest.raises(AskAgain) as caught:
        operation.read(answer(result=result))
    assert caught.value.executed
    assert isinstance(caught.value.error, OutcomeUnknown)


REFUSED: list[tuple[Operation[Any], Any, int, type[TrioExtremeError], str]] = [
    (start(), started, Result.AccessDenied, AccessDenied, "may not write to stream 's'"),
    (start(), started, Result.StreamDeleted, StreamDeleted, "stream 's' was deleted"),
    (start(), started, Result.WrongExpectedVersion, WrongExpectedVersion, "stream 's' is not at expected version 3"),
    (start(), started, 77, ProtocolError, "result 77"),
    (write(), added, Result.AccessDenied, AccessDenied, "the stream of transaction 7, or there is no such"),
    (write(), added, Result.InvalidTransaction, InvalidTransaction, "not known to the server"),
    (write(), added, 77, ProtocolError, "result 77"),
    (commit(), committed, Result.WrongExpectedVersion, WrongExpectedVersion, "stream 's' is not at expected version 3"),
    (commit(), committed, Result.StreamDeleted, StreamDeleted, "stream 's' was deleted"),
    (commit(), committed, Result.AccessDenied, AccessDenied, "the stream of transaction 7, or there is no such"),
    (commit(), committed, Result.InvalidTransaction, InvalidTransaction, "not known to the server"),
    (commit(), committed, 77, ProtocolError, "result 77"),
    (commit(None), committed, Result.WrongExpectedVersion, WrongExpectedVersion, "the transaction's stream is not at"),
    (commit(None), committed, Result.StreamDeleted, StreamDeleted, "the transaction's stream was deleted"),
]


@pytest.mark.parametrize(("operation", "answer", "result", "error", "text"), REFUSED)
def test_refusals(
    operation: Operation[Any], answer: Any, result: int, error: type[TrioExtremeError], text: str
) -> None:
    with pytest.raises(error, match=text):
        operation.read(answer(result=result))


def test_what_a_wrong_version_knows() -> None:
    """No server says where the stream is; and of a transaction that was begun elsewhere we know nothing at all."""
    payload = committed(result=Result.WrongExpectedVersion)
    with pytest.raises(WrongExpectedVersion) as caught:
        commit(3).read(payload)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("s", 3, None)
    with pytest.raises(WrongExpectedVersion) as caught:
        commit(None).read(payload)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("", None, None)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_real_servers_answered(version: str) -> None:
    """To three commits that succeed (the second of what was committed before, the third of nothing), and two others."""
    operations = {answer: operation for operation in (start(), write(), commit()) for answer in [operation.answer]}
    outcomes: list[object] = []
    for answer in load(version, "transaction").answers:
        if operation := operations.get(answer.code):
            try:
                outcomes.append(operation.decide(answer.code, answer.payload))
            except TrioExtremeError as error:
                outcomes.append(type(error))
    commits = [outcome for outcome in outcomes if not isinstance(outcome, int) and outcome is not None]
    first, again, unknown, wrong, empty = commits
    assert isinstance(first, WriteResult)
    assert (first.first, first.last) == (0, 2)
    assert first.position is not None
    assert again == WriteResult(0, 2, None)
    assert (unknown, wrong) == (AccessDenied, WrongExpectedVersion)
    assert isinstance(empty, WriteResult)
    assert (empty.first, empty.last) == (3, 2)
