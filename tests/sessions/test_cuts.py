"""Whole sessions with the network cut, in any frame, either way: the same results or a documented error, no hang."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Literal, TypeAlias

import pytest

from tests.sessions.story import BROKEN_NETWORK, check_against_store, tell_story
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


async def tell_with_cut(node: Node, stream: str, direction: Direction, point: CutPoint, then: Then) -> str:
    """The session with one cut; what came of it."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        inner = await node.connect(host, port)
        return CutReceiving(inner, point, then) if direction == "received" else CutSending(inner, point, then)

    try:
        story = await tell_story(stream, node.settings.replace(first_attempts=1), connect)
        if story.error is None:
            # The cut came in the last words, or after them.
            assert story.told == story.whole
        else:
            assert isinstance(story.error, BROKEN_NETWORK)
            assert story.told == story.whole[: len(story.told)]
        await check_against_store(story, node)
    except BaseException as error:
        error.add_note(f"{direction} cut at {point}, then {then}")
        raise
    return type(story.error).__name__


async def tell_with_cuts(direction: Direction, then: Then, points: Iterable[CutPoint]) -> list[str]:
    async with open_node(port=None) as node:
        return [
            await tell_with_cut(node, f"story-{number}", direction, point, then) for number, point in enumerate(points)
        ]


@each_fault
@pytest.mark.parametrize("offset", [0, 1, 4, HEAD, LAST_BYTE])
async def test_cut_in_each_frame(direction: Direction, then: Then, offset: int, autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node:
        recorded = await record(node)
    frames = frame_count(getattr(recorded, direction))
    assert frames >= 9
    ends = await tell_with_cuts(direction, then, [CutPoint(offset, frame) for frame in range(frames)])
    # Identifying and the first ping; then every frame of the session but the last words matters.
    assert ends[0] == ends[1] == ConnectFailed.__name__
    assert ends[2] != "NoneType"
    assert OutcomeUnknown.__name__ in ends


@each_fault
async def test_cut_anywhere(direction: Direction, then: Then, autojump_clock: MockClock) -> None:
    size = await recorded_size(direction)
    random = Random(f"{direction}{then}")
    await tell_with_cuts(direction, then, [CutPoint(random.randrange(size)) for _ in range(20)])


@pytest.mark.long
@each_fault
async def test_cut_everywhere(direction: Direction, then: Then, autojump_clock: MockClock) -> None:
    await tell_with_cuts(direction, then, [CutPoint(offset) for offset in range(await recorded_size(direction))])


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
