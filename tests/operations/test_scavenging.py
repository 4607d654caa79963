"""Scavenging: both forms of the answer, told apart by their fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.recorded import VERSIONS, load
from trio_extreme.errors import AccessDenied, ProtocolError, ServerError
from trio_extreme.operations.base import Resend
from trio_extreme.operations.scavenging import Scavenge
from trio_extreme.values import ScavengeResult, ScavengeStatus
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from google.protobuf.message import Message

FINISHED, STARTED, IN_PROGRESS = ScavengeStatus.FINISHED, ScavengeStatus.STARTED, ScavengeStatus.IN_PROGRESS


def old(result: int, error: str | None = None, seconds: float = 1.5, saved: int = 77) -> Message:
    """What servers up to 4.1 answer."""
    return schema.ScavengeDatabaseCompleted(
        result=result, error=error, total_time_ms=int(seconds * 1000), total_space_saved=saved
    )


def new(result: int | None, scavenge_id: str | None = "an id") -> Message:
    """What servers from 5.0 answer; from 22.6 without zeros."""
    return schema.ScavengeDatabaseResponse(result=result, scavengeId=scavenge_id)


def answer(message: Message) -> ScavengeResult:
    return Scavenge().decide(Command.SCAVENGE_DATABASE_COMPLETED, message.SerializeToString())


def test_on_the_wire() -> None:
    assert Scavenge().payload() == b""
    assert (Scavenge().command, Scavenge().answer) == (0xD0, 0xD1)


def test_it_is_asked_for_once_and_takes_its_time() -> None:
    assert Scavenge().resend is Resend.NEVER
    assert not Scavenge().prompt


@pytest.mark.parametrize(
    ("message", "result"),
    [
        (old(0), ScavengeResult(FINISHED, seconds=1.5, space_saved=77)),
        (old(0, seconds=0, saved=-5), ScavengeResult(FINISHED, seconds=0, space_saved=-5)),
        (old(1), ScavengeResult(IN_PROGRESS)),
        (new(0), ScavengeResult(STARTED, scavenge_id="an id")),
        (new(None), ScavengeResult(STARTED, scavenge_id="an id")),
        (new(1), ScavengeResult(IN_PROGRESS, scavenge_id="an id")),
        (new(1, None), ScavengeResult(IN_PROGRESS)),
    ],
)
def test_what_servers_tell(message: Message, result: ScavengeResult) -> None:
    assert answer(message) == result


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (old(2, "Access denied."), AccessDenied, r"may not scavenge; members of \$admins and \$ops may"),
        (old(2, "access denied"), AccessDenied, "may not scavenge"),
        (new(2), AccessDenied, "may not scavenge"),
        (old(2, "The disk\nis full."), ServerError, "with an error: The disk is full."),
        (old(2), ServerError, "with an error"),
        (old(77), ProtocolError, "result 77"),
        (new(77), ProtocolError, "result 77"),
    ],
)
def test_refusals(message: Message, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        answer(message)
    assert type(caught.value) is error


@pytest.mark.parametrize("version", VERSIONS)
def test_what_real_servers_answered(version: str) -> None:
    """To somebody anonymous, and to an administrator."""
    denied, done = (
        a for a in load(version, "not_ready_scavenge").answers if a.code == Command.SCAVENGE_DATABASE_COMPLETED
    )
    with pytest.raises(AccessDenied):
        Scavenge().decide(denied.code, denied.payload)
    result = Scavenge().decide(done.code, done.payload)
    assert result.status is FINISHED
    assert result.space_saved == 0
    assert result.seconds is not None
    assert 0 < result.seconds < 1
