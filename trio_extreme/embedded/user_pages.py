"""The pages for users: who there is, and what is done to their accounts (docs/protocol.md, 5). Pure."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from trio_extreme.embedded.accounts import Unwritable
from trio_extreme.embedded.acl import ADMINS
from trio_extreme.embedded.gossip import encode_time
from trio_extreme.embedded.http import ANY_USER, ANYBODY, JSON, as_json, plain
from trio_extreme.errors import InvalidArgument
from trio_extreme.values import Credentials, utf8_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.embedded.accounts import Stored
    from trio_extreme.embedded.http import Page, Visit, Web
    from trio_extreme.embedded.service import Service
    from trio_extreme.http import Response

ONLY_ADMINS = frozenset((ADMINS,))
_STATUS = {"Success": 200, "NotFound": 404, "Conflict": 409, "Unauthorized": 401, "Error": 500}


class UserPages:
    """The pages of one node. `scheme`: what the links in them begin with."""

    def __init__(self, service: Service, web: Web, scheme: str = "http") -> None:
        self._accounts = service.accounts
        self._scheme = scheme
        version = service.store.version
        self._lets_see_oneself = version.lets_users_see_themselves
        self._owns_passwords = version.owns_passwords
        see = ANYBODY if version.opens_administration else ONLY_ADMINS
        knowing = ANYBODY if version.opens_administration else ANY_USER
        for method, pattern, page, roles in (
            ("GET", "", self.all, see),
            # Before the page of one user: it is found first.
            ("GET", "/$current", self.current, ANY_USER),
            ("GET", "/{login}", self.one, ANY_USER if self._lets_see_oneself else see),
            ("POST", "", self.create, ONLY_ADMINS),
            ("PUT", "/{login}", self._of_one(self.update), ONLY_ADMINS),
            ("DELETE", "/{login}", self._of_one(self.delete), ONLY_ADMINS),
            ("POST", "/{login}/command/enable", self._of_one(self.enable), ONLY_ADMINS),
            ("POST", "/{login}/command/disable", self._of_one(self.disable), ONLY_ADMINS),
            ("POST", "/{login}/command/reset-password", self._of_one(self.reset_password), ONLY_ADMINS),
            ("POST", "/{login}/command/change-password", self._of_one(self.change_password), knowing),
        ):
            web.add(method, f"/users{pattern}", partial(_guarded, page), roles=roles)

    def __repr__(self) -> str:
        return f"<UserPages of {self._accounts!r}>"

    # Who there is

    def all(self, visit: Visit) -> Response:
        """Everybody."""
        return _found([self._describe(account, visit) for account in self._accounts.all()])

    def one(self, visit: Visit) -> Response:
        """One user."""
        login = visit.parts["login"]
        if self._lets_see_oneself and visit.identity and not visit.identity.roles & {login, ADMINS}:
            return plain(401, "Unauthorized")
        account = self._accounts.find(login)
        return _answer("NotFound", {}) if account is None else _found(self._describe(account, visit))

    def current(self, visit: Visit) -> Response:
        """Who asks."""
        assert visit.identity is not None
        account = self._accounts.find(visit.identity.login)
        if account is None:
            return _answer("NotFound", {})
        changed = {"dateLastUpdated": encode_time(account.changed)} if account.changed else {}
        return _found(_encode(account) | changed)

    # What is done to them

    def create(self, visit: Visit) -> Response:
        """Add a user; who is there already with this password was added before."""
        body = _Body.read(visit)
        login, password = body.text("loginName"), body.text("password")
        _check(login, password)
        done = self._accounts.create(login, body.text("fullName", ""), body.texts("groups"), password)
        if not done:
            return _result(login, "Conflict")
        there = ("location", self._url(visit, f"/users/{quote(login, safe='')}"))
        return _answer("Success", {"loginName": login}, there, status=201)

    def update(self, account: Stored, visit: Visit) -> str:
        """Another full name, and other groups."""
        body = _Body.read(visit)
        self._accounts.update(account, full_name=body.text("fullName", ""), groups=tuple(body.texts("groups")))
        return "Success"

    def enable(self, account: Stored, _: Visit) -> str:
        """Let a user log in again."""
        self._accounts.update(account, logs_out=False, is_disabled=False)
        return "Success"

    def disable(self, account: Stored, _: Visit) -> str:
        """Let a user log in no longer."""
        self._accounts.update(account, is_disabled=True)
        return "Success"

    def delete(self, account: Stored, _: Visit) -> str:
        """Whoever was there is no longer."""
        self._accounts.delete(account)
        return "Success"

    def reset_password(self, account: Stored, visit: Visit) -> str:
        """Another password, by somebody who need not know this one."""
        password = _Body.read(visit).text("newPassword")
        _check(account.login, password)
        self._accounts.set_password(account, password)
        return "Success"

    def change_password(self, account: Stored, visit: Visit) -> str:
        """Another password, by who knows this one; some servers let nobody do so for somebody else."""
        if self._owns_passwords and (visit.identity is None or visit.identity.login != account.login):
            return "Unauthorized"
        body = _Body.read(visit)
        password = body.text("newPassword")
        _check(account.login, password)
        if not account.has_password(body.text("currentPassword")):
            return "Unauthorized"
        self._accounts.set_password(account, password)
        return "Success"

    def _describe(self, account: Stored, visit: Visit) -> dict[str, Any]:
        """An account, and where what can be done to it is done."""
        here = f"/users/{account.login}"
        turn = "enable" if account.is_disabled else "disable"
        places = {
            "reset-password": f"{here}/command/reset-password",
            "change-password": f"{here}/command/change-password",
            "edit": here,
            "delete": here,
            turn: f"{here}/command/{turn}",
        }
        links = [{"href": self._url(visit, path), "rel": name} for name, path in places.items()]
        return _encode(account) | {"links": links}

    def _url(self, visit: Visit, path: str) -> str:
        return f"{self._scheme}://{visit.request.header('host') or ''}{path}"

    def _of_one(self, act: Callable[[Stored, Visit], str]) -> Page:
        """The page that does something to one account."""

        def page(visit: Visit) -> Response:
            login = visit.parts["login"]
            account = self._accounts.find(login)
            return _result(login, "NotFound" if account is None else act(account, visit))

        return page


def _guarded(page: Page, visit: Visit) -> Response:
    """What a page answers; a body that it cannot read, and a log that takes no accounts, have answers too."""
    kind = (visit.request.header("content-type") or JSON).partition(";")[0].strip()
    if visit.request.body and kind != JSON:
        return plain(415, "Unsupported Media Type")
    try:
        return page(visit)
    except _BadBody as error:
        return plain(400, str(error))
    except Unwritable:
        return _answer("Error", {})


def _found(data: object) -> Response:
    return _answer("Success", {"data": data})


def _result(login: str, error: str) -> Response:
    return _answer(error, {"loginName": login})


def _answer(error: str, members: dict[str, Any], *headers: tuple[str, str], status: int | None = None) -> Response:
    document = members | {"success": error == "Success", "error": error}
    return as_json(document, *headers, status=status or _STATUS[error])


def _encode(account: Stored) -> dict[str, Any]:
    return {
        "loginName": account.login,
        "fullName": account.full_name,
        "groups": list(account.groups),
        "disabled": account.is_disabled,
    }


def _check(login: str, password: str) -> None:
    """Refuse what no client could log in with."""
    try:
        Credentials(login, password)
    except InvalidArgument as error:
        raise _BadBody(str(error)) from error


class _BadBody(Exception):
    """A body that says nothing that can be done."""


class _Body(NamedTuple):
    """What a request says. The names in it may be in upper and lower case."""

    members: dict[str, Any]

    @classmethod
    def read(cls, visit: Visit) -> _Body:
        try:
            document = json.loads(visit.request.body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            msg = "the body is no JSON object"
            raise _BadBody(msg)
        return cls({name.lower(): value for name, value in document.items() if value is not None})

    def text(self, name: str, default: str | None = None) -> str:
        value = self.members.get(name.lower(), default)
        if not isinstance(value, str):
            msg = f"{name} is no string"
            raise _BadBody(msg)
        try:
            utf8_size(name, value)
        except InvalidArgument as error:
            raise _BadBody(str(error)) from error
        return value

    def texts(self, name: str) -> list[str]:
        values = self.members.get(name.lower(), [])
        if not isinstance(values, list):
            msg = f"{name} is no list"
            raise _BadBody(msg)
        return [_Body({name.lower(): value}).text(name) for value in values]
