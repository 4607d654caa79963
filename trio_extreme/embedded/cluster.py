"""A cluster of nodes in one process: each with its own log, connections and pages, and one of them the master.

    async with open_cluster(3) as cluster:
        killed = cluster.kill()          # the master
        ...                              # in a second another one is it
        cluster.start(killed)

There is no election: once the others have missed the master for a set time, one of those that have most of the log is
appointed. A client sees the same. What is honest about it (docs/embedded.md): a write is acknowledged when a majority
of all nodes has it, and without a majority there is no master; so nothing that was acknowledged is lost, whoever dies.

All times are Trio's, and chance comes from one source: under a mock clock and a seed, the same happens each time.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import trio

from trio_extreme.embedded.forwarding import Forwarded
from trio_extreme.embedded.gossip import Epoch
from trio_extreme.embedded.states import State
from trio_extreme.embedded.timetable import Timetable
from trio_extreme.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.cluster_peer import Peer
    from trio_extreme.embedded.gossip import Member
    from trio_extreme.embedded.node import Node

logger = logging.getLogger("trio_extreme.embedded")

HOP = 0.001
"""Seconds from one node to another."""


class _Alarm:
    """Rings once what it is set for has lasted for some time."""

    def __init__(self, timetable: Timetable, seconds: float, ring: Callable[[], None]) -> None:
        self._timetable = timetable
        self._seconds = seconds
        self._ring = ring
        self._setting: object = None

    def set(self, *, on: bool) -> None:
        """Whether that is so at present."""
        if not on:
            self._setting = None
        elif self._setting is None:
            self._setting = setting = object()
            self._timetable.after(self._seconds, partial(self._due, setting))

    def _due(self, setting: object) -> None:
        if self._setting is setting:
            self._setting = None
            self._ring()


class Cluster:
    """A running cluster. `open_cluster` makes it."""

    def __init__(self, size: int, make_node: Callable[[int, Cluster], Peer], random: Random, failover: float) -> None:
        self._random = random
        self._timetable = Timetable()
        self._epochs = 0
        # How many batches of the log a majority has.
        self._confirmed = 0
        self._is_replicating = False
        self._master: Peer | None = None
        self._changed = trio.lowlevel.ParkingLot()
        #: What each was when the others last heard of it.
        self._heard: dict[Peer, Member] = {}
        self._peers = [make_node(index, self) for index in range(size)]
        self._quorum = size // 2 + 1
        self._of = {peer.node: peer for peer in self._peers}
        self._election = _Alarm(self._timetable, failover, self._appoint)
        self._abdications = {
            peer: _Alarm(self._timetable, failover, partial(self._resign, peer)) for peer in self._peers
        }
        for peer in self._peers:
            peer.node.members = partial(self._members, peer)
            peer.node.faults.watch = partial(self._look, peer)
            peer.copy.written = partial(self._replicate_soon)

    def __repr__(self) -> str:
        return f"<Cluster of {len(self._peers)}, master: {self.master!r}>"

    @property
    def nodes(self) -> Sequence[Node]:
        """All of them, whatever they are; always in the same order."""
        return [peer.node for peer in self._peers]

    @property
    def master(self) -> Node | None:
        """The one that a majority follows; None while there is none."""
        return None if self._master is None else self._master.node

    @property
    def replicas(self) -> Sequence[Node]:
        """Those that follow it."""
        return [peer.node for peer in self._peers if peer.is_present and not peer.leads]

    async def wait_for_master(self) -> Node:
        """The master, once there is one. Cancelling is harmless."""
        await trio.lowlevel.checkpoint()
        while self._master is None:
            await self._changed.park()
        return self._master.node

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """A stream in memory to the node that has this port, whatever the host, as `Node.connect`.

        Raises `ConnectionRefusedError` where none has it, and as `Node.connect` does.
        """
        for node in self.nodes:
            if port in (node.port, node.http_port):
                return await node.connect(host, port)
        await trio.lowlevel.checkpoint()
        msg = f"nothing listens at {host}:{port}: no node of the cluster has this port"
        raise ConnectionRefusedError(msg)

    # What can happen to it

    def kill(self, node: Node | None = None) -> Node:
        """Kill a node, the master if none is named, and return it. It keeps its log, as on a disk."""
        node = node or self.master
        if node is None:
            msg = "node: there is no master at present; name the node to kill"
            raise InvalidArgument(msg)
        self._find(node)
        node.faults.kill()
        return node

    def start(self, node: Node) -> None:
        """Start a node again that was killed."""
        self._find(node)
        node.faults.start()

    def isolate(self, node: Node) -> None:
        """Let the other nodes lose it from sight, and it them. Clients reach them all."""
        peer = self._find(node)
        peer.is_isolated = True
        self._look(peer)

    def rejoin(self, node: Node) -> None:
        """End `isolate`."""
        peer = self._find(node)
        peer.is_isolated = False
        self._look(peer)

    def lag(self, node: Node, seconds: float) -> None:
        """Let a node show what is written so much later than it has it, while it is a replica; 0 ends that."""
        if not 0 <= seconds < float("inf"):
            msg = f"seconds: {seconds!r} is no time that a replica can lag behind"
            raise InvalidArgument(msg)
        peer = self._find(node)
        peer.lag = seconds
        if not seconds:
            peer.show(peer.confirmed)

    def _find(self, node: Node) -> Peer:
        peer = self._of.get(node)
        if peer is None:
            msg = f"node: {node!r} is none of this cluster"
            raise InvalidArgument(msg)
        return peer

    # Who is there

    def _look(self, peer: Peer) -> None:
        """Something has happened to a node, or to its network."""
        faults = peer.node.faults
        if peer.deaths != faults.deaths:
            peer.deaths = faults.deaths
            self._leave(peer)
            peer.die()
        is_reachable = not (faults.is_away or peer.is_isolated)
        if is_reachable and not peer.is_present:
            self._join(peer)
        elif not is_reachable:
            self._leave(peer)
        self._watch()

    def _leave(self, peer: Peer) -> None:
        if not peer.is_present:
            return
        peer.memory = self._members(peer)
        self._heard[peer] = peer.node.member()
        logger.info("cluster: %r is lost from sight", peer)
        peer.is_present = False
        if peer is self._master:
            self._master = None
            for follower in self._present():
                follower.become(State.PRE_REPLICA)

    def _join(self, peer: Peer) -> None:
        peer.is_present = True
        if peer.leads and peer.copy.epoch < self._epochs - 1:
            # Somebody took its place meanwhile.
            peer.resign()
        if self._master is not None:
            peer.follow(self._master)
            self._replicate_soon()
        elif peer.leads:
            self._install(peer)

    def _watch(self) -> None:
        """What is to happen if things stay as they are."""
        is_majority = len(self._present()) >= self._quorum
        self._election.set(on=self._master is None and is_majority)
        for peer, alarm in self._abdications.items():
            is_missed = not (peer.is_present and is_majority)
            alarm.set(on=peer.leads and is_missed and not peer.node.faults.is_away)

    def _present(self) -> Sequence[Peer]:
        return [peer for peer in self._peers if peer.is_present]

    # The master

    def _appoint(self) -> None:
        """Make one the master of those that have most of the log."""
        present = self._present()
        most = max(peer.copy.age for peer in present)
        chosen = self._random.choice([peer for peer in present if peer.copy.age == most])
        chosen.lead(self._next_epoch(chosen), self._confirmed)
        chosen.service.store.begin_epoch()
        self._install(chosen)
        self._watch()

    def begin(self) -> None:
        """Make one the master of an empty log."""
        chosen = self._random.choice(self._peers)
        self._confirmed = len(chosen.copy.journal)
        chosen.lead(self._next_epoch(None), self._confirmed)
        self._install(chosen)
        self._replicate()

    def _next_epoch(self, master: Peer | None) -> Epoch:
        position = 0 if master is None else master.copy.journal[-1].batch.end
        epoch = Epoch(position, self._epochs, UUID(bytes=self._random.randbytes(16), version=4))
        self._epochs += 1
        return epoch

    def _install(self, master: Peer) -> None:
        self._master = master
        logger.info("cluster: %r is the master", master)
        for peer in self._present():
            if peer is not master:
                peer.follow(master)
        self._replicate_soon()
        self._changed.unpark_all()

    def _resign(self, peer: Peer) -> None:
        """A master that a majority does not follow for long knows that it is none."""
        if peer is self._master:
            self._master = None
        peer.resign()

    # The log

    def _replicate_soon(self) -> None:
        if not self._is_replicating:
            self._is_replicating = True
            self._timetable.after(HOP, self._replicate)

    def _replicate(self) -> None:
        self._is_replicating = False
        master = self._master
        if master is None:
            return
        followers = [peer for peer in self._present() if peer is not master]
        for peer in followers:
            peer.catch_up(master)
        counts = sorted((len(peer.copy.journal) for peer in self._present()), reverse=True)
        if len(counts) >= self._quorum:
            self._confirmed = max(self._confirmed, counts[self._quorum - 1])
        master.acknowledgements.confirm(self._confirmed)
        for peer in followers:
            peer.confirmed = self._confirmed
            if peer.lag:
                self._timetable.after(peer.lag, partial(peer.show, self._confirmed))
            else:
                peer.show(self._confirmed)

    def forward(self, peer: Peer, request: Request) -> None:
        """Have the master do what a client of this node asks."""
        life = peer.deaths
        forwarded = Forwarded(request, peer.service.store.version, self._timetable.after, lambda: peer.deaths == life)
        self._timetable.after(HOP, partial(self._arrive, peer, forwarded))

    def _arrive(self, peer: Peer, forwarded: Forwarded) -> None:
        master = self._master
        if master is None or not peer.is_present:
            return

        def pass_on(answer: Callable[[], None]) -> None:
            master.acknowledgements.later(partial(self._timetable.after, HOP, answer))

        forwarded.perform(master.service.perform, pass_on)

    # What they say

    def _members(self, speaker: Peer) -> Sequence[Member]:
        """All nodes, as this one knows them."""
        if speaker.is_present:
            return [self._heard_of(peer) for peer in self._peers]
        if not speaker.memory:
            return [speaker.node.member()]
        own = self._peers.index(speaker)
        alone = [member._replace(is_alive=False) for member in speaker.memory]
        alone[own] = speaker.node.member()
        return alone

    def _heard_of(self, peer: Peer) -> Member:
        return peer.node.member() if peer.is_present else self._heard[peer]._replace(is_alive=False)

    async def run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Keep the cluster going, until the scope that is reported back is cancelled; shielded, as its nodes are."""
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await trio.lowlevel.checkpoint_if_cancelled()
            scope.shield = True
            await self._timetable.run()
