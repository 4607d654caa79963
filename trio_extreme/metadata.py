"""Stream metadata: limits, rights, and keys of one's own; and the rights on streams that say nothing themselves.

Rule 1: what somebody else wrote never makes this raise. Servers take metadata of which they cannot read a part for none
at all; so does this, and `problem` says why (docs/protocol.md, 3.12).
Rule 2: what could not be read is never half kept: it can be neither changed nor written, only be replaced by new.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import Any, ClassVar, Final, NoReturn, Self

from trio_extreme.errors import InvalidArgument
from trio_extreme.rights import NO_ACL, Acl, read_acl
from trio_extreme.values import MAX_NUMBER, NO_STREAM

METADATA_TYPE = "$metadata"
"""The type of an event that holds metadata. The last one of `$$stream` counts."""

SETTINGS = "$settings"
"""The stream whose last event holds the default rights, and the type of such an event."""

MAX_SECONDS = 922_337_203_685
"""The longest time that a server can express."""

_META = "$$"
_SECOND = timedelta(seconds=1)


class _Keep(Enum):
    KEEP = "as it is"

    def __repr__(self) -> str:
        return self.name


KEEP: Final[Any] = _Keep.KEEP
"""What leaves a value as it is, where None would remove it."""


def metastream(stream: str) -> str:
    """The name of the stream that holds the metadata of this one."""
    return _META + stream


def stream_of(metastream: str) -> str:
    """The name of the stream whose metadata this one holds."""
    return metastream.removeprefix(_META)


def is_metastream(stream: str) -> bool:
    """Whether this is the name of a stream that holds the metadata of another."""
    return stream.startswith(_META)


# --- documents


@dataclass(frozen=True, kw_only=True, repr=False)
class _Document(ABC):
    """A JSON object in the last event of some stream."""

    #: Keys of one's own, and any others that this library does not know, with what JSON can say.
    custom: Mapping[str, Any] = field(default_factory=dict)
    #: The number of the event that holds it, which is what `expected=` wants; NO_STREAM where nobody ever wrote it.
    version: int = field(default=NO_STREAM, compare=False)
    #: Why what is stored cannot be read, and none of it is here; servers do not obey it either. None where all is well.
    problem: str | None = field(default=None, init=False)

    #: What the verbs call it that write it.
    _argument: ClassVar[str]

    def _check(self, known: Mapping[str, str]) -> None:
        """Check `custom`; `known` are the keys that have arguments of their own, with these."""
        if self.custom is None:
            object.__setattr__(self, "custom", {})
        if not isinstance(self.custom, Mapping):
            msg = f"custom: {self.custom!r} is no mapping of keys to what JSON can say"
            raise InvalidArgument(msg)
        for key in self.custom:
            if not isinstance(key, str) or key in known:
                what = "has an argument of its own: " + known[key] if key in known else "is no string"
                msg = f"custom: the key {key!r} {what}"
                raise InvalidArgument(msg)
        object.__setattr__(self, "custom", dict(self.custom))
        try:
            dump(self.custom)
        except (TypeError, ValueError, RecursionError) as error:
            msg = f"custom: not JSON: {error}"
            raise InvalidArgument(msg) from error

    def replace(self, **changes: Any) -> Self:
        """The same with some values changed. Raises `InvalidArgument`, also where what is stored could not be read."""
        self._refuse_unreadable()
        return replace(self, **changes)

    def to_json(self) -> bytes:
        """The JSON to store. Raises `InvalidArgument` where what is stored could not be read: it would be lost."""
        self._refuse_unreadable()
        return dump(self._members() | dict(self.custom))

    @abstractmethod
    def _members(self) -> dict[str, Any]:
        """What JSON has of it, beside `custom`."""

    def _refuse_unreadable(self) -> None:
        if self.problem is not None:
            kind = type(self).__name__
            msg = f"{self._argument}: what is stored cannot be read ({self.problem}); a new {kind}() would overwrite it"
            raise InvalidArgument(msg)

    @classmethod
    def _unreadable(cls, problem: str, version: int) -> Self:
        document = cls(version=version)
        object.__setattr__(document, "problem", problem)
        return document


STREAM_KEYS = {
    "$maxCount": "max_count",
    "$maxAge": "max_age",
    "$tb": "truncate_before",
    "$cacheControl": "cache_control",
    "$acl": "acl",
}
"""What JSON calls the values of `StreamMetadata`."""


@dataclass(frozen=True, kw_only=True, repr=False)
class StreamMetadata(_Document):
    """What is said of a stream beside its events: limits, rights, and keys of one's own.

    Made anew it is what to write; `Connection.get_metadata` returns what is stored, with its `version`. Where servers
    do not obey what is stored, because it is no JSON or a value in it is none they know, `problem` says why. Raises
    `InvalidArgument` for values that no server takes. Equal to another that says the same, whatever its version.
    """

    _argument: ClassVar[str] = "metadata"

    #: Events are hidden once they are so old: whole seconds.
    max_age: timedelta | None = None
    #: Only the last so many events are seen.
    max_count: int | None = None
    #: Events before this number are hidden. 2**63 - 1 hides all, those to come too: the stream is soft-deleted.
    truncate_before: int | None = None
    #: How long HTTP clients may keep the stream's head: whole seconds.
    cache_control: timedelta | None = None
    #: Who may do what to it.
    acl: Acl = NO_ACL

    def __post_init__(self) -> None:
        _check_time("max_age", self.max_age)
        _check_number("max_count", self.max_count, 1)
        _check_number("truncate_before", self.truncate_before, 0)
        _check_time("cache_control", self.cache_control)
        object.__setattr__(self, "acl", _check_acl("acl", self.acl))
        self._check(STREAM_KEYS)

    def __repr__(self) -> str:
        return _shown(self, (*STREAM_KEYS.values(), "custom", "version", "problem"))

    @classmethod
    def parse(cls, data: bytes, *, is_json: bool = True, version: int = NO_STREAM) -> StreamMetadata:
        """The metadata in the data of an event; never raises. `is_json` is the event's flag: servers look at it."""
        if not is_json:
            return cls._unreadable("its event is not marked as JSON", version)
        try:
            return cls(version=version, **_read_metadata(_load(data)))
        except (ValueError, RecursionError) as error:
            return cls._unreadable(_problem(error), version)

    def changed(self, changes: Mapping[str, Any]) -> StreamMetadata:
        """The same with changes as `Connection.update_metadata` takes them: KEEP leaves a value, None removes it.

        Keys of `custom` are changed one by one.
        """
        given = {name: value for name, value in changes.items() if value is not KEEP}
        custom = given.get("custom")
        if isinstance(custom, Mapping):
            removed = {key for key, value in custom.items() if value is None}
            given["custom"] = {key: value for key, value in {**self.custom, **custom}.items() if key not in removed}
        return self.replace(**given)

    def _members(self) -> dict[str, Any]:
        values = {
            "$maxCount": self.max_count,
            "$maxAge": _seconds(self.max_age),
            "$tb": self.truncate_before,
            "$cacheControl": _seconds(self.cache_control),
            "$acl": self.acl.members() or None,
        }
        return {key: value for key, value in values.items() if value is not None}


_SETTINGS_KEYS = {"$userStreamAcl": "user_streams", "$systemStreamAcl": "system_streams"}


@dataclass(frozen=True, kw_only=True, repr=False)
class DefaultAcl(_Document):
    """The rights on streams whose own metadata does not say: what the stream `$settings` holds.

    Where it does not say either, everybody has all rights on user streams, and only `$admins` on system streams. The
    rest is as in `StreamMetadata`.
    """

    _argument: ClassVar[str] = "acl"

    #: On streams of users.
    user_streams: Acl = NO_ACL
    #: On streams whose names begin with `$`, and the log of all streams.
    system_streams: Acl = NO_ACL

    def __post_init__(self) -> None:
        for name in _SETTINGS_KEYS.values():
            object.__setattr__(self, name, _check_acl(name, getattr(self, name)))
        self._check(_SETTINGS_KEYS)

    def __repr__(self) -> str:
        return _shown(self, (*_SETTINGS_KEYS.values(), "custom", "version", "problem"))

    @classmethod
    def parse(cls, data: bytes, *, version: int = NO_STREAM) -> DefaultAcl:
        """The default rights in the data of an event; never raises. Servers do not ask whether it is marked as JSON."""
        try:
            document = _load(data)
            acls = {name: read_acl(key, document.pop(key)) for key, name in _SETTINGS_KEYS.items() if key in document}
            return cls(version=version, custom=document, **acls)
        except (ValueError, RecursionError) as error:
            return cls._unreadable(_problem(error), version)

    def _members(self) -> dict[str, Any]:
        return {key: acl.members() for key, name in _SETTINGS_KEYS.items() if (acl := getattr(self, name))}


def _shown(value: object, names: Iterable[str]) -> str:
    """A repr of what is said, and nothing else."""
    unsaid: tuple[object, ...] = (None, {}, NO_ACL, NO_STREAM)
    said = [f"{name}={getattr(value, name)!r}" for name in names if getattr(value, name) not in unsaid]
    return f"{type(value).__name__}({', '.join(said)})"


# --- what is given


def _check_time(name: str, value: timedelta | None) -> None:
    if value is None:
        return
    if not isinstance(value, timedelta) or value % _SECOND or not 1 <= value // _SECOND <= MAX_SECONDS:
        msg = f"{name}: {value!r} is no time; give a timedelta of whole seconds, from 1 to {MAX_SECONDS:,}, or None"
        raise InvalidArgument(msg)


def _check_number(name: str, value: int | None, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_NUMBER:
        msg = f"{name}: {value!r} is no whole number from {least} to 2**63 - 1"
        raise InvalidArgument(msg)


def _check_acl(name: str, value: Acl | None) -> Acl:
    if value is None:
        return NO_ACL
    if not isinstance(value, Acl):
        msg = f"{name}: {value!r} is no Acl"
        raise InvalidArgument(msg)
    return value


# --- JSON


def dump(members: object) -> bytes:
    """JSON as servers write it. Raises `TypeError`, `ValueError` or `RecursionError` for what JSON cannot say."""
    text = json.dumps(members, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Half of a surrogate pair, which JSON can hold and UTF-8 cannot, becomes the escape it came as.
    return text.encode(errors="backslashreplace")


def _seconds(time: timedelta | None) -> int | None:
    return None if time is None else time // _SECOND


def _load(data: bytes) -> dict[str, Any]:
    try:
        # Servers do not mind a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # They put replacements into it and read on; to write it back would lose what it was.
        _refuse("no JSON: it is not UTF-8, though servers may obey it all the same")
    try:
        found = json.loads(text, parse_float=_parse_float, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        _refuse(f"no JSON: {error}")
    if not isinstance(found, dict):
        _refuse("no JSON object")
    return found


def _parse_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        # It could not be written again.
        _refuse("a number in it is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"no JSON: {name} in it")


def _refuse(problem: str) -> NoReturn:
    raise ValueError(problem)


def _problem(error: ValueError | RecursionError) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _read_metadata(document: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `StreamMetadata` that a JSON object makes. Raises `ValueError` where servers obey none of it."""
    if not isinstance(document.get("$tmp", False), bool):
        _refuse("$tmp is neither true nor false")
    found: dict[str, Any] = {
        "max_count": _read_number(document, "$maxCount", 1),
        "max_age": _read_time(document, "$maxAge"),
        "truncate_before": _read_number(document, "$tb", 0),
        "cache_control": _read_time(document, "$cacheControl"),
    }
    if "$acl" in document:
        found["acl"] = read_acl("$acl", document["$acl"])
    found["custom"] = {key: value for key, value in document.items() if key not in STREAM_KEYS}
    return found


def _read_number(document: Mapping[str, Any], key: str, least: int, most: int = MAX_NUMBER) -> int | None:
    """Numbers that limit nothing are as good as not there; null is no number."""
    if key not in document:
        return None
    value = document[key]
    if isinstance(value, bool) or not isinstance(value, int) or not -most - 1 <= value <= most:
        _refuse(f"{key} is no whole number that a server can count")
    return value if value >= least else None


def _read_time(document: Mapping[str, Any], key: str) -> timedelta | None:
    seconds = _read_number(document, key, 1, MAX_SECONDS)
    return None if seconds is None else timedelta(seconds=seconds)
