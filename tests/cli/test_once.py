"""Events are written once, whoever else writes the stream and whatever became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from trio_extreme import ANY, NO_STREAM, STREAM_EXISTS, NewEvent, StreamDeleted, WrongExpectedVersion
from trio_extreme.cli.failures import CommandFailed
from trio_extreme.cli.once import Additions, Once
from trio_extreme.messages import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme import Connection
    from trio_extreme.embedded import Node


def events(count: int, first: int = 0) -> list[NewEvent]:
    return [NewEvent("counted", b"%d" % number) for number in range(first, first + count)]


async def read(conn: Connection) -> list[bytes]:
    return [event.data async for event in conn.read_stream("s", missing_ok=True)]


def data(given: Sequence[NewEvent]) -> list[bytes]:
    return [event.data for event in given]


async def write(conn: Connection, given: Sequence[NewEvent], expected: int = ANY, batch: int = 2) -> Once:
    once = Once(conn, "s", expected)
    for start in range(0, len(given), batch):
        await once.write(given[start : start + batch])
    return once


async def truncate(conn: Connection, before: int) -> None:
    await conn.append("$$s", NewEvent.json("$metadata", {"$tb": before}))


async def test_a_new_stream(conn: Connection) -> None:
    once = Once(conn, "s", ANY)
    given = events(5)
    assert await once.write(given[:3]) == Additions(0, given[:3])
    assert await once.write(given[3:]) == Additions(3, given[3:])
    assert await once.write(given) is None
    assert (once.written, once.present, once.first, once.last) == (5, 5, 0, 4)
    assert await read(conn) == data(given)


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
@pytest.mark.parametrize("done", [0, 1, 2, 3, 5])
async def test_what_was_interrupted_goes_on(node: Node, conn: Connection, done: int, expected: int) -> None:
    given = events(5)
    await write(conn, given[:done], expected)
    # What the server remembers of recent ids must not matter.
    node.faults.restart()
    once = await write(conn, given, expected)
    assert (once.written, once.present) == (5 - done, done)
    assert await read(conn) == data(given)


async def test_behind_what_others_wrote(conn: Connection) -> None:
    others, given = events(3, 100), events(4)
    await conn.append("s", others)
    await write(conn, given[:2])
    await conn.append("s", events(1, 200))
    await write(conn, given)
    assert await read(conn) == [*data(others), *data(given[:2]), b"200", *data(given[2:])]


async def test_somebody_writes_meanwhile(conn: Connection) -> None:
    given = events(4)
    once = Once(conn, "s", ANY)
    await once.write(given[:1])
    await conn.append("s", [*events(1, 100), given[2]])
    assert await once.write(given[1:]) == Additions(3, [given[1], given[3]])
    assert (once.written, once.present) == (3, 1)
    assert await read(conn) == [b"0", b"100", b"2", b"1", b"3"]


async def test_somebody_writes_the_same_meanwhile(conn: Connection) -> None:
    given = events(2)
    once = Once(conn, "s", ANY)
    await once.write(given[:1])
    await conn.append("s", [*events(1, 100), given[1]])
    assert await once.write(given[1:]) is None
    assert (once.written, once.present) == (1, 1)


async def test_the_same_by_many_at_once(conn: Connection) -> None:
    given = events(30)
    async with trio.open_nursery() as nursery:
        for batch in (1, 3, 7, 30):
            nursery.start_soon(write, conn, given, ANY, batch)
    assert sorted(await read(conn), key=int) == data(given)


async def test_an_answer_that_is_lost(node: Node, conn: Connection) -> None:
    given = events(4)
    node.faults.drop_reply(Command.WRITE_EVENTS, kill=True)
    await write(conn, given)
    assert await read(conn) == data(given)


async def test_an_id_counts_once(conn: Connection) -> None:
    first, second = events(2)
    once = Once(conn, "s", ANY)
    assert await once.write([first, second, first]) == Additions(0, [first, second])
    assert await once.write([second]) is None
    assert (once.written, once.present) == (2, 2)


# --- where the stream is expected to be


async def test_only_ours_may_be_there(conn: Connection) -> None:
    given = events(4)
    await conn.append("s", given[:2])
    await conn.append("s", events(1, 100))
    with pytest.raises(WrongExpectedVersion) as info:
        await write(conn, given, NO_STREAM)
    assert (info.value.expected, info.value.actual) == (NO_STREAM, 2)
    assert len(await read(conn)) == 3


async def test_only_ours_may_follow_a_number(conn: Connection) -> None:
    given = events(4)
    await conn.append("s", events(3, 100))
    for number in (1, 3):
        with pytest.raises(WrongExpectedVersion) as info:
            await write(conn, given, number)
        assert (info.value.expected, info.value.actual) == (number, 2)
    await write(conn, given[:2], 2)
    await write(conn, given, 2)
    assert (await read(conn))[3:] == data(given)


async def test_nobody_may_write_meanwhile(conn: Connection) -> None:
    given = events(4)
    once = Once(conn, "s", NO_STREAM)
    await once.write(given[:2])
    await conn.append("s", events(1, 100))
    with pytest.raises(WrongExpectedVersion):
        await once.write(given[2:])
    assert len(await read(conn)) == 3


async def test_a_stream_that_should_be_there(conn: Connection) -> None:
    given = events(2)
    with pytest.raises(WrongExpectedVersion):
        await write(conn, given, STREAM_EXISTS)
    await conn.append("s", events(1, 100))
    await write(conn, given, STREAM_EXISTS)
    await write(conn, given, STREAM_EXISTS)
    assert await read(conn) == [b"100", b"0", b"1"]


async def test_a_number_in_a_stream_that_is_not_there(conn: Connection) -> None:
    with pytest.raises(WrongExpectedVersion) as info:
        await write(conn, events(1), 5)
    assert info.value.actual == -1


# --- what became of the stream


@pytest.mark.parametrize("expected", [ANY, NO_STREAM])
async def test_a_stream_that_was_deleted_shows_them_again(conn: Connection, expected: int) -> None:
    given = events(5)
    await write(conn, given, expected)
    await conn.delete_stream("s", expected=ANY)
    once = await write(conn, given[:3], expected)
    assert (once.written, once.first, once.last) == (3, 5, 7)
    assert await read(conn) == data(given[:3])
    # The second attempt finds a stream that does not begin with its first event, and ours at its beginning.
    once = await write(conn, given, expected)
    assert (once.written, once.present) == (2, 3)
    assert await read(conn) == data(given)


async def test_a_deleted_stream_that_several_let_be_seen_again(conn: Connection) -> None:
    await conn.append("s", events(3, 100))
    await conn.delete_stream("s", expected=ANY)
    ours, theirs = events(4), events(4, 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, conn, ours)
        nursery.start_soon(write, conn, theirs)
    assert sorted(await read(conn)) == sorted(data([*ours, *theirs]))


async def test_a_stream_that_is_deleted_meanwhile(conn: Connection) -> None:
    given = events(4)
    once = Once(conn, "s", ANY)
    await once.write(given[:2])
    await conn.delete_stream("s", expected=ANY)
    await once.write(given[2:])
    # 4.1.1 lets nobody know: a number that is the last one's is right, and what is appended with it stays hidden.
    assert await read(conn) in ([], data(given[2:]))


async def test_a_stream_that_is_gone_for_ever(conn: Connection) -> None:
    await conn.delete_stream("s", expected=ANY, hard=True)
    with pytest.raises(StreamDeleted):
        await write(conn, events(1))


@pytest.mark.parametrize("before", [1, 3])
async def test_a_stream_that_lost_its_beginning_may_have_had_them(conn: Connection, before: int) -> None:
    given = events(3)
    await write(conn, given)
    await truncate(conn, before)
    with pytest.raises(CommandFailed, match=r"has lost (its events before 1|all its events)") as info:
        await write(conn, given)
    assert "--expected 2 if it was not" in info.value.hint
    for expected in (NO_STREAM, 0):
        with pytest.raises(WrongExpectedVersion):
            await write(conn, given, expected)
    await write(conn, given, 2)
    assert (await read(conn))[-3:] == data(given)


async def test_a_stream_that_lost_what_was_before_ours(conn: Connection) -> None:
    given = events(4)
    await conn.append("s", events(3, 100))
    await write(conn, given[:2])
    await truncate(conn, 2)
    await write(conn, given)
    assert await read(conn) == [b"102", *data(given)]
