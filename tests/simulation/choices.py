"""What filters of a simulation choose, said twice: as the library takes it, and as what is true of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_extreme import Filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.embedded.records import Record


class Choice(NamedTuple):
    """A filter, and what it means."""

    filter: Filter
    chooses: Callable[[Record], bool]


CHOICES = (
    Choice(Filter.by_stream("s"), lambda record: record.stream in ("sole", "shared")),
    Choice(Filter.by_stream("pipe", "$$"), lambda record: record.stream == "pipe" or record.stream[:2] == "$$"),
    Choice(Filter.by_stream(regex="^(re|do)"), lambda record: record.stream in ("reborn", "doomed")),
    Choice(Filter.by_stream(regex="o.e$"), lambda record: record.stream == "sole"),
    Choice(Filter.by_type("$"), lambda record: record.type[0] == "$"),
    Choice(Filter.exclude_system(), lambda record: record.type[0] != "$"),
    # Nothing is, so that all there is are places between events.
    Choice(Filter.by_type("never"), lambda record: record.type == "never"),
)
"""From what is most of the log to what is nothing of it."""

EVENTS = 5
"""Events that are looked through in vain before a place is told: ten thousand, as elsewhere, never come here."""
