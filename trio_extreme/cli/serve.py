"""`trio-extreme serve`: the embedded node, on a port."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from trio_extreme.cli import output
from trio_extreme.cli.certificates import load_certificate, tls_options
from trio_extreme.cli.connecting import Target
from trio_extreme.cli.lines import dump
from trio_extreme.cli.listening import Security, login_for, refused, shown_password
from trio_extreme.cli.running import notice, run
from trio_extreme.cli.serve_cluster import ClusterJob
from trio_extreme.cli.servers import SERVERS, as_option
from trio_extreme.cli.users import USERS, user_words, users_option
from trio_extreme.embedded import open_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from trio_extreme.embedded import Node, User

_PORT, _HTTP_PORT = 1113, 2113
_NONE = -1
_FREE = 0
_MOST_NODES = 15

_EPILOG = """\
\b
The JSON line it prints has the keys host, port, http_port (null for none),
version, username, password (admin's; null where it was given), persist,
tls, https; that of a cluster has nodes (each host, port, http_port) and url.

"""


def _parse_port(text: str) -> int:
    return _NONE if text == "none" else click.IntRange(0, 65_535)(text)


@click.command(short_help="Run a node for development and tests.", epilog=_EPILOG + USERS + "\n" + SERVERS)
@click.option("--port", type=click.IntRange(0, 65_535), default=_PORT, help="Where to listen; 0 takes a free port.")
@click.option(
    "--http-port",
    type=_parse_port,
    metavar="PORT|none",
    help="Where its web interface is: /gossip, /info, /ping, /stats. 2113, or a free one with --port 0.",
)
@click.option("--host", default="127.0.0.1", help="The address to listen at; 0.0.0.0 is all of this machine's.")
@as_option("The server to be; see below.")
@click.option("--persist", type=click.Path(), metavar="FILE", help="Keep the log in this file; made where it is not.")
@click.option("--projections", is_flag=True, help="Run the standard ones: $ce-…, $et-…, $streams, $category-….")
@click.option("--gossip-on-single-node", is_flag=True, help="Have /gossip also as a server before 20.6.")
@click.option(
    "--cluster",
    "size",
    type=click.IntRange(1, _MOST_NODES),
    metavar="N",
    help="Run N nodes that are one cluster, on --port, --http-port and the ports that follow.",
)
@users_option
@tls_options
@click.option("--json", "as_json", is_flag=True, help="Print where it listens as a JSON line, on a terminal too.")
def serve(
    *,
    port: int,
    http_port: int | None,
    host: str,
    version: str,
    persist: str | None,
    projections: bool,
    gossip_on_single_node: bool,
    size: int | None,
    users: Sequence[tuple[str, User]],
    tls_cert: str | None,
    tls_key: str | None,
    https: bool,
    as_json: bool,
) -> int:
    """Run an Event Store-compatible node until Ctrl-C, for development and tests.

    Its log is in memory, and gone when it ends, unless --persist names a file for it. Users are admin and ops, both
    with the password changeit, and those of --user.
    """
    if http_port is None:
        http_port = _HTTP_PORT if port else _FREE
    known = dict(users)
    tls = load_certificate(tls_cert, tls_key, https=https)
    security = Security(tls=tls is not None, https=https)
    as_json = as_json or not output.is_terminal()
    if size is not None:
        alone = {
            "--persist": persist,
            "--projections": projections,
            "--gossip-on-single-node": gossip_on_single_node,
            "--http-port none": http_port == _NONE,
        }
        _refuse_in_cluster([option for option, given in alone.items() if given])
        return run(ClusterJob(size, port, http_port, host, version, known, tls, security, as_json).run)
    start = partial(
        open_node,
        port=port,
        http_port=None if http_port == _NONE else http_port,
        host=host,
        version=version,
        path=persist,
        projections=projections,
        gossip_on_single_node=gossip_on_single_node,
        users=known,
        tls=tls,
        http_tls=tls if https else None,
    )
    return run(_Job(start, http_port, persist, known, security, as_json).run)


def _refuse_in_cluster(options: Sequence[str]) -> None:
    if options:
        msg = f"{options[0]} is for one node, and not for those of a cluster."
        raise click.UsageError(msg)


@dataclass
class _Job:
    start: Callable[[], AbstractAsyncContextManager[Node]]
    http_port: int
    persist: str | None
    users: Mapping[str, User]
    security: Security
    as_json: bool

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            try:
                node = await stack.enter_async_context(self.start())
            except OSError as error:
                raise refused(error, (self.http_port,)) from error
            self._announce(node)
            await output.write(self._line(node) if self.as_json else b"")
            await trio.sleep_forever()

    def _announce(self, node: Node) -> None:
        address = Target(node.settings).address
        where = "memory" if self.persist is None else self.persist
        how = " with TLS" if self.security.tls else ""
        notice(f"listening at {address}{how} as Event Store {node.version}, its log in {where}; Ctrl-C ends")
        if node.http_port is not None:
            notice(f"web interface: {self.security.web_scheme}://{node.host}:{node.http_port}/info")
        if self.users:
            notice(f"users: {user_words(self.users)}")
        login = login_for(node, self.users)
        flag = f" --url {self.security.scheme}://{login}{address}"
        if node.port == _PORT and not (login or self.security.tls):
            flag = ""
        notice(f"try: trio-extreme watch people{flag}")
        notice(f"""     echo '{{"type": "PersonCreated"}}' | trio-extreme append people{flag}""")

    def _line(self, node: Node) -> bytes:
        keys = {"host": node.host, "port": node.port, "http_port": node.http_port, "version": node.version}
        keys |= {"username": "admin", "password": shown_password(node, self.users), "persist": self.persist}
        keys |= self.security._asdict()
        return dump(keys) + b"\n"
