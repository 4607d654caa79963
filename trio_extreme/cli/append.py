"""`trio-extreme append`: events from standard input, one JSON object a line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.expecting import expected_option
from trio_extreme.cli.failures import CommandFailed
from trio_extreme.cli.input import Lines
from trio_extreme.cli.lines import dump, from_line
from trio_extreme.cli.running import counted, notice, run
from trio_extreme.cli.streams import stream_argument
from trio_extreme.client import open_connection
from trio_extreme.errors import InvalidArgument
from trio_extreme.values import ANY, STREAM_EXISTS

if TYPE_CHECKING:
    from trio_extreme.cli.input import Line
    from trio_extreme.events import NewEvent
    from trio_extreme.settings import Settings
    from trio_extreme.values import WriteResult

_EXAMPLE = '{"type": "PersonCreated", "data": {"name": "Pera"}}'

_EPILOG = f"""\
\b
Keys of an input line, all but type optional: type; id, a UUID, which makes
appending the same line twice write it once; data, any JSON, or data_text, or
data_base64; metadata, metadata_text, metadata_base64 likewise. So what `read`
prints can be appended; what else is in such a line is ignored.

\b
Keys of an output line, one for each batch: stream, events (how many), first and
last (their numbers), position (of the last in the log; null where the batch was
there already).

\b
  echo '{_EXAMPLE}' | trio-extreme append people
"""


@click.command(short_help="Append events from standard input.", epilog=_EPILOG)
@stream_argument(all_allowed=False)
@click.option("--type", "default_type", metavar="TYPE", help="The type of lines that do not say one.")
@expected_option("Where the stream must be before the first event; later batches expect what the one before left.")
@click.option("--batch", type=click.IntRange(1, 10_000), default=500, help="Events appended at once, at most.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")
@url_option
def append(
    *, stream: str, default_type: str | None, expected: int, batch: int, as_json: bool, settings: Settings
) -> int:
    """Append events from standard input to a stream, one JSON object a line.

    A batch is written whole or not at all. A line that is wrong ends the command; the events before it are appended.
    """
    target = find_target(settings, stream)
    job = _Job(target, default_type, expected, batch, as_json=as_json or not output.is_terminal())
    return run(job.run, target)


@dataclass
class _Job:
    target: Target
    default_type: str | None
    expected: int
    batch: int
    as_json: bool
    appended: int = 0

    async def run(self) -> None:
        lines = Lines()
        if sys.stdin.isatty():
            notice(f"one JSON object a line, like {_EXAMPLE}; Ctrl-D ends")
        async with open_connection(self.target.settings) as conn:
            send = partial(conn.append, self.target.stream)
            while taken := await lines.take(self.batch):
                events, wrong = self._parse(taken)
                if events:
                    await self._done(await send(events, expected=self.expected), len(events))
                if wrong is not None:
                    raise wrong
        notice(f"{counted(self.appended, 'event')} appended to {self.target.stream}")

    def _parse(self, lines: list[Line]) -> tuple[list[NewEvent], CommandFailed | None]:
        """The events up to the first wrong line, and what is wrong with that."""
        events: list[NewEvent] = []
        for line in lines:
            try:
                events.append(from_line(line.text, self.default_type))
            except InvalidArgument as error:
                before = self.appended + len(events)
                msg = f"line {line.number} of the input: {error}; appended before it: {counted(before, 'event')}"
                return events, CommandFailed(msg, f"the input from line {line.number} on, once that is mended")
        return events, None

    async def _done(self, result: WriteResult, count: int) -> None:
        self.appended += count
        if self.expected not in (ANY, STREAM_EXISTS):
            self.expected = result.last
        try:
            await output.write(self._report(result, count))
        except BrokenPipeError:
            msg = f"standard output was closed after {counted(self.appended, 'event')} had been appended"
            raise CommandFailed(msg, "the same with >/dev/null") from None

    def _report(self, result: WriteResult, count: int) -> bytes:
        if not self.as_json:
            return b""
        position = None if result.position is None else str(result.position)
        line = {"stream": self.target.stream, "events": count, "first": result.first, "last": result.last}
        return dump(line | {"position": position}) + b"\n"
