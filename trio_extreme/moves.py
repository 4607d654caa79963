"""Where to connect next: to the one node there is, or to one that is found in the cluster."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_extreme.connecting import Backoff, only_node
from trio_extreme.discovery import Discovery, Found, reach

if TYPE_CHECKING:
    from random import Random

    from trio_extreme.errors import NotMaster
    from trio_extreme.nodes import Endpoint
    from trio_extreme.settings import Settings
    from trio_extreme.transport import Address, Connect

CONVINCING = 2
"""How many nodes have to refuse us before we believe that all of the cluster will."""

CALM = 10.0
"""Seconds without a move after which the next one is taken for the first: it comes at once."""


class Move(NamedTuple):
    """Why a session is left: another node is the master. None: nobody knows which."""

    endpoint: Endpoint | None
    #: Seconds to wait before connecting there.
    delay: float


class Moves:
    """One connection's way among nodes."""

    def __init__(self, settings: Settings, connect: Connect, rng: Random) -> None:
        self._settings = settings
        self._discovery = Discovery(settings, connect, rng)
        #: Where the present attempt, or session, connects to; None while that is being found out.
        self.address: Address | None = None
        self._found: Found | None = None
        self._named: Found | None = None
        #: The present session is being left for this.
        self.move: Move | None = None
        self._backoff = Backoff(settings, rng)
        self._moved_at = -inf
        # Nodes that an attempt has just failed at: others come first.
        self._failed: set[Endpoint] = set()
        # Nodes that have refused who we are, or whose certificates were refused.
        self._refusing: set[Address] = set()

    def __repr__(self) -> str:
        return f"<Moves: {self.address or 'looking for a node'}>"

    @property
    def follows(self) -> bool:
        """Whether the connection goes where the master is."""
        return self._settings.is_cluster and self._settings.mode == "write"

    def to_master(self, refusal: NotMaster) -> None:
        """The present node is not the master: go to that which it names, or ask where it names itself, or none.

        Nodes that name each other are asked more and more seldom, and so are those that do not know.
        """
        told = refusal.secure_endpoint if self._settings.tls else refusal.endpoint
        address = None if told is None else reach(self._settings, told)
        if told is None or address is None or address == self.address:
            told = self._named = None
        else:
            self._named = Found(address, is_master=True, told=told)
        now = trio.current_time()
        is_first = now - self._moved_at > CALM
        if is_first:
            self._backoff.reset()
        self._moved_at = now
        self.move = Move(told, 0.0 if is_first and told else self._backoff.next())

    async def next(self) -> Address:
        """Where to connect now; in a cluster its seeds are asked each time. Raises where there is no such node."""
        named, self._named = self._named, None
        self.address = self._found = self.move = None
        if not self._settings.is_cluster:
            self.address = only_node(self._settings)
        elif named is not None:
            self._found, self.address = named, named.address
        else:
            self._found = await self._discovery.find(self._failed)
            self.address = self._found.address
        return self.address  # noqa: ASYNC910 - what follows is to connect

    def failed(self) -> None:
        """The attempt came to nothing."""
        if self._found is not None:
            self._failed.add(self._found.told)

    def connected(self) -> None:
        """The node has accepted us."""
        self._failed.clear()

    def is_final(self) -> bool:
        """Whether a refusal by the present node is one by all: it is the only one, the master, or not the first."""
        if self._found is None or self._found.is_master:
            return True
        self._refusing.add(self._found.address)
        return len(self._refusing) >= CONVINCING
