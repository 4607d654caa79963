"""Whole sessions with the network cut, in any frame, either way.

Cut once, it is as if it had not been. Cut for ever, there are the same results or a documented error, and no hang.
"""

from __future__ import annotations

from random import Random
from types import NoneType
from typing import TYPE_CHECKING, Literal, TypeAlias

import pytest

from tests.sessions.story import BROKEN_NETWORK, Story, check_against_store, tell_story
from tests.sessions.streams import (
    HEAD,
    LAST_BYTE,
    ByteByByte,
    CutPoint,
    CutReceiving,
    CutSending,
    Recorder,
    Then,
    frame_count,
)
from trio_extreme import ConnectFailed, OutcomeUnknown
from trio_extreme.embedded import Node, open_node

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trio
    from trio.testing import MockClock

    from trio_extreme import Settings

Direction: TypeAlias = Literal["received", "sent"]

each_fault = pytest.mark.parametrize(
    ("direction", "then"),
    [
        ("received", "close"),
        ("received", "reset"),
        ("received", "silence"),
        ("sent", "close"),
        ("sent", "silence"),
    ],
)


async def record(node: Node) -> Recorder:
    """A session in which nothing goes wrong."""
    streams: list[Recorder] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        streams.append(Recorder(await node.connect(host, port)))
        return streams[-1]

    story = await tell_story("recorded", node.settings, connect)
    assert story.error is None
    assert story.told == story.whole
    [stream] = streams
    return stream


class Network:
    """Connections to a node of which the first is cut at a point, or each."""

    def __init__(self, node: Node, direction: Direction, point: CutPoint, then: Then, *, once: bool) -> None:
        self._node = node
        self._direction = direction
        self._point = point
        self._then: Then = then
        self._once = once
        self._used = False

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        inner = await self._node.connect(host, port)
        if self._used and self._once:
            return inner
        self._used = True
        if self._direction == "received":
            return CutReceiving(inner, self._point, self._then)
        return CutSending(inner, self._point, self._then)


async def tell_over(node: Node, stream: str, network: Network, settings: Settings) -> Story:
    """The session over such a network; what was told is true."""
    story = await tell_story(stream, settings, network.connect)
    if story.error is not None:
        assert isinstance(story.error, BROKEN_NETWORK)
        assert story.told == story.whole[: len(story.told)]
    await check_against_store(story, node)
    return story


async def tell_with_cuts(direction: Direction, then: Then, points: Iterable[CutPoint], *, once: bool) -> list[Story]:
    async with open_node(port=None) as node:
        settings = node.settings if once else node.settings.replace(first_attempts=1, max_attempts=1)
        stories = []
        for number, point in enumerate(points):
            network = Network(node, direction, point, then, once=once)
            try:
                stories.append(await tell_over(node, f"story-{number}", network, settings))
                # Cut once, nobody needs to know.
                assert stories[-1].is_complete or not once
            except BaseException as error:
                error.add_note(f"{direction} cut at {point}, then {then}")
                raise
        return stories


@each_fault
@pytest.mark.parametrize("offset", [0, 1, 4, HEAD, LAST_BYTE])
async def test_cut_in_each_frame(direction: Direction, then: Then, offset: int, autojump_clock: MockClock) -> None:
    """The session goes on over the next connection, whatever was cut."""
    frames = await recorded_frames(direction)
    points = [CutPoint(offset, frame) for frame in range(frames)]
    stories = await tell_with_cuts(direction, then, points, once=True)
    assert all(story.error is None for story in stories)
    # Most cuts cost nothing at all.
    assert len([story for story in stories if story.told == story.whole]) > frames / 2


@each_fault
@pytest.mark.parametrize("offset", [0, 1, 4, HEAD, LAST_BYTE])
async def test_cut_for_ever_in_each_frame(
    direction: Direction, then: Then, offset: int, autojump_clock: MockClock
) -> None:
    """No connection follows: the same results or a documented error."""
    points = [CutPoint(offset, frame) for frame in range(await recorded_frames(direction))]
    stories = await tell_with_cuts(direction, then, points, once=False)
    ends = [type(story.error) for story in stories]
    # Identifying and the first ping; then every frame of the session but the last words matters.
    assert ends[0] is ends[1] is ConnectFailed
    assert ends[2] is not NoneType
    assert OutcomeUnknown in ends


async def recorded_frames(direction: Direction) -> int:
    async with open_node(port=None) as node:
        frames = frame_count(getattr(await record(node), direction))
    assert frames >= 10
    return frames


@each_fault
@pytest.mark.parametrize("once", [True, False])
async def test_cut_anywhere(direction: Direction, then: Then, once: bool, autojump_clock: MockClock) -> None:
    size = await recorded_size(direction)
    random = Random(f"{direction}{then}")
    await tell_with_cuts(direction, then, [CutPoint(random.randrange(size)) for _ in range(20)], once=once)


@pytest.mark.long
@each_fault
@pytest.mark.parametrize("once", [True, False])
async def test_cut_everywhere(direction: Direction, then: Then, once: bool, autojump_clock: MockClock) -> None:
    points = [CutPoint(offset) for offset in range(await recorded_size(direction))]
    await tell_with_cuts(direction, then, points, once=once)


async def recorded_size(direction: Direction) -> int:
    async with open_node(port=None) as node:
        return len(getattr(await record(node), direction))


async def test_single_bytes_both_ways(autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            return ByteByByte(await node.connect(host, port))

        story = await tell_story("bytes", node.settings, connect)
        assert story.error is None
        assert story.told == story.whole
        await check_against_store(story, node)
