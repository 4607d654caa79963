"""Which node of a cluster next: seeds that answer, fail, hang and lie; and connections that go on from it."""

from __future__ import annotations

import json
import logging
import socket
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.peer import Peer
from trio_extreme import (
    Connected,
    ConnectFailed,
    ConnectionLost,
    InvalidArgument,
    NotAuthenticated,
    Settings,
    open_connection,
)
from trio_extreme.discovery import MAX_GOSSIP, Discovery
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.usefixtures("autojump_clock")

SEEDS = Settings(nodes=["s1", "s2", "s3"])
_UTTER = "HTTP/1.1 {} X\r\ncontent-length: {}\r\n{}\r\n"


def gossip(*members: tuple[str, str, int] | tuple[str, str, int, bool]) -> bytes:
    """A document, of (state, host, port) and whether it is alive."""
    told = [
        {"state": state, "isAlive": (*rest, True)[0], "externalTcpIp": host, "externalTcpPort": port}
        for state, host, port, *rest in members
    ]
    return json.dumps({"members": told, "serverIp": "x", "serverPort": 1}).encode()


def answer(body: bytes, status: int = 200, headers: str = "") -> bytes:
    return _UTTER.format(status, len(body), headers).encode() + body


THREE = gossip(("Slave", "n1", 1113), ("Master", "n2", 1113), ("Slave", "n3", 1113))


class Web:
    """A network of seeds, each of which says the same to whoever asks; and of nodes, which accept connections."""

    def __init__(self, nursery: trio.Nursery, seeds: dict[str, Any], nodes: dict[str, Any] | None = None) -> None:
        self._nursery = nursery
        #: What a seed says: bytes, an error instead of a connection, or None for silence.
        self.seeds = seeds
        #: A peer, or an error.
        self.nodes = nodes or {}
        self.log: list[str] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.log.append(host)
        said = self.nodes.get(host, self.seeds.get(host, OSError(f"no {host}")))
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Peer):
            return said.stream
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs, said)
        return ours

    async def _serve(self, stream: trio.abc.Stream, said: bytes | None) -> None:
        async with stream:
            try:
                await stream.receive_some()
                if said is None:
                    await trio.sleep_forever()
                await stream.send_all(said)
            except trio.BrokenResourceError:
                # Whoever asked has heard enough.
                pass


async def find(web: Web, settings: Settings = SEEDS, seed: int = 1, avoid: Iterable[tuple[str, int]] = ()) -> str:
    found = await Discovery(settings, web.connect, Random(seed)).find(set(avoid))
    return str(found.address)


async def test_the_master_and_a_slave(nursery: trio.Nursery) -> None:
    web = Web(nursery, dict.fromkeys(("s1", "s2", "s3"), answer(THREE)))
    assert {await find(web, seed=seed) for seed in range(9)} == {"n2:1113"}
    assert {await find(web, SEEDS.replace(mode="read"), seed) for seed in range(9)} == {"n1:1113", "n3:1113"}
    # Seeds are asked at random, and no more of them than need be.
    assert set(web.log) == {"s1", "s2", "s3"}
    assert len(web.log) == 18


async def test_the_same_chance_makes_the_same_choice(nursery: trio.Nursery) -> None:
    def again() -> Web:
        return Web(nursery, {"s1": answer(THREE), "s2": OSError("refused"), "s3": answer(THREE)})

    webs = again(), again()
    for seed in range(9):
        assert len({await find(web, SEEDS.replace(mode="any"), seed) for web in webs}) == 1
    assert webs[0].log == webs[1].log


HOSTILE: dict[str, tuple[Any, str]] = {
    "refused": (OSError("[Errno 111] Connection refused"), "nothing accepts connections there ([Errno 111]"),
    "hangs": (None, "no answer within 1 s (gossip_timeout)"),
    "500": (answer(b"oops", 500), "it answers 500 to /gossip"),
    "404": (answer(b"", 404), "GossipOnSingleNode"),
    "401": (answer(b"", 401), "it does not tell it to everybody"),
    "redirect": (answer(b"", 302, "location: http://elsewhere/\r\n"), "which is not followed"),
    "half": (answer(THREE)[:-100], "in the middle of its HTTP answer"),
    "half a JSON": (answer(THREE[:-100]), "no JSON, or not all of it"),
    "50 MB": (_UTTER.format(200, 50_000_000, "").encode(), "the limit is 1,048,576"),
    "50 MB of unknown length": (b"HTTP/1.1 200 X\r\n\r\n" + b" " * (MAX_GOSSIP + 1), "the limit is 1,048,576"),
    "no HTTP": (b"\x16\x03\x01\x02\x00", "does not answer in HTTP"),
    "nothing": (b"", "without an HTTP answer"),
    "no members": (answer(b"{}"), "no gossip"),
    "nobody": (answer(gossip(("Master", "n", 1113, False), ("Manager", "n", 1))), "1 Manager, 1 dead Master"),
    "no port": (answer(gossip(("Master", "n", 0))), "has an external TCP port"),
}


async def test_hostile_seeds_are_passed_over_and_told_of(nursery: trio.Nursery) -> None:
    for said, words in HOSTILE.values():
        assert await find(Web(nursery, {"s1": said, "s2": said, "s3": answer(THREE)})) == "n2:1113"
        with pytest.raises(ConnectionLost) as caught:
            await find(Web(nursery, dict.fromkeys(("s1", "s2", "s3"), said)))
        text = str(caught.value)
        assert text.startswith("none of the cluster's 3 seeds names a node to connect to: ")
        assert text.count(words) == 3, text
        assert all(f"http://s{number}:2113: " in text for number in (1, 2, 3))


async def test_a_state_nobody_knows_comes_last_and_is_logged(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        said = answer(gossip(("Novel", "n1", 1113), ("ReadOnlyReplica", "n2", 1113)))
        assert await find(Web(nursery, {"s1": said, "s2": said, "s3": said})) == "n2:1113"
    assert "state 'Novel', which is not known here" in caplog.text


async def test_advertised_addresses_are_mapped(nursery: trio.Nursery) -> None:
    web = Web(nursery, dict.fromkeys(("s1", "s2", "s3"), answer(THREE)))
    assert await find(web, SEEDS.replace(endpoint_map={("n2", 1113): ("localhost", 31112)})) == "localhost:31112"
    mapped = SEEDS.replace(endpoint_map=lambda host, port: ("::1", port + int(host[1:])))
    assert await find(web, mapped) == "[::1]:1115"
    with pytest.raises(InvalidArgument, match="endpoint_map"):
        await find(web, SEEDS.replace(endpoint_map=lambda _host, _port: "x"))


# --- by name


class Names(trio.abc.HostnameResolver):
    def __init__(self, *answers: list[str] | Exception | None) -> None:
        self._answers = list(answers)

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            await trio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        families = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in answer]
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in families]

    async def getnameinfo(self, *_: Any) -> tuple[str, str]:
        raise NotImplementedError


DNS = Settings(cluster_dns="es.example", gossip_port=2114)
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_every_address_of_a_name_is_a_seed(nursery: trio.Nursery) -> None:
    trio.socket.set_custom_hostname_resolver(Names(["10.0.0.1", "fe80::1", "10.0.0.1", "10.0.0.2"]))
    web = Web(nursery, {"fe80::1": answer(THREE)})
    for seed in range(9):
        assert await find(web, DNS, seed) == "n2:1113"
    assert set(web.log) == {"10.0.0.1", "10.0.0.2", "fe80::1"}


@pytest.mark.parametrize(
    ("said", "words"),
    [(NO_NAME, "cannot be looked up (Name or service not known): check cluster_dns"), (None, "within 3 s")],
    ids=["unknown", "hangs"],
)
async def test_names_that_fail(nursery: trio.Nursery, said: Any, words: str) -> None:
    trio.socket.set_custom_hostname_resolver(Names(said))
    with pytest.raises(ConnectionLost) as caught:
        await find(Web(nursery, {}), DNS)
    assert words in str(caught.value)


async def test_a_name_that_cannot_be_one(nursery: trio.Nursery) -> None:
    with pytest.raises(InvalidArgument, match=r"^cluster_dns: 'a\.\.b' cannot be the name of a cluster"):
        await find(Web(nursery, {}), Settings(cluster_dns="a..b"))


async def test_names_that_fail_and_heal(nursery: trio.Nursery) -> None:
    trio.socket.set_custom_hostname_resolver(Names(NO_NAME, None, NO_NAME, ["10.0.0.1"]))
    web = Web(nursery, {"10.0.0.1": answer(THREE)}, {"n2": Peer()})
    async with open_connection(DNS, connect=web.connect) as conn:
        assert await conn.ping() == 0


# --- connections


async def test_gossip_is_asked_for_again_at_every_attempt(nursery: trio.Nursery) -> None:
    """X4: the node that was chosen first cannot be reached, and then another is the master."""
    other = gossip(("Master", "n1", 1113), ("Slave", "n2", 1113))
    web = Web(nursery, {"s": [*[answer(THREE)] * 3, answer(other)]}, {"n1": Peer(), "n2": OSError("gone")})
    async with open_connection(Settings(nodes=["s"]), connect=web.connect) as conn:
        assert await anext(conn.changes()) == Connected("n1", 1113)
        assert repr(conn) == "<Connection to the cluster of s:2113>"
    assert web.log == ["s", "n2"] * 3 + ["s", "n1"]


async def test_who_reads_goes_elsewhere_when_a_slave_cannot_be_reached(nursery: trio.Nursery) -> None:
    told = answer(gossip(("Slave", "n1", 1113), ("Master", "n2", 1113)))
    web = Web(nursery, {"s": told}, {"n1": OSError("gone"), "n2": Peer()})
    async with open_connection(Settings(nodes=["s"], mode="read"), connect=web.connect) as conn:
        assert await anext(conn.changes()) == Connected("n2", 1113)


async def test_no_seed_is_an_attempt_like_any_other(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    """X5."""
    web = Web(nursery, {"s": [OSError("gone"), None, answer(b"", 500), answer(THREE)]}, {"n2": Peer()})
    async with open_connection(Settings(nodes=["s"]), connect=web.connect):
        assert trio.current_time() > 1
    assert [words in caplog.text for words in ("attempt 1 to", "attempt 2 to", "attempt 3 to", "attempt 4")] == [
        *[True] * 3,
        False,
    ]


async def test_attempts_that_run_out_tell_why(nursery: trio.Nursery) -> None:
    web = Web(nursery, {"s": OSError("gone")})
    with pytest.raises(ConnectFailed, match="could not connect to the cluster of s:2113 in 2 attempts; the last: none"):
        async with open_connection(Settings(nodes=["s"], first_attempts=2), connect=web.connect):
            pass
    web = Web(nursery, {"s": answer(THREE)}, {"n2": OSError("gone")})
    with pytest.raises(ConnectFailed, match=r"in 1 attempts; the last \(n2:1113\): nothing accepts") as caught:
        async with open_connection(Settings(nodes=["s"], first_attempts=1), connect=web.connect):
            pass
    assert [type(error) for error in caught.value.attempts] == [ConnectionLost]


async def test_a_node_that_cannot_be_is_an_attempt_that_failed(nursery: trio.Nursery) -> None:
    told = [answer(gossip(("Master", "a..b", 1113))), answer(THREE)]
    web = Web(nursery, {"s": told}, {"a..b": InvalidArgument("host: 'a..b' cannot be the name"), "n2": Peer()})
    async with open_connection(Settings(nodes=["s"]), connect=web.connect) as conn:
        assert await anext(conn.changes()) == Connected("n2", 1113)


def refusing() -> Peer:
    peer = Peer(mute=[Command.PING])
    peer.handlers[Command.PING] = lambda request: peer.send(Command.NOT_AUTHENTICATED, request.correlation, b"no")
    return peer


@pytest.mark.parametrize(
    ("states", "asked"),
    [
        (["Master"], 1),
        (["Slave", "Slave"], 2),
        # One node alone may be wrong about it.
        (["Slave"], None),
    ],
    ids=["master", "two slaves", "one slave"],
)
async def test_a_wrong_password_is_believed_of_the_master_or_of_two(
    nursery: trio.Nursery, states: list[str], asked: int | None
) -> None:
    told = answer(gossip(*((state, f"n{number}", 1113) for number, state in enumerate(states))))
    nodes = {f"n{number}": [refusing() for _ in range(9)] for number in range(len(states))}
    web = Web(nursery, {"s": told}, nodes)
    settings = Settings(nodes=["s"], username="admin", password="secret", mode="read", first_attempts=4)
    with pytest.raises(NotAuthenticated if asked else ConnectFailed) as caught:
        async with open_connection(settings, connect=web.connect):
            pass
    assert web.log.count("s") == (asked or 4)
    assert "secret" not in str(caught.value)


async def test_cancelled_while_looking_for_a_node(nursery: trio.Nursery) -> None:
    """At each checkpoint once; that no task and no socket is left is seen by whoever runs the test."""
    web = Web(nursery, {"s1": answer(THREE), "s2": None, "s3": answer(THREE)}, {"n2": Peer()})
    for seconds in (0, 0.5, 1.5):
        with trio.move_on_after(seconds) as scope:
            await Discovery(SEEDS.replace(nodes=["s2", "s2"]), web.connect, Random(1)).find()
        assert scope.cancelled_caught


async def test_a_port_that_accepts_and_resets(nursery: trio.Nursery) -> None:
    """X3: a load balancer without anything behind it, for half a minute; then there is something."""
    healthy = Peer()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if trio.current_time() >= 30:
            return healthy.stream
        ours, theirs = trio.testing.memory_stream_pair()
        await trio.aclose_forcefully(theirs)
        return ours

    async with open_connection(Settings(first_attempts=None), connect=connect) as conn:
        assert 30 <= trio.current_time() < 36
        assert await conn.ping() == 0


def test_its_repr() -> None:
    assert repr(Discovery(DNS, trio.open_tcp_stream, Random(1))) == "<Discovery of the cluster es.example:2114>"
