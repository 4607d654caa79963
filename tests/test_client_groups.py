"""Creating, updating and deleting groups through a connection: what is sent, what comes of it, and what of a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.kinds import CREATE_GROUP, GroupResult, group_created
from tests.lost import AT_ONCE, answer_all, lose, open_over, settle
from tests.peer import ANONYMOUS, Call, Peer, open_to
from trio_extreme import (
    AccessDenied,
    BadRequest,
    Credentials,
    GroupExists,
    GroupNotFound,
    InvalidArgument,
    OutcomeUnknown,
    PersistentSettings,
)
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme import Connection

pytestmark = pytest.mark.usefixtures("autojump_clock")

CREATED = CREATE_GROUP + 1
UPDATE_GROUP, UPDATED = Command.UPDATE_PERSISTENT_SUBSCRIPTION, Command.UPDATE_PERSISTENT_SUBSCRIPTION_COMPLETED
DELETE_GROUP, DELETED = Command.DELETE_PERSISTENT_SUBSCRIPTION, Command.DELETE_PERSISTENT_SUBSCRIPTION_COMPLETED
Changed = schema.UpdatePersistentSubscriptionCompleted.UpdatePersistentSubscriptionResult
EXISTS = group_created(GroupResult.AlreadyExists, "Group 'g' already exists.")


def changed(result: int, reason: str = "") -> tuple[int, Any]:
    return UPDATED, schema.UpdatePersistentSubscriptionCompleted(result=result, reason=reason)


SETTINGS = PersistentSettings(max_retry_count=2)
OPS = Credentials("ops", "secret")


async def test_what_is_sent() -> None:
    peer = Peer()
    answer_all(peer, CREATE_GROUP, group_created(GroupResult.Success))
    answer_all(peer, UPDATE_GROUP, (UPDATED, b""))
    answer_all(peer, DELETE_GROUP, (DELETED, b""))
    async with open_to(peer) as conn:
        await conn.create_persistent("s", "g", SETTINGS, credentials=OPS)
        await conn.update_persistent("s", "g", SETTINGS, credentials=OPS)
        await conn.delete_persistent("s", "g", credentials=OPS)
        await conn.create_persistent("s", "g")
    create, update, delete, plain = [request for request in peer.log if request.command >= CREATE_GROUP][1:]
    messages: list[Any] = [create.message, update.message, delete.message, plain.message]
    assert [(message.event_stream_id, message.subscription_group_name) for message in messages] == [("s", "g")] * 4
    assert [messages[index].max_retry_count for index in (0, 1, 3)] == [2, 2, 10]
    assert [request.credentials for request in (create, update, delete, plain)] == [OPS, OPS, OPS, None]


async def test_a_group_that_exists() -> None:
    """With the server's own words."""
    peer = Peer()
    answer_all(peer, CREATE_GROUP, EXISTS)
    async with open_to(peer) as conn:
        with pytest.raises(GroupExists, match=r"Group 'g' already exists\."):
            await conn.create_persistent("s", "g")


async def test_a_group_that_does_not_exist() -> None:
    peer = Peer()
    answer_all(peer, UPDATE_GROUP, changed(Changed.DoesNotExist, "Group 'g' does not exist."))
    missing = schema.DeletePersistentSubscriptionCompleted(result=1, reason="Group 'g' does not exist.")
    answer_all(peer, DELETE_GROUP, (DELETED, missing))
    async with open_to(peer) as conn:
        for verb in (lambda: conn.update_persistent("s", "g", SETTINGS), lambda: conn.delete_persistent("s", "g")):
            with pytest.raises(GroupNotFound, match=r"Group 'g' does not exist\."):
                await verb()


async def test_a_place_that_32_bits_cannot_say() -> None:
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(protocol_version=3)) as conn:
        for verb in (conn.create_persistent, conn.update_persistent, conn.ensure_persistent):
            with pytest.raises(InvalidArgument, match="start_from: 2147483647 is beyond"):
                await verb("s", "g", PersistentSettings(start_from=2**31 - 1))
    assert peer.commands() == []


# --- a group that is to be there


async def test_a_group_that_was_not_there() -> None:
    peer = Peer()
    answer_all(peer, CREATE_GROUP, group_created(GroupResult.Success))
    async with open_to(peer) as conn:
        for update in (False, True):
            assert await conn.ensure_persistent("s", "g", SETTINGS, update=update, credentials=OPS) is True
    assert peer.commands() == [CREATE_GROUP, CREATE_GROUP]
    assert {request.credentials for request in peer.log if request.command == CREATE_GROUP} == {OPS}


async def test_a_group_that_was_there() -> None:
    peer = Peer()
    answer_all(peer, CREATE_GROUP, EXISTS)
    answer_all(peer, UPDATE_GROUP, changed(Changed.Success))
    async with open_to(peer) as conn:
        assert await conn.ensure_persistent("s", "g", SETTINGS, credentials=OPS) is False
        assert peer.commands() == [CREATE_GROUP]
        assert await conn.ensure_persistent("s", "g", SETTINGS, update=True, credentials=OPS) is False
    assert peer.commands() == [CREATE_GROUP, CREATE_GROUP, UPDATE_GROUP]
    update: Any = peer.log[-1]
    assert (update.message.max_retry_count, update.credentials) == (2, OPS)


async def test_a_group_that_goes_while_it_is_updated(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        ensuring = Call(nursery, conn.ensure_persistent, "s", "g", update=True)
        for command, answer in (
            (CREATE_GROUP, EXISTS),
            (UPDATE_GROUP, changed(Changed.DoesNotExist)),
            (CREATE_GROUP, group_created(GroupResult.Success)),
        ):
            request = await peer.receive(command)
            peer.send(answer[0], request.correlation, answer[1])
        assert await ensuring.value() is True


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (group_created(GroupResult.AccessDenied), AccessDenied),
        (group_created(GroupResult.Fail, "Bad stream name."), BadRequest),
    ],
)
async def test_a_group_that_cannot_be(answer: tuple[int, Any], error: type[Exception]) -> None:
    peer = Peer()
    answer_all(peer, CREATE_GROUP, answer)
    async with open_to(peer) as conn:
        with pytest.raises(error):
            await conn.ensure_persistent("s", "g", update=True)
    assert peer.commands() == [CREATE_GROUP]


async def test_all_of_it_has_the_deadline_of_one_call(nursery: trio.Nursery) -> None:
    """And nobody can tell whether it was updated."""
    peer = Peer()
    async with open_to(peer, ANONYMOUS.replace(operation_timeout=10, attempt_timeout=20)) as conn:
        ensuring = Call(nursery, conn.ensure_persistent, "s", "g", update=True)
        request = await peer.receive(CREATE_GROUP)
        await trio.sleep(6)
        peer.send(EXISTS[0], request.correlation, EXISTS[1])
        await peer.receive(UPDATE_GROUP)
        assert isinstance(await ensuring.error(), OutcomeUnknown)
        assert trio.current_time() == pytest.approx(10)


# --- lost


async def test_an_update_is_sent_again_by_who_wants_the_group_so_in_the_end(nursery: trio.Nursery) -> None:
    peer, second = Peer(), Peer()
    answer_all(peer, CREATE_GROUP, EXISTS)
    answer_all(second, UPDATE_GROUP, changed(Changed.Success))
    async with open_over(peer, second) as conn:
        ensuring = Call(nursery, conn.ensure_persistent, "s", "g", SETTINGS, update=True)
        request = await peer.receive(UPDATE_GROUP)
        await lose(peer)
        assert await ensuring.value() is False
    assert [again.payload for again in second.log if again.command == UPDATE_GROUP] == [request.payload]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        # It may have been allowed when the first attempt came.
        (group_created(GroupResult.AccessDenied), OutcomeUnknown),
        # What is wrong with the settings was so then too.
        (group_created(GroupResult.Fail, "Bad stream name."), BadRequest),
    ],
)
async def test_a_refusal_of_the_second_attempt(
    answer: tuple[int, Any], error: type[Exception], nursery: trio.Nursery
) -> None:
    peer, second = Peer(), Peer()
    answer_all(second, CREATE_GROUP, answer)
    async with open_over(peer, second) as conn:
        ensuring = Call(nursery, conn.ensure_persistent, "s", "g")
        await peer.receive(CREATE_GROUP)
        await lose(peer)
        assert type(await ensuring.error()) is error


async def test_a_refusal_of_what_was_sent_once_is_what_it_says(nursery: trio.Nursery) -> None:
    """Not handled is as good as not sent: what is refused after it was never carried out."""
    peer = Peer()
    async with open_over(peer) as conn:
        creating = Call(nursery, conn.create_persistent, "s", "g")
        request = await peer.receive(CREATE_GROUP)
        peer.send(Command.NOT_HANDLED, request.correlation, schema.NotHandled())
        request = await peer.receive(CREATE_GROUP)
        peer.send(EXISTS[0], request.correlation, EXISTS[1])
        assert isinstance(await creating.error(), GroupExists)


VERBS: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "create": lambda conn: conn.create_persistent("s", "g"),
    "update": lambda conn: conn.update_persistent("s", "g", SETTINGS),
    "delete": lambda conn: conn.delete_persistent("s", "g"),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_server_that_does_not_answer_yet(verb: str, nursery: trio.Nursery) -> None:
    """As one that has just become the master: pitfall 45. Nobody can tell, and it is not asked again."""
    peer = Peer()
    async with open_over(peer) as conn:
        call = Call(nursery, VERBS[verb], conn)
        assert isinstance(await call.error(), OutcomeUnknown)
        assert trio.current_time() == pytest.approx(AT_ONCE.attempt_timeout)
    assert len(peer.commands()) == 1


async def test_a_server_that_does_not_answer_yet_is_asked_again_for_a_group_in_the_end(nursery: trio.Nursery) -> None:
    peer = Peer()
    async with open_over(peer) as conn:
        ensuring = Call(nursery, conn.ensure_persistent, "s", "g")
        await peer.receive(CREATE_GROUP)
        request = await peer.receive(CREATE_GROUP)
        assert trio.current_time() == pytest.approx(AT_ONCE.attempt_timeout)
        peer.send(EXISTS[0], request.correlation, EXISTS[1])
        assert await ensuring.value() is False


@pytest.mark.parametrize("verb", VERBS)
async def test_cancelled_before_it_was_sent(verb: str) -> None:
    peer = Peer()
    async with open_to(peer) as conn:
        for _ in range(10):
            with trio.CancelScope() as scope:
                scope.cancel()
                await VERBS[verb](conn)
            assert scope.cancelled_caught
        await settle()
    assert peer.commands() == []
