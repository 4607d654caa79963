"""The pages for projections: how they stand, and what is done to them (docs/protocol.md, 5). Pure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from trio_extreme.embedded.acl import ADMINS, OPERATORS
from trio_extreme.embedded.http import ANY_USER, ANYBODY, JSON, as_json, plain
from trio_extreme.embedded.metadata import dump
from trio_extreme.http import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_extreme.embedded.http import Page, Visit, Web
    from trio_extreme.embedded.projections import Projections
    from trio_extreme.embedded.records import Place
    from trio_extreme.embedded.standings import Standing
    from trio_extreme.embedded.store import Store


class ProjectionPages:
    """The pages of one node that projects. `scheme`: what the links in them begin with."""

    def __init__(self, projections: Projections, store: Store, web: Web, scheme: str = "http") -> None:
        self._projections = projections
        self._store = store
        self._scheme = scheme
        version = store.version
        see = ANYBODY if version.opens_administration else ANY_USER
        web.add("GET", "/projections/any", self.all, roles=see)
        # Who asks only for those that are kept gets all, for they all are.
        for kind in ("all-non-transient", "continuous"):
            web.add("GET", f"/projections/{kind}", self.all, roles=see)
        web.add("GET", "/projection/{name}", self._of_one(self.one), roles=see)
        web.add("GET", "/projection/{name}/statistics", self._of_one(self.statistics), roles=see)
        for page in ("state", "result"):
            web.add("GET", f"/projection/{{name}}/{page}", self._of_one(self.state), roles=see)
        command = frozenset((ADMINS, OPERATORS) if version.lets_operators_project else (ADMINS,))
        for name, act in (
            ("enable", projections.enable),
            ("disable", projections.disable),
            ("reset", projections.reset),
        ):
            page_of_one = self._of_one(partial(_done, act))
            web.add("POST", f"/projection/{{name}}/command/{name}", page_of_one, roles=command)

    def __repr__(self) -> str:
        return f"<ProjectionPages of {self._projections!r}>"

    def all(self, visit: Visit) -> Response:
        """All of them."""
        return as_json({"projections": [self._describe(standing, visit) for standing in self._projections.standings]})

    def one(self, standing: Standing, visit: Visit) -> Response:
        """One of them."""
        return as_json(self._describe(standing, visit))

    def statistics(self, standing: Standing, visit: Visit) -> Response:
        """One of them, as if there were several."""
        return as_json({"projections": [self._describe(standing, visit)]})

    def state(self, standing: Standing, _: Visit) -> Response:
        """Its state: none of these has any."""
        place = self._projections.place_of(standing)
        position = dump({"$c": place.commit, "$p": place.prepare}).decode()
        return Response(200, (("content-type", f"{JSON}; charset=utf-8"), ("es-position", position)))

    def _of_one(self, page: Callable[[Standing, Visit], Response]) -> Page:
        """The page of one projection."""

        def found(visit: Visit) -> Response:
            standing = self._projections.standing(visit.parts["name"])
            return plain(404, "Not Found") if standing is None else page(standing, visit)

        return found

    def _describe(self, standing: Standing, visit: Visit) -> dict[str, Any]:
        place = self._projections.place_of(standing)
        position = f"C:{place.commit}/P:{place.prepare}"
        here = f"{self._scheme}://{visit.request.header('host') or ''}/projection/{standing.name}"
        return {
            "coreProcessingTime": 0,
            "version": standing.version,
            "epoch": standing.epoch,
            "effectiveName": standing.name,
            "writesInProgress": 0,
            "readsInProgress": 0,
            "partitionsCached": 1,
            "status": "Running" if standing.is_enabled else "Stopped",
            "stateReason": "",
            "name": standing.name,
            "mode": "Continuous",
            "position": position,
            "progress": self._progress(place),
            "lastCheckpoint": position,
            "eventsProcessedAfterRestart": standing.processed,
            "statusUrl": here,
            "stateUrl": f"{here}/state",
            "resultUrl": f"{here}/result",
            "enableCommandUrl": f"{here}/command/enable",
            "disableCommandUrl": f"{here}/command/disable",
            "checkpointStatus": "",
            "bufferedEvents": 0,
            "writePendingEventsBeforeCheckpoint": 0,
            "writePendingEventsAfterCheckpoint": 0,
        }

    def _progress(self, place: Place) -> float:
        """Of the log, in percent. What projections write themselves is at its end, and nothing is made of that."""
        end = self._store.log.end
        is_done = not self._store.storage.forward(place, 1)
        return 100.0 if is_done or not end else round(100 * place.commit / end, 2)


def _done(act: Callable[[Standing], None], standing: Standing, _: Visit) -> Response:
    act(standing)
    return as_json({"name": standing.name})
