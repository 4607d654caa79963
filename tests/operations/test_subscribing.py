"""Volatile subscriptions: what is sent, its confirmation, and each way the server ends one."""

from __future__ import annotations

import pytest

from trio_extreme.errors import AccessDenied, DropReason, NotAuthenticated, ProtocolError, SubscriptionDropped
from trio_extreme.operations.base import AskAgain, Resend
from trio_extreme.operations.subscribing import ALL_STREAMS, Confirmation, Subscribe, drop_error, is_unsubscribed
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

STREAM = Subscribe("s", resolve_links=False)
LOG = Subscribe(ALL_STREAMS, resolve_links=True)
Reason = schema.SubscriptionDropped.SubscriptionDropReason


def dropped(reason: int) -> bytes:
    return schema.SubscriptionDropped(reason=reason).SerializeToString()


def test_what_is_sent() -> None:
    """The empty name of the log is written: servers break without it."""
    assert STREAM.payload().hex() == "0a01731000"
    assert LOG.payload().hex() == "0a001001"
    assert (STREAM.command, STREAM.answer, STREAM.resend) == (0xC0, 0xC1, Resend.AGAIN)
    assert (STREAM.stream, LOG.stream) == ("s", "")


def test_confirmed() -> None:
    payload = schema.SubscriptionConfirmation(last_commit_position=9, last_event_number=3).SerializeToString()
    assert STREAM.decide(Command.SUBSCRIPTION_CONFIRMATION, payload) == Confirmation(9, 3)
    # Servers from 22.6 send 0 for the log, older ones nothing.
    assert LOG.decide(Command.SUBSCRIPTION_CONFIRMATION, payload) == Confirmation(9, None)


def test_servers_from_22_6_leave_out_zeros() -> None:
    assert STREAM.read(b"") == Confirmation(0, 0)


@pytest.mark.parametrize(
    ("last_number", "is_of_deleted"),
    [
        (2**63 - 1, True),
        # What 3.9 says, and others to who never identified.
        (2**31 - 1, True),
        (2**63 - 2, False),
        (2**31, False),
        (0, False),
        (-1, False),
        # The log.
        (None, False),
    ],
)
def test_a_stream_deleted_for_ever_is_confirmed_too(last_number: int | None, *, is_of_deleted: bool) -> None:
    assert Confirmation(9, last_number).is_of_deleted is is_of_deleted


def test_a_drop_instead_of_a_confirmation() -> None:
    with pytest.raises(AccessDenied, match="may not read stream 's', or subscribe to it"):
        STREAM.decide(Command.SUBSCRIPTION_DROPPED, dropped(Reason.AccessDenied))
    with pytest.raises(AccessDenied, match=r"\$all"):
        LOG.decide(Command.SUBSCRIPTION_DROPPED, dropped(Reason.AccessDenied))
    with pytest.raises(NotAuthenticated):
        LOG.decide(Command.NOT_AUTHENTICATED, b"")


def test_a_server_that_is_about_to_stop_is_asked_again() -> None:
    """It refuses with the words with which it ends what it has; the next one will not."""
    with pytest.raises(AskAgain) as caught:
        STREAM.decide(Command.SUBSCRIPTION_DROPPED, dropped(Reason.Unsubscribed))
    assert not caught.value.executed
    assert isinstance(caught.value.error, SubscriptionDropped)
    assert caught.value.error.reason is DropReason.UNSUBSCRIBED


@pytest.mark.parametrize("reason", [Reason.NotFound, 99])
def test_a_refusal_for_a_reason_that_nobody_gives(reason: int) -> None:
    with pytest.raises(SubscriptionDropped) as caught:
        STREAM.decide(Command.SUBSCRIPTION_DROPPED, dropped(reason))
    assert caught.value.reason is DropReason.OTHER


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (dropped(Reason.Unsubscribed), DropReason.UNSUBSCRIBED),
        # Left out by servers from 22.6.
        (b"", DropReason.UNSUBSCRIBED),
        (dropped(Reason.NotFound), DropReason.OTHER),
        (dropped(99), DropReason.OTHER),
    ],
)
def test_drops(payload: bytes, reason: DropReason) -> None:
    error = drop_error(payload, "s")
    assert isinstance(error, SubscriptionDropped)
    assert error.reason is reason
    assert is_unsubscribed(payload) is (reason is DropReason.UNSUBSCRIBED)


def test_a_refusal_is_no_end_of_the_server() -> None:
    assert not is_unsubscribed(dropped(Reason.AccessDenied))


def test_a_drop_of_garbage() -> None:
    assert not is_unsubscribed(b"\xff")
    with pytest.raises(ProtocolError):
        drop_error(b"\xff", "s")
