"""How to connect, and the bounds of a connection."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from trio_extreme.connection_strings import is_connection_string, parse_connection_string
from trio_extreme.errors import InvalidArgument
from trio_extreme.nodes import GOSSIP_PORT, join_address, read_seed
from trio_extreme.urls import parse_options, parse_url, read_flag, read_seeds
from trio_extreme.values import MAX_READ, Credentials, utf8_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_extreme.nodes import Endpoint, EndpointMap, Seed

MAX_FRAME = 64 * 1024 * 1024
MAX_NAME = 1000
NARROW_VERSION, WIDE_VERSION = 3, 4
"""What `protocol_version` may be. These numbers are the clients': on the wire they are told apart by IdentifyClient."""
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to connect to one node, or to a cluster. Times are in seconds; out of range raises `InvalidArgument`.

    One node is named by `host` and `port`, a cluster by `nodes` or `cluster_dns`. The defaults suit most programs; see
    each attribute. `repr` shows neither password nor token.
    """

    #: Name or address of the node, if it is one alone.
    host: str = "localhost"
    #: Its TCP port (not the HTTP port, 2113).
    port: int = 1113
    #: Where its web interface is, for `open_admin`; empty is the same as `host`.
    http_host: str = ""
    #: And its port.
    http_port: int = 2113
    #: Nodes of a cluster: "host:2113" or ("host", 2113), with https:// or http:// before it where `gossip_tls` does not
    #: hold for all. They are asked for the others by HTTP, so these are not TCP ports, and a few of the nodes will do.
    nodes: Sequence[Seed | Endpoint | str] = ()
    #: A name whose addresses, all of them, are nodes of a cluster.
    cluster_dns: str = ""
    #: Where those are asked.
    gossip_port: int = GOSSIP_PORT
    #: Which node of a cluster: "write" prefers the master (leader) and follows it, "read" a slave (follower), "any" is
    #: content with each.
    mode: str = "write"
    #: From the address that a node tells of itself to the one where it is reached from here: a table, or a function of
    #: host and port. For port-forwards and containers.
    endpoint_map: EndpointMap | None = field(default=None, hash=False)
    #: Sent with every request; an empty name asks anonymously.
    username: str = ""
    password: str = field(default="", repr=False)
    #: A bearer token instead of name and password (servers since 20.6).
    token: str = field(default="", repr=False)
    #: Shown in the server's logs and statistics; empty means `host:pid` of this process.
    connection_name: str = ""
    #: Refuse everything that could change something with `ReadOnly`, before anything is sent. What is left is reading,
    #: subscribing, also to persistent groups that exist, and ping.
    read_only: bool = False
    #: 4, or 3 not to say who we are, as clients of old do. Servers up to 21.10 then cut event numbers to 32 bits; to
    #: later ones it makes no difference. Numbers from 2,147,483,647 on are refused, and no stream is followed so far.
    protocol_version: int = 4

    #: TLS: None for none, True to trust whom this machine trusts, or an `ssl.SSLContext` for anything else.
    tls: bool | ssl.SSLContext | None = None
    #: The name that servers' certificates must be for; empty means the host, which in a cluster is as nodes tell it.
    tls_server_name: str = ""
    #: As `tls`, for the asking of a cluster's nodes, which is HTTP; None for the same as `tls`, False for plain HTTP.
    gossip_tls: bool | ssl.SSLContext | None = None
    #: For one node's answer to who is in the cluster.
    gossip_timeout: float = 1.0

    #: For the TCP connection, the handshake of TLS included.
    connect_timeout: float = 3.0
    #: For the answer to IdentifyClient; after it the server is taken for one older than 3.9.4, which knows it not.
    identify_timeout: float = 2.0
    #: Before the next attempt to connect; doubled before each further one, and drawn at random below that.
    reconnect_delay: float = 0.1
    #: What that delay grows to at most.
    max_reconnect_delay: float = 5.0
    #: Attempts of `open_connection` before it raises `ConnectFailed`; None for no end.
    first_attempts: int | None = 10
    #: Attempts to connect again before every call and iterator raises `ConnectFailed`; None for no end.
    max_attempts: int | None = None
    #: Silence after which the peer is asked for a sign of life.
    heartbeat_interval: float = 2.0
    #: Silence after that question, after which the connection is given up.
    heartbeat_timeout: float = 3.0
    #: For one answer; then what may be asked twice is asked again.
    attempt_timeout: float = 7.0
    #: For a whole call, waiting included: a safety net; cancel scopes are for what a program wants.
    operation_timeout: float = 30.0
    #: For last words when the connection's block is left; a third of it where it is left by an error or cancelled.
    close_timeout: float = 0.8

    #: Requests under way on one connection; further callers wait, first come first served. Those who are let in at the
    #: same moment are sent in any order.
    max_in_flight: int = 5000
    #: Bytes of requests not yet given to the socket; further callers wait. A single larger one passes alone.
    max_queued_bytes: int = 64 * _MIB
    #: The largest frame taken or sent, in bytes.
    max_frame_size: int = MAX_FRAME
    #: Live events a catch-up subscription keeps for its consumer before it goes back to reading pages.
    buffer_events: int = 1000
    #: And their bytes.
    buffer_bytes: int = 8 * _MIB
    #: Events a live subscription keeps for its consumer before it is dropped with OVERFLOW.
    live_buffer_events: int = 10_000
    #: And their bytes.
    live_buffer_bytes: int = 32 * _MIB
    #: Events asked for at a time when reading, at most; pages follow the size of events to stay near 1 MiB.
    page_size: int = 500

    def __post_init__(self) -> None:
        self._check_texts()
        if self.username or self.token:
            Credentials(self.username, self.password, self.token)
        for name in (
            "connect_timeout",
            "gossip_timeout",
            "identify_timeout",
            "heartbeat_interval",
            "heartbeat_timeout",
            "attempt_timeout",
            "operation_timeout",
        ):
            _check_number(name, getattr(self, name), 0.001)
        for name in ("reconnect_delay", "max_reconnect_delay", "close_timeout"):
            _check_number(name, getattr(self, name), 0.0)
        for name in (
            "max_in_flight",
            "max_queued_bytes",
            "buffer_events",
            "buffer_bytes",
            "live_buffer_events",
            "live_buffer_bytes",
        ):
            _check_integer(name, getattr(self, name), 1)
        for name in ("first_attempts", "max_attempts"):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name), 1)
        for name in ("port", "gossip_port", "http_port"):
            _check_integer(name, getattr(self, name), 1, 65_535)
        _check_integer("protocol_version", self.protocol_version, NARROW_VERSION, WIDE_VERSION)
        if not isinstance(self.read_only, bool):
            msg = f"read_only: {self.read_only!r} is neither True nor False"
            raise InvalidArgument(msg)
        _check_tls("tls", self.tls)
        _check_tls("gossip_tls", self.gossip_tls)
        self._check_cluster()
        _check_integer("max_frame_size", self.max_frame_size, 1024, MAX_FRAME)
        _check_integer("page_size", self.page_size, 1, MAX_READ)

    def _check_texts(self) -> None:
        for name in (
            *("host", "http_host", "username", "password", "token", "connection_name", "cluster_dns"),
            "tls_server_name",
        ):
            value = getattr(self, name)
            if not isinstance(value, str):
                # The type alone: the value may be a password that came as bytes.
                msg = f"{name}: a string is wanted, not {type(value).__name__}"
                raise InvalidArgument(msg)
            utf8_size(name, value)
        if not self.host:
            msg = "host: '' is no name of a node; give its name or address, like 'localhost'"
            raise InvalidArgument(msg)
        if len(self.connection_name) > MAX_NAME:
            msg = f"connection_name: {len(self.connection_name)} characters; more than {MAX_NAME} help nobody"
            raise InvalidArgument(msg)
        if self.password and not self.username:
            msg = "password: without a username it cannot be sent"
            raise InvalidArgument(msg)

    def _check_cluster(self) -> None:
        if isinstance(self.nodes, str) or not isinstance(self.nodes, Iterable):
            msg = f"nodes: a list of nodes is wanted, like [('10.0.0.1', 2113)], not {type(self.nodes).__name__}"
            raise InvalidArgument(msg)
        # The instance is not ours to change any more, but it is not made yet either.
        object.__setattr__(self, "nodes", tuple(read_seed(node) for node in self.nodes))
        object.__setattr__(self, "mode", _read_mode(self.mode))
        if self.nodes and self.cluster_dns:
            msg = f"cluster_dns: {self.cluster_dns!r} is given, and nodes too; give one"
            raise InvalidArgument(msg)
        if self.is_cluster and (self.host, self.port) != (_HOST, _PORT):
            where = join_address(self.host, self.port)
            msg = f"host: {where!r} is given, and nodes or cluster_dns too; give one node, or a cluster"
            raise InvalidArgument(msg)
        if (
            self.endpoint_map is not None
            and not isinstance(self.endpoint_map, Mapping)
            and not callable(self.endpoint_map)
        ):
            msg = f"endpoint_map: a table or a function is wanted, not {type(self.endpoint_map).__name__}"
            raise InvalidArgument(msg)

    @property
    def is_cluster(self) -> bool:
        """Whether the node is to be found among several."""
        return bool(self.nodes or self.cluster_dns)

    @property
    def web_endpoint(self) -> tuple[str, int]:
        """Host and port of the web interface; of a cluster's first node, unless `http_host` says whose."""
        if self.http_host or not self.is_cluster:
            return self.http_host or self.host, self.http_port
        return (self.cluster_dns, self.gossip_port) if self.cluster_dns else seeds_of(self)[0][:2]

    @property
    def web_tls(self) -> bool | ssl.SSLContext:
        """The TLS of the web interface, where gossip is too; False for none."""
        return (self.tls or False) if self.gossip_tls is None else self.gossip_tls

    @property
    def address(self) -> str:
        """Where this connects to, for messages: `localhost:1113`, or which cluster."""
        if self.cluster_dns:
            return f"the cluster {join_address(self.cluster_dns, self.gossip_port)}"
        if self.nodes:
            return f"the cluster of {', '.join(map(str, seeds_of(self)))}"
        return join_address(self.host, self.port)

    @property
    def credentials(self) -> Credentials | None:
        """Who asks by default; None for anonymous."""
        if not (self.username or self.token):
            return None
        return Credentials(self.username, self.password, self.token)

    def replace(self, **changes: Any) -> Settings:
        """The same with some settings changed. Raises `InvalidArgument` as the constructor does."""
        return replace(self, **changes)

    @classmethod
    def from_url(cls, url: str, **overrides: Any) -> Settings:
        """Settings from `eventstore://user:password@host:1113?connection_name=my-app`.

        `eventstore+seeds://user:password@h1:2113,h2:2113?mode=read` names nodes of a cluster,
        `eventstore+dns://user:password@es.example.com:2113` a name for all of them; `eventstores` instead of
        `eventstore` is TLS, with `?tls_ca_file=` for the authority to trust. `tcp://` is one node, `discover://` is
        DNS, and the .NET client's `ConnectTo=…;…` is understood too.

        After the `?` may stand every setting that has no place before it, but the token (`first_attempts=none` for no
        end). `%` escapes what a part may not hold. Raises `InvalidArgument` for another scheme, an unknown key, a
        value out of range; no error shows the URL, for it may hold a password.
        """
        found = parse_connection_string(url) if is_connection_string(url) else parse_url(url, _OPTIONS)
        return cls(**(_with_ca_file(found) | overrides))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Settings from `TRIO_EXTREME_URL`, and single ones from `TRIO_EXTREME_PASSWORD`, `TRIO_EXTREME_MODE`, ….

        Each setting that a URL can give has such a variable, and so have the token, `HOST`, `PORT`, `USERNAME` and
        `NODES` (`h1:2113,h2:2113`). What a variable says goes before what the URL says. `environ` is the process's own
        environment unless given. Raises `InvalidArgument` for a variable of this prefix that means nothing.
        """
        variables = os.environ if environ is None else environ
        given = {name[len(_PREFIX) :].lower(): text for name, text in variables.items() if name.startswith(_PREFIX)}
        for other in _OTHER_VARIABLES:
            given.pop(other, None)
        url = given.pop("url", "")
        found = parse_options(given, _OPTIONS | _PLACES, _PREFIX)
        return cls.from_url(url or "eventstore://", **(_with_ca_file(found) | overrides))


def seeds_of(settings: Settings) -> tuple[Seed, ...]:
    """The `nodes`, read."""
    return tuple(read_seed(node) for node in settings.nodes)


_HOST, _PORT = Settings.host, Settings.port
_MODES = {
    "write": "write",
    "read": "read",
    "any": "any",
    # By the node that is meant.
    "master": "write",
    "leader": "write",
    "slave": "read",
    "follower": "read",
}
_PREFIX = "TRIO_EXTREME_"
_OTHER_VARIABLES = ("debug",)
"""What the command line has beside settings."""


def _read_mode(mode: object) -> str:
    known = _MODES.get(mode) if isinstance(mode, str) else None
    if known is None:
        msg = f"mode: {mode!r} is none; give 'write', 'read' or 'any'"
        raise InvalidArgument(msg)
    return known


def _with_ca_file(found: dict[str, Any]) -> dict[str, Any]:
    """The same with a context that trusts a file's authorities instead of the file's name."""
    path = found.pop("tls_ca_file", None)
    if path is None:
        return found
    try:
        return found | {"tls": ssl.create_default_context(cafile=path)}
    except (OSError, ValueError) as error:
        msg = f"tls_ca_file: {path!r} has no certificates that can be read ({error}); it is a file in PEM format"
        raise InvalidArgument(msg) from error


def _integer_or_none(text: str) -> int | None:
    return None if text == "none" else int(text)


_READERS: dict[str, Callable[[str], object]] = {
    "str": str,
    "float": float,
    "int": int,
    "int | None": _integer_or_none,
    "bool": read_flag,
    "bool | ssl.SSLContext | None": read_flag,
}
_PLACES: dict[str, Callable[[str], object]] = {
    "host": str,
    "port": int,
    "username": str,
    "password": str,
    "token": str,
    "nodes": read_seeds,
    "cluster_dns": str,
    "gossip_port": int,
}
"""What stands before the `?` of a URL, or nowhere in it."""
_NOT_OPTIONS = {*_PLACES, "endpoint_map"}
_OPTIONS: dict[str, Callable[[str], object]] = {
    "tls_ca_file": str,
    **{f.name: _READERS[str(f.type)] for f in fields(Settings) if f.name not in _NOT_OPTIONS},
}


def _check_tls(name: str, value: object) -> None:
    if value is not None and not isinstance(value, bool | ssl.SSLContext):
        msg = f"{name}: {value!r} is neither None, True nor an ssl.SSLContext"
        raise InvalidArgument(msg)
    if isinstance(value, ssl.SSLContext) and value.protocol is ssl.PROTOCOL_TLS_SERVER:
        msg = f"{name}: this SSLContext is for servers; ssl.create_default_context() makes one for clients"
        raise InvalidArgument(msg)


def _check_number(name: str, value: object, low: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < float("inf"):
        msg = f"{name}: {value!r} is no number of seconds from {low:g} up"
        raise InvalidArgument(msg)


def _check_integer(name: str, value: object, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        limits = f"from {low:,} up" if high is None else f"from {low:,} to {high:,}"
        msg = f"{name}: {value!r} is no whole number {limits}"
        raise InvalidArgument(msg)
