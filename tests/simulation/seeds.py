"""Seeds with a history, and those that the planted bugs are found by.

What a seed stands for changes whenever the simulation draws otherwise. A bug that was found and mended is therefore
kept in two ways: by its seed here, and planted anew in `bugs`, with a seed of its own that finds it.
"""

from __future__ import annotations

FAILED = {
    49: "the writer sent what was handed to it when its session had just ended, under no id",
}
"""Seeds that ever failed, and why."""

FOUND_BY = {
    "no_second_read": 1,
}
"""The seed that finds each planted bug."""
