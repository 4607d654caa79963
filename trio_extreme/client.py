"""The face: `open_connection`, and every verb of a connection. The file to read first."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import trio

from trio_extreme.catching_up import CatchUpSubscription
from trio_extreme.engine import Engine
from trio_extreme.errors import ConnectFailed, GroupNotFound, InvalidArgument, StreamNotFound
from trio_extreme.events import Event, LogEvent, PushedEvent
from trio_extreme.filtered import FilteredLogReader, FilteredSubscription
from trio_extreme.groups import PersistentSettings
from trio_extreme.live import LiveSubscription
from trio_extreme.metadata import KEEP, DefaultAcl, StreamMetadata
from trio_extreme.operations import checks
from trio_extreme.operations.filtered_following import FilteredLogTrack
from trio_extreme.operations.following import LogTrack, StreamTrack
from trio_extreme.operations.metadata import ReadDefaultAcl, ReadMetadata, SetDefaultAcl, SetMetadata
from trio_extreme.operations.persistent import CreateGroup, DeleteGroup, UpdateGroup
from trio_extreme.operations.reading import LAST, ReadAll, ReadEvent, ReadStream
from trio_extreme.operations.scavenging import Scavenge
from trio_extreme.operations.session import Ping, Raw
from trio_extreme.operations.subscribing import ALL_STREAMS
from trio_extreme.operations.transactions import Begun
from trio_extreme.operations.writing import Append, Delete
from trio_extreme.persistent import PersistentSubscription
from trio_extreme.reading import LogReader, StreamReader
from trio_extreme.settings import NARROW_VERSION
from trio_extreme.tasks import open_plain_nursery
from trio_extreme.transactions import Transaction
from trio_extreme.transport import connect_tcp
from trio_extreme.updating import update_metadata
from trio_extreme.values import ANY, END, START, DeleteResult, Position, WriteResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from datetime import timedelta

    from google.protobuf.message import Message

    from trio_extreme.changes import ChangeIterator
    from trio_extreme.events import NewEvent
    from trio_extreme.filters import Filter
    from trio_extreme.groups import NakAction
    from trio_extreme.rights import Acl
    from trio_extreme.settings import Settings
    from trio_extreme.statistics import Statistics
    from trio_extreme.transport import Connect
    from trio_extreme.values import Credentials, LogPlace, Place, ScavengeResult, StreamPlace

G = TypeVar("G", CreateGroup, UpdateGroup)
P = ParamSpec("P")
V = TypeVar("V")

GROUP_DEFAULTS = PersistentSettings()

_LOG_START = Position(0, 0)
_LOG_BEGIN = Position(0, 0, inclusive=True)
_LOG_END = Position(-1, -1)


@asynccontextmanager
async def open_connection(settings: Settings, *, connect: Connect | None = None) -> AsyncIterator[Connection]:
    """A connection to one node, alone or of a cluster, as an async context manager.

    The body gets a `Connection` that is connected and identified, and whose credentials the server accepted. Raises
    `NotAuthenticated` for a wrong password and `CertificateRefused` at once, in a cluster where the master or a second
    node says so too, `Unsupported` for a token where the server knows none, and `ConnectFailed` after
    `first_attempts`, each of which is logged at WARNING. Everything that runs for the connection
    is gone when the block is left, for whatever reason, within `close_timeout` seconds. Tasks may share the connection.

    When the connection is lost, it is opened again, after delays that grow from `reconnect_delay` to
    `max_reconnect_delay`. Calls wait for it, within their deadlines. What was under way is asked again where that is
    safe; where it is not known whether something was written, and cannot be found out, the call raises
    `OutcomeUnknown`. Subscriptions go on where they were. After `max_attempts` in a row the body is not cancelled:
    every pending and later call and iterator raises `ConnectFailed`.

    `connect` is a seam for tests: a coroutine function from host and port to a `trio.abc.Stream`, such as an embedded
    node's `connect`.
    """
    async with serve(Engine(settings, connect or connect_tcp)) as connection:
        yield connection


@asynccontextmanager
async def serve(engine: Engine) -> AsyncIterator[Connection]:
    """What `open_connection` does, with an engine that was made elsewhere: with its own clock and source of chance."""
    async with open_plain_nursery() as nursery:
        try:
            await nursery.start(engine.run)
        except ConnectFailed as error:
            # Trio before 0.34 loses the cause of what is raised before a task has started.
            raise error from error.attempts[-1]
        hurry = True
        try:
            yield Connection(engine)
            hurry = False
        finally:
            await engine.close(hurry=hurry)  # noqa: ASYNC102 - it shields itself, for close_timeout at most


class Connection:
    """A connection to Event Store; made by `open_connection`, and shared by as many tasks as like.

    Every verb that asks the server may raise, beside what its own docstring names: `InvalidArgument` before anything is
    sent, and `ReadOnly` where the settings say so; `AccessDenied` and `NotAuthenticated`, `NotReady` and `NotMaster`,
    `BadRequest`, `Unsupported` where the server is too old for it, `OperationTimedOut` after `operation_timeout`,
    `ConnectFailed` and `ConnectionClosed` where there is no connection any more, `ConnectionLost` where it broke twice
    over this very request, and `ProtocolError`. While the connection is down, calls wait for it; the time counts.
    `credentials` asks as somebody else than the settings say. `require_master` has the node refuse what it would do
    without the master; by default writes do so in mode "write", and reads never. Cancelling a call is safe: the
    connection goes on, what was not sent yet never is, and the answer to what was sent is thrown away.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writes_to_master = engine.settings.mode == "write"
        self._is_narrow = engine.settings.protocol_version == NARROW_VERSION

    def __repr__(self) -> str:
        return f"<Connection to {self._engine.settings.address}>"

    # --- anything

    async def execute(
        self, message: Message, *, command: int | None = None, credentials: Credentials | None = None
    ) -> Message:
        """Send any request of `trio_extreme.messages` and return its reply message, whatever its result says.

        `command` is needed where one message serves two (`ReadStreamEvents`, `ReadAllEvents`). What belongs to a
        subscription or to the session is `InvalidArgument`. Cancelled or without an answer, anything but a read may
        have happened: then `OutcomeUnknown`.
        """
        return await self._engine.calls.call(Raw(message, command), credentials)

    async def ping(self, *, credentials: Credentials | None = None) -> float:
        """How many seconds a round trip takes. The server checks the credentials."""
        started = trio.current_time()
        await self._engine.calls.call(Ping(), credentials)
        return trio.current_time() - started

    def statistics(self) -> Statistics:
        """Bytes, frames, requests in flight, reconnects and what subscriptions hold, at this moment."""
        return self._engine.statistics

    def changes(self) -> ChangeIterator:
        """What becomes of the connection: an async iterator.

        There are `Connected`, `Lost`, `Reconnecting`, `Redirected` and `Closed`. It begins with the present state, and
        ends after `Closed`, which comes when the connection's block is left or `max_attempts` are used up. Who is more
        than a hundred changes behind misses the oldest. Cancelling loses none.
        """
        return self._engine.changes.watch()

    # --- writing

    async def append(
        self,
        stream: str,
        events: NewEvent | Iterable[NewEvent],
        *,
        expected: int = ANY,
        require_master: bool | None = None,
        credentials: Credentials | None = None,
    ) -> WriteResult:
        """Append one event, or several: all of them or none, with consecutive numbers.

        `expected` is the number of the stream's last event (`StreamReader.last_number` fits), or ANY, NO_STREAM,
        STREAM_EXISTS. Raises `WrongExpectedVersion`; `StreamDeleted` where it was hard-deleted; `FrameTooLarge` above
        `max_frame_size`, before anything is sent.

        It is never written twice. Where it was sent and no answer came, it is sent again with the same event ids, if
        need be after a look into the stream whether they are there; where that does not tell either, it raises
        `OutcomeUnknown`. Cancelled after it was sent, it may have happened: appending the same `NewEvent` objects again
        with a number writes them once, and so does NO_STREAM unless the stream is deleted in between.
        """
        batch = checks.check_events(events)
        operation = Append(
            checks.check_stream(stream),
            batch,
            checks.check_expected(self._fits("expected", expected)),
            require_master=self._wants_master(require_master),
        )
        return await self._engine.calls.call(operation, credentials)

    async def delete_stream(
        self,
        stream: str,
        *,
        expected: int,
        hard: bool = False,
        require_master: bool | None = None,
        credentials: Credentials | None = None,
    ) -> DeleteResult:
        """Delete a stream: softly, so that appending recreates it, its numbers going on; or for ever.

        A soft delete drops the stream's metadata. `hard=True` writes a tombstone: nobody can ever use the name again.
        Deleting what does not exist succeeds with ANY and NO_STREAM. Raises `WrongExpectedVersion` and `StreamDeleted`;
        `OutcomeUnknown` where it was sent and no answer came. Cancelled after it was sent, it may have happened.
        """
        checks.check_stream(stream)
        version = checks.check_expected(self._fits("expected", expected), exists=False)
        return await self._engine.calls.call(
            Delete(stream, version, hard=hard, require_master=self._wants_master(require_master)), credentials
        )

    def transaction(
        self, stream: str, *, expected: int, require_master: bool | None = None, credentials: Credentials | None = None
    ) -> Transaction:
        """Events that are written bit by bit and become visible together: `async with conn.transaction(…) as tx`.

        Inside, `await tx.write(events)`; leaving the block normally commits, and `tx.result` is then what `append`
        returns. Left by an error or cancelled, it is never committed, and nothing of it is ever seen. `append` writes
        all of its events or none too, up to a frame: this is for more than that.

        `expected` is the number of the stream's last event, ANY or NO_STREAM, and is held against the stream at the
        end. There the block raises `WrongExpectedVersion` (its `actual` is None), `StreamDeleted`, `AccessDenied`, and
        `InvalidTransaction` where it cannot be committed (see `Transaction.write`).

        It is never committed twice. Where the commit was sent and no answer came, it is sent again with a number, with
        NO_STREAM after a look into the stream, and raises `OutcomeUnknown` with ANY. Cancelled while it is committed,
        it may have happened.
        """
        begun = Begun(
            checks.check_stream(stream), checks.check_expected(self._fits("expected", expected), exists=False)
        )
        make = self._kind(Transaction)
        return make(
            self._engine.calls, begun, None, require_master=self._wants_master(require_master), credentials=credentials
        )

    def continue_transaction(
        self, id: int, *, require_master: bool | None = None, credentials: Credentials | None = None
    ) -> Transaction:
        """Go on with a transaction that was begun elsewhere, by its `id`: a block like that of `transaction`.

        Entering asks nothing. An `id` that the server does not know is mostly told at the end, as `AccessDenied`.
        Nobody tells us which stream it is for and what was expected, so a commit without an answer raises
        `OutcomeUnknown`, and refusals do not name the stream.
        """
        return self._kind(Transaction)(
            self._engine.calls,
            None,
            checks.check_transaction(id),
            require_master=self._wants_master(require_master),
            credentials=credentials,
        )

    async def scavenge(self, *, credentials: Credentials | None = None) -> ScavengeResult:
        """Have the node free the space of what was deleted, truncated or has expired, and can be read no more.

        Servers up to 4.1 answer when they have finished. Where that takes longer than `operation_timeout`, or the
        connection breaks, it raises `OutcomeUnknown`, and the server goes on. Those from 5.0 answer at once that it has
        begun. The result's `ScavengeStatus` tells which, and that another one is running already.

        It concerns the one node that is asked, and is never asked for twice. Members of `$admins` and `$ops` may; for
        others it raises `AccessDenied`. Cancelled after it was sent, it goes on.
        """
        return await self._engine.calls.call(Scavenge(), credentials)

    # --- groups of persistent subscriptions

    async def create_persistent(
        self,
        stream: str,
        group: str,
        settings: PersistentSettings = GROUP_DEFAULTS,
        *,
        credentials: Credentials | None = None,
    ) -> None:
        """Create a group, whose consumers share the events of a stream (`subscribe_persistent`).

        The stream need not exist. Raises `GroupExists`, `Unsupported` for a strategy that the server does not know,
        `BadRequest` for what else it dislikes, and `OutcomeUnknown` where it was sent and no answer came. By default
        only members of `$admins` may do it (`$ops` too, from 5.0). Cancelled after it was sent, it may have happened.
        """
        await self._engine.calls.call(self._configured(CreateGroup, stream, group, settings), credentials)

    async def update_persistent(
        self, stream: str, group: str, settings: PersistentSettings, *, credentials: Credentials | None = None
    ) -> None:
        """Give a group these settings, all of them; it keeps its place in the stream.

        The server disconnects its consumers; those of this library connect again. Raises `GroupNotFound`, and for the
        rest as `create_persistent`. Cancelled after it was sent, it may have happened.
        """
        await self._engine.calls.call(self._configured(UpdateGroup, stream, group, settings), credentials)

    async def delete_persistent(self, stream: str, group: str, *, credentials: Credentials | None = None) -> None:
        """Delete a group, with its place in the stream and what it has parked. Its consumers meet `GroupNotFound`.

        Raises `GroupNotFound`, and `OutcomeUnknown` where it was sent and no answer came. Cancelled after it was sent,
        it may have happened.
        """
        operation = DeleteGroup(checks.check_stream_of_group(stream), checks.check_group(group))
        await self._engine.calls.call(operation, credentials)

    async def ensure_persistent(
        self,
        stream: str,
        group: str,
        settings: PersistentSettings = GROUP_DEFAULTS,
        *,
        update: bool = False,
        credentials: Credentials | None = None,
    ) -> bool:
        """Create a group where there is none; whether there was none.

        One that exists stays as it is, or with `update=True` gets these settings, which disconnects its consumers for a
        moment. Unlike `create_persistent` it asks again where no answer came: the group is there in the end. Raises as
        that does, `OutcomeUnknown` included, and not `GroupExists`. Cancelled, it may have happened.
        """
        create = self._configured(CreateGroup, stream, group, settings, repeatable=True)
        change = self._configured(UpdateGroup, stream, group, settings, repeatable=True)
        calls = self._engine.calls
        deadline = calls.deadline()
        while not await calls.call(create, credentials, deadline=deadline):
            if not update:
                return False
            # Where somebody deletes it in between it has to be created after all.
            with suppress(GroupNotFound):
                await calls.call(change, credentials, deadline=deadline)
                return False
        return True

    # --- metadata and rights

    async def get_metadata(
        self, stream: str, *, require_master: bool = False, credentials: Credentials | None = None
    ) -> StreamMetadata:
        """The metadata of a stream, or of the log of all streams (`$all`), where only rights mean something.

        Empty, with the version NO_STREAM, where nobody ever set any; the stream itself need not exist. Where what is
        stored cannot be read, it is empty too, as it is for servers, and `problem` says why. Raises `AccessDenied`, and
        `StreamDeleted` where the stream was hard-deleted.
        """
        operation = ReadMetadata(checks.check_owner(stream), require_master=require_master)
        return await self._engine.calls.call(operation, credentials)

    async def set_metadata(
        self,
        stream: str,
        metadata: StreamMetadata,
        *,
        expected: int = ANY,
        require_master: bool | None = None,
        credentials: Credentials | None = None,
    ) -> WriteResult:
        """Replace the metadata of a stream, or of `$all`: what `metadata` does not say is gone.

        `expected` is the `version` of what is replaced. The result's `last` is the new one. Raises `AccessDenied`,
        `WrongExpectedVersion`, and `StreamDeleted` where the stream was hard-deleted. A soft-deleted stream comes back,
        empty: the server then writes it once more, with what is to stay hidden. Sent without an answer, it is sent
        again where `expected` is a number or NO_STREAM, and else raises `OutcomeUnknown`. Cancelled after it was sent,
        it may have happened.
        """
        checks.check_owner(stream)
        checks.check_document("metadata", metadata, StreamMetadata)
        operation = SetMetadata(
            stream,
            metadata,
            checks.check_expected(self._fits("expected", expected)),
            require_master=self._wants_master(require_master),
        )
        return await self._engine.calls.call(operation, credentials)

    async def update_metadata(
        self,
        stream: str,
        *,
        max_age: timedelta | None = KEEP,
        max_count: int | None = KEEP,
        truncate_before: int | None = KEEP,
        cache_control: timedelta | None = KEEP,
        acl: Acl | None = KEEP,
        custom: Mapping[str, Any] | None = KEEP,
        require_master: bool | None = None,
        credentials: Credentials | None = None,
    ) -> StreamMetadata:
        """Change what is given of a stream's metadata, keep the rest, and return all of it as it is stored then.

        None removes a value. `acl` is replaced as a whole; the keys of `custom` are changed one by one. It reads,
        changes and writes with the version that it read, and begins again when somebody else was faster; after twenty
        times it raises `WrongExpectedVersion`. Where nothing changes, nothing is written. Raises `MetadataUnreadable`
        rather than destroy what it cannot read, and what `get_metadata` and `set_metadata` raise, of which it needs the
        rights. Cancelled, it may have happened.
        """
        changes = {
            "max_age": max_age,
            "max_count": max_count,
            "truncate_before": truncate_before,
            "cache_control": cache_control,
            "acl": acl,
            "custom": custom,
        }
        checks.check_owner(stream)
        # What cannot be meant is refused before anything is sent.
        StreamMetadata().changed(changes)
        return await update_metadata(
            self._engine.calls,
            stream,
            changes,
            require_master=self._wants_master(require_master),
            credentials=credentials,
        )

    async def get_default_acl(
        self, *, require_master: bool = False, credentials: Credentials | None = None
    ) -> DefaultAcl:
        """The rights on streams that say nothing themselves: what the stream `$settings` holds.

        Empty, with the version NO_STREAM, where nobody ever set any; with a `problem` where it cannot be read. By
        default only members of `$admins` may ask: others get `AccessDenied`.
        """
        return await self._engine.calls.call(ReadDefaultAcl(require_master=require_master), credentials)

    async def set_default_acl(
        self,
        acl: DefaultAcl,
        *,
        expected: int = ANY,
        require_master: bool | None = None,
        credentials: Credentials | None = None,
    ) -> WriteResult:
        """Replace the rights on streams that say nothing themselves. By default only members of `$admins` may.

        It is an append to `$settings`, with all that `append` says of `expected`, of answers that do not come and of
        cancelling.
        """
        checks.check_document("acl", acl, DefaultAcl)
        operation = SetDefaultAcl(
            acl,
            checks.check_expected(self._fits("expected", expected)),
            require_master=self._wants_master(require_master),
        )
        return await self._engine.calls.call(operation, credentials)

    # --- reading

    async def read_event(
        self,
        stream: str,
        number: StreamPlace,
        *,
        resolve_links: bool = True,
        require_master: bool = False,
        credentials: Credentials | None = None,
    ) -> Event:
        """One event by its number, or the first by START and the last by END.

        Raises `EventNotFound`, `StreamNotFound`, `StreamDeleted`.
        """
        checks.check_stream(stream)
        wanted = LAST if number is END else 0 if number is START else checks.check_number(self._fits("number", number))
        operation = ReadEvent(stream, wanted, resolve_links=resolve_links, require_master=require_master)
        return await self._engine.calls.call(operation, credentials)

    def read_stream(
        self,
        stream: str,
        *,
        start: StreamPlace | None = None,
        backwards: bool = False,
        count: int | None = None,
        missing_ok: bool = False,
        resolve_links: bool = True,
        require_master: bool = False,
        page_size: int | None = None,
        credentials: Credentials | None = None,
    ) -> StreamReader:
        """The events of a stream, as an async iterator; `.pages()` gives them in lists.

        `start` is the number of the first event wanted, by default START, or END when `backwards`. `count` is how many
        in all. A stream that is missing or soft-deleted raises `StreamNotFound` at the first page (`missing_ok=True`
        yields nothing), a hard-deleted one `StreamDeleted`. Cancelling loses no event: the iterator goes on where it
        was.
        """
        checks.check_stream(stream)
        begin = start if start is not None else _default_start(backwards)
        place = checks.check_place_in_stream(self._fits("start", begin))
        if place is END and not backwards:
            raise _forwards_from_end()
        return self._kind(StreamReader)(
            self._engine.calls,
            stream,
            LAST if place is END else 0 if place is START else place,
            backwards=backwards,
            count=checks.check_count(count),
            missing_ok=missing_ok,
            resolve_links=resolve_links,
            require_master=require_master,
            page_size=self._page_size(page_size),
            credentials=credentials,
        )

    def read_all(
        self,
        *,
        start: LogPlace | None = None,
        backwards: bool = False,
        count: int | None = None,
        filter: Filter | None = None,
        resolve_links: bool = False,
        require_master: bool = False,
        page_size: int | None = None,
        credentials: Credentials | None = None,
    ) -> LogReader:
        """The events of all streams in the order of the log, as an async iterator; `.pages()` gives them in lists.

        `start` is inclusive forwards and exclusive `backwards`, as servers have it; by default START, or END backwards.
        By default only members of `$admins` may read the log: others get `AccessDenied`.

        `filter` leaves out what does not match; `count` counts what does. Servers choose by themselves since 20.6; from
        older ones all events come, and are sifted here, which is logged once. A regular expression that the server
        cannot read raises `BadRequest`, and where it is sifted here one that Python cannot read `InvalidArgument`.
        """
        place = checks.check_place_in_log(start if start is not None else _default_start(backwards))
        if place is END and not backwards:
            raise _forwards_from_end()
        reader: Callable[..., LogReader] = self._kind(LogReader)
        if filter is not None:
            reader = self._kind(FilteredLogReader)
            reader = partial(reader, filter=checks.check_filter(filter), support=self._engine.filter_support)
        return reader(
            self._engine.calls,
            _LOG_END if place is END else _LOG_START if place is START else place,
            backwards=backwards,
            count=checks.check_count(count),
            resolve_links=resolve_links,
            require_master=require_master,
            page_size=self._page_size(page_size),
            credentials=credentials,
        )

    async def last_number(
        self, stream: str, *, require_master: bool = False, credentials: Credentials | None = None
    ) -> int | None:
        """The number of a stream's last event, None where there is no stream. Raises `StreamDeleted`."""
        checks.check_stream(stream)
        operation = ReadStream(stream, LAST, 1, backwards=True, resolve_links=False, require_master=require_master)
        try:
            page = await self._engine.calls.call(operation, credentials)
        except StreamNotFound:
            return None  # noqa: ASYNC910 - the call was a checkpoint
        return page.last_number

    async def head(self, *, require_master: bool = False, credentials: Credentials | None = None) -> Position:
        """The place at the end of the log, where the next event of any stream will be: an inclusive `Position`.

        By default only members of `$admins` may ask: others get `AccessDenied`.
        """
        operation = ReadAll(_LOG_END, 1, backwards=False, resolve_links=False, require_master=require_master)
        page = await self._engine.calls.call(operation, credentials)
        return Position(page.at.commit, page.at.prepare, inclusive=True)

    # --- subscribing

    def subscribe(
        self,
        stream: str,
        *,
        start: StreamPlace = START,
        after: int | None = None,
        on_ahead: Literal["wait", "raise"] = "wait",
        resolve_links: bool = True,
        require_master: bool = False,
        page_size: int | None = None,
        credentials: Credentials | None = None,
    ) -> CatchUpSubscription[Event]:
        """All events of a stream, those stored and those to come: `async with conn.subscribe("s") as events`.

        In order, each once, across every reconnect. `after` is the checkpoint of the event handled last (its number;
        the link's, where it came through one), None where nothing was handled yet, so a saved value or None is right as
        it is. `start` is inclusive instead: an event number, START, or END for what comes from now on, without gaps.

        The stream need not exist. Inside, `async for event in events`, `events.batches()` for lists, or
        `events.with_notices()`. A consumer slower than its events goes on reading pages; nothing is lost. Iterating
        raises `StreamDeleted` where the stream is hard-deleted, and what a read raises; but to be offline is no error,
        and it takes ten sessions in a row that died over the same event to raise `ConnectionLost`.
        A place beyond the stream's end (the store was reset or restored) is told as `AheadOfServer`, and waited for;
        with `on_ahead="raise"` it raises `CheckpointBeyondEnd`.

        Entering does nothing yet, except that END is asked for. Cancelling loses no event; leaving ends it all.
        """
        checks.check_stream(stream)
        checks.check_one_place(start, after)
        first = checks.check_place_in_stream(self._fits("start", start))
        place = first if after is None else checks.check_after_in_stream(self._fits("after", after)) + 1

        async def begin() -> StreamTrack:
            first = await self._next_number(stream, place, require_master=require_master, credentials=credentials)
            return StreamTrack(stream, first, resolve_links=resolve_links, require_master=require_master)

        kind: type[CatchUpSubscription[Event]] = CatchUpSubscription
        return self._kind(kind)(
            self._engine,
            stream,
            begin,
            on_ahead=checks.check_on_ahead(on_ahead),
            resolve_links=resolve_links,
            page_size=self._page_size(page_size),
            credentials=credentials,
        )

    async def _next_number(
        self, stream: str, place: StreamPlace, *, require_master: bool, credentials: Credentials | None
    ) -> int:
        """Where a subscription to a stream begins."""
        if place is not END:
            await trio.lowlevel.checkpoint()
            return 0 if place is START else place
        operation = ReadStream(stream, LAST, 1, backwards=True, resolve_links=False, require_master=require_master)
        try:
            page = await self._engine.calls.call(operation, credentials)
        except StreamNotFound as error:
            # Softly deleted, it goes on with its old numbers.
            last = -1 if error.last_number is None else error.last_number
            return last + 1  # noqa: ASYNC910 - the call was a checkpoint
        return page.last_number + 1

    def subscribe_all(
        self,
        *,
        start: LogPlace = START,
        after: Position | None = None,
        filter: Filter | None = None,
        on_ahead: Literal["wait", "raise"] = "wait",
        resolve_links: bool = False,
        require_master: bool = False,
        page_size: int | None = None,
        credentials: Credentials | None = None,
    ) -> CatchUpSubscription[LogEvent]:
        """All events of all streams in the order of the log, those stored and those to come, as `subscribe`.

        Places are positions. `after` is the checkpoint of the event handled last; an inclusive `Position`, which is no
        event's own, is not left out. By default only members of `$admins` may read the log. Tombstones of streams come
        as events here.

        `filter` is as in `read_all`. How far it was looked where nothing matched, `events.with_notices()` tells as
        `Checkpoint`, whose `position` is a place to keep as an event's checkpoint is.
        """
        checks.check_one_place(start, after)
        place = checks.check_place_in_log(start) if after is None else checks.check_after_in_log(after)
        if filter is not None:
            checks.check_filter(filter)

        async def begin() -> LogTrack:
            if place is END:
                first = await self.head(require_master=require_master, credentials=credentials)
            else:
                await trio.lowlevel.checkpoint()
                first = _LOG_BEGIN if place is START else place if after is not None else _inclusive(place)
            if filter is None:
                return LogTrack(first, resolve_links=resolve_links, require_master=require_master)
            return FilteredLogTrack(first, filter, resolve_links=resolve_links, require_master=require_master)

        kind: type[CatchUpSubscription[LogEvent]] = CatchUpSubscription if filter is None else FilteredSubscription
        return self._kind(kind)(
            self._engine,
            ALL_STREAMS,
            begin,
            on_ahead=checks.check_on_ahead(on_ahead),
            resolve_links=resolve_links,
            page_size=self._page_size(page_size),
            credentials=credentials,
        )

    def subscribe_live(
        self, stream: str, *, resolve_links: bool = True, credentials: Credentials | None = None
    ) -> LiveSubscription[PushedEvent]:
        """What is appended to a stream from now on: `async with conn.subscribe_live("s") as events`.

        Entering returns once the server has confirmed; a refusal is raised there (`AccessDenied`, `StreamDeleted`).
        The stream need not exist. Inside, `async for event in events`, or `events.batches()` for lists. A consumer that
        falls behind by more than `live_buffer_events` meets `SubscriptionDropped` after what was buffered; a stream
        that is hard-deleted ends with `StreamDeleted`. What is appended while the connection is down never comes;
        `events.with_notices()` or the log says when. Leaving ends the subscription; cancelling loses no event.
        """
        checks.check_stream(stream)
        kind: type[LiveSubscription[PushedEvent]] = LiveSubscription
        return self._kind(kind)(self._engine, stream, PushedEvent, resolve_links=resolve_links, credentials=credentials)

    def subscribe_all_live(
        self, *, resolve_links: bool = False, credentials: Credentials | None = None
    ) -> LiveSubscription[LogEvent]:
        """What is appended to any stream from now on, as `subscribe_live`; by default for members of `$admins` only.

        Tombstones of streams come as events here.
        """
        kind: type[LiveSubscription[LogEvent]] = LiveSubscription
        return self._kind(kind)(
            self._engine, ALL_STREAMS, LogEvent, resolve_links=resolve_links, credentials=credentials
        )

    def subscribe_persistent(
        self,
        stream: str,
        group: str,
        *,
        in_flight: int = 10,
        auto_ack: bool = False,
        on_error: NakAction | None = None,
        credentials: Credentials | None = None,
    ) -> PersistentSubscription:
        """The events that a group hands out: `async with conn.subscribe_persistent("s", "g") as events`.

        Entering returns once the server has confirmed; a refusal is raised there (`GroupNotFound`, `TooManyConsumers`,
        `AccessDenied`, `StreamDeleted`). Inside, several tasks may iterate, and say of each event what became of it:
        `await events.ack(event)`, or `events.nak`. At most `in_flight` events are on their way or with them at a time.

        With `auto_ack` an event is acked when the body asks for the next, or leaves normally or by `break`; then only
        one task may iterate. A body that ends with an exception acks nothing and naks nothing: the group delivers again
        what was not acked, at once, to whoever is there. `on_error=NakAction.PARK`, or another action, naks all that
        the body had, but not where it was cancelled.

        It connects again by itself, as after every reconnect. Iterating raises `GroupNotFound` after the group was
        deleted, `TooManyConsumers` where others have taken its place, and `StreamDeleted`, but not for being offline.
        Leaving sends what was acked; cancelling loses no event.
        """
        return self._kind(PersistentSubscription)(
            self._engine,
            checks.check_stream_of_group(stream),
            checks.check_group(group),
            in_flight=checks.check_in_flight(in_flight),
            auto_ack=auto_ack,
            on_error=checks.check_on_error(on_error),
            credentials=credentials,
        )

    def _kind(self, kind: Callable[P, V]) -> Callable[P, V]:
        """What makes what a verb returns: who watches that makes something else (`trio_extreme.telemetry`)."""
        return kind

    def _configured(
        self, operation: type[G], stream: str, group: str, settings: PersistentSettings, *, repeatable: bool = False
    ) -> G:
        """The request for a group to be as these settings say."""
        self._fits("start_from", checks.check_group_settings(settings).start_from)
        return operation(
            checks.check_stream_of_group(stream), checks.check_group(group), settings, repeatable=repeatable
        )

    def _wants_master(self, require_master: bool | None) -> bool:  # noqa: FBT001 - what a verb was given
        """Whether a write is for the master alone: a node of mode "read" or "any" passes it on to the master."""
        return self._writes_to_master if require_master is None else require_master

    def _fits(self, argument: str, value: V) -> V:
        """What is given for a number of an event, if the connection can say it."""
        if self._is_narrow:
            checks.check_narrow(argument, value)
        return value

    def _page_size(self, page_size: int | None) -> int:
        return self._engine.settings.page_size if page_size is None else checks.check_page_size(page_size)


def _inclusive(place: Position) -> Position:
    return Position(place.commit, place.prepare, inclusive=True)


def _default_start(backwards: bool) -> Place:  # noqa: FBT001 - the reader's own flag, passed on
    return END if backwards else START


def _forwards_from_end() -> InvalidArgument:
    return InvalidArgument(
        "start: nothing lies forwards of END; read with backwards=True, or follow with subscribe_live()"
    )
