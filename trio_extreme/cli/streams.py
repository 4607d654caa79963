"""The argument that names a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trio_extreme.errors import InvalidArgument
from trio_extreme.operations.checks import check_stream
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Callable


def _stream_or_log(name: str) -> str:
    return ALL if name == ALL else _stream(name)


def _stream(name: str) -> str:
    if not name:
        msg = "the name is empty. In a shell, a name with a $ stands in single quotes: '$all'."
        raise click.BadParameter(msg)
    try:
        return check_stream(name)
    except InvalidArgument:
        why = "nothing can be appended to the log itself" if name == ALL else "UTF-8 cannot say it"
        msg = f"{name!r} is no name of a stream: {why}."
        raise click.BadParameter(msg) from None


def stream_argument(*, all_allowed: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`STREAM`, which may be `$all` where the log can be meant."""
    kind = _stream_or_log if all_allowed else _stream
    return click.argument("stream", type=kind, metavar="STREAM|$all" if all_allowed else "STREAM")
