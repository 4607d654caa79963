"""Writes that a replica was asked for, done by the master (docs/protocol.md, 1.4).

The client gets the master's answer from the replica, under its own correlation id, or none in time: then it is told
that, and the write may have been done.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trio_extreme.embedded.clients import Client
from trio_extreme.embedded.writes import INVALID
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.versions import ServerVersion

FORWARD_TIME = 4.3
"""Seconds for which a replica waits: what servers give to preparing and committing, and 300 ms."""

_Result = schema.OperationResult.ForwardTimeout
_TEXT = "Forwarding timeout"


class Forwarded:
    """One request that went to the master.

    `after` calls a function after some seconds. `is_here` tells whether the replica still runs as it did.
    """

    def __init__(
        self,
        request: Request,
        version: ServerVersion,
        after: Callable[[float, Callable[[], None]], None],
        is_here: Callable[[], bool],
    ) -> None:
        self._request = request
        self._is_here = is_here
        self._is_answered = False
        self._relay = Client(version, self._keep, lambda: None)
        # The master's answer is written for the client.
        self._relay.speaks = request.client.speaks
        self._pass_on: Callable[[Callable[[], None]], None] = lambda call: call()
        after(FORWARD_TIME, self._give_up)

    def __repr__(self) -> str:
        return f"<Forwarded {self._request.command.name}{', answered' if self._is_answered else ''}>"

    def perform(self, do: Callable[[Request], None], pass_on: Callable[[Callable[[], None]], None]) -> None:
        """Have the master do it. `pass_on` calls a function when an answer of the master would arrive here."""
        self._pass_on = pass_on
        do(self._request._replace(client=self._relay))

    def _keep(self, frame: bytes) -> None:
        self._pass_on(partial(self._answer, frame))

    def _answer(self, frame: bytes) -> None:
        if not self._is_answered and self._is_here():
            self._is_answered = True
            self._request.client.send(frame)

    def _give_up(self) -> None:
        if not self._is_answered and self._is_here():
            self._is_answered = True
            command, reply = _TIMED_OUT[self._request.command]
            self._request.reply(command, reply(self._request))


_TIMED_OUT: Mapping[Command, tuple[Command, Callable[[Request], Message]]] = {
    Command.WRITE_EVENTS: (
        Command.WRITE_EVENTS_COMPLETED,
        lambda _: schema.WriteEventsCompleted(
            result=_Result,
            message=_TEXT,
            first_event_number=INVALID,
            last_event_number=INVALID,
            prepare_position=INVALID,
            commit_position=0,
        ),
    ),
    Command.DELETE_STREAM: (
        Command.DELETE_STREAM_COMPLETED,
        lambda _: schema.DeleteStreamCompleted(result=_Result, message=_TEXT, prepare_position=-1, commit_position=-1),
    ),
    Command.TRANSACTION_START: (
        Command.TRANSACTION_START_COMPLETED,
        lambda _: schema.TransactionStartCompleted(transaction_id=-1, result=_Result, message=_TEXT),
    ),
    Command.TRANSACTION_WRITE: (
        Command.TRANSACTION_WRITE_COMPLETED,
        lambda request: schema.TransactionWriteCompleted(
            transaction_id=request.message.transaction_id, result=_Result, message=_TEXT
        ),
    ),
    Command.TRANSACTION_COMMIT: (
        Command.TRANSACTION_COMMIT_COMPLETED,
        lambda request: schema.TransactionCommitCompleted(
            transaction_id=request.message.transaction_id,
            result=_Result,
            message=_TEXT,
            first_event_number=INVALID,
            last_event_number=INVALID,
            prepare_position=0,
            commit_position=0,
        ),
    ),
}
