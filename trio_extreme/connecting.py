"""Getting a stream to the server, and what a failed attempt means."""

from __future__ import annotations

import logging
import socket
from collections import deque
from typing import TYPE_CHECKING

import trio

from trio_extreme.errors import ConnectFailed, ConnectionLost

if TYPE_CHECKING:
    from random import Random

    from trio_extreme.errors import TrioExtremeError
    from trio_extreme.settings import Settings
    from trio_extreme.transport import Connect

logger = logging.getLogger("trio_extreme")

KEPT_ATTEMPTS = 100
"""How many failed attempts are kept for `ConnectFailed`, where there is no end to them."""


async def open_stream(settings: Settings, connect: Connect) -> trio.abc.Stream:
    """A stream within `connect_timeout`. Raises `ConnectionLost`, which says why there is none."""
    host, port, seconds = settings.host, settings.port, settings.connect_timeout
    try:
        with trio.fail_after(seconds):
            return await connect(host, port)
    except trio.TooSlowError as error:
        why = f"no connection within {seconds:g} s (connect_timeout): a firewall, or a wrong address"
        raise ConnectionLost(why) from error
    except socket.gaierror as error:
        why = f"the name {host!r} cannot be looked up ({error.strerror}): check the host"
        raise ConnectionLost(why) from error
    except OSError as error:
        why = f"nothing accepts connections there ({_system_words(error)}): is the server up, and its TCP port on?"
        raise ConnectionLost(why) from error


def _system_words(error: OSError) -> str:
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return str(inner or error)


class Attempts:
    """The attempts to open a connection that failed, one after another."""

    def __init__(self, settings: Settings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._count = 0
        self._errors: deque[TrioExtremeError] = deque(maxlen=KEPT_ATTEMPTS)

    def failed(self, error: TrioExtremeError) -> float:
        """Note and log a failed attempt; how many seconds to wait before the next.

        Raises `ConnectFailed` after the last.
        """
        self._count += 1
        self._errors.append(error)
        _strip(error)
        where = f"{self._settings.host}:{self._settings.port}"
        if self._count == self._settings.first_attempts:
            logger.warning("attempt %d to connect to %s failed: %s; no further one", self._count, where, error)
            msg = f"could not connect to {where} in {self._count} attempts; the last: {error}"
            raise ConnectFailed(msg, self._errors) from error
        delay = self._delay()
        logger.warning("attempt %d to connect to %s failed: %s; next in %.2f s", self._count, where, error, delay)
        return delay

    def _delay(self) -> float:
        """Full jitter: at random below a bound that doubles, so that many clients do not come back at once."""
        bound = self._settings.reconnect_delay * 2 ** min(self._count - 1, 60)
        return self._rng.uniform(0, min(self._settings.max_reconnect_delay, bound))


def _strip(error: BaseException | None) -> None:
    """Drop the tracebacks: their frames hold the session and whatever its buffer had got."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
