"""A recorded client's requests, sent again to an embedded node, at the times at which they were sent."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import trio

from tests.conformance.compare import Answer, Conversation, read_answer
from tests.conformance.recorded import Note, RecordedFrame, Recording
from trio_extreme.embedded import open_cluster, open_node, run_inline
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, decode_payload
from trio_extreme.wire.framing import FrameBuffer, encode_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from trio_extreme.transport import Connect

CLUSTERED = ("cluster_slave",)
"""Recordings of the replica of a cluster, whose log is in memory."""
PROJECTING = ("category_projection",)
"""Recordings of what projections do."""

_COMMAND = 4
_AFTERWARDS = 0.5
_BEFORE = 0.39
"""Seconds since the last full second of the node's life: as they were for the servers when groups were recorded."""
_START = 1_700_000_000.0
_PREFIXES = {
    "length prefix 64 MiB + 1": 64 * 1024 * 1024 + 1,
    "length prefix 0x7fffffff": 0x7FFFFFFF,
    "length prefix 3": 3,
}
_LARGE = re.compile(r"(?:.*: )?(one|\d+) events? of (\d+) (KiB|bytes)")


def recorded_conversation(recording: Recording) -> Conversation:
    """What the real server answered."""
    return Conversation([read_answer(frame.frame) for frame in recording.answers], recording.closed)


def own_streams(recording: Recording) -> set[str]:
    """The streams that the conversation writes or deletes; of what projections make of it, those of its categories."""
    writing = ("WriteEvents", "DeleteStream", "TransactionStart")
    messages = [frame.message for frame in recording.frames if frame.command in writing]
    streams = {message["event_stream_id"] for message in messages if message is not None}
    if recording.scenario in PROJECTING:
        streams |= {f"$ce-{stream.partition('-')[0]}" for stream in streams}
    return streams


def own_ids(recording: Recording) -> set[str]:
    """The ids of the events that the conversation writes, as JSON has them."""
    writing = ("WriteEvents", "TransactionWrite")
    messages = [frame.message for frame in recording.frames if frame.command in writing and frame.message]
    return {event["event_id"] for message in messages for event in message.get("events", ())}


async def replay(recording: Recording, path: Path | None = None, *, projections: bool = False) -> Conversation:
    """What the embedded node of this version answers, with its log in memory or in a file."""
    answers: list[Answer] = []
    closed = trio.Event()

    async def collect(stream: trio.abc.Stream) -> None:
        buffer = FrameBuffer()
        while chunk := await stream.receive_some():
            answers.extend(map(read_answer, buffer.feed(chunk)))
        closed.set()

    async with _opened(recording, path, projections=projections) as connect, trio.open_nursery() as nursery:
        stream = await connect("recorded", 1113)
        nursery.start_soon(collect, stream)
        start = trio.current_time() + _BEFORE
        for t, data in _sent(recording):
            await trio.sleep_until(start + t)
            await stream.send_all(_with_our_id(data, recording, answers))
        await trio.sleep_until(start + recording.entries[-1].t + _AFTERWARDS)
        conversation = Conversation(tuple(answers), closed.is_set())
        nursery.cancel_scope.cancel()
    return conversation


def _now() -> float:
    return _START + trio.current_time()


@asynccontextmanager
async def _opened(recording: Recording, path: Path | None, *, projections: bool) -> AsyncIterator[Connect]:
    """A node like the one that was talked to, or the replica of a cluster; how to connect to it."""
    version = recording.version
    if recording.scenario in CLUSTERED:
        async with open_cluster(3, port=None, version=version, now=_now) as cluster:
            yield cluster.replicas[0].connect
    else:
        async with open_node(
            port=None, version=version, path=path, projections=projections, now=_now, run_sync=run_inline
        ) as node:
            yield node.connect


def _sent(recording: Recording) -> Iterator[tuple[float, bytes]]:
    """What the client sent, and when; what was left out of the recording is made from its note."""
    note = ""
    for entry in recording.entries:
        if isinstance(entry, Note):
            note = entry.text
            if note in _PREFIXES:
                yield entry.t, _PREFIXES[note].to_bytes(4, "little") + bytes(18)
        elif entry.from_client:
            yield entry.t, _large_append(recording, entry, note) if entry.raw is None else entry.raw


def _with_our_id(data: bytes, recording: Recording, answers: Sequence[Answer]) -> bytes:
    """The same request, but about the transaction that the node began where the recorded server began another."""
    request = data[_COMMAND]
    if request not in (Command.TRANSACTION_WRITE, Command.TRANSACTION_COMMIT):
        return data
    (frame,) = FrameBuffer().feed(data)
    command, _, correlation, payload = frame
    message: Any = decode_payload(command, payload)
    begun = {int(start.message["transaction_id"]): start.correlation for start in _starts(recording) if start.message}
    for answer in answers:
        if answer.correlation == begun.get(message.transaction_id):
            assert isinstance(answer.content, dict)
            message.transaction_id = int(answer.content["transaction_id"])
            break
    return encode_frame(command, correlation, message.SerializeToString())


def _starts(recording: Recording) -> list[RecordedFrame]:
    return [answer for answer in recording.answers if answer.command == "TransactionStartCompleted"]


def _large_append(recording: Recording, request: RecordedFrame, note: str) -> bytes:
    match = _LARGE.fullmatch(note)
    assert match is not None, f"{note!r} does not say what was appended"
    count = 1 if match[1] == "one" else int(match[1])
    size = int(match[2]) * (1024 if match[3] == "KiB" else 1)
    (answer,) = (frame for frame in recording.answers if frame.label == request.label)
    events = [
        schema.NewEvent(event_id=UUID(int=number + 1 << 64 | size).bytes_le, event_type="tested", data=bytes(size))
        for number in range(count)
    ]
    message = schema.WriteEvents(event_stream_id="large", expected_version=-2, events=events, require_master=False)
    return encode_frame(Command.WRITE_EVENTS, answer.correlation, message.SerializeToString())
