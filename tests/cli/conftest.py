"""A node, and the command line in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.shell import Result, Server, standard_input
from trio_extreme.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[Server]:
    """An empty node that anybody can reach."""
    running = Server()
    running.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What whoever runs the tests has set must not matter."""
    for name in ("TRIO_EXTREME_URL", "TRIO_EXTREME_PASSWORD", "TRIO_EXTREME_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cli(
    server: Server, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    """Run a command in this process, against the server."""
    monkeypatch.setenv("TRIO_EXTREME_URL", server.url)

    def run(*arguments: str, stdin: str | bytes = b"") -> Result:
        file = tmp_path / "stdin"
        file.write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        capfd.readouterr()
        with standard_input(file), pytest.raises(SystemExit) as exit_info:
            main(arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        assert isinstance(exit_info.value.code, int)
        return Result(exit_info.value.code, out, err)

    return run
