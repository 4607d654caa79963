"""Which node of a cluster does what, held against docs/protocol.md, 1.4."""

from __future__ import annotations

import pytest

from trio_extreme.embedded.cluster_rules import Verdict, judge, refuse
from trio_extreme.embedded.gossip import Endpoints
from trio_extreme.embedded.states import State
from trio_extreme.embedded.versions import find_version
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

SERVE, FORWARD, NOT_READY, NOT_MASTER, READ_ONLY, IGNORE = Verdict
COLUMNS = (
    (Command.READ_STREAM_EVENTS_FORWARD, True),
    (Command.FILTERED_READ_ALL_EVENTS_BACKWARD, False),
    (Command.SUBSCRIBE_TO_STREAM, False),
    (Command.WRITE_EVENTS, True),
    (Command.TRANSACTION_COMMIT, False),
    (Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION, False),
    (Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS, False),
    (Command.UNSUBSCRIBE_FROM_STREAM, False),
)
STARTING = (NOT_READY, NOT_READY, NOT_READY, NOT_READY, NOT_READY, NOT_READY, IGNORE, SERVE)
ALONE = (NOT_READY, SERVE, SERVE, NOT_READY, NOT_READY, NOT_READY, IGNORE, SERVE)
FOLLOWING = (NOT_MASTER, SERVE, SERVE, NOT_MASTER, FORWARD, NOT_MASTER, IGNORE, SERVE)
READING = (NOT_MASTER, SERVE, SERVE, NOT_MASTER, READ_ONLY, NOT_MASTER, IGNORE, SERVE)
TABLE = {
    State.INITIALIZING: STARTING,
    State.PRE_MASTER: STARTING,
    State.SHUTTING_DOWN: STARTING,
    State.SHUT_DOWN: STARTING,
    State.UNKNOWN: ALONE,
    State.DISCOVERING: ALONE,
    State.PRE_REPLICA: FOLLOWING,
    State.CATCHING_UP: FOLLOWING,
    State.CLONE: FOLLOWING,
    State.REPLICA: FOLLOWING,
    State.MASTER: (SERVE,) * 8,
    State.RESIGNING: (SERVE, SERVE, SERVE, NOT_READY, NOT_READY, NOT_READY, IGNORE, SERVE),
    State.READ_ONLY_ALONE: (NOT_READY, SERVE, SERVE, NOT_MASTER, READ_ONLY, NOT_READY, IGNORE, SERVE),
    State.PRE_READ_ONLY: READING,
    State.READ_ONLY: READING,
}
PLAIN = Endpoints("10.0.0.2", 1113, 2113)
SECURE = Endpoints("10.0.0.2", 0, 2113, 1115)


def test_what_a_node_does_in_each_state() -> None:
    assert TABLE.keys() == set(State)
    for state, expected in TABLE.items():
        found = tuple(judge(state, command, requires_master=requires) for command, requires in COLUMNS)
        assert found == expected, state


def test_not_ready_says_nothing_else() -> None:
    assert refuse(NOT_READY, PLAIN, find_version("4.1.1")) == schema.NotHandled(reason=0)


@pytest.mark.parametrize(
    ("version", "endpoints", "plain", "secure"),
    [
        ("4.1.1", PLAIN, ("10.0.0.2", 1113), ("", 0)),
        ("4.1.1", SECURE, ("10.0.0.2", 0), ("10.0.0.2", 1115)),
        ("20.10", PLAIN, ("10.0.0.2", 1113), ("", 0)),
        ("20.10", SECURE, ("", 0), ("10.0.0.2", 1115)),
    ],
)
def test_where_the_master_is(
    version: str, endpoints: Endpoints, plain: tuple[str, int], secure: tuple[str, int]
) -> None:
    for verdict, reason in ((NOT_MASTER, 2), (READ_ONLY, 3)):
        refusal = refuse(verdict, endpoints, find_version(version))
        info = schema.NotHandled.MasterInfo.FromString(refusal.additional_info)
        assert refusal.reason == reason
        assert (info.external_tcp_address, info.external_tcp_port) == plain
        assert (info.external_secure_tcp_address, info.external_secure_tcp_port) == secure
        assert (info.external_http_address, info.external_http_port) == ("10.0.0.2", 2113)
