"""What waits to be sent: joined, in order, the urgent first, and nothing for those who have gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.test_door import Sized
from trio_extreme.errors import OperationTimedOut
from trio_extreme.outbox import BATCH_SIZE, MAX_URGENT, Outbox
from trio_extreme.pending import Slot
from trio_extreme.wire.framing import FrameBuffer, encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable


class Sender:
    """An outbox, and what was taken out of it."""

    def __init__(self) -> None:
        self.outbox = Outbox(lambda slot, now: self.taken.append(slot))
        self.taken: list[Slot[None]] = []
        self._count = 0

    def put(self, size: int = 22) -> Slot[None]:
        slot = Slot(Sized(size), b"", 30)
        self._count += 1
        slot.renew(self._count.to_bytes(16, "big"))
        self.outbox.put(slot)
        return slot

    def urgent(self) -> bytes:
        self._count += 1
        frame = encode_frame(2, self._count.to_bytes(16, "big"))
        self.outbox.put_urgent(frame)
        return frame


@pytest.fixture
def sender() -> Sender:
    return Sender()


async def take(sender: Sender) -> list[int]:
    """The numbers of the frames that are sent together."""
    data, count = await sender.outbox.take()
    frames = FrameBuffer().feed(data)
    assert len(frames) == count
    return [int.from_bytes(correlation, "big") for _, _, correlation, _ in frames]


async def test_what_waits_is_joined(sender: Sender) -> None:
    slots = [sender.put() for _ in range(3)]
    assert await take(sender) == [1, 2, 3]
    assert sender.taken == slots
    assert all(slot.sent for slot in slots)


async def test_it_waits_for_something(sender: Sender, nursery: trio.Nursery) -> None:
    got: list[int] = []

    async def write() -> None:
        got.extend(await take(sender))

    nursery.start_soon(write)
    await trio.testing.wait_all_tasks_blocked()
    sender.put()
    await trio.testing.wait_all_tasks_blocked()
    assert got == [1]


async def test_an_urgent_frame_wakes_it_too(sender: Sender, nursery: trio.Nursery) -> None:
    got: list[int] = []

    async def write() -> None:
        while True:
            got.extend(await take(sender))

    nursery.start_soon(write)
    for number in (1, 2):
        await trio.testing.wait_all_tasks_blocked()
        sender.urgent()
        await trio.testing.wait_all_tasks_blocked()
        assert len(got) == number
    nursery.cancel_scope.cancel()


async def test_joined_up_to_a_bound(sender: Sender) -> None:
    half = BATCH_SIZE // 2
    for _ in range(5):
        sender.put(22 + half)
    assert [await take(sender) for _ in range(3)] == [[1, 2], [3, 4], [5]]


async def test_a_large_one_goes_with_those_before_and_none_behind(sender: Sender) -> None:
    sender.put()
    sender.put(10 * BATCH_SIZE)
    sender.put()
    assert [await take(sender) for _ in range(2)] == [[1, 2], [3]]


async def test_whole_frames_count_and_not_only_what_they_carry(sender: Sender) -> None:
    """Requests without a payload have their headers, and what is urgent its frames."""
    fitting = -(-BATCH_SIZE // 22)
    for _ in range(fitting + 1):
        sender.put(22)
    assert len(await take(sender)) == fitting
    assert len(await take(sender)) == 1
    sender.put()
    for _ in range(fitting):
        sender.urgent()
    sender.put()
    # The urgent are all taken, with the request that was taken already, and no other.
    assert len(await take(sender)) == fitting + 1
    assert len(await take(sender)) == 1


async def test_the_urgent_go_first(sender: Sender) -> None:
    sender.put()
    sender.put(2 * BATCH_SIZE)
    sender.put()
    sender.urgent()
    sender.urgent()
    assert await take(sender) == [4, 5, 1, 2]
    sender.urgent()
    assert await take(sender) == [6, 3]


# --- what is made when it is taken


async def test_it_is_made_when_it_is_taken(sender: Sender, nursery: trio.Nursery) -> None:
    """So there may come more to say until then; and it wakes the writer."""
    said: list[int] = []
    got: list[int] = []

    def make() -> list[bytes]:
        frames = [encode_frame(2, number.to_bytes(16, "big")) for number in said]
        said.clear()
        return frames

    async def write() -> None:
        while True:
            got.extend(await take(sender))

    nursery.start_soon(write)
    for number in (100, 200):
        await trio.testing.wait_all_tasks_blocked()
        said.append(number)
        sender.outbox.put_joined(make)
        said.append(number + 1)
        await trio.testing.wait_all_tasks_blocked()
    assert got == [100, 101, 200, 201]
    nursery.cancel_scope.cancel()


async def test_it_goes_before_all_that_waits(sender: Sender) -> None:
    """What is urgent too: an unsubscribing must not overtake the acks that were said before."""
    sender.put()
    sender.urgent()
    for number in (100, 200):
        frame = encode_frame(2, number.to_bytes(16, "big"))
        sender.outbox.put_joined(lambda frame=frame: [frame])  # type: ignore[misc]
    assert await take(sender) == [100, 200, 2, 1]


async def test_between_two_requests_of_one_batch(sender: Sender) -> None:
    """It was not there when the batch was begun."""
    frame = encode_frame(2, bytes(15) + b"d")
    for _ in range(2):
        slot = sender.put()
    sender.taken = Taking(lambda: sender.outbox.put_joined(lambda: [frame]))
    assert await take(sender) == [1, 100, 2, 100]
    assert slot.sent


class Taking(list[Slot[None]]):
    """Does something whenever a slot is taken."""

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__()
        self._do = do

    def append(self, slot: Slot[None]) -> None:
        super().append(slot)
        self._do()


async def test_when_it_is_closed_it_is_not_made(sender: Sender) -> None:
    sender.outbox.put_joined(lambda: pytest.fail("it was made"))
    sender.outbox.close()
    with trio.move_on_after(0) as scope:
        await sender.outbox.take()
    assert scope.cancelled_caught


# --- who has gone


async def test_who_has_gone_is_passed_over(sender: Sender) -> None:
    slots = [sender.put() for _ in range(3)]
    slots[1].gone = True
    assert await take(sender) == [1, 3]
    # But the door hears of its bytes.
    assert sender.taken == slots
    assert not slots[1].sent


async def test_what_failed_while_it_waited_is_not_sent(sender: Sender) -> None:
    slots = [sender.put() for _ in range(2)]
    slots[0].fail(OperationTimedOut("too late"))
    assert await take(sender) == [2]
    assert not slots[0].sent


async def test_nothing_is_left_to_send(sender: Sender) -> None:
    sender.put().gone = True
    assert await sender.outbox.take() == (b"", 0)


async def test_it_is_told_when_the_slots_were_taken(autojump_clock: trio.testing.MockClock) -> None:
    times: list[float] = []
    outbox = Outbox(lambda _, now: times.append(now))
    slots = [Slot(Sized(22), b"", 30) for _ in range(2)]
    for slot in slots:
        outbox.put(slot)
    before = trio.current_time()
    await outbox.take()
    assert times == [before] * 2


async def test_a_flood_of_urgent_frames_is_seen(sender: Sender) -> None:
    for _ in range(MAX_URGENT - 1):
        sender.urgent()
    assert not sender.outbox.crowded
    sender.urgent()
    assert sender.outbox.crowded
    await sender.outbox.take()
    assert not sender.outbox.crowded


async def test_closed_it_lets_go_of_everything(sender: Sender) -> None:
    slots = [sender.put() for _ in range(3)]
    sender.urgent()
    sender.outbox.close()
    assert sender.taken == slots
    assert not any(slot.sent for slot in slots)
    with trio.move_on_after(0) as scope:
        await sender.outbox.take()
    assert scope.cancelled_caught
    sender.outbox.close()
    assert len(sender.taken) == 3


@pytest.mark.parametrize("gone", [False, True])
async def test_what_was_handed_over_in_the_moment_it_was_closed(
    sender: Sender, nursery: trio.Nursery, *, gone: bool
) -> None:
    """The writer has it and had no turn yet: it belongs to the next session now, and the door hears of its bytes."""
    got: list[tuple[bytes, int]] = []

    async def write() -> None:
        got.append(await sender.outbox.take())

    nursery.start_soon(write)
    await trio.testing.wait_all_tasks_blocked()
    slot = sender.put()
    slot.gone = gone
    sender.outbox.close()
    await trio.testing.wait_all_tasks_blocked()
    assert got == [(b"", 0)]
    assert not slot.sent
    assert sender.taken == [slot]


# --- until all is sent


async def test_flushed_when_what_was_queued_is_sent(sender: Sender, nursery: trio.Nursery) -> None:
    done: list[bool] = []

    async def flush() -> None:
        await sender.outbox.flushed()
        done.append(True)

    sender.put(2 * BATCH_SIZE)
    sender.put()
    nursery.start_soon(flush)
    await trio.testing.wait_all_tasks_blocked()
    assert await take(sender) == [1]
    assert await take(sender) == [2]
    await trio.testing.wait_all_tasks_blocked()
    # Taken, but `send_all` is under way until the writer asks for more.
    assert not done
    with trio.move_on_after(0):
        await sender.outbox.take()
    await trio.testing.wait_all_tasks_blocked()
    assert done


async def test_flushing_ends_where_nobody_sends_any_more(sender: Sender, nursery: trio.Nursery) -> None:
    done: list[bool] = []

    async def flush() -> None:
        await sender.outbox.flushed()
        done.append(True)

    sender.put()
    nursery.start_soon(flush)
    await trio.testing.wait_all_tasks_blocked()
    assert not done
    sender.outbox.close()
    await trio.testing.wait_all_tasks_blocked()
    assert done
