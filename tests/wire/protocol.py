"""protocol.txt, read: what the servers' own definitions say, to hold ours against."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_TEXT = Path(__file__).with_name("protocol.txt").read_text("utf-8")


class Field(NamedTuple):
    number: int
    names: tuple[str, ...]
    types: tuple[str, ...]
    label: str


def _sections() -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    rows: list[list[str]] = []
    for line in _TEXT.splitlines():
        if line.startswith("["):
            rows = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            rows.append(line.split())
    return found


def _field(number: str, names: str, types: str, label: str) -> Field:
    return Field(int(number), tuple(names.split("|")), tuple(types.split("|")), label)


_found = _sections()

COMMANDS: list[tuple[int, str, str | None]] = [
    (int(code, 16), name, None if message == "-" else message) for code, name, message in _found.pop("commands")
]
"""Code, name, message."""

ENUMS: dict[str, dict[int, tuple[str, ...]]] = {
    name: {int(number): tuple(names.split("|")) for names, number in (value.split("=") for value in values)}
    for name, *values in _found.pop("enums")
}
"""Values of each enumeration and the names they had."""

MESSAGES: dict[str, list[Field]] = {name: [_field(*row) for row in rows] for name, rows in _found.items()}
"""Fields of each message; a name with a dot is nested."""
