"""What the commands have in common that ask a server's web interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trio_extreme.admin import open_admin
from trio_extreme.cli import output
from trio_extreme.cli.failures import NO_CONNECTION, CommandFailed
from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import notice, run
from trio_extreme.errors import ConnectFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme.admin import Admin
    from trio_extreme.cli.connecting import Target

PORT = "\n\b\nThe web interface is asked, at port 2113 unless --url says ?http_port=….\n"

json_option = click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")


def run_admin(target: Target, ask: Callable[[Admin], Awaitable[bytes]]) -> int:
    """Print what the web interface says."""

    async def tell() -> None:
        try:
            async with open_admin(target.settings) as admin:
                said = await ask(admin)
        except ConnectFailed as error:
            hint = "--url with ?http_port= and the port of the server's web interface"
            raise CommandFailed(str(error), hint, NO_CONNECTION) from error
        await output.write(said)

    return run(tell, target)


def told(what: dict[str, object], words: str, *, as_json: bool) -> bytes:
    """What to print of something that was done: words to who watches, a line to whatever reads."""
    notice(words)
    return dump(what) + b"\n" if as_json or not output.is_terminal() else b""
