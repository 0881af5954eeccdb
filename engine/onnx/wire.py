"""Outline of an ONNX file, parsed from its bytes before it is run: metadata, and references to other files.

Only the messages that can contain a tensor or the metadata are parsed, by protobuf's encoding of fields. The table of
these messages follows onnx.proto; the tests compare it with the onnx package.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

# Message -> number of a field -> message in it, for all paths to a tensor
MESSAGES = {
    "ModelProto": {7: "GraphProto", 14: "StringStringEntryProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **{5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto"},
        **{22: "SparseTensorProto", 23: "SparseTensorProto"},
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
}
EXTERNAL_DATA, DATA_LOCATION, EXTERNAL = 13, 14, 1  # two fields of TensorProto, and a value of the second
GRAPH_NODE = ("GraphProto", 1)
METADATA, KEY, VALUE = ("ModelProto", 14), 1, 2
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5  # encodings of a field
DEEPEST = 64  # largest nesting of messages


@dataclass
class Outline:
    """Metadata of a file, number of nodes, and whether any tensor is stored in another file."""

    metadata: dict[str, str] = field(default_factory=dict)
    num_nodes: int = 0
    has_external_data: bool = False


def read_outline(content: bytes) -> Outline:
    """Parse the bytes of a file.

    Raises:
        ValueError: the bytes are not valid protobuf, are truncated, or are nested too deeply.
    """
    outline = Outline()
    _look_through(memoryview(content), "ModelProto", outline, DEEPEST)
    return outline


def _look_through(content: memoryview, message: str, outline: Outline, depth: int) -> None:
    if depth == 0:
        raise ValueError("nested too deeply")
    inner = MESSAGES.get(message, {})
    for number, value in _fields(content):
        if message == "TensorProto":
            is_external = number == EXTERNAL_DATA or (number == DATA_LOCATION and _enum(value) == EXTERNAL)
            outline.has_external_data |= is_external
        elif number in inner:
            if not isinstance(value, memoryview):
                raise ValueError(f"field {number} of {message} is not a message")
            if (message, number) == METADATA:
                entry = {key: bytes(text).decode() for key, text in _fields(value) if isinstance(text, memoryview)}
                outline.metadata[entry.get(KEY, "")] = entry.get(VALUE, "")
            else:
                outline.num_nodes += (message, number) == GRAPH_NODE
                _look_through(value, inner[number], outline, depth - 1)


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field. Numbers of fixed size, which are not needed, are yielded as bytes."""
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag >= 2**32:
            raise ValueError("a field has no number")
        if kind == VARINT:
            value, position = _varint(content, position)
            yield number, value
            continue
        if kind == BYTES:
            size, position = _varint(content, position)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of unknown encoding {kind}")
        if position + size > len(content):
            raise ValueError("cut short")
        yield number, content[position : position + size]
        position += size


def _enum(value: int | memoryview) -> int:
    """Value of an enum. protobuf ignores bits above the 32nd."""
    return value % 2**32 if isinstance(value, int) else EXTERNAL


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    """Read a number stored in groups of seven bits, the lowest first. Return it and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position == len(content):
            raise ValueError("cut short")
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than ten bytes")
