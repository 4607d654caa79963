"""The recordings of real servers as objects. recordings/README.md says what they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trio_extreme.wire.framing import AUTHENTICATED, Frame, FrameBuffer, decode_credentials

FOLDER = Path(__file__).parent / "recordings"
VERSIONS = ("3.9.4", "4.1.1")
CLOSED = "the server closed the connection"
_LEFT_OUT = "(left out"


@dataclass(frozen=True)
class Note:
    """What was being tried, or was seen, from here on."""

    t: float
    text: str


@dataclass(frozen=True)
class RecordedFrame:
    """One frame of a conversation. `raw` is None where it was too long to record."""

    t: float
    from_client: bool
    code: int
    command: str
    label: str
    flags: int
    login: str | None
    password: str | None
    message: dict[str, Any] | None
    text: str | None
    undecodable: bool
    raw: bytes | None

    @cached_property
    def frame(self) -> Frame:
        """Command, flags, correlation id, and the rest, as the client's own buffer cuts it."""
        assert self.raw is not None, "this frame was left out of the recording"
        (frame,) = FrameBuffer().feed(self.raw)
        return frame

    @property
    def correlation(self) -> bytes:
        return bytes(self.frame[2])

    @property
    def payload(self) -> bytes:
        rest = bytes(self.frame[3])
        return decode_credentials(rest)[1] if self.flags & AUTHENTICATED else rest


@dataclass(frozen=True)
class Recording:
    """One conversation on one connection."""

    version: str
    scenario: str
    entries: tuple[Note | RecordedFrame, ...]

    def __str__(self) -> str:
        return f"{self.version}-{self.scenario}"

    @property
    def frames(self) -> list[RecordedFrame]:
        return [entry for entry in self.entries if isinstance(entry, RecordedFrame)]

    @property
    def answers(self) -> list[RecordedFrame]:
        return [frame for frame in self.frames if not frame.from_client]

    @property
    def closed(self) -> bool:
        """Whether the server ended it."""
        return any(isinstance(entry, Note) and entry.text == CLOSED for entry in self.entries)


def load(version: str, scenario: str) -> Recording:
    """One recording, by the version of the server and the name of the file."""
    lines = (FOLDER / version / f"{scenario}.jsonl").read_text(encoding="utf-8").splitlines()
    return Recording(version, scenario, tuple(_entry(json.loads(line)) for line in lines[1:]))


def scenarios(version: str) -> list[str]:
    """What was recorded with this server."""
    return sorted(path.stem for path in (FOLDER / version).glob("*.jsonl"))


def _entry(line: dict[str, Any]) -> Note | RecordedFrame:
    if "dir" not in line:
        return Note(line["t"], line["note"])
    message = line.get("message")
    return RecordedFrame(
        t=line["t"],
        from_client=line["dir"] == ">",
        code=int(line["code"], 16),
        command=line["command"],
        label=line["correlation"],
        flags=line["flags"],
        login=line.get("login"),
        password=line.get("password"),
        message=message if isinstance(message, dict) else None,
        text=line.get("text"),
        undecodable="undecodable" in line,
        raw=bytes.fromhex(line["frame"]) if "frame" in line else None,
    )
