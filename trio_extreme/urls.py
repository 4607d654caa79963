"""Connection URLs, taken apart: `eventstore://user:password@host:1113?connection_name=my-app`.

No error of this file shows the URL: it may hold a password.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from trio_extreme.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.parse import SplitResult

SCHEMES = ("eventstore", "tcp")

_KEY = re.compile("[a-z_]{1,40}")

_HINTS = {
    "esdb": "it means the gRPC protocol; for TCP write eventstore://user:password@host:1113",
    "esdb+discover": "it means the gRPC protocol; for TCP write eventstore://user:password@host:1113",
    "kurrentdb": "it means the gRPC protocol; for TCP write eventstore://user:password@host:1113",
    "http": "that is the port of the web interface (2113); the TCP port is another, 1113 if nobody changed it",
    "https": "that is the port of the web interface (2113); the TCP port is another, 1113 if nobody changed it",
}


def parse_url(url: str, options: Mapping[str, Callable[[str], object]]) -> dict[str, Any]:
    """The settings a URL gives, as keyword arguments; `options` are the keys it may set, and what reads each.

    Raises `InvalidArgument` for a scheme that is not ours (saying which is), a port that is none, an unknown key
    (naming the nearest known one) and a value that is not of the key's kind.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        msg = "url: the address is none: an IPv6 address stands in [ ], other odd characters are escaped with %"
        raise InvalidArgument(msg) from None
    if parts.scheme not in SCHEMES:
        _refuse_scheme(parts.scheme)
    places = (("host", parts.hostname), ("port", _port(parts)), *_user(parts))
    found: dict[str, Any] = {key: value for key, value in places if value is not None}
    # An @ after the ? may well be the one before the host, behind a password that holds a ?: then all before it is one.
    if parts.path.strip("/") or "#" in url or "@" in parts.query:
        msg = "url: only host, port and ?options are understood; in a password write # ? / @ as %23 %3F %2F %40"
        raise InvalidArgument(msg)
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        found[key] = _convert(key, text, options)
    return found


def read_flag(text: str) -> bool:
    """What is on or off. Raises `ValueError` for anything else than `true` and `false`."""
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _refuse_scheme(scheme: str) -> None:
    hint = _HINTS.get(
        scheme, "one begins with eventstore:// (or tcp://), like eventstore://admin:changeit@localhost:1113"
    )
    msg = f"url: the scheme {scheme + '://'!r} is none of a TCP connection to one node: {hint}"
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


def _refuse_key(key: str, options: Mapping[str, object]) -> NoReturn:
    # What does not look like a key may be the rest of a password that holds a '?'.
    shown = repr(key) if _KEY.fullmatch(key) else "(not shown)"
    near = get_close_matches(key, options, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(options))}"
    msg = f"url: unknown option {shown}; {hint}"
    raise InvalidArgument(msg)
