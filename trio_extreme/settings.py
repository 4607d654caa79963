"""How to connect, and the bounds of a connection."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from trio_extreme.errors import InvalidArgument
from trio_extreme.urls import parse_url, read_flag
from trio_extreme.values import MAX_READ, Credentials, utf8_size

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAME = 64 * 1024 * 1024
MAX_NAME = 1000
NARROW_VERSION, WIDE_VERSION = 3, 4
"""What `protocol_version` may be. These numbers are the clients': on the wire they are told apart by IdentifyClient."""
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to connect to one node. Times are in seconds; anything out of range raises `InvalidArgument`.

    The defaults suit most programs; see each attribute. `repr` shows neither password nor token.
    """

    #: Name or address of the node.
    host: str = "localhost"
    #: Its TCP port (not the HTTP port, 2113).
    port: int = 1113
    #: Where its web interface is, for `open_admin`; empty is the same as `host`.
    http_host: str = ""
    #: And its port.
    http_port: int = 2113
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

    #: For the TCP connection.
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

    #: Requests under way on one connection; further callers wait, first come first served.
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
        for name in ("port", "http_port"):
            _check_integer(name, getattr(self, name), 1, 65_535)
        _check_integer("protocol_version", self.protocol_version, NARROW_VERSION, WIDE_VERSION)
        if not isinstance(self.read_only, bool):
            msg = f"read_only: {self.read_only!r} is neither True nor False"
            raise InvalidArgument(msg)
        _check_integer("max_frame_size", self.max_frame_size, 1024, MAX_FRAME)
        _check_integer("page_size", self.page_size, 1, MAX_READ)

    def _check_texts(self) -> None:
        for name in ("host", "http_host", "username", "password", "token", "connection_name"):
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
        """Settings from `eventstore://user:password@host:1113?connection_name=my-app`; `tcp://` means the same.

        After the `?` may stand every setting that has no place before it, but the token (`first_attempts=none` for no
        end). `%` escapes what a part may not hold. Raises `InvalidArgument` for another scheme, an unknown key, a
        value out of range; no error shows the URL, for it may hold a password.
        """
        found: dict[str, Any] = parse_url(url, _OPTIONS)
        return cls(**(found | overrides))


def _integer_or_none(text: str) -> int | None:
    return None if text == "none" else int(text)


_READERS: dict[str, Callable[[str], object]] = {
    "str": str,
    "float": float,
    "int": int,
    "int | None": _integer_or_none,
    "bool": read_flag,
}
_NOT_OPTIONS = ("host", "port", "username", "password", "token")
_OPTIONS = {f.name: _READERS[str(f.type)] for f in fields(Settings) if f.name not in _NOT_OPTIONS}


def _check_number(name: str, value: object, low: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < float("inf"):
        msg = f"{name}: {value!r} is no number of seconds from {low:g} up"
        raise InvalidArgument(msg)


def _check_integer(name: str, value: object, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        limits = f"from {low:,} up" if high is None else f"from {low:,} to {high:,}"
        msg = f"{name}: {value!r} is no whole number {limits}"
        raise InvalidArgument(msg)
