"""Which node of a cluster next: its seeds are asked who is in it, every time anew, one after another at random."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, NamedTuple

import trio

from trio_extreme.errors import CertificateRefused, ConnectionLost, InvalidArgument, ProtocolError, TrioExtremeError
from trio_extreme.http import Request, exchange
from trio_extreme.nodes import Seed, join_address, map_endpoint
from trio_extreme.operations.gossip import TARGET, choose, read_gossip, unknown_states, why_none
from trio_extreme.settings import seeds_of
from trio_extreme.transport import Address, start_tls

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from random import Random

    from trio_extreme.nodes import Endpoint
    from trio_extreme.operations.gossip import Member
    from trio_extreme.settings import Settings
    from trio_extreme.transport import Connect, Tls

logger = logging.getLogger("trio_extreme.connection")

MAX_GOSSIP = 1024 * 1024
"""Bytes of a document; a node is told of in less than a thousand."""

_OK, _NOT_FOUND, _UNAUTHORIZED = 200, 404, 401


class Found(NamedTuple):
    """A node to connect to, and whether it is the master."""

    address: Address
    is_master: bool
    #: What it says of itself, which is not where it is reached where there is an `endpoint_map`.
    told: Endpoint


class Asked(NamedTuple):
    """Where a seed is asked, and how."""

    seed: Seed
    #: For its certificate.
    name: str
    tls: Tls


class Discovery:
    """The cluster of these settings. It keeps nothing from one time to the next."""

    def __init__(self, settings: Settings, connect: Connect, rng: Random) -> None:
        self._settings = settings
        self._connect = connect
        self._rng = rng

    def __repr__(self) -> str:
        return f"<Discovery of {self._settings.address}>"

    async def find(self, avoid: Collection[Endpoint] = ()) -> Found:
        """The node to connect to now. Cancelling leaves nothing behind.

        Raises `ConnectionLost`, with what each seed had to say, where none names a node that will do, and
        `CertificateRefused` where that is what was wrong with all of them, if there are several.
        """
        asked = await self.seeds()
        reasons: dict[Asked, TrioExtremeError] = {}
        for seed in asked:
            try:
                members = await self.ask(seed)
                return self._choose(members, avoid)
            except InvalidArgument:
                raise
            except TrioExtremeError as error:
                reasons[seed] = error
        raise _nobody(reasons)

    async def seeds(self) -> list[Asked]:
        """Whom to ask, in random order."""
        settings = self._settings
        if settings.cluster_dns:
            hosts = await self._look_up(settings.cluster_dns)
            asked = [self._asked(Seed(host, settings.gossip_port), settings.cluster_dns) for host in hosts]
        else:
            asked = [self._asked(seed, seed.host) for seed in seeds_of(settings)]
        self._rng.shuffle(asked)
        return asked  # noqa: ASYNC910 - who asks waits

    def _asked(self, seed: Seed, name: str) -> Asked:
        tls = self._settings.web_tls
        if seed.tls is not None:
            tls = seed.tls and (tls or self._settings.tls or True)
        return Asked(seed._replace(tls=bool(tls)), self._settings.tls_server_name or name, tls)

    async def _look_up(self, name: str) -> list[str]:
        """Every address that a name has, of either kind. In order, for chance is to be ours."""
        seconds = self._settings.connect_timeout
        try:
            with trio.fail_after(seconds):
                found = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except trio.TooSlowError as error:
            msg = f"the name {name!r} was not looked up within {seconds:g} s (connect_timeout): check cluster_dns"
            raise ConnectionLost(msg) from error
        except OSError as error:
            msg = f"the name {name!r} cannot be looked up ({error.strerror or error}): check cluster_dns"
            raise ConnectionLost(msg) from error
        except ValueError as error:
            msg = f"cluster_dns: {name!r} cannot be the name of a cluster: {error}"
            raise InvalidArgument(msg) from error
        return sorted({str(address[0]) for *_, address in found})

    async def ask(self, asked: Asked) -> list[Member]:
        """What one seed tells, within `gossip_timeout`. Raises what was wrong with it."""
        seconds = self._settings.gossip_timeout
        try:
            with trio.fail_after(seconds):
                return await self._ask(asked)
        except trio.TooSlowError as error:
            msg = f"no answer within {seconds:g} s (gossip_timeout)"
            raise ConnectionLost(msg) from error
        except OSError as error:
            msg = f"nothing accepts connections there ({system_words(error)})"
            raise ConnectionLost(msg) from error

    async def _ask(self, asked: Asked) -> list[Member]:
        seed, name, tls = asked
        stream = await self._connect(seed.host, seed.port)
        if tls:
            stream = await start_tls(stream, tls, name)
        try:
            request = Request("GET", TARGET, (("accept", "application/json"),))
            response = await exchange(stream, join_address(seed.host, seed.port), request, max_body=MAX_GOSSIP)
        finally:
            await trio.aclose_forcefully(stream)
        if response.status != _OK:
            raise ProtocolError(_refusal(response.status))
        return read_gossip(response.body)

    def _choose(self, members: Sequence[Member], avoid: Collection[Endpoint]) -> Found:
        tls = bool(self._settings.tls)
        for state in unknown_states(members):
            logger.warning("a node of the cluster is in the state %r, which is not known here: it comes last", state)
        member = choose(members, self._settings.mode, self._rng, tls=tls, avoid=avoid)
        told = None if member is None else member.endpoint(tls=tls)
        if member is None or told is None:
            raise ConnectionLost(why_none(members, tls=tls))
        return Found(reach(self._settings, told), member.is_master, told)


def reach(settings: Settings, told: Endpoint) -> Address:
    """Where a node is reached that tells this of itself."""
    return Address(*map_endpoint(settings.endpoint_map, *told), settings.tls_server_name or told[0])


def system_words(error: OSError) -> str:
    """What the system says of a failed connection."""
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return str(inner or error)


def _refusal(status: int) -> str:
    if status == _NOT_FOUND:
        return "it answers 404 to /gossip: a node alone, up to 5.0, has it only with the option GossipOnSingleNode"
    if status == _UNAUTHORIZED:
        return "it answers 401 to /gossip: it does not tell it to everybody (OverrideAnonymousEndpointAccessForGossip)"
    return f"it answers {status} to /gossip"


def _nobody(reasons: dict[Asked, TrioExtremeError]) -> TrioExtremeError:
    kind = CertificateRefused if len(reasons) > 1 and _all_refused(reasons) else ConnectionLost
    words = "; ".join(f"{asked.seed}: {error}" for asked, error in reasons.items())
    error = kind(f"none of the cluster's {len(reasons)} seeds names a node to connect to: {words or 'there are none'}")
    error.__cause__ = next(iter(reasons.values()), None)
    return error


def _all_refused(reasons: dict[Asked, TrioExtremeError]) -> bool:
    return all(isinstance(error, CertificateRefused) for error in reasons.values())
