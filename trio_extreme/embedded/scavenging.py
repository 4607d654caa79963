"""Scavenging: taking out of the log what nobody can read any more (docs/protocol.md, 3.11). Pure.

Numbers and positions stay what they are, and so does the last event of each stream, for its number is the stream's.
Real servers leave the newest part of their log as it is, and do it bit by bit; this does all of it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from trio_extreme.embedded.acl import ADMINS, OPERATORS
from trio_extreme.embedded.reading import alive, first_visible
from trio_extreme.embedded.records import WIDE_TOMBSTONE
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trio_extreme.embedded.clients import Request
    from trio_extreme.embedded.records import Record
    from trio_extreme.embedded.store import Store

_Finished = schema.ScavengeDatabaseCompleted.ScavengeResult
_Started = schema.ScavengeDatabaseResponse.ScavengeResult
_PAGE = 4096
"""Events looked at at a time."""
_AT_ONCE = 50_000
"""Events taken out at a time."""


class Scavenging:
    """The handler of ScavengeDatabase."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def scavenge(self, request: Request) -> None:
        """ScavengeDatabase. Servers up to 4.1 answer when they have finished, later ones when they have begun."""
        identity = request.identity
        is_allowed = identity is not None and not identity.roles.isdisjoint((ADMINS, OPERATORS))
        reports = self._store.version.reports_end_of_scavenge
        reply = self._report(is_allowed=is_allowed) if reports else self._begin(is_allowed=is_allowed)
        request.reply(Command.SCAVENGE_DATABASE_COMPLETED, reply)

    def _report(self, *, is_allowed: bool) -> schema.ScavengeDatabaseCompleted:
        # It takes a moment, even to say no.
        reply = schema.ScavengeDatabaseCompleted(result=_Finished.Success, total_time_ms=1, total_space_saved=0)
        if is_allowed:
            reply.total_space_saved = scavenge(self._store)
        else:
            reply.result, reply.error = _Finished.Failed, "Access denied."
        return reply

    def _begin(self, *, is_allowed: bool) -> schema.ScavengeDatabaseResponse:
        if not is_allowed:
            return schema.ScavengeDatabaseResponse(result=_Started.Unauthorized)
        scavenge(self._store)
        scavenge_id = str(UUID(bytes=self._store.new_id()))
        return schema.ScavengeDatabaseResponse(result=_Started.Started, scavengeId=scavenge_id)


def scavenge(store: Store) -> int:
    """Take out what `$tb`, `$maxCount`, `$maxAge` and hard deletion hide; how many bytes of the log that was."""
    hidden: list[Record] = []
    saved = 0
    for stream in store.storage.streams():
        for record in _hidden(store, stream):
            hidden.append(record)
            saved += record.end - record.position
            if len(hidden) == _AT_ONCE:
                store.storage.remove(hidden)
                hidden = []
    if hidden:
        store.storage.remove(hidden)
    return saved


def _hidden(store: Store, stream: str) -> Iterator[Record]:
    """The events of a stream that nobody can read. Behind a tombstone not even the last one is needed."""
    last = store.storage.last_event(stream)
    if last is None:
        return
    stays = -1 if store.storage.last_number(stream) == WIDE_TOMBSTONE else last.number
    is_deleted = store.last_number(stream) == WIDE_TOMBSTONE
    least = WIDE_TOMBSTONE if is_deleted else first_visible(store.metadata(stream), last.number)
    ages = store.metadata(stream).max_age is not None
    end = last.number if ages else min(least, last.number + 1) - 1
    for first in range(0, end + 1, _PAGE):
        records = store.storage.events(stream, first, min(first + _PAGE - 1, end))
        yield from _below(store, stream, records, least, stays)


def _below(store: Store, stream: str, records: Sequence[Record], least: int, stays: int) -> Iterator[Record]:
    young = {record.number for record in alive(store, store.metadata(stream), records)}
    for record in records:
        if record.number != stays and (record.number < least or record.number not in young):
            yield record
