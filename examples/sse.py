"""Server-sent events from a stream, each browser at its own place: `python examples/sse.py` (Starlette on Hypercorn).

An event's number is the id that a browser keeps, and sends as `Last-Event-ID` when it connects again.
"""

import json
from functools import partial

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trio_extreme import Connection, NewEvent, open_connection
from trio_extreme.embedded import open_node


class EventStream(Response):
    """A response that lasts until its client leaves; then nothing of it is left."""

    def __init__(self, conn: Connection, after: int | None) -> None:
        super().__init__(headers={"Cache-Control": "no-store"}, media_type="text/event-stream")
        del self.headers["Content-Length"]
        self._conn, self._after = conn, after

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client leaves."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, send)
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with self._conn.subscribe("news", after=self._after) as events:
            async for event in events:
                text = f"id: {event.number}\nevent: {event.type}\ndata: {json.dumps(event.json())}\n\n"
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def news(request: Request) -> Response:
    """The page."""
    last = request.headers.get("Last-Event-ID", "")
    return EventStream(request.app.state.conn, int(last) if last.isdecimal() else None)


async def browse(address: str, last_id: str, count: int) -> None:
    """What a browser does, until it has seen so many events."""
    async with await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2])) as stream:
        await stream.send_all(f"GET /news HTTP/1.1\r\nHost: here\r\nLast-Event-ID: {last_id}\r\n\r\n".encode())
        seen = b""
        while seen.count(b"data: ") < count and (chunk := await stream.receive_some()):
            seen += chunk
        print([line.decode() for line in seen.splitlines() if line.startswith((b"id", b"data"))])


async def main() -> None:
    """One browser comes, leaves, and comes again."""
    app, config = Starlette(routes=[Route("/news", news)]), Config.from_mapping(bind="127.0.0.1:0", loglevel="ERROR")
    async with open_node() as node, open_connection(node.settings) as conn, trio.open_nursery() as nursery:
        app.state.conn = conn
        await conn.append("news", [NewEvent.json("Rain", "today"), NewEvent.json("Sun", "tomorrow")])
        (address,) = await nursery.start(partial(serve, app, config))  # type: ignore[arg-type] # Starlette's types say less
        await browse(address, "", 2)
        await conn.append("news", NewEvent.json("Snow", "later"))
        await browse(address, "1", 1)
        while conn.statistics().subscriptions:
            await conn.ping()
        print("nobody is subscribed any more")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
