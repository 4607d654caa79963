"""Workloads that share the events of a stream: consumers of a group that die, stall, nak and come back.

Each event is handled by one of them at least once, or parked. What they say of events reaches the node, as long as the
connection lives by which they came.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio

from tests.simulation.client import BAD_LUCK
from tests.simulation.ledger import in_words
from tests.simulation.workloads import Workload
from trio_extreme import START, ConsumerStrategy, NakAction, PersistentSettings, TrioExtremeError
from trio_extreme.embedded.groups_records import checkpoint_stream, parked_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.simulation.network import ClientEnd
    from tests.simulation.workloads import Stage
    from trio_extreme import PersistentEvent, PersistentSubscription
    from trio_extreme.embedded.groups_running import Group
    from trio_extreme.embedded.node import Node
    from trio_extreme.embedded.store import Store
    from trio_extreme.embedded.versions import ServerVersion

GROUP = "team"
_TICK = 1.0
_LARGEST = 31_000
"""Bytes of the largest event's frame."""


class Team:
    """The consumers of one group, and what they have done together."""

    def __init__(self, stream: str, settings: PersistentSettings) -> None:
        self.stream = stream
        self.settings = settings
        self.key = f"{stream}::{GROUP}"
        #: The ids of what somebody handled, as an ack names them.
        self.handled: set[bytes] = set()

    def __repr__(self) -> str:
        return f"<Team {self.key}: {len(self.handled)} handled>"

    @property
    def patience(self) -> float:
        """Seconds until what a dead consumer had has come again, and to another who may be as dead."""
        return 3 * (self.settings.message_timeout + _TICK)

    def problems(self, node: Node) -> Iterator[str]:
        """What is wrong with it at the end, when all has been quiet for a while."""
        if missing := self.missing(node.store):
            yield f"{self.key}: nobody ever handled {missing}"
        group = self.group(node)
        if group is None:
            yield f"{self.key}: the node has no such group"
        elif self.is_busy(node):
            yield f"{self.key}: is not through: {group!r}"
        else:
            yield from self._check_place(node.store, group)

    def _check_place(self, store: Store, group: Group) -> Iterator[str]:
        last = store.records(checkpoint_stream(self.key))
        place = json.loads(last[-1].event.data) if last else 0 if store.version.notes_what_is_not_handled else -1
        behind = store.last_number(self.stream) - int(place)
        if behind >= self.settings.checkpoint_min_count:
            yield f"{self.key}: its checkpoint is {place}, {behind} behind the last that was handled: {group!r}"

    def missing(self, store: Store) -> list[int]:
        """The numbers of what was neither handled nor parked."""
        done = self.handled | set(self._parked(store))
        return [record.number for record in store.records(self.stream) if record.id not in done]

    def _parked(self, store: Store) -> Iterator[bytes]:
        """Links to the event itself, also where it came by a link."""
        numbers = {
            json.loads(parked.event.metadata).get("subscriptionEventNumber", 0)
            for parked in store.records(parked_stream(self.key))
        }
        return (record.id for record in store.records(self.stream) if record.number in numbers)

    def group(self, node: Node) -> Group | None:
        """The node's side of it."""
        return node._service.groups.find(self.stream, GROUP)

    def is_busy(self, node: Node) -> bool:
        """Whether events are out, or wait for somebody."""
        group = self.group(node)
        return group is None or len(group.outstanding) > 0 or len(group.backlog) > 0


class Worker(Workload):
    """One consumer of a group, which comes back each time it has left."""

    def __init__(self, stage: Stage, team: Team) -> None:
        super().__init__(stage, team.stream)
        self._team = team
        self._in_flight = self.random.choice((1, 2, 10, 50))
        self._pace = self.random.choice((0.0, 0.0, 0.01, 0.2))
        self._weakness = self.random.choice((0.0, 0.1, 0.3))
        self._on_error = self.random.choice((None, None, NakAction.RETRY))
        #: What it has said of events: their ids, and the connection by which that has to reach the node.
        self._said: list[tuple[bytes, ClientEnd]] = []
        settings = self.client.settings
        # What is decoded was within the bound when it was, and what waits is; one event is let in whatever its size.
        self.client.grant(team.key, 2 * self._in_flight, 2 * settings.buffer_bytes + 2 * _LARGEST)

    async def run(self) -> None:
        await self.pause()
        await self._ensure()
        while True:
            try:
                await self._consume()
            except _Falls:
                self._note("falls down")
            await trio.sleep(0.2)

    async def _ensure(self) -> None:
        while True:
            try:
                await self.client.conn.ensure_persistent(self.stream, GROUP, self._team.settings)
            except BAD_LUCK:
                await trio.sleep(0.5)
            else:
                return

    async def _consume(self) -> None:
        subscription = self.client.conn.subscribe_persistent(
            self.stream, GROUP, in_flight=self._in_flight, on_error=self._on_error
        )
        inside = False
        try:
            async with subscription as events:
                inside = True
                while True:
                    await self._take(events)
        except TrioExtremeError as error:
            self._note(f"ended with {in_words(error)}")
            if inside or not isinstance(error, BAD_LUCK):
                self.client.trace.problem(f"{self!r} ended with {in_words(error)}")

    async def _take(self, events: PersistentSubscription) -> None:
        event: PersistentEvent | None = None
        with self.impatience():
            event = await anext(events)
        if event is None:
            return
        if self._pace and not self.is_calm:
            await trio.sleep(self.random.expovariate(1 / self._pace))
        if self.is_calm or self.random.random() >= self._weakness:
            await self._ack(events, event)
        else:
            await self._fail(events, event)
        if self.random.random() < self._weakness / 4:
            raise _Falls

    async def _ack(self, events: PersistentSubscription, event: PersistentEvent) -> None:
        self._team.handled.add(event.ack_id_bytes)
        if events._window.lease is event.lease:
            self._said.append((event.ack_id_bytes, self.client.wire.ends[-1]))
        await events.ack(event)

    async def _fail(self, events: PersistentSubscription, event: PersistentEvent) -> None:
        """Say that it was not handled, or nothing at all; or stand still."""
        what = self.random.choice((*NakAction, None, "nap"))
        if what == "nap":
            await trio.sleep(self.random.uniform(0, 2 * self._team.settings.message_timeout))
        elif isinstance(what, NakAction):
            if what in (NakAction.SKIP, NakAction.STOP):
                self._team.handled.add(event.ack_id_bytes)
            await events.nak(event, action=what, message="too weak")

    def _note(self, what: str) -> None:
        self.client.trace.note(self.client.name, f"{self!r}: {what}")

    def check_said(self) -> None:
        """What was said over a connection that still lives was sent."""
        wire = self.client.wire
        lost = [event_id.hex()[:8] for event_id, end in self._said if not end.is_closed and event_id not in wire.said]
        if lost:
            self.client.trace.problem(f"{self!r} acked {lost}, and that was never sent")


class _Falls(Exception):
    """A worker has had enough of it, in the middle of something."""


def settings_of(draw: Random, version: ServerVersion) -> PersistentSettings:
    """Those of a group that is quick to lose its patience."""
    return PersistentSettings(
        start_from=START,
        resolve_link_tos=draw.random() < 0.7,
        message_timeout=draw.choice((1.0, 3.0, 8.0)),
        max_retry_count=draw.choice((1, 10, 500)),
        read_batch_size=draw.choice((1, 5)),
        buffer_size=draw.choice((6, 20, 500)),
        checkpoint_after_time=draw.choice((0.5, 2.0)),
        checkpoint_min_count=draw.choice((1, 3, 5)),
        checkpoint_max_count=draw.choice((5, 1000)),
        named_consumer_strategy=ConsumerStrategy(draw.choice(sorted(version.strategies))),
    )
