"""The weather is drawn from its seed, brings every kind of fault, and leaves nothing behind when it ends."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import trio

from tests.soak.weather import KINDS, Weather

if TYPE_CHECKING:
    from trio.testing import MockClock


class NotedProxy:
    """A proxy that only notes what it is told to do."""

    links = 2

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self.calls.append((name, args, options))


async def storm(seed: int, seconds: float) -> tuple[NotedProxy, Weather]:
    proxy: Any = NotedProxy()
    weather = Weather(proxy)
    with trio.move_on_after(seconds):
        await weather.storm(Random(seed), rate=2, longest=1)
    return proxy, weather


async def test_the_same_seed_brings_the_same_weather(autojump_clock: MockClock) -> None:
    first, _ = await storm(1, 30)
    again, _ = await storm(1, 30)
    other, _ = await storm(2, 30)
    assert first.calls == again.calls != other.calls


async def test_every_kind_of_fault_comes_at_the_rate_that_was_asked_for(autojump_clock: MockClock) -> None:
    _, weather = await storm(1, 500)
    assert weather.counts.keys() == KINDS.keys()
    # A refusal takes its time, so it is a little less than two a second.
    assert 700 < weather.counts.total() < 1000


async def test_however_it_ends_connections_are_accepted_again(autojump_clock: MockClock) -> None:
    for seconds in range(1, 40):
        proxy, weather = await storm(3, seconds)
        names = [name for name, _, _ in proxy.calls]
        assert names.count("refuse") == names.count("accept") == weather.counts["network refuse"]
