"""The JSON line of an event, both ways: what `read` and `watch` print, `append` takes."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from trio_extreme.errors import InvalidArgument
from trio_extreme.events import NewEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_extreme.events import Event

# What `read` prints and `append` has no use for: the server gives these anew.
_IGNORED = {"stream", "number", "created", "position", "link"}
_KNOWN = {"type", "id"} | {f"{name}{kind}" for name in ("data", "metadata") for kind in ("", "_text", "_base64")}


def to_line(event: Event) -> bytes:
    """One line of JSON, its end included. JSON data stands in it as it was stored, to the last digit."""
    link = event.link
    head = {
        "stream": event.stream,
        "number": event.number,
        "id": str(event.id),
        "type": event.type,
        "created": created_text(event),
        "position": None if event.position is None else str(event.position),
        "link": None if link is None else {"stream": link.stream, "number": link.number},
    }
    data = _content("data", event.data, maybe_json=event.is_json)
    metadata = _content("metadata", event.metadata) if event.metadata else b'"metadata":null'
    return b"%s,%s,%s}\n" % (dump(head)[:-1], data, metadata)


def created_text(event: Event) -> str:
    """When an event was written, in UTC, always as long."""
    return event.created.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _content(name: str, content: bytes, *, maybe_json: bool = True) -> bytes:
    """`"data":…` where it is JSON, `"data_text":…` where it is text, else `"data_base64":…`."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return _member(f"{name}_base64", base64.b64encode(content).decode())
    if maybe_json and _is_json(text):
        # Line ends can only stand between its tokens, where a space means the same.
        return b'"%s":%s' % (name.encode(), content.replace(b"\n", b" ").replace(b"\r", b" "))
    return _member(f"{name}_text", text)


def _member(name: str, value: str) -> bytes:
    return b"%s:%s" % (dump(name), dump(value))


def dump(value: object) -> bytes:
    """JSON on one line, without its end."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse_constant, parse_int=_skip, parse_float=_skip)
    except (ValueError, RecursionError):
        return False
    return True


def _skip(_digits: str) -> None:
    """Numbers are valid by their syntax; making them could fail (too many digits), and nobody asked for them."""


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def from_line(line: bytes, default_type: str | None) -> NewEvent:
    """The event that a line describes. Raises `InvalidArgument`, which says what is wrong with the line."""
    try:
        members = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        msg = f"not JSON: {error}"
        raise InvalidArgument(msg) from None
    if not isinstance(members, dict):
        msg = "not a JSON object with braces"
        raise InvalidArgument(msg)
    if unknown := members.keys() - _KNOWN - _IGNORED:
        msg = f"unknown key {min(unknown)!r}; known are {', '.join(sorted(_KNOWN))}"
        raise InvalidArgument(msg)
    data, is_json = _bytes_of("data", members)
    metadata, _ = _bytes_of("metadata", members)
    type_ = members.get("type", default_type)
    if type_ is None:
        msg = 'no "type" in it, and no --type'
        raise InvalidArgument(msg)
    return NewEvent(type_, data, metadata, id=_id_of(members), is_json=is_json)


def _bytes_of(name: str, members: Mapping[str, Any]) -> tuple[bytes, bool]:
    """The bytes that one of the three keys gives, and whether they are JSON."""
    given = [key for key in (name, f"{name}_text", f"{name}_base64") if key in members]
    if not given:
        return b"", False
    if len(given) > 1:
        msg = f"{given[0]} and {given[1]} in one line; give one of them"
        raise InvalidArgument(msg)
    (key,) = given
    value = members[key]
    if key == name:
        return (b"", False) if key == "metadata" and value is None else (_json_bytes(key, value), True)
    if not isinstance(value, str):
        msg = f"{key}: a string is wanted"
        raise InvalidArgument(msg)
    return (_text_bytes(key, value) if key.endswith("_text") else _base64_bytes(key, value)), False


def _json_bytes(key: str, value: object) -> bytes:
    # NewEvent.json has the one way in which this library writes JSON, and what it refuses.
    event = NewEvent.json(key, value)
    return event.data


def _text_bytes(key: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        msg = f"{key}: half of a surrogate pair in it cannot be said in UTF-8"
        raise InvalidArgument(msg) from None


def _base64_bytes(key: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        msg = f"{key}: not base64: {error}"
        raise InvalidArgument(msg) from None


def _id_of(members: Mapping[str, Any]) -> UUID | None:
    value = members.get("id")
    if value is None:
        return None
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        msg = f"id: {value!r} is no UUID"
        raise InvalidArgument(msg) from None
