"""What differs between the servers this node can be: one table, so that no other module asks for a version.

The numbers are those of the recordings in `tests/conformance/recordings`.
"""

from __future__ import annotations

from dataclasses import dataclass

from trio_extreme.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class ServerVersion:
    """One released server, as far as its clients can tell it from another."""

    name: str
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


_MIB = 1024 * 1024

_TABLE = (
    ServerVersion(
        name="3.9.4",
        tombstone=2**31 - 1,
        number_size=4,
        says_current_version=False,
        number_recreates=True,
        pushes_first=False,
        send_limit=None,
    ),
    ServerVersion(
        name="4.1.1",
        tombstone=2**63 - 1,
        number_size=8,
        says_current_version=True,
        number_recreates=False,
        pushes_first=True,
        send_limit=10 * _MIB,
    ),
)

VERSIONS = {version.name: version for version in _TABLE}
"""The servers this node can be, by name."""


def find_version(name: str) -> ServerVersion:
    """The version of this name. Raises `InvalidArgument`, which lists those there are."""
    try:
        return VERSIONS[name]
    except KeyError:
        known = ", ".join(VERSIONS)
        msg = f"version: {name!r} is none of those this node can be: {known}"
        raise InvalidArgument(msg) from None
