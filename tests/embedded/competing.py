"""Groups at a desk, for tests of the node: requests about them, and workers that take their events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.embedded.talk import ADMIN, Desk, new_id, pack
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.values import Credentials

CREATE, CREATED = Command.CREATE_PERSISTENT_SUBSCRIPTION, Command.CREATE_PERSISTENT_SUBSCRIPTION_COMPLETED
UPDATE, DELETE = Command.UPDATE_PERSISTENT_SUBSCRIPTION, Command.DELETE_PERSISTENT_SUBSCRIPTION
CONNECT, CONFIRMED = Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION, Command.PERSISTENT_SUBSCRIPTION_CONFIRMATION
APPEARED = Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED
ACK, NAK = Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS, Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS
DROPPED, UNSUBSCRIBE = Command.SUBSCRIPTION_DROPPED, Command.UNSUBSCRIBE_FROM_STREAM
NakAction = schema.PersistentSubscriptionNakEvents.NakAction
CHECKPOINTS, PARKED = "$persistentsubscription-jobs::group-checkpoint", "$persistentsubscription-jobs::group-parked"

SETTINGS: dict[str, Any] = {
    "subscription_group_name": "group",
    "event_stream_id": "jobs",
    "resolve_link_tos": False,
    "start_from": 0,
    "message_timeout_milliseconds": 10_000,
    "record_statistics": False,
    "live_buffer_size": 500,
    "read_batch_size": 20,
    "buffer_size": 500,
    "max_retry_count": 2,
    "prefer_round_robin": True,
    "checkpoint_after_time": 1000,
    "checkpoint_max_count": 500,
    "checkpoint_min_count": 1,
    "subscriber_max_count": 0,
    "named_consumer_strategy": "RoundRobin",
}


def create(**changes: Any) -> schema.CreatePersistentSubscription:
    return schema.CreatePersistentSubscription(**(SETTINGS | changes))


def update(**changes: Any) -> schema.UpdatePersistentSubscription:
    return schema.UpdatePersistentSubscription(**(SETTINGS | changes))


def delete_group(group: str = "group", stream: str = "jobs") -> schema.DeletePersistentSubscription:
    return schema.DeletePersistentSubscription(subscription_group_name=group, event_stream_id=stream)


def connect(size: int = 10, group: str = "group", stream: str = "jobs") -> schema.ConnectToPersistentSubscription:
    return schema.ConnectToPersistentSubscription(
        subscription_id=group, event_stream_id=stream, allowed_in_flight_messages=size
    )


def ack(ids: Sequence[bytes], key: str = "jobs::group") -> schema.PersistentSubscriptionAckEvents:
    return schema.PersistentSubscriptionAckEvents(subscription_id=key, processed_event_ids=ids)


def nak(
    ids: Sequence[bytes], action: int = NakAction.Retry, key: str = "jobs::group", message: str = "why"
) -> schema.PersistentSubscriptionNakEvents:
    return schema.PersistentSubscriptionNakEvents(
        subscription_id=key, processed_event_ids=ids, action=action, message=message
    )


class Worker:
    """A consumer at a desk; `take` gives what was pushed since it was asked last."""

    def __init__(self, desk: Desk, size: int = 10, *, key: str = "jobs::group", caller: Any = None) -> None:
        self.caller = caller or desk.new_caller()
        self.correlation = new_id()
        self.ids: dict[int, bytes] = {}
        self._key = key
        self._seen: list[Any] = []
        stream, _, group = key.partition("::")
        self.tell(CONNECT, connect(size, group, stream))
        self.confirmation = self._next(CONFIRMED)

    def tell(self, command: int, message: Any = b"", credentials: Credentials | None = ADMIN) -> None:
        self.caller.tell(pack(command, message, credentials, self.correlation))

    def _next(self, command: int) -> Any:
        reply = next(reply for reply in self.caller.replies if reply.correlation == self.correlation)
        self.caller.replies.remove(reply)
        assert reply.command == command
        return reply.message

    def pushed(self) -> list[schema.PersistentSubscriptionStreamEventAppeared]:
        """The messages that came, as they are."""
        found = [reply for reply in self.caller.replies if reply.correlation == self.correlation]
        events = []
        for reply in found:
            if reply.command == APPEARED:
                self.caller.replies.remove(reply)
                events.append(reply.message)
                resolved = reply.message.event
                record = resolved.link if resolved.HasField("link") else resolved.event
                self.ids[record.event_number] = record.event_id
        return events

    def take(self) -> list[tuple[int, int]]:
        """Numbers in the group's stream, and how often each was delivered before."""
        return [
            (
                push.event.link.event_number if push.event.HasField("link") else push.event.event.event_number,
                push.retryCount,
            )
            for push in self.pushed()
        ]

    def numbers(self) -> list[int]:
        return [number for number, _ in self.take()]

    def ack(self, *numbers: int) -> None:
        self.tell(ACK, ack([self.ids[number] for number in numbers], self._key))

    def nak(self, *numbers: int, action: int = NakAction.Retry, message: str = "why") -> None:
        self.tell(NAK, nak([self.ids[number] for number in numbers], action, self._key, message))

    def unsubscribe(self) -> None:
        self.tell(UNSUBSCRIBE)
        self.dropped()

    def dropped(self) -> None:
        """It was told that this is over; what came before is thrown away."""
        self.pushed()
        message = self._next(DROPPED)
        assert not message.HasField("reason")
        assert not self.pushed()


def tick(desk: Desk, seconds: float = 1.0) -> None:
    """Let some time pass, and the groups look at the clock."""
    desk.clock.seconds += seconds
    desk.service.groups.tick()


def start(desk: Desk, **changes: Any) -> None:
    """Create a group."""
    assert desk.ask(CREATE, create(**changes)).result == 0


def texts(desk: Desk, stream: str) -> list[bytes]:
    """The data of all events of a stream."""
    return [record.event.data for record in desk.store.records(stream)]
