"""How an event is shown: a JSON line, its bare data, a format of the user's, or a line for a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from trio_extreme.cli import output
from trio_extreme.cli.lines import created_text, to_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_extreme.events import Event

PREVIEW = 1000
"""Bytes of data that a terminal's line is made of at most; most do not fit."""

JSON_KEYS = """\
\b
Keys of a JSON line: stream, number, id, type, created (UTC), position (in the
log; null where a stream is read), link (the link it came through, or null),
data where it is JSON, data_text where it is text, else data_base64; metadata
(null where there is none), metadata_text, metadata_base64 likewise.
"""

FORMAT_KEYS = """\
\b
In --format: %s stream, %n number, %t type, %d data, %m metadata, %i id,
%c created, %p position, %% a percent sign; \\n, \\t, \\r, \\0 and \\\\ are escapes.
Nothing is added at the end of an event: write \\n for lines.
"""

_FIELDS: dict[str, Callable[[Event], bytes]] = {
    "s": lambda event: event.stream.encode(),
    "n": lambda event: b"%d" % event.number,
    "t": lambda event: event.type.encode(),
    "d": lambda event: event.data,
    "m": lambda event: event.metadata,
    "i": lambda event: str(event.id).encode(),
    "c": lambda event: created_text(event).encode(),
    "p": lambda event: str(event.position or "").encode(),
}
_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
_TOKEN = re.compile(r"%(.?)|\\(.?)|([^%\\]+)", re.DOTALL)
# A terminal obeys control characters; what somebody wrote into an event must not move its cursor.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """What the user asked to see."""

    view: Callable[[Event], bytes]
    types: tuple[str, ...]

    @property
    def is_json(self) -> bool:
        """Whether events are shown as JSON lines."""
        return self.view is to_line

    def wants(self, event: Event) -> bool:
        """Whether an event is of the types asked for."""
        return not self.types or any(fnmatchcase(event.type, pattern) for pattern in self.types)

    def show(self, events: Iterable[Event]) -> bytes:
        """The events, as they are printed."""
        return b"".join(map(self.view, events))


def view_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that shows events; `make_view` takes them."""
    for option in reversed(
        (
            click.option("--types", metavar="TYPE,…", help="Only events of these types; * stands for anything."),
            click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too."),
            click.option("--raw", is_flag=True, help="The data of each event as it is, and a line end."),
            click.option("--format", "template", metavar="TEXT", help="Your own, like '%n %t %d\\n'."),
        )
    ):
        command = option(command)
    return command


def make_view(*, types: str | None, as_json: bool, raw: bool, template: str | None) -> ViewOptions:
    """What `view_options` say. Raises `click.UsageError` where they contradict each other."""
    if as_json + raw + (template is not None) > 1:
        msg = "--json, --raw and --format exclude each other; give one of them."
        raise click.UsageError(msg)
    patterns = tuple(part for part in map(str.strip, (types or "").split(",")) if part)
    if template is not None:
        return ViewOptions(_formatter(template), patterns)
    if raw:
        return ViewOptions(lambda event: event.data + b"\n", patterns)
    if as_json or not output.is_terminal():
        return ViewOptions(to_line, patterns)
    return ViewOptions(_TerminalView().line, patterns)


def _formatter(template: str) -> Callable[[Event], bytes]:
    parts = [_part(*match.groups()) for match in _TOKEN.finditer(template)]
    return lambda event: b"".join(part if isinstance(part, bytes) else part(event) for part in parts)


def _part(field: str | None, escape: str | None, text: str | None) -> bytes | Callable[[Event], bytes]:
    if text is not None:
        return text.encode("utf-8", "surrogateescape")
    if escape is not None:
        return _ESCAPES.get(escape) or _refuse(f"\\{escape}")
    if field == "%":
        return b"%"
    return _FIELDS.get(field or "") or _refuse(f"%{field}")


def _refuse(token: str) -> bytes:
    known = " ".join(f"%{name}" for name in _FIELDS)
    msg = f"{token!r} is none of {known} %% and the escapes \\n \\t \\r \\0 \\\\."
    raise click.BadParameter(msg, param_hint="--format")


class _TerminalView:
    """One line an event, as wide as the terminal."""

    def __init__(self) -> None:
        # Not to standard output itself: all that goes there goes through `output.write`.
        self._console = Console(width=Console().width, force_terminal=True, highlight=False)

    def line(self, event: Event) -> bytes:
        text = Text()
        text.append(f"{clean(event.stream)}/", "dim").append(str(event.number), "bold")
        text.append(f"  {clean(event.type)}", "cyan").append(f"  {created_text(event)[:19]}Z  ", "dim")
        text.append(clean(event.data[:PREVIEW].decode("utf-8", "replace")))
        with self._console.capture() as capture:
            self._console.print(text, no_wrap=True, overflow="ellipsis")
        return capture.get().encode()


def clean(text: str) -> str:
    """The text, with what a terminal would obey made visible."""
    return text.translate(_CONTROLS)
