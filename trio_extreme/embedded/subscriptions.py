"""Volatile subscriptions: who gets what is written from now on (docs/protocol.md, 3.8). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.embedded.acl import ALL_STREAM, is_allowed
from trio_extreme.embedded.encoding import encode
from trio_extreme.embedded.filters import make_chooser
from trio_extreme.embedded.metadata import Right
from trio_extreme.embedded.reading import resolve
from trio_extreme.embedded.records import Record, Resolved, encode_field, encode_resolved
from trio_extreme.embedded.versions import Nameless
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_extreme.embedded.clients import Client, Request
    from trio_extreme.embedded.encoding import Form
    from trio_extreme.embedded.store import Store

DropReason = schema.SubscriptionDropped.SubscriptionDropReason
_EVERYTHING = ""
"""What SubscribeToStream names for the log of all streams; "$all" is a stream's name like any other there."""
_MEMORY = "$mem-"
_NEVER = -1


class Filtering:
    """What a filtered subscription leaves out, and how often it says how far it has looked.

    That is after so many events, whether they were chosen or not; -1 is never, and whatever else is below 1 is always.
    """

    def __init__(self, chooses: Callable[[Record], bool], interval: int) -> None:
        self.chooses = chooses
        self._interval = interval
        self._looked_at = 0

    def is_checkpoint(self) -> bool:
        """Whether it is to be said after this event, which is looked at now."""
        self._looked_at += 1
        if self._interval == _NEVER or self._looked_at < self._interval:
            return False
        self._looked_at = 0
        return True


class Subscription(NamedTuple):
    """One confirmed subscription."""

    client: Client
    correlation: bytes
    stream: str
    resolves_links: bool
    filtering: Filtering | None = None


class Hub:
    """All subscriptions of a node, by stream, each list in the order in which they came."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_stream: dict[str, list[Subscription]] = {}
        #: Called with each event that was written, when it was pushed.
        self.on_write: Callable[[Record], None] | None = None
        #: Called when something was written.
        self.on_publish: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Hub: {sum(map(len, self._by_stream.values()))} subscriptions>"

    def subscribe(self, request: Request) -> None:
        """SubscribeToStream. An id used twice has its events twice, and only the later one can be unsubscribed."""
        self._subscribe(request)

    def subscribe_filtered(self, request: Request) -> None:
        """FilteredSubscribeToStream, to the log or to one stream."""
        message: schema.FilteredSubscribeToStream = request.message
        self._subscribe(request, Filtering(make_chooser(message.filter), message.checkpoint_interval))

    def _subscribe(self, request: Request, filtering: Filtering | None = None) -> None:
        message: schema.SubscribeToStream | schema.FilteredSubscribeToStream = request.message
        stream = message.event_stream_id
        nameless = None if message.HasField("event_stream_id") else self._store.version.nameless_subscription
        if nameless is Nameless.IGNORED:
            return
        is_readable = is_allowed(self._store, request.identity, Right.READ, stream or ALL_STREAM)
        if nameless is Nameless.DENIED or not is_readable:
            dropped = schema.SubscriptionDropped(reason=DropReason.AccessDenied)
            request.reply(Command.SUBSCRIPTION_DROPPED, dropped)
            return
        subscription = Subscription(request.client, request.correlation, stream, message.resolve_link_tos, filtering)
        request.client.subscriptions[request.correlation] = subscription
        self._by_stream.setdefault(stream, []).append(subscription)
        request.reply(Command.SUBSCRIPTION_CONFIRMATION, self._confirmation(request.client, stream))

    def unsubscribe(self, request: Request) -> None:
        """UnsubscribeFromStream. An id without a subscription gets no answer."""
        if self.remove(request.client, request.correlation):
            # The reason is Unsubscribed, which servers leave out.
            request.reply(Command.SUBSCRIPTION_DROPPED, schema.SubscriptionDropped())

    def remove(self, client: Client, correlation: bytes) -> bool:
        """End the subscription of this id without a word. False where there is none."""
        subscription = client.subscriptions.pop(correlation, None)
        if subscription is None:
            return False
        subscriptions = self._by_stream[subscription.stream]
        self._put(subscription.stream, [other for other in subscriptions if other is not subscription])
        return True

    def publish(self, records: Iterable[Record]) -> None:
        """Push what was written to all that subscribed to it."""
        for record in records:
            # Mostly there are none. Looked at for each record: a connection that breaks over one takes its own along.
            if self._by_stream:
                everywhere = self._by_stream.get(_EVERYTHING, ())
                subscriptions = [*everywhere, *self._by_stream.get(record.stream, ())]
                if subscriptions:
                    self._push(record, subscriptions)
            if self.on_write is not None:
                self.on_write(record)
        if self.on_publish is not None:
            self.on_publish()

    def drop_all(self, client: Client) -> None:
        """Tell a client that its subscriptions end, as a server does that shuts down."""
        for correlation in client.subscriptions:
            client.reply(Command.SUBSCRIPTION_DROPPED, correlation)
        self.forget(client)

    def forget(self, client: Client) -> None:
        """The client is gone: nothing more is pushed to it."""
        client.subscriptions.clear()
        for stream, subscriptions in list(self._by_stream.items()):
            left = [subscription for subscription in subscriptions if subscription.client is not client]
            self._put(stream, left)

    def _confirmation(self, client: Client, stream: str) -> schema.SubscriptionConfirmation:
        if stream.startswith(_MEMORY) and self._store.version.has_memory_streams:
            return schema.SubscriptionConfirmation(last_commit_position=-1, last_event_number=-1)
        confirmation = schema.SubscriptionConfirmation(last_commit_position=self._store.log.last)
        if stream != _EVERYTHING:
            confirmation.last_event_number = client.number(self._store.last_number(stream))
        return confirmation

    def _push(self, record: Record, subscriptions: Iterable[Subscription]) -> None:
        """One payload serves all that see the event alike: in the same form, links resolved or not."""
        payloads: dict[tuple[Form, bool], bytes] = {}
        for client, correlation, _, resolves, filtering in subscriptions:
            if filtering is None or filtering.chooses(record):
                key = client.form, resolves
                if key not in payloads:
                    resolved = resolve(self._store, record) if resolves else Resolved(record)
                    payloads[key] = encode_field(1, encode_resolved(resolved, client.form))
                client.reply(Command.STREAM_EVENT_APPEARED, correlation, payloads[key])
            if filtering is not None and filtering.is_checkpoint():
                reached = schema.CheckpointReached(commit_position=record.commit, prepare_position=record.position)
                client.reply(Command.CHECKPOINT_REACHED, correlation, encode(reached, client.form))

    def _put(self, stream: str, subscriptions: list[Subscription]) -> None:
        if subscriptions:
            self._by_stream[stream] = subscriptions
        else:
            del self._by_stream[stream]
