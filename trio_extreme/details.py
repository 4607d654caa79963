"""What a server tells of its users, projections and groups over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class UserDetails:
    """A user of the server."""

    login: str
    full_name: str
    #: The groups that they are in, beside the one that has their own name; `$admins` may do everything.
    groups: Sequence[str]
    #: Whether they cannot log in for the time being.
    disabled: bool


@dataclass(frozen=True, slots=True)
class ProjectionDetails:
    """A projection, and how it is doing."""

    name: str
    #: As the server puts it: "Running", "Stopped", "Faulted", and states between, several in one text.
    status: str
    #: Why it is so, where the server says; of a faulted one it is what went wrong.
    reason: str
    #: "Continuous", "OneTime" or "Transient".
    mode: str
    #: How far it has come, as the server puts it.
    position: str
    #: Of what there is to work on, in percent; -1 where that is not known.
    progress: float
    #: How often it was begun anew, or changed.
    version: int
    #: Events that it worked on since it was started.
    processed: int

    @property
    def is_running(self) -> bool:
        """Whether it works on what comes."""
        return self.status.startswith("Running")

    @property
    def is_faulted(self) -> bool:
        """Whether it broke; `reason` says why."""
        return "Faulted" in self.status
