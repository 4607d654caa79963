"""What the nodes of a cluster say of each other: `/gossip`, as each server writes it (docs/protocol.md, 5). Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from trio_extreme.embedded.states import State
    from trio_extreme.embedded.versions import ServerVersion

_1970 = datetime(1970, 1, 1, tzinfo=UTC)


class Endpoints(NamedTuple):
    """Where a node is. A port of 0 is none."""

    host: str
    tcp: int
    http: int
    #: Where TCP is within TLS.
    secure_tcp: int = 0


class Epoch(NamedTuple):
    """The time of one master: where its log begins, how many there were before it, and its id."""

    position: int
    number: int
    id: UUID


class Member(NamedTuple):
    """One node, as another one knows it."""

    instance: UUID
    #: When it was heard of, in microseconds since 1970.
    heard: int
    state: State
    endpoints: Endpoints
    #: Where its last record is, and where the next will be.
    last: int
    end: int
    epoch: Epoch
    is_alive: bool = True
    is_read_only: bool = False


def encode_gossip(members: Iterable[Member], speaker: Endpoints, version: ServerVersion) -> dict[str, Any]:
    """What a node that is at `speaker` says of these."""
    return {
        "members": [_encode_member(member, version) for member in members],
        "serverIp": speaker.host,
        "serverPort": speaker.http,
    }


def _encode_member(member: Member, version: ServerVersion) -> dict[str, Any]:
    fields = {
        "instanceId": str(member.instance),
        "timeStamp": encode_time(member.heard),
        "state": member.state.name_at(version),
        "isAlive": member.is_alive,
        **_encode_endpoints(member.endpoints, version),
        "lastCommitPosition": member.last,
        "writerCheckpoint": member.end,
        "chaserCheckpoint": member.end,
        "epochPosition": member.epoch.position,
        "epochNumber": member.epoch.number,
        "epochId": str(member.epoch.id),
        "nodePriority": 0,
    }
    if version.has_one_http_endpoint:
        fields["isReadOnlyReplica"] = member.is_read_only
    if version.gossips_version:
        fields["esVersion"] = version.name
    return fields


def _encode_endpoints(endpoints: Endpoints, version: ServerVersion) -> dict[str, Any]:
    """Nothing listens for other nodes: these are in the same process, and what is internal has the port 0."""
    host, tcp, http, secure_tcp = endpoints
    fields = {
        "internalTcpIp": host,
        "internalTcpPort": 0,
        "internalSecureTcpPort": 0,
        "externalTcpIp": host,
        "externalTcpPort": tcp,
        "externalSecureTcpPort": secure_tcp,
    }
    if version.has_one_http_endpoint:
        return fields | {"httpEndPointIp": host, "httpEndPointPort": http}
    # Gossip is on both HTTP ports of a real node; this one has one.
    return fields | {"internalHttpIp": host, "internalHttpPort": http, "externalHttpIp": host, "externalHttpPort": http}


def encode_time(microseconds: int) -> str:
    """As .NET writes times: without zeros at the end of the fraction."""
    text = (_1970 + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"
