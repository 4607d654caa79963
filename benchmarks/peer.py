"""A canned peer: a process that answers from bytes made beforehand, so that the client's time is what is measured.

Strategy: one stream of equal events, each encoded once, before the port is told. A page is a join of such bytes; live
events are joined *with the correlation id as the separator*, which addresses hundreds of frames in one call. Sockets
block, each connection has a thread, and all that a received chunk asks for is answered in one send.

It is no server: it knows one stream under every name but one, believes every password and stores nothing. Whoever
subscribes is pushed all events, as if they were written at that moment.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import (
    AUTHENTICATED,
    NO_CORRELATION,
    decode_credentials,
    encode_frame,
    encode_head,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

STREAM = "bench"
NEW_STREAM = "bench-new"
"""A stream that nobody has written, until somebody subscribes to it: all events come live, and none can be read."""
STORED_STREAM = "bench-stored"
"""The same stream, to which nothing more is written: who subscribes is pushed nothing."""
SHORT_STREAM = "bench-short"
"""Its first events alone, for many subscriptions at a time: `SHORT` are pushed to each."""
BUSY_STREAM = "bench-busy"
"""All events are pushed, `BUSY_ROUNDS` times, and meanwhile the peer answers what else it is asked."""
GROUP = "workers"
"""A group of that stream, from its first event on: whoever connects is its only consumer."""
EVENT_TYPE = "PersonCreated"
EVENT_SIZE = int(os.environ.get("BENCHMARK_EVENT_SIZE", "256"))
"""Bytes of data in an event of a benchmark."""

_READ_SIZE = 262_144
_PUSH = 512
"""Live events in one send."""
SHORT = _PUSH
BUSY_ROUNDS = 10
"""How often all events are pushed one after another to who subscribes to the busy stream."""
_HEAD = struct.Struct("<iBB16s")
_BEFORE_ID = 6
"""Bytes of a frame before its correlation id."""


def _encode_record(number: int, size: int) -> bytes:
    """One event of the stream; its number stands in its data too, so that no two are the same bytes."""
    return schema.EventRecord(
        event_stream_id=STREAM,
        event_number=number,
        event_id=struct.pack("<QQ", 1, number),
        event_type=EVENT_TYPE,
        data_content_type=0,
        metadata_content_type=0,
        data=number.to_bytes(8, "little") + bytes(size - 8),
        metadata=b"",
        created=637_000_000_000_000_000 + number,
        created_epoch=1_564_403_200_000 + number,
    ).SerializeToString()


def _encode_item(number: int, size: int) -> bytes:
    """One event as an element of a page. It is a repeated field: a join of elements is a page's beginning."""
    page = schema.ReadStreamEventsCompleted()
    page.events.add().event.MergeFromString(_encode_record(number, size))
    return page.SerializeToString()


def _encode_page_end(start: int, count: int, total: int) -> bytes:
    """The fields of a page that follow its events."""
    return schema.ReadStreamEventsCompleted(
        result=schema.ReadStreamEventsCompleted.ReadStreamResult.Success,
        next_event_number=min(start + count, total),
        last_event_number=total - 1,
        is_end_of_stream=start + count >= total,
        last_commit_position=total,
    ).SerializeToString()


def _encode_appeared(number: int, size: int) -> bytes:
    """One event as a live one."""
    appeared = schema.StreamEventAppeared()
    appeared.event.event.MergeFromString(_encode_record(number, size))
    appeared.event.commit_position = appeared.event.prepare_position = number
    return appeared.SerializeToString()


def _encode_handed(number: int, size: int) -> bytes:
    """One event as a group hands it out."""
    handed = schema.PersistentSubscriptionStreamEventAppeared(retryCount=0)
    handed.event.event.MergeFromString(_encode_record(number, size))
    return handed.SerializeToString()


def _split_at_ids(command: Command, payloads: list[bytes]) -> list[bytes]:
    """What stands before, between and after the correlation ids of frames: a join with the id makes them whole."""
    heads = [encode_head(command, NO_CORRELATION, len(payload))[:_BEFORE_ID] for payload in payloads]
    return [before + after for before, after in zip([b"", *payloads], [*heads, b""], strict=True)]


class Stream:
    """The events, encoded before anyone asks, and pages, kept from the first time they were made.

    `on_the_fly` keeps nothing, for events of megabytes: they are made for each page, and never pushed. `only_stored`
    pushes none either, for a great many.
    """

    def __init__(self, total: int, size: int, *, on_the_fly: bool = False, only_stored: bool = False) -> None:
        self._total = total
        self.confirmation = _encode_confirmation(total - 1)
        self._pushes: list[list[bytes]] = []
        self._handed: list[bytes] = []
        self._item: Callable[[int], bytes] = partial(_encode_item, size=size)
        self.page: Callable[[int, int], bytes] = self._join_page
        if not on_the_fly:
            self._item = [_encode_item(number, size) for number in range(total)].__getitem__
        if not on_the_fly and not only_stored:
            appeared = [_encode_appeared(number, size) for number in range(total)]
            live = Command.STREAM_EVENT_APPEARED
            self._pushes = [_split_at_ids(live, appeared[start : start + _PUSH]) for start in range(0, total, _PUSH)]
            self._handed = [_encode_handed(number, size) for number in range(total)]
            self.page = cache(self._join_page)

    def _join_page(self, start: int, count: int) -> bytes:
        items = map(self._item, range(start, min(start + count, self._total)))
        return b"".join([*items, _encode_page_end(start, count, self._total)])

    def handed(self, correlation: bytes, start: int, count: int) -> bytes:
        """The frames of events that a group hands out."""
        command = Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED
        return correlation.join(_split_at_ids(command, self._handed[start : start + count]))

    def pushes(self, correlation: bytes) -> Iterator[bytes]:
        """All events as live ones, many frames at a time."""
        return map(correlation.join, self._pushes)


def _encode_confirmation(last_number: int) -> bytes:
    return schema.SubscriptionConfirmation(last_commit_position=0, last_event_number=last_number).SerializeToString()


_CONFIRMATION = _encode_confirmation(-1)
_GROUP_CONFIRMATION = schema.PersistentSubscriptionConfirmation(
    last_commit_position=0, subscription_id=f"{STREAM}::{GROUP}", last_event_number=-1
).SerializeToString()
_NO_STREAM = schema.ReadStreamEventsCompleted(
    result=schema.ReadStreamEventsCompleted.ReadStreamResult.NoStream,
    next_event_number=-1,
    last_event_number=-1,
    is_end_of_stream=True,
    last_commit_position=0,
).SerializeToString()
_DROPPED = schema.SubscriptionDropped(
    reason=schema.SubscriptionDropped.SubscriptionDropReason.Unsubscribed
).SerializeToString()
_COMPLETED = schema.WriteEventsCompleted(
    result=schema.OperationResult.Success,
    first_event_number=0,
    last_event_number=0,
    prepare_position=1_000,
    commit_position=1_000,
).SerializeToString()
_WRITTEN = encode_head(Command.WRITE_EVENTS_COMPLETED, NO_CORRELATION, len(_COMPLETED))[:_BEFORE_ID], _COMPLETED
"""What stands before and after the correlation id in the answer to every write."""


_CANNED: dict[int, list[tuple[int, bytes]]] = {
    Command.HEARTBEAT_REQUEST: [(Command.HEARTBEAT_RESPONSE, b"")],
    Command.IDENTIFY_CLIENT: [(Command.CLIENT_IDENTIFIED, b"")],
    Command.AUTHENTICATE: [(Command.AUTHENTICATED, b"")],
    Command.UNSUBSCRIBE_FROM_STREAM: [(Command.SUBSCRIPTION_DROPPED, _DROPPED)],
}


class Session:
    """One connection: cuts requests out of what arrives and gathers the answers."""

    def __init__(self, connection: socket.socket, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        # Of a group: the event that is handed out next.
        self._next = 0
        self._sending = threading.Lock()

    def serve(self) -> None:
        """Answer until the client has gone."""
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b""
        with self._connection:
            while chunk := self._receive():
                data = self._answer(data + chunk)

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(_READ_SIZE)
        except OSError:
            return b""

    def _answer(self, data: bytes) -> bytes:
        """Answer every whole request; returns what is left over."""
        answers: list[bytes] = []
        before, after = _WRITTEN
        start = 0
        while len(data) - start >= _HEAD.size:
            length, command, flags, correlation = _HEAD.unpack_from(data, start)
            end = start + 4 + length
            if end > len(data):
                break
            if command == Command.WRITE_EVENTS:
                answers += (before, correlation, after)
            else:
                body = data[start + _HEAD.size : end]
                payload = decode_credentials(body)[1] if flags & AUTHENTICATED else body
                answers += self._answer_other(command, correlation, payload)
            start = end
        self._send(b"".join(answers))
        return data[start:]

    def _send(self, data: bytes) -> None:
        """Send it, unless the client has gone: the next receive finds the end."""
        with self._sending, suppress(OSError):
            self._connection.sendall(data)

    def _answer_other(self, command: int, correlation: bytes, payload: bytes) -> Iterable[bytes]:
        """The bytes that answer what is not a write."""
        if command == Command.READ_STREAM_EVENTS_FORWARD:
            page = self._page(schema.ReadStreamEvents.FromString(payload))
            return encode_head(Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, correlation, len(page)), page
        if command == Command.SUBSCRIBE_TO_STREAM:
            self._subscribe(correlation, schema.SubscribeToStream.FromString(payload).event_stream_id)
            return ()
        if command in {Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION, Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS}:
            return self._answer_consumer(command, correlation, payload)
        if command == Command.PING:
            return (encode_frame(Command.PONG, correlation, payload),)
        return [encode_frame(reply, correlation, body) for reply, body in _CANNED.get(command, ())]

    def _answer_consumer(self, command: int, correlation: bytes, payload: bytes) -> Iterable[bytes]:
        """As many events as the consumer of a group has room for: what it says at first, then what it has acked."""
        answers = []
        if command == Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS:
            room = len(schema.PersistentSubscriptionAckEvents.FromString(payload).processed_event_ids)
        else:
            room = schema.ConnectToPersistentSubscription.FromString(payload).allowed_in_flight_messages
            confirmation = Command.PERSISTENT_SUBSCRIPTION_CONFIRMATION
            answers.append(encode_frame(confirmation, correlation, _GROUP_CONFIRMATION))
        answers.append(self._stream.handed(correlation, self._next, room))
        self._next += room
        return answers

    def _page(self, request: schema.ReadStreamEvents) -> bytes:
        if request.event_stream_id == NEW_STREAM:
            return _NO_STREAM
        return self._stream.page(request.from_event_number, request.max_count)

    def _subscribe(self, correlation: bytes, stream: str) -> None:
        """Confirm a subscription, and push what is new to it."""
        is_stored = stream == STORED_STREAM
        confirmation = self._stream.confirmation if is_stored else _CONFIRMATION
        self._send(encode_frame(Command.SUBSCRIPTION_CONFIRMATION, correlation, confirmation))
        pushes = self._stream.pushes(correlation)
        if stream == BUSY_STREAM:
            busy = chain.from_iterable(self._stream.pushes(correlation) for _ in range(BUSY_ROUNDS))
            threading.Thread(target=self._push, args=(busy,), daemon=True).start()
        elif stream == SHORT_STREAM:
            self._push(islice(pushes, 1))
        elif not is_stored:
            self._push(pushes)

    def _push(self, pushes: Iterator[bytes]) -> None:
        for frames in pushes:
            self._send(frames)


def _accept(listener: socket.socket, stream: Stream) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=Session(connection, stream).serve, daemon=True).start()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer", description=__doc__)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--size", type=int, required=True, help="bytes of data in an event")
    parser.add_argument("--on-the-fly", action="store_true", help="keep nothing; for events of megabytes")
    parser.add_argument("--only-stored", action="store_true", help="nothing is pushed; for a great many events")
    arguments = parser.parse_args()
    stream = Stream(
        arguments.events, arguments.size, on_the_fly=arguments.on_the_fly, only_stored=arguments.only_stored
    )
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, stream), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    # Whoever started this process holds the other end, so it cannot be left behind by one that was killed.
    sys.stdin.buffer.read()


@contextmanager
def running_peer(events: int, size: int, *options: str) -> Iterator[int]:
    """A peer in a process of its own; gives the port it listens on."""
    with running("benchmarks.peer", f"--events={events}", f"--size={size}", *options) as (port, _):
        yield port


@contextmanager
def running(module: str, *options: str) -> Iterator[tuple[int, int]]:
    """A process that prints the port it listens on and ends when nobody holds its input: that port, and its own id."""
    command = [sys.executable, "-m", module, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.stdin.close()


if __name__ == "__main__":
    _main()
