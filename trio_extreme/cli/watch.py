"""`trio-extreme watch`: the events that come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.running import notice, run
from trio_extreme.cli.streams import stream_argument
from trio_extreme.cli.views import FORMAT_KEYS, JSON_KEYS, ViewOptions, make_view, view_options
from trio_extreme.client import open_connection
from trio_extreme.values import ALL

if TYPE_CHECKING:
    from trio_extreme.client import Connection
    from trio_extreme.live import LiveSubscription
    from trio_extreme.settings import Settings


@click.command(short_help="Print the events that come, from now on.", epilog=JSON_KEYS + "\n" + FORMAT_KEYS)
@stream_argument(all_allowed=True)
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@view_options
@url_option
def watch(*, stream: str, count: int | None, settings: Settings, **view: Any) -> int:
    """Print what is appended to a stream, or to '$all', from now on, until Ctrl-C.

    The stream need not exist yet. What is appended while the connection is down is not seen: that ends the command.
    """
    options = make_view(**view)
    target = find_target(settings, stream)
    return run(partial(_watch, target, count, options), target)


async def _watch(target: Target, count: int | None, options: ViewOptions) -> None:
    async with open_connection(target.settings) as conn, _subscription(conn, target.stream) as subscription:
        notice(f"watching {target.stream} at {target.address} from now on; Ctrl-C ends")
        async for batch in subscription.batches():
            events = [event for event in batch if options.wants(event)][:count]
            await output.write(options.show(events))
            if count is not None and not (count := count - len(events)):
                return


def _subscription(conn: Connection, stream: str) -> LiveSubscription[Any]:
    return conn.subscribe_all_live() if stream == ALL else conn.subscribe_live(stream)
