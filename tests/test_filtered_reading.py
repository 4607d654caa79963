"""Reading the log with a filter: by the server, or here where it is older, and from one to the other on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.filtering import (
    FILTERED,
    FILTERED_BACK,
    READ,
    READ_BACK,
    Asked,
    LogServer,
    open_to_servers,
)
from tests.lost import AT_ONCE, lose, settle, warnings
from tests.peer import ANONYMOUS, Call, open_to
from trio_extreme import (
    END,
    AccessDenied,
    BadRequest,
    Connection,
    ConnectionLost,
    Credentials,
    Filter,
    InvalidArgument,
    NotAuthenticated,
    OperationTimedOut,
    Position,
    open_connection,
)
from trio_extreme.filter_support import MAX_DEATHS
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from tests.peer import Request
    from trio_extreme import LogReader

pytestmark = pytest.mark.usefixtures("autojump_clock")

YES = Filter.by_stream("yes")

#: One in a hundred, and both ends.
RARE = ["yes" if number % 100 == 0 else "no" for number in range(1001)]
PLACES = [number * 10 for number in range(0, 1001, 100)]

each_server = pytest.mark.parametrize("filters", [True, False], ids=["filters", "does not"])


async def places(reader: LogReader) -> list[int]:
    return [event.position.commit async for event in reader]


# --- what is read


@each_server
async def test_forwards(filters: bool) -> None:
    server = LogServer(RARE, filters=filters)
    async with open_to(server) as conn:
        assert await places(conn.read_all(filter=YES)) == PLACES
        assert await places(conn.read_all(filter=YES, start=Position(2000, 2000))) == PLACES[2:]
        assert await places(conn.read_all(filter=YES, start=Position(2010, 0))) == PLACES[3:]
        async with conn.read_all(filter=YES, page_size=3) as ahead:
            assert await places(ahead) == PLACES
    assert server.questions == 1


@each_server
async def test_backwards(filters: bool) -> None:
    server = LogServer(RARE, filters=filters)
    async with open_to(server) as conn:
        assert await places(conn.read_all(filter=YES, backwards=True)) == PLACES[::-1]
        assert await places(conn.read_all(filter=YES, backwards=True, start=END, count=2)) == [10000, 9000]
        assert await places(conn.read_all(filter=YES, backwards=True, start=Position(9000, 9000))) == PLACES[-3::-1]


@each_server
@pytest.mark.parametrize("count", [1, 3, 11, 12])
async def test_count_is_of_what_matches(filters: bool, count: int) -> None:
    server = LogServer(RARE, filters=filters)
    async with open_to(server) as conn:
        assert await places(conn.read_all(filter=YES, count=count)) == PLACES[:count]


@each_server
async def test_nothing_matches(filters: bool) -> None:
    async with open_to(LogServer(RARE, filters=filters)) as conn:
        assert await places(conn.read_all(filter=Filter.by_type("none"))) == []
        assert [page async for page in conn.read_all(filter=Filter.by_type("none"), backwards=True).pages()] == []


@each_server
async def test_an_empty_log(filters: bool) -> None:
    async with open_to(LogServer(filters=filters)) as conn:
        assert await places(conn.read_all(filter=YES)) == []
        assert await places(conn.read_all(filter=YES, backwards=True)) == []


@each_server
async def test_pages_have_what_matches(filters: bool) -> None:
    async with open_to(LogServer(["yes", "no", "yes"], filters=filters)) as conn:
        pages = [page async for page in conn.read_all(filter=YES).pages()]
    assert [[event.stream for event in page] for page in pages] == [["yes", "yes"]]


@each_server
@pytest.mark.parametrize(
    ("filter", "streams"),
    [
        (Filter.by_stream("a", "c"), ["a1", "c1", "a2"]),
        (Filter.by_type("type of b"), ["b1"]),
        (Filter.by_stream(regex="[12]$"), ["a1", "b1", "c1", "a2"]),
        (Filter.by_type(regex="^type of (a1|c)"), ["a1", "c1"]),
        (Filter.exclude_system(), ["a1", "b1", "c1", "$d", "a2"]),
    ],
)
async def test_by_whatever_is_said(filter: Filter, streams: list[str], filters: bool) -> None:
    async with open_to(LogServer(["a1", "b1", "c1", "$d", "a2"], filters=filters)) as conn:
        assert [event.stream async for event in conn.read_all(filter=filter)] == streams


# --- what is asked for


def asked(start: int, count: int) -> Asked:
    """As many are wanted as are looked through: docs/protocol.md, 3.7."""
    return Asked(FILTERED, start, count, count)


async def test_a_server_that_filters_finds_what_it_can_among_so_many() -> None:
    """However few are wanted: nobody knows how many that takes."""
    server = LogServer(RARE)
    async with open_to(server) as conn:
        assert await places(conn.read_all(filter=YES, count=7)) == PLACES[:7]
    assert server.asked == [asked(0, 8), asked(80, 64), asked(720, 500), asked(5720, 500)]


@pytest.mark.parametrize("page_size", [3, 500, 4096])
@each_server
async def test_no_more_at_a_time_than_a_page_may_have(page_size: int, filters: bool) -> None:
    server = LogServer(RARE, filters=filters)
    async with open_to(server) as conn:
        assert await places(conn.read_all(filter=YES, page_size=page_size)) == PLACES
    assert max(asked.count for asked in server.asked) == page_size


async def test_what_is_sifted_here_comes_in_full_pages() -> None:
    """However few match; their sizes are those of all that came."""
    server = LogServer(RARE, filters=False)
    async with open_to(server) as conn:
        assert await places(conn.read_all(filter=YES, count=2)) == PLACES[:2]
    assert [asked.count for asked in server.asked] == [8, 64, 500]
    large = LogServer(RARE[:200], filters=False, size=100_000)
    async with open_to(large) as conn:
        await places(conn.read_all(filter=YES))
    assert {asked.count for asked in large.asked[1:]} == {10}


async def test_pages_of_a_server_that_filters_follow_the_size_of_what_it_sends() -> None:
    """And not only that: should all that follows match, a page is not too large for servers to send."""
    server = LogServer(["yes"] * 50, size=100_000)
    async with open_to(server) as conn:
        await places(conn.read_all(filter=YES))
    assert [asked.count for asked in server.asked] == [8, 10, 10, 10, 10, 10]
    server = LogServer(RARE, size=100_000)
    async with open_to(server) as conn:
        await places(conn.read_all(filter=YES))
    assert max(asked.count for asked in server.asked) == 83


async def test_read_ahead() -> None:
    server = LogServer(["yes"] * 20)
    async with open_to(server) as conn, conn.read_all(filter=YES) as reader:
        await anext(reader)
        await settle()
        assert [asked.count for asked in server.asked] == [8, 64]
        assert len(await places(reader)) == 19
    assert len(server.asked) == 2


# --- whether the server filters


async def test_who_asks_first_asks_for_all(nursery: trio.Nursery) -> None:
    server = LogServer(RARE)
    handler = server.handlers.pop(FILTERED)
    async with open_to(server) as conn:
        calls = [Call(nursery, places, conn.read_all(filter=YES)) for _ in range(3)]
        question = await server.receive(FILTERED)
        await settle()
        assert server.unanswered() == []
        server.handlers[FILTERED] = handler
        handler(question)
        for call in calls:
            assert await call.value() == PLACES
    assert server.questions == 1


async def test_who_is_cancelled_leaves_the_question_to_the_next(nursery: trio.Nursery) -> None:
    server = LogServer(RARE)
    handler = server.handlers.pop(FILTERED)
    async with open_to(server) as conn:
        calls = [Call(nursery, places, conn.read_all(filter=YES)) for _ in range(2)]
        await server.receive(FILTERED)
        await settle()
        calls[0].scope.cancel()
        question = await server.receive(FILTERED)
        server.handlers[FILTERED] = handler
        handler(question)
        assert await calls[1].value() == PLACES
        assert calls[0].done


async def test_who_is_refused_leaves_the_question_to_the_next() -> None:
    server = LogServer(RARE)
    known = server.handlers[FILTERED]

    def refuse_ops(request: Request) -> None:
        if request.credentials is None:
            known(request)
        else:
            server.send(Command.NOT_AUTHENTICATED, request.correlation, b"Not Authenticated")

    server.handlers[FILTERED] = refuse_ops
    async with open_to(server) as conn:
        with pytest.raises(NotAuthenticated):
            await places(conn.read_all(filter=YES, credentials=Credentials("ops", "wrong")))
        assert await places(conn.read_all(filter=YES)) == PLACES
    assert server.questions == 1


@each_server
async def test_who_may_not_read_the_log(filters: bool) -> None:
    """What a filtered read is refused with comes as if it had none: docs/protocol.md, pitfall 34."""
    server = LogServer(RARE, filters=filters)
    server.denies = True
    async with open_to(server) as conn:
        for backwards in (False, True):
            with pytest.raises(AccessDenied):
                await places(conn.read_all(filter=YES, backwards=backwards))


async def test_an_older_server_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    first, second = LogServer(RARE, filters=False), LogServer(RARE, filters=False)
    async with open_to_servers(first, second) as conn:
        await places(conn.read_all(filter=YES))
        await places(conn.read_all(filter=YES))
        await lose(first)
        await places(conn.read_all(filter=YES))
    assert [text for text in warnings(caplog) if "20.6" in text] == [
        "the server is older than 20.6 and does not filter: all events come, and are sifted here"
    ]
    assert (first.questions, second.questions) == (1, 1)


async def test_an_expression_that_the_server_cannot_read() -> None:
    """That it filters is known, so that what it refuses is the expression."""
    async with open_to(LogServer(RARE)) as conn:
        for _ in range(2):
            with pytest.raises(BadRequest, match="unterminated") as caught:
                await places(conn.read_all(filter=Filter.by_type(regex="a(")))
            assert type(caught.value) is BadRequest


async def test_an_expression_that_python_cannot_read() -> None:
    server = LogServer(RARE, filters=False)
    async with open_to(server) as conn:
        reader = conn.read_all(filter=Filter.by_type(regex=r"\p{Lu}"))
        for _ in range(2):
            with pytest.raises(InvalidArgument, match=r"^regex: "):
                await anext(reader)
        async with reader:
            with pytest.raises(InvalidArgument, match=r"^regex: "):
                await anext(reader)
    assert server.asked == []


async def test_offline_the_time_counts(nursery: trio.Nursery) -> None:
    """Of who asks, and of who waits for the answer."""
    server = LogServer(RARE)
    async with open_to_servers(server, settings=AT_ONCE.replace(operation_timeout=20)) as conn:
        await lose(server)
        calls = [Call(nursery, places, conn.read_all(filter=YES)) for _ in range(2)]
        for call in calls:
            assert isinstance(await call.error(), OperationTimedOut)
        assert 20 <= trio.current_time() < 21


async def test_the_block_ends_while_somebody_asks(nursery: trio.Nursery) -> None:
    server = LogServer(RARE)
    server.handlers.pop(FILTERED)
    async with open_connection(ANONYMOUS, connect=server.connect) as conn:
        calls = [Call(nursery, places, conn.read_all(filter=YES)) for _ in range(2)]
        await server.receive(FILTERED)
    for call in calls:
        assert "block was left" in str(await call.error())


async def test_sessions_that_die_of_the_question_may_do_so_by_chance() -> None:
    dying = [LogServer() for _ in range(MAX_DEATHS - 1)]
    for server in dying:
        server.handlers[FILTERED] = lambda _, server=server: server.hang_up()
    async with open_to_servers(*dying, LogServer(RARE)) as conn:
        assert await places(conn.read_all(filter=YES)) == PLACES


async def test_sessions_that_always_die_of_the_question() -> None:
    dying = [LogServer() for _ in range(MAX_DEATHS)]
    for server in dying:
        server.handlers[FILTERED] = lambda _, server=server: server.hang_up()
    alive = LogServer(RARE)
    async with open_to_servers(*dying, alive) as conn:
        with pytest.raises(ConnectionLost):
            await places(conn.read_all(filter=YES))
        assert await places(conn.read_all(filter=YES)) == PLACES


async def test_what_the_system_said_of_the_last_death_is_the_cause() -> None:
    dying = [LogServer() for _ in range(MAX_DEATHS)]
    broken = ConnectionResetError("reset by the peer")
    for server in dying:
        server.handlers[FILTERED] = lambda _, server=server: server.break_reading(broken)
    async with open_to_servers(*dying, LogServer(RARE)) as conn:
        with pytest.raises(ConnectionLost) as lost:
            await places(conn.read_all(filter=YES))
        assert type(lost.value) is ConnectionLost
        assert lost.value.__cause__ is broken
        # How it is said in here is not shown.
        assert lost.value.__suppress_context__


async def test_an_answer_that_is_overdue_is_asked_for_again() -> None:
    server = LogServer(RARE)
    handler = server.handlers.pop(FILTERED)
    async with open_to(server) as conn, trio.open_nursery() as nursery:
        call = Call(nursery, places, conn.read_all(filter=YES))
        await server.receive(FILTERED)
        question = await server.receive(FILTERED)
        assert 7 <= trio.current_time() < 8
        server.handlers[FILTERED] = handler
        handler(question)
        assert await call.value() == PLACES


# --- pages that cannot be had


async def test_a_page_that_is_overdue_is_asked_for_out_of_a_quarter(nursery: trio.Nursery) -> None:
    """Large events that do not match take the server long too."""
    server = LogServer(["no"] * 10_000)
    async with open_to(server) as conn:
        assert await conn._engine.filter_support.find_out(None, 100)
        handler = server.handlers.pop(FILTERED)
        call = Call(nursery, places, conn.read_all(filter=YES))
        await server.receive(FILTERED)
        question = await server.receive(FILTERED)
        server.handlers[FILTERED] = handler
        handler(question)
        assert await call.value() == []
    assert server.asked[:4] == [asked(0, 2), asked(20, 16), asked(180, 128), asked(1460, 500)]


async def test_a_page_of_which_sessions_die() -> None:
    servers = LogServer(RARE, dies_of={asked(0, 8)}), LogServer(RARE)
    async with open_to_servers(*servers) as conn:
        assert await places(conn.read_all(filter=YES)) == PLACES
    assert servers[1].asked[0] == asked(0, 2)


# --- other servers on the way


@pytest.mark.parametrize("backwards", [False, True])
@each_server
async def test_the_next_session_is_with_another_server(filters: bool, backwards: bool) -> None:
    """In the middle of a read: what the one was asked for, the other need not know."""
    servers = [LogServer(RARE, filters=filters), LogServer(RARE, filters=not filters), LogServer(RARE, filters=filters)]
    async with open_to_servers(*servers) as conn:
        reader = conn.read_all(filter=YES, page_size=2, backwards=backwards)
        seen = []
        for server in servers:
            seen += [(await anext(reader)).position.commit for _ in range(3)]
            if server is not servers[-1]:
                await lose(server)
        seen += await places(reader)
    assert seen == (PLACES[::-1] if backwards else PLACES)
    used = [{asked.command for asked in server.asked} for server in servers]
    filtered, plain = {FILTERED_BACK if backwards else FILTERED}, {READ_BACK if backwards else READ}
    assert used == ([filtered, plain, filtered] if filters else [plain, filtered, plain])
    assert [server.questions for server in servers] == [1, 1, 1]


async def test_a_request_that_was_held_comes_to_an_older_server(nursery: trio.Nursery) -> None:
    """It was made for a server that filters, and sent to the next one."""
    servers = LogServer(RARE), LogServer(RARE, filters=False)
    async with open_to_servers(*servers, settings=ANONYMOUS.replace(reconnect_delay=5)) as conn:
        assert await places(conn.read_all(filter=YES, count=1)) == PLACES[:1]
        await lose(servers[0])
        call = Call(nursery, places, conn.read_all(filter=YES))
        assert await call.value() == PLACES
    assert servers[1].asked[0].command == FILTERED
    assert {asked.command for asked in servers[1].asked[1:]} == {READ}
    assert servers[1].questions == 0


async def test_bad_input(conn: Connection) -> None:
    with pytest.raises(InvalidArgument, match=r"^filter: 'yes' is no Filter; give one such as Filter.by_stream"):
        conn.read_all(filter="yes")  # type: ignore[arg-type]
