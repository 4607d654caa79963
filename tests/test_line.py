"""The line: the session there is at present, and what depends on there being one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.lost import AT_ONCE, lose, open_over, settle
from tests.peer import ANONYMOUS, Peer, open_to
from trio_extreme import ConnectionLost, ProtocolError
from trio_extreme.line import Line
from trio_extreme.operations.session import Ping
from trio_extreme.pending import Slot
from trio_extreme.session import Session
from trio_extreme.statistics import Counters
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("autojump_clock")

BROKEN = ProtocolError("garbage")


class Lines:
    """A line, and the sessions that go over it, to peers that say nothing."""

    def __init__(self) -> None:
        self.line = Line()
        self.lost: list[Slot[None]] = []

    async def connect(self, *, task_status: trio.TaskStatus[Session]) -> None:
        """Serve a session until it ends."""
        stream = Peer(mute=[Command.PING]).stream
        session = Session(stream, ANONYMOUS, Counters(), lambda slot, now: None, lambda slot, _: self.lost.append(slot))
        async with trio.open_nursery() as tasks:
            tasks.start_soon(session.run)
            self.line.connect(session, tasks)
            task_status.started(session)
            await session.ended()
            tasks.cancel_scope.cancel()
        self.line.disconnect()


@pytest.fixture
async def lines(nursery: trio.Nursery) -> AsyncIterator[Lines]:
    yield Lines()
    nursery.cancel_scope.cancel()


def ping() -> Slot[None]:
    return Slot(Ping(), b"", 100)


async def test_session_after_session(lines: Lines, nursery: trio.Nursery) -> None:
    line = lines.line
    assert (line.session, line.sessions) == (None, 0)
    assert repr(line) == "<Line: session 0, ended>"
    for number in (1, 2):
        session: Session = await nursery.start(lines.connect)
        assert line.session is session
        assert line.sessions == number
        assert repr(line) == f"<Line: session {number}>"
        session.end(ConnectionLost("over"))
        # At once: nobody may use it any more, though its tasks are still there.
        assert line.session is None
        await settle()
        assert (line.session, line.sessions) == (None, number)
        assert repr(line) == f"<Line: session {number}, ended>"


async def test_a_task_ends_with_its_session(lines: Lines, nursery: trio.Nursery) -> None:
    session = await nursery.start(lines.connect)
    told: list[str] = []

    async def work(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            told.append(name)

    for name in ("one", "two"):
        lines.line.begin(work, name)
    await settle()
    assert told == []
    session.end(ConnectionLost("over"))
    await settle()
    assert sorted(told) == ["one", "two"]


async def test_who_has_gone_is_forgotten(lines: Lines, nursery: trio.Nursery) -> None:
    """The session does not keep it, and does not tell when it ends."""
    session = await nursery.start(lines.connect)
    staying, gone = ping(), ping()
    for slot in (staying, gone):
        session.submit(slot)
    lines.line.forget(gone)
    assert gone.gone
    assert session.slots == (staying,)
    lines.line.give_up(BROKEN)
    assert lines.lost == [staying]


async def test_what_came_in_an_earlier_session_ends_that_one_alone(lines: Lines, nursery: trio.Nursery) -> None:
    earlier = await nursery.start(lines.connect)
    slot = ping()
    earlier.submit(slot)
    lines.line.give_up(BROKEN, slot.correlation)
    assert earlier.cause is BROKEN
    await settle()
    session = await nursery.start(lines.connect)
    lines.line.give_up(BROKEN, slot.correlation)
    assert session.cause is None
    session.submit(slot)
    lines.line.give_up(BROKEN, slot.correlation)
    assert session.cause is BROKEN


async def test_what_cannot_be_understood_ends_the_session(lines: Lines, nursery: trio.Nursery) -> None:
    session = await nursery.start(lines.connect)
    lines.line.give_up(BROKEN)
    assert session.cause is BROKEN
    # The first cause stays.
    lines.line.give_up(ProtocolError("more of it"))
    assert session.cause is BROKEN


async def test_without_a_session() -> None:
    """There is nothing to forget it, and nothing to end; but it has gone."""
    line = Line()
    slot = ping()
    line.forget(slot)
    assert slot.gone
    line.give_up(BROKEN)
    assert line.session is None


async def test_no_task_is_begun_without_a_session(lines: Lines, nursery: trio.Nursery) -> None:
    with pytest.raises(AssertionError):
        lines.line.begin(trio.sleep_forever)
    session = await nursery.start(lines.connect)
    session.end(ConnectionLost("over"))
    with pytest.raises(AssertionError):
        lines.line.begin(trio.sleep_forever)


async def test_a_connection_counts_its_sessions() -> None:
    peers = [Peer() for _ in range(3)]
    async with open_over(*peers) as conn:
        line = conn._engine.line
        for number, peer in enumerate(peers[:2], start=1):
            assert line.sessions == number
            await lose(peer)
        assert line.sessions == 3


async def test_an_ended_session_is_not_kept() -> None:
    """It holds all that its buffer had got."""
    peer = Peer()
    async with open_to(peer, AT_ONCE.replace(reconnect_delay=1e9, max_reconnect_delay=1e9)) as conn:
        await lose(peer)
        assert (conn._engine.line._session, conn._engine.line._nursery) == (None, None)
