"""How replies are written: by the server, and by what its client knows (docs/protocol.md, 1.3 and 2.4). Pure.

Rule: all that the node sends as a message goes through `encode`, or through `Record.field_for`, so that no other module
asks how it is written.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from trio_extreme.wire.descriptor import DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message


class Form(NamedTuple):
    """What is seen of replies that say the same."""

    #: Whether event numbers have 64 bits, or 32.
    wide: bool = True
    #: Whether fields that are 0, false or empty are there, as proto2 has it, or are left out, as proto3 does.
    zeros: bool = True


def encode(message: Message, form: Form) -> bytes:
    """The payload that carries this message."""
    payload = message.SerializePartialToString()
    return payload if form.zeros else leave_out_zeros(type(message), payload)


def leave_out_zeros(kind: type[Message], payload: bytes) -> bytes:
    """The payload of a message of this kind without what is 0, false or empty in it.

    To read it so that it forgets them, and write it again, takes a third of the time of looking through the fields.
    """
    return _without_presence(kind.DESCRIPTOR.full_name).FromString(payload).SerializeToString()


@cache
def _without_presence(name: str) -> type[Message]:
    return GetMessageClass(_pool().FindMessageTypeByName(name))


@cache
def _pool() -> DescriptorPool:
    """All messages as the servers from 22.6 on define them: no field but a message can be there and be zero."""
    file = FileDescriptorProto.FromString(DESCRIPTOR)
    _forget_presence(file.message_type)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _forget_presence(messages: Iterable[DescriptorProto]) -> None:
    for message in messages:
        _forget_presence(message.nested_type)
        # Each optional field is in a oneof of its own, and there are no others.
        message.ClearField("oneof_decl")
        for field in message.field:
            field.ClearField("proto3_optional")
            field.ClearField("oneof_index")
