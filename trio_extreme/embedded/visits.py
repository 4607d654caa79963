"""The connections to a node's web interface."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from trio_extreme.embedded.storage import StorageError
from trio_extreme.http import Response, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_extreme.embedded.commits import Commits
    from trio_extreme.embedded.http import Web
    from trio_extreme.embedded.line import Line
    from trio_extreme.http import Request


class Visits:
    """All that are open."""

    def __init__(self, web: Web, line: Line, commits: Commits) -> None:
        self._web = web
        self._line = line
        self._commits = commits
        self._open: dict[trio.CancelScope, None] = {}

    def __repr__(self) -> str:
        return f"<Visits: {len(self._open)} open>"

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer all that is asked on a stream, until either side closes it. Raises nothing but what is a bug."""
        with self._entered():
            await serve(stream, self._answer)

    def cut(self) -> None:
        """End them all."""
        for scope in self._open:
            scope.cancel()

    @contextmanager
    def _entered(self) -> Iterator[None]:
        with trio.CancelScope() as scope:
            self._open[scope] = None
            try:
                yield
            finally:
                del self._open[scope]

    async def _answer(self, request: Request) -> Response:
        """As packages are: not while the process is stopped, late where a fault delays it, and not before the disk."""
        await self._line.go_on()
        try:
            response = self._web.answer(request)
        except StorageError as error:
            self._commits.fail(error)
            return Response(500)
        if self._web.tells_of_log(request):
            await self._commits.pass_by()
        await trio.sleep(self._line.delay)
        return response
