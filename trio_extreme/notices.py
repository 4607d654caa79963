"""What is told beside events: to a consumer about its subscription, and to a program about its connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from trio_extreme.errors import TrioExtremeError
    from trio_extreme.values import Position


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """All that was stored has been handed out; what follows comes as it is written."""


@dataclass(frozen=True, slots=True)
class FellBehind:
    """The consumer was slower than its events came: they are read from the store again, until it has caught up."""


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The subscription was interrupted, and is back.

    `gap_possible`: events may be missing here, as with every volatile subscription. A catch-up subscription misses
    none.
    """

    gap_possible: bool


@dataclass(frozen=True, slots=True)
class StreamMissing:
    """The stream has never been written, or was soft-deleted; its events come as soon as there are any."""

    stream: str


@dataclass(frozen=True, slots=True)
class AheadOfServer:
    """The place to go on from is beyond the end of what the server has: its store was reset or restored.

    `ours` is the last place we know as handled, `servers_last` the server's last: a number (None where there is no
    event), or for the log a `Position`. Nothing comes until the server has passed our place.
    """

    ours: int | Position
    servers_last: int | Position | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place to go on from where no event was chosen for a while: all before it was handed out, or did not match.

    Only subscriptions with a filter have them. `position` is inclusive: the next event may be right there, so `after=`
    starts at it (KurrentDB#4970).
    """

    position: Position


Notice: TypeAlias = CaughtUp | FellBehind | Reconnected | StreamMissing | AheadOfServer | Checkpoint
"""What `with_notices()` gives beside events."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection is up: this node has accepted us, and calls go through."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection broke; calls wait, within their deadlines, until it is back."""

    reason: TrioExtremeError


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """An attempt to connect again comes in `delay` seconds; `attempt` counts from 1 since the connection broke.

    `reason`: what the attempt before it failed with; for the first, what the connection broke of.
    """

    attempt: int
    delay: float
    reason: TrioExtremeError


@dataclass(frozen=True, slots=True)
class Redirected:
    """A node of a cluster has refused what only the master does: the connection moves, and what was refused follows.

    `endpoint` is the (host, port) of the master as that node knows it; None where it does not: the cluster is asked.
    """

    endpoint: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Closed:
    """There will be no connection any more: its block was left, or `max_attempts` were used up."""

    reason: TrioExtremeError


Change: TypeAlias = Connected | Lost | Reconnecting | Redirected | Closed
"""What `conn.changes()` gives."""
