"""What docs/observability.md says that is logged is logged, and nothing else is: no payload and no password."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import trio_extreme
from tests.helpers import new_events
from trio_extreme import (
    ANY,
    CaughtUp,
    ConnectFailed,
    Credentials,
    NewEvent,
    NotAuthenticated,
    StreamDeleted,
    SubscriptionDropped,
    open_connection,
)
from trio_extreme.embedded import User, open_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trio.testing import MockClock

    from trio_extreme.embedded import Node

SOURCES = Path(trio_extreme.__file__).parent
PAGE = (SOURCES.parent / "docs" / "observability.md").read_text()
SECRET, PAYLOAD = "s3cret-word", "p4yload-word"


class Line(NamedTuple):
    logger: str
    level: str
    message: str


def logged_by(source: str) -> Iterator[Line]:
    """Every call of a module's logger that says what it says right there."""
    named = re.search(r'^logger = logging.getLogger\("([\w.]+)"\)$', source, re.MULTILINE)
    for node in ast.walk(ast.parse(source)) if named else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
            text = ast.literal_eval(node.args[0])
            level = ast.unparse(node.func).removeprefix("logger.").replace("exception", "error").upper()
            assert named is not None
            yield Line(named[1], level, re.sub(r"%(\.\d)?[a-z]", "…", text))


def test_what_the_page_lists_is_logged() -> None:
    rows = re.findall(r"^\| `(trio_extreme[\w.]+)` \| ([A-Z]+) \| `([^`]+)` \|", PAGE, re.MULTILINE)
    listed = {Line(*row) for row in rows}
    assert len(listed) > 10
    assert listed - {line for path in SOURCES.rglob("*.py") for line in logged_by(path.read_text())} == set()


class Log:
    """What was logged, as far as it is asked about."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def take(self, logger: str) -> list[tuple[str, str]]:
        """What this logger has said since it was asked last."""
        records = self._caplog.records
        found = [(each.levelname, each.getMessage()) for each in records if each.name == f"trio_extreme.{logger}"]
        self._caplog.clear()
        return found


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    caplog.set_level(logging.INFO, "trio_extreme")
    return Log(caplog)


async def test_what_becomes_of_a_connection(event_store: Node, log: Log, autojump_clock: MockClock) -> None:
    async with open_connection(event_store.settings, connect=event_store.connect) as conn:
        assert log.take("connection") == [("INFO", "connected to 127.0.0.1:1113")]
        event_store.faults.restart(down=1)
        await conn.append("people", NewEvent("PersonCreated"))
        (_, lost), *attempts, back = log.take("connection")
        assert re.fullmatch(r"the connection is lost: .+ \(127.0.0.1:1113\); connecting again in \d.\d\d s", lost)
        assert attempts
        assert all(level == "WARNING" and re.match(r"attempt \d to connect", text) for level, text in attempts)
        assert back == ("INFO", "connected to 127.0.0.1:1113")
    assert log.take("connection") == [("INFO", "no connection any more: the connection's block was left")]


async def test_what_becomes_of_a_catch_up_subscription(event_store: Node, log: Log, autojump_clock: MockClock) -> None:
    settings = event_store.settings.replace(buffer_events=2)
    async with open_connection(settings, connect=event_store.connect) as conn, conn.subscribe("people") as events:
        await conn.append("people", new_events(1))
        told = events.with_notices()
        while not isinstance(await anext(told), CaughtUp):
            pass
        assert log.take("subscriptions") == [("INFO", "the subscription to stream 'people' has caught up")]
        await conn.append("people", new_events(20))
        await take(events, 20)
        for _ in range(2):
            await conn.append("people", new_events(1))
            await take(events, 1)
        assert log.take("subscriptions") == [
            ("INFO", "the consumer of stream 'people' fell behind: going on from the store"),
            ("INFO", "the subscription to stream 'people' has caught up"),
        ]
        await conn.delete_stream("people", expected=ANY, hard=True)
        for _ in range(2):
            with pytest.raises(StreamDeleted):
                await anext(events)
        ((level, text),) = log.take("subscriptions")
        assert (level, text[:44]) == ("INFO", "the subscription to stream 'people' ended: s")


async def test_what_becomes_of_a_live_subscription(event_store: Node, log: Log, autojump_clock: MockClock) -> None:
    settings = event_store.settings.replace(live_buffer_events=2)
    async with open_connection(settings, connect=event_store.connect) as conn:
        async with conn.subscribe_live("people") as events:
            event_store.faults.kill_connections()
            await conn.append("people", new_events(1))
            await take(events, 1)
            assert log.take("subscriptions") == [
                ("WARNING", "the subscription to stream 'people' was interrupted: events may be missing")
            ]
            await conn.append("people", new_events(20))
            await conn.ping()
            for _ in range(2):
                with pytest.raises(SubscriptionDropped):
                    await take(events, 20)
            ((level, text),) = log.take("subscriptions")
            assert level == "WARNING"
            assert text.startswith(
                "the subscription to stream 'people' was dropped: the consumer of stream 'people' was"
            )
        async with conn.subscribe_live("people"):
            pass
        assert log.take("subscriptions") == []


async def take(events: AsyncIterator[object], count: int) -> None:
    for _ in range(count):
        await anext(events)


async def test_no_secret_and_no_payload_is_logged(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    """Through a day on which much goes wrong."""
    caplog.set_level(logging.DEBUG)
    async with open_node(port=None, users={"jane": User(SECRET)}) as node:
        settings = node.settings.replace(username="jane", password=SECRET, max_attempts=2)
        with pytest.raises(NotAuthenticated):
            async with open_connection(settings.replace(username="john"), connect=node.connect):
                pass
        async with open_connection(settings, connect=node.connect) as conn, conn.subscribe("people") as events:
            wrong = Credentials("john", SECRET)
            await conn.append("people", NewEvent("PersonCreated", PAYLOAD.encode(), PAYLOAD.encode()))
            await anext(events)
            with pytest.raises(NotAuthenticated):
                await conn.append("people", NewEvent("PersonCreated", PAYLOAD.encode()), credentials=wrong)
            node.faults.kill_connections()
            await conn.ping()
            node.faults.refuse()
            node.faults.kill_connections()
            with pytest.raises(ConnectFailed):
                await anext(events)
    assert len(caplog.records) >= 7
    assert SECRET not in caplog.text
    assert PAYLOAD not in caplog.text
