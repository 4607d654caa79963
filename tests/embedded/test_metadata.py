from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from trio_extreme.embedded.metadata import (
    NO_ACL,
    NO_METADATA,
    Metadata,
    Right,
    dump,
    parse_metadata,
    parse_settings,
    split_metastream,
    with_truncate_before,
)


def test_what_the_server_obeys_is_read() -> None:
    data = b'{"$maxCount":3,"$maxAge":60,"$tb":7,"$acl":{"$r":"me","$w":["a","b"]},"mine":1}'
    rights = {Right.READ: ("me",), Right.WRITE: ("a", "b")}
    assert parse_metadata(data) == Metadata(3, 60, 7, rights)


DEEP = 200_000


@pytest.mark.parametrize(
    "data",
    [b"", b"no json", b"\xff", b"[]", b'"text"', b"3", b"[" * DEEP, b'{"a":' * DEEP, b'{"a":%s}' % (b"9" * 5000)],
    ids=lambda data: repr(data[:8]),
)
def test_data_that_is_no_json_object_is_no_metadata(data: bytes) -> None:
    assert parse_metadata(data) == NO_METADATA
    assert parse_settings(data) == (NO_ACL, NO_ACL)
    assert with_truncate_before(data, 1) is None


@pytest.mark.parametrize(
    "wrong",
    [
        b'"$maxAge":"60"',
        b'"$tb":1.5',
        b'"$maxCount":true',
        b'"$cacheControl":"1"',
        b'"$tmp":1',
        b'"$acl":[]',
        b'"$acl":{"$r":1}',
        b'"$acl":{"$r":[1]}',
    ],
)
def test_one_wrong_type_makes_all_metadata_empty(wrong: bytes) -> None:
    assert parse_metadata(b'{"$maxCount":3,' + wrong + b"}") == NO_METADATA


def test_numbers_that_limit_nothing_are_left_out() -> None:
    assert parse_metadata(b'{"$maxCount":0,"$maxAge":-1,"$tb":-1}') == NO_METADATA
    assert parse_metadata(b'{"$tb":0}') == Metadata(truncate_before=0)


@pytest.mark.parametrize("key", [b"$maxCount", b"$maxAge", b"$tb"])
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a_number_that_no_server_can_count_makes_all_metadata_empty(key: bytes, number: int) -> None:
    assert parse_metadata(b'{"$acl":{"$r":"me"},"%s":%d}' % (key, number)) == NO_METADATA


def test_an_age_beyond_the_longest_time_of_servers_makes_all_metadata_empty() -> None:
    assert parse_metadata(b'{"$maxAge":922337203685}').max_age == 922_337_203_685
    assert parse_metadata(b'{"$maxCount":3,"$maxAge":922337203686}') == NO_METADATA


@pytest.mark.parametrize("key", [b"$maxCount", b"$maxAge", b"$tb", b"$cacheControl", b"$acl", b"$tmp"])
def test_null_is_a_wrong_type_too(key: bytes) -> None:
    other = b"$maxAge" if key == b"$maxCount" else b"$maxCount"
    assert parse_metadata(b'{"%s":3,"%s":null}' % (other, key)) == NO_METADATA


def test_rights_nobody_knows_make_all_metadata_empty() -> None:
    assert parse_metadata(b'{"$maxCount":3,"$acl":{"$x":"a"}}') == NO_METADATA
    assert parse_settings(b'{"$userStreamAcl":{"$r":"a"},"$systemStreamAcl":{"$x":"a"}}') == (NO_ACL, NO_ACL)


def test_what_is_not_utf_8_is_replaced_and_a_byte_order_mark_skipped() -> None:
    assert parse_metadata(b'\xef\xbb\xbf{"$maxCount":3,"a":"\xff"}') == Metadata(3)
    assert parse_metadata('{"$maxCount":3}'.encode("utf-16")) == NO_METADATA


def test_an_empty_list_of_roles_is_not_the_same_as_none() -> None:
    assert parse_metadata(b'{"$acl":{"$r":[]}}').acl == {Right.READ: ()}


def test_settings_have_rights_on_user_and_on_system_streams() -> None:
    data = b'{"$userStreamAcl":{"$r":"a"},"$systemStreamAcl":{"$d":"b"}}'
    assert parse_settings(data) == ({Right.READ: ("a",)}, {Right.DELETE: ("b",)})
    assert parse_settings(b"{}") == (NO_ACL, NO_ACL)


def test_truncating_keeps_the_rest() -> None:
    assert with_truncate_before(b'{"a": 1, "$tb": 5}', 9) == b'{"a":1,"$tb":9}'
    assert with_truncate_before(b"{}", 9) == b'{"$tb":9}'


def test_half_a_surrogate_pair_stays_the_escape_it_was() -> None:
    data = rb'{"\\\udfff":"\ud800","$tb":5}'
    assert with_truncate_before(data, 9) == data.replace(b"5", b"9")
    assert with_truncate_before(rb'{"a":"\ud83d\ude00"}', 9) == '{"a":"😀","$tb":9}'.encode()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("", (0, "")),
        ("x", (0, "x")),
        ("$x", (0, "$x")),
        ("$$x", (1, "x")),
        ("$$$x", (1, "$x")),
        ("$$$$x", (2, "x")),
        ("$$", (1, "")),
        ("$$$", (1, "$")),
        ("x$$", (0, "x$$")),
    ],
)
def test_a_metastream_is_some_streams_in_the_end(name: str, split: tuple[int, str]) -> None:
    assert split_metastream(name) == split


def test_large_numbers_stay_exact() -> None:
    assert dump({"$tb": 2**63 - 1}) == b'{"$tb":9223372036854775807}'
    assert parse_metadata(dump({"$tb": 2**63 - 1})).truncate_before == 2**63 - 1


@given(st.binary())
def test_no_bytes_make_it_fail(data: bytes) -> None:
    parse_metadata(data)
    parse_settings(data)
    with_truncate_before(data, 0)
