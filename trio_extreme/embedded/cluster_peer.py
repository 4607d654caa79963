"""One node of a cluster: its copy of the log, and what it is among the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme import http
from trio_extreme.embedded.cluster_rules import FOLLOWING, Verdict, judge, refuse
from trio_extreme.embedded.states import State
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.cluster_commits import Acknowledgements
    from trio_extreme.embedded.cluster_log import Copy
    from trio_extreme.embedded.gossip import Epoch, Member
    from trio_extreme.embedded.node import Node
    from trio_extreme.embedded.service import Service


class Peer:
    """A node with its log. `forward` has the master do what a client of this one asked for."""

    def __init__(
        self,
        node: Node,
        service: Service,
        copy: Copy,
        acknowledgements: Acknowledgements,
        forward: Callable[[Peer, Request], None],
    ) -> None:
        self.node = node
        self.service = service
        self.copy = copy
        self.acknowledgements = acknowledgements
        #: Whom it takes for the master.
        self.master: Peer | None = None
        #: Whether the others reach it.
        self.is_present = True
        #: Whether the network keeps the others from it, and not its clients.
        self.is_isolated = False
        #: How many batches it was told that a majority has. Those it has are the same.
        self.confirmed = 0
        #: Seconds that pass before it shows what it has.
        self.lag = 0.0
        #: How often it had died when that was last looked at.
        self.deaths = 0
        #: What it, alone, knows of all.
        self.memory: Sequence[Member] = ()
        self._forward = forward
        service.admits = self.admits
        node.web.sends_away = self.sends_away

    def __repr__(self) -> str:
        return f"<Peer {self.node.port}, {self.role.name}{'' if self.is_present else ', not present'}>"

    @property
    def role(self) -> State:
        """What it is in the cluster."""
        return self.service.role

    @property
    def leads(self) -> bool:
        """Whether it takes itself for the master."""
        return self.role is State.MASTER

    def become(self, role: State) -> None:
        """Be that from now on."""
        self.service.role = role

    def admits(self, request: Request) -> bool:
        """Whether a request may be served here; what may not is refused, forwarded, or ignored, as servers do."""
        requires_master = getattr(request.message, "require_master", False)
        verdict = judge(self.role, request.command, requires_master=requires_master)
        if verdict is Verdict.SERVE:
            return True
        if verdict is Verdict.FORWARD:
            self._forward(self, request)
        elif verdict is not Verdict.IGNORE:
            # Who knows of no master names itself.
            master = self.master or self
            refusal = refuse(verdict, master.node.endpoints, self.service.store.version)
            request.reply(Command.NOT_HANDLED, refusal)
        return False

    def sends_away(self, request: http.Request) -> http.Response | None:
        """How a page is refused that changes something, where that is the master's: told where, as servers do."""
        if self.leads:
            return None
        if self.master is None or self.role not in FOLLOWING:
            return http.Response(503)
        return http.Response(307, (("location", self.master.node.web_address + request.target),))

    # Its log

    def lead(self, epoch: Epoch, confirmed: int) -> None:
        """Be the master, of whose log a majority has `confirmed` batches."""
        # First, so that nobody is told of what is shown now before a majority has it.
        self.acknowledgements.lead(confirmed)
        self._show(len(self.copy.journal))
        self.master, self.node.epoch, self.copy.epoch = self, epoch, epoch.number
        self.become(State.MASTER)
        self.service.restart(crashed=False)

    def follow(self, master: Peer) -> None:
        """Take this one for the master from now on, and forget what it never had."""
        self.master, self.node.epoch = master, master.node.epoch
        self.become(State.PRE_REPLICA)
        if self.copy.cut(self.copy.common(master.copy)):
            self._restart()

    def catch_up(self, master: Peer) -> None:
        """Take what the master has written."""
        self.copy.receive(master.copy.journal[len(self.copy.journal) :])
        if self.role in FOLLOWING:
            self.become(State.REPLICA)

    def show(self, confirmed: int) -> None:
        """Let be seen what a majority has."""
        if not self.leads:
            self._show(confirmed)

    def _show(self, count: int) -> None:
        while self.copy.shown < min(count, len(self.copy.journal)):
            batch = self.copy.show()
            self.service.store.follow(batch)
            self.service.hub.publish(batch.records)

    def resign(self) -> None:
        """Be no master any more: what only it had is lost, and a server that loses something starts again."""
        self.acknowledgements.resign()
        self.become(State.UNKNOWN)
        self.service.groups.rest()
        if self.copy.cut(self.acknowledgements.durable):
            self._restart()

    def _restart(self) -> None:
        self.service.restart(crashed=False)
        self.node.cut_connections()

    def die(self) -> None:
        """Its process has ended. What is on its disk it still has; who is the master it does not know."""
        if self.leads:
            self.acknowledgements.resign()
            self.copy.hide(self.acknowledgements.durable)
        self.master = None
        self.become(State.DISCOVERING)
        self.service.groups.rest()
