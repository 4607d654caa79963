"""What the demo did, as it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trio_extreme.cli.lines import dump
from trio_extreme.cli.running import counted

if TYPE_CHECKING:
    from trio_extreme.cli.story import Step, Story


def json_report(story: Story, server: str) -> bytes:
    """One line of JSON."""
    line = {
        "repository": story.repository,
        "server": server,
        "commits": len(story.ledger),
        "authors": len(story.ledger.authors),
        "stream": story.stream,
        "steps": [
            {"name": step.name, "events": step.events, "bytes": step.bytes, "seconds": round(step.seconds, 6)}
            for step in story.steps
        ],
        "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in story.checks],
        "ok": story.ok,
    }
    return dump(line) + b"\n"


def table_report(story: Story) -> bytes:
    """A table of what was done, and under it what is true of it."""
    console = Console(width=Console().width, force_terminal=True, highlight=False)
    with console.capture() as capture:
        console.print(_table(story))
        for check in story.checks:
            console.print(
                _mark(ok=check.ok).append(check.name, "default").append(f": {check.detail}" if check.detail else "")
            )
        console.print(_verdict(story))
    return capture.get().encode()


def _table(story: Story) -> Table:
    title = (
        f"{story.repository}: {counted(len(story.ledger), 'commit')} by {counted(len(story.ledger.authors), 'author')}"
    )
    table = Table("step", title=Text(title), title_style="bold", box=box.SIMPLE)
    for heading in ("events", "seconds", "events/s", "MB/s"):
        table.add_column(heading, justify="right")
    for step in story.steps:
        table.add_row(step.name, f"{step.events:,}", f"{step.seconds:.3f}", *_rates(step))
    return table


def _rates(step: Step) -> tuple[str, str]:
    if not step.seconds or not step.events:
        return "", ""
    return f"{step.events / step.seconds:,.0f}", f"{step.bytes / step.seconds / 1e6:.1f}"


def _mark(*, ok: bool) -> Text:
    return Text("  ok      ", "green") if ok else Text("  FAILED  ", "bold red")


def _verdict(story: Story) -> Text:
    good = f"{counted(len(story.ledger), 'commit')} came back whole: the hashes of what was read are git's own."
    return Text("\n" + (good if story.ok else "Not all came back as it was appended."), "bold")
