"""What a group hands out, made of many payloads at once: the same as each of them says by itself."""

from __future__ import annotations

from operator import length_hint
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.grouping import handed, id_of
from trio_extreme.events import PersistentEvent
from trio_extreme.operations.handing import HandedEvents, read_handed
from trio_extreme.wire import schema

LEASE = object()


def read(*bodies: bytes) -> HandedEvents:
    events = read_handed(LEASE, bodies)
    assert events is not None
    return events


def payload(number: int, **options: Any) -> bytes:
    return handed(number, **options).SerializeToString()


def of_some(*numbers: int) -> HandedEvents:
    return read(*map(payload, numbers))


def test_as_it_was_stored() -> None:
    (event,) = read(payload(5, data=b"data", retry=3))
    assert (event.number, event.checkpoint, event.data, event.stream) == (5, 5, b"data", "s")
    assert (event.ack_id_bytes, event.id_bytes, event.retry_count, event.lease) == (id_of(5), id_of(5), 3, LEASE)
    assert event.resolved
    assert event.link is None
    assert event.position is None


def test_through_a_link() -> None:
    """Acks and checkpoints are of the link, all else is of what it stands for."""
    _, event, _ = read(payload(1), payload(5, link=2, data=b"target"), payload(3))
    assert (event.stream, event.number, event.data, event.id_bytes) == ("t", 5, b"target", id_of(5))
    assert (event.checkpoint, event.ack_id_bytes) == (2, id_of(2))
    assert event.resolved
    assert event.link is not None
    assert (event.link.stream, event.link.number, event.link.type) == ("s", 2, "$>")


def test_a_link_whose_target_is_gone_is_shown_itself() -> None:
    push = handed(5, link=2)
    push.event.ClearField("event")
    (event,) = read(push.SerializeToString())
    assert (event.stream, event.number, event.type, event.checkpoint) == ("s", 2, "$>", 2)
    assert event.ack_id_bytes == id_of(2)
    assert not event.resolved
    assert event.link is not None


def test_what_is_asked_of_all_at_once() -> None:
    events = read(payload(1), payload(5, link=2), payload(3))
    assert list(events.ids) == [id_of(1), id_of(2), id_of(3)]
    assert list(events.numbers) == [1, 2, 3]
    assert events.by_id == {id_of(1): 1, id_of(2): 2, id_of(3): 3}
    assert events.lease is LEASE


def test_two_with_one_id() -> None:
    events = read(payload(1), payload(2, id=id_of(1)))
    assert (len(events), len(events.by_id)) == (2, 1)


def test_a_part_has_all_that_the_whole_has() -> None:
    events = of_some(0, 1, 2, 3)
    for part in (events[1:3], events.at([1, 2])):
        assert type(part) is HandedEvents
        assert list(part.ids) == [id_of(1), id_of(2)]
        assert part.by_id == {id_of(1): 1, id_of(2): 2}
        assert [event.lease for event in part] == [LEASE] * 2
        assert part == [events[1], events[2]]
    assert len(events.at([])) == 0


def test_how_many_are_left_of_those_that_are_handed_out() -> None:
    events, marks = of_some(0, 1, 2).handing_out()
    for left in (2, 1, 0):
        assert next(events).number == 2 - left
        assert length_hint(marks) == left
    assert next(events, None) is None


def test_none() -> None:
    assert len(read()) == 0


@pytest.mark.parametrize("retries", [(0, 1, 2), (None, None, None), (None, 1, None)])
def test_how_often_each_was_delivered(retries: tuple[int | None, ...]) -> None:
    """Some servers leave out zeros, others all of them; a count belongs to its own event."""
    events = read(*[payload(number, retry=retry) for number, retry in enumerate(retries)])
    assert [event.retry_count for event in events] == list(retries)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\xff",
        payload(7)[:-3],
        payload(7) * 2,
        payload(7, id=b""),
        payload(7, id=bytes(15)),
        schema.PersistentSubscriptionStreamEventAppeared(event=schema.ResolvedIndexedEvent()).SerializeToString(),
        # A link that is none.
        b"\x0a\x06\x12\x04\xff\xff\xff\xff",
    ],
    ids=["nothing", "garbage", "cut short", "two", "no id", "short id", "no event", "a link that is none"],
)
def test_what_is_none(wrong: bytes) -> None:
    assert read_handed(LEASE, [payload(1), wrong, payload(2)]) is None


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_garbage_is_no_more_than_refused(bodies: list[bytes]) -> None:
    events = read_handed(LEASE, bodies)
    assert events is None or all(isinstance(event, PersistentEvent) for event in events)


EACH = st.tuples(
    st.integers(0, 2**62),
    st.none() | st.integers(0, 2**62),
    st.binary(max_size=20),
    st.binary(min_size=16, max_size=16),
    st.none() | st.integers(0, 9),
)


@given(st.lists(EACH, max_size=6))
def test_many_are_what_each_is(each: list[tuple[int, int | None, bytes, bytes, int | None]]) -> None:
    pushes = [
        handed(number, link=None, data=data, id=event_id, retry=retry) for number, _, data, event_id, retry in each
    ]
    for push, (_, link, *_) in zip(pushes, each, strict=True):
        if link is not None:
            push.event.link.CopyFrom(schema.EventRecord(event_number=link, event_id=bytes(16), event_type="$>"))
    events = read(*[push.SerializeToString() for push in pushes])
    for event, push in zip(events, pushes, strict=True):
        assert (event.number, event.data, event.id_bytes) == (
            push.event.event.event_number,
            push.event.event.data,
            push.event.event.event_id,
        )
        named = push.event.link if push.event.HasField("link") else push.event.event
        assert (event.checkpoint, event.ack_id_bytes) == (named.event_number, named.event_id)
        assert event.retry_count == (push.retryCount if push.HasField("retryCount") else None)
