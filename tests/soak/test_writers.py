"""What writers take down is true, whatever becomes of their appends."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.soak.ledger import Ledger, make_id
from tests.soak.writers import CarefulWriter, CarelessWriter, Founder, ImpatientWriter, RivalWriter, Told, Writer
from trio_extreme import ANY, NO_STREAM, Connection, NewEvent, open_connection
from trio_extreme.embedded import Node, open_node
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

STREAM = "orders"
OTHERS = ["first", "second"]
WRITES = 30


@pytest.fixture
async def node(autojump_clock: MockClock) -> AsyncIterator[Node]:
    async with open_node(port=None, random=Random(0)) as opened:
        yield opened


@asynccontextmanager
async def a_writer(kind: type[Writer], node: Node) -> AsyncIterator[tuple[Writer, Ledger]]:
    complaints: list[str] = []
    async with open_connection(node.settings, connect=node.connect) as conn:
        ledger = Ledger(complaints.append)
        yield make(kind, conn, ledger), ledger
        assert ledger.judge(await read(conn)).faultless, complaints


def make(kind: type[Writer], conn: Connection, ledger: Ledger) -> Writer:
    if kind is Founder:
        return Founder(conn, ledger, OTHERS, 1, Random(1))
    return kind(conn, ledger, STREAM, 1, Random(1))


async def read(conn: Connection) -> dict[str, list[int]]:
    stored = {}
    for stream in (STREAM, *OTHERS):
        stored[stream] = [event.id.int async for event in conn.read_stream(stream, missing_ok=True)]
    return stored


KINDS = [CarelessWriter, ImpatientWriter, CarefulWriter, RivalWriter, Founder]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_taken_down_is_true_while_connections_break(node: Node, kind: type[Writer]) -> None:
    async with a_writer(kind, node) as (writer, ledger):
        for number in range(WRITES):
            if number % 3 == 0:
                node.faults.drop_reply(Command.WRITE_EVENTS, kill=True)
            if number % 5 == 0:
                node.faults.restart(down=0.5)
            await writer.write()
        assert ledger.acknowledged_events > 0


async def test_it_goes_on_until_it_is_enough(node: Node) -> None:
    async with a_writer(CarelessWriter, node) as (writer, ledger):
        enough = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run, enough)
            await trio.sleep(10)
            enough.set()
        assert ledger.acknowledged_events > 100


async def test_ids_are_never_used_twice(node: Node) -> None:
    async with a_writer(CarelessWriter, node) as (writer, _):
        events = [event for _ in range(5) for event in writer.new_events()]
        assert [event.id for event in events] == [make_id(1, sequence) for sequence in range(len(events))]


async def test_a_wrong_version_is_a_refusal(node: Node) -> None:
    async with a_writer(CarelessWriter, node) as (writer, ledger):
        assert await writer.append([NewEvent("happened", id=make_id(7, 0))], NO_STREAM) is Told.WRITTEN
        assert await writer.append([NewEvent("happened", id=make_id(7, 1))], NO_STREAM) is Told.WRONG_VERSION
        assert (ledger.acknowledged_events, ledger.doubtful_events) == (1, 0)


async def test_what_was_cancelled_on_its_way_is_doubtful(node: Node) -> None:
    async with a_writer(CarelessWriter, node) as (writer, ledger):
        with node.faults.pause(), trio.move_on_after(1):
            await writer.append([NewEvent("happened", id=make_id(7, 0))], ANY)
        assert (ledger.acknowledged_events, ledger.doubtful_events) == (0, 1)


async def test_what_was_never_sent_is_a_refusal(node: Node) -> None:
    async with a_writer(CarelessWriter, node) as (writer, ledger):
        node.faults.restart(down=100)
        await trio.sleep(1)
        assert await writer.append([NewEvent("happened", id=make_id(7, 0))], ANY) is Told.NOT_WRITTEN
        assert (ledger.acknowledged_events, ledger.doubtful_events) == (0, 0)
        await trio.sleep(100)
