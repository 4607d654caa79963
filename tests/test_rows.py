"""Every statement of rows.toml is shown by a test that exists, or cannot arise here."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TESTS = Path(__file__).parent
ANSWERS = {"test", "cannot"}

# Kept here and not only in rows.toml, so that no statement can be dropped by deleting its entry.
ID_LIST = """
A1 A2 A3 A4 W1 W2 W3 W4 R1 R2 R3 R4 R5 R6 E1 E2 E3 E4 E5 E6 E7 D1 D2 D3 D4 D5 D6 D7 S1 S2 S3 S4 S5 S6 S7 C1 C2 C3 C4
C5 C6 C7 C8 C9 L1 L2 L3 L4 F1 F2 P1 P2 P3 P4 P5 P6 O1 O2 O3 K1 K2 G1 T1 B1 B2 B3 V013-outcomes V013-backwards
V013-hard-delete V013-catch-up-two-connections V013-catch-up-missing V013-catch-up-deleted V013-live-hard-deleted
V013-group-create V013-group-first V013-group-category V013-group-resume V013-group-in-flight V013-group-retry
V013-group-delete V013-metadata V013-benchmark-appends V013-benchmark-both-ways V013-listener V013-listener-from-now
V013-listener-pause V013-listener-patch V013-fanout V013-casts EP1 EP2 EP3 EP4 EP5 EP6 EP7 EP8 EP9 KELVIN-order
KELVIN-reconnect KELVIN-slow H-2015-08-packets H-2015-08-gap H-2015-08-shape H-2015-08-sleep H-2016-02-3-7
H-2016-02-6-24 H-2016-10-16 H-2016-09-names H-2017-01-25-26 H-2017-05-38 H-2017-05-41 H-2017-05-40 H-2017-10-patch
H-2017-11-31-45-46-47 H-2018-03-50-51-52 H-2018-06-56-8 H-2019-62-63 H-2020-09-71 H-2021-01-72 H-2021-04-4961056
H-2021-05-fanout H-2023-10-stop H-2024-01-77-78 H-2024-06-83 X1 X2 X3 X4 X5 X6 X7 X8 X9 X10 X11 X12 X13 X14 X15 X16
X17 X18 X19 X20 X20b X21 X22 X23 X24 X24b X25 X26 SF-wrong-version SF-idempotent SF-past-the-end SF-read-size
SF-retries SF-unacked SF-missing-group WISH-34-lazy-reads WISH-30-unsubscribe WISH-27-43-back-pressure
WISH-16-caught-up WISH-37-all WISH-29-streams WISH-18-expected-version WISH-25-metadata WISH-35-55-es-4
WISH-24-72-recovery WISH-69-read-only WISH-68-genstage WISH-12-commands WISH-73-75-grpc WISH-46-timeouts
WISH-skip-heartbeat WISH-adapter-8-21-duplicates WISH-adapter-11-22-deleted WISH-adapter-24-27-group-settings
WISH-adapter-3-dash WISH-commanded-202-start WISH-kelvin-no-timeout WISH-kelvin-double WISH-spear-87-acks
EXP-cancellation-1 EXP-cancellation-2 EXP-cancellation-3 EXP-cancellation-4 EXP-reconnect-1 EXP-reconnect-2
EXP-reconnect-3 EXP-reconnect-4 EXP-reconnect-5 EXP-reconnect-6 EXP-reconnect-7 EXP-position-1 EXP-position-2
EXP-slow-1 EXP-slow-2 EXP-slow-3 EXP-slow-4 EXP-slow-5 EXP-slow-6 EXP-slow-7 EXP-shutdown-1 EXP-cluster-1
EXP-cluster-2 EXP-cluster-3 EXP-cluster-4 EXP-tests-1 EXP-tests-2 EXP-persistent-1 EXP-persistent-2 EXP-persistent-3
EXP-persistent-4 EXP-packaging-1
"""
IDS = set(ID_LIST.split())


def complaints(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with these entries, ids left out included."""
    for name in IDS - rows.keys():
        yield f"{name}: has no entry"
    for name in rows.keys() - IDS:
        yield f"{name}: is not in the list of ids"
    for name, row in rows.items():
        yield from (f"{name}: {complaint}" for complaint in complaints_of_one(row))


def complaints_of_one(row: Mapping[str, Any]) -> Iterator[str]:
    if not row.get("says"):
        yield "says nothing"
    if unknown := row.keys() - ANSWERS - {"says"}:
        yield f"has unknown keys {sorted(unknown)}"
    answers = row.keys() & ANSWERS
    if len(answers) != 1 or not all(row[answer] for answer in answers):
        yield f"wants exactly one of {sorted(ANSWERS)}, has {sorted(answers)}"
    for test in named_tests(row):
        if not exists(test):
            yield f"names {test}, which does not exist"


def named_tests(row: Mapping[str, Any]) -> list[str]:
    named = row.get("test", [])
    return [named] if isinstance(named, str) else named


def exists(test: str) -> bool:
    """Whether `tests/….py::name` is a function of that file, or `::Class::name` a method."""
    file, _, name = test.partition("::")
    path = TESTS.parent / file
    return path.is_file() and name in functions(ast.parse(path.read_text()).body)


def functions(body: list[ast.stmt], prefix: str = "") -> set[str]:
    found = {prefix + node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found |= functions(node.body, f"{prefix}{node.name}::")
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def load() -> dict[str, dict[str, Any]]:
    return tomllib.loads((TESTS / "rows.toml").read_text())


def test_every_statement_has_its_answer() -> None:
    assert sorted(complaints(load())) == []


THIS = "tests/test_rows.py::test_every_statement_has_its_answer"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"test": THIS}, "says nothing"),
        ({"says": "x"}, "wants exactly one"),
        ({"says": "x", "cannot": ""}, "wants exactly one"),
        ({"says": "x", "test": []}, "wants exactly one"),
        ({"says": "x", "test": THIS, "cannot": "y"}, "wants exactly one"),
        ({"says": "x", "cannot": "y", "note": "z"}, "unknown keys"),
        ({"says": "x", "test": "tests/test_rows.py::test_gone"}, "does not exist"),
        ({"says": "x", "test": "tests/test_rows.py::load"}, "does not exist"),
        ({"says": "x", "test": [THIS, "tests/gone.py::test_x"]}, "does not exist"),
    ],
)
def test_what_is_wrong_is_found(row: dict[str, Any], complaint: str) -> None:
    (found,) = complaints_of_one(row)
    assert complaint in found


def test_missing_and_unlisted_ids_are_found() -> None:
    rows = load()
    rows["A0"] = rows.pop("A1")
    assert sorted(complaints(rows)) == ["A0: is not in the list of ids", "A1: has no entry"]
