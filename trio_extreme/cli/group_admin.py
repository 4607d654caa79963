"""`trio-extreme group list`, `info` and `replay-parked`: what servers have over HTTP alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli import output
from trio_extreme.cli.administering import PORT, json_option, run_admin, told
from trio_extreme.cli.connecting import find_target, url_option
from trio_extreme.cli.group_options import group_argument
from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import counted, notice
from trio_extreme.cli.streams import parse_stream, stream_argument
from trio_extreme.cli.views import clean
from trio_extreme.values import Place

if TYPE_CHECKING:
    from trio_extreme.admin import Admin
    from trio_extreme.details import GroupDetails, GroupSummary
    from trio_extreme.settings import Settings

_LIST_EPILOG = f"""\
\b
Keys of a JSON line: stream, group, status, consumers, in_flight, processed,
checkpoint and last_known (numbers of events, or null).
{PORT}"""
_INFO_EPILOG = f"""\
\b
Keys of the JSON line: those of group list, and settings, connections, waiting and
retrying (events), parked (how many, or null where the server does not tell).
{PORT}"""
_REPLAY_EPILOG = f"""\
\b
Keys of the JSON line: stream, group, result ("replayed").
{PORT}"""


@click.command("list", short_help="List the groups there are.", epilog=_LIST_EPILOG)
@click.argument("stream", type=parse_stream, required=False)
@json_option
@url_option
def list_groups(*, stream: str | None, as_json: bool, settings: Settings) -> int:
    """List all groups, or those of a stream, and how they are doing."""
    show = _summary_line if as_json or not output.is_terminal() else _summary_words

    async def ask(admin: Admin) -> bytes:
        groups = await admin.groups(stream)
        if not groups:
            notice("there are no groups")
        return b"".join(map(show, groups))

    return run_admin(find_target(settings, stream or ""), ask)


@click.command("info", short_help="Tell all of a group.", epilog=_INFO_EPILOG)
@stream_argument(all_allowed=False)
@group_argument
@json_option
@url_option
def info(*, stream: str, group: str, as_json: bool, settings: Settings) -> int:
    """Tell how a group is run, who consumes, and how many events wait, are out, and are parked."""
    show = _details_line if as_json or not output.is_terminal() else _details_words

    async def ask(admin: Admin) -> bytes:
        return show(await admin.group(stream, group))

    return run_admin(find_target(settings, stream), ask)


@click.command("replay-parked", short_help="Hand out again what is parked.", epilog=_REPLAY_EPILOG)
@stream_argument(all_allowed=False)
@group_argument
@click.option("--stop-at", type=click.IntRange(min=1), metavar="N", help="Leave the parked event N and later ones.")
@json_option
@url_option
def replay_parked(*, stream: str, group: str, stop_at: int | None, as_json: bool, settings: Settings) -> int:
    """Have a group hand out again what it has parked. N is the number that group parked prints as parked."""

    async def ask(admin: Admin) -> bytes:
        await admin.replay_parked(stream, group, stop_at=stop_at)
        words = f"group {group} of stream {stream} hands out again what it has parked"
        return told({"stream": stream, "group": group, "result": "replayed"}, words, as_json=as_json)

    return run_admin(find_target(settings, stream), ask)


def _summary_line(summary: GroupSummary) -> bytes:
    return dump(asdict(summary)) + b"\n"


def _details_line(details: GroupDetails) -> bytes:
    known: dict[str, Any] = asdict(details)
    known = known.pop("summary") | known
    if known["settings"] is not None and isinstance(start := known["settings"]["start_from"], Place):
        known["settings"]["start_from"] = start.value
    return dump(known) + b"\n"


def _summary_words(summary: GroupSummary) -> bytes:
    return (_summary_text(summary) + "\n").encode()


def _summary_text(summary: GroupSummary) -> str:
    place = "no checkpoint" if summary.checkpoint is None else f"checkpoint {summary.checkpoint:,}"
    return (
        f"{clean(summary.stream)}::{clean(summary.group)}  {clean(summary.status)}  "
        f"{counted(summary.consumers, 'consumer')}, {summary.in_flight:,} in flight, {place} of"
        f" {'nothing' if summary.last_known is None else format(summary.last_known, ',')}"
    )


def _details_words(details: GroupDetails) -> bytes:
    lines = [
        _summary_text(details.summary),
        f"  {details.waiting:,} wait for the first time, {details.retrying:,} again",
    ]
    if details.parked is not None:
        lines += [f"  {details.parked:,} parked"]
    if details.settings is not None:
        lines += [f"  {name}: {_value(value)}" for name, value in asdict(details.settings).items()]
    lines += [
        f"  consumer {clean(one.username)} {clean(one.name)} at {one.address}: {one.in_flight:,} in flight"
        for one in details.connections
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _value(value: object) -> object:
    return value.value if isinstance(value, Place) else value
