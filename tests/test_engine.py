"""Connecting, the door, deadlines, and what becomes of a call whose session ends."""

from __future__ import annotations

import logging
import os
import socket
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import NotHandled, Written, confirm, event_read, not_handled, not_written, pushed, written
from tests.helpers import assert_nothing_left, new_events
from tests.peer import ADMIN, ANONYMOUS, Call, Network, Peer, Request, encode, open_to
from trio_extreme import (
    ANY,
    AccessDenied,
    BadRequest,
    ConnectFailed,
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
    TrioExtremeError,
    WrongExpectedVersion,
    open_connection,
)
from trio_extreme.engine import ASK_AGAIN_DELAY, Engine
from trio_extreme.operations.reading import ReadEvent
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme import Connection, Settings

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ_DONE = Command.READ_EVENT_COMPLETED
WRITE_DONE = Command.WRITE_EVENTS_COMPLETED
DELETE_DONE = Command.DELETE_STREAM_COMPLETED


async def fail_to_open(settings: Settings, connect: Network | Peer) -> Any:
    """The error that opening a connection raises."""
    with pytest.raises(TrioExtremeError) as info:
        async with open_connection(settings, connect=connect.connect):
            pytest.fail("it was opened")
    return info.value


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


def answering(command: int, payload: bytes | Any = b"") -> Callable[[Peer], Callable[[Request], None]]:
    return lambda peer: lambda request: peer.send(command, request.correlation, payload)


# --- who we are


async def test_it_says_who_it_is() -> None:
    peer = Peer()
    async with open_to(peer):
        assert peer.log[0].message == schema.IdentifyClient(
            version=1, connection_name=f"{socket.gethostname()}:{os.getpid()}"
        )
        # Who gave no name and password proves none, but the peer has to answer something.
        assert [request.command for request in peer.log] == [Command.IDENTIFY_CLIENT, Command.PING]
        assert [request.credentials for request in peer.log] == [None, None]


async def test_a_name_of_its_own_and_credentials_that_are_tried() -> None:
    peer = Peer()
    async with open_to(peer, ADMIN.replace(connection_name="my-app")):
        identify, ping = peer.log
        assert identify.message.connection_name == "my-app"  # type: ignore[attr-defined]
        assert (ping.command, len(ping.payload)) == (Command.PING, 1)
        assert ping.credentials == Credentials("admin", "changeit")


@pytest.mark.parametrize("settings", [ANONYMOUS, ADMIN])
async def test_a_server_that_does_not_know_identify(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    peer = Peer()
    peer.handlers[Command.IDENTIFY_CLIENT] = answering(Command.BAD_REQUEST, b"what?")(peer)
    async with open_to(peer, settings):
        assert trio.current_time() == 0
    assert "older than 3.9.4" in caplog.text


async def test_a_server_that_is_silent_to_identify() -> None:
    peer = Peer(mute=[Command.IDENTIFY_CLIENT])
    async with open_to(peer, ADMIN) as conn:
        assert trio.current_time() == ADMIN.identify_timeout
        identify = await peer.receive(Command.IDENTIFY_CLIENT)
        # Its answer, when it comes at last, finds nobody.
        peer.send(Command.CLIENT_IDENTIFIED, identify.correlation)
        await trio.sleep(0.1)
        assert conn.statistics().stray_frames == 1


# --- not getting in


async def test_refused(caplog: pytest.LogCaptureFixture) -> None:
    refused = Network(ConnectionRefusedError(111, "Connection refused"))
    settings = ANONYMOUS.replace(host="db.example", port=1234, first_attempts=3)
    error = await fail_to_open(settings, refused)
    assert isinstance(error, ConnectFailed)
    assert len(error.attempts) == len(refused.times) == 3
    assert error.__cause__ is error.attempts[-1]
    assert all(isinstance(attempt, ConnectionLost) for attempt in error.attempts)
    assert isinstance(error.attempts[0].__cause__, ConnectionRefusedError)
    assert "db.example:1234 in 3 attempts" in str(error)
    said = warnings(caplog)
    assert len(said) == 3
    for number, line in enumerate(said, start=1):
        assert f"attempt {number} to connect to db.example:1234 failed" in line
        assert "[Errno 111] Connection refused" in line
        assert "is the server up" in line
    assert "next in 0." in said[0]
    assert said[-1].endswith("no further one")


async def test_refused_by_every_address() -> None:
    error = OSError("all attempts to connect to localhost:1113 failed")
    error.__cause__ = ExceptionGroup("both", [ConnectionRefusedError(111, "Connection refused"), OSError("other")])
    failed = await fail_to_open(ANONYMOUS.replace(first_attempts=1), Network(error))
    assert "[Errno 111] Connection refused" in str(failed)


async def test_no_connection_in_time() -> None:
    failed = await fail_to_open(ANONYMOUS.replace(first_attempts=1, connect_timeout=2.5), Network(None))
    assert trio.current_time() == 2.5
    assert "2.5 s (connect_timeout)" in str(failed)
    assert isinstance(failed.attempts[0].__cause__, trio.TooSlowError)


async def test_a_name_that_nobody_knows() -> None:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    failed = await fail_to_open(ANONYMOUS.replace(first_attempts=1, host="db.exmaple"), Network(error))
    assert "'db.exmaple' cannot be looked up (Name or service not known)" in str(failed)


async def test_it_gets_in_at_last(caplog: pytest.LogCaptureFixture) -> None:
    network = Network(ConnectionRefusedError(), None, Peer(mute=[Command.PING]), last := Peer())
    settings = ADMIN.replace(first_attempts=None, heartbeat_interval=100)
    async with open_connection(settings, connect=network.connect) as conn:
        await conn.ping()
    assert len(network.times) == 4
    assert len(warnings(caplog)) == 3
    assert last.closed


async def test_for_ever() -> None:
    refused = Network(ConnectionRefusedError())
    with trio.move_on_after(3600) as scope:
        await fail_to_open(ANONYMOUS.replace(first_attempts=None), refused)
    assert scope.cancelled_caught
    assert len(refused.times) > 1000


async def test_delays_are_drawn_below_a_ceiling_that_doubles() -> None:
    refused = Network(ConnectionRefusedError())
    settings = ANONYMOUS.replace(first_attempts=80, reconnect_delay=0.1, max_reconnect_delay=5)
    engine = Engine(settings, refused.connect, Random(7))
    with pytest.raises(ConnectFailed):
        await engine.run()
    delays = [later - earlier for earlier, later in zip(refused.times, refused.times[1:], strict=False)]
    ceilings = [min(5, 0.1 * 2**number) for number in range(79)]
    same = Random(7)
    assert delays == pytest.approx([same.uniform(0, ceiling) for ceiling in ceilings])
    assert max(delays) > 4
    assert min(delays[10:]) < 1


@pytest.mark.parametrize("settings", [ADMIN, ADMIN.replace(first_attempts=None)])
async def test_a_wrong_password_is_refused_at_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    peer.handlers[Command.PING] = answering(Command.NOT_AUTHENTICATED, b"Not Authenticated")(peer)
    error = await fail_to_open(settings, peer)
    assert isinstance(error, NotAuthenticated)
    assert "changeit" not in str(error)
    assert warnings(caplog) == []
    assert peer.closed


@pytest.mark.parametrize("command", [Command.IDENTIFY_CLIENT, Command.PING])
async def test_a_node_that_is_not_ready_is_tried_again(command: Command) -> None:
    starting = Peer()
    answer = not_handled(NotHandled.NotReady)
    starting.handlers[command] = answering(Command.NOT_HANDLED, answer)(starting)
    network = Network(starting, Peer())
    async with open_connection(ADMIN, connect=network.connect) as conn:
        await conn.ping()
    assert starting.closed
    failed = await fail_to_open(ADMIN.replace(first_attempts=1), Network(not_ready_peer()))
    assert isinstance(failed.attempts[0], NotReady)


def not_ready_peer() -> Peer:
    peer = Peer()
    peer.handlers[Command.PING] = answering(Command.NOT_HANDLED, not_handled(NotHandled.NotReady))(peer)
    return peer


@pytest.mark.parametrize("settings", [ANONYMOUS, ADMIN])
async def test_a_silent_peer(settings: Settings) -> None:
    peer = Peer(mute=[Command.IDENTIFY_CLIENT, Command.PING])
    failed = await fail_to_open(settings.replace(first_attempts=1), peer)
    assert isinstance(failed.attempts[0], OperationTimedOut)
    assert "answers nothing: is it the TCP port (1113)" in str(failed)
    assert trio.current_time() == pytest.approx(ADMIN.identify_timeout + ADMIN.attempt_timeout)


@pytest.mark.parametrize(
    ("first_words", "guess", "kind"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "the port of the web interface", ProtocolError),
        (b"\x15\x03\x03\x00\x02\x02\x28", "this is a TLS port", ConnectionLost),
        (b"", "before it said a word: a TLS port, a load balancer", ConnectionLost),
    ],
)
async def test_not_an_event_store(first_words: bytes, guess: str, kind: type[Exception]) -> None:
    peer = Peer(mute=[Command.IDENTIFY_CLIENT])

    def answer(request: Request) -> None:
        if first_words:
            peer.send_bytes(first_words)
        peer.hang_up()

    peer.handlers[Command.IDENTIFY_CLIENT] = answer
    failed = await fail_to_open(ANONYMOUS.replace(first_attempts=1), peer)
    assert guess in str(failed)
    assert isinstance(failed.attempts[0], kind)


async def test_a_handshake_that_is_none() -> None:
    peer = Peer()
    peer.handlers[Command.PING] = answering(Command.CLIENT_IDENTIFIED)(peer)
    failed = await fail_to_open(ADMIN.replace(first_attempts=1), peer)
    assert isinstance(failed.attempts[0], ProtocolError)


@pytest.mark.parametrize(
    ("payload", "kind", "words"),
    [(b"what?\n\x1b[31m", BadRequest, "what? [31m"), (bytes(5000), FrameTooLarge, "5,018 bytes")],
)
async def test_a_refusal_of_the_handshake_is_a_failed_attempt(
    payload: bytes, kind: type[Exception], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A node that is starting may say anything; the next attempt may find it ready."""
    refusing = Peer()
    refusing.handlers[Command.PING] = answering(Command.BAD_REQUEST, payload)(refusing)
    settings = ANONYMOUS.replace(first_attempts=2, max_frame_size=1024)
    async with open_connection(settings, connect=Network(refusing, Peer()).connect) as conn:
        await conn.ping()
    assert refusing.closed
    (line,) = warnings(caplog)
    assert words in line
    refusing = Peer()
    refusing.handlers[Command.PING] = answering(Command.BAD_REQUEST, payload)(refusing)
    failed = await fail_to_open(settings.replace(first_attempts=1), refusing)
    assert isinstance(failed, ConnectFailed)
    assert isinstance(failed.attempts[0], kind)


async def test_failed_attempts_keep_no_sessions() -> None:
    """The frames of a traceback would hold the session, and all that its buffer had got."""
    peers = [Peer() for _ in range(3)]
    for peer in peers:
        peer.send_bytes(b"\x01\0\0\0")
    failed = await fail_to_open(ANONYMOUS.replace(first_attempts=3), Network(*peers))
    assert len(failed.attempts) == 3
    for attempt in failed.attempts:
        error = attempt
        while error is not None:
            assert error.__traceback__ is None
            error = error.__cause__ or error.__context__


# --- cancelled while connecting


@pytest.mark.parametrize("muted", [Command.IDENTIFY_CLIENT, Command.PING, None])
async def test_cancelled_while_connecting(muted: Command | None) -> None:
    """At each stage; that no task is left is looked at after every test."""
    peer = Peer(mute=[] if muted is None else [muted])
    settings = ADMIN.replace(identify_timeout=100, attempt_timeout=100)
    with trio.move_on_after(1) as scope:
        async with open_connection(settings, connect=(Network(None) if muted is None else peer).connect):
            pytest.fail("it was opened")
    assert scope.cancelled_caught
    assert trio.current_time() == 1
    assert peer.closed is (muted is not None)


async def test_cancelled_between_two_attempts() -> None:
    with trio.move_on_after(1) as scope:
        await fail_to_open(ANONYMOUS.replace(first_attempts=None, reconnect_delay=100), Network(OSError()))
    assert scope.cancelled_caught


async def test_cancelled_from_the_start() -> None:
    peer = Peer()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_connection(ANONYMOUS, connect=peer.connect):
            pytest.fail("it was opened")
    assert scope.cancelled_caught


# --- leaving the block


async def test_last_words_are_sent(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        nursery.start_soon(confirm, peer)
        async with conn.subscribe_live("s"):
            pass
    assert peer.commands() == [Command.SUBSCRIBE_TO_STREAM, Command.UNSUBSCRIBE_FROM_STREAM]


async def test_a_dead_peer_is_left_in_time() -> None:
    peer = Peer()
    async with open_to(peer):
        peer.hold()
        left = trio.current_time()
    assert trio.current_time() - left == pytest.approx(ANONYMOUS.close_timeout)


async def test_a_peer_that_hangs_up_is_not_waited_for() -> None:
    peer = Peer()
    async with trio.open_nursery() as nursery:
        async with open_connection(ANONYMOUS, connect=peer.connect):
            peer.hold()
            nursery.start_soon(hang_up_after, peer, 0.1)
            left = trio.current_time()
        assert trio.current_time() - left == pytest.approx(0.1)


async def hang_up_after(peer: Peer, seconds: float) -> None:
    await trio.sleep(seconds)
    peer.hang_up()


async def raise_inside(conn_to: Peer, error: BaseException) -> None:
    async with open_connection(ANONYMOUS, connect=conn_to.connect):
        conn_to.hold()
        raise error


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt(), ConnectionLost("mine too")])
async def test_an_error_of_the_body_is_bare_and_leaves_in_a_hurry(error: BaseException) -> None:
    peer = Peer()
    with pytest.raises(type(error)) as info:
        await raise_inside(peer, error)
    assert info.value.args == error.args
    assert trio.current_time() == pytest.approx(ANONYMOUS.close_timeout / 3)
    assert peer.closed


async def test_a_cancelled_body_leaves_in_a_hurry() -> None:
    peer = Peer()
    with trio.move_on_after(1) as scope:
        async with open_connection(ANONYMOUS, connect=peer.connect):
            peer.hold()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1 + ANONYMOUS.close_timeout / 3)


async def test_a_bug_of_ours_is_bare_and_ends_the_body() -> None:
    with pytest.raises(ZeroDivisionError):
        await break_both(Peer(), None)


async def break_both(peer: Peer, mine: Exception | None) -> None:
    async with open_connection(ANONYMOUS, connect=peer.connect):
        await trio.testing.wait_all_tasks_blocked()
        peer.break_reading(ZeroDivisionError())
        try:
            await trio.sleep_forever()
        finally:
            if mine is not None:
                raise mine


async def test_two_real_errors_are_a_group() -> None:
    with pytest.RaisesGroup(ZeroDivisionError, KeyError):
        await break_both(Peer(), KeyError())


async def test_who_still_calls_when_the_block_is_left(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_connection(ANONYMOUS.replace(max_in_flight=3), connect=peer.connect) as conn:
        read, append = Call(nursery, conn.read_event, "s", 0), Call(nursery, conn.append, "s", new_events(1))
        subscription = Call(nursery, conn.subscribe_live("s").__aenter__)
        await trio.testing.wait_all_tasks_blocked()
        at_the_door = Call(nursery, conn.append, "s", new_events(1))
        await trio.testing.wait_all_tasks_blocked()
    for call in (read, subscription, at_the_door):
        assert isinstance(await call.error(), ConnectionClosed)
    unknown = await append.error()
    assert isinstance(unknown, OutcomeUnknown)
    assert isinstance(unknown.__cause__, ConnectionClosed)
    with pytest.raises(ConnectionClosed):
        await conn.ping()
    assert_nothing_left(conn)


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
        with pytest.raises(NotReady):
            await conn.read_event("s", 0)
        assert 1.5 <= trio.current_time() <= 2


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
