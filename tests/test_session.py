"""One connection: answers by id, two lanes, signs of life both ways, and the one cause of its end."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import appeared, confirmed, pushed
from tests.peer import ANONYMOUS, Peer, Request, encode
from tests.runs import frames_of
from tests.test_door import Sized
from trio_extreme.errors import ConnectionLost, FrameTooLarge, ProtocolError, TrioExtremeError
from trio_extreme.mailbox import Mailbox
from trio_extreme.operations.session import Ping
from trio_extreme.operations.subscribing import Subscribe
from trio_extreme.outbox import BATCH_SIZE, MAX_URGENT
from trio_extreme.pending import Slot, SubscriptionSlot
from trio_extreme.session import LAST_WORDS, Session
from trio_extreme.statistics import Counters
from trio_extreme.values import Credentials
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import NO_CORRELATION, SKIPPED, encode_credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_extreme import Settings

pytestmark = pytest.mark.usefixtures("autojump_clock")

ID = bytes(range(16))


class Opened(Session):
    """A session, and what its owner hears of it."""

    def __init__(self, peer: Peer, settings: Settings, chance: Random) -> None:
        self.counters = Counters()
        self.taken: list[Slot[Any]] = []
        self.lost: list[Slot[Any]] = []
        super().__init__(
            peer.stream,
            settings,
            self.counters,
            lambda slot, _: self.taken.append(slot),
            self.lose,
            random_bytes=chance.randbytes,
        )

    def lose(self, slot: Slot[Any], cause: TrioExtremeError) -> None:
        """As if nothing could be asked for again."""
        # By now it is settled that nothing more is sent here.
        assert self.cause is cause
        assert self.slots == ()
        self.lost.append(slot)
        slot.fail(cause)

    def ask(self, size: int = 23) -> Slot[None]:
        slot = Slot(Sized(size), b"", 30)
        self.submit(slot)
        return slot

    def subscribe(self) -> SubscriptionSlot:
        slot = SubscriptionSlot(Subscribe("s", resolve_links=False), b"", 30, Mailbox(10, 1000, lambda: None))
        self.submit(slot)
        return slot


@asynccontextmanager
async def opened(peer: Peer, settings: Settings = ANONYMOUS, chance: Random | None = None) -> AsyncIterator[Opened]:
    session = Opened(peer, settings, chance or Random())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield session
        nursery.cancel_scope.cancel()
    assert peer.closed
    assert session.cause is not None


def quiet() -> Peer:
    """It keeps requests for the test; only signs of life are answered."""
    return Peer(mute=[Command.PING, Command.IDENTIFY_CLIENT])


async def ended(session: Session) -> TrioExtremeError:
    await session.ended()
    assert session.cause is not None
    return session.cause


# --- answers


async def test_answers_find_their_requests_in_any_order() -> None:
    peer = quiet()
    async with opened(peer) as session:
        slots = [session.ask() for _ in range(5)]
        requests = [await peer.receive() for _ in slots]
        for number in (3, 0, 4, 1, 2):
            peer.send(Command.PONG, requests[number].correlation, b"%d" % number)
        for number, slot in enumerate(slots):
            await slot.event.wait()
            assert slot.answer == (Command.PONG, b"%d" % number)
        assert session.taken == slots
        assert session.counters.stray_frames == 0


async def test_frames_in_one_chunk_are_filed_one_by_one() -> None:
    peer = quiet()
    async with opened(peer) as session:
        first, second, third = session.ask(), session.ask(), session.subscribe()
        asked = [await peer.receive() for _ in range(3)]
        one, two, three = (request.correlation for request in asked)
        confirmation = encode(Command.SUBSCRIPTION_CONFIRMATION, three, confirmed())
        peer.send_bytes(
            encode(Command.PONG, one, b"1")
            + confirmation
            + pushed(asked[2], 5, 6, 7)
            + encode(Command.PONG, two, b"2")
            + pushed(asked[2], 8)
        )
        await second.event.wait()
        assert [slot.answer[1] if slot.answer else None for slot in (first, second)] == [b"1", b"2"]
        assert len(frames_of(await third.mailbox.take())) == 4


async def test_a_chunk_may_be_a_byte() -> None:
    peer = quiet()
    async with opened(peer) as session:
        slot = session.ask()
        request = await peer.receive()
        for byte in encode(Command.PONG, request.correlation):
            peer.send_bytes(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        assert slot.event.is_set()
        assert session.counters.frames_received == 1
        assert session.counters.bytes_received == 22


async def test_what_nobody_waits_for_is_counted() -> None:
    peer = quiet()
    async with opened(peer) as session:
        slot = session.ask()
        request = await peer.receive()
        session.forget(slot)
        peer.send(Command.PONG, request.correlation)
        peer.send(Command.BAD_REQUEST, ID, b"not ours")
        peer.send(0x99, ID)
        # These are no strays.
        peer.send(Command.HEARTBEAT_RESPONSE, ID)
        peer.send(Command.HEARTBEAT_REQUEST, ID)
        await trio.testing.wait_all_tasks_blocked()
        assert session.counters.stray_frames == 3
        assert session.counters.frames_received == 5
        assert session.cause is None


async def test_what_is_sent_is_counted() -> None:
    peer = quiet()
    async with opened(peer) as session:
        session.ask(100)
        session.ask(200)
        await peer.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert (session.counters.bytes_sent, session.counters.frames_sent) == (300, 2)


async def test_ids_come_from_the_chance_that_is_given() -> None:
    """So that a simulation is the same again."""
    asked = []
    for _ in range(2):
        peer = quiet()
        async with opened(peer, chance=Random(7)) as session:
            session.ask()
            asked.append((await peer.receive()).correlation)
    assert asked[0] == asked[1]


async def test_each_attempt_has_an_id_of_its_own() -> None:
    peer = quiet()
    async with opened(peer) as session:
        slot = session.ask()
        first = await peer.receive()
        session.forget(slot)
        session.submit(slot)
        second = await peer.receive()
        assert first.correlation != second.correlation
        peer.send(Command.PONG, first.correlation, b"late")
        peer.send(Command.PONG, second.correlation, b"in time")
        await slot.event.wait()
        assert slot.answer is not None
        assert slot.answer[1] == b"in time"
        assert session.counters.stray_frames == 1


# --- sending


async def test_what_has_gone_before_it_was_sent_never_is() -> None:
    peer = quiet()
    peer.hold()
    async with opened(peer) as session:
        session.ask()
        await trio.testing.wait_all_tasks_blocked()
        gone, subscription, kept = session.ask(), session.subscribe(), session.ask()
        session.forget(gone)
        session.forget(subscription)
        assert kept in session.slots
        peer.release()
        await trio.testing.wait_all_tasks_blocked()
        assert len(peer.unanswered()) == 2
        # An unsubscribe for what was never subscribed would be one too many.
        assert peer.commands() == []


async def test_who_subscribed_and_goes_unsubscribes() -> None:
    peer = quiet()
    async with opened(peer) as session:
        waiting, confirmed_one, refused = session.subscribe(), session.subscribe(), session.subscribe()
        asked = [await peer.receive() for _ in range(3)]
        peer.send(Command.SUBSCRIPTION_CONFIRMATION, asked[1].correlation, confirmed())
        peer.send(Command.SUBSCRIPTION_DROPPED, asked[2].correlation)
        await refused.event.wait()
        for slot in (waiting, confirmed_one, refused, waiting):
            session.forget(slot)
        await trio.testing.wait_all_tasks_blocked()
        said = [(request.command, request.correlation) for request in peer.unanswered()]
        assert said == [(Command.UNSUBSCRIBE_FROM_STREAM, request.correlation) for request in asked[:2]]
        assert session.slots == ()


async def test_unsubscribing_carries_no_credentials() -> None:
    """Nobody looks at them here; and before no payload, some servers take an empty password for a broken frame."""
    peer = quiet()
    async with opened(peer) as session:
        credentials = encode_credentials(Credentials("ops", ""))
        box = Mailbox(10, 1000, lambda: None)
        slot = SubscriptionSlot(Subscribe("s", resolve_links=False), credentials, 30, box)
        session.submit(slot)
        assert (await peer.receive()).credentials == Credentials("ops", "")
        session.forget(slot)
        assert (await peer.receive()) == Request(Command.UNSUBSCRIBE_FROM_STREAM, slot.correlation, b"", None)


async def test_the_urgent_wait_behind_the_one_send_under_way_and_nothing_else() -> None:
    peer = quiet()
    peer.hold()
    async with opened(peer) as session:
        for _ in range(3):
            session.ask(2 * BATCH_SIZE)
            await trio.testing.wait_all_tasks_blocked()
        peer.send(Command.HEARTBEAT_REQUEST, ID)
        await trio.testing.wait_all_tasks_blocked()
        peer.release()
        await trio.testing.wait_all_tasks_blocked()
        assert [request.command for request in peer.log] == [3, Command.HEARTBEAT_RESPONSE, 3, 3]
        assert peer.sends == [2 * BATCH_SIZE, 22 + 2 * BATCH_SIZE, 2 * BATCH_SIZE]


async def test_flushed_when_all_is_with_the_socket() -> None:
    peer = quiet()
    async with opened(peer) as session:
        session.ask()
        peer.hold()
        with trio.move_on_after(1) as scope:
            await session.flushed()
        assert scope.cancelled_caught
        peer.release()
        with trio.fail_after(1):
            await session.flushed()
        assert len(peer.unanswered()) == 1


# --- signs of life


async def test_a_heartbeat_is_answered_with_its_id() -> None:
    peer = quiet()
    async with opened(peer):
        peer.send(Command.HEARTBEAT_REQUEST, ID)
        answer = await peer.receive()
        assert answer == Request(Command.HEARTBEAT_RESPONSE, ID, b"", None)


async def test_an_idle_connection_lives_by_its_heartbeats() -> None:
    peer = quiet()
    async with opened(peer) as session:
        await trio.sleep(61)
        assert session.cause is None
        # One for each interval without a word.
        asked = [request for request in peer.log if request.command == Command.HEARTBEAT_REQUEST]
        assert len(asked) in range(20, 32)
        assert len({request.correlation for request in asked}) == len(asked)


async def test_who_talks_is_not_asked() -> None:
    peer = quiet()
    async with opened(peer):
        for _ in range(100):
            await trio.sleep(1)
            peer.send(Command.PONG, ID)
        assert peer.log == []


@pytest.mark.parametrize("last_byte", [0, 1, 1.9, 2.1, 3, 3.9])
@pytest.mark.parametrize(("interval", "patience"), [(2, 3), (3, 1), (0.5, 4.5)])
async def test_silence_is_noticed_in_time(last_byte: float, interval: float, patience: float) -> None:
    """Within interval and timeout, counted from the last byte; and one byte of a frame is a sign of life."""
    peer = Peer(mute=[Command.HEARTBEAT_REQUEST])
    settings = ANONYMOUS.replace(heartbeat_interval=interval, heartbeat_timeout=patience)
    async with opened(peer, settings) as session:
        await trio.sleep(last_byte)
        began = trio.current_time()
        if last_byte:
            peer.send_bytes(b"\x30")
        cause = await ended(session)
        assert trio.current_time() - began == pytest.approx(interval + patience)
    assert isinstance(cause, ConnectionLost)
    assert f"{interval + patience:g} s" in str(cause)


@pytest.mark.parametrize(("length", "seconds"), [(60_000_000, 5), (100_000_000, 7)], ids=["stored", "skipped"])
async def test_a_frame_whose_length_arrived_wrong_does_not_last_for_days(length: int, seconds: float) -> None:
    """Answers to heartbeats are taken for its rest; that is no life."""
    peer = quiet()
    async with opened(peer) as session:
        session.ask()
        request = await peer.receive()
        peer.send_bytes(length.to_bytes(4, "little") + bytes([Command.PONG, 0]) + request.correlation)
        began = trio.current_time()
        cause = await ended(session)
        assert trio.current_time() - began == pytest.approx(seconds)
    # Its head and an answer to a heartbeat, or, where the head was told, two answers.
    assert "in 5 s there came no more than 44 bytes of a frame that does not end" in str(cause)


async def test_a_large_frame_over_a_slow_network_may_take_long() -> None:
    peer = Peer(mute=[Command.HEARTBEAT_REQUEST])
    async with opened(peer) as session:
        frame = encode(Command.PONG, ID, bytes(100_000))
        for start in range(0, len(frame), 256):
            peer.send_bytes(frame[start : start + 256])
            await trio.sleep(1)
        assert session.cause is None


async def test_a_peer_that_answers_at_the_last_moment() -> None:
    peer = Peer(mute=[Command.HEARTBEAT_REQUEST])
    async with opened(peer) as session:
        for _ in range(10):
            request = await peer.receive(Command.HEARTBEAT_REQUEST)
            await trio.sleep(2.999)
            peer.send(Command.HEARTBEAT_RESPONSE, request.correlation)
        assert session.cause is None


@pytest.mark.parametrize("later", [0, 2.4, 2.5, 2.9, 2.999])
async def test_a_program_that_stood_still_looks_before_it_gives_up(
    autojump_clock: trio.testing.MockClock, later: float
) -> None:
    """However little time there was left; and whoever comes first after it, the reader or the watch."""
    for _ in range(10):
        peer = Peer(mute=[Command.HEARTBEAT_REQUEST])
        async with opened(peer) as session:
            request = await peer.receive(Command.HEARTBEAT_REQUEST)
            await trio.sleep(later)
            # The answer is there, and then nobody of us runs for a minute.
            peer.send(Command.HEARTBEAT_RESPONSE, request.correlation)
            autojump_clock.jump(60)
            await trio.sleep(1)
            assert session.cause is None


@pytest.mark.parametrize("work", [0.1, 0.6, 1.2, 70])
@pytest.mark.parametrize("pause", [0.01, 1])
async def test_a_program_that_stands_still_again_and_again_loses_no_peer_that_talks(
    autojump_clock: trio.testing.MockClock, work: float, pause: float
) -> None:
    peer = quiet()
    async with opened(peer) as session:
        for _ in range(200):
            autojump_clock.jump(work)
            await trio.sleep(pause)
        assert session.cause is None
        assert Command.HEARTBEAT_REQUEST in [request.command for request in peer.log]


async def test_a_program_that_stood_still_gives_the_peer_as_long_as_it_would_have_had(
    autojump_clock: trio.testing.MockClock,
) -> None:
    peer = Peer(mute=[Command.HEARTBEAT_REQUEST])
    async with opened(peer) as session:
        await peer.receive(Command.HEARTBEAT_REQUEST)
        await trio.sleep(1)
        autojump_clock.jump(60)
        began = trio.current_time()
        cause = await ended(session)
        # It was asked for a sign of life a second before, and has three in all.
        assert trio.current_time() - began == pytest.approx(2, abs=0.5)
    assert "silent" in str(cause)


@pytest.mark.parametrize("work", [0.1, 0.6, 1.2, 7])
@pytest.mark.parametrize("pause", [0, 0.01, 1])
async def test_a_program_that_stands_still_again_and_again_notices_silence(
    autojump_clock: trio.testing.MockClock, work: float, pause: float
) -> None:
    """While it works nobody can tell; what time it leaves between is time in which the peer says nothing."""
    peer = Peer(mute=[Command.HEARTBEAT_REQUEST])
    async with opened(peer) as session:
        for _ in range(1000):
            autojump_clock.jump(work)
            await trio.sleep(pause)
            if session.cause is not None:
                break
        assert "silent" in str(session.cause)


STOOD_STILL = "this program had not let other tasks run for"


async def test_who_was_cut_off_for_standing_still_is_told() -> None:
    """Whoever looks first after it, the reader or the watch: it is chance."""
    for _ in range(10):
        cause = await cut_off_after(60, 0, "the server closed it; ")
        assert re.search(rf"{STOOD_STILL} (59\.[5-9]|60\.0) s, and servers cut off who is silent: await", str(cause))


async def test_who_is_cut_off_a_little_later_is_told_too() -> None:
    assert STOOD_STILL in str(await cut_off_after(60, 4.9, "the server closed it; "))


async def test_once_it_has_gone_well_for_a_while_it_is_no_reason_any_more() -> None:
    cause = await cut_off_after(60, 5.1, "the server closed it")
    assert STOOD_STILL not in str(cause)


async def test_a_short_while_is_no_reason() -> None:
    cause = await cut_off_after(0.49, 0, "the server closed it")
    assert STOOD_STILL not in str(cause)


async def test_the_last_time_counts(autojump_clock: trio.testing.MockClock) -> None:
    peer = quiet()
    async with opened(peer) as session:
        for seconds in (60, 5, 30):
            await trio.sleep(1)
            autojump_clock.jump(seconds)
        await trio.sleep(1)
        peer.hang_up()
        assert re.search(rf"; {STOOD_STILL} (29\.[5-9]|30\.0) s", str(await ended(session)))


async def cut_off_after(seconds: float, later: float, words: str) -> TrioExtremeError:
    """The cause, where the program stands still for so long and the peer closes so much later."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    peer = quiet()
    async with opened(peer) as session:
        await trio.sleep(1)
        clock.jump(seconds)
        if later:
            await trio.sleep(later)
        peer.hang_up()
        cause = await ended(session)
    assert isinstance(cause, ConnectionLost)
    assert words in str(cause)
    return cause


async def test_answers_to_a_flood_of_heartbeats_are_bounded() -> None:
    peer = quiet()
    peer.hold()
    async with opened(peer) as session:
        session.ask()
        await trio.testing.wait_all_tasks_blocked()
        flood = encode(Command.HEARTBEAT_REQUEST, ID) * MAX_URGENT
        for _ in range(3):
            peer.send_bytes(flood)
            await trio.testing.wait_all_tasks_blocked()
        subscription = session.subscribe()
        peer.release()
        await trio.testing.wait_all_tasks_blocked()
        commands = [request.command for request in peer.log]
        assert commands.count(Command.HEARTBEAT_RESPONSE) == MAX_URGENT
        # Nothing else is lost for that.
        assert subscription.sent


# --- the end


async def test_what_waits_fails_when_it_ends() -> None:
    peer = quiet()
    async with opened(peer) as session:
        subscription = session.subscribe()
        request = await peer.receive()
        peer.send_bytes(
            encode(Command.SUBSCRIPTION_CONFIRMATION, request.correlation, confirmed()) + pushed(request, 5)
        )
        await subscription.event.wait()
        peer.hold()
        sent = session.ask()
        await trio.testing.wait_all_tasks_blocked()
        unsent = session.ask()
        peer.hang_up()
        cause = await ended(session)
        assert (sent.error, unsent.error) == (cause, cause)
        assert (sent.sent, unsent.sent) == (True, False)
        assert unsent in session.taken
        assert len(await subscription.mailbox.take()) == 1
        with pytest.raises(ConnectionLost, match="the server closed it"):
            await subscription.mailbox.take()
        # Nobody is told who is not there any more.
        session.forget(subscription)
        assert "ended: the connection is lost" in repr(session)


async def test_what_becomes_of_each_is_decided_in_the_order_in_which_they_came() -> None:
    peer = quiet()
    async with opened(peer) as session:
        slots: list[Slot[Any]] = [session.ask(), session.subscribe(), session.ask()]
        for _ in slots:
            await peer.receive()
        peer.hold()
        slots += [session.ask(), session.ask(), session.ask()]
        session.forget(slots.pop(2))
        await trio.testing.wait_all_tasks_blocked()
        session.end(ConnectionLost("over"))
        assert session.lost == slots
        assert [slot.sent for slot in slots] == [True] * 5
        session.end(ConnectionLost("again"))
        assert session.lost == slots


async def test_what_was_sent_again_has_kept_its_place() -> None:
    """It was overdue, and stands behind what came later."""
    peer = quiet()
    async with opened(peer) as session:
        slots = [session.ask() for _ in range(3)]
        for serial, slot in enumerate(slots, 1):
            slot.serial = serial
        session.forget(slots[0])
        session.submit(slots[0])
        assert session.slots == (slots[1], slots[2], slots[0])
        session.end(ConnectionLost("over"))
        assert session.lost == slots


async def test_what_was_never_sent_is_let_go_of_before_its_fate_is_decided() -> None:
    """It may be sent by the next session; so this one must have nothing of it any more."""
    peer = quiet()
    peer.hold()
    async with opened(peer) as session:
        session.ask()
        await trio.testing.wait_all_tasks_blocked()
        unsent = session.ask()
        taken_first: list[bool] = []
        session._on_lost = lambda slot, _: taken_first.append(slot in session.taken)
        session.end(ConnectionLost("over"))
        assert not unsent.sent
        assert taken_first == [True, True]


async def test_it_ends_once() -> None:
    peer = quiet()
    async with opened(peer) as session:
        assert repr(session) == "<Session: open, 0 slots>"
        first = ProtocolError("first")
        session.end(first)
        session.end(ConnectionLost("second"))
        assert await ended(session) is first


async def test_what_was_sent_before_the_end_is_read() -> None:
    peer = quiet()
    async with opened(peer) as session:
        slot = session.ask()
        request = await peer.receive()
        peer.send(Command.PONG, request.correlation)
        peer.hang_up()
        await session.ended()
        assert slot.answer is not None
        assert slot.error is None


@pytest.mark.parametrize(
    "error", [trio.BrokenResourceError(), OSError("the network is unreachable"), trio.ClosedResourceError()]
)
async def test_last_words_are_heard_where_sending_fails_first(error: Exception) -> None:
    peer = quiet()
    async with opened(peer) as session:
        slot = session.ask()
        request = await peer.receive()
        peer.break_sending(error)
        session.ask()
        await trio.sleep(LAST_WORDS / 2)
        peer.send(Command.PONG, request.correlation)
        peer.send(Command.BAD_REQUEST, NO_CORRELATION, b"  going\xff\n\x1b down ")
        cause = await ended(session)
        assert slot.answer is not None
    assert str(cause) == "the connection is lost: the server says: going\ufffd down"


async def test_sending_fails_and_the_peer_says_nothing() -> None:
    peer = quiet()
    peer.break_sending()
    async with opened(peer) as session:
        slot = session.ask()
        began = trio.current_time()
        cause = await ended(session)
        assert trio.current_time() - began == pytest.approx(LAST_WORDS)
        assert slot.sent
        assert slot.error is cause
    assert "it broke while sending (the network is gone)" in str(cause)
    assert isinstance(cause.__cause__, trio.BrokenResourceError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (trio.BrokenResourceError("broken"), "broken"),
        (trio.ClosedResourceError(), "ClosedResourceError"),
        (ConnectionResetError(104, "Connection reset by peer"), "reset by peer"),
    ],
)
async def test_reading_fails(error: Exception, words: str) -> None:
    peer = quiet()
    async with opened(peer) as session:
        await trio.testing.wait_all_tasks_blocked()
        peer.break_reading(error)
        cause = await ended(session)
    assert isinstance(cause, ConnectionLost)
    assert words in str(cause)
    assert cause.__cause__ is error


async def test_the_systems_own_words() -> None:
    peer = quiet()
    error = trio.BrokenResourceError("socket connection broken: …")
    error.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    async with opened(peer) as session:
        await trio.testing.wait_all_tasks_blocked()
        peer.break_reading(error)
        assert str(await ended(session)).startswith(
            "the connection is lost: it broke ([Errno 104] Connection reset by peer)"
        )


async def test_a_bug_is_not_taken_for_a_lost_connection() -> None:
    peer = quiet()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with opened(peer) as session:
            await trio.testing.wait_all_tasks_blocked()
            peer.break_reading(ZeroDivisionError())
            await session.ended()
    assert peer.closed


async def test_the_peer_has_closed_before_anybody_of_us_has_looked() -> None:
    """Whoever looks first, the reader or the watch: it is chance."""
    for _ in range(10):
        peer = quiet()
        peer.hang_up()
        async with opened(peer) as session:
            assert "the server closed it before it said a word" in str(await ended(session))


async def test_cancelled() -> None:
    peer = quiet()
    async with opened(peer) as session:
        slot = session.ask()
        await peer.receive()
    assert isinstance(slot.error, ConnectionLost)
    assert "cancelled" in str(slot.error)


# --- another protocol, and frames too large


@pytest.mark.parametrize(
    ("first_words", "hint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "this is the port of the web interface"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "this is a TLS port"),
        (b"\x16\x03\x01\x00\x05hello", "this is a TLS port"),
        (b"", "before it said a word"),
    ],
)
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_what_the_peer_probably_is(first_words: bytes, hint: str, in_pieces: bool) -> None:
    peer = quiet()
    async with opened(peer) as session:
        size = 1 if in_pieces else len(first_words) or 1
        for start in range(0, len(first_words), size):
            peer.send_bytes(first_words[start : start + size])
            await trio.testing.wait_all_tasks_blocked()
            if session.cause is not None:
                break
        peer.hang_up()
        assert hint in str(await ended(session))


async def test_it_is_no_frame() -> None:
    peer = quiet()
    async with opened(peer) as session:
        slot = session.ask()
        peer.send_bytes(b"\x01\0\0\0")
        cause = await ended(session)
        assert isinstance(cause, ProtocolError)
        assert isinstance(cause.__cause__, ProtocolError)
        assert "another protocol" in str(cause)
        assert slot.error is cause


async def test_what_came_before_it_is_an_answer() -> None:
    peer = quiet()
    async with opened(peer) as session:
        answered, waiting = session.ask(), session.ask()
        request = await peer.receive()
        peer.send_bytes(encode(Command.PONG, request.correlation) + b"\x01\0\0\0" + bytes(20))
        # That there is no more to come changes nothing.
        cause = await ended(session)
        assert answered.answer is not None
        assert isinstance(cause, ProtocolError)
        assert waiting.error is cause


async def test_an_answer_above_the_limit_fails_alone() -> None:
    peer = quiet()
    async with opened(peer, ANONYMOUS.replace(max_frame_size=1024)) as session:
        large, small = session.ask(), session.ask()
        one, two = [(await peer.receive()).correlation for _ in range(2)]
        peer.send_bytes(encode(Command.PONG, one, bytes(5000)) + encode(Command.PONG, two))
        await small.event.wait()
        assert small.answer is not None
        assert isinstance(large.error, FrameTooLarge)
        assert (large.error.size, large.error.limit) == (5018, 1024)
        assert session.cause is None
        assert session.counters.stray_frames == 0


async def test_an_answer_above_the_limit_whose_caller_has_gone_is_passed_over() -> None:
    peer = quiet()
    async with opened(peer, ANONYMOUS.replace(max_frame_size=1024)) as session:
        session.forget(session.ask())
        slot = session.ask()
        gone = session.ask()
        correlation = (await peer.receive()).correlation
        session.forget(gone)
        peer.send_bytes(encode(Command.PONG, gone.correlation, bytes(5000)) + encode(Command.PONG, correlation))
        await slot.event.wait()
        assert slot.answer is not None
        assert session.counters.stray_frames == 1
        assert session.cause is None


async def test_an_event_above_the_limit_has_its_place_in_the_subscription() -> None:
    peer = quiet()
    async with opened(peer, ANONYMOUS.replace(max_frame_size=1024)) as session:
        subscription, other = session.subscribe(), session.subscribe()
        asked = [await peer.receive() for _ in range(2)]
        for request in asked:
            peer.send(Command.SUBSCRIPTION_CONFIRMATION, request.correlation, confirmed())
        large = encode(Command.STREAM_EVENT_APPEARED, asked[0].correlation, appeared(6, data=bytes(5000)))
        peer.send_bytes(pushed(asked[0], 5) + large + pushed(asked[0], 7) + pushed(asked[1], 5))
        await other.event.wait()
        await trio.testing.wait_all_tasks_blocked()
        commands = [command for command, _, _, _ in await subscription.mailbox.take()]
        assert commands == [Command.STREAM_EVENT_APPEARED, SKIPPED, Command.STREAM_EVENT_APPEARED]
        assert len(await other.mailbox.take()) == 1
        assert session.cause is None
        assert session.counters.frames_received == 6


async def test_a_refusal_to_subscribe_above_the_limit_fails_alone() -> None:
    peer = quiet()
    async with opened(peer, ANONYMOUS.replace(max_frame_size=1024)) as session:
        subscription = session.subscribe()
        request = await peer.receive()
        peer.send(Command.BAD_REQUEST, request.correlation, bytes(5000))
        await subscription.event.wait()
        assert isinstance(subscription.error, FrameTooLarge)
        assert session.cause is None


async def test_a_frame_above_the_limit_that_is_to_none_of_our_ids_ends_it() -> None:
    peer = quiet()
    async with opened(peer, ANONYMOUS.replace(max_frame_size=1024)) as session:
        session.subscribe()
        await peer.receive()
        peer.send(Command.STREAM_EVENT_APPEARED, ID, bytes(5000))
        cause = await ended(session)
    assert isinstance(cause, ProtocolError)
    assert "5,018 bytes" in str(cause)
    assert "1,024" in str(cause)


async def test_a_ping_is_a_request_like_any_other() -> None:
    peer = Peer()
    async with opened(peer) as session:
        slot = Slot(Ping(), b"", 30)
        session.submit(slot)
        await slot.event.wait()
        assert slot.answer == (Command.PONG, b"")
