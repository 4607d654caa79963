"""The JSON line of an event, both ways: what `read`, `watch` and `export` print, `append` and `import` take."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from trio_extreme.errors import InvalidArgument
from trio_extreme.events import NewEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_extreme.events import Event, RecordedEvent

# What is printed and nobody can choose: the server gives these anew.
_IGNORED = {"stream", "number", "created", "position", "link", "retry_count"}
_IGNORED |= {"parked", "listener", "error", "reason", "added"}
_KNOWN = {"type", "id", "is_json"} | {
    f"{name}{kind}" for name in ("data", "metadata") for kind in ("", "_text", "_base64")
}


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


def with_keys(line: bytes, **keys: object) -> bytes:
    """The line of an event, with these behind its own keys."""
    return b"%s,%s\n" % (line[:-2], dump(keys)[1:])


def to_exact_line(event: RecordedEvent) -> bytes:
    """One line of JSON, its end included, of which `parse_line` makes the same event again, to the last byte."""
    head = {
        "stream": event.stream,
        "number": event.number,
        "id": str(event.id),
        "type": event.type,
        "is_json": event.is_json,
        "created": created_text(event),
    }
    data = _content("data", event.data, maybe_json=event.is_json and _stays_as_it_is(event.data))
    metadata = b'"metadata":null'
    if event.metadata:
        # The word null is how a line says that there is none.
        maybe_json = _stays_as_it_is(event.metadata) and event.metadata != b"null"
        metadata = _content("metadata", event.metadata, maybe_json=maybe_json)
    return b"%s,%s,%s}\n" % (dump(head)[:-1], data, metadata)


def _stays_as_it_is(content: bytes) -> bool:
    """Whether JSON can stand in a line without losing the space around it and the line ends inside."""
    return content == content.strip() and b"\n" not in content and b"\r" not in content


def created_text(event: RecordedEvent) -> str:
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


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """What a line says: the event, and the rest of it as it was parsed from JSON."""

    event: NewEvent
    members: Mapping[str, Any]


def from_line(line: bytes, default_type: str | None) -> NewEvent:
    """The event that a line describes. Raises `InvalidArgument`, which says what is wrong with the line."""
    return parse_line(line, default_type).event


def parse_line(line: bytes, default_type: str | None = None) -> ParsedLine:
    """The event that a line describes, and the rest of the line. Raises `InvalidArgument` as `from_line` does.

    JSON data and metadata are taken as they stand in the line, to the last digit and space.
    """
    members, texts = _read_object(line)
    if unknown := members.keys() - _KNOWN - _IGNORED:
        msg = f"unknown key {min(unknown)!r}; known are {', '.join(sorted(_KNOWN))}"
        raise InvalidArgument(msg)
    data, is_json = _bytes_of("data", members, texts)
    metadata, _ = _bytes_of("metadata", members, texts)
    type_ = members.get("type", default_type)
    if type_ is None:
        msg = 'no "type" in it, and no --type'
        raise InvalidArgument(msg)
    is_json = members.get("is_json", is_json)
    if not isinstance(is_json, bool):
        msg = f"is_json: {is_json!r} is neither true nor false"
        raise InvalidArgument(msg)
    return ParsedLine(NewEvent(type_, data, metadata, id=_id_of(members), is_json=is_json), members)


def _integer(digits: str) -> int:
    """A number of the line, right as far as any is asked for; Python refuses to make some of its longer ones."""
    return int(digits[:_MOST_DIGITS])


_MOST_DIGITS = 40
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)
_BEFORE_KEY = re.compile(r"[\s{,]*(?=\")")
_BEFORE_VALUE = re.compile(r"\s*:\s*")


def _read_object(line: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """The members of the object in a line, and the text of each. Raises `InvalidArgument` for anything else."""
    try:
        text = line.decode("utf-8-sig")
        members = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        msg = f"not JSON: {error}"
        raise InvalidArgument(msg) from None
    if not isinstance(members, dict):
        msg = "not a JSON object with braces"
        raise InvalidArgument(msg)
    return members, _texts(text)


def _texts(text: str) -> dict[str, str]:
    """The values of an object, each as it stands in the object's own text."""
    found: dict[str, str] = {}
    at = 0
    while key := _BEFORE_KEY.match(text, at):
        name, colon = _DECODER.raw_decode(text, key.end())
        value = _BEFORE_VALUE.match(text, colon)
        assert value is not None
        _, at = _DECODER.raw_decode(text, value.end())
        found[name] = text[value.end() : at]
    return found


def _bytes_of(name: str, members: Mapping[str, Any], texts: Mapping[str, str]) -> tuple[bytes, bool]:
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
        return (b"", False) if key == "metadata" and value is None else (texts[key].encode(), True)
    if not isinstance(value, str):
        msg = f"{key}: a string is wanted"
        raise InvalidArgument(msg)
    return (_text_bytes(key, value) if key.endswith("_text") else _base64_bytes(key, value)), False


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
