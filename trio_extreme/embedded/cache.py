"""What was used of late, within a bound. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

_Value = TypeVar("_Value")

_ENTRY_SIZE = 200
"""Bytes an entry takes beside its name, roughly."""


class Cache(Generic[_Value]):
    """Values by name. Beyond `limit`, roughly in bytes, those go that were not asked for the longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        # A plain dict looks for its first entry among all that were deleted before it.
        self._values: OrderedDict[str, _Value] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Cache of {len(self._values)}>"

    def get(self, name: str) -> _Value | None:
        """What is kept under this name."""
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def put(self, name: str, value: _Value) -> None:
        """Keep it, in the place of what was kept under this name."""
        self.forget(name)
        self._values[name] = value
        self._size += _ENTRY_SIZE + len(name)
        while self._size > self._limit:
            self.forget(next(iter(self._values)))

    def forget(self, name: str) -> None:
        """Keep nothing under this name."""
        if self._values.pop(name, None) is not None:
            self._size -= _ENTRY_SIZE + len(name)

    def clear(self) -> None:
        """Keep nothing."""
        self._values.clear()
        self._size = 0
