"""Which node of a cluster does what it is asked (docs/protocol.md, 1.4). Pure: one table, and what is said by it."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.embedded.states import State
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_extreme.embedded.gossip import Endpoints
    from trio_extreme.embedded.versions import ServerVersion

_Reason = schema.NotHandled.NotHandledReason


class Kind(Enum):
    """What a request is, as far as nodes differ over it."""

    READ = auto()
    SUBSCRIBE = auto()
    WRITE = auto()
    #: What only the master knows of: groups of persistent subscriptions.
    GROUP = auto()
    #: What is said of the events of a group, without an answer.
    SAID = auto()
    #: What every node does for itself.
    OWN = auto()


class Verdict(Enum):
    """What becomes of it."""

    SERVE = auto()
    FORWARD = auto()
    NOT_READY = auto()
    NOT_MASTER = auto()
    READ_ONLY = auto()
    IGNORE = auto()


_KINDS: Mapping[int, Kind] = {
    **dict.fromkeys(
        (
            Command.READ_EVENT,
            Command.READ_STREAM_EVENTS_FORWARD,
            Command.READ_STREAM_EVENTS_BACKWARD,
            Command.READ_ALL_EVENTS_FORWARD,
            Command.READ_ALL_EVENTS_BACKWARD,
            Command.FILTERED_READ_ALL_EVENTS_FORWARD,
            Command.FILTERED_READ_ALL_EVENTS_BACKWARD,
        ),
        Kind.READ,
    ),
    **dict.fromkeys((Command.SUBSCRIBE_TO_STREAM, Command.FILTERED_SUBSCRIBE_TO_STREAM), Kind.SUBSCRIBE),
    **dict.fromkeys(
        (
            Command.WRITE_EVENTS,
            Command.DELETE_STREAM,
            Command.TRANSACTION_START,
            Command.TRANSACTION_WRITE,
            Command.TRANSACTION_COMMIT,
        ),
        Kind.WRITE,
    ),
    **dict.fromkeys(
        (
            Command.CREATE_PERSISTENT_SUBSCRIPTION,
            Command.UPDATE_PERSISTENT_SUBSCRIPTION,
            Command.DELETE_PERSISTENT_SUBSCRIPTION,
            Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION,
        ),
        Kind.GROUP,
    ),
    **dict.fromkeys(
        (Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS, Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS), Kind.SAID
    ),
}
FOLLOWING = frozenset((State.PRE_REPLICA, State.CATCHING_UP, State.CLONE, State.REPLICA))


class _Row(NamedTuple):
    """What becomes of each kind; of two verdicts the first is for who requires the master."""

    read: tuple[Verdict, Verdict]
    subscribe: Verdict
    write: tuple[Verdict, Verdict]
    group: Verdict


_SERVE, _FORWARD, _NOT_READY, _NOT_MASTER, _READ_ONLY, _ = Verdict
_STARTING = _Row((_NOT_READY, _NOT_READY), _NOT_READY, (_NOT_READY, _NOT_READY), _NOT_READY)
_MASTERLESS = _Row((_NOT_READY, _SERVE), _SERVE, (_NOT_READY, _NOT_READY), _NOT_READY)
_FOLLOWING = _Row((_NOT_MASTER, _SERVE), _SERVE, (_NOT_MASTER, _FORWARD), _NOT_MASTER)
_READING = _Row((_NOT_MASTER, _SERVE), _SERVE, (_NOT_MASTER, _READ_ONLY), _NOT_MASTER)
_ROWS: Mapping[State, _Row] = {
    **dict.fromkeys((State.INITIALIZING, State.PRE_MASTER, State.SHUTTING_DOWN, State.SHUT_DOWN), _STARTING),
    **dict.fromkeys((State.UNKNOWN, State.DISCOVERING), _MASTERLESS),
    **dict.fromkeys(FOLLOWING, _FOLLOWING),
    State.MASTER: _Row((_SERVE, _SERVE), _SERVE, (_SERVE, _SERVE), _SERVE),
    State.RESIGNING: _Row((_SERVE, _SERVE), _SERVE, (_NOT_READY, _NOT_READY), _NOT_READY),
    **dict.fromkeys((State.PRE_READ_ONLY, State.READ_ONLY), _READING),
    State.READ_ONLY_ALONE: _READING._replace(read=(_NOT_READY, _SERVE), group=_NOT_READY),
}


def judge(state: State, command: int, *, requires_master: bool) -> Verdict:
    """What a node in this state does with a request of this command."""
    kind, row = _KINDS.get(command, Kind.OWN), _ROWS[state]
    if kind is Kind.OWN:
        return Verdict.SERVE
    if kind is Kind.SAID:
        return Verdict.SERVE if state is State.MASTER else Verdict.IGNORE
    verdicts = {Kind.READ: row.read, Kind.WRITE: row.write}.get(kind)
    if verdicts is not None:
        return verdicts[not requires_master]
    return row.subscribe if kind is Kind.SUBSCRIBE else row.group


def refuse(verdict: Verdict, master: Endpoints, version: ServerVersion) -> schema.NotHandled:
    """How that is said, by a node that takes the one at `master` for the master."""
    if verdict is Verdict.NOT_READY:
        return schema.NotHandled(reason=_Reason.NotReady)
    reason = _Reason.IsReadOnly if verdict is Verdict.READ_ONLY else _Reason.NotMaster
    return schema.NotHandled(reason=reason, additional_info=_describe(master, version).SerializeToString())


def _describe(master: Endpoints, version: ServerVersion) -> schema.NotHandled.MasterInfo:
    """Where it is. Servers have one TCP port since 20.6, and say of which kind it is; earlier ones say both."""
    host, tcp, http, secure_tcp = master
    info = schema.NotHandled.MasterInfo(external_http_address=host, external_http_port=http)
    if not (secure_tcp and version.has_one_http_endpoint):
        info.external_tcp_address, info.external_tcp_port = host, tcp
    if secure_tcp:
        info.external_secure_tcp_address, info.external_secure_tcp_port = host, secure_tcp
    return info
