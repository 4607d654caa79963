"""Groups: what is sent, what each answer means, and how what is said of events is joined into messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import given, strategies as st

from trio_extreme.errors import (
    AccessDenied,
    BadRequest,
    GroupExists,
    GroupNotFound,
    NotAuthenticated,
    NotMaster,
    ProtocolError,
    SubscriptionDropped,
    TooManyConsumers,
    Unsupported,
)
from trio_extreme.groups import ConsumerStrategy, NakAction, PersistentSettings
from trio_extreme.operations.base import AskAgain, Resend
from trio_extreme.operations.persistent import MAX_IDS, Connect, CreateGroup, DeleteGroup, Settlements, UpdateGroup
from trio_extreme.operations.subscribing import Confirmation
from trio_extreme.values import END, START
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable

Administer: TypeAlias = CreateGroup | UpdateGroup | DeleteGroup
Drop = schema.SubscriptionDropped.SubscriptionDropReason
SUCCESS, OTHER, FAIL, ACCESS_DENIED = range(4)
"""The results of all three; the second is AlreadyExists of a creation, and DoesNotExist of the others."""

ALL_SET = PersistentSettings(
    resolve_link_tos=True,
    start_from=7,
    message_timeout=0.5,
    record_statistics=True,
    live_buffer_size=11,
    read_batch_size=12,
    buffer_size=13,
    max_retry_count=14,
    checkpoint_after_time=1.5,
    checkpoint_min_count=16,
    checkpoint_max_count=17,
    subscriber_max_count=18,
    named_consumer_strategy=ConsumerStrategy.PINNED,
)
FIELDS = {
    "subscription_group_name": "g",
    "event_stream_id": "s",
    "resolve_link_tos": True,
    "start_from": 7,
    "message_timeout_milliseconds": 500,
    "record_statistics": True,
    "live_buffer_size": 11,
    "read_batch_size": 12,
    "buffer_size": 13,
    "max_retry_count": 14,
    "prefer_round_robin": False,
    "checkpoint_after_time": 1500,
    "checkpoint_max_count": 17,
    "checkpoint_min_count": 16,
    "subscriber_max_count": 18,
    "named_consumer_strategy": "Pinned",
}


def create(settings: PersistentSettings = ALL_SET, *, repeatable: bool = False) -> CreateGroup:
    return CreateGroup("s", "g", settings, repeatable=repeatable)


def update(settings: PersistentSettings = ALL_SET, *, repeatable: bool = False) -> UpdateGroup:
    return UpdateGroup("s", "g", settings, repeatable=repeatable)


def delete() -> DeleteGroup:
    return DeleteGroup("s", "g")


each = pytest.mark.parametrize("make", [create, update, delete])


def answer(operation: Administer, result: int, words: str = "") -> bytes:
    kinds: dict[int, Any] = {
        Command.CREATE_PERSISTENT_SUBSCRIPTION: schema.CreatePersistentSubscriptionCompleted,
        Command.UPDATE_PERSISTENT_SUBSCRIPTION: schema.UpdatePersistentSubscriptionCompleted,
        Command.DELETE_PERSISTENT_SUBSCRIPTION: schema.DeletePersistentSubscriptionCompleted,
    }
    payload: bytes = kinds[operation.command](result=result, reason=words).SerializePartialToString()
    return payload


# --- what is sent


def test_a_creation_and_an_update_on_the_wire() -> None:
    assert schema.CreatePersistentSubscription.FromString(create().payload()) == schema.CreatePersistentSubscription(
        **FIELDS
    )
    assert schema.UpdatePersistentSubscription.FromString(update().payload()) == schema.UpdatePersistentSubscription(
        **FIELDS
    )


@pytest.mark.parametrize("operation", [create(PersistentSettings()), update(PersistentSettings())])
def test_what_is_zero_is_sent_too(operation: CreateGroup | UpdateGroup) -> None:
    """Servers up to 21.10 require every field."""
    kind: Any = (
        schema.CreatePersistentSubscription if operation.command == 0xC8 else schema.UpdatePersistentSubscription
    )
    message = kind.FromString(operation.payload())
    assert {field.name for field, _ in message.ListFields()} == set(FIELDS)
    assert (message.start_from, message.prefer_round_robin) == (-1, True)


@pytest.mark.parametrize(("start", "sent"), [(START, 0), (END, -1), (-1, -1), (5, 5)])
def test_where_to_start(start: Any, sent: int) -> None:
    payload = create(PersistentSettings(start_from=start)).payload()
    assert schema.CreatePersistentSubscription.FromString(payload).start_from == sent


def test_milliseconds_are_rounded() -> None:
    payload = create(PersistentSettings(message_timeout=0.0015, checkpoint_after_time=0.0004)).payload()
    message = schema.CreatePersistentSubscription.FromString(payload)
    assert (message.message_timeout_milliseconds, message.checkpoint_after_time) == (2, 0)


def test_a_deletion_on_the_wire() -> None:
    message = schema.DeletePersistentSubscription.FromString(delete().payload())
    assert message == schema.DeletePersistentSubscription(subscription_group_name="g", event_stream_id="s")


# --- what is answered


@each
def test_done(make: Callable[[], Administer]) -> None:
    operation = make()
    assert operation.decide(operation.answer, answer(operation, SUCCESS)) in (True, None)
    # Servers from 22.6 leave out what is zero.
    assert operation.decide(operation.answer, b"") in (True, None)


def test_a_group_that_exists() -> None:
    with pytest.raises(GroupExists, match=r"already: Group 'g' already exists\.$"):
        create().read(answer(create(), OTHER, "Group 'g' already exists."))
    assert create(repeatable=True).read(answer(create(), SUCCESS)) is True
    assert create(repeatable=True).read(answer(create(), OTHER, "Group 'g' already exists.")) is False


@pytest.mark.parametrize("operation", [update(), update(repeatable=True), delete()])
def test_a_group_that_does_not(operation: Administer) -> None:
    with pytest.raises(GroupNotFound, match=r"no group 'g': Group 'g' does not exist\.$") as caught:
        operation.read(answer(operation, OTHER, "Group 'g' does not exist."))
    assert (caught.value.stream, caught.value.group) == ("s", "g")


@each
def test_what_the_server_dislikes(make: Callable[[], Administer]) -> None:
    operation = make()
    with pytest.raises(BadRequest, match=r"group 'g' of stream 's': Bad stream name\.$"):
        operation.read(answer(operation, FAIL, "Bad stream name."))


@each
def test_who_may_not(make: Callable[[], Administer]) -> None:
    operation = make()
    with pytest.raises(AccessDenied, match=r"(create|update|delete) groups of stream 's' \(You do not have"):
        operation.read(answer(operation, ACCESS_DENIED, "You do not have\npermissions"))


@each
def test_a_result_that_is_none(make: Callable[[], Administer]) -> None:
    operation = make()
    for payload in (answer(operation, 9), b"\xff"):
        with pytest.raises(ProtocolError):
            operation.read(payload)


@pytest.mark.parametrize("make", [create, update])
def test_a_strategy_that_servers_have_not_always_had(make: Callable[[PersistentSettings], Administer]) -> None:
    words = "Consumer strategy PinnedByCorrelation does not exist."
    operation = make(PersistentSettings(named_consumer_strategy=ConsumerStrategy.PINNED_BY_CORRELATION))
    with pytest.raises(Unsupported, match=r"strategy PinnedByCorrelation: servers have it since 20\.6"):
        operation.read(answer(operation, FAIL, words))
    # What it dislikes else has nothing to do with that, and nor has another strategy.
    with pytest.raises(BadRequest, match="Bad stream name"):
        operation.read(answer(operation, FAIL, "Bad stream name."))
    with pytest.raises(BadRequest, match="strategy PinnedBy"):
        make(PersistentSettings()).read(answer(operation, FAIL, words))


# --- what may be sent twice


@each
def test_nobody_knows_what_became_of_it(make: Callable[[], Administer]) -> None:
    assert make().resend is Resend.NEVER


@pytest.mark.parametrize("operation", [create(repeatable=True), update(repeatable=True)])
def test_who_wants_a_group_in_the_end(operation: Administer) -> None:
    """A refusal of the settings, or because the group is gone, is true of earlier attempts as well as it matters."""
    assert operation.resend is Resend.AS_ONCE
    for refusal in (BadRequest("no"), Unsupported("x", "20.6"), GroupNotFound("s", "g")):
        assert operation.believes(refusal)
    for refusal in (AccessDenied("no"), NotMaster("no", None), NotAuthenticated("no")):
        assert not operation.believes(refusal)


# --- connecting


CONNECT = Connect("s", "g", 10)


def test_a_connection_on_the_wire() -> None:
    """It is named by the group alone: pitfall 38."""
    message = schema.ConnectToPersistentSubscription.FromString(CONNECT.payload())
    assert message == schema.ConnectToPersistentSubscription(
        subscription_id="g", event_stream_id="s", allowed_in_flight_messages=10
    )


def test_a_confirmation() -> None:
    confirmed = schema.PersistentSubscriptionConfirmation(
        last_commit_position=100, subscription_id="s::g", last_event_number=4
    )
    assert CONNECT.decide(CONNECT.answer, confirmed.SerializeToString()) == Confirmation(100, 4, "s::g")
    with pytest.raises(ProtocolError):
        CONNECT.decide(CONNECT.answer, b"\xff")


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (Drop.NotFound, GroupNotFound),
        (Drop.PersistentSubscriptionDeleted, GroupNotFound),
        (Drop.SubscriberMaxCountReached, TooManyConsumers),
        (Drop.AccessDenied, AccessDenied),
        (99, SubscriptionDropped),
    ],
)
def test_refusals(reason: int, error: type[Exception]) -> None:
    dropped = schema.SubscriptionDropped(reason=reason).SerializeToString()
    with pytest.raises(error) as caught:
        CONNECT.decide(Command.SUBSCRIPTION_DROPPED, dropped)
    assert "'s'" in str(caught.value)


def test_a_server_that_stops() -> None:
    with pytest.raises(AskAgain):
        CONNECT.decide(Command.SUBSCRIPTION_DROPPED, b"")
    with pytest.raises(ProtocolError):
        CONNECT.decide(Command.SUBSCRIPTION_DROPPED, b"\xff")


# --- what is said of events


def read_message(command: int, payload: bytes) -> tuple[Any, list[bytes]]:
    """What a message says, and of which events."""
    if command == Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS:
        ack = schema.PersistentSubscriptionAckEvents.FromString(payload)
        assert ack.subscription_id == "s::g"
        return None, list(ack.processed_event_ids)
    assert command == Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS
    nak = schema.PersistentSubscriptionNakEvents.FromString(payload)
    assert nak.subscription_id == "s::g"
    return (NakAction(nak.action), nak.message), list(nak.processed_event_ids)


def taken(settlements: Settlements) -> list[tuple[Any, list[bytes]]]:
    return [read_message(*message) for message in settlements.take()]


def ids(count: int, first: int = 0) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(first, first + count)]


def test_nothing_to_say() -> None:
    """An empty ack would be an error to servers up to 21: pitfall 39."""
    settlements = Settlements("s::g")
    assert taken(settlements) == []
    settlements.add([], None)
    assert taken(settlements) == []


def test_acks_are_joined() -> None:
    settlements = Settlements("s::g")
    for number in range(3):
        settlements.add(ids(1, number), None)
    settlements.add(ids(2, 3), None)
    assert settlements.count == 5
    assert taken(settlements) == [(None, ids(5))]
    assert settlements.count == 0
    assert taken(settlements) == []


def test_what_is_to_become_of_them_and_why_goes_with_them() -> None:
    settlements = Settlements("s::g")
    settlements.add(ids(1), (NakAction.PARK, "poison"))
    settlements.add(ids(1, 1), None)
    settlements.add(ids(1, 2), (NakAction.PARK, ""))
    settlements.add(ids(1, 3), (NakAction.RETRY, "poison"))
    settlements.add(ids(1, 4), (NakAction.PARK, "poison"))
    assert taken(settlements) == [
        (None, ids(1, 1)),
        ((NakAction.PARK, "poison"), [*ids(1), *ids(1, 4)]),
        ((NakAction.PARK, ""), ids(1, 2)),
        ((NakAction.RETRY, "poison"), ids(1, 3)),
    ]


def test_every_action_on_the_wire() -> None:
    settlements = Settlements("s::g")
    for action in NakAction:
        settlements.add(ids(1), (action, ""))
    wire = schema.PersistentSubscriptionNakEvents.NakAction
    assert [schema.PersistentSubscriptionNakEvents.FromString(body).action for _, body in settlements.take()] == [
        wire.Park,
        wire.Retry,
        wire.Skip,
        wire.Stop,
    ]


@pytest.mark.parametrize("count", [MAX_IDS - 1, MAX_IDS, MAX_IDS + 1, 2 * MAX_IDS, 2 * MAX_IDS + 1])
def test_never_more_than_a_message_may_name(count: int) -> None:
    settlements = Settlements("s::g")
    settlements.add(ids(count), None)
    messages = taken(settlements)
    assert [len(named) for _, named in messages] == [MAX_IDS] * (count // MAX_IDS) + (
        [count % MAX_IDS] if count % MAX_IDS else []
    )
    assert [each for _, named in messages for each in named] == ids(count)


REASONS = st.none() | st.tuples(st.sampled_from(NakAction), st.sampled_from(["", "poison", "später"]))


@given(st.lists(st.tuples(st.integers(0, 2500), REASONS) | st.just("take"), max_size=30))
def test_each_is_said_once_in_order_and_in_few_messages(steps: list[Any]) -> None:
    """However acks, naks and the writer's turns alternate."""
    settlements = Settlements("s::g")
    said: dict[Any, list[bytes]] = {}
    heard: dict[Any, list[bytes]] = {}
    first = 0
    for step in [*steps, "take"]:
        if step == "take":
            waiting = settlements.count
            messages = taken(settlements)
            assert sum(len(named) for _, named in messages) == waiting
            assert all(0 < len(named) <= MAX_IDS for _, named in messages)
            # No two messages where one would do.
            short = [what for what, named in messages if len(named) < MAX_IDS]
            assert len(short) == len(set(short))
            for what, named in messages:
                heard.setdefault(what, []).extend(named)
        else:
            count, what = step
            settlements.add(ids(count, first), what)
            if count:
                said.setdefault(what, []).extend(ids(count, first))
            first += count
    assert heard == said
