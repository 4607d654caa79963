"""The pages for groups: which there are, and how they are doing (docs/protocol.md, 5). Pure.

Groups are created, updated and deleted over the protocol; what servers have over HTTP alone is here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trio_extreme.embedded.groups_consumers import ROUND_ROBIN
from trio_extreme.embedded.http import ANY_USER, as_json, plain
from trio_extreme.embedded.records import WIDE_TOMBSTONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio_extreme.embedded.clients import Client
    from trio_extreme.embedded.groups import Groups
    from trio_extreme.embedded.groups_consumers import Consumer
    from trio_extreme.embedded.groups_running import Group
    from trio_extreme.embedded.http import Page, Visit, Web
    from trio_extreme.embedded.versions import ServerVersion
    from trio_extreme.http import Response

_CONFIG = {
    "resolveLinktos": "resolve_link_tos",
    "startFrom": "start_from",
    "messageTimeoutMilliseconds": "message_timeout_milliseconds",
    "extraStatistics": "record_statistics",
    "maxRetryCount": "max_retry_count",
    "liveBufferSize": "live_buffer_size",
    "bufferSize": "buffer_size",
    "readBatchSize": "read_batch_size",
    "checkPointAfterMilliseconds": "checkpoint_after_time",
    "minCheckPointCount": "checkpoint_min_count",
    "maxCheckPointCount": "checkpoint_max_count",
    "maxSubscriberCount": "subscriber_max_count",
    "namedConsumerStrategy": "named_consumer_strategy",
}
"""What these pages call the settings of a group."""


class GroupPages:
    """The pages of one node. `peer_of` tells where a client is, `scheme` what the links in them begin with.

    Groups are the master's. Another node of a cluster sends elsewhere who only looks, too.
    """

    def __init__(
        self,
        groups: Groups,
        version: ServerVersion,
        web: Web,
        peer_of: Callable[[Client], str],
        scheme: str = "http",
    ) -> None:
        self._groups = groups
        self._version = version
        self._web = web
        self._peer_of = peer_of
        self._scheme = scheme
        for pattern, page in (("", self.all), ("/{stream}", self.of_stream), ("/{stream}/{group}/info", self.one)):
            web.add("GET", f"/subscriptions{pattern}", partial(self._of_master, page), roles=ANY_USER)
        web.add("POST", "/subscriptions/{stream}/{group}/replayParked", self.replay, roles=ANY_USER)

    def __repr__(self) -> str:
        return f"<GroupPages of {self._groups!r}>"

    def _of_master(self, page: Page, visit: Visit) -> Response:
        return self._web.sends_away(visit.request) or page(visit)

    def all(self, visit: Visit) -> Response:
        """All groups."""
        return as_json([self._summary(group, visit) for group in self._groups.all()])

    def of_stream(self, visit: Visit) -> Response:
        """Those of one stream, if there are any."""
        found = [group for group in self._groups.all() if group.stream == visit.parts["stream"]]
        if not found:
            return as_json([], status=404)
        return as_json([self._summary(group, visit) for group in found])

    def one(self, visit: Visit) -> Response:
        """All that is known of one."""
        group = self._find(visit)
        return plain(404, "") if group is None else as_json(self._details(group, visit))

    def replay(self, visit: Visit) -> Response:
        """Have one hand out again what it has parked."""
        group, stop_at = self._find(visit), visit.query.get("stopAt")
        if not self._version.replays_some:
            stop_at = None
        if stop_at is not None and not (stop_at.isascii() and stop_at.isdigit() and int(stop_at[:20]) < WIDE_TOMBSTONE):
            return plain(400, "stopAt should be a properly formed positive long")
        if not self._groups.may_change(visit.identity):
            return as_json({"result": "AccessDenied", "reason": ""}, status=401)
        if group is None:
            return as_json({"result": "DoesNotExist", "reason": ""}, status=404)
        group.replay(None if stop_at is None else int(stop_at))
        return as_json({"result": "Success", "reason": ""})

    def _find(self, visit: Visit) -> Group | None:
        return self._groups.find(visit.parts["stream"], visit.parts["group"])

    # What is told of a group

    def _url(self, visit: Visit, path: str) -> str:
        """Where a page is, by the name under which this one was asked for."""
        return f"{self._scheme}://{visit.request.header('host') or ''}{path}"

    def _summary(self, group: Group, visit: Visit) -> dict[str, Any]:
        stream, name = quote(group.stream, safe=""), quote(group.settings.subscription_group_name, safe="")
        here = self._url(visit, f"/subscriptions/{stream}/{name}")
        parked = self._url(visit, f"/streams/%24persistentsubscription-{stream}::{name}-parked")
        return {
            "links": [{"href": f"{here}/info", "rel": "detail"}],
            "eventStreamId": group.stream,
            "groupName": group.settings.subscription_group_name,
            "parkedMessageUri": parked,
            "getMessagesUri": f"{here}/1",
            "status": "Live" if group.is_live else "Behind",
            "averageItemsPerSecond": round(group.rate, 2),
            "totalItemsProcessed": group.delivered,
            **self._places(group),
            "connectionCount": len(group.consumers),
            "totalInFlightMessages": len(group.outstanding),
        }

    def _places(self, group: Group) -> dict[str, Any]:
        checkpoint, known = group.last_checkpoint, group.last_known
        if not self._version.tells_parked:
            return {"lastProcessedEventNumber": checkpoint, "lastKnownEventNumber": known}
        told: dict[str, Any] = {
            "lastProcessedEventNumber": max(checkpoint, 0),
            "lastKnownEventNumber": max(known, 0),
        }
        # What there is none of is left out.
        if checkpoint >= 0:
            told["lastCheckpointedEventPosition"] = str(checkpoint)
        if known >= 0:
            told["lastKnownEventPosition"] = str(known)
        return told

    def _details(self, group: Group, visit: Visit) -> dict[str, Any]:
        told = self._summary(group, visit)
        del told["connectionCount"]
        replay = {"href": told["links"][0]["href"].removesuffix("info") + "replayParked", "rel": "replayParked"}
        told |= {
            "links": [*told["links"], replay],
            "config": self._config(group),
            "readBufferCount": group.backlog.new,
            "liveBufferCount": 0,
            "retryBufferCount": group.backlog.again,
            "connections": self._connections(group.consumers),
        }
        if self._version.tells_parked:
            told |= {"outstandingMessagesCount": len(group.outstanding), "parkedMessageCount": group.parked}
        return told

    def _config(self, group: Group) -> dict[str, Any]:
        told = {key: getattr(group.settings, name) for key, name in _CONFIG.items()}
        told["preferRoundRobin"] = group.settings.named_consumer_strategy == ROUND_ROBIN
        if self._version.tells_parked:
            told["startPosition"] = str(told["startFrom"])
        return told

    def _connections(self, consumers: Sequence[Consumer]) -> list[dict[str, Any]]:
        told = [
            {
                "from": self._peer_of(consumer.client),
                "username": consumer.login or "anonymous",
                "totalItemsProcessed": consumer.delivered,
                "extraStatistics": [],
                "availableSlots": consumer.room,
                "inFlightMessages": consumer.size - consumer.room,
            }
            for consumer in consumers
        ]
        if self._version.replays_some:
            for one, consumer in zip(told, consumers, strict=True):
                one["connectionName"] = consumer.client.name
        return told
