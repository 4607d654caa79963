"""`trio-extreme user`: who may log in to a server, and who they are."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.cli import output
from trio_extreme.cli.administering import PORT, json_option, run_admin, told
from trio_extreme.cli.connecting import find_target, url_option
from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import can_ask
from trio_extreme.cli.views import clean

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme.admin import Admin
    from trio_extreme.details import UserDetails
    from trio_extreme.settings import Settings

NEW_PASSWORD = "TRIO_EXTREME_NEW_PASSWORD"  # noqa: S105 - the name of the variable

_PASSWORD = f"""\
\b
The new password comes from {NEW_PASSWORD}, with --password-stdin
from the first line of standard input, or is asked for, twice. It is no argument,
for lists of processes and histories show those.
{PORT}"""
_LIST_EPILOG = f"""\
\b
Keys of a JSON line: login, full_name, groups, disabled.
{PORT}"""
_DONE_EPILOG = """\
\b
Keys of the JSON line: login, result ("created", "updated", "enabled", "disabled",
"deleted", or "password set").
"""

_login_argument = click.argument("login")
_stdin_option = click.option("--password-stdin", is_flag=True, help="Read the new password from standard input.")
_groups_option = click.option(
    "--group", "groups", multiple=True, metavar="GROUP", help="A group of theirs, like '$admins'; may be repeated."
)


@click.group("user", short_help="Create, change and delete users.")
def user_commands() -> None:
    """Create, change and delete the users of a server. Members of $admins may."""


@user_commands.command("list", short_help="List the users.", epilog=_LIST_EPILOG)
@json_option
@url_option
def list_users(*, as_json: bool, settings: Settings) -> int:
    """List all users."""
    show = _line if as_json or not output.is_terminal() else _words

    async def ask(admin: Admin) -> bytes:
        return b"".join(map(show, await admin.users()))

    return run_admin(find_target(settings), ask)


@user_commands.command("info", short_help="Show a user.", epilog=_LIST_EPILOG)
@_login_argument
@json_option
@url_option
def info(*, login: str, as_json: bool, settings: Settings) -> int:
    """Show one user."""
    show = _line if as_json or not output.is_terminal() else _words

    async def ask(admin: Admin) -> bytes:
        return show(await admin.user(login))

    return run_admin(find_target(settings), ask)


@user_commands.command("create", short_help="Add a user.", epilog=_DONE_EPILOG + _PASSWORD)
@_login_argument
@click.option("--name", "full_name", default="", help="Their full name.", show_default=False)
@_groups_option
@_stdin_option
@json_option
@url_option
def create(
    *, login: str, full_name: str, groups: tuple[str, ...], password_stdin: bool, as_json: bool, settings: Settings
) -> int:
    """Add a user, who can log in at once."""
    password = _new_password(login, from_stdin=password_stdin)
    return _do(
        login,
        "created",
        lambda admin: admin.create_user(login, password, full_name=full_name, groups=groups),
        as_json=as_json,
        settings=settings,
    )


@user_commands.command("update", short_help="Change a user's name and groups.", epilog=_DONE_EPILOG + PORT)
@_login_argument
@click.option("--name", "full_name", help="Their full name; without it, it stays.")
@_groups_option
@click.option("--no-groups", is_flag=True, help="Take them out of all groups.")
@json_option
@url_option
def update(
    *, login: str, full_name: str | None, groups: tuple[str, ...], no_groups: bool, as_json: bool, settings: Settings
) -> int:
    """Change the full name of a user, or the groups: those that are named, in the place of all there were."""
    if groups and no_groups:
        msg = "--group and --no-groups say two different things."
        raise click.UsageError(msg)
    if full_name is None and not groups and not no_groups:
        msg = "nothing is to be changed: give --name, --group or --no-groups."
        raise click.UsageError(msg)

    async def change(admin: Admin) -> None:
        known = await admin.user(login)
        kept = known.groups if not groups and not no_groups else groups
        await admin.update_user(login, full_name=known.full_name if full_name is None else full_name, groups=kept)

    return _do(login, "updated", change, as_json=as_json, settings=settings)


@user_commands.command("enable", short_help="Let a user log in again.", epilog=_DONE_EPILOG + PORT)
@_login_argument
@json_option
@url_option
def enable(*, login: str, as_json: bool, settings: Settings) -> int:
    """Let a user log in again."""
    return _do(login, "enabled", lambda admin: admin.enable_user(login), as_json=as_json, settings=settings)


@user_commands.command("disable", short_help="Let a user log in no longer.", epilog=_DONE_EPILOG + PORT)
@_login_argument
@json_option
@url_option
def disable(*, login: str, as_json: bool, settings: Settings) -> int:
    """Let a user log in no longer, until enabled."""
    return _do(login, "disabled", lambda admin: admin.disable_user(login), as_json=as_json, settings=settings)


@user_commands.command("delete", short_help="Delete a user.", epilog=_DONE_EPILOG + PORT)
@_login_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@url_option
def delete(*, login: str, yes: bool, as_json: bool, settings: Settings) -> int:
    """Delete a user. At a terminal it asks before; elsewhere it wants --yes."""
    if not yes:
        if not can_ask():
            msg = "it asks before it deletes, and there is no terminal to ask at: add --yes."
            raise click.UsageError(msg)
        click.confirm(f"Delete user {clean(login)}?", abort=True, err=True)
    return _do(login, "deleted", lambda admin: admin.delete_user(login), as_json=as_json, settings=settings)


@user_commands.command("password", short_help="Change your own password.", epilog=_DONE_EPILOG + _PASSWORD)
@_stdin_option
@json_option
@url_option
def password(*, password_stdin: bool, as_json: bool, settings: Settings) -> int:
    """Change the password of the user whom the URL names, who need not be an admin."""
    if not settings.username:
        msg = "whose? Name the user in --url, like eventstore://jane@localhost:1113."
        raise click.UsageError(msg)
    target = find_target(settings)
    login, current = target.settings.username, target.settings.password
    new = _new_password(login, from_stdin=password_stdin)

    async def ask(admin: Admin) -> bytes:
        await admin.change_password(login, current=current, new=new)
        return _result(login, "password set", as_json=as_json)

    return run_admin(target, ask)


@user_commands.command("reset-password", short_help="Give a user another password.", epilog=_DONE_EPILOG + _PASSWORD)
@_login_argument
@_stdin_option
@json_option
@url_option
def reset_password(*, login: str, password_stdin: bool, as_json: bool, settings: Settings) -> int:
    """Give a user another password, without the current one."""
    new = _new_password(login, from_stdin=password_stdin)
    return _do(
        login, "password set", lambda admin: admin.reset_password(login, new), as_json=as_json, settings=settings
    )


def _do(
    login: str, result: str, change: Callable[[Admin], Awaitable[Any]], *, as_json: bool, settings: Settings
) -> int:
    async def ask(admin: Admin) -> bytes:
        await change(admin)
        return _result(login, result, as_json=as_json)

    return run_admin(find_target(settings), ask)


def _result(login: str, result: str, *, as_json: bool) -> bytes:
    return told({"login": login, "result": result}, f"user {clean(login)}: {result}", as_json=as_json)


def _new_password(login: str, *, from_stdin: bool) -> str:
    """From where nobody else sees it."""
    if from_stdin:
        with open(0, encoding="utf-8", closefd=False) as stdin:
            found = stdin.readline().rstrip("\r\n")
    elif NEW_PASSWORD in os.environ:
        found = os.environ[NEW_PASSWORD]
    elif can_ask():
        found = click.prompt(
            f"New password of {clean(login)}",
            hide_input=True,
            confirmation_prompt=True,
            default="",
            show_default=False,
            err=True,
        )
    else:
        msg = f"no new password, and no terminal to ask at: set {NEW_PASSWORD}, or add --password-stdin."
        raise click.UsageError(msg)
    if not found:
        msg = "the new password is empty; servers take no empty ones."
        raise click.UsageError(msg)
    return found


def _line(user: UserDetails) -> bytes:
    return dump(asdict(user)) + b"\n"


def _words(user: UserDetails) -> bytes:
    groups = ", ".join(map(clean, user.groups)) or "no groups"
    disabled = ", disabled" if user.disabled else ""
    return f"{clean(user.login)}  {clean(user.full_name) or '-'}  ({groups}{disabled})\n".encode()
