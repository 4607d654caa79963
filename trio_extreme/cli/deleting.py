"""`trio-extreme delete`: a stream, softly or for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.expecting import expected_option
from trio_extreme.cli.failures import FAILED, CommandFailed
from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import can_ask, counted, notice, run
from trio_extreme.cli.streams import stream_argument
from trio_extreme.client import open_connection
from trio_extreme.errors import AccessDenied
from trio_extreme.values import ANY

if TYPE_CHECKING:
    from trio_extreme.client import Connection
    from trio_extreme.settings import Settings

_EPILOG = """\
\b
Keys of the JSON line: stream, hard, events (how many could be read, or null where
the user may not), first and last (their numbers, or null), position (of the delete
in the log).
"""

_SOFTLY = """\
Softly: nobody reads them any more, and what the server knows of the stream beside
(its metadata: limits and rights) is gone. Who appends to it recreates it; numbers go on.\
"""
_FOR_EVER = """\
For ever: a tombstone is written, and nobody can ever use this name again.\
"""


@click.command(short_help="Delete a stream.", epilog=_EPILOG)
@stream_argument(all_allowed=False)
@click.option("--hard", is_flag=True, help="For ever: the name can never be used again.")
@expected_option(
    "Where the stream must be; by default where it was when you were asked, and with --yes anywhere.",
    default=None,
    exists=False,
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="A JSON line, on a terminal too.")
@url_option
def delete(*, stream: str, hard: bool, expected: int | None, yes: bool, as_json: bool, settings: Settings) -> int:
    """Delete a stream: softly, so that appending recreates it, or with --hard for ever.

    At a terminal it says what there is to lose, and asks; elsewhere it wants --yes.
    """
    if not yes and not can_ask():
        msg = "it asks before it deletes, and there is no terminal to ask at: add --yes."
        raise click.UsageError(msg)
    target = find_target(settings, stream)
    job = _Job(target, expected, hard=hard, as_json=as_json or not output.is_terminal())
    if yes:
        return run(job.look_and_delete, target)
    code = run(job.look, target)
    if code:
        return code
    notice(job.warning())
    if not click.confirm("Delete it?", err=True):
        notice("nothing was deleted")
        return FAILED
    return run(job.delete_what_was_seen, target)


@dataclass
class _Job:
    target: Target
    expected: int | None
    hard: bool
    as_json: bool
    #: The numbers of the first and last event that can be read; None where there is none, or it is not known.
    first: int | None = None
    last: int | None = None
    is_known: bool = True

    @property
    def events(self) -> int | None:
        """How many can be read; None where it is not known."""
        if not self.is_known:
            return None
        return 0 if self.first is None or self.last is None else self.last - self.first + 1

    async def look(self) -> None:
        """Find out what there is."""
        async with open_connection(self.target.settings) as conn:
            await self._look(conn)

    async def look_and_delete(self) -> None:
        """Delete it, wherever it is."""
        async with open_connection(self.target.settings) as conn:
            await self._look(conn)
            await self._delete(conn, ANY)

    async def delete_what_was_seen(self) -> None:
        """Delete it, unless it is not any more what was said of it."""
        async with open_connection(self.target.settings) as conn:
            await self._delete(conn, ANY if self.last is None else self.last)

    async def _look(self, conn: Connection) -> None:  # noqa: ASYNC910 - the first call is a checkpoint, or raises
        stream = self.target.stream
        try:
            self.last = await conn.last_number(stream, require_master=True)
            reading = conn.read_stream(stream, count=1, missing_ok=True, resolve_links=False, require_master=True)
            async for event in reading:
                self.first = event.number
        except AccessDenied:
            # Who may delete need not be one who may read.
            self.is_known = False
        if self.is_known and self.last is None and not self.hard:
            msg = f"stream {stream!r} does not exist, or was deleted softly before"
            raise CommandFailed(msg, "the same with --hard, if its name shall never be used again")

    async def _delete(self, conn: Connection, version: int) -> None:
        expected = version if self.expected is None else self.expected
        result = await conn.delete_stream(self.target.stream, expected=expected, hard=self.hard)
        line = {"stream": self.target.stream, "hard": self.hard, "events": self.events}
        line |= {"first": self.first, "last": self.last}
        line |= {"position": None if result.position is None else str(result.position)}
        await output.write(dump(line) + b"\n" if self.as_json else b"")
        notice(f"{self.target.stream} is deleted{' for ever' if self.hard else ', softly'}")

    def warning(self) -> str:
        """What there is to lose."""
        return f"Stream {self.target.stream} at {self.target.address}: {self._content()}.\n" + (
            _FOR_EVER if self.hard else _SOFTLY
        )

    def _content(self) -> str:
        if self.events is None:
            return "you may not read what is in it"
        if not self.events:
            return "there are no events that can be read"
        return f"{counted(self.events, 'event')}, number {self.first:,} to {self.last:,}"
