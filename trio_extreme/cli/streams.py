"""The argument that names a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trio_extreme.errors import InvalidArgument
from trio_extreme.metadata import is_metastream, stream_of
from trio_extreme.operations.checks import check_stream
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Callable


def _stream_or_log(name: str) -> str:
    return ALL if name == ALL else parse_stream(name)


def parse_stream(name: str) -> str:
    """The name of a stream, as a parameter of a command."""
    if not name:
        msg = "the name is empty. In a shell, a name with a $ stands in single quotes: '$all'."
        raise click.BadParameter(msg)
    try:
        return check_stream(name)
    except InvalidArgument:
        why = "it is the log of all streams" if name == ALL else "UTF-8 cannot say it"
        msg = f"{name!r} is no name of a stream: {why}."
        raise click.BadParameter(msg) from None


def stream_argument(*, all_allowed: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`STREAM`, which may be `$all` where the log can be meant."""
    kind = _stream_or_log if all_allowed else parse_stream
    return click.argument("stream", type=kind, metavar="STREAM|$all" if all_allowed else "STREAM")


def owner_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """`STREAM`, or `$all`, of which metadata can be set."""
    return click.argument("stream", type=_owner, metavar="STREAM|$all")(command)


def _owner(name: str) -> str:
    if is_metastream(name):
        msg = f"{name!r} holds the metadata of {stream_of(name)!r}: give that name."
        raise click.BadParameter(msg)
    return _stream_or_log(name)


def streams_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """`STREAM…`: several streams, each once, or `$all` alone, which has them all."""
    return click.argument(
        "streams", type=_stream_or_log, nargs=-1, required=True, callback=_check_streams, metavar="STREAM...|$all"
    )(command)


def _check_streams(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    if ALL in names and len(names) > 1:
        msg = "$all has all streams in it: give it alone, or leave it out."
        raise click.BadParameter(msg)
    return tuple(dict.fromkeys(names))


def is_system_stream(name: str) -> bool:
    """Whether the server, or something in its name, writes this stream."""
    return name.startswith("$")
