"""Where to begin: `--from N|start|end|-100`, and a position of the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import trio

from trio_extreme.cli.running import counted
from trio_extreme.errors import InvalidArgument
from trio_extreme.values import ALL, END, MAX_NUMBER, START, Place, Position

if TYPE_CHECKING:
    from trio_extreme.client import Connection
    from trio_extreme.filters import Filter


@dataclass(frozen=True, slots=True)
class FromEnd:
    """So many events before the end."""

    count: int


def parse_place(text: str) -> int | Position | Place | FromEnd:
    """The place that the value of `--from` names."""
    if text in {"start", "end"}:
        return START if text == "start" else END
    try:
        return Position.parse(text) if text.startswith("C:") else _number(text)
    except (ValueError, InvalidArgument):
        msg = f"{text!r} is none; give a number, start, end, or -100 for the last hundred; in $all C:1250/P:1250."
        raise click.BadParameter(msg) from None


def _number(text: str) -> int | FromEnd:
    number = int(text)
    if abs(number) >= MAX_NUMBER:
        raise ValueError
    return FromEnd(-number) if number < 0 else number


async def find_start(
    conn: Connection, stream: str, place: int | Position | Place | FromEnd | None, chosen: Filter | None = None
) -> int | Position | Place | None:
    """The place, where a number of events from the end is looked up: of those that are chosen, in the log."""
    await trio.lowlevel.checkpoint()
    if not isinstance(place, FromEnd):
        return place
    if stream != ALL:
        last = await conn.last_number(stream)
        return START if last is None else max(0, last + 1 - place.count)
    first: Position | None = None
    async for event in conn.read_all(backwards=True, count=place.count, filter=chosen):
        first = event.position
    return START if first is None else first


def check_place(stream: str, place: object) -> None:
    """Raise `click.UsageError` for a place that this stream cannot have."""
    if stream == ALL and isinstance(place, int):
        msg = "--from: the log has no numbers; give start, end, -100, or a position as `read '$all'` prints it."
    elif stream != ALL and isinstance(place, Position):
        msg = "--from: a position is a place in the log, '$all'; in a stream give a number."
    else:
        return
    raise click.UsageError(msg)


def check_direction(place: object, *, backwards: bool) -> None:
    """Raise `click.UsageError` for a place from which there is nothing to read in this direction."""
    if place is END and not backwards:
        msg = "--from end: nothing lies after it; add --backwards, or use `trio-extreme watch`."
    elif isinstance(place, FromEnd) and backwards:
        msg = f"--from -{place.count} --backwards: say --backwards --count {place.count}."
    else:
        return
    raise click.UsageError(msg)


def place_words(place: int | Position | Place | FromEnd) -> str:
    """Where something begins, in words."""
    if isinstance(place, Place):
        return "from now on" if place is END else "from the start"
    if isinstance(place, FromEnd):
        return f"from {counted(place.count, 'event')} before the end"
    return f"from {place}"
