"""`open_admin` and servers that refuse, break, lie or say nothing: each failure is an error of ours, with no secret."""

from __future__ import annotations

import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.administering import Office, refusing, text_of, told
from trio_extreme import (
    END,
    AccessDenied,
    BadRequest,
    ConnectFailed,
    ConnectionLost,
    ConsumerStrategy,
    Credentials,
    GroupConsumer,
    GroupDetails,
    GroupSummary,
    InvalidArgument,
    NotAuthenticated,
    NotMaster,
    NotReady,
    OperationTimedOut,
    OutcomeUnknown,
    PersistentSettings,
    ProjectionDetails,
    ProjectionNotFound,
    ProtocolError,
    ServerError,
    Settings,
    TrioExtremeError,
    Unsupported,
    UserNotFound,
    open_admin,
)
from trio_extreme.http import Response
from trio_extreme.operations.administering import STOPPED_REPLAY, check_version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_extreme import Admin

pytestmark = pytest.mark.usefixtures("autojump_clock")

SETTINGS = Settings(username="admin", password="hidden-word")
USER = {"loginName": "jane", "fullName": "Jane", "groups": ["staff"], "disabled": False, "links": []}
PROJECTION = {
    "name": "$streams",
    "status": "Faulted (Enabled)",
    "stateReason": "it broke",
    "mode": "Continuous",
    "position": "C:12/P:12",
    "progress": 99.5,
    "version": 2,
    "eventsProcessedAfterRestart": 7,
    "coreProcessingTime": 12,
}


def users(admin: Admin) -> Awaitable[object]:
    return admin.users()


def create(admin: Admin) -> Awaitable[object]:
    return admin.create_user("jane", "new-hidden-word")


async def ask(
    nursery: trio.Nursery, call: Callable[[Admin], Awaitable[Any]], *answers: Response | bytes | None
) -> tuple[Any, Office]:
    office = Office(nursery, *answers)
    async with open_admin(SETTINGS, connect=office.connect) as admin:
        found = await call(admin)
    await office.assert_all_closed()
    return found, office


async def failure(
    nursery: trio.Nursery, call: Callable[[Admin], Awaitable[Any]], *answers: Response | bytes | None
) -> TrioExtremeError:
    office = Office(nursery, *answers)
    async with open_admin(SETTINGS, connect=office.connect) as admin:
        with pytest.raises(TrioExtremeError) as failed:
            await call(admin)
    await office.assert_all_closed()
    shown = "".join(traceback.format_exception(failed.value)) + text_of(failed.value)
    assert "hidden-word" not in shown
    return failed.value


# --- what is asked


async def test_what_is_sent(nursery: trio.Nursery) -> None:
    _, office = await ask(
        nursery, lambda admin: admin.create_user("a/b ć", "p", full_name="A", groups={"g": 1}), told({}, 201)
    )
    (request,) = office.requests
    assert (request.method, request.target) == ("POST", "/users/")
    assert json.loads(request.body) == {"loginName": "a/b ć", "fullName": "A", "groups": ["g"], "password": "p"}
    headers = {name: request.header(name) for name in ("authorization", "content-type", "accept", "host", "connection")}
    assert headers == {
        "authorization": "Basic YWRtaW46aGlkZGVuLXdvcmQ=",
        "content-type": "application/json",
        "accept": "application/json",
        "host": "localhost:2113",
        "connection": "close",
    }
    _, office = await ask(nursery, lambda admin: admin.user("a/b ć"), told({"data": USER}))
    assert office.requests[0].target == "/users/a%2Fb%20%C4%87"
    assert office.requests[0].header("content-type") is None


@pytest.mark.parametrize(
    ("call", "method", "target", "body"),
    [
        (
            lambda admin: admin.update_user("x", full_name="f", groups=["g"]),
            "PUT",
            "",
            b'{"fullName": "f", "groups": ["g"]}',
        ),
        (lambda admin: admin.delete_user("x"), "DELETE", "", b""),
        (lambda admin: admin.enable_user("x"), "POST", "/command/enable", b""),
        (lambda admin: admin.disable_user("x"), "POST", "/command/disable", b""),
        (lambda admin: admin.reset_password("x", "n"), "POST", "/command/reset-password", b'{"newPassword": "n"}'),
        (
            lambda admin: admin.change_password("x", current="c", new="n"),
            *("POST", "/command/change-password", b'{"currentPassword": "c", "newPassword": "n"}'),
        ),
    ],
    ids=["update", "delete", "enable", "disable", "reset", "change"],
)
async def test_how_a_user_is_changed(
    nursery: trio.Nursery, call: Callable[[Admin], Awaitable[None]], method: str, target: str, body: bytes
) -> None:
    # What a server says besides is nobody's concern.
    _, office = await ask(nursery, call, Response(200, (), b"done \xff"))
    (request,) = office.requests
    assert (request.method, request.target, request.body) == (method, f"/users/x{target}", body)


async def test_projections(nursery: trio.Nursery) -> None:
    details = ProjectionDetails(
        *("$streams", "Faulted (Enabled)", "it broke", "Continuous", "C:12/P:12"), progress=99.5, version=2, processed=7
    )
    found, office = await ask(nursery, lambda admin: admin.projections(), told({"projections": [PROJECTION]}))
    assert found == [details]
    assert office.requests[0].target == "/projections/any"
    assert (details.is_running, details.is_faulted) == (False, True)
    found, office = await ask(nursery, lambda admin: admin.projection("$streams"), told(PROJECTION))
    assert found == details
    assert office.requests[0].target == "/projection/%24streams"
    for verb in ("enable", "disable", "reset"):
        call = f"{verb}_projection"
        _, office = await ask(nursery, lambda admin, call=call: getattr(admin, call)("a b"), told({"name": "a b"}))
        assert (office.requests[0].method, office.requests[0].target) == ("POST", f"/projection/a%20b/command/{verb}")


async def test_the_state_of_a_projection(nursery: trio.Nursery) -> None:
    state, office = await ask(nursery, lambda admin: admin.projection_state("p"), told({"count": 3}))
    assert (state, office.requests[0].target) == ({"count": 3}, "/projection/p/state")
    state, office = await ask(nursery, lambda admin: admin.projection_state("p", partition="a&b"), Response(200))
    assert (state, office.requests[0].target) == (None, "/projection/p/state?partition=a%26b")


async def test_projections_that_are_not_there(nursery: trio.Nursery) -> None:
    error = await failure(nursery, lambda admin: admin.projection("p"), Response(404, (), b"Not Found"))
    assert isinstance(error, ProjectionNotFound)
    assert error.name == "p"
    error = await failure(nursery, lambda admin: admin.projections(), Response(404))
    assert "--run-projections" in str(error)


# --- what is refused


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (404, ServerError),
        (405, ServerError),
        (409, ServerError),
        (415, BadRequest),
        (418, ServerError),
        (500, ServerError),
        (503, NotReady),
        (408, OperationTimedOut),
        (304, ServerError),
    ],
)
async def test_a_status(nursery: trio.Nursery, status: int, kind: type[Exception]) -> None:
    error = await failure(nursery, users, Response(status, (), b"" if status == 304 else b"because\n\x1b of\xff it"))
    assert type(error) is kind
    assert str(error).startswith(f"listing users: the server answers {status}")
    if status != 304:
        assert str(error).endswith(": because of\ufffd it")


async def test_a_change_that_timed_out_on_the_server_may_have_happened(nursery: trio.Nursery) -> None:
    assert type(await failure(nursery, create, told({"error": "TryAgain"}, 408))) is OutcomeUnknown


@pytest.mark.parametrize(("second", "kind"), [(401, NotAuthenticated), (200, AccessDenied), (500, AccessDenied)])
@pytest.mark.parametrize("status", [401, 403])
async def test_who_may_not(nursery: trio.Nursery, status: int, second: int, kind: type[Exception]) -> None:
    error = await failure(nursery, create, Response(status), Response(second))
    assert type(error) is kind
    assert "'admin'" in str(error)


async def test_the_second_question_is_of_the_same_person(nursery: trio.Nursery) -> None:
    office = Office(nursery, Response(401), Response(200))
    async with open_admin(SETTINGS, connect=office.connect) as admin:
        with pytest.raises(AccessDenied):
            await admin.users(credentials=Credentials("jane", "x"))
    assert [request.target for request in office.requests] == ["/users/", "/ping"]
    assert {request.header("authorization") for request in office.requests} == {"Basic amFuZTp4"}


async def test_a_refused_change_is_no_unknown_outcome_where_the_second_question_fails(nursery: trio.Nursery) -> None:
    assert type(await failure(nursery, create, Response(401), b"")) is ConnectionLost
    assert type(await failure(nursery, create, Response(401), None)) is OperationTimedOut


@pytest.mark.parametrize(
    ("location", "endpoint"),
    [
        ("http://10.0.0.12:2113/users/", ("10.0.0.12", 2113)),
        ("https://[::1]:2113/users/", ("::1", 2113)),
        ("/elsewhere", None),
        ("http://[", None),
        ("http://h:99999/", None),
    ],
)
async def test_a_node_that_sends_us_to_its_master(
    nursery: trio.Nursery, location: str, endpoint: tuple[str, int] | None
) -> None:
    error = await failure(nursery, create, Response(307, (("location", location),)))
    assert isinstance(error, NotMaster)
    assert error.endpoint == endpoint
    assert "its master" in str(error)


# --- what breaks


@pytest.mark.parametrize(
    ("said", "reading", "changing"),
    [
        (b"", ConnectionLost, OutcomeUnknown),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", ConnectionLost, OutcomeUnknown),
        (b"\x12\x00\x00\x00\x01", ProtocolError, ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", ProtocolError, ProtocolError),
        (None, OperationTimedOut, OutcomeUnknown),
    ],
    ids=["closed", "cut", "no HTTP", "too much", "silence"],
)
async def test_a_connection_that_breaks(
    nursery: trio.Nursery, said: bytes | None, reading: type[Exception], changing: type[Exception]
) -> None:
    for call, kind in ((users, reading), (create, changing)):
        error = await failure(nursery, call, said)
        assert type(error) is kind
        if kind is not ProtocolError:
            assert str(error).startswith(("listing users: ", "creating user 'jane': "))


async def test_nobody_listens() -> None:
    async with open_admin(SETTINGS, connect=refusing(SETTINGS)) as admin:
        with pytest.raises(ConnectFailed, match="could not connect to the web interface at localhost:2113") as failed:
            await create(admin)
        assert isinstance(failed.value.attempts[0], ConnectionLost)


async def test_nobody_answers_the_call(nursery: trio.Nursery) -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    async with open_admin(SETTINGS, connect=connect) as admin:
        with pytest.raises(ConnectFailed, match="no connection within 3 s"):
            await create(admin)
    # Nothing was sent, so nothing was changed.
    async with open_admin(SETTINGS.replace(operation_timeout=1), connect=connect) as admin:
        with pytest.raises(OperationTimedOut, match="within 1 s"):
            await create(admin)


# --- what is no answer


def changed(**members: object) -> Response:
    return told({"data": [USER | members]})


@pytest.mark.parametrize(
    "answer",
    [
        Response(200),
        Response(200, (), b"<html>"),
        Response(200, (), b"\xff"),
        Response(200, (), b"[" * 100_000),
        Response(200, (), b'{"data": ' + b"9" * 5000 + b"}"),
        told([]),
        told({}),
        told({"data": {}}),
        told({"data": [1]}),
        changed(loginName=None),
        changed(loginName=1),
        changed(fullName=[]),
        changed(groups="staff"),
        changed(groups=[1]),
        changed(disabled=1),
    ],
    ids=range(15),
)
async def test_an_answer_that_is_none(nursery: trio.Nursery, answer: Response) -> None:
    error = await failure(nursery, users, answer)
    assert type(error) is ProtocolError


@pytest.mark.parametrize("change", [{"progress": "x"}, {"progress": True}, {"progress": 10**400}, {"version": 1.5}])
async def test_a_projection_that_is_none(nursery: trio.Nursery, change: dict[str, object]) -> None:
    answer = told({"projections": [PROJECTION | change]})
    assert type(await failure(nursery, lambda admin: admin.projections(), answer)) is ProtocolError
    # NaN and Infinity are no JSON, and Python reads them.
    answer = Response(200, (), json.dumps({"projections": [PROJECTION | {"progress": float("nan")}]}).encode())
    assert type(await failure(nursery, lambda admin: admin.projections(), answer)) is ProtocolError


CONFIG = {
    "resolveLinktos": True,
    "startFrom": -1,
    "messageTimeoutMilliseconds": 10_000,
    "extraStatistics": True,
    "maxRetryCount": 7,
    "liveBufferSize": 300,
    "bufferSize": 200,
    "readBatchSize": 20,
    "preferRoundRobin": False,
    "checkPointAfterMilliseconds": 1000,
    "minCheckPointCount": 5,
    "maxCheckPointCount": 50,
    "maxSubscriberCount": 3,
    "namedConsumerStrategy": "Pinned",
}
SUMMARY = {"eventStreamId": "jobs", "groupName": "work", "status": "Behind", "totalItemsProcessed": 9}
GROUP = SUMMARY | {
    "config": CONFIG,
    "connections": [{"from": "10.0.0.9:4711", "username": "admin", "availableSlots": 3, "inFlightMessages": 7}],
    "readBufferCount": 4,
    "liveBufferCount": 5,
    "retryBufferCount": 6,
    "lastProcessedEventNumber": 3,
    "lastKnownEventNumber": 12,
}


def one_group(admin: Admin) -> Awaitable[GroupDetails]:
    return admin.group("jobs", "work")


async def test_a_group(nursery: trio.Nursery) -> None:
    found, office = await ask(nursery, lambda admin: admin.group("a/b", "w k"), told(GROUP))
    assert office.requests[0].target == "/subscriptions/a%2Fb/w%20k/info"
    assert found == GroupDetails(
        GroupSummary("jobs", "work", "Behind", consumers=1, in_flight=0, processed=9, checkpoint=3, last_known=12),
        PersistentSettings(
            resolve_link_tos=True,
            start_from=END,
            message_timeout=10,
            record_statistics=True,
            live_buffer_size=300,
            read_batch_size=20,
            buffer_size=200,
            max_retry_count=7,
            checkpoint_after_time=1,
            checkpoint_min_count=5,
            checkpoint_max_count=50,
            subscriber_max_count=3,
            named_consumer_strategy=ConsumerStrategy.PINNED,
        ),
        (GroupConsumer("10.0.0.9:4711", "admin", "", processed=0, in_flight=7, available=3),),
        *(9, 6, None),
    )


@pytest.mark.parametrize(
    ("members", "checkpoint", "known"),
    [
        ({}, None, None),
        ({"lastProcessedEventNumber": -1, "lastKnownEventNumber": -1}, None, None),
        ({"lastProcessedEventNumber": 0, "lastKnownEventNumber": 0}, 0, 0),
        # Later ones say 0 here where there is none, and nothing there.
        ({"lastProcessedEventNumber": 0, "lastKnownEventPosition": "5"}, None, 5),
        ({"lastCheckpointedEventPosition": "3", "lastKnownEventPosition": "C:1/P:1"}, 3, None),
        ({"lastCheckpointedEventPosition": "9" * 5000}, None, None),
    ],
)
async def test_places_of_groups(
    nursery: trio.Nursery, members: dict[str, object], checkpoint: int | None, known: int | None
) -> None:
    ((found,), _) = await ask(nursery, lambda admin: admin.groups(), told([SUMMARY | members]))
    assert (found.checkpoint, found.last_known) == (checkpoint, known)


async def test_settings_of_a_group_that_we_would_refuse(nursery: trio.Nursery) -> None:
    for change in ({"readBatchSize": 200}, {"namedConsumerStrategy": "Mine"}, {"messageTimeoutMilliseconds": 10**400}):
        found, _ = await ask(nursery, one_group, told(GROUP | {"config": CONFIG | change}))
        assert found.settings is None


async def test_a_replay(nursery: trio.Nursery) -> None:
    _, office = await ask(nursery, lambda admin: admin.replay_parked("a/b", "w"), told({"result": "Success"}))
    assert [(request.method, request.target) for request in office.requests] == [
        ("POST", "/subscriptions/a%2Fb/w/replayParked")
    ]
    for version in ("20.10.6.0", "23.10", "unknown", "", "9" * 50):
        answers = told({"esVersion": version}), told({"result": "Success"})
        _, office = await ask(nursery, lambda admin: admin.replay_parked("s", "g", stop_at=2), *answers)
        assert [request.target for request in office.requests] == [
            *("/info", "/subscriptions/s/g/replayParked?stopAt=2")
        ]
    # Nothing was replayed, nor is it said that nobody knows.
    for old in ("20.6.0.0", "4.1.1.0"):
        error = await failure(nursery, lambda admin: admin.replay_parked("s", "g", stop_at=2), told({"esVersion": old}))
        assert type(error) is Unsupported
    error = await failure(nursery, lambda admin: admin.replay_parked("s", "g", stop_at=2), b"")
    assert type(error) is ConnectionLost


@pytest.mark.parametrize(
    "change",
    [{"eventStreamId": None}, {"connections": [1]}, {"config": {"bufferSize": "x"}}, {"parkedMessageCount": None}],
    ids=["no name", "connections", "config", "parked"],
)
async def test_a_group_that_is_none(nursery: trio.Nursery, change: dict[str, object]) -> None:
    assert type(await failure(nursery, one_group, told(GROUP | change))) is ProtocolError
    assert type(await failure(nursery, lambda admin: admin.groups(), told({"groups": []}))) is ProtocolError
    assert type(await failure(nursery, lambda admin: admin.groups(), told([1]))) is ProtocolError


async def test_what_servers_leave_out(nursery: trio.Nursery) -> None:
    found, _ = await ask(nursery, users, told({"data": [{"loginName": "x", "fullName": None}]}))
    assert (found[0].full_name, found[0].groups, found[0].disabled) == ("", (), False)
    (found, _) = await ask(nursery, lambda admin: admin.projections(), told({"projections": [{"name": "p"}]}))
    assert found == [ProjectionDetails("p", "", "", "", "", progress=0.0, version=0, processed=0)]


# --- secrets


async def test_no_secret_is_shown_where_a_server_repeats_it(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = b"you sent hidden-word, YWRtaW46aGlkZGVuLXdvcmQ= and {'password': 'new-hidden-word'}"
    error = await failure(nursery, create, Response(500, (), said))
    assert str(error).endswith("500: you sent …, … and {'password': '…'}")
    said = rb'{"newPassword": "h\u00efdden"}'
    error = await failure(nursery, lambda admin: admin.reset_password("jane", "hïdden"), Response(500, (), said))
    assert str(error).endswith('500: {"newPassword": "…"}')
    assert "idden" not in caplog.text


@pytest.mark.parametrize(
    "call",
    [
        lambda admin: admin.create_user("", "hidden-word"),
        lambda admin: admin.create_user("..", "hidden-word"),
        lambda admin: admin.create_user("jane", b"hidden-word"),
        lambda admin: admin.create_user("jane", "hidden-word" * 30),
        lambda admin: admin.create_user("jane", "hidden-word\ud800"),
        lambda admin: admin.create_user("jane", "hidden-word", groups="staff"),
        lambda admin: admin.create_user("jane", "hidden-word", groups=[""]),
        lambda admin: admin.create_user("jane", "hidden-word", groups=[1]),
        lambda admin: admin.create_user("jane", "hidden-word", full_name=None),
        lambda admin: admin.reset_password("jane", 1),
        lambda admin: admin.change_password("jane", current="hidden-word", new=b"hidden-word"),
        lambda admin: admin.change_password("a:b", current="hidden-word", new="x"),
        lambda admin: admin.user(1),
        lambda admin: admin.user("\ud800"),
        lambda admin: admin.projection(""),
        lambda admin: admin.group("", "g"),
        lambda admin: admin.groups(1),
        lambda admin: admin.replay_parked("s", "g", stop_at=-1),
        lambda admin: admin.replay_parked("s", "g", stop_at=True),
        lambda admin: admin.projection_state("p", partition=1),
        lambda admin: admin.users(credentials=Credentials("a:b", "hidden-word")),
        lambda admin: admin.users(credentials=Credentials(token="hidden-word\n")),
    ],
    ids=range(22),
)
async def test_what_cannot_be_meant_is_not_sent(nursery: trio.Nursery, call: Callable[[Admin], Awaitable[Any]]) -> None:
    error = await failure(nursery, call, Response(200))
    assert type(error) is InvalidArgument


async def test_an_error_names_what_was_to_be_done(nursery: trio.Nursery) -> None:
    error = await failure(nursery, lambda admin: admin.user("jane"), told({"error": "NotFound"}, 404))
    assert type(error) is UserNotFound


async def test_a_server_that_does_not_say_which_it_is_may_have_it() -> None:
    """Where `/info` tells nothing, the answer to the request itself is what counts."""
    check_version(STOPPED_REPLAY, 500, b"")
    check_version(STOPPED_REPLAY, 404, b"no such page")
    with pytest.raises(Unsupported):
        check_version(STOPPED_REPLAY, 200, b'{"esVersion": "5.0.9"}')
