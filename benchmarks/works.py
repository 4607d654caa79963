"""What is measured side by side, and what was aimed at: plain data, for the run and for the report."""

from __future__ import annotations

from dataclasses import dataclass

SIZES = (256, 4096)
"""Bytes of data in an event."""

SIDES = {
    "bare": "bare loop",
    "lists": "by lists",
    "events": "async for",
    "photon": "photon-pump",
    "node": "node-eventstore-client",
}
"""The columns; the second and third are this library."""

OTHERS = ("photon", "node")
_ALL = tuple(SIDES)
_ONE_WAY = ("bare", "events", *OTHERS)
"""Where the library has only one way, as for appends."""


@dataclass(frozen=True)
class Work:
    """So many events or appends, by size of an event; `sides` are those who can do it.

    `server` is what is talked to: a canned peer ("peer"), one with a great many events ("store"), or an embedded node.
    """

    name: str
    title: str
    counts: dict[int, int]
    server: str = "peer"
    sides: tuple[str, ...] = _ONE_WAY


PUSHED = {256: 50_000, 4096: 20_000}
"""Events that the peer pushes to who subscribes: it goes on to the last, so there are no more than are taken."""

WORKS = (
    Work("pages", "pages of 500", PUSHED, sides=_ALL),
    Work("catch_up", "catch-up subscription", {256: 1_000_000, 4096: 100_000}, server="store", sides=_ALL),
    Work("live", "live subscription", PUSHED, sides=_ALL),
    Work("in_turn", "appends, one after the other", {256: 2000, 4096: 2000}),
    Work("pipelined", "appends, 100 at a time", {256: 10_000, 4096: 5000}),
    Work("batches", "appends of 500 events", {256: 50_000, 4096: 20_000}),
    Work("group", "persistent subscription, an ack for each", PUSHED, sides=_ALL),
    Work("many", "100 live subscriptions", {256: 51_200, 4096: 51_200}),
    Work("pings", "pings while live events come", {256: 50_000}, sides=("events", "photon")),
    Work("b1", "Extreme: 100 appends of 10 events", {256: 1000}, server="node", sides=("events", "photon", "node")),
    Work("b2", "Extreme: an append of 1000 events", {256: 1000}, server="node", sides=("events", "photon", "node")),
    Work("b3", "Extreme: 50,000 in one append, 1000 more, read meanwhile", {256: 50_000}, server="node",
         sides=("events", "photon", "node")),
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One way's speed in a work, against another's, with events of 256 bytes."""

    work: str
    side: str
    against: str
    least: float


TARGETS = (
    *(
        Target(work, "events", "photon", least)
        for work, least in (
            ("live", 12.0),
            ("pages", 7.0),
            ("catch_up", 7.0),
            ("batches", 4.0),
            ("pipelined", 3.5),
            ("group", 8.0),
            ("in_turn", 1.7),
        )
    ),
    *(
        Target(work, "events", "node", 1.0)
        for work in ("pages", "catch_up", "live", "in_turn", "pipelined", "batches", "group")
    ),
    *(Target(work, "lists", "bare", least) for work, least in (("live", 0.85), ("pages", 0.85), ("catch_up", 0.8))),
    *(
        Target(work, "events", "bare", least)
        for work, least in (
            ("live", 0.7),
            ("pages", 0.65),
            ("catch_up", 0.6),
            ("pipelined", 0.7),
            ("group", 0.7),
            ("in_turn", 0.8),
        )
    ),
)
