from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.talk import ADMIN, Desk, append, delete, new_event, new_events, pack, subscribe
from trio_extreme.embedded.writes import MAX_EVENT_SIZE
from trio_extreme.wire.commands import Command
from trio_extreme.wire.schema import DeleteStreamCompleted, OperationResult, WriteEventsCompleted

if TYPE_CHECKING:
    from google.protobuf.message import Message

INVALID = -(2**31)


def fields(message: Message) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields()}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_written_append_tells_numbers_and_position(desk: Desk) -> None:
    reply = desk.write("people", new_events(2), -1)
    position = desk.store.log.last
    assert fields(reply) == {
        "result": OperationResult.Success,
        "first_event_number": 0,
        "last_event_number": 1,
        "prepare_position": position,
        "commit_position": position,
        "current_version": 0,
    }


def test_a_refused_append_has_no_numbers_but_the_current_one(desk: Desk) -> None:
    desk.write("people", new_events(2))
    assert fields(desk.write("people", new_events(1), 7)) == {
        "result": OperationResult.WrongExpectedVersion,
        "message": "Wrong expected version.",
        "first_event_number": INVALID,
        "last_event_number": INVALID,
        "prepare_position": INVALID,
        "commit_position": 0,
        "current_version": 1,
    }


def test_the_oldest_server_does_not_tell_the_current_number() -> None:
    desk = Desk("3.9.4")
    assert "current_version" not in fields(desk.write("people", new_events(2)))
    assert "current_version" not in fields(desk.write("people", new_events(1), 7))


def test_a_repetition_has_no_position(desk: Desk) -> None:
    events = new_events(2)
    desk.write("people", events)
    reply = desk.write("people", events)
    assert (reply.result, reply.first_event_number, reply.last_event_number) == (OperationResult.Success, 0, 1)
    assert reply.prepare_position == reply.commit_position == -1


def test_who_may_not_write_is_denied_before_anything_is_looked_at(desk: Desk) -> None:
    reply: WriteEventsCompleted = desk.ask(Command.WRITE_EVENTS, append("$mine", new_events(1), 7), None)
    assert (reply.result, reply.message, reply.current_version) == (OperationResult.AccessDenied, "Access denied.", -1)
    reply = desk.ask(Command.WRITE_EVENTS, append("$all", new_events(1)), ADMIN)
    assert reply.result == OperationResult.AccessDenied
    assert desk.store.last_number("$mine") == -1


def test_a_deleted_stream_is_told(desk: Desk) -> None:
    desk.ask(Command.DELETE_STREAM, delete("people", hard=True))
    reply = desk.write("people", new_events(1))
    assert (reply.result, reply.message, reply.current_version) == (
        OperationResult.StreamDeleted,
        "Stream is deleted.",
        -1,
    )


@pytest.mark.parametrize("hard", [False, True])
def test_a_delete_tells_its_position(desk: Desk, *, hard: bool) -> None:
    reply: DeleteStreamCompleted = desk.ask(Command.DELETE_STREAM, delete("people", hard=hard))
    position = desk.store.log.last
    assert fields(reply) == {
        "result": OperationResult.Success,
        "prepare_position": position,
        "commit_position": position,
    }


def test_a_refused_delete_has_no_position(desk: Desk) -> None:
    expected = {"prepare_position": -1, "commit_position": -1}
    assert fields(desk.ask(Command.DELETE_STREAM, delete("people", 7))) == {
        "result": OperationResult.WrongExpectedVersion,
        "message": "Wrong expected version.",
        **expected,
    }
    assert fields(desk.ask(Command.DELETE_STREAM, delete("$$people"))) == {
        "result": OperationResult.AccessDenied,
        "message": "Access denied.",
        **expected,
    }


LARGE = bytes(MAX_EVENT_SIZE - 2)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Command.WRITE_EVENTS, append("", new_events(1))),
        (Command.WRITE_EVENTS, append("people", new_events(1), -3)),
        (Command.WRITE_EVENTS, append("people", new_events(1), -5)),
        (Command.WRITE_EVENTS, append("people", [new_event(""), new_event()])),
        (Command.WRITE_EVENTS, append("people", [new_event(id=bytes(16))])),
        (Command.WRITE_EVENTS, append("people", [new_event(id=b"x" * 15)])),
        (Command.WRITE_EVENTS, append("people", [new_event("t", LARGE + b"x")])),
        (Command.WRITE_EVENTS, append("people", [new_event("t", LARGE, metadata=b"x")])),
        (Command.DELETE_STREAM, delete("")),
        (Command.DELETE_STREAM, delete("people", -3)),
        (Command.DELETE_STREAM, delete("people", -4)),
    ],
    ids=range(11),
)
def test_impossible_arguments_are_a_bad_request(desk: Desk, command: Command, message: Message) -> None:
    reply = desk.caller.ask(command, message, ADMIN)
    assert reply.command == Command.BAD_REQUEST
    assert not desk.caller.hung_up
    assert desk.store.last_number("people") == -1


def test_the_largest_event_is_committed(desk: Desk) -> None:
    assert desk.write("people", [new_event("t", LARGE)]).result == OperationResult.Success


@pytest.mark.parametrize(
    ("version", "order"),
    [
        ("3.9.4", [Command.WRITE_EVENTS_COMPLETED, Command.STREAM_EVENT_APPEARED, Command.STREAM_EVENT_APPEARED]),
        ("4.1.1", [Command.STREAM_EVENT_APPEARED, Command.STREAM_EVENT_APPEARED, Command.WRITE_EVENTS_COMPLETED]),
    ],
)
def test_events_are_pushed_before_the_answer_or_after_it(version: str, order: list[Command]) -> None:
    desk = Desk(version)
    desk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    desk.caller.tell(pack(Command.WRITE_EVENTS, append("people", new_events(2))))
    assert [reply.command for reply in desk.caller.replies] == order


def test_a_refused_append_pushes_nothing(desk: Desk) -> None:
    desk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    desk.write("people", new_events(1), 7)
    assert not desk.caller.replies
