"""The attempts to connect again: when they come, how they fail, when there are no more, and leaving meanwhile."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import NotHandled, confirm, event_read, not_handled
from tests.helpers import assert_nothing_left, new_events
from tests.lost import AT_ONCE, MUCH_LATER, Watcher, answer_all, lose, open_over, settle, warnings
from tests.peer import ADMIN, ANONYMOUS, Call, Network, Peer
from tests.sessions.story import client_tasks
from trio_extreme import (
    Closed,
    Connected,
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    Lost,
    NotAuthenticated,
    NotReady,
    OutcomeUnknown,
    Reconnecting,
    open_connection,
)
from trio_extreme.client import serve
from trio_extreme.engine import Engine
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.usefixtures("autojump_clock")

DOWN = ConnectionRefusedError(111, "Connection refused")
ATTEMPTED = ANONYMOUS.replace(reconnect_delay=0.1, max_reconnect_delay=5, operation_timeout=1000)
PATIENT = AT_ONCE.replace(connect_timeout=100, identify_timeout=100, attempt_timeout=100)


# --- when the next attempt comes


async def test_delays_are_drawn_below_a_ceiling_that_doubles(nursery: trio.Nursery) -> None:
    """And begins anew with each session that was opened."""
    peers = [Peer() for _ in range(3)]
    network = Network(peers[0], *[DOWN] * 12, peers[1], *[DOWN] * 12, peers[2])
    async with open_connection(ATTEMPTED, connect=network.connect) as conn:
        changes = Watcher(nursery, conn)
        for peer in peers[:2]:
            await lose(peer)
            await conn.ping()
    delays = [change.delay for change in changes.seen if isinstance(change, Reconnecting)]
    ceilings = [min(5, 0.1 * 2**number) for number in range(13)] * 2
    assert len(delays) == 26
    assert all(delay <= ceiling for delay, ceiling in zip(delays, ceilings, strict=True))
    assert max(delays) > 2.5
    assert [change.attempt for change in changes.seen if isinstance(change, Reconnecting)] == [*range(1, 14)] * 2
    assert [later - earlier for earlier, later in pairwise(network.times)] == pytest.approx(delays)


async def test_jitter_comes_from_the_given_chance() -> None:
    """So that a simulation can be repeated; and many clients do not come back at once."""
    all_times = []
    for seed in (1, 1, 2):
        began = trio.current_time()
        network = Network(peer := Peer(), *[DOWN] * 5, Peer())
        async with serve(Engine(ATTEMPTED, network.connect, Random(seed))) as conn:
            await lose(peer)
            await conn.ping()
        all_times.append([moment - began for moment in network.times])
    assert all_times[0] == pytest.approx(all_times[1])
    assert all_times[1] != pytest.approx(all_times[2])


async def test_a_session_that_was_never_accepted_is_a_failed_attempt(nursery: trio.Nursery) -> None:
    """It does not begin the delays anew, nor is it a session: a load balancer without a server behind it."""
    accepting = [Peer() for _ in range(10)]
    for peer in accepting:
        peer.hang_up()
    async with open_over(first := Peer(), *accepting, Peer(), settings=ATTEMPTED) as conn:
        changes = Watcher(nursery, conn)
        await lose(first)
        await conn.ping()
        assert conn.statistics().reconnects == 1
    await settle()
    assert [type(change) for change in changes.seen] == [Connected, Lost, *[Reconnecting] * 11, Connected, Closed]
    assert max(change.delay for change in changes.seen if isinstance(change, Reconnecting)) > 1


# --- attempts that fail


def refuse_password(peer: Peer) -> Peer:
    answer_all(peer, Command.PING, (Command.NOT_AUTHENTICATED, b"Not Authenticated"))
    return peer


def not_ready(peer: Peer) -> Peer:
    answer_all(peer, Command.PING, (Command.NOT_HANDLED, not_handled(NotHandled.NotReady)))
    return peer


def not_ready_to_identify(peer: Peer) -> Peer:
    answer_all(peer, Command.IDENTIFY_CLIENT, (Command.NOT_HANDLED, not_handled(NotHandled.NotReady)))
    return peer


def answer_oddly(peer: Peer) -> Peer:
    answer_all(peer, Command.PING, (Command.CLIENT_IDENTIFIED, b""))
    return peer


def refuse_to_understand(peer: Peer) -> Peer:
    answer_all(peer, Command.PING, (Command.BAD_REQUEST, b"what?"))
    return peer


FAILURES: list[tuple[Any, str]] = [
    (lambda: DOWN, "Connection refused"),
    (lambda: refuse_password(Peer()), "does not accept the credentials"),
    (lambda: not_ready(Peer()), "the node is not ready"),
    (lambda: not_ready_to_identify(Peer()), "the node is not ready"),
    (lambda: answer_oddly(Peer()), "CLIENT_IDENTIFIED came as the answer to PING"),
    (lambda: refuse_to_understand(Peer()), "what?"),
    (lambda: Peer(mute=[Command.PING]), "answers nothing"),
]


@pytest.mark.parametrize(("make", "words"), FAILURES)
async def test_an_attempt_that_fails_is_followed_by_another(
    make: Callable[[], Any], words: str, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """What would be told at once when the connection is opened may pass later: a password that is being changed."""
    peer, failing, third = Peer(), make(), Peer()
    answer_all(third, Command.READ_EVENT, (Command.READ_EVENT_COMPLETED, event_read(7)))
    settings = ADMIN.replace(reconnect_delay=0, max_reconnect_delay=0, heartbeat_interval=100)
    async with open_over(peer, failing, third, settings=settings) as conn:
        await lose(peer)
        assert (await conn.read_event("s", 0)).number == 7
    lost, failed = warnings(caplog)
    assert "connecting again" in lost
    assert "attempt 1 to connect to localhost:1113 failed" in failed
    assert words in failed
    assert failed.endswith("next in 0.00 s")
    assert "changeit" not in failed


async def test_for_ever(nursery: trio.Nursery) -> None:
    """By default, whatever `first_attempts` says."""
    network = Network(peer := Peer(), DOWN)
    async with open_connection(ANONYMOUS.replace(first_attempts=1), connect=network.connect):
        await lose(peer)
        await trio.sleep(3600)
        assert len(network.times) > 1000


# --- attempts that run out


RUNNING_OUT = AT_ONCE.replace(max_attempts=3)


async def test_attempts_run_out(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    """Everybody is told, each anew, and the body is not cancelled."""
    network = Network(peer := Peer(), DOWN, not_ready(Peer()), refuse_password(Peer()), Peer())
    settings = RUNNING_OUT.replace(max_in_flight=4)
    async with open_connection(settings, connect=network.connect) as conn:
        changes = Watcher(nursery, conn)
        nursery.start_soon(confirm, peer)
        async with conn.subscribe_live("live") as events:
            calls = [Call(nursery, conn.read_event, "s", number) for number in range(3)]
            append = Call(nursery, conn.append, "s", new_events(1))
            following = Call(nursery, anext, events)
            await settle()
            at_the_door = Call(nursery, conn.append, "s", new_events(1))
            await settle()
            await lose(peer)
            for call in (*calls, at_the_door, following):
                check_failed(await call.error())
            unknown = await append.error()
            assert isinstance(unknown, OutcomeUnknown)
            check_failed(unknown.__cause__)
            errors = []
            for _ in range(2):
                with pytest.raises(ConnectFailed) as info:
                    await conn.ping()
                errors.append(info.value)
            # One for each caller, or their tracebacks would grow into each other.
            assert errors[0] is not errors[1]
            with pytest.raises(ConnectFailed):
                await anext(conn.read_stream("s"))
            with pytest.raises(ConnectFailed):
                await conn.subscribe_live("s").__aenter__()
            with pytest.raises(ConnectFailed):
                await anext(events)
            await trio.sleep(100)
        assert_nothing_left(conn)
    await settle()
    assert len(network.times) == 4
    assert [type(change) for change in changes.seen] == [Connected, Lost, *[Reconnecting] * 3, Closed]
    check_failed(changes.seen[-1].reason)
    # That remains the reason, though the block was left since.
    check_failed((await anext(conn.changes())).reason)  # type: ignore[union-attr]
    assert warnings(caplog)[-1].endswith("no further one")


def check_failed(error: Any) -> None:
    assert isinstance(error, ConnectFailed)
    assert [type(attempt) for attempt in error.attempts] == [ConnectionLost, NotReady, NotAuthenticated]
    assert "could not connect to localhost:1113 in 3 attempts" in str(error)


async def test_attempts_are_counted_anew_after_each_session() -> None:
    network = Network(first := Peer(), DOWN, DOWN, second := Peer(), DOWN, DOWN, Peer())
    async with open_connection(RUNNING_OUT, connect=network.connect) as conn:
        for peer in (first, second):
            await lose(peer)
            await conn.ping()


async def test_they_do_not_limit_the_opening() -> None:
    network = Network(DOWN, DOWN, DOWN, DOWN, Peer())
    async with open_connection(RUNNING_OUT.replace(max_attempts=1), connect=network.connect) as conn:
        await conn.ping()


async def test_nobody_asks_any_more_when_they_have_run_out() -> None:
    network = Network(peer := Peer(), DOWN)
    async with open_connection(RUNNING_OUT.replace(max_attempts=1), connect=network.connect):
        await lose(peer)
        await trio.sleep(1000)
    assert len(network.times) == 2


# --- leaving meanwhile


def offline() -> Network:
    return Network(Peer(), DOWN)


def connecting() -> Network:
    return Network(Peer(), None)


def identifying() -> Network:
    return Network(Peer(), Peer(mute=[Command.IDENTIFY_CLIENT]))


def proving() -> Network:
    return Network(Peer(), Peer(mute=[Command.PING]))


@pytest.mark.parametrize("where", [offline, connecting, identifying, proving])
@pytest.mark.parametrize("how", ["left", "raised", "cancelled"])
async def test_the_block_is_left_meanwhile(where: Callable[[], Network], how: str, nursery: trio.Nursery) -> None:
    """There is nobody to say goodbye to, so it takes no time; who still calls is told."""
    network = where()
    peers = [outcome for outcome in network._outcomes if isinstance(outcome, Peer)]
    settings = MUCH_LATER if where is offline else PATIENT
    calls: list[Call] = []
    with trio.CancelScope() as scope, suppress(KeyError):
        async with open_connection(settings, connect=network.connect) as conn:
            changes = Watcher(nursery, conn)
            await lose(peers[0])
            calls = [Call(nursery, conn.read_event, "s", 0), Call(nursery, conn.append, "s", new_events(1))]
            await trio.sleep(1)
            await leave(how, scope)
    assert trio.current_time() == 1
    for call in calls:
        assert isinstance(await call.error(), ConnectionClosed)
    assert all(peer.closed for peer in peers)
    await settle()
    assert isinstance(changes.seen[-1], Closed)
    assert isinstance(changes.seen[-1].reason, ConnectionClosed)
    assert client_tasks() == []


async def leave(how: str, scope: trio.CancelScope) -> None:
    if how == "raised":
        raise KeyError
    if how == "cancelled":
        scope.cancel()
        await trio.sleep_forever()
