"""No password and no token is in any log line, error, repr or traceback, whatever fails and however."""

from __future__ import annotations

import logging
import traceback
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.peer import Network, Peer
from tests.test_discovery import HOSTILE, Names, Web, answer, gossip, refusing
from tests.test_moves import not_master, refuse
from tests.test_tls import CA, STRANGER, client, listening, server
from trio_extreme import Credentials, NewEvent, Settings, TrioExtremeError, open_admin, open_connection
from trio_extreme.embedded import open_node
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_extreme.transport import Connect

# Marked, and of a form that nothing else has.
PASSWORD, TOKEN = "pa55-W0RD-zq", "t0ken-ZZ-4711"
MARKS = [PASSWORD, TOKEN, PASSWORD.encode().hex(), b64encode(f"admin:{PASSWORD}".encode()).decode()]
LOGIN = {"username": "admin", "password": PASSWORD}
BEARER = {"token": TOKEN}

Trouble = dict[str, Any]


class Record:
    """All that anybody could see."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.failures = 0

    def add(self, *things: object) -> None:
        for thing in things:
            self.texts += [str(thing), repr(thing)]

    def failed(self, error: BaseException) -> None:
        self.failures += 1
        self.add(error, vars(error), *error.args)
        self.texts += traceback.format_exception(error)
        for inner in getattr(error, "attempts", ()):
            self.add(inner)

    def check(self, logged: str) -> None:
        shown = "\n".join([*self.texts, logged])
        assert [mark for mark in MARKS if mark in shown] == []


@pytest.fixture
def record(caplog: pytest.LogCaptureFixture) -> Iterator[Record]:
    found = Record()
    with caplog.at_level(logging.DEBUG):
        yield found
        found.check(caplog.text)
    assert found.failures


async def fail(record: Record, settings: Settings, connect: Connect) -> None:
    """Open a connection, and if that goes well, use it."""
    record.add(settings)
    try:
        with trio.fail_after(600):
            async with open_connection(settings, connect=connect) as conn:
                record.add(conn, conn._engine, conn._engine.calls, conn._engine._moves, conn.statistics())
                changes = conn.changes()
                record.add(await anext(changes))
                await conn.append("orders", NewEvent("OrderPlaced"), credentials=Credentials("other", PASSWORD))
    except TrioExtremeError as error:
        record.failed(error)


@pytest.mark.parametrize("who", [LOGIN, BEARER], ids=["password", "token"])
async def test_one_node(autojump_clock: object, record: Record, nursery: trio.Nursery, who: Trouble) -> None:
    settings = Settings(host="h", first_attempts=2, operation_timeout=3, **who)
    closing, garbage, silent = Peer(), Peer(), Peer()
    closing.handlers[Command.WRITE_EVENTS] = lambda _request: closing.hang_up()
    garbage.handlers[Command.WRITE_EVENTS] = lambda request: garbage.send(0x83, request.correlation, b"\xff" * 9)
    troubles = [
        Network(OSError("refused")),
        Network(None),
        Network(refusing()),
        Network(refuse(Peer(), not_master("n2", 1113))),
        Network(refuse(Peer(), b"\xff")),
        Network(closing, OSError("refused")),
        Network(garbage, OSError("refused")),
        Network(silent),
        Network(Peer(mute=[Command.PING, Command.IDENTIFY_CLIENT])),
    ]
    for trouble in troubles:
        await fail(record, settings, trouble.connect)
    for certificate in (CA.issue_cert("elsewhere"), STRANGER.issue_cert("h")):
        await fail(record, settings.replace(tls=client()), listening(server(certificate), nursery))
    assert record.failures == len(troubles) + 2


@pytest.mark.parametrize("who", [LOGIN, BEARER], ids=["password", "token"])
async def test_a_cluster(autojump_clock: object, record: Record, nursery: trio.Nursery, who: Trouble) -> None:
    settings = Settings(nodes=["s"], first_attempts=2, operation_timeout=3, **who)
    for said, _ in HOSTILE.values():
        await fail(record, settings, Web(nursery, {"s": said}).connect)
    slave = answer(gossip(("Slave", "n1", 1113)))
    for node in (
        OSError("gone"),
        [refusing(), refusing()],
        [refuse(Peer(), not_master("n1", 1113)) for _ in range(99)],
    ):
        await fail(record, settings, Web(nursery, {"s": slave}, {"n1": node}).connect)
    trio.socket.set_custom_hostname_resolver(Names(OSError("no resolver"), ["10.0.0.1"]))
    await fail(record, Settings(cluster_dns="es", first_attempts=2, **who), Web(nursery, {}).connect)
    assert record.failures == len(HOSTILE) + 4


async def test_a_real_node(autojump_clock: object, record: Record) -> None:
    async with open_node(port=None, version="3.9.4") as node:
        for who in (LOGIN, BEARER):
            await fail(record, Settings(host="h", first_attempts=1, **who), node.connect)
        try:
            async with open_admin(Settings(host="h", **LOGIN), connect=node.connect) as admin:
                record.add(admin)
                await admin.disable_user("nobody")
        except TrioExtremeError as error:
            record.failed(error)
    assert record.failures == 3


def test_settings(record: Record) -> None:
    for form in (
        f"redis://u:{PASSWORD}@h",
        f"eventstore://u:{PASSWORD}@h:x",
        f"eventstore://u:{PASSWORD}@h/path",
        f"eventstore://u:12?{PASSWORD}@h",
        f"eventstore://{PASSWORD}@[::1",
        f"eventstore+seeds://u:{PASSWORD}@h:x",
        f"eventstore+seeds://u:{PASSWORD}@,",
        f"eventstore+seeds://u:12,{PASSWORD}@h",
        f"eventstore+dns://u:{PASSWORD}@",
        f"eventstore://h?token={TOKEN}",
        f"ConnectTo=tcp://u:{PASSWORD}@h;Zzz=1",
        f"ConnectTo=tcp://u:{PASSWORD}@h:x",
        f"DefaultUserCredentials={PASSWORD}",
        f"GossipSeeds=u:{PASSWORD}@h",
        f"HeartbeatTimeout={PASSWORD}",
        f"Password={PASSWORD}",
    ):
        try:
            record.add(Settings.from_url(form))
        except TrioExtremeError as error:
            record.failed(error)
    for variables in ({"TRIO_EXTREME_PASSWORD": PASSWORD}, {"TRIO_EXTREME_PASSWROD": PASSWORD}):
        try:
            record.add(Settings.from_env(variables))
        except TrioExtremeError as error:
            record.failed(error)
    record.add(Settings(**LOGIN), Settings(nodes=["h"], **BEARER), Settings(**LOGIN).credentials)
    assert record.failures >= 15
