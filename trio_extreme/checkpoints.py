"""Where listeners keep how far they have come: what a store must do, and one in memory.

A store keeps texts by names. What a text says only listeners know: the place, and the stream it is a place in, so that
one that was left by a listener to another stream is told. `41@people` is the event with the number 41 of stream people,
as the data of a link says it; `C:1250/P:1250@$all` a position in the log.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple

import trio

from trio_extreme.errors import CheckpointError, InvalidArgument
from trio_extreme.values import ALL, MAX_NUMBER, Position, utf8_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NOWHERE = -1
"""The place of a listener to a stream that has handled nothing, and begins with the first event there ever is."""

_NUMBER = re.compile(r"-1|[0-9]{1,19}")
_held: set[tuple[Hashable, str]] = set()


class RunSync(Protocol):
    """Runs a function that blocks, in a thread, and returns what it returns; as `trio.to_thread.run_sync` does.

    It must see the function through even where the caller is cancelled meanwhile: what came of it would be unknown.
    """

    async def __call__(self, sync_fn: Callable[[*Ts], T], /, *args: *Ts) -> T:
        """Wait for it."""
        ...


async def run_inline(sync_fn: Callable[[*Ts], T], /, *args: *Ts) -> T:
    """Without a thread: for tests under a mock clock, which takes waiting for a thread for waiting for nothing."""
    await trio.lowlevel.checkpoint()
    return sync_fn(*args)


class Checkpoints(ABC):
    """A store of checkpoints; it may serve many listeners, each with a name of its own.

    Yours needs `load` and `store`. `trio_extreme.testing.check_checkpoints` tests whether it does what listeners need.
    """

    @abstractmethod
    async def load(self, name: str) -> str | None:
        """What was stored last under this name, None where nothing was. Raises `CheckpointError` for damage."""

    @abstractmethod
    async def store(self, name: str, checkpoint: str) -> None:
        """Put this in the place of what was stored under the name.

        It is called only by whoever holds the name. Cancelled or failed, the old checkpoint is there or the new one,
        and nothing between the two.
        """

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Have the name for oneself, as a listener does while it runs. Where another has it: `CheckpointError`."""
        claim = (self._identity, name)
        if claim in _held:
            msg = f"checkpoint {name!r} of {self}: another listener runs with it; give each a name= of its own"
            raise CheckpointError(msg)
        _held.add(claim)
        try:
            await trio.lowlevel.checkpoint()
            yield
        finally:
            _held.discard(claim)

    @property
    def _identity(self) -> Hashable:
        """What two stores have in common that are one."""
        return id(self)


class MemoryCheckpoints(Checkpoints):
    """A store that forgets all when the process ends: for tests, and for listeners that always begin anew."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<MemoryCheckpoints of {len(self._texts)} names>"

    async def load(self, name: str) -> str | None:
        """What was stored last under this name, None where nothing was."""
        await trio.lowlevel.checkpoint()
        return self._texts.get(name)

    async def store(self, name: str, checkpoint: str) -> None:
        """Keep this."""
        # A listener stores after each event, and gives others their turn itself.
        await trio.lowlevel.checkpoint_if_cancelled()
        self._texts[name] = checkpoint


def check_name(name: str) -> str:
    """The name of a checkpoint."""
    if not isinstance(name, str) or not name:
        msg = f"name: {name!r} is no name of a checkpoint; give a non-empty string"
        raise InvalidArgument(msg)
    utf8_size("name", name)
    return name


def text_of(place: int | Position, stream: str) -> str:
    """A place as it is stored."""
    return f"{place}@{stream}"


def place_in(text: str, stream: str, where: str) -> int | Position:
    """The place that was stored as this text. `where` names the checkpoint in errors."""
    said, separator, other = text.partition("@")
    if not separator or not other:
        raise _damaged(text, where)
    if other != stream:
        msg = (
            f"{where} is of a listener to {other!r}, not to {stream!r}: give this one a name= of its own, or remove "
            "the checkpoint to begin anew"
        )
        raise CheckpointError(msg)
    try:
        return Position.parse(said) if stream == ALL else _number(said)
    except InvalidArgument:
        raise _damaged(text, where) from None


def _number(said: str) -> int:
    if not _NUMBER.fullmatch(said) or int(said) > MAX_NUMBER:
        msg = f"checkpoint: {said!r} is no number of an event"
        raise InvalidArgument(msg)
    return int(said)


def _damaged(text: str, where: str) -> CheckpointError:
    return CheckpointError(f"{where} is damaged: {text[:80]!r} is no place; put it right, or remove it to begin anew")
