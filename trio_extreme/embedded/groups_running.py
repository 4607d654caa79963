"""One group while the node runs: what it reads, hands out, and is told (docs/protocol.md, 3.10). Pure.

Rule 1: a group is live, or it reads. Live, it takes what is written, as long as it has room for it; then it reads that
later, a page at a time, as room comes, until it has come to the end. Real servers wait for their pages and keep what is
written meanwhile, at most `live_buffer_size` events; here a page is there at once, so there is nothing to keep.
Rule 2: an event is in one place: with nobody yet, in the backlog, or outstanding. It leaves the group when it is acked,
skipped or parked.
Rule 3: after whatever makes room, the place is noted, more is read, and what waits is handed out.
Rule 4: a connection may break over the very event that it is handed, as faults have it. Its consumer takes part until
what was begun is handed out, as with real servers, where the news of that waits its turn.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from trio_extreme.embedded.groups_consumers import STRATEGIES, Message, Pushed, is_link_with_at
from trio_extreme.embedded.groups_waiting import Backlog, Outstanding
from trio_extreme.embedded.records import Resolved
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trio_extreme.embedded.groups_consumers import Consumer
    from trio_extreme.embedded.groups_records import Notebook
    from trio_extreme.embedded.records import Record

NakAction = schema.PersistentSubscriptionNakEvents.NakAction

_LARGEST_PAGE = 500
_USUAL_PAGE = 20
_PAGES_AT_ONCE = 100
"""Pages that are read in one go. Only a stream of which much has expired has more; that goes on at the next tick."""


class Group:
    """A group and its consumers. `clock` tells the seconds by which events are late and checkpoints due."""

    def __init__(
        self, settings: schema.CreatePersistentSubscription, notebook: Notebook, clock: Callable[[], float]
    ) -> None:
        version = notebook.store.version
        self.settings = settings
        #: What it is called in the node: `stream::group`.
        self.key = key_of(settings.event_stream_id, settings.subscription_group_name)
        self.consumers: list[Consumer] = []
        self.backlog = Backlog()
        self.outstanding = Outstanding(keeps_deadlines=version.keeps_deadlines)
        #: The highest number that was handed out.
        self.last_number = -1
        #: How far it had come when that was written down last.
        self.last_checkpoint = 0 if version.notes_what_is_not_handled else -1
        #: How many events it ever handed out, and since when it does.
        self.delivered = 0
        self.began = clock()
        self._notebook = notebook
        self._version = version
        self._clock = clock
        self._noted_at = -inf
        # Who left while events were being handed out, and whether they are.
        self._leaving: list[tuple[Sequence[Consumer], bool]] = []
        self._handing_out = False
        self._strategy = STRATEGIES[settings.named_consumer_strategy]()
        self._page_size = min(settings.read_batch_size, _LARGEST_PAGE) if settings.read_batch_size > 0 else _USUAL_PAGE
        self._timeout = self._seconds_to_ack()
        self._start()

    def __repr__(self) -> str:
        return f"<Group {self.key}: {len(self.consumers)} consumers, {self.outstanding!r}, {self.backlog!r}>"

    @property
    def stream(self) -> str:
        """The stream whose events it hands out."""
        return self.settings.event_stream_id

    @property
    def is_full(self) -> bool:
        """Whether there is no place for another consumer."""
        return 0 < self.settings.subscriber_max_count <= len(self.consumers)

    def _seconds_to_ack(self) -> float:
        milliseconds = self.settings.message_timeout_milliseconds
        return inf if milliseconds == 0 and self._version.waits_forever_for_0 else milliseconds / 1000

    def _start(self) -> None:
        checkpoint = self._notebook.checkpoint(self.key)
        start = self.settings.start_from
        #: Whether it takes what is written, and reads nothing.
        self.is_live = checkpoint is None and start < 0
        self._next = max(start, 0)
        if checkpoint is not None:
            self.last_checkpoint = self.last_number = checkpoint
            # Where a checkpoint is what was not handled yet, that comes again.
            self._next = checkpoint if self._version.notes_what_is_not_handled else checkpoint + 1
        self._read()

    @property
    def rate(self) -> float:
        """Events a second that it handed out since it began."""
        seconds = self._clock() - self.began
        return self.delivered / seconds if seconds > 0 else 0.0

    @property
    def last_known(self) -> int:
        """The number of the last event of its stream; -1 where it has none."""
        return self._notebook.store.last_number(self.stream)

    @property
    def parked(self) -> int:
        """How many events it has parked."""
        return sum(1 for _ in self._notebook.parked(self.key, None))

    # Consumers

    def join(self, consumer: Consumer) -> None:
        """Somebody new takes part, from the next `hand_out` on."""
        self.consumers.append(consumer)
        self._strategy.add(consumer)

    def leave(self, *consumers: Consumer, lost: bool = False) -> None:
        """These take part no more, because a connection was `lost` or they said so; others get what they had."""
        if self._handing_out:
            self._leaving.append((consumers, lost))
            return
        for consumer in consumers:
            self.consumers.remove(consumer)
            self._strategy.remove(consumer)
        held = [message for consumer in consumers for message in consumer.held.values()]
        for message in sorted(held, key=lambda held: held.number):
            if message.id in self.outstanding:
                if self._version.forgets_retries:
                    self._deliver_again(message._replace(retries=0))
                elif lost:
                    self._retry(message)
                else:
                    self._deliver_again(message)
        self.hand_out()

    def dismiss(self, consumer: Consumer) -> None:
        """Tell a consumer that it takes part no more; servers have one reason for everything. What it has gets late."""
        self.consumers.remove(consumer)
        self._strategy.remove(consumer)
        consumer.client.reply(Command.SUBSCRIPTION_DROPPED, consumer.correlation)

    # What consumers say

    def ack(self, ids: Iterable[bytes]) -> None:
        """These were handled. What is not outstanding is left aside."""
        for event_id in ids:
            self._release(event_id)
        self._go_on()

    def nak(self, ids: Iterable[bytes], action: NakAction, reason: str) -> None:
        """These were not handled. What is neither to be parked nor retried counts as handled, whatever it is called."""
        for event_id in ids:
            message = self.outstanding.get(event_id)
            if message is not None and action in (NakAction.Retry, NakAction.Unknown):
                self._retry(message)
            elif message is not None:
                if action == NakAction.Park:
                    self._notebook.park(self.key, message, f"Client explicitly NAK'ed message.\n{reason}")
                self._release(event_id)
        self._go_on()

    def _retry(self, message: Message) -> None:
        """Deliver it again, unless that was done too often: then park it."""
        most = self.settings.max_retry_count
        if message.retries < most:
            self._deliver_again(message)
        else:
            self._notebook.park(self.key, message, f"Reached retry count of {most}")
            self._release(message.id)

    def _deliver_again(self, message: Message) -> None:
        self._release(message.id)
        self.backlog.add_again(message._replace(retries=message.retries + 1))

    def _release(self, event_id: bytes) -> None:
        self.outstanding.remove(event_id)
        for consumer in self.consumers:
            consumer.release(event_id)

    def replay(self, stop_at: int | None = None) -> None:
        """Hand out again what was parked, up to the parked event of this number."""
        parked = list(self._notebook.parked(self.key, stop_at))
        for resolved in parked:
            self.backlog.add_again(Message(resolved, is_replayed=True))
        if parked:
            self._notebook.mark_replayed(self.key, parked[-1].record.number + 1)
        self.hand_out()

    # What time and the stream bring

    def tick(self) -> None:
        """A second has passed: look for what is late, and write down how far it is."""
        for message in list(self.outstanding.take_late(self._clock())):
            self._release(message.id)
            self._retry(message)
        self.hand_out()
        self._note_place(by_time=True)
        self._read()
        self.hand_out()

    def take(self, record: Record) -> None:
        """Something was written to the stream."""
        if not self.is_live or record.number < self.settings.start_from:
            return
        if self.backlog.new >= self.settings.buffer_size:
            self.is_live, self._next = False, record.number
        else:
            self._add(record, live=True)
        self.hand_out()

    def _add(self, record: Record, *, live: bool = False) -> None:
        resolved = Resolved(record)
        if self.settings.resolve_link_tos:
            loses = live and self._version.loses_live_links and is_link_with_at(record)
            # A link that is followed to nowhere.
            resolved = Resolved(record, is_followed=True) if loses else self._notebook.resolved(record)
        self.backlog.add(Message(resolved))

    def _read(self) -> None:
        """Read on, as long as there is room for a page, until the end."""
        for _ in range(_PAGES_AT_ONCE):
            has_room = self.settings.buffer_size - len(self.backlog) > self.settings.read_batch_size
            if self.is_live or not has_room:
                break
            page = self._notebook.page(self.stream, self._next, self._page_size)
            for record in page.records:
                self._add(record)
            self.is_live, self._next = page.is_end, page.next

    def _go_on(self) -> None:
        self._note_place(by_time=False)
        self._read()
        self.hand_out()

    def hand_out(self) -> None:
        """Give consumers what they have room for."""
        self._handing_out = True
        try:
            self.backlog.hand_out(self._push)
        finally:
            self._handing_out = False
        if self._leaving:
            consumers, lost = self._leaving.pop(0)
            self.leave(*consumers, lost=lost)

    def _push(self, message: Message) -> Pushed:
        pushed = self._strategy.push(message)
        if pushed is Pushed.SENT:
            self.delivered += 1
            self.outstanding.start(message, self._clock() + self._timeout)
            if not message.is_replayed:
                self.last_number = max(self.last_number, message.number)
        return pushed

    def _note_place(self, *, by_time: bool) -> None:
        """Write a checkpoint, if one is due: by the number of events handled since, or on the tick by time too."""
        settings = self.settings
        after = settings.checkpoint_after_time / 1000 or inf
        is_due = by_time and after < inf and self._clock() - self._noted_at >= after
        least = min(settings.checkpoint_min_count, settings.checkpoint_max_count) if is_due else None
        wanted = max(settings.checkpoint_max_count if least is None else least, 1)
        # The place is no higher than that, and to find it takes a look at all that is outstanding.
        if self.last_number - self.last_checkpoint < wanted:
            return
        place = self._find_place()
        if place - self.last_checkpoint >= wanted:
            self.last_checkpoint, self._noted_at = place, self._clock()
            self._notebook.write_checkpoint(self.key, place)

    def _find_place(self) -> int:
        """The last event that was handled with all before it; with some servers the first that was not."""
        waiting = [number for number in (self.outstanding.lowest(), self.backlog.lowest()) if number is not None]
        lowest = min(waiting, default=self.last_number + 1)
        if lowest > self.last_number:
            return self.last_number
        return lowest if self._version.notes_what_is_not_handled else lowest - 1


def key_of(stream: str, group: str) -> str:
    """What a group is called in the node."""
    return f"{stream}::{group}"
