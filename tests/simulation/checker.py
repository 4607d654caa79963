"""What must be true after every run, whatever broke in it.

Appends and deletes: what was acknowledged is there once, at its numbers. What the caller was told has failed, or what
was never sent, is not there. What nobody knows is there once and whole, or not at all. Nothing else is there.

Catch-up consumers: what they saw is in the order of its places, each once, as it is stored, and nothing is missing that
could be read the whole time. In streams that nobody deletes or truncates that is exactly the stream. `CaughtUp` never
comes twice in a row, and no gap is ever possible. Where a filter chooses, all before a `Checkpoint` was seen before it.

Live consumers: the same, but that events may be missing where a possible gap was told, and after the last of those
whose subscription was dropped.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import trio

from tests.sessions.story import client_tasks
from tests.simulation.consumers import Heard, Seen
from tests.simulation.followers import CatchUp
from tests.simulation.ledger import in_words
from tests.simulation.truth import Truth
from trio_extreme import NO_STREAM, DeleteResult, WriteResult
from trio_extreme.notices import CaughtUp, Checkpoint, Reconnected, StreamMissing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.simulation.consumers import Consumer, Period
    from tests.simulation.ledger import Call, Ledger
    from tests.simulation.trace import Trace
    from tests.simulation.truth import Place
    from trio_extreme.embedded import Node
    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.store import Store

_MOST_NAMED = 5


def check_everything(ledger: Ledger, consumers: Iterable[Consumer], store: Store, trace: Trace) -> None:
    """Put everything into the trace that is wrong at the end of a run."""
    truth = Truth(store)
    for problem in check_appends(ledger, truth):
        trace.problem(problem)
    for problem in check_deletes(ledger, truth):
        trace.problem(problem)
    for consumer in consumers:
        for problem in check_consumer(consumer, truth):
            trace.problem(f"{consumer!r} {problem}")


def check_appends(ledger: Ledger, truth: Truth) -> Iterator[str]:
    """What is wrong with what was appended."""
    where: dict[bytes, list[Record]] = {}
    for record in truth.log():
        where.setdefault(record.id, []).append(record)
    wanted: dict[tuple[bytes, ...], list[Call]] = {}
    for call in ledger.appends():
        wanted.setdefault(call.ids, []).append(call)
    for ids, calls in wanted.items():
        # The same events may have been appended by several calls, one after another.
        copies = [where.pop(event_id, []) for event_id in ids]
        if calls[-1].expected == NO_STREAM and ids and ledger.was_overtaken(ids[0]):
            # What lay in the network until its stream had been deleted softly is written too, and nobody can see it
            # coming (docs/sending-twice.md).
            copies = [records[:1] for records in copies]
        yield from _check_batch(calls, copies, truth)
    yield from _check_strangers(where)


def _check_batch(calls: list[Call], copies: list[list[Record]], truth: Truth) -> Iterator[str]:
    call = calls[-1]
    if any(len(records) > 1 for records in copies):
        yield f"written twice: {call}: {copies}"
        return
    found = [records[0] for records in copies if records]
    if found and not _is_whole(call, found):
        yield f"written in part, or apart: {call}: {found}"
    for one in calls:
        if isinstance(one.told, WriteResult):
            yield from _check_result(one, one.told, found, truth)
    if found and all(one.verdict == "not done" for one in calls):
        yield f"written, though the caller was told that it was not: {call}: {in_words(call.told)}, {found}"


def _is_whole(call: Call, found: list[Record]) -> bool:
    first = found[0].number
    wanted = [(call.stream, first + index) for index in range(len(call.ids))]
    return [(record.stream, record.number) for record in found] == wanted


def _check_result(call: Call, told: WriteResult, found: list[Record], truth: Truth) -> Iterator[str]:
    if told.last - told.first + 1 != len(call.ids):
        yield f"acknowledged with a wrong number of events: {call}: {told}"
    elif call.ids and (not found or (found[0].stream, found[0].number) != (call.stream, told.first)):
        yield f"acknowledged and not there: {call}: {told}, {found}"
    elif found and told.position is not None and told.position.commit not in truth.ends(found[-1]):
        yield f"acknowledged with a wrong position: {call}: {told}, {found[-1]}"
    if call.expected >= 0 and told.first != call.expected + 1:
        yield f"acknowledged after another number than was expected: {call}: {told}"


def _check_strangers(where: dict[bytes, list[Record]]) -> Iterator[str]:
    """Beside what was appended there are only the records of deletions and of groups, whose ids the node makes."""
    for records in where.values():
        if records[0].type not in ("$metadata", "$streamDeleted") and not records[0].stream.startswith("$persistent"):
            yield f"nobody appended {records}"


def check_deletes(ledger: Ledger, truth: Truth) -> Iterator[str]:
    """What is wrong with what was deleted: each record of it was asked for, and those that were acknowledged are there.

    Metadata that trims a stream was appended; what brings a deleted stream back follows from an append.
    """
    positions = {record.position for record in truth.log()}
    for call in ledger.calls:
        if isinstance(call.told, DeleteResult) and call.told.position is None:
            if call.verb == "delete" and not truth.may_find_nothing:
                yield f"acknowledged as if there had been nothing to delete: {call}"
        elif isinstance(call.told, DeleteResult) and call.told.position is not None:
            if call.told.position.commit not in positions:
                yield f"acknowledged and not there: {call}: {call.told}"
            positions.discard(call.told.position.commit)


def check_consumer(consumer: Consumer, truth: Truth) -> Iterator[str]:
    """What is wrong with what one consumer saw."""
    stored = {fact.place: fact.id for fact in consumer.facts()}
    for period in consumer.periods:
        yield from _check_events(period, stored)
        yield from _check_notices(consumer, period)
        yield from _check_places(period, stored)
        if missing := consumer.missing(period):
            yield f"never came: {_some(missing)}"
    if truth.is_buried(consumer.stream) and consumer.is_mourning:
        yield "was not told that its stream was deleted for ever"
    if isinstance(consumer, CatchUp):
        yield from _check_in_time(consumer)


def _check_events(period: Period, stored: dict[Place, bytes]) -> Iterator[str]:
    seen = period.seen
    if wrong := [entry.place for entry in seen if stored.get(entry.place) != entry.id]:
        yield f"saw what is not there: {_some(wrong)}"
    if wrong := [after.place for before, after in pairwise(seen) if after.place <= before.place]:
        yield f"saw twice, or out of order: {_some(wrong)}"
    if wrong := [entry.place for entry in seen if entry.place < period.first_allowed]:
        yield f"saw what was before its start: {_some(wrong)}"


def _check_notices(consumer: Consumer, period: Period) -> Iterator[str]:
    notices = [entry.notice if isinstance(entry, Heard) else None for entry in period.history]
    if any(isinstance(before, CaughtUp) and isinstance(after, CaughtUp) for before, after in pairwise(notices)):
        yield "caught up twice in a row"
    if isinstance(consumer, CatchUp):
        if Reconnected(gap_possible=True) in notices:
            yield "catches up, and was told of a possible gap"
        if consumer.hears and period.error is None and not _is_caught_up(period):
            yield "has all there is, and was not told that it has caught up"


def _check_places(period: Period, stored: dict[Place, bytes]) -> Iterator[str]:
    """A place between events: all that is chosen before it was seen before it was told, and it is no way back."""
    seen: list[Place] = []
    for entry in period.history:
        if isinstance(entry, Seen):
            seen.append(entry.place)
        elif isinstance(entry.notice, Checkpoint):
            told = entry.notice.position
            before = {place for place in stored if period.first_wanted <= place < told}
            if missing := sorted(before - set(seen)):
                yield f"was told {told}, and had not seen {_some(missing)}"
            if seen and told <= seen[-1]:
                yield f"was told {told} after {seen[-1]}"


def _is_caught_up(period: Period) -> bool:
    """Whether it was told so since it last had to catch up: as another subscription, or because it was interrupted."""
    told = False
    for entry in period.history:
        if isinstance(entry, Heard):
            told = isinstance(entry.notice, CaughtUp) or (told and isinstance(entry.notice, StreamMissing | Checkpoint))
    return told


def _check_in_time(consumer: CatchUp) -> Iterator[str]:
    """What was missing when the last fault was over came within the bound; the time it was busy itself is its own."""
    came = [entry.time for period in consumer.periods for entry in period.seen if entry.place in consumer.due]
    if came:
        calm_at = consumer.client.calm_at
        took = max(came) - calm_at - consumer.busy(calm_at, max(came))
        if took > consumer.client.bound:
            yield f"had caught up only {took:.3f} s after the last fault; the bound is {consumer.client.bound:g} s"


async def check_nothing_is_left(node: Node, trace: Trace) -> None:
    """Every connection's block was left: the client has no task any more, and the node soon has no connection."""
    if left := client_tasks():
        trace.problem(f"tasks are left: {left}")
    # Who was not told, because the network was silent, finds out by its heartbeats.
    await trio.sleep(5)
    if node._connections:
        trace.problem(f"the node has still {node!r}")


def _some(places: Iterable[object]) -> str:
    texts = [str(place) for place in places]
    more = f", and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return ", ".join(texts[:_MOST_NAMED]) + more
