"""What `serve` says of listening, be it one node or several."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from trio_extreme.cli.failures import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from trio_extreme.embedded import Node, User


class Security(NamedTuple):
    """Whether nodes take TLS, and their web interfaces too."""

    tls: bool
    https: bool

    @property
    def scheme(self) -> str:
        """That of a URL of a node."""
        return "eventstores" if self.tls else "eventstore"

    @property
    def web_scheme(self) -> str:
        """That of a page."""
        return "https" if self.https else "http"


def refused(error: OSError, http_ports: Container[int]) -> CommandFailed:
    """What to say where nobody can listen; `http_ports` are those of web interfaces."""
    # The node says where it wanted to listen.
    host, _, port = str(error.filename).rpartition(":")
    while error.errno is None and isinstance(error.__cause__, OSError):
        error = error.__cause__
    if error.errno == errno.EADDRINUSE:
        option = "--http-port" if int(port) in http_ports else "--port"
        return CommandFailed(
            f"port {port} of {host} is taken", f"trio-extreme serve {option} 0, which takes a free one"
        )
    return CommandFailed(f"cannot listen at {host}:{port}: {error.strerror or error}", "trio-extreme serve --port 0")


def shown_password(node: Node, users: Mapping[str, User]) -> str | None:
    """That of admin, which anybody may know unless it was given."""
    return None if "admin" in users else node.settings.password


def login_for(node: Node, users: Mapping[str, User]) -> str:
    """What a URL has before the host: nothing, where nobody need say who it is."""
    if node.store.version.allows_anonymous:
        return ""
    password = shown_password(node, users)
    return "admin@" if password is None else f"admin:{password}@"
