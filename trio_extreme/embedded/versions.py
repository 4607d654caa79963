"""What differs between the servers this node can be: one table, so that no other module asks for a version.

Rule: a field is named after what the server does, and each release names only what it does otherwise than the one
before it. Where docs/protocol.md says nothing of a release, it does what the nearest one does that it speaks of.

3.9.4 and 4.1.1 do what was recorded of them (`tests/conformance/recordings`). The others are from the servers' public
sources, and no recording has confirmed them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trio_extreme.errors import InvalidArgument
from trio_extreme.wire.commands import Command

FILTERING = frozenset(
    (
        Command.FILTERED_READ_ALL_EVENTS_FORWARD,
        Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED,
        Command.FILTERED_READ_ALL_EVENTS_BACKWARD,
        Command.FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED,
        Command.FILTERED_SUBSCRIBE_TO_STREAM,
        Command.CHECKPOINT_REACHED,
    )
)
"""The commands of filtered reads and subscriptions, which servers have since 20.6."""


@dataclass(frozen=True, kw_only=True)
class ServerVersion:
    """One released server, as far as its clients can tell it from another."""

    #: The release, in full.
    name: str
    #: What it is called for short, and in `VERSIONS`.
    short: str
    #: Whether it does what was recorded of that server; otherwise it does what its sources say.
    is_recorded: bool
    #: What stands for "the whole stream" in `$tb` of a soft-deleted stream, and as the number of a tombstone.
    tombstone: int
    #: Bytes of the event number in a record of the log, of which positions are made.
    number_size: int
    #: Whether WriteEventsCompleted says `current_version`.
    says_current_version: bool
    #: Whether an append that names the last number of a soft-deleted stream recreates it, as -1 and -2 do.
    number_recreates: bool
    #: Whether live events are pushed before the append that wrote them is answered.
    pushes_first: bool
    #: Bytes that may wait to be sent when a package is queued; beyond them the connection is closed. None: any.
    send_limit: int | None
    #: Packages that may wait to be sent, likewise.
    queue_limit: int = 50_000
    #: Seconds of silence before the server asks for a sign of life, and what it waits for one before it hangs up.
    heartbeat_interval: float = 2.0
    heartbeat_timeout: float = 1.0
    #: Commands that only later servers know. This one has no name for them in its refusal, but the number; that is how
    #: clients learn that it lacks them.
    lacks: frozenset[int] = frozenset()


_MIB = 1024 * 1024

_V3 = ServerVersion(
    name="3.9.4",
    short="3.9.4",
    is_recorded=True,
    tombstone=2**31 - 1,
    number_size=4,
    says_current_version=False,
    number_recreates=True,
    pushes_first=False,
    send_limit=None,
    lacks=FILTERING,
)
_V4 = replace(
    _V3,
    name="4.1.1",
    short="4.1.1",
    tombstone=2**63 - 1,
    number_size=8,
    says_current_version=True,
    number_recreates=False,
    pushes_first=True,
    send_limit=10 * _MIB,
)
_V5 = replace(_V4, name="5.0.11", short="5.0", is_recorded=False)
_V20 = replace(_V5, name="20.10.6", short="20.10", lacks=frozenset())
_V22 = replace(_V20, name="22.10.5", short="22.10")
_V23 = replace(_V22, name="23.10.6", short="23.10")

VERSIONS = {version.short: version for version in (_V3, _V4, _V5, _V20, _V22, _V23)}
"""The servers this node can be, by their short names."""


def find_version(name: str) -> ServerVersion:
    """The version of this name, short or in full. Raises `InvalidArgument`, which lists those there are."""
    for version in VERSIONS.values():
        if name in (version.short, version.name):
            return version
    known = ", ".join(VERSIONS)
    msg = f"version: {name!r} is none of those this node can be: {known}"
    raise InvalidArgument(msg)
