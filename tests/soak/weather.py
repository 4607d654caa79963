"""What a network does to the connections of a proxy, drawn from a seed; `Faults.play` does the same to the node."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from random import Random

    from tests.soak.proxy import Direction, Proxy

logger = logging.getLogger(__name__)

SHARES = (0.3, 0.7, 1.0)


def _directions(random: Random) -> tuple[Direction, ...]:
    ways: list[tuple[Direction, ...]] = [("up",), ("down",), ("up", "down")]
    return random.choice(ways)


async def _cut(proxy: Proxy, random: Random, _: float) -> None:
    proxy.cut(reset=False, share=random.choice(SHARES))


async def _reset(proxy: Proxy, random: Random, _: float) -> None:
    proxy.cut(reset=True, share=random.choice(SHARES))


async def _cut_after(proxy: Proxy, random: Random, _: float) -> None:
    size = random.choice([random.randint(1, 100), random.randint(1, 20_000)])
    (direction, *_) = _directions(random)
    proxy.cut_after(size, direction, reset=random.random() < 0.5, share=random.choice(SHARES))


async def _stall(proxy: Proxy, random: Random, seconds: float) -> None:
    proxy.stall(seconds, *_directions(random), share=random.choice(SHARES))


async def _swallow(proxy: Proxy, random: Random, _: float) -> None:
    proxy.swallow(*_directions(random), share=random.choice(SHARES))


async def _refuse(proxy: Proxy, random: Random, seconds: float) -> None:
    """A node that cannot be reached is only noticed by who has to connect."""
    proxy.refuse()
    try:
        proxy.cut(reset=random.choice((True, False)), share=random.choice(SHARES))
        await trio.sleep(seconds)
    finally:
        proxy.accept()


KINDS: Mapping[str, Callable[[Proxy, Random, float], Awaitable[None]]] = {
    "network cut": _cut,
    "network reset": _reset,
    "network cut inside": _cut_after,
    "network stall": _stall,
    "network half-open": _swallow,
    "network refuse": _refuse,
}


class Weather:
    """Faults of a network, one after another."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        #: What happened how often.
        self.counts: Counter[str] = Counter()

    async def storm(self, random: Random, *, rate: float, longest: float) -> None:
        """On average `rate` faults a second, none longer than `longest`, until cancelled. Then all of them end.

        But half-open links stay so: their clients have to find out.
        """
        while True:
            await trio.sleep(random.expovariate(rate))
            kind = random.choice(list(KINDS))
            seconds = random.uniform(0, longest)
            self.counts[kind] += 1
            logger.info("%s, %.3f s, %d links", kind, seconds, self._proxy.links)
            await KINDS[kind](self._proxy, random, seconds)
