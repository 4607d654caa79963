from __future__ import annotations

import re

import pytest

from trio_extreme.embedded.versions import VERSIONS, find_version
from trio_extreme.errors import InvalidArgument


def test_every_version_is_found_by_its_short_name_and_by_its_full_one() -> None:
    assert list(VERSIONS) == ["3.9.4", "4.1.1", "5.0", "20.10", "22.10", "23.10"]
    for short, version in VERSIONS.items():
        assert find_version(short) is find_version(version.name) is version
        assert re.fullmatch(r"\d+\.\d+\.\d+", version.name)
        assert version.name.startswith(short)


def test_the_recorded_ones_are_those_that_there_are_recordings_of() -> None:
    assert [version.name for version in VERSIONS.values() if version.is_recorded] == ["3.9.4", "4.1.1"]


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    known = r"3\.9\.4, 4\.1\.1, 5\.0, 20\.10, 22\.10, 23\.10"
    with pytest.raises(InvalidArgument, match=rf"version: '4\.1' is none of those this node can be: {known}"):
        find_version("4.1")
