"""Calls: their answers, their deadlines, being asked again, and what becomes of them when the session ends."""

from __future__ import annotations

from functools import partial
from traceback import format_exception
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import NotHandled, Written, confirm, event_read, not_handled, not_written, pushed, written
from tests.helpers import assert_nothing_left, new_events
from tests.peer import ADMIN, ANONYMOUS, Call, Network, Peer, Request, answering, encode, open_to
from trio_extreme import (
    ANY,
    AccessDenied,
    BadRequest,
    ConnectionClosed,
    ConnectionLost,
    Credentials,
    DeleteResult,
    FrameTooLarge,
    NewEvent,
    NotAuthenticated,
    NotMaster,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    StreamDeleted,
    WrongExpectedVersion,
    open_connection,
)
from trio_extreme.engine import ASK_AGAIN_DELAY, Engine
from trio_extreme.operations.reading import ReadEvent
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from trio_extreme import Connection

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ_DONE = Command.READ_EVENT_COMPLETED
WRITE_DONE = Command.WRITE_EVENTS_COMPLETED
DELETE_DONE = Command.DELETE_STREAM_COMPLETED


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
        peer.handlers[Command.READ_EVENT] = answering(READ_DONE, event_read())(peer)
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
    ],
)
async def test_a_refusal_is_of_one_call(command: int, payload: Any, kind: type[Exception]) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        peer.handlers[Command.WRITE_EVENTS] = answering(command, payload)(peer)
        for _ in range(2):
            with pytest.raises(kind):
                await conn.append("s", new_events(1))
        await conn.ping()


async def test_another_node_is_the_master() -> None:
    peer = Peer()
    info = schema.NotHandled.MasterInfo(external_tcp_address="10.0.0.2", external_tcp_port=1113)
    answer = not_handled(NotHandled.NotMaster, info.SerializePartialToString())
    peer.handlers[Command.WRITE_EVENTS] = answering(Command.NOT_HANDLED, answer)(peer)
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
        peer.handlers[Command.READ_EVENT] = answering(READ_DONE, event_read(data=bytes(2000)))(peer)
        peer.handlers[Command.WRITE_EVENTS] = answering(WRITE_DONE, bytes(2000))(peer)
        with pytest.raises(FrameTooLarge):
            await conn.read_event("s", 0)
        # An answer came, so the write was done or refused: nobody can tell which.
        events = new_events(1)
        with pytest.raises(OutcomeUnknown, match="max_frame_size") as info:
            await conn.append("s", events)
        assert info.value.event_ids == (events[0].id,)
        assert isinstance(info.value.__cause__, FrameTooLarge)
        await conn.ping()


# --- asked again


@pytest.mark.parametrize("expected", [ANY, 3])
async def test_what_was_not_handled_is_asked_again(expected: int) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        answers = iter([not_handled(NotHandled.NotReady), not_handled(NotHandled.TooBusy), None])
        times: list[float] = []

        def answer(request: Request) -> None:
            times.append(trio.current_time())
            refusal = next(answers)
            if refusal is None:
                peer.send(WRITE_DONE, request.correlation, written(4, 4))
            else:
                peer.send(Command.NOT_HANDLED, request.correlation, refusal)

        peer.handlers[Command.WRITE_EVENTS] = answer
        assert (await conn.append("s", new_events(1), expected=expected)).last == 4
        assert times == pytest.approx([0, ASK_AGAIN_DELAY, 2 * ASK_AGAIN_DELAY])
        sent = [request for request in peer.log if request.command == Command.WRITE_EVENTS]
        assert len({request.correlation for request in sent}) == 3
        assert len({request.payload for request in sent}) == 1


async def test_not_ready_until_the_deadline() -> None:
    peer = Peer()
    peer.handlers[Command.READ_EVENT] = answering(Command.NOT_HANDLED, not_handled(NotHandled.NotReady))(peer)
    async with open_to(peer, ANONYMOUS.replace(operation_timeout=2)) as conn:
        with pytest.raises(NotReady) as info:
            await conn.read_event("s", 0)
        assert 1.5 <= trio.current_time() <= 2
    # What told the loop to ask again is nobody else's business.
    assert "AskAgain" not in "".join(format_exception(info.value))


@pytest.mark.parametrize("result", [Written.PrepareTimeout, Written.CommitTimeout, Written.ForwardTimeout])
async def test_servers_that_did_not_agree_in_time(result: int) -> None:
    events = new_events(2)
    peer = Peer()
    peer.handlers[Command.WRITE_EVENTS] = answering(WRITE_DONE, not_written(result))(peer)
    async with open_to(peer, ANONYMOUS.replace(operation_timeout=2)) as conn:
        with pytest.raises(OutcomeUnknown) as info:
            await conn.append("s", events)
        assert info.value.event_ids == tuple(event.id for event in events)
        assert len(peer.commands()) == 1
        # With a number it may be asked again, and is; but at the end nobody knows more.
        with pytest.raises(OutcomeUnknown):
            await conn.append("s", events, expected=3)
        assert len(peer.commands()) > 5


async def test_servers_that_agreed_when_asked_again() -> None:
    peer = Peer()
    results = iter([not_written(Written.CommitTimeout), written(4, 5)])
    peer.handlers[Command.WRITE_EVENTS] = lambda request: peer.send(WRITE_DONE, request.correlation, next(results))
    async with open_to(peer) as conn:
        assert (await conn.append("s", new_events(2), expected=3)).first == 4


async def test_the_connection_ends_before_it_is_asked_again(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        read = Call(nursery, conn.read_event, "s", 0)
        append = Call(nursery, conn.append, "s", new_events(1), expected=0)
        for _ in range(2):
            request = await peer.receive()
            if request.command == Command.READ_EVENT:
                peer.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
            else:
                peer.send(WRITE_DONE, request.correlation, not_written(Written.PrepareTimeout))
        peer.hang_up()
        assert isinstance(await read.error(), ConnectionLost)
        assert isinstance(await append.error(), OutcomeUnknown)


# --- deadlines


@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        (lambda conn: conn.read_event("s", 0), (READ_DONE, event_read())),
        (lambda conn: conn.append("s", new_events(1), expected=3), (WRITE_DONE, written())),
    ],
)
async def test_no_answer_to_an_attempt_and_one_to_the_next(verb: Any, answer: Any, nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        call = Call(nursery, verb, conn)
        first = await peer.receive()
        second = await peer.receive()
        assert trio.current_time() == pytest.approx(ANONYMOUS.attempt_timeout)
        assert first.correlation != second.correlation
        assert first.payload == second.payload
        peer.send(answer[0], first.correlation, answer[1])
        await trio.testing.wait_all_tasks_blocked()
        assert not call.done
        peer.send(answer[0], second.correlation, answer[1])
        await call.value()
        assert conn.statistics().stray_frames == 1


async def test_no_answer_to_an_append_with_any() -> None:
    events = new_events(2)
    peer = Peer()
    async with open_to(peer) as conn:
        with pytest.raises(OutcomeUnknown, match="attempt_timeout") as info:
            await conn.append("s", events)
        assert info.value.event_ids == tuple(event.id for event in events)
        assert trio.current_time() == pytest.approx(ANONYMOUS.attempt_timeout)
    assert peer.commands() == [Command.WRITE_EVENTS]


@pytest.mark.parametrize(
    ("verb", "kind", "once"),
    [
        (lambda conn: conn.read_event("s", 0), OperationTimedOut, False),
        (lambda conn: conn.append("s", new_events(1), expected=3), OutcomeUnknown, False),
        (lambda conn: conn.delete_stream("s", expected=ANY), OutcomeUnknown, True),
        (lambda conn: conn.subscribe_live("s").__aenter__(), OperationTimedOut, False),
    ],
)
@pytest.mark.parametrize("attempt", [7, 100])
async def test_no_answer_at_all(verb: Any, kind: type[Exception], once: bool, attempt: float) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(attempt_timeout=attempt, operation_timeout=20)) as conn:
        with pytest.raises(kind):
            await verb(conn)
        # What may not be asked twice is given up with its one attempt.
        assert trio.current_time() == pytest.approx(attempt if once and attempt < 20 else 20)


async def test_time_runs_out_before_it_was_sent(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=2, operation_timeout=5, heartbeat_timeout=60)) as conn:
        peer.hold()
        sent = Call(nursery, conn.append, "s", new_events(1))
        await trio.testing.wait_all_tasks_blocked()
        queued = Call(nursery, conn.append, "s", new_events(1))
        await trio.testing.wait_all_tasks_blocked()
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


# --- asked twice, and then


@pytest.mark.parametrize("first", ["silence", "timeout"])
@pytest.mark.parametrize("then", ["lost unsent", "lost sent", "not ready", "not master", "deleted", "closed"])
async def test_a_second_attempt_does_not_undo_the_first(first: str, then: str, nursery: trio.Nursery) -> None:
    """The first may have been carried out, so nothing but success tells the outcome."""
    peer = Peer()
    events = new_events(1)
    settings = ANONYMOUS.replace(operation_timeout=10, heartbeat_timeout=60)
    async with open_connection(settings, connect=peer.connect) as conn:
        append = Call(nursery, conn.append, "s", events, expected=3)
        request = await peer.receive()
        if then == "lost unsent":
            peer.hold()
            # Heartbeats are held up too: the send under way is one of theirs.
            await trio.sleep(5)
        if first == "timeout":
            peer.send(WRITE_DONE, request.correlation, not_written(Written.CommitTimeout))
        await trio.sleep(ASK_AGAIN_DELAY + 0.1 if first == "timeout" else settings.attempt_timeout)
        if then != "lost unsent":
            request = await peer.receive()
        if then.startswith("lost"):
            peer.hang_up()
        elif then == "not ready":
            await trio.sleep(0.1)
            peer.handlers[Command.WRITE_EVENTS] = answering(Command.NOT_HANDLED, not_handled(NotHandled.NotReady))(peer)
            peer.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
        elif then == "not master":
            peer.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotMaster))
        elif then == "deleted":
            peer.send(WRITE_DONE, request.correlation, not_written(Written.StreamDeleted))
        if then != "closed":
            error = await append.error()
    error = await append.error()
    assert isinstance(error, OutcomeUnknown)
    assert error.event_ids == (events[0].id,)
    assert_nothing_left(conn)


async def test_a_second_attempt_that_finds_the_version_wrong(nursery: trio.Nursery) -> None:
    """It may be wrong because of the first, where the server does not remember its ids: a stream deleted meanwhile."""
    peer = Peer()
    events = new_events(1)
    async with open_to(peer) as conn:
        append = Call(nursery, conn.append, "s", events, expected=3)
        await peer.receive()
        request = await peer.receive()
        peer.send(WRITE_DONE, request.correlation, not_written(Written.WrongExpectedVersion))
        error = await append.error()
        assert isinstance(error, OutcomeUnknown)
        assert isinstance(error.__cause__, WrongExpectedVersion)
        assert error.event_ids == (events[0].id,)


@pytest.mark.parametrize("first", ["not ready", "nothing"])
async def test_what_was_refused_for_certain_is_no_doubt(first: str, nursery: trio.Nursery) -> None:
    """The first attempt was turned away, or is the only one; then a wrong version is one."""
    peer = Peer()
    async with open_to(peer) as conn:
        append = Call(nursery, conn.append, "s", new_events(1), expected=3)
        request = await peer.receive()
        if first == "not ready":
            peer.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
            request = await peer.receive()
        peer.send(WRITE_DONE, request.correlation, not_written(Written.WrongExpectedVersion))
        assert isinstance(await append.error(), WrongExpectedVersion)


def delete_done(result: int) -> schema.DeleteStreamCompleted:
    return schema.DeleteStreamCompleted(result=result)


async def test_a_second_hard_delete_finds_what_the_first_left(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        delete = Call(nursery, partial(conn.delete_stream, hard=True), "s", expected=3)
        await peer.receive(Command.DELETE_STREAM)
        request = await peer.receive(Command.DELETE_STREAM)
        peer.send(DELETE_DONE, request.correlation, delete_done(Written.StreamDeleted))
        # It is deleted, as was asked for; where its record is nobody said.
        assert await delete.value() == DeleteResult(None)
        peer.handlers[Command.DELETE_STREAM] = answering(DELETE_DONE, delete_done(Written.StreamDeleted))(peer)
        # Asked for once, it was deleted by somebody else.
        with pytest.raises(StreamDeleted):
            await conn.delete_stream("s", expected=3, hard=True)


async def test_a_second_hard_delete_that_is_refused(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        delete = Call(nursery, partial(conn.delete_stream, hard=True), "s", expected=3)
        await peer.receive(Command.DELETE_STREAM)
        request = await peer.receive(Command.DELETE_STREAM)
        peer.send(DELETE_DONE, request.correlation, delete_done(Written.AccessDenied))
        error = await delete.error()
        assert isinstance(error, OutcomeUnknown)
        assert isinstance(error.__cause__, AccessDenied)


# --- nothing is asked again for nobody


def expire_attempts(conn: Connection) -> None:
    """What the sweeper does, at the moment the test wants it."""
    for slot in conn._engine._calls:
        conn._engine._expire(slot, slot.expires)


@pytest.mark.parametrize(
    ("verb", "command", "kind"),
    [
        (lambda conn: conn.read_event("s", 0), Command.READ_EVENT, ConnectionClosed),
        (lambda conn: conn.append("s", new_events(1), expected=3), Command.WRITE_EVENTS, OutcomeUnknown),
    ],
)
async def test_the_block_is_left_when_an_attempt_expires(
    verb: Any, command: int, kind: type[Exception], nursery: trio.Nursery
) -> None:
    peer = Peer()
    async with open_connection(ANONYMOUS, connect=peer.connect) as conn:
        call = Call(nursery, verb, conn)
        await peer.receive(command)
        expire_attempts(conn)
    error = await call.error()
    assert isinstance(error, kind)
    assert isinstance(error.__cause__ or error, ConnectionClosed)
    assert peer.commands() == [command]
    assert_nothing_left(conn)


async def test_cancelled_when_an_attempt_expires(nursery: trio.Nursery) -> None:
    """Trio does not cancel who was woken already; asked again, whether it was sent would be chance."""
    peer = Peer()
    async with open_to(peer) as conn:
        for number in range(1, 21):
            append = Call(nursery, conn.append, "s", new_events(1), expected=3)
            await peer.receive(Command.WRITE_EVENTS)
            expire_attempts(conn)
            append.scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert_nothing_left(conn)
            assert len(peer.commands()) == number


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
        (slot,) = conn._engine._calls
        slot.deliver([(WRITE_DONE, 0, request.correlation, written().SerializeToString())])
        expire_attempts(conn)
        assert (await append.value()).last == 0


# --- bytes that are none of this protocol


@pytest.mark.parametrize(
    "answer", [(READ_DONE, b"\xff\xff"), (Command.PONG, b""), (0x77, b""), (Command.NOT_HANDLED, b"\xff")]
)
async def test_an_answer_that_is_none(answer: tuple[int, bytes], nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        append = Call(nursery, conn.append, "s", new_events(1))
        await peer.receive(Command.WRITE_EVENTS)
        other = Call(nursery, conn.read_event, "other", 0)
        await peer.receive(Command.READ_EVENT)
        peer.handlers[Command.READ_EVENT] = answering(*answer)(peer)
        with pytest.raises(ProtocolError):
            await conn.read_event("s", 0)
        assert isinstance(await other.error(), ProtocolError | ConnectionLost)
        assert isinstance(await append.error(), OutcomeUnknown)
        with pytest.raises((ProtocolError, ConnectionLost)):
            await conn.ping()


async def test_an_answer_to_a_write_that_is_none() -> None:
    peer = Peer()
    events = new_events(1)
    peer.handlers[Command.WRITE_EVENTS] = answering(WRITE_DONE, b"\xff\xff")(peer)
    async with open_to(peer) as conn:
        with pytest.raises(OutcomeUnknown) as info:
            await conn.append("s", events, expected=0)
        assert isinstance(info.value.__cause__, ProtocolError)
        assert info.value.event_ids == (events[0].id,)


# --- the connection is lost


@pytest.mark.parametrize("how", ["hang up", "bad request", "broken", "silence"])
async def test_what_becomes_of_calls_when_the_connection_is_lost(how: str, nursery: trio.Nursery) -> None:
    peer = Peer()
    settings = ANONYMOUS.replace(max_in_flight=4)
    events = new_events(2)
    async with open_to(peer, settings) as conn:
        read = Call(nursery, conn.read_event, "s", 0)
        append = Call(nursery, conn.append, "s", events, expected=7)
        delete = Call(nursery, conn.delete_stream, "s", expected=ANY)
        for _ in range(3):
            await peer.receive()
        peer.hold()
        await trio.sleep(settings.heartbeat_interval + 0.1)
        unsent = Call(nursery, conn.append, "s", new_events(1))
        await trio.testing.wait_all_tasks_blocked()
        at_the_door = Call(nursery, conn.append, "s", new_events(1))
        await trio.testing.wait_all_tasks_blocked()
        if how == "hang up":
            peer.hang_up()
        elif how == "bad request":
            peer.send(Command.BAD_REQUEST, NO_CORRELATION, b"Bad package")
        elif how == "broken":
            peer.break_sending()
        for call in (read, unsent, at_the_door):
            assert isinstance(await call.error(), ConnectionLost)
        for call, ids in ((append, tuple(event.id for event in events)), (delete, ())):
            error = await call.error()
            assert isinstance(error, OutcomeUnknown)
            assert isinstance(error.__cause__, ConnectionLost)
            assert error.event_ids == ids
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await conn.ping()
        # Each caller has an error of its own: they would print each other's traces.
        assert await read.error() is not await unsent.error()


async def test_a_lost_connection_does_not_cancel_the_body() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        peer.hang_up()
        await trio.sleep(100)
        errors = []
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="the server closed it") as info:
                await conn.ping()
            errors.append(info.value)
        # One for each caller, or their tracebacks would grow into each other.
        assert errors[0] is not errors[1]


async def test_the_last_answer_before_the_end_counts(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        append = Call(nursery, conn.append, "s", new_events(1))
        request = await peer.receive()
        # Sending fails first, and what the peer had said before is still read.
        peer.break_sending()
        read = Call(nursery, conn.read_event, "s", 0)
        await trio.sleep(0.1)
        peer.send(WRITE_DONE, request.correlation, written(5, 5))
        peer.hang_up()
        assert (await append.value()).last == 5
        assert isinstance(await read.error(), ConnectionLost)


async def test_it_is_lost_in_the_moment_it_is_opened() -> None:
    peer = Peer()

    def let_in_and_hang_up(request: Request) -> None:
        peer.send(Command.PONG, request.correlation)
        peer.hang_up()

    peer.handlers[Command.PING] = let_in_and_hang_up
    async with open_connection(ADMIN, connect=peer.connect) as conn:
        with pytest.raises(ConnectionLost):
            await conn.ping()


# --- cancelled calls


async def test_a_cancelled_call_that_was_not_sent_never_is(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=3)) as conn:
        peer.hold()
        Call(nursery, conn.read_event, "under way", 0)
        await trio.testing.wait_all_tasks_blocked()
        queued = Call(nursery, conn.append, "queued", new_events(1))
        subscription = Call(nursery, conn.subscribe_live("queued").__aenter__)
        await trio.testing.wait_all_tasks_blocked()
        at_the_door = [
            Call(nursery, conn.append, "door", new_events(1)),
            Call(nursery, conn.subscribe_live("door").__aenter__),
        ]
        await trio.testing.wait_all_tasks_blocked()
        assert conn.statistics().waiting == 2
        for call in (queued, subscription, *at_the_door):
            call.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        now = conn.statistics()
        # The bytes of what has gone are still in the queue until the writer throws them away.
        assert (now.in_flight, now.waiting) == (1, 0)
        peer.release()
        request = await peer.receive()
        peer.send(READ_DONE, request.correlation, event_read())
        await conn.ping()
    assert peer.commands() == [Command.READ_EVENT]


async def test_a_cancelled_call_that_was_sent(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        call = Call(nursery, conn.append, "s", new_events(1))
        request = await peer.receive()
        call.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        peer.send(WRITE_DONE, request.correlation, written())
        await conn.ping()
        assert conn.statistics().stray_frames == 1


async def test_cancelled_while_it_waits_to_ask_again(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        peer.handlers[Command.READ_EVENT] = answering(Command.NOT_HANDLED, not_handled(NotHandled.NotReady))(peer)
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
            await trio.testing.wait_all_tasks_blocked()
        now = conn.statistics()
        assert (now.in_flight, now.waiting, now.queued_bytes) == (2, 3, 0)
        for number in range(5):
            request = await peer.receive()
            assert request.message.event_number == number  # type: ignore[attr-defined]
            await trio.testing.wait_all_tasks_blocked()
            assert len(peer.commands()) == min(number + 2, 5)
            peer.send(READ_DONE, request.correlation, event_read(number))
            await calls[number].value()


async def test_so_many_bytes_at_once(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_queued_bytes=1000, heartbeat_timeout=60)) as conn:
        peer.handlers[Command.WRITE_EVENTS] = answering(WRITE_DONE, written())(peer)
        peer.hold()
        calls = []
        for size in (10, 900, 900, 5000, 10):
            calls.append(Call(nursery, conn.append, "s", NewEvent("t", bytes(size))))
            await trio.testing.wait_all_tasks_blocked()
        now = conn.statistics()
        # The first is with the socket, the second in the queue, and even the small one waits its turn.
        assert (now.in_flight, now.waiting) == (2, 3)
        assert 900 < now.queued_bytes <= 1000
        peer.release()
        for call in calls:
            await call.value()
        sizes = [len(request.payload) for request in peer.log if request.command == Command.WRITE_EVENTS]
        assert [size > 900 for size in sizes] == [False, True, True, True, False]


# --- requests whose answers are asked for later


def last_event() -> ReadEvent:
    return ReadEvent("s", -1, resolve_links=True, require_master=False)


async def test_begun_now_and_finished_later() -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=1)) as conn:
        engine = conn._engine
        slot = engine.begin(last_event(), None)
        assert slot is not None
        # It is inside the door, so another would have to wait, and is not begun.
        assert engine.begin(last_event(), None) is None
        request = await peer.receive(Command.READ_EVENT)
        peer.send(READ_DONE, request.correlation, event_read(7))
        await trio.testing.wait_all_tasks_blocked()
        # The answer is here, so its place is free, whoever fetches it when.
        assert conn.statistics().in_flight == 0
        await conn.ping()
        await trio.sleep(100)
        assert (await engine.finish(slot)).number == 7
        await conn.ping()


async def test_what_was_begun_is_asked_again_where_it_may_be() -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=1)) as conn:
        engine = conn._engine
        slot = engine.begin(last_event(), None)
        assert slot is not None
        request = await peer.receive(Command.READ_EVENT)
        peer.send(Command.NOT_HANDLED, request.correlation, not_handled(NotHandled.NotReady))
        await trio.sleep(100)
        # Its place has gone to others; asked again, it takes one more than there are.
        other = engine.begin(last_event(), None)
        assert other is not None
        waiting = await peer.receive(Command.READ_EVENT)
        peer.handlers[Command.READ_EVENT] = answering(READ_DONE, event_read(7))(peer)
        assert (await engine.finish(slot)).number == 7
        assert conn.statistics().in_flight == 1
        peer.send(READ_DONE, waiting.correlation, event_read(8))
        assert (await engine.finish(other)).number == 8


async def test_begun_and_abandoned() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        slot = conn._engine.begin(last_event(), None)
        assert slot is not None
        conn._engine.abandon(slot)
        await conn.ping()
    assert peer.commands() == []


async def test_nothing_is_begun_on_a_connection_that_ended() -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        peer.hang_up()
        await trio.testing.wait_all_tasks_blocked()
        assert conn._engine.begin(last_event(), None) is None


# --- subscriptions, as far as they are the engine's


async def test_a_subscription_is_asked_for_again_and_the_first_attempt_taken_back(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        entering = Call(nursery, (subscription := conn.subscribe_live("s")).__aenter__)
        first = await peer.receive(Command.SUBSCRIBE_TO_STREAM)
        commands = [(await peer.receive()) for _ in range(2)]
        assert [(request.command, request.correlation == first.correlation) for request in commands] == [
            (Command.UNSUBSCRIBE_FROM_STREAM, True),
            (Command.SUBSCRIBE_TO_STREAM, False),
        ]
        second = commands[1]
        confirmation = schema.SubscriptionConfirmation(last_commit_position=1, last_event_number=1)
        peer.send(Command.SUBSCRIPTION_CONFIRMATION, first.correlation, confirmation)
        peer.send_bytes(pushed(first, 5))
        peer.send_bytes(
            encode(Command.SUBSCRIPTION_CONFIRMATION, second.correlation, confirmation) + pushed(second, 6, 7)
        )
        events = await entering.value()
        assert [(await anext(events)).number for _ in range(2)] == [6, 7]
        assert conn.statistics().stray_frames == 2
        await subscription.__aexit__(None, None, None)


async def test_a_subscription_takes_no_place_at_the_door(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(max_in_flight=1)) as conn:
        nursery.start_soon(partial(confirm, peer))
        async with conn.subscribe_live("s"):
            await conn.ping()
            (box,) = conn.statistics().subscriptions
            assert (box.stream, box.buffered_events, box.buffered_bytes) == ("s", 0, 0)


def test_it_shows_itself() -> None:
    assert repr(Engine(ANONYMOUS, Network(None).connect)).startswith("<Engine ")


async def test_nothing_is_sent_before_the_block_is_entered(nursery: trio.Nursery) -> None:
    def open_late(conn: Connection) -> Any:
        return conn.subscribe_live("s")

    peer = Peer()
    async with open_to(peer) as conn:
        open_late(conn)
        conn.read_stream("s")
        await trio.testing.wait_all_tasks_blocked()
    assert peer.commands() == []
