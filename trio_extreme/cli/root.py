"""The command that holds the others."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import click

from trio_extreme import __version__
from trio_extreme.cli.accounts import user_commands
from trio_extreme.cli.append import append
from trio_extreme.cli.completion import completion
from trio_extreme.cli.deleting import delete
from trio_extreme.cli.demo import demo
from trio_extreme.cli.doctor import doctor
from trio_extreme.cli.exporting import export_streams
from trio_extreme.cli.failures import FAILED, USAGE
from trio_extreme.cli.gossip import gossip
from trio_extreme.cli.group_admin import info, list_groups, replay_parked
from trio_extreme.cli.groups import group_commands
from trio_extreme.cli.importing import import_events
from trio_extreme.cli.meta import meta
from trio_extreme.cli.parked import parked
from trio_extreme.cli.ping import ping
from trio_extreme.cli.projecting import projection_commands
from trio_extreme.cli.read import read
from trio_extreme.cli.reporting import report
from trio_extreme.cli.running import INTERRUPTED, notice
from trio_extreme.cli.serve import serve
from trio_extreme.cli.watch import watch

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "trio-extreme"

_EPILOG = """\
\b
Exit codes: 0 done, 1 failed, 2 usage, 3 no connection, 4 not authenticated or
not allowed, 5 wrong expected version, 130 interrupted (143 by SIGTERM).

\b
TRIO_EXTREME_URL       the server, like eventstore://admin@localhost:1113
TRIO_EXTREME_PASSWORD  the password, where the URL has a name and no password
NO_COLOR               no colours
"""


@click.group(
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100, "show_default": True},
    epilog=_EPILOG,
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name=NAME)
@click.pass_context
def commands(context: click.Context) -> None:
    """Append to, read and watch the streams of an Event Store over its TCP protocol.

    Results go to standard output: as JSON lines, unless it is a terminal. All else goes to standard error.
    """
    if context.invoked_subcommand is None:
        notice(context.get_help())
        context.exit(USAGE)


for _command in (
    *(
        append,
        completion,
        delete,
        demo,
        doctor,
        export_streams,
        gossip,
        group_commands,
        import_events,
        meta,
        parked,
        ping,
        read,
    ),
    *(projection_commands, report, serve, user_commands, watch),
):
    commands.add_command(_command)


for _command in (list_groups, info, replay_parked):
    group_commands.add_command(_command)


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if sys.stdout is None:
        # A socket would get its number, and our results with it.
        notice("Error: standard output is closed\nTry: the same with >/dev/null")
        return FAILED
    _show_warnings()
    try:
        code = commands.main(arguments, prog_name=NAME, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return int(code or 0)


def _show_warnings() -> None:
    """What the library logs is for who watches; a script has the error that follows."""
    logger = logging.getLogger("trio_extreme")
    if not logger.handlers:
        watched = sys.stderr is not None and sys.stderr.isatty()
        logger.addHandler(logging.StreamHandler() if watched else logging.NullHandler())
