"""Consumers of a group, and which of them gets the next event (docs/protocol.md, 3.10). Pure."""

from __future__ import annotations

import json
from collections import Counter, deque
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol
from zlib import crc32

from trio_extreme.embedded.records import LINK_TYPE, encode_field, encode_indexed, encode_varint
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.embedded.clients import Client
    from trio_extreme.embedded.records import Record, Resolved

ROUND_ROBIN, DISPATCH_TO_SINGLE = "RoundRobin", "DispatchToSingle"
PINNED, PINNED_BY_CORRELATION = "Pinned", "PinnedByCorrelation"

_BUCKETS = 1024
_RETRIES_TAG = b"\x10"
_PUSHED = Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED


class Message(NamedTuple):
    """An event of a group, on its way to a consumer. It goes by the link's id and number where it came by a link."""

    resolved: Resolved
    #: How often it was delivered before.
    retries: int = 0
    #: Whether it was parked before; its number is one of another stream then.
    is_replayed: bool = False

    @property
    def id(self) -> bytes:
        """What an ack names."""
        return self.resolved.record.id

    @property
    def number(self) -> int:
        """Its number in the group's stream."""
        return self.resolved.record.number

    @property
    def event(self) -> Record | None:
        """The event itself; None behind a dead link."""
        record, is_followed, target = self.resolved
        return target if is_followed else record


class Consumer:
    """One connection to a group. Its window has room for `size` events that are not acked.

    Of two events with the same id the second takes room too, and no ack gives that back: so it is on real servers.
    """

    __slots__ = ("_tells_retries", "client", "correlation", "delivered", "held", "login", "room", "size")

    def __init__(self, client: Client, correlation: bytes, size: int, login: str, *, tells_retries: bool) -> None:
        self.client = client
        self.correlation = correlation
        self.size = size
        #: Whose it is; empty where that is nobody.
        self.login = login
        self.room = size
        #: What it has and did not ack, by the ids to ack.
        self.held: dict[bytes, Message] = {}
        #: How many events it ever got.
        self.delivered = 0
        self._tells_retries = tells_retries

    def __repr__(self) -> str:
        return f"<Consumer {self.client!r}: {len(self.held)} events, room for {self.room}>"

    def push(self, message: Message) -> bool:
        """Send it this event; False where it has no room."""
        if self.room <= 0:
            return False
        self.room -= 1
        self.delivered += 1
        self.held.setdefault(message.id, message)
        self.client.reply(_PUSHED, self.correlation, self._encode(message))
        return True

    def release(self, event_id: bytes) -> None:
        """It has this event no more, if it had it."""
        if self.held.pop(event_id, None) is not None:
            self.room += 1

    def _encode(self, message: Message) -> bytes:
        form = self.client.form
        event = encode_field(1, encode_indexed(message.resolved, form))
        if not self._tells_retries or not (message.retries or form.zeros):
            return event
        return event + _RETRIES_TAG + encode_varint(message.retries)


class Pushed(Enum):
    """What became of an event that was to go to a consumer."""

    SENT = auto()
    #: The one that it must go to has no room; others may have.
    WAITS = auto()
    #: Nobody has room.
    FULL = auto()


class Strategy(Protocol):
    """Which consumer gets the next event."""

    def add(self, consumer: Consumer) -> None:
        """Somebody takes part."""
        ...

    def remove(self, consumer: Consumer) -> None:
        """Somebody does so no more."""
        ...

    def push(self, message: Message) -> Pushed:
        """Send an event to whom it should go to."""
        ...


class RoundRobin:
    """The next consumer in turn that has room."""

    def __init__(self) -> None:
        self._turn: deque[Consumer] = deque()

    def add(self, consumer: Consumer) -> None:
        """See `Strategy`."""
        self._turn.append(consumer)

    def remove(self, consumer: Consumer) -> None:
        """See `Strategy`."""
        self._turn.remove(consumer)

    def push(self, message: Message) -> Pushed:
        """See `Strategy`."""
        for _ in range(len(self._turn)):
            consumer = self._turn[0]
            self._turn.rotate(-1)
            if consumer.push(message):
                return Pushed.SENT
        return Pushed.FULL


class DispatchToSingle(RoundRobin):
    """One consumer until it has no more room, then the next."""

    def push(self, message: Message) -> Pushed:
        """See `Strategy`."""
        for _ in range(len(self._turn)):
            if self._turn[0].push(message):
                return Pushed.SENT
            self._turn.rotate(-1)
        return Pushed.FULL


class Pinned:
    """Events of one source always to the same consumer, as long as it is there.

    Sources share 1024 buckets. Which bucket a source falls into is another one than with real servers, which nobody can
    see but by events that share one.
    """

    def __init__(self, source: Callable[[Message], str]) -> None:
        self._source = source
        self._consumers: list[Consumer] = []
        self._pins: dict[int, Consumer] = {}

    def add(self, consumer: Consumer) -> None:
        """See `Strategy`."""
        self._consumers.append(consumer)

    def remove(self, consumer: Consumer) -> None:
        """See `Strategy`."""
        self._consumers.remove(consumer)
        self._pins = {bucket: other for bucket, other in self._pins.items() if other is not consumer}

    def push(self, message: Message) -> Pushed:
        """See `Strategy`."""
        if all(consumer.room <= 0 for consumer in self._consumers):
            return Pushed.FULL
        bucket = crc32(self._source(message).encode()) % _BUCKETS
        if bucket not in self._pins:
            self._pins[bucket] = self._least_pinned()
        return Pushed.SENT if self._pins[bucket].push(message) else Pushed.WAITS

    def _least_pinned(self) -> Consumer:
        counts = Counter(id(consumer) for consumer in self._pins.values())
        return min(self._consumers, key=lambda consumer: counts[id(consumer)])


def source_stream(message: Message) -> str:
    """The stream that an event is from. Of a link that leads nowhere, or is not followed, the one that it names."""
    record = message.event or message.resolved.record
    if record.type != LINK_TYPE:
        return record.stream
    _, at, stream = record.event.data.decode("utf-8", "replace").partition("@")
    return stream if at else record.stream


def is_link_with_at(record: Record) -> bool:
    """Whether this is a link to a stream of which the name has an @ in it."""
    return record.type == LINK_TYPE and record.event.data.count(b"@") > 1


def source_correlation(message: Message) -> str:
    """What the event's metadata says under `$correlationId`; its stream where that is nothing."""
    if message.event is not None:
        try:
            metadata = json.loads(message.event.event.metadata)
        except (ValueError, RecursionError):
            metadata = None
        correlation = metadata.get("$correlationId") if isinstance(metadata, dict) else None
        if isinstance(correlation, str):
            return correlation
    return source_stream(message)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    ROUND_ROBIN: RoundRobin,
    DISPATCH_TO_SINGLE: DispatchToSingle,
    PINNED: lambda: Pinned(source_stream),
    PINNED_BY_CORRELATION: lambda: Pinned(source_correlation),
}
"""By the names under which clients ask for them."""
