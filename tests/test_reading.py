"""Pages: how large, how many, and that nothing of them is lost."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import Read, log_page, not_handled, page
from tests.lost import lose, open_over, settle
from tests.peer import ANONYMOUS, Call, Peer, Request, open_to
from trio_extreme import (
    END,
    NO_STREAM,
    AccessDenied,
    ConnectionLost,
    FrameTooLarge,
    OperationTimedOut,
    Position,
    ProtocolError,
    StreamDeleted,
    StreamNotFound,
)
from trio_extreme.operations.reading import ReadStream
from trio_extreme.reading import Pager
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from trio_extreme import Connection, StreamReader

pytestmark = pytest.mark.usefixtures("autojump_clock")

FORWARD = Command.READ_STREAM_EVENTS_FORWARD
BACKWARD = Command.READ_STREAM_EVENTS_BACKWARD


class Library(Peer):
    """A peer with one stream of `length` events, each of so many bytes. It dies of pages with certain counts."""

    def __init__(self, length: int, size: Callable[[int], int] = lambda _: 10, *, dies_of: Container[int] = ()) -> None:
        super().__init__()
        self.length = length
        self.size = size
        self.dies_of = dies_of
        #: Number and count of each request.
        self.asked: list[tuple[int, int]] = []
        self.handlers[FORWARD] = self.forward
        self.handlers[BACKWARD] = self.backward

    def forward(self, request: Request) -> None:
        start, count = self.note(request)
        numbers = range(start, min(start + count, self.length))
        self.give(request, numbers, min(start + count, self.length), start + count >= self.length)

    def backward(self, request: Request) -> None:
        start, count = self.note(request)
        start = self.length - 1 if start == -1 else start
        numbers = range(start, max(start - count, -1), -1)
        self.give(request, numbers, start - count, start - count < 0)

    def note(self, request: Request) -> tuple[int, int]:
        message: Any = request.message
        self.asked.append((message.from_event_number, message.max_count))
        return self.asked[-1]

    def give(self, request: Request, numbers: Iterable[int], following: int, end: bool) -> None:
        if self.asked[-1][1] in self.dies_of:
            self.hang_up()
            return
        numbers = list(numbers)
        size = max(map(self.size, numbers), default=0)
        answer = page(numbers, following, end=end, last=self.length - 1, size=size)
        self.send(request.command + 1, request.correlation, answer)


async def numbers(reader: StreamReader) -> list[int]:
    return [event.number async for event in reader]


def fail_with(result: int) -> Peer:
    peer = Peer()
    answer = schema.ReadStreamEventsCompleted(result=result)
    peer.handlers[FORWARD] = lambda request: peer.send(FORWARD + 1, request.correlation, answer)
    return peer


async def goes_on_elsewhere(conn: Connection, peer: Peer) -> None:
    """Who says what no server says is not listened to any more; the next session is another."""
    await conn.ping()
    assert peer.closed


# --- pages


async def test_pages_follow_each_other() -> None:
    peer = Library(1000)
    async with open_to(peer) as conn:
        assert await numbers(conn.read_stream("s")) == list(range(1000))
    assert peer.asked == [(0, 8), (8, 64), (72, 500), (572, 500)]


async def test_backwards_from_the_end() -> None:
    peer = Library(100)
    async with open_to(peer) as conn:
        assert await numbers(conn.read_stream("s", backwards=True)) == list(range(99, -1, -1))
    assert peer.asked == [(-1, 8), (91, 64), (27, 500)]


async def test_from_a_number_and_a_page_size() -> None:
    peer = Library(100)
    async with open_to(peer) as conn:
        assert await numbers(conn.read_stream("s", start=95, page_size=2)) == [95, 96, 97, 98, 99]
        assert await numbers(conn.read_stream("s", start=3, backwards=True, page_size=3)) == [3, 2, 1, 0]
        assert await numbers(conn.read_stream("s", start=END, backwards=True, count=1)) == [99]
    assert peer.asked == [(95, 2), (97, 2), (99, 2), (3, 3), (0, 3), (-1, 1)]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 72, 73])
async def test_so_many_in_all(count: int) -> None:
    peer = Library(100)
    async with open_to(peer) as conn:
        reader = conn.read_stream("s", count=count)
        assert await numbers(reader) == list(range(count))
        assert await numbers(reader) == []
    # Not one more is asked for.
    assert sum(asked for _, asked in peer.asked) == count


async def test_a_server_that_gives_more_than_was_asked_for() -> None:
    peer = Peer()
    peer.handlers[FORWARD] = lambda request: peer.send(FORWARD + 1, request.correlation, page(range(5), 5))
    async with open_over(peer, Peer()) as conn:
        with pytest.raises(ProtocolError, match="a page of 5 events to who asked for 3"):
            await numbers(conn.read_stream("s", count=3))
        await goes_on_elsewhere(conn, peer)


async def test_a_log_page_with_more_than_was_asked_for() -> None:
    peer = Peer()
    command = Command.READ_ALL_EVENTS_FORWARD
    peer.handlers[command] = lambda request: peer.send(command + 1, request.correlation, log_page([0, 10], 0, 20))
    async with open_over(peer, Peer()) as conn:
        with pytest.raises(ProtocolError, match="a page of 2 events to who asked for 1"):
            await anext(conn.read_all(count=1))
        await goes_on_elsewhere(conn, peer)


async def test_pages_in_lists() -> None:
    peer = Library(20)
    async with open_to(peer) as conn:
        reader = conn.read_stream("s")
        assert (await anext(reader)).number == 0
        pages = [[event.number for event in events] async for events in reader.pages()]
    assert pages == [list(range(1, 8)), list(range(8, 20))]


async def test_an_empty_page_is_not_the_end() -> None:
    """What was truncated or scavenged away leaves pages without events."""
    peer = Peer()
    answers = iter([page([], 50), page([], 90), page([90], 91, end=True)])
    peer.handlers[FORWARD] = lambda request: peer.send(FORWARD + 1, request.correlation, next(answers))
    async with open_to(peer) as conn:
        assert [list(map(len, [events])) async for events in conn.read_stream("s").pages()] == [[1]]


async def test_a_page_that_makes_no_progress() -> None:
    peer = Peer()
    peer.handlers[FORWARD] = lambda request: peer.send(FORWARD + 1, request.correlation, page([0], 0))
    async with open_over(peer, Peer()) as conn:
        with pytest.raises(ProtocolError, match="no progress"):
            await numbers(conn.read_stream("s"))
        await goes_on_elsewhere(conn, peer)


@pytest.mark.parametrize(
    ("backwards", "start", "answer"),
    [
        pytest.param(False, 100, log_page([50], 0, 100), id="forwards"),
        pytest.param(False, 100, log_page([50], 0, 60), id="forwards, and back"),
        pytest.param(True, 100, log_page([150], 200, 100), id="backwards"),
    ],
)
async def test_a_log_page_that_makes_no_progress(backwards: bool, start: int, answer: Any) -> None:
    """It goes on behind where the peer says it began, and not behind where we asked: the same would come again."""
    peer = Peer()
    command = Command.READ_ALL_EVENTS_BACKWARD if backwards else Command.READ_ALL_EVENTS_FORWARD
    peer.handlers[command] = lambda request: peer.send(command + 1, request.correlation, answer)
    async with open_over(peer, Peer()) as conn:
        with pytest.raises(ProtocolError, match="no progress"):
            await anext(conn.read_all(start=Position(start, start), backwards=backwards))
        await goes_on_elsewhere(conn, peer)


async def test_of_the_log() -> None:
    peer = Peer()
    command = Command.READ_ALL_EVENTS_FORWARD
    answers = iter([log_page([0, 10], 0, 20), log_page([20], 20, 30), log_page([], 30, 30)])
    asked: list[tuple[int, int]] = []

    def answer(request: Request) -> None:
        message: Any = request.message
        asked.append((message.commit_position, message.prepare_position))
        peer.send(command + 1, request.correlation, next(answers))

    peer.handlers[command] = answer
    async with open_to(peer) as conn:
        reader = conn.read_all()
        assert [event.position async for event in reader] == [Position(place, place) for place in (0, 10, 20)]
        assert [event async for event in reader] == []
    # The wire has no end flag here: an empty page is the end.
    assert asked == [(0, 0), (20, 20), (30, 30)]


async def test_of_the_log_backwards() -> None:
    peer = Peer()
    command = Command.READ_ALL_EVENTS_BACKWARD
    answers = iter([log_page([20, 10], 30, 10), log_page([], 10, 10)])
    requests: list[Any] = []

    def answer(request: Request) -> None:
        requests.append(request.message)
        peer.send(command + 1, request.correlation, next(answers))

    peer.handlers[command] = answer
    async with open_to(peer) as conn:
        assert len([event async for event in conn.read_all(backwards=True, resolve_links=True)]) == 2
        answers = iter([log_page([5], 7, 5)])
        assert len([event async for event in conn.read_all(backwards=True, start=Position(7, 7), count=1)]) == 1
    assert [(message.commit_position, message.resolve_link_tos) for message in requests] == [
        (-1, True),
        (10, True),
        (7, False),
    ]


async def test_pages_stay_below_a_small_frame_limit() -> None:
    peer = Library(200, lambda _: 1000)
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=32_768)) as conn:
        assert await numbers(conn.read_stream("s")) == list(range(200))
    # No page was too large, so each begins where the one before it ended.
    ends = [start + count for start, count in peer.asked]
    assert [start for start, _ in peer.asked] == [0, *ends[:-1]]


# --- the last number


async def test_the_last_number_is_of_the_last_page() -> None:
    peer = Library(20)
    async with open_to(peer) as conn:
        reader = conn.read_stream("s")
        with pytest.raises(RuntimeError, match="first page"):
            _ = reader.last_number
        await anext(reader)
        assert reader.last_number == 19
        peer.length = 30
        await numbers(reader)
        assert reader.last_number == 29


# --- streams that are not there


async def test_a_stream_that_is_missing() -> None:
    async with open_to(fail_with(Read.NoStream)) as conn:
        reader = conn.read_stream("s")
        with pytest.raises(StreamNotFound):
            await anext(reader)
        assert reader.last_number == NO_STREAM
        # It was said once; what is exhausted stays so.
        assert await numbers(reader) == []


async def test_a_stream_that_may_be_missing() -> None:
    async with open_to(fail_with(Read.NoStream)) as conn:
        reader = conn.read_stream("s", missing_ok=True)
        assert await numbers(reader) == []
        assert reader.last_number == NO_STREAM


@pytest.mark.parametrize(("result", "kind"), [(Read.StreamDeleted, StreamDeleted), (Read.AccessDenied, AccessDenied)])
async def test_what_missing_ok_does_not_excuse(result: int, kind: type[Exception]) -> None:
    async with open_to(fail_with(result)) as conn:
        with pytest.raises(kind):
            await numbers(conn.read_stream("s", missing_ok=True))


# --- pages too large to take


async def test_a_page_too_large_is_asked_for_in_quarters() -> None:
    peer = Library(40, size=lambda number: 10 if number < 8 else 1000)
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=7000)) as conn:
        assert await numbers(conn.read_stream("s")) == list(range(40))
    # 64 are too many, 16 too, 4 are not.
    assert peer.asked[:4] == [(0, 8), (8, 64), (8, 16), (8, 4)]


async def test_one_event_too_large() -> None:
    peer = Library(40, size=lambda number: 10 if number < 8 else 9000)
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=7000)) as conn:
        reader = conn.read_stream("s")
        read = [(await anext(reader)).number for _ in range(8)]
        with pytest.raises(FrameTooLarge) as info:
            await anext(reader)
        assert read == list(range(8))
        assert info.value.limit == 7000
        assert [count for _, count in peer.asked] == [8, 64, 16, 4, 1]
        # No event is passed over: it is there when the limit is not.
        with pytest.raises(FrameTooLarge):
            await anext(reader)
        assert peer.asked[-1] == (8, 1)


async def test_a_small_count_is_not_asked_for_twice() -> None:
    peer = Library(40, size=lambda _: 3000)
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=7000)) as conn:
        assert await numbers(conn.read_stream("s", count=3)) == [0, 1, 2]
    assert peer.asked[:2] == [(0, 3), (0, 1)]


# --- ahead


async def test_nothing_runs_between_two_pages() -> None:
    peer = Library(100)
    async with open_to(peer) as conn:
        reader = conn.read_stream("s")
        await anext(reader)
        await trio.testing.wait_all_tasks_blocked()
        assert len(peer.asked) == 1
        assert conn.statistics().in_flight == 0


async def test_under_async_with_the_next_page_is_under_way() -> None:
    peer = Library(100)
    async with open_to(peer) as conn:
        async with conn.read_stream("s") as reader:
            await anext(reader)
            await trio.testing.wait_all_tasks_blocked()
            assert peer.asked == [(0, 8), (8, 64)]
            # It is there already, so it takes no place from others.
            assert conn.statistics().in_flight == 0
            assert await numbers(reader) == list(range(1, 100))
            # Nothing is asked for behind the end.
            await trio.testing.wait_all_tasks_blocked()
            assert peer.asked == [(0, 8), (8, 64), (72, 500)]
        assert conn.statistics().in_flight == 0


async def test_the_next_page_is_asked_for_before_a_body_that_never_waits() -> None:
    peer = Library(100)
    async with open_to(peer) as conn, conn.read_stream("s") as reader:
        await anext(reader)
        # The writer has it in its hands.
        assert conn.statistics().queued_bytes == 0
        await trio.testing.wait_all_tasks_blocked()
        assert peer.asked == [(0, 8), (8, 64)]


async def test_what_is_ahead_is_abandoned_when_the_block_is_left() -> None:
    peer = Library(100)
    async with open_to(peer) as conn:
        reader = conn.read_stream("s")
        async with reader:
            await anext(reader)
        assert conn.statistics().in_flight == 0
        # It can be read on, without reading ahead, and no event is lost.
        got = [(await anext(reader)).number for _ in range(8)]
        await trio.testing.wait_all_tasks_blocked()
        assert peer.asked == [(0, 8), (8, 64), (8, 64)]
        assert got + await numbers(reader) == list(range(1, 100))


async def test_nothing_is_ahead_of_the_count() -> None:
    peer = Library(100)
    async with open_to(peer) as conn, conn.read_stream("s", count=10) as reader:
        assert await numbers(reader) == list(range(10))
        await trio.testing.wait_all_tasks_blocked()
        assert peer.asked == [(0, 8), (8, 2)]


async def test_where_the_door_is_shut_nothing_is_ahead(nursery: trio.Nursery) -> None:
    peer = Library(100)
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=1)) as conn, conn.read_stream("s") as reader:
        peer.handlers[FORWARD] = partial(answer_and_then_fill_the_door, peer, conn, nursery)
        await anext(reader)
        assert await numbers(reader) == list(range(1, 100))


def answer_and_then_fill_the_door(peer: Library, conn: Connection, nursery: trio.Nursery, request: Request) -> None:
    """Another caller waits at the door whenever a page arrives."""
    peer.forward(request)
    Call(nursery, conn.ping)


async def test_who_reads_ahead_keeps_nobody_from_the_door() -> None:
    """Not even itself: what is done with each event needs a place too."""
    peer = Library(100)
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=1)) as conn, conn.read_stream("s") as reader:
        got = []
        async for event in reader:
            got.append(event.number)
            await conn.ping()
    assert got == list(range(100))
    assert trio.current_time() == 0


async def test_a_page_ahead_is_fetched_late(nursery: trio.Nursery) -> None:
    """Its time counts from when somebody wants it; what came of it before is mended then."""
    peer = Library(100)
    async with open_to(peer) as conn, conn.read_stream("s") as reader:
        got = [(await anext(reader)).number]
        del peer.handlers[FORWARD]
        got += [(await anext(reader)).number for _ in range(7)]
        request = await peer.receive(FORWARD)
        peer.send(Command.NOT_HANDLED, request.correlation, not_handled(0))
        await trio.sleep(2 * ANONYMOUS.operation_timeout)
        peer.handlers[FORWARD] = peer.forward
        assert got + await numbers(reader) == list(range(100))


async def test_a_page_ahead_that_never_comes() -> None:
    peer = Library(100)
    async with open_to(peer) as conn, conn.read_stream("s") as reader:
        await anext(reader)
        await trio.testing.wait_all_tasks_blocked()
        peer.handlers[FORWARD] = lambda request: None
        assert len([await anext(reader) for _ in range(71)]) == 71
        await trio.sleep(2 * ANONYMOUS.operation_timeout)
        began = trio.current_time()
        with pytest.raises(OperationTimedOut):
            await anext(reader)
        assert trio.current_time() - began == pytest.approx(ANONYMOUS.operation_timeout)


async def test_a_page_ahead_that_cannot_be_sent(nursery: trio.Nursery) -> None:
    """It waits in the queue, and its time runs all the same once it is wanted."""
    peer = Library(100)
    del peer.handlers[FORWARD]
    async with open_to(peer, ANONYMOUS.replace(heartbeat_timeout=600)) as conn, conn.read_stream("s") as reader:
        first = Call(nursery, reader.__anext__)
        request = await peer.receive(FORWARD)
        peer.hold()
        under_way = Call(nursery, conn.ping)
        await trio.testing.wait_all_tasks_blocked()
        peer.forward(request)
        await first.value()
        assert [(await anext(reader)).number for _ in range(7)] == list(range(1, 8))
        began = trio.current_time()
        with pytest.raises(OperationTimedOut):
            await anext(reader)
        assert trio.current_time() - began == pytest.approx(ANONYMOUS.operation_timeout)
        peer.release()
        await under_way.error()


async def test_a_page_ahead_that_is_too_large() -> None:
    peer = Library(40, size=lambda number: 10 if number < 8 else 1000)
    settings = ANONYMOUS.replace(max_frame_size=7000)
    async with open_to(peer, settings) as conn, conn.read_stream("s") as reader:
        assert await numbers(reader) == list(range(40))
    assert peer.asked[:4] == [(0, 8), (8, 64), (8, 16), (8, 4)]


# --- the session is lost


async def test_a_page_that_arrived_is_handed_out_although_its_session_is_lost() -> None:
    first, second = Library(100), Library(100)

    def answer_and_hang_up(request: Request) -> None:
        first.forward(request)
        first.hang_up()

    first.handlers[FORWARD] = answer_and_hang_up
    async with open_over(first, second) as conn, conn.read_stream("s") as reader:
        assert await numbers(reader) == list(range(100))
    assert second.asked[0][0] == 8


@pytest.mark.parametrize("ahead", [False, True])
async def test_a_page_whose_session_died_is_asked_for_with_a_quarter(ahead: bool) -> None:
    first, second = Library(300, dies_of=[64]), Library(300)
    async with open_over(first, second) as conn:
        reader = conn.read_stream("s")
        if ahead:
            async with reader:
                assert await numbers(reader) == list(range(300))
        else:
            assert await numbers(reader) == list(range(300))
    assert first.asked == [(0, 8), (8, 64)]
    # Once it goes well they grow again.
    assert second.asked == [(8, 16), (24, 128), (152, 500)]


async def test_the_first_page_too() -> None:
    first, second = Library(300, dies_of=[8]), Library(300)
    async with open_over(first, second) as conn:
        assert await numbers(conn.read_stream("s", backwards=True)) == list(range(299, -1, -1))
    assert first.asked == [(-1, 8)]
    assert second.asked[:2] == [(-1, 2), (297, 16)]


async def test_a_page_ahead_whose_session_died_while_nobody_looked() -> None:
    first, second = Library(100, dies_of=[64]), Library(100)
    async with open_over(first, second) as conn, conn.read_stream("s") as reader:
        assert (await anext(reader)).number == 0
        await settle()
        assert first.closed
        # It waits for somebody who wants it.
        assert second.asked == []
        assert await numbers(reader) == list(range(1, 100))
    assert second.asked == [(8, 16), (24, 128)]


async def test_a_page_that_was_never_sent_is_asked_for_as_it_is() -> None:
    first, second = Library(100), Library(100)
    async with open_over(first, second) as conn:
        reader = conn.read_stream("s")
        got = [(await anext(reader)).number for _ in range(8)]
        await lose(first)
        assert got + await numbers(reader) == list(range(100))
    assert second.asked == [(8, 64), (72, 500)]


async def test_whether_a_page_is_of_the_present_session() -> None:
    """One that was fetched ahead in an earlier session tells nothing of what the server has now."""
    first, second = Library(100), Library(100)
    async with open_over(first, second) as conn:
        pager = Pager(conn._engine.calls, None, 8, first_page)
        await pager.fetch(inf)
        assert pager.is_fresh
        await pager.fetch_ahead()
        await settle()
        assert len(first.asked) == 2
        await lose(first)
        await pager.fetch(inf)
        assert second.asked == []
        assert not pager.is_fresh
        await pager.fetch(inf)
        assert pager.is_fresh
        await pager.fetch_ahead()
        assert pager.is_fresh
        pager.drop()


def first_page(count: int) -> ReadStream:
    return ReadStream("s", 0, count, backwards=False, resolve_links=False, require_master=False)


async def test_a_page_of_the_log_whose_session_died() -> None:
    command = Command.READ_ALL_EVENTS_FORWARD
    first, second = Peer(), Peer()
    asked: list[tuple[int, int]] = []
    answers = iter([log_page([0, 10], 0, 20), None, log_page([20, 30], 20, 40), log_page([], 40, 40)])

    def answer(peer: Peer, request: Request) -> None:
        message: Any = request.message
        asked.append((message.commit_position, message.max_count))
        done = next(answers)
        if done is None:
            peer.hang_up()
        else:
            peer.send(command + 1, request.correlation, done)

    for peer in (first, second):
        peer.handlers[command] = partial(answer, peer)
    async with open_over(first, second) as conn:
        assert [event.position.commit async for event in conn.read_all()] == [0, 10, 20, 30]
    assert asked == [(0, 8), (20, 64), (20, 16), (40, 128)]


EVERYTHING = range(1, 5000)


async def test_of_one_event_two_sessions_may_die_and_no_third() -> None:
    dying = [Library(100, dies_of=range(9, 5000)), *[Library(100, dies_of=EVERYTHING) for _ in range(4)]]
    async with open_over(*dying, last := Library(100)) as conn:
        reader = conn.read_stream("s")
        got = [(await anext(reader)).number for _ in range(8)]
        with pytest.raises(ConnectionLost, match="the server closed it") as info:
            await anext(reader)
        # What the library tells itself is not what users are told.
        assert type(info.value) is ConnectionLost
        assert info.value.__suppress_context__
        assert [peer.asked[-1] for peer in dying] == [(8, 64), (8, 16), (8, 4), (8, 1), (8, 1)]
        assert last.asked == []
        # Who tries all the same misses nothing.
        assert got + await numbers(reader) == list(range(100))
    assert last.asked[0] == (8, 1)


async def test_what_the_system_said_of_the_loss_is_its_cause() -> None:
    peers = [Peer(), Peer()]
    async with open_over(*peers, Peer()) as conn, trio.open_nursery() as nursery:
        reading = Call(nursery, numbers, conn.read_stream("s", page_size=1))
        for peer in peers:
            await peer.receive(FORWARD)
            broken = ConnectionResetError("reset by the peer")
            peer.break_reading(broken)
        error = await reading.error()
        assert type(error) is ConnectionLost
        assert error.__cause__ is broken


async def test_garbage_of_a_session_that_has_ended_ends_no_other() -> None:
    """The page was fetched ahead, and is looked at in the next session."""
    first, second = Library(100), Library(100)
    async with open_over(first, second) as conn, conn.read_stream("s") as reader:
        first.handlers[FORWARD] = partial(answer_garbage_later, first)
        got = [(await anext(reader)).number for _ in range(8)]
        assert got == list(range(8))
        await settle()
        await lose(first)
        with pytest.raises(ProtocolError):
            await anext(reader)
        await settle()
        assert not second.closed
        await conn.ping()
        assert conn.statistics().reconnects == 1


def answer_garbage_later(peer: Library, request: Request) -> None:
    """The first page is one, and what comes after it is none."""
    if peer.asked:
        peer.send(FORWARD + 1, request.correlation, b"\xff\xff")
    else:
        peer.forward(request)


async def test_one_session_that_died_of_an_event_may_have_died_of_something_else() -> None:
    dying = [Library(30, dies_of=EVERYTHING) for _ in range(3)]
    async with open_over(*dying, last := Library(30)) as conn:
        assert await numbers(conn.read_stream("s")) == list(range(30))
    assert [peer.asked for peer in dying] == [[(0, 8)], [(0, 2)], [(0, 1)]]
    assert last.asked[0] == (0, 1)


async def test_a_page_that_came_in_between_makes_up_for_a_session_that_died() -> None:
    """Each of these dies of the second page that it is asked for, and the first of its first."""
    peers = [Library(4, dies_of=EVERYTHING), *[Library(4) for _ in range(3)]]
    for peer in peers[1:]:
        peer.handlers[FORWARD] = partial(answer_once, peer)
    async with open_over(*peers, Library(4)) as conn:
        assert await numbers(conn.read_stream("s", page_size=1)) == [0, 1, 2, 3]
    assert [peer.asked for peer in peers] == [[(0, 1)], [(0, 1), (1, 1)], [(1, 1), (2, 1)], [(2, 1), (3, 1)]]


def answer_once(peer: Library, request: Request) -> None:
    peer.forward(request)
    peer.dies_of = EVERYTHING


# --- a page is overdue


async def test_an_overdue_page_is_asked_for_with_a_quarter() -> None:
    """On the session that lives: the server answers, but not this."""
    peer = Library(100)
    async with open_to(peer) as conn:
        reader = conn.read_stream("s")
        got = [(await anext(reader)).number for _ in range(8)]
        del peer.handlers[FORWARD]
        rest = await numbers_late(peer, reader)
        assert got + rest == list(range(100))
    assert peer.asked == [(0, 8), (8, 16), (24, 128)]


async def numbers_late(peer: Library, reader: StreamReader) -> list[int]:
    """The peer answers the second time it is asked, and the first answer comes too late."""
    async with trio.open_nursery() as nursery:
        reading = Call(nursery, numbers, reader)
        late = await peer.receive(FORWARD)
        peer.handlers[FORWARD] = peer.forward
        began = trio.current_time()
        got: list[int] = await reading.value()
        assert trio.current_time() - began == pytest.approx(ANONYMOUS.attempt_timeout)
        peer.send(FORWARD + 1, late.correlation, page(range(8, 72), 72))
    return got


async def test_one_event_may_be_overdue_as_often_as_there_is_time() -> None:
    peer = Library(100)
    peer.handlers[FORWARD] = lambda request: None
    async with open_to(peer, ANONYMOUS.replace(attempt_timeout=1)) as conn:
        began = trio.current_time()
        with pytest.raises(OperationTimedOut, match=r"30 s \(operation_timeout\)"):
            await numbers(conn.read_stream("s", page_size=1))
        assert trio.current_time() - began == pytest.approx(30)
    assert len(peer.commands()) == 30


# --- cancelled


async def test_cancelled_when_a_page_is_there_and_the_next_is_asked_for() -> None:
    peer = Library(20)
    async with open_to(peer) as conn, conn.read_stream("s") as reader:
        calls = reader._calls
        begin = calls.begin

        def cancel_and_begin(*args: Any) -> Any:
            scope.cancel()
            return begin(*args)

        calls.begin = cancel_and_begin  # type: ignore[method-assign,assignment]
        got: list[int] = []
        with trio.CancelScope() as scope:
            while True:
                got.append((await anext(reader)).number)
        calls.begin = begin  # type: ignore[method-assign]
        assert scope.cancelled_caught
        assert got + await numbers(reader) == list(range(20))


async def read_with_interruptions(peer: Library, reader: StreamReader) -> list[int]:
    """Cancelled again and again while it waits for a page."""
    got: list[int] = []
    with suppress(StopAsyncIteration):
        while True:
            peer.handlers.pop(FORWARD, None)
            with trio.move_on_after(0.1) as scope:
                while True:
                    got.append((await anext(reader)).number)
            assert scope.cancelled_caught
            # What was asked and not answered before is a stray when it is answered now.
            for request in peer.unanswered():
                peer.forward(request)
            peer.handlers[FORWARD] = peer.forward
            got.append((await anext(reader)).number)
    return got


async def test_a_cancelled_iteration_loses_nothing() -> None:
    peer = Library(100)
    async with open_to(peer) as conn:
        reader = conn.read_stream("s", page_size=4)
        assert await read_with_interruptions(peer, reader) == list(range(100))


async def test_a_cancelled_iteration_that_reads_ahead_loses_nothing() -> None:
    peer = Library(100)
    async with open_to(peer) as conn, conn.read_stream("s", page_size=4) as reader:
        assert await read_with_interruptions(peer, reader) == list(range(100))


async def test_a_second_task_is_refused(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        reader = conn.read_stream("s")
        first = Call(nursery, reader.__anext__)
        request = await peer.receive()
        with pytest.raises(trio.BusyResourceError):
            await anext(reader)
        peer.send(FORWARD + 1, request.correlation, page([0], 1, end=True))
        assert (await first.value()).number == 0


async def test_a_node_that_is_not_ready_is_asked_again_for_the_page() -> None:
    peer = Library(20)

    def refuse_once(request: Request) -> None:
        peer.send(Command.NOT_HANDLED, request.correlation, not_handled(0))
        peer.handlers[FORWARD] = peer.forward

    peer.handlers[FORWARD] = refuse_once
    async with open_to(peer) as conn:
        assert await numbers(conn.read_stream("s")) == list(range(20))
