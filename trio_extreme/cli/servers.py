"""`--as VERSION`: which server an embedded node is to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trio_extreme.embedded.versions import VERSIONS, ServerVersion, find_version
from trio_extreme.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable


def as_option(help: str) -> Callable[[Any], Any]:
    """The option, whose value is the full name of a version; `help` says of what it decides."""
    return click.option(
        "--as", "version", type=_parse, default="4.1.1", metavar="VERSION", shell_complete=_complete, help=help
    )


def _parse(name: str) -> str:
    try:
        return find_version(name).name
    except InvalidArgument as error:
        raise click.BadParameter(str(error).removeprefix("version: ")) from None


def _complete(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    return [short for short in VERSIONS if short.startswith(begun)]


def _describe(version: ServerVersion) -> str:
    basis = "recorded" if version.is_recorded else "sources"
    return f"  {version.name:<7}  {basis:<8}  {version.summary}\n"


SERVERS = f"""\
\b
What --as can name, where 5.0 is enough for 5.0.11, and what is new in each.
The node does what was recorded of two running servers, and what the public
sources of the others say:
{"".join(map(_describe, VERSIONS.values()))}"""
"""For the end of a command's help."""
