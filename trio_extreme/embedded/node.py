"""A node: a service, its web interface, and the connections to both."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from trio_extreme.embedded.acl import User, with_default_users
from trio_extreme.embedded.commits import Commits, in_a_thread, open_storage
from trio_extreme.embedded.connection import Connection
from trio_extreme.embedded.faults import Faults
from trio_extreme.embedded.gossip import Endpoints, Epoch, Member
from trio_extreme.embedded.group_pages import GroupPages
from trio_extreme.embedded.http import Web
from trio_extreme.embedded.line import Line
from trio_extreme.embedded.listening import listen, reset, secured
from trio_extreme.embedded.memory import memory_connection
from trio_extreme.embedded.pages import Pages
from trio_extreme.embedded.projection_pages import ProjectionPages
from trio_extreme.embedded.projections import Projections
from trio_extreme.embedded.service import Service
from trio_extreme.embedded.store import Store
from trio_extreme.embedded.timetable import Timetable
from trio_extreme.embedded.user_pages import UserPages
from trio_extreme.embedded.versions import VERSIONS, find_version
from trio_extreme.embedded.visits import Visits
from trio_extreme.errors import InvalidArgument
from trio_extreme.settings import Settings
from trio_extreme.tasks import open_plain_nursery
from trio_extreme.values import Credentials

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from ssl import SSLContext

    from trio_extreme.embedded.clients import Client
    from trio_extreme.embedded.commits import MakeCommits, RunSync
    from trio_extreme.embedded.pages import Traffic
    from trio_extreme.embedded.versions import ServerVersion

_NAME_PORT, _NAME_HTTP_PORT = 1113, 2113
"""The ports that a node without sockets goes by: what a real server's are by default."""
_CLOSING_TIME = 0.5
"""Seconds that connections get to end when the node stops."""


class Node:
    """A running node. `open_node` makes it."""

    def __init__(
        self,
        service: Service,
        host: str,
        random: Random,
        run_sync: RunSync,
        *,
        projections: bool,
        gossips: bool,
        make_commits: MakeCommits = Commits,
        tls: SSLContext | None = None,
        http_tls: SSLContext | None = None,
    ) -> None:
        self.host = host
        #: Where it listens; 1113 for a node without sockets, which only `connect` leads to.
        self.port = _NAME_PORT
        #: Where its web interface is, 2113 for a node without sockets; None where it has none.
        self.http_port: int | None = _NAME_HTTP_PORT
        #: What the node holds, for tests that look inside.
        self.store = service.store
        #: When it started, in microseconds since 1970.
        self.started = self.store.now()
        self._service = service
        self._tls = tls
        self._http_tls = http_tls
        self._random = random
        self._nursery: trio.Nursery | None = None
        #: The times of masters, of which this is the one it knows; None where it is alone.
        self.epoch: Epoch | None = None
        #: The nodes that it knows.
        self.members: Callable[[], Sequence[Member]] = lambda: [self.member()]
        self._connections: dict[Connection, None] = {}
        self._all_ended = trio.lowlevel.ParkingLot()
        # Bytes that went over connections that have ended.
        self._received = self._sent = 0
        self._timetable = Timetable()
        self._line = Line(self._timetable)
        self._commits = make_commits(service.store.storage, run_sync, self._line, self._release)
        service.groups.keep_time(self._timetable.after, trio.current_time, lambda: self._line.stopped)
        if projections:
            commits = self._commits
            service.projections = Projections(
                self.store, service.hub, self._timetable.after, lambda: commits.is_crowded
            )
        #: Its pages.
        self.web = web = Web(service)
        Pages(service, self, web, gossips=gossips)
        scheme = "http" if http_tls is None else "https"
        UserPages(service, web, scheme)
        GroupPages(service.groups, self.store.version, web, self._peer_of, scheme)
        if service.projections is not None:
            ProjectionPages(service.projections, self.store, web, scheme)
        self._visits = Visits(web, self._line, self._commits)
        #: What can go wrong with it, for whoever tests a client: `node.faults.pause()`.
        self.faults = Faults(
            service, self._connections, self._visits, self._line, timetable=self._timetable, random=random
        )

    def __repr__(self) -> str:
        return f"<Node {self.store.version.name} at {self.host}:{self.port}, {len(self._connections)} connections>"

    @property
    def version(self) -> str:
        """The server that this node is, in full: "5.0.11" where it was opened as "5.0". No reply tells a client."""
        return self.store.version.name

    @property
    def settings(self) -> Settings:
        """What a client needs to connect to it as admin, with the password that the node was opened with."""
        password = self._service.users["admin"].password
        return Settings(
            host=self.host,
            port=self.port,
            http_port=self.http_port or _NAME_HTTP_PORT,
            username="admin",
            password=password,
        )

    def name_ports(self, index: int) -> None:
        """Go by other ports than other nodes without sockets."""
        self.port, self.http_port = _NAME_PORT + index, _NAME_HTTP_PORT + index

    @property
    def web_address(self) -> str:
        """Where its web interface is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self._http_tls is None else 'https'}://{host}:{self.http_port}"

    def cut_connections(self) -> None:
        """End them all without a word."""
        self._visits.cut()
        for connection in self._connections:
            connection.cut()

    # What its pages tell

    @property
    def endpoints(self) -> Endpoints:
        """Where it is, as gossip has it."""
        http = self.http_port or 0
        return Endpoints(self.host, self.port, http) if self._tls is None else Endpoints(self.host, 0, http, self.port)

    def member(self) -> Member:
        """Itself, as it tells others."""
        log, epoch = self.store.log, self.epoch or Epoch(0, 0, self._epoch)
        state, now = self._service.state, self.store.now()
        return Member(self._instance, now, state, self.endpoints, log.last, log.end, epoch)

    @cached_property
    def _instance(self) -> UUID:
        return UUID(bytes=self._random.randbytes(16), version=4)

    @cached_property
    def _epoch(self) -> UUID:
        return UUID(bytes=self._random.randbytes(16), version=4)

    def traffic(self) -> Sequence[Traffic]:
        """What went over each of its connections."""
        return [connection.traffic for connection in self._connections]

    def _peer_of(self, client: Client) -> str:
        """Where a client is."""
        return next((one.traffic.peer for one in self._connections if one.client is client), "")

    def traffic_of_all(self) -> tuple[int, int]:
        """Bytes that were received and sent since it started."""
        traffic = self.traffic()
        return self._received + sum(one.received for one in traffic), self._sent + sum(one.sent for one in traffic)

    # Connections

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """A stream in memory to this node, whatever the host: the seam of `trio_extreme.transport.Connect`.

        `http_port` leads to its web interface, every other port to what speaks the protocol. Where that is within TLS,
        so is what goes over the stream, and the client has to speak it. Raises
        `ConnectionRefusedError` once the node has stopped, or while a fault refuses connections. Cancelling leaves no
        connection behind.
        """
        await trio.lowlevel.checkpoint()
        if self._nursery is None or self.faults.refuses_connections:
            reason = "the node was closed" if self._nursery is None else "a fault of the node refuses connections"
            msg = f"nothing listens at {host}:{port}: {reason}"
            raise ConnectionRefusedError(msg)
        ours, theirs = memory_connection()
        if port == self.http_port:
            self._nursery.start_soon(self._receive, ours)
        else:
            self._nursery.start_soon(self._serve, self._admit(ours))
        return theirs

    def _admit(self, stream: trio.abc.Stream) -> Connection:
        stream = stream if self._tls is None else secured(stream, self._tls)
        connection = Connection(self._service, stream, self._random, self._line, self._commits)
        self._connections[connection] = None
        return connection

    def _release(self) -> None:
        for connection in self._connections:
            connection.release()

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        if self.faults.refuses_connections:
            await reset(stream)
        else:
            await self._serve(self._admit(stream))

    async def _serve_visit(self, stream: trio.SocketStream) -> None:
        await (reset if self.faults.refuses_connections else self._receive)(stream)

    async def _receive(self, stream: trio.abc.Stream) -> None:
        """Somebody who visits its web interface."""
        if self._http_tls is not None:
            # A process that is stopped shakes no hands.
            await self._line.go_on()
            stream = secured(stream, self._http_tls)
        await self._visits.serve(stream)

    async def _serve(self, connection: Connection) -> None:
        try:
            if self._tls is not None:
                await self._line.go_on()
            await connection.run()
        finally:
            # A client that vanished was forgotten before.
            self._connections.pop(connection, None)
            self._received += connection.traffic.received
            self._sent += connection.traffic.sent
            self._line.forget(connection)
            self._all_ended.unpark_all()

    async def _listen(self, nursery: trio.Nursery, port: int | None, http_port: int | None) -> None:  # noqa: ASYNC910 - only where there are sockets
        if http_port is None:
            self.http_port = None
        if port is None:
            return  # noqa: ASYNC910 - as above
        self.port = await nursery.start(listen, self.host, port, self._serve_socket, nursery)
        if http_port is not None:
            self.http_port = await nursery.start(listen, self.host, http_port, self._serve_visit, nursery)

    async def _run(
        self, port: int | None, http_port: int | None, *, task_status: trio.TaskStatus[trio.CancelScope]
    ) -> None:
        """Everything that runs, until the scope that is reported back is cancelled.

        The scope is shielded: a client in a cancelled block must find its server alive, or it could not say goodbye.
        """
        with trio.CancelScope() as scope:
            async with open_plain_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._timetable.run)
                if self._commits.are_needed:
                    nursery.start_soon(self._commits.run)
                    # What a new log begins with.
                    await self._commits.pass_by()
                if self._service.projections is not None:
                    self._service.projections.wake()
                await self._listen(nursery, port, http_port)
                task_status.started(scope)
                # Where `start` was cancelled at this very moment, this task stays with it, and nobody will stop us.
                await trio.lowlevel.checkpoint_if_cancelled()
                scope.shield = True
                await trio.sleep_forever()

    def _say_goodbye(self) -> None:
        self._nursery = None
        self.faults.clear()
        self._visits.cut()
        for connection in self._connections:
            connection.shut_down()

    async def _ended(self) -> None:  # noqa: ASYNC910 - only where somebody is connected
        """Wait for those clients that listen."""
        while self._connections:
            await self._all_ended.park()


@asynccontextmanager
async def running(*places: tuple[Node, int | None, int | None]) -> AsyncIterator[None]:
    """These nodes run, on their ports; they say goodbye to every client at the end of the block."""
    nodes = [node for node, _, _ in places]
    async with open_plain_nursery() as nursery:
        scopes: list[trio.CancelScope] = []
        try:
            for node, port, http_port in places:
                scopes.append(await nursery.start(node._run, port, http_port))  # noqa: SLF001 - one class in two pieces
            yield
        finally:
            with trio.move_on_after(_CLOSING_TIME, shield=True):
                for node in nodes:
                    node._say_goodbye()  # noqa: SLF001
                for node in nodes:
                    await node._ended()  # noqa: SLF001
            for scope in scopes:
                scope.cancel()


@asynccontextmanager
async def open_node(
    *,
    port: int | None = 0,
    http_port: int | None = 0,
    host: str = "127.0.0.1",
    version: str = "4.1.1",
    path: str | os.PathLike[str] | None = None,
    users: Mapping[str, User] | None = None,
    tokens: Mapping[str, str] | None = None,
    tls: SSLContext | None = None,
    http_tls: SSLContext | None = None,
    projections: bool = False,
    gossip_on_single_node: bool = False,
    now: Callable[[], float] = time.time,
    random: Random | None = None,
    run_sync: RunSync | None = None,
) -> AsyncIterator[Node]:
    """A node in this process that answers as a real server of `version` does.

    It keeps its log in the file at `path`, an SQLite database that it makes where there is none: what is acknowledged
    is on the disk then, and survives this process and a power cut (docs/embedded.md). Without a path the log is in
    memory, and empty.

    `VERSIONS` has the versions, of which two were recorded and the others are from the servers' sources. It listens
    on `port` of `host`, 0 for a free one, None for no socket at all: then only `node.connect` leads to it, which works
    under a mock clock. Its web interface, with `/gossip`, `/info`, `/ping` and `/stats`, is on `http_port`, 0 for a
    free one, None for none. Servers before 20.6 have no `/gossip` when they are alone, unless `gossip_on_single_node`.

    It knows the users `admin` and `ops`, both with the password `changeit`, and those given in `users` by login name:
    each `User` has a password and groups, and these two may get other passwords. `tokens` are the bearer tokens that it
    takes in place of a name and password, each with the name of the user whose it is; servers take them from 20.6 on.
    With `projections` it runs the standard ones, so that there are `$ce-…`, `$et-…`, `$streams` and `$category-…`, two
    milliseconds after each append. `now` is its calendar, in seconds since 1970: events are dated by it and `$maxAge`
    counts from it; `random` makes its ids. With both given, and no socket, it does the same each time.

    With `tls`, a context with a certificate, `port` takes TLS and nothing else, and gossip says so; with `http_tls`,
    which may be the same one, the web interface is HTTPS.

    `run_sync` is what waits for the disk, a thread if there is none: under a mock clock that takes `run_inline`, since
    Trio's clock does not know of threads.

    Leaving the block ends every connection, as a server does that shuts down, within half a second, and closes the
    file. Raises `OSError` where it cannot listen, `InvalidArgument` for a version it does not know and for users and
    tokens that it cannot take, and `StorageError` where the file cannot be used, which is not written to then. The same
    is raised, and ends the block, where the file fails later: a disk is full, or damage is found.
    """
    random = random or Random()  # noqa: S311 - ids, not secrets
    run_sync = run_sync or in_a_thread()
    model = find_version(version)
    accounts = with_default_users(users or {})
    known_tokens = check_tokens(tokens or {}, accounts, model)
    async with open_storage(path, model, run_sync) as storage:
        store = Store(model, storage=storage, now=now, random=random)
        service = Service(store, accounts, known_tokens)
        gossips = gossip_on_single_node or model.gossips_alone
        node = Node(
            service,
            host,
            random,
            run_sync,
            projections=projections,
            gossips=gossips,
            tls=tls,
            http_tls=http_tls,
        )
        async with running((node, port, http_port)):
            yield node


def check_tokens(tokens: Mapping[str, str], users: Mapping[str, User], version: ServerVersion) -> Mapping[str, str]:
    """The tokens; no error shows one."""
    if tokens and not version.takes_tokens:
        first = next(known.short for known in VERSIONS.values() if known.takes_tokens)
        msg = f"tokens: a server {version.name} takes none; open the node with version={first!r} or a later one"
        raise InvalidArgument(msg)
    for token, login in tokens.items():
        Credentials(token=token)
        if login not in users:
            msg = f"tokens: one is that of {login!r}, whom the node does not know: {', '.join(users)}"
            raise InvalidArgument(msg)
    return tokens
