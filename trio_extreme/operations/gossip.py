"""What the nodes of a cluster tell of each other, and which of them is the one to connect to.

Gossip comes from whoever answers at an address, so nothing of it is believed to have the form that it should.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from trio_extreme.errors import ProtocolError
from trio_extreme.nodes import is_host, is_port

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from random import Random

    from trio_extreme.nodes import Endpoint

TARGET = "/gossip?format=json"

MASTERS = frozenset(("Master", "Leader"))

_WRITE = {
    "Leader": 1,
    "Master": 1,
    "PreLeader": 2,
    "PreMaster": 2,
    "Follower": 3,
    "Slave": 3,
    "Clone": 4,
    "CatchingUp": 5,
    "PreReplica": 6,
    "ReadOnlyReplica": 7,
}
_READ = _WRITE | {"Follower": 1, "Slave": 1, "ReadOnlyReplica": 2, "Leader": 3, "Master": 3}
RANKS = {"write": _WRITE, "read": _READ, "any": dict.fromkeys(_WRITE, 1)}
"""By mode, which state is preferred: the lowest number."""

_UNKNOWN = 8
"""A state that nobody knew of when this was written."""

NEVER = frozenset(
    (
        *("Manager", "ShuttingDown", "Shutdown", "Initializing", "Unknown", "DiscoverLeader", "ResigningLeader"),
        *("ReadOnlyLeaderless", "PreReadOnlyReplica"),
    )
)
"""Nodes that take no requests, or know of no master to send them to."""

_MAX_SHOWN = 40


class Member(NamedTuple):
    """A node, as another one tells of it. None where it has no such port."""

    state: str
    is_alive: bool
    #: For TCP and for TCP with TLS.
    plain: Endpoint | None
    secure: Endpoint | None
    http: Endpoint | None

    @property
    def is_master(self) -> bool:
        """Whether it says so; a dead one is told of as what it was."""
        return self.is_alive and self.state in MASTERS

    def endpoint(self, *, tls: bool) -> Endpoint | None:
        """Where it is for us."""
        return self.secure if tls else self.plain


def read_gossip(body: bytes) -> list[Member]:
    """The members of a document. Raises `ProtocolError` where it is none; a member that is none is left out."""
    try:
        document = json.loads(body)
    # The second for brackets within brackets, thousands of them.
    except (ValueError, RecursionError) as error:
        msg = "what it answers is no JSON, or not all of it"
        raise ProtocolError(msg) from error
    members = document.get("members") if isinstance(document, dict) else None
    if not isinstance(members, list):
        msg = "its JSON is no gossip: there are no members"
        raise ProtocolError(msg)
    return [_read_member(member) for member in members if isinstance(member, dict)]


def _read_member(fields: dict[str, Any]) -> Member:
    state = fields.get("state")
    return Member(
        state[:_MAX_SHOWN] if isinstance(state, str) and state.isprintable() else "Unknown",
        fields.get("isAlive") is True,
        _read_endpoint(fields, "externalTcpIp", "externalTcpPort"),
        _read_endpoint(fields, "externalTcpIp", "externalSecureTcpPort"),
        _read_endpoint(fields, "httpEndPointIp", "httpEndPointPort")
        or _read_endpoint(fields, "externalHttpIp", "externalHttpPort"),
    )


def _read_endpoint(fields: dict[str, Any], host: str, port: str) -> Endpoint | None:
    found = fields.get(host), fields.get(port)
    return (found[0], found[1]) if is_host(found[0]) and is_port(found[1]) else None


def is_usable(member: Member) -> bool:
    """Whether a node may be connected to at all."""
    return member.is_alive and member.state not in NEVER


def choose(
    members: Sequence[Member], mode: str, rng: Random, *, tls: bool, avoid: Collection[Endpoint] = ()
) -> Member | None:
    """The best of the usable nodes that have a port for us, of several at random; None where there is none.

    Those to avoid come last, but where the master is wanted: no other can replace it.
    """

    def rank(member: Member) -> tuple[bool, int]:
        return member.endpoint(tls=tls) in avoid, RANKS[mode].get(member.state, _UNKNOWN)

    usable = [member for member in members if is_usable(member) and member.endpoint(tls=tls)]
    if mode == "write":
        avoid = ()
    best = min(map(rank, usable), default=None)
    return rng.choice([member for member in usable if rank(member) == best]) if usable else None


def unknown_states(members: Sequence[Member]) -> list[str]:
    """States that are in no table of ours."""
    return sorted({member.state for member in members} - NEVER - RANKS["write"].keys())


def why_none(members: Sequence[Member], *, tls: bool) -> str:
    """Why none of these nodes will do."""
    if not members:
        return "it knows of no node"
    usable = [member for member in members if is_usable(member)]
    if usable and tls:
        return f"none of the {len(usable)} usable nodes has a secure TCP port; without TLS (tls=None) they may"
    if usable and any(member.secure for member in usable):
        return "the nodes have TCP ports with TLS alone: set tls=True"
    if usable:
        return f"none of the {len(usable)} usable nodes has an external TCP port: switch it on ({EXTERNAL_TCP})"
    states = Counter(member.state if member.is_alive else f"dead {member.state}" for member in members)
    return f"no node is usable: {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}"


EXTERNAL_TCP = "EnableExternalTcp, off by default since 20.6"
