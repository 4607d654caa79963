"""What has to happen on unlucky days, as their traces tell it: on which of them it does, `seeds` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

UNLUCKY = {
    "frames cut apart": "struck: reset",
    "silence": "struck: silence",
    "a stall of the program": "the program stands still",
    "a restart of the node": "fault at",
    "a node that is not ready": "NOT_HANDLED",
    "a subscription that the node ends": "SUBSCRIPTION_DROPPED",
    "a heartbeat of the node": "HEARTBEAT_REQUEST",
    "a connection that is refused": "connecting: refuse",
    "an outcome that nobody knows": "OutcomeUnknown",
    "a call that is out of time": "OperationTimedOut",
    "a wrong version": "WrongExpectedVersion",
    "a transaction": "left without a commit",
    "one that goes on elsewhere": "hands on transaction",
    "one whose writer does not give up": "goes on with transaction",
    "a cancelled call": "unknown: Cancelled",
    "a stream deleted for ever": "StreamDeleted",
    "a consumer that fell behind": "FellBehind()",
    "one that was told of a gap": "Reconnected(gap_possible=True)",
    "one that missed nothing": "Reconnected(gap_possible=False)",
    "one that was ahead": "AheadOfServer(",
    "one that was too slow": "live_buffer_",
    "one that went on later": "has enough of it",
    "a server that filters": "FILTERED_SUBSCRIBE_TO_STREAM",
    "one that does not": "does not filter",
    "a place between events": "Checkpoint(",
    "a worker that dies with what it has": "falls down",
    "one that is too weak": "PERSISTENT_SUBSCRIPTION_NAK_EVENTS",
    "a call whose connection was left": "ConnectionClosed",
}


def happened(headlines: str, wanted: Mapping[str, str] = UNLUCKY) -> set[str]:
    """Which of these things a trace tells of."""
    return {name for name, text in wanted.items() if text in headlines}
