"""What happened in a run, in order: every frame that crossed the network, what broke it, what callers were told.

Two runs of a seed are the same run where their traces are. Lines are made only when somebody reads them: nearly all
runs are good, and nobody does.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_extreme.errors import ProtocolError
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, command_name, decode_payload, decode_text
from trio_extreme.wire.framing import AUTHENTICATED, decode_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message

_LENGTH_SIZE = 4
_HEAD_SIZE = 22


class Frame(NamedTuple):
    """One frame as it crossed the network."""

    command: int
    flags: int
    correlation: bytes
    body: bytes

    @property
    def payload(self) -> bytes:
        """The body without the credentials before it."""
        return decode_credentials(self.body)[1] if self.flags & AUTHENTICATED else self.body

    @property
    def message(self) -> Message | None:
        """What it says; None for the commands that carry no message."""
        try:
            return decode_payload(self.command, self.payload)
        except ProtocolError:
            return None


class Cutter:
    """Cuts what passes into frames. Not the library's own: what is wrong there must not blind the observer."""

    def __init__(self) -> None:
        #: The beginning of a frame that is not complete.
        self.rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that this completes."""
        data = self.rest + data
        frames, start = [], 0
        while len(data) - start >= _HEAD_SIZE:
            end = start + _LENGTH_SIZE + int.from_bytes(data[start : start + _LENGTH_SIZE], "little")
            if end > len(data):
                break
            frames.append(Frame(data[start + 4], data[start + 5], data[start + 6 : start + 22], data[start + 22 : end]))
            start = end
        self.rest = data[start:]
        return frames


class Entry(NamedTuple):
    """One line to be: when, who, and a text or a frame."""

    time: float
    who: str
    what: str | Frame

    def __str__(self) -> str:
        what = self.what if isinstance(self.what, str) else describe(self.what)
        return f"{self.time:10.4f} {self.who:<10} {what}"


class Trace:
    """The entries of one run, and which of them say that something is wrong."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.problems: list[str] = []
        #: What was logged as a warning.
        self.warnings: list[str] = []
        #: How many entries there were when the first problem was found.
        self.first_problem_at: int | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, who: str, what: str | Frame) -> None:
        """Add an entry, now."""
        self._entries.append(Entry(trio.current_time(), who, what))

    def problem(self, what: str) -> None:
        """Something is not as it must be. The run goes on, for what comes of it may say more."""
        if self.first_problem_at is None:
            self.first_problem_at = len(self._entries)
        self.problems.append(what)
        self.note("!!!", what)

    def lines(self, start: int = 0, end: int | None = None) -> Iterator[str]:
        """The entries as text."""
        return map(str, self._entries[start:end])

    def headlines(self) -> str:
        """The entries without times, and frames by their commands alone: what happened at all, for little money."""
        return "\n".join(what if isinstance(what, str) else command_name(what.command) for _, _, what in self._entries)

    def digest(self) -> str:
        """A text that differs where anything in two runs does, down to each byte of each frame."""
        digest = sha256()
        for entry in self._entries:
            digest.update(repr(entry).encode())
        return digest.hexdigest()


class LogHandler(logging.Handler):
    """Puts what the library and the node log into a trace."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        """Add one record."""
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            self._trace.warnings.append(message)
        self._trace.note("log", f"{record.levelname}: {message}")


@contextmanager
def log_into(trace: Trace) -> Iterator[None]:
    """Have the trace, and nobody else, get what is logged while the body runs."""
    logger = logging.getLogger("trio_extreme")
    handler, level = LogHandler(trace), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = True
        logger.setLevel(level)
        logger.removeHandler(handler)


def describe(frame: Frame) -> str:
    """A frame in a line: its command, its short id, and what matters of its message."""
    # The first bytes of an id are its session's, the later ones count: two of each tell frames apart.
    short = (frame.correlation[:2] + frame.correlation[8:10]).hex()
    return f"{command_name(frame.command):<34} {short} {_details(frame)}".rstrip()


def _details(frame: Frame) -> str:
    if frame.command in (Command.BAD_REQUEST, Command.NOT_AUTHENTICATED):
        return decode_text(frame.payload)
    message = frame.message
    if isinstance(message, schema.WriteEvents):
        return f"{message.event_stream_id!r} expects {message.expected_version}: {_new(message.events)}"
    if isinstance(message, schema.StreamEventAppeared):
        return _stored([message.event])
    if isinstance(message, schema.ReadStreamEventsCompleted | schema.ReadAllEventsCompleted):
        return f"{_fields(message)} [{_stored(message.events)}]"
    return "" if message is None else _fields(message)


def _fields(message: Message) -> str:
    """All of a message but its events."""
    return " ".join(f"{field.name}={value!r}" for field, value in message.ListFields() if field.name != "events")


def _new(events: Sequence[schema.NewEvent]) -> str:
    return ", ".join(event.event_id.hex()[:8] for event in events) or "nothing"


def _stored(events: Sequence[schema.ResolvedEvent] | Sequence[schema.ResolvedIndexedEvent]) -> str:
    return ", ".join(_place(event) for event in events)


def _place(resolved: schema.ResolvedEvent | schema.ResolvedIndexedEvent) -> str:
    record = resolved.link if resolved.HasField("link") else resolved.event
    return f"{record.event_number}@{record.event_stream_id}"
