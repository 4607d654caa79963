"""How long faults last, and faults drawn from a seed."""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import count
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.embedded.talk import ADMIN, Talk, append, is_alive, new_event, pack, read_stream, subscribe, talk_to
from trio_extreme.embedded import VERSIONS, Node, open_node
from trio_extreme.embedded.faults import PLAYED, Faults, Happening
from trio_extreme.errors import InvalidArgument
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

FORWARD = Command.READ_STREAM_EVENTS_FORWARD


@pytest.mark.parametrize("version", VERSIONS)
async def test_faults_end_by_themselves(version: str, autojump_clock: None) -> None:
    async with open_node(port=None, version=version) as node:
        talk = await talk_to(node)
        await is_alive(talk)
        node.faults.pause(1)
        node.faults.not_ready(2)
        node.faults.refuse(3)
        start = trio.current_time()
        reply = await talk.ask(FORWARD, read_stream("people"))
        assert reply is not None
        assert reply.command == Command.NOT_HANDLED
        assert trio.current_time() - start == pytest.approx(1)
        await trio.sleep(1.1)
        reply = await talk.ask(FORWARD, read_stream("people"))
        assert reply is not None
        assert reply.command == FORWARD + 1
        assert node.faults.refuses_connections
        await trio.sleep(1)
        assert not node.faults.refuses_connections


@pytest.mark.parametrize(("first", "second", "lasts"), [(1, 5, 5), (5, 1, 1), (None, 1, 1), (1, None, 60)])
async def test_a_fault_that_begins_again_has_the_new_end(
    node: Node, first: float | None, second: float | None, lasts: float
) -> None:
    node.faults.refuse(first)
    with node.faults.refuse(second) as fault:
        await trio.sleep(lasts - 0.1)
        assert repr(fault) == "<Lasting, active>"
        await trio.sleep(0.2)
        assert fault.active is (second is None)
    assert repr(fault) == "<Lasting, over>"


async def test_a_fault_ends_once(node: Node) -> None:
    faults = node.faults
    with faults.pause(1):
        await trio.sleep(2)
        faults.resume()
    for end in (faults.resume, faults.accept, faults.ready, faults.clear):
        end()
    assert [happening.details for happening in faults.history] == ["the process is stopped for 1 s", "over"]


async def test_clearing_ends_all_that_lasts(node: Node) -> None:
    talk = await talk_to(node)
    faults = node.faults
    faults.restart(60)
    again = faults.pause, faults.refuse, faults.not_ready
    for begin in again:
        begin()
    faults.delay(10)
    assert await talk.hear() is None
    faults.clear()
    talk = await talk_to(node)
    with trio.fail_after(1):
        reply = await talk.ask(FORWARD, read_stream("people"))
    assert reply is not None
    assert reply.command == FORWARD + 1


# What happened


async def test_the_history_says_what_was_done_and_whom_it_hit(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_extreme.embedded")
    talk = await talk_to(node)
    await talk.ask(Command.IDENTIFY_CLIENT, schema.IdentifyClient(version=1, connection_name="mine"))
    node.faults.drop_reply(FORWARD, count=2, kill=True)
    await trio.sleep(1)
    await talk.ask(FORWARD, read_stream("people"))
    node.faults.delay(0.5, lasting=2)
    await trio.sleep(3)
    assert node.faults.history == [
        Happening(0, "drop_reply", "waits for 2 × READ_STREAM_EVENTS_FORWARD, and cuts the connection"),
        (1, "drop_reply", "hit: READ_STREAM_EVENTS_FORWARD of <Client 'mine', version 1>"),
        (1, "delay", "0.5 s for 2 s"),
        (3, "delay", "over"),
    ]
    assert repr(node.faults) == "<Faults: 4 happened>"
    assert caplog.messages[-2:] == ["fault at 1.000: delay, 0.5 s for 2 s", "fault at 3.000: delay, over"]


@pytest.mark.parametrize(
    ("begin", "details"),
    [
        (lambda faults: faults.kill_connections(), "1 connection"),
        (lambda faults: faults.half_open(), "1 connection"),
        (lambda faults: faults.cut_inside_frame(), "waits for 1 connection"),
        (lambda faults: faults.cut_inside_frame(each=False), "waits for one package"),
        (lambda faults: faults.refuse(), "new connections"),
        (lambda faults: faults.pause(), "the process is stopped"),
        (lambda faults: faults.not_ready(2.5), "requests are refused for 2.5 s"),
        (lambda faults: faults.restart(), "killed, 1 connection"),
        (lambda faults: faults.restart(graceful=True), "graceful, 1 connection"),
        (lambda faults: faults.answer_late(3), "waits for 1 × any request, 3 s late"),
        (lambda faults: faults.answer_twice(count=2), "waits for 2 × any request"),
    ],
)
async def test_each_fault_says_what_it_does(node: Node, begin: Callable[[Faults], object], details: str) -> None:
    await talk_to(node)
    begin(node.faults)
    (happening,) = node.faults.history
    assert happening.details == details


# Faults that are played


async def played(seed: int | Random, **options: Any) -> list[Happening]:
    async with open_node(port=None) as node:
        await node.faults.play(seed, **options)
        return node.faults.history


async def test_the_same_seed_plays_the_same(autojump_clock: MockClock) -> None:
    async def times(seed: int | Random) -> list[tuple[float, str, str]]:
        start = trio.current_time()
        history = await played(seed, seconds=60)
        return [(round(time - start, 6), name, details) for time, name, details in history]

    first = await times(7)
    assert first == await times(7) == await times(Random(7))
    assert first != await times(8)


async def test_it_plays_as_long_and_as_often_as_it_is_told(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    history = await played(1, seconds=1000, rate=0.5, names=["kill_connections"])
    assert trio.current_time() - start == pytest.approx(1000)
    assert len(history) == pytest.approx(500, rel=0.2)


async def test_no_fault_lasts_longer_than_it_may(autojump_clock: MockClock) -> None:
    history = await played(1, seconds=1000, rate=0.1, longest=3, names=["pause"])
    begins = [time for time, _, details in history if details != "over"]
    ends = [time for time, _, details in history if details == "over"]
    assert len(ends) > 50
    for end in ends:
        assert end - max(begin for begin in begins if begin <= end) <= 3


async def test_all_that_can_be_played_is(autojump_clock: MockClock) -> None:
    history = await played(1, seconds=300)
    assert {name for _, name, _ in history} == set(PLAYED)


@pytest.mark.parametrize("name", PLAYED)
async def test_one_fault_alone_can_be_played(name: str, autojump_clock: MockClock) -> None:
    assert {happening.name for happening in await played(1, seconds=30, names=[name])} == {name}


async def test_when_playing_is_cancelled_all_faults_are_over(node: Node) -> None:
    with trio.move_on_after(20):
        await node.faults.play(2, seconds=inf, names=["pause", "refuse", "not_ready"], longest=1e6)
    last = {name: details for _, name, details in node.faults.history}
    assert last == {"pause": "over", "refuse": "over", "not_ready": "over"}
    assert await is_alive(await talk_to(node))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seconds": -1}, "seconds: -1"),
        ({"seconds": 1, "rate": 0}, "rate: 0"),
        ({"seconds": 1, "longest": -1}, "seconds: -1"),
        ({"seconds": 1, "names": []}, "names"),
        ({"seconds": 1, "names": ["pauze"]}, "names: 'pauze' is none of kill_connections, "),
    ],
)
async def test_what_cannot_be_played_is_refused(options: dict[str, Any], text: str, autojump_clock: MockClock) -> None:
    with pytest.raises(InvalidArgument, match=text):
        await played(1, **options)


class Writers:
    """Clients that ask for one thing after the other, and connect again whenever that fails."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.acknowledged: list[int] = []
        self._numbers = count(1)

    async def run(self) -> None:
        while True:
            with suppress(OSError):
                talk = await talk_to(self.node)
                with suppress(trio.BrokenResourceError):
                    await self.write_on(talk)
                await talk.stream.aclose()
            await trio.sleep(0.1)

    async def write_on(self, talk: Talk) -> None:
        """Until no answer comes for a while."""
        await talk.tell(Command.SUBSCRIBE_TO_STREAM, subscribe("people"), ADMIN)
        answered = True
        while answered:
            with trio.move_on_after(3) as patience:
                answered = await self.write(talk)
            answered = answered and not patience.cancelled_caught

    async def write(self, talk: Talk) -> bool:
        number = next(self._numbers)
        correlation = number.to_bytes(16, "big")
        events = append("people", [new_event(id=correlation)])
        await talk.tell(FORWARD, read_stream("people", 0, 10), ADMIN)
        await talk.stream.send_all(pack(Command.WRITE_EVENTS, events, ADMIN, correlation))
        reply = await talk.hear()
        while reply is not None and reply.correlation != correlation:
            reply = await talk.hear()
        if reply is not None and reply.command == Command.WRITE_EVENTS_COMPLETED:
            self.acknowledged.append(number)
        await trio.sleep(0.1)
        return reply is not None


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_played_the_node_keeps_what_it_acknowledged(seed: int, node: Node) -> None:
    writers = Writers(node)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(writers.run)
        await node.faults.play(seed, seconds=30, rate=0.5)
        before = len(writers.acknowledged)
        # Who meets silence last waits for three seconds.
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert len(writers.acknowledged) > before + 20
    written = [int.from_bytes(record.id, "big") for record in node.store.records("people")]
    assert len(written) == len(set(written))
    assert set(writers.acknowledged) <= set(written)
    assert not node._line.busy
