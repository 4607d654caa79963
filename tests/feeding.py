"""Feeds, as the tests of them open them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.answers import confirm
from tests.lost import asked
from tests.runs import frames_of
from trio_extreme.mailbox import Mailbox
from trio_extreme.operations.subscribing import Subscribe
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.peer import Peer
    from trio_extreme import Connection
    from trio_extreme.operations.subscribing import Confirmation

SUBSCRIBE, UNSUBSCRIBE = Command.SUBSCRIBE_TO_STREAM, Command.UNSUBSCRIBE_FROM_STREAM
CONFIRMATION = Command.SUBSCRIPTION_CONFIRMATION
APPEARED = Command.STREAM_EVENT_APPEARED

each_sort = pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])


class Feed:
    """An open feed."""

    def __init__(self, mailbox: Mailbox, confirmation: Confirmation, close: Callable[[], None]) -> None:
        self.mailbox = mailbox
        self.confirmation = confirmation
        self.close = close

    async def take(self) -> list[int]:
        """The commands of the frames that came."""
        return [frame[0] for frame in frames_of(await self.mailbox.take())]


async def open_feed(conn: Connection, *, lasting: bool = True, stream: str = "s", **options: Any) -> Feed:
    """Wait for its confirmation."""
    mailbox = Mailbox(100, 100_000, lambda: pytest.fail("it overflowed"))
    operation = Subscribe(stream, resolve_links=False)
    options.setdefault("credentials", None)
    confirmation, close = await conn._engine.feeds.open(operation, mailbox, lasting=lasting, **options)
    return Feed(mailbox, confirmation, close)


@asynccontextmanager
async def opened(conn: Connection, peer: Peer, *, lasting: bool = True) -> AsyncIterator[Feed]:
    """A feed that this peer has confirmed."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(confirm, peer)
        feed = await open_feed(conn, lasting=lasting)
    yield feed
    feed.close()


def commands(peer: Peer) -> list[int]:
    """All that came to a peer after the handshake."""
    return [request.command for request in asked(peer)]
