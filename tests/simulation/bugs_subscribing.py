"""Planted bugs of subscriptions: what comes, in which order, and what is told in between."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import trio

from tests.simulation.planting import bug
from trio_extreme import catching_up, filtered
from trio_extreme.catching_up import CatchUpSubscription
from trio_extreme.errors import StreamDeleted
from trio_extreme.events import TOMBSTONE_TYPE, Events, LogEvent, PushedEvent
from trio_extreme.feeds import Feeds
from trio_extreme.filtered import FilteredSubscription
from trio_extreme.mailbox import Mailbox
from trio_extreme.notices import CaughtUp, Checkpoint
from trio_extreme.operations.filtered_following import FilteredLogTrack
from trio_extreme.operations.following import LogTrack, StreamTrack
from trio_extreme.reading import MAX_DEATHS
from trio_extreme.subscriptions import SingleSubscription
from trio_extreme.values import Position

if TYPE_CHECKING:
    from collections.abc import Iterator


# --- catching up


@bug
def no_second_read() -> Iterator[None]:
    """What was written between the last page and the confirmation is taken for read."""

    def aim_stream(self: StreamTrack, confirmation: Any) -> None:
        self.next = max(self.next, confirmation.last_number + 1)

    def aim_log(self: LogTrack, confirmation: Any) -> None:
        self.next = self.place = max(self.place, Position(confirmation.last_commit, confirmation.last_commit))

    with patch.object(StreamTrack, "aim", aim_stream), patch.object(LogTrack, "aim", aim_log):
        yield


@bug
def ended_by_chance() -> Iterator[None]:
    """Two sessions in a row that die while one event is asked for end a subscription, as they do a reader."""
    with (
        patch.object(catching_up, "MAX_DEATHS_LASTING", MAX_DEATHS),
        patch.object(filtered, "MAX_DEATHS_LASTING", MAX_DEATHS),
    ):
        yield


@bug
def place_of_what_was_buffered() -> Iterator[None]:
    """What still waits in the mailbox when its feed ends counts as handed out."""
    listen = CatchUpSubscription._listen

    async def listen_to_the_end(self: CatchUpSubscription[Any]) -> None:
        if self._feed.mailbox.ended and (messages := self._read_pushed(_drain(self._feed.mailbox))[0]):
            self._track.take_pushed(messages)
        await listen(self)

    with patch.object(CatchUpSubscription, "_listen", listen_to_the_end):
        yield


@bug
def old_queue_beside_the_new() -> Iterator[None]:
    """What still waits in the mailbox when its feed ends is handed out, and pages bring it again."""
    listen = CatchUpSubscription._listen

    async def listen_to_the_end(self: CatchUpSubscription[Any]) -> None:
        if self._feed.mailbox.ended and (messages := self._read_pushed(_drain(self._feed.mailbox))[0]):
            self._out.append(Events(PushedEvent if self._stream else LogEvent, messages))
        await listen(self)

    with patch.object(CatchUpSubscription, "_listen", listen_to_the_end):
        yield


@bug
def inclusive_after_reconnect() -> Iterator[None]:
    """A page of the log that begins with the last event handed out brings it again."""

    def take_page(self: LogTrack, page: Any) -> Any:
        self.next = page.next
        if page.events:
            self.place = page.events[-1].position
        return page.events

    with patch.object(LogTrack, "take_page", take_page):
        yield


@bug
def caught_up_twice() -> Iterator[None]:
    """The end of the pages is told as having caught up, and so is the beginning of what is pushed."""
    accept = CatchUpSubscription._accept

    def tell(self: CatchUpSubscription[Any], page: Any) -> None:
        accept(self, page)
        if self._at_end and not self._live:
            self._out.append(CaughtUp())

    with patch.object(CatchUpSubscription, "_accept", tell):
        yield


@bug
def tombstone_ends_the_log() -> Iterator[None]:
    """The tombstone of any stream ends a subscription to all of them."""
    without_tombstone = SingleSubscription._without_tombstone

    def end(self: SingleSubscription[Any], messages: Any, ending: Any) -> Any:
        for index, message in enumerate(messages):
            if message.event.event_type == TOMBSTONE_TYPE:
                return messages[:index], StreamDeleted(self._stream)
        return without_tombstone(self, messages, ending)

    with patch.object(SingleSubscription, "_without_tombstone", end):
        yield


@bug
def unbounded_mailbox() -> Iterator[None]:
    """The mailbox takes in whatever comes."""
    init = Mailbox.__init__

    def boundless(self: Mailbox, max_events: int, max_bytes: int, on_overflow: Any) -> None:
        init(self, 10**9, 10**12, on_overflow)

    with patch.object(Mailbox, "__init__", boundless):
        yield


@bug
def exclusive_after_checkpoint() -> Iterator[None]:
    """Who goes on after a place between events leaves out the event that has come to be right there."""
    init = FilteredLogTrack.__init__

    def leave_out(self: FilteredLogTrack, place: Position, *args: Any, **options: Any) -> None:
        init(self, Position(place.commit, place.commit) if place.inclusive else place, *args, **options)

    with patch.object(FilteredLogTrack, "__init__", leave_out):
        yield


@bug
def place_told_before_its_events() -> Iterator[None]:
    """A place between events is told as soon as it is known, while events before it still wait to be handed out."""

    def tell_at_once(self: FilteredSubscription, least: int) -> None:
        place = self._filtered.checkpoint(least)
        if place is not None:
            self._out.insert(0, Checkpoint(place))

    with patch.object(FilteredSubscription, "_tell_place", tell_at_once):
        yield


@bug
def all_that_is_pushed_matches() -> Iterator[None]:
    """What a server pushes that does not filter is not sifted."""

    def take_all(self: FilteredLogTrack, messages: Any) -> Any:
        return self._take_matching(messages)

    with patch.object(FilteredLogTrack, "take_pushed", take_all):
        yield


# --- live subscriptions


@bug
def gap_told_only_once() -> Iterator[None]:
    """The possible gap of the first reconnect is told, and none of the later ones."""
    opened = Mailbox.opened
    told: list[Mailbox] = []

    def once(self: Mailbox, frame: Any, *, again: bool) -> None:
        if again and self not in told:
            told.append(self)
            opened(self, frame, again=again)

    with patch.object(Mailbox, "opened", once):
        yield


@bug
def deaf_after_reconnect() -> Iterator[None]:
    """The new session does not subscribe again."""
    with patch.object(Feeds, "connected", lambda self: None):
        yield


def _drain(mailbox: Mailbox) -> list[Any]:
    """All that waits in a mailbox."""
    runs: list[Any] = []
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            runs.append(mailbox._receive.receive_nowait())
    mailbox.events = mailbox.bytes = 0
    return runs
