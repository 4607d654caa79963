"""`trio-extreme serve --cluster 3`: nodes that are one cluster, each on a port of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_extreme.cli import output
from trio_extreme.cli.lines import dump
from trio_extreme.cli.listening import Security, login_for, refused, shown_password
from trio_extreme.cli.running import notice
from trio_extreme.cli.users import user_words
from trio_extreme.embedded import open_cluster

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ssl import SSLContext

    from trio_extreme.embedded import Cluster, Node, User


@dataclass
class ClusterJob:
    """A cluster that runs until it is stopped."""

    size: int
    port: int
    http_port: int
    host: str
    version: str
    users: Mapping[str, User]
    tls: SSLContext | None
    security: Security
    as_json: bool

    async def run(self) -> None:
        """Run it, having said where its nodes are."""
        start = partial(
            open_cluster,
            self.size,
            port=self.port,
            http_port=self.http_port,
            host=self.host,
            version=self.version,
            users=self.users,
            tls=self.tls,
            http_tls=self.tls if self.security.https else None,
        )
        async with AsyncExitStack() as stack:
            try:
                cluster = await stack.enter_async_context(start())
            except OSError as error:
                raise refused(error, range(self.http_port, self.http_port + self.size)) from error
            self._announce(cluster)
            await output.write(self._line(cluster.nodes) if self.as_json else b"")
            await trio.sleep_forever()

    def _announce(self, cluster: Cluster) -> None:
        nodes = cluster.nodes
        how = " with TLS" if self.security.tls else ""
        notice(f"a cluster of {len(nodes)}{how}, each Event Store {nodes[0].version}, logs in memory; Ctrl-C ends")
        for node in nodes:
            role = " (master)" if node is cluster.master else ""
            page = f"{self.security.web_scheme}://{_address(node.host, node.http_port)}/gossip"
            notice(f"node at {_address(node.host, node.port)}, web interface {page}{role}")
        if self.users:
            notice(f"users: {user_words(self.users)}")
        url = self._url(nodes)
        notice(f"try: trio-extreme watch people --url '{url}'")
        notice(f"""     echo '{{"type": "PersonCreated"}}' | trio-extreme append people --url '{url}'""")

    def _url(self, nodes: Sequence[Node]) -> str:
        seeds = ",".join(_address(node.host, node.http_port) for node in nodes)
        # Gossip is asked for as the nodes are, unless it is told otherwise.
        options = "?gossip_tls=false" if self.security.tls and not self.security.https else ""
        return f"{self.security.scheme}+seeds://{login_for(nodes[0], self.users)}{seeds}{options}"

    def _line(self, nodes: Sequence[Node]) -> bytes:
        places = [{"host": node.host, "port": node.port, "http_port": node.http_port} for node in nodes]
        keys: dict[str, object] = {"nodes": places, "url": self._url(nodes), "version": nodes[0].version}
        keys |= {"username": "admin", "password": shown_password(nodes[0], self.users)}
        return dump(keys | self.security._asdict()) + b"\n"


def _address(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
