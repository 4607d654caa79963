"""What the pages for projections say and do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.embedded.talk import Desk, new_events
from tests.embedded.test_projections import Later
from tests.embedded.visiting import ADMIN, basic
from trio_extreme.embedded.acl import User
from trio_extreme.embedded.http import Web
from trio_extreme.embedded.projection_pages import ProjectionPages
from trio_extreme.embedded.projections import Projections
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.http import Request, Response

PAGES = [
    "GET /projections/any",
    "GET /projections/continuous",
    "GET /projections/all-non-transient",
    "GET /projection/$streams",
    "GET /projection/$streams/statistics",
    "GET /projection/$streams/state",
    "GET /projection/$streams/result",
]
COMMANDS = [f"POST /projection/$streams/command/{command}" for command in ("enable", "disable", "reset")]


class Office:
    """A desk that projects, and says so."""

    def __init__(self, version: str = "4.1.1") -> None:
        self.desk = Desk(version)
        self.desk.users["jane"] = User("secret")
        self.later = Later()
        self.projections = Projections(self.desk.store, self.desk.service.hub, self.later.after)
        self.web = Web(self.desk.service)
        ProjectionPages(self.projections, self.desk.store, self.web)

    def ask(self, line: str, who: tuple[str, str] | None = ADMIN) -> Response:
        method, target = line.split()
        headers = () if who is None else (basic(*who),)
        return self.web.answer(Request(method, target, (("host", "here:2113"), *headers)))

    def told(self, line: str) -> Any:
        response = self.ask(line)
        assert response.status == 200
        return json.loads(response.body)


def test_what_is_told_of_one() -> None:
    office = Office()
    office.desk.write("people-1", new_events(3))
    office.later.run()
    told = office.told("GET /projection/$by_category")
    place = told["position"]
    assert told == {
        **dict.fromkeys(("coreProcessingTime", "writesInProgress", "readsInProgress", "bufferedEvents"), 0),
        **dict.fromkeys(("writePendingEventsBeforeCheckpoint", "writePendingEventsAfterCheckpoint"), 0),
        "name": "$by_category",
        "effectiveName": "$by_category",
        "mode": "Continuous",
        "partitionsCached": 1,
        "version": 1,
        "epoch": -1,
        "status": "Running",
        "stateReason": "",
        "checkpointStatus": "",
        "position": place,
        "lastCheckpoint": place,
        "progress": 100.0,
        "eventsProcessedAfterRestart": 3,
        "statusUrl": "http://here:2113/projection/$by_category",
        "stateUrl": "http://here:2113/projection/$by_category/state",
        "resultUrl": "http://here:2113/projection/$by_category/result",
        "enableCommandUrl": "http://here:2113/projection/$by_category/command/enable",
        "disableCommandUrl": "http://here:2113/projection/$by_category/command/disable",
    }
    assert place == f"C:{office.desk.store.log.end}/P:0"
    assert office.told("GET /projection/$by_category/statistics") == {"projections": [told]}


def test_what_is_told_of_all() -> None:
    for version, known in VERSIONS.items():
        told = Office(version).told("GET /projections/any")
        assert tuple(one["name"] for one in told["projections"]) == known.projections


def test_one_that_is_stopped_says_so_and_how_far_it_is() -> None:
    office = Office()
    office.desk.write("people-1", new_events(1))
    office.later.run()
    assert office.told("POST /projection/$streams/command/disable") == {"name": "$streams"}
    office.desk.write("people-2", new_events(100))
    office.later.run()
    told = office.told("GET /projection/$streams")
    assert told["status"] == "Stopped"
    assert 0 < told["progress"] < 20
    assert office.told("GET /projection/$by_category")["status"] == "Running"
    office.told("POST /projection/$streams/command/enable")
    office.later.run()
    told = office.told("GET /projection/$streams")
    assert (told["status"], told["progress"]) == ("Running", 100.0)


def test_a_reset() -> None:
    office = Office()
    office.desk.write("people-1", new_events(1))
    office.later.run()
    assert office.told("POST /projection/$streams/command/reset") == {"name": "$streams"}
    told = office.told("GET /projection/$streams")
    assert (told["version"], told["epoch"], told["position"], told["progress"]) == (2, 2, "C:0/P:0", 0.0)


def test_none_has_a_state() -> None:
    office = Office()
    response = office.ask("GET /projection/$streams/state?partition=x")
    assert (response.status, response.body, response.header("es-position")) == (200, b"", '{"$c":0,"$p":0}')


def test_one_that_is_not_there() -> None:
    office = Office()
    for line in PAGES[3:] + COMMANDS:
        assert office.ask(line.replace("$streams", "mine")).status == 404


@pytest.mark.parametrize("version", VERSIONS)
def test_who_may_do_what(version: str) -> None:
    known = VERSIONS[version]
    for who, sees, commands in (
        (None, known.opens_administration, False),
        (("jane", "secret"), True, False),
        (("ops", "changeit"), True, known.lets_operators_project),
        (ADMIN, True, True),
        (("admin", "wrong"), False, False),
    ):
        office = Office(version)
        assert {office.ask(line, who).status for line in PAGES} == {200 if sees else 401}
        assert {office.ask(line, who).status for line in COMMANDS} == {200 if commands else 401}
