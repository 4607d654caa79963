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

logger = logging.getLogger("trio_extreme.connection")

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


_SMALLEST_BOUND = 0.001


class Backoff:
    """Delays with full jitter: at random below a bound that doubles, so that many clients do not come back at once."""

    def __init__(self, settings: Settings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._bound = settings.reconnect_delay

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        most = self._settings.max_reconnect_delay
        delay = self._rng.uniform(0, min(most, self._bound))
        # Where the first comes at once, the next ones do not.
        self._bound = min(most, max(_SMALLEST_BOUND, self._bound * 2))
        return delay

    def reset(self) -> None:
        """It went well: begin anew with the next trouble."""
        self._bound = self._settings.reconnect_delay


class Attempts:
    """The attempts to open a connection, one after another, at most `limit` (None: without end)."""

    def __init__(self, settings: Settings, rng: Random, limit: int | None) -> None:
        self._where = f"{settings.host}:{settings.port}"
        self._limit = limit
        self._backoff = Backoff(settings, rng)
        self._errors: deque[TrioExtremeError] = deque(maxlen=KEPT_ATTEMPTS)
        #: How many have failed.
        self.count = 0

    def lost(self, error: TrioExtremeError) -> float:
        """Log the loss of a connection; how many seconds to wait before the first attempt."""
        strip(error)
        delay = self._backoff.next()
        logger.warning("%s (%s); connecting again in %.2f s", error, self._where, delay)
        return delay

    def failed(self, error: TrioExtremeError) -> float:
        """Note and log a failed attempt; how many seconds to wait before the next.

        Raises `ConnectFailed` after the last.
        """
        self.count += 1
        self._errors.append(error)
        strip(error)
        if self.count == self._limit:
            logger.warning("attempt %d to connect to %s failed: %s; no further one", self.count, self._where, error)
            msg = f"could not connect to {self._where} in {self.count} attempts; the last: {error}"
            raise ConnectFailed(msg, self._errors) from error
        delay = self._backoff.next()
        logger.warning("attempt %d to connect to %s failed: %s; next in %.2f s", self.count, self._where, error, delay)
        return delay


def strip(error: BaseException | None) -> None:
    """Drop the tracebacks: their frames hold the session, whatever its buffer had got, and sockets."""
    while error is not None:
        error.__traceback__ = None
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                strip(inner)
        error = error.__cause__ or error.__context__
