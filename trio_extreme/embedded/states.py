"""What a node can be in its cluster, and what servers call that (docs/protocol.md, 1.4 and 5). Pure."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_extreme.embedded.versions import ServerVersion


class State(Enum):
    """Each with its name up to 5.x, and from 20.6 on; those without the former are not known there."""

    #: It starts.
    INITIALIZING = ("Initializing", "Initializing")
    #: It has started, and looks for a master.
    DISCOVERING = ("Unknown", "DiscoverLeader")
    #: It knows of no master.
    UNKNOWN = ("Unknown", "Unknown")
    #: It knows a master, and does not follow it yet.
    PRE_REPLICA = ("PreReplica", "PreReplica")
    #: It follows, and gets what it has missed.
    CATCHING_UP = ("CatchingUp", "CatchingUp")
    #: It follows, and is one more than the cluster needs.
    CLONE = ("Clone", "Clone")
    #: It follows: what it has is the master's log, as of a moment ago.
    REPLICA = ("Slave", "Follower")
    #: It was elected, and waits for the others to know.
    PRE_MASTER = ("PreMaster", "PreLeader")
    MASTER = ("Master", "Leader")
    #: It hands the mastership over.
    RESIGNING = ("", "ResigningLeader")
    #: It only reads, and knows of no master.
    READ_ONLY_ALONE = ("", "ReadOnlyLeaderless")
    #: It only reads, and does not follow yet.
    PRE_READ_ONLY = ("", "PreReadOnlyReplica")
    #: It follows, never becomes master, and forwards no writes.
    READ_ONLY = ("", "ReadOnlyReplica")
    SHUTTING_DOWN = ("ShuttingDown", "ShuttingDown")
    SHUT_DOWN = ("Shutdown", "Shutdown")

    def name_at(self, version: ServerVersion) -> str:
        """What this server calls it."""
        return self.value[version.says_leader]
