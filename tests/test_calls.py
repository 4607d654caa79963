"""Calls: their answers, being cancelled, and the door. What is sent twice is in the other files of this name."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.answers import NotHandled, Written, event_read, not_handled, not_written, written
from tests.helpers import new_events
from tests.lost import AT_ONCE, answer_all, not_handled_by, open_over, settle
from tests.peer import ADMIN, ANONYMOUS, Call, Peer, answering, open_to
from trio_extreme import (
    AccessDenied,
    BadRequest,
    Credentials,
    FrameTooLarge,
    NewEvent,
    NotAuthenticated,
    NotMaster,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    StreamDeleted,
    WrongExpectedVersion,
)
from trio_extreme.calls import ASK_AGAIN_DELAY
from trio_extreme.engine import Engine
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ_DONE = Command.READ_EVENT_COMPLETED
WRITE_DONE = Command.WRITE_EVENTS_COMPLETED


# --- calls


async def test_answers_come_in_any_order(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        calls = [Call(nursery, conn.read_event, "s", number) for number in range(4)]
        asked = {}
        for _ in calls:
            request = await peer.receive(Command.READ_EVENT)
            asked[request.message.event_number] = request.correlation  # type: ignore[attr-defined]
        for number in (2, 0, 3, 1):
            peer.send(READ_DONE, asked[number], event_read(number))
        assert [(await call.value()).number for call in calls] == [0, 1, 2, 3]


async def test_credentials_of_a_call_and_of_the_settings(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ADMIN) as conn:
        answer_all(peer, Command.READ_EVENT, (READ_DONE, event_read()))
        await conn.read_event("s", 0)
        await conn.read_event("s", 0, credentials=Credentials("ops", "secret"))
        assert [request.credentials for request in peer.log[-2:]] == [ADMIN.credentials, Credentials("ops", "secret")]


@pytest.mark.parametrize(
    ("command", "payload", "kind"),
    [
        (Command.BAD_REQUEST, b"could  not\r\nparse", BadRequest),
        (Command.NOT_AUTHENTICATED, b"Not Authenticated", NotAuthenticated),
        (WRITE_DONE, not_written(Written.WrongExpectedVersion), WrongExpectedVersion),
        (WRITE_DONE, not_written(Written.StreamDeleted), StreamDeleted),
        (WRITE_DONE, not_written(Written.AccessDenied), AccessDenied),
    ],
)
async def test_a_refusal_is_of_one_call(command: int, payload: Any, kind: type[Exception]) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        answer_all(peer, Command.WRITE_EVENTS, (command, payload))
        for _ in range(2):
            with pytest.raises(kind):
                await conn.append("s", new_events(1))
        await conn.ping()


async def test_another_node_is_the_master() -> None:
    peer = Peer()
    info = schema.NotHandled.MasterInfo(external_tcp_address="10.0.0.2", external_tcp_port=1113)
    answer = not_handled(NotHandled.NotMaster, info.SerializePartialToString())
    answer_all(peer, Command.WRITE_EVENTS, (Command.NOT_HANDLED, answer))
    async with open_to(peer) as conn:
        with pytest.raises(NotMaster) as caught:
            await conn.append("s", new_events(1))
        assert caught.value.endpoint == ("10.0.0.2", 1113)
    assert peer.commands() == [Command.WRITE_EVENTS]


async def test_a_request_above_the_limit_is_not_sent() -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=1024)) as conn:
        with pytest.raises(FrameTooLarge, match=r"1,0\d\d bytes; the limit is 1,024") as info:
            await conn.append("s", NewEvent("t", bytes(1000)))
        assert info.value.limit == 1024
        assert info.value.size > 1024
    assert peer.commands() == []


async def test_an_answer_above_the_limit(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=1024)) as conn:
        answer_all(peer, Command.READ_EVENT, (READ_DONE, event_read(data=bytes(2000))))
        answer_all(peer, Command.WRITE_EVENTS, (WRITE_DONE, bytes(2000)))
        with pytest.raises(FrameTooLarge):
            await conn.read_event("s", 0)
        # An answer came, so the write was done or refused: nobody can tell which.
        events = new_events(1)
        with pytest.raises(OutcomeUnknown, match="max_frame_size") as info:
            await conn.append("s", events)
        assert info.value.event_ids == (events[0].id,)
        assert isinstance(info.value.__cause__, FrameTooLarge)
        await conn.ping()


# --- bytes that are none of this protocol


@pytest.mark.parametrize(
    "answer", [(READ_DONE, b"\xff\xff"), (Command.PONG, b""), (0x77, b""), (Command.NOT_HANDLED, b"\xff")]
)
async def test_an_answer_that_is_none(answer: tuple[int, bytes], nursery: trio.Nursery) -> None:
    """Who got it is told, and it is not asked for again. The session ends: to all others it is a lost one."""
    peer, second = Peer(), Peer()
    answer_all(second, Command.READ_EVENT, (READ_DONE, event_read(7)))
    async with open_over(peer, second) as conn:
        other = Call(nursery, conn.read_event, "other", 0)
        await peer.receive(Command.READ_EVENT)
        answer_all(peer, Command.READ_EVENT, answer)
        with pytest.raises(ProtocolError):
            await conn.read_event("s", 0)
        assert (await other.value()).number == 7
        await conn.ping()
    assert [request.message.event_stream_id for request in second.log[2:3]] == ["other"]  # type: ignore[attr-defined]
    assert second.commands() == [Command.READ_EVENT]


async def test_an_answer_to_a_write_that_is_none() -> None:
    """Something came back, so it was done or refused; asking again would tell no more."""
    peer, second = Peer(), Peer()
    events = new_events(1)
    answer_all(peer, Command.WRITE_EVENTS, (WRITE_DONE, b"\xff\xff"))
    async with open_over(peer, second) as conn:
        with pytest.raises(OutcomeUnknown) as info:
            await conn.append("s", events, expected=0)
        assert isinstance(info.value.__cause__, ProtocolError)
        assert info.value.event_ids == (events[0].id,)
        await conn.ping()
    assert second.commands() == []


# --- cancelled calls


async def test_a_cancelled_call_that_was_not_sent_never_is(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=3)) as conn:
        peer.hold()
        Call(nursery, conn.read_event, "under way", 0)
        await settle()
        queued = Call(nursery, conn.append, "queued", new_events(1))
        subscription = Call(nursery, conn.subscribe_live("queued").__aenter__)
        await settle()
        at_the_door = [
            Call(nursery, conn.append, "door", new_events(1)),
            Call(nursery, conn.subscribe_live("door").__aenter__),
        ]
        await settle()
        assert conn.statistics().waiting == 2
        for call in (queued, subscription, *at_the_door):
            call.scope.cancel()
        await settle()
        now = conn.statistics()
        # The bytes of what has gone are still in the queue until the writer throws them away.
        assert (now.in_flight, now.waiting) == (1, 0)
        peer.release()
        request = await peer.receive()
        peer.send(READ_DONE, request.correlation, event_read())
        await conn.ping()
    assert peer.commands() == [Command.READ_EVENT]


async def test_who_is_cancelled_already_sends_nothing() -> None:
    """Trio draws lots for who runs first, the caller or the writer."""
    peer = Peer()
    async with open_to(peer) as conn:
        for _ in range(20):
            with trio.CancelScope() as scope:
                scope.cancel()
                await conn.append("s", new_events(1))
            assert scope.cancelled_caught
        await conn.ping()
    assert peer.commands() == []


async def test_a_cancelled_call_that_was_sent(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        call = Call(nursery, conn.append, "s", new_events(1))
        request = await peer.receive()
        call.scope.cancel()
        await settle()
        peer.send(WRITE_DONE, request.correlation, written())
        await conn.ping()
        assert conn.statistics().stray_frames == 1


async def test_cancelled_while_it_waits_to_ask_again(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        answer_all(peer, Command.READ_EVENT, (Command.NOT_HANDLED, not_handled(NotHandled.NotReady)))
        call = Call(nursery, conn.read_event, "s", 0)
        await trio.sleep(ASK_AGAIN_DELAY / 2)
        call.scope.cancel()
        await trio.sleep(1)
    assert peer.commands() == [Command.READ_EVENT]


# --- the door


async def test_so_many_at_once_and_in_order(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=2)) as conn:
        calls = []
        for number in range(5):
            calls.append(Call(nursery, conn.read_event, "s", number))
            await settle()
        now = conn.statistics()
        assert (now.in_flight, now.waiting, now.queued_bytes) == (2, 3, 0)
        for number in range(5):
            request = await peer.receive()
            assert request.message.event_number == number  # type: ignore[attr-defined]
            await settle()
            assert len(peer.commands()) == min(number + 2, 5)
            peer.send(READ_DONE, request.correlation, event_read(number))
            await calls[number].value()


async def test_so_many_bytes_at_once(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_queued_bytes=1000, heartbeat_timeout=60)) as conn:
        answer_all(peer, Command.WRITE_EVENTS, (WRITE_DONE, written()))
        peer.hold()
        calls = []
        for size in (10, 900, 900, 5000, 10):
            calls.append(Call(nursery, conn.append, "s", NewEvent("t", bytes(size))))
            await settle()
        now = conn.statistics()
        # The first is with the socket, the second in the queue, and even the small one waits its turn.
        assert (now.in_flight, now.waiting) == (2, 3)
        assert 900 < now.queued_bytes <= 1000
        peer.release()
        for call in calls:
            await call.value()
        sizes = [len(request.payload) for request in peer.log if request.command == Command.WRITE_EVENTS]
        assert [size > 900 for size in sizes] == [False, True, True, True, False]


async def test_many_that_are_not_handled_are_no_more_at_once_than_may_be() -> None:
    peer = Peer()
    peer.handlers[Command.READ_EVENT] = lambda request: not_handled_by(peer, request, NotHandled.NotReady)
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=3)) as conn, trio.open_nursery() as nursery:
        calls = [Call(nursery, conn.read_event, "s", 7) for _ in range(20)]
        for _ in range(50):
            await trio.sleep(0.1)
            assert conn.statistics().in_flight <= 3
        peer.handlers[Command.READ_EVENT] = answering(READ_DONE, event_read(7))(peer)
        for call in calls:
            assert (await call.value()).number == 7


@pytest.mark.parametrize("cancelled", [True, False])
async def test_who_waits_to_be_asked_again_can_be_stopped(cancelled: bool) -> None:
    """At the door for the second time, behind one that has no answer."""
    peer = Peer()
    async with (
        trio.open_nursery() as nursery,
        open_to(peer, ANONYMOUS.replace(max_in_flight=1, attempt_timeout=100)) as conn,
    ):
        first = Call(nursery, conn.read_event, "s", 7)
        not_handled_by(peer, await peer.receive(Command.READ_EVENT), NotHandled.NotReady)
        second = Call(nursery, conn.read_event, "s", 8)
        await peer.receive(Command.READ_EVENT)
        await trio.sleep(1)
        assert conn.statistics().waiting == 1
        if cancelled:
            first.scope.cancel()
            second.scope.cancel()
        else:
            assert isinstance(await first.error(), OperationTimedOut)
            assert isinstance(await second.error(), OperationTimedOut)


async def test_who_waits_to_be_asked_again_goes_over_the_next_session(nursery: trio.Nursery) -> None:
    """Behind those who were inside when the session died."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second, settings=AT_ONCE.replace(max_in_flight=1)) as conn:
        first = Call(nursery, conn.read_event, "s", 7)
        not_handled_by(peer, await peer.receive(Command.READ_EVENT), NotHandled.NotReady)
        second_call = Call(nursery, conn.read_event, "s", 8)
        await peer.receive(Command.READ_EVENT)
        await trio.sleep(2 * ASK_AGAIN_DELAY)
        peer.hang_up()
        for number, call in ((8, second_call), (7, first)):
            request = await second.receive(Command.READ_EVENT)
            second.send(READ_DONE, request.correlation, event_read(number))
            assert (await call.value()).number == number


def test_they_show_themselves() -> None:
    engine = Engine(ANONYMOUS, Peer().connect)
    assert repr(engine.calls) == "<Calls: 0, of which 0 wait for a session>"
