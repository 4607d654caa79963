"""Whether the server filters: the first who wants to know asks it, once a session, for all.

The next session may be with another server, of another version; whoever reads on asks again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from trio_extreme.errors import ConnectionLost
from trio_extreme.operations.filtering import AskWhetherFiltered
from trio_extreme.pending import Interrupted

if TYPE_CHECKING:
    from trio_extreme.calls import Calls
    from trio_extreme.line import Line
    from trio_extreme.values import Credentials

logger = logging.getLogger("trio_extreme.connection")

MAX_DEATHS = 10
"""Sessions in a row that may die of the question before who asks is told: fewer may be chance."""


class FilterSupport:
    """What is known of the present session's server."""

    def __init__(self, calls: Calls, line: Line) -> None:
        self._calls = calls
        self._line = line
        self._asking = trio.Lock()
        self._answer = False
        # The session that the answer is from.
        self._session = 0
        self._logged = False

    def __repr__(self) -> str:
        return f"<FilterSupport: {self.known}>"

    @property
    def known(self) -> bool | None:
        """Whether the server filters; None where that was not asked in this session."""
        return self._answer if self._session == self._line.sessions else None

    async def find_out(self, credentials: Credentials | None, deadline: float) -> bool:
        """Ask, unless somebody just did. Raises what a read raises; cancelling leaves it to the next."""
        with trio.move_on_at(deadline) as scope:
            await self._asking.acquire()
        if scope.cancelled_caught:
            raise self._calls.out_of_time()
        try:
            if self.known is None:
                self._learn(answer=await self._ask(credentials, deadline))
            return self._answer
        finally:
            self._asking.release()

    async def _ask(self, credentials: Credentials | None, deadline: float) -> bool:
        deaths = 0
        while True:
            try:
                return await self._calls.call(AskWhetherFiltered(), credentials, deadline=deadline, is_page=True)
            except Interrupted as lost:
                deaths += lost.died
                if deaths >= MAX_DEATHS:
                    raise ConnectionLost(str(lost)) from lost.__cause__

    def lacks_it(self) -> None:
        """A filtered request was answered by a server that does not know it: it was meant for an earlier one."""
        self._learn(answer=False)

    def _learn(self, *, answer: bool) -> None:
        """Take an answer that has just come: no session can have begun since, which takes answers of its own."""
        self._answer = answer
        self._session = self._line.sessions
        if not answer and not self._logged:
            self._logged = True
            logger.warning("the server is older than 20.6 and does not filter: all events come, and are sifted here")
