"""Connection strings of the .NET client, for who brings one: `ConnectTo=discover://user:password@host:2113;…`.

No error of this file shows a value that may hold a password.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from trio_extreme.errors import InvalidArgument
from trio_extreme.nodes import read_seed
from trio_extreme.urls import parse_url, read_flag

if TYPE_CHECKING:
    from collections.abc import Callable

_START = re.compile(r"\s*[A-Za-z][A-Za-z ]*=")
_PAIR = re.compile(r"""\s*([A-Za-z ]+?)\s*=\s*("(?:[^"]|"")*"|'(?:[^']|'')*'|[^;]*?)\s*(?:;|$)""")
_NO_END = ("-1", "2147483647")


def is_connection_string(text: str) -> bool:
    """Whether this is no URL, but `key=value;…`."""
    return _START.match(text) is not None


def parse_connection_string(text: str) -> dict[str, Any]:
    """The settings it gives, as keyword arguments.

    Raises `InvalidArgument` for an unknown key (naming the nearest known one), for one that means something that we do
    not do, and for a value that is not of the key's kind.
    """
    found: dict[str, Any] = {}
    keys: set[str] = set()
    for key, value in _pairs(text):
        name = key.replace(" ", "").lower()
        keys.add(name)
        found |= _read(key, name, value)
    if {"connectto", "gossipseeds"} <= keys:
        msg = "url: ConnectTo and GossipSeeds are both given, and each says where to connect; give one"
        raise InvalidArgument(msg)
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs, place = [], 0
    while text[place:].strip(" ;"):
        match = _PAIR.match(text, place)
        if match is None:
            msg = "url: a connection string is key=value;key=value, and a value that holds a ; stands in quotes"
            raise InvalidArgument(msg)
        key, value = match.groups()
        if value[:1] in ("'", '"') and len(value) > 1:
            value = value[1:-1].replace(value[0] * 2, value[0])
        pairs.append((key, value))
        place = match.end()
    return pairs


def _read(key: str, name: str, value: str) -> dict[str, Any]:
    if name in _OTHERS:
        return _unless_said_otherwise(key, name, value)
    read = _KEYS.get(name)
    if read is None:
        _refuse_key(key, name)
    try:
        return read(value)
    except ValueError as error:
        if isinstance(error, InvalidArgument):
            raise
        # Not its value: it may be a password in the wrong place.
        msg = f"url: the value of {key} is not of its kind (true or false, milliseconds, a number, host:port)"
        raise InvalidArgument(msg) from None


def _unless_said_otherwise(key: str, name: str, value: str) -> dict[str, Any]:
    """Keys that change nothing as long as they say what is so anyway."""
    harmless, remedy = _OTHERS[name]
    if value.lower() not in harmless:
        msg = f"url: {key} cannot be honoured here: {remedy}"
        raise InvalidArgument(msg)
    return {}


def _refuse_key(key: str, name: str) -> NoReturn:
    names = {known.lower(): known for known in _SPELT}
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {names[near[0]]}?" if near else f"known are {', '.join(sorted(_SPELT))}"
    msg = f"url: unknown key {key!r} of a connection string; {hint}"
    raise InvalidArgument(msg)


def _seconds(setting: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {setting: int(value) / 1000}


def _number(setting: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {setting: int(value)}


def _attempts(setting: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {setting: None if value in _NO_END else int(value)}


def _text(setting: str) -> Callable[[str], dict[str, Any]]:
    return lambda value: {setting: value}


def _connect_to(value: str) -> dict[str, Any]:
    if not value.startswith(("tcp://", "discover://")):
        msg = "url: ConnectTo is tcp://user:password@host:1113 or discover://user:password@name:2113"
        raise InvalidArgument(msg)
    return parse_url(value, {})


def _gossip_seeds(value: str) -> dict[str, Any]:
    return {"nodes": tuple(read_seed(seed.strip()) for seed in value.split(",") if seed.strip())}


def _credentials(value: str) -> dict[str, Any]:
    username, colon, password = value.partition(":")
    if not colon:
        raise ValueError
    return {"username": username, "password": password}


def _use_ssl(value: str) -> dict[str, Any]:
    return {"tls": read_flag(value.lower()) or None}


_PREFERENCES = {
    "master": "write",
    "leader": "write",
    "slave": "read",
    "follower": "read",
    "readonlyreplica": "read",
    "random": "any",
}


def _preference(value: str) -> dict[str, Any]:
    if value.lower() not in _PREFERENCES:
        raise ValueError
    return {"mode": _PREFERENCES[value.lower()]}


_SPELT: dict[str, Callable[[str], dict[str, Any]]] = {
    "ConnectTo": _connect_to,
    "GossipSeeds": _gossip_seeds,
    "ClusterDns": _text("cluster_dns"),
    "ExternalGossipPort": _number("gossip_port"),
    "GossipPort": _number("gossip_port"),
    "GossipTimeout": _seconds("gossip_timeout"),
    "NodePreference": _preference,
    "DefaultUserCredentials": _credentials,
    "UseSslConnection": _use_ssl,
    "TargetHost": _text("tls_server_name"),
    "MaxConcurrentItems": _number("max_in_flight"),
    "MaxReconnections": _attempts("max_attempts"),
    "MaxDiscoverAttempts": _attempts("first_attempts"),
    "ReconnectionDelay": _seconds("reconnect_delay"),
    "OperationTimeout": _seconds("attempt_timeout"),
    "HeartbeatInterval": _seconds("heartbeat_interval"),
    "HeartbeatTimeout": _seconds("heartbeat_timeout"),
    "ClientConnectionTimeout": _seconds("connect_timeout"),
}
_KEYS = {name.lower(): read for name, read in _SPELT.items()}

_ALWAYS_CHECKED = "certificates are always checked; give tls= an ssl.SSLContext that trusts your authority"
_PER_VERB = "each verb takes require_master="
_OTHERS = {
    "verboselogging": (("false",), "set the level of the logger trio_extreme"),
    "maxqueuesize": ((), "callers wait without a bound on their number; max_queued_bytes bounds what they hold"),
    "maxretries": ((), "a call is tried until operation_timeout; leave it out"),
    "requiremaster": (("true",), _PER_VERB),
    "requireleader": (("true",), _PER_VERB),
    "queuetimeout": (("0",), "operation_timeout bounds the whole call"),
    "operationtimeoutcheckperiod": ((), "deadlines are kept when they are due; leave it out"),
    "validateserver": (("true",), _ALWAYS_CHECKED),
    "skipcertificatevalidation": (("false",), _ALWAYS_CHECKED),
    "httpmessagehandler": (("",), _ALWAYS_CHECKED),
    "failonnoserverresponse": (("false",), "what may be asked again is, until operation_timeout"),
    "compatibilitymode": (("", "disabled"), "tls and gossip_tls say what it stands for"),
}
"""What they may say here (in lower case), and what to do instead of anything else."""
