"""The demo's checks see what is wrong."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.test_commits import Chunks, raw_commit, said
from trio_extreme import Batches, NewEvent
from trio_extreme.cli.commits import Commit, CommitReader
from trio_extreme.cli.progress import ProgressBar
from trio_extreme.cli.story import Story
from trio_extreme.cli.story_report import json_report, table_report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trio_extreme import Connection
    from trio_extreme.embedded import Node


def reader(count: int) -> CommitReader:
    return CommitReader(Chunks(b"".join(said(raw_commit(message=b"%d" % number)) for number in range(count)), 10_000))


async def told(conn: Connection, count: int, promised: int | None = None) -> Story:
    story = Story(conn, "it", 40, promised or count, ProgressBar())
    await story.append(reader(count))
    return story


def failures(story: Story) -> list[str]:
    return [f"{check.name}: {check.detail}" for check in story.checks if not check.ok]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 1000])
async def test_all_is_well(conn: Connection, count: int) -> None:
    story = await told(conn, count)
    await story.read_back()
    assert story.ok
    assert len(story.ledger) == count
    live, last = min(200, (count + 3) // 4), min(200, count // 4)
    in_batches = count - live - last
    assert [step.events for step in story.steps] == [2 * in_batches, 2 * live, live, 2 * last, count, *[count] * 4]


@pytest.mark.parametrize(("count", "restarts"), [(3, 0), (4, 1), (8, 1), (12, 2), (20, 3), (1000, 3)])
async def test_all_is_well_whatever_the_node_does(node: Node, conn: Connection, count: int, restarts: int) -> None:
    story = Story(conn, "it", 40, count, ProgressBar(), restart=partial(node.faults.restart, 0.05))
    await story.append(reader(count))
    assert failures(story) == []
    assert [fault.name for fault in node.faults.history if "killed, 1 connection" in fault.details] == [
        "restart"
    ] * restarts
    assert conn.statistics().reconnects == restarts


async def test_an_event_that_comes_twice_is_seen(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batches, "__anext__", repeat_first(Batches.__anext__))
    story = await told(conn, 8)
    live, followed = failures(story)
    assert "/4 Committed> came where event 5 belongs" in live
    assert "/0 Committed> came where event 1 belongs" in followed


def repeat_first(original: Callable[[Any], Awaitable[Sequence[Any]]]) -> Callable[[Any], Awaitable[Sequence[Any]]]:
    async def repeat(batches: Any) -> Sequence[Any]:
        batch = await original(batches)
        return [batch[0], *batch]

    return repeat


async def test_events_of_somebody_else_are_seen(conn: Connection) -> None:
    story = await told(conn, 8)
    await conn.append(story.stream, NewEvent("intruder"))
    await story.read_back()
    assert not story.ok
    forwards, backwards = failures(story)
    assert f"{story.stream}/8 intruder> was never appended by us" in forwards
    assert "came where event 7 belongs" in backwards


async def test_what_does_not_come_back_is_seen(conn: Connection) -> None:
    story = await told(conn, 8)
    raw = raw_commit(message=b"never appended")
    story.ledger.add(Commit("ab" * 20, raw), next(iter(story.ledger.authors)))
    await story.read_back()
    assert len(failures(story)) == 4
    assert "event 8 of" in failures(story)[0]
    assert "did not come back" in failures(story)[0]


async def test_other_bytes_are_seen(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    story = await told(conn, 8)
    story.ledger._hashes[45] ^= 1
    await story.read_back()
    assert len(failures(story)) == 4
    assert all("/2 Committed> came back with other bytes" in failure for failure in failures(story))


async def test_commits_that_git_promised_and_did_not_give_are_seen(conn: Connection) -> None:
    story = await told(conn, 9, promised=12)
    followed, given = failures(story)
    assert followed.startswith("followed from the start: ")
    assert followed.endswith(": 9 of 12 came")
    assert given == "git gave all commits: 9 of 12"


async def test_reports_say_what_failed(conn: Connection) -> None:
    story = await told(conn, 8)
    story.ledger._hashes[0] ^= 1
    await story.read_back()
    table = table_report(story).decode()
    assert "FAILED" in table
    assert "other bytes" in table
    assert "Not all came back" in table
    assert b'"ok":false' in json_report(story, "a node")
