"""What is asked of a server's web interface, and what its answers mean (docs/protocol.md, 5). Pure.

Whatever it answers is untrusted: each value is looked at, and shown within a bound, without what is secret.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from trio_extreme.details import GroupConsumer, GroupDetails, GroupSummary, ProjectionDetails, UserDetails
from trio_extreme.errors import (
    BadRequest,
    GroupNotFound,
    InvalidArgument,
    NotMaster,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    ProjectionNotFound,
    ProjectionsNotRunning,
    ProtocolError,
    ServerError,
    TrioExtremeError,
    Unsupported,
    UserExists,
    UserNotFound,
)
from trio_extreme.groups import ConsumerStrategy, PersistentSettings
from trio_extreme.values import END, MAX_NUMBER, Credentials, utf8_size

V = TypeVar("V")

_SHOWN = 200
"""Characters shown of what a server says."""
_DONE = range(200, 300)
_MOST_DIGITS = 19
_REFUSED, _MISSING, _TIMED_OUT, _CONFLICT, _BAD, _UNAVAILABLE = 401, 404, 408, 409, 400, 503


class Feature(NamedTuple):
    """What servers have since a version."""

    name: str
    since: tuple[int, int]


Refusals: TypeAlias = Mapping[int, ServerError]


@dataclass(frozen=True)
class Errand(Generic[V]):
    """One request to the web interface."""

    #: In words, for errors: "listing users".
    what: str
    method: str
    #: Escaped, with its query.
    target: str
    #: What a right answer means.
    parse: Callable[[Any], V]
    #: What is sent as JSON.
    body: Mapping[str, object] | None = field(default=None, repr=False)
    #: What a status means here that means nothing particular elsewhere.
    refusals: Refusals = field(default_factory=dict)
    #: Passwords in the body, which an answer may repeat and no error may show.
    secrets: tuple[str, ...] = field(default=(), repr=False)
    #: What servers have since which version, where not all have it: they would do something else.
    needs: Feature | None = None

    @property
    def changes(self) -> bool:
        """Whether it changes anything. Then nobody knows whether it did, where no answer comes."""
        return self.method != "GET"

    @property
    def data(self) -> bytes:
        """The body as it is sent."""
        return b"" if self.body is None else json.dumps(self.body).encode()

    def conclude(self, status: int, body: bytes, secrets: tuple[str, ...] = ()) -> V:
        """What an answer means; the refusal of who asked is not for here. Raises an error for every other refusal."""
        if status not in _DONE:
            raise self.refusal(status, _words(body, (*secrets, *self.secrets)))
        return self.parse(None if self.changes else _Document(self.what, body).value)

    def refusal(self, status: int, words: str) -> TrioExtremeError:
        """The error for a status, and what the server says with it."""
        if status in self.refusals:
            return self.refusals[status]
        text = f"{self.what}: the server answers {status}{words}"
        if status == _TIMED_OUT:
            return OutcomeUnknown(text) if self.changes else OperationTimedOut(text)
        return _KINDS.get(status, ServerError)(text)


_KINDS: dict[int, type[TrioExtremeError]] = {_BAD: BadRequest, 415: BadRequest, _UNAVAILABLE: NotReady}


def moved(errand: Errand[Any], location: str) -> NotMaster:
    """The error of who was sent elsewhere: a node does so with what only its master (leader) does."""
    try:
        url = urlsplit(location)
        endpoint = (url.hostname, url.port) if url.hostname and url.port else None
    except ValueError:
        endpoint = None
    where = f" at {endpoint[0]}:{endpoint[1]}" if endpoint else ""
    msg = f"{errand.what}: this node does not do it; its master{where} does, whose address is to be given"
    return NotMaster(msg, endpoint)


def _words(body: bytes, secrets: tuple[str, ...]) -> str:
    """What a server says, as an error may show it."""
    text = body.decode("utf-8", "replace")
    # The longest first: one may be in another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "…").replace(json.dumps(secret)[1:-1], "…")
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return f": {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}" if text else ""


# --- what is said in JSON


class _Document:
    """What a server said in JSON, or a part of it. Raises `ProtocolError` where it is something else."""

    def __init__(self, what: str, body: bytes) -> None:
        self._what = what
        try:
            #: None where there is nothing.
            self.value: Any = json.loads(body.decode("utf-8-sig")) if body.strip() else None
        except (ValueError, RecursionError) as error:
            msg = f"{what}: the server's answer is no JSON that can be read"
            raise ProtocolError(msg) from error


def _member(document: Any, name: str, kind: type[V] | tuple[type[V], ...], default: V | None = None) -> V:
    """A member of an object. Raises `ProtocolError` where there is none of this kind, and no default."""
    is_object = isinstance(document, dict)
    value = document.get(name) if is_object else None
    if is_object and value is None and default is not None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        msg = f"the server's answer has no {name} as it should be"
        raise ProtocolError(msg)
    return value


def _number(document: Any, name: str) -> float:
    value: float = _member(document, name, (int, float), 0)
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        msg = f"the server's answer has no {name} as it should be"
        raise ProtocolError(msg)
    return number


def _items(document: Any, name: str) -> list[Any]:
    return list(_member(document, name, list))


def _texts(document: Any, name: str) -> tuple[str, ...]:
    values = _member(document, name, list, [])
    if not all(isinstance(value, str) for value in values):
        msg = f"the server's answer has no {name} as they should be"
        raise ProtocolError(msg)
    return tuple(values)


def nothing(_: Any) -> None:
    """What is meant where it is enough that it was done."""


def check_text(argument: str, value: object) -> str:
    """Refuse what cannot stand in a path, or in a body."""
    if not isinstance(value, str):
        # The type alone: the value may be a password that came as bytes.
        msg = f"{argument}: a string is wanted, not {type(value).__name__}"
        raise InvalidArgument(msg)
    utf8_size(argument, value)
    return value


def check_name(argument: str, value: object) -> str:
    """Refuse what is no name, escaped for a path."""
    name = check_text(argument, value)
    if name in ("", ".", ".."):
        msg = f"{argument}: {name!r} cannot be in the path of a request; give a name"
        raise InvalidArgument(msg)
    return quote(name, safe="")


# --- users


def list_users() -> Errand[list[UserDetails]]:
    """All users."""
    return Errand("listing users", "GET", "/users/", lambda told: [_user(one) for one in _items(told, "data")])


def look_at_user(login: str) -> Errand[UserDetails]:
    """One user."""
    return _about_user("looking at", login, "GET", "", parse=lambda told: _user(_member(told, "data", dict)))


def create_user(login: str, password: str, full_name: str, groups: tuple[str, ...]) -> Errand[None]:
    """Add a user."""
    check_name("login", login)
    _check_password("password", login, password)
    body = {"loginName": login, "fullName": check_text("full_name", full_name), "groups": _groups(groups)}
    return Errand(
        f"creating user {login!r}",
        "POST",
        "/users/",
        nothing,
        body | {"password": password},
        {_CONFLICT: UserExists(login)},
        (password,),
    )


def update_user(login: str, full_name: str, groups: tuple[str, ...]) -> Errand[None]:
    """Replace a user's full name and groups."""
    body = {"fullName": check_text("full_name", full_name), "groups": _groups(groups)}
    return _about_user("changing", login, "PUT", "", body, parse=nothing)


def delete_user(login: str) -> Errand[None]:
    """Let a user be none."""
    return _about_user("deleting", login, "DELETE", "", parse=nothing)


def switch_user(login: str, *, on: bool) -> Errand[None]:
    """Let a user log in, or not."""
    verb = "enable" if on else "disable"
    return _about_user(f"{verb[:-1]}ing", login, "POST", f"/command/{verb}", parse=nothing)


def reset_password(login: str, password: str) -> Errand[None]:
    """Give a user another password."""
    _check_password("password", login, password)
    return _about_user(
        "resetting the password of",
        login,
        "POST",
        "/command/reset-password",
        {"newPassword": password},
        parse=nothing,
        secrets=(password,),
    )


def change_password(login: str, current: str, new: str) -> Errand[None]:
    """Give a user another password, who says the current one."""
    _check_password("current", login, current)
    _check_password("new", login, new)
    return _about_user(
        "changing the password of",
        login,
        "POST",
        "/command/change-password",
        {"currentPassword": current, "newPassword": new},
        parse=nothing,
        secrets=(current, new),
    )


def _about_user(
    doing: str,
    login: str,
    method: str,
    command: str,
    body: Mapping[str, object] | None = None,
    *,
    parse: Callable[[Any], V],
    secrets: tuple[str, ...] = (),
) -> Errand[V]:
    target = f"/users/{check_name('login', login)}{command}"
    return Errand(f"{doing} user {login!r}", method, target, parse, body, {_MISSING: UserNotFound(login)}, secrets)


def _check_password(argument: str, login: str, password: str) -> None:
    """Refuse what nobody could log in with: the protocol has its limits, and no server looks at them here."""
    check_text(argument, password)
    Credentials(login, password)


def _groups(groups: tuple[str, ...]) -> list[str]:
    if isinstance(groups, str):
        msg = f"groups: {groups!r} is a string; give several, like ('staff',)"
        raise InvalidArgument(msg)
    names = [check_text("groups", group) for group in groups]
    if "" in names:
        msg = "groups: '' is no name of a group"
        raise InvalidArgument(msg)
    return names


def _user(told: Any) -> UserDetails:
    return UserDetails(
        _member(told, "loginName", str),
        _member(told, "fullName", str, ""),
        _texts(told, "groups"),
        _member(told, "disabled", bool, default=False),
    )


# --- projections


def list_projections() -> Errand[list[ProjectionDetails]]:
    """All projections."""
    return Errand(
        "listing projections",
        "GET",
        "/projections/any",
        lambda told: [_projection(one) for one in _items(told, "projections")],
        refusals={_MISSING: ProjectionsNotRunning()},
    )


def look_at_projection(name: str) -> Errand[ProjectionDetails]:
    """One projection."""
    return _about_projection("looking at", name, "GET", "", _projection)


def read_state(name: str, partition: str) -> Errand[Any]:
    """The state of a projection."""
    query = "?" + urlencode({"partition": check_text("partition", partition)}) if partition else ""
    return _about_projection("reading the state of", name, "GET", f"/state{query}", lambda told: told)


def command_projection(name: str, command: str) -> Errand[None]:
    """Enable, disable or reset a projection."""
    doing = {"enable": "enabling", "disable": "disabling", "reset": "resetting"}[command]
    return _about_projection(doing, name, "POST", f"/command/{command}", nothing)


def _about_projection(doing: str, name: str, method: str, page: str, parse: Callable[[Any], V]) -> Errand[V]:
    target = f"/projection/{check_name('name', name)}{page}"
    refusals: Refusals = {_MISSING: ProjectionNotFound(name)}
    return Errand(f"{doing} projection {name!r}", method, target, parse, refusals=refusals)


def _projection(told: Any) -> ProjectionDetails:
    return ProjectionDetails(
        name=_member(told, "name", str),
        status=_member(told, "status", str, ""),
        reason=_member(told, "stateReason", str, ""),
        mode=_member(told, "mode", str, ""),
        position=_member(told, "position", str, ""),
        progress=_number(told, "progress"),
        version=_member(told, "version", int, 0),
        processed=_member(told, "eventsProcessedAfterRestart", int, 0),
    )


# --- groups


def list_groups(stream: str | None) -> Errand[list[GroupSummary]]:
    """All groups, or those of one stream: servers have a page for these, which they have not where there is none."""
    wanted = None if stream is None else check_text("stream", stream)

    def parse(told: Any) -> list[GroupSummary]:
        groups = [_summary(one) for one in _items({"groups": told}, "groups")]
        return [group for group in groups if wanted is None or group.stream == wanted]

    return Errand("listing groups", "GET", "/subscriptions", parse)


def look_at_group(stream: str, group: str) -> Errand[GroupDetails]:
    """One group."""
    return _about_group("looking at", stream, group, "GET", "info", parse=_group)


STOPPED_REPLAY = Feature("a replay of parked events that stops at one of them", (20, 10))


def replay_parked(stream: str, group: str, stop_at: int | None) -> Errand[None]:
    """Have a group hand out again what it has parked."""
    page, needs = "replayParked", None
    if stop_at is not None:
        if isinstance(stop_at, bool) or not isinstance(stop_at, int) or not 0 <= stop_at < MAX_NUMBER:
            msg = f"stop_at: {stop_at!r} is no number of a parked event, from 0 up"
            raise InvalidArgument(msg)
        page, needs = f"replayParked?stopAt={stop_at}", STOPPED_REPLAY
    return _about_group("replaying what is parked by", stream, group, "POST", page, parse=nothing, needs=needs)


def check_version(needs: Feature, status: int, body: bytes) -> None:
    """Raise `Unsupported` where `/info` says that the server is too old for this."""
    if status not in _DONE:
        return
    version = _member(_Document("asking which server this is", body).value, "esVersion", str, "")
    numbers = version.split(".")[:2]
    if all(number.isascii() and number.isdigit() and len(number) < _MOST_DIGITS for number in numbers):
        known = tuple(map(int, numbers))
        if known < needs.since:
            raise Unsupported(needs.name, ".".join(map(str, needs.since)))


def _about_group(
    doing: str,
    stream: str,
    group: str,
    method: str,
    page: str,
    *,
    parse: Callable[[Any], V],
    needs: Feature | None = None,
) -> Errand[V]:
    target = f"/subscriptions/{check_name('stream', stream)}/{check_name('group', group)}/{page}"
    what = f"{doing} group {group!r} of stream {stream!r}"
    return Errand(what, method, target, parse, refusals={_MISSING: GroupNotFound(stream, group)}, needs=needs)


def _summary(told: Any) -> GroupSummary:
    connections = told.get("connections") if isinstance(told, dict) else None
    count = len(connections) if isinstance(connections, list) else _member(told, "connectionCount", int, 0)
    return GroupSummary(
        stream=_member(told, "eventStreamId", str),
        group=_member(told, "groupName", str),
        status=_member(told, "status", str, ""),
        consumers=count,
        in_flight=_member(told, "totalInFlightMessages", int, 0),
        processed=_member(told, "totalItemsProcessed", int, 0),
        checkpoint=_place(told, "lastCheckpointedEventPosition", "lastProcessedEventNumber"),
        last_known=_place(told, "lastKnownEventPosition", "lastKnownEventNumber"),
    )


def _place(told: Any, name: str, old_name: str) -> int | None:
    """A number of an event. Later servers tell it as a text, and 0 under the old name where there is none."""
    text = _member(told, name, str, "")
    if text:
        return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
    number = _member(told, old_name, int, -1)
    is_new = not {"lastCheckpointedEventPosition", "lastKnownEventPosition"}.isdisjoint(told)
    return None if number < 0 or is_new else number


def _group(told: Any) -> GroupDetails:
    return GroupDetails(
        summary=_summary(told),
        settings=_settings(_member(told, "config", dict, {})),
        connections=tuple(_consumer(one) for one in _member(told, "connections", list, [])),
        waiting=_member(told, "readBufferCount", int, 0) + _member(told, "liveBufferCount", int, 0),
        retrying=_member(told, "retryBufferCount", int, 0),
        parked=_member(told, "parkedMessageCount", int) if "parkedMessageCount" in told else None,
    )


def _consumer(told: Any) -> GroupConsumer:
    return GroupConsumer(
        address=_member(told, "from", str, ""),
        username=_member(told, "username", str, ""),
        name=_member(told, "connectionName", str, ""),
        processed=_member(told, "totalItemsProcessed", int, 0),
        in_flight=_member(told, "inFlightMessages", int, 0),
        available=_member(told, "availableSlots", int, 0),
    )


def _settings(told: Any) -> PersistentSettings | None:
    start = _member(told, "startFrom", int, 0)
    try:
        return PersistentSettings(
            resolve_link_tos=_member(told, "resolveLinktos", bool, default=False),
            start_from=END if start == -1 else start,
            message_timeout=_member(told, "messageTimeoutMilliseconds", int, 0) / 1000,
            record_statistics=_member(told, "extraStatistics", bool, default=False),
            live_buffer_size=_member(told, "liveBufferSize", int, 0),
            read_batch_size=_member(told, "readBatchSize", int, 0),
            buffer_size=_member(told, "bufferSize", int, 0),
            max_retry_count=_member(told, "maxRetryCount", int, 0),
            checkpoint_after_time=_member(told, "checkPointAfterMilliseconds", int, 0) / 1000,
            checkpoint_min_count=_member(told, "minCheckPointCount", int, 0),
            checkpoint_max_count=_member(told, "maxCheckPointCount", int, 0),
            subscriber_max_count=_member(told, "maxSubscriberCount", int, 0),
            named_consumer_strategy=ConsumerStrategy(_member(told, "namedConsumerStrategy", str, "")),
        )
    except (InvalidArgument, ValueError, OverflowError):
        return None
