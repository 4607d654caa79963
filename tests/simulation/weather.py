"""What the network does to its connections, drawn from the seed: a storm, and calm afterwards.

Nothing here does anything. `network` asks, and does what it is told.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Literal, NamedTuple

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random
    from typing import Self

Blow = Literal["close", "reset", "silence", "silence there", "silence back", "stall", "stall there"]
"""What can become of a connection: both sides are told, only the network knows, or everything waits a while."""

Welcome = Literal["accept", "refuse", "ignore", "late"]
"""What becomes of an attempt to connect."""

_BLOWS: dict[Blow, int] = {
    "close": 30,
    "reset": 30,
    "silence": 10,
    "silence there": 8,
    "silence back": 8,
    "stall": 10,
    "stall there": 10,
}
_WELCOMES: dict[Welcome, int] = {"accept": 80, "refuse": 10, "ignore": 4, "late": 6}

_CAPACITIES = (256 * 1024, 16 * 1024, 2048, 2048)
"""Bytes that one direction holds before its writer has to wait."""

_LATENCIES = (0.0, 0.0, 0.001, 0.02, 0.1, 0.3)
"""Seconds on the way, at most."""


class Fate(NamedTuple):
    """What befalls one connection: after some seconds, or after some bytes in one direction, often inside a frame."""

    blow: Blow
    seconds: float | None = None
    #: Bytes to the node or from it; the other one is None.
    bytes_there: int | None = None
    bytes_back: int | None = None


class Weather:
    """A storm until `calm_at`, how rough the seed says, and nothing but good connections afterwards.

    `chance` gives the source of chance of a name.
    """

    def __init__(self, chance: Callable[[str], Random], calm_at: float) -> None:
        self._chance = chance
        self._random = random = chance("the day")
        self.calm_at = calm_at
        # How likely it is that something befalls a connection, and that a chunk is torn apart.
        self._roughness = random.choice((0.0, 0.3, 0.6, 0.9, 0.9))
        self.tearing = random.choice((0.0, 0.1, 0.5))

    def over(self, name: str) -> Self:
        """The same weather over one attempt to connect, and over what comes of it: it does not matter to the others."""
        here = copy(self)
        here._random = self._chance(name)
        return here

    @property
    def is_calm(self) -> bool:
        """Whether the storm is over."""
        return trio.current_time() >= self.calm_at

    def welcome(self) -> Welcome:
        """What becomes of an attempt to connect now."""
        if self.is_calm or self._random.random() >= self._roughness:
            return "accept"
        return self._draw(_WELCOMES)

    def fate(self) -> Fate | None:
        """What will befall a connection that is opened now, if it is before the calm."""
        if self.is_calm or self._random.random() >= self._roughness:
            return None
        blow = self._draw(_BLOWS)
        if self._random.random() < 0.4:
            return Fate(blow, seconds=self._random.expovariate(1 / 3))
        # As many that end in the first frames as later, whatever the volume is.
        count = round(2 ** self._random.uniform(0, 15))
        return Fate(blow, bytes_there=count) if self._random.random() < 0.5 else Fate(blow, bytes_back=count)

    def capacity(self) -> int:
        """Bytes that one direction of a new connection holds."""
        return self._random.choice(_CAPACITIES)

    def latency(self) -> float:
        """Seconds at most that each piece takes on a new connection."""
        return self._random.choice(_LATENCIES)

    def delay(self, latency: float) -> float:
        """Seconds that this piece takes."""
        return 0.0 if self.is_calm or not latency else self._random.uniform(0, latency)

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """A chunk as it arrives: whole, or torn at some places."""
        while len(chunk) > 1 and not self.is_calm and self._random.random() < self.tearing:
            at = self._random.randrange(1, len(chunk))
            yield chunk[:at]
            chunk = chunk[at:]
        yield chunk

    def stall_end(self) -> float:
        """When a stall that begins now is over; no later than the storm."""
        return min(self.calm_at, trio.current_time() + self._random.expovariate(1 / 2))

    def _draw(self, weights: dict[Blow, int] | dict[Welcome, int]) -> Blow | Welcome:
        return self._random.choices(list(weights), list(weights.values()))[0]
