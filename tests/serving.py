"""A server that answers one command with one message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.peer import Peer
from trio_extreme import Credentials

if TYPE_CHECKING:
    from google.protobuf.message import Message

OPS = Credentials("ops", "secret")
"""Somebody else than the settings say."""


class Server(Peer):
    """Answers one command with one message."""

    def __init__(self, command: int, answer: Message, answer_command: int | None = None) -> None:
        super().__init__()
        self.handlers[command] = lambda request: self.send(answer_command or command + 1, request.correlation, answer)

    @property
    def last(self) -> Any:
        """The message of the last request."""
        return self.log[-1].message
