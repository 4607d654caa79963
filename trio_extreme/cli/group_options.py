"""The settings of a group as options of the command line, each under the name that the library has for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from trio_extreme.errors import InvalidArgument
from trio_extreme.groups import ConsumerStrategy, PersistentSettings
from trio_extreme.operations.checks import check_group
from trio_extreme.values import Place

if TYPE_CHECKING:
    from collections.abc import Callable

_DEFAULTS = PersistentSettings()
_WORDS = {
    "start_from": "The first event of a new group: start, end, or a number.",
    "resolve_link_tos": "Hand out what links stand for.",
    "message_timeout": "How long a consumer has to ack an event.",
    "max_retry_count": "Further deliveries of an event; then it is parked.",
    "named_consumer_strategy": f"Who gets the next event: {', '.join(ConsumerStrategy)}.",
    "subscriber_max_count": "Consumers at the same time; 0 for any number.",
    "checkpoint_after_time": "How long the server waits between checkpoints; 0 for none by time.",
    "checkpoint_min_count": "Events handled, below which time brings no checkpoint.",
    "checkpoint_max_count": "Events handled, at which there is a checkpoint at once.",
    "buffer_size": "Events that the server keeps ready.",
    "read_batch_size": "Events that it reads at a time; less than --buffer-size.",
    "live_buffer_size": "Events that it keeps while the group catches up.",
    "record_statistics": "Have it measure latencies.",
}
_NAME = re.compile(rf"\b({'|'.join(_WORDS)})\b")
_SECONDS = {"message_timeout", "checkpoint_after_time"}


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each setting; `make_settings` takes them."""
    for name in reversed(_WORDS):
        command = _option(name, getattr(_DEFAULTS, name))(command)
    return command


def _option(name: str, default: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if isinstance(default, bool):
        return click.option(flag_of(name), name, is_flag=True, help=_WORDS[name])
    if name == "start_from":
        kind: Any = _parse_start
        default, metavar = "end", "PLACE"
    elif name == "named_consumer_strategy":
        kind, metavar = _parse_strategy, "NAME"
    elif name in _SECONDS:
        kind, metavar = float, "SECONDS"
    else:
        kind, metavar = int, "N"
    return click.option(flag_of(name), name, type=kind, default=default, metavar=metavar, help=_WORDS[name])


def flag_of(name: str) -> str:
    """The option that gives this setting."""
    return f"--{name.replace('_', '-')}"


def _parse_start(text: str) -> int | Place:
    if text in {"start", "end"}:
        return Place[text.upper()]
    if text.isascii() and text.isdigit():
        return int(text[:20])
    msg = f"{text!r} is no place in a stream; give start, end, or the number of an event."
    raise click.BadParameter(msg)


def _parse_strategy(text: str) -> ConsumerStrategy:
    for strategy in ConsumerStrategy:
        if strategy.lower() == text.lower():
            return strategy
    msg = f"{text!r} is none of {', '.join(ConsumerStrategy)}."
    raise click.BadParameter(msg)


def make_settings(options: dict[str, Any]) -> PersistentSettings:
    """What `settings_options` say. Raises `click.UsageError` for what would keep a server from handing out events."""
    try:
        return PersistentSettings(**options)
    except InvalidArgument as error:
        raise click.UsageError(_in_options(str(error))) from None


def _in_options(sentence: str) -> str:
    """A sentence about settings as who typed options knows them."""
    return _NAME.sub(lambda match: flag_of(match[0]), sentence)


def parse_group(name: str) -> str:
    """The name of a group, as a parameter of a command."""
    try:
        return check_group(name)
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from None


def group_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """`GROUP`."""
    return click.argument("group", type=parse_group, metavar="GROUP")(command)
