"""Frames: the vectors of the protocol, any split of the bytes, any bytes at all, and what they may cost."""

from __future__ import annotations

import os
import struct
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from trio_extreme.errors import FrameTooLarge, ProtocolError
from trio_extreme.values import MAX_NAME_SIZE, MAX_TOKEN_SIZE, Credentials
from trio_extreme.wire.framing import (
    AUTHENTICATED,
    HEADER_SIZE,
    LENGTH_SIZE,
    MAX_FRAME_SIZE,
    NO_CORRELATION,
    SKIPPED,
    Frame,
    FrameBuffer,
    decode_credentials,
    encode_credentials,
    encode_frame,
    encode_head,
    too_large,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


ID = UUID("01234567-89ab-cdef-0123-456789abcdef")
ADMIN = Credentials("admin", "changeit")


def raw_head(length: int, command: int = 3, correlation: bytes = b"i" * 16) -> bytes:
    """The head of a frame that says any length, as no encoder of ours would."""
    return struct.pack("<iBB16s", length, command, 0, correlation)


def splits(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """The pieces of `data` between these offsets, empty ones where an offset comes twice."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return (data[start:end] for start, end in pairwise(edges))


def reference(data: bytes, limit: int) -> tuple[list[Frame], bool]:
    """The frames of `data`, and whether a length that none may have follows them: as simply as it can be said."""
    frames: list[Frame] = []
    while len(data) >= LENGTH_SIZE:
        length = int.from_bytes(data[:4], "little", signed=True)
        # A frame above the limit is refused when its header is there, for the header says whom it concerns.
        if length < HEADER_SIZE or (length > limit and len(data) >= LENGTH_SIZE + HEADER_SIZE):
            return frames, True
        if len(data) < LENGTH_SIZE + length:
            break
        frames.append((data[4], data[5], data[6:22], data[22 : 4 + length]))
        data = data[4 + length :]
    return frames, False


frames_st = st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=16, max_size=16), st.binary(max_size=60)))


# The vectors of docs/protocol.md, 1.1.


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (encode_frame(0x01, ID.bytes_le), "12000000 01 00 67452301ab89efcd0123456789abcdef"),
        (
            encode_frame(0x03, ID.bytes_le, credentials=encode_credentials(ADMIN)),
            "21000000 03 01 67452301ab89efcd0123456789abcdef 05 61646d696e 08 6368616e67656974",
        ),
        (
            encode_frame(0xF5, ID.bytes_le, bytes.fromhex("0801 1202 7079")),
            "18000000 f5 00 67452301ab89efcd0123456789abcdef 0801 1202 7079",
        ),
        (
            encode_frame(0xC0, ID.bytes_le, bytes.fromhex("0a00 1001"), encode_credentials(ADMIN)),
            "25000000 c0 01 67452301ab89efcd0123456789abcdef 05 61646d696e 08 6368616e67656974 0a00 1001",
        ),
    ],
    ids=["heartbeat", "ping with credentials", "identify", "subscribe to all"],
)
def test_vectors(frame: bytes, expected: str) -> None:
    assert frame.hex() == expected.replace(" ", "")
    [(command, flags, correlation, body)] = FrameBuffer().feed(frame)
    assert UUID(bytes_le=correlation) == ID
    credentials, payload = decode_credentials(body) if flags & AUTHENTICATED else (None, body)
    assert encode_frame(command, correlation, payload, encode_credentials(credentials) if credentials else b"") == frame


def test_head_is_the_frame_without_its_payload() -> None:
    assert encode_head(0x82, ID.bytes_le, 3, b"\0\0") + b"abc" == encode_frame(0x82, ID.bytes_le, b"abc", b"\0\0")


def test_shortest_frame() -> None:
    assert FrameBuffer().feed(raw_head(18)) == [(3, 0, b"i" * 16, b"")]


# Any split of the same bytes.


@given(frames_st, st.lists(st.integers(0, 400)))
def test_any_split_gives_the_same_frames(parts: list[tuple[int, bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(encode_frame(*part) for part in parts)
    buffer = FrameBuffer()
    got = [frame for chunk in splits(data, cuts) for frame in buffer.feed(chunk)]
    assert got == [(command, 0, correlation, payload) for command, correlation, payload in parts]
    assert buffer.buffered == 0


@given(frames_st, st.integers(0, 400))
def test_a_cut_stream_gives_the_whole_frames_before_the_cut(parts: list[tuple[int, bytes, bytes]], cut: int) -> None:
    data = b"".join(encode_frame(*part) for part in parts)[:cut]
    buffer = FrameBuffer()
    whole, _ = reference(data, MAX_FRAME_SIZE)
    assert buffer.feed(data) == whole
    assert buffer.buffered == len(data) - sum(LENGTH_SIZE + HEADER_SIZE + len(frame[3]) for frame in whole)


def test_single_bytes() -> None:
    data = b"".join(encode_frame(command, ID.bytes_le, bytes(command)) for command in (1, 3, 200))
    buffer = FrameBuffer()
    got = [frame for at in range(len(data)) for frame in buffer.feed(data[at : at + 1])]
    assert got == [(command, 0, ID.bytes_le, bytes(command)) for command in (1, 3, 200)]


@pytest.mark.parametrize("size", [1, 17, 4095, 4096, 4097, 65536])
def test_a_large_frame_in_pieces_of_one_size(size: int) -> None:
    """4096 is where pieces are no longer gathered."""
    payload = os.urandom(20_000)
    data = encode_frame(0xB3, ID.bytes_le, payload) * 3
    buffer = FrameBuffer()
    got = [frame for at in range(0, len(data), size) for frame in buffer.feed(data[at : at + size])]
    assert got == [(0xB3, 0, ID.bytes_le, payload)] * 3


@given(st.lists(st.sampled_from([1, 2, 100, 4095, 4096, 5000]), min_size=1, max_size=8))
def test_chunks_of_mixed_sizes_and_types_stay_the_callers_own(sizes: list[int]) -> None:
    """TLS streams give bytearrays; what was fed is neither changed nor still looked at."""
    data = encode_frame(0xB3, ID.bytes_le, bytes(range(256)) * (sum(sizes) // 256 + 1))
    buffer = FrameBuffer()
    at = 0
    for size in sizes:
        chunk = bytearray(data[at : at + size])
        assert buffer.feed(chunk) == []
        assert chunk == data[at : at + size]
        chunk[:] = bytes(len(chunk))
        at += size
    assert [frame[3] for frame in buffer.feed(data[at:])] == [data[22:]]


def test_frames_are_immutable_bytes_even_from_a_bytearray() -> None:
    [(_, _, correlation, body)] = FrameBuffer().feed(bytearray(encode_frame(3, ID.bytes_le, b"x")))
    assert type(correlation) is type(body) is bytes


def test_an_empty_chunk_is_nothing() -> None:
    buffer = FrameBuffer()
    assert buffer.feed(b"") == []
    buffer.feed(b"\x12")
    assert buffer.feed(b"") == []
    assert buffer.buffered == 1


# Any bytes at all.


@given(st.binary(max_size=400), st.lists(st.integers(0, 400)))
def test_garbage_is_frames_or_a_protocol_error_whatever_the_split(data: bytes, cuts: list[int]) -> None:
    check_against_reference(data, cuts, limit=100)


mutated_st = st.builds(
    lambda parts, at, new: (joined := b"".join(encode_frame(*part) for part in parts))[:at] + new + joined[at + 2 :],
    frames_st,
    st.integers(0, 300),
    st.binary(max_size=6),
)


@given(mutated_st, st.lists(st.integers(0, 400)))
def test_damaged_frames_are_frames_or_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    check_against_reference(data, cuts, limit=70)


def check_against_reference(data: bytes, cuts: list[int], limit: int) -> None:
    expected, broken = reference(data, limit)
    buffer = FrameBuffer(limit)
    got: list[Frame] = []
    try:
        for chunk in splits(data, cuts):
            got += buffer.feed(chunk)
            assert buffer.buffered < LENGTH_SIZE + limit
            buffer.check()
    except ProtocolError:
        assert broken
    else:
        assert not broken
    # What came before the damage is not lost.
    assert got == expected


@pytest.mark.parametrize("length", [0, 1, 17, -1, -2147483648])
def test_a_length_no_frame_can_have(length: int) -> None:
    with pytest.raises(ProtocolError, match=str(length)):
        FrameBuffer().feed(raw_head(length))


def test_after_the_damage_there_is_nothing_but_the_error() -> None:
    buffer = FrameBuffer()
    good = encode_frame(3, ID.bytes_le)
    assert buffer.feed(good + bytes(4)) == [(3, 0, ID.bytes_le, b"")]
    for _ in range(2):
        with pytest.raises(ProtocolError, match="length 0"):
            buffer.check()
        with pytest.raises(ProtocolError, match="length 0"):
            buffer.feed(good)


@pytest.mark.parametrize("length", [0, 17, -1])
def test_a_bad_length_is_seen_when_its_four_bytes_are_there(length: int) -> None:
    """Else a peer that sends no more would be waited for."""
    head = raw_head(length)
    with pytest.raises(ProtocolError):
        FrameBuffer().feed(head[:4])
    buffer = FrameBuffer()
    for byte in head[:3]:
        buffer.feed(bytes([byte]))
    with pytest.raises(ProtocolError):
        buffer.feed(head[3:4])


def test_another_protocol_is_named_as_such() -> None:
    """Where it answers with text, its first four letters are a length of 1.3 GB: the limit catches it."""
    with pytest.raises(ProtocolError, match="max_frame_size"):
        FrameBuffer().feed(b"HTTP/1.1 400 Bad Request\r\n")


# The limit.


def test_exactly_the_limit_of_servers() -> None:
    buffer = FrameBuffer()
    assert buffer.feed(raw_head(MAX_FRAME_SIZE)) == []
    chunk = bytes(1024 * 1024)
    frames = [frame for _ in range(63) for frame in buffer.feed(chunk)]
    frames += buffer.feed(chunk[:-HEADER_SIZE])
    [(_, _, _, payload)] = frames
    assert len(payload) == MAX_FRAME_SIZE - HEADER_SIZE == 67_108_846
    assert buffer.buffered == 0


@pytest.mark.parametrize("length", [MAX_FRAME_SIZE + 1, 2**31 - 1])
def test_above_the_limit_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError, match=rf"{length:,} bytes; the limit is 67,108,864"):
        FrameBuffer().feed(raw_head(length))


def test_above_the_limit_is_refused_from_its_header_in_single_bytes() -> None:
    buffer = FrameBuffer(1000)
    head = raw_head(1001)
    for byte in head[:-1]:
        assert buffer.feed(bytes([byte])) == []
    with pytest.raises(ProtocolError):
        buffer.feed(head[-1:])


class Oversize:
    """Takes every frame that is too large, and remembers it."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, int]] = []

    def __call__(self, correlation: bytes, length: int) -> None:
        self.seen.append((correlation, length))


@given(
    st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 120)), max_size=6),
    st.lists(st.integers(0, 900)),
)
def test_frames_above_the_limit_are_skipped_whatever_the_split(parts: list[tuple[bytes, int]], cuts: list[int]) -> None:
    limit = HEADER_SIZE + 60
    data = b"".join(encode_frame(3, correlation, b"\xff" * size) for correlation, size in parts)
    oversize = Oversize()
    buffer = FrameBuffer(limit, oversize)
    got: list[Frame] = []
    for chunk in splits(data, cuts):
        got += buffer.feed(chunk)
        assert buffer.buffered < LENGTH_SIZE + limit
    assert [described(frame) for frame in got] == [
        (SKIPPED, correlation, HEADER_SIZE + size) if size > 60 else (3, correlation, size)
        for correlation, size in parts
    ]
    assert oversize.seen == [(correlation, HEADER_SIZE + size) for correlation, size in parts if size > 60]
    assert buffer.buffered == 0


def described(frame: Frame) -> tuple[int, bytes, int]:
    """Command, id, and how large it is, or would have been."""
    command, _, correlation, body = frame
    return command, correlation, too_large(body).size if command == SKIPPED else len(body)


def test_a_skipped_frame_stands_in_its_place() -> None:
    """So that whoever it was for learns of it after what came before, and not of what never came."""
    small, large = encode_frame(3, ID.bytes_le), encode_frame(4, ID.bytes_le, bytes(1000))
    first, skipped, last = FrameBuffer(100, Oversize()).feed(small + large + small)
    assert first == last == (3, 0, ID.bytes_le, b"")
    assert skipped[:3] == (SKIPPED, 0, ID.bytes_le)
    assert len(skipped[3]) < 100
    error = too_large(skipped[3])
    assert (error.size, error.limit) == (HEADER_SIZE + 1000, 100)
    assert str(error) == "a frame of 1,018 bytes came; the limit is 100 (max_frame_size)"


@pytest.mark.parametrize("body", [b"", bytes(15), bytes(17)])
def test_a_peer_that_sends_the_command_of_skipped_frames(body: bytes) -> None:
    [frame] = FrameBuffer().feed(encode_frame(SKIPPED, ID.bytes_le, body))
    with pytest.raises(ProtocolError, match="a frame of command 0x00, which is none"):
        too_large(frame[3])


def test_nearly_2_gb_are_skipped_without_being_stored() -> None:
    length = 2**31 - 1
    oversize = Oversize()
    buffer = FrameBuffer(on_oversize=oversize)
    chunk = bytes(1024 * 1024)
    tracemalloc.start()
    try:
        [skipped] = buffer.feed(raw_head(length))
        left = length - HEADER_SIZE
        while left > len(chunk):
            assert buffer.feed(chunk) == []
            left -= len(chunk)
        follower = encode_frame(4, ID.bytes_le, b"next")
        assert buffer.feed(chunk[:left] + follower) == [(4, 0, ID.bytes_le, b"next")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert oversize.seen == [(b"i" * 16, length)]
    assert described(skipped) == (SKIPPED, b"i" * 16, length)
    assert peak < 4 * len(chunk)


def test_a_negative_length_is_never_skipped() -> None:
    oversize = Oversize()
    with pytest.raises(ProtocolError):
        FrameBuffer(1000, oversize).feed(raw_head(-5))
    assert oversize.seen == []


def test_what_on_oversize_raises_is_raised() -> None:
    def refuse(correlation: bytes, length: int) -> None:
        msg = "mine"
        raise FrameTooLarge(msg, length, 1000)

    with pytest.raises(FrameTooLarge, match="mine"):
        FrameBuffer(1000, refuse).feed(raw_head(1001))


# What it costs.


@pytest.mark.parametrize("size", [1, 4096])
def test_small_chunks_cost_about_their_bytes(size: int) -> None:
    """A list of single bytes would be fifty times the frame."""
    payload_size = 200_000 if size == 1 else 4_000_000
    data = encode_frame(0xB3, ID.bytes_le, bytes(payload_size))
    buffer = FrameBuffer()
    tracemalloc.start()
    try:
        for at in range(0, len(data) - size, size):
            buffer.feed(data[at : at + size])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert buffer.buffered > payload_size - size
    assert peak < payload_size * 5 / 4


def test_repr_tells_what_is_kept() -> None:
    buffer = FrameBuffer(1000, Oversize())
    buffer.feed(raw_head(100))
    assert repr(buffer) == "<FrameBuffer: 22 bytes kept, 0 to skip>"
    buffer = FrameBuffer(1000, Oversize())
    buffer.feed(raw_head(1100))
    assert repr(buffer) == "<FrameBuffer: 0 bytes kept, 1082 to skip>"


# Credentials.

names_st = st.text(max_size=255).filter(lambda text: len(text.encode()) <= MAX_NAME_SIZE)
logins_st = names_st.filter(bool)


@given(logins_st, names_st, st.binary(max_size=50))
def test_logins_come_back(login: str, password: str, payload: bytes) -> None:
    credentials = Credentials(login, password)
    assert decode_credentials(encode_credentials(credentials) + payload) == (credentials, payload)


@given(st.text(st.characters(max_codepoint=127), min_size=1, max_size=300), st.binary(max_size=50))
def test_tokens_come_back(token: str, payload: bytes) -> None:
    credentials = Credentials(token=token)
    assert decode_credentials(encode_credentials(credentials) + payload, tokens=True) == (credentials, payload)


@given(st.text(st.characters(max_codepoint=127), min_size=1, max_size=127), names_st, st.binary(max_size=50))
def test_short_ascii_logins_are_no_tokens_to_servers_that_take_both(login: str, password: str, payload: bytes) -> None:
    encoded = encode_credentials(Credentials(login, password))
    assert decode_credentials(encoded + payload, tokens=True) == (Credentials(login, password), payload)


def test_a_non_ascii_login_is_misread_by_servers_that_take_tokens() -> None:
    """Pitfall 16, so that the embedded node can show it: the two bytes are a negative number."""
    encoded = encode_credentials(Credentials("\u00e9va", "x"))
    with pytest.raises(ProtocolError):
        decode_credentials(encoded, tokens=True)
    assert decode_credentials(encoded) == (Credentials("\u00e9va", "x"), b"")


def test_the_form_of_a_token() -> None:
    assert encode_credentials(Credentials(token="abc")) == b"\xfd\xffabc"
    longest = "x" * MAX_TOKEN_SIZE
    assert decode_credentials(encode_credentials(Credentials(token=longest)), tokens=True)[0].token == longest


def test_the_longest_names() -> None:
    credentials = Credentials("l" * 255, "\u00e9" * 127 + "p")
    encoded = encode_credentials(credentials)
    assert len(encoded) == 512
    assert decode_credentials(encoded) == (credentials, b"")


@pytest.mark.parametrize("tokens", [False, True])
def test_cut_credentials(*, tokens: bool) -> None:
    encoded = encode_credentials(Credentials("login", "password"))
    for size in range(len(encoded)):
        with pytest.raises(ProtocolError):
            decode_credentials(encoded[:size], tokens=tokens)


def test_cut_tokens() -> None:
    encoded = encode_credentials(Credentials(token="token"))
    for size in range(len(encoded)):
        with pytest.raises(ProtocolError):
            decode_credentials(encoded[:size], tokens=True)


@given(body=st.binary(max_size=40), tokens=st.booleans())
def test_any_bytes_are_credentials_or_a_protocol_error(*, body: bytes, tokens: bool) -> None:
    try:
        credentials, payload = decode_credentials(body, tokens=tokens)
    except ProtocolError:
        return
    assert body.endswith(payload)
    assert encode_credentials(credentials) + payload == body


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\x01\xff\x00", "login is no UTF-8"),
        (b"\x01l\x01\xff", "password is no UTF-8"),
        (b"\xfe\xff\xc3\xa9", "token is not ASCII"),
        (b"\x00\x80" + b"x" * 32768, "token is longer than any client's"),
        (b"\x00\x00", "no login"),
    ],
)
def test_credentials_no_client_would_send(body: bytes, why: str) -> None:
    with pytest.raises(ProtocolError):
        decode_credentials(body, tokens=True)


def test_no_correlation_is_all_zero() -> None:
    assert UUID(bytes_le=NO_CORRELATION).int == 0
