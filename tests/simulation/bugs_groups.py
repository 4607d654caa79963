"""Planted bugs of groups, and of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tests.simulation.planting import bug
from trio_extreme.calls import Calls
from trio_extreme.embedded.connection import Connection as NodeConnection
from trio_extreme.embedded.groups_consumers import Consumer
from trio_extreme.embedded.groups_running import Group
from trio_extreme.operations import handing
from trio_extreme.operations.persistent import Connect, Settlements
from trio_extreme.persistent import PersistentSubscription, _flat
from trio_extreme.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_extreme.pending import Slot


# --- groups


@bug
def acked_by_the_targets_id() -> Iterator[None]:
    """The ack of an event that came by a link names the event, and not the link."""
    columns = handing._columns

    def name_the_target(messages: Any) -> Any:
        _, numbers, records, links = columns(messages)
        ids = [record.event_id or link.event_id for record, link in zip(records, links, strict=True)]
        return ids, numbers, records, links

    with patch.object(handing, "_columns", name_the_target):
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
        return [event.ack_id_bytes for event in _flat(events)]

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
