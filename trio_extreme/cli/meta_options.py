"""Metadata as options of the command line change it, and as a terminal shows it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.errors import InvalidArgument
from trio_extreme.metadata import KEEP, STREAM_KEYS, StreamMetadata, dump
from trio_extreme.rights import RIGHTS, Acl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NOTHING = "none"
"""The word that takes out what an option sets."""

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_TIME = re.compile(r"([0-9]{1,12})([dhms]?)")

_NUMBERS = {
    "max_count": "Only the last N events are seen.",
    "truncate_before": "Events before number N are hidden.",
}
_TIMES = {
    "max_age": "Older events are hidden.",
    "cache_control": "How long HTTP clients may keep the head of the stream.",
}
_ROLES = {
    "read": "Who may read it, and subscribe to it.",
    "write": "Who may append to it.",
    "delete": "Who may delete it.",
    "read_metadata": "Who may read its metadata.",
    "write_metadata": "Who may write its metadata.",
}


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        msg = f"{text!r} is no whole number; give one, or none."
        raise click.BadParameter(msg)
    return int(text[:20])


def _time(text: str) -> timedelta:
    match = _TIME.fullmatch(text)
    if match is None:
        msg = f"{text!r} is no time; give seconds, or 90s, 15m, 12h, 7d, or none."
        raise click.BadParameter(msg)
    try:
        return timedelta(seconds=int(match[1]) * _UNITS[match[2] or "s"])
    except OverflowError:
        return timedelta.max


def _roles(text: str) -> tuple[str, ...]:
    return tuple(role for role in map(str.strip, text.split(",")) if role)


def _custom(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        msg = f"{text!r} is no KEY=JSON; a text has double quotes, and in a shell single ones around: '{key}=\"text\"'."
        raise click.BadParameter(msg) from None


def _or_nothing(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """What an option is given, None for the word that takes it out; KEEP, where it is not given, stays that."""

    def parse_or_nothing(text: Any) -> Any:
        return text if text is KEEP else None if text == _NOTHING else parse(text)

    return parse_or_nothing


def _options() -> Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    kinds = ((_NUMBERS, _number, "N"), (_TIMES, _time, "TIME"), (_ROLES, _roles, "ROLE,..."))
    settings = [
        click.option(
            _flag(name),
            name,
            type=_or_nothing(parse),
            default=KEEP,
            show_default=False,
            metavar=f"{metavar}|none",
            help=words,
        )
        for names, parse, metavar in kinds
        for name, words in names.items()
    ]
    words = "Set a key of one's own; may be repeated."
    custom = click.option("--custom", type=_custom, multiple=True, metavar="KEY=JSON", help=words)
    words = "Take out a key, as JSON calls it; may be repeated."
    remove = click.option("--remove", multiple=True, metavar="KEY", help=words)
    return (*settings, custom, remove)


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that change metadata; `Changes.given` takes what they say."""
    for option in reversed(_options()):
        command = option(command)
    return command


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to become of a stream's metadata."""

    settings: Mapping[str, Any]
    rights: Mapping[str, tuple[str, ...] | None]
    custom: Mapping[str, Any]
    removed: frozenset[str]

    @classmethod
    def given(cls, *, custom: Sequence[tuple[str, Any]], remove: Sequence[str], **options: Any) -> Changes:
        """What the options say. Raises `click.UsageError` for what no server takes."""
        said = {name: value for name, value in options.items() if value is not KEEP}
        rights = {name: value for name, value in said.items() if name in RIGHTS}
        settings = {name: value for name, value in said.items() if name not in RIGHTS}
        settings |= {STREAM_KEYS[key]: None for key in remove if key in STREAM_KEYS}
        changes = cls(settings, rights, dict(custom), frozenset(remove) - STREAM_KEYS.keys())
        try:
            changes.apply(StreamMetadata())
        except InvalidArgument as error:
            name, _, words = str(error).partition(": ")
            msg = f"{_flag(name)}: {words}."
            raise click.UsageError(msg) from None
        return changes

    def __bool__(self) -> bool:
        return bool(self.settings or self.rights or self.custom or self.removed)

    def apply(self, stored: StreamMetadata) -> StreamMetadata:
        """The metadata with the changes. Raises `InvalidArgument`."""
        kept = {key: value for key, value in stored.custom.items() if key not in self.removed}
        acl = stored.acl if self.settings.get("acl", stored.acl) is not None else Acl()
        return stored.replace(**{**self.settings, "acl": acl.replace(**self.rights), "custom": {**kept, **self.custom}})


def shown(metadata: StreamMetadata) -> dict[str, str]:
    """What it says, in the words of the options."""
    found = {name: str(value) for name in _NUMBERS if (value := getattr(metadata, name)) is not None}
    found |= {name: _time_text(value) for name in _TIMES if (value := getattr(metadata, name)) is not None}
    for name in RIGHTS:
        roles = getattr(metadata.acl, name)
        if roles is not None:
            found[name] = ", ".join(roles) or "nobody but $admins"
    found = {name.replace("_", "-"): text for name, text in found.items()}
    return found | {key: dump(value).decode() for key, value in metadata.custom.items()}


def _time_text(time: timedelta) -> str:
    """As the options take it."""
    seconds = time // timedelta(seconds=1)
    unit, size = next((unit, size) for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // size}{unit}"
