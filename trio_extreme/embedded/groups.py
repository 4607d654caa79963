"""Persistent subscriptions, as requests: consumers that share the events of a stream (docs/protocol.md, 3.10). Pure.

`groups_running` is one group, `groups_consumers` who takes part in it, `groups_records` what is written down.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from trio_extreme.embedded.acl import ADMINS, OPERATORS, is_allowed
from trio_extreme.embedded.clients import require
from trio_extreme.embedded.groups_consumers import DISPATCH_TO_SINGLE, ROUND_ROBIN, STRATEGIES, Consumer
from trio_extreme.embedded.groups_records import Notebook
from trio_extreme.embedded.groups_running import Group, NakAction, key_of
from trio_extreme.embedded.metadata import Right
from trio_extreme.embedded.store import SETTINGS_STREAM
from trio_extreme.embedded.subscriptions import DropReason
from trio_extreme.embedded.versions import GroupChecks
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from google.protobuf.message import Message

    from trio_extreme.embedded.acl import Identity
    from trio_extreme.embedded.clients import Client, Request
    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.store import Store
    from trio_extreme.embedded.subscriptions import Hub
    from trio_extreme.wire.schema import (
        ConnectToPersistentSubscription,
        PersistentSubscriptionAckEvents,
        PersistentSubscriptionNakEvents,
    )

    Settings: TypeAlias = schema.CreatePersistentSubscription

TICK = 1.0
"""Seconds between two looks for what is late."""

_CREATED = schema.CreatePersistentSubscriptionCompleted
_UPDATED = schema.UpdatePersistentSubscriptionCompleted
_DELETED = schema.DeletePersistentSubscriptionCompleted
_ID_SIZE = 16
_EVERYTHING = "$all"


class _Outcome(Enum):
    """What became of a request about a group; the values are the names of the results in the replies."""

    DONE = "Success"
    EXISTS = "AlreadyExists"
    MISSING = "DoesNotExist"
    FAILED = "Fail"
    DENIED = "AccessDenied"
    UNANSWERED = ""


class Groups:
    """All groups of a node.

    Until `keep_time` was called it goes by the store's calendar, and `tick` is for whoever has it.
    """

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._version = store.version
        self._notebook = Notebook(store, hub)
        self._clock: Callable[[], float] = lambda: store.now() / 1_000_000
        self._after: Callable[[float, Callable[[], None]], None] | None = None
        self._is_stopped: Callable[[], bool] = lambda: False
        self._started = 0.0
        self._is_ticking = False
        self._groups: dict[str, Group] = {}
        self._by_stream: dict[str, list[Group]] = {}
        self._consumers: dict[tuple[Client, bytes], tuple[Group, Consumer]] = {}
        hub.on_write = self._take
        self.load()

    def __repr__(self) -> str:
        return f"<Groups: {len(self._groups)} groups, {len(self._consumers)} consumers>"

    def keep_time(
        self,
        after: Callable[[float, Callable[[], None]], None],
        clock: Callable[[], float],
        is_stopped: Callable[[], bool],
    ) -> None:
        """From now on `clock` tells the seconds, and `after`, which calls a function in some, makes it tick.

        While it `is_stopped` nothing is late: what was acked meanwhile lies unread.
        """
        self._after, self._clock, self._started = after, clock, clock()
        self._is_stopped = is_stopped
        if self._groups:
            self._tick_later()

    def load(self) -> None:
        """Begin with what is written down, as a node does that starts. Who was connected is not told."""
        self._groups, self._by_stream, self._consumers = {}, {}, {}
        for settings in self._notebook.groups():
            if settings.named_consumer_strategy in STRATEGIES:
                self._begin(settings)

    def rest(self) -> None:
        """Have no groups, as a node that is not the master: who is connected is told so."""
        for client, correlation in self._consumers:
            client.reply(Command.SUBSCRIPTION_DROPPED, correlation)
        self._groups, self._by_stream, self._consumers = {}, {}, {}

    def _now(self) -> float:
        return self._clock()

    def all(self) -> Sequence[Group]:
        """All groups, in the order in which they were created."""
        return list(self._groups.values())

    def find(self, stream: str, name: str) -> Group | None:
        """A group by its stream and its name."""
        return self._groups.get(key_of(stream, name))

    # What changes groups

    def create(self, request: Request) -> None:
        """CreatePersistentSubscription."""
        settings: Settings = request.message
        name = settings.subscription_group_name
        if not self.may_change(request.identity):
            outcome, reason = _Outcome.DENIED, "You do not have permissions to create streams"
        elif self.find(settings.event_stream_id, name) is not None:
            outcome, reason = _Outcome.EXISTS, f"Group '{name}' already exists."
        else:
            outcome, reason = self._begin_checked(request, settings)
        self._answer(request, Command.CREATE_PERSISTENT_SUBSCRIPTION_COMPLETED, _CREATED, outcome, reason)

    def update(self, request: Request) -> None:
        """UpdatePersistentSubscription: the group begins anew with other settings, from its last checkpoint."""
        # Both requests have the same fields.
        settings = schema.CreatePersistentSubscription.FromString(request.message.SerializeToString())
        name = settings.subscription_group_name
        group = self.find(settings.event_stream_id, name)
        if not self.may_change(request.identity):
            outcome, reason = _Outcome.DENIED, "You do not have permissions to update the subscription"
        elif group is None:
            outcome, reason = _Outcome.MISSING, f"Group '{name}' does not exist."
        else:
            outcome, reason = self._begin_checked(request, settings, instead_of=group)
        self._answer(request, Command.UPDATE_PERSISTENT_SUBSCRIPTION_COMPLETED, _UPDATED, outcome, reason)

    def delete(self, request: Request) -> None:
        """DeletePersistentSubscription: its place and what it parked go too."""
        message: schema.DeletePersistentSubscription = request.message
        name = message.subscription_group_name
        group = self.find(message.event_stream_id, name)
        outcome, reason = _Outcome.DONE, ""
        if not self.may_change(request.identity):
            outcome, reason = _Outcome.DENIED, "You do not have permissions to create streams"
        elif group is None:
            outcome, reason = _Outcome.MISSING, f"Group '{name}' does not exist."
        else:
            self._end(group)
            self._write_down(request.identity)
            self._notebook.forget(group.key)
        self._answer(request, Command.DELETE_PERSISTENT_SUBSCRIPTION_COMPLETED, _DELETED, outcome, reason)

    def may_change(self, identity: Identity | None) -> bool:
        """Whether somebody may create, update and delete groups, and have them replay what they parked."""
        if self._version.lets_settings_rule_groups:
            return is_allowed(self._store, identity, Right.WRITE, SETTINGS_STREAM)
        return identity is not None and not identity.roles.isdisjoint((ADMINS, OPERATORS))

    def _begin_checked(
        self, request: Request, settings: Settings, *, instead_of: Group | None = None
    ) -> tuple[_Outcome, str]:
        """Begin a group, if its settings make sense to this server."""
        if not settings.named_consumer_strategy:
            settings.named_consumer_strategy = ROUND_ROBIN if settings.prefer_round_robin else DISPATCH_TO_SINGLE
        if reason := self._find_fault(settings):
            return _Outcome.FAILED, reason
        checks = self._version.group_checks
        if settings.read_batch_size >= settings.buffer_size and checks is GroupChecks.SILENT:
            return _Outcome.UNANSWERED, ""
        if instead_of is not None:
            self._end(instead_of)
        self._begin(settings)
        self._write_down(request.identity)
        return _Outcome.DONE, ""

    def _find_fault(self, settings: Settings) -> str:
        stream, strategy = settings.event_stream_id, settings.named_consumer_strategy
        if not stream or stream == _EVERYTHING:
            return "Bad stream name."
        if strategy not in self._version.strategies:
            return f"Consumer strategy {strategy} does not exist."
        if self._version.group_checks is not GroupChecks.TOLD:
            return ""
        if settings.start_from < -1:
            return "Invalid Start From position: event number must be greater than or equal to -1."
        if settings.read_batch_size >= settings.buffer_size:
            return "Read batch size must be less than buffer size."
        return ""

    def _begin(self, settings: Settings) -> None:
        group = Group(settings, self._notebook, self._now)
        self._groups[group.key] = group
        self._by_stream.setdefault(group.stream, []).append(group)
        self._tick_later()

    def _end(self, group: Group) -> None:
        """Its consumers are told."""
        del self._groups[group.key]
        self._by_stream[group.stream].remove(group)
        for key in [key for key, (other, _) in self._consumers.items() if other is group]:
            self._dismiss(key)

    def _write_down(self, identity: Identity | None) -> None:
        login = "" if identity is None else identity.login
        self._notebook.write_groups((group.settings for group in self._groups.values()), login)

    def _answer(self, request: Request, command: Command, kind: type[Any], outcome: _Outcome, reason: str) -> None:
        if outcome is not _Outcome.UNANSWERED:
            result = kind.DESCRIPTOR.fields_by_name["result"].enum_type.values_by_name[outcome.value].number
            reply: Message = kind(result=result, reason=reason)
            request.reply(command, reply)

    # Consumers

    def connect(self, request: Request) -> None:
        """ConnectToPersistentSubscription."""
        message: ConnectToPersistentSubscription = request.message
        stream, size = message.event_stream_id, message.allowed_in_flight_messages
        require(message.subscription_id != "", "the name of the group is empty")
        require(stream != "", "the stream's name is empty")
        require(size >= 0, f"{size} messages in flight")
        require((request.client, request.correlation) not in self._consumers, "the correlation id is in use")
        group = self.find(stream, message.subscription_id)
        if not self._may_consume(request.identity, stream):
            self._drop(request, DropReason.AccessDenied)
        elif group is None:
            self._drop(request, DropReason.NotFound)
        elif group.is_full:
            self._drop(request, DropReason.SubscriberMaxCountReached)
        else:
            self._connect(request, group, size)

    def _connect(self, request: Request, group: Group, size: int) -> None:
        client, correlation = request.client, request.correlation
        login = "" if request.identity is None else request.identity.login
        consumer = Consumer(client, correlation, size, login, tells_retries=self._version.tells_retries)
        self._consumers[client, correlation] = group, consumer
        group.join(consumer)
        confirmation = schema.PersistentSubscriptionConfirmation(
            last_commit_position=self._store.log.last,
            subscription_id=group.key,
            last_event_number=client.number(self._store.last_number(group.stream)),
        )
        # A fault that loses this takes the consumer out of the group.
        request.reply(Command.PERSISTENT_SUBSCRIPTION_CONFIRMATION, confirmation)
        group.hand_out()

    def _may_consume(self, identity: Identity | None, stream: str) -> bool:
        if identity is None and self._version.refuses_anonymous_consumers:
            return False
        return is_allowed(self._store, identity, Right.READ, stream)

    def _drop(self, request: Request, reason: schema.SubscriptionDropped.SubscriptionDropReason) -> None:
        request.reply(Command.SUBSCRIPTION_DROPPED, schema.SubscriptionDropped(reason=reason))

    def ack(self, request: Request) -> None:
        """PersistentSubscriptionAckEvents. There is no answer, whatever is wrong with it."""
        message: PersistentSubscriptionAckEvents = request.message
        ids = self._check_ids(message.processed_event_ids)
        group = self._groups.get(message.subscription_id)
        if group is not None:
            group.ack(ids)

    def nak(self, request: Request) -> None:
        """PersistentSubscriptionNakEvents. There is no answer, as above."""
        message: PersistentSubscriptionNakEvents = request.message
        ids = self._check_ids(message.processed_event_ids)
        group = self._groups.get(message.subscription_id)
        if group is not None:
            known = {action.value for action in NakAction}
            action = NakAction(message.action) if message.action in known else NakAction.Skip
            group.nak(ids, action, message.message)

    def _check_ids(self, ids: Iterable[bytes]) -> list[bytes]:
        ids = list(ids)
        require(bool(ids) or not self._version.refuses_empty_acks, "no ids of events")
        require(all(len(event_id) == _ID_SIZE for event_id in ids), "an event id is 16 bytes")
        return ids

    def remove(self, client: Client, correlation: bytes) -> bool:
        """End the connection to a group of this id without a word. False where there is none."""
        found = self._consumers.pop((client, correlation), None)
        if found is None:
            return False
        group, consumer = found
        group.leave(consumer)
        return True

    def unsubscribe(self, request: Request) -> bool:
        """End the connection of this id, and say so before others get what it had. False where there is none."""
        is_there = (request.client, request.correlation) in self._consumers
        if is_there:
            request.reply(Command.SUBSCRIPTION_DROPPED, schema.SubscriptionDropped())
            self.remove(request.client, request.correlation)
        return is_there

    def forget(self, client: Client) -> None:
        """The client is gone: others get what it had. Its consumers go together, or each would hand on to the next."""
        gone: dict[Group, list[Consumer]] = {}
        for correlation in self._correlations(client):
            group, consumer = self._consumers.pop((client, correlation))
            gone.setdefault(group, []).append(consumer)
        for group, consumers in gone.items():
            group.leave(*consumers, lost=True)

    def drop_all(self, client: Client) -> None:
        """Tell a client that it is connected to no group any more, as a server does that shuts down."""
        for correlation in self._correlations(client):
            self._dismiss((client, correlation))

    def _dismiss(self, key: tuple[Client, bytes]) -> None:
        """Tell one consumer. Of a connection that breaks over that, nobody else is there any more."""
        found = self._consumers.pop(key, None)
        if found is not None:
            group, consumer = found
            group.dismiss(consumer)

    def _correlations(self, client: Client) -> list[bytes]:
        return [correlation for other, correlation in self._consumers if other is client]

    # What time and other requests bring

    def _take(self, record: Record) -> None:
        for group in self._by_stream.get(record.stream, ()):
            group.take(record)

    def tick(self) -> None:
        """A second has passed."""
        for group in list(self._groups.values()):
            group.tick()

    def _tick_later(self) -> None:
        if self._after is not None and not self._is_ticking:
            self._is_ticking = True
            # Servers tick from when they started.
            self._after(TICK - (self._now() - self._started) % TICK, self._tick_again)

    def _tick_again(self) -> None:
        """A node without groups need not."""
        self._is_ticking = False
        if not self._is_stopped():
            self.tick()
        if self._groups:
            self._tick_later()
