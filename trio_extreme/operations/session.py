"""What concerns the connection itself, and the message that no verb wraps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme.errors import InvalidArgument
from trio_extreme.operations.base import Operation, Resend
from trio_extreme.wire import schema
from trio_extreme.wire.commands import MESSAGES, READS, Command, command_name, decode_payload

if TYPE_CHECKING:
    from google.protobuf.message import Message

PROTOCOL_VERSION = 1
"""64-bit event numbers. Servers accept 2 and more, and then cannot answer (docs/protocol.md, 1.3)."""


class Ping(Operation[None]):
    """A sign of life. Servers check its credentials, if it has any."""

    command = Command.PING
    answer = Command.PONG

    def payload(self) -> bytes:
        """One byte: servers up to 5.0 refuse an empty password before an empty payload (docs/protocol.md, 1.2)."""
        return b"\0"

    def read(self, payload: bytes) -> None:
        """Nothing: the answer is the value."""


class Identify(Operation[bool]):
    """Say who we are, and that we take 64-bit numbers. False where the server is older than that."""

    command = Command.IDENTIFY_CLIENT
    answer = Command.CLIENT_IDENTIFIED

    def __init__(self, name: str) -> None:
        self._name = name

    def payload(self) -> bytes:
        """An IdentifyClient."""
        return schema.IdentifyClient(version=PROTOCOL_VERSION, connection_name=self._name).SerializeToString()

    def read(self, payload: bytes) -> bool:  # noqa: ARG002 - there is nothing in it
        """The server knows the command."""
        return True

    def refused(self, command: int, payload: bytes) -> bool:
        """BadRequest is how servers before 3.9.4 answer a command they do not know."""
        if command == Command.BAD_REQUEST:
            return False
        return super().refused(command, payload)


_WRITES = (
    Command.WRITE_EVENTS,
    Command.TRANSACTION_START,
    Command.TRANSACTION_WRITE,
    Command.TRANSACTION_COMMIT,
    Command.DELETE_STREAM,
    Command.CREATE_PERSISTENT_SUBSCRIPTION,
    Command.UPDATE_PERSISTENT_SUBSCRIPTION,
    Command.DELETE_PERSISTENT_SUBSCRIPTION,
    Command.SCAVENGE_DATABASE,
)
_ANSWERS: dict[int, int] = {
    **{command: command + 1 for command in (*READS, *_WRITES)},
    # 0xBD is used by nobody (docs/protocol.md, pitfall 35).
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD: Command.FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED,
}

_REFUSALS: dict[int, int] = {
    Command.FILTERED_READ_ALL_EVENTS_FORWARD: Command.READ_ALL_EVENTS_FORWARD_COMPLETED,
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD: Command.READ_ALL_EVENTS_BACKWARD_COMPLETED,
}


class Raw(Operation["Message"]):
    """Any request message, answered by its reply message as it came, whatever its result says."""

    def __init__(self, message: Message, command: int | None) -> None:
        self.command = command if command is not None else _command_of(message)
        self._check(message)
        self.answer = _ANSWERS[self.command]
        self.resend = Resend.AGAIN if self.command in READS else Resend.NEVER
        self.prompt = self.command != Command.SCAVENGE_DATABASE
        copy = type(message)()
        copy.CopyFrom(message)
        schema.fill_required(copy)
        self._payload = copy.SerializeToString()

    def _check(self, message: Message) -> None:
        if self.command not in _ANSWERS:
            name = command_name(self.command)
            msg = f"command: {name} is not for execute(): it belongs to a subscription or to the session"
            raise InvalidArgument(msg)
        if not isinstance(message, MESSAGES[self.command]):
            wanted = MESSAGES[self.command].DESCRIPTOR.name
            msg = f"message: {command_name(self.command)} carries a {wanted}, not {type(message).__name__}"
            raise InvalidArgument(msg)

    def payload(self) -> bytes:
        """The message, with what servers require filled in."""
        return self._payload

    def read(self, payload: bytes) -> Message:
        """The reply message."""
        return decode_payload(self.answer, payload)

    def refused(self, command: int, payload: bytes) -> Message:
        """Servers say AccessDenied to a filtered read as if it had no filter (docs/protocol.md, pitfall 34)."""
        if command == _REFUSALS.get(self.command):
            return decode_payload(command, payload)
        return super().refused(command, payload)


def _command_of(message: Message) -> int:
    commands = [command for command, known in MESSAGES.items() if isinstance(message, known)]
    if len(commands) == 1:
        return commands[0]
    if commands:
        names = " or ".join(command_name(command) for command in commands)
        msg = f"command: {type(message).__name__} serves more than one; give command=Command.{names}"
        raise InvalidArgument(msg)
    msg = f"message: {type(message).__name__} is no request; trio_extreme.messages has them"
    raise InvalidArgument(msg)
