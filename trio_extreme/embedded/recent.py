"""Which events were written of late (docs/protocol.md, 3.1). Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_extreme.embedded.records import Record


class Recent:
    """The ids of recent events, and where they are: how an append that names no number is found to be a repetition.

    Servers keep about 8 MiB of them, so that such a repetition is found for a while only; so does this.
    """

    LIMIT = 8 * 1024 * 1024

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        # A plain dict looks for its first entry among all that were deleted before it.
        self._places: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Recent: {len(self._places)} ids>"

    def add(self, records: Iterable[Record]) -> None:
        """Remember events, and forget the oldest ones beyond the limit."""
        places = self._places
        for record in records:
            event_id = record.id
            if event_id in places:
                self._size -= _cost(places.pop(event_id)[0])
            stream = record.stream
            places[event_id] = stream, record.number
            self._size += _cost(stream)
        while self._size > self._limit:
            self._size -= _cost(places.popitem(last=False)[1][0])

    def find(self, id: bytes, stream: str) -> int | None:
        """The number of this event in this stream; None where it is not remembered."""
        where, number = self._places.get(id, ("", 0))
        return number if where == stream else None


def _cost(stream: str) -> int:
    return 28 + 2 * len(stream)
