"""What a node answers to each package (docs/protocol.md, 1.2 and 1.3). Pure: packages in, packages out.

Everything is answered at once, in the order in which it came. Real servers answer out of order; who relies on the
order here will be surprised there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trio_extreme.embedded.accounts import StoredAccounts
from trio_extreme.embedded.acl import NO_TOKENS, Identity, User, authenticate
from trio_extreme.embedded.clients import Client, Refusal, Request, require
from trio_extreme.embedded.groups import Groups
from trio_extreme.embedded.reads import Reads
from trio_extreme.embedded.scavenging import Scavenging
from trio_extreme.embedded.states import State
from trio_extreme.embedded.storage import StorageError
from trio_extreme.embedded.subscriptions import Hub
from trio_extreme.embedded.transactions import Transactions
from trio_extreme.embedded.writes import Writes
from trio_extreme.errors import ProtocolError
from trio_extreme.wire import schema
from trio_extreme.wire.commands import Command, decode_payload, parse
from trio_extreme.wire.framing import AUTHENTICATED, NO_CORRELATION, Frame, decode_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trio_extreme.embedded.projections import Projections
    from trio_extreme.embedded.store import Store
    from trio_extreme.values import Credentials

logger = logging.getLogger("trio_extreme.embedded")

_TRUSTED_WRITE = 0x02
_KNOWN_VERSIONS = (0, 1)
_UNANSWERED = frozenset(
    (
        Command.WRITE_EVENTS_COMPLETED,
        Command.TRANSACTION_START_COMPLETED,
        Command.TRANSACTION_WRITE_COMPLETED,
        Command.TRANSACTION_COMMIT_COMPLETED,
        Command.DELETE_STREAM_COMPLETED,
        Command.NOT_HANDLED,
    )
)
"""What nodes send each other when they forward requests: from a client it is taken and ignored."""
_NAMES: dict[int, str] = {
    command: "".join(part.capitalize() for part in command.name.split("_")) for command in Command
}
_ABOUT_CONNECTIONS = frozenset((Command.HEARTBEAT_REQUEST, Command.PING, Command.IDENTIFY_CLIENT, Command.AUTHENTICATE))
"""What concerns the connection itself: the node answers it in every state."""

_NEVER_REFUSED = frozenset(
    (
        Command.UNSUBSCRIBE_FROM_STREAM,
        Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS,
        Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS,
        Command.SCAVENGE_DATABASE,
    )
)
"""What a node takes that is starting."""


class Service:
    """One node, without its connections."""

    def __init__(self, store: Store, users: Mapping[str, User], tokens: Mapping[str, str] = NO_TOKENS) -> None:
        self.store = store
        self.hub = Hub(store)
        self.groups = Groups(store, self.hub)
        #: What the node projects, where it does.
        self.projections: Projections | None = None
        #: The accounts that it was opened with.
        self.users = users
        #: Those who can log in at the moment: these, and who was added, disabled or deleted since.
        self.accounts = StoredAccounts(store, self.hub, users)
        #: Bearer tokens that are known, and whose each is.
        self.tokens = tokens
        reads, writes, transactions = Reads(store), Writes(store, self.hub), Transactions(store, self.hub)
        served: dict[int, Callable[[Request], None]] = {
            Command.WRITE_EVENTS: writes.append,
            Command.TRANSACTION_START: transactions.start,
            Command.TRANSACTION_WRITE: transactions.write,
            Command.TRANSACTION_COMMIT: transactions.commit,
            Command.DELETE_STREAM: writes.delete,
            Command.READ_EVENT: reads.event,
            Command.READ_STREAM_EVENTS_FORWARD: reads.stream,
            Command.READ_STREAM_EVENTS_BACKWARD: reads.stream,
            Command.READ_ALL_EVENTS_FORWARD: reads.log,
            Command.READ_ALL_EVENTS_BACKWARD: reads.log,
            Command.FILTERED_READ_ALL_EVENTS_FORWARD: reads.filtered_log,
            Command.FILTERED_READ_ALL_EVENTS_BACKWARD: reads.filtered_log,
            Command.SCAVENGE_DATABASE: Scavenging(store).scavenge,
            Command.SUBSCRIBE_TO_STREAM: self.hub.subscribe,
            Command.FILTERED_SUBSCRIBE_TO_STREAM: self.hub.subscribe_filtered,
            Command.CREATE_PERSISTENT_SUBSCRIPTION: self.groups.create,
            Command.UPDATE_PERSISTENT_SUBSCRIPTION: self.groups.update,
            Command.DELETE_PERSISTENT_SUBSCRIPTION: self.groups.delete,
            Command.CONNECT_TO_PERSISTENT_SUBSCRIPTION: self.groups.connect,
            Command.PERSISTENT_SUBSCRIPTION_ACK_EVENTS: self.groups.ack,
            Command.PERSISTENT_SUBSCRIPTION_NAK_EVENTS: self.groups.nak,
            Command.UNSUBSCRIBE_FROM_STREAM: self._unsubscribe,
        }
        served = {command: handler for command, handler in served.items() if command not in store.version.lacks}
        #: Whatever reads, writes or subscribes: what a node that is starting refuses (docs/protocol.md, 1.4).
        self.requests = served.keys() - _NEVER_REFUSED
        #: Every command that has another answer than BadRequest.
        self.answered = served.keys() | _ABOUT_CONNECTIONS
        self._served = self._handlers = served
        self._is_ready = True
        #: What it is in its cluster, once it has started; a node that is alone is its own master.
        self.role = State.MASTER
        #: Where not all requests are served here: whether this one is. It answers itself those that are not.
        self.admits: Callable[[Request], bool] | None = None

    def __repr__(self) -> str:
        return f"<Service of {self.store!r}>"

    def set_ready(self, *, ready: bool) -> None:
        """Serve requests, or refuse them as a node does that is starting."""
        self._handlers = self._served if ready else self._served | dict.fromkeys(self.requests, _refuse_for_now)
        self._is_ready = ready

    @property
    def state(self) -> State:
        """What it is at present."""
        return self.role if self._is_ready else State.INITIALIZING

    def _unsubscribe(self, request: Request) -> None:
        """UnsubscribeFromStream, from a stream or a group."""
        if not self.groups.unsubscribe(request):
            self.hub.unsubscribe(request)

    def remove(self, client: Client, correlation: bytes) -> None:
        """End the subscription of this id, if there is one, without a word."""
        if not self.groups.remove(client, correlation):
            self.hub.remove(client, correlation)

    def forget(self, client: Client) -> None:
        """The client is gone: nothing more is pushed to it."""
        self.hub.forget(client)
        self.groups.forget(client)

    def drop_all(self, client: Client) -> None:
        """Tell a client that its subscriptions end, as a server does that shuts down."""
        self.hub.drop_all(client)
        self.groups.drop_all(client)

    def restart(self, *, crashed: bool) -> None:
        """Begin anew with what the log has; where it `crashed`, that is what was on the disk."""
        self.store.restart(crashed=crashed)
        self.accounts.restart()
        if self.projections is not None:
            self.projections.restart()
        if self.role is State.MASTER:
            self.groups.load()
        else:
            self.groups.rest()

    def receive(self, client: Client, frame: Frame) -> None:
        """Answer one package, if it is to be answered.

        A bug that it finds here costs whoever sent it a BadRequest, as on real servers, and nobody the node. Raises
        `StorageError` where the node's file cannot be read.
        """
        command, _, correlation, _ = frame
        self._try(client, command, correlation, lambda: self._receive(client, frame))

    def perform(self, request: Request) -> None:
        """Do what another node of the cluster was asked for, and answer that."""
        client, correlation, _, command, _ = request
        self._try(client, command, correlation, lambda: self._handle(request))

    def _try(self, client: Client, command: int, correlation: bytes, do: Callable[[], None]) -> None:
        try:
            do()
        except StorageError:
            raise
        except (Refusal, ProtocolError) as error:
            self._refuse(client, command, correlation, str(error))
        except Exception as error:
            logger.exception("the embedded node failed to answer %s", self._name(command))
            text = f"the embedded node failed: {type(error).__name__}; its log {logger.name} says where"
            self._refuse(client, command, correlation, text)

    def _receive(self, client: Client, frame: Frame) -> None:
        command, flags, correlation, payload = frame
        credentials: Credentials | None = None
        if flags & AUTHENTICATED:
            try:
                credentials, payload = self._split_credentials(bytes(payload))
            except ProtocolError as error:
                self.hang_up(client, f"Bad package: {error}.")
                return
        if command == Command.HEARTBEAT_REQUEST:
            client.reply(Command.HEARTBEAT_RESPONSE, correlation)
        elif command == Command.IDENTIFY_CLIENT:
            _identify(client, correlation, payload)
        elif command == Command.AUTHENTICATE:
            self._authenticate(client, correlation, credentials)
        elif command not in (Command.HEARTBEAT_RESPONSE, Command.BAD_REQUEST):
            self._request(client, frame, credentials, payload)

    def hang_up(self, client: Client, text: str) -> None:
        """Say why to the connection as a whole, and close it."""
        client.reply(Command.BAD_REQUEST, NO_CORRELATION, text.encode())
        client.close()

    def _request(self, client: Client, frame: Frame, credentials: Credentials | None, payload: bytes) -> None:
        command, flags, correlation, _ = frame
        if flags & _TRUSTED_WRITE:
            client.reply(Command.BAD_REQUEST, correlation, b"Trusted writes aren't supported over clear socket.")
            client.close()
            return
        try:
            self._dispatch(client, command, correlation, self._find_identity(client, credentials), payload)
        except _NotAuthenticated:
            client.reply(Command.NOT_AUTHENTICATED, correlation, b"Not Authenticated")

    def _find_identity(self, client: Client, credentials: Credentials | None) -> Identity | None:
        """Who asks: whom the package names, else whom Authenticate named, else nobody."""
        if credentials is not None:
            identity = self._check(credentials)
        elif client.login is None:
            return None
        else:
            identity = self._check(client.login) if self.store.version.rechecks_logins else client.identity
        if identity is None:
            raise _NotAuthenticated
        return identity

    def _check(self, credentials: Credentials) -> Identity | None:
        return authenticate(self.accounts, credentials, self.tokens)

    def _dispatch(
        self, client: Client, command: int, correlation: bytes, identity: Identity | None, payload: bytes
    ) -> None:
        # The server has one table of codecs for each version it knows, and none for a later one.
        require(client.speaks in _KNOWN_VERSIONS, f"no codec for version {client.speaks}")
        if command == Command.PING:
            client.reply(Command.PONG, correlation, payload)
        elif command not in _UNANSWERED:
            if command not in self._handlers:
                raise Refusal
            require(correlation != NO_CORRELATION, "the correlation id is empty")
            request = Request(client, correlation, identity, Command(command), decode_payload(command, payload))
            if self.admits is None or not self._is_ready or self.admits(request):
                self._handle(request)

    def _handle(self, request: Request) -> None:
        self._handlers[request.command](request)

    def _authenticate(self, client: Client, correlation: bytes, credentials: Credentials | None) -> None:
        if credentials is None:
            client.reply(Command.NOT_AUTHENTICATED, correlation, b"No user credentials provided.")
            return
        # Wrong ones stay too, and spoil every later package that has none of its own (docs/protocol.md, 1.3).
        client.login, client.identity = credentials, self._check(credentials)
        if client.identity is None:
            client.reply(Command.NOT_AUTHENTICATED, correlation, b"Unauthorized")
        else:
            client.reply(Command.AUTHENTICATED, correlation)

    def _refuse(self, client: Client, command: int, correlation: bytes, reason: str) -> None:
        text = f"Could not unwrap network package for command {self._name(command)}.\n{reason}"
        client.reply(Command.BAD_REQUEST, correlation, text.encode())

    def _name(self, command: int) -> str:
        """A command as this server calls it in its texts: by its name, or by its number where it knows none."""
        if command in self.store.version.lacks or command not in _NAMES:
            return str(command)
        return _NAMES[command]

    def _split_credentials(self, body: bytes) -> tuple[Credentials, bytes]:
        """The header's credentials, and the payload behind them (docs/protocol.md, 1.2)."""
        version = self.store.version
        credentials, payload = decode_credentials(body, tokens=version.takes_tokens)
        is_empty = not (credentials.password or credentials.token or payload)
        if is_empty and version.refuses_empty_passwords:
            # The length test of these servers counts one byte too many.
            msg = "Login length is too big, it doesn't fit into the package"
            raise ProtocolError(msg)
        if max(len(credentials.login.encode()), len(credentials.password.encode())) > version.longest_name:
            msg = f"login and password must be of {version.longest_name} bytes at most"
            raise ProtocolError(msg)
        return credentials, payload


def _identify(client: Client, correlation: bytes, payload: bytes) -> None:
    """IdentifyClient; one that cannot be read is logged by real servers, and not answered."""
    try:
        message = parse(schema.IdentifyClient, payload)
    except ProtocolError:
        return
    client.speaks = message.version
    client.name = message.connection_name
    client.reply(Command.CLIENT_IDENTIFIED, correlation)


class _NotAuthenticated(Exception):
    pass


def _refuse_for_now(request: Request) -> None:
    request.reply(Command.NOT_HANDLED, schema.NotHandled(reason=schema.NotHandled.NotHandledReason.NotReady))
