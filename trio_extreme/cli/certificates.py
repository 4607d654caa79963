"""The options that put a node behind TLS."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = click.Path(exists=True, dir_okay=False, readable=True)


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--tls-cert FILE`, `--tls-key FILE`, `--https`."""
    for option in (
        click.option("--https", is_flag=True, help="Have the web interface behind the same certificate."),
        click.option("--tls-key", type=_FILE, metavar="FILE", help="Its key in PEM, where it is in another file."),
        click.option("--tls-cert", type=_FILE, metavar="FILE", help="Take TLS only, with this certificate in PEM."),
    ):
        command = option(command)
    return command


def load_certificate(cert: str | None, key: str | None, *, https: bool) -> ssl.SSLContext | None:
    """The server's side of TLS; None where it was not asked for. Raises `click.UsageError` for what makes none."""
    if cert is None:
        if key is not None or https:
            given = "--https" if key is None else "--tls-key"
            msg = f"{given} needs --tls-cert, the certificate."
            raise click.UsageError(msg)
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    where = cert if key is None else f"{cert} and {key}"
    try:
        context.load_cert_chain(cert, key, password=_refuse_password)
    except ssl.SSLError as error:
        what = "do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else "are not both there in PEM"
        msg = f"--tls-cert: the certificate and its key in {where} {what}."
        raise click.UsageError(msg) from None
    except _HasPasswordError:
        msg = f"--tls-key: the key in {key or cert} has a password; openssl pkey -in {key or cert} writes it without."
        raise click.UsageError(msg) from None
    return context


class _HasPasswordError(Exception):
    pass


def _refuse_password() -> NoReturn:
    # Without this, OpenSSL would ask at the terminal.
    raise _HasPasswordError
