"""The standard projections: what they make of which events, when, and each once."""

from __future__ import annotations

import json
from collections import Counter, deque
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trio
from hypothesis import given, strategies as st

from tests.conformance.compare import Conversation, without_places_and_times
from tests.conformance.recorded import load
from tests.conformance.replay import recorded_conversation, replay
from tests.embedded.talk import Desk, append, delete, link, new_event, new_events, read_stream, subscribe, talk_to
from trio_extreme.embedded import User, open_node, run_inline
from trio_extreme.embedded.projections import DELAY, STEP, Projections, category_of
from trio_extreme.embedded.reading import StreamResult
from trio_extreme.embedded.records import Place, make_event, make_record
from trio_extreme.embedded.storage import Batch, MemoryStorage
from trio_extreme.embedded.versions import VERSIONS
from trio_extreme.values import Credentials
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from trio.testing import MockClock

    from trio_extreme.embedded import Node
    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.standings import Standing

FORWARD = Command.READ_STREAM_EVENTS_FORWARD
WIDE = 2**63 - 1


class Later:
    """What is to be called later; nobody waits for it."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], None]] = deque()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        assert seconds == DELAY
        self.calls.append(call)

    def run(self, most: int = 10_000) -> int:
        """Call what there is, and what comes of it; how many calls that was."""
        made = 0
        while self.calls and made < most:
            self.calls.popleft()()
            made += 1
        return made


class Projecting(Desk):
    """A desk whose node projects, when it is told to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reopen()

    def reopen(self) -> None:
        """Begin anew with what is stored, as a node does in another process."""
        self.later = Later()
        self.projections = Projections(self.store, self.service.hub, self.later.after)
        self.projections.wake()

    def links(self, stream: str) -> list[str]:
        self.later.run()
        return [record.event.data.decode() for record in self.store.records(stream)]

    def tags(self, stream: str) -> list[dict[str, Any]]:
        self.later.run()
        return [json.loads(record.event.metadata) for record in self.store.records(stream)]

    def standing(self, name: str) -> Standing:
        found = self.projections.standing(name)
        assert found is not None
        return found

    def written(self) -> list[Record]:
        """What projections wrote, in order."""
        self.later.run()
        return [record for record in log_of(self) if record.stream.startswith(("$ce-", "$et-", "$s", "$category-"))]


def log_of(desk: Desk) -> list[Record]:
    return list(desk.store.storage.forward(Place(0, 0), 1_000_000))


# --- what is made of an event


def test_the_first_event_of_a_stream_goes_everywhere() -> None:
    desk = Projecting()
    event = new_event("born")
    desk.write("people-1", [event])
    desk.later.run()
    record = desk.store.records("people-1")[0]
    signed = {"$c": record.position, "$p": record.position}
    cause = {"$causedBy": str(UUID(bytes_le=event.event_id))}
    assert [(record.stream, record.number, record.type) for record in desk.written()] == [
        ("$category-people", 0, "$@"),
        ("$ce-people", 0, "$>"),
        ("$streams", 0, "$>"),
        ("$et-born", 0, "$>"),
    ]
    assert [record.event.data for record in desk.written()] == [b"people-1", *3 * [b"0@people-1"]]
    assert [json.loads(record.event.metadata) for record in desk.written()] == [
        {"$v": "1:-1:1:3", **signed, **cause},
        {"$v": "2:-1:1:3", **signed, "$o": "people-1", **cause},
        {"$v": "3:-1:1:3", **signed, **cause},
        {"$v": "4:-1:1:3", **signed, **cause},
    ]
    assert {record.event.data_content_type for record in desk.written()} == {0}
    assert len({record.id for record in desk.written()}) == 4


def test_later_events_go_to_their_category_and_type() -> None:
    desk = Projecting()
    desk.write("people-1", [new_event("born"), new_event("named")])
    desk.write("people-2", [new_event("born")])
    desk.write("people-1", [new_event("born")])
    assert desk.links("$ce-people") == ["0@people-1", "1@people-1", "0@people-2", "2@people-1"]
    assert desk.links("$et-born") == ["0@people-1", "0@people-2", "2@people-1"]
    assert desk.links("$et-named") == ["1@people-1"]
    assert desk.links("$streams") == ["0@people-1", "0@people-2"]
    assert desk.links("$category-people") == ["people-1", "people-2"]


@pytest.mark.parametrize(
    ("stream", "category"),
    [("people-1", "people"), ("a-b-c", "a"), ("a-", "a"), ("people", None), ("-1", None), ("$sys-1", None), ("", None)],
)
def test_a_category_is_what_stands_before_the_first_dash(stream: str, category: str | None) -> None:
    assert category_of(stream) == category


def test_a_stream_without_category_has_no_category() -> None:
    desk = Projecting()
    desk.write("people", new_events(1))
    assert desk.links("$streams") == ["0@people"]
    assert {record.stream for record in desk.written()} == {"$streams", "$et-happened"}


def test_system_streams_are_not_seen() -> None:
    desk = Projecting()
    desk.write("$mine-1", new_events(2))
    desk.write("$$$mine-1", [new_event("$metadata", b"{}")])
    assert desk.written() == []


def test_what_projections_write_is_not_projected() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(1))
    desk.later.run()
    count = len(log_of(desk))
    assert desk.later.run() == 0
    desk.projections.wake()
    assert desk.later.run() == 1
    assert len(log_of(desk)) == count


def test_a_correlation_of_json_events_goes_on() -> None:
    desk = Projecting()
    metadata = b'{"$correlationId":"abc", "a": 1}'
    others = [new_event(metadata=other) for other in (b'{"$correlationId":5}', b"[]", b"no JSON", b"")]
    desk.write("people-1", [new_event(metadata=metadata), new_event(metadata=metadata, is_json=False), *others])
    assert [tag.get("$correlationId") for tag in desk.tags("$ce-people")] == ["abc", *5 * [None]]
    assert list(desk.tags("$ce-people")[0]) == ["$v", "$c", "$p", "$o", "$causedBy", "$correlationId"]


def test_links_are_followed() -> None:
    """As 4.1.1 did: `tests/conformance/recordings/4.1.1/read_links`, and the end of its log in `read_all`."""
    desk = Projecting()
    desk.write("ln-1", new_events(3))
    targets = ["0@ln-1", "2@ln-1", "9@ln-1", "0@nosuch", "rubbish"]
    desk.write("links-1", [*map(link, targets), new_event("tested")])
    assert desk.links("$ce-links") == ["0@ln-1", "2@ln-1", "-1@", "-1@", "5@links-1"]
    assert [("$causedBy" in tag, tag["$o"]) for tag in desk.tags("$ce-links")] == [
        (has_cause, "links-1") for has_cause in (True, True, False, False, True)
    ]
    assert desk.tags("$ce-links")[1]["$causedBy"] == str(UUID(bytes_le=desk.store.records("ln-1")[2].id))
    # By the type of an event, only the events themselves.
    assert desk.links("$et-$>") == []
    assert desk.links("$et-tested") == ["5@links-1"]
    assert desk.links("$streams") == ["0@ln-1", "0@links-1"]


def test_a_link_to_a_link_leads_where_that_one_leads() -> None:
    desk = Projecting()
    desk.write("a-1", new_events(1))
    desk.write("b-1", [link("0@a-1")])
    desk.write("c-1", [link("0@b-1")])
    assert desk.links("$ce-c") == ["0@a-1"]


@pytest.mark.parametrize(("version", "number"), [("3.9.4", 2**31 - 1), ("4.1.1", WIDE)])
def test_a_stream_that_is_deleted_for_ever(version: str, number: int) -> None:
    """As 4.1.1 did: the end of its log in `tests/conformance/recordings/4.1.1/read_all`."""
    desk = Projecting(version)
    desk.write("ln-1", new_events(1))
    desk.ask(Command.DELETE_STREAM, delete("ln-1", hard=True))
    assert desk.links("$ce-ln") == ["0@ln-1", f"{number}@ln-1"]
    assert desk.links("$et-$deleted") == [f"{number}@ln-1"]
    assert list(desk.tags("$ce-ln")[1]) == ["$v", "$c", "$p", "$o", "$deleted", "$causedBy"]
    assert list(desk.tags("$et-$deleted")[0]) == ["$v", "$c", "$p", "$deleted", "$causedBy"]
    assert desk.tags("$ce-ln")[1]["$deleted"] == -1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_that_is_deleted_softly(version: str) -> None:
    desk = Projecting(version)
    desk.write("ln-1", new_events(1))
    desk.ask(Command.DELETE_STREAM, delete("ln-1"))
    assert desk.links("$ce-ln") == ["0@ln-1", "0@$$ln-1"]
    tag = desk.tags("$ce-ln")[1]
    assert (tag["$o"], tag["$deleted"]) == ("ln-1", -1)
    # The servers' own mistake: of metadata, the number is that of the metadata, and the stream the other one.
    assert desk.links("$et-$deleted") == ["0@ln-1"]
    assert desk.links("$streams") == ["0@ln-1", "0@$$ln-1"]


@pytest.mark.parametrize("version", VERSIONS)
def test_metadata_of_a_stream(version: str) -> None:
    desk = Projecting(version)
    desk.write("ln-1", new_events(1))
    desk.write(
        "$$ln-1", [new_event("$metadata", b'{"$maxCount":5}'), new_event("other", b'{"$tb":9223372036854775807}')]
    )
    assert desk.links("$et-$metadata") == ["0@ln-1"]
    assert desk.links("$et-other") == ["1@ln-1"]
    categorized = ["0@$$ln-1", "1@$$ln-1"] if desk.store.version.categorizes_metadata else []
    assert desk.links("$ce-ln") == ["0@ln-1", *categorized]
    assert not any("$deleted" in tag for tag in desk.tags("$ce-ln"))


async def test_the_recorded_server_made_the_same_of_the_same(autojump_clock: MockClock) -> None:
    recording = load("4.1.1", "subscribe_all")
    theirs, ours = recorded_conversation(recording), await replay(recording, projections=True)
    # What is made of two events, and the rights on two of the four streams: the others were there before.
    assert made_by_projections(theirs).total() == 8
    assert made_by_projections(ours) == made_by_projections(theirs)


def made_by_projections(conversation: Conversation) -> Counter[tuple[object, ...]]:
    """In whatever order, for there each of them wrote when it was ready; without numbers, for theirs went on."""
    pushed = [answer.content for answer in conversation.answers if answer.command == "STREAM_EVENT_APPEARED"]
    events = [content["event"]["event"] for content in pushed if isinstance(content, dict)]
    return Counter(
        (
            event["event_stream_id"],
            event["event_type"],
            event["data"],
            without_places_and_times(event["metadata"]),
            event["data_content_type"],
            event["metadata_content_type"],
        )
        for event in events
        if event["event_stream_id"].startswith(("$ce-", "$et-", "$streams", "$category-", "$$$ce-", "$$$category-"))
    )


# --- rights


def test_anybody_may_read_what_projections_write() -> None:
    desk = Projecting()
    desk.users["jane"] = User("x")
    jane = Credentials("jane", "x")
    assert desk.ask(FORWARD, read_stream("$ce-people"), jane).result == StreamResult.AccessDenied
    for _ in range(2):
        desk.write("people-1", new_events(1))
        desk.later.run()
    for stream in ("$ce-people", "$et-happened", "$streams", "$category-people"):
        assert desk.ask(FORWARD, read_stream(stream), jane).result == StreamResult.Success
    assert desk.ask(Command.WRITE_EVENTS, append("$ce-people", new_events(1)), jane).result != 0
    rights = [record.event for record in desk.store.records("$$$ce-people")]
    assert [(event.event_type, event.data) for event in rights] == [
        ("$metadata", b'{"$acl":{"$r":"$all","$mr":"$all"}}')
    ]


# --- once, and in order


def test_a_hard_deleted_stream_of_links_gets_none() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(1))
    desk.later.run()
    desk.ask(Command.DELETE_STREAM, delete("$ce-people", hard=True))
    desk.write("people-1", new_events(2))
    assert desk.links("$ce-people") == ["0@people-1"]
    assert desk.links("$et-happened") == ["0@people-1", "1@people-1", "2@people-1"]


def test_what_was_there_before_is_caught_up_with_in_steps() -> None:
    desk = Projecting()
    desk.later.calls.clear()
    for number in range(10):
        desk.write(f"people-{number}", new_events(STEP // 2))
    desk.reopen()
    steps = desk.later.run()
    assert steps > 10 * (STEP // 2) // STEP
    assert desk.links("$ce-people") == [
        f"{event}@people-{number}" for number in range(10) for event in range(STEP // 2)
    ]


def test_it_goes_on_over_many_records_of_which_nothing_is_made() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(1))
    desk.later.run()
    desk.write("$mine", new_events(2 * STEP))
    desk.write("people-1", new_events(1))
    desk.reopen()
    assert desk.links("$ce-people") == ["0@people-1", "1@people-1"]


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "no JSON",
        "[]",
        "[" * 100_000,
        '{"$c":"1","$p":"1"}',
        '{"$c":true,"$p":true}',
        '{"$c":-1,"$p":-1}',
        '{"$c":1e400,"$p":0}',
        f'{{"$c":{2**63},"$p":{2**63}}}',
        # Inside a record; behind all of them; and where the next event will be.
        '{"$c":169,"$p":169}',
        '{"$c":999999999,"$p":999999999}',
        '{"$c":NEXT_ONE,"$p":NEXT_ONE}',
    ],
    ids=lambda metadata: metadata[:30],
)
def test_a_link_that_somebody_else_wrote_does_not_mislead(metadata: str) -> None:
    """As `trio-extreme import` may write those of another store."""
    desk = Projecting()
    desk.write("people-1", new_events(1))
    desk.later.run()

    def forge(place: int) -> None:
        signed = metadata.replace("NEXT_ONE", f"{place:8}").encode()
        desk.write("$ce-people", [new_event("$>", b"forged", metadata=signed)])

    before = desk.store.log.end
    forge(0)
    size = desk.store.log.end - before
    forge(desk.store.log.end + size)
    desk.write("people-2", new_events(1))
    desk.reopen()
    assert desk.links("$ce-people") == ["0@people-1", "forged", "forged", "0@people-2"]
    assert desk.links("$et-happened") == ["0@people-1", "0@people-2"]


def test_a_crash_may_take_the_last_links() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(2))
    desk.later.run(1)
    storage = desk.store.storage
    assert isinstance(storage, MemoryStorage)
    end = desk.store.records("people-1")[-1].end
    lost = [record for record in log_of(desk) if record.position >= end]
    assert len(lost) > 4
    storage._log = storage._log[: -len(lost)]
    for record in lost:
        storage._streams.pop(record.stream, None)
    storage.end = end
    desk.projections.restart()
    assert desk.links("$ce-people") == ["0@people-1", "1@people-1"]
    assert desk.links("$streams") == ["0@people-1"]


def test_an_event_that_was_committed_later_is_signed_with_both_positions() -> None:
    desk = Projecting()
    storage = desk.store.storage
    batch = Batch(storage)
    first, commit = batch.end, batch.end + 200
    event = make_event("people-1", 0, new_event(), 0)
    batch.write(make_record(first, 100, event, (commit, commit + 100)))
    batch.write(make_record(first + 100, 100, make_event("people-1", 1, new_event(), 0), (commit, commit + 100)))
    storage.add(batch)
    desk.write("people-1", new_events(1))
    desk.later.run()
    desk.reopen()
    assert desk.links("$ce-people") == ["0@people-1", "1@people-1", "2@people-1"]
    assert [(tag["$c"], tag["$p"]) for tag in desk.tags("$ce-people")] == [
        (commit, first),
        (commit, first + 100),
        (commit + 100, commit + 100),
    ]


def test_it_waits_where_nobody_should_write() -> None:
    desk = Projecting()
    desk.later.run()
    crowded = True
    desk.projections._is_crowded = lambda: crowded
    desk.write("people-1", new_events(1))
    assert desk.later.run(5) == 5
    assert desk.store.records("$ce-people") == ()
    crowded = False
    assert desk.links("$ce-people") == ["0@people-1"]


# --- stopped and started


def test_one_that_is_stopped_goes_on_from_its_place() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(1))
    desk.later.run()
    streams = desk.standing("$streams")
    desk.projections.disable(streams)
    for number in range(2, 6):
        desk.write(f"people-{number}", new_events(1))
    assert desk.links("$ce-people") == [f"0@people-{number}" for number in range(1, 6)]
    assert desk.links("$streams") == ["0@people-1"]
    desk.projections.enable(streams)
    assert desk.links("$streams") == [f"0@people-{number}" for number in range(1, 6)]
    assert (streams.is_in_step, streams.is_behind) == (True, False)
    desk.write("people-6", new_events(1))
    assert desk.links("$streams") == [f"0@people-{number}" for number in range(1, 7)]
    assert desk.links("$ce-people") == desk.links("$streams")
    # Whoever says so twice writes nothing more.
    before = desk.store.log.end
    desk.projections.enable(streams)
    assert desk.store.log.end == before


def test_one_that_is_stopped_is_so_in_another_process() -> None:
    desk = Projecting()
    desk.projections.disable(desk.standing("$streams"))
    desk.write("people-1", new_events(1))
    desk.later.run()
    desk.reopen()
    desk.write("people-2", new_events(1))
    assert desk.links("$streams") == []
    assert not desk.standing("$streams").is_enabled
    desk.projections.enable(desk.standing("$streams"))
    # It is on its way when the node ends.
    desk.reopen()
    assert desk.links("$streams") == ["0@people-1", "0@people-2"]
    desk.reopen()
    assert desk.links("$streams") == ["0@people-1", "0@people-2"]


def test_many_records_are_caught_up_with_in_steps() -> None:
    desk = Projecting()
    desk.projections.disable(desk.standing("$by_event_type"))
    desk.write("people-1", new_events(3 * STEP))
    desk.later.run()
    desk.projections.enable(desk.standing("$by_event_type"))
    desk.later.run(1)
    # It is there while another one goes on.
    desk.write("people-2", new_events(1))
    desk.later.run(2)
    assert len(desk.store.records("$ce-people")) == 3 * STEP + 1
    assert STEP <= len(desk.store.records("$et-happened")) < 3 * STEP
    desk.reopen()
    assert desk.links("$et-happened") == [*(f"{n}@people-1" for n in range(3 * STEP)), "0@people-2"]
    assert desk.standing("$by_event_type").is_in_step


def test_a_reset_hides_what_was_written_and_writes_it_again() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(2))
    assert desk.links("$ce-people") == ["0@people-1", "1@people-1"]
    desk.write("$$$ce-people", [new_event("$metadata", b'{"$maxCount": 100}')])
    category = desk.standing("$by_category")
    desk.projections.reset(category)
    assert (category.version, category.epoch) == (2, 2)
    assert desk.links("$ce-people") == [*2 * ["0@people-1", "1@people-1"]]
    metadata = desk.store.metadata("$ce-people")
    assert (metadata.truncate_before, metadata.max_count) == (2, 100)
    number = category.number
    assert [tag["$v"] for tag in desk.tags("$ce-people")] == [*2 * [f"{number}:-1:1:3"], *2 * [f"{number}:2:2:3"]]
    # What comes later hides nothing.
    desk.write("people-1", new_events(1))
    desk.reopen()
    desk.write("people-1", new_events(1))
    assert desk.links("$ce-people")[4:] == ["2@people-1", "3@people-1"]
    assert desk.store.metadata("$ce-people").truncate_before == 2
    assert desk.links("$et-happened") == [f"{number}@people-1" for number in range(4)]
    desk.projections.reset(desk.standing("$by_category"))
    assert len(desk.links("$ce-people")) == 10
    assert desk.store.metadata("$ce-people").truncate_before == 6


def test_a_reset_of_one_that_is_stopped_waits() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(1))
    streams = desk.standing("$streams")
    desk.later.run()
    desk.projections.disable(streams)
    desk.projections.reset(streams)
    assert desk.links("$streams") == ["0@people-1"]
    desk.projections.enable(streams)
    assert desk.links("$streams") == ["0@people-1", "0@people-1"]
    assert desk.store.metadata("$streams").truncate_before == 1


def test_a_reset_leaves_streams_that_are_deleted_for_ever() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(1))
    desk.later.run()
    desk.ask(Command.DELETE_STREAM, delete("$ce-people", hard=True))
    desk.projections.reset(desk.standing("$by_category"))
    desk.write("places-1", new_events(1))
    assert desk.links("$ce-places") == ["0@places-1"]
    assert [record.type for record in desk.store.records("$ce-people")] == ["$>"]


def test_what_was_never_looked_for_is_found_when_somebody_asks() -> None:
    desk = Projecting()
    desk.write("people-1", new_events(2 * STEP))
    desk.later.run()
    desk.write("$mine", new_events(3 * STEP))
    desk.reopen()
    desk.projections.disable(desk.standing("$by_category"))
    assert len(desk.links("$ce-people")) == 2 * STEP
    assert desk.standing("$by_category").place is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"enabled": false, "version": 1, "place": null}',
        b'{"enabled": false, "version": 1, "place": [1]}',
        b'{"enabled": false, "version": 1, "place": [1, "x"]}',
        b'{"enabled": false, "version": 1, "place": [-1, 0]}',
        b'{"enabled": false, "version": 0, "place": [0, 0]}',
        b'{"enabled": false, "version": "x", "place": [0, 0]}',
        b"[" * 100_000,
    ],
    ids=lambda data: f"{len(data)}-{data[:60].decode()}",
)
def test_what_admins_write_there_by_hand_stops_nothing(data: bytes) -> None:
    desk = Projecting()
    desk.write("people-1", new_events(1))
    desk.later.run()
    forged = new_event("$ProjectionUpdated", data, metadata=b'{"$c": 999999, "$p": 0}')
    desk.write("$projections-$by_category", [forged])
    desk.reopen()
    desk.write("people-1", new_events(1))
    assert desk.links("$ce-people") == ["0@people-1", "1@people-1"]


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "write",
                "write",
                "write",
                "link",
                "soft",
                "hard",
                "metadata",
                "system",
                "forged",
                "run",
                "restart",
                "reopen",
                "disable",
                "enable",
            ]
        ),
        st.integers(0, 3),
        st.integers(1, 3),
    ),
    max_size=25,
)


def perform(desk: Projecting, operation: str, stream: int, count: int) -> None:
    name = f"people-{stream}" if stream < 3 else "alone"
    if operation == "write":
        desk.write(name, [new_event(f"type{number}") for number in range(count)])
    elif operation == "link":
        desk.write("links-1", [link(f"{count}@{name}")])
    elif operation in ("soft", "hard"):
        desk.ask(Command.DELETE_STREAM, delete(name, hard=operation == "hard"))
    elif operation == "metadata":
        desk.write(f"$$people-{stream}", [new_event("$metadata", b'{"$maxCount":5}')])
    elif operation == "system":
        desk.write("$mine", new_events(count))
    else:
        forged = new_event("$>", b"0@people-0", metadata=b'{"$v":"2:-1:1:3","$c":%d,"$p":1}' % (count * 10**6))
        desk.write("$ce-people", [forged])


@given(OPERATIONS)
def test_no_link_is_lost_or_doubled_whenever_the_node_is_started_again(operations: list[tuple[str, int, int]]) -> None:
    desk = Projecting()
    for operation, stream, count in operations:
        if operation == "run":
            desk.later.run(count)
        elif operation == "reopen":
            desk.reopen()
        elif operation == "restart":
            desk.projections.restart()
        elif operation in ("disable", "enable"):
            getattr(desk.projections, operation)(desk.projections.standings[stream])
        else:
            perform(desk, operation, stream, count)
    for standing in desk.projections.standings:
        desk.projections.enable(standing)
    desk.later.run()
    seen = Counter(
        (record.stream, tag["$c"], tag["$p"])
        for record in desk.written()
        if record.event.metadata and (tag := json.loads(record.event.metadata))["$p"] != 1
    )
    assert not seen or max(seen.values()) == 1
    events = [record for record in log_of(desk) if not record.stream.startswith("$") and record.type != "$>"]
    for record in events:
        type_ = "$deleted" if record.type == "$streamDeleted" else record.type
        assert seen[f"$et-{type_}", record.commit, record.position] == 1
        assert seen["$ce-people", record.commit, record.position] == record.stream.startswith("people-")
        assert seen["$streams", record.commit, record.position] == (record.number == 0)
    for links in ("$ce-people", "$streams", "$et-type0"):
        places = [tag["$c"] for tag in desk.tags(links) if tag["$p"] != 1]
        assert places == sorted(places)


# --- a node


async def test_links_are_pushed_a_moment_after_the_answer(autojump_clock: MockClock) -> None:
    async with open_node(port=None, projections=True) as node:
        talk = await talk_to(node)
        await talk.ask(Command.SUBSCRIBE_TO_STREAM, subscribe("$ce-people", links=True))
        started = trio.current_time()
        reply = await talk.ask(Command.WRITE_EVENTS, append("people-1", new_events(1)))
        assert reply is not None
        assert reply.command == Command.WRITE_EVENTS_COMPLETED
        assert trio.current_time() == started
        pushed = await talk.hear()
        assert pushed is not None
        assert pushed.message.event.event.event_stream_id == "people-1"
        assert pushed.message.event.link.event_stream_id == "$ce-people"
        assert trio.current_time() == pytest.approx(started + DELAY)


async def test_a_node_that_is_restarted_goes_on(autojump_clock: MockClock) -> None:
    async with open_node(port=None, projections=True) as node:
        for number in range(3):
            talk = await talk_to(node)
            await talk.ask(Command.WRITE_EVENTS, append("people-1", new_events(1)))
            node.faults.restart()
            await trio.sleep(1)
            assert [record.event.data for record in node.store.records("$ce-people")] == [
                b"%d@people-1" % written for written in range(number + 1)
            ]


def open_file(path: Path, *, projections: bool = True) -> AbstractAsyncContextManager[Node]:
    return open_node(port=None, path=path, projections=projections, run_sync=run_inline)


async def test_a_file_is_gone_on_with(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "node.db"
    for number in range(6):
        # The first two times nobody projects, and the others leave at a moment of their own.
        async with open_file(path, projections=number > 1) as node:
            talk = await talk_to(node)
            await talk.ask(Command.WRITE_EVENTS, append("people-1", new_events(2)))
            await trio.sleep(number % 3 * DELAY)
    async with open_file(path) as node:
        await trio.sleep(1)
        links = [record.event.data for record in node.store.records("$ce-people")]
        assert links == [b"%d@people-1" % number for number in range(12)]
        assert [record.event.data for record in node.store.records("$streams")] == [b"0@people-1"]


@pytest.mark.parametrize("graceful", [False, True])
@pytest.mark.parametrize("moment", [0, DELAY / 2, DELAY, 1.5 * DELAY, 1])
async def test_a_crash_loses_and_doubles_no_link(
    tmp_path: Path, autojump_clock: MockClock, moment: float, *, graceful: bool
) -> None:
    async with open_file(tmp_path / "node.db") as node:
        for number in range(5):
            talk = await talk_to(node)
            await talk.ask(Command.WRITE_EVENTS, append(f"people-{number}", new_events(1)))
            await trio.sleep(moment)
            node.faults.restart(graceful=graceful)
        await trio.sleep(1)
        links = [record.event.data for record in node.store.records("$ce-people")]
        assert links == [b"0@people-%d" % number for number in range(5)]
        assert [record.event.data for record in node.store.records("$streams")] == links


async def test_without_projections_there_are_none(autojump_clock: MockClock) -> None:
    async with open_node(port=None) as node:
        talk = await talk_to(node)
        await talk.ask(Command.WRITE_EVENTS, append("people-1", new_events(1)))
        await trio.sleep(1)
        assert node.store.records("$ce-people") == ()


async def test_it_does_the_same_each_time(autojump_clock: MockClock) -> None:
    async def run() -> list[bytes]:
        async with open_node(port=None, projections=True, random=Random(5), now=lambda: 1e9) as node:
            talk = await talk_to(node)
            for number in range(5):
                event = new_event(id=bytes([number + 1] * 16))
                await talk.ask(Command.WRITE_EVENTS, append(f"people-{number}", [event]))
            await trio.sleep(1)
            return [record.field for record in node.store.records("$ce-people")]

    first = await run()
    assert len(first) == 5
    assert await run() == first
