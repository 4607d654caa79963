"""Settings of clusters and of TLS, and what the environment says."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from trio_extreme.errors import InvalidArgument
from trio_extreme.nodes import Seed
from trio_extreme.settings import Settings, seeds_of

if TYPE_CHECKING:
    from pathlib import Path

NODES = (Seed("h1", 2113), Seed("h2", 2114, tls=True))


def test_nodes_in_every_form() -> None:
    settings = Settings(nodes=["h1:2113", ("https://h2", 2114)], mode="read")
    assert (settings.nodes, seeds_of(settings), settings.is_cluster) == (NODES, NODES, True)
    assert settings.address == "the cluster of h1:2113, https://h2:2114"
    assert settings.replace(mode="any").nodes == NODES
    assert Settings(cluster_dns="es.example").address == "the cluster es.example:2113"
    assert (Settings().is_cluster, Settings(host="::1").address) == (False, "[::1]:1113")
    assert hash(Settings(nodes=["h"], endpoint_map={})) == hash(Settings(nodes=["h"], endpoint_map={}))


def test_the_web_interface_is_where_gossip_is() -> None:
    assert Settings(host="h", http_port=5).web_endpoint == ("h", 5)
    assert Settings(host="h", http_host="w").web_endpoint == ("w", 2113)
    assert Settings(nodes=["h1:2114", "h2"]).web_endpoint == ("h1", 2114)
    assert Settings(cluster_dns="es", gossip_port=7).web_endpoint == ("es", 7)
    assert [Settings(tls=tls, gossip_tls=web).web_tls for tls, web in ((None, None), (True, None), (True, False))] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ("write", "write"),
        ("leader", "write"),
        ("master", "write"),
        ("follower", "read"),
        ("slave", "read"),
        ("any", "any"),
    ],
)
def test_modes(given: str, mode: str) -> None:
    assert Settings(mode=given).mode == mode
    assert Settings.from_url(f"eventstore+seeds://h?mode={given}").mode == mode


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "Write"}, "^mode: 'Write' is none; give 'write', 'read' or 'any'"),
        ({"mode": None}, "^mode: None"),
        ({"nodes": "h1:2113"}, "^nodes: a list of nodes is wanted"),
        ({"nodes": 5}, "^nodes: a list of nodes is wanted"),
        ({"nodes": ["h:x"]}, "^nodes: 'h:x' is no node"),
        ({"nodes": ["h"], "cluster_dns": "es"}, "^cluster_dns: 'es' is given, and nodes too"),
        ({"nodes": ["h"], "host": "h"}, "^host: 'h:1113' is given, and nodes or cluster_dns too"),
        ({"cluster_dns": "es", "port": 1114}, "^host: 'localhost:1114' is given"),
        ({"endpoint_map": 5}, "^endpoint_map: a table or a function is wanted, not int"),
        ({"gossip_port": 0}, "^gossip_port: 0 is no whole number"),
        ({"gossip_timeout": 0}, "^gossip_timeout: 0 is no number of seconds"),
        ({"tls": "yes"}, "^tls: 'yes' is neither None, True nor an ssl.SSLContext"),
        ({"gossip_tls": 1}, "^gossip_tls: 1 is neither"),
        ({"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "^tls: this SSLContext is for servers"),
    ],
)
def test_what_cannot_be_meant(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        Settings(**changes)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("eventstore+seeds://h1:2113,https://h2:2114", Settings(nodes=NODES)),
        (
            "eventstore+seeds://a:p%40@h1,[::1]:5?mode=read",
            Settings(nodes=["h1", "[::1]:5"], username="a", password="p@", mode="read"),
        ),
        ("eventstores+seeds://h1", Settings(nodes=["h1"], tls=True)),
        ("eventstore+dns://es.example", Settings(cluster_dns="es.example")),
        (
            "eventstore+dns://a:b@es:5?gossip_timeout=2",
            Settings(cluster_dns="es", gossip_port=5, username="a", password="b", gossip_timeout=2),
        ),
        ("eventstores+dns://es?gossip_tls=false", Settings(cluster_dns="es", tls=True, gossip_tls=False)),
        ("discover://es:2113", Settings(cluster_dns="es")),
        ("eventstores://h?tls_server_name=n", Settings(host="h", tls=True, tls_server_name="n")),
        ("eventstore://h?tls=true", Settings(host="h", tls=True)),
    ],
)
def test_urls(url: str, expected: Settings) -> None:
    assert Settings.from_url(url) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("eventstore+seeds://", "the nodes are missing, as in"),
        ("eventstore+seeds://u:secret@", "the nodes are missing"),
        ("eventstore+seeds://u:secret@h:x", "the nodes are given like h1:2113,h2:2113"),
        ("eventstore+seeds://u:12#secret@h", "in a password write #"),
        ("eventstore+dns://", "the name of the cluster is missing"),
        ("eventstore+dns://u:secret@:2113", "the name of the cluster is missing"),
        ("esdb://u:secret@h", r"gRPC.*eventstore\+seeds://"),
        ("eventstore+seeds://h?nodes=x", "unknown option 'nodes'"),
        ("eventstores://h?tls_ca_file=/none", "^tls_ca_file: '/none' has no certificates that can be read"),
        ("eventstores://h?tls_cafile=x", "did you mean 'tls_ca_file'"),
        ("eventstore://h?mode=rite", "^mode: 'rite' is none"),
    ],
)
def test_urls_that_are_refused(url: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        Settings.from_url(url)
    assert "secret" not in str(caught.value)


def test_a_ca_file(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    settings = Settings.from_url(f"eventstores://h?tls_ca_file={path}")
    assert isinstance(settings.tls, ssl.SSLContext)
    assert len(settings.tls.get_ca_certs()) == 1
    assert settings.tls.check_hostname


def test_from_env() -> None:
    assert Settings.from_env({}) == Settings()
    environ = {
        "TRIO_EXTREME_URL": "eventstore+seeds://admin@h1:2113",
        "TRIO_EXTREME_PASSWORD": "changeit",
        "TRIO_EXTREME_MODE": "read",
        "TRIO_EXTREME_GOSSIP_TIMEOUT": "2.5",
        "TRIO_EXTREME_DEBUG": "1",
        "OTHER": "x",
    }
    expected = Settings(
        nodes=["h1"], username="admin", password="changeit", mode="read", gossip_timeout=2.5, page_size=7
    )
    assert Settings.from_env(environ, page_size=7) == expected
    assert Settings.from_env({"TRIO_EXTREME_HOST": "h", "TRIO_EXTREME_PORT": "1114"}) == Settings(host="h", port=1114)
    assert Settings.from_env({"TRIO_EXTREME_NODES": "h1:2113,https://h2:2114"}) == Settings(nodes=NODES)
    assert Settings.from_env({"TRIO_EXTREME_TOKEN": "t"}).token == "t"


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("TRIO_EXTREME_MOD", "secret", "^environment: TRIO_EXTREME_MOD means nothing; did you mean TRIO_EXTREME_MODE"),
        ("TRIO_EXTREME_QQQ", "secret", "TRIO_EXTREME_QQQ means nothing"),
        ("TRIO_EXTREME_PORT", "x", "port='x' is not a whole number"),
        ("TRIO_EXTREME_URL", "redis://u:secret@h", "scheme"),
    ],
)
def test_environments_that_are_refused(variable: str, text: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        Settings.from_env({variable: text})
    assert "secret" not in str(caught.value)


def test_the_environment_is_the_processes_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_EXTREME_URL", "eventstore://from-the-environment")
    assert Settings.from_env().host == "from-the-environment"
