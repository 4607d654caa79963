"""Compile messages.proto into trio_extreme/wire: descriptor.py, which Python loads, and schema.pyi for type checkers.

Run by `nox -s proto`, which fails where the committed files differ from what this makes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

HERE = Path(__file__).parent
WIRE = HERE.parent / "trio_extreme" / "wire"
NOTE = "made from proto/messages.proto by `nox -s proto`; edit that"
# Paths in a file's source information are chains of field numbers of the descriptor's own definition.
MESSAGE_IN_FILE, FIELD_IN_MESSAGE, NESTED_IN_MESSAGE = 4, 2, 3

PYTHON_TYPES = {
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_STRING: "str",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_INT32: "int",
    FieldDescriptorProto.TYPE_INT64: "int",
    FieldDescriptorProto.TYPE_ENUM: "int",
}


def compile_proto() -> FileDescriptorProto:
    """What protoc makes of the .proto, comments included."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        arguments = ["protoc", f"-I{HERE}", "--include_source_info", f"--descriptor_set_out={out}", "messages.proto"]
        if protoc.main(arguments) != 0:
            sys.exit("protoc failed")
        return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def required_fields(file: FileDescriptorProto) -> dict[str, tuple[str, ...]]:
    """Message name to its fields whose comment says `required`."""
    marked = {
        tuple(location.path)
        for location in file.source_code_info.location
        if location.trailing_comments.strip() == "required"
    }
    found: dict[str, tuple[str, ...]] = {}

    def visit(message: DescriptorProto, name: str, path: tuple[int, ...]) -> None:
        fields = enumerate(message.field)
        found[name] = tuple(field.name for i, field in fields if (*path, FIELD_IN_MESSAGE, i) in marked)
        for i, nested in enumerate(message.nested_type):
            visit(nested, f"{name}.{nested.name}", (*path, NESTED_IN_MESSAGE, i))

    for i, message in enumerate(file.message_type):
        visit(message, message.name, (MESSAGE_IN_FILE, i))
    return {name: fields for name, fields in found.items() if fields}


def descriptor_module(file: FileDescriptorProto) -> str:
    """The text of descriptor.py."""
    required = required_fields(file)
    bare = FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("source_code_info")
    data = bare.SerializeToString(deterministic=True)
    rows = "\n".join(f"    {data[at : at + 32]!r}" for at in range(0, len(data), 32))
    table = "\n".join(f"    {name!r}: {fields!r}," for name, fields in sorted(required.items()))
    return (
        f'"""The compiled message definitions: {NOTE}."""\n\n'
        f"# A serialized FileDescriptorProto.\nDESCRIPTOR = (\n{rows}\n)\n\n"
        "# What the servers' own definition calls required: the encoder always writes it.\n"
        f"REQUIRED: dict[str, tuple[str, ...]] = {{\n{table}\n}}\n"
    )


def enum_stub(enum: EnumDescriptorProto, indent: str) -> list[str]:
    """The lines of one enumeration."""
    values = [f"{indent}    {value.name} = {value.number}" for value in enum.value]
    return [f"{indent}class {enum.name}(IntEnum):", *values, ""]


def field_type(field: FieldDescriptorProto) -> tuple[str, str]:
    """The types a field has when read and when given to the constructor."""
    single = PYTHON_TYPES.get(field.type) or field.type_name.removeprefix(".trio_extreme.wire.")
    if field.label != FieldDescriptorProto.LABEL_REPEATED:
        return single, f"{single} | None"
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        return f"RepeatedCompositeFieldContainer[{single}]", f"Iterable[{single}] | None"
    return f"RepeatedScalarFieldContainer[{single}]", f"Iterable[{single}] | None"


def message_stub(message: DescriptorProto, indent: str = "") -> list[str]:
    """The lines of one message and what is nested in it."""
    inner = indent + "    "
    lines = [f"{indent}class {message.name}(Message):"]
    for enum in message.enum_type:
        lines += enum_stub(enum, inner)
    for nested in message.nested_type:
        lines += message_stub(nested, inner)
    arguments = []
    for field in message.field:
        read, given = field_type(field)
        arguments.append(f"{inner}    {field.name}: {given} = ...,")
        if field.type == FieldDescriptorProto.TYPE_MESSAGE or field.label == FieldDescriptorProto.LABEL_REPEATED:
            lines += [f"{inner}@property", f"{inner}def {field.name}(self) -> {read}: ..."]
        else:
            lines.append(f"{inner}{field.name}: {read}")
    if arguments:
        lines += [f"{inner}def __init__(", f"{inner}    self,", f"{inner}    *,", *arguments, f"{inner}) -> None: ..."]
    else:
        lines.append(f"{inner}def __init__(self) -> None: ...")
    return [*lines, ""]


def stub_module(file: FileDescriptorProto) -> str:
    """The text of schema.pyi."""
    lines = [
        f"# {NOTE[0].upper()}{NOTE[1:]}.",
        "from collections.abc import Iterable",
        "from enum import IntEnum",
        "",
        "from google.protobuf.internal.containers import RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer",
        "from google.protobuf.message import Message",
        "",
    ]
    for enum in file.enum_type:
        lines += enum_stub(enum, "")
    for message in file.message_type:
        lines += message_stub(message)
    lines += ["def fill_required(message: Message) -> None: ..."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    file = compile_proto()
    (WIRE / "descriptor.py").write_text(descriptor_module(file))
    (WIRE / "schema.pyi").write_text(stub_module(file))


if __name__ == "__main__":
    main()
