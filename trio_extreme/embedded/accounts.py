"""The accounts of a node: those it was opened with, and what became of them (docs/protocol.md, 5). Pure.

Rule 1: an account that was changed is in the log, in its stream `$user-…`, as real servers have it. So it survives what
the log survives, and a node that is opened on a file knows who was added before.
Rule 2: what is in the log counts, and not what the node was opened with.
Rule 3: the log has no passwords, but what can be made of them and not be turned back.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, field, replace
from hashlib import pbkdf2_hmac
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from trio_extreme.embedded.acl import ADMINS
from trio_extreme.embedded.cache import Cache
from trio_extreme.embedded.metadata import META, dump
from trio_extreme.embedded.records import JSON, METADATA_TYPE
from trio_extreme.embedded.store import Written
from trio_extreme.values import ANY
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trio_extreme.embedded.acl import Account, User
    from trio_extreme.embedded.store import Store
    from trio_extreme.embedded.subscriptions import Hub

USER, USERS = "$user-", "$users"
NOTICES = "$users-password-notifications"
"""Where servers of a cluster tell each other whose password is another one now."""
CREATED, UPDATED, LISTED, CHANGED = "$UserCreated", "$UserUpdated", "$User", "$PasswordChanged"

_RIGHTS = dump({"$acl": {"$w": ADMINS, "$d": ADMINS, "$mw": ADMINS}})
_NOTICE_METADATA = dump({"$maxAge": 3600})
_NAMES = {"admin": "Event Store Administrator", "ops": "Event Store Operations"}
# What servers make of a password: PBKDF2 with the parameters that .NET had when they were written.
_ALGORITHM, _ROUNDS, _SALT_SIZE, _HASH_SIZE = "sha1", 1000, 16, 20
_CACHE_SIZE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """An account as the log has it."""

    login: str
    full_name: str
    groups: tuple[str, ...]
    salt: bytes = field(repr=False)
    hash: bytes = field(repr=False)
    is_disabled: bool = False
    #: When this was written, in microseconds since 1970.
    changed: int = 0
    #: The last password that was found to be right: to find it out again takes longer than to answer a request.
    _known: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def has_password(self, password: str) -> bool:
        """Whether this is the password."""
        if self._known and compare_digest(self._known[0].encode(), password.encode()):
            return True
        is_right = compare_digest(_digest(password, self.salt), self.hash)
        if is_right:
            self._known[:] = [password]
        return is_right

    def to_json(self) -> bytes:
        """The data of its event."""
        return _lay_out(
            {
                "loginName": self.login,
                "fullName": self.full_name,
                "salt": b64encode(self.salt).decode(),
                "hash": b64encode(self.hash).decode(),
                **({"disabled": True} if self.is_disabled else {}),
                "groups": list(self.groups),
            }
        )


class Unwritable(Exception):
    """Somebody deleted a stream for ever in which accounts would be written. Never leaves this package."""


def parse_account(login: str, data: bytes, changed: int) -> Stored | None:
    """The account in the data of an event; None where there is none in it: admins may write anything there."""
    try:
        found: dict[str, Any] = json.loads(data)
        full_name = _text(found.get("fullName") or "")
        groups = tuple(map(_text, found.get("groups") or ()))
        salt, hash_ = (b64decode(found[name], validate=True) for name in ("salt", "hash"))
        return Stored(login, full_name, groups, salt, hash_, bool(found.get("disabled")), changed)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _text(value: Any) -> str:
    """What UTF-8 can say: JSON can have half a surrogate pair."""
    text = str(value)
    text.encode()
    return text


def _lay_out(document: dict[str, Any]) -> bytes:
    """JSON as these servers write it of users."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def _digest(password: str, salt: bytes) -> bytes:
    return pbkdf2_hmac(_ALGORITHM, password.encode(), salt, _ROUNDS, _HASH_SIZE)


class StoredAccounts:
    """Everybody who has, or had, an account at one node. `given` are those that it was opened with."""

    def __init__(self, store: Store, hub: Hub, given: Mapping[str, User]) -> None:
        self._store = store
        self._hub = hub
        self._given = given
        # By login, with the number of the event that it was read from.
        self._read: Cache[tuple[int, Stored | None]] = Cache(_CACHE_SIZE)

    def __repr__(self) -> str:
        return f"<StoredAccounts of {self._store!r}>"

    def restart(self) -> None:
        """Forget what was read: the log may have lost its end, and got another one."""
        self._read.clear()

    # Who there is

    def get(self, login: str, /) -> Account | None:
        """Who can log in by this name."""
        if self._store.last_number(USER + login) < 0:
            return self._given.get(login)
        stored = self.find(login)
        return None if stored is None or stored.is_disabled else stored

    def find(self, login: str) -> Stored | None:
        """What is known of an account, also of a disabled one; None where there is none."""
        number = self._store.last_number(USER + login)
        if number < 0:
            user = self._given.get(login)
            return None if user is None else self._from_given(login, user)
        if self._store.is_soft_deleted(USER + login):
            return None
        read = self._read.get(login)
        if read is None or read[0] != number:
            read = number, self._find(login)
            self._read.put(login, read)
        return read[1]

    def _find(self, login: str) -> Stored | None:
        last = self._store.storage.last_event(USER + login)
        # A tombstone ends an account too, whatever stands before it.
        if last is None or last.number != self._store.last_number(USER + login):
            return None
        return parse_account(login, last.event.data, last.written)

    def _from_given(self, login: str, user: User) -> Stored:
        salt = bytes(_SALT_SIZE)
        return Stored(login, _NAMES.get(login, ""), user.groups, salt, _digest(user.password, salt))

    def all(self) -> Sequence[Stored]:
        """All accounts, by name."""
        events = self._store.records(USERS)
        logins = {event.event.data.decode("utf-8", "replace") for event in events} | set(self._given)
        return [account for login in sorted(logins) if (account := self.find(login)) is not None]

    # What becomes of them

    def create(self, login: str, full_name: str, groups: Sequence[str], password: str) -> bool:
        """Add somebody. False where there is somebody of this name with another password."""
        if (there := self.find(login)) is not None:
            return there.has_password(password)
        salt = self._new_salt()
        self._add(Stored(login, full_name, tuple(groups), salt, _digest(password, salt)))
        return True

    def update(self, account: Stored, *, logs_out: bool = True, **changes: Any) -> None:
        """Write what is to be of an account from now on. `logs_out`: whether others must not remember its password."""
        if logs_out:
            self._tell(account.login)
        self._keep(account)
        self._append(USER + account.login, UPDATED, replace(account, **changes).to_json())

    def set_password(self, account: Stored, password: str) -> None:
        """Give an account another password."""
        salt = self._new_salt()
        self.update(account, salt=salt, hash=_digest(password, salt))

    def delete(self, account: Stored) -> None:
        """Let an account be none; it may be created anew."""
        self._keep(account)
        deleted = self._store.delete(USER + account.login, ANY, hard=False)
        if isinstance(deleted, Written):
            self._hub.publish(deleted.records)
        self._tell(account.login)

    def _keep(self, account: Stored) -> None:
        """Have it in the log, where it is one that the node was opened with."""
        if self._store.last_number(USER + account.login) < 0:
            salt = self._new_salt()
            password = self._given[account.login].password
            self._add(replace(account, salt=salt, hash=_digest(password, salt)))

    def _add(self, account: Stored) -> None:
        self._append(META + USER + account.login, METADATA_TYPE, _RIGHTS)
        self._append(USER + account.login, CREATED, account.to_json())
        self._append(USERS, LISTED, account.login.encode(), is_json=False)

    def _tell(self, login: str) -> None:
        if self._store.last_number(NOTICES) < 0:
            self._append(META + NOTICES, METADATA_TYPE, _NOTICE_METADATA)
        self._append(NOTICES, CHANGED, _lay_out({"loginName": login}))

    def _append(self, stream: str, type_: str, data: bytes, *, is_json: bool = True) -> None:
        event = schema.NewEvent(
            event_id=self._store.new_id(), event_type=type_, data_content_type=JSON if is_json else 0, data=data
        )
        written = self._store.append(stream, ANY, [event])
        if not isinstance(written, Written):
            raise Unwritable(stream)
        self._hub.publish(written.records)

    def _new_salt(self) -> bytes:
        return self._store.new_id()
