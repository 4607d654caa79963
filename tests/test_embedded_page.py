"""What docs/embedded.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trio_extreme import open_connection
from trio_extreme.embedded import VERSIONS, open_node

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock

PAGE = (Path(__file__).parent.parent / "docs" / "embedded.md").read_text()
PROGRAM, CLUSTER, TEST, FOLLOWER = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)


def run(example: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(example, "docs/embedded.md", "exec"), namespace)  # noqa: S102 - our own page
    return namespace


def test_it_lists_the_servers_that_a_node_can_be() -> None:
    rows = re.findall(r"^\| `([0-9.]+)` \| ([0-9.]+) \| (recorded|sources) \|", PAGE, re.MULTILINE)
    assert rows == [
        (version.short, version.name, "recorded" if version.is_recorded else "sources") for version in VERSIONS.values()
    ]


async def test_orders_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        await run(PROGRAM)["place_orders"]()
    async with open_node(path="shop.db") as node, open_connection(node.settings) as conn:
        assert await conn.last_number("orders") == 1


async def test_a_cluster_fails_over(autojump_clock: MockClock) -> None:
    await run(CLUSTER)["test_orders_outlive_their_master"](autojump_clock)


async def test_the_test_passes(tmp_path: Path, autojump_clock: MockClock) -> None:
    await run(TEST)["test_orders_survive"](tmp_path, autojump_clock)


async def test_a_category_is_followed(capsys: pytest.CaptureFixture[str]) -> None:
    await run(FOLLOWER)["follow_people"]()
    assert capsys.readouterr().out == "people-1 0 came as 0\n"
