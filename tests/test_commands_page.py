"""docs/commands.md holds what docs/protocol.md says of each command, and what our calls really send."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trio
import trio.testing

from tests import grouping
from tests.answers import ReadOne, committed, confirmed, log_page, page, written
from tests.helpers import new_events
from tests.lost import AT_ONCE
from tests.peer import Network, Peer, answering
from trio_extreme import (
    ANY,
    END,
    Connection,
    DefaultAcl,
    Filter,
    GroupExists,
    InvalidArgument,
    OutcomeUnknown,
    PersistentSettings,
    StreamMetadata,
    StreamNotFound,
    open_connection,
)
from trio_extreme.operations.features import FEATURES, feature_of
from trio_extreme.operations.session import Raw
from trio_extreme.wire import schema
from trio_extreme.wire.commands import MESSAGES, Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.usefixtures("autojump_clock")

DOCS = Path(__file__).parent.parent / "docs"


# --- the page, and what the protocol says


class Row(NamedTuple):
    """A row of the page; the last column is what we do with it."""

    code: int
    command: str
    sender: str
    carries: str
    since: str
    execute: str
    ours: str


def rows_of(page: str) -> list[list[str]]:
    """The cells of the rows that begin with a code."""
    lines = (DOCS / page).read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return [row for row in cells if re.fullmatch("0x[0-9A-F]{2}", row[0]) and len(row) >= 6]


ROWS = [Row(int(code, 16), *cells) for code, *cells in rows_of("commands.md")]
ASKED = [row for row in ROWS if row.sender != "server"]


def test_the_page_says_what_the_protocol_says() -> None:
    senders = {"client->server": "client", "server->client": "server", "both": "both"}
    told = [
        (int(code, 16), name, senders[direction], payload, since)
        for code, name, direction, payload, since, _ in rows_of("protocol.md")
    ]
    assert [row[:5] for row in ROWS] == told


def test_the_page_has_every_command_of_ours() -> None:
    """0xD1 has two rows, one for each of its forms."""
    assert sorted({row.code for row in ROWS}) == sorted(Command)
    assert len(ROWS) == len(Command) + 1
    for row in ROWS:
        if row.command != "ScavengeDatabaseResponse":
            assert Command(row.code).name.replace("_", "").lower() == row.command.lower()
            assert (row.code in MESSAGES) == (row.carries in {message.DESCRIPTOR.name for message in MESSAGES.values()})


def test_what_a_server_lacks_is_as_old_as_the_page_says() -> None:
    assert {row.code: feature_of(row.code).since for row in ASKED} == {row.code: row.since for row in ASKED}
    assert FEATURES.keys() <= {row.code for row in ASKED}


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.command)
def test_what_execute_takes(row: Row) -> None:
    assert row.execute == ("yes" if is_for_execute(row.code) else "")


def is_for_execute(code: int) -> bool:
    try:
        Raw(MESSAGES[code](), code)
    except (InvalidArgument, KeyError):
        return False
    return True


def test_what_only_servers_send_is_no_request() -> None:
    assert all(row.execute == "" and row.ours for row in ROWS if row.sender == "server")


# --- what our calls send


ANSWERS: dict[int, tuple[int, Any]] = {
    Command.WRITE_EVENTS: (Command.WRITE_EVENTS_COMPLETED, written()),
    Command.DELETE_STREAM: (Command.DELETE_STREAM_COMPLETED, b""),
    Command.TRANSACTION_START: (Command.TRANSACTION_START_COMPLETED, schema.TransactionStartCompleted(result=0)),
    Command.TRANSACTION_WRITE: (Command.TRANSACTION_WRITE_COMPLETED, schema.TransactionWriteCompleted(result=0)),
    Command.TRANSACTION_COMMIT: (Command.TRANSACTION_COMMIT_COMPLETED, committed()),
    Command.SCAVENGE_DATABASE: (Command.SCAVENGE_DATABASE_COMPLETED, b""),
    Command.READ_EVENT: (Command.READ_EVENT_COMPLETED, schema.ReadEventCompleted(result=ReadOne.NoStream)),
    Command.READ_STREAM_EVENTS_FORWARD: (Command.READ_STREAM_EVENTS_FORWARD_COMPLETED, page([], 1, end=True, last=0)),
    Command.READ_STREAM_EVENTS_BACKWARD: (Command.READ_STREAM_EVENTS_BACKWARD_COMPLETED, page([0], -1, end=True)),
    Command.READ_ALL_EVENTS_FORWARD: (Command.READ_ALL_EVENTS_FORWARD_COMPLETED, log_page([], 9, 9)),
    Command.READ_ALL_EVENTS_BACKWARD: (Command.READ_ALL_EVENTS_BACKWARD_COMPLETED, log_page([], 9, 9)),
    Command.FILTERED_READ_ALL_EVENTS_FORWARD: (
        Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED,
        schema.FilteredReadAllEventsCompleted(is_end_of_stream=True),
    ),
    Command.FILTERED_READ_ALL_EVENTS_BACKWARD: (
        Command.FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED,
        schema.FilteredReadAllEventsCompleted(is_end_of_stream=True),
    ),
    Command.SUBSCRIBE_TO_STREAM: (Command.SUBSCRIPTION_CONFIRMATION, confirmed(0)),
    Command.FILTERED_SUBSCRIBE_TO_STREAM: (Command.SUBSCRIPTION_CONFIRMATION, confirmed(0)),
    Command.CREATE_PERSISTENT_SUBSCRIPTION: (
        Command.CREATE_PERSISTENT_SUBSCRIPTION_COMPLETED,
        schema.CreatePersistentSubscriptionCompleted(result=1),
    ),
    Command.UPDATE_PERSISTENT_SUBSCRIPTION: (Command.UPDATE_PERSISTENT_SUBSCRIPTION_COMPLETED, b""),
    Command.DELETE_PERSISTENT_SUBSCRIPTION: (Command.DELETE_PERSISTENT_SUBSCRIPTION_COMPLETED, b""),
}
"""A server that can do anything, and has one event; a group that is created exists already."""


def able() -> Peer:
    peer = Peer()
    for command, answer in ANSWERS.items():
        peer.handlers[command] = answering(*answer)(peer)
    grouping.play(peer, then=(1, 2))
    return peer


async def read(reader: Any) -> None:
    async for _ in reader:
        pass


async def follow(subscription: Any) -> None:
    """Up to the end of what is there, and a moment longer."""
    with trio.move_on_after(1):
        async with subscription as events:
            async for _ in events:
                pass


async def consume(conn: Connection) -> None:
    async with conn.subscribe_persistent("s", "g") as events:
        await events.ack(await anext(events))
        await events.nak(await anext(events))


async def transact(conn: Connection) -> None:
    async with conn.transaction("s", expected=-1) as tx:
        await tx.write(new_events(1))


async def go_on(conn: Connection) -> None:
    async with conn.continue_transaction(7) as tx:
        await tx.write(new_events(1))


async def look(_: object) -> None:
    """It has nothing to send."""


async def be_idle(_: Connection) -> None:
    await trio.sleep(60)


USES: dict[str, list[Callable[[Connection], Awaitable[object]]]] = {
    "open_connection": [be_idle],
    "execute": [],
    "ping": [lambda conn: conn.ping()],
    "statistics": [lambda conn: look(conn.statistics())],
    "changes": [lambda conn: look(conn.changes())],
    "append": [lambda conn: conn.append("s", new_events(1))],
    "delete_stream": [lambda conn: conn.delete_stream("s", expected=ANY)],
    "transaction": [transact],
    "continue_transaction": [go_on],
    "scavenge": [lambda conn: conn.scavenge()],
    "create_persistent": [lambda conn: conn.create_persistent("s", "g")],
    "update_persistent": [lambda conn: conn.update_persistent("s", "g", PersistentSettings())],
    "delete_persistent": [lambda conn: conn.delete_persistent("s", "g")],
    "ensure_persistent": [lambda conn: conn.ensure_persistent("s", "g", update=True)],
    "get_metadata": [lambda conn: conn.get_metadata("s")],
    "set_metadata": [lambda conn: conn.set_metadata("s", StreamMetadata(), expected=ANY)],
    "update_metadata": [lambda conn: conn.update_metadata("s", max_count=7)],
    "get_default_acl": [lambda conn: conn.get_default_acl()],
    "set_default_acl": [lambda conn: conn.set_default_acl(DefaultAcl(), expected=ANY)],
    "read_event": [lambda conn: conn.read_event("s", 0)],
    "read_stream": [
        lambda conn: read(conn.read_stream("s")),
        lambda conn: read(conn.read_stream("s", backwards=True)),
    ],
    "read_all": [
        lambda conn: read(conn.read_all()),
        lambda conn: read(conn.read_all(backwards=True)),
        lambda conn: read(conn.read_all(filter=Filter.by_stream("s"))),
        lambda conn: read(conn.read_all(backwards=True, filter=Filter.by_stream("s"))),
    ],
    "last_number": [lambda conn: conn.last_number("s")],
    "head": [lambda conn: conn.head()],
    "subscribe": [lambda conn: follow(conn.subscribe("s")), lambda conn: follow(conn.subscribe("s", start=END))],
    "subscribe_all": [
        lambda conn: follow(conn.subscribe_all()),
        lambda conn: follow(conn.subscribe_all(filter=Filter.by_stream("s"))),
    ],
    "subscribe_live": [lambda conn: follow(conn.subscribe_live("s"))],
    "subscribe_all_live": [lambda conn: follow(conn.subscribe_all_live())],
    "subscribe_persistent": [consume],
}
"""Each verb, used in all ways in which it asks for something else."""

LOSING = {
    "append": Command.WRITE_EVENTS,
    "set_default_acl": Command.WRITE_EVENTS,
    "transaction": Command.TRANSACTION_COMMIT,
}
"""What is looked for in the stream where its answer is lost."""


async def commands_of(verb: str) -> set[int]:
    """What a verb sends beside the handshake, by itself and where an answer is lost."""
    sent: set[int] = set()
    for use in USES[verb]:
        peer = able()
        await run(use, peer)
        sent |= commands(peer, handshake=verb == "open_connection")
    if command := LOSING.get(verb):
        dying, peer = able(), able()
        dying.handlers[command] = lambda _: dying.hang_up()
        await run(USES[verb][0], dying, peer)
        sent |= commands(peer)
    return sent


async def run(use: Callable[[Connection], Awaitable[object]], *peers: Peer) -> None:
    async with open_connection(AT_ONCE, connect=Network(*peers).connect) as conn:
        with suppress(OutcomeUnknown, GroupExists, StreamNotFound):
            await use(conn)
        await trio.testing.wait_all_tasks_blocked()


def commands(peer: Peer, *, handshake: bool = False) -> set[int]:
    return {request.command for request in (peer.log if handshake else peer.log[2:])} - (
        set() if handshake else {Command.HEARTBEAT_REQUEST}
    )


@pytest.mark.parametrize("verb", [verb for verb in USES if verb != "execute"])
async def test_the_page_says_what_a_verb_sends(verb: str) -> None:
    said = {row.command for row in ASKED if verb in re.findall(r"`(\w+)`", row.ours)}
    names = {row.code: row.command for row in ASKED}
    assert {names[code] for code in await commands_of(verb)} == said


def test_every_verb_is_used() -> None:
    verbs = {name for name, _ in inspect.getmembers(Connection, inspect.isfunction) if not name.startswith("_")}
    assert USES.keys() == verbs | {"open_connection"}


def test_the_page_names_no_verb_that_is_none() -> None:
    named = {name for row in ASKED for name in re.findall(r"`(\w+)`", row.ours)}
    assert named - USES.keys() == set()


def test_what_no_verb_sends_has_its_reason() -> None:
    assert all(row.ours for row in ASKED)
