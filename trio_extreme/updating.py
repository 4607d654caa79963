"""Changing what others may change at the same time: read, change, write with the version that was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_extreme.errors import MetadataUnreadable, WrongExpectedVersion
from trio_extreme.operations.metadata import ReadMetadata, SetMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_extreme.calls import Calls
    from trio_extreme.metadata import StreamMetadata
    from trio_extreme.values import Credentials

ATTEMPTS = 20
"""Each that fails is somebody else's success, so that only a crowd makes so many."""


async def update_metadata(
    calls: Calls,
    stream: str,
    changes: Mapping[str, Any],
    *,
    require_master: bool,
    credentials: Credentials | None,
) -> StreamMetadata:
    """What is stored after the changes. Raises `WrongExpectedVersion` after so many attempts, and what the calls do."""
    calls.check_writable()
    deadline = calls.deadline()
    attempts = ATTEMPTS
    while True:
        read = ReadMetadata(stream, require_master=require_master)
        stored = await calls.call(read, credentials, deadline=deadline)
        if stored.problem is not None:
            raise MetadataUnreadable(stream, stored.version, stored.problem)
        wanted = stored.changed(changes)
        # Not the values: True equals 1 to Python, and to nobody who reads JSON.
        if wanted.to_json() == stored.to_json():
            return stored
        write = SetMetadata(stream, wanted, stored.version, require_master=require_master)
        attempts -= 1
        try:
            written = await calls.call(write, credentials, deadline=deadline)
        except WrongExpectedVersion:
            if not attempts:
                raise
        else:
            return wanted.replace(version=written.last)
