"""What the node knows of one connection, and what one request is. Pure: bytes leave through a callable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trio_extreme.embedded.encoding import Form, encode
from trio_extreme.embedded.records import NARROW_TOMBSTONE, WIDE_TOMBSTONE
from trio_extreme.wire.framing import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from trio_extreme.embedded.acl import Identity
    from trio_extreme.embedded.subscriptions import Subscription
    from trio_extreme.embedded.versions import ServerVersion
    from trio_extreme.values import Credentials
    from trio_extreme.wire.commands import Command


class Client:
    """The side of a server of `version` of one connection.

    `send` queues a frame, `close` hangs up after what is queued.
    """

    __slots__ = ("_version", "close", "identity", "login", "name", "send", "speaks", "subscriptions")

    def __init__(self, version: ServerVersion, send: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self._version = version
        self.send = send
        self.close = close
        #: What IdentifyClient said; shown in `repr` only, as servers show it in their logs only.
        self.name = ""
        #: The version that IdentifyClient said. Who never says one is version 0 (docs/protocol.md, 1.3).
        self.speaks = 0
        #: What the last Authenticate said, right or wrong: who sends packages without credentials of their own.
        self.login: Credentials | None = None
        #: Who that was found to be then; None where it was wrong.
        self.identity: Identity | None = None
        #: By the correlation id of the subscribe request.
        self.subscriptions: dict[bytes, Subscription] = {}

    def __repr__(self) -> str:
        return f"<Client {self.name!r}, version {self.speaks}>"

    @property
    def form(self) -> Form:
        """How replies to this client are written."""
        is_wide = self.speaks > 0 or not self._version.narrows_numbers
        return Form(wide=is_wide, zeros=not self._version.omits_zeros)

    def number(self, number: int) -> int:
        """A stream's last number as this client knows it: only a tombstone's does not fit into 32 bits."""
        return number if number != WIDE_TOMBSTONE or self.form.wide else NARROW_TOMBSTONE

    def reply(self, command: Command, correlation: bytes, payload: bytes = b"") -> None:
        """Queue one package."""
        self.send(encode_frame(command, correlation, payload))


class Request(NamedTuple):
    """One request: who asks, under which id, as whom (None is anonymous), and what."""

    client: Client
    correlation: bytes
    identity: Identity | None
    command: Command
    message: Any

    def reply(self, command: Command, message: Message) -> None:
        """Queue the answer."""
        self.client.reply(command, self.correlation, encode(message, self.client.form))


class Refusal(Exception):
    """The request's arguments are impossible: BadRequest, and the connection goes on. Never leaves this package."""


def require(condition: bool, text: str) -> None:  # noqa: FBT001 - as `assert` has it
    """Refuse the request unless the condition holds."""
    if not condition:
        raise Refusal(text)
