"""Who may do what to which stream (docs/protocol.md, 3.12). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hmac import compare_digest
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from trio_extreme.embedded.metadata import META, Acl, Metadata, Right, split_metastream
from trio_extreme.errors import InvalidArgument
from trio_extreme.values import MAX_NAME_SIZE, Credentials, utf8_size

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMINS = "$admins"
OPERATORS = "$ops"
EVERYONE = "$all"
ALL_STREAM = "$all"
"""The log of all streams, as rights name it; also the name of the role that everyone has."""


@dataclass(frozen=True, slots=True)
class User:
    """An account: its password, which its repr does not show, and the groups it is in.

    Rights are given to groups, or to the login name alone. Members of `$admins` may do everything. Raises
    `InvalidArgument` for what is no password, or no group.
    """

    password: str = field(repr=False)
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.password, str) or utf8_size("password", self.password) > MAX_NAME_SIZE:
            msg = f"password: a string is wanted, of {MAX_NAME_SIZE} bytes at most: the protocol can send no longer one"
            raise InvalidArgument(msg)
        object.__setattr__(self, "groups", self.groups if isinstance(self.groups, str) else tuple(self.groups))
        if isinstance(self.groups, str) or not all(isinstance(group, str) and group for group in self.groups):
            msg = f"groups: {self.groups!r} are no names of groups; give a tuple of them, like ('staff',)"
            raise InvalidArgument(msg)

    def has_password(self, password: str) -> bool:
        """Whether this is the password."""
        return compare_digest(self.password.encode(), password.encode())


DEFAULT_USERS: Mapping[str, User] = {
    "admin": User("changeit", (ADMINS,)),
    "ops": User("changeit", (OPERATORS,)),
}
"""The accounts of a new server."""


def with_default_users(users: Mapping[str, User]) -> dict[str, User]:
    """The accounts of a new server, and these.

    They may give `admin` and `ops` other passwords, who stay in their groups where none are given: a node without
    anybody in `$admins` could not be set up. Raises `InvalidArgument` for what is no account.
    """
    for login, user in users.items():
        if not isinstance(user, User):
            # The type alone: the value may be a password.
            msg = f"users: the account of {login!r} is a {type(user).__name__}; give a User"
            raise InvalidArgument(msg)
        Credentials(login, user.password)
    kept = {login: DEFAULT_USERS[login].groups for login, user in users.items() if login in DEFAULT_USERS}
    return {
        **DEFAULT_USERS,
        **{login: replace(user, groups=user.groups or kept.get(login, ())) for login, user in users.items()},
    }


NO_TOKENS: Mapping[str, str] = MappingProxyType({})


_NOBODY = User("nobody has this one")


@dataclass(frozen=True, slots=True)
class Identity:
    """Someone whose password or token was right: the login name and all roles, of which the name is one."""

    login: str
    roles: frozenset[str]


class Account(Protocol):
    """Somebody who can be known by a password."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that they are in."""
        ...

    def has_password(self, password: str) -> bool:
        """Whether this is the password."""
        ...


class Accounts(Protocol):
    """Those who can log in, by their names; a dict of `User`s is some."""

    def get(self, login: str, /) -> Account | None:
        """The account of this name."""
        ...


def authenticate(users: Accounts, credentials: Credentials, tokens: Mapping[str, str] = NO_TOKENS) -> Identity | None:
    """Who this is; None for an unknown name, a wrong password, or a token that is not in `tokens`."""
    login = tokens.get(credentials.token, "") if credentials.token else credentials.login
    user = users.get(login)
    # As long as it takes for a password that is nearly right, and for a name that nobody has.
    is_right = (user or _NOBODY).has_password(credentials.password)
    if user is None or not (credentials.token or is_right):
        return None
    return Identity(login, frozenset((login, *user.groups)))


class Rules(Protocol):
    """What a decision needs to know of a store."""

    @property
    def allows_anonymous(self) -> bool:
        """Whether someone anonymous can have any rights."""
        ...

    @property
    def opens_nested_metastreams(self) -> bool:
        """Whether anybody may read and write `$$$$x`, the metadata of a metastream."""
        ...

    def metadata(self, stream: str) -> Metadata:
        """The metadata of a stream."""
        ...

    def settings(self) -> tuple[Acl, Acl]:
        """The default rights on user streams and on system streams."""
        ...


_ON_METASTREAM = {Right.READ: Right.READ_METADATA, Right.WRITE: Right.WRITE_METADATA}


def is_allowed(rules: Rules, identity: Identity | None, right: Right, stream: str) -> bool:
    """Whether the identity (None is anonymous) has the right."""
    if identity is None and not rules.allows_anonymous:
        return False
    depth, stream = split_metastream(stream)
    if depth:
        # A metastream has no rights of its own; deleting one is refused even to admins.
        if right not in _ON_METASTREAM or (depth > 1 and not rules.opens_nested_metastreams):
            return False
        right = _ON_METASTREAM[right]
        # What holds the metadata of a metastream has the rights of a system stream of which nothing is said.
        stream = stream if depth == 1 else META + stream
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
