"""Whole sessions in which the server's bytes arrive damaged: errors of ours only, in bounded time and memory."""

from __future__ import annotations

import gc
import tracemalloc
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.sessions.story import Story, tell_story
from tests.sessions.streams import Mutating
from trio_extreme import InvalidArgument, TrioExtremeError
from trio_extreme.embedded import Node, open_node

if TYPE_CHECKING:
    import trio
    from trio.testing import MockClock

#: Bytes. One frame of the session's limit, its message, and room for the interpreter.
MEMORY = 4 * 1024 * 1024
LIMIT = 64 * 1024


async def tell_damaged(node: Node, seed: int) -> Story:
    random = Random(seed)
    # From one damaged chunk in the session to nearly all of them.
    rate = random.choice([0.05, 0.2, 0.5, 0.9])

    async def connect(host: str, port: int) -> trio.abc.Stream:
        return Mutating(await node.connect(host, port), random, rate)

    settings = node.settings.replace(first_attempts=2, max_frame_size=LIMIT)
    try:
        story = await tell_story(f"story-{seed}", settings, connect)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    assert story.error is None or isinstance(story.error, TrioExtremeError)
    # Nothing that we sent was wrong.
    assert not isinstance(story.error, InvalidArgument)
    return story


async def tell_many(seeds: range) -> list[Story]:
    async with open_node(port=None) as node:
        return [await tell_damaged(node, seed) for seed in seeds]


async def test_damaged_sessions(autojump_clock: MockClock) -> None:
    stories = await tell_many(range(200))
    # The damage is neither so little that all is well nor so much that nothing is tried.
    assert {type(story.error).__name__ for story in stories} >= {"NoneType", "ConnectFailed", "ProtocolError"}
    assert {len(story.told) for story in stories} >= {0, 1, 2, 3, 5}


@pytest.mark.long
async def test_many_damaged_sessions(autojump_clock: MockClock) -> None:
    await tell_many(range(200, 5000))


async def test_memory_of_damaged_sessions(autojump_clock: MockClock) -> None:
    """Lengths among the damage promise up to 2 GB."""
    async with open_node(port=None) as node:
        await tell_damaged(node, 0)
        gc.collect()
        tracemalloc.start()
        try:
            for seed in range(1, 40):
                await tell_damaged(node, seed)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MEMORY
