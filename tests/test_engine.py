"""Getting in, and leaving: the life of a connection. What comes between is in the other files of this name."""

from __future__ import annotations

import logging
import os
import socket
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import NotHandled, confirm, not_handled
from tests.helpers import assert_nothing_left, new_events
from tests.peer import ADMIN, ANONYMOUS, Call, Network, Peer, Request, answering, open_to
from trio_extreme import (
    BadRequest,
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    Credentials,
    FrameTooLarge,
    NotAuthenticated,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    TrioExtremeError,
    open_connection,
)
from trio_extreme.engine import Engine
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme import Settings

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def fail_to_open(settings: Settings, connect: Network | Peer) -> Any:
    """The error that opening a connection raises."""
    with pytest.raises(TrioExtremeError) as info:
        async with open_connection(settings, connect=connect.connect):
            pytest.fail("it was opened")
    return info.value


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


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
