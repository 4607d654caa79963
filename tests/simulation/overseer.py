"""What a node's groups do, watched from inside: which events are out, to whom and how long, and what was said of them.

Rule 1: an event is out to one consumer that is there, until it is acked or naked, or its time is over.
Rule 2: nobody has more events than were asked for.
Rule 3: what was acked is not handed out again before the node restarts, and then only what is behind the checkpoint.
Rule 4: what is said is of events that came by the same connection, and under the name that was confirmed for it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import trio

from trio_extreme.embedded.groups import Groups
from trio_extreme.embedded.groups_consumers import Consumer
from trio_extreme.embedded.groups_running import Group, NakAction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.simulation.trace import Trace
    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.groups_consumers import Message

_COMES_AGAIN = (NakAction.Retry, NakAction.Unknown)


class Overseer:
    """Watches the groups of all nodes that run meanwhile."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        #: Who has which event, and until when; by the consumers that are there.
        self._out: dict[Consumer, dict[bytes, float]] = {}
        self._groups: dict[Consumer, Group] = {}
        #: What each ever had.
        self._had: dict[Consumer, set[bytes]] = {}
        # Of each group: what was ever out, how often, and what was handled since the node started.
        self._times: dict[tuple[str, bytes], int] = {}
        self._done: set[tuple[str, bytes]] = set()
        #: The numbers from which on a group may hand out anything since the node restarted.
        self._first: dict[str, int] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the body runs."""
        with ExitStack() as stack:
            for kind, name, note in (
                (Group, "join", self._joins),
                (Group, "leave", self._leaves),
                (Group, "dismiss", self._leaves),
                (Group, "ack", self._acks),
                (Group, "nak", self._naks),
                (Groups, "ack", self._says),
                (Groups, "nak", self._says),
                (Groups, "load", self._begins),
            ):
                stack.enter_context(_told_before(kind, name, note))
            stack.enter_context(self._watching_pushes())
            yield

    @contextmanager
    def _watching_pushes(self) -> Iterator[None]:
        push = Consumer.push

        def note(consumer: Consumer, message: Message) -> bool:
            sent = push(consumer, message)
            # A fault that loses what is sent takes the consumer out of the group before this returns.
            if sent and consumer in self._out:
                self._pushed(consumer, message)
            return sent

        with patch.object(Consumer, "push", note):
            yield

    # --- what happens

    def _begins(self, groups: Groups) -> None:
        self._out, self._groups, self._done, self._first = {}, {}, set(), {}
        for settings in groups._notebook.groups():
            key = f"{settings.event_stream_id}::{settings.subscription_group_name}"
            checkpoint = groups._notebook.checkpoint(key)
            if checkpoint is not None:
                self._first[key] = checkpoint + (not groups._version.notes_what_is_not_handled)

    def _joins(self, group: Group, consumer: Consumer) -> None:
        self._out[consumer] = {}
        self._had[consumer] = set()
        self._groups[consumer] = group

    def _leaves(self, _: Group, *consumers: Consumer, **__: Any) -> None:
        for consumer in consumers:
            self._out.pop(consumer, None)

    def _acks(self, group: Group, ids: Iterable[bytes]) -> None:
        for event_id in ids:
            self._over(group, event_id, handled=True)

    def _naks(self, group: Group, ids: Iterable[bytes], action: NakAction, _: str) -> None:
        for event_id in ids:
            self._over(group, event_id, handled=action not in _COMES_AGAIN)

    def _over(self, group: Group, event_id: bytes, *, handled: bool) -> None:
        # What came too late, when it was out to nobody, counts for nothing.
        if event_id in group.outstanding and handled:
            self._done.add((group.key, event_id))
        for held in self._out.values():
            held.pop(event_id, None)

    def _says(self, groups: Groups, request: Request) -> None:
        name = request.message.subscription_id
        if name not in groups._groups:
            self._trace.problem(f"something is said of events of {name!r}, which no group was confirmed as")
        _, consumer = groups._consumers.get((request.client, request.correlation), (None, None))
        had = set(request.message.processed_event_ids) if consumer is None else self._had[consumer]
        for event_id in set(request.message.processed_event_ids) - had:
            self._trace.problem(f"{name} is told of event {event_id.hex()[:8]} by {consumer!r}, who never had it")

    def _pushed(self, consumer: Consumer, message: Message) -> None:
        group, now = self._groups[consumer], trio.current_time()
        key = group.key, message.id
        times = self._times[key] = self._times.get(key, 0) + 1
        what = f"{group.key} hands out number {message.number}"
        for other, held in self._out.items():
            if self._groups[other] is group and held.get(message.id, 0.0) > now:
                self._trace.problem(f"{what} while {other!r} has it")
        if key in self._done:
            self._trace.problem(f"{what} again, though it was handled")
        if message.number < self._first.get(group.key, 0):
            self._trace.problem(f"{what}, which is before its checkpoint")
        self._had[consumer].add(message.id)
        held = self._out[consumer]
        # Some servers forget no deadline: what came again may be taken back at any time.
        held[message.id] = now if times > 1 and group._version.keeps_deadlines else now + group._timeout
        if sum(until > now for until in held.values()) > consumer.size:
            self._trace.problem(f"{what} to {consumer!r}, which asked for {consumer.size}")


@contextmanager
def _told_before(kind: type[Any], name: str, note: Any) -> Iterator[None]:
    """Have `note` called with what a method is called with, and before it: what it does may lead to more."""
    method = getattr(kind, name)

    def tell(self: Any, *args: Any, **options: Any) -> Any:
        note(self, *args, **options)
        return method(self, *args, **options)

    with patch.object(kind, name, tell):
        yield
