"""Groups of persistent subscriptions: making, changing and deleting them, connecting to one, what is said of events.

Acks and naks get no answer, whatever becomes of them, so they are no operations: `Settlements` joins them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from trio_extreme.errors import BadRequest, GroupExists, GroupNotFound, NotMaster, TooManyConsumers, Unsupported
from trio_extreme.groups import ConsumerStrategy
from trio_extreme.operations.base import Operation, Resend, access_denied, unknown_result
from trio_extreme.operations.features import PINNED_BY_CORRELATION
from trio_extreme.operations.subscribing import Confirmation, Subscribe
from trio_extreme.values import END, START
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, decode_text, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio_extreme.errors import ServerError
    from trio_extreme.groups import NakAction, PersistentSettings

T = TypeVar("T")

MAX_IDS = 2000
"""Events that one ack or nak names at most, as the .NET client has it (docs/protocol.md, 3.10)."""

# Create, update and delete have enumerations of their own with these values in common.
_SUCCESS, _FAIL, _ACCESS_DENIED = 0, 2, 3
_EXISTS = schema.CreatePersistentSubscriptionCompleted.CreatePersistentSubscriptionResult.AlreadyExists
_MISSING = schema.DeletePersistentSubscriptionCompleted.DeletePersistentSubscriptionResult.DoesNotExist
_Drop = schema.SubscriptionDropped.SubscriptionDropReason


class _Administer(Operation[T]):
    """What changes a group. A second attempt would meet what the first one did, and nobody could tell them apart."""

    resend = Resend.NEVER
    #: What it does, for an error.
    _verb: str

    def __init__(self, stream: str, group: str) -> None:
        self._stream = stream
        self._group = group

    def _refuse(self, result: int, words: str) -> NoReturn:
        """Raise what a result means that is the same for all."""
        if result == _ACCESS_DENIED:
            raise access_denied(f"{self._verb} groups of stream {self._stream!r} ({words})")
        if result == _FAIL:
            msg = f"the server does not {self._verb} group {self._group!r} of stream {self._stream!r}: {words}"
            raise BadRequest(msg)
        raise unknown_result(f"a request to {self._verb} a group was answered", result)


class Configure(_Administer[T]):
    """What gives a group its settings.

    `repeatable`: whoever asks wants the group to be so in the end, however often it is said.
    """

    def __init__(self, stream: str, group: str, settings: PersistentSettings, *, repeatable: bool) -> None:
        super().__init__(stream, group)
        self._settings = settings
        if repeatable:
            self.resend = Resend.AS_ONCE

    def _fields(self) -> dict[str, Any]:
        """The fields of the request: all of them, because servers up to 21.10 require all."""
        settings = self._settings
        start = settings.start_from
        return {
            "subscription_group_name": self._group,
            "event_stream_id": self._stream,
            "resolve_link_tos": settings.resolve_link_tos,
            "start_from": -1 if start is END else 0 if start is START else start,
            "message_timeout_milliseconds": round(settings.message_timeout * 1000),
            "record_statistics": settings.record_statistics,
            "live_buffer_size": settings.live_buffer_size,
            "read_batch_size": settings.read_batch_size,
            "buffer_size": settings.buffer_size,
            "max_retry_count": settings.max_retry_count,
            # Looked at only where no strategy is named; kept in step all the same.
            "prefer_round_robin": settings.named_consumer_strategy is ConsumerStrategy.ROUND_ROBIN,
            "checkpoint_after_time": round(settings.checkpoint_after_time * 1000),
            "checkpoint_max_count": settings.checkpoint_max_count,
            "checkpoint_min_count": settings.checkpoint_min_count,
            "subscriber_max_count": settings.subscriber_max_count,
            "named_consumer_strategy": settings.named_consumer_strategy.value,
        }

    def _refuse(self, result: int, words: str) -> NoReturn:
        strategy = self._settings.named_consumer_strategy
        if result == _FAIL and strategy is ConsumerStrategy.PINNED_BY_CORRELATION and strategy.value in words:
            raise PINNED_BY_CORRELATION.missing()
        super()._refuse(result, words)

    def believes(self, refusal: ServerError) -> bool:
        """What the server finds wrong with the settings, it found wrong each time; a group that is gone is gone."""
        return isinstance(refusal, BadRequest | Unsupported | GroupNotFound)


class CreateGroup(Configure[bool]):
    """Make a group. True where this made it; False, where that is no error (`repeatable`), because there was one."""

    command = Command.CREATE_PERSISTENT_SUBSCRIPTION
    answer = Command.CREATE_PERSISTENT_SUBSCRIPTION_COMPLETED
    _verb = "create"

    def payload(self) -> bytes:
        """A CreatePersistentSubscription."""
        return schema.CreatePersistentSubscription(**self._fields()).SerializeToString()

    def read(self, payload: bytes) -> bool:
        """Whether there was none before."""
        done = parse(schema.CreatePersistentSubscriptionCompleted, payload)
        words = decode_text(done.reason.encode())
        if done.result == _SUCCESS:
            return True
        if done.result != _EXISTS:
            self._refuse(done.result, words)
        if self.resend is Resend.NEVER:
            raise GroupExists(self._stream, self._group, words)
        return False


class UpdateGroup(Configure[None]):
    """Give a group other settings; its consumers are disconnected, and connect again."""

    command = Command.UPDATE_PERSISTENT_SUBSCRIPTION
    answer = Command.UPDATE_PERSISTENT_SUBSCRIPTION_COMPLETED
    _verb = "update"

    def payload(self) -> bytes:
        """An UpdatePersistentSubscription."""
        return schema.UpdatePersistentSubscription(**self._fields()).SerializeToString()

    def read(self, payload: bytes) -> None:
        """Nothing, where it was done."""
        done = parse(schema.UpdatePersistentSubscriptionCompleted, payload)
        if done.result != _SUCCESS:
            words = decode_text(done.reason.encode())
            if done.result == _MISSING:
                raise GroupNotFound(self._stream, self._group, words)
            self._refuse(done.result, words)


class DeleteGroup(_Administer[None]):
    """Do away with a group, and with its place in the stream."""

    command = Command.DELETE_PERSISTENT_SUBSCRIPTION
    answer = Command.DELETE_PERSISTENT_SUBSCRIPTION_COMPLETED
    _verb = "delete"

    def payload(self) -> bytes:
        """A DeletePersistentSubscription."""
        return schema.DeletePersistentSubscription(
            subscription_group_name=self._group, event_stream_id=self._stream
        ).SerializeToString()

    def read(self, payload: bytes) -> None:
        """Nothing, where it was done."""
        done = parse(schema.DeletePersistentSubscriptionCompleted, payload)
        if done.result != _SUCCESS:
            words = decode_text(done.reason.encode())
            if done.result == _MISSING:
                raise GroupNotFound(self._stream, self._group, words)
            self._refuse(done.result, words)


class Connect(Subscribe):
    """Become a consumer of a group: the server pushes up to `in_flight` events that are not acked."""

    command = Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION
    answer = Command.PERSISTENT_SUBSCRIPTION_CONFIRMATION
    pushes = Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED
    # A connection of ours that died unnoticed still counts as a consumer, for seconds; an election takes as long.
    passing = (TooManyConsumers, NotMaster)

    def __init__(self, stream: str, group: str, in_flight: int) -> None:
        super().__init__(stream, resolve_links=False)
        self._group = group
        self._in_flight = in_flight

    def payload(self) -> bytes:
        """A ConnectToPersistentSubscription, whose subscription id is the name of the group, and no other."""
        return schema.ConnectToPersistentSubscription(
            subscription_id=self._group, event_stream_id=self.stream, allowed_in_flight_messages=self._in_flight
        ).SerializeToString()

    def read(self, payload: bytes) -> Confirmation:
        """What the server confirmed."""
        confirmed = parse(schema.PersistentSubscriptionConfirmation, payload)
        return Confirmation(confirmed.last_commit_position, confirmed.last_event_number, confirmed.subscription_id)

    def refused(self, command: int, payload: bytes) -> Confirmation:
        """A drop says what is in the way."""
        if command == Command.SUBSCRIPTION_DROPPED:
            error = group_drop_error(payload, self.stream, self._group)
            if error is not None:
                raise error
        return super().refused(command, payload)


def group_drop_error(payload: bytes, stream: str, group: str) -> ServerError | None:
    """The error for a SubscriptionDropped that only groups have; None for one that others have too."""
    reason = parse(schema.SubscriptionDropped, payload).reason
    # The third is in the protocol, and no server sends it (docs/protocol.md, 3.10).
    if reason in (_Drop.NotFound, _Drop.PersistentSubscriptionDeleted):
        return GroupNotFound(stream, group)
    if reason == _Drop.SubscriberMaxCountReached:
        return TooManyConsumers(stream, group)
    if reason == _Drop.AccessDenied:
        return access_denied(f"read stream {stream!r}, and so not consume its group {group!r} either")
    return None


class Settlements:
    """What is to be said of events under one confirmed connection, until it is sent: as few messages as there can be.

    An ack or nak names events by their ids (docs/protocol.md, pitfall 36), all of one message with the same to say.
    """

    __slots__ = ("_naks", "acks", "subscription_id")

    def __init__(self, subscription_id: str) -> None:
        #: As the server confirmed it; not the name of the group (docs/protocol.md, pitfall 38).
        self.subscription_id = subscription_id
        #: Those that were handled.
        self.acks: list[bytes] = []
        # The others, by what is to become of them, and why.
        self._naks: dict[tuple[NakAction, str], list[bytes]] = {}

    @property
    def count(self) -> int:
        """How many events there is something to say of."""
        return len(self.acks) + sum(map(len, self._naks.values()))

    def add(self, ids: Sequence[bytes], what: tuple[NakAction, str] | None) -> None:
        """Say of events that they were handled (None), or what is to become of them, and why."""
        if what is None:
            self.acks += ids
        elif ids:
            self._naks.setdefault(what, []).extend(ids)

    def take(self) -> list[tuple[int, bytes]]:
        """Command and payload of each message. Nothing is left to be said."""
        messages = [self._encode_ack(ids) for ids in _portions(self.acks)]
        for what, naked in self._naks.items():
            messages += [self._encode_nak(ids, *what) for ids in _portions(naked)]
        self.clear()
        return messages

    def clear(self) -> None:
        """It need not be said any more."""
        self.acks, self._naks = [], {}

    def _encode_ack(self, ids: Sequence[bytes]) -> tuple[int, bytes]:
        ack = schema.PersistentSubscriptionAckEvents(subscription_id=self.subscription_id, processed_event_ids=ids)
        return Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS, ack.SerializeToString()

    def _encode_nak(self, ids: Sequence[bytes], action: NakAction, message: str) -> tuple[int, bytes]:
        nak = schema.PersistentSubscriptionNakEvents(
            subscription_id=self.subscription_id, processed_event_ids=ids, message=message, action=action
        )
        return Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS, nak.SerializeToString()


def _portions(ids: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (ids[start : start + MAX_IDS] for start in range(0, len(ids), MAX_IDS))
