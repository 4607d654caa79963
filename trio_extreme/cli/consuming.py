"""`trio-extreme watch --group`: events as a consumer of a group, each acked when it was printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_extreme.cli import output
from trio_extreme.cli.lines import with_keys
from trio_extreme.cli.running import notice
from trio_extreme.client import open_connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio_extreme.cli.connecting import Target
    from trio_extreme.cli.views import ViewOptions
    from trio_extreme.events import PersistentEvent


async def consume(target: Target, group: str, in_flight: int, count: int | None, view: ViewOptions) -> None:
    """Print what the group hands out, and ack what was printed; `count` events, or for ever."""
    left = count
    async with (
        open_connection(target.settings) as conn,
        conn.subscribe_persistent(target.stream, group, in_flight=in_flight) as events,
    ):
        notice(f"consuming {target.stream} at {target.address} for group {group}; Ctrl-C ends")
        async for batch in events.batches():
            printed = batch[:left]
            await output.write(_show(printed, view))
            await events.ack(printed)
            if left is not None:
                left -= len(printed)
                if not left:
                    return


def _show(events: Sequence[PersistentEvent], view: ViewOptions) -> bytes:
    if not view.is_json:
        return view.show(events)
    return b"".join(with_keys(view.view(event), retry_count=event.retry_count) for event in events)
