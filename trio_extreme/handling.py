"""What handlers are, and what becomes of an event whose handler fails."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from uuid import uuid5

from trio_extreme.errors import InvalidArgument
from trio_extreme.events import LINK_TYPE, NewEvent
from trio_extreme.operations import checks
from trio_extreme.sqlite_checkpoints import SqliteTransaction

if TYPE_CHECKING:
    from trio_extreme.events import Event

Handler: TypeAlias = Callable[[Any], Awaitable[object]] | Callable[[Any, SqliteTransaction], Awaitable[object]]
"""`handle(event)`, or `handle(event, db)` with `SqliteCheckpoints`; a list of events where they come in batches."""

H = TypeVar("H", bound=Callable[..., Awaitable[object]])

MAX_REASON = 1000
"""Characters of an error's text that go into the metadata of a parked event."""


class Sign(Enum):
    """What a handler may return."""

    STOP = "stop"


STOP: Final = Sign.STOP
"""Returned by a handler, ends its listener. The event, or list of events, counts as not handled."""


class Handlers:
    """A handler for each type of event: `@handlers.on("PersonCreated")`. It is a handler itself.

    Events of other types count as handled, unless there is an `@handlers.otherwise`.
    """

    def __init__(self) -> None:
        self._by_type: dict[str, Callable[..., Awaitable[object]]] = {}
        self._otherwise: Callable[..., Awaitable[object]] = _pass_over

    def __repr__(self) -> str:
        return f"<Handlers of {', '.join(self._by_type) or 'nothing'}>"

    def on(self, *types: str) -> Callable[[H], H]:
        """A decorator: this handles events of these types. Each type has one handler."""
        for type_ in types:
            if type_ in self._by_type:
                msg = f"type: {type_!r} has a handler already; call one from the other"
                raise InvalidArgument(msg)
        if not types:
            msg = 'types: none is given: @handlers.on("PersonCreated"), and @handlers.otherwise for the rest'
            raise InvalidArgument(msg)

        def register(handler: H) -> H:
            self._by_type.update(dict.fromkeys(types, handler))
            return handler

        return register

    def otherwise(self, handler: H) -> H:
        """A decorator: this handles events of all other types."""
        self._otherwise = handler
        return handler

    def __call__(self, event: Event, *more: Any) -> Awaitable[object]:
        """Handle one event."""
        return self._by_type.get(event.type, self._otherwise)(event, *more)


async def _pass_over(*_: object) -> None:  # noqa: ASYNC910 - whoever calls handlers gives others their turn
    """Nobody is interested."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Go on behind the event. That it was left out is logged as an ERROR, and `status` keeps the error."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the listener without an error: `run` returns, and the event comes again when it is run again."""


@dataclass(frozen=True, slots=True)
class Park:
    """Put the event aside and go on: a link to it is appended to `stream`, with the reason in the link's metadata.

    The metadata is JSON: `listener`, `error` (its type), `reason` (its text, which may quote what it is about).
    """

    stream: str

    def __post_init__(self) -> None:
        checks.check_stream(self.stream)


@dataclass(frozen=True, slots=True)
class Retry:
    """Call the handler again, up to so many times, and `then` do as it says; None raises the error.

    Before the first time `backoff` seconds are waited, and twice as long before each further one, up to `max_backoff`.
    """

    times: int = 3
    backoff: float = 0.1
    max_backoff: float = 30.0
    then: Skip | Stop | Park | None = None

    def __post_init__(self) -> None:
        checks.check_count(self.times)
        if not 0 <= self.backoff <= self.max_backoff:
            msg = f"backoff: {self.backoff!r} seconds is not between 0 and max_backoff, {self.max_backoff!r}"
            raise InvalidArgument(msg)

    def delay(self, attempt: int) -> float:
        """Seconds before this one of the further attempts; the first is 0."""
        return min(self.max_backoff, self.backoff * 2.0 ** min(attempt, 60))


OnError: TypeAlias = Retry | Skip | Stop | Park | None
"""What becomes of an event whose handler raised; None: the listener ends with that error."""


def check_on_error(on_error: OnError) -> OnError:
    """What is to be done about errors."""
    if on_error is not None and not isinstance(on_error, Retry | Skip | Stop | Park):
        msg = f"on_error: {on_error!r} is none of Retry(…), Skip(), Park(…), Stop() and None"
        raise InvalidArgument(msg)
    return on_error


def parked(event: Event, error: Exception, listener: str) -> NewEvent:
    """What stands for an event that is put aside. Made twice, it has the same id, so that it is written once."""
    metadata = {"listener": listener, "error": type(error).__name__, "reason": str(error)[:MAX_REASON]}
    place = f"{event.number}@{event.stream}"
    # Two events of different streams may have the same id. The metadata is ASCII, whatever the text of an error is.
    id_ = uuid5(event.id, f"parked {listener} {place}")
    return NewEvent(LINK_TYPE, place.encode(), json.dumps(metadata).encode(), id=id_)
