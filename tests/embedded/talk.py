"""A client of bytes, for tests of the node: it knows the wire and nothing of the library's client."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from trio_extreme.embedded.acl import DEFAULT_USERS
from trio_extreme.embedded.clients import Client
from trio_extreme.embedded.service import Service
from trio_extreme.embedded.store import Store
from trio_extreme.embedded.versions import VERSIONS, ServerVersion, find_version
from trio_extreme.values import Credentials
from trio_extreme.wire import schema
from trio_extreme.wire.commands import MESSAGES, Command, decode_payload
from trio_extreme.wire.framing import FrameBuffer, encode_credentials, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from trio_extreme.embedded import Node

ADMIN = Credentials("admin", "changeit")
_numbers = count(1)


class Reply(NamedTuple):
    """One package from the node; `message` is its payload where it carries no message."""

    command: int
    correlation: bytes
    message: Any


def new_id() -> bytes:
    """Sixteen bytes that were not used before."""
    return next(_numbers).to_bytes(16, "big")


def new_event(
    type: str = "happened", data: bytes = b"{}", *, id: bytes | None = None, is_json: bool = True, metadata: bytes = b""
) -> schema.NewEvent:
    return schema.NewEvent(
        event_id=id or new_id(),
        event_type=type,
        data_content_type=int(is_json),
        metadata_content_type=0,
        data=data,
        metadata=metadata,
    )


def new_events(number: int) -> list[schema.NewEvent]:
    return [new_event(data=b"%d" % index) for index in range(number)]


def link(target: str) -> schema.NewEvent:
    """An event that leads to `number@stream`."""
    return new_event("$>", target.encode(), is_json=False)


def append(stream: str, events: Sequence[schema.NewEvent], expected: int = -2) -> schema.WriteEvents:
    return schema.WriteEvents(event_stream_id=stream, expected_version=expected, events=events, require_master=False)


def delete(stream: str, expected: int = -2, *, hard: bool = False) -> schema.DeleteStream:
    return schema.DeleteStream(
        event_stream_id=stream, expected_version=expected, require_master=False, hard_delete=hard
    )


def read_event(stream: str, number: int, *, links: bool = False) -> schema.ReadEvent:
    return schema.ReadEvent(event_stream_id=stream, event_number=number, resolve_link_tos=links, require_master=False)


def read_stream(stream: str, start: int = 0, size: int = 100, *, links: bool = False) -> schema.ReadStreamEvents:
    return schema.ReadStreamEvents(
        event_stream_id=stream, from_event_number=start, max_count=size, resolve_link_tos=links, require_master=False
    )


def read_log(start: tuple[int, int] = (0, 0), size: int = 100, *, links: bool = False) -> schema.ReadAllEvents:
    commit, prepare = start
    return schema.ReadAllEvents(
        commit_position=commit, prepare_position=prepare, max_count=size, resolve_link_tos=links, require_master=False
    )


def begin(stream: str, expected: int = -2) -> schema.TransactionStart:
    return schema.TransactionStart(event_stream_id=stream, expected_version=expected, require_master=False)


def write(transaction: int, events: Sequence[schema.NewEvent]) -> schema.TransactionWrite:
    return schema.TransactionWrite(transaction_id=transaction, events=events, require_master=False)


def commit(transaction: int) -> schema.TransactionCommit:
    return schema.TransactionCommit(transaction_id=transaction, require_master=False)


def choose(*data: str, by_type: bool = False, regex: bool = False) -> schema.Filter:
    """A filter: by streams or by types, by prefixes or a regular expression."""
    return schema.Filter(context=int(by_type), type=int(not regex), data=data)


def read_filtered(
    filter: schema.Filter,
    start: tuple[int, int] = (0, 0),
    size: int = 100,
    window: int | None = None,
    *,
    links: bool = False,
) -> schema.FilteredReadAllEvents:
    commit, prepare = start
    return schema.FilteredReadAllEvents(
        commit_position=commit,
        prepare_position=prepare,
        max_count=size,
        max_search_window=window,
        resolve_link_tos=links,
        require_master=False,
        filter=filter,
    )


def subscribe_filtered(
    filter: schema.Filter, interval: int = -1, stream: str = "", *, links: bool = False
) -> schema.FilteredSubscribeToStream:
    return schema.FilteredSubscribeToStream(
        event_stream_id=stream, resolve_link_tos=links, filter=filter, checkpoint_interval=interval
    )


def subscribe(stream: str, *, links: bool = False) -> schema.SubscribeToStream:
    return schema.SubscribeToStream(event_stream_id=stream, resolve_link_tos=links)


def pack(
    command: int,
    message: Message | bytes = b"",
    credentials: Credentials | None = None,
    correlation: bytes | None = None,
) -> bytes:
    """A frame with a new correlation id, if none is given."""
    payload = message if isinstance(message, bytes) else message.SerializePartialToString()
    header = encode_credentials(credentials) if credentials else b""
    return encode_frame(command, correlation or new_id(), payload, header)


def unpack(buffer: FrameBuffer, data: bytes) -> list[Reply]:
    replies = []
    for command, _, correlation, payload in buffer.feed(data):
        message = decode_payload(command, bytes(payload)) if command in MESSAGES else bytes(payload)
        replies.append(Reply(command, bytes(correlation), message))
    return replies


class Clock:
    """A calendar that stands still until it is told."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Desk:
    """A service without connections: what is asked is answered at once."""

    version: str | ServerVersion = "4.1.1"
    clock: Clock = field(default_factory=Clock)
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.version, str):
            self.version = find_version(self.version)
        self.store = Store(self.version, now=self.clock)
        self.users = dict(DEFAULT_USERS)
        self.service = Service(self.store, self.users, self.tokens)
        self.caller = self.new_caller()

    def new_caller(self) -> Caller:
        return Caller(self.service.receive, self.store.version)

    def hear(self, command: int, message: Message | bytes = b"", credentials: Credentials | None = None) -> Reply:
        """The first reply to somebody new."""
        caller = self.new_caller()
        caller.tell(pack(command, message, credentials))
        return caller.replies.popleft()

    def ask(self, command: int, message: Message | bytes = b"", credentials: Credentials | None = ADMIN) -> Any:
        """The message of the one reply."""
        return self.caller.ask(command, message, credentials).message

    def write(self, stream: str, events: Sequence[schema.NewEvent], expected: int = -2) -> schema.WriteEventsCompleted:
        reply: schema.WriteEventsCompleted = self.ask(Command.WRITE_EVENTS, append(stream, events, expected))
        return reply


class Caller:
    """One client of a `Desk`; `replies` are those nobody asked for yet."""

    def __init__(self, receive: Callable[[Client, Any], None], version: ServerVersion = VERSIONS["4.1.1"]) -> None:
        self.replies: deque[Reply] = deque()
        self.hung_up = False
        self.client = Client(version, self._take, self._close)
        self._receive = receive

    def _take(self, frame: bytes) -> None:
        self.replies.extend(unpack(FrameBuffer(), frame))

    def _close(self) -> None:
        self.hung_up = True

    def tell(self, data: bytes) -> None:
        for frame in FrameBuffer().feed(data):
            self._receive(self.client, frame)

    def tell_as(self, credentials: Credentials, command: int, message: Message | bytes = b"") -> None:
        self.tell(pack(command, message, credentials))

    def ask(self, command: int, message: Message | bytes = b"", credentials: Credentials | None = None) -> Reply:
        assert not self.replies, "an earlier reply was not looked at"
        self.tell(pack(command, message, credentials))
        return self.replies.popleft()


class Talk:
    """One connection over a stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = FrameBuffer()
        self._replies: deque[Reply] = deque()

    async def tell(self, command: int, message: Message | bytes = b"", credentials: Credentials | None = None) -> None:
        await self.stream.send_all(pack(command, message, credentials))

    async def hear(self) -> Reply | None:
        """The next package, or None when the node has hung up."""
        while not self._replies:
            chunk = await self.stream.receive_some()
            if not chunk:
                return None
            self._replies.extend(unpack(self._buffer, bytes(chunk)))
        return self._replies.popleft()

    async def ask(
        self, command: int, message: Message | bytes = b"", credentials: Credentials | None = ADMIN
    ) -> Reply | None:
        await self.tell(command, message, credentials)
        return await self.hear()

    async def hear_for(self, seconds: float) -> list[Reply | None]:
        """All that comes in so many seconds, None last where the node hangs up."""
        heard: list[Reply | None] = []
        with trio.move_on_after(seconds):
            while True:
                heard.append(await self.hear())
                if heard[-1] is None:
                    break
        return heard


async def talk_to(node: Node) -> Talk:
    """A connection in memory."""
    return Talk(await node.connect(node.host, node.port))


async def talk_through_socket(node: Node) -> Talk:
    return Talk(await trio.open_tcp_stream(node.host, node.port))


async def is_alive(talk: Talk) -> bool:
    reply = await talk.ask(Command.PING, b"echo")
    return reply is not None and reply.message == b"echo"


async def assert_ended(talk: Talk) -> None:
    """By an end or a reset, which is all that may happen to a socket."""
    with suppress(trio.BrokenResourceError):
        assert await talk.hear() is None
    await talk.stream.aclose()
