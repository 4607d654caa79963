"""`trio-extreme watch`: the events that are there from a place on, and those that come."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import trio
from click.core import ParameterSource

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.consuming import consume
from trio_extreme.cli.filtering import expression_explained, filter_options, make_filter
from trio_extreme.cli.group_options import parse_group
from trio_extreme.cli.places import check_place, find_start, parse_place, place_words
from trio_extreme.cli.running import log_shown, notice, run
from trio_extreme.cli.streams import stream_argument
from trio_extreme.cli.views import FORMAT_KEYS, JSON_KEYS, ViewOptions, make_view, view_options
from trio_extreme.client import open_connection
from trio_extreme.errors import TrioExtremeError
from trio_extreme.events import Event
from trio_extreme.notices import CaughtUp, FellBehind, Notice, Reconnected, StreamMissing
from trio_extreme.tasks import open_plain_nursery
from trio_extreme.values import ALL, END

if TYPE_CHECKING:
    from trio_extreme.catching_up import CatchUpSubscription
    from trio_extreme.client import Connection
    from trio_extreme.filters import Filter
    from trio_extreme.settings import Settings

    Item: TypeAlias = Event | Notice | TrioExtremeError

AHEAD = 64
"""Events that are taken while earlier ones are written; what more there is, the subscription keeps or reads again."""

_ONLY_WITHOUT_GROUP = ("place", "exit_at_end", "types", "filter_streams", "filter_types")

_WORDS: dict[type[Notice], str] = {
    CaughtUp: "caught up; what follows comes as it is written",
    FellBehind: "events came faster than they were printed; reading them from the store until this has caught up",
    Reconnected: "connected again; nothing was missed",
    StreamMissing: "the stream has never been written, or was deleted; waiting for its first event",
    # AheadOfServer is told by the log, and `log_shown` shows it; a place between events is nothing to who watches.
}


@click.command(short_help="Print the events that come.", epilog=JSON_KEYS + "\n" + FORMAT_KEYS)
@stream_argument(all_allowed=True)
@click.option(
    "--from",
    "place",
    type=parse_place,
    default="end",
    metavar="PLACE",
    help="Where to begin: N, start, end, which is now, -100 for the last hundred.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--exit-at-end", is_flag=True, help="End when all that is stored has been printed.")
@click.option("--group", type=parse_group, help="Be a consumer of this group: ack what was printed.")
@click.option("--in-flight", type=click.IntRange(1), default=10, help="Events that the group sends before an ack.")
@filter_options
@view_options
@url_option
def watch(
    *,
    stream: str,
    place: Any,
    count: int | None,
    exit_at_end: bool,
    group: str | None,
    in_flight: int,
    filter_streams: str | None,
    filter_types: str | None,
    settings: Settings,
    **view: Any,
) -> int:
    """Print what is appended to a stream, or to '$all', until Ctrl-C; with --from what was appended before, too.

    Each event comes once, in order, whatever breaks meanwhile: when the connection is lost, it is opened again. The
    stream need not exist yet. In $all, --from also takes a position as it was printed; the event there is included.

    With --group the server keeps the place, and hands out each event to one of the group's consumers, at least once.
    """
    if group is not None:
        _check_consuming(stream)
        target = find_target(settings, stream)
        with log_shown():
            return run(partial(consume, target, group, in_flight, count, make_view(**view)), target)
    check_place(stream, place)
    if exit_at_end and place is END:
        msg = "--exit-at-end: from now on there is no end to come to; add --from start, a number, or -100."
        raise click.UsageError(msg)
    chosen = make_filter(stream, filter_streams=filter_streams, filter_types=filter_types)
    target = find_target(settings, stream)
    printer = _Printer(make_view(**view), count, exit_at_end=exit_at_end)
    with log_shown():
        return run(partial(_watch, target, place, chosen, printer), target)


def _check_consuming(stream: str) -> None:
    """Refuse what the group has to say, and what would keep events from whoever wants them."""
    context = click.get_current_context()
    for name in _ONLY_WITHOUT_GROUP:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--from" if name == "place" else f"--{name.replace('_', '-')}"
            msg = f"{flag}: a group has its own place and hands out all events; leave it out, or leave out --group."
            raise click.UsageError(msg)
    if stream == ALL:
        msg = "--group: there are no groups on $all; give a stream."
        raise click.UsageError(msg)


async def _watch(target: Target, place: Any, chosen: Filter | None, printer: _Printer) -> None:
    with expression_explained(chosen):
        await _follow(target, place, chosen, printer)


async def _follow(target: Target, place: Any, chosen: Filter | None, printer: _Printer) -> None:
    async with open_connection(target.settings) as conn:
        start = await find_start(conn, target.stream, place, chosen)
        async with _subscription(conn, target.stream, start, chosen) as events, open_plain_nursery() as nursery:
            notice(f"watching {target.stream} at {target.address} {place_words(place)}; Ctrl-C ends")
            ahead, items = trio.open_memory_channel["Item"](AHEAD)
            nursery.start_soon(_take, events, ahead)
            await printer.print(items)
            nursery.cancel_scope.cancel()


def _subscription(conn: Connection, stream: str, start: Any, chosen: Filter | None) -> CatchUpSubscription[Any]:
    return conn.subscribe_all(start=start, filter=chosen) if stream == ALL else conn.subscribe(stream, start=start)


async def _take(events: CatchUpSubscription[Any], ahead: trio.MemorySendChannel[Item]) -> None:
    """Take what comes, up to the error that ends it, while earlier events are written."""
    try:
        async for item in events.with_notices():
            await ahead.send(item)
    except TrioExtremeError as error:
        # Behind the events that came before it.
        await ahead.send(error)


class _Printer:
    """Prints events on standard output and says notices on standard error, each in its place."""

    def __init__(self, options: ViewOptions, count: int | None, *, exit_at_end: bool) -> None:
        self._options = options
        self._left = count
        self._exit_at_end = exit_at_end
        self._done = False

    async def print(self, items: trio.MemoryReceiveChannel[Item]) -> None:
        """Print until this is done, or until an error comes, which is raised. What came together is one write."""
        while True:
            events: list[Event] = []
            item = await items.receive()
            with suppress(trio.WouldBlock):
                while isinstance(item, Event):
                    events.append(item)
                    item = items.receive_nowait()
            await self._show(events)
            if not isinstance(item, Event) and not self._done:
                self._say(item)
            if self._done:
                return

    async def _show(self, events: list[Event]) -> None:  # noqa: ASYNC910 - receiving them was a checkpoint
        wanted = [event for event in events if self._options.wants(event)][: self._left]
        if wanted:
            await output.write(self._options.show(wanted))
        if self._left is not None:
            self._left -= len(wanted)
            self._done = not self._left

    def _say(self, item: Notice | TrioExtremeError) -> None:
        if isinstance(item, TrioExtremeError):
            raise item
        if words := _WORDS.get(type(item)):
            notice(words)
        self._done = self._exit_at_end and isinstance(item, CaughtUp)
