"""What real servers and a client said to each other: cut into frames however it is split, read as it was recorded."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf.json_format import ParseDict

from trio_extreme.errors import ProtocolError
from trio_extreme.wire.commands import MESSAGES, decode_payload
from trio_extreme.wire.framing import (
    AUTHENTICATED,
    Frame,
    FrameBuffer,
    decode_credentials,
    encode_credentials,
    encode_head,
)

RECORDINGS = Path(__file__).parents[1] / "conformance" / "recordings"
ENUM_PREFIX = re.compile(r"^[A-Za-z_]+(Result|Action)__")


class Spoken(NamedTuple):
    """One recorded frame: its bytes, and what the recorder read in it."""

    frame: bytes
    read: dict[str, Any]


@cache
def conversation(path: Path, direction: str) -> tuple[Spoken, ...]:
    """All that was said one way. Frames above 20,000 bytes were not recorded."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    said = [line for line in lines if line.get("dir") == direction and "frame" in line]
    return tuple(Spoken(bytes.fromhex(line["frame"]), line) for line in said)


def every_conversation() -> list[Any]:
    return [
        pytest.param(path, direction, id=f"{path.parent.name}-{path.stem}-{'server' if direction == '<' else 'client'}")
        for path in sorted(RECORDINGS.glob("*/*.jsonl"))
        for direction in "<>"
        if conversation(path, direction)
    ]


each_conversation = pytest.mark.parametrize(("path", "direction"), every_conversation())


def feed(*chunks: bytes) -> list[Frame]:
    buffer = FrameBuffer()
    return [frame for chunk in chunks for frame in buffer.feed(chunk)]


def test_there_are_recordings() -> None:
    assert len(every_conversation()) > 100


@each_conversation
def test_frames_are_read_as_they_were_recorded(path: Path, direction: str) -> None:
    spoken = conversation(path, direction)
    frames = feed(b"".join(each.frame for each in spoken))
    assert len(frames) == len(spoken)
    for (command, flags, correlation, body), (frame, read) in zip(frames, spoken, strict=True):
        assert (command, flags) == (int(read["code"], 16), read["flags"])
        header, payload = b"", body
        if flags & AUTHENTICATED:
            credentials, payload = decode_credentials(body)
            header = encode_credentials(credentials)
            assert (credentials.login, credentials.password) == (read["login"], read["password"])
        # Nothing of a frame gets lost: it can be written again as it was.
        assert encode_head(command, correlation, len(payload), header) + payload == frame
        check_payload(command, payload, read)


def check_payload(command: int, body: bytes, read: dict[str, Any]) -> None:
    if "undecodable" in read and command in MESSAGES:
        with pytest.raises(ProtocolError):
            decode_payload(command, body)
    elif "message" in read:
        decoded = decode_payload(command, body)
        # Equality of messages is of presence too: what was not sent is not read as if it had been.
        assert decoded == ParseDict(plain_enums(read["message"]), type(decoded)())


def plain_enums(value: Any) -> Any:
    """Where two enumerations have values of one name, the recorder wrote `OperationResult__Success`."""
    if isinstance(value, dict):
        return {name: plain_enums(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain_enums(inner) for inner in value]
    if isinstance(value, str):
        return ENUM_PREFIX.sub("", value)
    return value


@each_conversation
def test_byte_by_byte(path: Path, direction: str) -> None:
    data = b"".join(spoken.frame for spoken in conversation(path, direction))
    assert feed(*(data[at : at + 1] for at in range(len(data)))) == feed(data)


@each_conversation
def test_split_and_cut_at_every_offset(path: Path, direction: str) -> None:
    spoken = conversation(path, direction)
    data = b"".join(each.frame for each in spoken)
    whole = feed(data)
    ends = [sum(len(each.frame) for each in spoken[: count + 1]) for count in range(len(spoken))]
    complete = 0
    for at in range(len(data) + 1):
        if complete < len(ends) and ends[complete] <= at:
            complete += 1
        buffer = FrameBuffer()
        before = buffer.feed(data[:at])
        assert before == whole[:complete]
        assert buffer.buffered == at - (ends[complete - 1] if complete else 0)
        assert buffer.feed(data[at:]) == whole[complete:]
