"""What each error means to who typed the command: a sentence, an exit code, and what to try next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from trio_extreme.errors import (
    AccessDenied,
    CertificateRefused,
    ConnectFailed,
    ConnectionLost,
    EventNotFound,
    FrameTooLarge,
    GroupExists,
    GroupNotFound,
    InvalidArgument,
    MetadataUnreadable,
    NotAuthenticated,
    NotMaster,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    ProjectionNotFound,
    ProjectionsNotRunning,
    ProtocolError,
    ReadOnly,
    StreamDeleted,
    StreamNotFound,
    SubscriptionDropped,
    TooManyConsumers,
    TrioExtremeError,
    Unsupported,
    UserExists,
    UserNotFound,
    WrongExpectedVersion,
)

if TYPE_CHECKING:
    from trio_extreme.cli.connecting import Target

FAILED = 1
USAGE = 2
NO_CONNECTION = 3
NOT_ALLOWED = 4
WRONG_VERSION = 5

# By kind, what to try next. No kind here is a kind of another.
_HINTS: dict[type[TrioExtremeError], str] = {
    ConnectFailed: "trio-extreme serve --port {port}, which starts a node here; or --url with another server",
    CertificateRefused: "the same with ?tls_ca_file= or ?tls_server_name= in --url",
    ConnectionLost: "the same command again, when the server is back",
    NotAuthenticated: "the same with the right password in TRIO_EXTREME_PASSWORD, or with another name in --url",
    AccessDenied: "the same with --url {admin}, or as another user who may do this",
    WrongExpectedVersion: "trio-extreme read {stream} --backwards --count 1{flag}, which shows its last event",
    StreamNotFound: "trio-extreme watch {stream}{flag}, which waits for its first event",
    StreamDeleted: "another name: this one is gone for ever",
    SubscriptionDropped: "trio-extreme read {stream}{flag}, which has what was missed; then watch again",
    EventNotFound: "trio-extreme read {stream} --backwards --count 1{flag}, which shows its last event",
    OutcomeUnknown: "trio-extreme read {stream} --backwards --count 10{flag}, to see whether it was done",
    OperationTimedOut: "the same command again, when the server has less to do",
    NotReady: "the same command again, in a few seconds",
    NotMaster: "the same with --url and the master's address",
    GroupNotFound: "trio-extreme group create {stream} {group}{flag}, which creates it",
    GroupExists: "trio-extreme group ensure {stream} {group}{flag}, which takes it as it is; --update changes it",
    TooManyConsumers: "the same command again, when another consumer has left",
    UserNotFound: "trio-extreme user list{flag}, which shows who there is",
    UserExists: "trio-extreme user reset-password {login}{flag}, which gives that user another password",
    ProjectionNotFound: "trio-extreme projection list{flag}, which shows what there is",
    ProjectionsNotRunning: "trio-extreme serve --projections, which starts a node that has some; or another server",
    MetadataUnreadable: "trio-extreme read {metastream} --backwards --count 1{flag}, which shows what is stored there",
    FrameTooLarge: "the same with fewer, or smaller, events at a time",
    ReadOnly: "the same without read_only in --url",
    Unsupported: "--url with a later server",
    ProtocolError: "--url with the server's TCP port: 1113 if nobody changed it, and not 2113",
    InvalidArgument: "trio-extreme --help",
}

_AGAIN = "the same command again"


class CommandFailed(Exception):
    """What a command itself has to say: a sentence, and what to try next."""

    def __init__(self, sentence: str, hint: str = "", code: int = FAILED) -> None:
        super().__init__(sentence)
        self.hint = hint
        self.code = code


def explain(error: BaseException, target: Target | None) -> tuple[int, str, str]:
    """The exit code, the sentence and the next command to try."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, CommandFailed):
        return error.code, str(error), error.hint
    if isinstance(error, TrioExtremeError) and target is not None:
        return _code(error), str(error), _hint(error, target)
    if isinstance(error, TrioExtremeError | OSError):
        return _code(error), str(error), ""
    name = type(error).__name__
    return (
        FAILED,
        f"this is a bug of trio-extreme: {name}: {error}",
        "the same with TRIO_EXTREME_DEBUG=1, and report it",
    )


def _code(error: BaseException) -> int:
    if isinstance(error, ConnectFailed | ConnectionLost | CertificateRefused):
        return NO_CONNECTION
    if isinstance(error, NotAuthenticated | AccessDenied):
        return NOT_ALLOWED
    if isinstance(error, WrongExpectedVersion):
        return WRONG_VERSION
    return USAGE if isinstance(error, InvalidArgument) else FAILED


def _hint(error: TrioExtremeError, target: Target) -> str:
    text = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), _AGAIN)
    stream = getattr(error, "stream", "") or target.stream
    if "{stream}" in text and not stream:
        text = _AGAIN
    return text.format(
        stream=shlex.quote(stream),
        metastream=shlex.quote(f"$${stream}"),
        group=shlex.quote(getattr(error, "group", "")),
        login=shlex.quote(getattr(error, "login", "")),
        flag=target.flag,
        port=target.settings.port,
        admin=target.url_for("admin"),
    )
