"""What `benchmarks.compare` found, as tables and a picture: from the figures alone, so a test can make them again."""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from benchmarks.works import SIDES, SIZES, TARGETS, WORKS, Target, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

NAMES = "figures.json", "figures.md", "figures.svg"

_NOT_HERE = "not measured"
_MEGABYTE = 1_000_000


def figures(environment: dict[str, str], runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of all runs: of each client's work how many a second, how much memory, and who worked for it."""
    by_key: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        by_key[run["work"], run["size"], run["side"]].append(run)
    results = [_summary(key, some) for key, some in by_key.items()]
    return {"environment": environment, "results": results}


def _summary(key: tuple[str, int, str], runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    work, size, side = key
    result: dict[str, Any] = {"work": work, "size": size, "side": side, "count": runs[0]["count"], "rounds": len(runs)}
    failed = [run["failed"] for run in runs if "failed" in run]
    if failed:
        return {**result, "failed": failed[0]}
    result["memory"] = max(run["memory"] for run in runs)
    pings = [1000 * seconds for run in runs for seconds in run.get("pings", ())]
    if pings:
        hundredths = quantiles(pings, n=100, method="inclusive") if len(pings) > 1 else pings * 99
        return {**result, "milliseconds": [round(each, 1) for each in (hundredths[49], hundredths[98], max(pings))]}
    rates = sorted(run["count"] / run["seconds"] for run in runs)
    result["per_second"] = [round(rates[0]), round(median(rates)), round(rates[-1])]
    result["server"] = round(median(run["server"] / run["seconds"] for run in runs), 2)
    return result


class _Figures:
    """The results, to be looked up."""

    def __init__(self, figures: dict[str, Any]) -> None:
        self.environment: dict[str, str] = figures["environment"]
        self._results = {(each["work"], each["size"], each["side"]): each for each in figures["results"]}

    def find(self, work: str, size: int, side: str) -> dict[str, Any] | None:
        """One client's work, if it was measured."""
        return self._results.get((work, size, side))

    def rate(self, work: str, size: int, side: str) -> int | None:
        """The median of how many a second, where it was measured."""
        found = self.find(work, size, side)
        rates: list[int] = (found or {}).get("per_second", [])
        return rates[1] if rates else None

    def ratio(self, work: str, size: int, side: str, against: str) -> float | None:
        """How fast one is by another, where both were measured."""
        own, other = self.rate(work, size, side), self.rate(work, size, against)
        return own / other if own and other else None


def table(figures: dict[str, Any]) -> str:
    """All of it, in Markdown."""
    found = _Figures(figures)
    parts = [_environment(found)]
    parts += [_speeds(found, size) for size in SIZES]
    parts += [_targets(found), _pings(found), _memory(found), _spread(found)]
    return "\n\n".join(parts) + "\n"


def _environment(found: _Figures) -> str:
    return "\n".join(f"- {text}" for text in found.environment.values())


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _by_side(size: int, cell: Callable[[Work, str], str]) -> str:
    rows = [
        [work.title, *[cell(work, side) if side in work.sides else "" for side in SIDES]]
        for work in WORKS
        if size in work.counts and work.name != "pings"
    ]
    return _rows(["", *SIDES.values()], rows)


def _speeds(found: _Figures, size: int) -> str:
    def cell(work: Work, side: str) -> str:
        result = found.find(work.name, size, side)
        if result is None or "failed" in result:
            return _NOT_HERE if result is None else "failed"
        ratio = found.ratio(work.name, size, side, "bare")
        return f"{result['per_second'][1]:,}" + (f" ({ratio:.2f})" if ratio and side != "bare" else "")

    return (
        f"**Events (or appends) a second, with events of {size:,} bytes**, the median of the rounds; in brackets, by"
        f" the bare loop.\n\n{_by_side(size, cell)}"
    )


def _targets(found: _Figures) -> str:
    return "**What was aimed at**, with events of 256 bytes.\n\n" + _rows(
        ["", "against", "aim", "is", ""], [_target(found, target) for target in TARGETS]
    )


def _target(found: _Figures, target: Target) -> list[str]:
    ratio = found.ratio(target.work, SIZES[0], target.side, target.against)
    title = next(work.title for work in WORKS if work.name == target.work)
    verdict = "" if ratio is None else "met" if ratio >= target.least else "missed"
    shown = _NOT_HERE if ratio is None else f"{ratio:.2f}"
    return [f"{title}, {SIDES[target.side]}", SIDES[target.against], f"{target.least:g}", shown, verdict]


def _pings(found: _Figures) -> str:
    rows = []
    for side in SIDES:
        result = found.find("pings", SIZES[0], side)
        if result is not None and "milliseconds" in result:
            rows.append([SIDES[side], *[f"{each:,.1f}" for each in result["milliseconds"]]])
    rows.append([SIDES["node"], "has none", "", ""])
    return (
        "**Milliseconds of a ping** while a live subscription on the same connection takes all it can: behind what lies"
        " in the sockets already.\n\n" + _rows(["", "median", "99 of 100", "longest"], rows)
    )


def _memory(found: _Figures) -> str:
    def cell(work: Work, side: str) -> str:
        result = found.find(work.name, SIZES[0], side)
        return f"{result['memory'] / _MEGABYTE:.0f}" if result and "memory" in result else _NOT_HERE

    return "**Megabytes of memory**, the most of the whole process, with events of 256 bytes.\n\n" + _by_side(
        SIZES[0], cell
    )


def _spread(found: _Figures) -> str:
    rows = []
    for size in SIZES:
        for work in WORKS:
            for side in work.sides:
                result = found.find(work.name, size, side)
                if result and "per_second" in result:
                    least, middle, most = (f"{rate:,}" for rate in result["per_second"])
                    name = f"{work.title}, {size:,} bytes, {SIDES[side]}"
                    rows.append([name, least, middle, most, f"{result['server']:.0%}"])
    header = ["", "slowest round", "median", "fastest", "server"]
    return (
        "**Each of them**, a second; and how much of a processor the server had to do for it, where that can be told in"
        f" hundredths of a second.\n\n{_rows(header, rows)}"
    )


# --- the picture

_BAR, _GAP, _LEFT, _WIDTH = 14, 16, 270, 480
_STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #222 } .t { font-weight: 600 } .v { font-size: 11px }
.bare { fill: #9aa0a6 } .lists { fill: #1a73e8 } .events { fill: #6ea8fe }
.photon { fill: #e8710a } .node { fill: #188038 }
@media (prefers-color-scheme: dark) { text { fill: #e8eaed } }
</style>"""


def picture(figures: dict[str, Any]) -> str:
    """How fast each is by the bare loop, or by the fastest where there is none: bars, as an SVG."""
    found = _Figures(figures)
    parts: list[str] = []
    y = 44
    for work in WORKS:
        rates = {side: rate for side in work.sides if (rate := found.rate(work.name, SIZES[0], side))}
        if rates:
            parts.append(_bars(work, rates, y))
            y += _BAR * len(rates) + _GAP
    legend = _legend()
    width = _LEFT + _WIDTH + 130
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img">'
    title = "<title>Events a second of each client, by the bare loop</title>"
    return "\n".join([head, title, _STYLE, legend, *parts, "</svg>"]) + "\n"


def _legend() -> str:
    x, parts = 8, []
    for side, name in SIDES.items():
        parts.append(f'<rect class="{side}" x="{x}" y="10" width="12" height="12"/>')
        parts.append(f'<text x="{x + 17}" y="20">{escape(name)}</text>')
        x += 40 + 7 * len(name)
    return "\n".join(parts)


def _bars(work: Work, rates: dict[str, int], y: int) -> str:
    whole = rates.get("bare", max(rates.values()))
    parts = [f'<text class="t" x="8" y="{y + 11}">{escape(work.title[:44])}</text>']
    for place, (side, rate) in enumerate(rates.items()):
        top = y + _BAR * place
        width = max(1, round(_WIDTH * min(rate / whole, 1.15)))
        parts.append(f'<rect class="{side}" x="{_LEFT}" y="{top}" width="{width}" height="{_BAR - 2}"/>')
        parts.append(f'<text class="v" x="{_LEFT + width + 5}" y="{top + 10}">{rate:,}</text>')
    return "\n".join(parts)


def write(figures: dict[str, Any], folder: Path) -> None:
    """The figures, the tables and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(NAMES, (json.dumps(figures, indent=1) + "\n", table(figures), picture(figures)), strict=True):
        (folder / name).write_text(text)
