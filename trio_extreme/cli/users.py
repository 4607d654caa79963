"""The option that adds users to a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli.views import clean
from trio_extreme.embedded import User
from trio_extreme.embedded.acl import with_default_users
from trio_extreme.errors import InvalidArgument
from trio_extreme.values import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VARIABLE = "TRIO_EXTREME_USERS"

USERS = f"""\
\b
{VARIABLE}  users as --user takes them, with spaces between; unlike an
                    option, no list of processes shows it
"""


def users_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--user NAME:PASSWORD[:GROUP,…]`, as often as there are users."""
    return click.option(
        "--user",
        "users",
        type=_parse,
        multiple=True,
        envvar=VARIABLE,
        metavar="NAME:PASSWORD[:GROUP,...]",
        help="One more user, or another password for admin or ops; may be repeated.",
    )(command)


def _parse(text: str) -> tuple[str, User]:
    """A login name and its account. No error shows the text: there is a password in it."""
    name, _, rest = text.partition(":")
    password, _, groups = rest.partition(":")
    if not name or not password or ":" in groups:
        msg = "a user is NAME:PASSWORD, or NAME:PASSWORD:GROUP,GROUP, and there is no colon in any of these."
        raise click.BadParameter(msg)
    try:
        Credentials(name, password)
        return name, User(password, tuple(filter(None, groups.split(","))))
    except InvalidArgument as error:
        msg = f"{error}."
        raise click.BadParameter(msg) from None


def user_words(users: Mapping[str, User]) -> str:
    """Who they are, in words, without their passwords."""
    groups = {name: ", ".join(user.groups) for name, user in with_default_users(users).items() if name in users}
    return clean(", ".join(f"{name} ({of_user or 'no groups'})" for name, of_user in groups.items()))
