"""The network does to its connections what the weather says, and nothing else."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.simulation.ledger import Ledger
from tests.simulation.network import Network
from tests.simulation.trace import Cutter, Trace
from tests.simulation.weather import Fate, Weather
from tests.simulation.wire import Wire
from trio_extreme.embedded.memory import memory_connection
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import encode_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from trio.testing import MockClock

    from tests.simulation.weather import Welcome

CALM_AT = 100.0
FRAME = encode_frame(Command.PONG, b"*" * 16, b"x" * 500)


class Forecast(Weather):
    """Weather that is known before."""

    def __init__(self) -> None:
        super().__init__(Random, CALM_AT)
        self.next_fate: Fate | None = None
        self.next_welcome: Welcome = "accept"
        self.most_latency = 0.0
        self.tearing = 0.0

    def over(self, name: str) -> Self:
        # The same one, so that it may still be changed.
        return self

    def welcome(self) -> Welcome:
        return self.next_welcome

    def fate(self) -> Fate | None:
        return self.next_fate

    def capacity(self) -> int:
        return 4096

    def latency(self) -> float:
        return self.most_latency


class Setting:
    """A network, and the ends of its connections that are the node's."""

    def __init__(self) -> None:
        self.weather = Forecast()
        self.trace = Trace()
        self.node_ends: list[trio.abc.Stream] = []
        self.network = Network(self._accept, self.weather, self.trace)
        self._connect = self.network.way(Wire("A", 1.0, Ledger(self.trace), self.trace))

    async def _accept(self, host: str, port: int) -> trio.abc.Stream:
        ours, theirs = memory_connection()
        self.node_ends.append(ours)
        return theirs

    async def connect(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        client = await self._connect("node", 1113)
        return client, self.node_ends[-1]


@pytest.fixture
async def setting(autojump_clock: MockClock) -> AsyncIterator[Setting]:
    made = Setting()
    async with made.network.running():
        yield made


async def receive_all(stream: trio.abc.Stream, seconds: float = 50) -> bytes:
    """Everything until the end of the stream; what has come until then where it does not end."""
    received = b""
    with trio.move_on_after(seconds):
        while chunk := await stream.receive_some():
            received += chunk
    return received


async def test_what_is_torn_apart_and_delayed_arrives_whole_and_in_order(setting: Setting) -> None:
    setting.weather.tearing = 0.9
    setting.weather.most_latency = 0.5
    client, node = await setting.connect()
    sent = b"".join(bytes([number]) * 100 for number in range(100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, sent)
        received = b""
        while len(received) < len(sent):
            received += await node.receive_some()
    assert received == sent
    assert trio.current_time() > 0


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("count", [1, 21, 100, len(FRAME) - 1])
async def test_a_connection_is_cut_after_so_many_bytes_to_the_byte(
    setting: Setting, count: int, *, there: bool
) -> None:
    setting.weather.next_fate = Fate("close", bytes_there=count if there else None, bytes_back=None if there else count)
    client, node = await setting.connect()
    sender, receiver = (client, node) if there else (node, client)
    await sender.send_all(FRAME)
    assert await receive_all(receiver) == FRAME[:count]
    assert await receive_all(sender) == b""


async def test_a_reset_loses_what_was_not_received_yet(setting: Setting) -> None:
    client, node = await setting.connect()
    await node.send_all(FRAME)
    await trio.sleep(1)
    setting.network.links[0].strike("reset")
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(FRAME)


@pytest.mark.parametrize(
    ("blow", "there", "back"), [("silence", 0, 0), ("silence there", 0, 1), ("silence back", 1, 0)]
)
async def test_nobody_is_told_of_silence(setting: Setting, blow: str, there: int, back: int) -> None:
    client, node = await setting.connect()
    setting.network.links[0].strike(blow)  # type: ignore[arg-type]
    await client.send_all(FRAME)
    await node.send_all(FRAME)
    assert await receive_all(node) == FRAME * there
    assert await receive_all(client) == FRAME * back


async def test_who_sends_into_the_silence_waits_once_the_network_is_full(setting: Setting) -> None:
    client, _ = await setting.connect()
    setting.network.links[0].strike("silence")
    with trio.move_on_after(60) as scope:
        await client.send_all(bytes(1_000_000))
    assert scope.cancelled_caught


async def test_a_stall_is_over_when_the_storm_is(setting: Setting) -> None:
    setting.weather.stall_end = lambda: CALM_AT  # type: ignore[method-assign]
    client, node = await setting.connect()
    setting.network.links[0].strike("stall")
    await client.send_all(FRAME)
    assert await receive_all(node, CALM_AT - 1) == b""
    assert await node.receive_some() == FRAME
    assert trio.current_time() == CALM_AT


async def test_in_the_calm_nothing_befalls_a_connection_any_more(setting: Setting) -> None:
    setting.weather.next_fate = Fate("close", bytes_there=10)
    client, node = await setting.connect()
    await trio.sleep(CALM_AT)
    setting.network.links[0].strike("reset")
    await client.send_all(FRAME)
    assert await receive_all(node, 1) == FRAME


async def test_who_connects_may_be_refused_or_heard_late_or_never(setting: Setting) -> None:
    setting.weather.next_welcome = "refuse"
    with pytest.raises(ConnectionRefusedError):
        await setting.connect()
    setting.weather.next_welcome = "late"
    await setting.connect()
    assert trio.current_time() == 1
    setting.weather.next_welcome = "ignore"
    with trio.move_on_after(60) as scope:
        await setting.connect()
    assert scope.cancelled_caught


async def test_the_end_that_is_closed_is_closed_for_the_other(setting: Setting) -> None:
    client, node = await setting.connect()
    await client.send_all(FRAME)
    await client.aclose()
    assert await receive_all(node) == FRAME
    client, node = await setting.connect()
    await node.send_all(FRAME)
    await node.aclose()
    assert await receive_all(client) == FRAME


async def test_a_connection_that_is_opened_before_the_last_is_closed_is_a_problem(setting: Setting) -> None:
    await setting.connect()
    assert setting.trace.problems == []
    await setting.connect()
    assert setting.trace.problems == ["A2 is opened while A1 is not closed yet"]


def test_frames_are_cut_wherever_the_bytes_were_torn() -> None:
    data = FRAME + encode_frame(Command.PING, b"+" * 16) + FRAME
    whole = Cutter().feed(data)
    assert [frame.command for frame in whole] == [Command.PONG, Command.PING, Command.PONG]
    cutter = Cutter()
    assert [frame for byte in data for frame in cutter.feed(bytes([byte]))] == whole
    assert cutter.rest == b""
