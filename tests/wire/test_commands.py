"""Every command, what it carries, and payloads that are none."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from tests.wire import protocol
from trio_extreme.errors import ProtocolError
from trio_extreme.wire import schema
from trio_extreme.wire.commands import MESSAGES, Command, command_name, decode_payload, decode_text, parse

if TYPE_CHECKING:
    from google.protobuf.message import Message

ID = UUID("01234567-89ab-cdef-0123-456789abcdef")
# 0xD1 has two names, one for each of its forms.
NAMES = [(code, name) for code, name, _ in protocol.COMMANDS if name != "SCAVENGE_DATABASE_RESPONSE"]
carrying = st.sampled_from(sorted(MESSAGES))


def test_commands_are_those_of_the_servers() -> None:
    assert [(command.value, command.name) for command in Command] == NAMES


def test_messages_are_those_of_the_servers() -> None:
    expected = {code: message for code, name, message in protocol.COMMANDS if message and (code, name) in NAMES}
    assert {int(code): message.DESCRIPTOR.name for code, message in MESSAGES.items()} == expected


def test_names() -> None:
    assert command_name(0x82) == "WRITE_EVENTS"
    assert command_name(Command.PING) == "PING"
    # Unused: the reply to a filtered backward read is 0xBE.
    assert command_name(0xBD) == "0xBD"
    assert command_name(5) == "0x05"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", ""),
        (b"  Not Authenticated\r\n", "Not Authenticated"),
        # What looks like another line of a log, in any way there is to begin one.
        (b"no\n\nERROR: a lie", "no ERROR: a lie"),
        ("a\u2028b\u2029c\x85d\x0be\x0cf".encode(), "a b c d e f"),
        # What a terminal would obey: colours, the bell, backspaces, letters from right to left.
        (b"\x1b[31mred\x1b[0m\x07\x08\x00\x7f", "[31mred [0m"),
        ("\x9b2Ja\u202eb\u200fc".encode(), "2Ja b c"),
        (b"caf\xe9 \xff", "caf\ufffd \ufffd"),
        ("\u0160ta \U0001f600".encode(), "\u0160ta \U0001f600"),
    ],
)
def test_a_peers_text(payload: bytes, text: str) -> None:
    assert decode_text(payload) == text


@given(st.binary() | st.text().map(str.encode))
def test_any_text_of_a_peers_is_one_line_to_print(payload: bytes) -> None:
    text = decode_text(payload)
    assert text.isprintable()
    assert text == text.strip()


def test_a_peers_text_is_no_page() -> None:
    assert decode_text(b"y" * 1_000_000) == "y" * 2000


@pytest.mark.parametrize("command", sorted(MESSAGES))
def test_what_was_written_is_read(command: int) -> None:
    message = MESSAGES[command]()
    schema.fill_required(message)
    decoded = decode_payload(command, message.SerializeToString())
    assert type(decoded) is MESSAGES[command]
    assert decoded == message


@pytest.mark.parametrize("command", [command for command in Command if command not in MESSAGES] + [0x05, 0xBD, 0xFF])
def test_commands_without_a_message(command: int) -> None:
    with pytest.raises(ProtocolError, match=command_name(command)):
        decode_payload(command, b"")


@given(carrying, st.binary(max_size=80))
def test_garbage_is_a_message_or_a_protocol_error(command: int, payload: bytes) -> None:
    check(command, payload)


def full_example() -> bytes:
    record = schema.EventRecord(
        event_stream_id="stream", event_number=3, event_id=ID.bytes_le, event_type="type", data=b"{}", created=5
    )
    event = schema.ResolvedEvent(event=record, link=record, commit_position=7, prepare_position=7)
    return schema.StreamEventAppeared(event=event).SerializeToString()


@given(carrying, st.data())
def test_damaged_messages_are_messages_or_protocol_errors(command: int, data: st.DataObject) -> None:
    payload = bytearray(full_example())
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    check(command, bytes(payload[: data.draw(st.integers(0, len(payload)))]))


def check(command: int, payload: bytes) -> None:
    try:
        message = decode_payload(command, payload)
    except ProtocolError:
        return
    # What was read can be read wholly: texts are decoded when they are asked for.
    repr(message)
    assert decode_payload(command, message.SerializeToString()) == message


def test_a_text_that_is_no_utf8() -> None:
    with pytest.raises(ProtocolError, match="3 bytes from the peer are no WriteEventsCompleted"):
        decode_payload(Command.WRITE_EVENTS_COMPLETED, b"\x12\x01\xff")


def test_every_cut_of_a_message() -> None:
    payload = full_example()
    for size in range(1, len(payload)):
        with pytest.raises(ProtocolError):
            parse(schema.StreamEventAppeared, payload[:size])


@pytest.mark.parametrize(
    "message",
    [
        schema.ScavengeDatabaseCompleted(result=0, total_time_ms=0, total_space_saved=0),
        schema.ScavengeDatabaseCompleted(result=2, error="why", total_time_ms=5, total_space_saved=-1),
        schema.ScavengeDatabaseResponse(result=0, scavengeId="id"),
        schema.ScavengeDatabaseResponse(result=1),
        schema.ScavengeDatabaseResponse(),
    ],
    ids=["4.1", "4.1 failed", "5.0", "5.0 refused", "22.6 writes no zeros"],
)
def test_both_forms_of_the_answer_to_scavenge(message: Message) -> None:
    decoded = decode_payload(Command.SCAVENGE_DATABASE_COMPLETED, message.SerializeToString())
    assert type(decoded) is type(message)
    assert decoded == message
