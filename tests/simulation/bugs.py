"""Planted bugs: each breaks the library in one place while it lasts, as others were broken, or this one was before.

They show that the simulation sees. Each has a seed that finds it, and that finds nothing without it.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import trio

from trio_extreme import calls
from trio_extreme.calls import Calls
from trio_extreme.catching_up import CatchUpSubscription
from trio_extreme.embedded.connection import Connection as NodeConnection
from trio_extreme.embedded.groups_consumers import Consumer
from trio_extreme.embedded.groups_running import Group
from trio_extreme.errors import StreamDeleted
from trio_extreme.events import TOMBSTONE_TYPE, Events, LogEvent, PersistentEvent, PushedEvent
from trio_extreme.feeds import Feeds
from trio_extreme.filtered import FilteredSubscription
from trio_extreme.line import Line
from trio_extreme.mailbox import Mailbox
from trio_extreme.notices import CaughtUp, Checkpoint
from trio_extreme.operations.base import Resend
from trio_extreme.operations.filtered_following import FilteredLogTrack
from trio_extreme.operations.following import LogTrack, StreamTrack
from trio_extreme.operations.persistent import Connect, Settlements
from trio_extreme.operations.transactions import CommitTransaction, WriteTransaction
from trio_extreme.operations.writing import Append
from trio_extreme.outbox import Outbox
from trio_extreme.persistent import PersistentSubscription
from trio_extreme.session import Session
from trio_extreme.subscriptions import SingleSubscription
from trio_extreme.transactions import Transaction
from trio_extreme.values import ANY, NO_STREAM, Position
from trio_extreme.window import Window
from trio_extreme.wire.schema import WriteEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from trio_extreme.pending import Slot

BUGS: dict[str, Callable[[], AbstractContextManager[None]]] = {}
"""All of them, by name."""

WITH_A_FILE = ("answered_before_the_commit",)
"""Those of a node that keeps its log in a file."""


def planted(name: str) -> AbstractContextManager[None]:
    """The library with this bug; as it is for an empty name."""
    return BUGS[name]() if name else nullcontext()


def bug(function: Callable[[], Iterator[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Make a context manager of it, and put it among the others."""
    manager = contextmanager(function)
    BUGS[function.__name__] = manager
    return manager


# --- catching up


@bug
def no_second_read() -> Iterator[None]:
    """What was written between the last page and the confirmation is taken for read."""

    def aim_stream(self: StreamTrack, confirmation: Any) -> None:
        self.next = max(self.next, confirmation.last_number + 1)

    def aim_log(self: LogTrack, confirmation: Any) -> None:
        self.next = self.place = max(self.place, Position(confirmation.last_commit, confirmation.last_commit))

    with patch.object(StreamTrack, "aim", aim_stream), patch.object(LogTrack, "aim", aim_log):
        yield


@bug
def place_of_what_was_buffered() -> Iterator[None]:
    """What still waits in the mailbox when its feed ends counts as handed out."""
    listen = CatchUpSubscription._listen

    async def listen_to_the_end(self: CatchUpSubscription[Any]) -> None:
        if self._feed.mailbox.ended and (messages := self._read_pushed(_drain(self._feed.mailbox))[0]):
            self._track.take_pushed(messages)
        await listen(self)

    with patch.object(CatchUpSubscription, "_listen", listen_to_the_end):
        yield


@bug
def old_queue_beside_the_new() -> Iterator[None]:
    """What still waits in the mailbox when its feed ends is handed out, and pages bring it again."""
    listen = CatchUpSubscription._listen

    async def listen_to_the_end(self: CatchUpSubscription[Any]) -> None:
        if self._feed.mailbox.ended and (messages := self._read_pushed(_drain(self._feed.mailbox))[0]):
            self._out.append(Events(PushedEvent if self._stream else LogEvent, messages))
        await listen(self)

    with patch.object(CatchUpSubscription, "_listen", listen_to_the_end):
        yield


@bug
def inclusive_after_reconnect() -> Iterator[None]:
    """A page of the log that begins with the last event handed out brings it again."""

    def take_page(self: LogTrack, page: Any) -> Any:
        self.next = page.next
        if page.events:
            self.place = page.events[-1].position
        return page.events

    with patch.object(LogTrack, "take_page", take_page):
        yield


@bug
def caught_up_twice() -> Iterator[None]:
    """The end of the pages is told as having caught up, and so is the beginning of what is pushed."""
    accept = CatchUpSubscription._accept

    def tell(self: CatchUpSubscription[Any], page: Any) -> None:
        accept(self, page)
        if self._at_end and not self._live:
            self._out.append(CaughtUp())

    with patch.object(CatchUpSubscription, "_accept", tell):
        yield


@bug
def tombstone_ends_the_log() -> Iterator[None]:
    """The tombstone of any stream ends a subscription to all of them."""
    without_tombstone = SingleSubscription._without_tombstone

    def end(self: SingleSubscription[Any], messages: Any, ending: Any) -> Any:
        for index, message in enumerate(messages):
            if message.event.event_type == TOMBSTONE_TYPE:
                return messages[:index], StreamDeleted(self._stream)
        return without_tombstone(self, messages, ending)

    with patch.object(SingleSubscription, "_without_tombstone", end):
        yield


@bug
def unbounded_mailbox() -> Iterator[None]:
    """The mailbox takes in whatever comes."""
    init = Mailbox.__init__

    def boundless(self: Mailbox, max_events: int, max_bytes: int, on_overflow: Any) -> None:
        init(self, 10**9, 10**12, on_overflow)

    with patch.object(Mailbox, "__init__", boundless):
        yield


@bug
def exclusive_after_checkpoint() -> Iterator[None]:
    """Who goes on after a place between events leaves out the event that has come to be right there."""
    init = FilteredLogTrack.__init__

    def leave_out(self: FilteredLogTrack, place: Position, *args: Any, **options: Any) -> None:
        init(self, Position(place.commit, place.commit) if place.inclusive else place, *args, **options)

    with patch.object(FilteredLogTrack, "__init__", leave_out):
        yield


@bug
def place_told_before_its_events() -> Iterator[None]:
    """A place between events is told as soon as it is known, while events before it still wait to be handed out."""

    def tell_at_once(self: FilteredSubscription, least: int) -> None:
        place = self._filtered.checkpoint(least)
        if place is not None:
            self._out.insert(0, Checkpoint(place))

    with patch.object(FilteredSubscription, "_tell_place", tell_at_once):
        yield


@bug
def all_that_is_pushed_matches() -> Iterator[None]:
    """What a server pushes that does not filter is not sifted."""

    def take_all(self: FilteredLogTrack, messages: Any) -> Any:
        return self._take_matching(messages)

    with patch.object(FilteredLogTrack, "take_pushed", take_all):
        yield


# --- live subscriptions


@bug
def gap_told_only_once() -> Iterator[None]:
    """The possible gap of the first reconnect is told, and none of the later ones."""
    opened = Mailbox.opened
    told: list[Mailbox] = []

    def once(self: Mailbox, frame: Any, *, again: bool) -> None:
        if again and self not in told:
            told.append(self)
            opened(self, frame, again=again)

    with patch.object(Mailbox, "opened", once):
        yield


@bug
def deaf_after_reconnect() -> Iterator[None]:
    """The new session does not subscribe again."""
    with patch.object(Feeds, "connected", lambda self: None):
        yield


# --- writing


@bug
def resent_with_new_ids() -> Iterator[None]:
    """An append whose session died is sent again as if its events were new ones."""
    silence = Calls._silence

    def renew(self: Calls, slot: Slot[Any], cause: Any) -> None:
        if slot.sent and isinstance(slot.operation, Append):
            message = WriteEvents.FromString(slot.payload)
            for event in message.events:
                event.event_id = bytes(255 - byte for byte in event.event_id)
            slot.payload = message.SerializeToString()
        silence(self, slot, cause)

    with patch.object(Calls, "_silence", renew):
        yield


@bug
def any_resent_without_looking() -> Iterator[None]:
    """An append with ANY whose session died is sent again, and the node may have forgotten its ids."""
    init = Append.__init__

    def trust_the_node(self: Append, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.resend = Resend.SAME_IDS

    with patch.object(Append, "__init__", trust_the_node):
        yield


@bug
def no_stream_taken_for_a_number() -> Iterator[None]:
    """An append with NO_STREAM is sent again like one with a number, though its stream may have come and gone."""
    init = Append.__init__

    def trust_the_version(self: Append, stream: str, events: Any, expected: int, **options: Any) -> None:
        init(self, stream, events, expected, **options)
        if expected == NO_STREAM:
            self.resend = Resend.SAME_IDS

    with patch.object(Append, "__init__", trust_the_version):
        yield


@bug
def committed_after_an_error() -> Iterator[None]:
    """The block of a transaction that ends by an error commits what there is."""
    leave = Transaction.__aexit__

    async def commit(self: Transaction, kind: Any, error: Any, traceback: Any) -> None:
        await leave(self, None, None, None)

    with patch.object(Transaction, "__aexit__", commit):
        yield


@bug
def committed_in_doubt() -> Iterator[None]:
    """Who handles the error of a write that got no answer may commit the transaction all the same."""
    write = Transaction.write

    async def take_for_certain(self: Transaction, events: Any) -> None:
        try:
            await write(self, events)
        finally:
            self._certain = True

    with patch.object(Transaction, "write", take_for_certain):
        yield


@bug
def any_commit_sent_again() -> Iterator[None]:
    """The commit of a transaction that was begun with ANY is sent again, and the node may have forgotten its ids."""
    init = CommitTransaction.__init__

    def trust_the_node(self: CommitTransaction, transaction: int, begun: Any, *args: Any, **options: Any) -> None:
        init(self, transaction, begun, *args, **options)
        if begun is not None and begun.expected == ANY:
            self.resend = Resend.SAME_IDS

    with patch.object(CommitTransaction, "__init__", trust_the_node):
        yield


@bug
def written_to_a_transaction_twice() -> Iterator[None]:
    """A write to a transaction that got no answer is sent again."""
    init = WriteTransaction.__init__

    def repeat(self: WriteTransaction, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.resend = Resend.AGAIN

    with patch.object(WriteTransaction, "__init__", repeat):
        yield


@bug
def sent_for_the_cancelled() -> Iterator[None]:
    """What waits to be sent is sent, whether its caller is still there or not."""

    def forget(self: Line, slot: Slot[Any]) -> None:
        if self._session is not None:
            self._session._slots.pop(slot.correlation, None)

    with patch.object(Line, "forget", forget):
        yield


@bug
def doubt_forgotten() -> Iterator[None]:
    """An append that was sent and has got no answer in time is told as never sent."""

    def raise_for(self: Calls, slot: Slot[Any], error: Exception) -> None:
        raise error

    with patch.object(Calls, "_raise_for", raise_for):
        yield


# --- groups


@bug
def acked_by_the_targets_id() -> Iterator[None]:
    """The ack of an event that came by a link names the event, and not the link."""
    init = PersistentEvent.__init__

    def name_the_target(self: PersistentEvent, resolved: Any, *args: Any) -> None:
        init(self, resolved, *args)
        self.ack_id_bytes = self._record.event_id

    with patch.object(PersistentEvent, "__init__", name_the_target):
        yield


@bug
def acked_with_the_groups_name() -> Iterator[None]:
    """An ack has the name of the group where the server wants the one that it confirmed."""
    init = Settlements.__init__

    def name_the_group(self: Settlements, subscription_id: str) -> None:
        init(self, subscription_id.partition("::")[2])

    with patch.object(Settlements, "__init__", name_the_group):
        yield


@bug
def acks_lost_on_leaving() -> Iterator[None]:
    """What was said and has not left yet when the block ends is forgotten."""
    close = Window.close

    def forget(self: Window) -> None:
        if self.lease is not None:
            self.lease.said.clear()
        close(self)

    with patch.object(Window, "close", forget):
        yield


@bug
def said_of_what_a_dead_session_gave() -> Iterator[None]:
    """An ack of an event that came before a reconnect is sent as if it had come by the new connection."""

    def say_it_all_the_same(self: PersistentSubscription, events: Any, *, handled: bool) -> Any:
        del handled
        return [event.ack_id_bytes for event in events]

    with patch.object(PersistentSubscription, "_settle", say_it_all_the_same):
        yield


@bug
def place_leaked_with_each_reconnect() -> Iterator[None]:
    """A consumer of a group that connects again takes a place behind the door, and gives none back."""
    adopt = Calls.adopt

    def take_another(self: Calls, slot: Slot[Any]) -> None:
        if isinstance(slot.operation, Connect):
            self.door.admit(0)
        adopt(self, slot)

    with patch.object(Calls, "adopt", take_another):
        yield


# --- the node


@bug
def more_out_than_asked_for() -> Iterator[None]:
    """A node pushes a group's events to a consumer whose window is full."""
    push = Consumer.push

    def squeeze(self: Consumer, message: Any) -> bool:
        self.room = max(self.room, 1)
        return push(self, message)

    with patch.object(Consumer, "push", squeeze):
        yield


@bug
def checkpoint_ahead() -> Iterator[None]:
    """A node takes for a group's place what it has handed out, whether that was handled or not."""
    with patch.object(Group, "_find_place", lambda self: self.last_number):
        yield


@bug
def answered_before_the_commit() -> Iterator[None]:
    """A node with a file answers what is not on its disk yet."""

    def queue(self: NodeConnection, frame: bytes) -> None:
        self._queue.append(frame)
        self._unsent += len(frame)
        self._idle_writer.unpark()

    with patch.object(NodeConnection, "queue", queue):
        yield


# --- sessions


@bug
def buffer_kept_across_sessions() -> Iterator[None]:
    """Half a frame of the last session stands before the first bytes of the next."""
    init = Session.__init__
    buffers: dict[Any, Any] = {}

    def keep(self: Session, stream: Any, settings: Any, counters: Any, *args: Any, **options: Any) -> None:
        init(self, stream, settings, counters, *args, **options)
        self._buffer = buffers.setdefault(counters, self._buffer)

    with patch.object(Session, "__init__", keep):
        yield


@bug
def heartbeats_behind_requests() -> Iterator[None]:
    """What is urgent waits its turn among the requests."""

    def put_last(self: Outbox, frame: bytes) -> None:
        self._put.send_nowait(_Disguised(frame))  # type: ignore[arg-type]

    with patch.object(Outbox, "put_urgent", put_last):
        yield


@bug
def silence_not_noticed() -> Iterator[None]:
    """Nobody watches whether the server still says anything."""

    async def doze(self: Session) -> None:
        await trio.sleep_forever()

    with patch.object(Session, "_watch", doze):
        yield


@bug
def place_behind_the_door_lost() -> Iterator[None]:
    """Who is cancelled does not give back the place behind the door."""
    abandon = Calls.abandon

    def keep_inside(self: Calls, slot: Slot[Any]) -> None:
        slot.inside = slot.inside and slot.settled
        abandon(self, slot)

    with patch.object(Calls, "abandon", keep_inside):
        yield


@bug
def id_used_again() -> Iterator[None]:
    """An attempt has the correlation id of the one before, so that a late answer to that one finds it."""
    submit = Session.submit

    def keep_id(self: Session, slot: Slot[Any]) -> None:
        before = slot.correlation
        if any(before):
            self._next_correlation, following = (lambda: before), self._next_correlation
            submit(self, slot)
            self._next_correlation = following
        else:
            submit(self, slot)

    with patch.object(Session, "submit", keep_id):
        yield


@bug
def handed_over_after_the_end() -> Iterator[None]:
    """The writer sends what was handed to it when its session had just ended, though the next one sends it too."""
    close = Outbox.close

    def close_softly(self: Outbox) -> None:
        close(self)
        self._closed = False

    with patch.object(Outbox, "close", close_softly):
        yield


@bug
def last_come_first_sent() -> Iterator[None]:
    """A new session sends what waits for it in the wrong order."""
    serial = calls._serial

    with patch.object(calls, "_serial", lambda slot: -serial(slot)):
        yield


class _Disguised:
    """A frame that looks like a request to the writer."""

    queued = gone = False
    error = None
    operation = SimpleNamespace(prompt=False)

    def __init__(self, frame: bytes) -> None:
        self.payload = frame
        self.size = len(frame)

    def head(self) -> bytes:
        """It has its own."""
        return b""


def _drain(mailbox: Mailbox) -> list[Any]:
    """All that waits in a mailbox."""
    frames: list[Any] = []
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            frames += mailbox._receive.receive_nowait()
    mailbox.events = mailbox.bytes = 0
    return frames
