"""Cancelling at each step: of one task, or of everything that runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task has come to its n-th rest since this was added; `tasks` None counts all of them.

    At that moment the task waits at its checkpoint, so that each checkpoint is cancelled, and each place between two
    of them where some other task moves.
    """

    def __init__(self, step: int, scope: trio.CancelScope, task: trio.lowlevel.Task | None) -> None:
        self._left = step
        self._scope = scope
        self._task = task

    @property
    def reached(self) -> bool:
        """Whether there were so many steps."""
        return self._left <= 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._task is None or self._task is task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


@contextmanager
def cancelled_at(step: int, *, of_all: bool) -> Iterator[CancelAtStep]:
    """Cancel the body at a step of its own task, or of any task."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(step, scope, None if of_all else trio.lowlevel.current_task())
        trio.lowlevel.add_instrument(instrument)
        try:
            yield instrument
        finally:
            trio.lowlevel.remove_instrument(instrument)
