from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from trio_extreme.embedded.acl import DEFAULT_USERS, Identity, User, authenticate, is_allowed
from trio_extreme.embedded.metadata import NO_ACL, NO_METADATA, Acl, Metadata, Right
from trio_extreme.values import Credentials


@dataclass
class FakeRules:
    acls: dict[str, Acl] = field(default_factory=dict)
    defaults: tuple[Acl, Acl] = (NO_ACL, NO_ACL)
    allows_anonymous: bool = True

    def metadata(self, stream: str) -> Metadata:
        return Metadata(acl=self.acls[stream]) if stream in self.acls else NO_METADATA

    def settings(self) -> tuple[Acl, Acl]:
        return self.defaults


def identity(name: str) -> Identity:
    found = authenticate({**DEFAULT_USERS, "jane": User("changeit", ("staff",))}, Credentials(name, "changeit"))
    assert found is not None
    return found


ADMIN, OPS, JANE = identity("admin"), identity("ops"), identity("jane")
ANYONE = [None, ADMIN, OPS, JANE]
READ, WRITE, DELETE = Right.READ, Right.WRITE, Right.DELETE


@pytest.mark.parametrize(
    "credentials",
    [Credentials("admin", "wrong"), Credentials("nobody", "changeit"), Credentials(token="changeit")],
    ids=["password", "name", "token"],
)
def test_wrong_credentials_are_nobodys(credentials: Credentials) -> None:
    assert authenticate(DEFAULT_USERS, credentials) is None


def test_a_user_has_the_roles_of_the_groups_and_the_own_name() -> None:
    assert (JANE.login, sorted(JANE.roles)) == ("jane", ["jane", "staff"])


def test_a_token_is_as_good_as_its_users_password() -> None:
    tokens = {"a.b.c": "ops", "d.e.f": "nobody"}
    assert authenticate(DEFAULT_USERS, Credentials(token="a.b.c"), tokens) == OPS
    assert authenticate(DEFAULT_USERS, Credentials(token="d.e.f"), tokens) is None
    assert authenticate(DEFAULT_USERS, Credentials("a.b.c", "a.b.c"), tokens) is None


@pytest.mark.parametrize("right", Right)
def test_someone_anonymous_has_no_rights_where_the_server_allows_none(right: Right) -> None:
    rules = FakeRules({"people": {right: ("$all",)}}, allows_anonymous=False)
    assert not is_allowed(rules, None, right, "people")
    assert is_allowed(rules, JANE, right, "people")


def test_no_password_is_shown() -> None:
    assert "changeit" not in repr(DEFAULT_USERS)


@pytest.mark.parametrize("right", Right)
def test_everyone_has_every_right_on_user_streams(right: Right) -> None:
    assert all(is_allowed(FakeRules(), who, right, "people") for who in ANYONE)


@pytest.mark.parametrize("right", Right)
@pytest.mark.parametrize("stream", ["$settings", "$user-admin"])
def test_only_admins_have_rights_on_system_streams(right: Right, stream: str) -> None:
    assert [is_allowed(FakeRules(), who, right, stream) for who in ANYONE] == [False, True, False, False]


def test_the_log_is_read_by_admins_and_written_by_nobody() -> None:
    assert [is_allowed(FakeRules(), who, READ, "$all") for who in ANYONE] == [False, True, False, False]
    assert not any(is_allowed(FakeRules(), who, right, "$all") for who in ANYONE for right in (WRITE, DELETE))


def test_roles_in_the_metadata_decide() -> None:
    rules = FakeRules({"people": {READ: ("staff",), WRITE: ("jane", "$ops"), DELETE: ()}})
    assert [is_allowed(rules, who, READ, "people") for who in ANYONE] == [False, True, False, True]
    assert [is_allowed(rules, who, WRITE, "people") for who in ANYONE] == [False, True, True, True]
    assert [is_allowed(rules, who, DELETE, "people") for who in ANYONE] == [False, True, False, False]


def test_settings_decide_where_the_metadata_does_not() -> None:
    rules = FakeRules({"open": {READ: ("$all",)}}, ({READ: ("jane",)}, {READ: ("$ops",)}))
    assert [is_allowed(rules, who, READ, "people") for who in ANYONE] == [False, True, False, True]
    assert [is_allowed(rules, who, READ, "$stats") for who in ANYONE] == [False, True, True, False]
    assert is_allowed(rules, None, READ, "open")
    assert is_allowed(rules, None, WRITE, "people")


def test_a_metastream_has_the_metadata_rights_of_its_stream() -> None:
    rules = FakeRules({"people": {Right.READ_METADATA: ("jane",), Right.WRITE_METADATA: ("$ops",)}})
    assert [is_allowed(rules, who, READ, "$$people") for who in ANYONE] == [False, True, False, True]
    assert [is_allowed(rules, who, WRITE, "$$people") for who in ANYONE] == [False, True, True, False]
    assert [is_allowed(rules, who, READ, "$$$stats") for who in ANYONE] == [False, True, False, False]


def test_the_metadata_of_a_metastream_is_read_by_who_may_write_that_of_the_stream() -> None:
    rules = FakeRules({"people": {Right.READ_METADATA: ("jane",), Right.WRITE_METADATA: ("$ops",)}})
    for stream in ("$$$$people", "$$" * 3 + "people"):
        assert [is_allowed(rules, who, READ, stream) for who in ANYONE] == [False, True, True, False]
        assert [is_allowed(rules, who, WRITE, stream) for who in ANYONE] == [False, True, True, False]


def test_rights_do_not_depend_on_how_long_a_name_is() -> None:
    assert [is_allowed(FakeRules(), who, READ, "$" * 20_001) for who in ANYONE] == [False, True, False, False]
    assert not is_allowed(FakeRules(), ADMIN, DELETE, "$" * 20_001)


def test_nobody_deletes_a_metastream() -> None:
    assert not any(is_allowed(FakeRules(), who, DELETE, "$$people") for who in ANYONE)


def test_the_log_can_be_opened_to_everyone() -> None:
    assert is_allowed(FakeRules({"$all": {READ: ("$all",)}}), None, READ, "$all")
