"""What docs/metadata.md shows is what happens."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import new_events
from trio_extreme import AccessDenied, Acl, Credentials, StreamMetadata, open_connection
from trio_extreme.embedded import User, open_node
from trio_extreme.rights import RIGHTS

PAGE = (Path(__file__).parent.parent / "docs" / "metadata.md").read_text()


def run() -> dict[str, Any]:
    """All its programs, one after another."""
    namespace: dict[str, Any] = {}
    for source in re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL):
        exec(compile(source, "docs/metadata.md", "exec"), namespace)  # noqa: S102 - our own page
    return namespace


async def test_the_examples(autojump_clock: None) -> None:
    page = run()
    users = {"web": User("secret"), "auditor": User("secret", ("audit",)), "jane": User("secret", ("staff",))}
    async with open_node(port=None, users=users) as node, open_connection(node.settings, connect=node.connect) as conn:
        await page["set_up"](conn)
        stored = await conn.get_metadata("sessions")
        assert (stored.max_count, stored.acl, stored.custom) == (
            10_000,
            Acl(write=("web", "$ops")),
            {"owner": "Pera"},
        )
        await conn.append("sessions", new_events(1), credentials=Credentials("web", "secret"))

        await conn.set_metadata("orders", StreamMetadata(acl=Acl(read="jane")))
        await page["let_ops_delete"](conn, "orders")
        assert (await conn.get_metadata("orders")).acl == Acl(read="jane", delete="$ops")

        await page["close_by_default"](conn)
        with pytest.raises(AccessDenied):
            await conn.append("others", new_events(1), credentials=Credentials("web", "secret"))
        await conn.append("others", new_events(1), credentials=Credentials("jane", "secret"))
        assert await conn.head(credentials=Credentials("auditor", "secret"))


async def test_the_test_passes(autojump_clock: None) -> None:
    await run()["test_only_staff_writes"]()


def test_every_value_and_right_is_explained() -> None:
    named = set(re.findall(r"`(\w+)", PAGE))
    values = {value.name for value in fields(StreamMetadata)} - {"version", "acl"}
    assert named >= values | RIGHTS.keys()
