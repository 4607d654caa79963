"""`trio-extreme doctor`: each step from a name to a node that takes requests, and what to set where one fails."""

from __future__ import annotations

import json
import socket
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import click
import trio

from trio_extreme.cli import output
from trio_extreme.cli.connecting import find_target, url_argument
from trio_extreme.cli.failures import NO_CONNECTION, NOT_ALLOWED, CommandFailed
from trio_extreme.cli.gossip import as_cluster
from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import log_hidden, run
from trio_extreme.client import open_connection
from trio_extreme.connecting import only_node, open_stream
from trio_extreme.discovery import Discovery
from trio_extreme.errors import ConnectFailed, ConnectionLost, NotReady, ProtocolError, TrioExtremeError
from trio_extreme.http import Request, exchange
from trio_extreme.nodes import join_address
from trio_extreme.transport import connect_tcp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme.settings import Settings

_EPILOG = """\
\b
trio-extreme doctor eventstore://admin@localhost:1113
trio-extreme doctor 'eventstores+seeds://admin@h1:2113?tls_ca_file=ca.pem'
"""

_OK = 200
_READY = ("master", "leader", "slave", "follower", "readonlyreplica")


@click.command(short_help="Find out why a connection fails.", epilog=_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")
@url_argument
def doctor(*, as_json: bool, settings: Settings, subject: Settings | None) -> int:
    """Walk from the name to a node that takes requests, say how each step went, and what to set where one fails.

    In a cluster its nodes are asked, and the one that would be connected to is looked at. Nothing is changed.
    """
    target = find_target(subject or settings)
    examination = _Examination(target.settings, as_json=as_json or not output.is_terminal())
    return run(examination.run, target)


class _Examination:
    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self._settings = settings
        self._as_json = as_json
        self._node = only_node(settings)

    async def run(self) -> None:
        """All steps, until one fails. Raises `CommandFailed` then."""
        with log_hidden():
            if self._settings.is_cluster:
                await self._step("gossip", self._find)
            await self._step("name", self._look_up)
            await self._step("tcp", self._connect, otherwise=self._is_tcp_off)
            if self._settings.tls:
                await self._step("tls", self._shake_hands)
            await self._step("frames", partial(self._ping, anonymous=True))
            if self._settings.credentials:
                await self._step("credentials", self._ping)
            if not self._settings.is_cluster:
                await self._step("state", self._state)

    async def _step(
        self, name: str, look: Callable[[], Awaitable[str]], otherwise: Callable[[], Awaitable[str]] | None = None
    ) -> None:
        try:
            says = await look()
        except ConnectFailed as error:
            # One attempt was made, and its own words say more.
            failure: TrioExtremeError = (
                error.attempts[-1] if isinstance(error.attempts[-1], TrioExtremeError) else error
            )
        except TrioExtremeError as error:
            failure = error
        else:
            await self._report(name, "ok", says)
            return
        why = await otherwise() if otherwise and not self._settings.is_cluster else ""
        await self._report(name, "failed", f"{failure}{why}")
        msg = f"the step {name!r} failed at {self._node}"
        raise CommandFailed(msg, "what it says above", NOT_ALLOWED if name == "credentials" else NO_CONNECTION)

    async def _report(self, step: str, result: str, says: str) -> None:
        fields = {"step": step, "result": result, "node": str(self._node), "says": says}
        line = dump(fields) if self._as_json else f"{result:<8} {step:<12} {says}".encode()
        await output.write(line + b"\n")

    # --- the steps

    async def _find(self) -> str:
        # Chance decides among equals, as it does for a connection.
        found = await Discovery(self._settings, connect_tcp, Random()).find()  # noqa: S311 - as said
        self._node = found.address
        return f"{found.address} would be connected to (mode {self._settings.mode!r})"

    async def _look_up(self) -> str:
        host = self._node.host
        try:
            found = await trio.socket.getaddrinfo(host, self._node.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, ValueError) as error:
            msg = f"the name {host!r} cannot be looked up ({error}): check the host"
            raise ConnectionLost(msg) from error
        return f"{host} is {', '.join(sorted({str(address[0]) for *_, address in found}))}"

    async def _connect(self) -> str:
        stream = await open_stream(self._settings.replace(tls=None), connect_tcp, self._node)
        await trio.aclose_forcefully(stream)
        return f"port {self._node.port} accepts connections"

    async def _shake_hands(self) -> str:
        stream = await open_stream(self._settings, connect_tcp, self._node)
        await trio.aclose_forcefully(stream)
        return f"its certificate is for {self._node.name!r}, and trusted"

    async def _ping(self, *, anonymous: bool = False) -> str:
        changes: dict[str, Any] = {"nodes": (), "cluster_dns": "", "first_attempts": 1}
        if anonymous:
            changes |= {"username": "", "password": "", "token": ""}
        host, port, name = self._node
        changes |= {"host": host, "port": port, "tls_server_name": name}
        async with open_connection(self._settings.replace(**changes)) as conn:
            seconds = await conn.ping()
        if anonymous:
            return f"it speaks the protocol, and answers in {seconds * 1000:.2f} ms"
        return f"{self._settings.username or 'the token'} is accepted"

    async def _state(self) -> str:
        """What the node's web interface says of it, which it need not have. In a cluster gossip has told."""
        try:
            version, state = await self._ask_info()
        except TrioExtremeError as error:
            return f"not known: its web interface does not tell ({error})"  # noqa: ASYNC910 - it was asked
        if state not in _READY:
            msg = f"{version}, {state}: it is not ready to take requests; wait, or look at its log"
            raise NotReady(msg)
        return f"{version}, {state}"

    async def _is_tcp_off(self) -> str:
        """Where nothing listens at the TCP port, a server may be there all the same."""
        try:
            version, _ = await self._ask_info()
        except TrioExtremeError:
            return ""  # noqa: ASYNC910 - it was asked
        return f"; its web interface answers: a {version} is up, and its TCP port is another one or off"

    async def _ask_info(self) -> tuple[str, str]:
        seeds = as_cluster(self._settings)
        (asked, *_) = await Discovery(seeds, connect_tcp, Random(0)).seeds()  # noqa: S311 - any will do
        host, port = asked.seed.host, asked.seed.port
        web = self._settings.replace(tls=asked.tls or None, connect_timeout=self._settings.gossip_timeout)
        stream = await open_stream(web, connect_tcp, self._node._replace(host=host, port=port, name=asked.name))
        try:
            with trio.move_on_after(self._settings.gossip_timeout):
                answer = await exchange(stream, join_address(host, port), Request("GET", "/info"))
                return _read_info(answer.status, answer.body)
        finally:
            await trio.aclose_forcefully(stream)
        msg = f"no answer from {join_address(host, port)} within gossip_timeout"
        raise ConnectionLost(msg)


def _read_info(status: int, body: bytes) -> tuple[str, str]:
    """The release and the state."""
    try:
        found = json.loads(body) if status == _OK else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        msg = f"/info is answered with {status}, and no description"
        raise ProtocolError(msg)
    return str(found.get("esVersion"))[:40], str(found.get("state"))[:40].lower()
