"""What all tests share: an embedded node, a connection to it, and the proof that nothing is left behind."""

from __future__ import annotations

import gc
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from coverage import Coverage
from hypothesis import settings

from tests.helpers import assert_nothing_left
from tests.leaks import run_watched
from trio_extreme import Connection, open_connection
from trio_extreme.embedded import VERSIONS, Node, open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from trio.testing import MockClock

# Other work on the machine must not fail a test, so no example has a deadline.
settings.register_profile("default", deadline=None)
settings.register_profile("long", deadline=None, max_examples=1000)
settings.load_profile("default")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("trio"):
            # Before the marker of trio_mode, which names the plain trio.run.
            item.add_marker(pytest.mark.trio(run=partial(run_test, item)), append=False)


def pytest_collection_finish() -> None:
    """Thousands of tests are as many objects: the collector need not look at them again after each test."""
    gc.collect()
    gc.freeze()


def run_test(item: pytest.Function, test: Callable[[], Awaitable[object]], **options: Any) -> None:
    # pytest-trio sees a clock only where the test itself asks for one, and here fixtures do.
    options["clock"] = options["clock"] or item.funcargs.get("autojump_clock")
    run_watched(test, **options)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Tell coverage which file's test it measures: tests/coverage_rules.py wants to know."""
    name = item.path.relative_to(item.config.rootpath).as_posix()
    os.environ["TEST_FILE"] = name
    if measured := Coverage.current():
        measured.switch_context(name)
    return (yield)


RARELY = [short for short, version in VERSIONS.items() if not version.is_recorded]
"""What tests/test_versions.py tells of in short for each run, and the whole suite in the long one."""


@pytest.fixture(params=["3.9.4", "4.1.1", *(pytest.param(short, marks=pytest.mark.long) for short in RARELY)])
def version(request: pytest.FixtureRequest) -> str:
    """The server that the node takes for its model."""
    value: str = request.param
    return value


@pytest.fixture
async def node(version: str, autojump_clock: MockClock) -> AsyncIterator[Node]:
    """An empty node in memory."""
    async with open_node(port=None, version=version) as opened:
        yield opened


@pytest.fixture
async def conn(node: Node) -> AsyncIterator[Connection]:
    """A connection to it, as an administrator."""
    async with open_connection(node.settings, connect=node.connect) as opened:
        yield opened
        assert_nothing_left(opened)
