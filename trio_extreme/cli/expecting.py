"""The option that says where a stream must be before something is appended to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import click

from trio_extreme.values import ANY, MAX_NUMBER, NO_STREAM, STREAM_EXISTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

_NAMES = {"any": ANY, "no-stream": NO_STREAM, "exists": STREAM_EXISTS}


def _parse_expected(text: str, names: Mapping[str, int]) -> int:
    if text in names:
        return names[text]
    if text.isascii() and text.isdigit() and int(text) < MAX_NUMBER:
        return int(text)
    msg = f"{text!r} is none: {', '.join(names)}, or the number of the stream's last event."
    raise click.BadParameter(msg)


def expected_option(words: str, *, default: str | None = "any", exists: bool = True) -> _Decorator:
    """`--expected`, with what it means to the command; `exists`: whether it can be any version but none."""
    names = {name: version for name, version in _NAMES.items() if exists or version != STREAM_EXISTS}
    metavar = "|".join((*names, "N"))

    def parse(text: str) -> int:
        return _parse_expected(text, names)

    return click.option("--expected", type=parse, default=default, metavar=metavar, help=words)
