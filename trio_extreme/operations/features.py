"""What servers can do, and since which version (docs/protocol.md, 2.1): for who meets one that cannot."""

from __future__ import annotations

import re
from typing import NamedTuple

from trio_extreme.errors import Unsupported
from trio_extreme.wire.commands import Command, command_name, decode_text


class Feature(NamedTuple):
    """Something that not every server has: how an error calls it, and the first version that has it."""

    name: str
    since: str

    def missing(self) -> Unsupported:
        """The error of a server that lacks it."""
        return Unsupported(self.name, self.since)


TOKENS = Feature("bearer tokens", "20.6.0")
"""No command, but what may stand in a frame's header."""

PINNED_BY_CORRELATION = Feature("the consumer strategy PinnedByCorrelation", "20.6.0")
"""A word in the settings of a group."""

_OLDEST = "3.0.0"
_TRANSACTIONS = Feature("explicit transactions", _OLDEST)
_GROUPS = Feature("persistent subscriptions", "3.2.0")
_FILTERS = Feature("filtered reads and subscriptions", "20.6.0")

FEATURES: dict[int, Feature] = {
    Command.TRANSACTION_START: _TRANSACTIONS,
    Command.TRANSACTION_WRITE: _TRANSACTIONS,
    Command.TRANSACTION_COMMIT: _TRANSACTIONS,
    Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION: _GROUPS,
    Command.CREATE_PERSISTENT_SUBSCRIPTION: _GROUPS,
    Command.DELETE_PERSISTENT_SUBSCRIPTION: _GROUPS,
    Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS: _GROUPS,
    Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS: _GROUPS,
    Command.UPDATE_PERSISTENT_SUBSCRIPTION: _GROUPS,
    Command.SCAVENGE_DATABASE: Feature("scavenging over TCP", _OLDEST),
    Command.FILTERED_READ_ALL_EVENTS_FORWARD: _FILTERS,
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD: _FILTERS,
    Command.FILTERED_SUBSCRIBE_TO_STREAM: _FILTERS,
    Command.IDENTIFY_CLIENT: Feature("64-bit event numbers", "3.9.4"),
}
"""What a request belongs to. All other commands are as old as the oldest server."""

_UNKNOWN = re.compile(r"Could not unwrap network package for command ([0-9]{1,3})\.")


def feature_of(command: int) -> Feature:
    """What a server lacks that does not know this command."""
    return FEATURES.get(command) or Feature(f"the command {command_name(command)}", _OLDEST)


def is_unknown(command: int, payload: bytes) -> bool:
    """Whether a BadRequest says that the server does not know this command.

    Servers name in their text the commands that they know, and whose content they dislike; of one that they do not
    know they have nothing but the number.
    """
    match = _UNKNOWN.match(decode_text(payload))
    return match is not None and int(match[1]) == command
