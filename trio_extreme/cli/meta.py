"""`trio-extreme meta`: what is said of a stream beside its events."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.expecting import expected_option
from trio_extreme.cli.failures import FAILED, USAGE, WRONG_VERSION, CommandFailed
from trio_extreme.cli.input import Lines
from trio_extreme.cli.lines import dump
from trio_extreme.cli.meta_options import Changes, change_options, shown
from trio_extreme.cli.running import notice, run
from trio_extreme.cli.streams import owner_argument
from trio_extreme.cli.views import clean
from trio_extreme.client import open_connection
from trio_extreme.errors import OutcomeUnknown, WrongExpectedVersion
from trio_extreme.events import MAX_EVENT_SIZE
from trio_extreme.metadata import StreamMetadata, dump as dump_value
from trio_extreme.values import NO_STREAM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_extreme.client import Connection
    from trio_extreme.settings import Settings

_EXAMPLE = '{"$maxCount": 1000, "$acl": {"$w": ["jane", "staff"]}, "owner": "Pera"}'

_UNSAID = "-"

_GET_EPILOG = """\
\b
Keys of the JSON line: stream, version (the number of the event that holds it, -1
where nobody set any), metadata (as it is stored: $maxAge and $cacheControl in
seconds, $maxCount, $tb, $acl, and keys of one's own), problem (why servers do not
obey what is stored, and metadata is null, or null).
"""

_SET_EPILOG = f"""\
\b
TIME is a number of seconds, or like 90s, 15m, 12h, 7d. A ROLE is a user, or a
group; $all is everybody. '' leaves a right to members of $admins, who have all
rights anyway. none takes a setting out.

\b
Keys of the JSON line: stream, version (the new one), changed (the keys that
differ), before and after (the whole metadata; before is null where servers did not
obey what was stored).

\b
  trio-extreme meta set people --max-count 1000 --write jane,staff
  echo '{_EXAMPLE}' | trio-extreme meta set people --replace
"""


@click.group(invoke_without_command=True)
@click.pass_context
def meta(context: click.Context) -> None:
    """Show or set the metadata of a stream: its limits, who may do what to it, and keys of one's own."""
    if context.invoked_subcommand is None:
        notice(context.get_help())
        context.exit(USAGE)


@meta.command("get", short_help="Show the metadata of a stream.", epilog=_GET_EPILOG)
@owner_argument
@click.option("--json", "as_json", is_flag=True, help="A JSON line, on a terminal too.")
@url_option
def get(*, stream: str, as_json: bool, settings: Settings) -> int:
    """Show the metadata of a stream, or the rights on '$all', the log of all streams."""
    target = find_target(settings, stream)
    return run(partial(_get, target, as_json=as_json or not output.is_terminal()), target)


async def _get(target: Target, *, as_json: bool) -> None:
    async with open_connection(target.settings) as conn:
        stored = await conn.get_metadata(target.stream)
    if as_json:
        line = _line(
            stream=dump(target.stream),
            version=dump(stored.version),
            metadata=_json(stored),
            problem=dump(stored.problem),
        )
        await output.write(line)
    else:
        await output.write(_table(_title(target.stream, stored), shown(stored)))
    if stored.problem is not None:
        notice(f"what is stored cannot be read, and servers do not obey it: {stored.problem}")
        notice(f"try: trio-extreme read {shlex.quote('$$' + target.stream)} --raw{target.flag}, which shows it")


@meta.command("set", short_help="Change the metadata of a stream.", epilog=_SET_EPILOG)
@owner_argument
@change_options
@click.option("--replace", is_flag=True, help="Take all of it from standard input, as JSON; what is not in it is gone.")
@expected_option("The version it must have; by default it is the one that was read a moment before.", default=None)
@click.option("--json", "as_json", is_flag=True, help="A JSON line, on a terminal too.")
@url_option
def set_(*, stream: str, replace: bool, expected: int | None, as_json: bool, settings: Settings, **options: Any) -> int:
    """Change the metadata of a stream, or the rights on '$all', and show what changed; the rest of it stays.

    Where somebody else changes it at the same moment nothing is written, and the same command can be given again.
    """
    changes = Changes.given(**options)
    if replace == bool(changes):
        msg = "--replace takes all from standard input: give it alone." if replace else "nothing to set; see --help."
        raise click.UsageError(msg)
    target = find_target(settings, stream)
    job = _Job(target, None if replace else changes, expected, as_json=as_json or not output.is_terminal())
    return run(job.run, target)


@dataclass
class _Job:
    target: Target
    #: None where all is replaced.
    changes: Changes | None
    expected: int | None
    as_json: bool

    async def run(self) -> None:
        given = await _read_input() if self.changes is None else None
        async with open_connection(self.target.settings) as conn:
            stored = await conn.get_metadata(self.target.stream, require_master=True)
            wanted = self._change(stored) if given is None else given
            version = await self._write(conn, stored, wanted)
        await self._tell(stored, wanted.replace(version=version))

    def _change(self, stored: StreamMetadata) -> StreamMetadata:
        if stored.problem is not None:
            msg = f"what is stored cannot be read, and changing it would destroy it: {stored.problem}"
            raise CommandFailed(msg, "the same with --replace, and all of it as JSON on standard input")
        assert self.changes is not None
        return self.changes.apply(stored)

    async def _write(self, conn: Connection, stored: StreamMetadata, wanted: StreamMetadata) -> int:
        """The version that is stored then."""
        if self.expected is None and _members_of(stored) == _members_of(wanted):
            return stored.version  # noqa: ASYNC910 - what is stored was waited for
        expected = stored.version if self.expected is None else self.expected
        try:
            return (await conn.set_metadata(self.target.stream, wanted, expected=expected)).last
        except (OutcomeUnknown, WrongExpectedVersion) as error:
            hint = f"trio-extreme meta get {shlex.quote(self.target.stream)}{self.target.flag}, to see what is stored"
            code = WRONG_VERSION if isinstance(error, WrongExpectedVersion) else FAILED
            raise CommandFailed(str(error), hint, code) from error

    async def _tell(self, before: StreamMetadata, after: StreamMetadata) -> None:
        if self.as_json:
            line = _line(
                stream=dump(self.target.stream),
                version=dump(after.version),
                changed=dump(_changed(before, after)),
                before=_json(before),
                after=_json(after),
            )
            await output.write(line)
        else:
            await output.write(_table(_title(self.target.stream, after), _differences(before, after)))
        if before.version == after.version:
            notice("nothing was to be changed, and nothing was written")


async def _read_input() -> StreamMetadata:
    lines = Lines()
    if sys.stdin.isatty():
        notice(f"one JSON object, like {_EXAMPLE}; Ctrl-D ends")
    data = b""
    while taken := await lines.take(1000):
        data += b"\n".join([line.text for line in taken]) + b"\n"
        if len(data) > MAX_EVENT_SIZE:
            msg = f"standard input has more than {MAX_EVENT_SIZE:,} bytes, which no server takes"
            raise CommandFailed(msg, "the same with less")
    metadata = StreamMetadata.parse(data)
    if metadata.problem is not None:
        msg = f"standard input is no metadata that servers obey: {metadata.problem}"
        raise CommandFailed(msg, f"the same with a JSON object, like {_EXAMPLE}")
    return metadata


def _json(metadata: StreamMetadata) -> bytes:
    return b"null" if metadata.problem is not None else metadata.to_json()


def _members_of(metadata: StreamMetadata) -> dict[str, bytes] | None:
    """What is stored, key by key; None where it could not be read."""
    if metadata.problem is not None:
        return None
    return {key: dump_value(value) for key, value in json.loads(metadata.to_json()).items()}


def _changed(before: StreamMetadata, after: StreamMetadata) -> list[str]:
    """The keys that differ."""
    was, now = _members_of(before) or {}, _members_of(after) or {}
    return [key for key in {**was, **now} if was.get(key) != now.get(key)]


def _differences(before: StreamMetadata, after: StreamMetadata) -> dict[str, str]:
    was, now = shown(before), shown(after)
    labels = [label for label in {**was, **now} if was.get(label) != now.get(label)]
    return {label: f"{was.get(label, _UNSAID)} → {now.get(label, _UNSAID)}" for label in labels}


def _title(stream: str, metadata: StreamMetadata) -> str:
    if metadata.version == NO_STREAM:
        return f"{stream} has no metadata"
    return f"metadata of {stream}, version {metadata.version}"


def _line(**members: bytes) -> bytes:
    """One line of JSON, of values that are JSON already."""
    return b"{%s}\n" % b",".join(b"%s:%s" % (dump(key), value) for key, value in members.items())


def _table(title: str, rows: Mapping[str, str]) -> bytes:
    width = max(map(len, rows), default=0)
    lines = [title, *(f"  {label:<{width}}  {text}" for label, text in rows.items())]
    # Half of a surrogate pair, which JSON can hold, cannot be shown.
    return "".join(f"{clean(line)}\n" for line in lines).encode(errors="replace")
