"""`trio-extreme group` and `watch --group`: groups, their consumers, and what they have parked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.cli.shell import Result, Server, at_terminal, finished, read_until, shown, started
from trio_extreme import START, NakAction, NewEvent, PersistentSettings, open_connection
from trio_extreme.cli.group_options import make_settings
from trio_extreme.groups import ConsumerStrategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for all: each test has streams of its own."""
    running = Server()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def admin(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line, as admin."""
    monkeypatch.setenv("TRIO_EXTREME_URL", server.admin_url)
    return cli


def line(result: Result) -> Any:
    assert result.code == 0, result.err
    (found,) = map(json.loads, result.lines)
    return found


def test_a_group_from_its_beginning_to_its_end(admin: Cli) -> None:
    assert line(admin("group", "create", "jobs", "billing")) == {
        "stream": "jobs",
        "group": "billing",
        "result": "created",
    }
    result = admin("group", "create", "jobs", "billing")
    assert (result.code, result.out) == (1, "")
    assert "Try: trio-extreme group ensure jobs billing" in result.err
    assert line(admin("group", "ensure", "jobs", "billing"))["result"] == "existed"
    assert line(admin("group", "ensure", "jobs", "billing", "--update"))["result"] == "updated"
    result = admin("group", "update", "jobs", "billing", "--max-retry-count", "3")
    assert line(result)["result"] == "updated"
    assert result.err == "group billing of stream jobs is updated\n"
    assert line(admin("group", "delete", "jobs", "billing", "--yes"))["result"] == "deleted"
    result = admin("group", "delete", "jobs", "billing", "--yes")
    assert (result.code, result.out) == (1, "")
    assert "Try: trio-extreme group create jobs billing, which creates it" in result.err
    assert line(admin("group", "ensure", "jobs", "billing"))["result"] == "created"


def test_settings_that_give_no_events_are_refused_in_the_words_of_the_options(admin: Cli) -> None:
    result = admin("group", "create", "jobs", "slow", "--read-batch-size", "500")
    assert (result.code, result.out) == (2, "")
    assert "--read-batch-size: 500 is not below --buffer-size, 500" in result.err
    for options in (
        ("--start-from", "-3"),
        ("--named-consumer-strategy", "random"),
        ("--message-timeout", "0"),
        ("--checkpoint-min-count", "x"),
    ):
        result = admin("group", "create", "jobs", "slow", *options)
        assert (result.code, options[0].strip("-") in result.err) == (2, True)
    assert admin("group", "create", "$all", "slow").code == 2
    assert admin("group", "create", "jobs", "").code == 2
    assert admin("group").code == 2


def test_the_options_are_the_settings(admin: Cli) -> None:
    given = {
        "start_from": START,
        "resolve_link_tos": True,
        "message_timeout": 1.5,
        "max_retry_count": 1,
        "named_consumer_strategy": ConsumerStrategy.PINNED,
        "subscriber_max_count": 2,
        "checkpoint_after_time": 0.0,
        "checkpoint_min_count": 3,
        "checkpoint_max_count": 4,
        "buffer_size": 60,
        "read_batch_size": 50,
        "live_buffer_size": 7,
        "record_statistics": True,
    }
    assert make_settings(given) == PersistentSettings(**given)
    words = [
        *("--start-from", "start", "--resolve-link-tos", "--message-timeout", "1.5", "--max-retry-count", "1"),
        *("--named-consumer-strategy", "pinned", "--subscriber-max-count", "2", "--checkpoint-after-time", "0"),
        *("--checkpoint-min-count", "3", "--checkpoint-max-count", "4", "--buffer-size", "60"),
        *("--read-batch-size", "50", "--live-buffer-size", "7", "--record-statistics"),
    ]
    assert line(admin("group", "create", "all-options", "group", *words))["result"] == "created"
    events = admin("read", "$persistentSubscriptionConfig", "--backwards", "--count", "1", "--raw").out
    entry = next(entry for entry in json.loads(events)["entries"] if entry["stream"] == "all-options")
    assert entry == {
        "stream": "all-options",
        "group": "group",
        "resolveLinkTos": True,
        "extraStatistics": True,
        "messageTimeout": 1500,
        "liveBufferSize": 7,
        "historyBufferSize": 60,
        "maxRetryCount": 1,
        "readBatchSize": 50,
        "minCheckPointCount": 3,
        "maxCheckPointCount": 4,
        "maxSubscriberCount": 2,
        "namedConsumerStrategy": "Pinned",
    }
    line(admin("group", "create", "all-options", "from-seven", "--start-from", "7"))


def test_who_may_not(cli: Cli) -> None:
    result = cli("group", "create", "jobs", "forbidden")
    assert (result.code, result.out) == (4, "")
    assert cli("group", "parked", "jobs", "forbidden").code == 4


def test_it_does_not_delete_where_it_cannot_ask(admin: Cli, server: Server) -> None:
    line(admin("group", "create", "asked", "group"))
    result = admin("group", "delete", "asked", "group")
    assert (result.code, "add --yes" in result.err) == (2, True)
    for answer, code, said in ((b"n\n", 1, "nothing was deleted"), (b"y\n", 0, "is deleted")):
        with at_terminal("group", "delete", "asked", "group", "--url", server.admin_url) as process:
            question = read_until(process.stdout, b"[y/N]: ")
            assert b"its place in the stream and the list of what it has parked are gone" in b" ".join(question.split())
            assert process.stdin is not None
            process.stdin.write(answer)
            process.stdin.flush()
            result = shown(process)
        assert (result.code, said in result.out) == (code, True)


# --- consuming


def test_each_event_is_printed_and_acked(admin: Cli, server: Server) -> None:
    server.append("tasks", *[NewEvent.json("Asked", {"n": number}) for number in range(5)])
    line(admin("group", "create", "tasks", "group", "--start-from", "start"))
    result = admin("watch", "tasks", "--group", "group", "--count", "3", "--in-flight", "2")
    assert result.code == 0
    lines = list(map(json.loads, result.lines))
    assert [(one["number"], one["retry_count"], one["data"]) for one in lines] == [(n, 0, {"n": n}) for n in range(3)]
    assert f"consuming tasks at {server.address} for group group; Ctrl-C ends" in result.err
    again = admin("watch", "tasks", "--group", "group", "--count", "2", "--format", "%n ")
    assert again.out == "3 4 "
    # What `read` and `watch` print is what `append` takes.
    assert admin("append", "copied", stdin=result.out).code == 0


def test_a_consumer_waits_for_what_comes(server: Server, admin: Cli) -> None:
    line(admin("group", "create", "coming", "group", "--start-from", "start"))
    options = ("--group", "group", "--count", "2", "--url", server.admin_url)
    with started("watch", "coming", *options) as process:
        read_until(process.stderr, b"Ctrl-C ends")
        server.append("coming", NewEvent("first"), NewEvent("second"))
        result = finished(process)
    assert [json.loads(one)["type"] for one in result.lines] == ["first", "second"]


def test_what_a_consumer_cannot_choose(admin: Cli) -> None:
    for options in (
        ("--from", "start"),
        ("--exit-at-end",),
        ("--types", "A"),
        ("--filter-types", "A"),
        ("--filter-streams", "A"),
    ):
        result = admin("watch", "tasks", "--group", "group", *options)
        assert (result.code, f"{options[0]}: a group has its own place" in result.err) == (2, True)
    assert "no groups on $all" in admin("watch", "$all", "--group", "group").err
    result = admin("watch", "tasks", "--group", "none")
    assert (result.code, "Try: trio-extreme group create tasks none" in result.err) == (1, True)


# --- what was parked


def park(server: Server, stream: str, *numbers: int) -> None:
    async def park_them() -> None:
        async with open_connection(server.settings) as conn:
            await conn.ensure_persistent(stream, "group", PersistentSettings(start_from=START))
            async with conn.subscribe_persistent(stream, "group") as events:
                async for event in events:
                    if event.number in numbers:
                        await events.nak(event, action=NakAction.PARK, message="no good")
                    else:
                        await events.ack(event)
                    if event.number == max(numbers):
                        break

    trio.run(park_them)


def test_what_was_parked_and_why(admin: Cli, server: Server) -> None:
    server.append("bad", *[NewEvent.json("Asked", {"n": number}) for number in range(4)])
    park(server, "bad", 1, 3)
    result = admin("group", "parked", "bad", "group")
    assert result.code == 0
    lines = list(map(json.loads, result.lines))
    assert [(one["stream"], one["number"], one["parked"], one["data"]) for one in lines] == [
        ("bad", 1, 0, {"n": 1}),
        ("bad", 3, 1, {"n": 3}),
    ]
    assert {one["reason"] for one in lines} == {"Client explicitly NAK'ed message.\nno good"}
    assert all(one["added"].startswith("20") for one in lines)
    assert result.err == "2 parked; they are kept until group replay-parked\n"
    assert admin("group", "parked", "bad", "group", "--count", "1", "--format", "%n").out == "1"
    # What somebody else wrote there says nothing.
    server.append("$persistentsubscription-bad::odd-parked", NewEvent("odd", metadata=b"["), NewEvent("odd"))
    odd = [json.loads(one) for one in admin("group", "parked", "bad", "odd").lines]
    assert [(one["parked"], one["reason"], one["added"]) for one in odd] == [(0, None, None), (1, None, None)]


def test_nothing_was_parked(admin: Cli) -> None:
    result = admin("group", "parked", "nowhere", "group")
    assert (result.code, result.out, result.err) == (0, "", "nothing is parked\n")


# --- over HTTP


@pytest.fixture
def web(cli: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line, as admin, and it knows where the web interface is."""
    monkeypatch.setenv("TRIO_EXTREME_URL", server.web_url)
    return cli


def test_groups_are_listed_looked_at_and_replayed(web: Cli, server: Server) -> None:
    server.append("told", *[NewEvent("Asked") for _ in range(4)])
    park(server, "told", 1, 3)
    line(web("group", "ensure", "told", "other"))
    lines = list(map(json.loads, web("group", "list", "told").lines))
    assert [(one["stream"], one["group"], one["consumers"]) for one in lines] == [
        ("told", "group", 0),
        ("told", "other", 0),
    ]
    assert len(web("group", "list").lines) >= 2
    found = line(web("group", "info", "told", "group"))
    assert (found["stream"], found["group"], found["status"], found["last_known"]) == ("told", "group", "Live", 3)
    assert (found["settings"]["start_from"], found["connections"], found["waiting"]) == (0, [], 0)
    assert line(web("group", "info", "told", "other"))["settings"]["start_from"] in (-1, "end")
    result = web("group", "replay-parked", "told", "group")
    assert line(result) == {"stream": "told", "group": "group", "result": "replayed"}
    assert result.err == "group group of stream told hands out again what it has parked\n"
    again = web("watch", "told", "--group", "group", "--count", "2", "--format", "%n ")
    assert again.out == "1 3 "
    assert web("group", "parked", "told", "group").err == "nothing is parked\n"


def test_of_a_group_at_a_terminal(web: Cli, server: Server) -> None:
    server.append("seen", NewEvent("Asked"))
    line(web("group", "ensure", "seen", "group", "--start-from", "start"))
    with at_terminal("group", "info", "seen", "group", "--url", server.web_url) as process:
        told = shown(process)
    assert told.code == 0
    assert "seen::group  Live  0 consumers, 0 in flight, no checkpoint of 0" in told.out
    assert "1 wait for the first time, 0 again" in told.out
    assert "message_timeout: 30.0" in told.out


def test_what_is_not_there_over_http(web: Cli, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there are no groups" in web("group", "list", "nowhere").err
    for command in ("info", "replay-parked"):
        result = web("group", command, "nowhere", "group")
        assert (result.code, result.out) == (1, "")
        assert "Try: trio-extreme group create nowhere group" in result.err
    # A later server can stop at a parked event, this one would replay all.
    assert "server" in web("group", "replay-parked", "told", "group", "--stop-at", "1").err
    monkeypatch.setenv("TRIO_EXTREME_URL", f"{server.admin_url}?http_port=1")
    result = web("group", "list")
    assert result.code == 3
    assert "Try: --url with ?http_port=" in result.err
