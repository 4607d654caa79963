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
    with_truncate_before,
)


def test_what_the_server_obeys_is_read() -> None:
    data = b'{"$maxCount":3,"$maxAge":60,"$tb":7,"$acl":{"$r":"me","$w":["a","b"]},"mine":1}'
    rights = {Right.READ: ("me",), Right.WRITE: ("a", "b")}
    assert parse_metadata(data) == Metadata(3, 60, 7, rights)


@pytest.mark.parametrize("data", [b"", b"no json", b"\xff", b"[]", b'"text"', b"3"])
def test_data_that_is_no_json_object_is_no_metadata(data: bytes) -> None:
    assert parse_metadata(data) == NO_METADATA
    assert parse_settings(data) == (NO_ACL, NO_ACL)
    assert with_truncate_before(data, 1) is None


@pytest.mark.parametrize(
    "wrong",
    [b'"$maxAge":"60"', b'"$tb":1.5', b'"$maxCount":true', b'"$acl":[]', b'"$acl":{"$r":1}', b'"$acl":{"$r":[1]}'],
)
def test_one_wrong_type_makes_all_metadata_empty(wrong: bytes) -> None:
    assert parse_metadata(b'{"$maxCount":3,' + wrong + b"}") == NO_METADATA


def test_numbers_that_limit_nothing_are_left_out() -> None:
    assert parse_metadata(b'{"$maxCount":0,"$maxAge":-1,"$tb":-1}') == NO_METADATA
    assert parse_metadata(b'{"$tb":0}') == Metadata(truncate_before=0)


def test_null_says_nothing() -> None:
    assert parse_metadata(b'{"$maxCount":null,"$acl":null}') == NO_METADATA
    assert parse_metadata(b'{"$acl":{"$r":null}}') == NO_METADATA


def test_an_empty_list_of_roles_is_not_the_same_as_none() -> None:
    assert parse_metadata(b'{"$acl":{"$r":[]}}').acl == {Right.READ: ()}


def test_settings_have_rights_on_user_and_on_system_streams() -> None:
    data = b'{"$userStreamAcl":{"$r":"a"},"$systemStreamAcl":{"$d":"b"}}'
    assert parse_settings(data) == ({Right.READ: ("a",)}, {Right.DELETE: ("b",)})
    assert parse_settings(b"{}") == (NO_ACL, NO_ACL)


def test_truncating_keeps_the_rest() -> None:
    assert with_truncate_before(b'{"a": 1, "$tb": 5}', 9) == b'{"a":1,"$tb":9}'
    assert with_truncate_before(b"{}", 9) == b'{"$tb":9}'


def test_large_numbers_stay_exact() -> None:
    assert dump({"$tb": 2**63 - 1}) == b'{"$tb":9223372036854775807}'
    assert parse_metadata(dump({"$tb": 2**63 - 1})).truncate_before == 2**63 - 1


@given(st.binary())
def test_no_bytes_make_it_fail(data: bytes) -> None:
    parse_metadata(data)
    parse_settings(data)
    with_truncate_before(data, 0)
