"""What of the log is wanted: by the names of streams, or of event types.

A filter is decided by the server, where that can (since 20.6), and otherwise here. Both read prefixes alike. A regular
expression is .NET's there and Python's here: what both understand alike is the common stock of literals, classes,
groups, alternatives and anchors; a named group, for one, each writes in its own way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trio_extreme.errors import InvalidArgument
from trio_extreme.values import utf8_size

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_SYSTEM_EVENTS = r"^[^\$].*"
"""What .NET clients send to leave out the events that servers write for themselves (docs/protocol.md, 3.7)."""


@dataclass(frozen=True, slots=True, repr=False)
class Filter:
    """Chooses events of the log, for `read_all` and `subscribe_all`: `Filter.by_stream("order-", "customer-")`.

    An event is chosen where the name of its stream, or of its type, begins with one of the prefixes, or where the
    regular expression is found anywhere in it (`^` for the beginning). Of links that are resolved the link itself
    counts: its stream, and its type `$>`. Two filters are equal where they say the same.

    Raises `InvalidArgument` where there is neither a prefix nor an expression, or both; and for an empty one, which
    would choose everything.
    """

    #: What is looked at: the name of the event's stream, or of its type.
    by: Literal["stream", "type"]
    #: With what it begins; empty where there is a regular expression.
    prefixes: tuple[str, ...] = ()
    #: What is found in it.
    regex: str | None = None

    def __post_init__(self) -> None:
        if self.by not in ("stream", "type"):
            msg = f"by: {self.by!r} is neither 'stream' nor 'type'"
            raise InvalidArgument(msg)
        if bool(self.prefixes) == (self.regex is not None):
            msg = f"filter: {self!r} says {'both' if self.prefixes else 'neither'}; give prefixes, or regex="
            raise InvalidArgument(msg)
        if not isinstance(self.prefixes, tuple):
            msg = f"prefixes: {self.prefixes!r} is no tuple; Filter.by_{self.by}('…', '…') takes them one by one"
            raise InvalidArgument(msg)
        for prefix in self.prefixes:
            _check("prefixes", "prefix", prefix)
        if self.regex is not None:
            _check("regex", "regular expression", self.regex)

    @classmethod
    def by_stream(cls, *prefixes: str, regex: str | None = None) -> Filter:
        """Events of the streams whose names begin with one of these, or have this in them."""
        return cls("stream", prefixes, regex)

    @classmethod
    def by_type(cls, *prefixes: str, regex: str | None = None) -> Filter:
        """Events whose types begin with one of these, or have this in them."""
        return cls("type", prefixes, regex)

    @classmethod
    def exclude_system(cls) -> Filter:
        """All events but those whose types begin with `$`: metadata, links, statistics, tombstones."""
        return cls.by_type(regex=_NO_SYSTEM_EVENTS)

    def chooser(self) -> Callable[[str], bool]:
        """What decides by a name, as Python reads this filter.

        Raises `InvalidArgument` for a regular expression that Python's `re` cannot compile.
        """
        if self.regex is None:
            prefixes = self.prefixes
            return lambda name: name.startswith(prefixes)
        try:
            search = re.compile(self.regex).search
        except (re.error, OverflowError, RecursionError) as error:
            msg = (
                f"regex: {self.regex!r} is none that Python can compile ({error}). The server is older than 20.6 and "
                "does not filter, so it is done here: give an expression that .NET and Python both understand"
            )
            raise InvalidArgument(msg) from error
        return lambda name: search(name) is not None

    def __repr__(self) -> str:
        if self.by == "type" and self.regex == _NO_SYSTEM_EVENTS and not self.prefixes:
            return "Filter.exclude_system()"
        said = [*map(repr, self.prefixes), *([] if self.regex is None else [f"regex={self.regex!r}"])]
        return f"Filter.by_{self.by}({', '.join(said)})"


def _check(argument: str, noun: str, value: str) -> None:
    if not isinstance(value, str) or not value:
        msg = f"{argument}: {value!r} is no {noun}; give a non-empty string"
        raise InvalidArgument(msg)
    utf8_size(argument, value)
