"""The rights on a stream: what is given, what is stored, and what nobody means."""

from __future__ import annotations

from typing import Any

import pytest

from trio_extreme import Acl, InvalidArgument
from trio_extreme.rights import NO_ACL, RIGHTS, read_acl


def test_nothing_said_is_not_the_same_as_nobody() -> None:
    assert Acl().read is None
    assert Acl(read=()).read == ()
    assert Acl() != Acl(read=())
    assert not Acl()
    assert Acl(delete=[])
    assert (Acl().members(), Acl(read=()).members()) == ({}, {"$r": []})


def test_one_role_or_several() -> None:
    acl = Acl(read="$all", write=["jane", "staff"], delete=iter(("$admins",)))
    assert (acl.read, acl.write, acl.delete) == (("$all",), ("jane", "staff"), ("$admins",))
    assert acl == Acl(read=["$all"], write=("jane", "staff"), delete="$admins")
    assert acl.members() == {"$r": "$all", "$w": ["jane", "staff"], "$d": "$admins"}


def test_every_right_has_its_key() -> None:
    acl = Acl(**{right: f"by-{key}" for right, key in RIGHTS.items()})
    assert acl.members() == {key: f"by-{key}" for key in ("$r", "$w", "$d", "$mr", "$mw")}


@pytest.mark.parametrize("right", RIGHTS)
@pytest.mark.parametrize("roles", ["", [""], ["jane", ""], 5, [5], b"jane", True])
def test_what_is_no_role(right: str, roles: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{right}: .* is no role; give the name of a user or a group"):
        Acl(**{right: roles})


def test_what_changes() -> None:
    acl = Acl(read="a", write="b")
    assert acl.replace(read=None, delete="c") == Acl(write="b", delete="c")
    with pytest.raises(InvalidArgument, match=r"^read: 5 is no role"):
        acl.replace(read=5)
    with pytest.raises(TypeError):
        acl.replace(reed="a")


def test_its_repr_is_what_makes_it() -> None:
    for acl in (Acl(), Acl(read=()), Acl(write="a", read_metadata=("b", "c"))):
        assert eval(repr(acl), {"Acl": Acl}) == acl  # noqa: S307 - our own text
    assert repr(Acl(read="a")) == "Acl(read=('a',))"


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Acl().read = ("a",)  # type: ignore[misc]
    assert len({Acl(read="a"), Acl(read=["a"]), NO_ACL}) == 2


def test_what_is_stored() -> None:
    assert read_acl("$acl", {"$r": "a", "$mw": ["b", "c"], "$d": []}) == Acl(
        read="a", write_metadata=["b", "c"], delete=()
    )
    # A role that nobody can have is one all the same: servers obey the rest.
    assert read_acl("$acl", {"$r": "", "$w": "a"}).read == ("",)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (None, "$acl is no object"),
        ([], "$acl is no object"),
        ({"$r": None}, "$r in $acl is neither a role nor a list of them"),
        ({"$mw": [1]}, "$mw in $acl is neither a role nor a list of them"),
        ({"$w": {"a": 1}}, "$w in $acl is neither a role nor a list of them"),
        ({"$r": "a", "$x": "b"}, "'$x' in $acl is no right"),
    ],
)
def test_what_servers_do_not_take_for_rights(members: object, problem: str) -> None:
    with pytest.raises(ValueError, match=r"no object|no right|a list") as info:
        read_acl("$acl", members)
    assert str(info.value) == problem
