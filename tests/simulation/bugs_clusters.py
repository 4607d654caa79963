"""A planted bug that only clusters show: days of one node have no use for it, so it is no part of their list."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import PropertyMock, patch

from trio_extreme.moves import Moves

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def master_not_followed() -> Iterator[None]:
    """What a replica refuses is refused for good."""
    with patch.object(Moves, "follows", PropertyMock(return_value=False)):
        yield
