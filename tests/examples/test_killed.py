"""The read model of the examples, whose process is killed with SIGKILL again and again: each order counts once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing, contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from examples import read_model
from trio_extreme import NewEvent, open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerContext
    from multiprocessing.process import BaseProcess
    from pathlib import Path

PATIENCE = 60
MOST = 12
"""Orders that are counted before a process is killed, and a few more before that has happened."""
ENOUGH = 5 * MOST
"""Orders for each that is killed. They do for the first half of them, however late the signal comes."""


@pytest.fixture
def processes() -> ForkServerContext:
    """Processes that are there at once, because what they are forked from has imported the example."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["examples.read_model"])
    return context


@contextmanager
def following(processes: ForkServerContext, url: str, path: Path) -> Iterator[BaseProcess]:
    # Of this module nothing is wanted there: it would have to be imported each time.
    process = processes.Process(target=trio.run, args=(read_model.follow, url, path))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(PATIENCE)
        process.close()


def content(path: Path) -> tuple[dict[str, int], list[str]]:
    """The totals, and what the checkpoint says."""
    with closing(sqlite3.connect(path)) as db:
        places = [text for (text,) in db.execute("SELECT checkpoint FROM trio_extreme_checkpoints")]
    return read_model.totals(path), places


def counted(path: Path) -> int:
    try:
        return sum(read_model.totals(path).values())
    except sqlite3.OperationalError:
        # There is no table yet.
        return 0


async def count_up_to(wanted: int, path: Path) -> None:
    """Wait until so many orders count. Another process counts them, so there is nothing to wait for but time."""
    with trio.fail_after(PATIENCE):
        while True:
            await trio.sleep(0.001)
            if counted(path) >= wanted:
                return


async def kill_and_compare(processes: ForkServerContext, kills: int, folder: Path, seed: int) -> None:
    random = Random(seed)
    path, whole = folder / "killed.db", folder / "whole.db"
    drinks = [f"drink {random.randrange(20)}" for _ in range(kills * ENOUGH)]
    async with open_node() as node, open_connection(node.settings) as conn:
        events = [NewEvent.json("Ordered", {"drink": drink, "count": 1}) for drink in drinks]
        await conn.append("orders", events)
        url = f"eventstore://admin:changeit@127.0.0.1:{node.port}"
        before = 0
        for kill in range(kills):
            with following(processes, url, path):
                await count_up_to(min(before + random.randint(1, MOST), len(drinks)), path)
                await trio.sleep(random.uniform(0, 0.003))
            before = counted(path)
            assert before < len(drinks) or kill >= kills // 2, kill
        for file in (path, whole):
            with following(processes, url, file):
                await count_up_to(len(drinks), file)
    assert (
        content(path)
        == content(whole)
        == (
            {drink: drinks.count(drink) for drink in sorted(set(drinks))},
            [f"{len(drinks) - 1}@orders"],
        )
    )


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.long)])
def test_a_read_model_whose_process_is_killed_is_as_one_made_in_one_go(
    kills: int, tmp_path: Path, processes: ForkServerContext
) -> None:
    trio.run(partial(kill_and_compare, processes, kills, tmp_path, seed=kills))
