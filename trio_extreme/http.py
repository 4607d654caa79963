"""HTTP/1.1 on a stream, both sides: one request and its answer, or a loop of them for who serves.

Whoever opens a stream says what it runs over, so this works over TCP, TLS and in memory alike, and no variable of the
environment can divert it. What the peer sends is bounded in bytes; in time the client is bounded by its caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

import h11
import trio

from trio_extreme.errors import ConnectionLost, InvalidArgument, ProtocolError, ServerError

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values; names are in lower case where they were received."""

MAX_HEAD = 64 * 1024
"""Bytes of a first line and headers; servers and browsers of all kinds stay far below it."""

MAX_BODY = 8 * 1024 * 1024
"""Bytes of a body, where the caller says nothing else."""

PATIENCE = 30.0
"""Seconds that a server gives a client to say what it wants, and to take its answer."""

_READ_SIZE = 64 * 1024
_LINGER = 1.0
"""Seconds for which a server takes what a refused client still sends: a socket that is closed with bytes unread resets
the connection, and the refusal may be lost with it."""
_SHOWN = 200
"""Characters shown of what a peer says."""
_BROKEN_RULES = (h11.RemoteProtocolError, ValueError)
"""What h11 raises for bytes that break the rules; the second before 0.15, for a length of thousands of digits."""
_REDIRECTION = range(300, 400)
_NO_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked; `target` is the path with its query, escaped. Headers may be secrets: `repr` has none."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target!r}: {len(self.body)} bytes>"

    def header(self, name: str) -> str | None:
        """The value of a header that was received, the first of several; `name` is in lower case."""
        return _find(self.headers, name)


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    status: int
    headers: Headers = ()
    body: bytes = b""

    def __repr__(self) -> str:
        return f"<Response {self.status}: {len(self.body)} bytes>"

    def header(self, name: str) -> str | None:
        """The value of a header that was received, the first of several; `name` is in lower case."""
        return _find(self.headers, name)


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
"""What a server does with a request."""


def _find(headers: Headers, name: str) -> str | None:
    return next((value for key, value in headers if key == name), None)


# --- the client's side


async def exchange(stream: trio.abc.Stream, host: str, request: Request, *, max_body: int = MAX_BODY) -> Response:
    """Send one request and return the whole answer. Afterwards the stream is of no use: its owner closes it.

    `host` is what the Host header says: name or address, and port. Raises `InvalidArgument`, before anything is sent,
    for what cannot stand in a request; `ConnectionLost` where the answer ends before its end, `ProtocolError` for what
    is no HTTP or above a limit, and `Redirected` for a redirect: it is told where to, and not followed, so that
    nobody can send our credentials elsewhere. Cancelled, the server may have done it all the same.
    """
    line = _Line(h11.Connection(h11.CLIENT, MAX_HEAD), stream)
    # A server that refuses a request may close while it is still being sent; its answer is there all the same.
    await line.send(_encode_request(line.connection, host, request))
    try:
        response = await _receive_response(line, max_body)
    except _BROKEN_RULES as error:
        raise _unreadable(line, error) from error
    return _not_redirected(response)


def _encode_request(connection: h11.Connection, host: str, request: Request) -> bytes:
    # One exchange a stream: the server need not keep it, and its answer ends where the stream does.
    headers = [("host", host), ("connection", "close"), *request.headers]
    if request.body or request.method not in ("GET", "HEAD"):
        headers.append(("content-length", str(len(request.body))))
    try:
        head = connection.send(h11.Request(method=request.method, target=request.target, headers=headers))
    except (h11.LocalProtocolError, UnicodeEncodeError):
        # Its own words would show the header, which may be a password.
        msg = f"request: method, path, host or a header of {request!r} has a character that HTTP cannot say"
        raise InvalidArgument(msg) from None
    body = connection.send(h11.Data(data=request.body)) if request.body else b""
    return b"".join(part or b"" for part in (head, body, connection.send(h11.EndOfMessage())))


async def _receive_response(line: _Line, max_body: int) -> Response:
    head = await line.next_event()
    while isinstance(head, h11.InformationalResponse):
        head = await line.next_event()
    # h11 lets nothing else come first.
    assert isinstance(head, h11.Response)
    _check_length(_headers(head), max_body)
    return Response(head.status_code, _headers(head), await line.receive_body(max_body))


def _unreadable(line: _Line, error: Exception) -> ProtocolError | ConnectionLost:
    if not line.ended:
        return ProtocolError(f"the peer does not answer in HTTP: {_short(str(error))}")
    if line.heard:
        return ConnectionLost("the peer closed the connection in the middle of its HTTP answer")
    return ConnectionLost("the peer closed the connection without an HTTP answer")


class Redirected(ServerError):
    """The peer says that it is somewhere else, at `location`; nobody went there."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(f"the peer answers {status}: it redirects to {_short(location)!r}, which is not followed")
        self.location = location


def _not_redirected(response: Response) -> Response:
    where = response.header("location")
    if response.status in _REDIRECTION and where is not None:
        raise Redirected(response.status, where)
    return response


# --- the server's side


async def serve(
    stream: trio.abc.Stream, handler: Handler, *, max_body: int = MAX_BODY, patience: float = PATIENCE
) -> None:
    """Answer one client's requests, one after another, until it closes, keeps us waiting, or breaks the rules.

    The stream is closed afterwards, also where this is cancelled. Clients cause no errors here: what `handler` raises
    is a bug, and is passed on.
    """
    try:
        line = _Line(h11.Connection(h11.SERVER, MAX_HEAD), stream)
        while await _serve_one(line, handler, max_body, patience):
            line.connection.start_next_cycle()
    finally:
        await trio.aclose_forcefully(stream)


async def _serve_one(line: _Line, handler: Handler, max_body: int, patience: float) -> bool:
    """Answer one request; whether another may follow on this stream."""
    request = None
    try:
        with trio.move_on_after(patience):
            request = await _receive_request(line, max_body)
    except ProtocolError:
        await _refuse(line, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    except _BROKEN_RULES as error:
        await _refuse(line, getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST))
    except ConnectionLost:
        pass
    if request is None:
        return False  # noqa: ASYNC910 - it was waited for
    # We are no proxy, and what accepts a tunnel has no HTTP after it.
    response = await handler(request) if request.method != "CONNECT" else Response(HTTPStatus.NOT_IMPLEMENTED)
    data = _encode_response(line.connection, response, with_body=request.method != "HEAD")
    with trio.move_on_after(patience) as sending:
        await line.send(data)
    done = (line.connection.our_state, line.connection.their_state) == (h11.DONE, h11.DONE)
    return done and not sending.cancelled_caught


async def _receive_request(line: _Line, max_body: int) -> Request | None:
    """The next request; None where the client has closed instead."""
    head = await line.next_event()
    if isinstance(head, h11.ConnectionClosed):
        return None
    assert isinstance(head, h11.Request)
    headers = _headers(head)
    _check_length(headers, max_body)
    if line.connection.they_are_waiting_for_100_continue:
        go_on = line.connection.send(h11.InformationalResponse(status_code=100, headers=[]))
        await line.send(go_on or b"")
    body = await line.receive_body(max_body)
    return Request(head.method.decode("latin-1"), head.target.decode("latin-1"), headers, body)


def _encode_response(connection: h11.Connection, response: Response, *, with_body: bool = True) -> bytes:
    headers = list(response.headers)
    if response.status not in _NO_BODY:
        headers.append(("content-length", str(len(response.body))))
    head = h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status))
    events = (head, h11.Data(data=response.body if with_body else b""), h11.EndOfMessage())
    return b"".join(connection.send(event) or b"" for event in events)


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


async def _refuse(line: _Line, status: int) -> None:  # noqa: ASYNC910 - sending waits
    """Answer what is no request that is taken, and let the answer arrive."""
    text = f"{HTTPStatus(status).phrase}\n".encode()
    response = Response(status, (("content-type", "text/plain"), ("connection", "close")), text)
    with trio.move_on_after(_LINGER), suppress(trio.BrokenResourceError):
        await line.stream.send_all(_encode_response(line.connection, response))
        if isinstance(line.stream, trio.abc.HalfCloseableStream):
            await line.stream.send_eof()
        while await line.stream.receive_some(_READ_SIZE):
            pass


# --- both sides


class _Line:
    """A stream, and what h11 knows of what passes over it."""

    def __init__(self, connection: h11.Connection, stream: trio.abc.Stream) -> None:
        self.connection = connection
        self.stream = stream
        #: Whether the peer has sent anything, and whether it has closed.
        self.heard = self.ended = False

    async def send(self, data: bytes) -> None:  # noqa: ASYNC910 - sending waits
        """Send it to who may have closed: that shows when something is to be received."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)

    async def next_event(self) -> h11.Event:
        """The next event from the peer. Raises `h11.RemoteProtocolError` where it breaks the rules."""
        while (event := self.connection.next_event()) is h11.NEED_DATA:
            await self._receive()
        # The other sentinel comes only between a message and what follows it, where nobody asks.
        assert isinstance(event, h11.Event)
        return event  # noqa: ASYNC910 - several may come in one piece

    async def _receive(self) -> None:
        try:
            data = await self.stream.receive_some(_READ_SIZE)
        except trio.BrokenResourceError as error:
            # Not as if it had closed: a body without a length ends there, and this one is cut off.
            msg = f"the connection broke ({error.__cause__ or error})"
            raise ConnectionLost(msg) from error
        self.heard = self.heard or bool(data)
        self.ended = not data
        self.connection.receive_data(bytes(data))

    async def receive_body(self, most: int) -> bytes:
        """The body of a message whose head was received."""
        # Not a list: of one byte each, its items would have far more than the body.
        body = bytearray()
        while not isinstance(event := await self.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
            body += event.data
            _check_size(len(body), most)
        return bytes(body)


def _headers(head: h11.Request | h11.Response) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)


def _check_length(headers: Headers, most: int) -> None:
    """Refuse a body that says itself that it is too large, before any of it is read."""
    # h11 lets nothing but digits in.
    _check_size(int(_find(headers, "content-length") or 0), most)


def _check_size(size: int, most: int) -> None:
    if size > most:
        msg = f"the peer sends an HTTP body of {size:,} bytes or more; the limit is {most:,}"
        raise ProtocolError(msg)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
