"""`trio-extreme projection`: how a server's projections are doing, and having them stop, start and begin anew."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from trio_extreme.cli import output
from trio_extreme.cli.administering import PORT, json_option, run_admin, told
from trio_extreme.cli.connecting import find_target, url_option
from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import can_ask, notice
from trio_extreme.cli.views import clean

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme.admin import Admin
    from trio_extreme.details import ProjectionDetails
    from trio_extreme.settings import Settings

_LIST_EPILOG = f"""\
\b
Keys of a JSON line: name, status, reason, mode, position, progress (in percent, -1
where it is not known), version, processed.
{PORT}"""
_STATE_EPILOG = f"""\
\b
Keys of the JSON line: name, partition, state (null where it has none, as the
standard projections have).
{PORT}"""
_DONE_EPILOG = f"""\
\b
Keys of the JSON line: name, result ("enabled", "disabled" or "reset").
{PORT}"""

_name_argument = click.argument("name")


@click.group("projection", short_help="Look at projections, stop, start and reset them.")
def projection_commands() -> None:
    """Look at the projections of a server, and have them stop, start and begin anew."""


@projection_commands.command("list", short_help="List the projections.", epilog=_LIST_EPILOG)
@json_option
@url_option
def list_projections(*, as_json: bool, settings: Settings) -> int:
    """List all projections, and how they are doing."""
    show = _line if as_json or not output.is_terminal() else _words

    async def ask(admin: Admin) -> bytes:
        found = await admin.projections()
        if not found:
            notice("there are no projections: the server runs without them")
        return b"".join(map(show, found))

    return run_admin(find_target(settings), ask)


@projection_commands.command("state", short_help="Show the state of a projection.", epilog=_STATE_EPILOG)
@_name_argument
@click.option("--partition", default="", help="Of one partition of it.", show_default=False)
@json_option
@url_option
def state(*, name: str, partition: str, as_json: bool, settings: Settings) -> int:
    """Show the state of a projection, or of one partition of it, as JSON."""

    async def ask(admin: Admin) -> bytes:
        found = await admin.projection_state(name, partition=partition)
        if as_json or not output.is_terminal():
            return dump({"name": name, "partition": partition, "state": found}) + b"\n"
        return dump(found) + b"\n"

    return run_admin(find_target(settings), ask)


@projection_commands.command("enable", short_help="Start a projection.", epilog=_DONE_EPILOG)
@_name_argument
@json_option
@url_option
def enable(*, name: str, as_json: bool, settings: Settings) -> int:
    """Start a projection; it goes on where it was."""
    return _do(name, "enabled", lambda admin: admin.enable_projection(name), as_json=as_json, settings=settings)


@projection_commands.command("disable", short_help="Stop a projection.", epilog=_DONE_EPILOG)
@_name_argument
@json_option
@url_option
def disable(*, name: str, as_json: bool, settings: Settings) -> int:
    """Stop a projection; it keeps its place."""
    return _do(name, "disabled", lambda admin: admin.disable_projection(name), as_json=as_json, settings=settings)


@projection_commands.command("reset", short_help="Have a projection begin anew.", epilog=_DONE_EPILOG)
@_name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@url_option
def reset(*, name: str, yes: bool, as_json: bool, settings: Settings) -> int:
    """Have a projection begin anew: what it wrote is hidden, and written again.

    At a terminal it asks before; elsewhere it wants --yes.
    """
    if not yes:
        if not can_ask():
            msg = "it asks before it hides what was written, and there is no terminal to ask at: add --yes."
            raise click.UsageError(msg)
        click.confirm(f"Have {clean(name)} begin anew, and write all again?", abort=True, err=True)
    return _do(name, "reset", lambda admin: admin.reset_projection(name), as_json=as_json, settings=settings)


def _do(
    name: str, result: str, command: Callable[[Admin], Awaitable[object]], *, as_json: bool, settings: Settings
) -> int:
    async def ask(admin: Admin) -> bytes:
        await command(admin)
        return told({"name": name, "result": result}, f"projection {clean(name)}: {result}", as_json=as_json)

    return run_admin(find_target(settings), ask)


def _line(projection: ProjectionDetails) -> bytes:
    return dump(asdict(projection)) + b"\n"


def _words(projection: ProjectionDetails) -> bytes:
    reason = f": {clean(projection.reason)}" if projection.reason else ""
    return (
        f"{clean(projection.name)}  {clean(projection.status)}{reason}  at {clean(projection.position)}, "
        f"{projection.processed:,} events\n"
    ).encode()
