"""Which page a request gets, and who may see it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.embedded.talk import Desk
from tests.embedded.visiting import ADMIN, ask, basic
from trio_extreme.embedded.acl import ADMINS, OPERATORS, User
from trio_extreme.embedded.http import ANY_USER, JSON, TEXT, Visit, Web, plain
from trio_extreme.embedded.storage import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_extreme.http import Response

TOKEN = "a.b.c"
DAMAGED = StorageError("damaged", "node.db")


@pytest.fixture
def web() -> Web:
    desk = Desk("20.10", tokens={TOKEN: "admin"})
    desk.users["jane"] = User("secret")
    return Web(desk.service)


def echo(visit: Visit) -> Response:
    return plain(200, "|".join(f"{name}={value}" for name, value in {**visit.parts, **visit.query}.items()))


def who(visit: Visit) -> Response:
    return plain(200, visit.identity.login if visit.identity else "nobody")


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/streams", 200, b""),
        ("/streams/", 200, b""),
        ("/streams?a=1&b=x%20y", 200, b"a=1|b=x y"),
        ("http://node:2113/streams", 200, b""),
        ("/streams/people", 200, b"stream=people"),
        ("/streams/%24ce-a%2Fb", 200, b"stream=$ce-a/b"),
        ("/streams/people/0", 404, b"Not Found"),
        ("/", 404, b"Not Found"),
        ("/Streams", 404, b"Not Found"),
        ("*", 404, b"Not Found"),
        ("//[", 404, b"Not Found"),
    ],
)
def test_a_path_leads_to_its_page(web: Web, target: str, status: int, body: bytes) -> None:
    web.add("GET", "/streams", echo)
    web.add("GET", "/streams/{stream}", echo)
    response = ask(web, target)
    assert (response.status, response.body) == (status, body)


def test_a_method_has_its_own_page(web: Web) -> None:
    web.add("GET", "/groups/{group}", lambda _: plain(200, "shown"))
    web.add("PUT", "/groups/{group}", lambda _: plain(201, "created"))
    web.add("DELETE", "/groups", lambda _: plain(200, "deleted"))
    answers = [ask(web, "/groups/x", method=method) for method in ("GET", "HEAD", "PUT", "DELETE")]
    assert [response.status for response in answers] == [200, 200, 201, 405]
    assert dict(answers[-1].headers)["allow"] == "GET, PUT"


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({}, (200, 401, 401)),
        (dict([basic(*ADMIN)]), (200, 200, 200)),
        (dict([basic("jane", "secret")]), (200, 200, 401)),
        (dict([basic("jane", "wrong")]), (401, 401, 401)),
        (dict([basic("john", "secret")]), (401, 401, 401)),
        ({"authorization": f"Bearer {TOKEN}"}, (200, 200, 200)),
        ({"authorization": "bearer x"}, (401, 401, 401)),
        ({"authorization": "Basic ?"}, (401, 401, 401)),
        ({"authorization": "Basic /w=="}, (401, 401, 401)),
        ({"authorization": "Basic"}, (401, 401, 401)),
        ({"authorization": "Digest x"}, (401, 401, 401)),
        (dict([basic("", "")]), (401, 401, 401)),
    ],
    ids=str,
)
def test_a_page_is_for_some(web: Web, headers: Mapping[str, str], statuses: tuple[int, ...]) -> None:
    web.add("GET", "/open", who)
    web.add("GET", "/users", who, roles=ANY_USER)
    web.add("GET", "/admin", who, roles=frozenset((ADMINS, OPERATORS)))
    answers = [ask(web, target, *headers.items()) for target in ("/open", "/users", "/admin")]
    assert tuple(response.status for response in answers) == statuses
    for response in answers:
        assert (dict(response.headers).get("www-authenticate") == 'Basic realm="ES"') is (response.status == 401)


def test_a_page_knows_who_sees_it(web: Web) -> None:
    web.add("GET", "/who", who)
    assert ask(web, "/who").body == b"nobody"
    assert ask(web, "/who", basic("jane", "secret")).body == b"jane"


def test_a_server_that_knows_no_tokens_takes_none() -> None:
    web = Web(Desk("5.0", tokens={TOKEN: "admin"}).service)
    web.add("GET", "/who", who)
    assert ask(web, "/who", ("authorization", f"Bearer {TOKEN}")).status == 401


@pytest.mark.parametrize(
    ("target", "accept", "wants"),
    [
        ("/page", None, JSON),
        ("/page", "*/*", JSON),
        ("/page", "text/html, text/plain;q=0.9, application/json;q=0.8", TEXT),
        ("/page?format=text", "application/json", TEXT),
        ("/page?format=json", "text/plain", JSON),
        ("/page?format=xml", None, None),
        ("/data?format=json", None, JSON),
        ("/data?format=text", None, None),
        ("/data", "text/plain", JSON),
    ],
)
def test_the_kind_of_content_is_chosen(web: Web, target: str, accept: str | None, wants: str | None) -> None:
    web.add("GET", "/page", lambda visit: plain(200, visit.wants), kinds=(JSON, TEXT))
    web.add("GET", "/data", lambda visit: plain(200, visit.wants))
    response = ask(web, target, *([("accept", accept)] if accept else []))
    assert (response.status, response.body.decode()) == ((406, "Not Acceptable") if wants is None else (200, wants))


def test_a_bug_costs_an_answer_and_no_more(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Visit) -> Response:
        raise ZeroDivisionError

    web.add("GET", "/bug", fail)
    with caplog.at_level(logging.ERROR, "trio_extreme.embedded"):
        response = ask(web, "/bug")
    assert (response.status, b"ZeroDivisionError" in response.body) == (500, True)
    assert "failed to answer GET /bug" in caplog.text


def test_a_file_that_fails_is_no_bug_of_the_page(web: Web) -> None:
    def fail(_: Visit) -> Response:
        raise DAMAGED

    web.add("GET", "/stats", fail)
    with pytest.raises(StorageError):
        ask(web, "/stats")


def test_it_says_how_many_pages_there_are(web: Web) -> None:
    web.add("GET", "/who", who)
    assert repr(web) == "<Web: 1 pages>"
