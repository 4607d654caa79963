"""The server's end of connections in memory, without a task of its own.

What the client sends is answered in the moment it is sent, or kept for the test to look at and answer. So a test reads
as the conversation it is about, and the clock stands still until everybody waits.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
import trio.testing

from tests.helpers import assert_nothing_left
from trio_extreme import Credentials, Settings, open_connection
from trio_extreme.wire.commands import Command, decode_payload
from trio_extreme.wire.framing import AUTHENTICATED, FrameBuffer, decode_credentials, encode_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from google.protobuf.message import Message

    from trio_extreme import Connection

ANONYMOUS = Settings()
"""Without credentials a connection is open once it has identified itself."""

ADMIN = Settings(username="admin", password="changeit")

ANSWERS = {
    Command.IDENTIFY_CLIENT: Command.CLIENT_IDENTIFIED,
    Command.PING: Command.PONG,
    Command.HEARTBEAT_REQUEST: Command.HEARTBEAT_RESPONSE,
}
"""What any server says to these, and so does a peer unless told otherwise."""


class Request(NamedTuple):
    """One frame from the client."""

    command: int
    correlation: bytes
    payload: bytes
    credentials: Credentials | None

    @property
    def message(self) -> Message:
        return decode_payload(self.command, self.payload)


class Peer:
    """One connection: give `connect` to `open_connection`, or the peer to a `Network`."""

    def __init__(self, *, mute: Iterable[int] = ()) -> None:
        self.stream, _ = trio.testing.memory_stream_pair()
        self._from_client = self.stream.send_stream
        self._to_client = self.stream.receive_stream
        self._from_client.send_all_hook = self._arrived
        self._from_client.close_hook = self._on_close
        self._to_client.receive_some_hook = self._reading
        self._buffer = FrameBuffer()
        self._put, self._queue = trio.open_memory_channel[Request](inf)
        self._gate = trio.Event()
        self._gate.set()
        self._sending_broken: BaseException | None = None
        self._reading_broken: BaseException | None = None
        #: What is done with a request of a command; what has nothing here waits for `receive`.
        self.handlers: dict[int, Callable[[Request], None]] = {
            asked: self._answer_with(answer) for asked, answer in ANSWERS.items() if asked not in mute
        }
        #: All that ever came, in order.
        self.log: list[Request] = []
        #: How many bytes each `send_all` had.
        self.sends: list[int] = []
        self.closed = False

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return self.stream

    # --- what the client says

    async def receive(self, command: int | None = None) -> Request:
        """The next request that nobody answered by itself."""
        request = await self._queue.receive()
        assert command is None or request.command == command
        return request

    def unanswered(self) -> list[Request]:
        """Those that wait for `receive` now."""
        found = []
        while self._queue.statistics().current_buffer_used:
            found.append(self._queue.receive_nowait())
        return found

    def commands(self) -> list[int]:
        """All that ever came, by command, without signs of life and the handshake."""
        return [request.command for request in self.log if request.command not in ANSWERS]

    async def _arrived(self) -> None:
        await self._gate.wait()
        if self._sending_broken is not None:
            raise self._sending_broken
        try:
            data = self._from_client.get_data_nowait()
        except trio.WouldBlock:
            # What was to be sent had lost its caller: nothing at all was.
            return
        self.sends.append(len(data))
        for command, flags, correlation, body in self._buffer.feed(data):
            credentials, payload = decode_credentials(body, tokens=True) if flags & AUTHENTICATED else (None, body)
            self._take(Request(command, correlation, payload, credentials))

    def _take(self, request: Request) -> None:
        self.log.append(request)
        handler = self.handlers.get(request.command, self._put.send_nowait)
        if not self.closed:
            handler(request)

    # --- what it hears

    def send(self, command: int, correlation: bytes, message: Message | bytes = b"") -> None:
        self.send_bytes(encode(command, correlation, message))

    def send_bytes(self, data: bytes) -> None:
        """What is sent without a pause between comes in one chunk."""
        self._to_client.put_data(data)

    def _answer_with(self, command: int) -> Callable[[Request], None]:
        return lambda request: self.send(command, request.correlation)

    # --- what goes wrong

    def hang_up(self) -> None:
        """Close: the client reads what was sent, then the end. It can still write into the void."""
        self._to_client.put_eof()
        self.handlers = dict.fromkeys(ANSWERS, self._ignore)

    def _ignore(self, request: Request) -> None:
        pass

    def hold(self) -> None:
        """From now on the client's `send_all` does not return."""
        self._gate = trio.Event()

    def release(self) -> None:
        self._gate.set()

    def break_sending(self, error: BaseException | None = None) -> None:
        """From now on everything the client sends fails, while it can still receive."""
        self._sending_broken = error or trio.BrokenResourceError("the network is gone")
        self._gate.set()

    def break_reading(self, error: BaseException) -> None:
        """What the client reads next is one chunk, and after that it fails."""
        self._reading_broken = error
        self.send(Command.HEARTBEAT_RESPONSE, bytes(range(16)))

    async def _reading(self) -> None:
        if self._reading_broken is not None:
            raise self._reading_broken

    def _on_close(self) -> None:
        self.closed = True


class Network:
    """A `connect` that does one thing after another: an error is raised, a peer answers, None never comes back.

    The last of them is what it does ever after.
    """

    def __init__(self, *outcomes: Peer | BaseException | None) -> None:
        self._outcomes = list(outcomes)
        #: When it was tried.
        self.times: list[float] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        self.times.append(trio.current_time())
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if outcome is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if isinstance(outcome, BaseException):
            raise outcome
        assert outcome is not None
        return outcome.stream


class Call:
    """A call that runs beside the test."""

    def __init__(
        self, nursery: trio.Nursery, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any
    ) -> None:
        self._function = partial(function, *args, **options)
        self._value: Any = None
        self._error: Exception | None = None
        self._done = trio.Event()
        self.scope = trio.CancelScope()
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            try:
                self._value = await self._function()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test wants it
                self._error = error
        self._done.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    async def value(self) -> Any:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value

    async def error(self) -> Any:
        """The error it ended with."""
        await self._done.wait()
        assert self._error is not None, f"it returned {self._value!r}"
        return self._error


@asynccontextmanager
async def open_to(peer: Peer, settings: Settings = ANONYMOUS) -> AsyncIterator[Connection]:
    """A connection to this peer, of which nothing may be left."""
    async with open_connection(settings, connect=peer.connect) as conn:
        yield conn
        await trio.testing.wait_all_tasks_blocked()
        assert_nothing_left(conn)
    assert peer.closed


def encode(command: int, correlation: bytes, message: Message | bytes = b"") -> bytes:
    """One frame; a message is sent as it is, without what a real server would fill in."""
    payload = message if isinstance(message, bytes) else message.SerializePartialToString()
    return encode_frame(command, correlation, payload)


def answering(command: int, payload: bytes | Any = b"") -> Callable[[Peer], Callable[[Request], None]]:
    """Makes handlers that answer every request with this."""
    return lambda peer: lambda request: peer.send(command, request.correlation, payload)
