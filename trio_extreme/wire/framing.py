"""Frames: what a TCP connection carries (docs/protocol.md, 1.1 and 1.2).

Rule 1: everything that knows the layout of a frame is in this file.
Rule 2: bytes from a peer never make this allocate more than one frame of the limit, nor raise anything but
`ProtocolError`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from trio_extreme.errors import FrameTooLarge, InvalidArgument, ProtocolError
from trio_extreme.values import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAME_SIZE = 64 * 1024 * 1024
"""The largest length, in bytes after the length prefix, that servers accept."""

LENGTH_SIZE = 4
HEADER_SIZE = 18
"""Command, flags, correlation id: the shortest frame."""

AUTHENTICATED = 0x01
"""The flag that says credentials stand between header and payload."""

SKIPPED = 0x00
"""The command of what stands for a frame above the limit: no server has a use for this code."""

NO_CORRELATION = bytes(16)
"""The id of what concerns the whole connection."""

Frame: TypeAlias = tuple[int, int, bytes, bytes]
"""Command, flags, correlation id, and all that follows."""

Run: TypeAlias = tuple[int, int, bytes, list[bytes]]
"""Frames that came one after another and differ in nothing before their payloads, as pushed events do: command, flags,
correlation id, and what follows in each. A tuple for each live event would cost as much as finding its end."""

_HEADER = struct.Struct("<iBB16s")
# A length, and all of the header, which is the same in all frames of a run.
_LENGTH_AND_HEADER = struct.Struct("<i18s")
_LENGTH = struct.Struct("<i")
_SKIPPED_BODY = struct.Struct("<qq")
_HEAD_SIZE = LENGTH_SIZE + HEADER_SIZE
# Chunks below this are gathered in one bytearray, so that a peer that sends single bytes costs no list of millions.
_SMALL_CHUNK = 4096


def encode_head(command: int, correlation: bytes, payload_size: int, credentials: bytes = b"") -> bytes:
    """All of a frame that comes before its payload; `credentials` as `encode_credentials` made them."""
    flags = AUTHENTICATED if credentials else 0
    return _HEADER.pack(HEADER_SIZE + len(credentials) + payload_size, command, flags, correlation) + credentials


def encode_frame(command: int, correlation: bytes, payload: bytes = b"", credentials: bytes = b"") -> bytes:
    """One whole frame."""
    return encode_head(command, correlation, len(payload), credentials) + payload


class FrameBuffer:
    """Cuts a byte stream into frames, however it was split on its way.

    Strategy: a chunk that begins with a frame is cut in place, without a copy of the chunk. What is left at its end
    is kept in parts, and the parts are joined once, when the frame that they begin is known to be complete: a page of
    10 MB that arrives in 16 KiB pieces is copied once, not once a piece.

    A frame above the limit is not stored. `on_oversize(correlation, length)` is asked: where it returns, the frame is
    skipped as it comes, and one of the command `SKIPPED` stands in its place; otherwise it raises `ProtocolError`.
    Without it, such a frame is one.
    """

    __slots__ = ("_error", "_have", "_limit", "_need", "_on_oversize", "_parts", "_skip")

    def __init__(self, limit: int = MAX_FRAME_SIZE, on_oversize: Callable[[bytes, int], None] | None = None) -> None:
        self._limit = limit
        self._on_oversize = on_oversize or self._refuse
        self._parts: list[bytes | bytearray] = []
        self._have = 0
        self._need = 0
        self._skip = 0
        self._error: ProtocolError | None = None

    def __repr__(self) -> str:
        return f"<FrameBuffer: {self._have} bytes kept, {self._skip} to skip>"

    @property
    def buffered(self) -> int:
        """How many bytes of an unfinished frame are kept."""
        return self._have

    def feed(self, chunk: bytes | bytearray) -> list[Frame]:
        """The frames that this chunk completes, in order; otherwise as `feed_runs`."""
        runs = self.feed_runs(chunk)
        return [(command, flags, correlation, body) for command, flags, correlation, bodies in runs for body in bodies]

    def feed_runs(self, chunk: bytes | bytearray) -> list[Run]:
        """The frames that this chunk completes, in order, in runs.

        Raises `ProtocolError` for a length no frame can have; the buffer is of no use after that. Where good frames
        came before it, they are returned, and `check` or the next call raises.
        """
        self.check()
        if self._skip:
            chunk = self._skip_from(chunk)
        if self._parts:
            self._keep(chunk)
            if self._have < self._need:
                return []
            chunk = b"".join(self._parts)
            self._parts.clear()
            self._have = 0
        return self._cut(bytes(chunk))

    def check(self) -> None:
        """Raise what is wrong with the bytes after the frames that `feed` returned."""
        if self._error is not None:
            raise self._error

    def _cut(self, data: bytes) -> list[Run]:
        runs: list[Run] = []
        try:
            self._cut_into(runs, data)
        except ProtocolError as error:
            self._error = error
            if not runs:
                raise
        return runs

    def _cut_into(self, runs: list[Run], data: bytes) -> None:
        unpack = _LENGTH_AND_HEADER.unpack_from
        limit = self._limit
        start = 0
        size = len(data)
        last_head = size - _HEAD_SIZE
        header = b""
        bodies: list[bytes] = []
        while start <= last_head:
            length, this_header = unpack(data, start)
            end = start + LENGTH_SIZE + length
            if not HEADER_SIZE <= length <= limit:
                self._check(length)
                header = b""
                runs.append(self._oversize(this_header[2:], length))
                start = self._skip_to(end, size)
                continue
            if end > size:
                break
            if this_header != header:
                header = this_header
                bodies = []
                runs.append((header[0], header[1], header[2:], bodies))
            bodies.append(data[start + _HEAD_SIZE : end])
            start = end
        if start < size:
            self._keep_tail(data, start)

    def _oversize(self, correlation: bytes, length: int) -> Run:
        self._on_oversize(correlation, length)
        return SKIPPED, 0, correlation, [_SKIPPED_BODY.pack(length, self._limit)]

    def _keep_tail(self, data: bytes, start: int) -> None:
        """Keep an unfinished frame, once it is known that it can be one."""
        self._need = LENGTH_SIZE
        if len(data) - start >= LENGTH_SIZE:
            (length,) = _LENGTH.unpack_from(data, start)
            self._check(length)
            self._need = LENGTH_SIZE + length if length <= self._limit else _HEAD_SIZE
        self._keep(data[start:])

    def _keep(self, chunk: bytes | bytearray) -> None:
        self._have += len(chunk)
        if len(chunk) >= _SMALL_CHUNK:
            # A copy of a bytearray (TLS streams give them): the caller's own must neither grow nor change under us.
            self._parts.append(bytes(chunk))
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += chunk
        else:
            self._parts.append(bytearray(chunk))

    def _skip_to(self, end: int, size: int) -> int:
        self._skip = max(0, end - size)
        return min(end, size)

    def _skip_from(self, chunk: bytes | bytearray) -> bytes | bytearray:
        dropped = min(self._skip, len(chunk))
        self._skip -= dropped
        return chunk[dropped:]

    def _check(self, length: int) -> None:
        if length < HEADER_SIZE:
            msg = f"the peer sent a frame of length {length}; the shortest is {HEADER_SIZE}: it speaks another protocol"
            raise ProtocolError(msg)

    def _refuse(self, _correlation: bytes, length: int) -> NoReturn:
        msg = f"the peer sent a frame of {length:,} bytes; the limit is {self._limit:,} (max_frame_size)"
        raise ProtocolError(msg)


def too_large(body: bytes) -> FrameTooLarge:
    """What a frame of the command `SKIPPED` means to who waited for it."""
    if len(body) != _SKIPPED_BODY.size:
        msg = "the peer sent a frame of command 0x00, which is none"
        raise ProtocolError(msg)
    length, limit = _SKIPPED_BODY.unpack(body)
    msg = f"a frame of {length:,} bytes came; the limit is {limit:,} (max_frame_size)"
    return FrameTooLarge(msg, length, limit)


def encode_credentials(credentials: Credentials) -> bytes:
    """The bytes that stand between header and payload (docs/protocol.md, 1.2)."""
    if credentials.token:
        return struct.pack("<h", -len(credentials.token)) + credentials.token.encode("ascii")
    return _encode_name(credentials.login) + _encode_name(credentials.password)


def _encode_name(value: str) -> bytes:
    data = value.encode()
    return bytes([len(data)]) + data


def decode_credentials(body: bytes, *, tokens: bool = False) -> tuple[Credentials, bytes]:
    """Credentials and payload of a frame that has the flag `AUTHENTICATED`: what a server does.

    `tokens`: read a negative 16-bit length as a token's, as servers from 20.6 do. Raises `ProtocolError` where the
    body is shorter than it says, is no UTF-8, or holds what no `Credentials` can.
    """
    try:
        if tokens and len(body) > 1 and (size := struct.unpack_from("<h", body)[0]) < 0:
            return Credentials(token=_text(body, 2, -size)), body[2 - size :]
        login_end = 1 + body[0]
        password_end = login_end + 1 + body[login_end]
        login = _text(body, 1, body[0])
        password = _text(body, login_end + 1, body[login_end])
        return Credentials(login, password), body[password_end:]
    except (IndexError, UnicodeDecodeError, InvalidArgument) as error:
        msg = "credentials in the frame's header are cut short, no UTF-8, or no user's"
        raise ProtocolError(msg) from error


def _text(body: bytes, start: int, size: int) -> str:
    if start + size > len(body):
        raise IndexError
    return body[start : start + size].decode()
