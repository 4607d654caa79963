"""The one kind of nursery this library opens."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def open_plain_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises a lone error bare.

    Trio wraps every error that leaves a nursery in a group. Exactly one level is unwrapped here, so that a group the
    user made survives; two real errors that met stay a group, because hiding either would be worse.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        _raise_single(group)


def _raise_single(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    for error in group.exceptions:
        # Ctrl-C wins over whatever it interrupted; raised anew, because its traceback is the group's.
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise type(error)(*error.args) from group
    real = [error for error in group.exceptions if _is_real(error)]
    if len(real) > 1:
        raise group
    error = real[0] if real else group.exceptions[0]
    context = error.__context__
    try:
        raise error
    finally:
        # The implicit context would print the group again; and no frame may keep the error that keeps the frame.
        error.__context__ = context
        del error, context, real, group


def _is_real(error: BaseException) -> bool:
    """Whether it is more than a cancellation, or a group of them, as it comes out of a nursery of the user's."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is not None
    return not isinstance(error, trio.Cancelled)
