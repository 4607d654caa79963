from __future__ import annotations

import resource
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.embedded.talk import append, new_event, new_events, read_stream, subscribe, talk_to
from trio_extreme.embedded import Node, StorageError, open_node, run_inline
from trio_extreme.embedded.commits import Commits
from trio_extreme.embedded.line import Line
from trio_extreme.embedded.sqlite_storage import SqliteStorage
from trio_extreme.embedded.storage import MemoryStorage
from trio_extreme.embedded.timetable import Timetable
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from tests.embedded.talk import Reply, Talk

FORWARD = Command.READ_STREAM_EVENTS_FORWARD
MIB = 1024 * 1024


class Disk:
    """What waits for the disk, as long as it is told to."""

    def __init__(self) -> None:
        #: Seconds before each commit, and after it.
        self.seconds = self.seconds_after = 0.0
        #: Whether nothing can be written any more.
        self.is_broken = False
        self.commits = 0

    async def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any:
        if getattr(function, "__func__", None) is SqliteStorage.commit:
            self.commits += 1
            await trio.sleep(self.seconds)
            if self.is_broken:
                with no_file_may_grow():
                    return await run_inline(function, *args)
            await run_inline(function, *args)
            await trio.sleep(self.seconds_after)
            return None
        return await run_inline(function, *args)


@contextmanager
def no_file_may_grow() -> Iterator[None]:
    """Of this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.db"


@pytest.fixture
async def node(path: Path, disk: Disk, autojump_clock: MockClock) -> AsyncIterator[Node]:
    async with open_node(port=None, path=path, run_sync=disk) as opened:
        yield opened


@asynccontextmanager
async def reopened(path: Path) -> AsyncIterator[Node]:
    async with open_node(port=None, path=path, run_sync=run_inline) as opened:
        yield opened


async def write(talk: Talk, count: int = 1, *, stream: str = "people") -> None:
    await talk.tell(Command.WRITE_EVENTS, append(stream, new_events(count)))


async def write_twice(talk: Talk) -> None:
    """What is written first is on its way to the disk then, and the other waits for that."""
    for _ in range(2):
        await write(talk)
        await wait_all_tasks_blocked()


async def commands(talk: Talk, seconds: float) -> list[int | None]:
    return [reply and reply.command for reply in await talk.hear_for(seconds)]


async def heard(talk: Talk) -> Reply:
    reply = await talk.hear()
    assert reply is not None
    return reply


# What waits


async def test_an_answer_waits_until_what_it_says_is_on_the_disk(node: Node, disk: Disk) -> None:
    disk.seconds = 1.5
    talk = await talk_to(node)
    await write(talk)
    assert await commands(talk, 1.4) == []
    assert (await heard(talk)).command == Command.WRITE_EVENTS_COMPLETED
    assert trio.current_time() == pytest.approx(1.5, abs=0.01)


async def test_nothing_of_a_write_is_seen_by_anybody_before(node: Node, disk: Disk) -> None:
    writer, reader, subscriber = [await talk_to(node) for _ in range(3)]
    await subscriber.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    disk.seconds = 1.5
    await write(writer)
    await wait_all_tasks_blocked()
    await reader.tell(FORWARD, read_stream("people"))
    assert await commands(reader, 0.7) == await commands(subscriber, 0.7) == []
    page, pushed = await heard(reader), await heard(subscriber)
    assert len(page.message.events) == 1
    assert pushed.message.event.event == page.message.events[0].event


async def test_what_was_said_before_a_write_does_not_wait_for_it(node: Node, disk: Disk) -> None:
    disk.seconds = 1.5
    talk = await talk_to(node)
    await talk.tell(FORWARD, read_stream("people"))
    await write(talk)
    assert await commands(talk, 0.1) == [Command.READ_STREAM_EVENTS_FORWARD_COMPLETED]


async def test_packages_keep_their_order(node: Node, disk: Disk) -> None:
    disk.seconds = 0.5
    talk = await talk_to(node)
    for _ in range(3):
        await write(talk)
        await talk.tell(Command.PING, b"x")
        await wait_all_tasks_blocked()
    assert await commands(talk, 1.9) == 3 * [Command.WRITE_EVENTS_COMPLETED, Command.PONG]


async def test_signs_of_life_do_not_wait(node: Node, disk: Disk) -> None:
    disk.seconds = 10
    talk = await talk_to(node)
    await write(talk)
    await talk.tell(Command.HEARTBEAT_REQUEST)
    assert await commands(talk, 0.1) == [Command.HEARTBEAT_RESPONSE]
    # The node's own come after two seconds of silence, as it counts them.
    assert await commands(talk, 4.5) == [Command.HEARTBEAT_REQUEST]
    await talk.tell(Command.HEARTBEAT_RESPONSE)
    assert await commands(talk, 1) == []


@pytest.mark.parametrize("where", [1, 4, 5])
async def test_what_is_cut_inside_its_first_bytes_waits_too(node: Node, disk: Disk, where: int) -> None:
    disk.seconds = 1.5
    talk = await talk_to(node)
    node.faults.cut_inside_frame(where)
    await write(talk)
    assert await talk.hear() is None
    assert len(node.store.records("people")) == 1
    await write(await talk_to(node))
    await trio.sleep(4)
    assert len(node.store.records("people")) == 2


# Commits


async def test_a_commit_takes_all_that_was_gathered_during_the_one_before(node: Node, disk: Disk) -> None:
    disk.seconds = 1
    before = disk.commits
    talks = [await talk_to(node) for _ in range(20)]
    for talk in talks:
        await write(talk)
        await wait_all_tasks_blocked()
    assert (await heard(talks[0])).command == Command.WRITE_EVENTS_COMPLETED
    assert trio.current_time() == pytest.approx(1, abs=0.01)
    for talk in talks[1:]:
        assert (await heard(talk)).command == Command.WRITE_EVENTS_COMPLETED
    assert trio.current_time() == pytest.approx(2, abs=0.01)
    assert disk.commits - before == 2


async def test_each_answer_waits_for_its_own_commit_only(node: Node, disk: Disk) -> None:
    disk.seconds = 1
    first, second = await talk_to(node), await talk_to(node)
    await write(first)
    await trio.sleep(0.5)
    await write(second)
    assert await commands(first, 0.6) == [Command.WRITE_EVENTS_COMPLETED]
    assert await commands(second, 0.8) == []
    assert (await heard(second)).command == Command.WRITE_EVENTS_COMPLETED


async def test_who_writes_while_the_disk_is_slow_is_not_listened_to_for_ever(node: Node, disk: Disk) -> None:
    disk.seconds = 10
    talk = await talk_to(node)
    storage = node.store.storage
    assert isinstance(storage, SqliteStorage)
    most = 0

    async def tell() -> None:
        for _ in range(20):
            await talk.tell(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(MIB))]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        for _ in range(40):
            await trio.sleep(1)
            most = max(most, storage.gathered)
    assert 4 * MIB < most < 6 * MIB
    # Nor is it cut off for its silence, which is ours.
    assert (await commands(talk, 30)).count(Command.WRITE_EVENTS_COMPLETED) == 20


async def test_what_is_kept_back_for_one_client_is_bounded(node: Node, disk: Disk) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(MIB // 2))]))
    disk.seconds = 10
    await write(talk)
    for _ in range(50):
        await talk.tell(FORWARD, read_stream("people"))
    await trio.sleep(1)
    (connection,) = node._connections
    assert MIB // 2 < connection._kept_size < MIB
    assert (await commands(talk, 20)).count(Command.READ_STREAM_EVENTS_FORWARD_COMPLETED) == 50


async def test_a_process_that_is_stopped_commits_nothing(node: Node, disk: Disk) -> None:
    talk = await talk_to(node)
    disk.seconds, before = 1, disk.commits
    await write_twice(talk)
    with node.faults.pause():
        await trio.sleep(10)
        assert disk.commits == before + 1
    assert [(await heard(talk)).command for _ in range(2)] == 2 * [Command.WRITE_EVENTS_COMPLETED]


# Crashes


@pytest.mark.parametrize("is_on_the_disk", [False, True])
async def test_a_crash_loses_what_was_not_committed_and_never_answered(
    node: Node, disk: Disk, *, is_on_the_disk: bool
) -> None:
    talk = await talk_to(node)
    await talk.ask(Command.WRITE_EVENTS, append("people", new_events(2)))
    # Of the first, the disk may have been told, and the node not yet.
    disk.seconds, disk.seconds_after = (0, 1) if is_on_the_disk else (1, 0)
    await write(talk, stream="others")
    await wait_all_tasks_blocked()
    await write(talk, 3)
    await wait_all_tasks_blocked()
    assert (len(node.store.records("people")), len(node.store.records("others"))) == (5, 1)
    node.faults.restart()
    assert (len(node.store.records("people")), len(node.store.records("others"))) == (2, is_on_the_disk)
    assert await talk.hear() is None
    talk = await talk_to(node)
    for number in (2, 3):
        reply = await talk.ask(Command.WRITE_EVENTS, append("people", new_events(1), number - 1))
        assert reply is not None
        assert (reply.message.first_event_number, len(node.store.records("people"))) == (number, number + 1)


async def test_a_node_that_restarts_gracefully_commits_and_answers(node: Node, disk: Disk) -> None:
    disk.seconds = 0.3
    talk = await talk_to(node)
    await write_twice(talk)
    node.faults.restart(graceful=True)
    assert await commands(talk, 1) == [*2 * [Command.WRITE_EVENTS_COMPLETED], None]
    assert len(node.store.records("people")) == 2


@pytest.mark.parametrize(
    ("fails", "sentence"),
    [("insert", r"there is no room for .*node\.db"), ("commit", r"node\.db cannot be used \(disk I/O error\)")],
)
async def test_a_write_that_fails_ends_the_node_and_answers_nothing(
    path: Path, disk: Disk, fails: str, sentence: str, autojump_clock: MockClock
) -> None:
    talk: Talk | None = None
    with pytest.raises(StorageError, match=sentence) as caught:  # noqa: PT012 - of the block
        async with open_node(port=None, path=path, run_sync=disk) as node:
            talk = await talk_to(node)
            await talk.ask(Command.WRITE_EVENTS, append("people", new_events(2)))
            if fails == "insert":
                storage = node.store.storage
                assert isinstance(storage, SqliteStorage)
                storage._writer._db.execute("PRAGMA max_page_count = 1")
            else:
                disk.is_broken = True
            await write(talk, 300)
            # Nor is this, which came later, committed without what came before.
            await write(talk, 1, stream="others")
            await trio.sleep_forever()
    assert caught.value.path == str(path)
    assert talk is not None
    assert await talk.hear() is None
    async with reopened(path) as node:
        assert (len(node.store.records("people")), node.store.last_number("others")) == (2, -1)


# Leaving


async def test_leaving_commits_what_was_written(path: Path, disk: Disk, autojump_clock: MockClock) -> None:
    async with open_node(port=None, path=path, run_sync=disk) as node:
        talk = await talk_to(node)
        await write(talk)
        await wait_all_tasks_blocked()
        disk.seconds = 0.3
        await write(talk, 2)
        await wait_all_tasks_blocked()
    assert await commands(talk, 1) == [*2 * [Command.WRITE_EVENTS_COMPLETED], None]
    async with reopened(path) as node:
        assert len(node.store.records("people")) == 3


async def test_leaving_does_not_wait_for_a_slow_commit(path: Path, disk: Disk, autojump_clock: MockClock) -> None:
    async with open_node(port=None, path=path, run_sync=disk) as node:
        talk = await talk_to(node)
        disk.seconds = 60
        await write(talk)
        await wait_all_tasks_blocked()
        start = trio.current_time()
    assert trio.current_time() - start == pytest.approx(0.5, abs=0.01)
    assert await commands(talk, 1) == [None]
    # It was written when the file was closed, though nobody was told.
    async with reopened(path) as node:
        assert len(node.store.records("people")) == 1


async def test_a_cancelled_opening_gives_the_file_back(path: Path) -> None:
    for checkpoints in range(10):
        with trio.CancelScope() as scope:

            async def count(function: Callable[..., Any], /, *args: Any, left: int = checkpoints) -> Any:
                for _ in range(left):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
                return await run_inline(function, *args)

            async with open_node(port=None, path=path, run_sync=count):
                await trio.sleep_forever()
        assert scope.cancelled_caught
    async with reopened(path) as node:
        assert node.store.log.end == 168


# In memory


async def test_a_node_in_memory_has_nothing_to_wait_for() -> None:
    commits = Commits(MemoryStorage(), run_inline, Line(Timetable()), lambda: None)
    assert (commits.is_done, commits.is_crowded, commits.written, commits.durable) == (True, False, 0, 0)
    assert repr(commits) == "<Commits: 0 to come>"
    await commits.pass_by()
