"""What is counted, and how it is shown."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict

import pytest

from trio_extreme.statistics import Counters, Statistics, SubscriptionStatistics


def test_counters_begin_at_zero() -> None:
    counters = Counters()
    assert [getattr(counters, name) for name in Counters.__slots__] == [0] * 5


def test_a_counter_nobody_knows_is_a_mistake() -> None:
    with pytest.raises(AttributeError):
        Counters().frames = 1  # type: ignore[attr-defined]


def test_statistics_are_of_one_moment() -> None:
    box = SubscriptionStatistics(stream="", buffered_events=2, buffered_bytes=300, lag=7)
    now = Statistics(
        bytes_sent=1,
        bytes_received=2,
        frames_sent=3,
        frames_received=4,
        stray_frames=5,
        reconnects=6,
        in_flight=7,
        waiting=8,
        queued_bytes=9,
        subscriptions=(box,),
    )
    assert list(asdict(now).values()) == [1, 2, 3, 4, 5, 6, 7, 8, 9, (asdict(box),)]
    with pytest.raises(FrozenInstanceError):
        box.stream = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        now.in_flight = 0  # type: ignore[misc]


def test_of_the_log_nobody_knows_how_far_behind_it_is() -> None:
    assert SubscriptionStatistics("", 0, 0).lag is None
