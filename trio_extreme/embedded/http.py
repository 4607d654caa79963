"""A node's web interface: which pages there are, and who may see them (docs/protocol.md, 5). Pure.

A page is a function from a `Visit` to the `Response`. `Web.add` adds one.
"""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from trio_extreme.embedded.acl import EVERYONE, authenticate
from trio_extreme.embedded.storage import StorageError
from trio_extreme.http import Request, Response
from trio_extreme.values import Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trio_extreme.embedded.acl import Identity
    from trio_extreme.embedded.service import Service

logger = logging.getLogger("trio_extreme.embedded")

JSON = "application/json"
TEXT = "text/plain"
ANYBODY: frozenset[str] = frozenset()
"""Who may see a page that needs no user."""
ANY_USER = frozenset((EVERYONE,))
_LOG_IN = ("www-authenticate", 'Basic realm="ES"')


class Visit(NamedTuple):
    """Somebody who asks for a page."""

    request: Request
    #: What stands in the path where the page's pattern has a name in braces.
    parts: Mapping[str, str]
    query: Mapping[str, str]
    identity: Identity | None
    #: The kind of content that is wanted, one of those that the page has.
    wants: str


Page: TypeAlias = Callable[[Visit], Response]


class _Route(NamedTuple):
    method: str
    pattern: Sequence[str]
    page: Page
    roles: frozenset[str]
    kinds: Sequence[str]
    tells_of_log: bool

    def match(self, path: Sequence[str]) -> Mapping[str, str] | None:
        """The named parts of a path; None for one that this is not the pattern of."""
        if len(path) != len(self.pattern):
            return None
        pairs = list(zip(self.pattern, path, strict=True))
        if any(not is_name(expected) and expected != found for expected, found in pairs):
            return None
        return {expected[1:-1]: found for expected, found in pairs if is_name(expected)}


class Web:
    """The pages of one node."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._routes: list[_Route] = []
        #: Where other nodes have to be asked for changes: what to answer here to who asks for one.
        self.sends_away: Callable[[Request], Response | None] = lambda _: None

    def __repr__(self) -> str:
        return f"<Web: {len(self._routes)} pages>"

    def add(
        self,
        method: str,
        pattern: str,
        page: Page,
        *,
        roles: frozenset[str] = ANYBODY,
        kinds: Sequence[str] = (JSON,),
        tells_of_log: bool = True,
    ) -> None:
        """Have a page at paths like "/subscriptions/{stream}/{group}", for who has one of these roles.

        `kinds`: its kinds of content; the first is for who does not care. A page that does not tell of the log is
        answered also while nothing may be said of that.
        """
        self._routes.append(_Route(method, _split(pattern), page, roles, kinds, tells_of_log))

    def tells_of_log(self, request: Request) -> bool:
        """Whether the answer depends on what was written."""
        return any(route.tells_of_log for route, _ in self._find(request))

    def answer(self, request: Request) -> Response:
        """What a request is answered with; a bug is answered with 500. Raises `StorageError` where the file fails."""
        try:
            return self._answer(request)
        except StorageError:
            raise
        except Exception as error:
            logger.exception("the embedded node failed to answer %s %s", request.method, request.target)
            text = f"the embedded node failed: {type(error).__name__}; its log {logger.name} says where"
            return plain(500, text)

    def _answer(self, request: Request) -> Response:
        found = self._find(request)
        if not found:
            return plain(404, "Not Found")
        method = "GET" if request.method == "HEAD" else request.method
        if method != "GET" and (away := self.sends_away(request)) is not None:
            return away
        for route, parts in found:
            if route.method == method:
                return self._visit(route, parts, request, dict(parse_qsl(urlsplit(request.target).query)))
        return plain(405, "Method Not Allowed", ("allow", ", ".join(route.method for route, _ in found)))

    def _find(self, request: Request) -> Sequence[tuple[_Route, Mapping[str, str]]]:
        try:
            path = [unquote(part) for part in _split(urlsplit(request.target).path)]
        except ValueError:
            # No address at all, such as "//[".
            return ()
        return [(route, parts) for route in self._routes if (parts := route.match(path)) is not None]

    def _visit(self, route: _Route, parts: Mapping[str, str], request: Request, query: Mapping[str, str]) -> Response:
        header = request.header("authorization")
        identity = None if header is None else self._identify(header)
        if (header is not None and identity is None) or not _may_see(identity, route.roles):
            return plain(401, "Unauthorized", _LOG_IN)
        wants = _choose_kind(query.get("format"), request.header("accept"), route.kinds)
        if wants is None:
            return plain(406, "Not Acceptable")
        return route.page(Visit(request, parts, query, identity, wants))

    def _identify(self, header: str) -> Identity | None:
        """Whose this Authorization header is; None where it is nobody's."""
        scheme, _, value = header.strip().partition(" ")
        try:
            credentials = self._read_credentials(scheme.lower(), value.strip())
        except ValueError:
            return None
        return None if credentials is None else authenticate(self._service.accounts, credentials, self._service.tokens)

    def _read_credentials(self, scheme: str, value: str) -> Credentials | None:
        if scheme == "basic":
            login, _, password = b64decode(value, validate=True).decode().partition(":")
            return Credentials(login, password)
        if scheme == "bearer" and self._service.store.version.takes_tokens:
            return Credentials(token=value)
        return None


def is_name(part: str) -> bool:
    """Whether this part of a pattern stands for anything, and not for itself."""
    return part.startswith("{")


def _split(path: str) -> Sequence[str]:
    return path.strip("/").split("/")


def _may_see(identity: Identity | None, roles: frozenset[str]) -> bool:
    if roles is ANYBODY:
        return True
    return identity is not None and (EVERYONE in roles or not identity.roles.isdisjoint(roles))


def _choose_kind(format: str | None, accept: str | None, kinds: Sequence[str]) -> str | None:
    """The kind to answer with: `?format=` decides, else the header, where it names one that there is."""
    if format is not None:
        kind = _FORMATS.get(format)
        return kind if kind in kinds else None
    wanted = [kind.partition(";")[0].strip() for kind in (accept or "").split(",")]
    return next((kind for kind in wanted if kind in kinds), kinds[0])


_FORMATS = {"json": JSON, "text": TEXT}


def as_json(document: object, *headers: tuple[str, str], status: int = 200) -> Response:
    """A page of JSON, laid out as servers do."""
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    return Response(status, (("content-type", f"{JSON}; charset=utf-8"), *headers), body)


def plain(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """A page of text."""
    return Response(status, (("content-type", f"{TEXT}; charset=utf-8"), *headers), text.encode())
