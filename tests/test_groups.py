"""Settings of groups: the defaults of the .NET client, what is refused, and how an error says so."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from trio_extreme import END, START, ConsumerStrategy, InvalidArgument, PersistentSettings

# docs/protocol.md, 3.10.
DEFAULTS = {
    "resolve_link_tos": False,
    "start_from": END,
    "message_timeout": 30.0,
    "record_statistics": False,
    "live_buffer_size": 500,
    "read_batch_size": 20,
    "buffer_size": 500,
    "max_retry_count": 10,
    "checkpoint_after_time": 2.0,
    "checkpoint_min_count": 10,
    "checkpoint_max_count": 1000,
    "subscriber_max_count": 0,
    "named_consumer_strategy": ConsumerStrategy.ROUND_ROBIN,
}
POSITIVE = ["live_buffer_size", "read_batch_size", "buffer_size", "checkpoint_min_count", "checkpoint_max_count"]
COUNTS = ["max_retry_count", "subscriber_max_count"]
SECONDS = ["message_timeout", "checkpoint_after_time"]


def refuse(message: str, **settings: Any) -> None:
    """Both by the constructor and by `replace`; the error begins with the name of the argument."""
    for make in (PersistentSettings, PersistentSettings().replace):
        with pytest.raises(InvalidArgument, match=f"^{message}"):
            make(**settings)


def test_defaults() -> None:
    settings = PersistentSettings()
    assert {field.name: getattr(settings, field.name) for field in fields(PersistentSettings)} == DEFAULTS


def test_frozen_and_replaceable() -> None:
    settings = PersistentSettings(max_retry_count=2)
    with pytest.raises(FrozenInstanceError):
        settings.max_retry_count = 3  # type: ignore[misc]
    assert settings.replace(buffer_size=50) == PersistentSettings(max_retry_count=2, buffer_size=50)


@pytest.mark.parametrize("name", POSITIVE + COUNTS)
@pytest.mark.parametrize("value", [-1, 1.5, "1", None, True, 2**31])
def test_counts_are_whole_numbers(name: str, value: Any) -> None:
    refuse(f"{name}: {value!r} is no whole number", **{name: value})


@pytest.mark.parametrize("name", POSITIVE)
def test_counts_that_cannot_be_zero(name: str) -> None:
    refuse(f"{name}: 0 is no whole number from 1 ", **{name: 0})


@pytest.mark.parametrize("name", COUNTS)
def test_counts_that_can_be_zero(name: str) -> None:
    assert getattr(PersistentSettings(**{name: 0}), name) == 0


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [-1, -0.1, float("nan"), float("inf"), "1", None, True, 2_147_484])
def test_times_are_seconds_that_fit_the_protocol(name: str, value: Any) -> None:
    refuse(f"{name}: {value!r} is no number of seconds", **{name: value})


def test_no_time_to_ack_is_refused() -> None:
    """Old servers take it for no limit, those from 20.6 let every event time out at once: pitfall 41."""
    refuse(r"message_timeout: 0 is no number of seconds from 0.001 .*such as 86400", message_timeout=0)
    assert PersistentSettings(message_timeout=86400).message_timeout == 86400


def test_no_checkpoint_by_time() -> None:
    assert PersistentSettings(checkpoint_after_time=0).checkpoint_after_time == 0


@pytest.mark.parametrize("start", [-1, 0, 7, START, END])
def test_places_to_start_from(start: Any) -> None:
    assert PersistentSettings(start_from=start).start_from == start


@pytest.mark.parametrize("start", [-2, 2**63 - 1, 1.0, "0", None, True])
def test_what_is_no_place(start: Any) -> None:
    refuse(r"start_from: .* is no place in a stream", start_from=start)


@pytest.mark.parametrize("name", ["resolve_link_tos", "record_statistics"])
def test_flags(name: str) -> None:
    refuse(f"{name}: 1 is neither True nor False", **{name: 1})


@pytest.mark.parametrize(("batch", "buffer"), [(20, 20), (21, 20), (1, 1)])
def test_a_buffer_that_holds_no_batch(batch: int, buffer: int) -> None:
    """No event would ever come, or no answer: KurrentDB#1313, pitfall 42."""
    refuse(
        f"read_batch_size: {batch} is not below buffer_size, {buffer}: .*larger buffer_size",
        read_batch_size=batch,
        buffer_size=buffer,
    )


def test_a_buffer_that_just_holds_a_batch() -> None:
    PersistentSettings(read_batch_size=19, buffer_size=20)


def test_checkpoints_at_least_and_at_most() -> None:
    refuse(
        "checkpoint_min_count: 11 is above checkpoint_max_count, 10",
        checkpoint_min_count=11,
        checkpoint_max_count=10,
    )
    PersistentSettings(checkpoint_min_count=1, checkpoint_max_count=1)


def test_strategies() -> None:
    for strategy in ConsumerStrategy:
        # By their names too, and what comes back is the member.
        settings = PersistentSettings(named_consumer_strategy=strategy.value)  # type: ignore[arg-type]
        assert settings.named_consumer_strategy is strategy
    known = "RoundRobin, DispatchToSingle, Pinned, PinnedByCorrelation"
    for unknown in ("roundrobin", "", None):
        refuse(f"named_consumer_strategy: {unknown!r} is none; there are {known}", named_consumer_strategy=unknown)
