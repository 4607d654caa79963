"""Requests whose answers are asked for later: a page that is fetched while another is worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.answers import NotHandled, event_read
from tests.helpers import assert_nothing_left
from tests.lost import answer_all, asked, block_writer, not_handled_by, open_over, settle
from tests.peer import ANONYMOUS, Call, Peer, answering, open_to
from trio_extreme import (
    ConnectionClosed,
    OperationTimedOut,
    ProtocolError,
    open_connection,
)
from trio_extreme.operations.reading import ReadEvent
from trio_extreme.pending import Interrupted
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme import Connection
    from trio_extreme.calls import Calls

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ_DONE = Command.READ_EVENT_COMPLETED


def last_event() -> ReadEvent:
    return ReadEvent("s", -1, resolve_links=True, require_master=False)


def calls_of(conn: Connection) -> Calls:
    return conn._engine.calls


async def test_begun_now_and_finished_later() -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=1)) as conn:
        calls = calls_of(conn)
        slot = calls.begin(last_event(), None)
        assert slot is not None
        # It is inside the door, so another would have to wait, and is not begun.
        assert calls.begin(last_event(), None) is None
        request = await peer.receive(Command.READ_EVENT)
        peer.send(READ_DONE, request.correlation, event_read(7))
        await settle()
        # The answer is here, so its place is free, whoever fetches it when.
        assert conn.statistics().in_flight == 0
        await conn.ping()
        await trio.sleep(100)
        assert (await calls.finish(slot, calls.deadline())).number == 7
        await conn.ping()


async def test_what_was_begun_is_asked_again_where_it_was_not_handled() -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=1)) as conn:
        calls = calls_of(conn)
        slot = calls.begin(last_event(), None)
        assert slot is not None
        not_handled_by(peer, await peer.receive(Command.READ_EVENT), NotHandled.NotReady)
        await trio.sleep(100)
        # Its place has gone to others; asked again, it waits for one.
        other = calls.begin(last_event(), None)
        assert other is not None
        waiting = await peer.receive(Command.READ_EVENT)
        peer.handlers[Command.READ_EVENT] = answering(READ_DONE, event_read(7))(peer)
        async with trio.open_nursery() as nursery:
            asked_again = Call(nursery, calls.finish, slot, calls.deadline())
            await trio.sleep(1)
            assert (conn.statistics().in_flight, conn.statistics().waiting) == (1, 1)
            peer.send(READ_DONE, waiting.correlation, event_read(8))
            assert (await asked_again.value()).number == 7
        assert (await calls.finish(other, calls.deadline())).number == 8


async def test_begun_and_abandoned() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        slot = calls_of(conn).begin(last_event(), None)
        assert slot is not None
        calls_of(conn).abandon(slot)
        await conn.ping()
    assert peer.commands() == []


async def test_nothing_is_begun_while_there_is_no_session() -> None:
    peer, second = Peer(), Peer()
    async with open_over(peer, second) as conn:
        break_off(conn)
        assert calls_of(conn).begin(last_event(), None) is None
        await conn.ping()


@pytest.mark.parametrize("was_sent", [True, False])
async def test_what_was_begun_when_the_session_died(was_sent: bool) -> None:
    """Sent, it is for whoever wants it to ask in a smaller one; not sent yet, it is sent by the next."""
    peer, second = Peer(), Peer()
    answer_all(second, Command.READ_EVENT, (READ_DONE, event_read(7)))
    async with open_over(peer, second) as conn:
        calls = calls_of(conn)
        slot = calls.begin(last_event(), None)
        assert slot is not None
        if was_sent:
            await settle()
        break_off(conn)
        await settle()
        if was_sent:
            with pytest.raises(Interrupted):
                await calls.finish(slot, calls.deadline())
        else:
            assert (await calls.finish(slot, calls.deadline())).number == 7
    assert len(peer.commands()) == was_sent
    assert len(second.commands()) == (not was_sent)


def break_off(conn: Connection) -> None:
    """The session ends now, before anybody else has a turn."""
    conn._engine.line.give_up(ProtocolError("garbage"))


async def test_nothing_is_begun_while_the_block_is_left(nursery: trio.Nursery) -> None:
    """Its last words are being sent, so that there still is a session."""
    peer = Peer()
    errors: list[Exception] = []

    async def begin(conn: Connection) -> None:
        await trio.sleep(0.1)
        calls = calls_of(conn)
        slot = calls.begin(last_event(), None)
        assert slot is not None
        try:
            await calls.finish(slot, calls.deadline())
        except ConnectionClosed as error:
            errors.append(error)

    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        peer.hold()
        nursery.start_soon(begin, conn)
    assert len(errors) == 1
    assert peer.commands() == []
    assert_nothing_left(conn)


async def test_what_was_begun_and_not_sent_has_an_end_once_it_is_wanted() -> None:
    """Until then it could wait behind a blocked writer for ever."""
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(heartbeat_timeout=1000)) as conn:
        await block_writer(peer)
        calls = calls_of(conn)
        slot = calls.begin(last_event(), None)
        assert slot is not None
        await trio.sleep(100)
        with pytest.raises(OperationTimedOut):
            await calls.finish(slot, calls.deadline())
        assert trio.current_time() == pytest.approx(100 + ANONYMOUS.operation_timeout)
        peer.release()
        await conn.ping()
    assert [request.command for request in asked(peer)] == [Command.PING]


async def test_what_was_begun_has_an_end_once_it_is_wanted(nursery: trio.Nursery) -> None:
    """An attempt that nobody answers is given up, whenever it was begun."""
    peer = Peer()
    async with open_to(peer) as conn:
        calls = calls_of(conn)
        slot = calls.begin(last_event(), None)
        assert slot is not None
        with pytest.raises(Interrupted, match="attempt_timeout"):
            await calls.finish(slot, calls.deadline())
        assert trio.current_time() == pytest.approx(ANONYMOUS.attempt_timeout)
