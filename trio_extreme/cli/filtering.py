"""`--filter-streams`, `--filter-types`: have the server choose which events of the log it sends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli.failures import CommandFailed
from trio_extreme.errors import BadRequest, InvalidArgument
from trio_extreme.filters import Filter
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that reads the log; `make_filter` takes them."""
    for name, what in (("types", "events of types"), ("streams", "streams of names")):
        command = click.option(
            f"--filter-{name}",
            metavar="PREFIX,…|/REGEX/",
            help=f"In $all, have the server choose: {what} that begin so, or in which the expression is found.",
        )(command)
    return command


def make_filter(stream: str, *, filter_streams: str | None, filter_types: str | None) -> Filter | None:
    """What `filter_options` say, if anything. Raises `click.UsageError` where it cannot be meant."""
    if filter_streams is None and filter_types is None:
        return None
    if stream != ALL:
        msg = "--filter-streams, --filter-types: they are for '$all'. In one stream, --types chooses."
        raise click.UsageError(msg)
    if filter_types is None:
        return _parse("--filter-streams", Filter.by_stream, filter_streams or "")
    if filter_streams is None:
        return _parse("--filter-types", Filter.by_type, filter_types)
    msg = "--filter-streams, --filter-types: servers take one of them; --types chooses among what the other leaves."
    raise click.UsageError(msg)


def _parse(option: str, make: Callable[..., Filter], text: str) -> Filter:
    try:
        if len(text) > 1 and text.startswith("/") and text.endswith("/"):
            return make(regex=text[1:-1])
        return make(*[part for part in map(str.strip, text.split(",")) if part])
    except InvalidArgument:
        msg = f"{text!r} chooses nothing; give prefixes with commas between them, or /a regular expression/."
        raise click.BadParameter(msg, param_hint=option) from None


@contextmanager
def expression_explained(filter: Filter | None) -> Iterator[None]:
    """What a server refuses that filters is the expression; its own words do not say so."""
    try:
        yield
    except BadRequest as error:
        if filter is None or filter.regex is None:
            raise
        msg = f"the server cannot read the regular expression {filter.regex!r}: {error}"
        raise CommandFailed(msg, "the same with another expression, as .NET reads them") from error
