"""The answers any request can get."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_extreme.errors import (
    BadRequest,
    NotAuthenticated,
    NotMaster,
    NotReady,
    ProtocolError,
    ServerError,
    StreamDeleted,
    TrioExtremeError,
)
from trio_extreme.metadata import DefaultAcl, StreamMetadata
from trio_extreme.operations.base import (
    AskAgain,
    Operation,
    Resend,
    access_denied,
    master_endpoint,
    right_denied,
    secure_master_endpoint,
    server_error,
    unknown_result,
)
from trio_extreme.operations.metadata import ReadDefaultAcl, ReadMetadata, SetDefaultAcl, SetMetadata
from trio_extreme.operations.reading import LAST, ReadAll, ReadEvent, ReadStream
from trio_extreme.operations.scavenging import Scavenge
from trio_extreme.operations.session import Identify, Ping
from trio_extreme.operations.subscribing import Subscribe
from trio_extreme.operations.transactions import Begun, CommitTransaction, StartTransaction, WriteTransaction
from trio_extreme.operations.writing import Append, Delete
from trio_extreme.values import ANY, Position
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

Info = schema.NotHandled.MasterInfo
ORIGIN = Position(0, 0)

EVERY: list[Operation[Any]] = [
    Ping(),
    Identify("name"),
    Append("s", [], ANY, require_master=True),
    Delete("s", ANY, hard=False, require_master=True),
    ReadMetadata("s", require_master=False),
    ReadDefaultAcl(require_master=False),
    SetMetadata("s", StreamMetadata(), ANY, require_master=True),
    SetDefaultAcl(DefaultAcl(), ANY, require_master=True),
    ReadEvent("s", LAST, resolve_links=True, require_master=False),
    ReadStream("s", 0, 5, backwards=False, resolve_links=True, require_master=False),
    ReadStream("s", LAST, 5, backwards=True, resolve_links=True, require_master=False),
    ReadAll(ORIGIN, 5, backwards=False, resolve_links=False, require_master=False),
    ReadAll(ORIGIN, 5, backwards=True, resolve_links=False, require_master=False),
    Subscribe("s", resolve_links=True),
    StartTransaction(Begun("s", ANY), require_master=True),
    WriteTransaction(7, [], require_master=True),
    CommitTransaction(7, None, [], require_master=True),
    Scavenge(),
]
every = pytest.mark.parametrize("operation", EVERY, ids=lambda operation: type(operation).__name__)


def not_handled(reason: int, info: Info | None = None) -> bytes:
    extra = info.SerializeToString() if info else b""
    return schema.NotHandled(reason=reason, additional_info=extra).SerializeToString()


@every
def test_not_authenticated(operation: Operation[Any]) -> None:
    with pytest.raises(NotAuthenticated, match=r"\(Not Authenticated\): check user name and password"):
        operation.decide(Command.NOT_AUTHENTICATED, b"Not Authenticated")


@every
@pytest.mark.parametrize("reason", [0, 1, 99])
def test_not_ready_and_too_busy_are_asked_again(operation: Operation[Any], reason: int) -> None:
    """TooBusy is defined and never sent; an unknown reason was not executed either."""
    with pytest.raises(AskAgain) as caught:
        operation.decide(Command.NOT_HANDLED, not_handled(reason))
    assert isinstance(caught.value.error, NotReady)
    assert ("too busy" in str(caught.value.error)) == (reason == 1)
    assert not caught.value.executed


@every
def test_not_master_says_where_it_is(operation: Operation[Any]) -> None:
    info = Info(external_tcp_address="10.0.0.2", external_tcp_port=1113)
    with pytest.raises(NotMaster, match=r"that is 10.0.0.2:1113") as caught:
        operation.decide(Command.NOT_HANDLED, not_handled(2, info))
    assert caught.value.endpoint == ("10.0.0.2", 1113)


@every
def test_read_only_replicas_send_nobody_to_the_master(operation: Operation[Any]) -> None:
    info = Info(external_tcp_address="10.0.0.2", external_tcp_port=1113)
    with pytest.raises(NotMaster, match="read-only replica") as caught:
        operation.decide(Command.NOT_HANDLED, not_handled(3, info))
    assert caught.value.endpoint is None


@every
def test_an_answer_to_something_else(operation: Operation[Any]) -> None:
    with pytest.raises(ProtocolError, match="CHECKPOINT_REACHED came as the answer to "):
        operation.decide(Command.CHECKPOINT_REACHED, b"")
    with pytest.raises(ProtocolError, match="0x99 came as the answer to "):
        operation.decide(0x99, b"")


@every
@given(payload=st.binary(max_size=60), command=st.sampled_from([None, *Command]))
def test_garbage_as_an_answer(operation: Operation[Any], command: Command | None, payload: bytes) -> None:
    with suppress(AskAgain, TrioExtremeError):
        operation.decide(operation.answer if command is None else command, payload)


def test_bad_request() -> None:
    with pytest.raises(BadRequest, match="Could not unwrap network package"):
        Ping().decide(Command.BAD_REQUEST, b"Could not unwrap\r\n network package")


def test_a_peers_text_is_bounded_and_on_one_line() -> None:
    for text in (
        str(server_error("a\n\x1b[31m" + "b" * 5000)),
        refusal(Command.BAD_REQUEST, b"a\n\xff\x1b[31m" + b"b" * 5000),
        refusal(Command.NOT_AUTHENTICATED, b"a\n\xff\x1b[31m" + b"b" * 5000),
    ):
        assert text.isprintable()
        assert len(text) < 2200


def refusal(command: int, text: bytes) -> str:
    with pytest.raises(ServerError) as caught:
        Ping().decide(command, text)
    return str(caught.value)


def test_not_master_whose_master_takes_tls_only() -> None:
    info = Info(external_secure_tcp_address="10.0.0.2", external_secure_tcp_port=1115)
    told = info.SerializeToString()
    assert (master_endpoint(told), secure_master_endpoint(told)) == (None, ("10.0.0.2", 1115))
    with pytest.raises(NotMaster, match=r"that is 10\.0\.0\.2:1115") as caught:
        Ping().decide(Command.NOT_HANDLED, not_handled(2, info))
    assert (caught.value.endpoint, caught.value.secure_endpoint) == (None, ("10.0.0.2", 1115))


@pytest.mark.parametrize(
    "info",
    [
        Info(),
        # No port.
        Info(external_tcp_address="10.0.0.2", external_tcp_port=70_000),
        Info(external_tcp_address="10.0.0.2"),
        Info(external_tcp_port=1113),
        # No name, but lines for somebody's log.
        Info(external_tcp_address="h\nERROR", external_tcp_port=1113),
        Info(external_tcp_address="h" * 254, external_tcp_port=1113),
    ],
    ids=range(6),
)
def test_not_master_without_an_address(info: Info) -> None:
    assert master_endpoint(info.SerializeToString()) is None
    with pytest.raises(NotMaster, match="it names none"):
        Ping().decide(Command.NOT_HANDLED, not_handled(2, info))


def test_not_master_with_garbage() -> None:
    with pytest.raises(ProtocolError):
        Ping().decide(Command.NOT_HANDLED, schema.NotHandled(reason=2, additional_info=b"\xff").SerializeToString())


def test_access_denied_names_what() -> None:
    assert str(access_denied("fly")) == "access denied: the user may not fly"


@pytest.mark.parametrize(
    ("stream", "right", "whose", "what"),
    [
        ("s", "$r", ("s", "$r"), "read stream 's' (the right $r)"),
        ("s", "$w", ("s", "$w"), "write to stream 's' (the right $w)"),
        ("s", "$d", ("s", "$d"), "delete stream 's' (the right $d)"),
        ("$$s", "$r", ("s", "$mr"), "read the metadata of stream 's' (the right $mr)"),
        ("$$s", "$w", ("s", "$mw"), "write the metadata of stream 's' (the right $mw)"),
        (
            "$ce-s",
            "$r",
            ("$ce-s", "$r"),
            "read stream '$ce-s' (the right $r; by default only members of $admins have it)",
        ),
        (
            "$$$all",
            "$w",
            ("$all", "$mw"),
            "write the metadata of stream '$all' (the right $mw; by default only members of $admins have it)",
        ),
        (
            "$all",
            "$r",
            ("$all", "$r"),
            "read the log of all streams ($all) (the right $r; by default only members of $admins have it)",
        ),
    ],
)
def test_which_right_is_missing(stream: str, right: str, whose: tuple[str, str], what: str) -> None:
    error = right_denied(stream, right)
    assert (error.stream, error.right) == whose
    assert str(error) == f"access denied: the user may not {what}"


def test_what_else_may_be_missing() -> None:
    assert str(right_denied("s", "$r", ", or sing")).endswith("may not read stream 's', or sing (the right $r)")
    assert access_denied("fly").right is None


def test_a_result_nobody_knows() -> None:
    assert str(unknown_result("a read was answered", 77)) == "a read was answered with result 77, which no server sends"


def test_what_an_operation_is_by_default() -> None:
    operation = Ping()
    assert operation.resend is Resend.AGAIN
    assert operation.prompt
    assert list(operation.event_ids) == []
    assert operation.look_in is None
    with pytest.raises(NotImplementedError):
        operation.found(0, 0)
    with pytest.raises(TypeError, match="abstract"):
        Operation()  # type: ignore[abstract]


@every
def test_a_refusal_of_a_repeated_request_is_no_answer(operation: Operation[Any]) -> None:
    refusal = StreamDeleted("s")
    with pytest.raises(StreamDeleted) as caught:
        operation.settle(refusal)
    assert caught.value is refusal
    # Nor does it prove anything.
    assert not operation.believes(refusal)
