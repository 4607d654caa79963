from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.embedded.talk import (
    ADMIN,
    Clock,
    Talk,
    append,
    delete,
    new_event,
    new_events,
    read_event,
    read_stream,
    subscribe,
    talk_to,
)
from trio_extreme.embedded import VERSIONS, User, open_node
from trio_extreme.errors import InvalidArgument
from trio_extreme.values import Credentials
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.wire.schema import ReadEventCompleted

FORWARD = Command.READ_STREAM_EVENTS_FORWARD


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_node_without_sockets_is_reached_through_connect(version: str, autojump_clock: None) -> None:
    async with open_node(port=None, version=version) as node:
        talk = await talk_to(node)
        reply = await talk.ask(Command.PING, b"echo")
        assert reply is not None
        assert reply.message == b"echo"
        assert node.version == VERSIONS[version].name
        assert repr(node) == f"<Node {node.version} at 127.0.0.1:1113, 1 connections>"


async def test_a_node_listens_on_a_free_port() -> None:
    async with open_node() as one, open_node() as other:
        assert one.port != other.port
        for node in (one, other):
            talk = Talk(await trio.open_tcp_stream(node.host, node.port))
            reply = await talk.ask(Command.PING, b"echo")
            assert reply is not None
            assert reply.message == b"echo"
            await talk.stream.aclose()


async def test_a_node_listens_where_it_is_told_to() -> None:
    async with open_node() as node:
        with pytest.raises(OSError, match="in use"):
            async with open_node(port=node.port):
                pass
        port = node.port
    async with open_node(port=port) as node:
        assert node.port == port


async def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="version"):
        async with open_node(version="4"):
            pass


async def test_settings_lead_to_the_node_as_admin() -> None:
    async with open_node() as node:
        settings = node.settings
        assert (settings.host, settings.port) == (node.host, node.port)
        assert (settings.username, settings.password) == ("admin", "changeit")


async def test_users_can_be_given(autojump_clock: None) -> None:
    users = {"jane": User("secret", ("$admins",)), "admin": User("other")}
    async with open_node(port=None, users=users) as node:
        assert node.settings.password == "other"
        talk = await talk_to(node)
        for credentials, accepted in (
            (Credentials("jane", "secret"), True),
            (Credentials("admin", "changeit"), False),
            (Credentials("admin", "other"), True),
            (Credentials("ops", "changeit"), True),
        ):
            reply = await talk.ask(Command.PING, b"x", credentials)
            assert reply is not None
            assert (reply.command == Command.PONG) is accepted


async def test_tokens_can_be_given(autojump_clock: None) -> None:
    users = {"jane": User("secret")}
    async with open_node(port=None, version="20.10", users=users, tokens={"a.b.c": "jane", "d.e.f": "admin"}) as node:
        talk = await talk_to(node)
        for token, answer in (("a.b.c", Command.PONG), ("d.e.f", Command.PONG), ("x", Command.NOT_AUTHENTICATED)):
            reply = await talk.ask(Command.PING, b"x", Credentials(token=token))
            assert reply is not None
            assert reply.command == answer


@pytest.mark.parametrize(
    ("version", "tokens", "text"),
    [
        ("5.0", {"sesame": "admin"}, r"a server 5\.0\.11 takes none; open the node with version='20\.10' or a later"),
        ("22.10", {"sesame": "jane"}, "one is that of 'jane', whom the node does not know: admin, ops"),
        ("22.10", {"sésame": "admin"}, "must be ASCII"),
    ],
)
async def test_tokens_that_a_node_cannot_take(version: str, tokens: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^token.*{text}") as info:
        async with open_node(port=None, version=version, tokens=tokens):
            pass
    assert "same" not in str(info.value)


async def test_connections_share_one_store(autojump_clock: None) -> None:
    async with open_node(port=None) as node:
        writer, reader = await talk_to(node), await talk_to(node)
        await reader.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
        await writer.ask(Command.WRITE_EVENTS, append("people", new_events(1)))
        pushed = await reader.hear()
        assert pushed is not None
        assert pushed.message.event.event == node.store.records("people")[0].event


async def test_a_closed_node_refuses_connections(autojump_clock: None) -> None:
    async with open_node(port=None) as node:
        pass
    with pytest.raises(ConnectionRefusedError):
        await node.connect(node.host, node.port)


async def test_the_calendar_decides_what_is_expired(autojump_clock: None) -> None:
    clock = Clock()
    async with open_node(port=None, now=clock) as node:
        talk = await talk_to(node)
        await talk.ask(Command.WRITE_EVENTS, append("people", new_events(1)))
        await talk.ask(Command.WRITE_EVENTS, append("$$people", [new_event("$metadata", b'{"$maxAge":9}')]))
        counts = []
        for _ in range(2):
            page = await talk.ask(FORWARD, read_stream("people"))
            assert page is not None
            counts.append(len(page.message.events))
            clock.seconds += 10
        assert counts == [1, 0]


async def test_the_same_chance_and_calendar_make_the_same_node(autojump_clock: None) -> None:
    async def metadata() -> ReadEventCompleted:
        async with open_node(port=None, now=Clock(), random=Random(7)) as node:
            talk = await talk_to(node)
            await talk.ask(Command.DELETE_STREAM, delete("people"))
            reply = await talk.ask(Command.READ_EVENT, read_event("$$people", -1), ADMIN)
            assert reply is not None
            message: ReadEventCompleted = reply.message
            return message

    first, second = await metadata(), await metadata()
    assert first == second
    assert first.event.event.data == b'{"$tb":9223372036854775807}'


# Leaving


async def test_leaving_ends_every_connection_and_every_task(autojump_clock: None) -> None:
    before = tasks()
    async with open_node(port=None) as node:
        talks = [await talk_to(node) for _ in range(3)]
        await talks[0].ask(Command.SUBSCRIBE_TO_STREAM, subscribe("people"))
    assert tasks() == before
    dropped = await talks[0].hear()
    assert dropped is not None
    assert dropped.command == Command.SUBSCRIPTION_DROPPED
    assert [await talk.hear() for talk in talks] == [None] * 3
    assert trio.current_time() < 0.1


async def test_leaving_does_not_wait_for_who_does_not_read(autojump_clock: None) -> None:
    before, start = tasks(), trio.current_time()
    async with open_node(port=None) as node:
        talk = await talk_to(node)
        await talk.ask(Command.WRITE_EVENTS, append("people", [new_event(data=bytes(1_000_000))]))
        await talk.tell(FORWARD, read_stream("people"))
        await wait_all_tasks_blocked()
    assert tasks() == before
    assert trio.current_time() - start == pytest.approx(0.5)


async def test_leaving_ends_connections_of_sockets() -> None:
    before = tasks()
    async with open_node() as node:
        talk = Talk(await trio.open_tcp_stream(node.host, node.port))
        await talk.ask(Command.PING)
    assert tasks() == before
    assert await talk.hear() is None
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(node.host, node.port)
    await talk.stream.aclose()


async def test_an_error_of_the_block_arrives_bare(autojump_clock: None) -> None:
    before = tasks()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the error belongs to the block
        async with open_node(port=None) as node:
            await talk_to(node)
            raise ZeroDivisionError
    assert tasks() == before


async def test_in_a_cancelled_block_the_node_lives_until_it_is_left(autojump_clock: None) -> None:
    before = tasks()
    with trio.move_on_after(1) as scope:
        async with open_node(port=None) as node:
            talk = await talk_to(node)
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    reply = await talk.ask(Command.PING)
                    assert reply is not None
                    assert reply.command == Command.PONG
    assert scope.cancelled_caught
    assert tasks() == before


async def test_a_cancelled_opening_leaves_nothing() -> None:
    before = tasks()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_node():
            pytest.fail("it was cancelled")
    assert tasks() == before


async def test_a_bug_arrives_bare_where_the_node_was_opened(
    autojump_clock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the error belongs to the block
        async with open_node(port=None) as node:
            monkeypatch.setattr(node._service, "receive", lambda *_: 1 // 0)
            talk = await talk_to(node)
            await talk.tell(Command.PING)
            await trio.sleep_forever()
