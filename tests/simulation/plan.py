"""What a seed stands for: which server, how patient the clients, and how bad the weather."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.simulation.determinism import chance
from trio_extreme import Settings
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_MIB = 1024 * 1024


class Plan(NamedTuple):
    """One unlucky day. Times are in seconds."""

    version: str
    #: One for each client.
    settings: tuple[Settings, ...]
    #: When the last fault is over.
    calm_at: float
    #: Faults of the node a second, and how long the longest lasts.
    fault_rate: float
    longest_fault: float
    #: How often a second the whole program stands still for a while.
    stall_rate: float
    #: What the node is likely to do, and not to answer before it is restarted.
    ambush: Command | None


def make_plan(seed: int) -> Plan:
    """The plan of a seed. Each part of it is drawn from a source of its own."""

    def draw(name: str, choices: Sequence[T]) -> T:
        return chance(seed, name, of="plan").choice(choices)

    return Plan(
        version=draw("version", list(VERSIONS)),
        settings=tuple(_settings(seed, number) for number in range(draw("clients", (1, 1, 2)))),
        calm_at=draw("calm", (5.0, 12.0, 25.0)),
        fault_rate=draw("fault rate", (0.0, 0.1, 0.3, 0.6)),
        longest_fault=draw("longest fault", (1.0, 5.0)),
        stall_rate=draw("stall rate", (0.0, 0.0, 0.05)),
        ambush=draw("ambush", (None, Command.WRITE_EVENTS, Command.TRANSACTION_COMMIT)),
    )


_PATIENCE: dict[str, Sequence[object]] = {
    "connect_timeout": (0.5, 1.5, 3.0),
    "identify_timeout": (0.5, 2.0),
    "reconnect_delay": (0.01, 0.1, 0.5),
    "max_reconnect_delay": (0.5, 2.0, 5.0),
    "heartbeat_interval": (0.5, 1.0, 2.0, 6.0),
    "heartbeat_timeout": (0.5, 1.0, 3.0),
    "attempt_timeout": (1.0, 3.0, 7.0),
    "operation_timeout": (5.0, 10.0, 30.0),
    "max_in_flight": (1, 3, 10, 5000),
    "max_queued_bytes": (1, 10_000, 64 * _MIB),
    "buffer_events": (1, 3, 20, 1000),
    "buffer_bytes": (1, 5000, 8 * _MIB, 8 * _MIB),
    "live_buffer_events": (1, 10, 10_000),
    "live_buffer_bytes": (5000, 32 * _MIB),
    "page_size": (1, 2, 10, 500),
}
"""A client that is quick to despair, and has little room: what takes long or much elsewhere happens here soon."""


def _settings(seed: int, number: int) -> Settings:
    drawn = {name: chance(seed, name, of=f"settings {number}").choice(choices) for name, choices in _PATIENCE.items()}
    return Settings(
        host="node",
        username="admin",
        password="changeit",
        connection_name="simulation",
        first_attempts=None,
        **drawn,  # type: ignore[arg-type]
    )
