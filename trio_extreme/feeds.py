"""What the server pushes: opening it, and opening it again where it is meant to last.

A lasting feed is sent by each new session before anything else. Its consumer finds the confirmation between the events,
as the mark of a possible gap. One that does not last ends with its session, and its consumer begins anew.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_extreme.calls import ASK_AGAIN_DELAY
from trio_extreme.errors import ProtocolError, StreamDeleted, TrioExtremeError
from trio_extreme.operations.base import AskAgain
from trio_extreme.pending import Interrupted, SubscriptionSlot, fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.calls import Calls
    from trio_extreme.connecting import Backoff
    from trio_extreme.line import Line
    from trio_extreme.mailbox import Mailbox
    from trio_extreme.operations.subscribing import Confirmation, Subscribe
    from trio_extreme.values import Credentials


class Feeds:
    """The feeds of one connection."""

    def __init__(self, calls: Calls, line: Line, backoff: Callable[[], Backoff]) -> None:
        self._calls = calls
        self._line = line
        self._backoff = backoff
        self._lasting: dict[SubscriptionSlot, None] = {}

    def __repr__(self) -> str:
        return f"<Feeds: {len(self._lasting)} lasting>"

    async def open(
        self,
        operation: Subscribe,
        mailbox: Mailbox,
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
            self._lasting[slot] = None
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
            slot.interrupted = True
        else:
            slot.fail(Interrupted(cause))

    def end(self, error: TrioExtremeError) -> None:
        """There will be no session any more."""
        for slot in self._lasting:
            slot.mailbox.end(fresh(error))

    def _close(self, slot: SubscriptionSlot) -> None:
        self._lasting.pop(slot, None)
        self._line.forget(slot)
        slot.leave()
        # Whoever is opening it again may stop.
        slot.event.set()

    def _interrupted(self, slot: SubscriptionSlot) -> None:
        """The server ended a lasting feed, as it does when it stops."""
        if slot in self._lasting:
            self._line.forget(slot)
            self._line.begin(self._confirm, slot, ASK_AGAIN_DELAY)

    def _open_again(self, slot: SubscriptionSlot) -> None:
        """Have a lasting feed confirmed anew by the present session, if there is one."""
        if self._line.session is not None:
            self._line.forget(slot)
            self._calls.submit(slot)
            self._line.begin(self._confirm, slot, 0.0)

    async def _confirm(self, slot: SubscriptionSlot, delay: float) -> None:
        """See a lasting feed through to its confirmation, or to the refusal that its consumer is told."""
        backoff = self._backoff()
        while True:
            if delay:
                await trio.sleep(delay)
                if slot not in self._lasting:
                    return
                self._line.forget(slot)
                self._calls.submit(slot)
            with trio.move_on_after(self._calls.settings.attempt_timeout):
                await slot.event.wait()
            if slot not in self._lasting or (slot.settled and self._is_done(slot)):
                return
            delay = ASK_AGAIN_DELAY + backoff.next()

    def _is_done(self, slot: SubscriptionSlot) -> bool:
        """Whether it is confirmed, or refused for good. False to ask again."""
        try:
            if slot.answer is None:
                raise slot.failure()
            confirmation = slot.operation.decide(slot.answer[0], slot.answer[3])
            if confirmation.is_of_deleted:
                raise StreamDeleted(slot.stream)
        except AskAgain:
            return False
        except TrioExtremeError as error:
            self._close(slot)
            slot.mailbox.end(error)
            if isinstance(error, ProtocolError):
                self._line.give_up(error)
        return True
