"""`trio-extreme serve`: a node on a port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from http.client import HTTPConnection, HTTPSConnection
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.cli.shell import Server, at_terminal, finished, read_until, started
from tests.embedded.securing import make_secret, write_files
from trio_extreme.embedded import VERSIONS
from trio_extreme.wire.commands import Command
from trio_extreme.wire.framing import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.shell import Result

    Cli = Callable[..., Result]


@pytest.mark.parametrize("version", ["3.9.4", "4.1.1"])
def test_it_says_where_it_listens_and_as_what(cli: Cli, version: str) -> None:
    with started("serve", "--port", "0", "--as", version) as process:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())
        url = f"eventstore://{place['host']}:{place['port']}"
        assert cli("append", "people", "--url", url, stdin='{"type": "x"}').code == 0
        assert cli("read", "$all", "--url", url.replace("//", f"//{place['username']}:{place['password']}@")).code == 0
        process.send_signal(signal.SIGINT)
        result = finished(process)
    assert place["version"] == version
    assert f"listening at 127.0.0.1:{place['port']} as Event Store {version}" in result.err
    assert f"trio-extreme append people --url {url}" in result.err
    assert result.out == ""


def test_a_server_has_a_short_name(cli: Cli) -> None:
    with started("serve", "--port", "0", "--as", "20.10") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["version"] == "20.10.6"


def test_a_server_without_anonymous_users_says_as_whom_to_try_it(cli: Cli) -> None:
    with started("serve", "--port", "0", "--as", "23.10") as process:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())
        url = f"eventstore://admin:changeit@{place['host']}:{place['port']}"
        assert cli("append", "people", "--url", url, stdin='{"type": "x"}').code == 0
        process.send_signal(signal.SIGINT)
        assert f"trio-extreme append people --url {url}" in finished(process).err


def test_help_says_which_servers_were_recorded(cli: Cli) -> None:
    lines = cli("serve", "--help").out.splitlines()
    assert max(map(len, lines)) <= 80
    said = {words[0]: words[1:] for line in lines if (words := line.split(None, 2))}
    for version in VERSIONS.values():
        assert said[version.name] == ["recorded" if version.is_recorded else "sources", version.summary]


def test_it_projects_where_it_is_told_to(cli: Cli) -> None:
    with started("serve", "--port", "0", "--projections") as process:
        assert process.stdout is not None
        url = f"eventstore://admin:changeit@127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        assert cli("append", "people-1", "--url", url, stdin='{"type": "born"}').code == 0
        watched = cli("watch", "$ce-people", "--from", "start", "--count", "1", "--format", "%n@%s", "--url", url)
        assert (watched.code, watched.out) == (0, "0@people-1")
        assert cli("read", "$streams", "--format", "%s\n", "--url", url).lines == ["people-1"]
        process.send_signal(signal.SIGINT)
        finished(process)


def test_a_port_that_is_taken(cli: Cli, server: Server) -> None:
    result = cli("serve", "--port", str(server.settings.port))
    assert (result.code, result.out) == (1, "")
    assert f"port {server.settings.port} of 127.0.0.1 is taken" in result.err
    assert "Try: trio-extreme serve --port 0" in result.err


def test_an_http_port_that_is_taken(cli: Cli, server: Server) -> None:
    result = cli("serve", "--port", "0", "--http-port", str(server.settings.port))
    assert (result.code, result.out) == (1, "")
    assert f"port {server.settings.port} of 127.0.0.1 is taken" in result.err
    assert "Try: trio-extreme serve --http-port 0" in result.err


@pytest.mark.parametrize("options", [[], ["--http-port", "none"], ["--as", "20.10"], ["--gossip-on-single-node"]])
def test_it_has_a_web_interface(options: list[str]) -> None:
    with started("serve", "--port", "0", *options) as process:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())
        port = place["http_port"]
        if port is not None:
            assert fetch(port, "/ping")[0] == 200
            assert fetch(port, "/gossip")[0] == (
                200 if "--as" in options or "--gossip-on-single-node" in options else 404
            )
        process.send_signal(signal.SIGINT)
        result = finished(process)
    assert (port is None) is ("none" in options)
    assert (f"web interface: http://127.0.0.1:{port}/info\n" in result.err) is (port is not None)


def fetch(port: int, path: str) -> tuple[int, bytes]:
    """By the standard library's own client."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


@pytest.mark.parametrize("port", ["x", "65536", "-1"])
def test_what_is_no_http_port(cli: Cli, port: str) -> None:
    result = cli("serve", "--port", "0", "--http-port", port)
    assert (result.code, result.out) == (2, "")
    assert "Invalid value for '--http-port'" in result.err


def test_an_address_that_is_not_ours(cli: Cli) -> None:
    result = cli("serve", "--port", "0", "--host", "192.0.2.1")
    assert result.code == 1
    assert "cannot listen at 192.0.2.1:0" in result.err


def test_at_a_terminal_there_is_no_json() -> None:
    with at_terminal("serve", "--port", "0") as process:
        assert b'{"host"' not in read_until(process.stdout, b"append people")


def test_everybody_is_sent_home(server: Server) -> None:
    """A client of a node that is stopped is told at once."""
    with started("serve", "--port", "0") as node:
        assert node.stdout is not None
        port = json.loads(node.stdout.readline())["port"]
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(5)
            node.send_signal(signal.SIGTERM)
            while client.recv(4096):
                pass
        assert finished(node).code == 143


def test_its_output_may_be_closed() -> None:
    with started("serve", "--port", "0", stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["port"]
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


def test_it_keeps_its_log_in_a_file(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "node.db")
    for count in (1, 2):
        with started("serve", "--port", "0", "--persist", file) as process:
            assert process.stdout is not None
            place = json.loads(process.stdout.readline())
            url = f"eventstore://127.0.0.1:{place['port']}"
            assert cli("append", "people", "--url", url, stdin='{"type": "x"}').code == 0
            assert len(cli("read", "people", "--url", url).out.splitlines()) == count
            # A kill leaves what a power cut does not.
            process.kill()
            result = finished(process)
        assert place["persist"] == file
        assert f"its log in {file}" in result.err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"my notes", "is no file of a node"), (None, "is in use by another node, process")],
)
def test_a_file_that_cannot_be_used_is_a_sentence(
    cli: Cli, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "node.db"
    with started("serve", "--port", "0", "--persist", str(file)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if content is not None:
            file = tmp_path / "notes.txt"
            file.write_bytes(content)
        result = cli("serve", "--port", "0", "--persist", str(file))
        process.kill()
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"Error: {file} {sentence}")
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("way", ["options", "environment"])
def test_users_can_be_added(cli: Cli, way: str) -> None:
    users = ["jane:sesame:staff,readers", "admin:other", "joe:x"]
    options = [word for user in users for word in ("--user", user)] if way == "options" else []
    environment = {**os.environ} if way == "options" else {**os.environ, "TRIO_EXTREME_USERS": " ".join(users)}
    with started("serve", "--port", "0", *options, env=environment) as process:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())
        address = f"{place['host']}:{place['port']}"
        # Admin's password is not told to whom it was not given.
        assert (place["username"], place["password"]) == ("admin", None)
        admin = ("--url", f"eventstore://admin:other@{address}")
        assert cli("meta", "set", "people", "--write", "staff", *admin).code == 0
        for user, code in (("jane:sesame", 0), ("joe:x", 4), ("ops:changeit", 4), ("admin:changeit", 4)):
            url = f"eventstore://{user}@{address}?first_attempts=1"
            assert cli("append", "people", "--url", url, stdin='{"type": "x"}').code == code
        process.send_signal(signal.SIGINT)
        err = finished(process).err
    assert "users: admin ($admins), jane (staff, readers), joe (no groups)\n" in err
    assert "sesame" not in err


def test_where_nobody_is_anonymous_the_given_password_is_not_shown() -> None:
    with started("serve", "--port", "0", "--as", "23.10", "--user", "admin:sesame") as process:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        err = finished(process).err
    assert f"trio-extreme watch people --url eventstore://admin@127.0.0.1:{place['port']}\n" in err
    assert "sesame" not in err


@pytest.mark.parametrize(
    "user", ["jane", "jane:", ":sesame", "jane:sesame:a:b", f"{'j' * 256}:sesame", f"jane:{'sesame' * 50}"]
)
def test_what_is_no_user(cli: Cli, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, environment in ((["--user", user], ""), ([], user)):
        monkeypatch.setenv("TRIO_EXTREME_USERS", environment)
        result = cli("serve", "--port", "0", *options)
        assert (result.code, result.out) == (2, "")
        assert "Invalid value for '--user'" in result.err
        assert "sesame" not in result.err


def test_it_takes_tls(tmp_path: Path) -> None:
    secret = make_secret("127.0.0.1")
    cert, key = write_files(secret, tmp_path)
    with started("serve", "--port", "0", "--tls-cert", cert, "--tls-key", key, "--https") as process:
        assert process.stdout is not None
        place = json.loads(process.stdout.readline())
        assert (place["tls"], place["https"]) == (True, True)
        connection = HTTPSConnection("127.0.0.1", place["http_port"], timeout=5, context=secret.client)
        connection.request("GET", "/ping")
        assert connection.getresponse().status == 200
        connection.close()
        with (
            socket.create_connection(("127.0.0.1", place["port"]), timeout=5) as plain,
            secret.client.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(encode_frame(Command.PING, b"c" * 16, b"echo"))
            assert client.recv(100).endswith(b"echo")
        process.send_signal(signal.SIGINT)
        err = finished(process).err
    assert f"listening at 127.0.0.1:{place['port']} with TLS as Event Store" in err
    assert f"web interface: https://127.0.0.1:{place['http_port']}/info\n" in err
    assert f"--url eventstores://127.0.0.1:{place['port']}\n" in err


def test_what_makes_no_certificate(cli: Cli, tmp_path: Path) -> None:
    secret = make_secret()
    cert, key = write_files(secret, tmp_path)
    (tmp_path / "other").mkdir()
    other = write_files(make_secret(), tmp_path / "other")[1]
    locked = tmp_path / "locked.pem"
    plain = load_pem_private_key(secret.certificate.private_key_pem.bytes(), None)
    locked.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")))
    for options, text in (
        (["--tls-key", key], "--tls-key needs --tls-cert"),
        (["--https"], "--https needs --tls-cert"),
        (["--tls-cert", cert], f"the certificate and its key in {cert} are not both there in PEM"),
        (["--tls-cert", cert, "--tls-key", other], "do not belong together"),
        (["--tls-cert", cert, "--tls-key", str(locked)], f"the key in {locked} has a password; openssl pkey -in"),
        (["--tls-cert", str(tmp_path / "none.pem")], "none.pem' does not exist"),
    ):
        result = cli("serve", "--port", "0", *options)
        assert (result.code, result.out) == (2, "")
        assert text in result.err.replace("\n", " ")
