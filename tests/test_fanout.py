"""A listener that is told what is new, and remembers nothing."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import Drop, confirm, dropped
from tests.helpers import assert_nothing_left, new_events
from tests.listening import Seen, running
from tests.peer import Peer, open_to
from tests.sessions.steps import cancelled_at
from tests.sessions.story import client_tasks
from trio_extreme import (
    ALL,
    STOP,
    DropReason,
    FanoutListener,
    StreamDeleted,
    SubscriptionDropped,
    open_connection,
)
from trio_extreme.embedded import open_node
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_extreme import Connection, Event
    from trio_extreme.embedded import Node


@pytest.fixture
def version() -> str:
    """No server differs from another here."""
    return "4.1.1"


async def test_fanout_at_each_step(autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node, open_connection(node.settings, connect=node.connect) as conn:
        tasks = client_tasks()
        for step in count(1):
            seen = Seen()
            with cancelled_at(step, of_all=True) as cancelled:
                async with running(FanoutListener(conn, "people", seen)):
                    await conn.append("people", new_events(1))
                    await seen.come_to(1)
            await trio.testing.wait_all_tasks_blocked()
            assert_nothing_left(conn)
            assert client_tasks() == tasks, step
            if not cancelled.reached:
                break
            assert step < 500
        assert step > 10


async def test_fanout_that_was_too_slow_comes_back_and_says_so(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    seen, gaps = Seen(seconds=lambda event: 1), list[int]()

    async def gap() -> None:
        gaps.append(len(seen.places))

    settings = node.settings.replace(live_buffer_events=5)
    async with open_connection(settings, connect=node.connect) as conn:
        async with running(FanoutListener(conn, "people", seen, gap=gap)):
            for event in new_events(20):
                await conn.append("people", event)
            await trio.sleep(30)
            assert gaps == [len(seen.places)]
            assert seen.places == list(range(len(seen.places)))
            written = await conn.append("people", new_events(1))
            await trio.sleep(5)
            assert seen.places[-1] == written.last
        assert "was too slow, and was dropped: events may be missing" in caplog.text


async def test_fanout_raises_what_does_not_pass(conn: Connection) -> None:
    seen = Seen()
    seen.errors = {0: [SubscriptionDropped("of the handler", Any)]}
    with pytest.RaisesGroup(pytest.RaisesExc(SubscriptionDropped, match="of the handler")):
        async with trio.open_nursery() as nursery:
            await nursery.start(FanoutListener(conn, "people", seen).run)
            await conn.append("people", new_events(1))
    await conn.delete_stream("people", expected=-2, hard=True)
    with pytest.raises(StreamDeleted):
        await FanoutListener(conn, "people", seen).run()
    log, stop = Seen(), FanoutListener(conn, ALL, Seen())
    assert repr(stop) == "<FanoutListener to '$all': stopped, 0 events handled>"
    assert stop.handled == 0

    async def first(event: Event) -> object:
        await log(event)
        return STOP

    async with trio.open_nursery() as nursery:
        await nursery.start(FanoutListener(conn, ALL, first).run)
        written = await conn.append("other", new_events(3))
    assert len(log.places) == 1
    assert log.places[0] <= written.position


async def test_fanout_raises_a_drop_by_the_server(autojump_clock: MockClock) -> None:
    del autojump_clock
    peer = Peer()
    with pytest.RaisesGroup(pytest.RaisesExc(SubscriptionDropped)) as caught:
        async with open_to(peer) as conn, trio.open_nursery() as nursery:
            nursery.start_soon(FanoutListener(conn, "people", Seen()).run)
            request = await confirm(peer)
            peer.send(Command.SUBSCRIPTION_DROPPED, request.correlation, dropped(Drop.NotFound))
    (error,) = caught.value.exceptions
    assert isinstance(error, SubscriptionDropped)
    assert error.reason is not DropReason.OVERFLOW
