"""How far a catch-up subscription has come: in a stream by numbers, in the log by positions.

What is read in pages and what is pushed live overlap, and the server says neither where the one ends nor that the other
is complete. Here it is decided what of both is new, and when a page has come so far that nothing can be missing between
it and what is pushed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from trio_extreme.errors import ProtocolError
from trio_extreme.events import Event, Events, LogEvent, PushedEvent
from trio_extreme.operations.reading import LAST, LogPage, ReadAll, ReadStream, StreamPage
from trio_extreme.values import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.operations.base import Operation
    from trio_extreme.operations.subscribing import Confirmation
    from trio_extreme.wire.schema import ResolvedEvent

E = TypeVar("E", bound=Event)
P = TypeVar("P")


class Pushed(NamedTuple, Generic[E]):
    """What of a run of pushed events is new. `gap`: something may be missing before the rest, so pages must be read."""

    events: Sequence[E]
    gap: bool = False


class Track(ABC, Generic[E, P]):
    """A place in a stream or in the log, and what lies beyond it."""

    @abstractmethod
    def operation(self, count: int) -> Operation[P]:
        """The request for the page that begins here."""

    @abstractmethod
    def take_page(self, page: P) -> Sequence[E]:
        """What of a page is new; the place is behind it then."""

    @abstractmethod
    def take_pushed(self, messages: Sequence[ResolvedEvent]) -> Pushed[E]:
        """What of pushed events is new; the place is behind it then. Where there is a gap, `reached` counts from it."""

    @abstractmethod
    def aim(self, confirmation: Confirmation) -> None:
        """Everything after this is pushed; what comes before it must be read."""

    @property
    @abstractmethod
    def reached(self) -> bool:
        """Whether everything before what is pushed has been read."""

    @property
    @abstractmethod
    def withholds(self) -> bool:
        """Whether pushed events wait for pages that bring what may be missing before them."""

    @abstractmethod
    def settle_for_less(self) -> Sequence[E]:
        """Pages end before what was aimed at, and have done so for a while. What was withheld is next then."""

    @abstractmethod
    def may_be_ahead(self, page: P | None, last_number: int | None) -> bool:
        """Whether the place may be beyond the server's end: by an empty page, or by a missing stream's last number."""

    @abstractmethod
    def probe(self) -> Operation[P]:
        """Asks the master for its end."""

    @abstractmethod
    def ahead_of(self, page: P | None, last_number: int | None) -> tuple[int | Position, int | Position | None] | None:
        """Our place and the server's last, by the answer to a probe, where ours is beyond; else None."""

    @property
    @abstractmethod
    def lag(self) -> int | None:
        """How many events there were beyond the place when we last heard of it; None where nobody says."""


class StreamTrack(Track[Event, StreamPage]):
    """A place in a stream: the number of the next event, a link's where it is read through one."""

    def __init__(self, stream: str, first: int, *, resolve_links: bool, require_master: bool) -> None:
        self.next = first
        # The last event that was handed out, or would have been: a page may say that numbers go on much later.
        self._had = first - 1
        self._stream = stream
        self._resolve_links = resolve_links
        self._require_master = require_master
        self._target = -1
        self._last_known = -1
        self._withheld: Sequence[ResolvedEvent] = ()

    def operation(self, count: int) -> ReadStream:
        """The request for the page that begins here."""
        return ReadStream(
            self._stream,
            self.next,
            count,
            backwards=False,
            resolve_links=self._resolve_links,
            require_master=self._require_master,
        )

    def take_page(self, page: StreamPage) -> Sequence[Event]:
        """All of it is new. A page beyond the end says where the end is: that is no place to go back to."""
        self.next = max(self.next, page.next)
        if page.events:
            self._had = self.next - 1
        self._last_known = page.last_number
        if self.reached:
            self._withheld = ()
        return page.events

    def take_pushed(self, messages: Sequence[ResolvedEvent]) -> Pushed[Event]:
        """Numbers tell what is new, and that nothing is missing before it."""
        first, last = _number(messages[0]), _number(messages[-1])
        # No server sends a number twice and leaves out another, so that the first and the last tell of all.
        if first == self.next and last - first + 1 == len(messages):
            self.next = last + 1
            self._had = last
            return Pushed(Events(PushedEvent, messages))
        return self._take_one_by_one(messages)

    def _take_one_by_one(self, messages: Sequence[ResolvedEvent]) -> Pushed[Event]:
        new: list[ResolvedEvent] = []
        for index, message in enumerate(messages):
            number = _checked(_number(message))
            if number > self.next:
                self._target = _number(messages[-1])
                self._withheld = messages[index:]
                return Pushed(Events(PushedEvent, new), gap=True)
            if number == self.next:
                self._had = number
                self.next += 1
                new.append(message)
        return Pushed(Events(PushedEvent, new))

    def aim(self, confirmation: Confirmation) -> None:
        """Up to the stream's last number is to be read."""
        assert confirmation.last_number is not None
        self._target = self._last_known = _checked(confirmation.last_number)
        self._withheld = ()

    @property
    def reached(self) -> bool:
        """Whether everything before what is pushed has been read."""
        return self.next > self._target

    @property
    def withholds(self) -> bool:
        """Whether pushed events wait for pages that bring what may be missing before them."""
        return bool(self._withheld)

    def settle_for_less(self) -> Sequence[Event]:
        """What was withheld. Where it is nothing, the number of the next event tells whether one is missing."""
        new = [message for message in self._withheld if _number(message) >= self.next]
        self._withheld = ()
        if new:
            self._had = _number(new[-1])
            self.next = self._had + 1
        return Events(PushedEvent, new)

    def may_be_ahead(self, page: StreamPage | None, last_number: int | None) -> bool:
        """Whether the stream ends before the last event that we had."""
        last = page.last_number if page is not None else last_number
        return last is not None and last < self._had

    def probe(self) -> ReadStream:
        """Asks the master for the last event."""
        return ReadStream(self._stream, LAST, 1, backwards=True, resolve_links=False, require_master=True)

    def ahead_of(self, page: StreamPage | None, last_number: int | None) -> tuple[int, int | None] | None:
        """Our last number and the server's, where ours is beyond."""
        last = last_number if page is None else page.last_number
        if last is None or last >= self._had:
            return None
        return self._had, None if last < 0 else last

    @property
    def lag(self) -> int | None:
        """How many events there were beyond the place when we last heard of it."""
        return max(0, self._last_known + 1 - self.next)


class LogTrack(Track[LogEvent, LogPage]):
    """A place in the log: events after `place` are new, and reading goes on at `next`.

    An event's own position is where a page may begin; that event then comes again, and is left out.
    """

    def __init__(self, place: Position, *, resolve_links: bool, require_master: bool) -> None:
        self.place = place
        self.next = place
        self._resolve_links = resolve_links
        self._require_master = require_master
        self._target = Position(-1, -1)
        # The commit of the last event that a page showed since there is a target, and whether nothing was behind it.
        self._shown = -1
        self._at_end = False
        # Positions have holes, so nothing tells that an event is missing: where it may be, pages must be read again.
        self._unproven = False
        self._withheld: Sequence[ResolvedEvent] = ()

    def operation(self, count: int) -> ReadAll:
        """The request for the page that begins here."""
        return ReadAll(
            self.next,
            count,
            backwards=False,
            resolve_links=self._resolve_links,
            require_master=self._require_master,
        )

    def take_page(self, page: LogPage) -> Sequence[LogEvent]:
        """What of a page is new."""
        events = page.events
        known = 0
        while known < len(events) and events[known].position <= self.place:
            known += 1
        self.next = page.next
        self._at_end = not events
        if events:
            self._shown = events[-1].position.commit
        if known < len(events):
            self.place = events[-1].position
        if self.reached:
            self._withheld = ()
        return events[known:] if known else events

    def take_pushed(self, messages: Sequence[ResolvedEvent]) -> Pushed[LogEvent]:
        """What of pushed events is new, by their positions."""
        last = _position(messages[-1])
        if self._unproven:
            self._unproven = False
            self._aim_at(last)
            self._withheld = messages
            return Pushed((), gap=True)
        known = 0
        while known < len(messages) and _position(messages[known]) <= self.place:
            known += 1
        if known < len(messages):
            self.place = self.next = last
        return Pushed(Events(LogEvent, messages[known:] if known else messages))

    def aim(self, confirmation: Confirmation) -> None:
        """Up to the log's last position is to be read."""
        self._aim_at(Position(confirmation.last_commit, confirmation.last_commit))
        self._withheld = ()

    def _aim_at(self, target: Position) -> None:
        """Inside the transaction that is aimed at, its last event that we had is read again: see `reached`."""
        self._target = target
        self._shown = -1
        if self.place.commit == target.commit:
            self.next = self.place

    @property
    def reached(self) -> bool:
        """Whether everything before what is pushed has been read."""
        if self.next > self._target or self.place >= self._target:
            return True
        # The target may be the commit of an explicit transaction, and its events lie before that. Servers show all of
        # them or none: this one has shown some, and has no more.
        return self._at_end and self._shown == self._target.commit

    @property
    def withholds(self) -> bool:
        """Whether pushed events wait for pages that bring what may be missing before them."""
        return bool(self._withheld)

    def settle_for_less(self) -> Sequence[LogEvent]:
        """What was withheld. Where it is nothing, the next event that is pushed is: pages must be read before it.

        For the log's last record may be none that is shown, or it is one and cannot be read yet.
        """
        new = [message for message in self._withheld if _position(message) > self.place]
        self._unproven = not self._withheld
        self._withheld = ()
        if new:
            self.place = self.next = _position(new[-1])
        return Events(LogEvent, new)

    def may_be_ahead(self, page: LogPage | None, last_number: int | None) -> bool:  # noqa: ARG002 - a log is never missing
        """Whether there was nothing at all: then the end must be asked for."""
        return page is not None and not page.events

    def probe(self) -> ReadAll:
        """Asks the master for the end of the log."""
        return ReadAll(Position(LAST, LAST), 1, backwards=False, resolve_links=False, require_master=True)

    def ahead_of(
        self,
        page: LogPage | None,
        last_number: int | None,  # noqa: ARG002 - as above
    ) -> tuple[Position, Position] | None:
        """Our position and the log's end, where ours is beyond."""
        if page is None or self.next.commit <= page.at.commit:
            return None
        return self.place, page.at

    @property
    def lag(self) -> int | None:
        """Positions are no numbers."""
        return None


def _number(message: ResolvedEvent) -> int:
    """The number under which an event is in the stream: its link's, where it came through one."""
    return message.link.event_number if message.HasField("link") else message.event.event_number


def _position(message: ResolvedEvent) -> Position:
    return Position(message.commit_position, message.prepare_position)


def _checked(number: int) -> int:
    """A number that can be one: cut to 32 bits, those that need more are negative, and would be taken for old ones."""
    if number < LAST:
        msg = f"the peer says {number} for an event number; protocol_version=3 cannot follow beyond 32 bits, 4 can"
        raise ProtocolError(msg)
    return number
