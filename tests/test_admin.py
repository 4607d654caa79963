"""`open_admin` and an embedded node: what is done over HTTP is so over TCP, on every server that the node can be."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.helpers import new_events
from tests.sessions.steps import cancelled_at
from trio_extreme import (
    AccessDenied,
    Admin,
    ConnectionClosed,
    Credentials,
    GroupNotFound,
    GroupSummary,
    NakAction,
    NotAuthenticated,
    NotMaster,
    NotReady,
    PersistentSettings,
    ProjectionNotFound,
    ProjectionsNotRunning,
    ReadOnly,
    Settings,
    Unsupported,
    UserDetails,
    UserExists,
    UserNotFound,
    open_admin,
    open_connection,
)
from trio_extreme.embedded import VERSIONS, open_cluster, open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio.testing import MockClock

    from trio_extreme.embedded import Node

JANE = UserDetails("jane", "Jane Doe", ("staff",), disabled=False)
EVERYBODY = ["admin", "jane", "ops"]


@pytest.fixture
async def admin(node: Node) -> AsyncIterator[Admin]:
    async with open_admin(node.settings, connect=node.connect) as opened:
        yield opened


async def lets_in(node: Node, login: str, password: str) -> bool:
    settings = node.settings.replace(username=login, password=password)
    try:
        async with open_connection(settings, connect=node.connect):
            return True
    except NotAuthenticated:
        return False


async def add_jane(admin: Admin) -> None:
    await admin.create_user("jane", "secret", full_name="Jane Doe", groups=["staff"])


async def test_users(node: Node, admin: Admin) -> None:
    assert [user.login for user in await admin.users()] == ["admin", "ops"]
    await add_jane(admin)
    assert await lets_in(node, "jane", "secret")
    assert [user.login for user in await admin.users()] == EVERYBODY
    assert await admin.user("jane") == JANE
    await admin.update_user("jane", full_name="J.", groups=("$admins",))
    assert await admin.user("jane") == UserDetails("jane", "J.", ("$admins",), disabled=False)
    await admin.disable_user("jane")
    assert (await admin.user("jane")).disabled
    assert not await lets_in(node, "jane", "secret")
    await admin.enable_user("jane")
    await admin.reset_password("jane", "second")
    assert await lets_in(node, "jane", "second")
    await admin.change_password("jane", current="second", new="third")
    assert (await lets_in(node, "jane", "second"), await lets_in(node, "jane", "third")) == (False, True)
    await admin.delete_user("jane")
    assert not await lets_in(node, "jane", "third")
    assert [user.login for user in await admin.users()] == ["admin", "ops"]


async def test_who_is_there_and_who_is_not(admin: Admin) -> None:
    await add_jane(admin)
    # As nothing is different afterwards, this can be asked again.
    await add_jane(admin)
    with pytest.raises(UserExists, match="there is a user 'jane' already") as exists:
        await admin.create_user("jane", "another")
    assert exists.value.login == "jane"
    calls: list[Callable[[str], Awaitable[object]]] = [
        *(admin.user, admin.enable_user, admin.disable_user, admin.delete_user),
        partial(admin.update_user, full_name="", groups=()),
        lambda login: admin.reset_password(login, "x"),
    ]
    for call in calls:
        with pytest.raises(UserNotFound, match="there is no user 'john'") as missing:
            await call("john")
        assert missing.value.login == "john"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_user_who_may_not_and_one_who_is_not_known(version: str, autojump_clock: MockClock) -> None:
    """All get 401; which it is has another page to tell."""
    async with open_node(port=None, version=version) as node:
        settings = node.settings.replace(username="ops")
        async with open_admin(settings, connect=node.connect) as admin:
            with pytest.raises(AccessDenied, match=r"creating user 'jane': .*'ops'.* may not"):
                await add_jane(admin)
            jane = Credentials("jane", "secret")
            with pytest.raises(NotAuthenticated, match=r"the server does not accept .*'jane'"):
                await admin.delete_user("ops", credentials=jane)
            await admin.create_user("jane", "secret", credentials=Credentials("admin", "changeit"))
            if version >= "20" and version[:2] in ("20", "22", "23"):
                assert (await admin.user("jane", credentials=jane)).login == "jane"
            await admin.change_password("jane", current="secret", new="other")
            with pytest.raises(NotAuthenticated):
                await admin.change_password("jane", current="secret", new="x")
            await admin.disable_user("jane", credentials=Credentials("admin", "changeit"))
            with pytest.raises(NotAuthenticated):
                await admin.change_password("jane", current="other", new="x")
        anonymous = settings.replace(username="", password="")
        async with open_admin(anonymous, connect=node.connect) as admin:
            with pytest.raises(AccessDenied, match="not for anybody; give a username"):
                await admin.delete_user("ops")


async def test_a_token(autojump_clock: MockClock) -> None:
    async with open_node(port=None, version="20.10", tokens={"a.b.c": "admin"}) as node:
        settings = node.settings.replace(username="", password="", token="a.b.c")
        async with open_admin(settings, connect=node.connect) as admin:
            await add_jane(admin)
            assert await admin.user("jane") == JANE
            with pytest.raises(NotAuthenticated):
                await admin.users(credentials=Credentials(token="x.y.z"))


async def test_over_sockets() -> None:
    async with open_node() as node, open_admin(node.settings) as admin:
        await add_jane(admin)
        assert [user.login for user in await admin.users()] == EVERYBODY


async def test_the_web_interface_may_have_a_host_of_its_own(node: Node) -> None:
    asked = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        asked.append((host, port))
        return await node.connect(host, node.settings.http_port)

    settings = node.settings.replace(http_host="::1", http_port=2114)
    async with open_admin(settings, connect=connect) as admin:
        await admin.users()
        assert repr(admin) == "<Admin of [::1]:2114>"
    assert asked == [("::1", 2114)]


async def test_read_only_changes_nothing(node: Node) -> None:
    async with open_admin(node.settings.replace(read_only=True), connect=node.connect) as admin:
        with pytest.raises(ReadOnly, match="creating user 'jane'"):
            await add_jane(admin)
        assert [user.login for user in await admin.users()] == ["admin", "ops"]


async def test_what_is_open_when_the_block_is_left(node: Node, nursery: trio.Nursery) -> None:
    ended = []

    async def ask(admin: Admin) -> None:
        with pytest.raises(ConnectionClosed) as closed:
            await admin.users()
        ended.append((str(closed.value), trio.current_time()))

    with node.faults.pause():
        async with open_admin(node.settings, connect=node.connect) as admin:
            nursery.start_soon(ask, admin)
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
    assert ended == [("listing users: the block of open_admin() was left", 0.0)]
    with pytest.raises(ConnectionClosed):
        await admin.users()


# --- projections


@pytest.mark.parametrize("version", VERSIONS)
async def test_projections(version: str, autojump_clock: MockClock) -> None:
    async with (
        open_node(port=None, version=version, projections=True) as node,
        open_admin(node.settings, connect=node.connect) as admin,
        open_connection(node.settings, connect=node.connect) as conn,
    ):

        async def links() -> int | None:
            await trio.sleep(1)
            return await conn.last_number("$ce-people")

        await conn.append("people-1", new_events(2))
        assert await links() == 1
        names = [projection.name for projection in await admin.projections()]
        assert sorted(names) == ["$by_category", "$by_event_type", "$stream_by_category", "$streams"]
        await admin.disable_projection("$by_category")
        await conn.append("people-1", new_events(2))
        assert await links() == 1
        stopped = await admin.projection("$by_category")
        assert (stopped.status, stopped.is_running, stopped.progress < 100) == ("Stopped", False, True)
        node.faults.restart()
        await trio.sleep(1)
        assert not (await admin.projection("$by_category")).is_running
        await admin.enable_projection("$by_category")
        assert await links() == 3
        running = await admin.projection("$by_category")
        assert (running.is_running, running.progress, running.version) == (True, 100.0, 1)
        await admin.reset_projection("$by_category")
        assert await links() == 7
        assert [event.number async for event in conn.read_stream("$ce-people") if event.link] == [0, 1, 2, 3]
        assert await admin.projection_state("$by_category") is None
        with pytest.raises(ProjectionNotFound):
            await admin.enable_projection("mine")
        ops = Credentials("ops", "changeit")
        if VERSIONS[version].lets_operators_project:
            await admin.disable_projection("$streams", credentials=ops)
        else:
            with pytest.raises(AccessDenied):
                await admin.disable_projection("$streams", credentials=ops)


async def test_a_node_without_projections(admin: Admin) -> None:
    with pytest.raises(ProjectionsNotRunning, match="it was started without --run-projections"):
        await admin.projections()
    with pytest.raises(ProjectionNotFound):
        await admin.projection("$streams")


# --- groups


@pytest.mark.parametrize("version", VERSIONS)
async def test_groups(version: str, autojump_clock: MockClock) -> None:
    known = VERSIONS[version]
    settings = PersistentSettings(start_from=0, checkpoint_max_count=1, checkpoint_min_count=1, message_timeout=86400)
    async with (
        open_node(port=None, version=version) as node,
        open_admin(node.settings, connect=node.connect) as admin,
        open_connection(node.settings.replace(connection_name="w"), connect=node.connect) as conn,
    ):
        assert await admin.groups() == []
        await conn.append("jobs", new_events(3))
        await conn.create_persistent("jobs", "work", settings)
        # Where a checkpoint is the first that was not handled, there is one.
        checkpoint = 0 if known.notes_what_is_not_handled else None
        assert await admin.groups("jobs") == [GroupSummary("jobs", "work", "Live", 0, 0, 0, checkpoint, 2)]
        assert await admin.groups("other") == []
        async with conn.subscribe_persistent("jobs", "work", in_flight=2) as events:
            await events.nak(await anext(events), action=NakAction.PARK)
            for _ in range(2):
                await events.ack(await anext(events))
            await trio.lowlevel.checkpoint()
            found = await admin.group("jobs", "work")
            assert (found.summary.consumers, found.summary.processed, found.summary.last_known) == (1, 3, 2)
            assert found.settings == settings
            (worker,) = found.connections
            assert (worker.username, worker.name) == ("admin", "w" if known.replays_some else "")
            assert found.parked == (1 if known.tells_parked else None)
            if known.replays_some:
                await admin.replay_parked("jobs", "work", stop_at=0)
            else:
                with pytest.raises(Unsupported, match=r"since 20\.10"):
                    await admin.replay_parked("jobs", "work", stop_at=0)
            await admin.replay_parked("jobs", "work")
            assert (await anext(events)).number == 0
        with pytest.raises(GroupNotFound, match="stream 'jobs' has no group 'play'"):
            await admin.group("jobs", "play")
        with pytest.raises(GroupNotFound):
            await admin.replay_parked("jobs", "play")


# --- a cluster


@pytest.mark.parametrize("version", ["4.1.1", "20.10"])
async def test_a_replica_sends_us_to_its_master(version: str, autojump_clock: MockClock) -> None:
    async with open_cluster(3, port=None, version=version) as cluster:
        (replica, *_), master = cluster.replicas, cluster.master
        assert master is not None
        async with open_admin(replica.settings, connect=cluster.connect) as admin:
            with pytest.raises(NotMaster) as sent:
                await add_jane(admin)
        assert sent.value.endpoint == (master.host, master.http_port)
        async with open_admin(master.settings, connect=cluster.connect) as admin:
            await add_jane(admin)
            await trio.sleep(1)
        assert await lets_in(replica, "jane", "secret")
        cluster.kill(master)
        async with open_admin(replica.settings, connect=cluster.connect) as admin:
            assert [user.login for user in await admin.users()] == ["admin", "jane", "ops"]
            # Groups are the master's, and there is none, or none any more.
            with pytest.raises((NotReady, NotMaster)):
                await admin.groups()


# --- cancelling


ACTIONS: dict[str, Callable[[Admin], Awaitable[object]]] = {
    "users": lambda admin: admin.users(),
    "user": lambda admin: admin.user("jane"),
    "create_user": lambda admin: admin.create_user("john", "x"),
    "update_user": lambda admin: admin.update_user("jane", full_name="", groups=()),
    "enable_user": lambda admin: admin.enable_user("jane"),
    "disable_user": lambda admin: admin.disable_user("jane"),
    "delete_user": lambda admin: admin.delete_user("jane"),
    "reset_password": lambda admin: admin.reset_password("jane", "x"),
    "change_password": lambda admin: admin.change_password("jane", current="secret", new="x"),
    "projections": lambda admin: admin.projections(),
    "projection": lambda admin: admin.projection("$streams"),
    "projection_state": lambda admin: admin.projection_state("$streams"),
    "enable_projection": lambda admin: admin.enable_projection("$streams"),
    "disable_projection": lambda admin: admin.disable_projection("$streams"),
    "reset_projection": lambda admin: admin.reset_projection("$streams"),
    "groups": lambda admin: admin.groups(),
    "group": lambda admin: admin.group("jobs", "work"),
    "replay_parked": lambda admin: admin.replay_parked("jobs", "work", stop_at=1),
}


def verbs() -> set[str]:
    return {name for name, member in vars(Admin).items() if callable(member) and not name.startswith("_")}


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("of_all", [False, True], ids=["own", "all"])
async def test_cancelled_at_each_step(name: str, of_all: bool, autojump_clock: MockClock) -> None:
    """Nothing stays open, and the next call is answered."""
    streams: list[trio.abc.Stream] = []
    async with open_node(port=None, version="20.10", projections=True) as node:
        async with open_connection(node.settings, connect=node.connect) as conn:
            await conn.create_persistent("jobs", "work")

        async def connect(host: str, port: int) -> trio.abc.Stream:
            streams.append(await node.connect(host, port))
            return streams[-1]

        async with open_admin(node.settings, connect=connect) as admin:
            for step in count(1):
                accounts = node._service.accounts
                accounts.create("jane", "Jane", ("staff",), "secret")
                with cancelled_at(step, of_all=of_all) as instrument:
                    await ACTIONS[name](admin)
                for stream in streams:
                    with pytest.raises(trio.ClosedResourceError):
                        await stream.receive_some()
                streams.clear()
                assert await admin.users()
                if not instrument.reached:
                    break
                jane = accounts.find("jane")
                if jane is not None:
                    accounts.delete(jane)
                assert step < 1000, "it never ends"


def test_every_verb_was_cancelled() -> None:
    assert verbs() == set(ACTIONS)


async def test_leaving_while_cancelled(node: Node) -> None:
    with trio.move_on_after(1) as scope:
        async with open_admin(node.settings, connect=node.connect) as admin:
            with node.faults.pause():
                await admin.users()
    assert scope.cancelled_caught
    assert trio.current_time() == 1


# --- beside a connection


async def test_rights_of_a_group_are_those_of_its_members(node: Node, admin: Admin) -> None:
    await add_jane(admin)
    async with open_connection(node.settings, connect=node.connect) as conn:
        await conn.append("people", new_events(1))
        jane = Credentials("jane", "secret")
        with pytest.raises(AccessDenied):
            await conn.read_event("$users", 0, credentials=jane)
        await admin.update_user("jane", full_name="", groups=["$admins"])
        assert (await conn.read_event("$users", 0, credentials=jane)).data == b"jane"


def test_the_defaults_are_those_of_a_server_on_this_machine() -> None:
    settings: Any = Settings()
    assert (settings.http_host, settings.http_port) == ("", 2113)
    assert Settings.from_url("tcp://h?http_port=2114&http_host=web").http_host == "web"
