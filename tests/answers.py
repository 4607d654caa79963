"""What a server answers, as short as a test wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.peer import encode
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.peer import Peer, Request

Written = schema.OperationResult
Read = schema.ReadStreamEventsCompleted.ReadStreamResult
ReadOne = schema.ReadEventCompleted.ReadEventResult
Drop = schema.SubscriptionDropped.SubscriptionDropReason
NotHandled = schema.NotHandled.NotHandledReason


def record(number: int, *, stream: str = "s", type: str = "happened", data: bytes = b"") -> schema.EventRecord:
    return schema.EventRecord(
        event_stream_id=stream, event_number=number, event_id=bytes([number % 256]) * 16, event_type=type, data=data
    )


def written(first: int = 0, last: int = 0) -> schema.WriteEventsCompleted:
    return schema.WriteEventsCompleted(
        result=Written.Success, first_event_number=first, last_event_number=last, commit_position=9, prepare_position=9
    )


def not_written(result: int) -> schema.WriteEventsCompleted:
    return schema.WriteEventsCompleted(result=result, first_event_number=-1, last_event_number=-1)


def committed(first: int = 0, last: int = 0) -> schema.TransactionCommitCompleted:
    return schema.TransactionCommitCompleted(
        transaction_id=7,
        result=Written.Success,
        first_event_number=first,
        last_event_number=last,
        commit_position=9,
        prepare_position=9,
    )


def not_committed(result: int) -> schema.TransactionCommitCompleted:
    return schema.TransactionCommitCompleted(
        transaction_id=7, result=result, first_event_number=-1, last_event_number=-1
    )


def event_read(number: int = 0, data: bytes = b"") -> schema.ReadEventCompleted:
    event = schema.ResolvedIndexedEvent(event=record(number, data=data))
    return schema.ReadEventCompleted(result=ReadOne.Success, event=event)


def page(
    numbers: Iterable[int], following: int, *, end: bool = False, last: int = 999, size: int = 0
) -> schema.ReadStreamEventsCompleted:
    """A page of a stream, of events with `size` bytes of data."""
    return schema.ReadStreamEventsCompleted(
        events=[schema.ResolvedIndexedEvent(event=record(number, data=bytes(size))) for number in numbers],
        result=Read.Success,
        next_event_number=following,
        last_event_number=last,
        is_end_of_stream=end,
        last_commit_position=9,
    )


def log_page(places: Iterable[int], at: int, following: int) -> schema.ReadAllEventsCompleted:
    return schema.ReadAllEventsCompleted(
        commit_position=at,
        prepare_position=at,
        events=[
            schema.ResolvedEvent(event=record(0, stream=f"s-{place}"), commit_position=place, prepare_position=place)
            for place in places
        ],
        next_commit_position=following,
        next_prepare_position=following,
    )


def confirmed(last_number: int = 4) -> schema.SubscriptionConfirmation:
    return schema.SubscriptionConfirmation(last_commit_position=100, last_event_number=last_number)


def appeared(
    number: int, *, stream: str = "s", type: str = "happened", data: bytes = b""
) -> schema.StreamEventAppeared:
    event = record(number, stream=stream, type=type, data=data)
    return schema.StreamEventAppeared(
        event=schema.ResolvedEvent(event=event, commit_position=number, prepare_position=number)
    )


def pushed(request: Request, *numbers: int, data: bytes = b"") -> bytes:
    """The frames of these events, in one piece."""
    return b"".join(
        encode(Command.STREAM_EVENT_APPEARED, request.correlation, appeared(number, data=data)) for number in numbers
    )


def dropped(reason: int) -> schema.SubscriptionDropped:
    return schema.SubscriptionDropped(reason=reason)


def not_handled(reason: int, info: bytes = b"") -> schema.NotHandled:
    return schema.NotHandled(reason=reason, additional_info=info)


async def confirm(peer: Peer, last_number: int = 4, *, then: Iterable[int] = ()) -> Request:
    """Confirm the next subscription; `then` events come in the same chunk."""
    request = await peer.receive(Command.SUBSCRIBE_TO_STREAM)
    confirmation = encode(Command.SUBSCRIPTION_CONFIRMATION, request.correlation, confirmed(last_number))
    peer.send_bytes(confirmation + pushed(request, *then))
    return request
