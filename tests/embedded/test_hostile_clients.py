"""Whatever a client sends, the node goes on, and so does the test that runs it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from unittest import TestCase

import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from tests.embedded.talk import (
    ADMIN,
    Talk,
    append,
    delete,
    new_event,
    new_id,
    pack,
    read_event,
    read_log,
    read_stream,
    subscribe,
)
from trio_extreme.embedded import VERSIONS, open_node
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import encode_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

# Deeper than Python 3.11 can recurse; much more would make a failing example unreadable.
DEEP = 2000
HIDES_ALL = b"9223372036854775807"

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
# So few streams that what one request leaves behind, the next one finds.
STREAMS = st.sampled_from(
    ["s", "s", "$$s", "$$s", "$$$$s", "l", "$settings", "$$$settings", "$all", "$$$all", "$", "$$", "$$$", ""]
)
NAMES = STREAMS | STREAMS | st.sampled_from(["$" * 3000, "$" * 3001 + "s", "0@s", "\0", "é" * 300]) | TEXTS
WIDE = st.sampled_from([0, 1, 2, -1, -2, -3, -4, 2**31 - 1, 2**31, -(2**31), 2**63 - 2, 2**63 - 1, -(2**63)])
WIDE_NUMBERS = WIDE | st.integers(-5, 1000) | st.integers(-(2**63), 2**63 - 1)
NARROW_NUMBERS = st.sampled_from([0, 1, -1, 100, 4096, 4097, 2**31 - 1, -(2**31)])
IDS = st.integers(0, 5).map(lambda number: number.to_bytes(16, "big")) | st.binary(max_size=20)
IDS_THAT_ARE_RIGHT = st.builds(new_id)

NUMBERS_IN_JSON = st.sampled_from(
    [HIDES_ALL, b"9" * 30, b"9223372036854775808", b"-9223372036854775809", b"2147483647", b"922337203686"]
) | st.sampled_from([b"0", b"1", b"-1", b"1e400", b"NaN", b"true", b"null", b'"\\ud800"', b"9" * 5000, b"[" * DEEP])
ROLES_IN_JSON = st.sampled_from([b'"$all"', b'["ops","\\udfff"]', b"[]", b"[[]]", b"{}", b"[" * DEEP, b"1"])
METADATA = st.builds(
    b'{"$maxCount":%s,"$maxAge":%s,"$tb":%s,"$acl":{"$r":%s,"$mw":"$all"},"x":"\\ud800"}'.__mod__,
    st.tuples(NUMBERS_IN_JSON, NUMBERS_IN_JSON, NUMBERS_IN_JSON, ROLES_IN_JSON),
)
# One extreme value each: among several, one that is wrong makes the server see none.
METADATA |= st.builds(
    b'{"x":"\\ud800","%s":%s}'.__mod__,
    st.tuples(st.sampled_from([b"$tb", b"$tb", b"$maxCount", b"$maxAge"]), NUMBERS_IN_JSON),
)
SETTINGS = st.builds(b'{"$userStreamAcl":{"$r":%s}}'.__mod__, ROLES_IN_JSON)
LINKS = st.builds(
    b"%s@%s".__mod__,
    st.tuples(
        st.sampled_from([b"0", b"-1", b"-2", b"", b"9" * 19, b"9" * 5000, b"0x1", "²".encode()]),
        NAMES.map(str.encode) | st.sampled_from([b"\xff", b"\xed\xa0\x80"]),
    ),
)
GARBAGE = st.binary(max_size=30) | st.sampled_from([b"[" * DEEP, b'{"a":' * DEEP, b"\x0b" * DEEP])
DATA = METADATA | SETTINGS | LINKS | GARBAGE

EVENTS = st.builds(
    schema.NewEvent,
    event_id=IDS_THAT_ARE_RIGHT | IDS,
    event_type=st.sampled_from(["$>", "$>", "$metadata", "$settings", "$streamDeleted", "x", ""]),
    data_content_type=st.sampled_from([1, 1, 0, -1, 2**31 - 1]),
    metadata_content_type=NARROW_NUMBERS,
    data=DATA,
    metadata=GARBAGE,
)
EXPECTED = st.just(-2) | WIDE_NUMBERS
CREDENTIALS = st.sampled_from(
    [ADMIN, ADMIN, None, Credentials("ops", "changeit"), Credentials("admin", "wrong"), Credentials("é", "")]
)

READ_STREAMS = st.builds(read_stream, NAMES, WIDE_NUMBERS, NARROW_NUMBERS, links=st.booleans())
READ_LOGS = st.builds(read_log, st.tuples(WIDE_NUMBERS, WIDE_NUMBERS), NARROW_NUMBERS, links=st.booleans())
MESSAGES = {
    Command.WRITE_EVENTS: st.builds(append, NAMES, st.lists(EVENTS, max_size=3), EXPECTED),
    Command.DELETE_STREAM: st.builds(delete, NAMES, EXPECTED, hard=st.booleans()),
    Command.READ_EVENT: st.builds(read_event, NAMES, WIDE_NUMBERS, links=st.booleans()),
    Command.READ_STREAM_EVENTS_FORWARD: READ_STREAMS,
    Command.READ_STREAM_EVENTS_BACKWARD: READ_STREAMS,
    Command.READ_ALL_EVENTS_FORWARD: READ_LOGS,
    Command.READ_ALL_EVENTS_BACKWARD: READ_LOGS,
    Command.SUBSCRIBE_TO_STREAM: st.builds(subscribe, NAMES, links=st.booleans()),
    Command.IDENTIFY_CLIENT: st.builds(
        schema.IdentifyClient, version=st.sampled_from([1, 1, 1, 0, 2, -1, 2**31 - 1]), connection_name=TEXTS
    ),
}
BOTH = st.sampled_from(["s", "l"])
# What an administrator may do to two streams, all of it right but for what the metadata and the links say.
RIGHT_MESSAGES = [
    (
        Command.WRITE_EVENTS,
        st.builds(append, BOTH.map("$$".__add__), st.tuples(st.builds(partial(new_event, "$metadata"), METADATA))),
    ),
    (Command.WRITE_EVENTS, st.builds(append, BOTH, st.tuples(st.builds(partial(new_event, "$>"), LINKS)))),
    (Command.READ_EVENT, st.builds(read_event, BOTH, st.sampled_from([0, -1]), links=st.booleans())),
    (Command.READ_STREAM_EVENTS_FORWARD, st.builds(read_stream, BOTH, links=st.booleans())),
    (Command.READ_STREAM_EVENTS_BACKWARD, st.builds(read_stream, BOTH, st.just(-1), links=st.booleans())),
    (Command.DELETE_STREAM, st.builds(delete, BOTH)),
]
RIGHT_REQUESTS = st.one_of(
    *(st.builds(pack, st.just(command), messages, st.just(ADMIN)) for command, messages in RIGHT_MESSAGES)
)
REQUESTS = st.one_of(
    *(
        st.builds(pack, st.just(command), messages, CREDENTIALS, IDS_THAT_ARE_RIGHT)
        for command, messages in MESSAGES.items()
    ),
    st.builds(pack, st.sampled_from([Command.UNSUBSCRIBE_FROM_STREAM, Command.PING, Command.AUTHENTICATE]), GARBAGE),
)


def with_flags(frame: bytes, flags: int) -> bytes:
    return frame[:5] + bytes([flags]) + frame[6:]


FRAMES_OF_GARBAGE = st.builds(
    with_flags,
    st.builds(encode_frame, st.integers(0, 255), st.sampled_from([bytes(16), b"\xff" * 16]), GARBAGE),
    st.integers(0, 255),
)
STREAMS_OF_BYTES = st.lists(REQUESTS | RIGHT_REQUESTS | FRAMES_OF_GARBAGE, max_size=30).map(b"".join)


async def read_all(talk: Talk) -> None:
    """Never mind what it says, until it hangs up."""
    with suppress(trio.BrokenResourceError):
        async for _ in talk.stream:
            pass


async def attack(attacks: Sequence[bytes], version: str) -> None:
    """Send each of them over a connection of its own, while one client subscribes to everything and another pings."""
    async with open_node(port=None, version=version) as node, trio.open_nursery() as nursery:
        subscriber, pinger = [Talk(await node.connect("", 0)) for _ in range(2)]
        await subscriber.tell(Command.SUBSCRIBE_TO_STREAM, subscribe("", links=True), ADMIN)
        nursery.start_soon(read_all, subscriber)
        for data in attacks:
            attacker = Talk(await node.connect("", 0))
            nursery.start_soon(read_all, attacker)
            with suppress(trio.BrokenResourceError):
                await attacker.stream.send_all(data)
            await trio.testing.wait_all_tasks_blocked()
            pong = await pinger.ask(Command.PING, b"echo")
            assert pong is not None
            assert (pong.command, pong.message) == (Command.PONG, b"echo")
        nursery.cancel_scope.cancel()


def run_attack(attacks: Sequence[bytes], version: str) -> None:
    # The node's last resort is for bugs nobody knows: what can be thought of is answered without it.
    with TestCase().assertNoLogs("trio_extreme.embedded"):
        trio.run(attack, attacks, version)


@settings(max_examples=150)
@given(attacks=st.lists(STREAMS_OF_BYTES, min_size=1, max_size=2), version=st.sampled_from(list(VERSIONS)))
def test_no_requests_bring_the_node_down(attacks: Sequence[bytes], version: str) -> None:
    run_attack(attacks, version)


@settings(max_examples=200)
@given(requests=st.lists(RIGHT_REQUESTS, max_size=30), version=st.sampled_from(list(VERSIONS)))
def test_no_metadata_and_no_links_bring_the_node_down(requests: Sequence[bytes], version: str) -> None:
    run_attack([b"".join(requests)], version)


def damage(data: bytes, changes: Sequence[tuple[int, int]]) -> bytes:
    damaged = bytearray(data)
    for place, byte in changes:
        if damaged:
            damaged[place % len(damaged)] = byte
    return bytes(damaged)


CHANGES = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=5)


@given(attacks=st.lists(st.binary(max_size=200) | st.builds(damage, STREAMS_OF_BYTES, CHANGES), max_size=3))
def test_no_bytes_bring_the_node_down(attacks: Sequence[bytes]) -> None:
    run_attack(attacks, "4.1.1")
