"""`trio-extreme report`: which streams there are, and how large."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.lines import created_text, dump
from trio_extreme.cli.progress import ProgressBar
from trio_extreme.cli.running import counted, notice, run
from trio_extreme.cli.streams import is_system_stream
from trio_extreme.cli.views import clean
from trio_extreme.client import open_connection
from trio_extreme.events import TOMBSTONE_TYPE
from trio_extreme.values import ALL, MAX_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trio_extreme.events import LogEvent
    from trio_extreme.settings import Settings

SOFT, HARD = "soft", "hard"
_METASTREAM = "$$"
_NARROW_TOMBSTONE = 2**31 - 1
"""What 3.9 writes for the whole stream into the metadata of one that is soft-deleted; later servers 2**63 - 1."""

_EPILOG = """\
\b
Keys of a JSON line: stream, events (how many the log has), bytes (of their data
and metadata), last (the number of the last one, or null), written (when that was, in
UTC), deleted (soft, hard, or null).
"""


@click.command("report", short_help="List the streams, with their events and size.", epilog=_EPILOG)
@click.option(
    "--sort",
    type=click.Choice(["name", "events", "size", "written"]),
    default="name",
    help="What the order goes by: the most, or the latest, comes first.",
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N streams in that order.")
@click.option("--include-system", is_flag=True, help="The streams whose names begin with $, too.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")
@url_option
def report(*, sort: str, top: int | None, include_system: bool, as_json: bool, settings: Settings) -> int:
    """List the streams of the log, each with its events, their size, and when it was last written.

    It reads the whole log, which by default only members of $admins may, and counts what is there: events that were
    deleted or truncated too, until the log is scavenged. It keeps some 400 bytes a stream in memory.
    """
    target = find_target(settings, ALL)
    job = _Job(target, sort, top, include_system=include_system, as_json=as_json or not output.is_terminal())
    return run(job.run, target)


@dataclass(slots=True)
class _Row:
    """What is known of a stream."""

    stream: str
    events: int = 0
    bytes: int = 0
    last: int | None = None
    written: str = ""
    deleted: str | None = None

    def add(self, event: LogEvent) -> None:
        """Count one more event."""
        self.events += 1
        self.bytes += len(event.data) + len(event.metadata)
        self.last = event.number


_ORDERS: dict[str, Callable[[_Row], Any]] = {
    "events": lambda row: row.events,
    "size": lambda row: row.bytes,
    "written": lambda row: row.written,
}


@dataclass
class _Job:
    target: Target
    sort: str
    top: int | None
    include_system: bool
    as_json: bool
    rows: dict[str, _Row] = field(default_factory=dict)

    async def run(self) -> None:
        async with open_connection(self.target.settings) as conn:
            end = await conn.head()
            with ProgressBar(percent=True) as bar:
                bar.begin("reading the log", end.commit)
                async with conn.read_all() as reader:
                    async for page in reader.pages():
                        self._count(page)
                        bar.show(page[-1].position.commit)
                        if page[-1].position >= end:
                            break
        rows = self._sorted()
        shown = rows[: self.top]
        await output.write(b"".join(map(_line, shown)) if self.as_json else _table(shown))
        notice(_totals(rows))

    def _count(self, page: Iterable[LogEvent]) -> None:
        newest: dict[str, LogEvent] = {}
        for event in page:
            stream = event.stream
            if stream.startswith(_METASTREAM):
                self._look_at_metadata(event)
            if is_system_stream(stream) and not self.include_system:
                continue
            row = self._row(stream)
            if event.type == TOMBSTONE_TYPE and event.number == MAX_NUMBER:
                row.deleted = HARD
            else:
                row.add(event)
            newest[stream] = event
        for stream, event in newest.items():
            self.rows[stream].written = created_text(event)

    def _row(self, stream: str) -> _Row:
        row = self.rows.get(stream)
        if row is None:
            row = self.rows[stream] = _Row(stream)
        return row

    def _look_at_metadata(self, event: LogEvent) -> None:
        """Whether this, the latest metadata of its stream so far, hides all of it."""
        row = self.rows.get(event.stream.removeprefix(_METASTREAM))
        if row is not None and row.deleted != HARD:
            row.deleted = SOFT if _hides_all(event) else None

    def _sorted(self) -> list[_Row]:
        rows = sorted(self.rows.values(), key=lambda row: row.stream)
        return rows if self.sort == "name" else sorted(rows, key=_ORDERS[self.sort], reverse=True)


def _hides_all(metadata: LogEvent) -> bool:
    try:
        document = metadata.json()
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("$tb") in (MAX_NUMBER, _NARROW_TOMBSTONE)


def _line(row: _Row) -> bytes:
    return dump({name: getattr(row, name) for name in _Row.__slots__}) + b"\n"


def _table(rows: Sequence[_Row]) -> bytes:
    table = Table(box=box.SIMPLE)
    table.add_column("stream", overflow="fold")
    for heading in ("events", "size", "last write", "deleted"):
        table.add_column(heading, justify="right" if heading in ("events", "size") else "left", no_wrap=True)
    for row in rows:
        written = f"{row.written[:19]}Z"
        table.add_row(Text(clean(row.stream)), f"{row.events:,}", _size(row.bytes), written, row.deleted or "")
    console = Console(width=Console().width, force_terminal=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().encode()


def _totals(rows: Sequence[_Row]) -> str:
    events, size = sum(row.events for row in rows), sum(row.bytes for row in rows)
    return f"{counted(len(rows), 'stream')}, {counted(events, 'event')}, {_size(size)}"


def _size(size: float) -> str:
    """`999 B`, `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - as the units have it
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
