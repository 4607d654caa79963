"""The ruler: the least that a Trio program does for the same work, without the library.

One `trio.SocketStream`, one task, frames cut by `struct`, protobuf, and a look at each event's number and data. No
correlation, no queues, no time limits, no errors told apart: whatever a client costs above this is the price of being
one. It stands on Trio's streams and not on blocking sockets because this is the floor of a Trio program; what Trio
itself costs is shown by `append_blocking`, and what tasks cost by `append_by_tasks`, both for information.

A ratio says something only while its ruler stays the same: this file is changed in commits of its own.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import deque
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import TYPE_CHECKING

import trio

from benchmarks.peer import EVENT_SIZE, EVENT_TYPE, GROUP, SHORT, SHORT_STREAM, STREAM
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message

PAGE_SIZE = 500
WINDOW = 100
"""Appends under way at a time where they are pipelined."""

BATCH = 500
"""Events in an append, where they are appended many at a time."""

IN_FLIGHT = 500
"""Events of a group that may be on their way, or not acked yet."""

_READ_SIZE = 262_144
_HEAD = struct.Struct("<iB")
_HEAD_SIZE = 22
_REQUEST = struct.Struct("<iBBQQ")
_CREDENTIALS = b"\x05admin\x08changeit"
_DATA = bytes(EVENT_SIZE)
_ANY = -2
_WRITE = 0x82
_READ = 0xB2
_SUBSCRIBE = 0xC0
_APPEARED = 0xC2
_CONNECT = 0xC5
_HANDED = 0xC7
_ACK = 0xCC


class Frames:
    """Cuts what a stream brings into frames; one that comes in parts is joined once, when it is whole."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._parts: list[bytes | bytearray] = []
        self._have = 0
        self._need = _HEAD_SIZE

    async def receive(self) -> list[tuple[int, bytes]]:
        """Command and payload of the frames that the next chunks complete; none where only a head did."""
        while self._have < self._need:
            chunk = await self._stream.receive_some(_READ_SIZE)
            if not chunk:
                raise EOFError
            self._parts.append(chunk)
            self._have += len(chunk)
        return self._cut(b"".join(self._parts))

    async def receive_one(self) -> bytes:
        """The payload of the one frame that is awaited."""
        while not (frames := await self.receive()):
            pass
        return frames[0][1]

    def _cut(self, data: bytes) -> list[tuple[int, bytes]]:
        frames = []
        start, size, need = 0, len(data), _HEAD_SIZE
        while size - start >= _HEAD_SIZE:
            length, command = _HEAD.unpack_from(data, start)
            end = start + 4 + length
            if end > size:
                need = end - start
                break
            frames.append((command, data[start + _HEAD_SIZE : end]))
            start = end
        self._parts, self._have, self._need = [data[start:]], size - start, need
        return frames


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[trio.SocketStream, Frames]]:
    """A connection to the peer, which asks for no identification."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    assert isinstance(stream, trio.SocketStream)
    async with stream:
        yield stream, Frames(stream)


def _encode(command: int, number: int, message: Message) -> bytes:
    """A request with credentials; its number is its correlation id."""
    payload = message.SerializeToString()
    length = 18 + len(_CREDENTIALS) + len(payload)
    return _REQUEST.pack(length, command, 1, 0, number) + _CREDENTIALS + payload


def _new_event() -> schema.NewEvent:
    """One of many. What is appended alone is made where it is sent: a call for it would slow down the ruler."""
    return schema.NewEvent(
        event_id=os.urandom(16),
        event_type=EVENT_TYPE,
        data_content_type=0,
        metadata_content_type=0,
        data=_DATA,
        metadata=b"",
    )


def _encode_append(number: int) -> bytes:
    event = schema.NewEvent(
        event_id=os.urandom(16),
        event_type=EVENT_TYPE,
        data_content_type=0,
        metadata_content_type=0,
        data=_DATA,
        metadata=b"",
    )
    request = schema.WriteEvents(event_stream_id=STREAM, expected_version=_ANY, events=[event], require_master=False)
    return _encode(_WRITE, number, request)


def _encode_batch(number: int) -> bytes:
    events = [_new_event() for _ in range(BATCH)]
    request = schema.WriteEvents(event_stream_id=STREAM, expected_version=_ANY, events=events, require_master=False)
    return _encode(_WRITE, number, request)


def _check_written(payload: bytes) -> None:
    if schema.WriteEventsCompleted.FromString(payload).result:
        raise ValueError(payload)


def check_all(events: int, numbers: int, size: int) -> None:
    """That every event was seen once: the sum of the numbers and of the sizes of data."""
    assert (numbers, size) == (events * (events - 1) // 2, events * EVENT_SIZE)


async def _take_pushed(frames: Frames, events: int) -> tuple[int, int]:
    """The sum of the numbers, and of the sizes of data, of so many live events."""
    seen = numbers = size = 0
    while seen < events:
        for command, payload in await frames.receive():
            if command == _APPEARED:
                record = schema.StreamEventAppeared.FromString(payload).event.event
                numbers += record.event_number
                size += len(record.data)
                seen += 1
    return numbers, size


async def live(port: int, events: int) -> float:
    """Seconds to receive so many live events, each in a frame of its own."""
    async with connected(port) as (stream, frames):
        began = time.perf_counter()
        request = schema.SubscribeToStream(event_stream_id=STREAM, resolve_link_tos=True)
        await stream.send_all(_encode(_SUBSCRIBE, 1, request))
        numbers, size = await _take_pushed(frames, events)
        took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def acked(port: int, events: int) -> float:
    """Seconds to receive so many events of a group and to ack each: those that came together, in one frame."""
    async with connected(port) as (stream, frames):
        began = time.perf_counter()
        request = schema.ConnectToPersistentSubscription(
            subscription_id=GROUP, event_stream_id=STREAM, allowed_in_flight_messages=IN_FLIGHT
        )
        await stream.send_all(_encode(_CONNECT, 1, request))
        seen = numbers = size = 0
        while seen < events:
            ids = []
            for command, payload in await frames.receive():
                if command == _HANDED:
                    record = schema.PersistentSubscriptionStreamEventAppeared.FromString(payload).event.event
                    numbers += record.event_number
                    size += len(record.data)
                    ids.append(record.event_id)
            if ids:
                ack = schema.PersistentSubscriptionAckEvents(
                    subscription_id=f"{STREAM}::{GROUP}", processed_event_ids=ids
                )
                await stream.send_all(_encode(_ACK, 1, ack))
                seen += len(ids)
        took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def pages(port: int, events: int) -> float:
    """Seconds to read so many events in pages, each asked for when the one before was looked at."""
    async with connected(port) as (stream, frames):
        began = time.perf_counter()
        numbers = size = 0
        for start in range(0, events, PAGE_SIZE):
            request = schema.ReadStreamEvents(
                event_stream_id=STREAM,
                from_event_number=start,
                max_count=PAGE_SIZE,
                resolve_link_tos=True,
                require_master=False,
            )
            await stream.send_all(_encode(_READ, start + 1, request))
            page = schema.ReadStreamEventsCompleted.FromString(await frames.receive_one())
            for item in page.events:
                record = item.event
                numbers += record.event_number
                size += len(record.data)
        took = time.perf_counter() - began
    check_all(events, numbers, size)
    return took


async def live_to_many(port: int, events: int) -> float:
    """Seconds to receive so many live events of as many subscriptions as there are `SHORT` in them."""
    async with connected(port) as (stream, frames):
        began = time.perf_counter()
        request = schema.SubscribeToStream(event_stream_id=SHORT_STREAM, resolve_link_tos=True)
        subscriptions = events // SHORT
        await stream.send_all(b"".join([_encode(_SUBSCRIBE, number + 1, request) for number in range(subscriptions)]))
        numbers, size = await _take_pushed(frames, subscriptions * SHORT)
        took = time.perf_counter() - began
    assert (numbers, size) == (subscriptions * SHORT * (SHORT - 1) // 2, subscriptions * SHORT * EVENT_SIZE)
    return took


async def append_batches(port: int, events: int) -> float:
    """Seconds for appends of `BATCH` events each, one after the other, so many events in all."""
    async with connected(port) as (stream, frames):
        began = time.perf_counter()
        for number in range(events // BATCH):
            await stream.send_all(_encode_batch(number))
            _check_written(await frames.receive_one())
        return time.perf_counter() - began


async def append_pipelined(port: int, appends: int) -> float:
    """Seconds for so many appends of one event, `WINDOW` under way: the answers that come make room for more."""
    async with connected(port) as (stream, frames):
        began = time.perf_counter()
        sent = min(WINDOW, appends)
        await stream.send_all(b"".join(map(_encode_append, range(sent))))
        answered = 0
        while answered < appends:
            replies = await frames.receive()
            for _, payload in replies:
                _check_written(payload)
            answered += len(replies)
            more = range(sent, min(answered + WINDOW, appends))
            if more:
                await stream.send_all(b"".join(map(_encode_append, more)))
                sent = more.stop
        return time.perf_counter() - began


class _Waiting:
    """A task that waits for its answer."""

    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer = b""


async def append_by_tasks(port: int, appends: int) -> float:
    """`append_pipelined` by `WINDOW` tasks on one connection, as a program has them: what so much waiting costs."""
    async with connected(port) as (stream, frames), trio.open_nursery() as service:
        outbox, requests = trio.open_memory_channel[bytes](inf)
        waiting: deque[_Waiting] = deque()
        service.start_soon(_send_joined, requests, stream)
        service.start_soon(_wake, frames, waiting)
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(WINDOW):
                nursery.start_soon(_append_and_wait, outbox, waiting, appends // WINDOW)
        took = time.perf_counter() - began
        service.cancel_scope.cancel()
    return took


async def _append_and_wait(outbox: trio.MemorySendChannel[bytes], waiting: deque[_Waiting], appends: int) -> None:
    for number in range(appends):
        own = _Waiting()
        waiting.append(own)
        outbox.send_nowait(_encode_append(number))
        await own.answered.wait()
        _check_written(own.answer)


async def _send_joined(requests: trio.MemoryReceiveChannel[bytes], stream: trio.SocketStream) -> None:
    async for request in requests:
        batch = [request]
        with suppress(trio.WouldBlock):
            while True:
                batch.append(requests.receive_nowait())
        await stream.send_all(b"".join(batch))


async def _wake(frames: Frames, waiting: deque[_Waiting]) -> None:
    """Give out the answers; they come in the order of the requests."""
    while True:
        for _, payload in await frames.receive():
            first = waiting.popleft()
            first.answer = payload
            first.answered.set()


async def append_in_turn(port: int, appends: int) -> float:
    """Seconds for so many appends of one event, each sent when the one before was answered."""
    async with connected(port) as (stream, frames):
        began = time.perf_counter()
        for number in range(appends):
            await stream.send_all(_encode_append(number))
            _check_written(await frames.receive_one())
        return time.perf_counter() - began


async def append_blocking(port: int, appends: int) -> float:
    """`append_in_turn` on a blocking socket: what Trio costs, for information."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        for number in range(appends):
            connection.sendall(_encode_append(number))
            _check_written(connection.recv(_READ_SIZE)[_HEAD_SIZE:])
        return time.perf_counter() - began
