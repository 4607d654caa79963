"""Who may do what: the rights on one stream (docs/protocol.md, 3.12)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from trio_extreme.errors import InvalidArgument

RIGHTS = {"read": "$r", "write": "$w", "delete": "$d", "read_metadata": "$mr", "write_metadata": "$mw"}
"""The rights there are, and what they are called in JSON."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Acl:
    """Who may do what to a stream. Whatever it says, members of `$admins` may do everything.

    Each right is given to roles: login names of users and names of groups; `$all` is everybody, anonymous users too.
    A single role may be given as a string. None says nothing: then the default rights decide
    (`Connection.get_default_acl`), and where they say nothing either, everybody has all rights on user streams, and
    only `$admins` on system streams, whose names begin with `$`. An empty tuple gives the right to `$admins` alone.
    Raises `InvalidArgument` for what is no role.
    """

    #: Reading its events, and subscribing to them.
    read: tuple[str, ...] | None
    #: Appending to it.
    write: tuple[str, ...] | None
    #: Deleting it.
    delete: tuple[str, ...] | None
    #: Reading its metadata, this ACL included.
    read_metadata: tuple[str, ...] | None
    #: Writing its metadata.
    write_metadata: tuple[str, ...] | None

    def __init__(
        self,
        *,
        read: str | Iterable[str] | None = None,
        write: str | Iterable[str] | None = None,
        delete: str | Iterable[str] | None = None,
        read_metadata: str | Iterable[str] | None = None,
        write_metadata: str | Iterable[str] | None = None,
    ) -> None:
        given = (read, write, delete, read_metadata, write_metadata)
        for right, roles in zip(RIGHTS, given, strict=True):
            object.__setattr__(self, right, _check_roles(right, roles))

    def __bool__(self) -> bool:
        return any(getattr(self, right) is not None for right in RIGHTS)

    def __repr__(self) -> str:
        said = [f"{right}={roles!r}" for right in RIGHTS if (roles := getattr(self, right)) is not None]
        return f"Acl({', '.join(said)})"

    def replace(self, **rights: str | Iterable[str] | None) -> Acl:
        """The same with some rights given to others; None takes a right out of it. Raises `InvalidArgument`."""
        return replace(self, **rights)  # type: ignore[arg-type]  # the constructor takes more than the attributes hold

    def members(self) -> dict[str, str | list[str]]:
        """The object that JSON has of it. One role alone is written as a string, as other clients do."""
        said = {key: roles for right, key in RIGHTS.items() if (roles := getattr(self, right)) is not None}
        return {key: roles[0] if len(roles) == 1 else list(roles) for key, roles in said.items()}


def _check_roles(right: str, roles: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if roles is None:
        return None
    found = tuple(roles) if isinstance(roles, Iterable) and not isinstance(roles, str) else (roles,)
    for role in found:
        if not isinstance(role, str) or not role:
            msg = f"{right}: {role!r} is no role; give the name of a user or a group, several, or None for the default"
            raise InvalidArgument(msg)
    return found


def read_acl(key: str, members: object) -> Acl:
    """The ACL that somebody stored under this key. Raises `ValueError` for what servers do not take for one."""
    if not isinstance(members, dict):
        msg = f"{key} is no object"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for all that is no ACL
    if unknown := members.keys() - RIGHTS.values():
        msg = f"{min(unknown)[:40]!r} in {key} is no right"
        raise ValueError(msg)
    acl = Acl()
    for right, name in RIGHTS.items():
        if name in members:
            # Not by the constructor: an empty string is a role that nobody has, and no reason to know nothing.
            object.__setattr__(acl, right, _read_roles(f"{name} in {key}", members[name]))
    return acl


def _read_roles(where: str, value: object) -> tuple[str, ...]:
    roles = [value] if isinstance(value, str) else value
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        msg = f"{where} is neither a role nor a list of them"
        raise ValueError(msg)
    return tuple(roles)


NO_ACL = Acl()
"""Says nothing."""
