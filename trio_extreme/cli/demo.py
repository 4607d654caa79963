"""`trio-extreme demo`: the commits of a git repository, through the whole library and back."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trio_extreme.cli import output
from trio_extreme.cli.commits import find_repository, read_commits
from trio_extreme.cli.connecting import Target, find_target, parse_url
from trio_extreme.cli.failures import CommandFailed
from trio_extreme.cli.progress import ProgressBar
from trio_extreme.cli.running import counted, notice, run
from trio_extreme.cli.servers import as_option
from trio_extreme.cli.story import Story
from trio_extreme.cli.story_report import json_report, table_report
from trio_extreme.client import open_connection
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio_extreme.cli.commits import Repository
    from trio_extreme.settings import Settings

MOST = 100_000
"""Commits that are taken where nobody says how many: the embedded node keeps them all in memory, twice."""

DOWN = 0.05
"""Seconds for which the node refuses connections when it restarts."""

_EPILOG = """\
\b
Keys of the JSON line: repository, server, commits, authors, stream (the
repository's), steps (each with name, events, bytes, seconds), checks (each with
name, ok, detail), ok.
"""


@click.command(short_help="Put the commits of a git repository through all of this, and check them.", epilog=_EPILOG)
@click.argument("repo", default=".", type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path))
@click.option(
    "--count", type=click.IntRange(min=1), help=f"Only so many of the newest commits; at most {MOST:,} if not said."
)
@as_option("What the embedded node is: see `trio-extreme serve --help`.")
@click.option("--json", "as_json", is_flag=True, help="The result as a JSON line, on a terminal too.")
@click.option(
    "--url",
    "settings",
    type=parse_url,
    metavar="URL",
    help="A server to use instead of an embedded node, like eventstore://admin@host:1113. The environment's is"
    " not taken, because the demo leaves its streams there.",
)
def demo(*, repo: Path, count: int | None, version: str, as_json: bool, settings: Settings | None) -> int:
    """Append the commits of a git repository as events, follow them live, read them back, and check each byte.

    Each commit, as git stores it, goes into the stream of the repository and into that of its author. The last ones are
    appended while the stream is followed: live, and then from its start on while the embedded node is restarted again
    and again. At the end the hash of everything that came back must be git's own.
    """
    target = find_target(settings) if settings else None
    as_json = as_json or not output.is_terminal()
    return run(partial(_demo, repo, count, version, target, as_json=as_json), target)


async def _demo(repo: Path, count: int | None, version: str, target: Target | None, *, as_json: bool) -> None:
    repository = await find_repository(repo)
    wanted = min(repository.total, count or MOST)
    _say_what_is_left_out(repository, wanted, asked=count is not None)
    async with _server(target, version) as (server, settings, restart), open_connection(settings) as conn:
        notice(f"{counted(wanted, 'commit')} of {repository.path} to {server}")
        with ProgressBar() as progress:
            story = Story(conn, repository.name, len(repository.head), wanted, progress, restart=restart)
            async with read_commits(repository, wanted) as commits:
                await story.append(commits)
            await story.read_back()
        await output.write(json_report(story, server) if as_json else table_report(story))
    if target is not None:
        notice(f"the streams stay there: trio-extreme read {story.stream} --count 3{target.flag}")
    if not story.ok:
        msg = "what came back is not what was appended"
        raise CommandFailed(msg, "the same with --count 1, and report it with what it printed")


def _say_what_is_left_out(repository: Repository, wanted: int, *, asked: bool) -> None:
    if repository.shallow:
        notice("this is a shallow clone: only its own commits are taken; `git fetch --unshallow` gets the others")
    if wanted < repository.total and not asked:
        total = repository.total
        notice(f"only the newest {wanted:,} of {total:,} commits are taken; --count {total} takes all")


@asynccontextmanager
async def _server(
    target: Target | None, version: str
) -> AsyncIterator[tuple[str, Settings, Callable[[], None] | None]]:
    """What to call it, how to connect, and what restarts it, where it is ours."""
    if target is not None:
        yield target.address, target.settings, None
        return
    async with open_node(version=version) as node:
        name = f"an embedded node, Event Store {node.version} at {node.host}:{node.port}"
        yield name, node.settings, partial(node.faults.restart, DOWN)
