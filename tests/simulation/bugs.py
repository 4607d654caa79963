"""Planted bugs: each breaks the library in one place while it lasts, as others were broken, or this one was before.

They show that the simulation sees. Each has a seed that finds it, and that finds nothing without it.
"""

from __future__ import annotations

# Each of these puts its own among the others.
from tests.simulation import bugs_groups, bugs_sessions, bugs_subscribing, bugs_writing
from tests.simulation.planting import BUGS, WITH_A_FILE, planted

__all__ = ["BUGS", "WITH_A_FILE", "bugs_groups", "bugs_sessions", "bugs_subscribing", "bugs_writing", "planted"]
