"""The line by itself, between connections that only note what is queued for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_extreme.embedded.line import Line, Rule
from trio_extreme.embedded.timetable import Timetable
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import Frame, encode_frame

if TYPE_CHECKING:
    from trio_extreme.embedded.connection import Connection

ONE, TWO = bytes([1] * 16), bytes([2] * 16)
PING: Frame = (Command.PING, 0, ONE, b"")
PONG = encode_frame(Command.PONG, ONE, b"pong")
OTHER = encode_frame(Command.PONG, TWO, b"other")
EVENT = encode_frame(Command.STREAM_EVENT_APPEARED, ONE)


@dataclass(eq=False)
class Taker:
    """What the line knows of a connection."""

    asked: Frame | None = None
    hanging_up: bool = False
    on_its_way: int = 0
    queued: list[bytes] = field(default_factory=list)

    def queue(self, frame: bytes) -> None:
        self.queued.append(frame)


def new_taker(asked: Frame | None = None) -> tuple[Connection, list[bytes]]:
    taker = Taker(asked)
    return cast("Connection", taker), taker.queued


@pytest.fixture
def line(autojump_clock: None, nursery: trio.Nursery) -> Line:
    timetable = Timetable()
    nursery.start_soon(timetable.run)
    return Line(timetable)


# A stopped process


async def test_who_goes_on_waits_while_it_is_stopped(line: Line, nursery: trio.Nursery) -> None:
    await line.go_on()
    line.stop()
    assert repr(line) == "<Line stopped: 0 packages on their way>"
    waiting = [trio.CancelScope() for _ in range(2)]

    async def wait(scope: trio.CancelScope) -> None:
        await line.go_on()
        scope.cancel()

    for scope in waiting:
        nursery.start_soon(wait, scope)
    await wait_all_tasks_blocked()
    assert not any(scope.cancel_called for scope in waiting)
    line.resume()
    await wait_all_tasks_blocked()
    assert all(scope.cancel_called for scope in waiting)


async def test_who_is_woken_up_into_the_next_stop_waits_on(line: Line, nursery: trio.Nursery) -> None:
    line.stop()
    nursery.start_soon(line.go_on)
    await wait_all_tasks_blocked()
    line.resume()
    line.stop()
    await wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 1
    line.resume()


# Delay


async def test_delayed_packages_keep_their_order_and_their_distance(line: Line) -> None:
    connection, queued = new_taker()
    line.set_delay(1)
    line.take(connection, PONG)
    await trio.sleep(0.5)
    line.take(connection, OTHER)
    await trio.sleep(0.4)
    assert (queued, connection.on_its_way) == ([], 2)
    await trio.sleep(0.2)
    assert (queued, connection.on_its_way) == ([PONG], 1)
    await trio.sleep(0.5)
    assert (queued, connection.on_its_way) == ([PONG, OTHER], 0)


async def test_a_shorter_delay_overtakes_nothing(line: Line) -> None:
    connection, queued = new_taker()
    line.set_delay(3)
    line.take(connection, PONG)
    line.set_delay(1)
    line.take(connection, OTHER)
    await trio.sleep(2)
    assert queued == []
    await trio.sleep(1.1)
    assert queued == [PONG, OTHER]


async def test_a_longer_delay_holds_up_nothing_that_is_on_its_way(line: Line) -> None:
    connection, queued = new_taker()
    line.set_delay(1)
    line.take(connection, PONG)
    line.set_delay(3)
    line.take(connection, OTHER)
    await trio.sleep(1.1)
    assert queued == [PONG]
    await trio.sleep(2)
    assert queued == [PONG, OTHER]


async def test_without_a_delay_all_arrives_at_once(line: Line) -> None:
    connection, queued = new_taker()
    line.set_delay(3)
    assert line.busy
    line.take(connection, PONG)
    line.take(connection, OTHER)
    assert repr(line) == "<Line: 2 packages on their way>"
    line.set_delay(0)
    assert queued == [PONG, OTHER]
    assert not line.busy
    await trio.sleep(5)
    assert queued == [PONG, OTHER]


# Rules


def keep(line: Line, seconds: float) -> Rule:
    return Rule({Command.PING}, 1, lambda connection, request, answer: line.keep(seconds, connection, request, answer))


async def test_a_rule_is_for_answers_to_its_commands(line: Line) -> None:
    treated = []
    line.add(Rule({Command.PING}, 2, lambda _, __, answer: treated.append(answer)))
    for asked, frame, is_treated in (
        (None, PONG, False),
        (PING, OTHER, False),
        (PING, EVENT, False),
        ((Command.READ_EVENT, 0, ONE, b""), PONG, False),
        (PING, PONG, True),
        (PING, PONG, True),
        (PING, PONG, False),
    ):
        treated.clear()
        connection, queued = new_taker(asked)
        line.take(connection, frame)
        assert (treated, queued) == (([frame], []) if is_treated else ([], [frame]))
    assert not line.busy


async def test_rules_are_used_in_the_order_in_which_they_came(line: Line) -> None:
    used: list[str] = []
    line.add(Rule({Command.PING}, 1, lambda *_: used.append("first")))
    line.add(Rule({Command.PING}, 1, lambda *_: used.append("second")))
    connection, queued = new_taker(PING)
    for _ in range(3):
        line.take(connection, PONG)
    assert used == ["first", "second"]
    assert queued == [PONG]


async def test_what_has_the_id_of_a_late_answer_waits_with_it(line: Line) -> None:
    line.add(keep(line, 1))
    connection, queued = new_taker(PING)
    for frame in (PONG, EVENT, OTHER):
        line.take(connection, frame)
    other, other_queued = new_taker()
    line.take(other, EVENT)
    assert (queued, other_queued) == ([OTHER], [EVENT])
    assert line.busy
    await trio.sleep(1.1)
    assert queued == [OTHER, PONG, EVENT]
    assert not line.busy


async def test_what_is_late_leaves_when_all_is_cleared(line: Line) -> None:
    line.add(keep(line, 1))
    connection, queued = new_taker(PING)
    line.take(connection, PONG)
    line.clear()
    assert queued == [PONG]
    assert not line.busy
    await trio.sleep(2)
    assert queued == [PONG]


async def test_what_is_late_for_a_connection_that_hangs_up_is_lost(line: Line) -> None:
    line.add(keep(line, 1))
    connection, queued = new_taker(PING)
    line.take(connection, PONG)
    connection.hanging_up = True
    await trio.sleep(2)
    assert queued == []


async def test_nothing_is_kept_of_a_connection_that_ended(line: Line) -> None:
    line.add(keep(line, 1))
    connection, queued = new_taker(PING)
    line.take(connection, PONG)
    line.treat_each([connection], lambda *_: None)
    line.forget(connection)
    assert not line.busy
    await trio.sleep(2)
    assert queued == []


# The next package


async def test_the_next_package_to_each_connection_is_treated(line: Line) -> None:
    treated: list[bytes] = []
    connections = [new_taker(PING) for _ in range(3)]
    line.treat_each([connection for connection, _ in connections[:2]], lambda _, frame: treated.append(frame))
    for connection, _ in connections:
        line.take(connection, PONG)
        line.take(connection, OTHER)
    assert treated == [PONG, PONG]
    assert [queued for _, queued in connections] == [[OTHER], [OTHER], [PONG, OTHER]]
    assert not line.busy


async def test_the_next_package_of_all_is_treated(line: Line) -> None:
    treated: list[bytes] = []
    line.treat_next(lambda _, frame: treated.append(frame))
    connection, queued = new_taker()
    line.take(connection, PONG)
    line.take(connection, OTHER)
    assert (treated, queued) == ([PONG], [OTHER])
    assert not line.busy


async def test_a_treated_package_is_delayed_like_others(line: Line) -> None:
    line.set_delay(1)
    line.treat_next(lambda connection, frame: line.send(connection, frame[:3]))
    connection, queued = new_taker()
    line.take(connection, PONG)
    line.take(connection, OTHER)
    assert queued == []
    await trio.sleep(1.1)
    assert queued == [PONG[:3], OTHER]


async def test_cleared_nothing_is_treated(line: Line) -> None:
    connection, queued = new_taker(PING)
    line.add(keep(line, 1))
    line.treat_each([connection], lambda *_: None)
    line.treat_next(lambda *_: None)
    line.clear()
    line.take(connection, PONG)
    assert queued == [PONG]
