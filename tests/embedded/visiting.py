"""Somebody who asks for pages: of a service without a node, or of a node, through its network."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from uuid import UUID

import trio

from trio_extreme.embedded.gossip import Endpoints, Epoch, Member
from trio_extreme.embedded.http import Web
from trio_extreme.embedded.pages import Pages, Traffic
from trio_extreme.embedded.states import State
from trio_extreme.http import Request, Response, exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.embedded.talk import Desk
    from trio_extreme.embedded import Node
    from trio_extreme.transport import Connect

ADMIN = ("admin", "changeit")
ENDPOINTS = Endpoints("10.0.0.11", 1113, 2113)
MASTER = Member(UUID(int=1), 1_614_852_672_123_450, State.MASTER, ENDPOINTS, 913, 1204, Epoch(0, 3, UUID(int=2)))


class Subject:
    """A node that has no network."""

    started = 1_614_852_000_000_000
    endpoints = ENDPOINTS

    def members(self) -> Sequence[Member]:
        return [MASTER]

    def traffic(self) -> Sequence[Traffic]:
        return [Traffic("10.0.0.9:4711", "10.0.0.11:1113", "my-app", 100, 2000, 30)]

    def traffic_of_all(self) -> tuple[int, int]:
        return 150, 2500


def pages_of(desk: Desk, *, gossips: bool = True) -> Web:
    web = Web(desk.service)
    Pages(desk.service, Subject(), web, gossips=gossips)
    return web


def basic(login: str, password: str) -> tuple[str, str]:
    return "authorization", "Basic " + b64encode(f"{login}:{password}".encode()).decode()


def ask(web: Web, target: str, *headers: tuple[str, str], method: str = "GET") -> Response:
    return web.answer(Request(method, target, headers))


def document(response: Response) -> Any:
    """What a page of JSON says."""
    assert response.status == 200
    assert dict(response.headers)["content-type"] == "application/json; charset=utf-8"
    return json.loads(response.body)


async def get(node: Node, target: str, connect: Connect | None = None, **options: Any) -> Response:
    """A page, through a stream in memory if there is no other."""
    assert node.http_port is not None
    stream = await (connect or node.connect)(node.host, node.http_port)
    try:
        return await exchange(stream, f"{node.host}:{node.http_port}", Request("GET", target, **options))
    finally:
        await trio.aclose_forcefully(stream)
