"""Volatile subscriptions: the request, its confirmation, and how one ends."""

from __future__ import annotations

from typing import NamedTuple

from trio_extreme.errors import DropReason, ProtocolError, ServerError, SubscriptionDropped
from trio_extreme.events import TOMBSTONE_TYPE
from trio_extreme.operations.base import AskAgain, Operation, right_denied
from trio_extreme.values import ALL, MAX_NARROW_NUMBER, MAX_NUMBER
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, parse

_Reason = schema.SubscriptionDropped.SubscriptionDropReason

ALL_STREAMS = ""
"""How the wire names the log of all streams when it is subscribed to."""


TOMBSTONE_NUMBERS = (MAX_NUMBER, MAX_NARROW_NUMBER)
"""The numbers of the last event of a hard-deleted stream: the second for 3.9, and for who never identified."""


def is_tombstone(number: int, type: str) -> bool:
    """Whether an event with these is the end of its stream, which some other may link to.

    Anybody may give the type to an event of theirs, and a long stream has one of these numbers.
    """
    return number in TOMBSTONE_NUMBERS and type == TOMBSTONE_TYPE


class Confirmation(NamedTuple):
    """From where on the server pushes: after this place in the log, and after this number (None for the log).

    `subscription_id` is what acks name, and empty where there are none.
    """

    last_commit: int
    last_number: int | None
    subscription_id: str = ""

    @property
    def is_of_deleted(self) -> bool:
        """Whether the stream is hard-deleted: servers confirm that too, and then are silent for ever."""
        return self.last_number in TOMBSTONE_NUMBERS


class Subscribe(Operation[Confirmation]):
    """Have the server push what is appended from now on."""

    command = Command.SUBSCRIBE_TO_STREAM
    answer = Command.SUBSCRIPTION_CONFIRMATION
    #: The command of what may come before the confirmation, and is to be kept then.
    pushes: int | None = None
    #: What a subscription that was open may be refused with for a while, when it is opened anew.
    passing: tuple[type[ServerError], ...] = ()

    def __init__(self, stream: str, *, resolve_links: bool) -> None:
        self.stream = stream
        self._resolve_links = resolve_links

    def payload(self) -> bytes:
        """A SubscribeToStream. The stream is written for the log too, empty: servers break without it."""
        return schema.SubscribeToStream(
            event_stream_id=self.stream, resolve_link_tos=self._resolve_links
        ).SerializeToString()

    def read(self, payload: bytes) -> Confirmation:
        """What the server confirmed."""
        confirmed = parse(schema.SubscriptionConfirmation, payload)
        # For a stream servers from 22.6 leave out a zero; for the log nobody means anything by this field.
        last = None if self.stream == ALL_STREAMS else confirmed.last_event_number
        return Confirmation(confirmed.last_commit_position, last)

    def refused(self, command: int, payload: bytes) -> Confirmation:
        """A drop instead of a confirmation is a refusal, but for that of a server that is about to stop."""
        if command == Command.SUBSCRIPTION_DROPPED:
            error = drop_error(payload, self.stream)
            if is_unsubscribed(payload):
                raise AskAgain(error, executed=False)
            raise error
        return super().refused(command, payload)


def is_unsubscribed(payload: bytes) -> bool:
    """Whether a SubscriptionDropped says Unsubscribed, which it does by saying nothing; False for garbage."""
    try:
        return parse(schema.SubscriptionDropped, payload).reason == _Reason.Unsubscribed
    except ProtocolError:
        return False


def drop_error(payload: bytes, stream: str) -> ServerError | SubscriptionDropped:
    """The error for a SubscriptionDropped."""
    reason = parse(schema.SubscriptionDropped, payload).reason
    name = f"stream {stream!r}" if stream else "the log of all streams ($all)"
    if reason == _Reason.AccessDenied:
        return right_denied(stream or ALL, "$r", ", or subscribe to it")
    if reason == _Reason.Unsubscribed:
        msg = f"the server ended the subscription to {name}; it does so when it stops"
        return SubscriptionDropped(msg, DropReason.UNSUBSCRIBED)
    msg = f"the server ended the subscription to {name} with reason {reason}"
    return SubscriptionDropped(msg, DropReason.OTHER)
