"""`trio-extreme export`: streams, or the log, as lines of which `import` makes the same events again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
import trio

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.failures import CommandFailed
from trio_extreme.cli.lines import to_exact_line
from trio_extreme.cli.places import check_direction, check_place, find_start, parse_place
from trio_extreme.cli.progress import ProgressBar
from trio_extreme.cli.running import counted, notice, run
from trio_extreme.cli.streams import is_system_stream, streams_argument
from trio_extreme.cli.views import clean
from trio_extreme.client import open_connection
from trio_extreme.errors import StreamDeleted
from trio_extreme.tasks import open_plain_nursery
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.client import Connection
    from trio_extreme.events import Event, LogEvent
    from trio_extreme.settings import Settings
    from trio_extreme.values import Position

_EPILOG = """\
\b
Keys of a line: stream, number, id, type, is_json (whether the writer said so),
created (UTC), data where it is JSON and stands in one line, data_text where it is
other text, else data_base64; metadata (null where there is none), metadata_text,
metadata_base64 likewise. All is there to the last byte.

\b
  trio-extreme export people orders >fixture.jsonl
  trio-extreme import --url eventstore://elsewhere:1113 <fixture.jsonl
"""


@click.command("export", short_help="Print streams as lines that can be imported.", epilog=_EPILOG)
@streams_argument
@click.option(
    "--from",
    "place",
    type=parse_place,
    metavar="PLACE",
    help="Where to begin, in each stream: N, start, -100 for the last hundred.",
)
@click.option("--count", type=click.IntRange(min=1), help="How many events of each stream to export at most.")
@click.option(
    "--exclude-system",
    is_flag=True,
    help="Of $all, leave out the streams whose names begin with $: metadata, statistics, what projections write.",
)
@url_option
def export_streams(
    *, streams: tuple[str, ...], place: Any, count: int | None, exclude_system: bool, settings: Settings
) -> int:
    """Print the events of streams, or of '$all', as JSON lines that `trio-extreme import` takes.

    It ends with what was there when it began. Links are exported as the links they are. Of '$all' comes what can still
    be read in its stream: the log also holds what was deleted or truncated, until it is scavenged.
    """
    if exclude_system and streams != (ALL,):
        msg = "--exclude-system: it is for $all; the streams that you name are exported."
        raise click.UsageError(msg)
    for stream in streams:
        check_place(stream, place)
        check_direction(place, backwards=False)
    target = find_target(settings, streams[0])
    job = _Job(target, streams, place, count, exclude_system=exclude_system)
    return run(job.run, target)


@dataclass
class _Job:
    target: Target
    streams: tuple[str, ...]
    place: Any
    count: int | None
    exclude_system: bool
    # Where the lines come on the same terminal, they tell enough.
    bar: ProgressBar = field(default_factory=lambda: ProgressBar(percent=True, hidden=output.is_terminal()))
    exported: int = 0

    async def run(self) -> None:
        async with open_connection(self.target.settings) as conn:
            with self.bar:
                words = await (self._export_log(conn) if self.streams == (ALL,) else self._export_streams(conn))
        notice(f"{counted(self.exported, 'event')} {words}")

    async def _write(self, events: Sequence[Event]) -> None:
        await output.write(b"".join(map(to_exact_line, events)))
        self.exported += len(events)

    async def _export_streams(self, conn: Connection) -> str:
        ends = [await _last_number(conn, stream) for stream in self.streams]
        for stream, last in zip(self.streams, ends, strict=True):
            self.bar.begin(clean(stream), last + 1)
            await self._export(conn, stream, last)
        return f"of {counted(len(ends), 'stream')} exported"  # noqa: ASYNC910 - there was at least one

    async def _export(self, conn: Connection, stream: str, last: int) -> None:
        """Export a stream up to an event."""
        start: Any = await find_start(conn, stream, self.place)
        async with conn.read_stream(stream, start=start, count=self.count, resolve_links=False) as reader:
            async for page in reader.pages():
                await self._write([event for event in page if event.number <= last])
                self.bar.show(page[-1].number + 1)
                if page[-1].number >= last:
                    break

    async def _export_log(self, conn: Connection) -> str:
        end = await conn.head()
        start: Any = await find_start(conn, ALL, self.place)
        log = _Log(conn, end, exclude_system=self.exclude_system)
        self.bar.begin(ALL, end.commit)
        async with conn.read_all(start=start) as reader:
            async for page in reader.pages():
                events = await log.select(page)
                await self._write(events if self.count is None else events[: self.count - self.exported])
                self.bar.show(page[-1].position.commit)
                if page[-1].position >= end or self.exported == self.count:
                    break
        hidden = f", {log.hidden:,} left out that were deleted or truncated" if log.hidden else ""
        return f"of the log exported{hidden}"


async def _last_number(conn: Connection, stream: str) -> int:
    last = await conn.last_number(stream)
    if last is None:
        msg = f"stream {stream!r} does not exist, or was deleted (softly); nothing was exported"
        raise CommandFailed(msg, "trio-extreme report, which lists the streams there are; or the same without this one")
    return last


class _Log:
    """What of the log is exported: the events that their streams still show.

    Each stream is asked once, when its first event comes, where it begins now. So this keeps a number a stream.
    """

    def __init__(self, conn: Connection, end: Position, *, exclude_system: bool) -> None:
        self.hidden = 0
        self._conn = conn
        self._end = end
        self._exclude_system = exclude_system
        self._first: dict[str, int | None] = {}

    async def select(self, page: Sequence[LogEvent]) -> list[LogEvent]:
        """The events of a page that are exported."""
        wanted = [event for event in page if self._wants(event)]
        async with open_plain_nursery() as nursery:
            for stream in dict.fromkeys(event.stream for event in wanted):
                if stream not in self._first:
                    nursery.start_soon(self._ask, stream)
        shown = [event for event in wanted if self._shows(event)]
        self.hidden += len(wanted) - len(shown)
        return shown

    def _wants(self, event: LogEvent) -> bool:
        return event.position < self._end and not (self._exclude_system and is_system_stream(event.stream))

    async def _ask(self, stream: str) -> None:
        """Where the stream begins; None where it shows nothing."""
        await trio.lowlevel.checkpoint()
        self._first[stream] = None
        try:
            async for event in self._conn.read_stream(stream, count=1, resolve_links=False, missing_ok=True):
                self._first[stream] = event.number
        except StreamDeleted:
            pass

    def _shows(self, event: LogEvent) -> bool:
        first = self._first[event.stream]
        return first is not None and event.number >= first
