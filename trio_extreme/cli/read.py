"""`trio-extreme read`: the events that are there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.filtering import expression_explained, filter_options, make_filter
from trio_extreme.cli.places import check_direction, check_place, find_start, parse_place
from trio_extreme.cli.running import run
from trio_extreme.cli.streams import stream_argument
from trio_extreme.cli.views import FORMAT_KEYS, JSON_KEYS, ViewOptions, make_view, view_options
from trio_extreme.client import open_connection
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from trio_extreme.client import Connection
    from trio_extreme.filters import Filter
    from trio_extreme.reading import Reader
    from trio_extreme.settings import Settings


@click.command(short_help="Print the events that are there.", epilog=JSON_KEYS + "\n" + FORMAT_KEYS)
@stream_argument(all_allowed=True)
@click.option(
    "--from",
    "place",
    type=parse_place,
    metavar="PLACE",
    help="Where to begin: N, start, end, -100 for the last hundred.",
)
@click.option("--count", type=click.IntRange(min=1), help="How many events to print at most.")
@click.option("--backwards", is_flag=True, help="From the end, or from --from, towards the start.")
@filter_options
@view_options
@url_option
def read(
    *,
    stream: str,
    place: Any,
    count: int | None,
    backwards: bool,
    filter_streams: str | None,
    filter_types: str | None,
    settings: Settings,
    **view: Any,
) -> int:
    """Print the events of a stream, or of '$all', the log of all streams, and end.

    In $all, --from also takes a position as it was printed; the event there is included, unless --backwards.
    """
    check_place(stream, place)
    check_direction(place, backwards=backwards)
    chosen = make_filter(stream, filter_streams=filter_streams, filter_types=filter_types)
    options = make_view(**view)
    target = find_target(settings, stream)
    return run(partial(_read, target, place, count, backwards=backwards, chosen=chosen, options=options), target)


async def _read(
    target: Target, place: Any, count: int | None, *, backwards: bool, chosen: Filter | None, options: ViewOptions
) -> None:
    with expression_explained(chosen):
        async with open_connection(target.settings) as conn:
            start = await find_start(conn, target.stream, place, chosen)
            wanted = None if options.types else count
            async with _reader(conn, target.stream, chosen, start=start, backwards=backwards, count=wanted) as reader:
                await _print(reader, count, options)


async def _print(reader: Reader[Any], count: int | None, options: ViewOptions) -> None:
    async for page in reader.pages():
        events = [event for event in page if options.wants(event)][:count]
        await output.write(options.show(events))
        if count is not None and not (count := count - len(events)):
            return


def _reader(conn: Connection, stream: str, chosen: Filter | None, **how: Any) -> Reader[Any]:
    return conn.read_all(filter=chosen, **how) if stream == ALL else conn.read_stream(stream, **how)
