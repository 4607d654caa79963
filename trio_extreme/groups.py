"""Groups of persistent subscriptions: how the server runs one, and what can be said to it about an event."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any

from trio_extreme.errors import InvalidArgument
from trio_extreme.values import END, MAX_NUMBER, Place

if TYPE_CHECKING:
    from trio_extreme.values import StreamPlace

MAX_INT32 = 2**31 - 1


class ConsumerStrategy(StrEnum):
    """Which consumer of a group gets the next event."""

    #: The next in turn that has room.
    ROUND_ROBIN = "RoundRobin"
    #: One until it has no more room, then the next.
    DISPATCH_TO_SINGLE = "DispatchToSingle"
    #: Events of one stream (with links resolved, that of the event and not of the link) go to the same, as long as it
    #: is there. Where it has no more room, they wait, and others go on.
    PINNED = "Pinned"
    #: As PINNED, by `$correlationId` in the event's metadata, where there is one (servers since 20.6).
    PINNED_BY_CORRELATION = "PinnedByCorrelation"


class NakAction(IntEnum):
    """What the server is to do with an event that was not handled."""

    #: Keep it beside, as a link in the group's stream of parked events, until somebody has them replayed.
    PARK = 1
    #: Deliver it again, at once; beyond `max_retry_count` deliveries it is parked instead.
    RETRY = 2
    #: Take it as handled.
    SKIP = 3
    #: Whatever its name says, servers take the event as handled, and stop nothing (docs/protocol.md, pitfall 40).
    STOP = 4


@dataclass(frozen=True, kw_only=True)
class PersistentSettings:
    """How the server runs a group, under the names of the .NET client and with its defaults; times are in seconds.

    What would keep a server from handing out any event, or from answering, raises `InvalidArgument` (docs/protocol.md,
    3.10).
    """

    #: Whether consumers get the events that links stand for.
    resolve_link_tos: bool = False
    #: The first event of a new group, by its number, or START or END; -1 is END too, which is the end at the moment in
    #: which the group is created. Once the group has written a checkpoint, it goes on from there.
    start_from: StreamPlace = END
    #: Within it a consumer has to ack an event that it got; then the event is delivered again. Looked at once a second.
    message_timeout: float = 30.0
    #: Whether the server measures latencies, for its own statistics.
    record_statistics: bool = False
    #: Events that the server keeps while the group has not caught up with its stream.
    live_buffer_size: int = 500
    #: Events that the server reads at a time; less than `buffer_size`.
    read_batch_size: int = 20
    #: Events that the server keeps ready for consumers.
    buffer_size: int = 500
    #: Deliveries of an event after the first; then it is parked.
    max_retry_count: int = 10
    #: How long the server waits at least between two checkpoints, but for `checkpoint_max_count`; 0 for never by time.
    checkpoint_after_time: float = 2.0
    #: Events handled since the last checkpoint, below which time alone brings no other.
    checkpoint_min_count: int = 10
    #: Events handled since the last checkpoint, at which there is another at once.
    checkpoint_max_count: int = 1000
    #: Consumers at the same time; 0 for any number.
    subscriber_max_count: int = 0
    #: Which consumer gets the next event.
    named_consumer_strategy: ConsumerStrategy = ConsumerStrategy.ROUND_ROBIN

    def __post_init__(self) -> None:
        self._check_kinds()
        _check_seconds("message_timeout", self.message_timeout, 0.001, "for no limit give a long one, such as 86400")
        _check_seconds("checkpoint_after_time", self.checkpoint_after_time, 0.0, "0 is never by time alone")
        for name in ("live_buffer_size", "read_batch_size", "buffer_size"):
            _check_count(name, getattr(self, name), 1)
        for name in ("checkpoint_min_count", "checkpoint_max_count"):
            _check_count(name, getattr(self, name), 1)
        for name in ("max_retry_count", "subscriber_max_count"):
            _check_count(name, getattr(self, name), 0)
        self._check_together()

    def _check_kinds(self) -> None:
        for name in ("resolve_link_tos", "record_statistics"):
            if not isinstance(getattr(self, name), bool):
                msg = f"{name}: {getattr(self, name)!r} is neither True nor False"
                raise InvalidArgument(msg)
        start = self.start_from
        is_number = isinstance(start, int) and not isinstance(start, bool) and -1 <= start < MAX_NUMBER
        if not (is_number or isinstance(start, Place)):
            msg = f"start_from: {start!r} is no place in a stream; give an event number from 0 up, START or END"
            raise InvalidArgument(msg)
        try:
            strategy = ConsumerStrategy(self.named_consumer_strategy)
        except ValueError:
            known = ", ".join(ConsumerStrategy)
            msg = f"named_consumer_strategy: {self.named_consumer_strategy!r} is none; there are {known}"
            raise InvalidArgument(msg) from None
        # Whoever gave its text has the member, as the annotation says.
        object.__setattr__(self, "named_consumer_strategy", strategy)

    def _check_together(self) -> None:
        if self.read_batch_size >= self.buffer_size:
            msg = (
                f"read_batch_size: {self.read_batch_size} is not below buffer_size, {self.buffer_size}: servers find no"
                " room for what they would read, and the group gets no events; give a larger buffer_size"
            )
            raise InvalidArgument(msg)
        if self.checkpoint_min_count > self.checkpoint_max_count:
            msg = (
                f"checkpoint_min_count: {self.checkpoint_min_count} is above checkpoint_max_count,"
                f" {self.checkpoint_max_count}, so that it means nothing; give a larger checkpoint_max_count"
            )
            raise InvalidArgument(msg)

    def replace(self, **changes: Any) -> PersistentSettings:
        """The same with some settings changed. Raises `InvalidArgument` as the constructor does."""
        return replace(self, **changes)


def _check_seconds(name: str, value: object, low: float, remedy: str) -> None:
    # The protocol has milliseconds, in 32 bits.
    high = MAX_INT32 / 1000
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        msg = f"{name}: {value!r} is no number of seconds from {low:g} to {high:.0f}; {remedy}"
        raise InvalidArgument(msg)


def _check_count(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= MAX_INT32:
        msg = f"{name}: {value!r} is no whole number from {low} to {MAX_INT32:,}"
        raise InvalidArgument(msg)
