"""What the node writes down of its groups, in streams of its own, as real servers do (docs/protocol.md, 3.10). Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trio_extreme.embedded.metadata import META, dump
from trio_extreme.embedded.reading import read_forward, resolve
from trio_extreme.embedded.records import JSON, LINK_TYPE, METADATA_TYPE, WIDE_TOMBSTONE
from trio_extreme.embedded.store import Written
from trio_extreme.values import ANY
from trio_extreme.wire import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trio_extreme.embedded.groups_consumers import Message
    from trio_extreme.embedded.reading import StreamPage
    from trio_extreme.embedded.records import Record, Resolved
    from trio_extreme.embedded.store import Store
    from trio_extreme.embedded.subscriptions import Hub

CONFIGURATION = "$persistentSubscriptionConfig"
"""The stream whose last event says which groups there are."""
CHECKPOINT_TYPE, CONFIGURATION_TYPE = "SubscriptionCheckpoint", "PersistentConfig1"

_KEYS = {
    "event_stream_id": "stream",
    "subscription_group_name": "group",
    "resolve_link_tos": "resolveLinkTos",
    "record_statistics": "extraStatistics",
    "message_timeout_milliseconds": "messageTimeout",
    "start_from": "startFrom",
    "live_buffer_size": "liveBufferSize",
    "buffer_size": "historyBufferSize",
    "max_retry_count": "maxRetryCount",
    "read_batch_size": "readBatchSize",
    "prefer_round_robin": "preferRoundRobin",
    "checkpoint_after_time": "checkPointAfter",
    "checkpoint_min_count": "minCheckPointCount",
    "checkpoint_max_count": "maxCheckPointCount",
    "subscriber_max_count": "maxSubscriberCount",
    "named_consumer_strategy": "namedConsumerStrategy",
}
"""What the stream of all groups calls the settings of one."""
_ADMINS = {"$acl": dict.fromkeys(("$r", "$w", "$d", "$mr", "$mw"), "$admins")}
"""The rights on parked events, once some were replayed."""
_INT64 = 2**63 - 1


class Notebook:
    """Reads and writes the streams of all groups of a node."""

    def __init__(self, store: Store, hub: Hub) -> None:
        self.store = store
        self._hub = hub

    def __repr__(self) -> str:
        return f"<Notebook of {self.store!r}>"

    # Which groups there are

    def groups(self) -> Sequence[schema.CreatePersistentSubscription]:
        """Those that are written down; none where that cannot be read."""
        last = self.store.storage.last_event(CONFIGURATION)
        return [] if last is None else _parse_configuration(last.event.data)

    def write_groups(self, groups: Iterable[schema.CreatePersistentSubscription], login: str) -> None:
        """Write them down; `login` is who changed something about them."""
        document = {
            "version": "2",
            "updated": self._today(),
            "updatedBy": login,
            "entries": [_entry(group) for group in groups],
        }
        self._write(CONFIGURATION, CONFIGURATION_TYPE, _indented(document), is_json=True)

    # Where a group is

    def checkpoint(self, key: str) -> int | None:
        """The last event that the group has handled, with all before it, as far as that was written down."""
        stream = checkpoint_stream(key)
        last = None if self._is_gone(stream) else self.store.storage.last_event(stream)
        try:
            number = None if last is None else int(json.loads(last.event.data))
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None
        return number if number is not None and 0 <= number <= _INT64 else None

    def write_checkpoint(self, key: str, number: int) -> None:
        """Write down that the group has come so far."""
        value: int | str = str(number) if self.store.version.writes_checkpoints_as_text else number
        self._write(checkpoint_stream(key), CHECKPOINT_TYPE, json.dumps(value).encode(), is_json=True)

    # What a group has parked

    def park(self, key: str, message: Message, reason: str) -> None:
        """Put a link to the event aside. Where the stream for that was deleted for ever, it is lost, as on servers."""
        noted: dict[str, object] = {"added": self._today(), "reason": reason}
        if message.number:
            # A 0 goes without saying.
            noted["subscriptionEventNumber"] = message.number
        self._write(parked_stream(key), LINK_TYPE, _link_to(message), _indented(noted))

    def parked(self, key: str, stop_at: int | None) -> Iterator[Resolved]:
        """What was parked and not replayed yet, up to the parked event of this number."""
        stream = parked_stream(key)
        end = self.store.last_number(stream) if stop_at is None else stop_at - 1
        place = 0
        while place <= end:
            page = read_forward(self.store, stream, place, min(end - place + 1, 500))
            yield from (resolve(self.store, record) for record in page.records)
            if page.is_end:
                break
            place = page.next

    def mark_replayed(self, key: str, number: int) -> None:
        """Hide the parked events below this number."""
        metadata = dump({"$tb": number, **_ADMINS})
        self._write(META + parked_stream(key), METADATA_TYPE, metadata, is_json=True)

    def forget(self, key: str) -> None:
        """Soft-delete what was written down of a group."""
        for stream in (checkpoint_stream(key), parked_stream(key)):
            if self.store.last_number(stream) not in (-1, WIDE_TOMBSTONE):
                outcome = self.store.delete(stream, ANY, hard=False)
                self._hub.publish(outcome.records if isinstance(outcome, Written) else ())

    # What a group is fed with

    def page(self, stream: str, start: int, count: int) -> StreamPage:
        """Events of a stream."""
        return read_forward(self.store, stream, start, count)

    def resolved(self, record: Record) -> Resolved:
        """Where a link leads."""
        return resolve(self.store, record)

    def _is_gone(self, stream: str) -> bool:
        return self.store.last_number(stream) == WIDE_TOMBSTONE or self.store.is_soft_deleted(stream)

    def _today(self) -> str:
        return datetime.fromtimestamp(self.store.now() / 1_000_000, UTC).isoformat(timespec="microseconds")

    def _write(self, stream: str, type_: str, data: bytes, metadata: bytes = b"", *, is_json: bool = False) -> None:
        new = schema.NewEvent(
            event_id=self.store.new_id(),
            event_type=type_,
            data_content_type=JSON if is_json else 0,
            data=data,
            metadata=metadata,
        )
        outcome = self.store.append(stream, ANY, [new])
        self._hub.publish(outcome.records if isinstance(outcome, Written) else ())


def checkpoint_stream(key: str) -> str:
    """Where a group's place is; a group's key is `stream::group`."""
    return f"$persistentsubscription-{key}-checkpoint"


def parked_stream(key: str) -> str:
    """Where links to its parked events are."""
    return f"$persistentsubscription-{key}-parked"


def _link_to(message: Message) -> bytes:
    if message.event is None:
        # A dead link is parked as what it is.
        return message.resolved.record.event.data
    return f"{message.event.number}@{message.event.stream}".encode()


def _indented(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode(errors="backslashreplace")


def _entry(group: schema.CreatePersistentSubscription) -> dict[str, Any]:
    """What of its settings does not go without saying."""
    return {key: value for field, key in _KEYS.items() if (value := getattr(group, field))}


def _parse_configuration(data: bytes) -> Sequence[schema.CreatePersistentSubscription]:
    try:
        return [_parse_entry(entry) for entry in json.loads(data)["entries"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        # Somebody wrote it who is no server. A server that starts with this logs it, and has no groups.
        return []


def _parse_entry(entry: dict[str, Any]) -> schema.CreatePersistentSubscription:
    settings: dict[str, Any] = {field: entry[key] for field, key in _KEYS.items() if key in entry}
    return schema.CreatePersistentSubscription(**settings)
