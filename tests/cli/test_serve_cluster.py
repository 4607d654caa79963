"""`trio-extreme serve --cluster`: nodes that are one cluster."""

from __future__ import annotations

import json
import signal
import socket
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.shell import Server, finished, started
from tests.embedded.securing import make_secret, write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.shell import Result

    Cli = Callable[..., Result]


def gossip(port: int) -> Any:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/gossip?format=json")
    told = json.loads(connection.getresponse().read())
    connection.close()
    return told["members"]


def test_it_says_where_each_node_is_and_stops_at_once(cli: Cli) -> None:
    with started("serve", "--cluster", "3", "--port", "0") as process:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())
        nodes = place["nodes"]
        for node in nodes:
            assert [
                (member["externalTcpPort"], member["externalHttpPort"]) for member in gossip(node["http_port"])
            ] == [(other["port"], other["http_port"]) for other in nodes]
        members = gossip(nodes[0]["http_port"])
        (master,) = (member["externalTcpPort"] for member in members if member["state"] == "Master")
        assert cli("append", "people", "--url", f"eventstore://127.0.0.1:{master}", stdin='{"type": "x"}').code == 0
        # Whoever is asked, all have it.
        for node in nodes:
            url = f"eventstore://{node['host']}:{node['port']}"
            assert cli("read", "people", "--url", url, "--format", "%t").out == "x"
        with socket.create_connection(("127.0.0.1", nodes[0]["port"])) as client:
            before = time.monotonic()
            process.send_signal(signal.SIGINT)
            client.settimeout(5)
            while client.recv(4096):
                pass
            result = finished(process)
            assert time.monotonic() - before < 2
    assert place["url"] == "eventstore+seeds://" + ",".join(f"127.0.0.1:{node['http_port']}" for node in nodes)
    assert (place["version"], place["username"], place["password"]) == ("4.1.1", "admin", "changeit")
    assert "a cluster of 3, each Event Store 4.1.1, logs in memory; Ctrl-C ends\n" in result.err
    for node in nodes:
        page = f"http://127.0.0.1:{node['http_port']}/gossip"
        role = " (master)" if node["port"] == master else ""
        assert f"node at 127.0.0.1:{node['port']}, web interface {page}{role}\n" in result.err
    assert f"trio-extreme watch people --url '{place['url']}'\n" in result.err


def test_a_cluster_behind_tls_with_users(tmp_path: Path) -> None:
    cert, key = write_files(make_secret("127.0.0.1"), tmp_path)
    options = ["--tls-cert", cert, "--tls-key", key, "--as", "23.10", "--user", "admin:sesame"]
    for https in (False, True):
        with started("serve", "--cluster", "1", "--port", "0", *options, *(["--https"] * https)) as process:
            assert process.stdout is not None
            place = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            result = finished(process)
        seed = f"127.0.0.1:{place['nodes'][0]['http_port']}"
        assert place["url"] == f"eventstores+seeds://admin@{seed}{'' if https else '?gossip_tls=false'}"
        assert (place["tls"], place["https"], place["password"]) == (True, https, None)
        assert "a cluster of 1 with TLS, each Event Store 23.10.6" in result.err
        assert f"web interface {'https' if https else 'http'}://{seed}/gossip (master)\n" in result.err
        assert "users: admin ($admins)\n" in result.err
        assert "sesame" not in result.err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--cluster", "3", "--persist", "x.db"], "--persist is for one node, and not for those of a cluster."),
        (["--cluster", "3", "--projections"], "--projections is for one node"),
        (["--cluster", "3", "--gossip-on-single-node"], "--gossip-on-single-node is for one node"),
        (["--cluster", "3", "--http-port", "none"], "--http-port none is for one node"),
        (["--cluster", "0"], "Invalid value for '--cluster'"),
        (["--cluster", "3", "--port", "65534"], "port: 65534 to 65536 are no ports"),
    ],
)
def test_what_is_no_cluster(cli: Cli, options: list[str], text: str) -> None:
    result = cli("serve", *options)
    assert (result.code, result.out) == (2, "")
    assert text in result.err


def test_a_port_that_is_taken(cli: Cli, server: Server) -> None:
    taken = server.settings.port
    for options, remedy in ((["--port", str(taken)], "--port 0"), (["--http-port", str(taken - 2)], "--http-port 0")):
        result = cli("serve", "--cluster", "3", "--port", "0", *options)
        assert (result.code, result.out) == (1, "")
        assert "is taken" in result.err
        assert f"Try: trio-extreme serve {remedy}" in result.err
