"""What the server pushes: opening it, and opening it again where it is meant to last.

A lasting feed is sent by each new session before anything else. Its consumer finds the confirmation between the events,
as the mark of a possible gap. One that does not last ends with its session, and its consumer begins anew.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from trio_extreme.calls import ASK_AGAIN_DELAY
from trio_extreme.errors import StreamDeleted, TrioExtremeError
from trio_extreme.pending import Interrupted, SubscriptionSlot, fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.calls import Calls
    from trio_extreme.line import Line
    from trio_extreme.mailbox import Inbox
    from trio_extreme.operations.subscribing import Confirmation, Subscribe
    from trio_extreme.values import Credentials


LONGEST_DELAY = 5.0
"""Seconds before a feed is opened again that the server ends each time as soon as it is open."""


class Feeds:
    """The feeds of one connection. While one is being opened it is a call; then it is none any more."""

    def __init__(self, calls: Calls, line: Line) -> None:
        self._calls = calls
        self._line = line
        # Each with the scope of whoever sees to its being opened again.
        self._lasting: dict[SubscriptionSlot, trio.CancelScope] = {}

    def __repr__(self) -> str:
        return f"<Feeds: {len(self._lasting)} lasting>"

    async def open(
        self,
        operation: Subscribe,
        mailbox: Inbox,
        credentials: Credentials | None,
        *,
        lasting: bool,
        deadline: float | None = None,
    ) -> tuple[Confirmation, Callable[[], None]]:
        """Open a feed: its confirmation, and what ends it. Cancelled or refused, nothing of it is left.

        A lasting one is opened again by each later session. The mailbox of another ends with `Interrupted`.
        """
        calls = self._calls
        slot = SubscriptionSlot(
            operation,
            calls.encode(credentials),
            calls.deadline() if deadline is None else deadline,
            mailbox,
            calls.door.leave,
            on_interrupted=self._interrupted if lasting else None,
        )
        await calls.enter(slot)
        try:
            confirmation = await calls.answer(slot)
        except BaseException:
            calls.abandon(slot)
            raise
        calls.release(slot)
        if lasting:
            self._lasting[slot] = trio.CancelScope()
        if slot.interrupted:
            self._open_again(slot)
        return confirmation, partial(self._close, slot)

    def connected(self) -> None:
        """There is a session: open again what lasts."""
        for slot in self._lasting:
            self._open_again(slot)

    def lose(self, slot: SubscriptionSlot, cause: TrioExtremeError) -> None:
        """The session that this feed was open in has ended."""
        if slot.lasting:
            slot.interrupt()
        else:
            slot.fail(Interrupted(cause))

    def end(self, error: TrioExtremeError) -> None:
        """There will be no session any more."""
        for slot in self._lasting:
            slot.mailbox.end(fresh(error))

    def _close(self, slot: SubscriptionSlot) -> None:
        opening = self._lasting.pop(slot, None)
        if opening is not None:
            opening.cancel()
        if slot in self._calls:
            self._calls.abandon(slot)
        else:
            self._line.forget(slot)

    def _interrupted(self, slot: SubscriptionSlot) -> None:
        """The server ended a lasting feed, as it does when it stops."""
        # Where the session is being left, the next one opens it.
        if slot in self._lasting and self._line.session is not None:
            self._line.begin(self._open_later, slot)

    async def _open_later(self, slot: SubscriptionSlot) -> None:
        # One that is ended each time as soon as it is open must not keep the server busy with that.
        await trio.sleep(min(LONGEST_DELAY, ASK_AGAIN_DELAY * 2 ** min(slot.drops - 1, 10)))
        if slot in self._lasting:
            self._open_again(slot)

    def _open_again(self, slot: SubscriptionSlot, patience: float | None = None) -> None:
        """Have a lasting feed confirmed anew, if there is a session: it is a call again.

        Until `patience` a refusal that may pass is none.
        """
        if self._line.session is None:
            return
        if slot in self._calls:
            # Whoever saw to it went with the last session, wherever they were.
            self._calls.abandon(slot)
        self._line.forget(slot)
        slot.deadline = inf
        self._calls.adopt(slot)
        self._lasting[slot] = trio.CancelScope()
        until = self._calls.deadline() if patience is None else patience
        self._line.begin(self._confirm, slot, self._lasting[slot], until)

    async def _confirm(self, slot: SubscriptionSlot, scope: trio.CancelScope, patience: float) -> None:  # noqa: ASYNC910 - answers are awaited
        """See a lasting feed through to its confirmation, or to the refusal that its consumer is told."""
        with scope:
            try:
                confirmation = await self._calls.answer(slot)
                if confirmation.is_of_deleted:
                    raise StreamDeleted(slot.stream)
            except TrioExtremeError as error:
                if isinstance(error, slot.operation.passing) and trio.current_time() < patience:
                    await trio.sleep(ASK_AGAIN_DELAY)
                    self._open_again(slot, patience)
                else:
                    self._close(slot)
                    slot.mailbox.end(error)
            else:
                if slot in self._calls:
                    self._calls.release(slot)
