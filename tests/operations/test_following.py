"""How far a catch-up subscription has come: of pages and pushes that overlap, each event once, and none left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import given, strategies as st

from tests.answers import record
from tests.operations.logs import LOGS, START, Choices, Log, asked, at, places_of, with_transaction
from trio_extreme.errors import StreamDeleted
from trio_extreme.events import Events, LogEvent, PushedEvent
from trio_extreme.operations.following import LogTrack, StreamTrack
from trio_extreme.operations.reading import LogPage, StreamPage
from trio_extreme.operations.subscribing import Confirmation
from trio_extreme.values import Position
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

Pushed: TypeAlias = schema.ResolvedEvent
Read = schema.ReadStreamEventsCompleted.ReadStreamResult


def stream_track(first: int = 0) -> StreamTrack:
    return StreamTrack("s", first, resolve_links=True, require_master=False)


def log_track(place: Position) -> LogTrack:
    return LogTrack(place, resolve_links=False, require_master=False)


# --- a server with one stream


class Stream:
    """What a server has of a stream: the numbers of its events, of which the first or any may be gone."""

    def __init__(self, numbers: Sequence[int], *, links: bool = False) -> None:
        self.numbers = numbers
        self.last = max(numbers, default=-1)
        self._links = links

    def read(self, track: StreamTrack, count: int = 100) -> StreamPage:
        """The page that the track asks for, over the wire."""
        operation = track.operation(count)
        question = asked(operation, schema.ReadStreamEvents)
        first, behind = question.from_event_number, question.from_event_number + question.max_count
        done = schema.ReadStreamEventsCompleted(
            events=[self._event(number) for number in self.numbers if first <= number < behind],
            result=Read.Success,
            next_event_number=min(behind, self.last + 1),
            last_event_number=self.last,
            is_end_of_stream=behind > self.last,
        )
        return operation.read(done.SerializeToString())

    def _event(self, number: int) -> schema.ResolvedIndexedEvent:
        if not self._links:
            return schema.ResolvedIndexedEvent(event=record(number))
        return schema.ResolvedIndexedEvent(event=target(number), link=record(number, type="$>"))

    def push(self, *numbers: int) -> list[Pushed]:
        """These events, as they are pushed."""
        if not self._links:
            return [Pushed(event=record(number)) for number in numbers]
        return [Pushed(event=target(number), link=record(number, type="$>")) for number in numbers]


def target(number: int) -> schema.EventRecord:
    """What the link with this number stands for: its own number goes down where the link's goes up."""
    return record(1000 - number, stream="elsewhere")


PLAIN = Stream(range(20))
LINKS = Stream(range(20), links=True)


def numbers_of(events: Sequence[Any]) -> list[int]:
    return [event.checkpoint for event in events]


# --- a stream, by its numbers


def test_what_a_stream_is_asked_for() -> None:
    track = StreamTrack("s", 7, resolve_links=False, require_master=True)
    assert asked(track.operation(33), schema.ReadStreamEvents) == schema.ReadStreamEvents(
        event_stream_id="s", from_event_number=7, max_count=33, resolve_link_tos=False, require_master=True
    )
    other = asked(stream_track().operation(1), schema.ReadStreamEvents)
    assert (other.resolve_link_tos, other.require_master) == (True, False)


@pytest.mark.parametrize("server", [PLAIN, LINKS], ids=["events", "links"])
def test_page_after_page(server: Stream) -> None:
    track = stream_track(3)
    # Nobody has said yet how far it goes.
    assert track.lag == 0
    assert numbers_of(track.take_page(server.read(track, 10))) == list(range(3, 13))
    assert track.lag == 7
    assert numbers_of(track.take_page(server.read(track, 10))) == list(range(13, 20))
    assert track.lag == 0
    # There is no more, and the place stays.
    assert numbers_of(track.take_page(server.read(track, 10))) == []
    assert track.next == 20


def test_a_page_beyond_the_end_is_no_way_back() -> None:
    """It says where the end is; should events come up to our place again, they were handled already."""
    track = stream_track(30)
    assert numbers_of(track.take_page(PLAIN.read(track))) == []
    assert track.next == 30
    assert track.lag == 0


def test_a_page_of_what_is_gone_leads_on() -> None:
    """Pages may be empty and not the last: what is truncated, or too old, is jumped over."""
    track, server = stream_track(), Stream([50, 51])
    assert numbers_of(track.take_page(server.read(track, 40))) == []
    assert track.next == 40
    assert numbers_of(track.take_page(server.read(track, 40))) == [50, 51]


@pytest.mark.parametrize("server", [PLAIN, LINKS], ids=["events", "links"])
def test_pushed_in_order(server: Stream) -> None:
    """A link's number counts, whatever event it stands for."""
    track = stream_track(5)
    new = track.take_pushed(server.push(5, 6, 7))
    assert [type(event) for event in new.events] == [PushedEvent] * 3
    assert numbers_of(new.events) == [5, 6, 7]
    assert not new.gap
    assert track.next == 8


def test_of_links_whose_target_is_gone_the_number_counts_too() -> None:
    track = stream_track(5)
    new = track.take_pushed([Pushed(link=record(5, type="$>")), Pushed(event=target(6), link=record(6, type="$>"))])
    assert numbers_of(new.events) == [5, 6]
    assert [event.resolved for event in new.events] == [False, True]


@pytest.mark.parametrize(
    ("pushed", "new"),
    [
        pytest.param([3, 4], [], id="all of it known"),
        pytest.param([3, 4, 5, 6], [5, 6], id="the rest is new"),
        pytest.param([5, 5, 6, 5, 6, 7, 7], [5, 6, 7], id="twice"),
        pytest.param([6, 5, 6], [], id="a gap, whatever comes behind it"),
    ],
)
def test_pushed_again(pushed: list[int], new: list[int]) -> None:
    track = stream_track(5)
    assert numbers_of(track.take_pushed(PLAIN.push(*pushed)).events) == new
    assert track.next == 5 + len(new)


@pytest.mark.parametrize(
    ("pushed", "new"),
    [
        pytest.param([7], [], id="before all"),
        pytest.param([5, 7, 8], [5], id="within"),
        pytest.param([3, 4, 5, 6, 9], [5, 6], id="behind what is known"),
    ],
)
def test_a_gap_is_read_in_pages(pushed: list[int], new: list[int]) -> None:
    """What comes behind a gap is not handed out: pages bring it again, after what was missing."""
    track = stream_track(5)
    taken = track.take_pushed(PLAIN.push(*pushed))
    assert numbers_of(taken.events) == new
    assert taken.gap
    assert not track.reached
    read: list[int] = []
    while not track.reached:
        read += numbers_of(track.take_page(PLAIN.read(track, 2)))
        # Until it is read, or nobody waits for it any longer.
        assert track.withholds is not track.reached
    assert new + read == list(range(5, track.next))
    assert track.next > pushed[-1]
    assert numbers_of(track.settle_for_less()) == []


@pytest.mark.parametrize(
    ("pushed", "until", "withheld"),
    [
        pytest.param([5, 8, 9], 6, [8, 9], id="pages end before it"),
        pytest.param([8, 9], 9, [9], id="pages end within it"),
        pytest.param([8, 9], 4, [8, 9], id="there are no pages"),
    ],
)
def test_what_pages_do_not_bring_is_not_withheld_for_ever(pushed: list[int], until: int, withheld: list[int]) -> None:
    """As where the stream is deleted, once they were pushed."""
    track = stream_track(5)
    track.take_pushed(PLAIN.push(*pushed))
    track.take_page(Stream(range(until)).read(track))
    assert track.withholds
    new = track.settle_for_less()
    assert [type(event) for event in new] == [PushedEvent] * len(withheld)
    assert numbers_of(new) == withheld
    assert not track.withholds
    assert track.reached
    # It goes on behind them.
    assert numbers_of(track.take_pushed(PLAIN.push(9, 10)).events) == [10]


def test_what_is_subscribed_to_anew_withholds_nothing() -> None:
    track = stream_track(5)
    track.take_pushed(PLAIN.push(8))
    track.aim(Confirmation(100, 9))
    assert not track.withholds
    assert numbers_of(track.settle_for_less()) == []
    assert track.next == 5


def test_read_up_to_what_was_confirmed() -> None:
    track = stream_track()
    track.aim(Confirmation(100, 12))
    assert track.lag == 13
    assert not track.reached
    track.take_page(PLAIN.read(track, 12))
    assert not track.reached
    track.take_page(PLAIN.read(track, 1))
    assert track.reached


@pytest.mark.parametrize("first", [13, 14])
def test_nothing_to_read_before_what_is_pushed(first: int) -> None:
    track = stream_track(first)
    track.aim(Confirmation(100, 12))
    assert track.reached
    assert track.lag == 0


def test_where_nothing_is_aimed_at_nothing_is_missing() -> None:
    assert stream_track().reached
    assert log_track(START).reached


def test_a_stream_that_is_not_there_yet() -> None:
    track = stream_track()
    track.aim(Confirmation(100, -1))
    assert track.reached
    assert numbers_of(track.take_pushed(PLAIN.push(0, 1)).events) == [0, 1]


def test_pages_end_before_what_was_confirmed() -> None:
    """Going live all the same loses nothing: where an event is missing after all, the next one's number tells."""
    track = stream_track(5)
    track.aim(Confirmation(100, 6))
    assert not track.withholds
    assert numbers_of(track.settle_for_less()) == []
    assert track.take_pushed(PLAIN.push(7, 8)).gap
    assert numbers_of(track.take_page(PLAIN.read(track))) == list(range(5, 20))
    assert track.reached


def test_where_a_stream_ends_on_the_master() -> None:
    assert stream_track(7).probe().command == Command.READ_STREAM_EVENTS_BACKWARD
    assert asked(stream_track(7).probe(), schema.ReadStreamEvents) == schema.ReadStreamEvents(
        event_stream_id="s", from_event_number=-1, max_count=1, resolve_link_tos=False, require_master=True
    )


def end_of(last: int) -> StreamPage:
    done = schema.ReadStreamEventsCompleted(last_event_number=last, is_end_of_stream=True)
    return stream_track().probe().read(done.SerializeToString())


@pytest.mark.parametrize(
    ("last", "ahead"),
    [
        pytest.param(9, None, id="behind us"),
        pytest.param(6, None, id="our own last"),
        pytest.param(5, (6, 5), id="one is gone"),
        pytest.param(0, (6, 0), id="all but one are gone"),
    ],
)
def test_a_place_beyond_the_end_of_the_stream(last: int, ahead: tuple[int, int] | None) -> None:
    track = stream_track(7)
    assert track.may_be_ahead(end_of(last), None) is (ahead is not None)
    assert track.ahead_of(end_of(last), None) == ahead


@pytest.mark.parametrize(
    ("last", "ahead"),
    [
        pytest.param(6, None, id="deleted softly: numbering goes on"),
        pytest.param(3, (6, 3), id="deleted softly, in an older store"),
        pytest.param(-1, (6, None), id="never written"),
        pytest.param(None, None, id="the server does not say"),
    ],
)
def test_a_place_in_a_stream_that_is_missing(last: int | None, ahead: tuple[int, int | None] | None) -> None:
    track = stream_track(7)
    assert track.may_be_ahead(None, last) is (ahead is not None)
    assert track.ahead_of(None, last) == ahead


def test_from_the_start_nothing_is_beyond_the_end() -> None:
    assert not stream_track().may_be_ahead(None, -1)
    assert stream_track().ahead_of(None, -1) is None


def test_a_hard_deleted_stream_is_an_error_of_the_page() -> None:
    """Its tombstone is pushed with the largest number there is; so it is a gap, and the page that follows tells."""
    track = stream_track(5)
    tombstone = Pushed(event=record(2**63 - 1, type="$streamDeleted"))
    assert track.take_pushed([*PLAIN.push(5), tombstone]).gap
    done = schema.ReadStreamEventsCompleted(result=Read.StreamDeleted)
    with pytest.raises(StreamDeleted):
        track.operation(10).read(done.SerializeToString())


# --- a log


# Three events of a transaction that was committed at 60, between plain ones.
IN_TRANSACTION = [Position(60, 20), Position(60, 30), Position(60, 50)]
LOG = Log([*at(0, 10, 40), *IN_TRANSACTION, *at(70, 80, 100)])


# --- the log, by its positions


def test_what_the_log_is_asked_for() -> None:
    track = LogTrack(Position(60, 30), resolve_links=True, require_master=True)
    assert asked(track.operation(33), schema.ReadAllEvents) == schema.ReadAllEvents(
        commit_position=60, prepare_position=30, max_count=33, resolve_link_tos=True, require_master=True
    )
    other = asked(log_track(START).operation(1), schema.ReadAllEvents)
    assert (other.resolve_link_tos, other.require_master) == (False, False)


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_page_after_page_of_the_log(count: int) -> None:
    track, read = log_track(START), list[Position]()
    while not (page := LOG.read(track, count)).is_end:
        read += places_of(track.take_page(page))
    assert track.take_page(page) == []
    assert read == LOG.places
    assert track.lag is None


@pytest.mark.parametrize("place", LOG.places)
@pytest.mark.parametrize("count", [1, 2, 100])
def test_after_an_event_that_was_handled(place: Position, count: int) -> None:
    """It is where reading begins, and so it comes again, within transactions too; it is left out."""
    track, read = log_track(place), list[Position]()
    for _ in LOG.places:
        read += places_of(track.take_page(LOG.read(track, count)))
    assert read == [each for each in LOG.places if each > place]


@pytest.mark.parametrize("place", LOG.places)
def test_from_a_place_that_is_included(place: Position) -> None:
    track = log_track(Position(place.commit, place.prepare, inclusive=True))
    assert places_of(track.take_page(LOG.read(track))) == [each for each in LOG.places if each >= place]


def test_events_of_the_log_are_views_with_positions() -> None:
    track = log_track(START)
    page = LOG.read(track)
    # None of them is known, so the page is handed out as it is.
    assert track.take_page(page) is page.events
    new = log_track(START).take_pushed(LOG.push(*LOG.places)).events
    assert [type(event) for event in new] == [LogEvent] * len(LOG.places)


@pytest.mark.parametrize(
    ("pushed", "new"),
    [
        pytest.param([*at(70, 80)], [*at(70, 80)], id="all of it new"),
        pytest.param([*at(40), *IN_TRANSACTION], [], id="all of it known"),
        pytest.param([*IN_TRANSACTION, *at(70)], [*at(70)], id="the rest is new"),
    ],
)
def test_pushed_again_of_the_log(pushed: list[Position], new: list[Position]) -> None:
    track = log_track(Position(60, 50))
    taken = track.take_pushed(LOG.push(*pushed))
    assert places_of(taken.events) == new
    assert not taken.gap
    # What was pushed is not read again.
    assert places_of(track.take_page(LOG.read(track))) == [
        place for place in LOG.places if place > max([*pushed, Position(60, 50)])
    ]


def test_pushed_from_within_a_transaction() -> None:
    track = log_track(Position(60, 20))
    assert places_of(track.take_pushed(LOG.push(*IN_TRANSACTION)).events) == IN_TRANSACTION[1:]


def test_read_up_to_what_was_confirmed_of_the_log() -> None:
    track = log_track(START)
    track.aim(Confirmation(80, None))
    assert not track.reached
    # Where the next page would begin at the very record that was confirmed, that one is still to come.
    track.take_page(LogPage(LOG.read(track, 2).events, Position(80, 80), is_end=False, size=0, at=START))
    assert not track.reached
    track.take_page(LOG.read(track))
    assert track.reached


def test_behind_what_was_confirmed_although_it_is_none_that_is_shown() -> None:
    """The last record of the log may be one that nobody is shown: what is behind it will do."""
    track = log_track(START)
    track.aim(Confirmation(90, None))
    track.take_page(LOG.read(track, 8))
    assert places_of([LOG.read(track, 8).events[0]]) == at(100)
    assert not track.reached
    track.take_page(LOG.read(track))
    assert track.reached


@pytest.mark.parametrize("place", [Position(80, 80), Position(100, 100), Position(90, 0)])
def test_nothing_to_read_before_what_is_pushed_of_the_log(place: Position) -> None:
    track = log_track(place)
    track.aim(Confirmation(80, None))
    assert track.reached


def test_the_last_record_commits_a_transaction() -> None:
    """Its events lie before it, at its commit position: all of them are read when a page brings nothing more."""
    first, second, third = [Position(90, place) for place in (50, 60, 70)]
    track = log_track(START)
    track.take_page(transaction_page(first, second))
    track.aim(Confirmation(90, None))
    # There may be more of it; and that this server shows it, its last event must tell.
    assert (track.reached, track.next) == (False, second)
    assert places_of(track.take_page(transaction_page(second, third))) == [third]
    assert not track.reached
    track.take_page(nothing_behind(track))
    assert track.reached
    # What a page showed before tells nothing of what is aimed at later.
    track.aim(Confirmation(90, None))
    assert not track.reached


def test_the_last_transaction_is_not_shown_yet() -> None:
    """We had a part of it from another server, or before a restart."""
    track = log_track(Position(90, 50))
    track.aim(Confirmation(90, None))
    track.take_page(nothing_behind(track))
    assert not track.reached


def nothing_behind(track: LogTrack) -> LogPage:
    return LogPage(Events(LogEvent, ()), track.next, is_end=True, size=0, at=track.next)


def transaction_page(*places: Position) -> LogPage:
    messages = [
        schema.ResolvedEvent(event=schema.EventRecord(), commit_position=place.commit, prepare_position=place.prepare)
        for place in places
    ]
    end = Position(places[-1].commit, places[-1].prepare + 10)
    return LogPage(Events(LogEvent, messages), end, is_end=False, size=0, at=START)


def test_an_empty_log() -> None:
    track = log_track(START)
    track.aim(Confirmation(-1, None))
    assert track.reached


def test_pages_of_the_log_end_before_what_was_confirmed() -> None:
    """Positions have holes, so nothing tells whether an event is missing: before the first push, pages must say."""
    log, track = Log(LOG.places), log_track(START)
    log.visible = 6
    track.aim(Confirmation(70, None))
    read = places_of(track.take_page(log.read(track)))
    assert not track.reached
    assert not track.withholds
    assert list(track.settle_for_less()) == []
    taken = track.take_pushed(log.push(*at(80)))
    assert taken.gap
    assert list(taken.events) == []
    assert track.withholds
    assert not track.reached
    # What was pushed is what must be read, and not what was confirmed.
    log.visible = 7
    read += places_of(track.take_page(log.read(track)))
    assert not track.reached
    log.visible = len(log.places)
    read += places_of(track.take_page(log.read(track)))
    assert read == log.places
    assert track.reached
    assert not track.withholds
    # From then on what is pushed is enough.
    assert places_of(track.take_pushed(log.push(*at(110))).events) == at(110)


@pytest.mark.parametrize("visible", range(6, 9))
def test_what_pages_of_the_log_do_not_bring_is_not_withheld_for_ever(visible: int) -> None:
    log, track = Log(LOG.places), log_track(IN_TRANSACTION[-1])
    track.aim(Confirmation(65, None))
    track.settle_for_less()
    assert track.take_pushed(log.push(*IN_TRANSACTION, *at(70, 80, 100))).gap
    log.visible = visible
    read = places_of(track.take_page(log.read(track)))
    assert track.withholds
    new = track.settle_for_less()
    assert [type(event) for event in new] == [LogEvent] * (9 - visible)
    assert read + places_of(new) == at(70, 80, 100)
    assert not track.withholds
    assert track.reached
    # It goes on behind them, and what is pushed is enough.
    assert track.next == Position(100, 100)
    assert places_of(track.take_pushed(log.push(*at(100, 110))).events) == at(110)


def test_where_the_log_is_subscribed_to_anew_nothing_is_withheld() -> None:
    track = log_track(START)
    track.settle_for_less()
    track.take_pushed(LOG.push(*at(80)))
    track.aim(Confirmation(80, None))
    assert not track.withholds
    # And so this proves nothing once more.
    assert list(track.settle_for_less()) == []
    assert track.take_pushed(LOG.push(*at(100))).gap


def test_where_the_log_ends_on_the_master() -> None:
    assert log_track(START).probe().command == Command.READ_ALL_EVENTS_FORWARD
    assert asked(log_track(START).probe(), schema.ReadAllEvents) == schema.ReadAllEvents(
        commit_position=-1, prepare_position=-1, max_count=1, resolve_link_tos=False, require_master=True
    )


def end_of_log(end: int) -> LogPage:
    done = schema.ReadAllEventsCompleted(
        commit_position=end, prepare_position=end, next_commit_position=end, next_prepare_position=end
    )
    return log_track(START).probe().read(done.SerializeToString())


@pytest.mark.parametrize(
    ("place", "ahead"),
    [
        pytest.param(Position(90, 90), False, id="within"),
        pytest.param(Position(110, 110), False, id="just at the end"),
        pytest.param(Position(110, 110, inclusive=True), False, id="where the next event may be"),
        pytest.param(Position(120, 30), True, id="a transaction beyond it"),
        pytest.param(Position(120, 120), True, id="beyond"),
    ],
)
def test_a_place_beyond_the_end_of_the_log(place: Position, *, ahead: bool) -> None:
    track = log_track(place)
    assert track.ahead_of(end_of_log(110), None) == ((place, Position(110, 110)) if ahead else None)


def test_only_where_there_is_nothing_the_end_of_the_log_is_asked_for() -> None:
    track = log_track(Position(100, 100))
    assert not track.may_be_ahead(LOG.read(track), None)
    assert track.may_be_ahead(end_of_log(110), None)
    # There is always a log.
    assert not track.may_be_ahead(None, -1)
    assert track.ahead_of(None, -1) is None


# --- whatever comes


@given(st.data(), st.sets(st.integers(0, 40)).map(sorted), st.integers(0, 45), st.booleans())
def test_each_event_of_a_stream_once(data: st.DataObject, numbers: list[int], first: int, links: bool) -> None:
    """Pages and pushes of any length, that overlap, come twice or leave something out, of a stream with holes."""
    choose, track, read = Choices(data), stream_track(first), list[int]()
    server, live = Stream(numbers, links=links), False
    for _ in range(choose.number(0, 12)):
        if live:
            run = some_run(choose, numbers)
            taken = track.take_pushed(server.push(*run)) if run else None
            read += numbers_of(taken.events) if taken else []
            live = not (taken and taken.gap)
        else:
            read += numbers_of(track.take_page(server.read(track, choose.number(1, 10))))
            if choose.flag():
                track.aim(Confirmation(0, choose.number(-1, server.last)))
            live = track.reached
    while not (page := server.read(track, 10)).is_end:
        read += numbers_of(track.take_page(page))
    read += numbers_of(track.take_page(page))
    assert read == [number for number in numbers if number >= first]


def some_run(choose: Choices, numbers: list[int]) -> list[int]:
    """Events from anywhere on, with some left out; a server keeps them in order, and another run may repeat them."""
    if not numbers:
        return []
    begin = choose.number(0, len(numbers) - 1)
    run = numbers[begin : begin + choose.number(1, 8)]
    return [number for number in run if choose.number(0, 9)]


@given(st.data(), LOGS)
def test_each_event_of_the_log_once(data: st.DataObject, places: list[Position]) -> None:
    """As above; what a server pushes of the log has no gaps from what it confirmed on, which may show late or never.

    A transaction shows as a whole: servers read it when they read its commit.
    """
    choose, log, read = Choices(data), Log(places), list[Position]()
    begin = choose.number(0, len(places)) - 1
    track = log_track(places[begin] if begin >= 0 else START)
    confirmed = choose.number(0, len(places))
    log.visible = with_transaction(places, choose.number(0, confirmed) if choose.flag() else confirmed)
    horizon = places[confirmed - 1].commit if confirmed else -1
    track.aim(Confirmation(horizon, None))
    read += read_to_end(choose, log, track)
    if not track.reached:
        track.settle_for_less()
    log.visible = len(places)
    # A confirmation names a commit, and all of one transaction have the same.
    following = [place for place in places if place.commit > horizon]
    while following:
        count = choose.number(1, 5)
        overlap = choose.number(0, 3)
        next_one = places.index(following[0])
        run = places[max(0, next_one - overlap) : next_one + count]
        following = following[count:]
        taken = track.take_pushed(log.push(*run))
        read += places_of(taken.events)
        while taken.gap and not track.reached:
            # Where nothing is missing before them, those that were withheld are as good.
            known = track.place >= places[next_one - 1] if next_one else True
            late = known and choose.flag()
            new = track.settle_for_less() if late else track.take_page(log.read(track, choose.number(1, 4)))
            read += places_of(new)
    read += read_to_end(choose, log, track)
    assert read == places[begin + 1 :]


def read_to_end(choose: Choices, log: Log, track: LogTrack) -> list[Position]:
    read: list[Position] = []
    while not (page := log.read(track, choose.number(1, 6))).is_end:
        read += places_of(track.take_page(page))
    track.take_page(page)
    return read
