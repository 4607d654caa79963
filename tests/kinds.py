"""One of each kind of request, and what may be done with it when no answer came."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests import grouping
from tests.answers import (
    Read,
    Written,
    committed,
    confirmed,
    event_read,
    log_page,
    not_committed,
    not_written,
    page,
    written,
)
from tests.helpers import new_events
from tests.lost import answer_all, asked
from tests.peer import Call, Peer
from trio_extreme import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    Connection,
    DefaultAcl,
    PersistentSettings,
    StreamMetadata,
    messages,
)
from trio_extreme.filters import Filter
from trio_extreme.operations.base import Resend
from trio_extreme.operations.transactions import Begun, CommitTransaction
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from uuid import UUID

    import trio

    from tests.peer import Request

EVENTS = new_events(2)
"""What every append here appends."""
_IDS = tuple(event.id for event in EVENTS)

Answer = tuple[int, Any]


@dataclass(frozen=True)
class Kind:
    """A request: what `Resend` says of it, what sends it, its command, and the answer of a server that has done it."""

    name: str
    resend: Resend
    verb: Callable[[Connection], Awaitable[Any]]
    command: int
    answer: Answer
    #: A page that got no answer is asked for in a smaller one.
    is_page: bool = False
    #: A subscription is never too much for a session.
    is_feed: bool = False
    #: What its `OutcomeUnknown` names.
    event_ids: tuple[UUID, ...] = ()
    #: The event that it writes is made by the call itself, so that nobody knows its id before.
    makes_event: bool = False
    #: Servers take long over it by its nature.
    is_slow: bool = False

    def __str__(self) -> str:
        return self.name

    def writes(self, event_ids: tuple[UUID, ...]) -> bool:
        """Whether these are the ids of the events that it writes."""
        return len(event_ids) == 1 if self.makes_event else event_ids == self.event_ids


async def ping(conn: Connection) -> None:
    await conn.ping()


async def subscribe(conn: Connection) -> None:
    async with conn.subscribe_live("s"):
        pass


async def subscribe_to_all(conn: Connection) -> None:
    async with conn.subscribe_all_live():
        pass


async def connect(conn: Connection) -> None:
    async with conn.subscribe_persistent("s", "g"):
        pass


async def read_stream(conn: Connection, **options: Any) -> list[int]:
    return [event.number async for event in conn.read_stream("s", **options)]


async def read_all(conn: Connection, **options: Any) -> int:
    return len([event async for event in conn.read_all(**options)])


class _Filters:
    """The server filters: that it is asked whether it does is another request."""

    known = True


async def read_filtered(conn: Connection, **options: Any) -> int:
    conn._engine.filter_support = _Filters()  # type: ignore[assignment]
    return await read_all(conn, filter=Filter.by_stream("s"), **options)


def append(expected: int) -> Callable[[Connection], Awaitable[Any]]:
    return lambda conn: conn.append("s", EVENTS, expected=expected)


def delete(expected: int, *, hard: bool) -> Callable[[Connection], Awaitable[Any]]:
    return lambda conn: conn.delete_stream("s", expected=expected, hard=hard)


async def ensure(conn: Connection, *, update: bool) -> bool:
    return await conn.ensure_persistent("s", "g", update=update)


def set_metadata(expected: int) -> Callable[[Connection], Awaitable[Any]]:
    return lambda conn: conn.set_metadata("s", StreamMetadata(max_count=3), expected=expected)


def set_default_acl(expected: int) -> Callable[[Connection], Awaitable[Any]]:
    return lambda conn: conn.set_default_acl(DefaultAcl(), expected=expected)


def execute(message: Any, command: int | None = None) -> Callable[[Connection], Awaitable[Any]]:
    return lambda conn: conn.execute(message, command=command)


async def begin(conn: Connection) -> None:
    await conn.transaction("s", expected=3).__aenter__()


async def write(conn: Connection) -> None:
    transaction = await conn.continue_transaction(7).__aenter__()
    await transaction.write(EVENTS)


def commit(expected: int | None) -> Callable[[Connection], Awaitable[Any]]:
    """What the end of a transaction's block asks for; None of one that was begun elsewhere."""
    begun = None if expected is None else Begun("s", expected)
    operation = CommitTransaction(7, begun, _IDS, require_master=True)
    return lambda conn: conn._engine.calls.call(operation)


READ_BACKWARD = Command.READ_STREAM_EVENTS_BACKWARD
NO_STREAM_YET: Answer = (
    READ_BACKWARD + 1,
    schema.ReadStreamEventsCompleted(result=Read.NoStream, last_event_number=-1),
)
"""What a look-up is told where nothing was ever written."""

CONFIRMED: Answer = (Command.SUBSCRIPTION_CONFIRMATION, confirmed())
STREAM_PAGE: Answer = (Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, page([0], 1, end=True))
LOG_PAGE = log_page([], 9, 9)
FILTERED_PAGE = schema.FilteredReadAllEventsCompleted(
    next_commit_position=9, next_prepare_position=9, is_end_of_stream=True
)
APPENDED: Answer = (Command.WRITE_EVENTS_COMPLETED, written(4, 5))
DELETED: Answer = (Command.DELETE_STREAM_COMPLETED, schema.DeleteStreamCompleted(result=Written.Success))

CREATE_GROUP = Command.CREATE_PERSISTENT_SUBSCRIPTION
GroupResult = schema.CreatePersistentSubscriptionCompleted.CreatePersistentSubscriptionResult


def group_created(result: int, reason: str = "") -> Answer:
    return CREATE_GROUP + 1, schema.CreatePersistentSubscriptionCompleted(result=result, reason=reason)


STARTED: Answer = (
    Command.TRANSACTION_START_COMPLETED,
    schema.TransactionStartCompleted(transaction_id=7, result=Written.Success),
)
ADDED: Answer = (
    Command.TRANSACTION_WRITE_COMPLETED,
    schema.TransactionWriteCompleted(transaction_id=7, result=Written.Success),
)
COMMITTED: Answer = (Command.TRANSACTION_COMMIT_COMPLETED, committed(4, 5))

_EVENT = messages.ReadEvent(event_stream_id="s", event_number=0)
_WRITE = messages.WriteEvents(event_stream_id="s", expected_version=3)
_DELETE = messages.DeleteStream(event_stream_id="s", expected_version=3, hard_delete=True)


def _kinds() -> Iterator[Kind]:
    again = partial(Kind, resend=Resend.AGAIN)
    yield again("ping", verb=ping, command=Command.PING, answer=(Command.PONG, b""))
    read = (Command.READ_EVENT, (Command.READ_EVENT_COMPLETED, event_read()))
    yield again("read an event", verb=lambda conn: conn.read_event("s", 0), command=read[0], answer=read[1])
    yield again("execute a read", verb=execute(_EVENT), command=read[0], answer=read[1])
    yield again(
        "the last number",
        verb=lambda conn: conn.last_number("s"),
        command=READ_BACKWARD,
        answer=(READ_BACKWARD + 1, page([7], 6)),
    )
    yield again("read metadata", verb=lambda conn: conn.get_metadata("s"), command=read[0], answer=read[1])
    yield again("the default rights", verb=lambda conn: conn.get_default_acl(), command=read[0], answer=read[1])
    all_forward = Command.READ_ALL_EVENTS_FORWARD
    yield again("the head", verb=lambda conn: conn.head(), command=all_forward, answer=(all_forward + 1, LOG_PAGE))
    yield again("begin a transaction", verb=begin, command=Command.TRANSACTION_START, answer=STARTED)
    subscribing = partial(again, command=Command.SUBSCRIBE_TO_STREAM, answer=CONFIRMED, is_feed=True)
    yield subscribing("subscribe", verb=subscribe)
    yield subscribing("subscribe to all", verb=subscribe_to_all)
    yield again(
        "connect to a group",
        verb=connect,
        command=grouping.CONNECT,
        answer=(grouping.CONFIRMATION, grouping.confirmed()),
        is_feed=True,
    )
    yield from _pages()
    yield from _as_once()
    yield from _protected()
    yield from _looked_for()
    yield from _never()


def _pages() -> Iterator[Kind]:
    """Of several events, so that there is a smaller page to ask for."""
    reading = partial(Kind, resend=Resend.AGAIN, is_page=True)
    yield reading("read a stream", verb=read_stream, command=Command.READ_STREAM_EVENTS_FORWARD, answer=STREAM_PAGE)
    yield reading(
        "read a stream backwards",
        verb=partial(read_stream, backwards=True),
        command=READ_BACKWARD,
        answer=(READ_BACKWARD + 1, page([0], -1, end=True)),
    )
    for command, backwards in ((Command.READ_ALL_EVENTS_FORWARD, False), (Command.READ_ALL_EVENTS_BACKWARD, True)):
        name = "read the log backwards" if backwards else "read the log"
        verb = partial(read_all, backwards=backwards)
        yield reading(name, verb=verb, command=command, answer=(command + 1, LOG_PAGE))
    for command, reply, backwards in (
        (Command.FILTERED_READ_ALL_EVENTS_FORWARD, 0xBB, False),
        (Command.FILTERED_READ_ALL_EVENTS_BACKWARD, 0xBE, True),
    ):
        name = "read with a filter backwards" if backwards else "read with a filter"
        verb = partial(read_filtered, backwards=backwards)
        yield reading(name, verb=verb, command=command, answer=(reply, FILTERED_PAGE))


def _as_once() -> Iterator[Kind]:
    """What wants something to be so in the end."""
    ensuring = partial(Kind, resend=Resend.AS_ONCE, command=CREATE_GROUP)
    for result, update in ((GroupResult.Success, True), (GroupResult.AlreadyExists, False)):
        verb = partial(ensure, update=update)
        yield ensuring(f"ensure a group: {result.name}", verb=verb, answer=group_created(result))


def _protected() -> Iterator[Kind]:
    """What a number protects, or that nothing is written."""
    appending = partial(Kind, resend=Resend.SAME_IDS, command=Command.WRITE_EVENTS, answer=APPENDED, event_ids=_IDS)
    yield appending("append at a number", verb=append(3))
    yield appending("append nothing", verb=lambda conn: conn.append("s", [], expected=ANY), event_ids=())
    setting = partial(appending, event_ids=(), makes_event=True)
    yield setting("set metadata at a number", verb=set_metadata(3))
    yield setting("set metadata where there is none", verb=set_metadata(NO_STREAM))
    yield setting("set the default rights at a number", verb=set_default_acl(3))
    deleting = partial(Kind, resend=Resend.SAME_IDS, command=Command.DELETE_STREAM, answer=DELETED)
    yield deleting("hard delete at a number", verb=delete(3, hard=True))
    yield deleting("hard delete of no stream", verb=delete(NO_STREAM, hard=True))
    yield _committing(Resend.SAME_IDS, "commit at a number", 3)


def _looked_for() -> Iterator[Kind]:
    appending = partial(Kind, resend=Resend.LOOK_UP, command=Command.WRITE_EVENTS, answer=APPENDED, event_ids=_IDS)
    yield appending("append at any", verb=append(ANY))
    yield appending("append to an existing", verb=append(STREAM_EXISTS))
    yield appending("append to no stream", verb=append(NO_STREAM))
    setting = partial(appending, event_ids=(), makes_event=True)
    yield setting("set the default rights at any", verb=set_default_acl(ANY))
    yield setting("set the default rights where there are none", verb=set_default_acl(NO_STREAM))
    yield _committing(Resend.LOOK_UP, "commit to no stream", NO_STREAM)


def _committing(resend: Resend, name: str, expected: int | None) -> Kind:
    command = Command.TRANSACTION_COMMIT
    return Kind(name, resend, commit(expected), command, COMMITTED, event_ids=_IDS)


def _never() -> Iterator[Kind]:
    never = partial(Kind, resend=Resend.NEVER)
    deleting = partial(never, command=Command.DELETE_STREAM, answer=DELETED)
    yield deleting("soft delete at a number", verb=delete(3, hard=False))
    yield deleting("soft delete at any", verb=delete(ANY, hard=False))
    yield deleting("hard delete at any", verb=delete(ANY, hard=True))
    yield never(
        "create a group",
        verb=lambda conn: conn.create_persistent("s", "g"),
        command=CREATE_GROUP,
        answer=group_created(GroupResult.Success),
    )
    yield never(
        "update a group",
        verb=lambda conn: conn.update_persistent("s", "g", PersistentSettings()),
        command=Command.UPDATE_PERSISTENT_SUBSCRIPTION,
        answer=(Command.UPDATE_PERSISTENT_SUBSCRIPTION_COMPLETED, schema.UpdatePersistentSubscriptionCompleted()),
    )
    yield never(
        "delete a group",
        verb=lambda conn: conn.delete_persistent("s", "g"),
        command=Command.DELETE_PERSISTENT_SUBSCRIPTION,
        answer=(Command.DELETE_PERSISTENT_SUBSCRIPTION_COMPLETED, schema.DeletePersistentSubscriptionCompleted()),
    )
    setting = partial(never, command=Command.WRITE_EVENTS, answer=APPENDED, makes_event=True)
    yield setting("set metadata at any", verb=set_metadata(ANY))
    yield setting("set metadata where there is some", verb=set_metadata(STREAM_EXISTS))
    yield _committing(Resend.NEVER, "commit at any", ANY)
    yield _committing(Resend.NEVER, "commit what was begun elsewhere", None)
    yield never("write to a transaction", verb=write, command=Command.TRANSACTION_WRITE, answer=ADDED, event_ids=_IDS)
    yield never(
        "scavenge",
        verb=lambda conn: conn.scavenge(),
        command=Command.SCAVENGE_DATABASE,
        answer=(Command.SCAVENGE_DATABASE_COMPLETED, schema.ScavengeDatabaseResponse(scavengeId="7")),
        is_slow=True,
    )
    for message in (
        _WRITE,
        _DELETE,
        messages.TransactionStart(event_stream_id="s", expected_version=3),
        messages.TransactionWrite(transaction_id=7),
        messages.TransactionCommit(transaction_id=7),
        messages.CreatePersistentSubscription(subscription_group_name="g", event_stream_id="s"),
        messages.UpdatePersistentSubscription(subscription_group_name="g", event_stream_id="s"),
        messages.DeletePersistentSubscription(subscription_group_name="g", event_stream_id="s"),
        messages.ScavengeDatabase(),
    ):
        name = type(message).__name__
        command = Command[_screaming(name)]
        yield never(
            f"execute {name}",
            verb=execute(message),
            command=command,
            answer=(command + 1, b""),
            is_slow=name == "ScavengeDatabase",
        )


def _screaming(name: str) -> str:
    """`WriteEvents` as `WRITE_EVENTS`."""
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name).strip("_")


KINDS = list(_kinds())
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
each_page = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.is_page], ids=str)


def each(*resends: Resend) -> pytest.MarkDecorator:
    """Over the kinds of which `Resend` says this; without pages, which are not asked for again as they were."""
    chosen = [kind for kind in KINDS if kind.resend in resends and not kind.is_page]
    return pytest.mark.parametrize("kind", chosen, ids=str)


def ready(kind: Kind) -> Peer:
    """A peer that does what it is asked for."""
    peer = Peer()
    answer_all(peer, kind.command, kind.answer)
    return peer


async def send(nursery: trio.Nursery, conn: Connection, peer: Peer, kind: Kind) -> tuple[Call, Request]:
    """A call whose request has come to the peer, which does not answer it."""
    peer.handlers.pop(kind.command, None)
    call = Call(nursery, kind.verb, conn)
    return call, await peer.receive(kind.command)


def of_kind(peer: Peer, kind: Kind) -> list[Request]:
    """The requests of this kind that came to a peer after its handshake."""
    return [request for request in asked(peer) if request.command == kind.command]


def refusing(kind: Kind, result: int) -> Answer:
    """The answer of a server that refuses a write with this result."""
    if kind.command == Command.DELETE_STREAM:
        return kind.answer[0], schema.DeleteStreamCompleted(result=result)
    if kind.command == Command.TRANSACTION_COMMIT:
        return kind.answer[0], not_committed(result)
    return kind.answer[0], not_written(result)
