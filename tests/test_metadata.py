"""Stream metadata and default rights as values: what is refused, what is stored, and what cannot be read."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.conformance.recorded import VERSIONS, load
from trio_extreme import NO_STREAM, Acl, DefaultAcl, InvalidArgument, StreamMetadata
from trio_extreme.metadata import KEEP, dump, is_metastream, metastream

DAY = timedelta(days=1)
FULL = StreamMetadata(
    max_age=7 * DAY,
    max_count=100,
    truncate_before=5,
    cache_control=timedelta(seconds=9),
    acl=Acl(read="$all", write=("jane", "staff"), delete=()),
    custom={"owner": "Pera Perić", "$tmp": True, "$later": [1, None, {"a": 0.5}]},
)
FULL_JSON = (
    '{"$maxCount":100,"$maxAge":604800,"$tb":5,"$cacheControl":9,'
    '"$acl":{"$r":"$all","$w":["jane","staff"],"$d":[]},'
    '"owner":"Pera Perić","$tmp":true,"$later":[1,null,{"a":0.5}]}'
).encode()


# --- what is given


def test_nothing_is_said_by_default() -> None:
    nothing = StreamMetadata()
    assert (nothing.max_age, nothing.max_count, nothing.truncate_before, nothing.cache_control) == (None,) * 4
    assert (nothing.acl, nothing.custom, nothing.problem) == (Acl(), {}, None)
    assert nothing.version == NO_STREAM
    assert nothing.to_json() == b"{}"
    assert repr(nothing) == "StreamMetadata()"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_age": 60}, r"max_age: 60 is no time; give a timedelta of whole seconds, from 1 to 922,337,203,685"),
        ({"max_age": timedelta()}, "max_age: .* is no time"),
        ({"max_age": -DAY}, "max_age: .* is no time"),
        ({"max_age": timedelta(seconds=1.5)}, "max_age: .* is no time; give a timedelta of whole seconds"),
        ({"max_age": timedelta.max}, "max_age: .* is no time"),
        ({"cache_control": timedelta(milliseconds=1)}, "cache_control: .* is no time"),
        ({"max_count": 0}, r"max_count: 0 is no whole number from 1 to 2\*\*63 - 1"),
        ({"max_count": 2**63}, "max_count: 9223372036854775808 is no whole number"),
        ({"max_count": True}, "max_count: True is no whole number"),
        ({"max_count": 1.0}, "max_count: 1.0 is no whole number"),
        ({"truncate_before": -1}, r"truncate_before: -1 is no whole number from 0 to 2\*\*63 - 1"),
        ({"acl": {"$r": "a"}}, "acl: .* is no Acl"),
        ({"custom": [1]}, r"custom: \[1\] is no mapping of keys to what JSON can say"),
        ({"custom": {1: 2}}, "custom: the key 1 is no string"),
        ({"custom": {"$maxCount": 2}}, r"custom: the key '\$maxCount' has an argument of its own: max_count"),
        ({"custom": {"a": {1, 2}}}, "custom: not JSON: "),
        ({"custom": {"a": nan}}, "custom: not JSON: "),
    ],
)
def test_what_no_server_takes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}"):
        StreamMetadata(**arguments)


def test_nested_too_deeply() -> None:
    deep: Any = None
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(InvalidArgument, match="custom: not JSON: "):
        StreamMetadata(custom={"a": deep})


def test_the_largest_values() -> None:
    most = StreamMetadata(max_age=timedelta(seconds=922_337_203_685), max_count=2**63 - 1, truncate_before=2**63 - 1)
    assert most.to_json() == (b'{"$maxCount":9223372036854775807,"$maxAge":922337203685,"$tb":9223372036854775807}')
    assert StreamMetadata.parse(most.to_json()) == most


def test_what_was_given_can_change_and_this_does_not() -> None:
    custom = {"a": 1}
    metadata = StreamMetadata(custom=custom)
    custom["a"] = 2
    assert metadata.custom == {"a": 1}
    with pytest.raises(AttributeError):
        metadata.max_count = 3  # type: ignore[misc]


# --- what is stored


def test_all_of_it_there_and_back() -> None:
    assert FULL.to_json() == FULL_JSON
    assert StreamMetadata.parse(FULL_JSON, version=4) == FULL
    assert StreamMetadata.parse(FULL_JSON, version=4).version == 4
    assert StreamMetadata.parse(FULL_JSON).to_json() == FULL_JSON


def test_only_what_is_said_is_shown() -> None:
    assert repr(StreamMetadata.parse(b'{"$tb":0,"a":1}', version=0)) == (
        "StreamMetadata(truncate_before=0, custom={'a': 1}, version=0)"
    )


def test_numbers_that_limit_nothing_are_as_good_as_not_there() -> None:
    assert StreamMetadata.parse(b'{"$maxCount":0,"$maxAge":-1,"$cacheControl":0,"$tb":-1}') == StreamMetadata()


def test_keys_nobody_here_knows_come_back() -> None:
    data = rb'{"$later":{"$r":1},"\ud800":"\udfff","n":1e-7,"big":%d}' % 10**40
    assert StreamMetadata.parse(data).replace(max_count=3).to_json() == b'{"$maxCount":3,' + data[1:].replace(
        b"1e-7", b"1e-07"
    )


def test_a_byte_order_mark_does_no_harm() -> None:
    assert StreamMetadata.parse(b'\xef\xbb\xbf{"$maxCount":3}') == StreamMetadata(max_count=3)


UNREADABLE: dict[bytes, str] = {
    b"": "no JSON: Expecting value",
    b"not json": "no JSON: Expecting value",
    b'{"$maxCount":3} more': "no JSON: Extra data",
    b"\xff": "no JSON: it is not UTF-8",
    '{"$maxCount":3}'.encode("utf-16"): "no JSON: it is not UTF-8",
    b"[]": "no JSON object",
    b"3": "no JSON object",
    b'{"a":NaN}': "no JSON: NaN in it",
    b'{"a":-1e999}': "a number in it is too large",
    b'{"a":%s}' % (b"9" * 5000): "Exceeds the limit",
    b"[" * 200_000: "it is nested too deeply",
    b'{"$maxCount":"3"}': "$maxCount is no whole number that a server can count",
    b'{"$maxCount":null}': "$maxCount is no whole number that a server can count",
    b'{"$maxCount":true}': "$maxCount is no whole number that a server can count",
    b'{"$tb":1.0}': "$tb is no whole number that a server can count",
    b'{"$tb":9223372036854775808}': "$tb is no whole number that a server can count",
    b'{"$maxAge":922337203686}': "$maxAge is no whole number that a server can count",
    b'{"$cacheControl":[]}': "$cacheControl is no whole number that a server can count",
    b'{"$tmp":0}': "$tmp is neither true nor false",
    b'{"$acl":null}': "$acl is no object",
    b'{"$acl":{"$r":3}}': "$r in $acl is neither a role nor a list of them",
}


@pytest.mark.parametrize("data", UNREADABLE, ids=lambda data: repr(data[:16]))
def test_what_cannot_be_read_is_no_metadata_and_says_why(data: bytes) -> None:
    metadata = StreamMetadata.parse(data, version=3)
    assert metadata.problem is not None
    assert metadata.problem.startswith(UNREADABLE[data])
    assert metadata.version == 3
    assert (metadata.max_count, metadata.acl, metadata.custom) == (None, Acl(), {})
    assert metadata != StreamMetadata()


def test_what_is_not_marked_as_json_is_no_metadata() -> None:
    metadata = StreamMetadata.parse(b'{"$maxCount":3}', is_json=False)
    assert (metadata.max_count, metadata.problem) == (None, "its event is not marked as JSON")


def test_what_cannot_be_read_cannot_be_changed_or_written() -> None:
    metadata = StreamMetadata.parse(b"not json", version=3)
    for attempt in (metadata.to_json, lambda: metadata.replace(max_count=3), lambda: metadata.changed({})):
        with pytest.raises(InvalidArgument, match=r"^metadata: .*no JSON.*a new StreamMetadata\(\) would overwrite it"):
            attempt()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_servers_were_seen_to_take(version: str) -> None:
    """The metadata in the recordings, written again as other clients wrote it."""
    stored = [
        event
        for frame in load(version, "metadata").frames
        if frame.command == "WriteEvents"
        for event in (frame.message or {}).get("events", ())
        if event["event_type"] == "$metadata"
    ]
    parsed = [StreamMetadata.parse(_bytes(event["data"])) for event in stored]
    assert [metadata.problem for metadata in parsed[:-1]] == [None] * 5
    assert parsed[-1].problem
    admins = ("$admins",)
    assert parsed[:4] == [
        StreamMetadata(max_count=3),
        StreamMetadata(truncate_before=9),
        StreamMetadata(max_age=timedelta(seconds=1)),
        StreamMetadata(acl=Acl(read=admins, write=admins, delete=admins, read_metadata=admins, write_metadata=admins)),
    ]
    # One role alone may be a list too; we write it as a string.
    assert parsed[3].to_json() == _bytes(stored[3]["data"]).replace(b'["$admins"]', b'"$admins"')


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


# --- what changes


def test_changes_keep_remove_and_set() -> None:
    changed = FULL.changed(
        {"max_count": 5, "max_age": None, "truncate_before": KEEP, "custom": {"owner": None, "team": "a"}, "acl": KEEP}
    )
    assert changed == FULL.replace(
        max_count=5, max_age=None, custom={"$tmp": True, "$later": FULL.custom["$later"], "team": "a"}
    )
    assert FULL.changed({"custom": None, "acl": None}) == FULL.replace(custom={}, acl=Acl())
    assert FULL.changed({"max_count": KEEP}) == FULL
    # A null that is there is no key that was removed.
    assert StreamMetadata(custom={"a": None}).changed({"custom": {"b": 1}}).custom == {"a": None, "b": 1}


def test_a_change_nobody_can_mean() -> None:
    with pytest.raises(InvalidArgument, match="max_count: 0 is no whole number"):
        FULL.changed({"max_count": 0})
    with pytest.raises(InvalidArgument, match="custom: 3 is no mapping"):
        FULL.changed({"custom": 3})


def test_keep_says_what_it_is() -> None:
    assert repr(KEEP) == "KEEP"


# --- default rights


def test_default_rights_there_and_back() -> None:
    acl = DefaultAcl(user_streams=Acl(read="$all"), system_streams=Acl(read=("$ops", "jane")), custom={"a": 1})
    data = b'{"$userStreamAcl":{"$r":"$all"},"$systemStreamAcl":{"$r":["$ops","jane"]},"a":1}'
    assert acl.to_json() == data
    assert DefaultAcl.parse(data, version=2) == acl
    assert DefaultAcl.parse(data, version=2).version == 2
    assert DefaultAcl.parse(b"{}") == DefaultAcl()
    assert DefaultAcl().to_json() == b"{}"
    assert repr(DefaultAcl(system_streams=Acl(read="a"))) == "DefaultAcl(system_streams=Acl(read=('a',)))"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no JSON: Expecting value"),
        (b'{"$userStreamAcl":[]}', "$userStreamAcl is no object"),
        (b'{"$systemStreamAcl":{"$r":5}}', "$r in $systemStreamAcl is neither a role nor a list of them"),
        (b"[" * 200_000, "it is nested too deeply"),
    ],
    ids=["empty", "list", "number", "deep"],
)
def test_default_rights_that_cannot_be_read(data: bytes, problem: str) -> None:
    acl = DefaultAcl.parse(data, version=3)
    assert acl.problem is not None
    assert acl.problem.startswith(problem)
    assert (acl.user_streams, acl.system_streams, acl.version) == (Acl(), Acl(), 3)
    with pytest.raises(InvalidArgument, match=r"^acl: what is stored .* a new DefaultAcl\(\) would overwrite it"):
        acl.to_json()


def test_default_rights_that_nobody_means() -> None:
    with pytest.raises(InvalidArgument, match="user_streams: 'a' is no Acl"):
        DefaultAcl(user_streams="a")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"custom: the key '\$userStreamAcl' has an argument of its own"):
        DefaultAcl(custom={"$userStreamAcl": {}})


# --- names


def test_names() -> None:
    assert (metastream("s"), metastream("$all")) == ("$$s", "$$$all")
    assert is_metastream("$$s")
    assert not is_metastream("$s")


# --- whatever it is


TEXT = st.text(max_size=5)
ROLE = st.text(min_size=1, max_size=5)
ROLES = st.none() | ROLE | st.lists(ROLE, max_size=3)
ACLS = st.builds(Acl, read=ROLES, write=ROLES, delete=ROLES, read_metadata=ROLES, write_metadata=ROLES)
TIMES = st.none() | st.integers(1, 922_337_203_685).map(lambda seconds: timedelta(seconds=seconds))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
KEYS = TEXT.filter(lambda key: key not in {"$maxAge", "$maxCount", "$tb", "$cacheControl", "$acl", "$tmp"})
CUSTOM = st.dictionaries(KEYS, VALUES, max_size=3)


@given(
    st.builds(
        StreamMetadata,
        max_age=TIMES,
        max_count=st.none() | st.integers(1, 2**63 - 1),
        truncate_before=st.none() | st.integers(0, 2**63 - 1),
        cache_control=TIMES,
        acl=ACLS,
        custom=CUSTOM,
    )
)
def test_whatever_is_said_comes_back(metadata: StreamMetadata) -> None:
    assert StreamMetadata.parse(metadata.to_json()) == metadata


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()) | CUSTOM.map(dump), st.booleans())
def test_no_bytes_make_it_fail(data: bytes, is_json: bool) -> None:
    for document in (StreamMetadata.parse(data, is_json=is_json), DefaultAcl.parse(data)):
        # What can be read can be written, and is then the same.
        if document.problem is None:
            assert type(document).parse(document.to_json()) == document


def test_infinity_is_no_json_either() -> None:
    with pytest.raises(InvalidArgument):
        StreamMetadata(custom={"a": inf})
