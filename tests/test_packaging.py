from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import trio_extreme
from trio_extreme.cli import main

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere() -> None:
    assert trio_extreme.__version__ == PROJECT["version"]


def test_the_types_are_announced() -> None:
    assert files("trio_extreme").joinpath("py.typed").is_file()


def test_the_command_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="trio-extreme")
    assert script.load() is main


def test_all_public_names_are_there() -> None:
    assert [name for name in trio_extreme.__all__ if not hasattr(trio_extreme, name)] == []
