"""Whether an append that got no answer was executed: there, surely not there, or not sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, strategies as st

from trio_extreme.errors import ProtocolError, StreamNotFound
from trio_extreme.operations.looking import (
    ABSENT,
    MAX_BYTES,
    MAX_EVENTS,
    OLD_BYTES,
    OLD_EVENTS,
    UNSURE,
    Finding,
    LookUp,
    Verdict,
)
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trio_extreme.operations.reading import StreamPage

Result = schema.ReadStreamEventsCompleted.ReadStreamResult

NOW = 1_600_000_000.0
"""When the call began, in seconds since 1970."""

OLD = NOW - 301


def an_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


A, B, C, D = map(an_id, range(10_001, 10_005))


class Stored(NamedTuple):
    id: bytes
    created: float = NOW

    def record(self, number: int, size: int) -> schema.EventRecord:
        # .NET's ticks since the year 1, in UTC.
        ticks = int((self.created + 62_135_596_800) * 10_000_000) | 1 << 62
        return schema.EventRecord(
            event_stream_id="s",
            event_number=number,
            event_id=self.id,
            event_type="happened",
            data=bytes(size),
            created=ticks if self.created else 0,
        )


class Server:
    """Its stream, of which some events may be gone; what was asked of it."""

    def __init__(self, events: Sequence[Stored | bytes], *, gone: Iterable[int] = (), size: int = 0) -> None:
        self.events = [event if isinstance(event, Stored) else Stored(event) for event in events]
        self.gone = set(gone)
        self.asked: list[schema.ReadStreamEvents] = []
        #: Below it nothing is left.
        self.bound = next((number for number in range(len(events)) if number not in self.gone), len(events))
        self._size = size

    def answer(self, look: LookUp, count: int = 4096) -> StreamPage:
        """The next page, over the wire (docs/protocol.md, 3.5)."""
        operation = look.operation(count)
        question = schema.ReadStreamEvents.FromString(operation.payload())
        self.asked.append(question)
        last = len(self.events) - 1
        start = last if question.from_event_number == -1 else question.from_event_number
        numbers = range(start, max(start - question.max_count, -1), -1)
        is_end = numbers[-1] <= self.bound if numbers else True
        done = schema.ReadStreamEventsCompleted(
            events=[
                schema.ResolvedIndexedEvent(event=self.events[number].record(number, self._size))
                for number in numbers
                if number not in self.gone
            ],
            result=Result.Success,
            next_event_number=-1 if is_end else numbers[-1] - 1,
            last_event_number=last,
            is_end_of_stream=is_end,
        )
        return operation.read(done.SerializeToString())

    def search(self, look: LookUp, count: int = 4096) -> None:
        while not look.done:
            look.take(self.answer(look, count))


def others(count: int, created: float = NOW) -> list[Stored]:
    """Events of somebody else."""
    return [Stored(an_id(number), created) for number in range(count)]


def looked(server: Server, *ids: bytes, count: int = 4096) -> Finding:
    """What is found out about one append."""
    look = LookUp("s", ids, NOW)
    server.search(look, count)
    return look.finding(ids)


def there(first: int, last: int) -> Finding:
    return Finding(Verdict.THERE, first, last)


# --- there


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_it_is_there(count: int) -> None:
    server = Server([*others(4), Stored(A), Stored(B), *others(3)])
    assert looked(server, A, B, count=count) == there(4, 5)


def test_it_is_the_only_one_there_is() -> None:
    assert looked(Server([A]), A) == there(0, 0)


@pytest.mark.parametrize("created", [NOW - 10_000, NOW + 10_000])
def test_what_is_there_is_there_whatever_its_age(created: float) -> None:
    assert looked(Server([*others(2), Stored(A, created)]), A) == there(2, 2)


@pytest.mark.parametrize("count", [1, 100])
def test_of_an_event_that_is_there_twice_the_later_counts(count: int) -> None:
    assert looked(Server([Stored(A), *others(3), Stored(A), *others(1)]), A, count=count) == there(4, 4)


def test_once_all_are_found_nothing_more_is_read() -> None:
    server = Server([*others(10), Stored(A), *others(1)])
    assert looked(server, A, count=2) == there(10, 10)
    assert len(server.asked) == 1


def test_found_although_something_else_is_gone() -> None:
    assert looked(Server([*others(5), Stored(A), *others(5)], gone=[8]), A, count=2) == UNSURE
    assert looked(Server([*others(5), Stored(A), *others(5)], gone=[0, 1, 2, 3]), A, count=2) == there(5, 5)


# --- surely not there


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_down_to_the_first_event(count: int) -> None:
    assert looked(Server(others(7)), A, count=count) == ABSENT


@pytest.mark.parametrize("count", [20, 100, 4096])
def test_down_to_many_that_are_surely_older_than_the_call(count: int) -> None:
    server = Server([*others(4000, OLD), *others(5)])
    assert looked(server, A, count=count) == ABSENT
    # No further than that.
    assert sum(question.max_count for question in server.asked) < OLD_EVENTS + 5 + count
    assert looked(Server([*others(MAX_EVENTS), *others(OLD_EVENTS - 1, OLD)]), A, count=count) == UNSURE


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_down_to_the_last_that_is_left_and_older_than_the_call(count: int) -> None:
    assert looked(Server([*others(50, OLD), *others(5)], gone=range(49)), A, count=count) == ABSENT


def test_down_to_a_few_large_ones_that_are_older() -> None:
    server = Server([*others(50, OLD), *others(2)], size=1024 * 1024)
    assert looked(server, A, count=2) == ABSENT
    assert len(server.asked) == 3


@pytest.mark.parametrize("count", [1, 8, 100])
@pytest.mark.parametrize("long", [1, 8, OLD_EVENTS - 1])
def test_a_transaction_that_was_written_before_the_call_and_committed_after_it(long: int, count: int) -> None:
    """Its events are as old as they were when they were written, and lie above ours."""
    server = Server([*others(20, OLD), Stored(A), Stored(B), *others(long, OLD), *others(3)])
    assert looked(server, A, B, count=count) == there(20, 21)


@pytest.mark.parametrize("count", [1, 2, 100])
def test_down_to_the_first_number_where_it_can_be(count: int) -> None:
    server = Server(others(10), gone=range(7))
    look = LookUp("s", [A, B], NOW)
    server.search(look, count)
    assert look.finding([A], 7) == ABSENT
    assert look.finding([B], 6) == look.finding([B]) == UNSURE


def test_not_beyond_the_first_number_where_it_can_be() -> None:
    look = LookUp("s", [A], NOW, floor=MAX_EVENTS)
    server = Server(others(MAX_EVENTS + 9))
    server.search(look, 5)
    assert look.finding([A], MAX_EVENTS) == ABSENT
    assert len(server.asked) == 2


@pytest.mark.parametrize(("older_by", "finding"), [(300, UNSURE), (300.001, ABSENT)])
def test_five_minutes_older(older_by: float, finding: Finding) -> None:
    """For the clocks of two machines differ."""
    assert looked(Server([*others(5), Stored(D, NOW - older_by)], gone=range(5)), A) == finding


def test_where_there_never_was_a_stream() -> None:
    look = LookUp("s", [A], NOW)
    look.not_found(StreamNotFound("s", -1))
    assert look.done
    assert look.finding([A]) == ABSENT


def test_just_at_the_bound_of_what_is_read() -> None:
    assert looked(Server(others(MAX_EVENTS)), A) == ABSENT


# --- not sure


@pytest.mark.parametrize("last_number", [0, 7, None])
def test_a_soft_deleted_stream_hides_what_it_had(last_number: int | None) -> None:
    look = LookUp("s", [A], NOW)
    look.not_found(StreamNotFound("s", last_number))
    assert look.done
    assert look.finding([A]) == UNSURE


def test_what_cannot_be_read() -> None:
    """No master, no access, deleted for ever: it says nothing about what was not found before."""
    server = Server([*others(5), Stored(A), *others(1)])
    look = LookUp("s", [A, B], NOW)
    look.take(server.answer(look, 2))
    assert not look.done
    look.give_up()
    assert look.done
    assert look.finding([A]) == there(5, 5)
    assert look.finding([B]) == UNSURE


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize("gone", [range(1), range(5), range(9)])
def test_a_stream_cut_short(count: int, gone: range) -> None:
    assert looked(Server(others(10), gone=gone), A, count=count) == UNSURE


def test_a_stream_with_nothing_left() -> None:
    assert looked(Server(others(10), gone=range(10)), A) == UNSURE


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize("gone", [0, 1, 4, 5, 8, 9])
def test_a_number_missing_on_the_way(gone: int, count: int) -> None:
    """The very one that is looked for may be missing."""
    server = Server(others(10), gone=[gone])
    server.bound = 0
    assert looked(server, A, count=count) == UNSURE


def test_a_number_missing_before_one_that_is_older() -> None:
    assert looked(Server([*others(5, OLD), *others(5)], gone=[7]), A) == UNSURE


def test_an_event_whose_age_nobody_tells() -> None:
    """No time is none that is surely older."""
    assert looked(Server([*others(5), Stored(D, 0)], gone=range(5)), A) == UNSURE


def test_an_event_of_no_calendar() -> None:
    look = LookUp("s", [A], NOW)
    with pytest.raises(ProtocolError):
        look.take(Server([Stored(D, 300_000_000_000)]).answer(look))
    look.give_up()
    assert look.finding([A]) == UNSURE


@pytest.mark.parametrize(
    ("stored", "ids"),
    [
        pytest.param([A], [A, B], id="the second is missing"),
        pytest.param([B], [A, B], id="the first is missing"),
        pytest.param([A, C], [A, B, C], id="one between is missing"),
        pytest.param([B, A], [A, B], id="another order"),
        pytest.param([A, D, B], [A, B], id="another between"),
        pytest.param([A], [A, A], id="one for two"),
    ],
)
def test_only_some_of_the_ids(stored: list[bytes], ids: list[bytes]) -> None:
    assert looked(Server([*others(3), *map(Stored, stored)]), *ids) == UNSURE


@pytest.mark.parametrize("count", [100, 1000, 4096])
def test_so_many_events_and_no_more(count: int) -> None:
    server = Server(others(MAX_EVENTS + 1))
    assert looked(server, A, count=count) == UNSURE
    assert min(question.max_count for question in server.asked) > 0
    assert sum(question.max_count for question in server.asked) == MAX_EVENTS


def test_the_bounds() -> None:
    assert (MAX_EVENTS, MAX_BYTES) == (4096, 16_777_216)
    assert (OLD_EVENTS, OLD_BYTES) == (512, 4_194_304)


def test_so_many_bytes_and_no_more() -> None:
    server = Server(others(30), size=MAX_BYTES // 16)
    assert looked(server, A, count=4) == UNSURE
    assert len(server.asked) == 4


def test_what_was_found_before_the_bounds_counts() -> None:
    look = LookUp("s", [A, B, C], NOW)
    Server([Stored(A), *others(MAX_EVENTS), Stored(B), Stored(C)]).search(look, 1000)
    assert look.finding([B, C]) == there(MAX_EVENTS + 1, MAX_EVENTS + 2)
    assert look.finding([A]) == UNSURE


# --- how it is asked


def test_backwards_from_the_end_on_the_master_and_with_links_as_they_are() -> None:
    server = Server(others(5))
    looked(server, A, count=3)
    assert server.asked == [
        schema.ReadStreamEvents(
            event_stream_id="s", from_event_number=start, max_count=3, resolve_link_tos=False, require_master=True
        )
        for start in (-1, 1)
    ]


def test_several_appends_in_one_look() -> None:
    look = LookUp("s", [A, B, C, D], NOW)
    server = Server([*others(1), Stored(D), *others(3), Stored(A)])
    server.search(look, 2)
    assert [look.finding(ids) for ids in ([A], [B], [C, D], [D])] == [there(5, 5), ABSENT, UNSURE, there(1, 1)]
    assert len(server.asked) == 3


def test_an_append_of_nothing_is_not_looked_for() -> None:
    look = LookUp("s", [], NOW)
    assert look.done
    assert look.finding([]) == UNSURE


def test_of_nothing_beside_others_nothing_is_known() -> None:
    look = LookUp("s", [A], NOW)
    Server(others(2)).search(look)
    assert look.finding([]) == UNSURE


# --- whatever the stream is like


class History(NamedTuple):
    """All that was ever written, what is gone of it, and the appends that wait."""

    events: list[Stored]
    gone: set[int]
    appends: list[list[bytes]]

    def written(self, event_id: bytes) -> int | None:
        """Its number, were it still there or not."""
        return next((number for number, event in enumerate(self.events) if event.id == event_id), None)


@st.composite
def histories(draw: Callable[..., int]) -> History:
    """A stream into which some of our appends were written, some not, and of some only a part, by somebody else."""
    events: list[Stored] = []
    now = NOW - draw(st.integers(0, 3000))

    def write(*ids: bytes) -> None:
        events.extend(Stored(event_id, now) for event_id in ids)

    for number in range(draw(st.integers(0, 8))):
        write(an_id(number))
        now = min(NOW, now + draw(st.sampled_from([0, 1, 290, 310])))
    # Our calls begin now; the server's clock may be behind ours by nearly five minutes.
    now = NOW - draw(st.integers(0, 299))
    appends: list[list[bytes]] = []
    for number in range(draw(st.integers(1, 4))):
        ids = [an_id(10_000 + 10 * number + each) for each in range(draw(st.integers(1, 3)))]
        appends.append(ids)
        write(*ids[: draw(st.sampled_from([0, len(ids), len(ids), 1]))])
        write(*[an_id(100 + 10 * number + each) for each in range(draw(st.integers(0, 3)))])
        now += draw(st.integers(0, 1000))
    gone = set(range(draw(st.sampled_from([0, 0, 0, 1, len(events) // 2, len(events)]))))
    if events and draw(st.booleans()):
        gone.add(draw(st.integers(0, len(events) - 1)))
    return History(events, gone, appends)


@given(histories(), st.integers(1, 5))
def test_what_is_said_is_true(history: History, count: int) -> None:
    look = LookUp("s", [event_id for ids in history.appends for event_id in ids], NOW)
    if history.events:
        Server(history.events, gone=history.gone).search(look, count)
    else:
        look.not_found(StreamNotFound("s", -1))
    for ids in history.appends:
        written = [history.written(event_id) for event_id in ids]
        finding = look.finding(ids)
        if finding.verdict is Verdict.THERE:
            assert written == list(range(finding.first, finding.last + 1))
        elif finding.verdict is Verdict.ABSENT:
            assert set(written) == {None}
        else:
            # Where nothing is gone, only what was written by half leaves a doubt.
            assert history.gone or None in written
            assert history.gone or set(written) != {None}
