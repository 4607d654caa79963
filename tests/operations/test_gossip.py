"""What nodes tell of each other, as it was recorded and as anybody could send it, and which of them is chosen."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_extreme.errors import ProtocolError
from trio_extreme.operations.gossip import NEVER, RANKS, Member, choose, read_gossip, unknown_states, why_none

RECORDED = Path(__file__).parent.parent / "conformance" / "recordings" / "gossip"
STATES = sorted(RANKS["write"])


def recorded(name: str) -> list[Member]:
    return read_gossip((RECORDED / f"4.1.1-{name}.json").read_bytes())


def ports(mode: str, members: list[Member], **options: Any) -> set[int]:
    """All that may be chosen."""
    chosen = [choose(members, mode, Random(seed), tls=False, **options) for seed in range(40)]
    return {member.plain[1] for member in chosen if member and member.plain}


def member(state: str, port: int = 1113, *, alive: bool = True, secure: int = 0) -> Member:
    plain = ("h", port) if port else None
    return Member(state, alive, plain, ("h", secure) if secure else None, None)


def test_recorded_gossip() -> None:
    members = recorded("three-alive")
    assert [(each.state, each.is_alive, each.plain, each.secure, each.http) for each in members] == [
        ("Slave", True, ("127.0.0.1", 3113), None, ("127.0.0.1", 3213)),
        ("Master", True, ("127.0.0.1", 3112), None, ("127.0.0.1", 3212)),
        ("Slave", True, ("127.0.0.1", 3111), None, ("127.0.0.1", 3211)),
    ]
    assert [each.is_master for each in members] == [False, True, False]
    assert ports("write", members) == {3112}
    assert ports("read", members) == {3111, 3113}
    assert ports("any", members) == {3111, 3112, 3113}


def test_a_dead_master_is_still_told_of_as_one() -> None:
    members = recorded("master-just-killed")
    assert [(each.state, each.is_alive) for each in members][1] == ("Master", False)
    assert 3112 not in ports("write", members) | ports("read", members) | ports("any", members)
    assert ports("write", recorded("new-master")).isdisjoint({3112})
    assert len(ports("write", recorded("old-master-back"))) == 1


def test_what_20_6_and_later_tell() -> None:
    fields = {"state": "Leader", "isAlive": True, "externalTcpIp": "n1.example", "externalTcpPort": 0}
    fields |= {"externalSecureTcpPort": 1113, "httpEndPointIp": "n1.example", "httpEndPointPort": 2113}
    (found,) = read_gossip(json.dumps({"members": [fields]}).encode())
    assert found == Member("Leader", is_alive=True, plain=None, secure=("n1.example", 1113), http=("n1.example", 2113))
    assert choose([found], "write", Random(1), tls=True) == found
    # A port of 0 is none.
    assert choose([found], "write", Random(1), tls=False) is None
    assert why_none([found], tls=False) == "the nodes have TCP ports with TLS alone: set tls=True"


def test_ranks() -> None:
    """As they are promised, in order."""
    write = [
        *({"Leader", "Master"}, {"PreLeader", "PreMaster"}, {"Follower", "Slave"}),
        *({"Clone"}, {"CatchingUp"}, {"PreReplica"}, {"ReadOnlyReplica"}),
    ]
    read = [{"Follower", "Slave"}, {"ReadOnlyReplica", "PreLeader", "PreMaster"}, {"Leader", "Master"}, *write[3:6]]
    for mode, order in (("write", write), ("read", read), ("any", [set(STATES)])):
        left = [member(state, port) for port, state in enumerate(STATES, 1)] + [member("Novel", 99)]
        for states in order:
            assert ports(mode, left) == {STATES.index(state) + 1 for state in states}
            left = [each for each in left if each.state not in states]
        # What nobody knew of when this was written comes last.
        assert ports(mode, left) == {99}
    assert unknown_states([member("Novel"), member("Slave"), member("Manager")]) == ["Novel"]


def test_never() -> None:
    for state in NEVER:
        assert choose([member(state)], "any", Random(1), tls=False) is None
    for state in STATES:
        assert choose([member(state, alive=False)], "any", Random(1), tls=False) is None


def test_who_has_failed_comes_last_unless_it_is_the_master_that_is_wanted() -> None:
    members = [member("Slave", 1), member("Master", 2), member("Slave", 3)]
    assert ports("read", members, avoid={("h", 1)}) == {3}
    assert ports("read", members, avoid={("h", 1), ("h", 3)}) == {2}
    assert ports("read", members, avoid={("h", 1), ("h", 2), ("h", 3)}) == {1, 3}
    assert ports("write", members, avoid={("h", 2)}) == {2}


@pytest.mark.parametrize(
    ("members", "tls", "words"),
    [
        ([], False, "it knows of no node"),
        ([member("Master", alive=False), member("Manager")], False, "no node is usable: 1 Manager, 1 dead Master"),
        ([member("Master", 0)], False, "no* has an external TCP port: switch it on (EnableExternalTcp"),
        ([member("Master", 1)], True, "none of the 1 usable nodes has a secure TCP port"),
    ],
)
def test_why_none_will_do(members: list[Member], tls: bool, words: str) -> None:
    found = why_none(members, tls=tls)
    assert all(part in found for part in words.split("*"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"members": 5}',
        b'{"members": {"state": "Master"}}',
        b"[" * 100_000,
        b'{"members": [' + b"1" * 10_000,
        (RECORDED / "4.1.1-three-alive.json").read_bytes()[:1000],
    ],
    ids=range(10),
)
def test_what_is_no_gossip(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_gossip(body)


def test_members_that_are_none() -> None:
    odd: list[Any] = [5, None, {}, {"state": 5, "isAlive": "true", "externalTcpIp": "h", "externalTcpPort": "1113"}]
    odd += [{"state": "Master", "isAlive": True, "externalTcpIp": "", "externalTcpPort": 1}]
    odd += [{"state": "Master\n", "isAlive": True, "externalTcpIp": "h", "externalTcpPort": 1}]
    odd += [{"state": "Master", "isAlive": True, "externalTcpIp": "h\n", "externalTcpPort": 1}]
    odd += [{"state": "Master" * 1000, "isAlive": True, "externalTcpIp": "h", "externalTcpPort": 70_000}]
    members = read_gossip(json.dumps({"members": odd}).encode())
    assert choose(members, "write", Random(1), tls=False) is None
    assert max(len(each.state) for each in members) == 40


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(STATES),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["state", "isAlive", "externalTcpPort"]), inner),
)


@given(st.fixed_dictionaries({"members": JSON}))
def test_any_document_is_gossip_or_a_protocol_error(document: Any) -> None:
    with suppress(ProtocolError):
        choose(read_gossip(json.dumps(document).encode()), "read", Random(1), tls=False)
