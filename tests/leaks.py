"""The proof, at the end of every test, that no task of this library and no socket is left."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

FILE_DESCRIPTORS = Path("/proc/self/fd")


def run_watched(test: Callable[[], Awaitable[object]], **options: Any) -> None:
    """`trio.run` that fails where something is left."""
    before = open_sockets()
    trio.run(partial(run_and_count_tasks, test), **options)
    left = open_sockets() - before
    assert not left, f"sockets are still open: {left}"


async def run_and_count_tasks(test: Callable[[], Awaitable[object]]) -> None:
    await test()
    root = trio.lowlevel.current_root_task()
    assert root is not None
    left = [task.name for task in tasks_below(root) if task.name.startswith("trio_extreme")]
    assert not left, f"tasks are still running: {left}"


def tasks_below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from tasks_below(child)


def open_sockets() -> set[str]:
    """The sockets this process has open; none where the system has no /proc to tell."""
    if not FILE_DESCRIPTORS.exists():
        return set()
    # The listing's own descriptor is among those it lists, and gone when it is looked at.
    targets = [str(path.readlink()) for path in FILE_DESCRIPTORS.iterdir() if path.is_symlink()]
    return {target for target in targets if target.startswith("socket:")}
