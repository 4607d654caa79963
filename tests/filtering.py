"""A server's end with a log of which events are wanted by filters: one that filters, or an older one."""

from __future__ import annotations

import re
from bisect import bisect_left
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from trio.testing import wait_all_tasks_blocked

from tests.answers import record
from tests.following import LONG_ENOUGH
from tests.helpers import assert_nothing_left
from tests.lost import AT_ONCE
from tests.peer import Network, Peer, Request, encode
from trio_extreme import open_connection
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container, Iterable

    from trio_extreme import Connection, Settings

READ, READ_BACK = Command.READ_ALL_EVENTS_FORWARD, Command.READ_ALL_EVENTS_BACKWARD
FILTERED, FILTERED_BACK = Command.FILTERED_READ_ALL_EVENTS_FORWARD, Command.FILTERED_READ_ALL_EVENTS_BACKWARD
SUBSCRIBE, SUBSCRIBE_FILTERED = Command.SUBSCRIBE_TO_STREAM, Command.FILTERED_SUBSCRIBE_TO_STREAM
UNSUBSCRIBE = Command.UNSUBSCRIBE_FROM_STREAM
APPEARED, CHECKPOINT = Command.STREAM_EVENT_APPEARED, Command.CHECKPOINT_REACHED

SIZE = 10
"""Bytes of a record: the first is at 0, the next at 10, and so on."""

_ANSWERS = {
    FILTERED: Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED,
    FILTERED_BACK: Command.FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED,
    READ: Command.READ_ALL_EVENTS_FORWARD_COMPLETED,
    READ_BACK: Command.READ_ALL_EVENTS_BACKWARD_COMPLETED,
}
_ACCESS_DENIED = schema.ReadAllEventsCompleted.ReadAllResult.AccessDenied


class Asked(NamedTuple):
    """A page that was asked for."""

    command: int
    start: int
    count: int
    window: int = 0


@dataclass
class _Feed:
    correlation: bytes
    chooses: Callable[[schema.ResolvedEvent], bool]
    interval: int = -1
    passed: int = field(default=0)


class LogServer(Peer):
    """A peer with a log of events, each the only one of its stream; it dies of certain pages."""

    def __init__(
        self, streams: Iterable[str] = (), *, filters: bool = True, dies_of: Container[Asked] = (), size: int = 0
    ) -> None:
        super().__init__()
        self.events: list[schema.ResolvedEvent] = []
        self.asked: list[Asked] = []
        #: Questions whether it filters.
        self.questions = 0
        #: How many events it shows; all.
        self.visible: int | None = None
        self.dies_of = dies_of
        self.denies = False
        self._size = size
        self._feeds: dict[bytes, _Feed] = {}
        self.handlers[READ] = self.handlers[READ_BACK] = self._read
        self.handlers[SUBSCRIBE] = self._subscribe
        self.handlers[UNSUBSCRIBE] = self._unsubscribe
        for command in (FILTERED, FILTERED_BACK, SUBSCRIBE_FILTERED):
            self.handlers[command] = self._filtered if filters else self._unknown
        for stream in streams:
            self._append(stream)

    def _append(self, stream: str) -> schema.ResolvedEvent:
        place = SIZE * len(self.events)
        event = record(0, stream=stream, type=f"type of {stream}", data=bytes(self._size))
        self.events.append(schema.ResolvedEvent(event=event, commit_position=place, prepare_position=place))
        return self.events[-1]

    def write(self, *streams: str) -> None:
        """Events that are pushed, those of one call in one chunk."""
        written = [self._append(stream) for stream in streams]
        for feed in list(self._feeds.values()):
            self.send_bytes(b"".join(self._push(feed, event) for event in written))

    def _push(self, feed: _Feed, event: schema.ResolvedEvent) -> bytes:
        sent = b""
        if feed.chooses(event):
            sent = encode(APPEARED, feed.correlation, schema.StreamEventAppeared(event=event))
        feed.passed += 1
        if feed.passed == feed.interval:
            feed.passed = 0
            sent += self.checkpoint(feed.correlation, event.commit_position)
        return sent

    @staticmethod
    def checkpoint(correlation: bytes, place: int) -> bytes:
        return encode(CHECKPOINT, correlation, schema.CheckpointReached(commit_position=place, prepare_position=place))

    def hang_up(self) -> None:
        super().hang_up()
        self._feeds.clear()

    def forget(self) -> bytes:
        """The one subscription that is open is none any more, and its client not told."""
        (feed,) = self._feeds
        self._feeds.clear()
        return feed

    def set_interval(self, events: int) -> None:
        """Checkpoints come more often than was asked for."""
        for feed in self._feeds.values():
            feed.interval = events

    @property
    def feeds(self) -> list[bytes]:
        """The subscriptions that are open, by correlation id."""
        return list(self._feeds)

    # --- requests

    def _unknown(self, request: Request) -> None:
        self._note(request)
        text = f"Could not unwrap network package for command {request.command}.\n"
        self.send(Command.BAD_REQUEST, request.correlation, text.encode())

    def _filtered(self, request: Request) -> None:
        message: Any = request.message
        try:
            chooses = _chooser(message.filter)
        except re.error as error:
            text = f"Could not unwrap network package for command FilteredReadAllEventsForward.\n{error}"
            self.send(Command.BAD_REQUEST, request.correlation, text.encode())
            return
        if request.command == SUBSCRIBE_FILTERED:
            self._open(_Feed(request.correlation, chooses, message.checkpoint_interval))
        else:
            self._page(request, chooses)

    def _read(self, request: Request) -> None:
        self._page(request, lambda _: True)

    def _note(self, request: Request) -> bool:
        """Whether it is a page that was asked for."""
        message: Any = request.message
        if request.command == FILTERED and message.commit_position == -1:
            self.questions += 1
            return False
        if request.command != SUBSCRIBE_FILTERED:
            window = getattr(message, "max_search_window", 0)
            self.asked.append(Asked(request.command, message.commit_position, message.max_count, window))
        return True

    def _page(self, request: Request, chooses: Callable[[schema.ResolvedEvent], bool]) -> None:
        if self._note(request) and self.asked[-1] in self.dies_of:
            self.hang_up()
        elif self.denies:
            plain = {FILTERED: READ, FILTERED_BACK: READ_BACK}.get(request.command, request.command)
            done = schema.ReadAllEventsCompleted(
                result=_ACCESS_DENIED, next_commit_position=-1, next_prepare_position=-1
            )
            self.send(_ANSWERS[plain], request.correlation, done)
        else:
            self.send(_ANSWERS[request.command], request.correlation, self._answer(request, chooses))

    def _answer(self, request: Request, chooses: Callable[[schema.ResolvedEvent], bool]) -> Any:
        message: Any = request.message
        backwards = request.command in (READ_BACK, FILTERED_BACK)
        filtered = request.command in (FILTERED, FILTERED_BACK)
        shown = self.events[: self.visible]
        start = message.commit_position, message.prepare_position
        if start == (-1, -1):
            start = SIZE * len(shown), SIZE * len(shown)
        index = bisect_left(shown, start, key=_place)
        found, following, is_end = list[schema.ResolvedEvent](), start, True
        for looked_at, each in enumerate(shown[:index][::-1] if backwards else shown[index:]):
            if len(found) == message.max_count or (filtered and looked_at == message.max_search_window):
                is_end = False
                break
            following = _place(each) if backwards else (each.commit_position + SIZE, 0)
            if chooses(each):
                found.append(each)
        kind: Any = schema.FilteredReadAllEventsCompleted if filtered else schema.ReadAllEventsCompleted
        done = kind(
            commit_position=start[0],
            prepare_position=start[1],
            events=found,
            next_commit_position=following[0],
            next_prepare_position=following[1],
        )
        if filtered:
            done.is_end_of_stream = is_end
        return done

    def _subscribe(self, request: Request) -> None:
        self._open(_Feed(request.correlation, lambda _: True))

    def _unsubscribe(self, request: Request) -> None:
        # That it was never opened, because a test took the request, is known to nobody but the test.
        self._feeds.pop(request.correlation, None)

    def _open(self, feed: _Feed) -> None:
        self._feeds[feed.correlation] = feed
        last = SIZE * (len(self.events) - 1)
        confirmation = schema.SubscriptionConfirmation(last_commit_position=last)
        self.send(Command.SUBSCRIPTION_CONFIRMATION, feed.correlation, confirmation)


def _place(event: schema.ResolvedEvent) -> tuple[int, int]:
    return event.commit_position, event.prepare_position


def _chooser(filter: Any) -> Callable[[schema.ResolvedEvent], bool]:
    name = "event_stream_id" if filter.context == 0 else "event_type"
    data = tuple(filter.data)
    if filter.type == 0:
        search = re.compile(data[0]).search
        return lambda event: search(getattr(event.event, name)) is not None
    return lambda event: getattr(event.event, name).startswith(data)


@asynccontextmanager
async def open_to_servers(*servers: LogServer, settings: Settings = AT_ONCE) -> AsyncIterator[Connection]:
    """A connection to one after another, and then to nobody."""
    network = Network(*servers, None)
    async with open_connection(settings, connect=network.connect) as conn:
        with trio.fail_after(LONG_ENOUGH):
            yield conn
            await wait_all_tasks_blocked()
        assert_nothing_left(conn)
    assert not any(server.feeds for server in servers)
