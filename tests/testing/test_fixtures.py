from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from trio_extreme import Connection, NewEvent, open_connection
from trio_extreme.embedded import Node, User

if TYPE_CHECKING:
    from trio.testing import MockClock

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()


async def test_in_memory_no_time_passes(
    event_store: Node, event_store_connection: Connection, autojump_clock: MockClock
) -> None:
    event_store.faults.restart(down=20)
    await event_store_connection.append("people", NewEvent("PersonCreated"))
    assert trio.current_time() > 20
    assert event_store_connection.statistics().reconnects == 1
    # What only `connect` leads to goes by the default.
    assert event_store.port == 1113


async def test_over_sockets_others_connect_too(event_store: Node, event_store_connection: Connection) -> None:
    assert event_store.port not in (0, 1113)
    await event_store_connection.append("people", NewEvent("PersonCreated"))
    async with open_connection(event_store.settings) as other:
        assert await other.last_number("people") == 0


@pytest.mark.parametrize("event_store_options", [{"version": "20.10"}, {"version": "3.9.4"}], ids=["20.10", "3.9.4"])
async def test_a_parameter_is_another_server(
    event_store: Node, event_store_options: dict[str, Any], autojump_clock: MockClock
) -> None:
    assert event_store.version.startswith(event_store_options["version"])


class TestOverridden:
    @pytest.fixture
    def event_store_options(self, tmp_path: Path) -> dict[str, Any]:
        return {"path": tmp_path / "shop.db", "projections": True, "users": {"jane": User("secret")}}

    async def test_options_may_come_from_fixtures(
        self, event_store: Node, event_store_connection: Connection, tmp_path: Path, autojump_clock: MockClock
    ) -> None:
        settings = event_store.settings.replace(username="jane", password="secret")
        async with open_connection(settings, connect=event_store.connect) as jane:
            await jane.append("order-1", NewEvent("OrderPlaced"))
        await trio.sleep(1)
        assert await event_store_connection.last_number("$ce-order") == 0
        assert (tmp_path / "shop.db").exists()


def run(source: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A pytest of its own with nothing of ours around it, and at its end what it had imported."""
    (folder / "test_orders.py").write_text(source)
    program = (
        "import sys, pytest; status = pytest.main(sys.argv[1:]); "
        "print('imported', *sorted({'trio', 'google.protobuf', 'trio_extreme'} & sys.modules.keys())); sys.exit(status)"
    )
    command = [sys.executable, "-c", program, "-p", "no:cacheprovider", "-W", "error", *arguments, "test_orders.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, encoding="utf-8")


def test_the_test_of_the_page_passes_where_it_is_pasted(tmp_path: Path) -> None:
    first, several, *_ = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    done = run(first + "\n\n" + several, tmp_path)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_without_pytest_trio_it_says_what_to_install_and_costs_nothing(tmp_path: Path) -> None:
    # Nor the plugins of others, which import Trio too.
    others = [argument for name in ("trio", "hypothesispytest", "anyio") for argument in ("-p", f"no:{name}")]
    done = run("def test_me(event_store_connection):\n    pass\n", tmp_path, *others)
    assert "needs pytest-trio, which runs tests under Trio: pip install pytest-trio" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "imported"


def test_a_test_that_does_not_run_under_trio_is_told_how_to(
    request: pytest.FixtureRequest, event_store_options: dict[str, Any]
) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"write `async def`, and `@pytest.mark.trio` above it"):
        request.getfixturevalue("event_store")
    assert event_store_options == {}
