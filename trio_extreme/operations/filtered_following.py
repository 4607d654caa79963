"""How far a catch-up subscription with a filter has come: beyond the last event that matched, to where was looked.

A rare event's follower would begin at its last event again and again, were that all that is known. Places between
events are told by pages, which end behind all that was looked through for them, and by the server's checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme.events import Events, LogEvent
from trio_extreme.operations.filtering import FilteredPages, is_beyond
from trio_extreme.operations.following import LogTrack, Pushed
from trio_extreme.values import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.filters import Filter
    from trio_extreme.operations.filtering import ReadFiltered, ReadSifted, Sieve
    from trio_extreme.operations.reading import LogPage
    from trio_extreme.wire.schema import ResolvedEvent


class FilteredLogTrack(LogTrack):
    """A place in the log, of which only some events are wanted.

    `place` is the last event's that was handed out or, where more was looked through behind it, an inclusive one, which
    sorts before an event that may come to be right there. Reading goes on at `next`, never before `place`.
    """

    def __init__(self, place: Position, filter: Filter, *, resolve_links: bool, require_master: bool) -> None:
        super().__init__(place, resolve_links=resolve_links, require_master=require_master)
        self.pages = FilteredPages(filter, backwards=False, resolve_links=resolve_links, require_master=require_master)
        #: What chooses among the events that are pushed; None where the server does.
        self.sieve: Sieve | None = None
        # How many events were looked through since the last that matched, or since the place was told, which was then.
        self._passed = 0
        self._told: Position | None = None

    def request(self, count: int, *, by_server: bool) -> ReadFiltered | ReadSifted:
        """The request for the page that begins here."""
        return self.pages.request(self.next, count, by_server=by_server)

    def take_page(self, page: LogPage) -> Sequence[LogEvent]:
        """What of a page is new. Where nothing is, the place is behind what was looked through all the same."""
        events = super().take_page(page)
        self._move_to(page.next)
        self._passed = page.passed if events else self._passed + page.passed
        return events

    def take_pushed(self, messages: Sequence[ResolvedEvent]) -> Pushed[LogEvent]:
        """What of pushed events is new and matches."""
        if self.sieve is None:
            return self._take_matching(messages)
        found = self.sieve(messages)
        taken = self._take_matching(found) if found else Pushed(Events(LogEvent, ()))
        last = messages[-1]
        if taken.gap or self.pass_by(Position(last.commit_position, last.prepare_position), len(messages) - len(found)):
            return Pushed(taken.events, gap=True)
        return taken

    def _take_matching(self, messages: Sequence[ResolvedEvent]) -> Pushed[LogEvent]:
        taken = super().take_pushed(messages)
        if taken.events:
            self._passed = 0
        return taken

    def pass_by(self, place: Position, events: int = 0) -> bool:
        """All that was pushed up to here, and the event that is here, was looked through; so many did not match.

        True where something may be missing before it all the same, so that pages must be read.
        """
        if self._unproven:
            self._unproven = False
            self._aim_at(Position(place.commit, place.prepare))
            return True
        self._move_to(place)
        self._passed += events
        return False

    def _move_to(self, place: Position) -> None:
        between = Position(place.commit, place.prepare, inclusive=True)
        if between > self.place:
            self.place = self.next = between

    def may_be_ahead(self, page: LogPage | None, last_number: int | None) -> bool:
        """Whether there was nothing at all, and not only nothing that matches."""
        return page is not None and super().may_be_ahead(page, last_number) and not is_beyond(page.next, self.next)

    def checkpoint(self, least: int = 0) -> Position | None:
        """The place, if it is no event's and was not told yet, and so many events were looked through since."""
        if not self.place.inclusive or self.place == self._told or self._passed < least:
            return None
        self._told = self.place
        self._passed = 0
        return self.place
