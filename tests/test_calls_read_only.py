"""Connections that cannot write: what could change something is refused before anything is sent."""

from __future__ import annotations

import pytest
import trio

from tests.kinds import KINDS, Kind, of_kind, ready
from tests.lost import MUCH_LATER, lose, open_over
from tests.peer import ANONYMOUS, Peer, open_to
from trio_extreme import ReadOnly
from trio_extreme.operations.base import Resend
from trio_extreme.wire.commands import HARMLESS, READS

pytestmark = pytest.mark.usefixtures("autojump_clock")

READ_ONLY = ANONYMOUS.replace(read_only=True)
CHANGING = [kind for kind in KINDS if kind.command not in HARMLESS]
OTHERS = [kind for kind in KINDS if kind.command in HARMLESS]


@pytest.mark.parametrize("kind", CHANGING, ids=str)
async def test_what_could_change_something(kind: Kind) -> None:
    peer = Peer()
    async with open_to(peer, READ_ONLY) as conn:
        with pytest.raises(ReadOnly, match="nothing was sent"):
            await kind.verb(conn)
    assert peer.commands() == []


@pytest.mark.parametrize("kind", OTHERS, ids=str)
async def test_what_changes_nothing(kind: Kind) -> None:
    peer = ready(kind)
    async with open_to(peer, READ_ONLY) as conn:
        await kind.verb(conn)
    assert of_kind(peer, kind)


@pytest.mark.parametrize("kind", CHANGING, ids=str)
async def test_offline_it_is_not_waited_for(kind: Kind) -> None:
    peer = Peer()
    async with open_over(peer, settings=MUCH_LATER.replace(read_only=True)) as conn:
        await lose(peer)
        with pytest.raises(ReadOnly):
            await kind.verb(conn)
        assert trio.current_time() == 0


async def test_a_transaction_that_was_begun_elsewhere() -> None:
    """It is not even entered, though entering asks nothing."""
    peer = Peer()
    async with open_to(peer, READ_ONLY) as conn:
        with pytest.raises(ReadOnly):
            async with conn.continue_transaction(7):
                pytest.fail("it was entered")


def test_both_are_told_apart() -> None:
    """By every request of ours: what changes nothing may be asked again, and hardly anything else."""
    assert {kind.command for kind in OTHERS if kind.resend is not Resend.AGAIN} == set()
    again = {kind.name for kind in CHANGING if kind.resend is Resend.AGAIN}
    assert again == {"begin a transaction"}
    assert READS < HARMLESS
