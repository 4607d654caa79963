"""`trio-extreme gossip`: what each node of a cluster tells of the others, and which one would be connected to."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli import output
from trio_extreme.cli.connecting import find_target, url_argument
from trio_extreme.cli.failures import NO_CONNECTION, CommandFailed
from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import notice, run
from trio_extreme.discovery import Discovery
from trio_extreme.errors import TrioExtremeError
from trio_extreme.nodes import join_address
from trio_extreme.operations.gossip import choose, is_usable
from trio_extreme.transport import connect_tcp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.discovery import Asked
    from trio_extreme.nodes import Endpoint
    from trio_extreme.operations.gossip import Member
    from trio_extreme.settings import Settings

_EPILOG = """\
\b
trio-extreme gossip eventstore+seeds://h1:2113,h2:2113
trio-extreme gossip eventstore+dns://es.example.com
"""


@click.command(short_help="Ask the nodes of a cluster who is in it.", epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")
@url_argument
def gossip(*, as_json: bool, settings: Settings, subject: Settings | None) -> int:
    """Ask every node that the URL names who is in the cluster, and print what each says.

    With the URL of one node, its web interface is asked, at http_host and http_port. A * marks
    who would be connected to.
    """
    target = find_target(subject or settings)
    return run(partial(_ask_all, target.settings, as_json=as_json or not output.is_terminal()), target)


async def _ask_all(settings: Settings, *, as_json: bool) -> None:
    seeds = as_cluster(settings)
    discovery = Discovery(seeds, connect_tcp, Random())  # noqa: S311 - the order in which nodes are asked
    answers = 0
    for asked in sorted(await discovery.seeds()):
        try:
            members = await discovery.ask(asked)
        except TrioExtremeError as error:
            notice(f"{asked.seed}: {error}")
            continue
        answers += 1
        await output.write(_show(asked, members, seeds, as_json=as_json))
    if not answers:
        msg = f"no node of {seeds.address} tells who is in it"
        raise CommandFailed(msg, "trio-extreme doctor with the same URL", NO_CONNECTION)


def as_cluster(settings: Settings) -> Settings:
    """The same, where one node alone is taken for the only seed."""
    if settings.is_cluster:
        return settings
    return settings.replace(host="localhost", port=1113, nodes=[settings.web_endpoint])


def _show(asked: Asked, members: Sequence[Member], settings: Settings, *, as_json: bool) -> bytes:
    tls = bool(settings.tls)
    best = choose(members, settings.mode, Random(0), tls=tls)  # noqa: S311 - the same of several equals each time
    lines = [_fields(asked, member, chosen=member is best) for member in members]
    if as_json:
        return b"".join(dump(line) + b"\n" for line in lines)
    return "".join([f"{asked.seed} says:\n", *map(_line, lines)]).encode()


def _fields(asked: Asked, member: Member, *, chosen: bool) -> dict[str, Any]:
    return {
        "seed": str(asked.seed),
        "state": member.state,
        "alive": member.is_alive,
        "usable": is_usable(member),
        "tcp": _address(member.plain),
        "secure_tcp": _address(member.secure),
        "http": _address(member.http),
        "chosen": chosen,
    }


def _address(endpoint: Endpoint | None) -> str | None:
    return None if endpoint is None else join_address(*endpoint)


def _line(fields: dict[str, Any]) -> str:
    mark, alive = ("*" if fields["chosen"] else " "), ("" if fields["alive"] else "dead ")
    ports = f"tcp {fields['tcp'] or '-'}  secure {fields['secure_tcp'] or '-'}  http {fields['http'] or '-'}"
    return f" {mark} {alive + fields['state']:<20} {ports}\n"
