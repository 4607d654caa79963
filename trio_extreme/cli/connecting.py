"""Which server, as whom: `--url`, TRIO_EXTREME_URL, TRIO_EXTREME_PASSWORD, or a prompt."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from trio_extreme.cli.running import is_watched
from trio_extreme.errors import InvalidArgument
from trio_extreme.nodes import join_address
from trio_extreme.settings import Settings, seeds_of

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_URL = "eventstore://localhost:1113"
PASSWORD = "TRIO_EXTREME_PASSWORD"  # noqa: S105 - the name of the variable

FIRST_ATTEMPTS = 4
"""Who waits at a prompt wants to know soon; a node that was started a moment ago has time to listen."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server, as errors and notices speak of it: never with a password."""

    settings: Settings
    #: What a further command needs to reach it: empty, or ` --url …`.
    flag: str = ""
    stream: str = ""

    @property
    def address(self) -> str:
        """Host and port."""
        return self.settings.address

    def url_for(self, user: str) -> str:
        """Its URL for this user; the password is asked for."""
        settings = self.settings
        scheme, where = "eventstores" if settings.tls else "eventstore", settings.address
        if settings.cluster_dns:
            scheme, where = f"{scheme}+dns", join_address(settings.cluster_dns, settings.gossip_port)
        elif settings.nodes:
            scheme, where = f"{scheme}+seeds", ",".join(map(str, seeds_of(settings)))
        return f"{scheme}://{user}@{where}" if user else f"{scheme}://{where}"


def parse_url(text: str) -> Settings:
    """The settings that the value of `--url` gives. No error shows the value: there may be a password in it."""
    try:
        # Whoever names a number of attempts in the URL means it.
        patience = {} if "first_attempts=" in text else {"first_attempts": FIRST_ATTEMPTS}
        return Settings.from_url(text, **patience)
    except InvalidArgument as error:
        raise click.BadParameter(str(error).removeprefix("url: ")) from None


def url_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--url`, for every command that needs a server."""
    return click.option(
        "--url",
        "settings",
        type=parse_url,
        metavar="URL",
        envvar="TRIO_EXTREME_URL",
        default=DEFAULT_URL,
        show_envvar=True,
        help="The server, like eventstore://admin@host:1113. The password comes from TRIO_EXTREME_PASSWORD or is"
        " asked for; settings of the library may follow a '?'.",
    )(command)


def url_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """`URL` by itself, for commands that are about nothing else; `--url` does too."""
    return click.argument("subject", type=parse_url, required=False, metavar="[URL]")(url_option(command))


def find_target(settings: Settings, stream: str = "") -> Target:
    """The server that the current command is for, with its password."""
    context = click.get_current_context()
    sources = [context.get_parameter_source(name) for name in ("settings", "subject")]
    given = ParameterSource.COMMANDLINE in sources
    target = Target(_with_password(settings))
    return Target(target.settings, f" --url {target.url_for(settings.username)}" if given else "", stream)


def _with_password(settings: Settings) -> Settings:
    if settings.password or not settings.username:
        return settings
    password = os.environ.get(PASSWORD)
    if password is None:
        if not is_watched():
            msg = f"no password for {settings.username!r}, and no terminal to ask at: set {PASSWORD}."
            raise click.UsageError(msg)
        prompt = f"Password of {settings.username} at {settings.address}"
        password = click.prompt(prompt, hide_input=True, default="", show_default=False, err=True)
    try:
        return settings.replace(password=password)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
