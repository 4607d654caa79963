"""The commands of the protocol and what each carries (docs/protocol.md, 2.1)."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from trio_extreme.errors import ProtocolError
from trio_extreme.wire import schema

M = TypeVar("M", bound=Message)

PARSE_ERRORS = (DecodeError, UnicodeDecodeError)
"""What protobuf raises for bytes that are no message; the second where it runs in pure Python."""


class Command(IntEnum):
    """The byte that says what a frame is."""

    HEARTBEAT_REQUEST = 0x01
    HEARTBEAT_RESPONSE = 0x02
    PING = 0x03
    PONG = 0x04
    WRITE_EVENTS = 0x82
    WRITE_EVENTS_COMPLETED = 0x83
    TRANSACTION_START = 0x84
    TRANSACTION_START_COMPLETED = 0x85
    TRANSACTION_WRITE = 0x86
    TRANSACTION_WRITE_COMPLETED = 0x87
    TRANSACTION_COMMIT = 0x88
    TRANSACTION_COMMIT_COMPLETED = 0x89
    DELETE_STREAM = 0x8A
    DELETE_STREAM_COMPLETED = 0x8B
    READ_EVENT = 0xB0
    READ_EVENT_COMPLETED = 0xB1
    READ_STREAM_EVENTS_FORWARD = 0xB2
    READ_STREAM_EVENTS_FORWARD_COMPLETED = 0xB3
    READ_STREAM_EVENTS_BACKWARD = 0xB4
    READ_STREAM_EVENTS_BACKWARD_COMPLETED = 0xB5
    READ_ALL_EVENTS_FORWARD = 0xB6
    READ_ALL_EVENTS_FORWARD_COMPLETED = 0xB7
    READ_ALL_EVENTS_BACKWARD = 0xB8
    READ_ALL_EVENTS_BACKWARD_COMPLETED = 0xB9
    FILTERED_READ_ALL_EVENTS_FORWARD = 0xBA
    FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED = 0xBB
    FILTERED_READ_ALL_EVENTS_BACKWARD = 0xBC
    FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED = 0xBE
    SUBSCRIBE_TO_STREAM = 0xC0
    SUBSCRIPTION_CONFIRMATION = 0xC1
    STREAM_EVENT_APPEARED = 0xC2
    UNSUBSCRIBE_FROM_STREAM = 0xC3
    SUBSCRIPTION_DROPPED = 0xC4
    CONNECT_TO_PERSISTENT_SUBSCRIPTION = 0xC5
    PERSISTENT_SUBSCRIPTION_CONFIRMATION = 0xC6
    PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED = 0xC7
    CREATE_PERSISTENT_SUBSCRIPTION = 0xC8
    CREATE_PERSISTENT_SUBSCRIPTION_COMPLETED = 0xC9
    DELETE_PERSISTENT_SUBSCRIPTION = 0xCA
    DELETE_PERSISTENT_SUBSCRIPTION_COMPLETED = 0xCB
    PERSISTENT_SUBSCRIPTION_ACK_EVENTS = 0xCC
    PERSISTENT_SUBSCRIPTION_NAK_EVENTS = 0xCD
    UPDATE_PERSISTENT_SUBSCRIPTION = 0xCE
    UPDATE_PERSISTENT_SUBSCRIPTION_COMPLETED = 0xCF
    SCAVENGE_DATABASE = 0xD0
    SCAVENGE_DATABASE_COMPLETED = 0xD1
    FILTERED_SUBSCRIBE_TO_STREAM = 0xD2
    CHECKPOINT_REACHED = 0xD3
    BAD_REQUEST = 0xF0
    NOT_HANDLED = 0xF1
    AUTHENTICATE = 0xF2
    AUTHENTICATED = 0xF3
    NOT_AUTHENTICATED = 0xF4
    IDENTIFY_CLIENT = 0xF5
    CLIENT_IDENTIFIED = 0xF6


READS = frozenset(
    (
        Command.READ_EVENT,
        Command.READ_STREAM_EVENTS_FORWARD,
        Command.READ_STREAM_EVENTS_BACKWARD,
        Command.READ_ALL_EVENTS_FORWARD,
        Command.READ_ALL_EVENTS_BACKWARD,
        Command.FILTERED_READ_ALL_EVENTS_FORWARD,
        Command.FILTERED_READ_ALL_EVENTS_BACKWARD,
    )
)
"""Requests for what is there."""

HARMLESS = READS | {
    Command.PING,
    Command.IDENTIFY_CLIENT,
    Command.SUBSCRIBE_TO_STREAM,
    Command.FILTERED_SUBSCRIBE_TO_STREAM,
    Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION,
}
"""Requests that change nothing of what is stored."""


MESSAGES: dict[int, type[Message]] = {
    Command.WRITE_EVENTS: schema.WriteEvents,
    Command.WRITE_EVENTS_COMPLETED: schema.WriteEventsCompleted,
    Command.TRANSACTION_START: schema.TransactionStart,
    Command.TRANSACTION_START_COMPLETED: schema.TransactionStartCompleted,
    Command.TRANSACTION_WRITE: schema.TransactionWrite,
    Command.TRANSACTION_WRITE_COMPLETED: schema.TransactionWriteCompleted,
    Command.TRANSACTION_COMMIT: schema.TransactionCommit,
    Command.TRANSACTION_COMMIT_COMPLETED: schema.TransactionCommitCompleted,
    Command.DELETE_STREAM: schema.DeleteStream,
    Command.DELETE_STREAM_COMPLETED: schema.DeleteStreamCompleted,
    Command.READ_EVENT: schema.ReadEvent,
    Command.READ_EVENT_COMPLETED: schema.ReadEventCompleted,
    Command.READ_STREAM_EVENTS_FORWARD: schema.ReadStreamEvents,
    Command.READ_STREAM_EVENTS_FORWARD_COMPLETED: schema.ReadStreamEventsCompleted,
    Command.READ_STREAM_EVENTS_BACKWARD: schema.ReadStreamEvents,
    Command.READ_STREAM_EVENTS_BACKWARD_COMPLETED: schema.ReadStreamEventsCompleted,
    Command.READ_ALL_EVENTS_FORWARD: schema.ReadAllEvents,
    Command.READ_ALL_EVENTS_FORWARD_COMPLETED: schema.ReadAllEventsCompleted,
    Command.READ_ALL_EVENTS_BACKWARD: schema.ReadAllEvents,
    Command.READ_ALL_EVENTS_BACKWARD_COMPLETED: schema.ReadAllEventsCompleted,
    Command.FILTERED_READ_ALL_EVENTS_FORWARD: schema.FilteredReadAllEvents,
    Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED: schema.FilteredReadAllEventsCompleted,
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD: schema.FilteredReadAllEvents,
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED: schema.FilteredReadAllEventsCompleted,
    Command.SUBSCRIBE_TO_STREAM: schema.SubscribeToStream,
    Command.SUBSCRIPTION_CONFIRMATION: schema.SubscriptionConfirmation,
    Command.STREAM_EVENT_APPEARED: schema.StreamEventAppeared,
    Command.UNSUBSCRIBE_FROM_STREAM: schema.UnsubscribeFromStream,
    Command.SUBSCRIPTION_DROPPED: schema.SubscriptionDropped,
    Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION: schema.ConnectToPersistentSubscription,
    Command.PERSISTENT_SUBSCRIPTION_CONFIRMATION: schema.PersistentSubscriptionConfirmation,
    Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED: schema.PersistentSubscriptionStreamEventAppeared,
    Command.CREATE_PERSISTENT_SUBSCRIPTION: schema.CreatePersistentSubscription,
    Command.CREATE_PERSISTENT_SUBSCRIPTION_COMPLETED: schema.CreatePersistentSubscriptionCompleted,
    Command.DELETE_PERSISTENT_SUBSCRIPTION: schema.DeletePersistentSubscription,
    Command.DELETE_PERSISTENT_SUBSCRIPTION_COMPLETED: schema.DeletePersistentSubscriptionCompleted,
    Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS: schema.PersistentSubscriptionAckEvents,
    Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS: schema.PersistentSubscriptionNakEvents,
    Command.UPDATE_PERSISTENT_SUBSCRIPTION: schema.UpdatePersistentSubscription,
    Command.UPDATE_PERSISTENT_SUBSCRIPTION_COMPLETED: schema.UpdatePersistentSubscriptionCompleted,
    Command.SCAVENGE_DATABASE: schema.ScavengeDatabase,
    Command.SCAVENGE_DATABASE_COMPLETED: schema.ScavengeDatabaseCompleted,
    Command.FILTERED_SUBSCRIBE_TO_STREAM: schema.FilteredSubscribeToStream,
    Command.CHECKPOINT_REACHED: schema.CheckpointReached,
    Command.NOT_HANDLED: schema.NotHandled,
    Command.IDENTIFY_CLIENT: schema.IdentifyClient,
}
"""The payload of each command that has a message; the rest carry text, opaque bytes or nothing."""


def command_name(command: int) -> str:
    """The name of a command, or its code in hex where it is none of ours."""
    try:
        return Command(command).name
    except ValueError:
        return f"0x{command:02X}"


def decode_text(payload: bytes) -> str:
    """A peer's text, fit for an error or a log: one line, nothing that moves a cursor, and not a page of it."""
    text = payload[:2000].decode(errors="replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def decode_payload(command: int, payload: bytes) -> Message:
    """The message that a frame of this command carries.

    Raises `ProtocolError` where the bytes are no such message, or the command carries none. 0xD1 has two forms,
    told apart by their fields: the text of 5.0 and newer stands where servers up to 4.1 have numbers.
    """
    message = MESSAGES.get(command)
    if message is None:
        msg = f"command {command_name(command)} carries no message"
        raise ProtocolError(msg)
    decoded = parse(message, payload)
    if isinstance(decoded, schema.ScavengeDatabaseCompleted) and not decoded.HasField("total_time_ms"):
        return parse(schema.ScavengeDatabaseResponse, payload)
    return decoded


def parse(message: type[M], payload: bytes) -> M:
    """One message from its bytes; `ProtocolError` where they are none."""
    try:
        return message.FromString(payload)
    except PARSE_ERRORS as error:
        msg = f"{len(payload)} bytes from the peer are no {message.DESCRIPTOR.name}"
        raise ProtocolError(msg) from error
