"""What servers offer over HTTP alone: `open_admin`, and every verb of an `Admin`."""

from __future__ import annotations

from base64 import b64encode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from trio_extreme.connecting import open_stream
from trio_extreme.errors import (
    AccessDenied,
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    InvalidArgument,
    NotAuthenticated,
    OperationTimedOut,
    OutcomeUnknown,
    ReadOnly,
)
from trio_extreme.http import Redirected, Request, exchange
from trio_extreme.operations import administering
from trio_extreme.transport import connect_tcp
from trio_extreme.values import Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from trio_extreme.details import GroupDetails, GroupSummary, ProjectionDetails, UserDetails
    from trio_extreme.errors import TrioExtremeError
    from trio_extreme.http import Headers, Response
    from trio_extreme.operations.administering import Errand
    from trio_extreme.settings import Settings
    from trio_extreme.transport import Connect

V = TypeVar("V")

_REFUSED = 401
_FORBIDDEN = 403
_MAX_ANSWER = 8 * 1024 * 1024
_INFO, _PING = "/info", "/ping"
"""Pages that everybody may see whose name and password are right."""


@asynccontextmanager
async def open_admin(settings: Settings, *, connect: Connect | None = None) -> AsyncIterator[Admin]:
    """What a server offers over HTTP at `http_host` and `http_port`, as an async context manager.

    Entering it asks nothing. Each call opens a connection of its own, within `connect_timeout`, and closes it: whoever
    administers asks seldom, and of a connection that was kept nobody knows whether the server has closed it meanwhile;
    a change that is sent over such a one may have happened or not. Leaving the block ends the calls that are under way
    in other tasks with `ConnectionClosed`. Tasks may share an `Admin`.

    `connect` is a seam for tests, as that of `open_connection`; an embedded node's leads to its web interface.
    """
    admin = Admin(settings, connect or connect_tcp)
    try:
        yield admin
    finally:
        admin._close()  # noqa: SLF001 - one class in two pieces


class Admin:
    """The web interface of a server; made by `open_admin`.

    Every verb may raise, beside what its own docstring names: `InvalidArgument` before anything is sent, and `ReadOnly`
    where the settings say so; `ConnectFailed` where nobody listens; `NotAuthenticated`, `AccessDenied`, `NotMaster`
    where a node sends us to its master, whose address is then to be used, `BadRequest`, `NotReady`, `ServerError` for
    what else a server refuses; `ProtocolError` for an answer that is no HTTP, has not in it what it should, or is
    larger than 8 MiB; `ConnectionLost` where the connection broke, `OperationTimedOut` after `operation_timeout`, and
    in the place of these two, where something may have been changed, `OutcomeUnknown`. No error shows a password or a
    token, even where the server repeats one.

    Nothing is asked twice by itself. Cancelling a call closes its connection; what it was to change may be changed all
    the same.
    """

    def __init__(self, settings: Settings, connect: Connect) -> None:
        self._host, port = settings.web_endpoint
        self._settings = settings.replace(host=self._host, port=port, nodes=(), cluster_dns="", tls=settings.web_tls)
        self._connect = connect
        self._under_way: dict[trio.CancelScope, None] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Admin of {self._address}>"

    @property
    def _address(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._settings.port}"

    # --- users

    async def users(self, *, credentials: Credentials | None = None) -> list[UserDetails]:
        """All users, by name. Servers up to 4.1 tell everybody, later ones admins."""
        return await self._do(administering.list_users(), credentials)

    async def user(self, login: str, *, credentials: Credentials | None = None) -> UserDetails:
        """One user. Raises `UserNotFound`."""
        return await self._do(administering.look_at_user(login), credentials)

    async def create_user(
        self,
        login: str,
        password: str,
        *,
        full_name: str = "",
        groups: Iterable[str] = (),
        credentials: Credentials | None = None,
    ) -> None:
        """Add a user, who can log in at once.

        Where there is one of this name and with this password nothing is changed. Raises `UserExists` where there is
        one with another password.
        """
        errand = administering.create_user(login, password, full_name, _tuple(groups))
        await self._do(errand, credentials)

    async def update_user(
        self, login: str, *, full_name: str, groups: Iterable[str], credentials: Credentials | None = None
    ) -> None:
        """Give a user this full name and these groups, in the place of those there are. Raises `UserNotFound`."""
        await self._do(administering.update_user(login, full_name, _tuple(groups)), credentials)

    async def enable_user(self, login: str, *, credentials: Credentials | None = None) -> None:
        """Let a user log in again. Raises `UserNotFound`."""
        await self._do(administering.switch_user(login, on=True), credentials)

    async def disable_user(self, login: str, *, credentials: Credentials | None = None) -> None:
        """Let a user log in no longer, until enabled. Raises `UserNotFound`."""
        await self._do(administering.switch_user(login, on=False), credentials)

    async def delete_user(self, login: str, *, credentials: Credentials | None = None) -> None:
        """Delete a user; one of the same name may be created later. Raises `UserNotFound`."""
        await self._do(administering.delete_user(login), credentials)

    async def reset_password(self, login: str, password: str, *, credentials: Credentials | None = None) -> None:
        """Give a user another password, without the current one: admins may. Raises `UserNotFound`."""
        await self._do(administering.reset_password(login, password), credentials)

    async def change_password(self, login: str, *, current: str, new: str) -> None:
        """Give a user another password, as that user: the current one is what lets you. Raises `UserNotFound`.

        Raises `NotAuthenticated` where the current one is another, or the user disabled.
        """
        errand = administering.change_password(login, current, new)
        await self._do(errand, Credentials(login, current))

    # --- projections

    async def projections(self, *, credentials: Credentials | None = None) -> list[ProjectionDetails]:
        """All projections, and how they are doing."""
        return await self._do(administering.list_projections(), credentials)

    async def projection(self, name: str, *, credentials: Credentials | None = None) -> ProjectionDetails:
        """One projection, and how it is doing. Raises `ProjectionNotFound`."""
        return await self._do(administering.look_at_projection(name), credentials)

    async def projection_state(self, name: str, *, partition: str = "", credentials: Credentials | None = None) -> Any:
        """The state of a projection, or of one partition of it, as JSON says it; None where it has none.

        The standard projections have none. Raises `ProjectionNotFound`.
        """
        return await self._do(administering.read_state(name, partition), credentials)

    async def enable_projection(self, name: str, *, credentials: Credentials | None = None) -> None:
        """Start a projection; it goes on where it was. Raises `ProjectionNotFound`."""
        await self._do(administering.command_projection(name, "enable"), credentials)

    async def disable_projection(self, name: str, *, credentials: Credentials | None = None) -> None:
        """Stop a projection; it keeps its place. Raises `ProjectionNotFound`."""
        await self._do(administering.command_projection(name, "disable"), credentials)

    async def reset_projection(self, name: str, *, credentials: Credentials | None = None) -> None:
        """Have a projection begin anew: what it wrote is hidden, and written again. Raises `ProjectionNotFound`."""
        await self._do(administering.command_projection(name, "reset"), credentials)

    # --- groups of persistent subscriptions

    async def groups(self, stream: str | None = None, *, credentials: Credentials | None = None) -> list[GroupSummary]:
        """All groups, or those of one stream; none where there is none."""
        return await self._do(administering.list_groups(stream), credentials)

    async def group(self, stream: str, group: str, *, credentials: Credentials | None = None) -> GroupDetails:
        """One group, with its settings and its consumers. Raises `GroupNotFound`."""
        return await self._do(administering.look_at_group(stream, group), credentials)

    async def replay_parked(
        self, stream: str, group: str, *, stop_at: int | None = None, credentials: Credentials | None = None
    ) -> None:
        """Have a group hand out again what it has parked, up to the parked event of the number `stop_at`, exclusive.

        What is parked is in the stream `$persistentsubscription-STREAM::GROUP-parked`. Raises `GroupNotFound`, and
        `Unsupported` for `stop_at` where the server is one before 20.10, which would replay everything.
        """
        await self._do(administering.replay_parked(stream, group, stop_at), credentials)

    # --- how it is done

    async def _do(self, errand: Errand[V], credentials: Credentials | None) -> V:
        self._check(errand)
        call = _Call(errand, credentials or self._settings.credentials)
        with trio.move_on_after(self._settings.operation_timeout) as scope:
            self._under_way[scope] = None
            try:
                return await self._run(call)
            finally:
                del self._under_way[scope]
        raise call.unanswered(self._why_ended())

    def _check(self, errand: Errand[Any]) -> None:
        if self._is_closed:
            raise _left()
        if errand.changes and self._settings.read_only:
            msg = f"{errand.what}: the settings say read_only=True"
            raise ReadOnly(msg)

    def _why_ended(self) -> TrioExtremeError:
        if self._is_closed:
            return _left()
        seconds = self._settings.operation_timeout
        return OperationTimedOut(f"no answer from {self._address} within {seconds:g} s (operation_timeout)")

    def _close(self) -> None:
        self._is_closed = True
        for scope in self._under_way:
            scope.cancel()

    async def _run(self, call: _Call[V]) -> V:
        needs = call.errand.needs
        if needs is not None:
            info = await self._exchange(call, call.request_for("GET", _INFO))
            administering.check_version(needs, info.status, info.body)
        response = await self._exchange(call, call.request)
        call.is_open = False
        if response.status in (_REFUSED, _FORBIDDEN):
            raise await self._refusal(call)
        return call.conclude(response)

    async def _refusal(self, call: _Call[Any]) -> TrioExtremeError:
        """Servers answer 401 to who may not, whoever it is; a page that everybody may see tells the two apart."""
        if call.who is None:
            await trio.lowlevel.checkpoint()
            return AccessDenied(f"{call.what}: not for anybody; give a username and a password")
        response = await self._exchange(call, call.request_for("GET", _PING))
        if response.status == _REFUSED:
            return NotAuthenticated(f"{call.what}: the server does not accept {call.who!r}")
        return AccessDenied(f"{call.what}: {call.who!r} may not")

    async def _exchange(self, call: _Call[Any], request: Request) -> Response:
        try:
            stream = await open_stream(self._settings, self._connect)
        except ConnectionLost as error:
            msg = f"{call.what}: could not connect to the web interface at {self._address}: {error}"
            raise ConnectFailed(msg, [error]) from error
        try:
            call.is_open = request is call.request
            return await exchange(stream, self._address, request, max_body=_MAX_ANSWER)
        except Redirected as error:
            raise administering.moved(call.errand, error.location) from None
        except ConnectionLost as error:
            raise call.unanswered(error) from error
        finally:
            await trio.aclose_forcefully(stream)


class _Call(Generic[V]):
    """One errand of somebody; None is anonymous."""

    def __init__(self, errand: Errand[V], who: Credentials | None) -> None:
        self.errand = errand
        self.what = errand.what
        self.who = who
        header, self._secrets = _authorization(who)
        self._headers = (("accept", "application/json"), *header)
        self.request = self.request_for(errand.method, errand.target, errand.data)
        #: Whether it may be done or not: it is sent, and not answered.
        self.is_open = False

    def request_for(self, method: str, target: str, body: bytes = b"") -> Request:
        """A request of the same person."""
        kind = (("content-type", "application/json"),) if body else ()
        return Request(method, target, (*self._headers, *kind), body)

    def conclude(self, response: Response) -> V:
        """What the answer means."""
        return self.errand.conclude(response.status, response.body, self._secrets)

    def unanswered(self, error: TrioExtremeError) -> TrioExtremeError:
        """The error where no answer came, for this reason."""
        if self.is_open and self.errand.changes:
            return OutcomeUnknown(f"{self.what}: {error}; it may have been done or not")
        return type(error)(f"{self.what}: {error}")


def _left() -> ConnectionClosed:
    return ConnectionClosed("the block of open_admin() was left")


def _authorization(who: Credentials | None) -> tuple[Headers, tuple[str, ...]]:
    """The header that says who asks, and what of it no error may show."""
    if who is None:
        return (), ()
    if who.token:
        return (("authorization", f"Bearer {who.token}"),), (who.token,)
    if ":" in who.login:
        msg = f"username: {who.login!r} has a colon in it, which HTTP cannot say"
        raise InvalidArgument(msg)
    pair = b64encode(f"{who.login}:{who.password}".encode()).decode()
    return (("authorization", f"Basic {pair}"),), (pair, who.password)


def _tuple(names: Iterable[str]) -> tuple[str, ...]:
    # A string stays one, to be refused: its characters are hardly meant.
    return names if isinstance(names, str) else tuple(names)  # type: ignore[return-value]
