"""Whole sessions in which bytes arrive damaged: errors of ours only, in bounded time and memory."""

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


async def tell_damaged(node: Node, seed: int, *, of_client: bool = False) -> Story:
    random = Random(seed)
    # From one damaged chunk in the session to nearly all of them.
    rate = random.choice([0.05, 0.2, 0.5, 0.9])

    async def connect(host: str, port: int) -> trio.abc.Stream:
        stream = await node.connect(host, port)
        return Mutating(stream, random, sent=rate) if of_client else Mutating(stream, random, received=rate)

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


async def tell_many(seeds: range, *, of_client: bool) -> list[Story]:
    async with open_node(port=None) as node:
        stories = [await tell_damaged(node, seed, of_client=of_client) for seed in seeds]
        # The node served all of them, and is as well as it was.
        story = await tell_story("after all", node.settings, node.connect)
        assert story.told == story.whole
        return stories


each_side = pytest.mark.parametrize("of_client", [False, True], ids=["server's bytes", "client's bytes"])


@each_side
async def test_damaged_sessions(*, of_client: bool, autojump_clock: MockClock) -> None:
    stories = await tell_many(range(200), of_client=of_client)
    # The damage is neither so little that all is well nor so much that nothing is tried.
    assert {type(story.error).__name__ for story in stories} >= {"NoneType", "ConnectFailed", "OutcomeUnknown"}
    # How far each one got is chance: Trio draws who runs first.
    assert len({len(story.told) for story in stories}) >= 4


@pytest.mark.long
@each_side
async def test_many_damaged_sessions(*, of_client: bool, autojump_clock: MockClock) -> None:
    await tell_many(range(200, 5000), of_client=of_client)


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
