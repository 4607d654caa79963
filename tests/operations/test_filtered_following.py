"""How far a subscription with a filter has come: each match once, and places to go on from between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from tests.answers import record
from tests.operations.logs import LOGS, START, Choices, Log, asked, at, places_of, with_transaction
from trio_extreme.filters import Filter
from trio_extreme.operations.filtered_following import FilteredLogTrack
from trio_extreme.operations.reading import LogPage
from trio_extreme.operations.subscribing import Confirmation
from trio_extreme.values import Position
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

YES = Filter.by_stream("yes")


class FilteredLog(Log):
    """A log of which only some records match. A server that filters looks through so many of them for each page."""

    def __init__(self, places: Sequence[Position], matching: Collection[Position]) -> None:
        super().__init__(places)
        self.matching = set(matching)

    def page(self, track: FilteredLogTrack, count: int = 100, *, filters: bool = True) -> LogPage:
        """The page that the track asks for, over the wire."""
        operation = track.request(count, by_server=filters)
        question = asked(operation, schema.FilteredReadAllEvents if filters else schema.ReadAllEvents)
        start = Position(question.commit_position, question.prepare_position)
        rest = [place for place in self.places[: self.visible] if place >= start]
        seen = rest[: question.max_count]
        following = self._behind(seen[-1]) if seen else start
        kind: Any = schema.FilteredReadAllEventsCompleted if filters else schema.ReadAllEventsCompleted
        done = kind(
            events=self.sent_by(*seen, filters=filters),
            next_commit_position=following.commit,
            next_prepare_position=following.prepare,
        )
        if filters:
            done.is_end_of_stream = len(seen) < question.max_count
        return operation.read(done.SerializeToString())

    def send(self, *places: Position) -> list[schema.ResolvedEvent]:
        """These records, each in a stream that matches, or does not."""
        return [
            schema.ResolvedEvent(
                event=record(0, stream="yes" if place in self.matching else "no"),
                commit_position=place.commit,
                prepare_position=place.prepare,
            )
            for place in places
        ]

    def sent_by(self, *places: Position, filters: bool) -> list[schema.ResolvedEvent]:
        """What of these is sent by a server that filters, or by one that does not."""
        return self.send(*[place for place in places if not filters or place in self.matching])


def filtered_track(place: Position = START, *, sifts: bool = False) -> FilteredLogTrack:
    track = FilteredLogTrack(place, YES, resolve_links=False, require_master=True)
    if sifts:
        track.sieve = track.pages.sieve
    return track


def inclusive(commit: int, prepare: int) -> Position:
    return Position(commit, prepare, inclusive=True)


LOG = FilteredLog(at(0, 10, 20, 40, 50, 60, 90), at(20, 60))

each_server = pytest.mark.parametrize("filters", [True, False], ids=["filters", "does not"])


# --- pages


@each_server
def test_page_after_page(filters: bool) -> None:
    track, read = filtered_track(), list[Position]()
    while not (page := LOG.page(track, 2, filters=filters)).is_end:
        read += places_of(track.take_page(page))
    assert read == at(20, 60)
    assert track.lag is None


@each_server
def test_where_nothing_matched_the_place_is_behind_it(filters: bool) -> None:
    track = filtered_track()
    assert list(track.take_page(LOG.page(track, 2, filters=filters))) == []
    assert track.place == inclusive(20, 0)
    assert places_of(track.take_page(LOG.page(track, 1, filters=filters))) == at(20)
    assert track.place == inclusive(30, 0)
    # It goes on there, and nothing comes again.
    assert places_of(track.take_page(LOG.page(track, 100, filters=filters))) == at(60)
    assert track.place == inclusive(100, 0)


@each_server
def test_what_is_asked_for(filters: bool) -> None:
    track = filtered_track(Position(60, 30))
    kind = schema.FilteredReadAllEvents if filters else schema.ReadAllEvents
    question = asked(track.request(33, by_server=filters), kind)
    assert (question.commit_position, question.prepare_position, question.max_count) == (60, 30, 33)
    assert (question.resolve_link_tos, question.require_master) == (False, True)


@each_server
@pytest.mark.parametrize("place", [*at(0, 20, 40, 60), inclusive(20, 20), inclusive(60, 0)])
def test_from_any_place(place: Position, filters: bool) -> None:
    """An event's own is left out, one between them is not."""
    track = filtered_track(place)
    assert places_of(track.take_page(LOG.page(track, 100, filters=filters))) == [
        each for each in at(20, 60) if each > place
    ]


# --- places to go on from


def test_a_place_is_told_once() -> None:
    track = filtered_track()
    track.take_page(LOG.page(track, 2))
    assert track.checkpoint() == inclusive(20, 0)
    assert track.checkpoint() is None
    track.take_page(LOG.page(track))
    assert track.checkpoint() == inclusive(100, 0)
    # There is no more, and so no other place.
    track.take_page(LOG.page(track))
    assert track.checkpoint() is None


def test_where_it_began_is_told_for_it_may_be_what_the_server_said() -> None:
    """As the end of the log is, for who begins there."""
    track = filtered_track(inclusive(100, 100))
    track.take_page(LOG.page(track))
    assert track.checkpoint() == inclusive(100, 100)


def test_an_events_own_place_is_told_by_the_event() -> None:
    assert filtered_track(Position(90, 90)).checkpoint() is None
    track = filtered_track()
    track.take_pushed(LOG.send(*at(20)))
    assert track.checkpoint() is None


def test_not_before_so_many_did_not_match() -> None:
    track = filtered_track()
    track.take_page(LOG.page(track, 2))
    assert track.checkpoint(3) is None
    track.take_page(LOG.page(track, 1))
    # An event came, and its place is as good.
    assert track.checkpoint(2) is None
    track.take_page(LOG.page(track, 1))
    assert track.checkpoint(2) is None
    track.take_page(LOG.page(track, 1))
    assert track.checkpoint(2) == inclusive(60, 0)
    assert track.checkpoint(2) is None


def test_sifted_pushes_count() -> None:
    track = filtered_track(sifts=True)
    assert places_of(track.take_pushed(LOG.send(*at(0, 10))).events) == []
    assert track.checkpoint(3) is None
    assert places_of(track.take_pushed(LOG.send(*at(20, 40, 50))).events) == at(20)
    # The event came first, and two others after it.
    assert track.checkpoint(3) is None
    assert places_of(track.take_pushed(LOG.send(*at(50))).events) == []
    assert track.checkpoint(3) == inclusive(50, 50)


def test_the_servers_checkpoints() -> None:
    """The place is that of the last event it looked at: if that matched, it has been sent, and nothing new is said."""
    track = filtered_track()
    track.take_pushed(LOG.send(*at(20)))
    assert not track.pass_by(inclusive(20, 20))
    assert track.checkpoint() is None
    assert not track.pass_by(inclusive(50, 50))
    assert track.checkpoint() == inclusive(50, 50)
    # One that comes late takes nothing back.
    assert not track.pass_by(inclusive(40, 40))
    assert track.place == inclusive(50, 50)
    # What is pushed then is new, and what had been is not.
    assert places_of(track.take_pushed(LOG.send(*at(20, 60))).events) == at(60)


def test_an_event_comes_to_be_where_a_place_between_events_was() -> None:
    """KurrentDB#4970: the end of the log is told as a place, and the next event is right there."""
    grown = FilteredLog(at(0, 10), [])
    track = filtered_track()
    track.take_page(grown.page(track))
    place = track.checkpoint()
    assert place == inclusive(20, 0)
    for start in (place, inclusive(20, 20)):
        again = filtered_track(start)
        assert places_of(again.take_page(LOG.page(again, 1))) == at(20)
        pushed = filtered_track(start)
        assert places_of(pushed.take_pushed(LOG.send(*at(20))).events) == at(20)


# --- what is pushed


@each_server
def test_pushed_again(filters: bool) -> None:
    track = filtered_track(sifts=not filters)
    track.take_page(LOG.page(track, 4, filters=filters))
    taken = track.take_pushed(LOG.sent_by(*at(0, 10, 20, 40, 50, 60), filters=filters))
    assert places_of(taken.events) == at(60)
    assert not taken.gap
    assert list(track.take_page(LOG.page(track, 100, filters=filters))) == []


@each_server
def test_nothing_is_missing_before_what_is_pushed(filters: bool) -> None:
    track = filtered_track()
    track.aim(Confirmation(90, None))
    assert not track.reached
    track.take_page(LOG.page(track, 2, filters=filters))
    track.take_page(LOG.page(track, 100, filters=filters))
    assert track.reached


@each_server
def test_pages_end_before_what_was_confirmed(filters: bool) -> None:
    """After that even what does not match proves nothing: pages must come as far first."""
    log, track = FilteredLog(LOG.places, LOG.matching), filtered_track(sifts=not filters)
    log.visible = 5
    track.aim(Confirmation(60, None))
    assert places_of(track.take_page(log.page(track, 100, filters=filters))) == at(20)
    assert not track.reached
    assert list(track.settle_for_less()) == []
    if not filters:
        assert track.take_pushed(log.send(*at(90))).gap
    else:
        assert track.pass_by(inclusive(90, 90))
    assert not track.reached
    assert track.place == inclusive(60, 0)
    log.visible = 7
    assert places_of(track.take_page(log.page(track, 100, filters=filters))) == at(60)
    assert track.reached
    assert not track.withholds


@each_server
def test_what_matches_is_withheld_until_pages_come_as_far(filters: bool) -> None:
    log, track = FilteredLog([*LOG.places, *at(110)], [*LOG.matching, *at(110)]), filtered_track(sifts=not filters)
    log.visible = 5
    track.aim(Confirmation(60, None))
    track.take_page(log.page(track, 100, filters=filters))
    track.settle_for_less()
    taken = track.take_pushed(log.sent_by(*at(90, 110), filters=filters))
    assert taken.gap
    assert list(taken.events) == []
    assert track.withholds
    log.visible = 8
    assert places_of(track.take_page(log.page(track, 1, filters=filters))) in (at(60), [])
    assert track.place < Position(110, 110)
    while not track.reached:
        track.take_page(log.page(track, 1, filters=filters))
    assert not track.withholds
    assert track.place == inclusive(120, 0)


# --- a place beyond the end


def end_of_log(place: Position, *, moved: bool = False) -> LogPage:
    track = filtered_track(place)
    done = schema.FilteredReadAllEventsCompleted(
        commit_position=place.commit,
        prepare_position=place.prepare,
        next_commit_position=place.commit + moved,
        next_prepare_position=place.prepare,
        is_end_of_stream=True,
    )
    return track.request(10, by_server=True).read(done.SerializeToString())


@pytest.mark.parametrize("place", [Position(50, 50), inclusive(50, 50), inclusive(50, 0)])
def test_only_where_there_is_nothing_the_end_of_the_log_is_asked_for(place: Position) -> None:
    track = filtered_track(place)
    assert track.may_be_ahead(end_of_log(place), None)
    # That nothing matches is no sign of it.
    assert not track.may_be_ahead(end_of_log(place, moved=True), None)
    assert not track.may_be_ahead(None, -1)


def test_the_place_that_is_beyond_the_end() -> None:
    """What was told, and not the last event, which may well be before the end."""
    track = filtered_track(Position(20, 20))
    track.pass_by(inclusive(50, 50))
    end = LogPage(LOG.page(track).events, Position(30, 30), is_end=True, size=0, at=Position(30, 30))
    assert track.ahead_of(end, None) == (inclusive(50, 50), Position(30, 30))
    assert track.ahead_of(end._replace(at=Position(50, 50)), None) is None


# --- whatever comes


class Follower:
    """A consumer that keeps places, loses its process now and then, and goes on from what it has kept."""

    def __init__(self, choose: Choices, log: FilteredLog, place: Position) -> None:
        self.choose = choose
        self.log = log
        self.track = filtered_track(place)
        self._first = place
        self._filters = True
        self.read: list[Position] = []

    def new_session(self) -> None:
        """With a server that filters, or with one that does not; perhaps in a new process."""
        self._filters = self.choose.flag()
        place = self.track.checkpoint()
        if place is not None and self.choose.flag():
            self.track = filtered_track(place)

    def take_page(self) -> LogPage:
        page = self.log.page(self.track, self.choose.number(1, 6), filters=self._filters)
        self._take(self.track.take_page(page))
        return page

    def read_to_end(self) -> None:
        while not self.take_page().is_end:
            pass

    def subscribe(self, horizon: int) -> None:
        self.track.sieve = None if self._filters else self.track.pages.sieve
        self.track.aim(Confirmation(horizon, None))

    def take_pushed(self, run: list[Position], before: int) -> None:
        """What of a run is sent, and perhaps a checkpoint within it; so many events of the log are older than it."""
        cut = self.choose.number(0, len(run)) if self._filters else len(run)
        self._push(run[:cut], before)
        if 0 < cut < len(run):
            if self.track.pass_by(Position(run[cut - 1].commit, run[cut - 1].prepare, inclusive=True)):
                self._fill_gap(before)
            self._look_at_place()
        self._push(run[cut:], before)

    def _push(self, run: list[Position], before: int) -> None:
        sent = self.log.sent_by(*run, filters=self._filters)
        if sent:
            taken = self.track.take_pushed(sent)
            self._take(taken.events)
            if taken.gap:
                self._fill_gap(before)

    def _fill_gap(self, before: int) -> None:
        """Pages as far as what was pushed; where nothing was missing, what was withheld is as good."""
        while not self.track.reached:
            if set(self.log.places[:before]) & set(self.wanted) <= set(self.read) and self.choose.flag():
                self.settle()
                break
            self.take_page()

    def settle(self) -> None:
        self._take(self.track.settle_for_less())

    def _take(self, events: Sequence[Any]) -> None:
        self.read += places_of(events)
        self._look_at_place()

    def _look_at_place(self) -> None:
        """Whatever place is told: all that matches before it was handed out, and nothing else."""
        place = self.track.checkpoint(self.choose.number(0, 3))
        if place is not None:
            assert place.inclusive
            assert [each for each in self.wanted if each < place] == self.read

    @property
    def wanted(self) -> list[Position]:
        return [place for place in self.log.places if place in self.log.matching and place > self._first]


@given(st.data(), LOGS)
def test_each_event_that_matches_once(data: st.DataObject, places: list[Position]) -> None:
    """Sessions with servers that filter or do not, which show late what they count, and push what pages brought."""
    choose = Choices(data)
    log = FilteredLog(places, [place for place in places if choose.flag()])
    begin = choose.number(0, len(places)) - 1
    follower = Follower(choose, log, places[begin] if begin >= 0 else START)
    written = 0
    for _ in range(choose.number(0, 3)):
        written = choose.number(written, len(places))
        follow(choose, log, follower, written)
    log.visible = len(places)
    follower.new_session()
    follower.read_to_end()
    assert follower.read == follower.wanted


def follow(choose: Choices, log: FilteredLog, follower: Follower, written: int) -> None:
    """One session: pages, a confirmation of what is written by then, the rest of it, and what is written later."""
    log.visible = with_transaction(log.places, written)
    follower.new_session()
    if choose.flag():
        follower.take_page()
    # The last records are those that may be shown late.
    log.visible = with_transaction(log.places, max(0, written - choose.number(0, 3)))
    horizon = log.places[written - 1].commit if written else -1
    follower.subscribe(horizon)
    follower.read_to_end()
    if not follower.track.reached:
        follower.settle()
    log.visible = len(log.places)
    # A confirmation names a commit, and all of one transaction have the same.
    following = [place for place in log.places if place.commit > horizon]
    while following and choose.number(0, 5):
        next_one = log.places.index(following[0])
        count = choose.number(1, 5)
        overlap = choose.number(1, 3) if choose.flag() else 0
        run = log.places[max(0, next_one - overlap) : next_one + count]
        following = following[count:]
        follower.take_pushed(run, next_one)
