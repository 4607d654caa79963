"""`trio-extreme doctor`, `gossip` and `ping`: of a node that is well, and of each way in which one is not."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.shell import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.shell import Result

    Cli = Callable[..., Result]

HASTE = "connect_timeout=0.3&identify_timeout=0.2&attempt_timeout=0.5&gossip_timeout=0.5"


@pytest.fixture(scope="module")
def modern() -> Iterator[Server]:
    """A server that tells of itself when it is alone; one for all tests, which change nothing."""
    running = Server("20.10")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def url(server: Server, user: str = "", port: int = 0, **options: Any) -> str:
    asked = "".join(f"&{key}={value}" for key, value in options.items())
    web = server.settings.http_port if "http_port" not in options else None
    where = f"{user}127.0.0.1:{port or server.settings.port}"
    return f"eventstore://{where}?{HASTE}{asked}" + ("" if web is None else f"&http_port={web}")


def steps(result: Result) -> dict[str, str]:
    """By step, its result."""
    return {line["step"]: line["result"] for line in map(json.loads, result.lines)}


def says(result: Result) -> str:
    text: str = json.loads(result.lines[-1])["says"]
    return text


def web_port(server: Server) -> int:
    port = server._node.http_port
    assert port is not None
    return port


def test_a_node_that_is_well(cli: Cli, modern: Server) -> None:
    result = cli("doctor", url(modern, "admin:changeit@", http_port=web_port(modern)))
    assert result.code == 0, result.err
    assert steps(result) == dict.fromkeys(("name", "tcp", "frames", "credentials", "state"), "ok")
    assert says(result).startswith("20.10")
    assert "changeit" not in result.out + result.err


def test_a_wrong_password(cli: Cli, modern: Server) -> None:
    result = cli("doctor", "--url", url(modern, "admin:secret-but-wrong@", http_port=web_port(modern)))
    assert result.code == 4
    assert (steps(result)["frames"], steps(result)["credentials"]) == ("ok", "failed")
    assert "check user name and password" in says(result)
    assert "secret-but-wrong" not in result.out + result.err


def test_a_tcp_port_that_is_off(cli: Cli, modern: Server, free_port: int) -> None:
    result = cli("doctor", "--url", url(modern, port=free_port, http_port=web_port(modern)))
    assert (result.code, steps(result)) == (3, {"name": "ok", "tcp": "failed"})
    assert "EnableExternalTcp, off by default since 20.6" in says(result)
    assert "its web interface answers: a 20.10" in says(result)
    assert f"the step 'tcp' failed at 127.0.0.1:{free_port}" in result.err


def test_nobody_at_all(cli: Cli, modern: Server, free_port: int) -> None:
    result = cli("doctor", "--url", url(modern, port=free_port, http_port=free_port))
    assert (result.code, steps(result)) == (3, {"name": "ok", "tcp": "failed"})
    assert "web interface" not in says(result)


def test_the_port_of_the_web_interface(cli: Cli, modern: Server) -> None:
    result = cli("doctor", "--url", url(modern, port=web_port(modern), http_port=web_port(modern)))
    assert (result.code, steps(result)["frames"]) == (3, "failed")
    assert "1113" in says(result)


def test_tls_where_there_is_none(cli: Cli, modern: Server) -> None:
    result = cli("doctor", "--url", url(modern, http_port=web_port(modern), tls="true", gossip_tls="false"))
    assert (result.code, steps(result)) == (3, {"name": "ok", "tcp": "ok", "tls": "failed"})
    assert "TLS" in says(result)


def test_a_name_that_is_none(cli: Cli) -> None:
    result = cli("doctor", "--url", "eventstore://no.such.host.invalid")
    assert (result.code, steps(result)) == (3, {"name": "failed"})
    assert "check the host" in says(result)


def test_a_cluster(cli: Cli, modern: Server, free_port: int) -> None:
    seeds = f"127.0.0.1:{web_port(modern)},127.0.0.1:{free_port}"
    cluster = f"eventstore+seeds://{seeds}?{HASTE}"
    result = cli("doctor", "--url", cluster)
    assert result.code == 0, result.err
    assert steps(result) == dict.fromkeys(("gossip", "name", "tcp", "frames"), "ok")
    gossip = cli("gossip", cluster)
    (line,) = map(json.loads, gossip.lines)
    assert gossip.code == 0
    assert f"127.0.0.1:{free_port}: nothing accepts connections there" in gossip.err
    assert (line["state"], line["alive"], line["usable"], line["chosen"]) == ("Leader", True, True, True)
    assert line["tcp"] == f"127.0.0.1:{modern.settings.port}"


def test_a_cluster_of_which_nobody_answers(cli: Cli, free_port: int) -> None:
    cluster = f"eventstore+seeds://127.0.0.1:{free_port}?{HASTE}"
    doctor, gossip = cli("doctor", "--url", cluster), cli("gossip", "--url", cluster)
    assert (doctor.code, steps(doctor)) == (3, {"gossip": "failed"})
    assert (gossip.code, gossip.out) == (3, "")
    assert "trio-extreme doctor" in gossip.err


def test_the_gossip_of_a_node_alone(cli: Cli, modern: Server) -> None:
    result = cli("gossip", "--url", url(modern, http_port=web_port(modern)))
    assert [json.loads(line)["state"] for line in result.lines] == ["Leader"]


def test_lines_for_humans(cli: Cli, modern: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_extreme.cli.output.is_terminal", lambda: True)
    where = url(modern, http_port=web_port(modern))
    assert "ok       tcp          port" in cli("doctor", "--url", where).out
    assert " * Leader" in cli("gossip", "--url", where).out
    assert "1: " in cli("ping", "--url", where).out


def test_ping(cli: Cli, modern: Server) -> None:
    result = cli("ping", "--count", "3", "--interval", "0", "--url", url(modern, http_port=web_port(modern)))
    lines = [json.loads(line) for line in result.lines]
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert all(0 < line["seconds"] < 5 and line["host"] == "127.0.0.1" for line in lines)


def test_ping_where_nobody_is(cli: Cli, free_port: int) -> None:
    assert cli("ping", "--url", f"eventstore://127.0.0.1:{free_port}?first_attempts=1").code == 3
