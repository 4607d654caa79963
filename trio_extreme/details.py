"""What a server tells of its users, projections and groups over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.groups import PersistentSettings


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


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A group of persistent subscriptions, in short."""

    stream: str
    group: str
    #: As the server puts it: "Live" where it takes what is written, "Behind" where it reads, and more.
    status: str
    #: How many consumers are connected.
    consumers: int
    #: Events that are with consumers, and not acked.
    in_flight: int
    #: Events that it handed out since it was started.
    processed: int
    #: As of its last checkpoint, the number of the last event that it has handled with all before it; with 3.9 that of
    #: the first one that it has not. None where it has written none.
    checkpoint: int | None
    #: The number of the last event that it knows of in its stream; None where it knows of none.
    last_known: int | None


@dataclass(frozen=True, slots=True)
class GroupConsumer:
    """A connection to a group."""

    #: Its address, as the server sees it.
    address: str
    #: Who it is.
    username: str
    #: What the client calls itself; empty with servers before 20.10.
    name: str
    #: Events that it got.
    processed: int
    #: Events that it has and has not acked, and how many more it would take.
    in_flight: int
    available: int


@dataclass(frozen=True, slots=True)
class GroupDetails:
    """A group of persistent subscriptions, with all that the server tells."""

    summary: GroupSummary
    #: How it is run; None where its settings are some that this library would refuse.
    settings: PersistentSettings | None
    connections: Sequence[GroupConsumer]
    #: Events that wait to be delivered: for the first time, and again.
    waiting: int
    retrying: int
    #: Events that are parked; None with servers that do not tell, which those before 22.10 may be.
    parked: int | None
