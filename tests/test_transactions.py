"""The block of a transaction: what it sends and when, how it ends, and what may be written to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.answers import Written, committed, not_committed
from tests.helpers import new_events
from tests.kinds import ADDED, COMMITTED, NO_STREAM_YET, READ_BACKWARD, STARTED
from tests.lost import AT_ONCE, MUCH_LATER, answer_all, asked, block_writer, lose, open_over, settle
from tests.peer import ANONYMOUS, Call, Network, Peer, open_to
from tests.serving import OPS
from trio_extreme import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AccessDenied,
    BadRequest,
    Connection,
    ConnectionClosed,
    FrameTooLarge,
    InvalidArgument,
    InvalidTransaction,
    NewEvent,
    OperationTimedOut,
    OutcomeUnknown,
    Position,
    StreamDeleted,
    Transaction,
    TrioExtremeError,
    WriteResult,
    WrongExpectedVersion,
    open_connection,
)
from trio_extreme.client import serve
from trio_extreme.engine import Engine
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.usefixtures("autojump_clock")

START, WRITE, COMMIT = Command.TRANSACTION_START, Command.TRANSACTION_WRITE, Command.TRANSACTION_COMMIT
TWO = new_events(2)


def willing(commit: Any = COMMITTED[1]) -> Peer:
    """A server that does what it is asked for."""
    peer = Peer()
    answer_all(peer, START, STARTED)
    answer_all(peer, WRITE, ADDED)
    answer_all(peer, COMMIT, (COMMITTED[0], commit))
    return peer


async def write_two(conn: Connection, expected: int = 3) -> Transaction:
    async with conn.transaction("s", expected=expected) as tx:
        await tx.write(TWO)
    return tx


# --- a block that ends well


async def test_events_are_gathered_and_committed() -> None:
    peer = willing(committed(4, 6))
    async with open_to(peer) as conn:
        async with conn.transaction("s", expected=3) as tx:
            assert tx.id == 7
            await tx.write(TWO[0])
            assert tx.result is None
            await tx.write(iter([TWO[1], NewEvent("t")]))
            assert peer.commands() == [START, WRITE, WRITE]
        assert tx.result == WriteResult(4, 6, Position(9, 9))
    start, first, second, commit = [request.message for request in asked(peer)]
    assert start == schema.TransactionStart(event_stream_id="s", expected_version=3, require_master=True)
    assert isinstance(first, schema.TransactionWrite)
    assert isinstance(second, schema.TransactionWrite)
    assert [first.transaction_id, second.transaction_id] == [7, 7]
    assert [len(first.events), len(second.events)] == [1, 2]
    assert commit == schema.TransactionCommit(transaction_id=7, require_master=True)


async def test_options_go_with_every_request() -> None:
    peer = willing()
    async with open_to(peer) as conn:
        async with conn.transaction("s", expected=ANY, require_master=False, credentials=OPS) as tx:
            await tx.write(TWO)
        async with conn.continue_transaction(7, require_master=False, credentials=OPS) as tx:
            await tx.write(TWO)
    messages: list[Any] = [request.message for request in asked(peer)]
    assert [message.require_master for message in messages] == [False] * 5
    assert {request.credentials for request in asked(peer)} == {OPS}


async def test_a_transaction_that_was_begun_elsewhere() -> None:
    """Entering asks nothing, and is a checkpoint all the same."""
    peer = willing()
    async with open_to(peer) as conn:
        tx = conn.continue_transaction(7)
        assert tx.id == 7
        with trio.testing.assert_checkpoints():
            await tx.__aenter__()
        assert peer.commands() == []
        await tx.write(TWO)
        await tx.__aexit__(None, None, None)
        assert tx.result == WriteResult(4, 5, Position(9, 9))
    assert peer.commands() == [WRITE, COMMIT]


async def test_nothing_at_all_can_be_committed() -> None:
    """A version is checked, and that may be all that is wanted."""
    peer = willing(committed(3, 2))
    async with open_to(peer) as conn:
        async with conn.transaction("s", expected=NO_STREAM) as tx:
            await tx.write([])
        assert tx.result is not None
        assert (tx.result.first, tx.result.last) == (3, 2)
    assert peer.commands() == [START, WRITE, COMMIT]


async def test_leaving_early_is_a_normal_end() -> None:
    async def leave(conn: Connection) -> None:
        async with conn.transaction("s", expected=3) as tx:
            await tx.write(TWO)
            return

    peer = willing()
    async with open_to(peer) as conn:
        await leave(conn)
    assert peer.commands()[-1] == COMMIT


async def test_what_it_looks_like() -> None:
    async with open_to(willing()) as conn:
        tx = conn.transaction("s", expected=3)
        assert repr(tx) == "<Transaction None on stream 's': 0 events written>"
        async with tx:
            await tx.write(TWO)
            assert repr(tx) == "<Transaction 7 on stream 's': 2 events written>"
        assert repr(conn.continue_transaction(9)) == "<Transaction 9: 0 events written>"


# --- a block that does not


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), GeneratorExit()])
async def test_an_error_commits_nothing(error: BaseException) -> None:
    peer = willing()
    async with open_to(peer) as conn:
        tx = conn.transaction("s", expected=3)
        with pytest.raises(type(error)) as caught:
            await write_and_raise(tx, error)
        assert caught.value is error
        assert tx.result is None
    assert peer.commands() == [START, WRITE]


async def write_and_raise(tx: Transaction, error: BaseException) -> None:
    async with tx:
        await tx.write(TWO)
        raise error


async def test_a_cancellation_commits_nothing() -> None:
    """Though the last write was answered."""
    peer = willing()
    async with open_to(peer) as conn:
        with trio.move_on_after(5) as scope:
            async with conn.transaction("s", expected=3) as tx:
                await tx.write(TWO)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert tx.result is None
    assert peer.commands() == [START, WRITE]


async def test_a_cancelled_scope_inside_is_the_blocks_own_business() -> None:
    peer = willing()
    async with open_to(peer) as conn, conn.transaction("s", expected=3) as tx:
        with trio.move_on_after(5):
            await trio.sleep_forever()
        await tx.write(TWO)
    assert peer.commands() == [START, WRITE, COMMIT]


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (Written.WrongExpectedVersion, WrongExpectedVersion),
        (Written.StreamDeleted, StreamDeleted),
        (Written.AccessDenied, AccessDenied),
        (Written.InvalidTransaction, InvalidTransaction),
    ],
)
@pytest.mark.parametrize("expected", [3, NO_STREAM, ANY, None])
async def test_a_refusal_is_raised_bare_at_the_end(
    result: int, error: type[TrioExtremeError], expected: int | None
) -> None:
    peer = willing(not_committed(result))
    async with open_to(peer) as conn:
        tx = conn.continue_transaction(7) if expected is None else conn.transaction("s", expected=expected)
        with pytest.raises(error):
            async with tx:
                await tx.write(TWO)
        assert tx.result is None
    assert peer.commands()[-2:] == [WRITE, COMMIT]


async def test_it_cannot_be_begun() -> None:
    peer = Peer()
    refused = schema.TransactionStartCompleted(transaction_id=-1, result=Written.AccessDenied)
    answer_all(peer, START, (START + 1, refused))
    async with open_to(peer) as conn:
        with pytest.raises(AccessDenied, match="may not write to stream 's'"):
            async with conn.transaction("s", expected=3):
                pytest.fail("it was entered")
    assert peer.commands() == [START]


# --- what may not be done with it


@pytest.mark.parametrize("id", [-1, 2**63, 1.5, "7", None, True])
async def test_ids_that_are_none(id: Any) -> None:
    async with open_to(Peer()) as conn:
        with pytest.raises(InvalidArgument, match=f"id: {id!r} is no transaction's"):
            conn.continue_transaction(id)


async def test_what_cannot_be_expected() -> None:
    """Servers answer BadRequest to this one: pitfall 26."""
    async with open_to(Peer()) as conn:
        with pytest.raises(InvalidArgument, match=r"expected: .* or ANY, NO_STREAM"):
            conn.transaction("s", expected=STREAM_EXISTS)
        with pytest.raises(InvalidArgument, match="stream: ''"):
            conn.transaction("", expected=ANY)


async def test_what_cannot_be_written_was_not() -> None:
    """Nothing is in doubt: what is good is committed."""
    peer = willing()
    async with open_to(peer, ANONYMOUS.replace(max_frame_size=1024)) as conn:
        async with conn.transaction("s", expected=3) as tx:
            with pytest.raises(InvalidArgument, match="events: str is no event"):
                await tx.write("text")  # type: ignore[arg-type]
            with pytest.raises(FrameTooLarge):
                await tx.write(NewEvent("t", bytes(2000)))
            await tx.write(TWO)
        assert tx.result is not None
    assert peer.commands() == [START, WRITE, COMMIT]


async def test_outside_its_block() -> None:
    peer = willing()
    async with open_to(peer) as conn:
        tx = conn.transaction("s", expected=3)
        with pytest.raises(RuntimeError, match="inside its block"):
            await tx.write(TWO)
        with pytest.raises(RuntimeError, match="once its block was entered"):
            _ = tx.id
        async with tx:
            await tx.write(TWO)
        with pytest.raises(InvalidTransaction, match="its block was left"):
            await tx.write(TWO)
        with pytest.raises(RuntimeError, match="entered once"):
            await tx.__aenter__()
    assert peer.commands() == [START, WRITE, COMMIT]


async def test_left_by_an_error_it_takes_no_more() -> None:
    async with open_to(willing()) as conn:
        tx = conn.transaction("s", expected=3)
        with pytest.raises(KeyError):
            await write_and_raise(tx, KeyError())
        with pytest.raises(InvalidTransaction, match="its block was left"):
            await tx.write(TWO)


async def test_two_tasks_cannot_write_at_once(nursery: trio.Nursery) -> None:
    """The order of the events would be chance."""
    peer = willing()
    del peer.handlers[WRITE]
    async with open_to(peer) as conn:
        async with conn.transaction("s", expected=3) as tx:
            first = Call(nursery, tx.write, TWO[0])
            request = await peer.receive(WRITE)
            with pytest.raises(trio.BusyResourceError, match="another task is writing"):
                await tx.write(TWO[1])
            peer.send(ADDED[0], request.correlation, ADDED[1])
            await first.value()
            answer_all(peer, WRITE, ADDED)
            await tx.write(TWO[1])
        assert tx.result is not None
    assert peer.commands() == [START, WRITE, WRITE, COMMIT]


async def test_it_cannot_end_while_another_task_writes(nursery: trio.Nursery) -> None:
    peer = willing()
    del peer.handlers[WRITE]
    async with open_to(peer) as conn:
        tx = await conn.transaction("s", expected=3).__aenter__()
        writing = Call(nursery, tx.write, TWO)
        request = await peer.receive(WRITE)
        with pytest.raises(trio.BusyResourceError, match="another task is writing"):
            await tx.__aexit__(None, None, None)
        peer.send(ADDED[0], request.correlation, ADDED[1])
        await writing.value()
        assert tx.result is None
    assert peer.commands() == [START, WRITE]


# --- what is not known to be in it


async def lose_the_session(peer: Peer) -> None:
    await lose(peer)


async def say_nothing(_: Peer) -> None:
    await trio.sleep(AT_ONCE.attempt_timeout + 0.1)


async def not_agree(peer: Peer) -> None:
    (request,) = peer.log[-1:]
    answer = schema.TransactionWriteCompleted(transaction_id=7, result=Written.CommitTimeout)
    peer.send(ADDED[0], request.correlation, answer)


@pytest.mark.parametrize("trouble", [lose_the_session, say_nothing, not_agree])
async def test_a_write_without_an_answer_is_never_committed(
    trouble: Callable[[Peer], Awaitable[None]], nursery: trio.Nursery
) -> None:
    """It is not sent again either: it may be there. Who handles the error cannot mend that."""
    peer = willing()
    del peer.handlers[WRITE]
    peers = (peer, willing()) if trouble is lose_the_session else (peer,)
    async with open_over(*peers) as conn:
        tx = await conn.transaction("s", expected=3).__aenter__()
        writing = Call(nursery, tx.write, TWO)
        await peer.receive(WRITE)
        await trouble(peer)
        unknown = await writing.error()
        assert isinstance(unknown, OutcomeUnknown)
        assert unknown.event_ids == tuple(event.id for event in TWO)
        with pytest.raises(InvalidTransaction, match="got no answer, so that nobody knows what it holds"):
            await tx.write(TWO)
        with pytest.raises(InvalidTransaction, match="begin another"):
            await tx.__aexit__(None, None, None)
        assert tx.result is None
    assert [request.command for peer in peers for request in asked(peer)] == [START, WRITE]


async def test_an_unknown_outcome_leaves_the_block_as_itself(nursery: trio.Nursery) -> None:
    peer = willing()
    del peer.handlers[WRITE]
    async with open_over(peer, willing()) as conn:
        call = Call(nursery, write_two, conn)
        await peer.receive(WRITE)
        await lose(peer)
        assert isinstance(await call.error(), OutcomeUnknown)


async def test_a_cancelled_write_is_never_committed() -> None:
    peer = willing()
    peer.handlers[WRITE] = lambda request: None
    async with open_to(peer) as conn:
        tx = await conn.transaction("s", expected=3).__aenter__()
        with trio.move_on_after(1):
            await tx.write(TWO)
        with pytest.raises(InvalidTransaction, match="a write to it was cancelled"):
            await tx.__aexit__(None, None, None)
    assert peer.commands() == [START, WRITE]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((Command.BAD_REQUEST, b"what?"), BadRequest),
        ((WRITE + 1, schema.TransactionWriteCompleted(result=Written.AccessDenied)), AccessDenied),
    ],
)
async def test_a_refused_write_added_nothing(answer: Any, error: type[Exception]) -> None:
    peer = willing()
    async with open_to(peer) as conn:
        async with conn.transaction("s", expected=3) as tx:
            answer_all(peer, WRITE, answer)
            with pytest.raises(error):
                await tx.write(new_events(5))
            answer_all(peer, WRITE, ADDED)
            await tx.write(TWO)
        assert tx.result == WriteResult(4, 5, Position(9, 9))


async def test_a_write_that_was_never_sent_added_nothing(nursery: trio.Nursery) -> None:
    peer, second = willing(), willing()
    settings = AT_ONCE.replace(operation_timeout=10, heartbeat_timeout=100)
    async with open_over(peer, second, settings=settings) as conn, conn.transaction("s", expected=3) as tx:
        await block_writer(peer)
        writing = Call(nursery, tx.write, TWO)
        assert isinstance(await writing.error(), OperationTimedOut)
        await lose(peer)
        await tx.write(TWO)
    assert [request.command for request in asked(second)] == [WRITE, COMMIT]


# --- over several sessions


async def test_it_goes_on_in_a_later_session() -> None:
    peer, second = willing(), willing()
    async with open_over(peer, second) as conn:
        async with conn.transaction("s", expected=3) as tx:
            await tx.write(TWO[0])
            await lose(peer)
            await tx.write(TWO[1])
        assert tx.result == WriteResult(4, 5, Position(9, 9))
    assert [request.command for request in asked(peer)] == [START, WRITE]
    assert [request.command for request in asked(second)] == [WRITE, COMMIT]


async def test_begun_twice_it_has_the_later_id(nursery: trio.Nursery) -> None:
    """The answer to the first may come or not: nobody will ever see that one."""
    peer, second = Peer(), willing()
    async with open_over(peer, second) as conn:
        call = Call(nursery, write_two, conn)
        await peer.receive(START)
        await lose(peer)
        tx = await call.value()
        assert tx.id == 7
    assert [request.command for request in asked(second)] == [START, WRITE, COMMIT]


@pytest.mark.parametrize(
    ("expected", "again"), [(3, [COMMIT]), (NO_STREAM, [READ_BACKWARD, COMMIT]), (ANY, []), (None, [])]
)
async def test_a_commit_without_an_answer(expected: int | None, again: list[int], nursery: trio.Nursery) -> None:
    """What protects it decides. Its ids are those of all writes."""

    async def run() -> Transaction:
        tx = conn.continue_transaction(7) if expected is None else conn.transaction("s", expected=expected)
        async with tx:
            await tx.write(TWO[0])
            await tx.write(TWO[1])
        return tx

    peer, second = willing(), willing()
    del peer.handlers[COMMIT]
    answer_all(second, READ_BACKWARD, NO_STREAM_YET)
    async with open_over(peer, second) as conn:
        call = Call(nursery, run)
        await peer.receive(COMMIT)
        await lose(peer)
        if again:
            assert (await call.value()).result == WriteResult(4, 5, Position(9, 9))
        else:
            unknown = await call.error()
            assert isinstance(unknown, OutcomeUnknown)
            assert unknown.event_ids == tuple(event.id for event in TWO)
        await conn.ping()
    assert [request.command for request in asked(second) if request.command != Command.PING] == again


def events_page(*found: tuple[int, bytes], created: float) -> schema.ReadStreamEventsCompleted:
    """A page of the stream, backwards from 6: numbers and ids of its events, all of them written at this time."""
    ticks = 621_355_968_000_000_000 + int(created * 10_000_000)
    events = [
        schema.EventRecord(event_stream_id="s", event_number=number, event_id=event_id, event_type="t", created=ticks)
        for number, event_id in found
    ]
    return schema.ReadStreamEventsCompleted(
        events=[schema.ResolvedIndexedEvent(event=event) for event in events],
        next_event_number=found[-1][0] - 1,
        last_event_number=6,
    )


async def test_events_are_as_old_as_their_write(nursery: trio.Nursery) -> None:
    """They are looked for as far back as the transaction was begun, which may be long before its commit.

    Servers date an event when it is written to the transaction. So are those of somebody else's, which lie above.
    """
    noon = 1_700_000_000.0
    peer, second = willing(), Peer()
    del peer.handlers[COMMIT]
    pages = [
        events_page((6, bytes(range(16))), created=noon + 100),
        events_page((5, TWO[1].id_bytes), (4, TWO[0].id_bytes), created=noon),
    ]
    second.handlers[READ_BACKWARD] = lambda request: second.send(READ_BACKWARD + 1, request.correlation, pages.pop(0))

    async def run() -> Transaction:
        async with conn.transaction("s", expected=NO_STREAM) as tx:
            await tx.write(TWO)
            await trio.sleep(1000)
        return tx

    started = trio.current_time()
    engine = Engine(AT_ONCE, Network(peer, second).connect, now=lambda: noon + trio.current_time() - started)
    async with serve(engine) as conn:
        call = Call(nursery, run)
        await peer.receive(COMMIT)
        await lose(peer)
        assert (await call.value()).result == WriteResult(4, 5, None)
    assert [request.command for request in asked(second)] == [READ_BACKWARD, READ_BACKWARD]


async def test_a_server_that_lost_what_it_had_acknowledged() -> None:
    """Servers up to 5.0 acknowledge first, and one that is killed has not stored it: pitfall 52."""
    async with open_to(willing(committed(4, 4))) as conn:
        with pytest.raises(OutcomeUnknown, match="1 of 2 events were committed") as caught:
            await write_two(conn)
        assert caught.value.event_ids == tuple(event.id for event in TWO)


async def test_others_may_have_written_to_it_too() -> None:
    async with open_to(willing(committed(4, 9))) as conn:
        tx = await write_two(conn)
        assert tx.result == WriteResult(4, 9, Position(9, 9))


async def test_the_connection_is_left_before_the_transaction() -> None:
    peer = willing()
    async with open_connection(MUCH_LATER, connect=peer.connect) as conn:
        tx = conn.transaction("s", expected=3)
        await tx.__aenter__()
    with pytest.raises(ConnectionClosed):
        await tx.write(TWO)
    with pytest.raises(ConnectionClosed):
        await tx.__aexit__(None, None, None)


async def test_cancelled_while_it_is_committed() -> None:
    peer = willing()
    peer.handlers[COMMIT] = lambda request: None
    async with open_to(peer) as conn:
        with trio.move_on_after(1) as scope:
            async with conn.transaction("s", expected=3) as tx:
                await tx.write(TWO)
        assert scope.cancelled_caught
        assert tx.result is None
        await settle()
    assert peer.commands() == [START, WRITE, COMMIT]
