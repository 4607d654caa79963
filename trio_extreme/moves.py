"""Where to connect next: to the one node there is, or to one that is found in the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme.connecting import only_node
from trio_extreme.discovery import Discovery

if TYPE_CHECKING:
    from random import Random

    from trio_extreme.discovery import Found
    from trio_extreme.nodes import Endpoint
    from trio_extreme.settings import Settings
    from trio_extreme.transport import Address, Connect

CONVINCING = 2
"""How many nodes have to refuse us before we believe that all of the cluster will."""


class Moves:
    """One connection's way among nodes."""

    def __init__(self, settings: Settings, connect: Connect, rng: Random) -> None:
        self._settings = settings
        self._discovery = Discovery(settings, connect, rng)
        #: Where the present attempt, or session, connects to; None while that is being found out.
        self.address: Address | None = None
        self._found: Found | None = None
        # Nodes that an attempt has just failed at: others come first.
        self._failed: set[Endpoint] = set()
        # Nodes that have refused who we are, or whose certificates were refused.
        self._refusing: set[Address] = set()

    def __repr__(self) -> str:
        return f"<Moves: {self.address or 'looking for a node'}>"

    async def next(self) -> Address:
        """Where to connect now; in a cluster its seeds are asked each time. Raises where there is no such node."""
        self.address = self._found = None
        if not self._settings.is_cluster:
            self.address = only_node(self._settings)
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
