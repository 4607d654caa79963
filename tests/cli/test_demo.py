"""`trio-extreme demo`: real repositories, odd ones, and what is none."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.repositories import ISOLATED, git, make_large_repository, make_repository
from tests.cli.shell import Server, at_terminal, finished, read_until, shown, started
from trio_extreme.cli.story import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.shell import Result

    Cli = Callable[..., Result]

PERA = b"Pera <pera@example.org>"


@pytest.fixture(autouse=True)
def _git(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ISOLATED.items():
        monkeypatch.setenv(name, value)


def told(result: Result) -> dict[str, Any]:
    assert result.code == 0, result.err
    (line,) = result.lines
    report: dict[str, Any] = json.loads(line)
    assert report["ok"]
    assert all(check["ok"] for check in report["checks"])
    return report


def test_every_commit_comes_back(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    make_repository(folder, [PERA, b"Ana <ana@example.org>", b"PERA <p@example.org>"] * 4)
    result = cli("demo", str(folder))
    report = told(result)
    assert (report["repository"], report["commits"], report["authors"]) == ("project", 12, 2)
    assert report["checks"][1]["name"].startswith("followed through 2 restarts: ")
    assert "connecting again" not in result.err
    assert f"12 commits of {folder} to an embedded node, Event Store 4.1.1" in result.err
    assert {step["name"]: step["events"] for step in report["steps"]} == {
        "append, in batches": 12,
        "append, one by one": 6,
        "follow live": 3,
        "append, through restarts": 6,
        "follow from the start": 12,
        "read the repository forwards": 12,
        "read the repository backwards": 12,
        "read the authors forwards": 12,
        "read the authors backwards": 12,
    }


@pytest.mark.parametrize("version", ["3.9.4", "4.1.1"])
def test_odd_commits(cli: Cli, tmp_path: Path, version: str) -> None:
    authors = [
        b"<>",
        b" <only@example.org>",
        b"Jos\xe9 <j>",
        "Žofie <ž>".encode(),
        b"$a/b \x1b@-c <x>",
        b"x" * 5000 + b" <x>",
    ]
    make_repository(tmp_path, authors, message=b"\0\xff\r\n\n")
    assert told(cli("demo", str(tmp_path), "--as", version))["authors"] == 6


def test_a_merge(cli: Cli, server: Server, tmp_path: Path) -> None:
    make_repository(tmp_path, [PERA, PERA])
    head = git(tmp_path, "rev-parse", "HEAD")
    tree = git(tmp_path, "mktree")
    names = ["-c", "user.name=Ana", "-c", "user.email=ana@example.org"]
    merge = git(tmp_path, *names, "commit-tree", tree, "-p", head, "-p", f"{head}^", "-m", "Merged")
    git(tmp_path, "update-ref", "HEAD", merge)
    stream = told(cli("demo", str(tmp_path), "--url", server.admin_url))["stream"]
    assert cli("read", stream, "--format", "%t ").out == "Committed Committed Merged "
    last = json.loads(cli("read", stream, "--backwards", "--count", "1").out)
    assert last["metadata"] == {"commit": merge, "repository": tmp_path.name}
    assert last["data_text"].startswith(f"tree {tree}\nparent {head}\n")


def test_a_repository_of_sha_256(cli: Cli, tmp_path: Path) -> None:
    make_repository(tmp_path, [PERA] * 3, init=("--object-format=sha256",))
    assert told(cli("demo", str(tmp_path)))["commits"] == 3


def test_replaced_commits_come_as_they_were(cli: Cli, tmp_path: Path) -> None:
    make_repository(tmp_path, [PERA, PERA])
    git(tmp_path, "replace", "HEAD", "HEAD^")
    assert told(cli("demo", str(tmp_path)))["commits"] == 2


def test_the_folder_it_stands_in(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository(tmp_path / "here", [PERA])
    below = tmp_path / "here" / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    # As in a hook of another repository.
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert told(cli("demo"))["repository"] == "here"


def test_a_bare_repository(cli: Cli, tmp_path: Path) -> None:
    make_repository(tmp_path / "full", [PERA])
    git(tmp_path, "clone", "--quiet", "--bare", "full", "copy.git")
    assert told(cli("demo", str(tmp_path / "copy.git")))["repository"] == "copy"


def test_only_the_newest(cli: Cli, server: Server, tmp_path: Path) -> None:
    make_repository(tmp_path, [PERA] * 5)
    result = cli("demo", str(tmp_path), "--count", "2", "--url", server.admin_url)
    stream = told(result)["stream"]
    newest = git(tmp_path, "rev-list", "--reverse", "HEAD").split()[-2:]
    lines = map(json.loads, cli("read", stream).lines)
    assert [line["metadata"]["commit"] for line in lines] == newest


def test_more_than_fits_is_told(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository(tmp_path, [PERA] * 5)
    monkeypatch.setattr("trio_extreme.cli.demo.MOST", 3)
    result = cli("demo", str(tmp_path))
    assert told(result)["commits"] == 3
    assert "only the newest 3 of 5 commits are taken; --count 5 takes all" in result.err
    assert told(cli("demo", str(tmp_path), "--count", "5"))["commits"] == 5


def test_a_shallow_clone_is_told(cli: Cli, tmp_path: Path) -> None:
    make_repository(tmp_path / "full", [PERA] * 5)
    git(tmp_path, "clone", "--quiet", "--depth", "2", f"file://{tmp_path}/full", "shallow")
    result = cli("demo", str(tmp_path / "shallow"))
    assert told(result)["commits"] == 2
    assert "this is a shallow clone" in result.err
    assert "git fetch --unshallow" in result.err


def test_a_folder_that_is_no_repository(cli: Cli, tmp_path: Path) -> None:
    result = cli("demo", str(tmp_path))
    assert (result.code, result.out) == (1, "")
    assert f"Error: {tmp_path} is no git repository" in result.err
    assert "Try: trio-extreme demo FOLDER" in result.err


def test_a_repository_without_commits(cli: Cli, tmp_path: Path) -> None:
    make_repository(tmp_path, [])
    result = cli("demo", str(tmp_path))
    assert (result.code, result.out) == (1, "")
    assert "has no commits" in result.err
    assert "--allow-empty" in result.err


def test_no_git(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = cli("demo", str(tmp_path))
    assert (result.code, result.out) == (1, "")
    assert "git is not installed" in result.err


def test_a_server_of_ones_own(cli: Cli, server: Server, tmp_path: Path) -> None:
    make_repository(tmp_path, [PERA] * 3)
    first = cli("demo", str(tmp_path), "--url", server.admin_url)
    second = cli("demo", str(tmp_path), "--url", server.admin_url)
    assert told(first)["stream"] != told(second)["stream"]
    # A server that is not ours is not restarted.
    assert told(first)["checks"][1]["name"].startswith("followed from the start: ")
    assert f"the streams stay there: trio-extreme read {told(first)['stream']} --count 3 --url" in first.err
    assert len(cli("read", told(first)["stream"]).lines) == 3


def test_the_server_of_the_environment_is_left_alone(cli: Cli, server: Server, tmp_path: Path) -> None:
    make_repository(tmp_path, [PERA])
    assert "embedded" in told(cli("demo", str(tmp_path)))["server"]
    assert cli("read", "$all", "--types", "Committed", "--url", server.admin_url).out == ""


def test_it_fails_where_a_check_fails(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_repository(tmp_path, [PERA] * 3)
    monkeypatch.setattr(Ledger, "holds", lambda *_: False)
    result = cli("demo", str(tmp_path))
    assert result.code == 1
    assert json.loads(result.out)["ok"] is False
    assert "what came back is not what was appended" in result.err


def test_at_a_terminal_it_shows_a_table(tmp_path: Path) -> None:
    make_repository(tmp_path / "project", [PERA] * 9)
    with at_terminal("demo", str(tmp_path / "project")) as process:
        result = shown(process)
    assert result.code == 0
    assert "project: 9 commits by 1 author" in result.out
    for words in ("read the repository backwards", "events/s", "9/9", "byte for byte", "9 commits came back whole"):
        assert words in result.out


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    make_large_repository(tmp_path / "large", 20_000)
    with started("demo", str(tmp_path / "large")) as process:
        read_until(process.stderr, b"20,000 commits")
        process.send_signal(signal.SIGINT)
        result = finished(process)
    assert (result.code, result.out) == (130, "")
    assert "Error" not in result.err
