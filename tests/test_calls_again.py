"""Asking again on the session that lives: what was not handled, what was not agreed upon, what nobody answered."""

from __future__ import annotations

from traceback import format_exception
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import NotHandled, Written, confirmed, event_read, not_handled, not_written, pushed, written
from tests.helpers import assert_nothing_left, new_events
from tests.kinds import (
    KINDS,
    NO_STREAM_YET,
    READ_BACKWARD,
    Kind,
    each,
    each_kind,
    each_page,
    of_kind,
    refusing,
    send,
)
from tests.lost import AT_ONCE, answer_all, asked, block_writer, not_handled_by, open_over, settle
from tests.peer import ANONYMOUS, Call, Peer, encode, open_to
from trio_extreme import ConnectionClosed, NotReady, OperationTimedOut, OutcomeUnknown, open_connection
from trio_extreme.calls import ASK_AGAIN_DELAY
from trio_extreme.operations.base import Resend
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme import Connection

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ_DONE = Command.READ_EVENT_COMPLETED
WRITE_DONE = Command.WRITE_EVENTS_COMPLETED
ATTEMPT = AT_ONCE.attempt_timeout

WRITES = [
    kind for kind in KINDS if kind.command in {Command.WRITE_EVENTS, Command.DELETE_STREAM, Command.TRANSACTION_COMMIT}
]
AGREEING = [kind for kind in WRITES if not kind.name.startswith("execute")]
"""The verbs that look at the result; `execute` returns it as it came."""

each_disagreement = pytest.mark.parametrize(
    "result", [Written.PrepareTimeout, Written.CommitTimeout, Written.ForwardTimeout]
)


# --- not handled


@each_kind
async def test_what_was_not_handled_is_sent_again(kind: Kind, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_over(peer) as conn:
        call, request = await send(nursery, conn, peer, kind)
        for reason in (NotHandled.NotReady, NotHandled.TooBusy):
            not_handled_by(peer, request, reason)
            request = await peer.receive(kind.command)
        assert trio.current_time() == pytest.approx(2 * ASK_AGAIN_DELAY)
        peer.send(kind.answer[0], request.correlation, kind.answer[1])
        await call.value()
        requests = of_kind(peer, kind)
        assert len({request.correlation for request in requests}) == len(requests) == 3
        assert len({request.payload for request in requests}) == 1


async def test_not_ready_until_the_deadline() -> None:
    peer = Peer()
    answer_all(peer, Command.READ_EVENT, (Command.NOT_HANDLED, not_handled(NotHandled.NotReady)))
    async with open_to(peer, ANONYMOUS.replace(operation_timeout=2)) as conn:
        with pytest.raises(NotReady) as info:
            await conn.read_event("s", 0)
        assert 1.5 <= trio.current_time() <= 2
    # What told the loop to ask again is nobody else's business.
    assert "AskAgain" not in "".join(format_exception(info.value))


async def test_the_late_answer_to_what_was_not_handled(nursery: trio.Nursery) -> None:
    """It finds nobody: it says something about the first attempt."""
    peer = Peer()
    async with open_over(peer) as conn:
        read = Call(nursery, conn.read_event, "s", 0)
        first = await peer.receive(Command.READ_EVENT)
        not_handled_by(peer, first, NotHandled.NotReady)
        second = await peer.receive(Command.READ_EVENT)
        peer.send(READ_DONE, first.correlation, event_read(1))
        await settle()
        assert not read.done
        peer.send(READ_DONE, second.correlation, event_read(2))
        assert (await read.value()).number == 2


# --- servers that did not agree in time: it may have happened


@each_disagreement
@pytest.mark.parametrize("kind", AGREEING, ids=str)
async def test_servers_that_did_not_agree_in_time(kind: Kind, result: int, nursery: trio.Nursery) -> None:
    peer = Peer()
    answer_all(peer, READ_BACKWARD, NO_STREAM_YET)
    async with open_over(peer) as conn:
        call, request = await send(nursery, conn, peer, kind)
        command, answer = refusing(kind, result)
        peer.send(command, request.correlation, answer)
        if kind.resend is Resend.NEVER:
            assert isinstance(await call.error(), OutcomeUnknown)
            assert trio.current_time() == 0
        else:
            again = await peer.receive(kind.command)
            assert trio.current_time() == pytest.approx(ASK_AGAIN_DELAY)
            assert again.payload == request.payload
            peer.send(kind.answer[0], again.correlation, kind.answer[1])
            await call.value()
    looks = [READ_BACKWARD] if kind.resend is Resend.LOOK_UP else []
    again_too = [] if kind.resend is Resend.NEVER else [kind.command]
    assert peer.commands() == [kind.command, *looks, *again_too]


@each(Resend.SAME_IDS, Resend.LOOK_UP)
async def test_servers_that_never_agree(kind: Kind) -> None:
    """At the end nobody knows more than at the beginning."""
    peer = Peer()
    answer_all(peer, READ_BACKWARD, NO_STREAM_YET)
    answer_all(peer, kind.command, refusing(kind, Written.CommitTimeout))
    async with open_to(peer, ANONYMOUS.replace(operation_timeout=2)) as conn:
        with pytest.raises(OutcomeUnknown) as info:
            await kind.verb(conn)
        assert kind.writes(info.value.event_ids)
        assert len(of_kind(peer, kind)) > 5


# --- no answer within attempt_timeout


@each(Resend.AGAIN, Resend.AS_ONCE, Resend.SAME_IDS)
async def test_no_answer_to_an_attempt_and_one_to_the_next(kind: Kind, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_over(peer) as conn:
        call, first = await send(nursery, conn, peer, kind)
        if kind.is_feed:
            # The server may have opened it: it is told to end it.
            assert (await peer.receive(Command.UNSUBSCRIBE_FROM_STREAM)).correlation == first.correlation
        second = await peer.receive(kind.command)
        assert trio.current_time() == pytest.approx(ATTEMPT)
        assert first.correlation != second.correlation
        assert first.payload == second.payload
        peer.send(kind.answer[0], first.correlation, kind.answer[1])
        await settle()
        assert not call.done
        peer.send(kind.answer[0], second.correlation, kind.answer[1])
        await call.value()
        assert conn.statistics().stray_frames == 1


@each_page
async def test_no_answer_to_a_page(kind: Kind, nursery: trio.Nursery) -> None:
    """The server may be too slow for so large a one."""
    peer = Peer()
    async with open_over(peer) as conn:
        call, first = await send(nursery, conn, peer, kind)
        answer_all(peer, kind.command, kind.answer)
        await call.value()
        assert trio.current_time() == pytest.approx(ATTEMPT)
    assert [request.message.max_count for request in (first, of_kind(peer, kind)[1])] == [8, 2]  # type: ignore[attr-defined]


@each(Resend.LOOK_UP)
async def test_no_answer_to_an_append_that_is_looked_for(kind: Kind, nursery: trio.Nursery) -> None:
    peer = Peer()
    answer_all(peer, READ_BACKWARD, NO_STREAM_YET)
    async with open_over(peer) as conn:
        call, first = await send(nursery, conn, peer, kind)
        second = await peer.receive(kind.command)
        assert trio.current_time() == pytest.approx(ATTEMPT)
        assert second.payload == first.payload
        peer.send(kind.answer[0], second.correlation, kind.answer[1])
        await call.value()
    assert peer.commands() == [kind.command, READ_BACKWARD, kind.command]


@each(Resend.NEVER)
async def test_no_answer_to_what_is_sent_once(kind: Kind, nursery: trio.Nursery) -> None:
    """It is given up with its one attempt; a scavenge has all the time of the call."""
    peer = Peer()
    async with open_over(peer) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        error = await call.error()
        assert isinstance(error, OutcomeUnknown)
        assert isinstance(error.__cause__, OperationTimedOut)
        assert trio.current_time() == pytest.approx(AT_ONCE.operation_timeout if kind.is_slow else ATTEMPT)
    assert peer.commands() == [kind.command]


async def test_a_subscription_whose_first_attempt_is_confirmed_late(nursery: trio.Nursery) -> None:
    """It was taken back; what the server pushes for it finds nobody."""
    peer = Peer()
    async with open_to(peer) as conn:
        entering = Call(nursery, (subscription := conn.subscribe_live("s")).__aenter__)
        first = await peer.receive(Command.SUBSCRIBE_TO_STREAM)
        await peer.receive(Command.UNSUBSCRIBE_FROM_STREAM)
        second = await peer.receive(Command.SUBSCRIBE_TO_STREAM)
        for request, numbers in ((first, [5]), (second, [6, 7])):
            confirmation = encode(Command.SUBSCRIPTION_CONFIRMATION, request.correlation, confirmed())
            peer.send_bytes(confirmation + pushed(request, *numbers))
        events = await entering.value()
        assert [(await anext(events)).number for _ in range(2)] == [6, 7]
        assert conn.statistics().stray_frames == 2
        await subscription.__aexit__(None, None, None)


# --- no answer at all


@each_kind
@pytest.mark.parametrize("attempt", [7, 100])
async def test_no_answer_at_all(kind: Kind, attempt: float, nursery: trio.Nursery) -> None:
    peer = Peer()
    answer_all(peer, READ_BACKWARD, NO_STREAM_YET)
    async with open_to(peer, ANONYMOUS.replace(attempt_timeout=attempt, operation_timeout=20)) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        error = await call.error()
        assert isinstance(error, OperationTimedOut if kind.resend is Resend.AGAIN else OutcomeUnknown)
        once = kind.resend is Resend.NEVER and not kind.is_slow
        assert trio.current_time() == pytest.approx(min(attempt, 20) if once else 20)


async def test_time_runs_out_before_it_was_sent(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=2, operation_timeout=5, heartbeat_timeout=60)) as conn:
        peer.hold()
        sent = Call(nursery, conn.append, "s", new_events(1))
        await settle()
        queued = Call(nursery, conn.append, "s", new_events(1))
        await settle()
        at_the_door = Call(nursery, conn.append, "s", new_events(1))
        assert isinstance(await queued.error(), OperationTimedOut)
        assert isinstance(await at_the_door.error(), OperationTimedOut)
        assert isinstance(await sent.error(), OutcomeUnknown)
        assert trio.current_time() == pytest.approx(5)
        peer.release()
    # What time ran out for in the queue is not sent afterwards.
    assert peer.commands() == [Command.WRITE_EVENTS]


async def test_a_short_deadline_among_long_ones(nursery: trio.Nursery) -> None:
    """The sweeper sleeps until the next deadline there is, whenever a call begins."""
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(attempt_timeout=3, operation_timeout=5)) as conn:
        ends = []

        async def read() -> None:
            with pytest.raises(OperationTimedOut):
                await conn.read_event("s", 0)
            ends.append(trio.current_time())

        for _ in range(7):
            nursery.start_soon(read)
            await trio.sleep(0.9)
        await trio.sleep(6)
        assert ends == pytest.approx([5 + 0.9 * number for number in range(7)])


async def test_the_deadline_of_a_page_is_that_of_the_first_attempt(nursery: trio.Nursery) -> None:
    """However often it is asked for, in smaller ones."""
    peer, second = Peer(), Peer()
    async with open_over(peer, second, settings=AT_ONCE.replace(operation_timeout=20)) as conn:
        page = Call(nursery, anext, conn.read_stream("s"))
        await trio.sleep(14.5)
        peer.hang_up()
        assert isinstance(await page.error(), OperationTimedOut)
        assert trio.current_time() == pytest.approx(20)


async def test_an_attempt_counts_from_when_it_was_sent(nursery: trio.Nursery) -> None:
    """Behind a blocked writer it is not overdue."""
    peer = Peer()
    answer_all(peer, Command.READ_EVENT, (READ_DONE, event_read(7)))
    async with open_to(peer, ANONYMOUS.replace(heartbeat_timeout=100)) as conn:
        await block_writer(peer)
        read = Call(nursery, conn.read_event, "s", 0)
        await trio.sleep(ATTEMPT + 3)
        peer.release()
        assert (await read.value()).number == 7
    assert len(asked(peer)) == 1


# --- nothing is asked again for nobody


def expire_attempts(conn: Connection) -> None:
    """What the sweeper does, at the moment the test wants it."""
    calls = conn._engine.calls
    for slot in calls._calls:
        calls._expire(slot, slot.expires)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.is_page and kind.resend != Resend.NEVER], ids=str)
async def test_the_block_is_left_when_an_attempt_expires(kind: Kind, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        call, _ = await send(nursery, conn, peer, kind)
        expire_attempts(conn)
    error = await call.error()
    assert isinstance(error, ConnectionClosed if kind.resend is Resend.AGAIN else OutcomeUnknown)
    assert isinstance(error.__cause__ or error, ConnectionClosed)
    assert len(of_kind(peer, kind)) == 1
    assert_nothing_left(conn)


@each(Resend.AGAIN, Resend.AS_ONCE, Resend.SAME_IDS, Resend.LOOK_UP)
async def test_cancelled_when_an_attempt_expires(kind: Kind, nursery: trio.Nursery) -> None:
    """It was sent again in this moment, or not: chance decides. Nothing of it is left."""
    peer = Peer()
    async with open_to(peer) as conn:
        peer.handlers.pop(kind.command, None)
        for _ in range(20):
            call = Call(nursery, kind.verb, conn)
            await peer.receive(kind.command)
            expire_attempts(conn)
            call.scope.cancel()
            await settle()
            peer.unanswered()
            assert_nothing_left(conn)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(not_handled(NotHandled.NotReady), ConnectionClosed), (not_written(Written.CommitTimeout), OutcomeUnknown)],
)
async def test_the_block_is_left_before_it_is_asked_again(
    answer: Any, kind: type[Exception], nursery: trio.Nursery
) -> None:
    peer = Peer()
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        append = Call(nursery, conn.append, "s", new_events(1), expected=3)
        request = await peer.receive()
        peer.send(WRITE_DONE if kind is OutcomeUnknown else Command.NOT_HANDLED, request.correlation, answer)
        await trio.sleep(ASK_AGAIN_DELAY / 2)
    assert isinstance(await append.error(), kind)
    assert peer.commands() == [Command.WRITE_EVENTS]


async def test_an_answer_in_time_is_no_expired_attempt(nursery: trio.Nursery) -> None:
    """Where the program stood still, the answer and the end of its time are seen at once: the answer counts."""
    peer = Peer()
    async with open_to(peer) as conn:
        append = Call(nursery, conn.append, "s", new_events(1))
        request = await peer.receive()
        (slot,) = conn._engine.calls._calls
        slot.deliver((WRITE_DONE, 0, request.correlation, [written().SerializeToString()]))
        expire_attempts(conn)
        assert (await append.value()).last == 0
