"""Changing metadata beside others who do: what is asked, how often, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.answers import ReadOne, Written, not_written, written
from tests.helpers import assert_nothing_left
from tests.lost import AT_ONCE, open_over
from tests.peer import ANONYMOUS, Call, Peer, open_to
from trio_extreme import (
    NO_STREAM,
    Credentials,
    MetadataUnreadable,
    OperationTimedOut,
    OutcomeUnknown,
    ReadOnly,
    StreamMetadata,
    WrongExpectedVersion,
)
from trio_extreme.updating import ATTEMPTS
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from tests.peer import Request
    from trio_extreme import Connection

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ, WRITE = Command.READ_EVENT, Command.WRITE_EVENTS


def stored(number: int, data: bytes = b'{"a":1}') -> schema.ReadEventCompleted:
    event = schema.EventRecord(event_type="$metadata", data=data, event_number=number, data_content_type=1)
    return schema.ReadEventCompleted(result=ReadOne.Success, event=schema.ResolvedIndexedEvent(event=event))


async def update(conn: Connection) -> StreamMetadata:
    return await conn.update_metadata("s", max_count=3)


class Holder:
    """Metadata that somebody else changes before each of the first so many writes."""

    def __init__(self, peer: Peer, others: int) -> None:
        self._peer = peer
        self._others = others
        self.number = 4
        self.expected: list[int] = []
        self.data = b""
        peer.handlers[READ] = self._read
        peer.handlers[WRITE] = self._write

    def _read(self, request: Request) -> None:
        self._peer.send(READ + 1, request.correlation, stored(self.number))

    def _write(self, request: Request) -> None:
        message = schema.WriteEvents.FromString(request.payload)
        assert (message.event_stream_id, message.require_master) == ("$$s", True)
        self.expected.append(message.expected_version)
        self.number += 1
        if self._others:
            self._others -= 1
            answer = not_written(Written.WrongExpectedVersion)
        else:
            self.data = message.events[0].data
            answer = written(self.number, self.number)
        self._peer.send(WRITE + 1, request.correlation, answer)


async def test_it_writes_with_the_version_that_it_read() -> None:
    peer = Peer()
    holder = Holder(peer, others=0)
    async with open_to(peer) as conn:
        found = await update(conn)
    assert (holder.expected, holder.data) == ([4], b'{"$maxCount":3,"a":1}')
    assert (found, found.version) == (StreamMetadata(max_count=3, custom={"a": 1}), 5)


async def test_it_begins_again_where_somebody_else_was_faster() -> None:
    peer = Peer()
    holder = Holder(peer, others=3)
    async with open_to(peer) as conn:
        assert (await update(conn)).version == 8
    assert holder.expected == [4, 5, 6, 7]
    assert peer.commands() == [READ, WRITE] * 4


async def test_it_gives_up_among_too_many() -> None:
    peer = Peer()
    holder = Holder(peer, others=ATTEMPTS)
    async with open_to(peer) as conn:
        with pytest.raises(WrongExpectedVersion) as info:
            await update(conn)
    assert info.value.expected == holder.expected[-1] == 3 + ATTEMPTS
    assert len(holder.expected) == ATTEMPTS


async def test_the_last_attempt_counts() -> None:
    peer = Peer()
    Holder(peer, others=ATTEMPTS - 1)
    async with open_to(peer) as conn:
        assert (await update(conn)).version == 4 + ATTEMPTS


async def test_what_cannot_be_read_is_left_alone() -> None:
    peer = Peer()
    peer.handlers[READ] = lambda request: peer.send(READ + 1, request.correlation, stored(7, b"no"))
    async with open_to(peer) as conn:
        with pytest.raises(MetadataUnreadable, match="no JSON") as info:
            await update(conn)
    assert (info.value.stream, info.value.version) == ("s", 7)
    assert peer.commands() == [READ]


async def test_as_whom_and_of_whom_it_is_asked(nursery: trio.Nursery) -> None:
    """Both of its requests alike; by default the master is asked, which alone knows the last version."""
    peer = Peer()
    jane = Credentials("jane", "secret")
    async with open_to(peer) as conn:
        for master in (True, False):
            call = Call(nursery, conn.update_metadata, "s", max_count=3, require_master=master, credentials=jane)
            read = await peer.receive(READ)
            assert read.message.require_master is master  # type: ignore[attr-defined]
            peer.send(READ + 1, read.correlation, schema.ReadEventCompleted(result=ReadOne.NoStream))
            write = await peer.receive(WRITE)
            assert write.message.require_master is master  # type: ignore[attr-defined]
            assert write.message.expected_version == NO_STREAM  # type: ignore[attr-defined]
            peer.send(WRITE + 1, write.correlation, written(0, 0))
            assert (await call.value()).version == 0
            assert [request.credentials for request in (read, write)] == [jane, jane]


async def test_all_of_it_has_one_deadline(nursery: trio.Nursery) -> None:
    peer = Peer()
    settings = ANONYMOUS.replace(operation_timeout=2, attempt_timeout=5)
    async with open_to(peer, settings) as conn:
        call = Call(nursery, update, conn)
        read = await peer.receive(READ)
        await trio.sleep(1.5)
        peer.send(READ + 1, read.correlation, stored(4))
        write = await peer.receive(WRITE)
        await trio.sleep(0.3)
        peer.send(WRITE + 1, write.correlation, not_written(Written.WrongExpectedVersion))
        await peer.receive(READ)
        assert isinstance(await call.error(), OperationTimedOut)
        assert trio.current_time() == pytest.approx(2, abs=0.1)
        assert_nothing_left(conn)


async def test_a_write_without_an_answer_is_sent_again(nursery: trio.Nursery) -> None:
    first, second = Peer(), Peer()
    async with open_over(first, second) as conn:
        call = Call(nursery, update, conn)
        read = await first.receive(READ)
        first.send(READ + 1, read.correlation, stored(4))
        write = await first.receive(WRITE)
        first.hang_up()
        again = await second.receive(WRITE)
        assert again.payload == write.payload
        second.send(WRITE + 1, again.correlation, written(5, 5))
        assert (await call.value()).version == 5


@pytest.mark.parametrize(("ours", "number"), [(True, 5), (False, 5), (False, 6)])
async def test_a_write_sent_again_and_refused(ours: bool, number: int, nursery: trio.Nursery) -> None:
    """It is looked for. Of a metastream only the last event is seen: what is where ours would be proves enough."""
    first, second = Peer(), Peer()
    async with open_over(first, second, settings=AT_ONCE) as conn:
        call = Call(nursery, update, conn)
        read = await first.receive(READ)
        first.send(READ + 1, read.correlation, stored(4))
        event_id = (await first.receive(WRITE)).message.events[0].event_id  # type: ignore[attr-defined]
        first.hang_up()
        again = await second.receive(WRITE)
        second.send(WRITE + 1, again.correlation, not_written(Written.WrongExpectedVersion))
        look = await second.receive(Command.READ_STREAM_EVENTS_BACKWARD)
        event = schema.EventRecord(
            event_stream_id="$$s", event_number=number, event_type="$metadata", event_id=event_id if ours else bytes(16)
        )
        last = schema.ReadStreamEventsCompleted(
            events=[schema.ResolvedIndexedEvent(event=event)],
            next_event_number=-1,
            last_event_number=number,
            is_end_of_stream=True,
        )
        second.send(Command.READ_STREAM_EVENTS_BACKWARD_COMPLETED, look.correlation, last)
        if ours:
            assert (await call.value()).version == 5
        elif number == 5:
            # It was refused, so that all begins anew.
            read = await second.receive(READ)
            second.send(READ + 1, read.correlation, stored(5))
            write = await second.receive(WRITE)
            second.send(WRITE + 1, write.correlation, written(6, 6))
            assert (await call.value()).version == 6
        else:
            assert isinstance(await call.error(), OutcomeUnknown)


async def test_a_connection_that_cannot_write_reads_nothing_either() -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(read_only=True)) as conn:
        with pytest.raises(ReadOnly, match="nothing was sent"):
            await update(conn)
    assert peer.commands() == []


async def test_without_a_version_a_write_is_not_sent_again(nursery: trio.Nursery) -> None:
    first, second = Peer(), Peer()
    async with open_over(first, second) as conn:
        call = Call(nursery, conn.set_metadata, "s", StreamMetadata(max_count=3))
        await first.receive(WRITE)
        first.hang_up()
        error = await call.error()
        assert isinstance(error, OutcomeUnknown)
        assert len(error.event_ids) == 1
