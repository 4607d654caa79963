"""How each projection stands: whether it runs, and where it is while that is not where the others are. Pure.

What became of a projection is in the log, in its stream `$projections-…`, together with what it wrote at that moment:
a node that starts again has lost neither.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trio_extreme.embedded.metadata import dump
from trio_extreme.embedded.records import WIDE_TOMBSTONE, Place
from trio_extreme.embedded.store import OwnEvent

if TYPE_CHECKING:
    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.store import Store

STREAM, TYPE = "$projections-", "$ProjectionUpdated"
FIRST_EPOCH, FIRST_VERSION = -1, 1


@dataclass(slots=True)
class Standing:
    """One projection."""

    name: str
    #: What it signs with.
    number: int
    is_enabled: bool = True
    #: What it works on next; None where that is what all work on that are in step.
    place: Place | None = None
    #: What it signs with besides: each reset gives another one.
    version: int = FIRST_VERSION
    #: Events that it worked on since the node was started.
    processed: int = 0

    @property
    def epoch(self) -> int:
        """The version of the last reset."""
        return FIRST_EPOCH if self.version == FIRST_VERSION else self.version

    @property
    def signature(self) -> str:
        """The `$v` of all that it writes."""
        return f"{self.number}:{self.epoch}:{self.version}:3"

    @property
    def is_in_step(self) -> bool:
        """Whether it works on what all others work on."""
        return self.is_enabled and self.place is None

    @property
    def is_behind(self) -> bool:
        """Whether it works, and has to get to where the others are."""
        return self.is_enabled and self.place is not None

    def event(self, step: Place) -> OwnEvent:
        """What is written when it stands otherwise than before; `step` is where those in step are."""
        place = None if self.place is None else list(self.place)
        data = dump({"enabled": self.is_enabled, "version": self.version, "place": place})
        return OwnEvent(STREAM + self.name, TYPE, data, dump({"$c": step.commit, "$p": step.prepare}), is_json=True)


def read_standing(store: Store, name: str, number: int) -> Standing:
    """How it stands by what is in the log."""
    standing = Standing(name, number)
    last = store.storage.last_event(STREAM + name)
    if last is None or last.type != TYPE:
        return standing
    try:
        found: dict[str, Any] = json.loads(last.event.data)
        place, version, is_enabled = found["place"], found["version"], bool(found["enabled"])
        # One that is stopped has a place of its own.
        known = None if place is None and is_enabled else as_place(*(place or ()))
    except (ValueError, LookupError, TypeError, RecursionError):
        # Admins may write there what they like.
        return standing
    if isinstance(version, int) and version >= FIRST_VERSION:
        standing.is_enabled, standing.place, standing.version = is_enabled, known, version
    return standing


def read_step(record: Record, names: tuple[str, ...]) -> Place | None:
    """Where those in step were when this was written; None where it tells nothing of how a projection stands."""
    if record.type != TYPE or record.stream.removeprefix(STREAM) not in names:
        return None
    return tagged_place(record.event.metadata)


def tagged_place(metadata: bytes) -> Place | None:
    """The place that projections sign with; in their own streams it is where they were."""
    try:
        tag = json.loads(metadata)
        return as_place(tag["$c"], tag["$p"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def tagged_epoch(metadata: bytes) -> int:
    """The epoch that a link was written in; the first where nothing says so."""
    try:
        return int(json.loads(metadata)["$v"].split(":")[1])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return FIRST_EPOCH


def as_place(commit: object, prepare: object) -> Place:
    """A place. Raises `ValueError` where it can be none."""
    if type(commit) is int and type(prepare) is int and 0 <= commit < WIDE_TOMBSTONE and 0 <= prepare < WIDE_TOMBSTONE:
        return Place(commit, prepare)
    msg = "a place is two numbers"
    raise ValueError(msg)
