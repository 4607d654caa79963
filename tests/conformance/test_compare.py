"""The comparison of conversations finds what it must find: a conformance test that cannot fail shows nothing."""

from __future__ import annotations

import copy
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.compare import Answer, Conversation, differences
from tests.conformance.recorded import VERSIONS, Recording, load
from tests.conformance.replay import own_ids, own_streams, recorded_conversation
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

SCENARIOS = (
    "append",
    "append_idempotence",
    "delete_soft",
    "read_event",
    "read_links",
    "subscribe_stream",
    "category_projection",
)
RECORDINGS = [load(version, scenario) for version in VERSIONS for scenario in SCENARIOS]

MAY_CHANGE = ("created", "created_epoch", "last_commit_position", "error", "message")
POSITIONS = ("commit_position", "prepare_position")


def compared(recording: Recording, theirs: Conversation, ours: Conversation) -> list[str]:
    return differences(theirs, ours, own_streams=own_streams(recording), own_ids=own_ids(recording))


def leaves(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all values in a message."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def with_change(conversation: Conversation, index: int, path: tuple[str | int, ...], *, drop: bool) -> Conversation:
    """One value changed, or left out."""
    content = copy.deepcopy(conversation.answers[index].content)
    holder: Any = content
    for key in path[:-1]:
        holder = holder[key]
    if drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = changed(holder[path[-1]])
    answers = list(conversation.answers)
    answers[index] = replace(answers[index], content=content)
    return Conversation(answers, conversation.closed)


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return str(int(value) + 1)
    return value + 1 if isinstance(value, int) else f"{value}x"


def places(conversation: Conversation) -> Iterator[tuple[int, tuple[str | int, ...]]]:
    for index, answer in enumerate(conversation.answers):
        if isinstance(answer.content, dict):
            yield from ((index, path) for path in leaves(answer.content))


def may_change(recording: Recording, conversation: Conversation, index: int, path: tuple[str | int, ...]) -> bool:
    """Whether the rules of the recordings allow another value here."""
    value: Any = conversation.answers[index].content
    for key in path:
        value = value[key]
    if path[-1] in POSITIONS:
        return int(value) > 0
    if path[-1] == "event_id":
        return value not in own_ids(recording)
    return path[-1] in MAY_CHANGE and value != ""


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_a_conversation_agrees_with_itself(recording: Recording) -> None:
    conversation = recorded_conversation(recording)
    assert compared(recording, conversation, conversation) == []


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_every_changed_value_is_found_but_those_that_may_differ(recording: Recording) -> None:
    theirs = recorded_conversation(recording)
    for index, path in places(theirs):
        found = compared(recording, theirs, with_change(theirs, index, path, drop=False))
        assert bool(found) != may_change(recording, theirs, index, path), (index, path)


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_every_missing_and_every_added_field_is_found(recording: Recording) -> None:
    theirs = recorded_conversation(recording)
    for index, path in places(theirs):
        if path[-1] not in {"commit_position", "event_stream_id"}:
            ours = with_change(theirs, index, path, drop=True)
            assert compared(recording, theirs, ours), (index, path)
            assert compared(recording, ours, theirs), (index, path)


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_a_missing_a_doubled_and_another_answer_are_found(recording: Recording) -> None:
    theirs = recorded_conversation(recording)
    for index, answer in enumerate(theirs.answers):
        before, after = list(theirs.answers[:index]), list(theirs.answers[index + 1 :])
        other = replace(answer, command="NOT_HANDLED")
        for answers in ([*before, *after], [*before, answer, answer, *after], [*before, other, *after]):
            assert compared(recording, theirs, Conversation(answers, theirs.closed)), index


def test_a_connection_that_closes_is_found() -> None:
    recording = load("4.1.1", "append")
    theirs = recorded_conversation(recording)
    assert compared(recording, theirs, replace(theirs, closed=True)) == ["the connection: recorded open, here closed"]


def test_the_order_of_events_counts_within_one_id_only() -> None:
    recording = load("3.9.4", "subscribe_stream")
    theirs = recorded_conversation(recording)
    answers = list(theirs.answers)
    pushed = [index for index, answer in enumerate(answers) if answer.command == "STREAM_EVENT_APPEARED"]
    answers[pushed[0]], answers[pushed[1]] = answers[pushed[1]], answers[pushed[0]]
    assert compared(recording, theirs, Conversation(answers, closed=False))

    reply = next(index for index, answer in enumerate(theirs.answers) if answer.command == "WRITE_EVENTS_COMPLETED")
    answers = list(theirs.answers)
    answers.insert(reply + 1, answers.pop(reply))
    assert compared(recording, theirs, Conversation(answers, closed=False)) == []


def test_of_what_a_projection_signs_only_positions_may_differ() -> None:
    recording = load("4.1.1", "category_projection")
    theirs = recorded_conversation(recording)

    def found(before: bytes, after: bytes) -> list[str]:
        content = copy.deepcopy(theirs.answers[-1].content)
        assert isinstance(content, dict)
        event = content["events"][0]["event"]
        signed = b64decode(event["metadata"])
        assert before in signed
        event["metadata"] = b64encode(signed.replace(before, after)).decode()
        return compared(
            recording,
            theirs,
            Conversation(
                [*theirs.answers[:-1], Answer(theirs.answers[-1].command, theirs.answers[-1].correlation, content)],
                closed=False,
            ),
        )

    assert found(b":36263833,", b":1,") == []
    for before, after in [(b'"2:', b'"3:'), (b'"$p"', b'"$q"'), (b':36263833,"$o', b':-1,"$o'), (b'y":"6', b'y":"7')]:
        assert found(before, after)


def test_positions_must_grow() -> None:
    recording = load("4.1.1", "append")
    theirs = recorded_conversation(recording)
    written = [answer for answer in theirs.answers if answer.command == "WRITE_EVENTS_COMPLETED"]
    same = [
        replace(answer, content=written[0].content) if answer is written[2] else answer for answer in theirs.answers
    ]
    assert any("do not grow" in found for found in compared(recording, theirs, Conversation(same, closed=False)))


def test_events_of_other_streams_do_not_count() -> None:
    recording = load("4.1.1", "subscribe_all")
    theirs = recorded_conversation(recording)
    own = own_streams(recording)

    def is_own(answer: Answer) -> bool:
        content: Any = answer.content
        return answer.command != "STREAM_EVENT_APPEARED" or content["event"]["event"]["event_stream_id"] in own

    ours = Conversation([answer for answer in theirs.answers if is_own(answer)], closed=False)
    assert len(ours.answers) < len(theirs.answers)
    assert compared(recording, theirs, ours) == []


def test_the_last_word_of_a_server_that_hangs_up_may_be_lost() -> None:
    recording = load("4.1.1", "frame_too_long")
    theirs = recorded_conversation(recording)
    assert [answer.command for answer in theirs.answers] == ["BAD_REQUEST"]
    assert compared(recording, theirs, Conversation([], closed=True)) == []
    assert compared(recording, theirs, Conversation(theirs.answers, closed=False))


def test_of_where_the_master_is_the_address_may_differ_and_how_it_is_told_not() -> None:
    told = schema.NotHandled.MasterInfo(external_tcp_address="10.0.0.1", external_tcp_port=1113)
    elsewhere = schema.NotHandled.MasterInfo(external_tcp_address="10.0.0.2", external_tcp_port=1114)
    secure = schema.NotHandled.MasterInfo(external_secure_tcp_address="10.0.0.1", external_secure_tcp_port=1113)
    recording = load("4.1.1", "cluster_slave")

    def conversation(info: schema.NotHandled.MasterInfo) -> Conversation:
        content = {"reason": "NotMaster", "additional_info": b64encode(info.SerializeToString()).decode()}
        return Conversation([Answer("NOT_HANDLED", bytes(16), content)], closed=False)

    assert compared(recording, conversation(told), conversation(elsewhere)) == []
    assert compared(recording, conversation(told), conversation(secure)) != []
