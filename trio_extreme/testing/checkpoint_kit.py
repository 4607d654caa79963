"""Whether a store of checkpoints does what listeners need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trio_extreme.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.checkpoints import Checkpoints

_OLD, _NEW = "41@people", "C:9223372036854775807/P:9223372036854775807+@$all"
_NAMES = ("people", "People", "people ", "$ce-orders/ж", "n" * 200)


async def check_checkpoints(make: Callable[[], Checkpoints], *, lasting: bool = True) -> None:
    """Whether a store of checkpoints does what listeners need. Raises `AssertionError` that says what it does not.

    `make` makes the store, empty at first, and each time it is called after that the same one: another object, as in
    another process, that has what the first has stored. Say `lasting=False` for a store that forgets; then it is called
    once. Under a mock clock a store that blocks needs `run_sync=run_inline`, from `trio_extreme.checkpoints`.
    """
    store = make()
    await _check_names(store)
    await _check_cancelling(store)
    await _check_tasks(store)
    await _check_holding(store)
    if lasting:
        await _check_lasting(make())


async def _check_names(store: Checkpoints) -> None:  # noqa: ASYNC910 - there are some
    for name in _NAMES:
        assert await store.load(name) is None, f"{name!r} has a checkpoint, and nothing was stored under it"
        async with store.hold(name):
            await _store(store, name, _OLD)
            await _store(store, name, _NEW)
            await _store(store, name, f"7@{name}")
    for name in _NAMES:
        found = await store.load(name)
        assert found == f"7@{name}", f"{found!r} is stored under {name!r}, where '7@{name}' was stored last"


async def _store(store: Checkpoints, name: str, text: str) -> None:
    await store.store(name, text)
    found = await store.load(name)
    assert found == text, f"{found!r} is stored under {name!r}, where {text!r} was stored last"


async def _check_cancelling(store: Checkpoints) -> None:
    """Cancelled before it begins, and a little later each time, for as long as it makes a difference."""
    async with store.hold("cancelled"):
        await _store(store, "cancelled", _OLD)
        for step in range(8):
            with trio.move_on_after(step / 5_000):
                await store.store("cancelled", _NEW)
            found = await store.load("cancelled")
            assert found in (_OLD, _NEW), f"store() was cancelled, and {found!r} is stored: neither the old nor the new"
            await _store(store, "cancelled", _OLD)


async def _check_tasks(store: Checkpoints) -> None:
    """Listeners with names of their own store at the same time."""
    async with trio.open_nursery() as nursery:
        for name in ("one", "two", "three"):
            nursery.start_soon(_count, store, name)
    for name in ("one", "two", "three"):
        found = await store.load(name)
        assert found == f"4@{name}", f"{found!r} is stored under {name!r}: names stored at once overwrite each other"


async def _count(store: Checkpoints, name: str) -> None:
    async with store.hold(name):
        for number in range(5):
            await store.store(name, f"{number}@{name}")


async def _check_holding(store: Checkpoints) -> None:
    async with store.hold("held"):
        try:
            async with store.hold("held"):
                msg = "a name that is held could be held once more: two listeners would run with it"
                raise AssertionError(msg)
        except CheckpointError:
            pass
    async with store.hold("held"):
        pass


async def _check_lasting(store: Checkpoints) -> None:  # noqa: ASYNC910 - there are some
    for name in _NAMES:
        found = await store.load(name)
        assert found == f"7@{name}", f"a new store has {found!r} under {name!r}, where '7@{name}' was stored"
