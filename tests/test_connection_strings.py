"""Connection strings of the .NET client: what of them is understood, and what is refused by its name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_extreme.connection_strings import is_connection_string, parse_connection_string
from trio_extreme.errors import InvalidArgument
from trio_extreme.nodes import Seed
from trio_extreme.settings import Settings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "ConnectTo=tcp://admin:changeit@h:1114",
            {"host": "h", "port": 1114, "username": "admin", "password": "changeit"},
        ),
        ("connect to = tcp://h ;", {"host": "h"}),
        ("ConnectTo=discover://es.example:2113", {"cluster_dns": "es.example", "gossip_port": 2113}),
        (
            "GossipSeeds=h1:2113, https://h2:2114",
            {"nodes": (Seed("h1", 2113), Seed("h2", 2114, tls=True))},
        ),
        ("ClusterDns=es.example;ExternalGossipPort=30778", {"cluster_dns": "es.example", "gossip_port": 30778}),
        ('DefaultUserCredentials="admin:c;""h"', {"username": "admin", "password": 'c;"h'}),
        ("DefaultUserCredentials='a:b''c'", {"username": "a", "password": "b'c"}),
        ("Heartbeat Timeout=1500;HEARTBEATINTERVAL=750", {"heartbeat_timeout": 1.5, "heartbeat_interval": 0.75}),
        ("GossipTimeout=500;ClientConnectionTimeout=2000", {"gossip_timeout": 0.5, "connect_timeout": 2.0}),
        ("ReconnectionDelay=100;OperationTimeout=7000", {"reconnect_delay": 0.1, "attempt_timeout": 7.0}),
        ("MaxReconnections=-1;MaxDiscoverAttempts=2147483647", {"max_attempts": None, "first_attempts": None}),
        ("MaxReconnections=5;MaxConcurrentItems=9", {"max_attempts": 5, "max_in_flight": 9}),
        ("UseSslConnection=True;TargetHost=node1", {"tls": True, "tls_server_name": "node1"}),
        ("UseSslConnection=false", {"tls": None}),
        ("NodePreference=Slave", {"mode": "read"}),
        ("NodePreference=leader", {"mode": "write"}),
        ("NodePreference=Random", {"mode": "any"}),
        # What is so anyway.
        ("VerboseLogging=false;RequireMaster=true;ValidateServer=true;CompatibilityMode=", {}),
    ],
)
def test_what_is_understood(text: str, found: dict[str, Any]) -> None:
    assert is_connection_string(text)
    assert parse_connection_string(text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ConnectTo=tcp://u:secret@h;GossipSeeds=h:2113", "ConnectTo and GossipSeeds are both given"),
        ("ConnectTo=http://u:secret@h", "ConnectTo is tcp://"),
        (
            "HartbeatTimeout=secret",
            "unknown key 'HartbeatTimeout' of a connection string; did you mean HeartbeatTimeout",
        ),
        ("Zzz=secret", "unknown key 'Zzz' .* known are ClientConnectionTimeout, "),
        ("HeartbeatTimeout=secret", "value of HeartbeatTimeout is not of its kind"),
        ("UseSslConnection=secret", "value of UseSslConnection"),
        ("NodePreference=secret", "value of NodePreference"),
        ("DefaultUserCredentials=secret", "value of DefaultUserCredentials"),
        ("ConnectTo=tcp://h;secret", "key=value"),
        ("MaxRetries=10", "MaxRetries cannot be honoured here: a call is tried until operation_timeout"),
        ("ValidateServer=false", "ValidateServer cannot be honoured here: certificates are always checked"),
        ("RequireMaster=false", "each verb takes require_master="),
        ("VerboseLogging=true", "logger"),
        ("QueueTimeout=5", "operation_timeout"),
    ],
)
def test_what_is_refused_and_never_shown(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        parse_connection_string(text)
    assert "secret" not in str(caught.value)


@given(st.text(st.sampled_from("ConetT=;:'\"/h1, @\x00")))
def test_any_text_is_understood_or_an_invalid_argument(text: str) -> None:
    with suppress(InvalidArgument):
        parse_connection_string(f"ConnectTo={text}")


def test_settings_take_one_as_a_url() -> None:
    settings = Settings.from_url("ConnectTo=discover://admin:changeit@es.example:2114; HeartbeatTimeout=1500")
    assert settings == Settings(
        cluster_dns="es.example", gossip_port=2114, username="admin", password="changeit", heartbeat_timeout=1.5
    )
