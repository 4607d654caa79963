"""What was noted about an event when it was put aside: JSON in the metadata of the link that stands for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_extreme.events import Event, RecordedEvent


def link_of(event: Event) -> RecordedEvent:
    """What stands in the stream that was read: the link, or the event itself where somebody else wrote it there."""
    return event if event.link is None else event.link


def noted(link: RecordedEvent, *keys: str) -> dict[str, str | None]:
    """What it says under these keys; None where that is no text. Anybody may have written it."""
    try:
        found = json.loads(link.metadata)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        found = {}
    return {key: _text(found.get(key)) for key in keys}


def _text(value: object) -> str | None:
    """As UTF-8 can say it: JSON can hold half of a surrogate pair."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else None
