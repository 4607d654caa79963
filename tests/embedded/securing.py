"""TLS for tests of the node: a certificate, and a client that believes it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple

import trio
import trustme

if TYPE_CHECKING:
    from pathlib import Path

    from trio_extreme.transport import Connect

NAME = "node.example"


class Secret(NamedTuple):
    """What a server and its client need, and the same as files."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    certificate: trustme.LeafCert


def make_secret(*names: str) -> Secret:
    """A certificate for these names, or for NAME, by an authority of its own."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*(names or (NAME,)))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Secret(server, client, certificate)


def write_files(secret: Secret, folder: Path) -> tuple[str, str]:
    """The certificate and its key as files."""
    paths = folder / "cert.pem", folder / "key.pem"
    blobs = secret.certificate.cert_chain_pems[0], secret.certificate.private_key_pem
    for path, blob in zip(paths, blobs, strict=True):
        blob.write_to_path(path)
    return str(paths[0]), str(paths[1])


def over_tls(connect: Connect, context: ssl.SSLContext, name: str = NAME) -> Connect:
    """Connect so, and speak TLS."""

    async def connect_securely(host: str, port: int) -> trio.abc.Stream:
        stream = trio.SSLStream(await connect(host, port), context, server_hostname=name, https_compatible=True)
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    return connect_securely
