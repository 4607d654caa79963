"""Slots: one request each, whose answer is the first that comes under its latest id."""

from __future__ import annotations

import pickle
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from tests import grouping
from tests.answers import Drop, appeared, confirmed, dropped
from tests.grouping import handed
from tests.runs import deliver, frames_of
from trio_extreme.errors import ConnectionLost, FrameTooLarge, OperationTimedOut, OutcomeUnknown, ProtocolError
from trio_extreme.mailbox import Mailbox
from trio_extreme.operations.persistent import Connect
from trio_extreme.operations.session import Ping
from trio_extreme.operations.subscribing import Subscribe
from trio_extreme.pending import Interrupted, Slot, SubscriptionSlot, correlation_ids, fresh
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION, SKIPPED, Frame, FrameBuffer, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.wire.framing import Run

ID = bytes(range(16))
LOST = ConnectionLost("gone")


def pong(number: int = 0) -> Frame:
    return Command.PONG, 0, ID, bytes([number])


def frame(command: int, message: Any) -> Frame:
    return command, 0, ID, message.SerializeToString()


CONFIRMATION = frame(Command.SUBSCRIPTION_CONFIRMATION, confirmed())
EVENT = frame(Command.STREAM_EVENT_APPEARED, appeared(5))
ANOTHER = frame(Command.STREAM_EVENT_APPEARED, appeared(6))
UNSUBSCRIBED = frame(Command.SUBSCRIPTION_DROPPED, dropped(Drop.Unsubscribed))
DENIED = frame(Command.SUBSCRIPTION_DROPPED, dropped(Drop.AccessDenied))


def skipped() -> Frame:
    """What stands for a frame above the limit."""
    (one,) = FrameBuffer(100, lambda _, __: None).feed(encode_frame(Command.PONG, ID, bytes(1000)))
    assert one[0] == SKIPPED
    return one


def ping(credentials: bytes = b"") -> Slot[None]:
    return Slot(Ping(), credentials, deadline=30)


def subscription(on_interrupted: Callable[[SubscriptionSlot], None] | None = None) -> SubscriptionSlot:
    box = Mailbox(10, 1000, lambda: None)
    slot = SubscriptionSlot(Subscribe("s", resolve_links=False), b"", 30, box, on_interrupted=on_interrupted)
    slot.renew(ID)
    return slot


def answer_of(frame: Frame) -> tuple[int, bytes]:
    return frame[0], frame[3]


class Lasting:
    """A subscription that later sessions open anew, and how often that was asked for."""

    def __init__(self) -> None:
        self.interruptions: list[SubscriptionSlot] = []
        self.slot = subscription(self.interruptions.append)
        self.box = self.slot.mailbox

    def open_anew(self) -> None:
        """As the next session does, when the last one was lost."""
        self.slot.interrupted = True
        self.slot.renew(ID)


# --- ids


def test_ids_are_sixteen_bytes_and_never_the_same() -> None:
    ids = [next_id() for next_id in (correlation_ids(), correlation_ids()) for _ in range(1000)]
    assert {len(each) for each in ids} == {16}
    assert len(set(ids)) == 2000
    assert NO_CORRELATION not in ids


def test_ids_of_one_source_of_randomness_are_the_same_again() -> None:
    first, second = (correlation_ids(bytes) for _ in range(2))
    assert [first() for _ in range(3)] == [second() for _ in range(3)]
    # Where the random bytes are all zero, no id is.
    assert NO_CORRELATION not in [first() for _ in range(300)]


# --- one request


@pytest.mark.parametrize("credentials", [b"", b"\x05admin\x08changeit"])
async def test_its_size_is_that_of_its_frame(credentials: bytes) -> None:
    slot = ping(credentials)
    slot.renew(ID)
    data = slot.head() + slot.payload
    assert slot.size == len(data)
    assert FrameBuffer().feed(data) == [(Command.PING, bool(credentials), ID, credentials + b"\0")]


async def test_as_it_begins() -> None:
    slot = ping()
    assert not any((slot.inside, slot.queued, slot.sent, slot.gone, slot.doubtful, slot.losses, slot.began))
    assert not any((slot.answer, slot.error, slot.found, slot.refusal, slot.settled, slot.is_page))
    assert (slot.deadline, slot.expires, slot.correlation) == (30, 30, NO_CORRELATION)
    assert Slot(Ping(), b"", deadline=30, is_page=True).is_page
    opening = subscription()
    assert not any((opening.dropped, opening.interrupted, opening.is_open, opening.lasting, opening.is_page))
    assert opening.stream == "s"


async def test_of_two_answers_the_first_counts() -> None:
    slot = ping()
    slot.renew(ID)
    assert not slot.event.is_set()
    deliver(slot, [pong(1), pong(2)])
    deliver(slot, [pong(3)])
    assert slot.answer == answer_of(pong(1))
    assert slot.event.is_set()


async def test_an_answer_counts_against_a_later_failure() -> None:
    slot = ping()
    deliver(slot, [pong()])
    slot.fail(LOST)
    assert slot.error is None


async def test_of_two_failures_the_first_counts() -> None:
    slot = ping()
    slot.fail(LOST)
    slot.fail(ProtocolError("later"))
    assert slot.error is LOST
    assert slot.event.is_set()


async def test_a_value_that_was_found_out_otherwise() -> None:
    slot: Slot[Any] = ping()
    assert not slot.settled
    slot.resolve("found")
    assert slot.settled
    assert slot.event.is_set()
    slot.fail(LOST)
    slot.resolve("later")
    assert (slot.found, slot.error, slot.answer) == ("found", None, None)


async def test_what_is_found_out_comes_too_late_for_an_answer_or_an_error() -> None:
    answered: Slot[Any] = ping()
    deliver(answered, [pong()])
    failed: Slot[Any] = ping()
    failed.fail(LOST)
    for slot in (answered, failed):
        assert slot.settled
        slot.resolve("found")
        assert slot.found is None


async def test_each_attempt_begins_anew() -> None:
    slot = ping()
    slot.renew(ID)
    slot.sent = slot.gone = True
    slot.expires = 3
    slot.fail(LOST)
    woken = slot.event
    assert slot.settled
    slot.renew(bytes(16))
    assert not slot.settled
    assert (slot.correlation, slot.sent, slot.gone, slot.error, slot.answer) == (bytes(16), False, False, None, None)
    assert slot.expires == slot.deadline == 30
    # Who waited for the last attempt is woken by that, and by no later one.
    assert woken.is_set()
    assert not slot.event.is_set()


async def test_who_waits_over_several_attempts_is_woken_by_the_last() -> None:
    """An attempt that came to nothing has nothing to tell, so the same event stays."""
    slot = ping()
    waiting = slot.event
    for _ in range(3):
        slot.renew(ID)
    assert slot.event is waiting
    deliver(slot, [pong()])
    assert waiting.is_set()


async def test_what_one_attempt_leaves_to_the_next() -> None:
    slot = ping()
    slot.doubtful, slot.losses, slot.inside, slot.queued = True, 1, True, True
    slot.renew(ID)
    assert (slot.doubtful, slot.losses, slot.inside, slot.queued) == (True, 1, True, True)


async def test_an_answer_above_the_limit_is_a_failure() -> None:
    slot = ping()
    deliver(slot, [skipped(), pong()])
    assert slot.event.is_set()
    assert isinstance(slot.error, FrameTooLarge)
    assert (slot.error.size, slot.error.limit) == (1018, 100)


async def test_a_command_that_only_looks_like_a_skipped_frame() -> None:
    with pytest.raises(ProtocolError, match="0x00"):
        deliver(ping(), [(SKIPPED, 0, ID, b"")])


# --- its place behind the door


class Doorkeeper:
    """Counts who left."""

    def __init__(self) -> None:
        self.left = 0

    def leave(self) -> None:
        self.left += 1

    def let_in(self) -> Slot[None]:
        slot = Slot(Ping(), b"", 30, self.leave)
        slot.inside = True
        return slot


@pytest.mark.parametrize("how", ["answer", "failure", "too large", "found out", "given up"])
async def test_its_place_is_given_back_once(how: str) -> None:
    """As soon as something came back, not when somebody comes for it."""
    keeper = Doorkeeper()
    slot = keeper.let_in()
    if how == "answer":
        deliver(slot, [pong()])
    elif how == "failure":
        slot.fail(LOST)
    elif how == "too large":
        deliver(slot, [skipped()])
    elif how == "found out":
        slot.resolve(None)
    else:
        slot.leave()
    assert (keeper.left, slot.inside) == (1, False)
    deliver(slot, [pong()])
    slot.fail(LOST)
    slot.leave()
    assert keeper.left == 1


async def test_who_is_outside_gives_no_place_back() -> None:
    keeper = Doorkeeper()
    slot = Slot(Ping(), b"", 30, keeper.leave)
    slot.fail(LOST)
    slot.leave()
    assert keeper.left == 0


async def test_a_subscription_gives_its_place_back_when_it_is_confirmed() -> None:
    keeper = Doorkeeper()
    box = Mailbox(10, 1000, lambda: None)
    slot = SubscriptionSlot(Subscribe("s", resolve_links=False), b"", 30, box, keeper.leave)
    slot.inside = True
    deliver(slot, [CONFIRMATION, EVENT])
    assert keeper.left == 1
    slot.fail(LOST)
    assert keeper.left == 1


async def test_a_request_holds_nothing_at_the_server() -> None:
    slot = ping()
    slot.sent = True
    assert not slot.holds


# --- a subscription


async def test_events_may_follow_their_confirmation_at_once() -> None:
    slot = subscription()
    deliver(slot, [CONFIRMATION, EVENT, EVENT])
    deliver(slot, [EVENT])
    assert slot.answer == answer_of(CONFIRMATION)
    assert frames_of(await slot.mailbox.take()) == [EVENT] * 3


def group() -> tuple[SubscriptionSlot, list[Any]]:
    """A subscription to a group, and what its inbox was told."""
    told: list[Any] = []
    slot = SubscriptionSlot(Connect("s", "g", 10), b"", 30, Telling(told), on_interrupted=told.append)
    slot.renew(ID)
    told.clear()
    return slot, told


class Telling:
    """An inbox that tells what it is told."""

    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def opened(self, run: Run, *, again: bool) -> None:
        self._told.append(("opened", frames_of([run])[0], again))

    def put(self, run: Run) -> None:
        self._told.append(frames_of([run]))

    def interrupted(self) -> None:
        self._told.append("interrupted")

    def end(self, error: Exception) -> None:
        self._told.append(error)


HANDED = frame(Command.PERSISTENT_SUBSCRIPTION_STREAM_EVENT_APPEARED, handed(5))
TAKEN_ON = frame(Command.PERSISTENT_SUBSCRIPTION_CONFIRMATION, grouping.confirmed())


@pytest.mark.parametrize("chunks", [[[HANDED, TAKEN_ON, HANDED]], [[HANDED], [TAKEN_ON], [HANDED]]])
async def test_events_of_a_group_may_come_before_their_confirmation(chunks: list[list[Frame]]) -> None:
    slot, told = group()
    for chunk in chunks:
        deliver(slot, chunk)
    assert told == [[HANDED], ("opened", TAKEN_ON, False), [HANDED]]
    assert slot.answer == answer_of(TAKEN_ON)


async def test_only_events_are_no_answer() -> None:
    slot, told = group()
    deliver(slot, [HANDED, HANDED])
    assert told == [[HANDED, HANDED]]
    assert slot.answer is None
    assert not slot.event.is_set()


async def test_what_came_early_belongs_to_its_attempt() -> None:
    slot, told = group()
    deliver(slot, [HANDED])
    slot.renew(ID)
    deliver(slot, [TAKEN_ON])
    assert told == [[HANDED], "interrupted", ("opened", TAKEN_ON, False)]


async def test_its_inbox_is_told_of_each_interruption() -> None:
    slot, told = group()
    deliver(slot, [TAKEN_ON])
    deliver(slot, [HANDED, UNSUBSCRIBED])
    slot.renew(ID)
    deliver(slot, [TAKEN_ON])
    slot.interrupt()
    opened, again = ("opened", TAKEN_ON, False), ("opened", TAKEN_ON, True)
    assert told == [opened, [HANDED], "interrupted", slot, "interrupted", again, "interrupted"]


async def test_drops_in_a_row_are_counted() -> None:
    slot, _ = group()
    for drops in (1, 2, 3):
        deliver(slot, [TAKEN_ON, UNSUBSCRIBED])
        assert slot.drops == drops
        slot.renew(ID)
    deliver(slot, [TAKEN_ON, HANDED, UNSUBSCRIBED])
    assert slot.drops == 1
    slot.renew(ID)
    deliver(slot, [TAKEN_ON, HANDED])
    assert slot.drops == 0


async def test_a_frame_above_the_limit_has_its_place_among_the_events() -> None:
    slot = subscription()
    deliver(slot, [CONFIRMATION, EVENT, skipped()])
    assert frames_of(await slot.mailbox.take()) == [EVENT, skipped()]


async def test_a_confirmation_alone_is_no_event() -> None:
    slot = subscription()
    deliver(slot, [CONFIRMATION])
    assert (slot.mailbox.events, slot.event.is_set()) == (0, True)


async def test_what_a_subscription_holds() -> None:
    slot = subscription()
    assert not slot.holds
    slot.sent = True
    assert slot.holds
    deliver(slot, [CONFIRMATION])
    assert slot.holds
    refused = subscription()
    refused.sent = True
    deliver(refused, [frame(Command.SUBSCRIPTION_DROPPED, confirmed())])
    assert not refused.holds
    deliver(slot, [EVENT, frame(Command.SUBSCRIPTION_DROPPED, confirmed())])
    assert not slot.holds


async def test_a_confirmed_subscription_fails_at_its_consumer() -> None:
    slot = subscription()
    deliver(slot, [CONFIRMATION, EVENT])
    slot.fail(LOST)
    assert slot.error is None
    assert frames_of(await slot.mailbox.take()) == [EVENT]
    with pytest.raises(ConnectionLost):
        await slot.mailbox.take()


async def test_an_attempt_to_subscribe_that_failed_leaves_the_mailbox_for_the_next() -> None:
    slot = subscription()
    slot.fail(LOST)
    assert slot.error is LOST
    slot.renew(ID)
    deliver(slot, [CONFIRMATION, EVENT])
    assert frames_of(await slot.mailbox.take()) == [EVENT]


async def test_a_refusal_is_no_event_and_nothing_follows_it() -> None:
    for first in (DENIED, pong()):
        slot = subscription()
        deliver(slot, [first, EVENT])
        deliver(slot, [EVENT])
        assert slot.answer == answer_of(first)
        assert not slot.is_open
        assert slot.mailbox.events == 0


async def test_a_confirmation_above_the_limit_fails_the_attempt() -> None:
    slot = subscription()
    deliver(slot, [skipped(), EVENT])
    assert isinstance(slot.error, FrameTooLarge)
    assert slot.mailbox.events == 0


@pytest.mark.parametrize("chunks", [[[CONFIRMATION, CONFIRMATION, EVENT]], [[CONFIRMATION], [CONFIRMATION, EVENT]]])
async def test_a_confirmation_that_comes_twice(chunks: list[list[Frame]]) -> None:
    slot = subscription()
    for chunk in chunks:
        deliver(slot, chunk)
    assert frames_of(await slot.mailbox.take()) == [EVENT]


@pytest.mark.parametrize("chunk", [[EVENT, UNSUBSCRIBED], [EVENT, UNSUBSCRIBED, UNSUBSCRIBED]], ids=["once", "twice"])
async def test_what_the_server_ended_ends_with_the_drop(chunk: list[Frame]) -> None:
    """Why, its consumer finds out, after the events before it; what comes behind it means nothing."""
    slot = subscription()
    deliver(slot, [CONFIRMATION, *chunk])
    assert slot.dropped
    deliver(slot, [EVENT])
    deliver(slot, [DENIED])
    assert frames_of(await slot.mailbox.take()) == [EVENT, UNSUBSCRIBED]
    assert slot.mailbox.events == 0


# --- a subscription that lasts


async def test_what_lasts() -> None:
    assert Lasting().slot.lasting
    assert not subscription().lasting


async def test_a_server_that_stops_interrupts_it() -> None:
    lasting = Lasting()
    deliver(lasting.slot, [CONFIRMATION, EVENT, UNSUBSCRIBED])
    assert lasting.interruptions == [lasting.slot]
    assert lasting.slot.interrupted
    assert not lasting.slot.is_open
    # Its consumer is told by the next confirmation.
    assert frames_of(await lasting.box.take()) == [EVENT]
    assert not lasting.box.ended


async def test_a_drop_alone_interrupts_it_too() -> None:
    lasting = Lasting()
    deliver(lasting.slot, [CONFIRMATION])
    deliver(lasting.slot, [UNSUBSCRIBED])
    assert lasting.interruptions == [lasting.slot]
    assert lasting.box.events == 0


@pytest.mark.parametrize("drop", [DENIED, (Command.SUBSCRIPTION_DROPPED, 0, ID, b"\xff")], ids=["denied", "garbage"])
async def test_another_drop_is_its_end(drop: Frame) -> None:
    lasting = Lasting()
    deliver(lasting.slot, [CONFIRMATION, EVENT, drop])
    assert lasting.interruptions == []
    assert frames_of(await lasting.box.take()) == [EVENT, drop]


async def test_dropped_again_and_again_it_is_interrupted_once() -> None:
    lasting = Lasting()
    deliver(lasting.slot, [CONFIRMATION, UNSUBSCRIBED, UNSUBSCRIBED])
    deliver(lasting.slot, [UNSUBSCRIBED])
    deliver(lasting.slot, [EVENT])
    assert lasting.interruptions == [lasting.slot]
    assert lasting.box.events == 0


async def test_its_first_confirmation_is_for_its_caller_and_later_ones_for_its_consumer() -> None:
    """A confirmation stands just where a gap may be."""
    lasting = Lasting()
    deliver(lasting.slot, [CONFIRMATION, EVENT])
    lasting.open_anew()
    assert not lasting.slot.is_open
    deliver(lasting.slot, [CONFIRMATION, ANOTHER])
    assert lasting.slot.is_open
    assert frames_of(await lasting.box.take()) == [EVENT, CONFIRMATION, ANOTHER]


async def test_opened_anew_after_a_server_that_stopped() -> None:
    lasting = Lasting()
    deliver(lasting.slot, [CONFIRMATION, EVENT, UNSUBSCRIBED])
    lasting.slot.renew(ID)
    deliver(lasting.slot, [CONFIRMATION, ANOTHER])
    assert lasting.slot.is_open
    assert frames_of(await lasting.box.take()) == [EVENT, CONFIRMATION, ANOTHER]


async def test_opened_anew_again_and_again_without_an_event_there_is_one_gap() -> None:
    lasting = Lasting()
    deliver(lasting.slot, [CONFIRMATION, EVENT])
    for _ in range(3):
        lasting.open_anew()
        deliver(lasting.slot, [CONFIRMATION])
    assert frames_of(await lasting.box.take()) == [EVENT, CONFIRMATION]


@pytest.mark.parametrize("refusal", [DENIED, UNSUBSCRIBED, pong()], ids=["denied", "unsubscribed", "nonsense"])
async def test_a_refusal_to_open_it_anew_is_no_confirmation(refusal: Frame) -> None:
    lasting = Lasting()
    deliver(lasting.slot, [CONFIRMATION])
    lasting.open_anew()
    deliver(lasting.slot, [refusal])
    assert lasting.slot.answer == answer_of(refusal)
    assert (lasting.interruptions, lasting.box.events) == ([], 0)


async def test_two_consumers_get_an_error_each() -> None:
    errors = []
    for slot in (subscription(), subscription()):
        deliver(slot, [CONFIRMATION])
        slot.fail(LOST)
        with pytest.raises(ConnectionLost) as info:
            await slot.mailbox.take()
        errors.append(info.value)
    assert errors[0] is not errors[1]


# --- errors that many meet


def test_what_cut_a_page_short() -> None:
    """Whether the session died, perhaps of it, or it was only late."""
    died, late = Interrupted(LOST), Interrupted(OperationTimedOut("late"))
    assert (str(died), died.died, str(late), late.died) == ("gone", True, "late", False)
    assert not fresh(late).died  # type: ignore[attr-defined]


def test_a_fresh_error_is_the_same_but_for_its_traceback() -> None:
    error = OutcomeUnknown("why", [])
    error.__cause__ = KeyError("the cause")
    with pytest.raises(OutcomeUnknown):
        raise error
    again = fresh(error)
    assert again is not error
    assert (type(again), again.args, again.event_ids) == (OutcomeUnknown, ("why",), ())  # type: ignore[attr-defined]
    assert again.__cause__ is error.__cause__
    assert again.__traceback__ is None
    assert error.__traceback__ is not None
    assert str(pickle.loads(pickle.dumps(again))) == "why"  # noqa: S301 - our own


async def test_a_slot_hands_out_its_failure_anew() -> None:
    slot = ping()
    slot.fail(LOST)
    assert slot.failure() is not slot.failure()
    assert str(slot.failure()) == "gone"


def test_all_ids_of_a_connection_begin_the_same() -> None:
    next_id = correlation_ids(lambda size: b"r" * size)
    assert [each[:8] for each in islice(iter(next_id, None), 3)] == [b"rrrrrrrr"] * 3


async def test_what_the_server_ended_it_holds_no_more() -> None:
    mailbox = Mailbox(10, 1000, lambda: None)
    slot = SubscriptionSlot(Subscribe("s", resolve_links=True), b"", 30, mailbox)
    slot.sent = True
    deliver(slot, [(Command.SUBSCRIPTION_CONFIRMATION, 0, ID, b"")])
    assert slot.holds
    deliver(slot, [(Command.SUBSCRIPTION_DROPPED, 0, ID, b"")])
    assert not slot.holds
