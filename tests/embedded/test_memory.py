from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import check_two_way_stream, wait_all_tasks_blocked

from trio_extreme.embedded.memory import CAPACITY, MemoryStream, memory_connection


async def test_it_keeps_the_contract_of_trios_streams() -> None:
    async def make() -> tuple[MemoryStream, MemoryStream]:
        return memory_connection()

    async def make_clogged() -> tuple[MemoryStream, MemoryStream]:
        left, right = memory_connection(10)
        for stream in (left, right):
            await stream.send_all(bytes(10))
        return left, right

    await check_two_way_stream(make, make_clogged)


async def test_a_peer_that_does_not_read_blocks_its_writer() -> None:
    left, right = memory_connection()
    await left.send_all(bytes(CAPACITY))
    with trio.move_on_after(0.01) as scope:
        await left.send_all(b"x")
    assert scope.cancelled_caught
    assert await right.receive_some(CAPACITY) == bytes(CAPACITY)


async def test_room_lets_a_writer_go_on() -> None:
    left, right = memory_connection(10)
    received = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, bytes(range(95)))
        while len(received) < 95:
            await wait_all_tasks_blocked()
            part = await right.receive_some(4)
            assert len(part) <= 4
            received += part
    assert received == bytes(range(95))


async def test_what_was_sent_before_closing_can_be_read() -> None:
    left, right = memory_connection()
    await left.send_all(b"last words")
    await left.aclose()
    assert await right.receive_some() == b"last words"
    assert await right.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError, match="other end"):
        await right.send_all(b"too late")


async def test_closing_while_the_peer_waits_ends_its_waiting() -> None:
    left, right = memory_connection(1)
    await right.send_all(b"x")

    async def read() -> None:
        assert await right.receive_some() == b""

    async def write() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await right.send_all(b"y")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        await left.aclose()


async def test_a_stream_shows_whether_it_is_closed() -> None:
    left, right = memory_connection()
    assert repr(left) == "<MemoryStream>"
    await left.aclose()
    await left.aclose()
    assert repr(left) == "<MemoryStream closed>"
    await right.aclose()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30)), st.integers(1, 12), st.integers(1, 20))
def test_bytes_arrive_as_they_were_sent(chunks: list[bytes], capacity: int, max_bytes: int) -> None:
    received = bytearray()

    async def send(stream: MemoryStream) -> None:
        for chunk in chunks:
            await stream.send_all(chunk)
        await stream.aclose()

    async def main() -> None:
        left, right = memory_connection(capacity)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, left)
            while chunk := await right.receive_some(max_bytes):
                received.extend(chunk)

    trio.run(main)
    assert received == b"".join(chunks)
