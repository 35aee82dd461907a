"""Adds the last feature map to the outputs of an ONNX graph.

ONNX Runtime returns declared outputs only, and the package onnx is not installed with the light
app. So the few necessary fields are read here from the wire format of Protocol Buffers
(https://protobuf.dev/programming-guides/encoding). Two serialised messages in a row are their
merger: appending a graph that has one more output adds that output.
"""

from collections.abc import Iterator

from cadlib.errors import ModelInvalid

# The numbers of the fields are those of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE = 1
_GRAPH_OUTPUT = 12
_NODE_INPUT = 1
_NODE_OUTPUT = 2
_VALUE_NAME = 1

_VARINT = 0
_EIGHT_BYTES = 1
_LENGTH_DELIMITED = 2
_FOUR_BYTES = 5


def with_feature_map(graph: bytes, features: str) -> tuple[bytes, str]:
    """Return a model.onnx that also outputs its last feature map, and the name of that output.

    The output `features` is the average of the feature map. Raise ModelInvalid where no node
    outputs `features`.
    """
    name = _averaged_input(graph, features)
    value = _delimited(_VALUE_NAME, name.encode())
    output = _delimited(_GRAPH_OUTPUT, value)
    addition = _delimited(_MODEL_GRAPH, output)
    return graph + addition, name


def _averaged_input(graph: bytes, features: str) -> str:
    for body in _values(graph, _MODEL_GRAPH):
        for node in _values(body, _GRAPH_NODE):
            outputs = list(_values(node, _NODE_OUTPUT))
            if features.encode() in outputs:
                feature_map = next(_values(node, _NODE_INPUT))
                return feature_map.decode()
    raise ModelInvalid(
        f"Expected model.onnx to have the output {features!r}, but found none. Restore the file."
    )


def _values(message: bytes, number: int) -> Iterator[bytes]:
    """Yield the values of a field that is text, bytes or a message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        # The low three bits of a key are the kind of the value, the others its field.
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _EIGHT_BYTES:
            at += 8
        elif kind == _FOUR_BYTES:
            at += 4
        elif kind == _LENGTH_DELIMITED:
            length, at = _varint(message, at)
            if key >> 3 == number:
                yield message[at : at + length]
            at += length
        else:
            raise ModelInvalid("model.onnx cannot be read as Protocol Buffers. Restore the file.")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and the place behind it."""
    number = 0
    shift = 0
    while True:
        # Each byte holds seven bits; its highest bit is set where another byte follows.
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def _delimited(number: int, content: bytes) -> bytes:
    """Return a field of text, bytes or a message."""
    length = len(content)
    head = bytearray([number << 3 | _LENGTH_DELIMITED])
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + content
