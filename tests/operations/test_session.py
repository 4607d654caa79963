"""Ping, IdentifyClient, and any message at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trio_extreme import messages
from trio_extreme.errors import BadRequest, InvalidArgument, NotAuthenticated, ProtocolError
from trio_extreme.operations.base import Resend
from trio_extreme.operations.session import Identify, Ping, Raw
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from google.protobuf.message import Message

READS: list[tuple[Message, int | None, int, int]] = [
    (messages.ReadEvent(), None, 0xB0, 0xB1),
    (messages.ReadStreamEvents(), Command.READ_STREAM_EVENTS_FORWARD, 0xB2, 0xB3),
    (messages.ReadStreamEvents(), Command.READ_STREAM_EVENTS_BACKWARD, 0xB4, 0xB5),
    (messages.ReadAllEvents(), Command.READ_ALL_EVENTS_FORWARD, 0xB6, 0xB7),
    (messages.ReadAllEvents(), Command.READ_ALL_EVENTS_BACKWARD, 0xB8, 0xB9),
    (messages.FilteredReadAllEvents(), Command.FILTERED_READ_ALL_EVENTS_FORWARD, 0xBA, 0xBB),
    # Not 0xBD: pitfall 35.
    (messages.FilteredReadAllEvents(), Command.FILTERED_READ_ALL_EVENTS_BACKWARD, 0xBC, 0xBE),
]
WRITES: list[tuple[Message, int | None, int, int]] = [
    (messages.WriteEvents(), None, 0x82, 0x83),
    (messages.TransactionStart(), None, 0x84, 0x85),
    (messages.TransactionWrite(), None, 0x86, 0x87),
    (messages.TransactionCommit(), None, 0x88, 0x89),
    (messages.DeleteStream(), None, 0x8A, 0x8B),
    (messages.CreatePersistentSubscription(), None, 0xC8, 0xC9),
    (messages.DeletePersistentSubscription(), None, 0xCA, 0xCB),
    (messages.UpdatePersistentSubscription(), None, 0xCE, 0xCF),
    (messages.ScavengeDatabase(), None, 0xD0, 0xD1),
]


def test_ping() -> None:
    """A byte of payload, because servers up to 5.0 refuse an empty password before an empty payload: pitfall 54."""
    assert len(Ping().payload()) == 1
    assert (Ping().command, Ping().answer) == (3, 4)
    Ping().decide(Command.PONG, b"\0")


def test_identify() -> None:
    message = schema.IdentifyClient.FromString(Identify("me").payload())
    # Exactly 1: servers accept more and cannot answer then.
    assert message == schema.IdentifyClient(version=1, connection_name="me")
    assert Identify("me").decide(Command.CLIENT_IDENTIFIED, b"") is True


def test_old_servers_do_not_know_identify() -> None:
    assert Identify("me").decide(Command.BAD_REQUEST, b"Could not unwrap network package for command 245.") is False
    with pytest.raises(NotAuthenticated):
        Identify("me").decide(Command.NOT_AUTHENTICATED, b"")


@pytest.mark.parametrize(("message", "command", "code", "answer"), READS + WRITES)
def test_any_request(message: Message, command: int | None, code: int, answer: int) -> None:
    raw = Raw(message, command)
    assert (raw.command, raw.answer) == (code, answer)
    filled = type(message)()
    schema.fill_required(filled)
    assert raw.payload() == filled.SerializeToString()
    # The caller's own stays as it was.
    assert message.ListFields() == []


@pytest.mark.parametrize(("message", "command", "code", "answer"), READS)
def test_reads_may_be_sent_twice(message: Message, command: int | None, code: int, answer: int) -> None:
    assert Raw(message, command).resend is Resend.AGAIN


@pytest.mark.parametrize(("message", "command", "code", "answer"), WRITES)
def test_nothing_else_may(message: Message, command: int | None, code: int, answer: int) -> None:
    assert Raw(message, command).resend is Resend.NEVER


@pytest.mark.parametrize(("message", "command", "code", "answer"), READS + WRITES)
def test_only_a_scavenge_takes_its_time(message: Message, command: int | None, code: int, answer: int) -> None:
    """Servers answer it when it is done, hours later maybe; whose attempt expired was doubtful."""
    assert Raw(message, command).prompt is not isinstance(message, messages.ScavengeDatabase)


def test_what_is_set_is_sent() -> None:
    raw = Raw(messages.ReadEvent(event_stream_id="s", event_number=-1), None)
    assert schema.ReadEvent.FromString(raw.payload()) == schema.ReadEvent(
        event_stream_id="s", event_number=-1, resolve_link_tos=False, require_master=False
    )


def test_the_reply_comes_as_it_is_whatever_its_result() -> None:
    done = messages.WriteEventsCompleted(result=messages.OperationResult.WrongExpectedVersion)
    raw = Raw(messages.WriteEvents(), None)
    assert raw.decide(Command.WRITE_EVENTS_COMPLETED, done.SerializeToString()) == done
    with pytest.raises(BadRequest):
        raw.decide(Command.BAD_REQUEST, b"no")
    with pytest.raises(ProtocolError):
        raw.decide(Command.DELETE_STREAM_COMPLETED, b"")


def test_both_forms_of_the_answer_to_scavenge() -> None:
    raw = Raw(messages.ScavengeDatabase(), None)
    for done in (
        messages.ScavengeDatabaseCompleted(result=0, total_time_ms=1, total_space_saved=2),
        messages.ScavengeDatabaseResponse(result=0, scavengeId="id"),
    ):
        assert raw.decide(Command.SCAVENGE_DATABASE_COMPLETED, done.SerializeToString()) == done


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (Command.FILTERED_READ_ALL_EVENTS_FORWARD, Command.READ_ALL_EVENTS_FORWARD_COMPLETED),
        (Command.FILTERED_READ_ALL_EVENTS_BACKWARD, Command.READ_ALL_EVENTS_BACKWARD_COMPLETED),
    ],
)
def test_a_filtered_read_is_refused_as_if_it_had_no_filter(command: Command, answer: Command) -> None:
    """Pitfall 34."""
    refusal = messages.ReadAllEventsCompleted(result=messages.ReadAllEventsCompleted.ReadAllResult.AccessDenied)
    raw = Raw(messages.FilteredReadAllEvents(), command)
    assert raw.decide(answer, refusal.SerializeToString()) == refusal
    with pytest.raises(ProtocolError):
        Raw(messages.ReadEvent(), None).decide(answer, b"")


@pytest.mark.parametrize(
    ("message", "command", "text"),
    [
        (messages.ReadStreamEvents(), None, "Command.READ_STREAM_EVENTS_FORWARD or READ_STREAM_EVENTS_BACKWARD"),
        (messages.ReadStreamEvents(), Command.READ_EVENT, "READ_EVENT carries a ReadEvent, not ReadStreamEvents"),
        (messages.ReadEvent(), Command.PING, "PING is not for execute"),
        (messages.ReadEvent(), 0x99, "0x99 is not for execute"),
        (messages.ReadEventCompleted(), None, "READ_EVENT_COMPLETED is not for execute"),
        (schema.SubscribeToStream(), None, "SUBSCRIBE_TO_STREAM is not for execute"),
        (schema.IdentifyClient(), None, "IDENTIFY_CLIENT is not for execute"),
        (messages.NewEvent(), None, "NewEvent is no request; trio_extreme.messages has them"),
        ("ReadEvent", None, "str is no request"),
    ],
)
def test_what_execute_does_not_take(message: Any, command: int | None, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        Raw(message, command)


def test_every_public_message_is_the_wires() -> None:
    for name in set(messages.__all__) - {"Command"}:
        assert getattr(messages, name) is getattr(schema, name)
