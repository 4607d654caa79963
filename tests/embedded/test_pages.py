"""What a node's pages say, held against what real servers say."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.talk import Desk, new_events
from tests.embedded.visiting import ADMIN, MASTER, ask, basic, document, pages_of
from trio_extreme.embedded.gossip import encode_gossip, encode_time
from trio_extreme.embedded.projections import Projections
from trio_extreme.embedded.states import State
from trio_extreme.embedded.versions import VERSIONS, find_version

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
RECORDED = sorted((ROOT / "conformance" / "recordings" / "gossip").glob("*.json"))
PROTOCOL = (ROOT.parent / "docs" / "protocol.md").read_text()


def shape(value: Any) -> Any:
    """The names in a document, in their order, and the types of what they name."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    return [shape(value[0])] if isinstance(value, list) else type(value)


def told_by(version: str) -> Any:
    return document(ask(pages_of(Desk(version)), "/gossip?format=json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_gossip_has_the_form_of_a_recorded_one(path: Path) -> None:
    recorded = json.loads(path.read_text())
    for member in recorded["members"]:
        assert shape({**recorded, "members": [member]}) == shape(told_by("4.1.1"))


def documented() -> Iterator[Any]:
    section = PROTOCOL.partition("Gossip shapes")[2]
    for text in re.findall(r"```json\n(.+?)```", section, re.DOTALL):
        yield json.loads(text)


@pytest.mark.parametrize("version", VERSIONS)
def test_gossip_has_the_form_that_the_protocol_page_shows(version: str) -> None:
    old, new = documented()
    expected = shape(new if VERSIONS[version].says_leader else old)
    if version == "23.10":
        expected[0][1][0].append(("esVersion", str))
    assert shape(told_by(version)) == expected


@pytest.mark.parametrize(("version", "state"), [("4.1.1", "Master"), ("20.10", "Leader")])
def test_gossip_says_what_there_is_to_say_of_a_node(version: str, state: str) -> None:
    told = told_by(version)
    (member,) = told["members"]
    assert (told["serverIp"], told["serverPort"]) == ("10.0.0.11", 2113)
    assert {key: member[key] for key in ("instanceId", "timeStamp", "state", "isAlive")} == {
        "instanceId": "00000000-0000-0000-0000-000000000001",
        "timeStamp": "2021-03-04T10:11:12.12345Z",
        "state": state,
        "isAlive": True,
    }
    assert (member["externalTcpIp"], member["externalTcpPort"], member["externalSecureTcpPort"]) == (
        *("10.0.0.11", 1113, 0),
    )
    assert (member["lastCommitPosition"], member["writerCheckpoint"], member["epochNumber"]) == (913, 1204, 3)


def test_states_have_the_names_that_the_protocol_page_lists() -> None:
    listed = re.search(r"State names: ≤5 ([^.]+)\. 20\.6\+: ([^.]+)\.", PROTOCOL)
    assert listed is not None
    for version, names in zip(("4.1.1", "20.10"), listed.groups(), strict=True):
        known = {state.name_at(find_version(version)) for state in State} - {""}
        # That one is a process which watches over nodes.
        assert known == set(names.split(", ")) - {"Manager"}


def test_a_node_that_reads_only_is_told_apart() -> None:
    member = MASTER._replace(state=State.READ_ONLY, is_read_only=True)
    (told,) = encode_gossip([member], member.endpoints, find_version("22.10"))["members"]
    assert (told["state"], told["isReadOnlyReplica"]) == ("ReadOnlyReplica", True)


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000, "1970-01-01T00:00:01.5Z"),
        (1_614_852_672_000_001, "2021-03-04T10:11:12.000001Z"),
        (1_614_852_670_000_000, "2021-03-04T10:11:10Z"),
    ],
)
def test_a_time(microseconds: int, text: str) -> None:
    assert encode_time(microseconds) == text


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("3.9.4", {"esVersion": "3.9.4.0", "state": "master", "projectionsMode": "None"}),
        ("5.0", {"esVersion": "5.0.11.0", "state": "master", "projectionsMode": "None"}),
        (
            "22.10",
            {
                "esVersion": "22.10.5.0",
                "state": "leader",
                "features": {"projections": False, "userManagement": True, "atomPub": False},
                "authentication": {"type": "internal", "properties": {}},
            },
        ),
    ],
)
def test_info(version: str, told: dict[str, Any]) -> None:
    assert document(ask(pages_of(Desk(version)), "/info")) == told


@pytest.mark.parametrize(("version", "key", "told"), [("4.1.1", "projectionsMode", "System"), ("20.10", "features", 1)])
def test_info_says_whether_it_projects(version: str, key: str, told: str | int) -> None:
    desk = Desk(version)
    desk.service.projections = Projections(desk.store, desk.service.hub, lambda _, __: None)
    found = document(ask(pages_of(desk), "/info"))[key]
    assert (found if isinstance(found, str) else found["projections"]) == told


def test_a_node_that_starts_says_so() -> None:
    desk = Desk()
    desk.service.set_ready(ready=False)
    assert document(ask(pages_of(desk), "/info"))["state"] == "initializing"
    desk.service.set_ready(ready=True)
    assert document(ask(pages_of(desk), "/info"))["state"] == "master"


def test_ping() -> None:
    web = pages_of(Desk())
    assert document(ask(web, "/ping")) == {"text": "Ping request successfully handled"}
    assert ask(web, "/ping", ("accept", "text/plain")).body == b"Ping request successfully handled"


def test_statistics() -> None:
    desk = Desk()
    desk.write("people", new_events(3))
    web = pages_of(desk)
    told = document(ask(web, "/stats"))
    assert told["proc"] == {
        "startTime": "2021-03-04T10:00:00Z",
        "id": os.getpid(),
        "tcp": {"connections": 1, "receivedBytesTotal": 150, "sentBytesTotal": 2500, "pendingSend": 30},
    }
    assert told["es"] == {"checksum": desk.store.log.end, "checksumNonFlushed": desk.store.log.end}
    (connection,) = document(ask(web, "/stats/tcp"))
    assert connection["remoteEndPoint"] == "10.0.0.9:4711"
    assert (connection["clientConnectionName"], connection["totalBytesSent"]) == ("my-app", 2000)


def test_gossip_where_there_is_none() -> None:
    assert ask(pages_of(Desk(), gossips=False), "/gossip").status == 404


@pytest.mark.parametrize("target", ["/stats", "/stats/tcp"])
def test_statistics_of_late_are_for_users(target: str) -> None:
    web = pages_of(Desk("23.10"))
    assert ask(web, target).status == 401
    assert ask(web, target, basic(*ADMIN)).status == 200
