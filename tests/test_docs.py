"""The Python of the pages runs, block after block, and the reference knows every public name.

A page has a node of its own, which keeps what its blocks write. Each block finds `node` and `conn` to begin with, and
all that the blocks before it, and comments that no reader sees, have made; `await` stands where it likes. Connections
lead to this node, whatever their settings say, and time passes only when all wait, so a block that would follow its
stream for ever ends after a minute of no time. What a block of `text` says is what the block before it printed.
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser
from trio.testing import MockClock

import trio_extreme
from tests.leaks import run_watched
from trio_extreme import open_connection
from trio_extreme.embedded import open_node, run_inline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sybil import Example

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
MINUTE = 60


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """A page may set the levels of loggers, and other tests have their own."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    before = [(logger, logger.level) for logger in loggers]
    yield
    for logger, level in before:
        logger.setLevel(level)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_what_happens(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(example: Example) -> None:
        run_watched(partial(run_block, example, tmp_path, monkeypatch), clock=MockClock(autojump_threshold=0))

    def compare(example: Example) -> None:
        assert capsys.readouterr().out == example.parsed

    parsers = [CodeBlockParser("python", run), CodeBlockParser("text", compare)]
    for example in Sybil(parsers=parsers).parse(DOCS / f"{page}.md").examples():
        example.evaluate()


async def run_block(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_node(port=None, path=folder / "node.db", projections=True, run_sync=run_inline) as node:
        for module in ("client", "admin"):
            monkeypatch.setattr(f"trio_extreme.{module}.connect_tcp", node.connect)
        async with open_connection(node.settings) as conn:
            example.namespace.update(node=node, conn=conn)
            with trio.move_on_after(MINUTE):
                await execute(example, folder)


async def execute(example: Example, folder: Path) -> None:
    known = set(example.namespace)
    # As many lines as stand before it on the page, so that a traceback tells the page's own.
    source = "\n" * example.line + example.parsed
    code = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, example.namespace)  # noqa: S307 - our own page
    if inspect.iscoroutine(result):
        await result
    for name in example.namespace.keys() - known:
        if name.startswith("test_"):
            await call_test(example.namespace[name], example.namespace, folder)


async def call_test(test: Any, namespace: dict[str, Any], folder: Path) -> None:
    fixtures = {
        "autojump_clock": None,
        "event_store": namespace["node"],
        "event_store_connection": namespace["conn"],
        "tmp_path": folder / test.__name__,
    }
    fixtures["tmp_path"].mkdir()
    result = test(**{name: fixtures[name] for name in inspect.signature(test).parameters})
    if inspect.iscoroutine(result):
        await result


def test_the_reference_has_every_public_name() -> None:
    page = (DOCS / "reference.md").read_text()
    listed = re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(trio_extreme.__all__) - {"__version__"})
