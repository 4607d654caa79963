"""A server's web interface that says what it is told to, for tests of who asks there."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
import trio.testing

from trio_extreme.embedded.memory import memory_connection
from trio_extreme.http import Request, Response, serve

if TYPE_CHECKING:
    from trio_extreme import Settings
    from trio_extreme.transport import Connect


def told(document: object, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(status, (("content-type", "application/json"),), json.dumps(document).encode())


class Office:
    """Answers each connection with the next of these: a response, the bytes of one, or nothing at all for None."""

    def __init__(self, nursery: trio.Nursery, *answers: Response | bytes | None) -> None:
        self._nursery = nursery
        self._answers = list(answers)
        self.requests: list[Request] = []
        self.addresses: list[tuple[str, int]] = []
        self.streams: list[trio.abc.Stream] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.addresses.append((host, port))
        ours, theirs = memory_connection()
        self.streams.append(ours)
        answer = self._answers.pop(0)
        if isinstance(answer, Response):
            self._nursery.start_soon(self._serve, theirs, answer)
        else:
            self._nursery.start_soon(self._say, theirs, answer)
        return ours

    async def _serve(self, stream: trio.abc.Stream, answer: Response) -> None:
        async def handler(request: Request) -> Response:
            await trio.lowlevel.checkpoint()
            self.requests.append(request)
            return answer

        await serve(stream, handler)

    async def _say(self, stream: trio.abc.Stream, said: bytes | None) -> None:
        async with stream:
            await stream.receive_some()
            if said is None:
                await stream.receive_some()
            with suppress(trio.BrokenResourceError):
                await stream.send_all(said or b"")

    async def assert_all_closed(self) -> None:
        """No call has left a connection open."""
        for stream in self.streams:
            with suppress(trio.ClosedResourceError):
                await stream.receive_some(1)
                raise AssertionError


def refusing(settings: Settings) -> Connect:
    """A network where nobody listens."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        msg = f"{host}:{port}, {settings.host}"
        raise ConnectionRefusedError(msg)

    return connect


def text_of(error: BaseException | None) -> str:
    """All that an error shows, with its causes."""
    if error is None:
        return ""
    context = None if error.__suppress_context__ else error.__context__
    return f"{error!r} {error} {getattr(error, '__notes__', '')}\n{text_of(error.__cause__ or context)}"
