"""Reading the log with a filter, and subscribing to it (docs/protocol.md, 3.7 and 3.8).

Where the server does not filter, pages come whole and are sifted here, in the operation that reads them: whoever asked
gets pages of the same kind either way, with few events or none, and a next place behind all that was looked through.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

from trio_extreme.events import Events, LogEvent
from trio_extreme.operations.base import Operation
from trio_extreme.operations.reading import LAST, LogPage, ReadAll, log_refusal, stuck, too_many
from trio_extreme.operations.subscribing import ALL_STREAMS, Subscribe
from trio_extreme.values import Position
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.filters import Filter

_Context = schema.Filter.FilterContext
_Type = schema.Filter.FilterType
_SUCCESS = schema.FilteredReadAllEventsCompleted.FilteredReadAllResult.Success
_REPLIES = {
    Command.FILTERED_READ_ALL_EVENTS_FORWARD: Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED,
    # 0xBD is used by nobody (docs/protocol.md, pitfall 35).
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD: Command.FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED,
}

CHECKPOINT_INTERVAL = 10_000
"""Events that are looked through without one that matches, before the place is told: some pages, should somebody go
on from there."""


def encode_filter(filter: Filter) -> schema.Filter:
    """A filter as it goes over the wire."""
    return schema.Filter(
        context=_Context.StreamId if filter.by == "stream" else _Context.EventType,
        type=_Type.Prefix if filter.regex is None else _Type.Regex,
        data=filter.prefixes if filter.regex is None else [filter.regex],
    )


class Sieve:
    """A filter that is applied here: to the record itself, which is the link where there is one.

    Raises `InvalidArgument` where Python cannot read its regular expression.
    """

    def __init__(self, filter: Filter) -> None:
        self._field = "event_stream_id" if filter.by == "stream" else "event_type"
        self._choose = filter.chooser()

    def __call__(self, messages: Sequence[schema.ResolvedEvent]) -> list[schema.ResolvedEvent]:
        """Those that match, in order."""
        field, choose = self._field, self._choose
        return [
            message
            for message in messages
            if choose(getattr(message.link if message.HasField("link") else message.event, field))
        ]


class ReadFiltered(Operation[LogPage]):
    """A page of what matches, by a server that filters: what it finds among `count` events.

    As many are wanted as are looked through. Servers up to 22.10 would look through more than are wanted, but of an
    explicit transaction that begins behind so many they skip what is left (docs/protocol.md, 3.7).
    """

    def __init__(
        self,
        filter: Filter,
        start: Position,
        count: int,
        *,
        backwards: bool,
        resolve_links: bool,
        require_master: bool,
    ) -> None:
        self.command = (
            Command.FILTERED_READ_ALL_EVENTS_BACKWARD if backwards else Command.FILTERED_READ_ALL_EVENTS_FORWARD
        )
        self.answer = _REPLIES[self.command]
        self._filter = filter
        self._start = start
        self._count = count
        self._backwards = backwards
        self._resolve_links = resolve_links
        self._require_master = require_master

    def payload(self) -> bytes:
        """A FilteredReadAllEvents."""
        return schema.FilteredReadAllEvents(
            commit_position=self._start.commit,
            prepare_position=self._start.prepare,
            max_count=self._count,
            max_search_window=self._count,
            resolve_link_tos=self._resolve_links,
            require_master=self._require_master,
            filter=encode_filter(self._filter),
        ).SerializeToString()

    def read(self, payload: bytes) -> LogPage:
        """The page. It may have no events and not be the last: the next one begins behind what was looked through."""
        done = parse(schema.FilteredReadAllEventsCompleted, payload)
        if done.result != _SUCCESS:
            raise log_refusal(done.result, done.error, resolve_links=self._resolve_links)
        events = Events(LogEvent, done.events)
        at = Position(done.commit_position, done.prepare_position)
        following = Position(done.next_commit_position, done.next_prepare_position)
        if len(events) > self._count:
            raise too_many(len(events), self._count)
        moved = self._moves_on(following)
        if events and not moved:
            raise stuck(following)
        # Nothing found and nothing looked through: there is no more to read, whether it says so or not.
        is_end = done.is_end_of_stream or not moved
        passed = 0 if is_end else self._count - len(events)
        return LogPage(events, following, is_end, len(payload), at, passed)

    def _moves_on(self, following: Position) -> bool:
        if self._backwards:
            return self._start.commit == LAST or is_beyond(self._start, following)
        return is_beyond(following, self._start)

    def refused(self, command: int, payload: bytes) -> LogPage:
        """Servers say AccessDenied to a filtered read as if it had no filter (docs/protocol.md, pitfall 34)."""
        backward = Command.READ_ALL_EVENTS_BACKWARD_COMPLETED
        if command == (backward if self._backwards else Command.READ_ALL_EVENTS_FORWARD_COMPLETED):
            done = parse(schema.ReadAllEventsCompleted, payload)
            if done.result != _SUCCESS:
                raise log_refusal(done.result, done.error, resolve_links=self._resolve_links)
        return super().refused(command, payload)


class ReadSifted(ReadAll):
    """A page of what matches, from a server that does not filter: of the `count` events that come at most."""

    def __init__(
        self,
        sieve: Sieve,
        start: Position,
        count: int,
        *,
        backwards: bool,
        resolve_links: bool,
        require_master: bool,
    ) -> None:
        super().__init__(start, count, backwards=backwards, resolve_links=resolve_links, require_master=require_master)
        self._sieve = sieve

    def _page(self, messages: Sequence[schema.ResolvedEvent], following: Position, size: int, at: Position) -> LogPage:
        page = super()._page(messages, following, size, at)
        found = self._sieve(messages)
        passed = len(messages) - len(found)
        return page._replace(events=Events(LogEvent, found), passed=passed, sifted=passed)


class FilteredPages:
    """Makes the requests for pages of what matches, whoever is to choose it."""

    def __init__(self, filter: Filter, *, backwards: bool, resolve_links: bool, require_master: bool) -> None:
        self.filter = filter
        self._backwards = backwards
        self._resolve_links = resolve_links
        self._require_master = require_master

    @cached_property
    def sieve(self) -> Sieve:
        """What chooses where the server does not."""
        return Sieve(self.filter)

    def request(self, start: Position, count: int, *, by_server: bool) -> ReadFiltered | ReadSifted:
        """The page that begins here, out of so many events; chosen by the server, or here."""
        make = partial(ReadFiltered, self.filter) if by_server else partial(ReadSifted, self.sieve)
        return make(
            start,
            count,
            backwards=self._backwards,
            resolve_links=self._resolve_links,
            require_master=self._require_master,
        )


class AskWhetherFiltered(Operation[bool]):
    """Whether the server filters: one prefix, at the end of the log, where there is nothing to look through.

    No server that knows the command dislikes this, so that a BadRequest says that it does not. Whatever a filtered
    read of somebody else is answered with afterwards is about that.
    """

    command = Command.FILTERED_READ_ALL_EVENTS_FORWARD
    answer = Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED

    def payload(self) -> bytes:
        """A FilteredReadAllEvents."""
        return schema.FilteredReadAllEvents(
            commit_position=LAST,
            prepare_position=LAST,
            max_count=1,
            max_search_window=1,
            resolve_link_tos=False,
            require_master=False,
            filter=schema.Filter(context=_Context.StreamId, type=_Type.Prefix, data=["$"]),
        ).SerializeToString()

    def read(self, payload: bytes) -> bool:
        """It does, whatever it says."""
        parse(schema.FilteredReadAllEventsCompleted, payload)
        return True

    def refused(self, command: int, payload: bytes) -> bool:
        """A refusal of access comes as another command (pitfall 34), and from a server that filters."""
        if command == Command.READ_ALL_EVENTS_FORWARD_COMPLETED:
            return True
        if command == Command.BAD_REQUEST:
            return False
        return super().refused(command, payload)


class SubscribeFiltered(Subscribe):
    """Have the server push what is appended to the log from now on and matches, and say how far it has looked."""

    command = Command.FILTERED_SUBSCRIBE_TO_STREAM

    def __init__(self, filter: Filter, *, resolve_links: bool) -> None:
        super().__init__(ALL_STREAMS, resolve_links=resolve_links)
        self._filter = filter

    def payload(self) -> bytes:
        """A FilteredSubscribeToStream."""
        return schema.FilteredSubscribeToStream(
            event_stream_id=ALL_STREAMS,
            resolve_link_tos=self._resolve_links,
            filter=encode_filter(self._filter),
            checkpoint_interval=CHECKPOINT_INTERVAL,
        ).SerializeToString()


def is_beyond(place: Position, other: Position) -> bool:
    """Whether it comes later in the log. That one of them is inclusive means nothing to servers."""
    return (place.commit, place.prepare) > (other.commit, other.prepare)


def read_checkpoint(payload: bytes) -> Position:
    """Up to where the server has looked. What is there it has sent if it matches; the place may be an event's own."""
    reached = parse(schema.CheckpointReached, payload)
    return Position(reached.commit_position, reached.prepare_position, inclusive=True)
