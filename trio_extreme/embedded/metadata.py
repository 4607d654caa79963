"""What the server reads in a stream's metadata and in `$settings` (docs/protocol.md, 3.12). Pure.

It is not the client's reading of the same JSON: two readings cannot share a misunderstanding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias


class Right(Enum):
    """What may be done to a stream; the values are the keys of the `$acl` object."""

    READ = "$r"
    WRITE = "$w"
    DELETE = "$d"
    READ_METADATA = "$mr"
    WRITE_METADATA = "$mw"


Acl: TypeAlias = dict[Right, tuple[str, ...]]
"""The roles that have a right; a right that is not in it is decided elsewhere."""

NO_ACL: Acl = {}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What of a stream's metadata the server itself obeys."""

    max_count: int | None = None
    max_age: int | None = None
    truncate_before: int | None = None
    acl: Acl = field(default_factory=dict)


NO_METADATA = Metadata()
METASTREAM = Metadata(max_count=1)
"""Metastreams have no metadata of their own and keep one event."""

META = "$$"
"""What the name of a metastream begins with."""

_INT64 = 2**63 - 1
_TIME_SPAN = 922_337_203_685
"""Seconds in the longest time that a server can express."""
_UNREADABLE = (ValueError, RecursionError)
"""What bytes from a client make the JSON library raise: they may be nested as deep as a package is long."""


def split_metastream(stream: str) -> tuple[int, str]:
    """How many times over a name is a metastream's, and whose it is in the end: `$$$$x` gives 2 and `x`."""
    depth = (len(stream) - len(stream.lstrip("$"))) // len(META)
    return depth, stream[depth * len(META) :]


def parse_metadata(data: bytes) -> Metadata:
    """The metadata in the data of the last event of a metastream.

    Data that is no JSON object, or holds a wrong type, is no metadata at all: the server does not keep the half of it.
    """
    try:
        document = _parse_object(data)
        _parse_number(document, "$cacheControl", 1, _TIME_SPAN)
        _require(isinstance(document.get("$tmp", False), bool), "$tmp is true or false")
        return Metadata(
            _parse_number(document, "$maxCount", 1),
            _parse_number(document, "$maxAge", 1, _TIME_SPAN),
            _parse_number(document, "$tb", 0),
            _parse_acl(document.get("$acl", {})),
        )
    except _UNREADABLE:
        return NO_METADATA


def with_truncate_before(data: bytes, number: int) -> bytes | None:
    """The same metadata with another `$tb`; None where the data is no JSON object."""
    try:
        return dump(_parse_object(data) | {"$tb": number})
    except _UNREADABLE:
        return None


def dump(document: dict[str, Any]) -> bytes:
    """The JSON a server writes: no spaces, and nothing escaped that need not be."""
    # Half of a surrogate pair, which JSON can hold and UTF-8 cannot, stays the escape it came as: Python's is JSON's.
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="backslashreplace")


def parse_settings(data: bytes) -> tuple[Acl, Acl]:
    """The rights on user streams and on system streams that the data of the last event of `$settings` gives."""
    try:
        document = _parse_object(data)
        return _parse_acl(document.get("$userStreamAcl", {})), _parse_acl(document.get("$systemStreamAcl", {}))
    except _UNREADABLE:
        return NO_ACL, NO_ACL


def _parse_object(data: bytes) -> dict[str, Any]:
    # Servers skip a byte order mark, and put a replacement for what is not UTF-8. JSONDecodeError is a ValueError.
    document = json.loads(data.decode("utf-8-sig", "replace"))
    _require(isinstance(document, dict), "metadata is a JSON object")
    found: dict[str, Any] = document
    return found


def _parse_number(document: dict[str, Any], key: str, least: int, most: int = _INT64) -> int | None:
    if key not in document:
        return None
    value = document[key]
    _require(isinstance(value, int) and not isinstance(value, bool), f"{key} is an integer")
    _require(-most - 1 <= value <= most, f"{key} is beyond what a server can count")
    return value if value >= least else None


def _parse_acl(document: object) -> Acl:
    """Rights. Null is none, here and above, nor is any key but theirs: servers trip over both."""
    if not isinstance(document, dict):
        msg = "an ACL is an object"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for data that is no metadata
    return {Right(key): _parse_roles(value) for key, value in document.items()}


def _parse_roles(value: object) -> tuple[str, ...]:
    roles = [value] if isinstance(value, str) else value
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        msg = "roles are a string or a list of strings"
        raise ValueError(msg)
    return tuple(roles)


def _require(condition: bool, text: str) -> None:  # noqa: FBT001 - as `assert` has it
    if not condition:
        raise ValueError(text)
