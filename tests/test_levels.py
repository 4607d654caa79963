"""Which module may import which: a module imports from the rows above its own, and from its left in its own row."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGE = "trio_extreme"
SOURCES = Path(__file__).parent.parent / PACKAGE


class Row(NamedTuple):
    level: str
    names: list[str]
    pure: bool = False


# A name is a module or a whole package; inside a package, modules import each other as they like.
ROWS = [
    Row(
        "0 values",
        [
            *("errors", "values", "notices", "events", "rights", "metadata", "filters", "groups", "details"),
            *("nodes", "urls", "connection_strings", "settings"),
        ],
        pure=True,
    ),
    Row("1 wire", ["wire", "messages"], pure=True),
    Row("2 logic", ["operations"], pure=True),
    Row("2 i/o", ["tasks", "transport", "http", "discovery"]),
    Row(
        "3 engine",
        [
            *("statistics", "changes", "mailbox", "pending", "door", "outbox", "session", "connecting", "moves"),
            *("line", "lookups", "calls", "feeds", "filter_support", "engine"),
        ],
    ),
    Row(
        "4 reading",
        [
            *("iterating", "reading", "updating", "transactions", "subscriptions", "live", "catching_up", "filtered"),
            *("window", "persistent"),
        ],
    ),
    Row("5 face", ["client", "admin"]),
    Row(
        "6 on top",
        [
            *(
                "checkpoints",
                "file_checkpoints",
                "sqlite_checkpoints",
                "handling",
                "progress",
                "delivering",
                "listeners",
            ),
            *("fanout", "telemetry"),
        ],
    ),
    Row("public names", [""]),
    Row("7 shell", ["testing", "cli", "__main__"]),
]
PLACES = {name: (depth, column) for depth, row in enumerate(ROWS) for column, name in enumerate(row.names)}
PURE = {name for row in ROWS if row.pure for name in row.names}
# The node beside: it shares values, bytes and streams with the client and no logic, so that the two cannot agree on
# the same mistake.
NODE = "embedded"
NODE_MAY_IMPORT = {name for row in ROWS if row.level in {"0 values", "1 wire", "2 i/o"} for name in row.names}
MAY_IMPORT_NODE = {"testing", "cli"}


def violations(sources: Mapping[str, str]) -> list[str]:
    """What is wrong in these modules: their dotted names inside the package, and their texts."""
    return [
        f"{module or '__init__'}: {complaint}"
        for module, source in sources.items()
        for complaint in complaints(top(module), source)
    ]


def top(module: str) -> str:
    return module.partition(".")[0]


def complaints(name: str, source: str) -> Iterator[str]:
    if name not in PLACES and name != NODE:
        yield "stands in no row of the table"
        return
    for imported in imports(source):
        if imported.startswith("."):
            yield "imports by a relative name"
        elif imported == "trio" or imported.startswith("trio."):
            if name in PURE:
                yield "is pure and imports trio"
        elif imported == PACKAGE or imported.startswith(f"{PACKAGE}."):
            target = top(imported.removeprefix(PACKAGE).removeprefix("."))
            if not may_import(name, target):
                yield f"may not import {imported}"


def may_import(name: str, target: str) -> bool:
    if name == target:
        return True
    if target == NODE:
        return name in MAY_IMPORT_NODE
    if name == NODE:
        return target in NODE_MAY_IMPORT
    return target in PLACES and PLACES[target] < PLACES[name]


def imports(source: str) -> Iterator[str]:
    """Everything imported anywhere: in functions too, and where only type checkers look."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "."
        elif isinstance(node, ast.ImportFrom):
            yield from imported_from(node.module or "", [alias.name for alias in node.names])


def imported_from(module: str, names: list[str]) -> Iterator[str]:
    """`from trio_extreme import errors` imports the module errors; other names there are the package's own."""
    if module != PACKAGE:
        yield module
        return
    for name in names:
        yield f"{PACKAGE}.{name}" if name in PLACES or name == NODE else PACKAGE


def modules_on_disk() -> dict[str, str]:
    found = {}
    for path in SOURCES.rglob("*.py"):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path.read_text()
    return found


def test_every_module_keeps_to_its_row() -> None:
    found = modules_on_disk()
    assert "wire.framing" in found
    assert violations(found) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("events", "from trio_extreme.values import Position"),
        ("wire.framing", "from trio_extreme.wire.commands import Command"),
        ("operations.append", "from trio_extreme import messages"),
        ("session", "import trio\nfrom trio_extreme.outbox import Outbox"),
        ("", "from trio_extreme.client import open_connection"),
        ("cli.demo", "from trio_extreme import open_connection\nfrom trio_extreme.embedded import open_node"),
        ("embedded.node", "from trio_extreme.embedded.store import Store\nfrom trio_extreme.tasks import x"),
    ],
)
def test_what_the_table_allows(module: str, source: str) -> None:
    assert violations({module: source}) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("helpers", "", "stands in no row"),
        ("values", "from trio_extreme.events import Event", "may not import trio_extreme.events"),
        ("wire.framing", "def f():\n    import trio_extreme.session", "may not import trio_extreme.session"),
        ("settings", "if TYPE_CHECKING:\n    import trio", "is pure and imports trio"),
        ("operations.append", "from trio.abc import Stream", "is pure and imports trio"),
        ("operations.append", "from trio_extreme.tasks import x", "may not import trio_extreme.tasks"),
        ("engine", "from trio_extreme import Settings", "may not import trio_extreme"),
        ("engine", "from trio_extreme import client", "may not import trio_extreme.client"),
        ("engine", "from . import session", "relative name"),
        ("client", "from trio_extreme.embedded import open_node", "may not import trio_extreme.embedded"),
        ("", "from trio_extreme import embedded", "may not import trio_extreme.embedded"),
        ("embedded.node", "from trio_extreme.operations import append", "may not import trio_extreme.operations"),
        ("embedded.node", "from trio_extreme.client import Connection", "may not import trio_extreme.client"),
        ("client", "from trio_extreme.cli import main", "may not import trio_extreme.cli"),
    ],
)
def test_what_the_table_forbids(module: str, source: str, complaint: str) -> None:
    (found,) = violations({module: source})
    assert complaint in found
