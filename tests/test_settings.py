"""Settings: what may be said, what is refused and how it is named, and what never shows."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from trio_extreme.errors import InvalidArgument
from trio_extreme.settings import Settings
from trio_extreme.values import Credentials

# The table of docs: what a program that sets nothing relies on.
DEFAULTS = {
    "host": "localhost",
    "port": 1113,
    "http_host": "",
    "http_port": 2113,
    "protocol_version": 4,
    "connect_timeout": 3.0,
    "gossip_timeout": 1.0,
    "identify_timeout": 2.0,
    "reconnect_delay": 0.1,
    "max_reconnect_delay": 5.0,
    "first_attempts": 10,
    "heartbeat_interval": 2.0,
    "heartbeat_timeout": 3.0,
    "attempt_timeout": 7.0,
    "operation_timeout": 30.0,
    "close_timeout": 0.8,
    "max_in_flight": 5000,
    "max_queued_bytes": 64 * 1024 * 1024,
    "max_frame_size": 64 * 1024 * 1024,
    "buffer_events": 1000,
    "buffer_bytes": 8 * 1024 * 1024,
    "live_buffer_events": 10_000,
    "live_buffer_bytes": 32 * 1024 * 1024,
    "page_size": 500,
}
SECONDS = [name for name, value in DEFAULTS.items() if isinstance(value, float)]
WHOLE = [*(name for name, value in DEFAULTS.items() if isinstance(value, int)), "max_attempts"]
ENDLESS = ["first_attempts", "max_attempts"]
FLAGS = ["read_only"]
TEXTS = ["host", "http_host", "username", "password", "token", "connection_name"]


def made(name: str, value: Any) -> Settings:
    return Settings(**{name: value})


def test_defaults() -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert settings.credentials is None
    # It connects again for as long as it takes.
    assert settings.max_attempts is None


def test_credentials() -> None:
    assert Settings(username="u", password="p").credentials == Credentials("u", "p")
    assert Settings(username="u").credentials == Credentials("u", "")
    assert Settings(token="t").credentials == Credentials(token="t")


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [-1, -0.1, float("nan"), float("inf"), "1", None, True])
def test_times_are_seconds(name: str, value: Any) -> None:
    refuse(name, value)


@pytest.mark.parametrize("name", ["connect_timeout", "identify_timeout", "heartbeat_interval", "attempt_timeout"])
def test_times_that_cannot_be_zero(name: str) -> None:
    refuse(name, 0)
    assert getattr(made(name, 0.001), name) == 0.001


@pytest.mark.parametrize("name", ["reconnect_delay", "max_reconnect_delay", "close_timeout"])
def test_times_that_can_be_zero(name: str) -> None:
    assert getattr(made(name, 0), name) == 0


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True])
def test_counts_are_whole_numbers(name: str, value: Any) -> None:
    refuse(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65_536),
        ("http_port", 65_536),
        ("page_size", 4097),
        ("max_frame_size", 64 * 1024 * 1024 + 1),
        ("max_frame_size", 1023),
    ],
)
def test_upper_and_lower_limits_are_named(name: str, value: int) -> None:
    limits = refuse(name, value)
    assert " from " in limits
    assert " to " in limits


@pytest.mark.parametrize("name", ENDLESS)
def test_no_end_of_attempts(name: str) -> None:
    assert getattr(made(name, None), name) is None
    assert getattr(made(name, 1), name) == 1


def refuse(name: str, value: object) -> str:
    with pytest.raises(InvalidArgument, match=rf"^{name}: {value!r} is no ") as caught:
        made(name, value)
    return str(caught.value)


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [None, 0, 1, "true"])
def test_flags_are_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: {value!r} is neither True nor False"):
        made(name, value)
    assert not getattr(Settings(), name)
    assert getattr(made(name, value=True), name)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_in_a_url(name: str) -> None:
    assert getattr(Settings.from_url(f"tcp://h?{name}=true"), name)
    assert not getattr(Settings.from_url(f"tcp://h?{name}=false"), name)
    for text in ("True", "1", "yes", ""):
        with pytest.raises(InvalidArgument, match=f"{name}='{text}' is not true or false"):
            Settings.from_url(f"tcp://h?{name}={text}")


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_strings_and_the_value_is_not_shown(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: a string is wanted, not bytes") as caught:
        made(name, b"secret")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_can_be_sent(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: half of a surrogate pair"):
        made(name, "\ud800")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"host": ""}, "^host: "),
        ({"connection_name": "n" * 1001}, "^connection_name: 1001 characters; more than 1000"),
        ({"password": "secret"}, "^password: without a username"),
        ({"username": "u" * 256}, "^username: 256 bytes"),
        ({"username": "u", "password": "secret" * 50}, "^password: 300 bytes"),
        ({"username": "u", "token": "secret"}, "^credentials: "),
    ],
)
def test_credentials_that_cannot_be_sent(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text) as caught:
        Settings(**changes)
    assert "secret" not in str(caught.value)


def test_repr_shows_no_secret() -> None:
    for settings in (Settings(username="u", password="secret"), Settings(token="secret")):
        assert "secret" not in repr(settings)
        assert "secret" not in str(settings)


def test_replace_makes_another_and_checks_it() -> None:
    settings = Settings(username="u", password="p")
    other = settings.replace(port=1114)
    assert (other.port, other.password, settings.port) == (1114, "p", 1113)
    with pytest.raises(InvalidArgument, match="port"):
        settings.replace(port=0)


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 5  # type: ignore[misc]


def test_from_url() -> None:
    url = "eventstore://admin:changeit@node:1114?connection_name=my-app&first_attempts=3&page_size=7&close_timeout=0"
    assert Settings.from_url(url, page_size=8) == Settings(
        host="node",
        port=1114,
        username="admin",
        password="changeit",
        connection_name="my-app",
        first_attempts=3,
        page_size=8,
        close_timeout=0,
    )


def test_every_setting_can_stand_in_a_url() -> None:
    for name in DEFAULTS.keys() - {"host", "port"}:
        value = DEFAULTS[name]
        assert getattr(Settings.from_url(f"tcp://h?{name}={value}"), name) == value
    # Those of clusters and TLS have tests of their own.
    others = {"nodes", "cluster_dns", "gossip_port", "mode", "endpoint_map", "tls", "tls_server_name", "gossip_tls"}
    assert DEFAULTS.keys() | {*TEXTS, *FLAGS, *others, "max_attempts"} == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize(("text", "attempts"), [("none", None), ("1", 1)])
def test_no_end_of_attempts_in_a_url(name: str, text: str, attempts: int | None) -> None:
    assert getattr(Settings.from_url(f"tcp://h?{name}={text}"), name) == attempts


@pytest.mark.parametrize(
    "option",
    [
        "first_attempts=None",
        "first_attempts=",
        "max_attempts=1.5",
        "max_attempts=",
        "page_size=none",
        "buffer_bytes=none",
    ],
)
def test_only_attempts_have_no_end(option: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a whole number"):
        Settings.from_url(f"tcp://h?{option}")


def test_the_longest_name() -> None:
    assert Settings(connection_name="\u0160" * 1000).connection_name == "\u0160" * 1000


@pytest.mark.parametrize("name", ["host", "password", "token"])
def test_secrets_and_addresses_stand_only_in_their_place(name: str) -> None:
    with pytest.raises(InvalidArgument, match="unknown option"):
        Settings.from_url(f"tcp://h?{name}=secret")


def test_a_url_is_checked_as_settings_are() -> None:
    with pytest.raises(InvalidArgument, match=r"^page_size: 5000"):
        Settings.from_url("tcp://h?page_size=5000")
