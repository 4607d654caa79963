"""The session there is at present, if any: what calls, subscriptions and look-ups go through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

    from trio_extreme.errors import ProtocolError
    from trio_extreme.pending import Slot
    from trio_extreme.session import Session

Ts = TypeVarTuple("Ts")


class Line:
    """Sessions, one after another, with pauses between them. Tasks that are begun here end with their session."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._nursery: trio.Nursery | None = None
        self._leaving = False
        #: How many sessions there have been.
        self.sessions = 0

    def __repr__(self) -> str:
        return f"<Line: session {self.sessions}{'' if self.session else ', ended'}>"

    def connect(self, session: Session, nursery: trio.Nursery) -> None:
        """A session begins, whose tasks are in this nursery."""
        self._session = session
        self._nursery = nursery
        self._leaving = False
        self.sessions += 1

    def disconnect(self) -> None:
        """The session has ended, and so have its tasks: keep nothing of it."""
        self._session = self._nursery = None

    def leave(self) -> None:
        """Nothing new goes through the session any more. It goes on for what is under way, until somebody ends it."""
        self._leaving = True

    @property
    def session(self) -> Session | None:
        """The session for what is new, as long as it has not ended and is not being left."""
        return None if self._leaving else self.alive

    @property
    def alive(self) -> Session | None:
        """The session, as long as it has not ended."""
        session = self._session
        return session if session is not None and session.cause is None else None

    def begin(self, function: Callable[[*Ts], Awaitable[Any]], *args: *Ts) -> None:
        """Begin a task of the present session. There must be one."""
        # A nursery whose session has ended may be closed already.
        assert self.session is not None
        assert self._nursery is not None
        self._nursery.start_soon(function, *args)

    def forget(self, slot: Slot[Any]) -> None:
        """Nobody waits for this one any more: not sent yet, it is never sent."""
        slot.gone = True
        if self._session is not None:
            self._session.forget(slot)

    def give_up(self, error: ProtocolError, correlation: bytes | None = None) -> None:
        """The peer's bytes cannot be understood: the session ends with this.

        Where they came to the request of this id, only if the session is the one that it was sent in: what waited for
        whoever wants it may be looked at in a later one, which has nothing to do with it.
        """
        session = self._session
        if session is not None and (correlation is None or session.gave(correlation)):
            session.end(error)
