from __future__ import annotations

import pytest

from trio_extreme.embedded.versions import VERSIONS, find_version
from trio_extreme.errors import InvalidArgument


def test_every_version_is_found_by_its_name() -> None:
    assert [find_version(name).name for name in VERSIONS] == list(VERSIONS) == ["3.9.4", "4.1.1"]


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match=r"version: '4\.1' is none of those this node can be: 3\.9\.4, 4\.1\.1"):
        find_version("4.1")
