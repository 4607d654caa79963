"""`python -m tests.soak.flood`: a peer that pushes a million live events at whoever subscribes to `flood`.

It does so as fast as they are taken, and does not hear that somebody unsubscribes: all were written before. Between
every `BLOCK` of them it pushes one event of the stream `pace`, and now and then it asks for a sign of life. When all is
pushed and answered, it prints what it measured. It is no server: it stores nothing and believes every password.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from math import ceil
from typing import IO, TYPE_CHECKING, Any

import trio

from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import AUTHENTICATED, FrameBuffer, decode_credentials, encode_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOOD = "flood"
PACE = "pace"
BLOCK = 1024
"""Events of the flood that are sent at a time."""
DATA_SIZE = 256

_BLOCKS_A_HEARTBEAT = 50
_MARK = 2**28 - 1
_MARK_BYTES = b"\xff\xff\xff\x7f"
"""`_MARK` as protobuf writes it. Four bytes can say any smaller number, where each but the last has its top bit set."""
_MORE = 0x80


def encode_event(stream: str, number: int, correlation: bytes) -> bytes:
    """The frame of one live event."""
    appeared = schema.StreamEventAppeared()
    record = appeared.event.event
    record.event_stream_id = stream
    record.event_number = number
    record.event_id = bytes(range(16))
    record.event_type = "happened"
    record.data_content_type = record.metadata_content_type = 0
    record.data = bytes(DATA_SIZE)
    appeared.event.commit_position = appeared.event.prepare_position = 0
    return encode_frame(Command.STREAM_EVENT_APPEARED, correlation, appeared.SerializeToString())


class Flood:
    """Frames of events with ascending numbers, many at a time: only the bytes of the numbers differ."""

    def __init__(self, correlation: bytes) -> None:
        frame = encode_event(FLOOD, _MARK, correlation)
        self._at = frame.index(_MARK_BYTES)
        self._stride = len(frame)
        self._frames = bytearray(frame * BLOCK)
        self._put(0, bytes(number % 128 | _MORE for number in range(BLOCK)))

    def _put(self, place: int, values: bytes) -> None:
        self._frames[self._at + place :: self._stride] = values

    def block(self, index: int) -> bytearray:
        """The events from `index * BLOCK` on; valid until the next call."""
        first = index * BLOCK
        self._put(1, b"".join(bytes([number >> 7 & 127 | _MORE]) * 128 for number in range(first, first + BLOCK, 128)))
        self._put(2, bytes([first >> 14 & 127 | _MORE]) * BLOCK)
        self._put(3, bytes([first >> 21]) * BLOCK)
        return self._frames


_CONFIRMED = schema.SubscriptionConfirmation(last_commit_position=0, last_event_number=-1).SerializeToString()
_NO_STREAM = schema.ReadStreamEventsCompleted(
    result=schema.ReadStreamEventsCompleted.ReadStreamResult.NoStream,
    next_event_number=-1,
    last_event_number=-1,
    is_end_of_stream=True,
    last_commit_position=0,
).SerializeToString()
_ANSWERS = {
    Command.IDENTIFY_CLIENT: (Command.CLIENT_IDENTIFIED, b""),
    Command.HEARTBEAT_REQUEST: (Command.HEARTBEAT_RESPONSE, b""),
    Command.PING: (Command.PONG, b""),
    Command.SUBSCRIBE_TO_STREAM: (Command.SUBSCRIPTION_CONFIRMATION, _CONFIRMED),
    Command.READ_STREAM_EVENTS_FORWARD: (Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, _NO_STREAM),
}


class Session:
    """One connection."""

    def __init__(self, stream: trio.SocketStream, events: int) -> None:
        self._stream = stream
        self._blocks = ceil(events / BLOCK)
        self._lock = trio.StrictFIFOLock()
        self._subscribed: dict[str, bytes] = {}
        self._asked: dict[bytes, float] = {}
        self._delays: list[float] = []
        self._all_answered = trio.Event()

    async def serve(self) -> None:
        buffer = FrameBuffer()
        async with trio.open_nursery() as nursery:
            async for chunk in self._stream:
                for command, flags, correlation, body in buffer.feed(chunk):
                    payload = decode_credentials(body)[1] if flags & AUTHENTICATED else body
                    await self._answer(command, correlation, payload)
                    if self._subscribed.keys() == {FLOOD, PACE} and command == Command.SUBSCRIBE_TO_STREAM:
                        nursery.start_soon(self._push)
            nursery.cancel_scope.cancel()

    async def _answer(self, command: int, correlation: bytes, payload: bytes) -> None:
        if command == Command.HEARTBEAT_RESPONSE:
            self._delays.append(trio.current_time() - self._asked.pop(correlation))
            if not self._asked:
                self._all_answered.set()
        elif command in _ANSWERS:
            if command == Command.SUBSCRIBE_TO_STREAM:
                self._subscribed[schema.SubscribeToStream.FromString(payload).event_stream_id] = correlation
            answer, body = _ANSWERS[Command(command)]
            await self._send(encode_frame(answer, correlation, body))

    async def _send(self, data: bytes | bytearray) -> None:
        async with self._lock:
            await self._stream.send_all(data)

    async def _push(self) -> None:
        began = trio.current_time()
        flood = Flood(self._subscribed[FLOOD])
        for index in range(self._blocks):
            await self._send(flood.block(index))
            await self._send(encode_event(PACE, index, self._subscribed[PACE]))
            if index % _BLOCKS_A_HEARTBEAT == 0:
                await self._ask_for_sign_of_life(index)
        took = trio.current_time() - began
        await self._all_answered.wait()
        report = {"events": self._blocks * BLOCK, "seconds": took, "heartbeat_delays": self._delays}
        print(json.dumps(report), flush=True)  # noqa: T201 - to the process that started this one

    async def _ask_for_sign_of_life(self, index: int) -> None:
        correlation = index.to_bytes(16, "little")
        self._asked[correlation] = trio.current_time()
        self._all_answered = trio.Event()
        await self._send(encode_frame(Command.HEARTBEAT_REQUEST, correlation))


async def _serve(events: int) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await Session(stream, events).serve()
            except* trio.BrokenResourceError:
                pass

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        print(listener.socket.getsockname()[1], flush=True)  # noqa: T201 - to the process that started this one
        # Whoever started this process holds the other end, so it cannot be left behind by one that was killed.
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


class FloodProcess:
    """The process, from outside."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self.port = int(output.readline())

    async def report(self) -> dict[str, Any]:
        """What it measured, once it has pushed everything."""
        line = await trio.to_thread.run_sync(self._output.readline, abandon_on_cancel=True)
        report: dict[str, Any] = json.loads(line)
        return report


@contextmanager
def running_flood(events: int) -> Iterator[FloodProcess]:
    """The peer in a process of its own."""
    command = [sys.executable, "-m", "tests.soak.flood", f"--events={events}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield FloodProcess(process.stdout)
        finally:
            process.stdin.close()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.flood", description=__doc__)
    parser.add_argument("--events", type=int, required=True)
    trio.run(_serve, parser.parse_args().events)


if __name__ == "__main__":
    _main()
