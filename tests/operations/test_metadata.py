"""Metadata and default rights on the wire: what is asked, what each answer means, and what may be sent twice."""

from __future__ import annotations

import pytest

from trio_extreme.errors import (
    AccessDenied,
    InvalidArgument,
    ProtocolError,
    ServerError,
    StreamDeleted,
    TrioExtremeError,
    WrongExpectedVersion,
)
from trio_extreme.metadata import DefaultAcl, StreamMetadata
from trio_extreme.operations.base import Resend
from trio_extreme.operations.metadata import ReadDefaultAcl, ReadMetadata, SetDefaultAcl, SetMetadata
from trio_extreme.rights import Acl
from trio_extreme.values import ANY, NO_STREAM, STREAM_EXISTS, Position, WriteResult
from trio_extreme.wire import schema

Result = schema.ReadEventCompleted.ReadEventResult
Written = schema.OperationResult
READ = ReadMetadata("s", require_master=True)
READ_ACL = ReadDefaultAcl(require_master=False)
LIMITED = StreamMetadata(max_count=3)


def read(
    data: bytes = b"", result: int = Result.Success, *, number: int = 0, content: int = 1, type: str = "$metadata"
) -> bytes:
    event = schema.EventRecord(event_type=type, data=data, event_number=number, data_content_type=content)
    inner = schema.ResolvedIndexedEvent(event=event) if type else None
    return schema.ReadEventCompleted(result=result, event=inner, error="why").SerializeToString()


def written(result: int = Written.Success) -> bytes:
    done = schema.WriteEventsCompleted(
        result=result,
        first_event_number=4,
        last_event_number=4,
        commit_position=9,
        prepare_position=9,
        current_version=7,
    )
    return done.SerializeToString()


def set_metadata(expected: int = ANY) -> SetMetadata:
    return SetMetadata("s", LIMITED, expected, require_master=True)


def test_reading_on_the_wire() -> None:
    for operation, stream, master in ((READ, "$$s", True), (READ_ACL, "$settings", False)):
        assert schema.ReadEvent.FromString(operation.payload()) == schema.ReadEvent(
            event_stream_id=stream, event_number=-1, resolve_link_tos=False, require_master=master
        )
        assert operation.resend is Resend.AGAIN


def test_what_is_there() -> None:
    found = READ.read(read(b'{"$maxCount":3}', number=7))
    assert (found, found.version) == (LIMITED, 7)
    # Whatever its type: servers do not look at that.
    assert READ.read(read(b'{"$maxCount":3}', type="other")) == LIMITED
    acl = READ_ACL.read(read(b'{"$userStreamAcl":{"$r":"a"}}', number=2, content=0))
    assert (acl, acl.version) == (DefaultAcl(user_streams=Acl(read="a")), 2)


def test_what_is_not_marked_as_json_is_told() -> None:
    found = READ.read(read(b'{"$maxCount":3}', number=7, content=0))
    assert (found.max_count, found.version, found.problem) == (None, 7, "its event is not marked as JSON")


@pytest.mark.parametrize("answer", [read(type=""), read(result=Result.NotFound), read(result=Result.NoStream), b""])
def test_what_is_not_there_says_nothing(answer: bytes) -> None:
    for found in (READ.read(answer), READ_ACL.read(answer)):
        assert (found.version, found.problem) == (NO_STREAM, None)
    assert (READ.read(answer), READ_ACL.read(answer)) == (StreamMetadata(), DefaultAcl())


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (Result.StreamDeleted, StreamDeleted, "stream 's' was deleted"),
        (Result.AccessDenied, AccessDenied, r"may not read the metadata of stream 's' \(the right \$mr\)"),
        (Result.Error, ServerError, "answered with an error: why"),
        (77, ProtocolError, "result 77"),
    ],
)
def test_results_of_a_read(result: int, error: type[TrioExtremeError], text: str) -> None:
    with pytest.raises(error, match=text):
        READ.read(read(result=result, type=""))


def test_who_may_not_read_the_default_rights() -> None:
    with pytest.raises(
        AccessDenied, match=r"may not read stream '\$settings' \(the right \$r; by default only members"
    ):
        READ_ACL.read(read(result=Result.AccessDenied, type=""))


def test_writing_on_the_wire() -> None:
    acl = DefaultAcl(system_streams=Acl(read="$ops"))
    for operation, stream, type_, data in (
        (SetMetadata("s", LIMITED, 4, require_master=True), "$$s", "$metadata", b'{"$maxCount":3}'),
        (
            SetDefaultAcl(acl, 4, require_master=True),
            "$settings",
            "$settings",
            b'{"$systemStreamAcl":{"$r":"$ops"}}',
        ),
    ):
        event = schema.NewEvent(
            event_id=operation.event_ids[0].bytes_le,
            event_type=type_,
            data_content_type=1,
            metadata_content_type=0,
            data=data,
            metadata=b"",
        )
        assert schema.WriteEvents.FromString(operation.payload()) == schema.WriteEvents(
            event_stream_id=stream, expected_version=4, require_master=True, events=[event]
        )


@pytest.mark.parametrize(
    ("expected", "of_metadata", "of_default_acl"),
    [
        (0, Resend.SAME_IDS, Resend.SAME_IDS),
        # A metastream cannot be soft-deleted, $settings can.
        (NO_STREAM, Resend.SAME_IDS, Resend.LOOK_UP),
        (ANY, Resend.NEVER, Resend.LOOK_UP),
        (STREAM_EXISTS, Resend.NEVER, Resend.LOOK_UP),
    ],
)
def test_what_may_be_sent_twice(expected: int, of_metadata: Resend, of_default_acl: Resend) -> None:
    assert set_metadata(expected).resend is of_metadata
    assert SetDefaultAcl(DefaultAcl(), expected, require_master=True).resend is of_default_acl


def test_where_a_lost_one_is_looked_for() -> None:
    assert set_metadata(3).look_in == "$$s"
    assert set_metadata(3).found(4, 4) == WriteResult(4, 4, None)


def test_what_was_written() -> None:
    assert set_metadata().read(written()) == WriteResult(4, 4, Position(9, 9))


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (Written.StreamDeleted, StreamDeleted, "stream 's' was deleted"),
        (Written.AccessDenied, AccessDenied, r"may not write the metadata of stream 's' \(the right \$mw\)"),
        (
            Written.WrongExpectedVersion,
            WrongExpectedVersion,
            r"stream '\$\$s' is not at expected version 3: it is at 7",
        ),
        (77, ProtocolError, "result 77"),
    ],
)
def test_results_of_a_write(result: int, error: type[TrioExtremeError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        set_metadata(3).read(written(result))
    assert caught.value.__cause__ is None


def test_too_much_of_ones_own() -> None:
    with pytest.raises(InvalidArgument, match=r"^custom: 20,000,008 bytes of JSON in all; the servers' limit"):
        SetMetadata("s", StreamMetadata(custom={"a": "x" * 20_000_000}), ANY, require_master=True)


def test_what_could_not_be_read_is_not_written() -> None:
    with pytest.raises(InvalidArgument, match=r"a new StreamMetadata\(\) would overwrite it"):
        SetMetadata("s", StreamMetadata.parse(b"no"), ANY, require_master=True)
