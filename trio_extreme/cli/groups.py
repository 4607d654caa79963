"""`trio-extreme group`: the groups of persistent subscriptions, and what they have parked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.failures import FAILED, USAGE
from trio_extreme.cli.group_options import group_argument, make_settings, settings_options
from trio_extreme.cli.lines import dump, with_keys
from trio_extreme.cli.notes import link_of, noted
from trio_extreme.cli.running import can_ask, notice, run
from trio_extreme.cli.streams import stream_argument
from trio_extreme.cli.views import FORMAT_KEYS, ViewOptions, make_view, view_options
from trio_extreme.client import open_connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trio_extreme.client import Connection
    from trio_extreme.events import Event
    from trio_extreme.settings import Settings

_EPILOG = """\
\b
Keys of the JSON line: stream, group, result ("created", "existed", "updated" or
"deleted").
"""
_PARKED_EPILOG = f"""\
\b
Keys of a JSON line: those of read, and parked (its number in the stream of parked
events), reason and added (why and when it was parked).

{FORMAT_KEYS}"""
_UNTIL_REPLAYED = "they are kept until group replay-parked"


@click.group("group", invoke_without_command=True)
@click.pass_context
def group_commands(context: click.Context) -> None:
    """Create, change or delete groups: consumers that share the events of a stream (watch --group)."""
    if context.invoked_subcommand is None:
        notice(context.get_help())
        context.exit(USAGE)


def _changing(name: str, short_help: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command about one group, which prints what became of it."""

    def make(command: Callable[..., Any]) -> click.Command:
        command = click.option("--json", "as_json", is_flag=True, help="A JSON line, on a terminal too.")(command)
        command = stream_argument(all_allowed=False)(group_argument(url_option(command)))
        return group_commands.command(name, short_help=short_help, epilog=_EPILOG)(command)

    return make


@_changing("create", "Create a group.")
@settings_options
def create(*, stream: str, group: str, as_json: bool, settings: Settings, **options: Any) -> int:
    """Create a group for a stream, which need not exist yet."""
    wanted = make_settings(options)

    async def change(conn: Connection) -> str:
        await conn.create_persistent(stream, group, wanted)
        return "created"

    return _change(find_target(settings, stream), group, change, as_json=as_json)


@_changing("ensure", "Create a group, where there is none.")
@click.option("--update", is_flag=True, help="Give these settings to one that is there, too.")
@settings_options
def ensure(*, stream: str, group: str, update: bool, as_json: bool, settings: Settings, **options: Any) -> int:
    """Create a group where there is none; one that is there stays as it is, unless there is --update."""
    wanted = make_settings(options)

    async def change(conn: Connection) -> str:
        is_new = await conn.ensure_persistent(stream, group, wanted, update=update)
        return "created" if is_new else "updated" if update else "existed"

    return _change(find_target(settings, stream), group, change, as_json=as_json)


@_changing("update", "Give a group other settings.")
@settings_options
def update(*, stream: str, group: str, as_json: bool, settings: Settings, **options: Any) -> int:
    """Give a group these settings, all of them: what is not named is set to its default.

    It keeps its place in the stream. Consumers are cut off for a moment.
    """
    wanted = make_settings(options)

    async def change(conn: Connection) -> str:
        await conn.update_persistent(stream, group, wanted)
        return "updated"

    return _change(find_target(settings, stream), group, change, as_json=as_json)


@_changing("delete", "Delete a group.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(*, stream: str, group: str, yes: bool, as_json: bool, settings: Settings) -> int:
    """Delete a group, with its place in the stream and what it has parked.

    At a terminal it asks; elsewhere it wants --yes.
    """
    if not yes and not can_ask():
        msg = "it asks before it deletes, and there is no terminal to ask at: add --yes."
        raise click.UsageError(msg)
    target = find_target(settings, stream)
    if not yes:
        notice(
            f"Group {group} of stream {stream} at {target.address}: its place in the stream and the list of what it"
            " has parked are gone then, and its consumers end. The events stay in their streams."
        )
        if not click.confirm("Delete it?", err=True):
            notice("nothing was deleted")
            return FAILED

    async def change(conn: Connection) -> str:
        await conn.delete_persistent(stream, group)
        return "deleted"

    return _change(target, group, change, as_json=as_json)


def _change(target: Target, group: str, change: Callable[[Connection], Awaitable[str]], *, as_json: bool) -> int:
    prints = as_json or not output.is_terminal()

    async def tell() -> None:
        async with open_connection(target.settings) as conn:
            result = await change(conn)
            line = {"stream": target.stream, "group": group, "result": result}
            await output.write(dump(line) + b"\n" if prints else b"")
            notice(f"group {group} of stream {target.stream} {_SAID[result]}")

    return run(tell, target)


_SAID = {"created": "is created", "existed": "was there already", "updated": "is updated", "deleted": "is deleted"}


@group_commands.command("parked", short_help="Print what a group has parked.", epilog=_PARKED_EPILOG)
@stream_argument(all_allowed=False)
@group_argument
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@view_options
@url_option
def parked(*, stream: str, group: str, count: int | None, settings: Settings, **view: Any) -> int:
    """Print the events that a group has parked, oldest first.

    Those were given up: delivered too often, or naked with PARK. By default only members of $admins may look.
    """
    target = find_target(settings, stream)
    return run(partial(_print_parked, target, group, count, make_view(**view)), target)


async def _print_parked(target: Target, group: str, count: int | None, options: ViewOptions) -> None:
    found = 0
    async with open_connection(target.settings) as conn:
        name = f"$persistentsubscription-{target.stream}::{group}-parked"
        async for page in conn.read_stream(name, missing_ok=True, require_master=True).pages():
            wanted = [event for event in page if options.wants(event)][: None if count is None else count - found]
            await output.write(_show(wanted, options))
            found += len(wanted)
            if found == count:
                break
    notice(f"{found:,} parked; {_UNTIL_REPLAYED}" if found else "nothing is parked")


def _show(events: Sequence[Event], options: ViewOptions) -> bytes:
    if not options.is_json:
        return options.show(events)
    return b"".join(with_keys(options.view(event), **_why(event)) for event in events)


def _why(event: Event) -> dict[str, object]:
    """What the group wrote down when it parked this."""
    link = link_of(event)
    return {"parked": link.number, **noted(link, "reason", "added")}
