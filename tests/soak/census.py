"""What a process holds: its tasks, descriptors, objects and memory, counted when it is quiet."""

from __future__ import annotations

import gc
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.leaks import FILE_DESCRIPTORS, tasks_below

STATUS = Path("/proc/self/status")
ROUNDS = 3
"""Collections until nothing is left that waits for one: what ends frees others."""


@dataclass(frozen=True)
class Census:
    """What was there at one moment. Descriptors and memory are 0 where there is no /proc to tell."""

    tasks: Counter[str]
    descriptors: int
    #: By type, those that the collector tracks.
    objects: Counter[str]
    #: All objects and more, in the allocator's own count.
    blocks: int
    resident: int
    peak: int


def take_census() -> Census:
    """Count all there is in this process; to be called within Trio."""
    for _ in range(ROUNDS):
        gc.collect()
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return Census(
        tasks=Counter(task.name for task in tasks_below(root)),
        descriptors=count_descriptors(),
        objects=Counter(_name_of(type(found)) for found in gc.get_objects()),
        blocks=sys.getallocatedblocks(),
        resident=memory("VmRSS"),
        peak=memory("VmHWM"),
    )


def _name_of(kind: type) -> str:
    # One copy for all censuses, or the first would be in the second.
    return sys.intern(f"{kind.__module__}.{kind.__qualname__}")


def count_descriptors() -> int:
    """The descriptors this process has open, the one that lists them left out."""
    return len(list(FILE_DESCRIPTORS.iterdir())) - 1 if FILE_DESCRIPTORS.exists() else 0


def memory(name: str) -> int:
    """Bytes of memory, as Linux names them: VmRSS is what is resident now, VmHWM the most there ever was."""
    if not STATUS.exists():
        return 0
    match = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    assert match is not None
    return int(match[1]) * 1024
