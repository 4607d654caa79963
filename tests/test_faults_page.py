"""What docs/faults.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from trio_extreme.embedded.faults import Faults

PAGE = (Path(__file__).parent.parent / "docs" / "faults.md").read_text()


async def test_the_example_passes(autojump_clock: None) -> None:
    example = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)[0]
    namespace: dict[str, Any] = {}
    exec(compile(example, "docs/faults.md", "exec"), namespace)  # noqa: S102 - our own page
    await namespace["test_an_order_is_placed_once"]()


def test_every_fault_is_explained() -> None:
    public = {name for name, member in vars(Faults).items() if callable(member) and not name.startswith("_")}
    assert public == set(re.findall(rf"\b({'|'.join(public)})\(", PAGE))
