from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_extreme.embedded.timetable import Timetable

if TYPE_CHECKING:
    from collections.abc import Callable


class Notes:
    """What was called, and when."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []

    def note(self, name: str) -> Callable[[], None]:
        return lambda: self.taken.append((name, trio.current_time()))


async def test_calls_are_made_at_their_times(autojump_clock: None, nursery: trio.Nursery) -> None:
    timetable, notes = Timetable(), Notes()
    nursery.start_soon(timetable.run)
    for seconds in (3, 1, 2):
        timetable.after(seconds, notes.note(f"{seconds}"))
    assert repr(timetable) == "<Timetable: 3 calls>"
    await trio.sleep(5)
    assert notes.taken == [("1", 1.0), ("2", 2.0), ("3", 3.0)]
    assert repr(timetable) == "<Timetable: 0 calls>"


async def test_what_is_due_at_the_same_time_keeps_its_order(autojump_clock: None, nursery: trio.Nursery) -> None:
    timetable, notes = Timetable(), Notes()
    nursery.start_soon(timetable.run)
    names = [f"{number}" for number in range(20)]
    for name in names:
        timetable.after(1, notes.note(name))
    await trio.sleep(2)
    assert [name for name, _ in notes.taken] == names


async def test_an_earlier_call_wakes_it_up(autojump_clock: None, nursery: trio.Nursery) -> None:
    timetable, notes = Timetable(), Notes()
    nursery.start_soon(timetable.run)
    timetable.after(10, notes.note("late"))
    await trio.sleep(1)
    timetable.after(1, notes.note("early"))
    await trio.sleep(2)
    assert notes.taken == [("early", 2.0)]


async def test_what_was_asked_for_before_it_runs_is_called(autojump_clock: None, nursery: trio.Nursery) -> None:
    timetable, notes = Timetable(), Notes()
    timetable.after(0, notes.note("none"))
    timetable.after(1, notes.note("one"))
    assert notes.taken == []
    nursery.start_soon(timetable.run)
    await trio.sleep(2)
    assert notes.taken == [("none", 0.0), ("one", 1.0)]


async def test_a_call_may_ask_for_another(autojump_clock: None, nursery: trio.Nursery) -> None:
    timetable, notes = Timetable(), Notes()
    nursery.start_soon(timetable.run)
    timetable.after(1, lambda: timetable.after(1, notes.note("second")))
    await trio.sleep(3)
    assert notes.taken == [("second", 2.0)]
