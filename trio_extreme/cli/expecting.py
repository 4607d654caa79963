"""The option that says where a stream must be before something is appended to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trio_extreme.values import ANY, MAX_NUMBER, NO_STREAM, STREAM_EXISTS

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES = {"any": ANY, "no-stream": NO_STREAM, "exists": STREAM_EXISTS}


def _expected(text: str) -> int:
    if text in _NAMES:
        return _NAMES[text]
    if text.isascii() and text.isdigit() and int(text) < MAX_NUMBER:
        return int(text)
    msg = f"{text!r} is none: any, no-stream, exists, or the number of the stream's last event."
    raise click.BadParameter(msg)


def expected_option(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--expected`, with what it means to the command."""
    return click.option("--expected", type=_expected, default="any", metavar="any|no-stream|exists|N", help=words)
