"""HTTP on a stream: both sides against each other, and each against peers that break every rule there is."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings, strategies as st

from tests.sessions.steps import cancelled_at
from tests.sessions.streams import ByteByByte, Wrapped
from trio_extreme.embedded.memory import memory_connection
from trio_extreme.errors import ConnectionLost, InvalidArgument, ProtocolError, ServerError
from trio_extreme.http import MAX_HEAD, Request, Response, exchange, serve
from trio_extreme.tasks import open_plain_nursery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_extreme.http import Handler

pytestmark = pytest.mark.usefixtures("autojump_clock")

GET = Request("GET", "/gossip?format=json")
OK = Response(200, (), b"ok")


async def echo(request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    return Response(200, (("x-asked", f"{request.method} {request.target}"),), request.body)


async def ask(handler: Handler, request: Request, *, most: int = 1000, wrap: type[Wrapped] = Wrapped) -> Response:
    """One exchange with a server."""
    ours, theirs = memory_connection()
    async with open_plain_nursery() as nursery, ours:
        nursery.start_soon(serve, wrap(theirs), handler)
        return await exchange(wrap(ours), "node:2113", request, max_body=most)


async def hear(*said: bytes, request: Request = GET, most: int = 1000) -> Response:
    """One exchange with a peer that says this, whatever it is asked, and closes."""
    ours, theirs = memory_connection()
    async with open_plain_nursery() as nursery, ours:
        nursery.start_soon(say, theirs, said)
        return await exchange(ours, "node:2113", request, max_body=most)


async def say(stream: trio.abc.Stream, said: Iterable[bytes]) -> None:
    async with stream:
        await stream.receive_some()
        with suppress(trio.BrokenResourceError):
            for part in said:
                await stream.send_all(part)
                await trio.testing.wait_all_tasks_blocked()


async def tell(*said: bytes, handler: Handler = echo, most: int = 1000) -> bytes:
    """All that a server says to who sends this and then listens."""
    ours, theirs = memory_connection()
    heard = b""
    async with open_plain_nursery() as nursery, ours:
        nursery.start_soon(lambda: serve(theirs, handler, max_body=most))
        for part in said:
            await ours.send_all(part)
            await trio.testing.wait_all_tasks_blocked()
        async for chunk in ours:
            heard += chunk
    return heard


# --- both sides


async def test_a_request_and_its_answer() -> None:
    asked = []

    async def handler(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        asked.append(request)
        return Response(404, (("content-type", "text/plain"),), b"nothing here")

    response = await ask(handler, Request("POST", "/a%20b?c=d", (("X-Who", "me"),), b"body"))
    assert (response.status, response.body, response.header("content-type")) == (404, b"nothing here", "text/plain")
    assert response.header("x-none") is None
    (request,) = asked
    assert (request.method, request.target, request.body) == ("POST", "/a%20b?c=d", b"body")
    assert (request.header("host"), request.header("x-who"), request.header("connection")) == (
        "node:2113",
        "me",
        "close",
    )


names = st.text("abcxyz09-", min_size=1, max_size=20).map("x-{}".format)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30)
headers = st.lists(st.tuples(names, values), max_size=5).map(tuple)
requests = st.builds(
    Request,
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    values.map("/{}".format),
    headers,
    st.binary(max_size=300),
)
responses = st.builds(Response, st.sampled_from([200, 201, 400, 401, 404, 500, 503, 599]), headers, st.binary())


@given(requests, responses, st.sampled_from([ByteByByte, Wrapped]))
def test_whatever_is_said_is_heard(request: Request, response: Response, wrap: type[Wrapped]) -> None:
    asked = []

    async def handler(request: Request) -> Response:
        await trio.lowlevel.checkpoint()
        asked.append(request)
        return response

    heard = trio.run(lambda: ask(handler, request, wrap=wrap))
    assert (heard.status, heard.body) == (response.status, response.body)
    assert heard.headers[: len(response.headers)] == response.headers
    (got,) = asked
    assert (got.method, got.target, got.body) == (request.method, request.target, request.body)
    assert got.headers[2 : 2 + len(request.headers)] == request.headers


async def test_large_bodies_go_both_ways() -> None:
    body = bytes(3_000_000)
    ours, theirs = memory_connection()
    async with open_plain_nursery() as nursery, ours:
        nursery.start_soon(serve, theirs, echo)
        assert (await exchange(ours, "h", Request("PUT", "/", (), body))).body == body


@pytest.mark.parametrize("value", [GET, Request("GET", "/", (("authorization", "secret"),), b"secret")])
def test_no_secret_is_shown(value: Request) -> None:
    assert "secret" not in repr(value)
    assert "secret" not in repr(Response(200, (("set-cookie", "secret"),), b"secret"))


async def test_cancelled_anywhere_it_leaves_nothing() -> None:
    for of_all in (False, True):
        for step in range(1, 200):
            with cancelled_at(step, of_all=of_all) as instrument:
                await ask(echo, Request("POST", "/", (), b"body"))
            if not instrument.reached:
                break
        else:
            pytest.fail("it never ends")


# --- the client


@pytest.mark.parametrize(
    "said",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"o", b"k"),
        # What follows the answer belongs to nobody.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",),
        # Without a length it ends where the stream does; so did all of HTTP/1.0.
        (b"HTTP/1.1 200 OK\r\n\r\no", b"k"),
        (b"HTTP/1.0 200 OK\r\n\r\nok",),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nok"),
    ],
)
async def test_answers_in_all_their_forms(said: tuple[bytes, ...]) -> None:
    response = await hear(*said)
    assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize(
    "said",
    [
        (),
        (b"HTTP/1.1 200 OK\r\nContent-Le",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",),
        (b"HTTP/1.1 100 Continue\r\n\r\n",),
    ],
)
async def test_an_answer_that_ends_before_its_end(said: tuple[bytes, ...]) -> None:
    where = "in the middle of its" if said else "without an"
    with pytest.raises(ConnectionLost, match=f"closed the connection {where} HTTP answer"):
        await hear(*said)


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\x01\x02\x03 garbage \r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        # What Event Store says on its TCP port.
        b"\x12\x00\x00\x00\x01\x00" + bytes(16) + b"\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_HEAD + 70_000),
    ],
)
async def test_what_is_no_http(said: bytes) -> None:
    with pytest.raises(ProtocolError, match="does not answer in HTTP"):
        await hear(said)


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 200 OK\r\n\r\nhalf"])
async def test_a_connection_that_breaks_is_no_end_of_an_answer(said: bytes) -> None:
    class Breaking(Wrapped):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            if chunk := await self.inner.receive_some(max_bytes):
                return chunk
            raise trio.BrokenResourceError from ConnectionResetError("Connection reset by peer")

    ours, theirs = memory_connection()
    async with open_plain_nursery() as nursery, ours:
        nursery.start_soon(say, theirs, [said])
        with pytest.raises(ConnectionLost, match=r"broke \(Connection reset by peer\)"):
            await exchange(Breaking(ours), "h", GET)


async def test_a_body_at_the_limit_and_above_it() -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    for framed in (b"Content-Length: %d\r\n\r\n" % 1000, b"\r\n"):
        assert len((await hear(head + framed + bytes(1000))).body) == 1000
    announced = head + b"Content-Length: 50000000\r\n\r\n"
    with pytest.raises(ProtocolError, match="body of 50,000,000 bytes or more; the limit is 1,000"):
        await hear(announced)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001
    for unannounced in (b"\r\n" + bytes(1001), chunked):
        with pytest.raises(ProtocolError, match="body of 1,001 bytes or more; the limit is 1,000"):
            await hear(head + unannounced)


@pytest.mark.parametrize("piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nX: y\r\n\r\n"])
async def test_an_answer_without_end_costs_the_callers_time_and_no_memory(piece: bytes) -> None:
    ours, theirs = memory_connection()

    async def go_on() -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await theirs.send_all(piece)
                await trio.sleep(0.01)

    async with open_plain_nursery() as nursery:
        nursery.start_soon(go_on)
        with trio.move_on_after(5) as scope:  # noqa: ASYNC912 - the exchange waits
            async with ours:
                await exchange(ours, "h", GET)
        assert scope.cancelled_caught


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_named_and_not_followed(status: int) -> None:
    said = f"HTTP/1.1 {status} Elsewhere\r\nLocation: https://other:2113/gossip\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(
        ServerError, match=f"answers {status}: it redirects to 'https://other:2113/gossip', which is not followed"
    ):
        await hear(said.encode())


async def test_a_long_redirect_is_shortened() -> None:
    said = b"HTTP/1.1 301 Moved\r\nLocation: " + b"x" * 10_000 + b"\r\n\r\n"
    with pytest.raises(ServerError) as info:
        await hear(said)
    assert len(str(info.value)) < 400


async def test_not_modified_is_no_redirect() -> None:
    assert (await hear(b"HTTP/1.1 304 Not Modified\r\n\r\n")).status == 304


async def test_who_refuses_a_request_before_its_end_is_heard() -> None:
    """The server answers and closes while we still send."""
    ours, theirs = memory_connection()
    async with open_plain_nursery() as nursery, ours:
        nursery.start_soon(say, theirs, [b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"])
        assert (await exchange(ours, "h", Request("PUT", "/", (), bytes(3_000_000)))).status == 413


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/with space"),
        Request("GET", "/\r\nX: y"),
        Request("G T", "/"),
        Request("GET", "/\u0161"),
        Request("GET", "/", (("authorization", "secret\r\nX: y"),)),
        Request("GET", "/", (("secret key", "v"),)),
    ],
)
async def test_what_cannot_be_said_in_http_is_refused_before_it_is_sent(request_: Request) -> None:
    ours, theirs = memory_connection()
    with pytest.raises(InvalidArgument, match=r"^request: .* a character that HTTP cannot say") as info:
        await exchange(ours, "h", request_)
    assert "secret" not in str(info.value)
    assert info.value.__suppress_context__
    await ours.aclose()
    assert await theirs.receive_some() == b""


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"\r\n", b"Content-Length: 2\r\n", b"\0", b"ok"]) | st.binary())
)
def test_any_bytes_are_an_answer_or_an_error(said: list[bytes]) -> None:
    async def main() -> None:
        with suppress(ConnectionLost, ProtocolError, ServerError):
            assert (await hear(*said)).status

    trio.run(main)


# --- the server


async def test_requests_one_after_another_on_one_stream() -> None:
    heard = await tell(
        b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n",
        # Two in one piece.
        b"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
        b"GET /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    )
    assert [line for line in heard.split(b"\r\n") if b"/" in line and b"x-asked" in line] == [
        b"x-asked: GET /1",
        b"x-asked: POST /2",
        b"x-asked: GET /3",
    ]


async def test_an_old_client_gets_one_answer() -> None:
    heard = await tell(b"GET / HTTP/1.0\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_head_has_no_body() -> None:
    heard = await tell(
        b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        handler=lambda _: trio_return(Response(200, (), b"text")),
    )
    assert b"content-length: 4\r\n" in heard
    assert heard.endswith(b"\r\n\r\n")


async def trio_return(response: Response) -> Response:
    await trio.lowlevel.checkpoint()
    return response


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(status: int) -> None:
    ask_for = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    heard = await tell(ask_for, handler=lambda _: trio_return(Response(status)))
    assert b"content-length" not in heard


async def test_a_status_that_nobody_has_named() -> None:
    ask_for = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert (await tell(ask_for, handler=lambda _: trio_return(Response(599)))).startswith(b"HTTP/1.1 599 \r\n")


async def test_a_client_that_waits_to_be_told_to_go_on() -> None:
    heard = await tell(
        b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n", b"body"
    )
    assert heard.startswith(b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\n")
    assert heard.endswith(b"body")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 200_000, b"431"),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n" + bytes(1001), b"413"),
        # Nobody is told to go on with what would be refused.
        (b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n", b"413"),
        (
            b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001 + b"0\r\n\r\n",
            b"413",
        ),
    ],
)
async def test_who_breaks_the_rules_is_told_and_shown_out(said: bytes, status: bytes) -> None:
    heard = await tell(said)
    assert heard.startswith(b"HTTP/1.1 " + status)
    assert heard.count(b"HTTP/1.1") == 1
    assert b"connection: close\r\n" in heard


async def test_rules_broken_while_the_body_is_read_are_told_too() -> None:
    heard = await tell(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n")
    assert heard.startswith(b"HTTP/1.1 400")


async def test_who_asks_to_switch_protocols_stays_in_this_one() -> None:
    heard = await tell(
        b"GET /1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"GET /2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    )
    assert heard.count(b"HTTP/1.1 200") == 2


async def test_a_tunnel_is_not_dug() -> None:
    """The handler knows no methods; what it answers would open one."""
    heard = await tell(b"CONNECT other:443 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 501 ")


async def test_a_client_that_says_nothing_is_shown_out() -> None:
    for said in (b"", b"GET / HT", b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nbo"):
        ours, theirs = memory_connection()
        started = trio.current_time()
        await ours.send_all(said)
        await serve(theirs, echo, patience=7)
        assert trio.current_time() - started == 7
        assert await ours.receive_some() == b""


async def test_a_client_that_does_not_read_is_shown_out() -> None:
    ours, theirs = memory_connection()
    await ours.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await serve(theirs, lambda _: trio_return(Response(200, (), bytes(3_000_000))), patience=7)
    assert trio.current_time() == 7


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n"],
)
async def test_a_client_that_has_gone(said: bytes) -> None:
    ours, theirs = memory_connection()
    await ours.send_all(said)
    await ours.aclose()
    await serve(theirs, echo)


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"nonsense\r\n\r\n"])
async def test_a_client_whose_connection_breaks(said: bytes) -> None:
    class Breaking(Wrapped):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            nonlocal said
            await trio.lowlevel.checkpoint()
            now, said = said, b""
            if not now:
                raise trio.BrokenResourceError
            return now

    ours, theirs = memory_connection()
    await serve(Breaking(theirs), echo)
    async for _ in ours:
        pass


async def test_a_bug_of_the_handler_is_one() -> None:
    async def handler(_: Request) -> Response:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    ours, theirs = memory_connection()
    await ours.send_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    with pytest.raises(ZeroDivisionError):
        await serve(theirs, handler)
    assert await ours.receive_some() == b""


async def test_cancelled_the_server_closes() -> None:
    ours, theirs = memory_connection()
    with trio.move_on_after(1) as scope:
        await serve(theirs, echo)
    assert scope.cancelled_caught
    assert await ours.receive_some() == b""


async def test_a_refusal_arrives_over_a_real_socket() -> None:
    """Where the client is still sending: closing at once would reset the connection, and the refusal with it."""
    refused = Response(0)
    async with open_plain_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, lambda stream: serve(stream, echo, max_body=1000), 0)
        stream = await trio.testing.open_stream_to_socket_listener(listeners[0])
        async with stream:
            refused = await exchange(stream, "h", Request("PUT", "/", (), bytes(20_000_000)))
        nursery.cancel_scope.cancel()
    assert refused.status == 413


@settings(max_examples=50)
@given(
    st.lists(
        st.sampled_from([b"GET / HTTP/1.1\r\n", b"\r\n", b"Host: h\r\n", b"Content-Length: 2\r\n", b"\0"]) | st.binary()
    )
)
def test_any_bytes_are_a_request_or_refused(said: list[bytes]) -> None:
    async def main() -> None:
        ours, theirs = memory_connection()
        async with open_plain_nursery() as nursery:
            nursery.start_soon(serve, theirs, echo)
            for part in said:
                try:
                    await ours.send_all(part)
                except trio.BrokenResourceError:
                    break
            await ours.aclose()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
