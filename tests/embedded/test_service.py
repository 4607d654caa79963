from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from tests.embedded.talk import (
    ADMIN,
    Caller,
    Desk,
    append,
    new_events,
    new_id,
    pack,
    read_event,
    read_log,
)
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import AUTHENTICATED, NO_CORRELATION, FrameBuffer, encode_credentials, encode_frame

WRONG = Credentials("admin", "wrong")
BAD_REQUEST, NOT_AUTHENTICATED = Command.BAD_REQUEST, Command.NOT_AUTHENTICATED


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def caller(desk: Desk) -> Caller:
    return desk.caller


def test_heartbeats_and_pings_are_answered(caller: Caller) -> None:
    assert caller.ask(Command.HEARTBEAT_REQUEST)[::2] == (Command.HEARTBEAT_RESPONSE, b"")
    assert caller.ask(Command.PING, b"echo")[::2] == (Command.PONG, b"echo")


def test_a_reply_has_the_id_of_its_request(caller: Caller) -> None:
    correlation = new_id()
    caller.tell(pack(Command.PING, b"", None, correlation))
    assert caller.replies.popleft().correlation == correlation


@pytest.mark.parametrize("command", [Command.HEARTBEAT_RESPONSE, Command.BAD_REQUEST, Command.WRITE_EVENTS_COMPLETED])
def test_what_needs_no_answer_gets_none(caller: Caller, command: Command) -> None:
    caller.tell(pack(command, b"anything"))
    assert not caller.replies
    assert not caller.hung_up


@pytest.mark.parametrize("command", [0x77, 0x05, Command.PONG, Command.READ_EVENT_COMPLETED, Command.NOT_AUTHENTICATED])
def test_an_unknown_command_is_a_bad_request(caller: Caller, command: int) -> None:
    correlation = new_id()
    caller.tell(pack(command, b"", None, correlation))
    reply = caller.replies.popleft()
    assert (reply.command, reply.correlation) == (BAD_REQUEST, correlation)
    assert not caller.hung_up


def test_a_bad_request_names_the_command(caller: Caller) -> None:
    assert caller.ask(0x77).message == b"Could not unwrap network package for command 119.\n"
    text = caller.ask(Command.WRITE_EVENTS, b"\xff").message.decode()
    assert text.startswith("Could not unwrap network package for command WriteEvents.\n")


@pytest.mark.parametrize("version", ["3.9.4", "4.1.1", "5.0"])
def test_what_only_later_servers_know_has_no_name(version: str) -> None:
    text = Desk(version).caller.ask(Command.FILTERED_READ_ALL_EVENTS_FORWARD).message
    assert text == b"Could not unwrap network package for command 186.\n"


def test_a_payload_that_is_none_is_a_bad_request(caller: Caller) -> None:
    # A truncated field, and a name that is no UTF-8.
    for payload in (b"\x0a\x05ab", b"\x0a\x02\xff\xfe"):
        assert caller.ask(Command.READ_EVENT, payload).command == BAD_REQUEST
    assert not caller.hung_up


def test_a_request_without_an_id_is_refused_under_none(caller: Caller) -> None:
    caller.tell(pack(Command.WRITE_EVENTS, append("people", new_events(1)), None, NO_CORRELATION))
    reply = caller.replies.popleft()
    assert (reply.command, reply.correlation) == (BAD_REQUEST, NO_CORRELATION)
    assert not caller.hung_up


def test_a_trusted_write_ends_the_connection(caller: Caller) -> None:
    frame = bytearray(pack(Command.WRITE_EVENTS, append("people", new_events(1))))
    frame[5] |= 0x02
    caller.tell(bytes(frame))
    assert caller.replies.popleft().command == BAD_REQUEST
    assert caller.hung_up


# Who asks


def test_right_credentials_are_accepted_with_each_request(caller: Caller) -> None:
    assert caller.ask(Command.PING, b"x", ADMIN).command == Command.PONG
    assert caller.ask(Command.READ_ALL_EVENTS_FORWARD, read_log(), ADMIN).message.result == 0


@pytest.mark.parametrize("command", [Command.PING, Command.READ_EVENT, 0x77])
def test_wrong_credentials_are_refused_before_anything_else(caller: Caller, command: int) -> None:
    reply = caller.ask(command, read_event("people", 0), WRONG)
    assert reply[::2] == (NOT_AUTHENTICATED, b"Not Authenticated")
    assert caller.ask(Command.PING, b"x").command == Command.PONG


def test_heartbeats_need_no_right_credentials(caller: Caller) -> None:
    assert caller.ask(Command.HEARTBEAT_REQUEST, b"", WRONG).command == Command.HEARTBEAT_RESPONSE


def authenticate(caller: Caller, credentials: Credentials | None) -> tuple[int, bytes]:
    """Authenticate, which on these servers needs a payload or a password."""
    reply = caller.ask(Command.AUTHENTICATE, b"", credentials)
    return reply.command, reply.message


def test_authenticate_makes_a_default(caller: Caller) -> None:
    assert authenticate(caller, ADMIN) == (Command.AUTHENTICATED, b"")
    assert caller.ask(Command.READ_ALL_EVENTS_FORWARD, read_log()).message.result == 0


def test_a_failed_authenticate_spoils_what_has_no_credentials_of_its_own(caller: Caller) -> None:
    assert authenticate(caller, ADMIN)[0] == Command.AUTHENTICATED
    assert authenticate(caller, WRONG) == (NOT_AUTHENTICATED, b"Unauthorized")
    assert caller.ask(Command.PING, b"x").command == NOT_AUTHENTICATED
    assert caller.ask(Command.PING, b"x", ADMIN).command == Command.PONG
    assert caller.ask(Command.HEARTBEAT_REQUEST).command == Command.HEARTBEAT_RESPONSE
    assert authenticate(caller, ADMIN)[0] == Command.AUTHENTICATED
    assert caller.ask(Command.PING, b"x").command == Command.PONG


def test_authenticate_without_credentials_changes_nothing(caller: Caller) -> None:
    authenticate(caller, ADMIN)
    assert authenticate(caller, None) == (NOT_AUTHENTICATED, b"No user credentials provided.")
    assert caller.ask(Command.READ_ALL_EVENTS_FORWARD, read_log()).message.result == 0


def test_an_empty_password_before_an_empty_payload_is_a_bad_package(caller: Caller) -> None:
    credentials = Credentials("admin", "")
    assert caller.ask(Command.PING, b"x", credentials).command == NOT_AUTHENTICATED
    reply = caller.ask(Command.PING, b"", credentials)
    assert (reply.command, reply.correlation) == (BAD_REQUEST, NO_CORRELATION)
    assert caller.hung_up


def test_credentials_that_are_cut_short_are_a_bad_package(caller: Caller) -> None:
    frame = bytearray(encode_frame(Command.PING, new_id(), encode_credentials(ADMIN)[:-1]))
    frame[5] = AUTHENTICATED
    caller.tell(bytes(frame))
    reply = caller.replies.popleft()
    assert (reply.command, reply.correlation) == (BAD_REQUEST, NO_CORRELATION)
    assert caller.hung_up


# Who is asked


def test_identifying_tells_name_and_version(caller: Caller) -> None:
    assert not caller.client.form.wide
    reply = caller.ask(Command.IDENTIFY_CLIENT, schema.IdentifyClient(version=1, connection_name="my-app"))
    assert (reply.command, reply.message) == (Command.CLIENT_IDENTIFIED, b"")
    assert caller.client.form.wide
    assert caller.client.name == "my-app"


def test_an_identification_that_cannot_be_read_is_not_answered(caller: Caller) -> None:
    caller.tell(pack(Command.IDENTIFY_CLIENT, b"\xff"))
    assert not caller.replies


def test_a_version_from_2_up_is_accepted_and_then_every_request_fails(caller: Caller) -> None:
    identify = schema.IdentifyClient(version=2, connection_name="")
    assert caller.ask(Command.IDENTIFY_CLIENT, identify).command == Command.CLIENT_IDENTIFIED
    assert caller.ask(Command.PING).command == BAD_REQUEST
    assert caller.ask(Command.HEARTBEAT_REQUEST).command == Command.HEARTBEAT_RESPONSE


@pytest.mark.parametrize(
    "command",
    [
        Command.FILTERED_READ_ALL_EVENTS_FORWARD,
        Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION,
    ],
)
def test_what_comes_later_is_unknown_now(caller: Caller, command: Command) -> None:
    assert caller.ask(command, b"", ADMIN).command == BAD_REQUEST


def test_a_service_shows_what_it_holds(desk: Desk) -> None:
    assert repr(desk.service) == "<Service of <Store 4.1.1: 168 bytes>>"


def fail(*_: object) -> None:
    msg = "a bug"
    raise RuntimeError(msg)


@pytest.mark.parametrize("command", [Command.READ_EVENT, Command.IDENTIFY_CLIENT, Command.AUTHENTICATE])
def test_a_bug_is_a_bad_request_and_a_line_in_the_log(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, command: Command
) -> None:
    monkeypatch.setattr(desk.store, "last_number", fail)
    monkeypatch.setattr("trio_extreme.embedded.service._identify", fail)
    monkeypatch.setattr(desk.service, "_authenticate", fail)
    correlation = new_id()
    desk.caller.tell(pack(command, read_event("secret-stream", 0), ADMIN, correlation))
    reply = desk.caller.replies.popleft()
    assert (reply.command, reply.correlation) == (BAD_REQUEST, correlation)
    assert b"\nthe embedded node failed: RuntimeError" in reply.message
    assert not desk.caller.hung_up
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("trio_extreme.embedded", "ERROR")
    assert "raise RuntimeError(msg)" in caplog.text
    assert "secret" not in caplog.text
    assert ADMIN.password not in caplog.text
    # Without a name: whoever has one is looked for in the store.
    assert desk.caller.ask(Command.PING, b"echo").message == b"echo"


COMMANDS = st.sampled_from([*Command, 0x77])


@settings(max_examples=300)
@given(st.lists(st.tuples(COMMANDS, st.integers(0, 3), st.binary(max_size=40))))
def test_no_package_makes_it_fail(packages: list[tuple[int, int, bytes]]) -> None:
    caller = Desk().caller
    for command, flags, payload in packages:
        frame = bytearray(encode_frame(command, new_id(), payload))
        frame[5] = flags
        (cut,) = FrameBuffer().feed(bytes(frame))
        caller._receive(caller.client, cut)
