"""What a connection has done, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SubscriptionStatistics:
    """What one subscription holds for its consumer. `stream` is empty for the log of all streams.

    `lag` is how many events of the stream there were beyond what was handed out, when a catch-up subscription last
    heard of it; None where that is not known, as in the log. Of a persistent subscription, `group` is its group,
    `held` how many events were handed out and neither acked nor naked, and `ignored_acks` of how many events an ack or
    nak came to nothing: their connection to the group had ended, or something was said of them before.
    """

    stream: str
    buffered_events: int
    buffered_bytes: int
    lag: int | None = None
    group: str = ""
    held: int = 0
    ignored_acks: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """A connection at one moment.

    `in_flight` counts the requests admitted and not yet answered, `waiting` those that wait for their turn,
    `queued_bytes` what is not yet given to the socket. `stray_frames` are those nobody waited for: mostly answers
    whose caller had gone. `reconnects` is how many sessions followed the first.
    """

    bytes_sent: int
    bytes_received: int
    frames_sent: int
    frames_received: int
    stray_frames: int
    reconnects: int
    in_flight: int
    waiting: int
    queued_bytes: int
    subscriptions: tuple[SubscriptionStatistics, ...]


class Counters:
    """What sessions count, one after another."""

    __slots__ = ("bytes_received", "bytes_sent", "frames_received", "frames_sent", "stray_frames")

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self.frames_sent = 0
        self.frames_received = 0
        self.stray_frames = 0
