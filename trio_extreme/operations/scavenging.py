"""Scavenging: having a node free the space of what nobody can read any more (docs/protocol.md, 3.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from trio_extreme.operations.base import Operation, Resend, access_denied, server_error, unknown_result
from trio_extreme.values import ScavengeResult, ScavengeStatus
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, decode_payload

if TYPE_CHECKING:
    from trio_extreme.errors import AccessDenied

_Finished = schema.ScavengeDatabaseCompleted.ScavengeResult
_Started = schema.ScavengeDatabaseResponse.ScavengeResult
_DENIED = "access denied"
"""How servers up to 4.1 begin their error; they have no result for it."""


class Scavenge(Operation[ScavengeResult]):
    """Scavenge the node that is asked. A second one would not be the first."""

    command = Command.SCAVENGE_DATABASE
    answer = Command.SCAVENGE_DATABASE_COMPLETED
    resend = Resend.NEVER
    # Servers up to 4.1 answer when it is finished.
    prompt = False

    def payload(self) -> bytes:
        """A ScavengeDatabase, which is empty."""
        return schema.ScavengeDatabase().SerializeToString()

    def read(self, payload: bytes) -> ScavengeResult:
        """How it went, or that it has begun: servers up to 4.1 tell the one, those from 5.0 the other."""
        done = decode_payload(self.answer, payload)
        if isinstance(done, schema.ScavengeDatabaseResponse):
            return _begun(done)
        assert isinstance(done, schema.ScavengeDatabaseCompleted)
        return _finished(done)


def _finished(done: schema.ScavengeDatabaseCompleted) -> ScavengeResult:
    if done.result == _Finished.Failed:
        _raise_failure(done.error)
    if done.result == _Finished.InProgress:
        return ScavengeResult(ScavengeStatus.IN_PROGRESS)
    if done.result == _Finished.Success:
        return ScavengeResult(
            ScavengeStatus.FINISHED, seconds=done.total_time_ms / 1000, space_saved=done.total_space_saved
        )
    raise unknown_result("a scavenge was answered", done.result)


def _begun(done: schema.ScavengeDatabaseResponse) -> ScavengeResult:
    if done.result == _Started.Unauthorized:
        raise _not_allowed()
    if done.result == _Started.InProgress:
        return ScavengeResult(ScavengeStatus.IN_PROGRESS, scavenge_id=done.scavengeId or None)
    if done.result == _Started.Started:
        return ScavengeResult(ScavengeStatus.STARTED, scavenge_id=done.scavengeId or None)
    raise unknown_result("a scavenge was answered", done.result)


def _raise_failure(text: str) -> NoReturn:
    if text.lower().startswith(_DENIED):
        raise _not_allowed()
    raise server_error(text)


def _not_allowed() -> AccessDenied:
    return access_denied("scavenge; members of $admins and $ops may")
