"""What the pages for groups say and do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.embedded.competing import CREATE, NakAction, Worker, create
from tests.embedded.talk import Desk, new_events
from tests.embedded.visiting import ADMIN, basic
from trio_extreme.embedded.acl import User
from trio_extreme.embedded.group_pages import GroupPages
from trio_extreme.embedded.http import Web
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.http import Request, Response
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from trio_extreme.embedded.clients import Client

HERE = "http://here:2113/subscriptions/a%2Fb/g%20h"
CONFIG = {
    "resolveLinktos": True,
    "startFrom": 0,
    "messageTimeoutMilliseconds": 30_000,
    "extraStatistics": False,
    "maxRetryCount": 3,
    "liveBufferSize": 500,
    "bufferSize": 400,
    "readBatchSize": 20,
    "checkPointAfterMilliseconds": 2000,
    "minCheckPointCount": 1,
    "maxCheckPointCount": 1,
    "maxSubscriberCount": 2,
    "namedConsumerStrategy": "RoundRobin",
    "preferRoundRobin": True,
}


class Office:
    """A desk with a group, and pages that tell of it."""

    def __init__(self, version: str = "4.1.1") -> None:
        self.desk = Desk(version)
        self.desk.users["jane"] = User("secret")
        self.web = Web(self.desk.service)
        GroupPages(self.desk.service.groups, self.desk.store.version, self.web, self.peer_of)
        settings = create(
            event_stream_id="a/b",
            subscription_group_name="g h",
            resolve_link_tos=True,
            message_timeout_milliseconds=30_000,
            buffer_size=400,
            max_retry_count=3,
            checkpoint_after_time=2000,
            checkpoint_max_count=1,
            subscriber_max_count=2,
        )
        assert self.desk.ask(CREATE, settings).result == 0

    def peer_of(self, client: Client) -> str:
        return f"10.0.0.9 {client.name}"

    def connect(self, in_flight: int = 2) -> Worker:
        caller = self.desk.new_caller()
        caller.ask(Command.IDENTIFY_CLIENT, schema.IdentifyClient(version=1, connection_name="worker"))
        return Worker(self.desk, in_flight, key="a/b::g h", caller=caller)

    def ask(self, line: str, who: tuple[str, str] | None = ADMIN) -> Response:
        method, target = line.split()
        headers = () if who is None else (basic(*who),)
        return self.web.answer(Request(method, target, (("host", "here:2113"), *headers)))

    def told(self, line: str, status: int = 200) -> Any:
        response = self.ask(line)
        assert response.status == status
        return json.loads(response.body)


def test_what_is_told_of_all() -> None:
    office = Office()
    summary = {
        "links": [{"href": f"{HERE}/info", "rel": "detail"}],
        "eventStreamId": "a/b",
        "groupName": "g h",
        "parkedMessageUri": "http://here:2113/streams/%24persistentsubscription-a%2Fb::g%20h-parked",
        "getMessagesUri": f"{HERE}/1",
        "status": "Live",
        "averageItemsPerSecond": 0.0,
        "totalItemsProcessed": 0,
        "lastProcessedEventNumber": -1,
        "lastKnownEventNumber": -1,
        "connectionCount": 0,
        "totalInFlightMessages": 0,
    }
    assert office.told("GET /subscriptions") == [summary]
    assert office.told("GET /subscriptions/a%2Fb") == [summary]
    assert office.told("GET /subscriptions/x", 404) == []


def test_what_is_told_of_one() -> None:
    office = Office()
    office.desk.write("a/b", new_events(5))
    office.connect()
    office.desk.clock.seconds += 1
    told = office.told("GET /subscriptions/a%2Fb/g%20h/info")
    assert told["links"][1] == {"href": f"{HERE}/replayParked", "rel": "replayParked"}
    assert told["config"] == CONFIG
    assert (told["totalItemsProcessed"], told["totalInFlightMessages"], told["averageItemsPerSecond"]) == (2, 2, 2.0)
    assert (told["readBufferCount"], told["retryBufferCount"], told["lastKnownEventNumber"]) == (3, 0, 4)
    assert told["connections"] == [
        {
            "from": "10.0.0.9 worker",
            "username": "admin",
            "totalItemsProcessed": 2,
            "extraStatistics": [],
            "availableSlots": 0,
            "inFlightMessages": 2,
        }
    ]
    assert "connectionCount" not in told
    assert "parkedMessageCount" not in told


def test_what_later_servers_tell() -> None:
    office = Office("22.10")
    told = office.told("GET /subscriptions/a%2Fb/g%20h/info")
    assert (told["lastProcessedEventNumber"], told["lastKnownEventNumber"]) == (0, 0)
    assert not {"lastCheckpointedEventPosition", "lastKnownEventPosition"} & told.keys()
    office.desk.write("a/b", new_events(2))
    worker = office.connect()
    worker.take()
    worker.nak(0, 1, action=NakAction.Park)
    told = office.told("GET /subscriptions/a%2Fb/g%20h/info")
    assert (told["lastCheckpointedEventPosition"], told["lastKnownEventPosition"]) == ("1", "1")
    assert (told["parkedMessageCount"], told["outstandingMessagesCount"]) == (2, 0)
    assert told["config"]["startPosition"] == "0"
    assert told["connections"][0]["connectionName"] == "worker"


@pytest.mark.parametrize(("version", "again"), [("4.1.1", 3), ("5.0", 3), ("20.10", 2)])
def test_what_is_parked_is_handed_out_again(version: str, again: int) -> None:
    """Up to some event of it, which servers can be told since 20.10."""
    office = Office(version)
    office.desk.write("a/b", new_events(3))
    worker = office.connect(10)
    assert len(worker.take()) == 3
    worker.nak(0, 1, 2, action=NakAction.Park)
    assert worker.take() == []
    assert office.told("POST /subscriptions/a%2Fb/g%20h/replayParked?stopAt=2")["result"] == "Success"
    assert len(worker.take()) == again
    assert office.told("POST /subscriptions/a%2Fb/g%20h/replayParked")["result"] == "Success"
    assert len(worker.take()) == 3 - again


@pytest.mark.parametrize("number", ["-1", "x", "9223372036854775807", "1" * 5000, "\u0661"])
def test_a_number_to_stop_at_that_is_none(number: str) -> None:
    assert Office("20.10").ask(f"POST /subscriptions/a%2Fb/g%20h/replayParked?stopAt={number}").status == 400


def test_a_group_that_is_not_there() -> None:
    office = Office()
    assert office.ask("GET /subscriptions/a%2Fb/x/info").status == 404
    assert office.told("POST /subscriptions/a%2Fb/x/replayParked", 404)["result"] == "DoesNotExist"


@pytest.mark.parametrize("version", VERSIONS)
def test_who_may_do_what(version: str) -> None:
    office = Office(version)
    by_settings = VERSIONS[version].lets_settings_rule_groups
    for who, sees, replays in (
        (None, False, False),
        (("jane", "secret"), True, False),
        (("ops", "changeit"), True, not by_settings),
        (ADMIN, True, True),
    ):
        for page in ("", "/a%2Fb", "/a%2Fb/g%20h/info"):
            assert office.ask(f"GET /subscriptions{page}", who).status == (200 if sees else 401)
        assert office.ask("POST /subscriptions/a%2Fb/g%20h/replayParked", who).status == (200 if replays else 401)
