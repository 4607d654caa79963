"""`trio-extreme ping`: whether the server answers, and how fast."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from trio_extreme.cli import output
from trio_extreme.cli.connecting import find_target, url_argument
from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import run
from trio_extreme.client import open_connection

if TYPE_CHECKING:
    from trio_extreme.cli.connecting import Target
    from trio_extreme.settings import Settings

_EPILOG = """\
\b
trio-extreme ping --count 10
trio-extreme ping 'eventstore+seeds://h1:2113,h2:2113?mode=read'
"""


@click.command(short_help="Ask the server for a sign of life.", epilog=_EPILOG)
@click.option("--count", type=click.IntRange(1), default=1, help="How often.")
@click.option("--interval", type=click.FloatRange(0), default=1.0, help="Seconds between.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")
@url_argument
def ping(*, count: int, interval: float, as_json: bool, settings: Settings, subject: Settings | None) -> int:
    """Connect and ask the server for a sign of life, with the credentials of the URL; print how long each took."""
    target = find_target(subject or settings)
    as_json = as_json or not output.is_terminal()
    return run(partial(_ping, target, count, interval, as_json=as_json), target)


async def _ping(target: Target, count: int, interval: float, *, as_json: bool) -> None:
    async with open_connection(target.settings) as conn:
        for number in range(1, count + 1):
            seconds = await conn.ping()
            node = getattr(await anext(conn.changes()), "host", None)
            if as_json:
                line = dump({"number": number, "seconds": round(seconds, 6), "host": node})
            else:
                line = f"{number}: {seconds * 1000:.2f} ms from {node or target.address}".encode()
            await output.write(line + b"\n")
            if number < count:
                await trio.sleep(interval)
