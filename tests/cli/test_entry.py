"""The way in: what happens before any command is known."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from trio_extreme.cli import main

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = "trio_extreme.cli.root"


class Interrupted:
    """Finds the module of all commands only after somebody has pressed Ctrl-C."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name == ROOT:
            raise KeyboardInterrupt


def test_importing_the_module_runs_nothing() -> None:
    assert importlib.import_module("trio_extreme.__main__").main is main


def test_a_missing_module_of_ours_is_not_taken_for_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, ROOT, None)
    with pytest.raises(ModuleNotFoundError, match=ROOT):
        main(["--version"])


def test_interrupted_while_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, ROOT, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 130
