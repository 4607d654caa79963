"""Connection URLs, taken apart: `eventstore://user:password@host:1113?connection_name=my-app`.

No error of this file shows the URL: it may hold a password.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from trio_extreme.errors import InvalidArgument
from trio_extreme.nodes import Seed, read_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.parse import SplitResult


class _Scheme(NamedTuple):
    #: What stands before the `?`: one node, several, or a name for all of them.
    names: Literal["node", "seeds", "dns"]
    tls: bool = False


SCHEMES = {
    "eventstore": _Scheme("node"),
    "eventstores": _Scheme("node", tls=True),
    "eventstore+seeds": _Scheme("seeds"),
    "eventstores+seeds": _Scheme("seeds", tls=True),
    "eventstore+dns": _Scheme("dns"),
    "eventstores+dns": _Scheme("dns", tls=True),
    "tcp": _Scheme("node"),
    "discover": _Scheme("dns"),
}

# A node may have a scheme of its own, so that there is a // in the midst of them.
_AUTHORITY = re.compile(r"([A-Za-z+]*)://([^?#]*)(.*)", re.DOTALL)
_KEY = re.compile("[a-z_]{1,40}")

_GRPC = (
    "it means the gRPC protocol; for TCP write eventstore://user:password@host:1113, or for a cluster "
    "eventstore+seeds://user:password@host:2113,host:2113 or eventstore+dns://user:password@name:2113"
)
_WEB = "that is the port of the web interface (2113); the TCP port is another, 1113 if nobody changed it"
_HINTS = {
    "esdb": _GRPC,
    "esdb+discover": _GRPC,
    "kurrentdb": _GRPC,
    "kurrentdb+discover": _GRPC,
    "http": _WEB,
    "https": _WEB,
}


def parse_url(url: str, options: Mapping[str, Callable[[str], object]]) -> dict[str, Any]:
    """The settings a URL gives, as keyword arguments; `options` are the keys it may set, and what reads each.

    Raises `InvalidArgument` for a scheme that is not ours (saying which is), a port that is none, an unknown key
    (naming the nearest known one) and a value that is not of the key's kind.
    """
    url, seeds = _take_seeds(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        msg = "url: the address is none: an IPv6 address stands in [ ], other odd characters are escaped with %"
        raise InvalidArgument(msg) from None
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None:
        _refuse_scheme(parts.scheme)
    found: dict[str, Any] = {"tls": True} if scheme.tls else {}
    places = (*_places(scheme, parts, seeds), *_user(parts))
    found |= {key: value for key, value in places if value is not None}
    # An @ after the ? may well be the one before the host, behind a password that holds a ?: then all before it is one.
    if parts.path.strip("/") or "#" in url or "@" in parts.query:
        msg = "url: only host, port and ?options are understood; in a password write # ? / @ as %23 %3F %2F %40"
        raise InvalidArgument(msg)
    return found | parse_options(dict(parse_qsl(parts.query, keep_blank_values=True)), options)


def parse_options(
    given: Mapping[str, str], options: Mapping[str, Callable[[str], object]], prefix: str = ""
) -> dict[str, Any]:
    """Settings from texts; errors name them as the environment does where there is a `prefix`."""
    found = {}
    for key, text in given.items():
        if prefix and key not in options:
            _refuse_variable(prefix, key, options)
        found[key] = _convert(key, text, options)
    return found


def _take_seeds(url: str) -> tuple[str, str]:
    """The URL without the list of nodes, and that list: nobody else takes more than one."""
    match = _AUTHORITY.match(url)
    scheme = match and SCHEMES.get(match[1].lower())
    if not match or not scheme or scheme.names != "seeds":
        return url, ""
    user, at, seeds = match[2].rpartition("@")
    return f"{match[1]}://{user}{at}seeds{match[3]}", seeds


def _places(scheme: _Scheme, parts: SplitResult, seeds: str) -> list[tuple[str, Any]]:
    if scheme.names == "seeds":
        return [("nodes", read_seeds(seeds))]
    keys = ("host", "port") if scheme.names == "node" else ("cluster_dns", "gossip_port")
    if scheme.names == "dns" and not parts.hostname:
        msg = "url: the name of the cluster is missing, as in eventstore+dns://es.example.com:2113"
        raise InvalidArgument(msg)
    return [(keys[0], parts.hostname), (keys[1], _port(parts))]


def read_seeds(text: str) -> tuple[Seed, ...]:
    """Nodes, separated by commas. Raises `InvalidArgument` for none."""
    try:
        seeds = tuple(read_seed(unquote(seed.strip())) for seed in text.split(",") if seed.strip())
    except InvalidArgument:
        # Not shown: part of a password may have come here.
        msg = "url: the nodes are given like h1:2113,h2:2113 (the port of their gossip, which is HTTP's)"
        raise InvalidArgument(msg) from None
    if not seeds:
        msg = "url: the nodes are missing, as in eventstore+seeds://h1:2113,h2:2113"
        raise InvalidArgument(msg)
    return seeds


def read_flag(text: str) -> bool:
    """What is on or off. Raises `ValueError` for anything else than `true` and `false`."""
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _refuse_scheme(scheme: str) -> NoReturn:
    hint = _HINTS.get(
        scheme, "one begins with eventstore:// (or tcp://), like eventstore://admin:changeit@localhost:1113"
    )
    msg = f"url: the scheme {scheme + '://'!r} is none of a TCP connection: {hint}"
    raise InvalidArgument(msg)


def _user(parts: SplitResult) -> list[tuple[str, str | None]]:
    if parts.username is None:
        return []
    return [("username", unquote(parts.username)), ("password", unquote(parts.password or ""))]


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        msg = "url: what stands after the host's ':' is no port from 0 to 65535"
        raise InvalidArgument(msg) from None


_WANTED: dict[Callable[[str], object], str] = {float: "a number", read_flag: "true or false"}


def _convert(key: str, text: str, options: Mapping[str, Callable[[str], object]]) -> object:
    read = options.get(key)
    if read is None:
        _refuse_key(key, options)
    try:
        return read(text)
    except ValueError:
        msg = f"url: {key}={text!r} is not {_WANTED.get(read, 'a whole number')}"
        raise InvalidArgument(msg) from None


def _refuse_variable(prefix: str, key: str, options: Mapping[str, object]) -> NoReturn:
    near = get_close_matches(key, options, n=1)
    hint = f"did you mean {prefix}{near[0].upper()}?" if near else "docs/clusters.md has those there are"
    msg = f"environment: {prefix}{key.upper()} means nothing; {hint}"
    raise InvalidArgument(msg)


def _refuse_key(key: str, options: Mapping[str, object]) -> NoReturn:
    # What does not look like a key may be the rest of a password that holds a '?'.
    shown = repr(key) if _KEY.fullmatch(key) else "(not shown)"
    near = get_close_matches(key, options, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(options))}"
    msg = f"url: unknown option {shown}; {hint}"
    raise InvalidArgument(msg)
