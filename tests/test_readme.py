"""What the README shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from trio_extreme import NewEvent, open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROGRAM, TEST = re.findall(r"```python\n(.+?)```", README, re.DOTALL)


def run(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), namespace)  # noqa: S102 - our own page
    return namespace


async def test_the_program_prints_what_it_reads_and_what_comes(capsys: pytest.CaptureFixture[str]) -> None:
    printed = ""
    async with open_node() as node, open_connection(node.settings) as conn, trio.open_nursery() as nursery:
        source = PROGRAM.replace("localhost:1113", f"{node.host}:{node.port}").replace("trio.run(main)\n", "")
        nursery.start_soon(run(source)["main"])
        # When it has subscribed nobody can see; so until then one event after the other.
        while "PersonRenamed" not in printed:
            if await conn.last_number("people") is not None:
                await conn.append("people", NewEvent("PersonRenamed"))
            await trio.sleep(0.01)
            printed += capsys.readouterr().out
        nursery.cancel_scope.cancel()
    assert printed.startswith("0 PersonCreated {'name': 'Pera Perić'}\n")


async def test_the_test_passes(autojump_clock: MockClock) -> None:
    await run(TEST)["test_my_code"](autojump_clock)


def test_the_test_command_is_there_for_ci_to_find() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    marker = "<!-- the test command -->"
    assert marker in script
    (command,) = re.findall(rf"^{marker}\n```sh\n(.+)\n```$", README, re.MULTILINE)
    assert command.startswith("python")
    assert command.endswith("-m pytest -n 2")
