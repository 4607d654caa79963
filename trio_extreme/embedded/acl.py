"""Who may do what to which stream (docs/protocol.md, 3.12). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from trio_extreme.embedded.metadata import Acl, Metadata, Right, split_metastream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_extreme.values import Credentials

ADMINS = "$admins"
OPERATORS = "$ops"
EVERYONE = "$all"
ALL_STREAM = "$all"
"""The log of all streams, as rights name it; also the name of the role that everyone has."""


@dataclass(frozen=True, slots=True)
class User:
    """An account: its password, and the groups it is in."""

    password: str = field(repr=False)
    groups: tuple[str, ...] = ()


DEFAULT_USERS: Mapping[str, User] = {
    "admin": User("changeit", (ADMINS,)),
    "ops": User("changeit", (OPERATORS,)),
}
"""The accounts of a new server."""


NO_TOKENS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identity:
    """Someone whose password or token was right: the login name and all roles, of which the name is one."""

    login: str
    roles: frozenset[str]


def authenticate(
    users: Mapping[str, User], credentials: Credentials, tokens: Mapping[str, str] = NO_TOKENS
) -> Identity | None:
    """Who this is; None for an unknown name, a wrong password, or a token that is not in `tokens`."""
    login = tokens.get(credentials.token, "") if credentials.token else credentials.login
    user = users.get(login)
    if user is None or not (credentials.token or user.password == credentials.password):
        return None
    return Identity(login, frozenset((login, *user.groups)))


class Rules(Protocol):
    """What a decision needs to know of a store."""

    @property
    def allows_anonymous(self) -> bool:
        """Whether someone anonymous can have any rights."""
        ...

    def metadata(self, stream: str) -> Metadata:
        """The metadata of a stream."""
        ...

    def settings(self) -> tuple[Acl, Acl]:
        """The default rights on user streams and on system streams."""
        ...


def is_allowed(rules: Rules, identity: Identity | None, right: Right, stream: str) -> bool:
    """Whether the identity (None is anonymous) has the right."""
    if identity is None and not rules.allows_anonymous:
        return False
    depth, stream = split_metastream(stream)
    if depth:
        # A metastream has no rights of its own; deleting one is refused even to admins.
        if right is Right.DELETE:
            return False
        right = Right.READ_METADATA if depth == 1 and right is Right.READ else Right.WRITE_METADATA
    if stream == ALL_STREAM and right in (Right.WRITE, Right.DELETE):
        return False
    if identity is not None and ADMINS in identity.roles:
        return True
    roles = _roles(rules, right, stream)
    return EVERYONE in roles or (identity is not None and not identity.roles.isdisjoint(roles))


def _roles(rules: Rules, right: Right, stream: str) -> tuple[str, ...]:
    """The roles that have the right: the stream says, else `$settings`, else what is built in."""
    is_system = stream.startswith("$")
    roles = rules.metadata(stream).acl.get(right)
    if roles is None:
        roles = rules.settings()[is_system].get(right)
    if roles is None:
        roles = (ADMINS,) if is_system else (EVERYONE,)
    return roles
