"""Filters: which events they choose, and how a page of them is found (docs/protocol.md, 3.7). Pure.

Regular expressions are Python's here, where servers have .NET's: most of what is written in either means the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.embedded.clients import Refusal, require
from trio_extreme.embedded.log import LogPage, place_after, place_before
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trio_extreme.embedded.log import Log
    from trio_extreme.embedded.records import Place, Record

_Context = schema.Filter.FilterContext
_Type = schema.Filter.FilterType
_PIECE = 500
"""Records that are taken out of the log at a time."""


def make_chooser(filter: schema.Filter) -> Callable[[Record], bool]:
    """What decides by the record itself, be it a link or not. Raises `Refusal` for a filter that servers cannot read.

    Without any data nothing is left out. Of several regular expressions only the first counts, of prefixes each.
    """
    if not filter.data:
        return _anything
    require(filter.context in (_Context.StreamId, _Context.EventType), f"filter context {filter.context}")
    require(filter.type in (_Type.Regex, _Type.Prefix), f"filter type {filter.type}")
    chooses = _regex(filter.data[0]) if filter.type == _Type.Regex else _prefixes(tuple(filter.data))
    if filter.context == _Context.StreamId:
        return lambda record: chooses(record.stream)
    return lambda record: chooses(record.type)


def _anything(record: Record) -> bool:  # noqa: ARG001 - as all of them
    return True


def _prefixes(prefixes: tuple[str, ...]) -> Callable[[str], bool]:
    return lambda name: name.startswith(prefixes)


def _regex(text: str) -> Callable[[str], bool]:
    try:
        search = re.compile(text).search
    except (re.error, OverflowError, RecursionError) as error:
        msg = f"regular expression: {error}"
        raise Refusal(msg) from error
    return lambda name: search(name) is not None


class Search(NamedTuple):
    """What is looked for: at most `wanted` of the events that are chosen, among at most `window`."""

    chooses: Callable[[Record], bool]
    wanted: int
    window: int
    #: Whether of an explicit transaction no more is looked at once as many were looked at as are wanted, so that what
    #: is left of it is skipped.
    skips: bool


class FoundPage(NamedTuple):
    """What was found. The next page begins behind what was looked at, which may be none of it."""

    page: LogPage
    is_end: bool


def search_forward(log: Log, start: Place, search: Search) -> FoundPage:
    """From a place on, inclusive."""
    return _search(_records(log.forward, start), start, search, place_after)


def search_backward(log: Log, start: Place, search: Search) -> FoundPage:
    """From a place down, exclusive."""
    return _search(_records(log.backward, start), start, search, place_before)


def _search(records: Iterator[Record], start: Place, search: Search, behind: Callable[[Record], Place]) -> FoundPage:
    found: list[Record] = []
    following, looked_at, commit = start, 0, -1
    for record in records:
        # All events of a transaction have its commit.
        begins, commit = record.commit != commit, record.commit
        if (begins or not search.skips) and (len(found) >= search.wanted or looked_at >= search.window):
            return FoundPage(LogPage(found, start, following), is_end=False)
        if search.skips and commit != record.position and looked_at >= search.wanted:
            continue
        looked_at += 1
        following = behind(record)
        if search.chooses(record):
            found.append(record)
    # Who has enough does not look whether there is more.
    is_end = len(found) < search.wanted and looked_at < search.window
    return FoundPage(LogPage(found, start, following), is_end)


def _records(read: Callable[[Place, int], LogPage], start: Place) -> Iterator[Record]:
    """All from there on, a piece at a time: what is looked for is mostly found before long."""
    while (page := read(start, _PIECE)).records:
        yield from page.records
        start = page.next
