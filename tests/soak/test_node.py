"""The node's process: it serves through its proxy, breaks when told to, heals when told to, and ends with its block."""

from __future__ import annotations

from typing import Any

import trio

from tests.soak.node import running_node
from trio_extreme import NewEvent, Settings, open_connection

PATIENCE = 30


async def test_it_breaks_and_heals_and_keeps_nothing() -> None:
    with trio.fail_after(PATIENCE):
        async with running_node("--seed=1", "--rate=10", "--longest=0.3") as node:
            before = await node.tell("report")
            assert (before["faults"], before["links"]) == ({}, 0)
            settings = Settings(host="127.0.0.1", port=node.port, username="admin", password="changeit")
            async with open_connection(settings.replace(reconnect_delay=0.01, max_reconnect_delay=0.1)) as conn:
                await conn.append("orders", NewEvent("placed"))
                await node.tell("storm")
                await trio.sleep(2)
                report = await node.tell("calm")
                await conn.ping()
                assert conn.statistics().reconnects > 0
            kinds = {name.partition(" ")[0] for name in report["faults"]}
            assert kinds == {"network", "node"}
            # Half-open connections end with their heartbeats.
            while held(await node.tell("report")) != held(before):  # noqa: ASYNC110
                await trio.sleep(0.1)


def held(report: dict[str, Any]) -> tuple[int, int]:
    # Not the faults: the last of them are told after the calm.
    return report["links"], report["descriptors"]
