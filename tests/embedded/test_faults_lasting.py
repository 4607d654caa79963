"""How long faults last, and faults drawn from a seed."""

from __future__ import annotations

import pytest
import trio

from tests.embedded.talk import (
    is_alive,
    read_stream,
    talk_to,
)
from trio_extreme.embedded import VERSIONS, Node, open_node
from trio_extreme.wire.commands import Command

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
