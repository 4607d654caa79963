"""What the nodes of a cluster said of each other while its master was killed and came back, and what ours say then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.conformance.recorded import FOLDER
from tests.embedded.clustering import master_of, settle, small_cluster
from tests.embedded.visiting import document, get

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trio_extreme.embedded import Node


def recorded(moment: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads((FOLDER / "gossip" / f"4.1.1-{moment}.json").read_text())
    return document


def told(document: Mapping[str, Any]) -> Sequence[tuple[object, ...]]:
    """What counts: each member's fields, state and life, and whether its master is the latest there was."""
    latest = max(member["epochNumber"] for member in document["members"])
    return sorted(
        (member["state"], member["isAlive"], member["epochNumber"] == latest, *member) for member in document["members"]
    )


async def gossip(node: Node) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document(await get(node, "/gossip?format=json"))
    return found


async def test_the_story_of_a_master(autojump_clock: None) -> None:
    """Between two of these moments, "electing" shows a gossip that is on its way; here it is everywhere at once."""
    async with small_cluster() as cluster:
        old, viewer = master_of(cluster), cluster.replicas[0]
        assert told(await gossip(viewer)) == told(recorded("three-alive"))
        cluster.kill()
        assert told(await gossip(viewer)) == told(recorded("master-just-killed"))
        await cluster.wait_for_master()
        await settle()
        assert told(await gossip(viewer)) == told(recorded("new-master"))
        cluster.start(old)
        await settle()
        for node in cluster.nodes:
            assert told(await gossip(node)) == told(recorded("old-master-back"))


async def test_the_members_say_the_same_of_themselves(autojump_clock: None) -> None:
    """In the recordings and here: places in the log that all have, one epoch for all, an id for each."""
    async with small_cluster() as cluster:
        for one in (recorded("three-alive"), await gossip(cluster.nodes[0])):
            members = one["members"]
            assert len({member["instanceId"] for member in members}) == 3
            for shared in ("epochId", "epochPosition", "writerCheckpoint", "chaserCheckpoint", "lastCommitPosition"):
                assert len({member[shared] for member in members}) == 1
            assert all(member["externalTcpIp"] == one["serverIp"] for member in members)
