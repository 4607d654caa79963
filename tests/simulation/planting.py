"""The list of all planted bugs, and how one is planted."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


BUGS: dict[str, Callable[[], AbstractContextManager[None]]] = {}
"""All of them, by name."""

WITH_A_FILE = ("answered_before_the_commit",)
"""Those of a node that keeps its log in a file."""


def planted(name: str) -> AbstractContextManager[None]:
    """The library with this bug; as it is for an empty name."""
    return BUGS[name]() if name else nullcontext()


def bug(function: Callable[[], Iterator[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Make a context manager of it, and put it among the others."""
    manager = contextmanager(function)
    BUGS[function.__name__] = manager
    return manager
