# Made from proto/messages.proto by `nox -s proto`; edit that.
from collections.abc import Iterable
from enum import IntEnum

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer
from google.protobuf.message import Message

class OperationResult(IntEnum):
    Success = 0
    PrepareTimeout = 1
    CommitTimeout = 2
    ForwardTimeout = 3
    WrongExpectedVersion = 4
    StreamDeleted = 5
    InvalidTransaction = 6
    AccessDenied = 7

class NewEvent(Message):
    event_id: bytes
    event_type: str
    data_content_type: int
    metadata_content_type: int
    data: bytes
    metadata: bytes
    def __init__(
        self,
        *,
        event_id: bytes | None = ...,
        event_type: str | None = ...,
        data_content_type: int | None = ...,
        metadata_content_type: int | None = ...,
        data: bytes | None = ...,
        metadata: bytes | None = ...,
    ) -> None: ...

class EventRecord(Message):
    event_stream_id: str
    event_number: int
    event_id: bytes
    event_type: str
    data_content_type: int
    metadata_content_type: int
    data: bytes
    metadata: bytes
    created: int
    created_epoch: int
    def __init__(
        self,
        *,
        event_stream_id: str | None = ...,
        event_number: int | None = ...,
        event_id: bytes | None = ...,
        event_type: str | None = ...,
        data_content_type: int | None = ...,
        metadata_content_type: int | None = ...,
        data: bytes | None = ...,
        metadata: bytes | None = ...,
        created: int | None = ...,
        created_epoch: int | None = ...,
    ) -> None: ...

class ResolvedIndexedEvent(Message):
    @property
    def event(self) -> EventRecord: ...
    @property
    def link(self) -> EventRecord: ...
    def __init__(
        self,
        *,
        event: EventRecord | None = ...,
        link: EventRecord | None = ...,
    ) -> None: ...

class ResolvedEvent(Message):
    @property
    def event(self) -> EventRecord: ...
    @property
    def link(self) -> EventRecord: ...
    commit_position: int
    prepare_position: int
    def __init__(
        self,
        *,
        event: EventRecord | None = ...,
        link: EventRecord | None = ...,
        commit_position: int | None = ...,
        prepare_position: int | None = ...,
    ) -> None: ...

class WriteEvents(Message):
    event_stream_id: str
    expected_version: int
    @property
    def events(self) -> RepeatedCompositeFieldContainer[NewEvent]: ...
    require_master: bool
    def __init__(
        self,
        *,
        event_stream_id: str | None = ...,
        expected_version: int | None = ...,
        events: Iterable[NewEvent] | None = ...,
        require_master: bool | None = ...,
    ) -> None: ...

class WriteEventsCompleted(Message):
    result: int
    message: str
    first_event_number: int
    last_event_number: int
    prepare_position: int
    commit_position: int
    current_version: int
    def __init__(
        self,
        *,
        result: int | None = ...,
        message: str | None = ...,
        first_event_number: int | None = ...,
        last_event_number: int | None = ...,
        prepare_position: int | None = ...,
        commit_position: int | None = ...,
        current_version: int | None = ...,
    ) -> None: ...

class DeleteStream(Message):
    event_stream_id: str
    expected_version: int
    require_master: bool
    hard_delete: bool
    def __init__(
        self,
        *,
        event_stream_id: str | None = ...,
        expected_version: int | None = ...,
        require_master: bool | None = ...,
        hard_delete: bool | None = ...,
    ) -> None: ...

class DeleteStreamCompleted(Message):
    result: int
    message: str
    prepare_position: int
    commit_position: int
    current_version: int
    def __init__(
        self,
        *,
        result: int | None = ...,
        message: str | None = ...,
        prepare_position: int | None = ...,
        commit_position: int | None = ...,
        current_version: int | None = ...,
    ) -> None: ...

class TransactionStart(Message):
    event_stream_id: str
    expected_version: int
    require_master: bool
    def __init__(
        self,
        *,
        event_stream_id: str | None = ...,
        expected_version: int | None = ...,
        require_master: bool | None = ...,
    ) -> None: ...

class TransactionStartCompleted(Message):
    transaction_id: int
    result: int
    message: str
    def __init__(
        self,
        *,
        transaction_id: int | None = ...,
        result: int | None = ...,
        message: str | None = ...,
    ) -> None: ...

class TransactionWrite(Message):
    transaction_id: int
    @property
    def events(self) -> RepeatedCompositeFieldContainer[NewEvent]: ...
    require_master: bool
    def __init__(
        self,
        *,
        transaction_id: int | None = ...,
        events: Iterable[NewEvent] | None = ...,
        require_master: bool | None = ...,
    ) -> None: ...

class TransactionWriteCompleted(Message):
    transaction_id: int
    result: int
    message: str
    def __init__(
        self,
        *,
        transaction_id: int | None = ...,
        result: int | None = ...,
        message: str | None = ...,
    ) -> None: ...

class TransactionCommit(Message):
    transaction_id: int
    require_master: bool
    def __init__(
        self,
        *,
        transaction_id: int | None = ...,
        require_master: bool | None = ...,
    ) -> None: ...

class TransactionCommitCompleted(Message):
    transaction_id: int
    result: int
    message: str
    first_event_number: int
    last_event_number: int
    prepare_position: int
    commit_position: int
    def __init__(
        self,
        *,
        transaction_id: int | None = ...,
        result: int | None = ...,
        message: str | None = ...,
        first_event_number: int | None = ...,
        last_event_number: int | None = ...,
        prepare_position: int | None = ...,
        commit_position: int | None = ...,
    ) -> None: ...

class ReadEvent(Message):
    event_stream_id: str
    event_number: int
    resolve_link_tos: bool
    require_master: bool
    def __init__(
        self,
        *,
        event_stream_id: str | None = ...,
        event_number: int | None = ...,
        resolve_link_tos: bool | None = ...,
        require_master: bool | None = ...,
    ) -> None: ...

class ReadEventCompleted(Message):
    class ReadEventResult(IntEnum):
        Success = 0
        NotFound = 1
        NoStream = 2
        StreamDeleted = 3
        Error = 4
        AccessDenied = 5

    result: int
    @property
    def event(self) -> ResolvedIndexedEvent: ...
    error: str
    def __init__(
        self,
        *,
        result: int | None = ...,
        event: ResolvedIndexedEvent | None = ...,
        error: str | None = ...,
    ) -> None: ...

class ReadStreamEvents(Message):
    event_stream_id: str
    from_event_number: int
    max_count: int
    resolve_link_tos: bool
    require_master: bool
    def __init__(
        self,
        *,
        event_stream_id: str | None = ...,
        from_event_number: int | None = ...,
        max_count: int | None = ...,
        resolve_link_tos: bool | None = ...,
        require_master: bool | None = ...,
    ) -> None: ...

class ReadStreamEventsCompleted(Message):
    class ReadStreamResult(IntEnum):
        Success = 0
        NoStream = 1
        StreamDeleted = 2
        NotModified = 3
        Error = 4
        AccessDenied = 5

    @property
    def events(self) -> RepeatedCompositeFieldContainer[ResolvedIndexedEvent]: ...
    result: int
    next_event_number: int
    last_event_number: int
    is_end_of_stream: bool
    last_commit_position: int
    error: str
    def __init__(
        self,
        *,
        events: Iterable[ResolvedIndexedEvent] | None = ...,
        result: int | None = ...,
        next_event_number: int | None = ...,
        last_event_number: int | None = ...,
        is_end_of_stream: bool | None = ...,
        last_commit_position: int | None = ...,
        error: str | None = ...,
    ) -> None: ...

class ReadAllEvents(Message):
    commit_position: int
    prepare_position: int
    max_count: int
    resolve_link_tos: bool
    require_master: bool
    def __init__(
        self,
        *,
        commit_position: int | None = ...,
        prepare_position: int | None = ...,
        max_count: int | None = ...,
        resolve_link_tos: bool | None = ...,
        require_master: bool | None = ...,
    ) -> None: ...

class ReadAllEventsCompleted(Message):
    class ReadAllResult(IntEnum):
        Success = 0
        NotModified = 1
        Error = 2
        AccessDenied = 3

    commit_position: int
    prepare_position: int
    @property
    def events(self) -> RepeatedCompositeFieldContainer[ResolvedEvent]: ...
    next_commit_position: int
    next_prepare_position: int
    result: int
    error: str
    def __init__(
        self,
        *,
        commit_position: int | None = ...,
        prepare_position: int | None = ...,
        events: Iterable[ResolvedEvent] | None = ...,
        next_commit_position: int | None = ...,
        next_prepare_position: int | None = ...,
        result: int | None = ...,
        error: str | None = ...,
    ) -> None: ...

class SubscribeToStream(Message):
    event_stream_id: str
    resolve_link_tos: bool
    def __init__(
        self,
        *,
        event_stream_id: str | None = ...,
        resolve_link_tos: bool | None = ...,
    ) -> None: ...

class SubscriptionConfirmation(Message):
    last_commit_position: int
    last_event_number: int
    def __init__(
        self,
        *,
        last_commit_position: int | None = ...,
        last_event_number: int | None = ...,
    ) -> None: ...

class StreamEventAppeared(Message):
    @property
    def event(self) -> ResolvedEvent: ...
    def __init__(
        self,
        *,
        event: ResolvedEvent | None = ...,
    ) -> None: ...

class StreamEventsAppeared(Message):
    @property
    def event(self) -> RepeatedCompositeFieldContainer[ResolvedEvent]: ...
    def __init__(
        self,
        *,
        event: Iterable[ResolvedEvent] | None = ...,
    ) -> None: ...

class UnsubscribeFromStream(Message):
    def __init__(self) -> None: ...

class SubscriptionDropped(Message):
    class SubscriptionDropReason(IntEnum):
        Unsubscribed = 0
        AccessDenied = 1
        NotFound = 2
        PersistentSubscriptionDeleted = 3
        SubscriberMaxCountReached = 4

    reason: int
    def __init__(
        self,
        *,
        reason: int | None = ...,
    ) -> None: ...

class NotHandled(Message):
    class NotHandledReason(IntEnum):
        NotReady = 0
        TooBusy = 1
        NotMaster = 2
        IsReadOnly = 3

    class MasterInfo(Message):
        external_tcp_address: str
        external_tcp_port: int
        external_http_address: str
        external_http_port: int
        external_secure_tcp_address: str
        external_secure_tcp_port: int
        def __init__(
            self,
            *,
            external_tcp_address: str | None = ...,
            external_tcp_port: int | None = ...,
            external_http_address: str | None = ...,
            external_http_port: int | None = ...,
            external_secure_tcp_address: str | None = ...,
            external_secure_tcp_port: int | None = ...,
        ) -> None: ...

    reason: int
    additional_info: bytes
    def __init__(
        self,
        *,
        reason: int | None = ...,
        additional_info: bytes | None = ...,
    ) -> None: ...

class ScavengeDatabase(Message):
    def __init__(self) -> None: ...

class ScavengeDatabaseCompleted(Message):
    class ScavengeResult(IntEnum):
        Success = 0
        InProgress = 1
        Failed = 2

    result: int
    error: str
    total_time_ms: int
    total_space_saved: int
    def __init__(
        self,
        *,
        result: int | None = ...,
        error: str | None = ...,
        total_time_ms: int | None = ...,
        total_space_saved: int | None = ...,
    ) -> None: ...

class CreatePersistentSubscription(Message):
    subscription_group_name: str
    event_stream_id: str
    resolve_link_tos: bool
    start_from: int
    message_timeout_milliseconds: int
    record_statistics: bool
    live_buffer_size: int
    read_batch_size: int
    buffer_size: int
    max_retry_count: int
    prefer_round_robin: bool
    checkpoint_after_time: int
    checkpoint_max_count: int
    checkpoint_min_count: int
    subscriber_max_count: int
    named_consumer_strategy: str
    def __init__(
        self,
        *,
        subscription_group_name: str | None = ...,
        event_stream_id: str | None = ...,
        resolve_link_tos: bool | None = ...,
        start_from: int | None = ...,
        message_timeout_milliseconds: int | None = ...,
        record_statistics: bool | None = ...,
        live_buffer_size: int | None = ...,
        read_batch_size: int | None = ...,
        buffer_size: int | None = ...,
        max_retry_count: int | None = ...,
        prefer_round_robin: bool | None = ...,
        checkpoint_after_time: int | None = ...,
        checkpoint_max_count: int | None = ...,
        checkpoint_min_count: int | None = ...,
        subscriber_max_count: int | None = ...,
        named_consumer_strategy: str | None = ...,
    ) -> None: ...

class DeletePersistentSubscription(Message):
    subscription_group_name: str
    event_stream_id: str
    def __init__(
        self,
        *,
        subscription_group_name: str | None = ...,
        event_stream_id: str | None = ...,
    ) -> None: ...

class UpdatePersistentSubscription(Message):
    subscription_group_name: str
    event_stream_id: str
    resolve_link_tos: bool
    start_from: int
    message_timeout_milliseconds: int
    record_statistics: bool
    live_buffer_size: int
    read_batch_size: int
    buffer_size: int
    max_retry_count: int
    prefer_round_robin: bool
    checkpoint_after_time: int
    checkpoint_max_count: int
    checkpoint_min_count: int
    subscriber_max_count: int
    named_consumer_strategy: str
    def __init__(
        self,
        *,
        subscription_group_name: str | None = ...,
        event_stream_id: str | None = ...,
        resolve_link_tos: bool | None = ...,
        start_from: int | None = ...,
        message_timeout_milliseconds: int | None = ...,
        record_statistics: bool | None = ...,
        live_buffer_size: int | None = ...,
        read_batch_size: int | None = ...,
        buffer_size: int | None = ...,
        max_retry_count: int | None = ...,
        prefer_round_robin: bool | None = ...,
        checkpoint_after_time: int | None = ...,
        checkpoint_max_count: int | None = ...,
        checkpoint_min_count: int | None = ...,
        subscriber_max_count: int | None = ...,
        named_consumer_strategy: str | None = ...,
    ) -> None: ...

class UpdatePersistentSubscriptionCompleted(Message):
    class UpdatePersistentSubscriptionResult(IntEnum):
        Success = 0
        DoesNotExist = 1
        Fail = 2
        AccessDenied = 3

    result: int
    reason: str
    def __init__(
        self,
        *,
        result: int | None = ...,
        reason: str | None = ...,
    ) -> None: ...

class CreatePersistentSubscriptionCompleted(Message):
    class CreatePersistentSubscriptionResult(IntEnum):
        Success = 0
        AlreadyExists = 1
        Fail = 2
        AccessDenied = 3

    result: int
    reason: str
    def __init__(
        self,
        *,
        result: int | None = ...,
        reason: str | None = ...,
    ) -> None: ...

class DeletePersistentSubscriptionCompleted(Message):
    class DeletePersistentSubscriptionResult(IntEnum):
        Success = 0
        DoesNotExist = 1
        Fail = 2
        AccessDenied = 3

    result: int
    reason: str
    def __init__(
        self,
        *,
        result: int | None = ...,
        reason: str | None = ...,
    ) -> None: ...

class ConnectToPersistentSubscription(Message):
    subscription_id: str
    event_stream_id: str
    allowed_in_flight_messages: int
    def __init__(
        self,
        *,
        subscription_id: str | None = ...,
        event_stream_id: str | None = ...,
        allowed_in_flight_messages: int | None = ...,
    ) -> None: ...

class PersistentSubscriptionAckEvents(Message):
    subscription_id: str
    @property
    def processed_event_ids(self) -> RepeatedScalarFieldContainer[bytes]: ...
    def __init__(
        self,
        *,
        subscription_id: str | None = ...,
        processed_event_ids: Iterable[bytes] | None = ...,
    ) -> None: ...

class PersistentSubscriptionNakEvents(Message):
    class NakAction(IntEnum):
        Unknown = 0
        Park = 1
        Retry = 2
        Skip = 3
        Stop = 4

    subscription_id: str
    @property
    def processed_event_ids(self) -> RepeatedScalarFieldContainer[bytes]: ...
    message: str
    action: int
    def __init__(
        self,
        *,
        subscription_id: str | None = ...,
        processed_event_ids: Iterable[bytes] | None = ...,
        message: str | None = ...,
        action: int | None = ...,
    ) -> None: ...

class PersistentSubscriptionConfirmation(Message):
    last_commit_position: int
    subscription_id: str
    last_event_number: int
    def __init__(
        self,
        *,
        last_commit_position: int | None = ...,
        subscription_id: str | None = ...,
        last_event_number: int | None = ...,
    ) -> None: ...

class PersistentSubscriptionStreamEventAppeared(Message):
    @property
    def event(self) -> ResolvedIndexedEvent: ...
    retryCount: int
    def __init__(
        self,
        *,
        event: ResolvedIndexedEvent | None = ...,
        retryCount: int | None = ...,
    ) -> None: ...

class HandedEvent(Message):
    @property
    def event(self) -> EventRecord: ...
    link: bytes
    def __init__(
        self,
        *,
        event: EventRecord | None = ...,
        link: bytes | None = ...,
    ) -> None: ...

class PersistentSubscriptionStreamEventsAppeared(Message):
    @property
    def event(self) -> RepeatedCompositeFieldContainer[HandedEvent]: ...
    @property
    def retryCount(self) -> RepeatedScalarFieldContainer[int]: ...
    def __init__(
        self,
        *,
        event: Iterable[HandedEvent] | None = ...,
        retryCount: Iterable[int] | None = ...,
    ) -> None: ...

class IdentifyClient(Message):
    version: int
    connection_name: str
    def __init__(
        self,
        *,
        version: int | None = ...,
        connection_name: str | None = ...,
    ) -> None: ...

class ClientIdentified(Message):
    def __init__(self) -> None: ...

class ScavengeDatabaseResponse(Message):
    class ScavengeResult(IntEnum):
        Started = 0
        InProgress = 1
        Unauthorized = 2

    result: int
    scavengeId: str
    def __init__(
        self,
        *,
        result: int | None = ...,
        scavengeId: str | None = ...,
    ) -> None: ...

class Filter(Message):
    class FilterContext(IntEnum):
        StreamId = 0
        EventType = 1

    class FilterType(IntEnum):
        Regex = 0
        Prefix = 1

    context: int
    type: int
    @property
    def data(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(
        self,
        *,
        context: int | None = ...,
        type: int | None = ...,
        data: Iterable[str] | None = ...,
    ) -> None: ...

class FilteredReadAllEvents(Message):
    commit_position: int
    prepare_position: int
    max_count: int
    max_search_window: int
    resolve_link_tos: bool
    require_master: bool
    @property
    def filter(self) -> Filter: ...
    def __init__(
        self,
        *,
        commit_position: int | None = ...,
        prepare_position: int | None = ...,
        max_count: int | None = ...,
        max_search_window: int | None = ...,
        resolve_link_tos: bool | None = ...,
        require_master: bool | None = ...,
        filter: Filter | None = ...,
    ) -> None: ...

class FilteredReadAllEventsCompleted(Message):
    class FilteredReadAllResult(IntEnum):
        Success = 0
        NotModified = 1
        Error = 2
        AccessDenied = 3

    commit_position: int
    prepare_position: int
    @property
    def events(self) -> RepeatedCompositeFieldContainer[ResolvedEvent]: ...
    next_commit_position: int
    next_prepare_position: int
    is_end_of_stream: bool
    result: int
    error: str
    def __init__(
        self,
        *,
        commit_position: int | None = ...,
        prepare_position: int | None = ...,
        events: Iterable[ResolvedEvent] | None = ...,
        next_commit_position: int | None = ...,
        next_prepare_position: int | None = ...,
        is_end_of_stream: bool | None = ...,
        result: int | None = ...,
        error: str | None = ...,
    ) -> None: ...

class FilteredSubscribeToStream(Message):
    event_stream_id: str
    resolve_link_tos: bool
    @property
    def filter(self) -> Filter: ...
    checkpoint_interval: int
    def __init__(
        self,
        *,
        event_stream_id: str | None = ...,
        resolve_link_tos: bool | None = ...,
        filter: Filter | None = ...,
        checkpoint_interval: int | None = ...,
    ) -> None: ...

class CheckpointReached(Message):
    commit_position: int
    prepare_position: int
    def __init__(
        self,
        *,
        commit_position: int | None = ...,
        prepare_position: int | None = ...,
    ) -> None: ...

def fill_required(message: Message) -> None: ...
