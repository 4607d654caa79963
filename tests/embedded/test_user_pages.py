"""What the pages for users do, what they say of it, and who may ask; held against what the servers' sources say."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.recorded import VERSIONS as VERSIONS_RECORDED, load
from tests.embedded.talk import ADMIN, Desk, append, new_event, read_stream
from tests.embedded.visiting import basic
from trio_extreme.embedded import open_node, run_inline
from trio_extreme.embedded.acl import OPERATORS, User
from trio_extreme.embedded.http import Web
from trio_extreme.embedded.records import Place
from trio_extreme.embedded.user_pages import UserPages
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.http import Request, Response
from trio_extreme.values import Credentials
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

JANE = {"loginName": "jane", "fullName": "Jane Doe", "groups": ["staff"], "password": "secret"}
OPS, NOBODY = Credentials("ops", "changeit"), None
RIGHT = 200, {"success": True, "error": "Success"}


class Office:
    """A desk that has these pages."""

    def __init__(self, version: str = "4.1.1", desk: Desk | None = None) -> None:
        self.desk = desk or Desk(version)
        self.web = Web(self.desk.service)
        UserPages(self.desk.service, self.web)

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        who: Credentials | None = ADMIN,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Response:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        login = () if who is None else (basic(who.login, who.password),)
        return self.web.answer(Request(method, target, (("host", "here:2113"), *login, *headers), data))

    def told(self, method: str, target: str, body: object = None, who: Credentials | None = ADMIN) -> Any:
        """The status, and the document but for what is told of every user."""
        response = self.ask(method, target, body, who)
        document = json.loads(response.body) if response.body.startswith(b"{") else response.body.decode()
        return response.status, document

    def command(self, login: str, command: str, body: object = None, who: Credentials | None = ADMIN) -> Any:
        return self.told("POST", f"/users/{login}/command/{command}", body, who)

    def lets_in(self, login: str, password: str) -> bool:
        reply = self.desk.hear(Command.PING, b"echo", Credentials(login, password))
        return reply.command == Command.PONG


@pytest.fixture
def office() -> Office:
    office = Office()
    assert office.told("POST", "/users/", JANE)[0] == 201
    return office


def result(login: str, error: str = "Success") -> dict[str, Any]:
    return {"loginName": login, "success": error == "Success", "error": error}


# --- what they do


def test_a_user_who_was_added_can_log_in_at_once() -> None:
    office = Office()
    assert not office.lets_in("jane", "secret")
    response = office.ask("POST", "/users/", JANE)
    assert (response.status, json.loads(response.body)) == (201, result("jane"))
    assert response.header("location") == "http://here:2113/users/jane"
    assert office.lets_in("jane", "secret")
    assert not office.lets_in("jane", "wrong")


def test_the_same_user_twice_is_no_conflict_but_with_another_password(office: Office) -> None:
    assert office.told("POST", "/users/", JANE) == (201, result("jane"))
    assert office.told("POST", "/users/", JANE | {"password": "x"}) == (409, result("jane", "Conflict"))
    assert office.told("POST", "/users/", JANE | {"loginName": "ops"}) == (409, result("ops", "Conflict"))
    assert len(office.desk.store.records("$user-jane")) == 1


def test_names_of_members_in_any_case_and_members_that_are_missing_or_null() -> None:
    office = Office()
    office.ask("POST", "/users", {"LOGINNAME": "jane", "Password": "secret", "groups": None})
    _, told = office.told("GET", "/users/jane")
    assert (told["data"]["fullName"], told["data"]["groups"]) == ("", [])
    assert office.lets_in("jane", "secret")


def test_what_is_told_of_a_user(office: Office) -> None:
    status, told = office.told("GET", "/users/jane")
    links = told["data"].pop("links")
    assert (status, told) == (
        200,
        {
            "data": {"loginName": "jane", "fullName": "Jane Doe", "groups": ["staff"], "disabled": False},
            "success": True,
            "error": "Success",
        },
    )
    assert {link["rel"]: link["href"] for link in links} == {
        "reset-password": "http://here:2113/users/jane/command/reset-password",
        "change-password": "http://here:2113/users/jane/command/change-password",
        "edit": "http://here:2113/users/jane",
        "delete": "http://here:2113/users/jane",
        "disable": "http://here:2113/users/jane/command/disable",
    }


def test_who_there_is(office: Office) -> None:
    _, told = office.told("GET", "/users/")
    assert [user["loginName"] for user in told["data"]] == ["admin", "jane", "ops"]
    assert [user["groups"] for user in told["data"]] == [["$admins"], ["staff"], ["$ops"]]
    assert office.told("GET", "/users/john") == (404, {"success": False, "error": "NotFound"})


def test_who_asks(office: Office) -> None:
    jane = Credentials("jane", "secret")
    _, told = office.told("GET", "/users/$current", who=jane)
    assert (told["data"]["loginName"], told["data"]["dateLastUpdated"]) == ("jane", "2023-11-14T22:13:20Z")
    # One that was never written has no such date.
    assert "dateLastUpdated" not in office.told("GET", "/users/$current")[1]["data"]


def test_an_update_replaces_name_and_groups(office: Office) -> None:
    assert office.told("PUT", "/users/jane", {"fullName": "J.", "groups": ["$admins"]}) == (200, result("jane"))
    _, told = office.told("GET", "/users/jane")
    assert (told["data"]["fullName"], told["data"]["groups"]) == ("J.", ["$admins"])
    assert office.lets_in("jane", "secret")
    # The roles are those of this moment.
    assert office.told("GET", "/users/jane", who=Credentials("jane", "secret"))[0] == 200
    assert office.told("DELETE", "/users/ops", who=Credentials("jane", "secret"))[0] == 200


def test_a_disabled_user_is_nobody_until_enabled(office: Office) -> None:
    assert office.command("jane", "disable") == (200, result("jane"))
    assert not office.lets_in("jane", "secret")
    assert office.told("GET", "/users/", who=Credentials("jane", "secret"))[0] == 401
    _, told = office.told("GET", "/users/jane")
    assert told["data"]["disabled"] is True
    assert told["data"]["links"][-1]["rel"] == "enable"
    assert office.command("jane", "enable") == (200, result("jane"))
    assert office.lets_in("jane", "secret")


def test_a_deleted_user_is_gone_and_may_come_again(office: Office) -> None:
    assert office.told("DELETE", "/users/jane") == (200, result("jane"))
    assert not office.lets_in("jane", "secret")
    assert office.told("GET", "/users/jane")[0] == 404
    assert office.told("DELETE", "/users/jane") == (404, result("jane", "NotFound"))
    assert office.told("POST", "/users/", JANE | {"password": "new"})[0] == 201
    assert office.lets_in("jane", "new")
    assert [user["loginName"] for user in office.told("GET", "/users")[1]["data"]] == ["admin", "jane", "ops"]


@pytest.mark.parametrize("version", VERSIONS)
def test_passwords(version: str) -> None:
    office = Office(version)
    office.ask("POST", "/users/", JANE)
    jane = Credentials("jane", "secret")
    assert office.command("jane", "reset-password", {"newPassword": "second"}) == (200, result("jane"))
    assert not office.lets_in("jane", "secret")
    jane = Credentials("jane", "second")
    change = {"currentPassword": "wrong", "newPassword": "third"}
    assert office.command("jane", "change-password", change, jane) == (401, result("jane", "Unauthorized"))
    assert office.command("jane", "change-password", change | {"currentPassword": "second"}, jane)[0] == 200
    assert office.lets_in("jane", "third")


def test_those_the_node_was_opened_with_are_like_others() -> None:
    desk = Desk()
    desk.users["john"] = User("secret", ("staff",))
    office = Office(desk=desk)
    assert office.command("john", "disable")[0] == 200
    assert not office.lets_in("john", "secret")
    assert office.command("john", "enable")[0] == 200
    assert office.lets_in("john", "secret")
    assert office.told("DELETE", "/users/john")[0] == 200
    assert not office.lets_in("john", "secret")
    assert [user["loginName"] for user in office.told("GET", "/users")[1]["data"]] == ["admin", "ops"]
    assert office.command("admin", "reset-password", {"newPassword": "x"})[0] == 200
    assert (office.lets_in("admin", "changeit"), office.lets_in("admin", "x")) == (False, True)
    assert office.told("GET", "/users/ops", who=Credentials("admin", "x"))[1]["data"]["groups"] == [OPERATORS]


# --- what is in the log


def test_accounts_are_in_streams_as_real_servers_have_them(office: Office) -> None:
    store = office.desk.store
    office.command("jane", "disable")
    office.command("jane", "enable")
    assert [record.type for record in store.records("$user-jane")] == ["$UserCreated", "$UserUpdated", "$UserUpdated"]
    data = [json.loads(record.event.data) for record in store.records("$user-jane")]
    assert ["disabled" in one for one in data] == [False, True, False]
    # That somebody may log in again spoils nothing that was remembered.
    (notice,) = store.records("$users-password-notifications")
    assert (notice.type, json.loads(notice.event.data)) == ("$PasswordChanged", {"loginName": "jane"})
    assert store.metadata("$users-password-notifications").max_age == 3600


def test_no_password_is_in_the_log(office: Office) -> None:
    office.command("jane", "reset-password", {"newPassword": "another-secret"})
    office.command("ops", "disable")
    log = b"".join(record.field for record in office.desk.store.storage.forward(Place(0, 0), 1000))
    assert b"jane" in log
    assert not [word for word in (b"secret", b"changeit") if word in log]
    assert "secret" not in repr(office.desk.service.accounts.find("jane"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"salt": 1, "hash": "eA=="}',
        b'{"salt": "eA==", "hash": "not base64"}',
        b'{"salt": "eA==", "hash": "eA==", "groups": 1}',
        b'{"salt": "eA==", "hash": "eA==", "fullName": "\\ud800"}',
        b"[" * 100_000,
    ],
    ids=lambda data: f"{len(data)}-{data[:40].decode()}",
)
def test_what_is_no_account_lets_nobody_in(office: Office, data: bytes) -> None:
    """Admins may write into these streams as they like."""
    office.desk.write("$user-jane", [new_event(data=data)])
    assert not office.lets_in("jane", "secret")
    assert office.told("GET", "/users/jane")[0] == 404
    assert office.told("GET", "/users")[0] == 200


def recorded_users(version: str) -> Iterator[dict[str, Any]]:
    """What a real server had written of its users when it was started for the first time."""
    for answer in load(version, "read_all").answers:
        for indexed in (answer.message or {}).get("events", ()):
            if "$user" in indexed["event"]["event_stream_id"]:
                yield indexed["event"]


@pytest.mark.parametrize("version", VERSIONS_RECORDED)
def test_the_users_of_a_real_server_log_in_with_the_passwords_that_they_had_there(version: str) -> None:
    desk = Desk(version)
    desk.users.clear()
    office = Office(desk=desk)
    desk.users["writer"] = User("x", ("$admins",))
    for event in recorded_users(version):
        new = new_event(event["event_type"], b64decode(event["data"]), is_json=event["data_content_type"] == 1)
        desk.ask(Command.WRITE_EVENTS, append(event["event_stream_id"], [new]), Credentials("writer", "x"))
    assert (office.lets_in("admin", "changeit"), office.lets_in("ops", "changeit")) == (True, True)
    assert not office.lets_in("admin", "wrong")
    _, told = office.told("GET", "/users")
    assert [(user["loginName"], user["fullName"], user["groups"]) for user in told["data"]] == [
        ("admin", "Event Store Administrator", ["$admins"]),
        ("ops", "Event Store Operations", ["$ops"]),
        ("writer", "", ["$admins"]),
    ]


@pytest.mark.parametrize("version", VERSIONS_RECORDED)
def test_an_account_is_written_as_a_real_server_wrote_it(version: str) -> None:
    office = Office(version)
    office.desk.users.clear()
    office.desk.service.accounts.create("admin", "Event Store Administrator", ("$admins",), "changeit")

    def shapes(stream: str, data: bytes) -> tuple[str, bytes]:
        # But for what is drawn at random.
        return stream, re.sub(rb'"(salt|hash)": "[^"]+"', b"", data)

    recorded = {
        shapes(event["event_stream_id"], b64decode(event["data"]).replace(b"\r\n", b"\n"))
        for event in recorded_users(version)
        if "ops" not in event["event_stream_id"] and b64decode(event["data"]) != b"ops"
    }
    records = office.desk.store.storage.forward(Place(0, 0), 10)
    assert {shapes(record.stream, record.event.data) for record in records} == {
        shape for shape in recorded if not shape[0].startswith("$$$users")
    }


@pytest.mark.parametrize("stream", ["$user-john", "$users", "$users-password-notifications"])
def test_a_stream_that_is_deleted_for_ever_takes_no_account(office: Office, stream: str) -> None:
    office.desk.store.delete(stream, -2, hard=True)
    if stream == "$users-password-notifications":
        status, told = office.command("jane", "disable")
    else:
        status, told = office.told("POST", "/users", JANE | {"loginName": "john"})
    assert (status, told["error"]) == (500, "Error")


def test_who_follows_the_stream_of_an_account_sees_it_change(office: Office) -> None:
    office.desk.ask(Command.SUBSCRIBE_TO_STREAM, b"\x0a\x0a$user-jane\x10\x00")
    office.command("jane", "disable")
    assert [reply.message.event.event.event_type for reply in office.desk.caller.replies] == ["$UserUpdated"]


async def test_accounts_are_kept_in_a_file(tmp_path: Path, autojump_clock: object) -> None:
    path = tmp_path / "node.db"

    async def office_of(users: Mapping[str, User] | None = None) -> list[bool]:
        async with open_node(port=None, path=path, users=users, run_sync=run_inline) as node:
            accounts = node._service.accounts
            accounts.create("jane", "", ("staff",), "secret")
            admin = accounts.find("admin")
            if admin is not None and not admin.has_password("new"):
                accounts.set_password(admin, "new")
            await node._commits.pass_by()
            node.faults.restart()
            found = accounts.find("admin")
            return [found is not None and found.has_password(word) for word in ("new", "changeit")]

    assert await office_of() == [True, False]
    # What is in the log counts, and not what the node is opened with.
    assert await office_of({"admin": User("changeit"), "jane": User("x")}) == [True, False]


# --- who may


def ask_all(office: Office, who: Credentials | None) -> dict[str, int]:
    """The status of every page, to who has this name and password; what it does is done to somebody of his own."""
    statuses = {}
    for number, (method, target, body) in enumerate(
        [
            ("GET", "/users", None),
            ("GET", "/users/{}", None),
            ("PUT", "/users/{}", {"fullName": "x", "groups": []}),
            ("POST", "/users/{}/command/disable", None),
            ("POST", "/users/{}/command/enable", None),
            ("POST", "/users/{}/command/reset-password", {"newPassword": "p"}),
            ("POST", "/users/{}/command/change-password", {"currentPassword": "p", "newPassword": "p"}),
            ("DELETE", "/users/{}", None),
            ("POST", "/users", {"loginName": "new", "password": "p"}),
        ]
    ):
        login = f"user-{number}"
        office.desk.service.accounts.create(login, "", (), "p")
        statuses[f"{method} {target.format('x')}"] = office.ask(method, target.format(login), body, who).status
    return statuses


SEEING = ("GET /users", "GET /users/x")
PASSWORD = "POST /users/x/command/change-password"


@pytest.mark.parametrize("version", VERSIONS)
def test_who_may_do_what(version: str) -> None:
    is_open, owns = VERSIONS[version].opens_administration, VERSIONS[version].owns_passwords
    office = Office(version)
    office.desk.service.accounts.create("jane", "", (), "p")
    for who in (NOBODY, OPS, Credentials("jane", "p")):
        statuses = ask_all(office, who)
        allowed: set[str] = set(SEEING) if is_open else set()
        if is_open or (who is not NOBODY and not owns):
            allowed.add(PASSWORD)
        assert {page for page, status in statuses.items() if status != 401} == allowed
    # Not even admins change the password of somebody else since 20.6: they reset it.
    refused = {page for page, status in ask_all(office, ADMIN).items() if status == 401}
    assert refused == ({PASSWORD} if owns else set())
    assert set(ask_all(office, Credentials("jane", "wrong")).values()) == {401}


def test_users_may_see_themselves_since_20_6() -> None:
    for version, known in VERSIONS.items():
        office = Office(version)
        office.desk.service.accounts.create("jane", "", (), "p")
        status = office.ask("GET", "/users/jane", who=Credentials("jane", "p")).status
        assert (version, status) == (version, 401 if version == "5.0" else 200)
        assert office.ask("GET", "/users/$current", who=Credentials("jane", "p")).status == 200
        assert office.ask("GET", "/users/$current", who=NOBODY).status == 401
        assert known.lets_users_see_themselves == (version >= "20" and version[0] == "2")


# --- what cannot be meant


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is no JSON object"),
        (b"x", "the body is no JSON object"),
        (b"[1]", "the body is no JSON object"),
        (b"[" * 100_000, "the body is no JSON object"),
        ({}, "loginName is no string"),
        ({"loginName": 1}, "loginName is no string"),
        ({"loginName": "x"}, "password is no string"),
        ({"loginName": "", "password": "x"}, "credentials: give a login"),
        ({"loginName": "x", "password": "\ud800"}, "password: half of a surrogate pair"),
        ({"loginName": "x" * 256, "password": "p"}, "username: 256 bytes"),
        ({"loginName": "x", "password": "p", "groups": "staff"}, "groups is no list"),
        ({"loginName": "x", "password": "p", "groups": [1]}, "groups is no string"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bodies_that_say_nothing(office: Office, body: object, words: str) -> None:
    response = office.ask("POST", "/users", body)
    assert response.status == 400
    assert response.body.decode().startswith(words)


def test_other_kinds_of_content_are_not_taken(office: Office) -> None:
    xml = (("content-type", "text/xml; charset=utf-8"),)
    assert office.ask("POST", "/users", b"<user/>", headers=xml).status == 415
    plain = (("content-type", "application/json; charset=utf-8"),)
    assert office.ask("POST", "/users", JANE, headers=plain).status == 201


def test_a_name_that_a_path_must_escape() -> None:
    office = Office()
    response = office.ask("POST", "/users", JANE | {"loginName": "a/b c"})
    assert response.header("location") == "http://here:2113/users/a%2Fb%20c"
    assert office.told("GET", "/users/a%2Fb%20c")[1]["data"]["loginName"] == "a/b c"


def test_reading_these_streams_is_for_admins(office: Office) -> None:
    forward = Command.READ_STREAM_EVENTS_FORWARD
    assert office.desk.ask(forward, read_stream("$user-jane"), ADMIN).result == 0
    assert office.desk.ask(forward, read_stream("$user-jane"), Credentials("jane", "secret")).result != 0
