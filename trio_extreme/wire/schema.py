"""The protocol's messages and enumerations as Python classes; schema.pyi lists them.

They live in a descriptor pool of their own, so that any protobuf release from 4.22 serves and no other client's
generated messages can collide with these (names are not on the wire).
"""

from __future__ import annotations

import warnings
from enum import IntEnum
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal import api_implementation
from google.protobuf.message_factory import GetMessageClass

from trio_extreme.wire.descriptor import DESCRIPTOR, REQUIRED

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, EnumDescriptor
    from google.protobuf.message import Message

_PACKAGE = "trio_extreme.wire"

if api_implementation.Type() == "python":
    warnings.warn(
        "protobuf runs in pure Python here, which makes trio_extreme ten times slower: install a release with a "
        "compiled wheel for this platform, and unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
        RuntimeWarning,
        stacklevel=2,
    )


def _make_enum(descriptor: EnumDescriptor) -> type[IntEnum]:
    members = {value.name: value.number for value in descriptor.values}
    made: type[IntEnum] = IntEnum(descriptor.name, members, module=__name__)  # pyright: ignore[reportAssignmentType]
    return made


def _make_message(descriptor: Descriptor) -> type[Message]:
    message = GetMessageClass(descriptor)
    for enum in descriptor.enum_types:
        setattr(message, enum.name, _make_enum(enum))
    for nested in descriptor.nested_types:
        setattr(message, nested.name, _make_message(nested))
    return message


def fill_required(message: Message) -> None:
    """Write what the servers require and nobody set: 0, False, empty (docs/protocol.md, 2.4).

    Servers up to 21.10 break on a required string or list that is missing. A required message inside this one is
    set too, and every message in it is filled in its turn.
    """
    descriptor = message.DESCRIPTOR
    for name in REQUIRED.get(descriptor.full_name.removeprefix(f"{_PACKAGE}."), ()):
        if not message.HasField(name):
            field = descriptor.fields_by_name[name]
            if field.message_type is None:
                setattr(message, name, field.default_value)
            else:
                getattr(message, name).SetInParent()
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "DESCRIPTOR") else value:
                fill_required(inner)


def _load() -> dict[str, type]:
    pool = DescriptorPool()
    file = pool.AddSerializedFile(DESCRIPTOR) or pool.FindFileByName("messages.proto")
    classes: dict[str, type] = {name: _make_enum(enum) for name, enum in file.enum_types_by_name.items()}
    classes |= {name: _make_message(message) for name, message in file.message_types_by_name.items()}
    return classes


globals().update(_load())
