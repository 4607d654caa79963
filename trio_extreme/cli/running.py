"""Running a command: signals end it at once and cleanly, and every error becomes a sentence and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click
import trio

from trio_extreme.cli.failures import explain
from trio_extreme.tasks import open_plain_nursery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from trio_extreme.cli.connecting import Target

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 128 + signal.SIGINT


def run(command: Callable[[], Awaitable[None]], target: Target | None = None) -> int:
    """Run a command to its end and return its exit code; `target` is what errors speak of."""
    received: list[int] = []
    try:
        trio.run(_run_until_signal, command, received)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads our output has seen enough: `| head`.
        pass
    except Exception as error:
        if os.environ.get("TRIO_EXTREME_DEBUG"):
            raise
        if not received:
            return _report(error, target)
    return 128 + received[0] if received else 0


async def _run_until_signal(command: Callable[[], Awaitable[None]], received: list[int]) -> None:
    async with open_plain_nursery() as nursery:
        await nursery.start(_cancel_on_signal, nursery.cancel_scope, received)
        await command()
        nursery.cancel_scope.cancel()


async def _cancel_on_signal(
    scope: trio.CancelScope, received: list[int], *, task_status: trio.TaskStatus[None]
) -> NoReturn:
    with trio.open_signal_receiver(*SIGNALS) as signals:
        task_status.started()
        received.append(await anext(aiter(signals)))
    # Whoever asks twice does not want to wait for goodbyes.
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
    scope.cancel()
    await trio.sleep_forever()


def _report(error: Exception, target: Target | None) -> int:
    code, sentence, hint = explain(error, target)
    click.echo(f"Error: {sentence}", err=True)
    if hint:
        click.echo(f"Try: {hint}", err=True)
    return code


def notice(text: str) -> None:
    """Say something to who watches; standard output is for results alone."""
    click.echo(text, err=True)


@contextmanager
def log_shown() -> Iterator[None]:
    """Have what the library logs on standard error even where nobody watches: no error follows to explain it."""
    if is_watched():
        # Then it is there already.
        yield
        return
    handler = logging.StreamHandler()
    logger = logging.getLogger("trio_extreme")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def log_hidden() -> Iterator[None]:
    """Have the library's warnings left out: of trouble that is ours."""
    logger = logging.getLogger("trio_extreme")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def counted(number: int, noun: str) -> str:
    """`1 event`, `2,000 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def can_ask() -> bool:
    """Whether there is somebody to ask."""
    return is_watched() and sys.stdin is not None and sys.stdin.isatty()


def is_watched() -> bool:
    """Whether standard error is a terminal, where progress may be shown."""
    return sys.stderr is not None and sys.stderr.isatty()
