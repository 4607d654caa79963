"""What each error means to who typed the command: a sentence, an exit code, and what to try next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from trio_extreme.errors import (
    AccessDenied,
    BadRequest,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    NotAuthenticated,
    NotMaster,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    ProtocolError,
    StreamDeleted,
    StreamNotFound,
    SubscriptionDropped,
    TrioExtremeError,
    WrongExpectedVersion,
)

if TYPE_CHECKING:
    from trio_extreme.cli.connecting import Target

FAILED = 1
USAGE = 2
NO_CONNECTION = 3
NOT_ALLOWED = 4
WRONG_VERSION = 5


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
    if isinstance(error, ConnectFailed | ConnectionLost):
        return NO_CONNECTION
    if isinstance(error, NotAuthenticated | AccessDenied):
        return NOT_ALLOWED
    if isinstance(error, WrongExpectedVersion):
        return WRONG_VERSION
    return USAGE if isinstance(error, InvalidArgument) else FAILED


def _hint(error: TrioExtremeError, target: Target) -> str:
    """The next command. The order matters nowhere: no error here is a kind of another."""
    settings = target.settings
    stream = shlex.quote(target.stream)
    match error:
        case ConnectFailed():
            return f"trio-extreme serve --port {settings.port}, which starts a node here; --url names another server"
        case ConnectionLost():
            return "the same command again, when the server is back"
        case NotAuthenticated():
            return "the same with TRIO_EXTREME_PASSWORD set to the right password, or another name in --url"
        case AccessDenied():
            return f"the same with --url {target.url_for('admin')}, or another user who may do this"
        case WrongExpectedVersion():
            return f"trio-extreme read {stream} --backwards --count 1{target.flag}, which shows its last event"
        case StreamNotFound():
            return f"trio-extreme watch {stream}{target.flag}, which waits for its first event"
        case StreamDeleted():
            return "another name: this one is gone for ever"
        case SubscriptionDropped():
            return f"trio-extreme read {stream}{target.flag}, which has what was missed; then watch again"
        case OutcomeUnknown() | OperationTimedOut():
            return f"trio-extreme read {stream} --backwards --count 10{target.flag}, to see what happened"
        case NotMaster(endpoint=endpoint) if endpoint is not None:
            return f"the same with --url eventstore://{endpoint[0]}:{endpoint[1]}, the master"
        case NotReady() | NotMaster():
            return "the same command again, in a few seconds"
        case ProtocolError() | BadRequest():
            return "--url with the server's TCP port: 1113 if nobody changed it, and not 2113"
        case InvalidArgument():
            return "trio-extreme --help"
    return "the same command again"
