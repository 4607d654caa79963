"""The nodes of a cluster as settings name them: addresses of their web interfaces, where they tell of each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, TypeGuard
from urllib.parse import urlsplit

from trio_extreme.errors import InvalidArgument

GOSSIP_PORT = 2113
"""Where nodes tell of each other, if nobody changed it."""

Endpoint: TypeAlias = tuple[str, int]
"""A host and a port."""

EndpointMap: TypeAlias = Mapping[Endpoint, Endpoint] | Callable[[str, int], Endpoint]
"""From the address that a node tells of itself to the one where it is reached from here."""

_LONGEST_NAME = 253

_SCHEMES = {"": None, "http": False, "https": True}


class Seed(NamedTuple):
    """Where to ask who is in the cluster. `tls`: whether by https; None where `gossip_tls` says it."""

    host: str
    port: int = GOSSIP_PORT
    tls: bool | None = None

    def __str__(self) -> str:
        scheme = {None: "", False: "http://", True: "https://"}[self.tls]
        return f"{scheme}{join_address(self.host, self.port)}"


def join_address(host: str, port: int) -> str:
    """Host and port as one text; an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_seed(value: object) -> Seed:
    """A node: `"host:2113"`, `("host", 2113)`, each with `http://` or `https://` before it if need be."""
    if isinstance(value, Seed):
        return value
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):  # noqa: PLR2004 - a pair
        host, port = value
        seed = _parse(host if "://" in host or ":" not in host else f"[{host}]", value)
        return seed._replace(port=_checked_port(port, value))
    if isinstance(value, str):
        return _parse(value, value)
    raise _refused(value)


def _parse(text: str, value: object) -> Seed:
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port
    except ValueError:
        raise _refused(value) from None
    is_bare = not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc)
    if not parts.hostname or parts.scheme not in _SCHEMES or not is_bare:
        raise _refused(value)
    return Seed(parts.hostname, GOSSIP_PORT if port is None else _checked_port(port, value), _SCHEMES[parts.scheme])


def _checked_port(port: object, value: object) -> int:
    if not is_port(port):
        raise _refused(value)
    return port


def _refused(value: object) -> InvalidArgument:
    # What stands before an @ may be a password.
    shown = "what is given (with an @ in it)" if "@" in str(value) else repr(value)
    return InvalidArgument(f"nodes: {shown} is no node; give 'host:2113' or ('host', 2113), the address of its gossip")


def map_endpoint(endpoint_map: EndpointMap | None, host: str, port: int) -> Endpoint:
    """Where a node is reached that tells this of itself. Raises `InvalidArgument` where a function gives no address."""
    if endpoint_map is None:
        return host, port
    mapped = endpoint_map(host, port) if callable(endpoint_map) else endpoint_map.get((host, port), (host, port))
    if not (isinstance(mapped, tuple) and len(mapped) == 2 and isinstance(mapped[0], str)) or not is_port(mapped[1]):  # noqa: PLR2004 - a pair
        msg = f"endpoint_map: {mapped!r} is what it gives for ({host!r}, {port}), and no (host, port)"
        raise InvalidArgument(msg)
    return mapped


def is_host(host: object) -> TypeGuard[str]:
    """Whether it may be the name or address of one: what a peer says may be anything, and is shown in logs."""
    return isinstance(host, str) and 1 <= len(host) <= _LONGEST_NAME and host.isprintable()


def is_port(port: object) -> TypeGuard[int]:
    """Whether it can be the number of one; 0 is none."""
    return isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65_535  # noqa: PLR2004 - the last port
