"""Filtered reads and subscriptions: what is sent, and each result of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.answers import record
from trio_extreme.errors import (
    AccessDenied,
    BadRequest,
    InvalidArgument,
    NotAuthenticated,
    ProtocolError,
    ServerError,
    TrioExtremeError,
    Unsupported,
)
from trio_extreme.events import LogEvent
from trio_extreme.filters import Filter
from trio_extreme.operations.base import AskAgain, Resend
from trio_extreme.operations.filtering import (
    CHECKPOINT_INTERVAL,
    AskWhetherFiltered,
    FilteredPages,
    ReadFiltered,
    ReadSifted,
    Sieve,
    SubscribeFiltered,
    read_checkpoint,
)
from trio_extreme.operations.subscribing import Confirmation
from trio_extreme.values import Position
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.operations.reading import LogPage

Context, Kind = schema.Filter.FilterContext, schema.Filter.FilterType
Result = schema.FilteredReadAllEventsCompleted.FilteredReadAllResult

ORDERS = Filter.by_stream("order-", "customer-")
FORWARD = FilteredPages(ORDERS, backwards=False, resolve_links=False, require_master=True)
BACKWARD = FilteredPages(ORDERS, backwards=True, resolve_links=True, require_master=False)
PLACE = Position(10, 9)


def page(
    *places: int, following: int, end: bool = False, result: int = Result.Success, streams: str = "order-"
) -> schema.FilteredReadAllEventsCompleted:
    return schema.FilteredReadAllEventsCompleted(
        commit_position=10,
        prepare_position=9,
        events=[event_at(place, f"{streams}{place}") for place in places],
        next_commit_position=following,
        next_prepare_position=0,
        is_end_of_stream=end,
        result=result,
        error="why",
    )


def event_at(place: int, stream: str, type: str = "happened") -> schema.ResolvedEvent:
    return schema.ResolvedEvent(
        event=record(0, stream=stream, type=type), commit_position=place, prepare_position=place
    )


def read(answer: Any, *, count: int = 50) -> LogPage:
    return FORWARD.request(PLACE, count, by_server=True).read(answer.SerializeToString())


# --- what is sent


def test_a_filtered_read() -> None:
    assert schema.FilteredReadAllEvents.FromString(FORWARD.request(PLACE, 50, by_server=True).payload()) == (
        schema.FilteredReadAllEvents(
            commit_position=10,
            prepare_position=9,
            max_count=50,
            # As many are wanted: of a transaction behind them some servers would skip what is left.
            max_search_window=50,
            resolve_link_tos=False,
            require_master=True,
            filter=schema.Filter(context=Context.StreamId, type=Kind.Prefix, data=["order-", "customer-"]),
        )
    )
    asked = schema.FilteredReadAllEvents.FromString(BACKWARD.request(Position(-1, -1), 5, by_server=True).payload())
    assert (asked.commit_position, asked.resolve_link_tos, asked.require_master) == (-1, True, False)


@pytest.mark.parametrize(
    ("filter", "context", "kind", "data"),
    [
        (ORDERS, Context.StreamId, Kind.Prefix, ["order-", "customer-"]),
        (Filter.by_type("A"), Context.EventType, Kind.Prefix, ["A"]),
        (Filter.by_stream(regex="^a|b"), Context.StreamId, Kind.Regex, ["^a|b"]),
        (Filter.exclude_system(), Context.EventType, Kind.Regex, [r"^[^\$].*"]),
    ],
)
def test_filters_on_the_wire(filter: Filter, context: int, kind: int, data: list[str]) -> None:
    operation = SubscribeFiltered(filter, resolve_links=True)
    expected = schema.FilteredSubscribeToStream(
        event_stream_id="",
        resolve_link_tos=True,
        filter=schema.Filter(context=context, type=kind, data=data),
        checkpoint_interval=CHECKPOINT_INTERVAL,
    )
    # The empty name is written: servers that miss it refuse access (docs/protocol.md, 2.4).
    assert operation.payload() == expected.SerializeToString()
    assert operation.payload().startswith(b"\x0a\x00")


def test_where_the_server_does_not_filter_all_events_are_asked_for() -> None:
    operation = FORWARD.request(PLACE, 50, by_server=False)
    assert schema.ReadAllEvents.FromString(operation.payload()) == schema.ReadAllEvents(
        commit_position=10, prepare_position=9, max_count=50, resolve_link_tos=False, require_master=True
    )


def test_commands() -> None:
    operations: list[Any] = [
        FORWARD.request(PLACE, 1, by_server=True),
        BACKWARD.request(PLACE, 1, by_server=True),
        FORWARD.request(PLACE, 1, by_server=False),
        BACKWARD.request(PLACE, 1, by_server=False),
        AskWhetherFiltered(),
        SubscribeFiltered(ORDERS, resolve_links=False),
    ]
    assert [(int(each.command), int(each.answer)) for each in operations] == [
        (0xBA, 0xBB),
        # Not 0xBD: pitfall 35.
        (0xBC, 0xBE),
        (0xB6, 0xB7),
        (0xB8, 0xB9),
        (0xBA, 0xBB),
        (0xD2, 0xC1),
    ]
    assert {each.resend for each in operations} == {Resend.AGAIN}


# --- pages of a server that filters


def test_a_page() -> None:
    answer = page(20, 30, following=40)
    found = FORWARD.request(PLACE, 50, by_server=True).decide(
        Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED, answer.SerializeToString()
    )
    assert [type(event) for event in found.events] == [LogEvent, LogEvent]
    assert [event.position.commit for event in found.events] == [20, 30]
    assert (found.next, found.is_end, found.at) == (Position(40, 0), False, PLACE)
    assert (found.size, found.passed, found.sifted) == (len(answer.SerializeToString()), 48, 0)


def test_nothing_matches_and_it_is_not_the_end() -> None:
    """Pitfall 29: the next page begins behind what was looked through."""
    found = read(page(following=900))
    assert (len(found.events), found.next, found.is_end, found.passed) == (0, Position(900, 0), False, 50)


@pytest.mark.parametrize("places", [(), (20, 30)])
def test_the_end_is_what_the_server_says(places: tuple[int, ...]) -> None:
    """How much was looked through is not known there."""
    found = read(page(*places, following=900, end=True))
    assert (len(found.events), found.next, found.is_end, found.passed) == (len(places), Position(900, 0), True, 0)


def test_a_page_that_is_full() -> None:
    assert read(page(20, 30, following=40), count=2).passed == 0


def test_a_page_that_does_not_move_is_the_end() -> None:
    """Behind the last event there may be records that are none."""
    answer = page(following=10)
    answer.next_prepare_position = 9
    assert read(answer).is_end
    # That our place is where the next event may be is nothing that a server knows.
    operation = FORWARD.request(Position(10, 9, inclusive=True), 50, by_server=True)
    assert operation.read(answer.SerializeToString()).is_end


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (page(20, following=10), "no progress"),
        (page(*range(20, 71), following=90), "51 events to who asked for 50"),
        (page(following=-1, result=1), "result 1, which no server sends"),
        (page(following=-1, result=77), "result 77"),
    ],
)
def test_what_no_server_sends(answer: Any, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        read(answer)


def test_backwards() -> None:
    operation = BACKWARD.request(Position(-1, -1), 50, by_server=True)
    found = operation.read(page(30, 20, following=20).SerializeToString())
    assert (found.next, found.is_end) == (Position(20, 0), False)
    down = BACKWARD.request(Position(20, 0), 50, by_server=True)
    assert not down.read(page(following=11).SerializeToString()).is_end
    assert down.read(page(following=20).SerializeToString()).is_end
    with pytest.raises(ProtocolError, match="no progress"):
        down.read(page(30, following=25).SerializeToString())


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [(Result.AccessDenied, AccessDenied, r"read the log of all streams \(\$all\)"), (Result.Error, ServerError, "why")],
)
@pytest.mark.parametrize("pages", [FORWARD, BACKWARD], ids=["forward", "backward"])
def test_refusals(pages: FilteredPages, result: int, error: type[TrioExtremeError], text: str) -> None:
    """They come as they should, or as if there were no filter: pitfall 34."""
    operation = pages.request(PLACE, 50, by_server=True)
    with pytest.raises(error, match=text):
        operation.decide(operation.answer, page(following=-1, result=result).SerializeToString())
    plain = {FORWARD: 0xB7, BACKWARD: 0xB9}[pages]
    done = schema.ReadAllEventsCompleted(next_commit_position=-1, next_prepare_position=-1, result=result, error="why")
    with pytest.raises(error, match=text):
        operation.decide(plain, done.SerializeToString())


@pytest.mark.parametrize("command", [0xB7, 0xB9, 0xBD])
def test_a_page_without_a_filter_is_no_answer(command: int) -> None:
    done = schema.ReadAllEventsCompleted(next_commit_position=40, next_prepare_position=40)
    with pytest.raises(ProtocolError, match="came as the answer to FILTERED_READ_ALL_EVENTS_FORWARD"):
        FORWARD.request(PLACE, 50, by_server=True).decide(command, done.SerializeToString())


def test_a_bad_expression_is_not_a_server_that_lacks_filters() -> None:
    operation = FORWARD.request(PLACE, 50, by_server=True)
    text = "Could not unwrap network package for command {}.\nInvalid pattern"
    with pytest.raises(BadRequest, match="Invalid pattern"):
        operation.decide(Command.BAD_REQUEST, text.format("FilteredReadAllEventsForward").encode())
    with pytest.raises(Unsupported):
        operation.decide(Command.BAD_REQUEST, text.format(186).encode())


# --- pages that are sifted here


def whole_page(*events: schema.ResolvedEvent, following: int) -> schema.ReadAllEventsCompleted:
    return schema.ReadAllEventsCompleted(
        commit_position=10, prepare_position=9, events=events, next_commit_position=following, next_prepare_position=0
    )


def sift(pages: FilteredPages, answer: Any) -> LogPage:
    operation = pages.request(PLACE, 50, by_server=False)
    return operation.decide(operation.answer, answer.SerializeToString())


def test_a_page_that_is_sifted() -> None:
    answer = whole_page(
        event_at(20, "order-1"), event_at(30, "other"), event_at(40, "customer-1"), event_at(50, "x"), following=60
    )
    found = sift(FORWARD, answer)
    assert [event.stream for event in found.events] == ["order-1", "customer-1"]
    assert [type(event) for event in found.events] == [LogEvent, LogEvent]
    assert (found.next, found.is_end, found.at) == (Position(60, 0), False, PLACE)
    assert (found.size, found.passed, found.sifted) == (len(answer.SerializeToString()), 2, 2)


def test_a_page_of_which_nothing_is_left_is_not_the_end() -> None:
    found = sift(FORWARD, whole_page(event_at(20, "other"), following=30))
    assert (len(found.events), found.next, found.is_end) == (0, Position(30, 0), False)
    assert sift(FORWARD, whole_page(following=10)).is_end


def test_of_links_the_link_counts() -> None:
    """As for servers: the filter applies to the record itself, resolved or not."""
    target, link = record(3, stream="order-1"), record(0, stream="links", type="$>")
    resolved = schema.ResolvedEvent(event=target, link=link)
    dangling = schema.ResolvedEvent(link=link)
    plain = schema.ResolvedEvent(event=link)
    assert Sieve(Filter.by_stream("order-"))([resolved, dangling, plain]) == []
    assert Sieve(Filter.by_stream("links"))([resolved, dangling, plain]) == [resolved, dangling, plain]
    assert Sieve(Filter.by_type("$>"))([resolved, dangling, plain]) == [resolved, dangling, plain]
    assert Sieve(Filter.by_type("happened"))([resolved, dangling, plain]) == []


def test_the_same_limits_as_without_a_filter() -> None:
    with pytest.raises(ProtocolError, match="51 events to who asked for 50"):
        sift(FORWARD, whole_page(*[event_at(place, "x") for place in range(20, 71)], following=90))
    with pytest.raises(ProtocolError, match="no progress"):
        sift(BACKWARD, whole_page(event_at(5, "x"), following=15))
    with pytest.raises(AccessDenied):
        sift(FORWARD, schema.ReadAllEventsCompleted(result=Result.AccessDenied))


def test_an_expression_that_python_cannot_read_is_only_refused_where_it_must() -> None:
    pages = FilteredPages(Filter.by_type(regex=r"\p{Lu}"), backwards=False, resolve_links=False, require_master=False)
    assert isinstance(pages.request(PLACE, 1, by_server=True), ReadFiltered)
    with pytest.raises(InvalidArgument, match=r"^regex: "):
        pages.request(PLACE, 1, by_server=False)
    assert isinstance(FORWARD.request(PLACE, 1, by_server=False), ReadSifted)


# --- whether the server filters


def test_the_question_is_cheap() -> None:
    """One event at most, behind the last there is."""
    asked = schema.FilteredReadAllEvents.FromString(AskWhetherFiltered().payload())
    assert (asked.commit_position, asked.prepare_position) == (-1, -1)
    assert (asked.max_count, asked.max_search_window) == (1, 1)
    assert asked.filter == schema.Filter(context=Context.StreamId, type=Kind.Prefix, data=["$"])


@pytest.mark.parametrize(
    ("command", "payload", "answer"),
    [
        (0xBB, page(following=10, end=True).SerializeToString(), True),
        (0xBB, page(following=-1, result=Result.AccessDenied).SerializeToString(), True),
        (0xB7, schema.ReadAllEventsCompleted(result=Result.AccessDenied).SerializeToString(), True),
        (0xF0, b"Could not unwrap network package for command 186.\n", False),
        (0xF0, b"whatever", False),
    ],
)
def test_what_its_answers_say(command: int, payload: bytes, answer: bool) -> None:
    assert AskWhetherFiltered().decide(command, payload) is answer


def test_what_its_answers_do_not_say() -> None:
    for command, payload, error in (
        (0xF4, b"Not Authenticated", NotAuthenticated),
        (0xF1, b"", AskAgain),
        (0xBB, b"garbage", ProtocolError),
        (0xB9, b"", ProtocolError),
    ):
        with pytest.raises(error):
            AskWhetherFiltered().decide(command, payload)


# --- checkpoints


def test_a_checkpoint_is_inclusive() -> None:
    """Its place may be that of an event, of the last one that was looked at or of one to come (KurrentDB#4970)."""
    reached = schema.CheckpointReached(commit_position=50, prepare_position=40)
    assert read_checkpoint(reached.SerializeToString()) == Position(50, 40, inclusive=True)
    with pytest.raises(ProtocolError, match="no CheckpointReached"):
        read_checkpoint(b"\xff")


def test_a_subscription_is_confirmed_as_any_other() -> None:
    operation = SubscribeFiltered(ORDERS, resolve_links=False)
    confirmation = schema.SubscriptionConfirmation(last_commit_position=7, last_event_number=0)
    assert operation.decide(0xC1, confirmation.SerializeToString()) == Confirmation(7, None)
    with pytest.raises(AccessDenied):
        operation.decide(Command.SUBSCRIPTION_DROPPED, schema.SubscriptionDropped(reason=1).SerializeToString())
    with pytest.raises(Unsupported):
        operation.decide(Command.BAD_REQUEST, b"Could not unwrap network package for command 210.\n")
