"""Streams to a node: the seam where tests and simulations put their own network.

Everything that opens a connection takes a `Connect`. It returns a stream that is ready for the protocol's first
byte, or raises `OSError`; the caller bounds its time.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import NamedTuple, TypeAlias

import trio

from trio_extreme.errors import CertificateRefused, ConnectionLost, InvalidArgument

Connect: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Opens a stream to a host and port."""


class Address(NamedTuple):
    """Where a server is reached, and under which name its certificate, if it has one, must speak of it."""

    host: str
    port: int
    name: str

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Tls: TypeAlias = bool | ssl.SSLContext
"""TLS as this machine trusts, or with a context of the user's."""

READ_SIZE = 262_144
"""Bytes asked for at a time. Trio allocates this for each call: 1 MiB was measured slower, 4 KiB ten times slower."""


async def connect_tcp(host: str, port: int) -> trio.abc.Stream:
    """A TCP stream, the addresses of the name tried as RFC 8305 says. Cancelling closes it.

    Raises `OSError`, and `InvalidArgument` for a host that nobody could ever look up (`a..b`, an endless label).
    """
    try:
        return await trio.open_tcp_stream(host, port)
    except ValueError as error:
        msg = f"host: {host!r} cannot be the name of a node: {error}"
        raise InvalidArgument(msg) from error


async def start_tls(stream: trio.abc.Stream, tls: Tls, name: str) -> trio.abc.Stream:
    """TLS on a stream, with a server whose certificate is for this name. Failed or cancelled, the stream is closed.

    Raises `CertificateRefused`, `ConnectionLost` where the server does not speak TLS (in a way that we do), and
    `InvalidArgument` for what can be no name. Without a word of goodbye from the peer the stream ends like any other:
    frames and HTTP have ends of their own.
    """
    try:
        return await _shake_hands(stream, tls, name)
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)
        raise


async def _shake_hands(stream: trio.abc.Stream, tls: Tls, name: str) -> trio.abc.Stream:
    context = tls if isinstance(tls, ssl.SSLContext) else default_context()
    try:
        secure = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        raise _handshake_failure(error.__cause__, name) from error
    except ValueError as error:
        msg = f"tls_server_name: {name!r} cannot be the name in a certificate: {error}"
        raise InvalidArgument(msg) from error
    return secure


@cache
def default_context() -> ssl.SSLContext:
    """With the authorities that this machine trusts. Made once: it takes longer than a handshake."""
    return ssl.create_default_context()


_OUT_OF_DATE = (9, 10)
_OTHER_NAME = (62, 64)
"""As OpenSSL numbers what is wrong with a certificate."""


def _handshake_failure(cause: BaseException | None, name: str) -> CertificateRefused | ConnectionLost:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CertificateRefused(
            f"the server's certificate is refused ({cause.verify_message}): {_advice(cause, name)}"
        )
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return ConnectionLost(
            "the server does not speak TLS there: connect without it (tls=None), or to its secure port"
        )
    why = cause.reason if isinstance(cause, ssl.SSLError) and cause.reason else "it closed the connection"
    return ConnectionLost(
        f"the TLS handshake failed ({why}): is this a port with TLS, and does it speak TLS 1.2 or later?"
    )


def _advice(error: ssl.SSLCertVerificationError, name: str) -> str:
    if error.verify_code in _OTHER_NAME:
        return f"it is not for {name!r}; connect by a name that it is for, or set tls_server_name to one"
    if error.verify_code in _OUT_OF_DATE:
        return "the server needs another one, unless the clock of this machine is wrong"
    return (
        "nobody trusted here has signed it; name the file of who did: tls_ca_file= in a URL, or "
        "tls=ssl.create_default_context(cafile=…)"
    )
