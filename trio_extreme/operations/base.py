"""One request and the meaning of its answers.

An operation knows its command, its payload, what each answer means, and whether it may be sent twice. It knows
nothing of connections: correlation ids, credentials, deadlines and the sending again are the engine's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from trio_extreme.errors import (
    AccessDenied,
    BadRequest,
    NotAuthenticated,
    NotMaster,
    NotReady,
    ProtocolError,
    ServerError,
    TrioExtremeError,
)
from trio_extreme.metadata import is_metastream, stream_of
from trio_extreme.nodes import is_host, is_port
from trio_extreme.operations.features import feature_of, is_unknown
from trio_extreme.values import ALL
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, command_name, decode_text, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

T = TypeVar("T")

_Reason = schema.NotHandled.NotHandledReason


class Resend(Enum):
    """What may be done with a request that was sent and got no answer."""

    #: Changes nothing, or changes it to the same: ask again.
    AGAIN = "again"
    #: Protected by its event ids and a version: the server answers an executed one as success. Should it refuse, an
    #: earlier attempt may have been executed all the same.
    SAME_IDS = "same ids"
    #: Changes something, and twice is the same as once: ask again. A refusal may be of the second alone.
    AS_ONCE = "as once"
    #: Protected by its ids only while the server remembers them: look whether they are there first.
    LOOK_UP = "look up"
    #: Nobody can tell what a second one would do.
    NEVER = "never"


class AskAgain(Exception):
    """An answer that is none: ask again, later.

    `executed`: whether the request may have been carried out all the same. `error`: what to raise when there is no
    time left.
    """

    def __init__(self, error: TrioExtremeError, *, executed: bool) -> None:
        super().__init__(error)
        self.error = error
        self.executed = executed


class Operation(ABC, Generic[T]):
    """One request, whose answer is a `T`."""

    command: int
    #: The command of the answer that `read` understands.
    answer: int
    resend = Resend.AGAIN
    #: The stream to look for its events in, where an attempt got no answer; None where that tells nothing.
    look_in: str | None = None
    #: Whether an answer is missed after `attempt_timeout`; some work takes longer by its nature.
    prompt = True

    @property
    def event_ids(self) -> Sequence[UUID]:
        """The ids of the events that this would write."""
        return ()

    def found(self, first: int, last: int) -> T:
        """The value, where its events were found in `look_in`, under these numbers."""
        raise NotImplementedError

    @abstractmethod
    def payload(self) -> bytes:
        """The bytes of the request."""

    @abstractmethod
    def read(self, payload: bytes) -> T:
        """The value of the answer. Raises a `ServerError`, `AskAgain`, or `ProtocolError` for bytes that are none."""

    def decide(self, command: int, payload: bytes) -> T:
        """The value of whatever came back; raises as `read` does, and for the answers any request can get."""
        if command == self.answer:
            return self.read(payload)
        return self.refused(command, payload)

    def settle(self, refusal: ServerError) -> T:
        """The value, where refusing a repeated request shows that an earlier one was carried out; else raises it."""
        raise refusal

    def believes(self, refusal: ServerError) -> bool:  # noqa: ARG002 - for who knows more
        """Whether refusing a repeated request shows that no earlier one was carried out."""
        return False

    def refused(self, command: int, payload: bytes) -> T:
        """The meaning of an answer that is not `answer`'s."""
        if command == Command.NOT_HANDLED:
            _raise_not_handled(parse(schema.NotHandled, payload))
        if command == Command.NOT_AUTHENTICATED:
            msg = f"the server does not accept the credentials ({decode_text(payload)}): check user name and password"
            raise NotAuthenticated(msg)
        if command == Command.BAD_REQUEST:
            if is_unknown(self.command, payload):
                raise feature_of(self.command).missing()
            raise BadRequest(decode_text(payload))
        msg = f"{command_name(command)} came as the answer to {command_name(self.command)}"
        raise ProtocolError(msg)


def _raise_not_handled(answer: schema.NotHandled) -> NoReturn:
    if answer.reason == _Reason.NotMaster:
        endpoint, secure = master_endpoint(answer.additional_info), secure_master_endpoint(answer.additional_info)
        known = endpoint or secure
        where = f"that is {known[0]}:{known[1]}" if known else "and it names none"
        msg = f"this node is not the master (leader), which alone does this; {where}"
        raise NotMaster(msg, endpoint, secure)
    if answer.reason == _Reason.IsReadOnly:
        msg = "this node is a read-only replica; connect to another to write"
        raise NotMaster(msg, None)
    busy = answer.reason == _Reason.TooBusy
    msg = f"the node is {'too busy' if busy else 'not ready'}: it is starting, stopping, or has no master at the moment"
    raise AskAgain(NotReady(msg), executed=False)


def master_endpoint(info: bytes) -> tuple[str, int] | None:
    """The plain TCP address that NotHandled names, None where there is none (docs/protocol.md, 1.4)."""
    master = parse(schema.NotHandled.MasterInfo, info)
    return _endpoint(master.external_tcp_address, master.external_tcp_port)


def secure_master_endpoint(info: bytes) -> tuple[str, int] | None:
    """The same for TLS."""
    master = parse(schema.NotHandled.MasterInfo, info)
    return _endpoint(master.external_secure_tcp_address, master.external_secure_tcp_port)


def _endpoint(host: str, port: int) -> tuple[str, int] | None:
    return (host, port) if is_host(host) and is_port(port) else None


def access_denied(what: str) -> AccessDenied:
    """The error for a refusal; servers say no more than that."""
    return AccessDenied(f"access denied: the user may not {what}")


_ON_METASTREAM = {"$r": "$mr", "$w": "$mw"}
_WITHOUT_RIGHT = {
    "$r": "read stream {!r}",
    "$w": "write to stream {!r}",
    "$d": "delete stream {!r}",
    "$mr": "read the metadata of stream {!r}",
    "$mw": "write the metadata of stream {!r}",
}


def right_denied(stream: str, right: str, also: str = "") -> AccessDenied:
    """The error for who lacks a right on a stream, or `also` something else.

    To read or write a metastream is a right on the stream whose metadata it holds.
    """
    if is_metastream(stream):
        stream, right = (stream_of(stream), _ON_METASTREAM[right]) if right in _ON_METASTREAM else (stream, right)
    what = "read the log of all streams ($all)" if (stream, right) == (ALL, "$r") else _WITHOUT_RIGHT[right]
    default = "; by default only members of $admins have it" if stream.startswith("$") else ""
    text = f"access denied: the user may not {what.format(stream)}{also} (the right {right}{default})"
    return AccessDenied(text, stream, right)


def server_error(text: str) -> ServerError:
    """The error for a result that says Error."""
    return ServerError(f"the server answered with an error: {decode_text(text.encode())}")


def unknown_result(message: str, result: int) -> ProtocolError:
    """The error for a result code that no server sends."""
    return ProtocolError(f"{message} with result {result}, which no server sends")
