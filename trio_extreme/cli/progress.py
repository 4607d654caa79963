"""How far a command has come, on standard error: a bar where that is a terminal, else nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from trio_extreme.cli.running import is_watched

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class ProgressBar:
    """A bar a step. What is counted are things, or with `percent` what nobody wants to read as a number."""

    def __init__(self, *, percent: bool = False, hidden: bool = False) -> None:
        count = TaskProgressColumn() if percent else MofNCompleteColumn()
        columns = (TextColumn("{task.description:<28}", markup=False), BarColumn(), count, TimeElapsedColumn())
        disable = hidden or not is_watched()
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=disable)
        self._task = self._progress.add_task("", total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, name: str, total: int | None) -> None:
        """The next step, and how much it has; None where nobody knows."""
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=total)

    def show(self, done: int) -> None:
        """So much is done."""
        self._progress.update(self._task, completed=done)
