"""Places in a stream or in the log, expected versions, and what operations return."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, Literal, TypeAlias

from trio_extreme.errors import InvalidArgument

MAX_NUMBER = 2**63 - 1
"""The largest event number. No event has it but the tombstone of a hard-deleted stream."""

MAX_NARROW_NUMBER = 2**31 - 1
"""The same where numbers have 32 bits: on servers up to 3.9, and with `protocol_version=3`."""

MAX_READ = 4096
"""Events a server gives in one page at most."""

ALL: Final = "$all"
"""The log of all streams, where a listener's `stream` may name it. No stream has this name on the wire."""


class ExpectedVersion(IntEnum):
    """Where an append expects its stream to be, when it is not a number."""

    #: Append whatever is there; refused only where the stream was hard-deleted.
    ANY = -2
    #: The stream has never been written, or was soft-deleted.
    NO_STREAM = -1
    #: The stream has events, or metadata (servers since 3.7).
    STREAM_EXISTS = -4


ANY: Final = ExpectedVersion.ANY
NO_STREAM: Final = ExpectedVersion.NO_STREAM
STREAM_EXISTS: Final = ExpectedVersion.STREAM_EXISTS


class Place(Enum):
    """The two places that need no number."""

    START = "start"
    END = "end"


START: Final = Place.START
END: Final = Place.END

_POSITION_TEXT = re.compile(r"C:(-?[0-9]{1,19})/P:(-?[0-9]{1,19})(\+?)")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log of all streams: the `(commit, prepare)` pair of the server, opaque but ordered.

    `str(position)` round-trips through `Position.parse`. An `inclusive` position (its text ends in `+`) is no event's
    own: it is where the *next* event may be, so it sorts before an event at the same place, and `after=` starts at it.
    """

    commit: int
    prepare: int
    inclusive: bool = False

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that `str` gave this text. Raises `InvalidArgument` for any other."""
        match = _POSITION_TEXT.fullmatch(text)
        if match is None or max(int(match[1]), int(match[2])) > MAX_NUMBER:
            msg = f"position: {text!r} is none; one looks like 'C:1250/P:1250'"
            raise InvalidArgument(msg)
        return cls(int(match[1]), int(match[2]), bool(match[3]))

    def __str__(self) -> str:
        return f"C:{self.commit}/P:{self.prepare}{'+' if self.inclusive else ''}"

    def _key(self) -> tuple[int, int, bool]:
        return self.commit, self.prepare, not self.inclusive

    def __lt__(self, other: object) -> bool:
        return self._key() < other._key() if isinstance(other, Position) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._key() <= other._key() if isinstance(other, Position) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self._key() > other._key() if isinstance(other, Position) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self._key() >= other._key() if isinstance(other, Position) else NotImplemented


def utf8_size(argument: str, value: str) -> int:
    """Bytes of a text on the wire. Raises `InvalidArgument` where UTF-8 cannot say it."""
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        # Without its cause, which holds the text: it may be a password.
        msg = f"{argument}: half of a surrogate pair in it cannot be sent as UTF-8"
        raise InvalidArgument(msg) from None


MAX_NAME_SIZE = 255
"""Bytes of a login or a password: its length is one byte on the wire. Servers from 20.6 refuse more than 127."""

MAX_TOKEN_SIZE = 32765


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Who asks: a login with its password, or a bearer token (servers since 20.6). Its repr shows no secret.

    Raises `InvalidArgument` where login or password is longer than the protocol can say (a longer one would wrap
    its length byte and be refused as a wrong password), and where a token is too long or not ASCII.
    """

    login: str = ""
    password: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        for argument, value in (("username", self.login), ("password", self.password)):
            if (size := utf8_size(argument, value)) > MAX_NAME_SIZE:
                msg = f"{argument}: {size} bytes of UTF-8; the protocol's limit is {MAX_NAME_SIZE}"
                raise InvalidArgument(msg)
        if not self.token.isascii() or len(self.token) > MAX_TOKEN_SIZE:
            msg = f"token: must be ASCII and at most {MAX_TOKEN_SIZE} characters; this one has {len(self.token)}"
            raise InvalidArgument(msg)
        if bool(self.token) == bool(self.login):
            msg = "credentials: give a login with its password, or a token"
            raise InvalidArgument(msg)

    def __repr__(self) -> str:
        return "Credentials(token=…)" if self.token else f"Credentials({self.login!r}, …)"


StreamPlace: TypeAlias = int | Literal[Place.START, Place.END]
"""Where to begin in a stream: an event number, START or END."""

LogPlace: TypeAlias = Position | Literal[Place.START, Place.END]
"""Where to begin in the log: a Position, START or END."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What an append did: the numbers of the first and last event in the stream, and where the last is in the log.

    An append of no events has `first == last + 1`. `position` is None where the server found the events written
    already (servers up to 5.0 do not say where).
    """

    first: int
    last: int
    position: Position | None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What a delete did: where in the log its record is (the tombstone, or the stream's metadata).

    `position` is None where it was done already, and where a soft one found nothing to hide, of which servers since
    21.10 make no record.
    """

    position: Position | None


class ScavengeStatus(Enum):
    """What became of a request to scavenge."""

    #: It is done (servers up to 4.1 answer then).
    FINISHED = "finished"
    #: It has begun (servers from 5.0 answer then).
    STARTED = "started"
    #: Another one is running; this one was not begun.
    IN_PROGRESS = "in progress"


@dataclass(frozen=True, slots=True)
class ScavengeResult:
    """What a node said to a request to scavenge.

    Servers up to 4.1 tell how many `seconds` it took and how many bytes of `space_saved`, which may be negative. Those
    from 5.0 tell the `scavenge_id`, also of one that is running already. What was not told is None.
    """

    status: ScavengeStatus
    seconds: float | None = None
    space_saved: int | None = None
    scavenge_id: str | None = None
