"""Whether a conversation went as a recorded one did, by the rules of recordings/README.md.

A conversation is told as a list of `Answer`s: what came back, in order. `differences` lists in words what differs and
may not; an empty list is agreement.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from trio_extreme.errors import ProtocolError
from trio_extreme.wire import schema
from trio_extreme.wire.commands import MESSAGES, Command, command_name, decode_payload
from trio_extreme.wire.framing import NO_CORRELATION, Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_FREE = dict.fromkeys(
    ("created", "created_epoch", "last_commit_position", "error", "message", "total_time_ms"), "there"
)
"""What may say anything, but not nothing where something was said."""
_POSITIONS = ("commit_position", "prepare_position", "next_commit_position", "next_prepare_position", "transaction_id")
_TAG = re.compile(rb'(?<=^\{"\$v":")([0-9:-]+","\$c":)[0-9]+(,"\$p":)[0-9]+')
"""What projections write into the metadata of a link: it holds the position of the event that it leads to."""
_ADDED = re.compile(rb'("added": )"[0-9T:.+-]+"')
"""What a server writes into the metadata of a link to an event that it parked: when that was."""
_WRITES = ("WRITE_EVENTS_COMPLETED", "DELETE_STREAM_COMPLETED", "TRANSACTION_COMMIT_COMPLETED")


@dataclass(frozen=True)
class Answer:
    """One package from a server: which command, under which id, and its message as JSON maps it, or its payload."""

    command: str
    correlation: bytes
    content: dict[str, Any] | bytes


@dataclass(frozen=True)
class Conversation:
    """What a server answered, and whether it closed the connection in the end."""

    answers: Sequence[Answer]
    closed: bool


def read_answer(frame: Frame) -> Answer:
    """A frame as an answer; a payload that is no message stays bytes."""
    command, _, correlation, payload = frame
    content: dict[str, Any] | bytes = bytes(payload)
    if command in MESSAGES:
        try:
            content = as_json(decode_payload(command, bytes(payload)))
        except ProtocolError:
            content = bytes(payload)
    return Answer(command_name(command), bytes(correlation), content)


def as_json(message: Any) -> dict[str, Any]:
    """A message as the recordings show it: only what is present, numbers of 64 bits and bytes as texts."""
    return MessageToDict(message, preserving_proto_field_name=True)


def differences(
    recorded: Conversation, actual: Conversation, *, own_streams: Iterable[str], own_ids: Iterable[str]
) -> list[str]:
    """What of `actual` is not as it was recorded, in words.

    `own_streams` and `own_ids` are what the conversation itself wrote: other streams' events are that server's own
    log, other ids are that server's own.
    """
    rules = _Rules(frozenset(own_streams) | {f"$${name}" for name in own_streams}, frozenset(own_ids))
    found = list(rules.compare(recorded, actual))
    found += _growing(actual.answers)
    if recorded.closed != actual.closed:
        state = {True: "closed", False: "open"}
        found.append(f"the connection: recorded {state[recorded.closed]}, here {state[actual.closed]}")
    return found


class _Rules:
    def __init__(self, streams: frozenset[str], ids: frozenset[str]) -> None:
        self._streams = streams
        self._ids = ids

    def compare(self, recorded: Conversation, actual: Conversation) -> Iterator[str]:
        ours = self._group(actual.answers, closed=actual.closed)
        theirs = self._group(recorded.answers, closed=recorded.closed)
        for correlation in [*theirs, *(key for key in ours if key not in theirs)]:
            yield from self._compare_one(correlation, theirs.get(correlation, []), ours.get(correlation, []))

    def _group(self, answers: Sequence[Answer], *, closed: bool) -> dict[str, list[Answer]]:
        """By correlation id, for only within one of them order counts. What the server asks has ids of its own."""
        groups: dict[str, list[Answer]] = {}
        for answer in answers:
            # It may be lost in the reset.
            is_last_word = closed and answer.command == "BAD_REQUEST" and answer.correlation == NO_CORRELATION
            if is_last_word or self._is_foreign(answer):
                continue
            is_question = answer.command == Command.HEARTBEAT_REQUEST.name
            key = "questions of the server" if is_question else answer.correlation.hex()
            groups.setdefault(key, []).append(answer)
        return groups

    def _is_foreign(self, answer: Answer) -> bool:
        """A live event of a stream that this conversation did not write."""
        if answer.command != "STREAM_EVENT_APPEARED":
            return False
        assert isinstance(answer.content, dict)
        return self._stream(answer.content["event"]) not in self._streams

    @staticmethod
    def _stream(resolved: Mapping[str, Any]) -> str:
        record: Mapping[str, str] = resolved.get("link") or resolved["event"]
        return record["event_stream_id"]

    def _compare_one(self, correlation: str, theirs: Sequence[Answer], ours: Sequence[Answer]) -> Iterator[str]:
        commands = [[answer.command for answer in answers] for answers in (theirs, ours)]
        if commands[0] != commands[1]:
            yield f"{correlation}: recorded {commands[0]}, here {commands[1]}"
            return
        for place, (their, our) in enumerate(zip(theirs, ours, strict=True)):
            expected, got = self._contents(their.content, our.content)
            if expected != got:
                yield f"{correlation} [{place}] {their.command}: recorded {expected}, here {got}"

    def _contents(self, theirs: dict[str, Any] | bytes, ours: dict[str, Any] | bytes) -> tuple[object, object]:
        if not isinstance(theirs, dict) or not isinstance(ours, dict):
            # A text, which does not count, or the echo of a ping, of which the recordings have only empty ones.
            return bool(theirs), bool(ours)
        has_foreign = any(
            self._stream(event) not in self._streams for event in theirs.get("events", ()) if _is_log(event)
        )
        both = [self._normal(content) for content in (theirs, ours)]
        if has_foreign:
            # A page that ends among foreign events ends elsewhere here.
            both = [{key: value for key, value in one.items() if not key.startswith("next_")} for one in both]
        return both[0], both[1]

    def _normal(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """What counts of a message, with what may differ replaced by what may not."""
        return {
            key: value
            for key, original in content.items()
            if (value := self._normal_value(key, original)) not in ([], {}) or not original
        }

    def _normal_value(self, key: str, value: Any) -> Any:
        if key == "events":
            kept = [event for event in value if not _is_log(event) or self._stream(event) in self._streams]
            return [self._normal(event) for event in kept]
        if isinstance(value, dict):
            return self._normal(value)
        if key == "event_id":
            return value if value in self._ids else "an id"
        if key in _READINGS:
            return _READINGS[key](value)
        if key in _POSITIONS:
            return value if int(value) <= 0 else "a position"
        return _FREE.get(key, value) if value else value


def without_places_and_times(metadata: str) -> object:
    """The metadata of an event, as the recordings have it; of what the server itself wrote, without what differs."""
    try:
        data = b64decode(metadata, validate=True)
    except ValueError:
        return metadata
    return _ADDED.sub(rb"\1a time", _TAG.sub(rb"\1a position\2a position", data))


def told_of_master(info: str) -> object:
    """Where the master is: elsewhere each time, but told in the same fields."""
    return list(as_json(schema.NotHandled.MasterInfo.FromString(b64decode(info))))


_READINGS: Mapping[str, Callable[[str], object]] = {
    "metadata": without_places_and_times,
    "additional_info": told_of_master,
}


def _is_log(event: Mapping[str, Any]) -> bool:
    """Whether this is an event of a page of the log: only those have positions."""
    return "commit_position" in event


def _growing(answers: Sequence[Answer]) -> Iterator[str]:
    """Positions grow from write to write, and from event to event of one subscription."""
    series: dict[object, list[int]] = {}
    for answer in answers:
        if not isinstance(answer.content, dict):
            continue
        if answer.command in _WRITES:
            series.setdefault("writes", []).append(int(answer.content["commit_position"]))
        elif answer.command == "STREAM_EVENT_APPEARED":
            series.setdefault(answer.correlation, []).append(int(answer.content["event"]["commit_position"]))
    for name, positions in series.items():
        # From 0 down are failures and repetitions.
        real = [position for position in positions if position > 0]
        if any(earlier >= later for earlier, later in pairwise(real)):
            yield f"positions do not grow: {name!r} {real}"
