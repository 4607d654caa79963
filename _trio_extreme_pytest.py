"""The fixtures `event_store` and `event_store_connection`; pytest loads this in every run (docs/testing.md).

It stands beside the package and not in it, because whoever imports a module of a package imports the package: a run of
tests that ask for no node would wait for Trio and protobuf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_extreme import Connection
    from trio_extreme.embedded import Node

_NO_PLUGIN = "the fixture event_store needs pytest-trio, which runs tests under Trio: pip install pytest-trio"
_NO_TRIO_TEST = (
    "the fixture event_store is for tests that run under Trio, and this one does not: write `async def`, and "
    "`@pytest.mark.trio` above it, or `trio_mode = true` in pytest's configuration"
)


@pytest.fixture
def event_store_options() -> dict[str, Any]:
    """What the node of `event_store` is opened with, arguments of `open_node`. Override it to have others."""
    return {}


@pytest.fixture
def _test_runs_under_trio(request: pytest.FixtureRequest) -> None:
    """Say what is missing, which pytest itself would not: to it an async fixture is a mistake."""
    if not request.config.pluginmanager.has_plugin("trio"):
        pytest.fail(_NO_PLUGIN, pytrace=False)
    if request.node.get_closest_marker("trio") is None:
        pytest.fail(_NO_TRIO_TEST, pytrace=False)


@pytest.fixture
async def event_store(_test_runs_under_trio: None, event_store_options: dict[str, Any]) -> AsyncIterator[Node]:
    """An embedded node, empty: on a free port, or in memory where the test has `autojump_clock`."""
    from trio_extreme.testing import open_event_store  # noqa: PLC0415 - not before somebody asks for it

    async with open_event_store(event_store_options) as node:
        yield node


@pytest.fixture
async def event_store_connection(event_store: Node) -> AsyncIterator[Connection]:
    """A connection to the node of `event_store`, as an administrator."""
    from trio_extreme.testing import connect_to_event_store  # noqa: PLC0415 - as above

    async with connect_to_event_store(event_store) as connection:
        yield connection
