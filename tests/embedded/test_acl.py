from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from trio_extreme.embedded.acl import (
    DEFAULT_USERS,
    Identity,
    User,
    authenticate,
    is_allowed,
    with_default_users,
)
from trio_extreme.embedded.metadata import NO_ACL, NO_METADATA, Acl, Metadata, Right
from trio_extreme.errors import InvalidArgument
from trio_extreme.values import Credentials


@dataclass
class FakeRules:
    acls: dict[str, Acl] = field(default_factory=dict)
    defaults: tuple[Acl, Acl] = (NO_ACL, NO_ACL)
    allows_anonymous: bool = True
    opens_nested_metastreams: bool = False

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
    assert repr(User("secret", ("staff",))) == "User(groups=('staff',))"


def test_a_password_is_compared_as_it_is() -> None:
    users = {"jane": User("ž" * 127)}
    assert authenticate(users, Credentials("jane", "ž" * 127)) is not None
    for password in ("", "ž" * 126, "ž" * 126 + "z"):
        assert authenticate(users, Credentials("jane", password)) is None
    # What nobody has is compared with something too, which is nobody's password.
    assert authenticate(users, Credentials("nobody", "nobody has this one")) is None


def test_accounts_are_added_to_those_of_a_new_server() -> None:
    users = with_default_users({"jane": User("secret"), "ops": User("other"), "admin": User("more", ("staff",))})
    assert users == {
        "admin": User("more", ("staff",)),
        # With another password, and in the groups it was in.
        "ops": User("other", ("$ops",)),
        "jane": User("secret"),
    }
    assert with_default_users({}) == DEFAULT_USERS


def test_groups_are_a_list_too() -> None:
    assert User("secret", ["a", "b"]).groups == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", ["staff", ("",), ("a", 5), (None,)])
def test_what_is_no_group(groups: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^groups: .* are no names of groups; give a tuple of them"):
        User("secret", groups)


@pytest.mark.parametrize("password", ["ž" * 128, b"secret", None, "\ud800"])
def test_what_is_no_password(password: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^password: ") as info:
        User(password)
    assert "secret" not in str(info.value)


@pytest.mark.parametrize(
    ("users", "text"),
    [
        ({"jane": "secret"}, "users: the account of 'jane' is a str; give a User"),
        ({"": User("secret")}, "credentials: give a login"),
        ({"j" * 256: User("secret")}, "username: 256 bytes"),
    ],
)
def test_what_is_no_account(users: Any, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{text}") as info:
        with_default_users(users)
    assert "secret" not in str(info.value)


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


@pytest.mark.parametrize("stream", ["$$$$people", "$$" * 3 + "people", "$$" * 2 + "$all"])
def test_nobody_holds_the_metadata_of_a_metastream(stream: str) -> None:
    """Not even admins; later servers take it for that of a system stream of which nothing is said."""
    acls: dict[str, Acl] = {name: dict.fromkeys(Right, ("$all",)) for name in ("people", "$all")}
    defaults: tuple[Acl, Acl] = (NO_ACL, {Right.READ_METADATA: ("jane",)})
    early, late = (FakeRules(acls, defaults, opens_nested_metastreams=opens) for opens in (False, True))
    assert not any(is_allowed(early, who, right, stream) for who in ANYONE for right in Right)
    assert [is_allowed(late, who, READ, stream) for who in ANYONE] == [False, True, False, True]
    assert [is_allowed(late, who, WRITE, stream) for who in ANYONE] == [False, True, False, False]
    assert not is_allowed(late, ADMIN, DELETE, stream)


def test_rights_do_not_depend_on_how_long_a_name_is() -> None:
    late = FakeRules(opens_nested_metastreams=True)
    assert [is_allowed(late, who, READ, "$" * 20_001) for who in ANYONE] == [False, True, False, False]
    assert not is_allowed(FakeRules(), ADMIN, DELETE, "$" * 20_001)


def test_nobody_deletes_a_metastream() -> None:
    assert not any(is_allowed(FakeRules(), who, DELETE, "$$people") for who in ANYONE)


def test_the_log_can_be_opened_to_everyone() -> None:
    assert is_allowed(FakeRules({"$all": {READ: ("$all",)}}), None, READ, "$all")
