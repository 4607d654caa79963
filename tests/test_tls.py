"""TLS: whose certificate is accepted, and what is said of one that is not. In memory, but for the last test."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
import trustme

from tests.test_discovery import Names
from trio_extreme import (
    CertificateRefused,
    Connected,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    NewEvent,
    Settings,
    open_admin,
    open_connection,
)
from trio_extreme.connecting import open_stream
from trio_extreme.embedded import open_cluster, open_node
from trio_extreme.settings import seeds_of
from trio_extreme.transport import default_context

if TYPE_CHECKING:
    from trio_extreme.transport import Connect

CA, STRANGER = trustme.CA(), trustme.CA()
YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def server(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    (certificate or CA.issue_cert("localhost")).configure_cert(context)
    return context


def client(ca: trustme.CA = CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


TRUSTING = Settings(tls=client(), first_attempts=2)


def listening(context: ssl.SSLContext, serving: trio.Nursery) -> Connect:
    """A server that shakes hands and says nothing more."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        serving.start_soon(shake, trio.SSLStream(theirs, context, server_side=True))
        return ours

    async def shake(stream: trio.SSLStream[Any]) -> None:
        try:
            await stream.do_handshake()
            await stream.receive_some()
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    return connect


async def test_a_good_certificate(autojump_clock: object) -> None:
    async with (
        open_node(port=None, tls=server()) as node,
        open_connection(node.settings.replace(host="localhost", tls=client()), connect=node.connect) as conn,
    ):
        await conn.append("orders", [NewEvent("OrderPlaced", bytes(100_000))] * 3)
        assert await conn.last_number("orders") == 2


@pytest.mark.parametrize(
    ("certificate", "changes", "words"),
    [
        (
            CA.issue_cert("elsewhere"),
            {},
            "it is not for 'localhost'; connect by a name that it is for, or set tls_server_name",
        ),
        (CA.issue_cert("localhost"), {"host": "127.0.0.1"}, "it is not for '127.0.0.1'"),
        (STRANGER.issue_cert("localhost"), {}, "name the file of who did: tls_ca_file= in a URL"),
        (CA.issue_cert("localhost", not_after=YESTERDAY), {}, "the clock of this machine is wrong"),
        (CA.issue_cert("localhost"), {"tls": True}, "nobody trusted here has signed it"),
    ],
    ids=["other name", "other address", "stranger", "expired", "not a system's"],
)
async def test_certificates_that_are_refused(
    autojump_clock: object, nursery: trio.Nursery, certificate: trustme.LeafCert, changes: dict[str, Any], words: str
) -> None:
    """At once: no further attempt could mend it."""
    connect = listening(server(certificate), nursery)
    with pytest.raises(CertificateRefused, match="the server's certificate is refused") as caught:
        async with open_connection(TRUSTING.replace(**changes), connect=connect):
            pass
    assert words in str(caught.value)
    assert trio.current_time() == 0


async def test_another_name(autojump_clock: object, nursery: trio.Nursery) -> None:
    connect = listening(server(CA.issue_cert("node1")), nursery)
    stream = await open_stream(TRUSTING.replace(tls_server_name="node1"), connect)
    await trio.aclose_forcefully(stream)
    with pytest.raises(InvalidArgument, match=r"^tls_server_name: '\.example' cannot be the name"):
        await open_stream(TRUSTING.replace(tls_server_name=".example"), connect)


async def test_a_plain_client_at_a_tls_port(autojump_clock: object) -> None:
    async with open_node(port=None, tls=server()) as node:
        with pytest.raises(ConnectFailed, match="TLS"):
            async with open_connection(node.settings.replace(first_attempts=1), connect=node.connect):
                pass


async def test_a_tls_client_at_a_plain_port(autojump_clock: object) -> None:
    async with open_node(port=None) as node:
        with pytest.raises(ConnectFailed, match=r"is it a port without TLS\?"):
            async with open_connection(node.settings.replace(tls=client(), first_attempts=1), connect=node.connect):
                pass


@pytest.mark.parametrize(
    ("said", "words"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS there"), (b"", "the TLS handshake failed")],
    ids=["answers", "closes"],
)
async def test_other_servers_that_speak_no_tls(nursery: trio.Nursery, said: bytes, words: str) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await theirs.send_all(said)
        await theirs.send_eof()
        return ours

    with pytest.raises(ConnectionLost, match=words):
        await open_stream(TRUSTING, connect)


async def test_the_handshake_has_the_time_of_the_connecting(autojump_clock: object) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep(2)
        return ours

    with pytest.raises(ConnectionLost, match=r"3 s \(connect_timeout\)"):
        await open_stream(TRUSTING, connect)
    assert trio.current_time() == 3
    # It was closed: whoever would answer hears of it.
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"x")


async def test_cancelled_in_the_handshake(autojump_clock: object) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    with trio.move_on_after(1) as scope:
        await open_stream(TRUSTING, connect)
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"x")


def test_the_machines_own_authorities_are_read_once() -> None:
    assert default_context() is default_context()
    assert default_context().check_hostname


# --- clusters


def cluster_settings(count: int = 3, **changes: Any) -> Settings:
    nodes = [("localhost", 2113 + number) for number in range(count)]
    return Settings(**({"nodes": nodes, "username": "admin", "password": "changeit", "tls": client()} | changes))


@pytest.mark.parametrize("gossip", [None, False, True], ids=["follows", "plain", "https of each seed"])
async def test_gossip_and_tcp_each_with_their_own(autojump_clock: object, gossip: bool | None) -> None:
    """5.x: secure TCP, plain gossip. And gossip that gives port 0 for the plain port."""
    web = server() if gossip in (None, True) else None
    settings = cluster_settings(gossip_tls=False if gossip is False else None, tls_server_name="localhost")
    if gossip:
        settings = settings.replace(nodes=[f"https://{seed.host}:{seed.port}" for seed in seeds_of(settings)])
    async with open_cluster(3, port=None, version="5.0.11", tls=server(), http_tls=web) as cluster:
        master = await cluster.wait_for_master()
        async with open_connection(settings, connect=cluster.connect) as conn:
            assert await anext(conn.changes()) == Connected(master.host, master.port)
            await conn.append("orders", NewEvent("OrderPlaced"))


async def test_the_certificate_is_for_the_name_that_gossip_tells(autojump_clock: object) -> None:
    """It says localhost, gossip 127.0.0.1: one node's refusal may be its own, the master's is believed."""
    async with open_cluster(3, port=None, tls=server()) as cluster:
        await cluster.wait_for_master()
        settings = cluster_settings(gossip_tls=False)
        with pytest.raises(CertificateRefused, match=r"it is not for '127\.0\.0\.1'.*tls_server_name"):
            async with open_connection(settings, connect=cluster.connect):
                pass
        async with open_connection(settings.replace(tls_server_name="localhost"), connect=cluster.connect) as conn:
            await conn.ping()


async def test_a_cluster_all_of_whose_seeds_are_strangers(autojump_clock: object) -> None:
    async with open_cluster(3, port=None, http_tls=server(STRANGER.issue_cert("localhost"))) as cluster:
        settings = cluster_settings(tls=None, gossip_tls=client())
        with pytest.raises(CertificateRefused, match=r"none of the cluster's 3 seeds .* nobody trusted"):
            async with open_connection(settings, connect=cluster.connect):
                pass
        assert trio.current_time() < 1


async def test_a_plain_cluster_and_settings_that_want_tls(autojump_clock: object) -> None:
    async with open_cluster(3, port=None) as cluster:
        await cluster.wait_for_master()
        with pytest.raises(ConnectFailed, match="usable nodes has a secure TCP port; without TLS"):
            async with open_connection(cluster_settings(gossip_tls=False, first_attempts=1), connect=cluster.connect):
                pass


async def test_the_certificate_of_a_clusters_name(autojump_clock: object, nursery: trio.Nursery) -> None:
    """The addresses of a DNS name are in no certificate."""
    trio.socket.set_custom_hostname_resolver(Names(["10.0.0.1"]))
    settings = Settings(cluster_dns="es.example", gossip_tls=client(), first_attempts=1)
    connect = listening(server(CA.issue_cert("es.example")), nursery)
    with pytest.raises(ConnectFailed, match=r"without an HTTP answer|no answer within"):
        async with open_connection(settings, connect=connect):
            pass


async def test_an_admin_by_https() -> None:
    """Real sockets."""
    async with open_node(http_tls=server()) as node:
        settings = node.settings.replace(host="localhost", gossip_tls=client())
        async with open_admin(settings) as admin:
            assert "admin" in {user.login for user in await admin.users()}
