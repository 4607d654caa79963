"""What differs between the servers this node can be: one table, so that no other module asks for a version.

Rule: a field is named after what the server does, and each release names only what it does otherwise than the one
before it. Where docs/protocol.md says nothing of a release, it does what the nearest one does that it speaks of.

3.9.4 and 4.1.1 do what was recorded of them (`tests/conformance/recordings`). The others are from the servers' public
sources, and no recording has confirmed them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from trio_extreme.errors import InvalidArgument
from trio_extreme.wire.commands import Command

FILTERING = frozenset(
    (
        Command.FILTERED_READ_ALL_EVENTS_FORWARD,
        Command.FILTERED_READ_ALL_EVENTS_FORWARD_COMPLETED,
        Command.FILTERED_READ_ALL_EVENTS_BACKWARD,
        Command.FILTERED_READ_ALL_EVENTS_BACKWARD_COMPLETED,
        Command.FILTERED_SUBSCRIBE_TO_STREAM,
        Command.CHECKPOINT_REACHED,
    )
)
"""The commands of filtered reads and subscriptions, which servers have since 20.6."""


class Nameless(Enum):
    """What becomes of a SubscribeToStream that names no stream, not even the empty name of the log."""

    IGNORED = "the server fails inside, and never answers"
    DENIED = "it is refused as one to a forbidden stream"
    EVERYTHING = "it is one to the log of all streams"


class GroupChecks(Enum):
    """What becomes of a group that could hand out nothing, for it reads as many events at a time as it has room for."""

    NONE = "it is created, and hands out nothing"
    SILENT = "the server fails inside, and never answers"
    TOLD = "it is refused with a reason"


@dataclass(frozen=True, kw_only=True)
class ServerVersion:
    """One released server, as far as its clients can tell it from another. Sections are those of docs/protocol.md."""

    #: The release, in full.
    name: str
    #: What it is called for short, and in `VERSIONS`.
    short: str
    #: Whether it does what was recorded of that server; otherwise it does what its sources say.
    is_recorded: bool
    #: What is new in it to its clients, for who has to choose one.
    summary: str
    #: Commands that only later servers know. This one has no name for them in its refusal, but the number; that is how
    #: clients learn that it lacks them.
    lacks: frozenset[int]

    # Connections: sections 1.1 to 1.3

    #: Bytes that may wait to be sent when a package is queued; beyond them the connection is closed. None: any.
    send_limit: int | None
    #: Packages that may wait to be sent, likewise.
    queue_limit: int = 50_000
    #: Seconds of silence before the server asks for a sign of life, and what it waits for one before it hangs up.
    heartbeat_interval: float = 2.0
    heartbeat_timeout: float = 1.0
    #: Whether it also asks when it sent nothing itself in an interval, and looks again while it waits for an answer.
    watches_both_ways: bool
    #: Whether a negative 16-bit length before the credentials is that of a bearer token.
    takes_tokens: bool
    #: Bytes of a login, and of a password.
    longest_name: int
    #: Whether an empty password before an empty payload is a bad package.
    refuses_empty_passwords: bool
    #: Whether what Authenticate said is checked with each package that has no credentials of its own, or never again.
    rechecks_logins: bool
    #: Whether a client that never identified, or as version 0, gets numbers of 32 bits.
    narrows_numbers: bool

    # Messages: section 2.4

    #: Whether fields that are 0, false or empty are left out of all replies.
    omits_zeros: bool
    nameless_subscription: Nameless

    # Writing: sections 3.1 to 3.3

    #: What stands for "the whole stream" in `$tb` of a soft-deleted stream, and as the number of a tombstone.
    tombstone: int
    #: Bytes of the event number in a record of the log, of which positions are made.
    number_size: int
    #: Whether WriteEventsCompleted says `current_version`.
    says_current_version: bool
    #: Whether DeleteStreamCompleted says it too.
    says_current_version_of_deletes: bool
    #: Whether an append that was written already is told where, and not -1.
    says_where_it_was: bool
    #: Whether an append that names the last number of a soft-deleted stream recreates it, as -1 and -2 do.
    number_recreates: bool
    #: Whether a stream that never was can be soft-deleted.
    deletes_what_never_was: bool
    #: Whether only the data of an event counts for its greatest size, and neither its metadata nor its type.
    counts_data_only: bool
    #: Whether live events are pushed before the append that wrote them is answered.
    pushes_first: bool
    #: Whether a write to a transaction is acknowledged before it is known that there is one, and who may write to it.
    acknowledges_before_looking: bool
    #: Whether an id of a transaction where no record begins gets an answer at all.
    answers_impossible_transactions: bool

    # Reading: sections 3.4 to 3.6

    #: Whether `$` and any character are taken for the beginning of a metastream's name, where no event is found.
    takes_any_for_metastream: bool
    #: Whether a link to a stream that may not be read refuses the page it is in.
    checks_link_targets: bool
    #: Whether a page in which all has expired says where what has not expired begins.
    skips_expired: bool

    # Filters: section 3.7

    #: Whether a search window of 0 or less is as wide as a page, as one that is not said is.
    ignores_empty_windows: bool
    #: Whether of an explicit transaction nothing more is looked at once as many events were as are wanted.
    skips_in_transactions: bool

    # Subscriptions: section 3.8

    #: Whether streams of names that begin with `$mem-` are in memory, and their subscriptions confirmed as from -1 on.
    has_memory_streams: bool

    # Persistent subscriptions: section 3.10

    #: Who can be asked to choose between consumers.
    strategies: tuple[str, ...]
    #: What is looked at when a group is created or updated; with TOLD also whether it begins before the first event.
    group_checks: GroupChecks
    #: Whether groups are created, updated and deleted by who may write `$settings`, or by the admins and operators.
    lets_settings_rule_groups: bool
    #: Whether nobody anonymous can be a consumer, not even where everybody may read.
    refuses_anonymous_consumers: bool
    #: Whether a consumer is told how often an event was delivered before.
    tells_retries: bool
    #: Whether what a consumer had that left counts as delivered once, however often it was.
    forgets_retries: bool
    #: Whether a group that has caught up finds nothing behind links to streams of which the names have an @ in them.
    loses_live_links: bool
    #: Whether an event that was delivered again before it was late is taken for late when that time has come.
    keeps_deadlines: bool
    #: Whether 0 milliseconds to ack in are as many as one likes, or none.
    waits_forever_for_0: bool
    #: Whether a checkpoint is the first event that was not handled, or the last one before it.
    notes_what_is_not_handled: bool
    #: Whether the number in a checkpoint is a text.
    writes_checkpoints_as_text: bool
    #: Whether an ack, or nak, of nothing is a bad package.
    refuses_empty_acks: bool

    # Scavenging: section 3.11

    #: Whether a scavenge is answered when it is finished, and not when it has begun.
    reports_end_of_scavenge: bool

    # Access: section 3.12

    #: Whether rights are looked at before anything else of a request; a refusal then has no numbers but 0 and -1.
    checks_access_first: bool
    #: Whether someone anonymous can have any rights on streams.
    allows_anonymous: bool
    #: Whether `$$$$x` can be read and written by who may read and write the metadata of system streams, or by nobody.
    opens_nested_metastreams: bool

    # Projections: section 3.13

    #: The standard projections, in the order of the numbers that they sign with.
    projections: tuple[str, ...]
    #: Whether all metadata of a stream is taken for an event of its category, or only what deletes it.
    categorizes_metadata: bool

    # Clusters and the web interface: sections 1.4 and 5

    #: Whether it says leader and follower, where others say master and slave.
    says_leader: bool
    #: Whether a node that is alone answers to `/gossip` without being told to.
    gossips_alone: bool
    #: Whether a node has one HTTP endpoint in gossip, or an internal and an external one.
    has_one_http_endpoint: bool
    #: Whether gossip tells each node's version.
    gossips_version: bool
    #: Whether `/info` tells what a node can do and how it knows its users, and not how it projects.
    tells_features: bool
    #: Whether anybody may see its statistics.
    opens_statistics: bool

    # Users, projections and groups in the web interface: section 5

    #: Whether anybody may see who its users are and what its projections do, and whoever knows a password change it.
    opens_administration: bool
    #: Whether users who are no admins may see their own accounts.
    lets_users_see_themselves: bool
    #: Whether nobody may change a password but whose it is, be it known or not.
    owns_passwords: bool
    #: Whether members of `$ops` may stop and start projections, as those of `$admins` may.
    lets_operators_project: bool
    #: Whether a group can be told to replay no more than some of what it has parked, and tells its consumers' names.
    replays_some: bool
    #: Whether places of groups are told as texts too, and how many events a group has parked.
    tells_parked: bool


_MIB = 1024 * 1024

_V3 = ServerVersion(
    name="3.9.4",
    short="3.9.4",
    is_recorded=True,
    summary="32-bit event numbers",
    lacks=FILTERING,
    send_limit=None,
    watches_both_ways=False,
    takes_tokens=False,
    longest_name=255,
    refuses_empty_passwords=True,
    rechecks_logins=True,
    narrows_numbers=True,
    omits_zeros=False,
    nameless_subscription=Nameless.IGNORED,
    tombstone=2**31 - 1,
    number_size=4,
    says_current_version=False,
    says_current_version_of_deletes=False,
    says_where_it_was=False,
    number_recreates=True,
    deletes_what_never_was=True,
    counts_data_only=False,
    pushes_first=False,
    acknowledges_before_looking=True,
    answers_impossible_transactions=True,
    takes_any_for_metastream=True,
    checks_link_targets=True,
    skips_expired=False,
    ignores_empty_windows=False,
    skips_in_transactions=True,
    has_memory_streams=False,
    strategies=("RoundRobin", "DispatchToSingle", "Pinned"),
    group_checks=GroupChecks.NONE,
    lets_settings_rule_groups=True,
    refuses_anonymous_consumers=False,
    tells_retries=False,
    forgets_retries=True,
    loses_live_links=True,
    keeps_deadlines=True,
    waits_forever_for_0=True,
    notes_what_is_not_handled=True,
    writes_checkpoints_as_text=False,
    refuses_empty_acks=True,
    reports_end_of_scavenge=True,
    checks_access_first=False,
    allows_anonymous=True,
    opens_nested_metastreams=False,
    projections=("$streams", "$stream_by_category", "$by_category", "$by_event_type"),
    categorizes_metadata=True,
    says_leader=False,
    gossips_alone=False,
    has_one_http_endpoint=False,
    gossips_version=False,
    tells_features=False,
    opens_statistics=True,
    opens_administration=True,
    lets_users_see_themselves=False,
    owns_passwords=False,
    lets_operators_project=False,
    replays_some=False,
    tells_parked=False,
)
_V4 = replace(
    _V3,
    name="4.1.1",
    short="4.1.1",
    summary="64-bit event numbers; who leaves 10 MiB unread is cut off",
    send_limit=10 * _MIB,
    tombstone=2**63 - 1,
    number_size=8,
    says_current_version=True,
    number_recreates=False,
    pushes_first=True,
    tells_retries=True,
    keeps_deadlines=False,
    notes_what_is_not_handled=False,
    projections=("$stream_by_category", "$by_category", "$streams", "$by_event_type"),
)
_V5 = replace(
    _V4,
    name="5.0.11",
    short="5.0",
    is_recorded=False,
    summary="asks for signs of life also where it says nothing",
    watches_both_ways=True,
    nameless_subscription=Nameless.EVERYTHING,
    projections=_V3.projections,
    lets_settings_rule_groups=False,
    categorizes_metadata=False,
    reports_end_of_scavenge=False,
    opens_administration=False,
)
_V20 = replace(
    _V5,
    name="20.10.6",
    short="20.10",
    summary="filters; bearer tokens; links lead to whatever they name",
    lacks=frozenset(),
    takes_tokens=True,
    longest_name=127,
    refuses_empty_passwords=False,
    rechecks_logins=False,
    nameless_subscription=Nameless.DENIED,
    says_where_it_was=True,
    acknowledges_before_looking=False,
    answers_impossible_transactions=False,
    checks_link_targets=False,
    skips_expired=True,
    strategies=(*_V5.strategies, "PinnedByCorrelation"),
    group_checks=GroupChecks.SILENT,
    refuses_anonymous_consumers=True,
    forgets_retries=False,
    loses_live_links=False,
    waits_forever_for_0=False,
    checks_access_first=True,
    opens_nested_metastreams=True,
    says_leader=True,
    gossips_alone=True,
    has_one_http_endpoint=True,
    tells_features=True,
    lets_users_see_themselves=True,
    owns_passwords=True,
    lets_operators_project=True,
    replays_some=True,
)
_V22 = replace(
    _V20,
    name="22.10.5",
    short="22.10",
    summary="leaves zeros out; soft-deletes nothing that never was",
    narrows_numbers=False,
    omits_zeros=True,
    nameless_subscription=Nameless.EVERYTHING,
    says_current_version_of_deletes=True,
    deletes_what_never_was=False,
    counts_data_only=True,
    takes_any_for_metastream=False,
    ignores_empty_windows=True,
    tells_parked=True,
    group_checks=GroupChecks.TOLD,
    refuses_empty_acks=False,
)
_V23 = replace(
    _V22,
    name="23.10.6",
    short="23.10",
    summary="no rights for anonymous users",
    skips_in_transactions=False,
    has_memory_streams=True,
    writes_checkpoints_as_text=True,
    allows_anonymous=False,
    gossips_version=True,
    opens_statistics=False,
)

VERSIONS = {version.short: version for version in (_V3, _V4, _V5, _V20, _V22, _V23)}
"""The servers this node can be, by their short names."""


def find_version(name: str) -> ServerVersion:
    """The version of this name, short or in full. Raises `InvalidArgument`, which lists those there are."""
    for version in VERSIONS.values():
        if name in (version.short, version.name):
            return version
    known = ", ".join(VERSIONS)
    msg = f"version: {name!r} is none of those the node can be: {known}"
    raise InvalidArgument(msg)
