"""Every error of this library, each with what its handler needs as attributes.

None of them shows a password, a token, or the data of an event.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class TrioExtremeError(Exception):
    """Base of all errors of this library."""

    def __reduce__(self) -> tuple[object, ...]:
        # By default a copy is made by calling the class with the text, which is not what our constructors take; and
        # an error that cannot be unpickled hangs or kills the process pool it should cross.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[TrioExtremeError], args: tuple[object, ...], state: dict[str, object]) -> TrioExtremeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class InvalidArgument(TrioExtremeError, ValueError):
    """An argument that cannot be meant; nothing was sent. The text names the argument, the value and the limit."""


class ConnectFailed(TrioExtremeError):
    """No connection could be opened; `attempts` holds what went wrong each time, oldest first."""

    def __init__(self, message: str, attempts: Sequence[BaseException] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)


class ConnectionLost(TrioExtremeError):
    """The connection broke before the answer came, twice over the same request, or before there was any.

    What was asked changes nothing on the server. It is not asked a third time by itself, for it may be what breaks it.
    """


class CertificateRefused(TrioExtremeError):
    """The server's certificate was not accepted: it is for another name, out of date, or signed by a stranger."""


class ConnectionClosed(TrioExtremeError):
    """The `async with` block of the connection was left."""


class OperationTimedOut(TrioExtremeError, TimeoutError):
    """No answer within `operation_timeout`. Nothing was changed: it was a read, or it was never sent."""


class OutcomeUnknown(TrioExtremeError):
    """A request that changes something was sent, no answer came, and there is no telling: it may have happened or not.

    `event_ids` are those of the events it would have written. Repeating it with the same event ids (the same
    `NewEvent` objects) and a number as expected version writes them once, and so does NO_STREAM unless the stream is
    deleted in between; with ANY, look first. docs/sending-twice.md has the rest.
    """

    def __init__(self, message: str, event_ids: Sequence[UUID] = ()) -> None:
        super().__init__(message)
        self.event_ids = tuple(event_ids)


class MetadataUnreadable(TrioExtremeError):
    """What is stored as metadata was to be changed and cannot be read, so that changing it would destroy it.

    `problem` says why; servers do not obey it either. `version` is the number of its event in `$$stream`, where
    `read_event` shows what it is, and what `set_metadata` takes as the expected version to overwrite it.
    """

    def __init__(self, stream: str, version: int, problem: str) -> None:
        super().__init__(
            f"the metadata of stream {stream!r} cannot be read, and servers do not obey it: {problem}; nothing was "
            f"changed; set_metadata() with expected={version} replaces all of it"
        )
        self.stream = stream
        self.version = version
        self.problem = problem


class ProtocolError(TrioExtremeError):
    """The peer sent bytes that are not this protocol. The connection ends with it."""


class FrameTooLarge(TrioExtremeError):
    """One frame would be, or was, larger than `max_frame_size` bytes; the connection goes on."""

    def __init__(self, message: str, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class ReadOnly(TrioExtremeError):
    """The connection was opened with `read_only=True`; nothing was sent."""


class DropReason(Enum):
    """Why a subscription ended that nobody here ended."""

    #: The consumer was slower than the events came, and the buffer was full. What it held was handed out first.
    OVERFLOW = "overflow"
    #: The server ended it; servers do so when they stop.
    UNSUBSCRIBED = "unsubscribed"
    #: Its block was left; only who iterates on afterwards meets this.
    LEFT = "left"
    #: The server ended it for a reason that no volatile subscription has.
    OTHER = "other"


class SubscriptionDropped(TrioExtremeError):
    """A subscription ended, and nobody here asked for it."""

    def __init__(self, message: str, reason: DropReason) -> None:
        super().__init__(message)
        self.reason = reason


class CheckpointError(TrioExtremeError):
    """A saved place cannot be used."""


class CheckpointBeyondEnd(CheckpointError):
    """The saved place is after the end of what the server has: its store was reset or restored.

    `ours` is that place, `servers_last` the place of the server's last event: numbers, or in the log each a `Position`;
    None where there is no event.
    """

    def __init__(self, where: str, ours: object, servers_last: object) -> None:
        last = "it has none" if servers_last is None else f"its last is {servers_last}"
        super().__init__(f"{where}: the place to go on from, {ours}, is beyond the server's end; {last}")
        self.ours = ours
        self.servers_last = servers_last


def named(stream: str) -> str:
    """How an error calls a stream; of a transaction that was begun elsewhere nobody tells which it is."""
    return f"stream {stream!r}" if stream else "the transaction's stream"


class ServerError(TrioExtremeError):
    """The server answered, and its answer is no."""


class WrongExpectedVersion(ServerError):
    """The stream is not where the append, or the transaction, expected it; nothing was written.

    `actual` is the number of its last event, -1 where it has none, and None where the server does not say: 3.9 to an
    append, servers before 21.10.2 to a delete, and later ones where it is 0, every server at a transaction's end. A
    transaction that is continued by its id knows neither of the others: `stream` is empty, `expected` is None.
    """

    def __init__(self, stream: str, expected: int | None, actual: int | None) -> None:
        version = "the version that was expected" if expected is None else f"expected version {expected}"
        now = "the server does not say which" if actual is None else f"it is at {actual}"
        super().__init__(f"{named(stream)} is not at {version}: {now}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class StreamNotFound(ServerError):
    """The stream has never been written, or was soft-deleted.

    `last_number` is that of its last event before it was soft-deleted, after which numbering goes on; -1 where there
    never was one, and None where the server does not say.
    """

    def __init__(self, stream: str, last_number: int | None = None) -> None:
        super().__init__(f"stream {stream!r} does not exist, or was deleted (softly: appending recreates it)")
        self.stream = stream
        self.last_number = last_number


class StreamDeleted(ServerError):
    """The stream was hard-deleted; no stream of this name can be written again.

    `stream` is empty where a transaction that is continued by its id does not know it.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(f"{named(stream)} was deleted for ever (a tombstone): its name cannot be used again")
        self.stream = stream


class EventNotFound(ServerError):
    """The stream exists, and has no event of this number (any more)."""

    def __init__(self, stream: str, number: int) -> None:
        super().__init__(f"stream {stream!r} has no event {number}: not written yet, or truncated")
        self.stream = stream
        self.number = number


class AccessDenied(ServerError):
    """The user may not do this.

    `right` is the one that is missing, as JSON names it in a stream's ACL: `$r`, `$w`, `$d`, `$mr` or `$mw` (see
    `Acl`); `stream` is that stream. Both are None where no ACL gives the right.
    """

    def __init__(self, message: str, stream: str | None = None, right: str | None = None) -> None:
        super().__init__(message)
        self.stream = stream
        self.right = right


class NotAuthenticated(ServerError):
    """The server does not accept this user name and password, or token."""


class BadRequest(ServerError):
    """The server could not read the request, or its arguments are out of range; the connection goes on."""


class NotReady(ServerError):
    """The node is starting, stopping or electing, and was so until the deadline."""


class NotMaster(ServerError):
    """Only the master (leader) does this. `endpoint` is its (host, port) where the node knows it, else None.

    `secure_endpoint` is that for TLS. Servers up to 5.x tell both where they have both, later ones tell one.
    """

    def __init__(
        self, message: str, endpoint: tuple[str, int] | None, secure_endpoint: tuple[str, int] | None = None
    ) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.secure_endpoint = secure_endpoint


class Unsupported(ServerError):
    """The server lacks `feature`, which servers have since version `since`."""

    def __init__(self, feature: str, since: str) -> None:
        super().__init__(f"this server does not know {feature}: servers have it since {since}")
        self.feature = feature
        self.since = since


class InvalidTransaction(ServerError):
    """The transaction cannot be committed, or written to, and was not.

    The server does not know it, or it was committed before; its block was left; or a write to it was cancelled or got
    no answer, so that nobody knows what it holds.
    """


class GroupNotFound(ServerError):
    """The stream has no persistent subscription group of this name."""

    def __init__(self, stream: str, group: str, words: str = "") -> None:
        super().__init__(f"stream {stream!r} has no group {group!r}{_quoted(words)}")
        self.stream = stream
        self.group = group


class GroupExists(ServerError):
    """The stream has a persistent subscription group of this name already, perhaps with other settings."""

    def __init__(self, stream: str, group: str, words: str = "") -> None:
        super().__init__(f"stream {stream!r} has a group {group!r} already{_quoted(words)}")
        self.stream = stream
        self.group = group


class TooManyConsumers(ServerError):
    """The persistent subscription group has all the consumers its settings allow (`subscriber_max_count`)."""

    def __init__(self, stream: str, group: str) -> None:
        super().__init__(f"group {group!r} of stream {stream!r} has all its consumers (subscriber_max_count)")
        self.stream = stream
        self.group = group


class UserNotFound(ServerError):
    """The server has no user of this login name."""

    def __init__(self, login: str) -> None:
        super().__init__(f"there is no user {login!r}")
        self.login = login


class UserExists(ServerError):
    """The server has a user of this login name already, with another password."""

    def __init__(self, login: str) -> None:
        super().__init__(f"there is a user {login!r} already, with another password")
        self.login = login


class ProjectionsNotRunning(ServerError):
    """The server runs no projections, so that there is nothing to list."""

    def __init__(self) -> None:
        super().__init__("the server runs no projections: it was started without --run-projections")


class ProjectionNotFound(ServerError):
    """The server has no projection of this name, or runs none at all."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no projection {name!r}; a server that runs none has none (--run-projections)")
        self.name = name


def _quoted(words: str) -> str:
    """What the server says, behind our own sentence."""
    return f": {words}" if words else ""
