"""`trio-extreme parked`: what a listener put aside with `Park`, and having some of it handled again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import Target, find_target, url_option
from trio_extreme.cli.failures import CommandFailed
from trio_extreme.cli.lines import created_text, dump, to_line, with_keys
from trio_extreme.cli.notes import link_of, noted
from trio_extreme.cli.running import counted, notice, run
from trio_extreme.cli.streams import parse_stream, stream_argument
from trio_extreme.cli.views import clean
from trio_extreme.client import open_connection
from trio_extreme.events import LINK_TYPE, NewEvent
from trio_extreme.values import ANY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.client import Connection
    from trio_extreme.events import Event, RecordedEvent
    from trio_extreme.settings import Settings
    from trio_extreme.values import WriteResult

_EPILOG = """\
\b
Keys of a JSON line: parked (its number in STREAM), stream, number and type of the
event (type is null where that is gone), listener, error, reason and added (who
parked it, why and when; null where the link does not say). With --show those of
read, and parked, listener, error, reason and added. Of replay parked, stream,
number, to and appended (where the new link is).
"""


@click.command(short_help="Print what a listener has parked, or replay it.", epilog=_EPILOG)
@stream_argument(all_allowed=False)
@click.argument("action", type=click.Choice(["replay"]), required=False, metavar="[replay")
@click.argument("numbers", type=click.IntRange(min=0), nargs=-1, metavar="N...]")
@click.option("--show", type=click.IntRange(min=0), metavar="N", help="Print the event behind link N whole.")
@click.option("--to", type=parse_stream, metavar="TARGET", help="The stream that replay appends to.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")
@url_option
def parked(
    *,
    stream: str,
    action: str | None,
    numbers: tuple[int, ...],
    show: int | None,
    to: str | None,
    as_json: bool,
    settings: Settings,
) -> int:
    """Print what a listener with Park(STREAM) has put aside, oldest first, and why.

    With replay, append links to the events behind links N to TARGET, which a listener follows, in this order. What is
    parked stays so.
    """
    _check_replay(stream, action, numbers, show, to)
    target = find_target(settings, stream)
    prints_json = as_json or not output.is_terminal()
    if to is not None:
        return run(_Replay(target, to, tuple(dict.fromkeys(numbers)), as_json=prints_json).run, target)
    if show is not None:
        return run(partial(_show, target, show, as_json=prints_json), target)
    return run(partial(_list, target, as_json=prints_json), target)


def _check_replay(stream: str, action: str | None, numbers: Sequence[int], show: int | None, to: str | None) -> None:
    problem = None
    if action is None:
        problem = None if to is None else "--to: it is for replay: parked STREAM replay N --to TARGET."
    elif not numbers or to is None:
        problem = "replay: it wants the numbers of links, and a stream: parked STREAM replay N --to TARGET."
    elif to == stream:
        problem = f"--to: {to!r} is where they are parked; give a stream that a listener follows."
    elif show is not None:
        problem = "--show: it prints, and replay appends; give one of them."
    if problem is not None:
        raise click.UsageError(problem)


# --- looking


async def _list(target: Target, *, as_json: bool) -> None:
    found = 0
    view = _json_row if as_json else _row
    async with open_connection(target.settings) as conn:
        async for page in conn.read_stream(target.stream, missing_ok=True, require_master=True).pages():
            await output.write(b"".join(map(view, page)))
            found += len(page)
    notice(f"{found:,} parked; replay leaves them here" if found else "nothing is parked")


async def _show(target: Target, number: int, *, as_json: bool) -> None:
    async with open_connection(target.settings) as conn:
        event = await conn.read_event(target.stream, number, require_master=True)
        await output.write(with_keys(to_line(event), **_why(event)) if as_json else _whole(event))
        if not event.resolved:
            notice(_gone(event))


def _why(event: Event) -> dict[str, object]:
    link = link_of(event)
    return {"parked": link.number, **noted(link, "listener", "error", "reason"), "added": created_text(link)}


def _what(event: Event) -> dict[str, object]:
    """Which event it is, also where that is gone."""
    if event.resolved:
        return {"stream": event.stream, "number": event.number, "type": event.type}
    number, _, stream = event.data.decode("utf-8", "backslashreplace").partition("@")
    return {
        "stream": stream,
        "number": int(number) if number.isdecimal() and len(number) < _DIGITS else None,
        "type": None,
    }


_DIGITS = 20
"""More than any number of an event has."""


def _json_row(event: Event) -> bytes:
    why = _why(event)
    return dump({"parked": why["parked"]} | _what(event) | why) + b"\n"


def _row(event: Event) -> bytes:
    what, why = _what(event), _why(event)
    words = [
        f"{why['parked']}",
        clean(f"{what['stream']}/{what['number']}"),
        clean(f"{what['type'] or 'gone'}"),
        f"{why['added']}"[:19] + "Z",
        clean(f"{why['error'] or '?'}: {why['reason'] or ''}"),
    ]
    return ("  ".join(words) + "\n").encode()


def _whole(event: Event) -> bytes:
    """A line for each thing that is known of it; its data last, as far as a terminal can show that."""
    told = _what(event) | {"id": event.id, "created": created_text(event)} | _why(event)
    lines = [f"{name}: {clean(str(value))}" for name, value in told.items() if value is not None]
    for name, content in (("metadata", event.metadata), ("data", event.data)):
        lines += [f"{name}:", *(f"  {clean(line)}" for line in content.decode("utf-8", "replace").split("\n"))]
    return ("\n".join(lines) + "\n").encode()


def _gone(event: Event) -> str:
    what = _what(event)
    return f"{what['stream']}/{what['number']}, behind link {event.number}, is not there any more"


# --- replaying


@dataclass
class _Replay:
    target: Target
    to: str
    numbers: tuple[int, ...]
    as_json: bool
    appended: int = 0

    async def run(self) -> None:
        async with open_connection(self.target.settings) as conn:
            # All are looked at before the first is appended, so that a wrong number changes nothing.
            events = [await self._find(conn, number) for number in self.numbers]
            for event in events:
                result = await conn.append(self.to, self._link(link_of(event)), expected=ANY)
                await self._tell(event, result)
        notice(f"{counted(self.appended, 'link')} appended to {self.to}; what is parked stays in {self.target.stream}")

    async def _find(self, conn: Connection, number: int) -> Event:
        event = await conn.read_event(self.target.stream, number, require_master=True)
        if not event.resolved:
            msg = f"{_gone(event)}; nothing was appended"
            raise CommandFailed(msg, "the same without that number")
        if event.link is None:
            msg = f"event {number} of {self.target.stream!r} is no link to another; nothing was appended"
            raise CommandFailed(msg, "the same without that number")
        return event

    def _link(self, parked: RecordedEvent) -> NewEvent:
        """To the same event. It is a new one each time: what is replayed again is to be handled again."""
        return NewEvent(LINK_TYPE, parked.data, dump({"replayed": f"{parked.number}@{parked.stream}"}))

    async def _tell(self, event: Event, result: WriteResult) -> None:
        self.appended += 1
        told = {"parked": link_of(event).number, "stream": event.stream, "number": event.number}
        told |= {"to": self.to, "appended": result.last}
        words = f"{told['parked']}  {clean(event.stream)}/{event.number} -> {clean(self.to)}/{result.last}"
        try:
            await output.write((dump(told) if self.as_json else words.encode()) + b"\n")
        except BrokenPipeError:
            msg = f"standard output was closed after {counted(self.appended, 'link')} had been appended"
            raise CommandFailed(msg, "the same with >/dev/null, for the rest") from None
