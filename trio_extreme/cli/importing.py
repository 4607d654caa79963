"""`trio-extreme import`: what `export` printed, from standard input, each event once."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.expecting import expected_option
from trio_extreme.cli.failures import CommandFailed
from trio_extreme.cli.input import STDIN, Lines
from trio_extreme.cli.lines import dump, parse_line
from trio_extreme.cli.once import Additions, Once
from trio_extreme.cli.progress import ProgressBar
from trio_extreme.cli.running import counted, notice, run
from trio_extreme.cli.streams import parse_stream
from trio_extreme.client import open_connection
from trio_extreme.errors import InvalidArgument
from trio_extreme.events import LINK_TYPE
from trio_extreme.operations.checks import check_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio_extreme.cli.input import Line
    from trio_extreme.client import Connection
    from trio_extreme.events import NewEvent
    from trio_extreme.settings import Settings

BATCH_BYTES = 1024 * 1024
"""Bytes of data that are appended at once; an event that has more goes alone."""

_EPILOG = """\
\b
Keys of an input line: as `append` takes them, but id is needed, and stream,
unless --stream says where all go.

\b
Keys of an output line, one for each stream: stream, imported (how many events
were written), present (how many were there already), first and last (the numbers
of those written, or null).

\b
  trio-extreme export people >people.jsonl
  trio-extreme import --stream people-copy <people.jsonl
"""


@click.command("import", short_help="Append what was exported, each event once.", epilog=_EPILOG)
@click.option("--stream", type=parse_stream, metavar="STREAM", help="Where all events go, whatever their lines say.")
@expected_option("Where each stream must be before the first event of the input: what follows there must be the input.")
@click.option("--batch", type=click.IntRange(1, 10_000), default=500, help="Events appended at once, at most.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")
@url_option
def import_events(*, stream: str | None, expected: int, batch: int, as_json: bool, settings: Settings) -> int:
    """Append the events that `trio-extreme export` printed, from standard input, in their order.

    Each event is written once, by its id: before the first one the stream is read, and what it has is left out. So the
    same command again goes on where it was interrupted. Nobody else's events are overtaken: each batch expects the
    stream as it was read, and where somebody wrote to it meanwhile, it is read on.

    Numbers and times are the server's to give: the events get new ones. Everything else is as it was exported.
    """
    target = find_target(settings, stream or "")
    job = _Job(target, stream, expected, batch, as_json=as_json or not output.is_terminal())
    return run(job.run, target)


class _Item(NamedTuple):
    """An event of the input, where it goes, and the number it had."""

    stream: str
    event: NewEvent
    number: object


@dataclass
class _Job:
    target: Target
    stream: str | None
    expected: int
    batch: int
    as_json: bool
    streams: dict[str, Once] = field(default_factory=dict)
    links: int = 0
    #: The first event that got another number: the old one, the stream, the new one.
    renumbered: tuple[object, str, int] | None = None

    async def run(self) -> None:
        lines = Lines()
        async with open_connection(self.target.settings) as conn:
            try:
                await self._import(conn, lines)
            finally:
                # However it ends, whoever waits is told how far it came.
                notice(self._summary())
        for words in self._remarks():
            notice(words)
        await output.write(b"".join(map(self._report, self.streams.values())) if self.as_json else b"")

    async def _import(self, conn: Connection, lines: Lines) -> None:
        size = _input_size()
        done = 0
        with ProgressBar(percent=size is not None) as bar:
            bar.begin("importing", size)
            while taken := await lines.take(self.batch):
                items, wrong = self._parse(taken)
                for batch in _batches(items):
                    await self._write(conn, batch)
                if wrong is not None:
                    raise wrong
                done += len(taken) if size is None else sum(len(line.text) + 1 for line in taken)
                bar.show(done)

    def _parse(self, lines: Sequence[Line]) -> tuple[list[_Item], CommandFailed | None]:
        """The events up to the first wrong line, and what is wrong with that."""
        items: list[_Item] = []
        for line in lines:
            try:
                items.append(self._item(line.text))
            except InvalidArgument as error:
                msg = f"line {line.number} of the input: {error}; what stands before it was imported"
                return items, CommandFailed(msg, "the same once that is mended: what is there already is left out")
        return items, None

    def _item(self, text: bytes) -> _Item:
        parsed = parse_line(text)
        if parsed.members.get("id") is None:
            msg = 'no "id" in it, by which it is known whether it was imported; `append` takes such lines'
            raise InvalidArgument(msg)
        stream = self.stream or parsed.members.get("stream")
        if stream is None:
            msg = 'no "stream" in it, and no --stream'
            raise InvalidArgument(msg)
        return _Item(check_stream(stream), parsed.event, parsed.members.get("number"))

    async def _write(self, conn: Connection, batch: Sequence[_Item]) -> None:
        name = batch[0].stream
        if name not in self.streams:
            self.streams[name] = Once(conn, name, self.expected)
        additions = await self.streams[name].write([item.event for item in batch])
        if additions is not None:
            self._remember(batch, additions)

    def _remember(self, batch: Sequence[_Item], additions: Additions) -> None:
        self.links += sum(event.type == LINK_TYPE for event in additions.events)
        if self.renumbered is None:
            old = {item.event.id_bytes: item.number for item in batch}
            for number, event in enumerate(additions.events, additions.first):
                before = old[event.id_bytes]
                if before not in (None, number):
                    self.renumbered = before, batch[0].stream, number
                    break

    def _summary(self) -> str:
        imported = sum(stream.written for stream in self.streams.values())
        present = sum(stream.present for stream in self.streams.values())
        were = "was" if present == 1 else "were"
        return f"{counted(imported, 'event')} imported" + (f", {present:,} {were} there already" if present else "")

    def _remarks(self) -> Iterator[str]:
        if self.renumbered is not None:
            before, stream, now = self.renumbered
            yield f"their numbers are the server's to give: what was exported as event {before} is {now} of {stream}"
        if self.links and (self.renumbered is not None or self.stream is not None):
            yield f"{counted(self.links, 'link')} among them: links name stream and number as they were exported"

    @staticmethod
    def _report(stream: Once) -> bytes:
        numbers = {"first": stream.first, "last": stream.last} if stream.written else {"first": None, "last": None}
        line = {"stream": stream.name, "imported": stream.written, "present": stream.present}
        return dump(line | numbers) + b"\n"


def _batches(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    """The items in their order, in lists that can be appended at once: of one stream, and not too large."""
    for _, group in groupby(items, lambda item: item.stream):
        batch: list[_Item] = []
        size = 0
        for item in group:
            size += len(item.event.data) + len(item.event.metadata)
            if batch and size > BATCH_BYTES:
                yield batch
                batch, size = [], len(item.event.data) + len(item.event.metadata)
            batch.append(item)
        yield batch


def _input_size() -> int | None:
    """Bytes of standard input, where that is a file."""
    status = os.fstat(STDIN)
    return status.st_size if stat.S_ISREG(status.st_mode) else None
