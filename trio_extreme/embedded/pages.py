"""What a node tells of itself: `/gossip`, `/info`, `/ping`, `/stats` (docs/protocol.md, 5). Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from trio_extreme.embedded.gossip import encode_gossip, encode_time
from trio_extreme.embedded.http import ANY_USER, ANYBODY, JSON, TEXT, as_json, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trio_extreme.embedded.gossip import Endpoints, Member
    from trio_extreme.embedded.http import Visit, Web
    from trio_extreme.embedded.service import Service
    from trio_extreme.http import Response

_PING = "Ping request successfully handled"


class Traffic(NamedTuple):
    """What went over one connection, in bytes."""

    #: Addresses and ports.
    peer: str
    here: str
    #: What the client calls itself.
    name: str
    received: int
    sent: int
    unsent: int
    #: Whether it is within TLS.
    is_secure: bool = False


class Subject(Protocol):
    """The node that is told of."""

    #: When it started, in microseconds since 1970.
    started: int

    @property
    def endpoints(self) -> Endpoints:
        """Where it is."""
        ...

    def members(self) -> Iterable[Member]:
        """Those that it knows, itself among them."""
        ...

    def traffic(self) -> Sequence[Traffic]:
        """What went over each of its connections."""
        ...

    def traffic_of_all(self) -> tuple[int, int]:
        """Bytes that were received and sent since it started, also over connections that have ended."""
        ...


class Pages:
    """The pages of one node. `gossips`: whether there is `/gossip` among them."""

    def __init__(self, service: Service, subject: Subject, web: Web, *, gossips: bool) -> None:
        self._service = service
        self._version = service.store.version
        self._subject = subject
        if gossips:
            web.add("GET", "/gossip", self.gossip, tells_of_log=False)
        web.add("GET", "/info", self.info, tells_of_log=False)
        web.add("GET", "/ping", self.ping, kinds=(JSON, TEXT), tells_of_log=False)
        for_statistics = ANYBODY if self._version.opens_statistics else ANY_USER
        web.add("GET", "/stats", self.statistics, roles=for_statistics)
        web.add("GET", "/stats/tcp", self.connections, roles=for_statistics)

    def __repr__(self) -> str:
        return f"<Pages of {self._subject!r}>"

    def gossip(self, _: Visit) -> Response:
        """`/gossip`: the nodes of the cluster."""
        return as_json(encode_gossip(self._subject.members(), self._subject.endpoints, self._version))

    def info(self, _: Visit) -> Response:
        """`/info`: which server this is, and what it is at the moment."""
        projects = self._service.projections is not None
        state = self._service.state.name_at(self._version).lower()
        told: dict[str, Any] = {"esVersion": f"{self._version.name}.0", "state": state}
        if self._version.tells_features:
            told["features"] = {"projections": projects, "userManagement": True, "atomPub": False}
            told["authentication"] = {"type": "internal", "properties": {}}
        else:
            told["projectionsMode"] = "System" if projects else "None"
        return as_json(told)

    def ping(self, visit: Visit) -> Response:
        """`/ping`: whether it answers at all."""
        return plain(200, _PING) if visit.wants == TEXT else as_json({"text": _PING})

    def statistics(self, _: Visit) -> Response:
        """`/stats`: of what servers tell there, what is true of this one too."""
        log = self._service.store.log
        received, sent = self._subject.traffic_of_all()
        traffic = self._subject.traffic()
        tcp = {
            "connections": len(traffic),
            "receivedBytesTotal": received,
            "sentBytesTotal": sent,
            "pendingSend": sum(one.unsent for one in traffic),
        }
        process = {"startTime": encode_time(self._subject.started), "id": os.getpid(), "tcp": tcp}
        return as_json({"proc": process, "es": {"checksum": log.end, "checksumNonFlushed": log.end}})

    def connections(self, _: Visit) -> Response:
        """`/stats/tcp`: each connection."""
        return as_json([_tell_of(traffic) for traffic in self._subject.traffic()])


def _tell_of(traffic: Traffic) -> dict[str, Any]:
    return {
        "remoteEndPoint": traffic.peer,
        "localEndPoint": traffic.here,
        "clientConnectionName": traffic.name,
        "totalBytesSent": traffic.sent,
        "totalBytesReceived": traffic.received,
        "pendingSendBytes": traffic.unsent,
        "pendingReceivedBytes": 0,
        "isExternalConnection": True,
        "isSslConnection": traffic.is_secure,
    }
