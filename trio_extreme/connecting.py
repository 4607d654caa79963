"""Getting a stream to the server, and what a failed attempt means."""

from __future__ import annotations

import logging
import socket
from collections import deque
from typing import TYPE_CHECKING

import trio

from trio_extreme.discovery import system_words
from trio_extreme.errors import ConnectFailed, ConnectionLost, InvalidArgument
from trio_extreme.operations.gossip import EXTERNAL_TCP
from trio_extreme.transport import Address, start_tls

if TYPE_CHECKING:
    from random import Random

    from trio_extreme.errors import TrioExtremeError
    from trio_extreme.settings import Settings
    from trio_extreme.transport import Connect

logger = logging.getLogger("trio_extreme.connection")

_OFF = f" ({EXTERNAL_TCP})"

KEPT_ATTEMPTS = 100
"""How many failed attempts are kept for `ConnectFailed`, where there is no end to them."""


def only_node(settings: Settings) -> Address:
    """Where the node is, if it is one alone."""
    return Address(settings.host, settings.port, settings.tls_server_name or settings.host)


async def open_stream(settings: Settings, connect: Connect, address: Address | None = None) -> trio.abc.Stream:
    """A stream within `connect_timeout`, with TLS where that is wanted.

    `address` is for who connects to one of several. Raises `ConnectionLost`, which says why there is none, and
    `CertificateRefused`.
    """
    host, port, name = address or only_node(settings)
    seconds = settings.connect_timeout
    stream = None
    try:
        with trio.fail_after(seconds):
            stream = await connect(host, port)
            return await start_tls(stream, settings.tls, name) if settings.tls else stream
    except trio.TooSlowError as error:
        if stream is not None:
            # A server that speaks frames takes the first bytes of TLS for the length of a large one.
            why = f"no TLS handshake within {seconds:g} s (connect_timeout): is it a port without TLS?"
        else:
            why = f"no connection within {seconds:g} s (connect_timeout): a firewall, or a wrong address"
        raise ConnectionLost(why) from error
    except socket.gaierror as error:
        why = f"the name {host!r} cannot be looked up ({error.strerror}): check the host"
        raise ConnectionLost(why) from error
    except InvalidArgument as error:
        if not settings.is_cluster:
            raise
        # Nobody here has named it, and another node may be named next.
        why = f"the cluster tells of a node that cannot be: {error}"
        raise ConnectionLost(why) from error
    except OSError as error:
        why = f"nothing accepts connections there ({system_words(error)}): is the server up, and its TCP port on?{_OFF}"
        raise ConnectionLost(why) from error


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
        self._where = settings.address
        self._limit = limit
        self._backoff = Backoff(settings, rng)
        self._errors: deque[TrioExtremeError] = deque(maxlen=KEPT_ATTEMPTS)
        #: How many have failed.
        self.count = 0

    def lost(self, error: TrioExtremeError, address: Address | None = None) -> float:
        """Log the loss of a connection; how many seconds to wait before the first attempt."""
        strip(error)
        delay = self._backoff.next()
        logger.warning("%s (%s); connecting again in %.2f s", error, address or self._where, delay)
        return delay

    def failed(self, error: TrioExtremeError, address: Address | None = None) -> float:
        """Note and log a failed attempt; how many seconds to wait before the next.

        `address` is the node's, where there are several. Raises `ConnectFailed` after the last.
        """
        self.count += 1
        self._errors.append(error)
        strip(error)
        where = self._where if address is None else str(address)
        if self.count == self._limit:
            logger.warning("attempt %d to connect to %s failed: %s; no further one", self.count, where, error)
            node = "" if where == self._where else f" ({where})"
            msg = f"could not connect to {self._where} in {self.count} attempts; the last{node}: {error}"
            raise ConnectFailed(msg, self._errors) from error
        delay = self._backoff.next()
        logger.warning("attempt %d to connect to %s failed: %s; next in %.2f s", self.count, where, error, delay)
        return delay


def strip(error: BaseException | None) -> None:
    """Drop the tracebacks: their frames hold the session, whatever its buffer had got, and sockets."""
    while error is not None:
        error.__traceback__ = None
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                strip(inner)
        error = error.__cause__ or error.__context__
