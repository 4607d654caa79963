"""`trio-extreme completion`: scripts for shells, and what they ask us."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.shell import finished, started

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.shell import Result

    Cli = Callable[..., Result]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_a_shell(cli: Cli, shell: str) -> None:
    result = cli("completion", shell)
    assert (result.code, result.err) == (0, "")
    assert f"_TRIO_EXTREME_COMPLETE={shell}_complete" in result.out


def test_no_shell_is_needed_to_make_a_script() -> None:
    environment = {**os.environ, "PATH": "/nowhere"}
    program = [sys.executable, "-m", "trio_extreme"]
    with started("completion", "bash", program=program, env=environment) as process:
        assert finished(process).code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trio-extreme rea", "read"),
        ("trio-extreme exp", "export"),
        ("trio-extreme del", "delete"),
        ("trio-extreme meta se", "set"),
        ("trio-extreme meta set people --max-c", "--max-count"),
        ("trio-extreme report --sort wr", "written"),
        ("trio-extreme serve --as 3", "3.9.4"),
        ("trio-extreme watch people --ty", "--types"),
    ],
)
def test_what_it_completes(words: str, expected: str) -> None:
    environment = {
        **os.environ,
        "_TRIO_EXTREME_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    with started(env=environment) as process:
        result = finished(process)
    assert (result.code, result.out) == (0, f"plain,{expected}\n")
