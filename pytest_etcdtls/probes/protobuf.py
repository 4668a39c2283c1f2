"""Writing and reading the few protocol buffer messages that are exchanged with etcd, by field number.

Only the wire format (protobuf.dev, "Encoding"); meanings are with those who ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Value = int | bytes


def encode(message: Mapping[int, Value]) -> bytes:
    """Return a message of varints and length-delimited fields, in the order given."""
    encoded = bytearray()
    for number, value in message.items():
        if isinstance(value, int):
            encoded += _as_varint(number << 3) + _as_varint(value)
        else:
            encoded += _as_varint(number << 3 | 2) + _as_varint(len(value)) + value
    return bytes(encoded)


def _as_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def fields(message: bytes) -> dict[int, list[Value]]:
    """Return the fields of a message by number: varints and fixed ones as numbers, the rest as bytes.

    Raises:
        ValueError: if the message is cut short or has a wire type that proto3 does not use.
    """
    found: dict[int, list[Value]] = {}
    for number, value in _walk(message):
        found.setdefault(number, []).append(value)
    return found


def grpc_message(body: bytes) -> bytes:
    """Return the first message of a gRPC response body.

    Raises:
        ValueError: if there is none: the call failed, or the message is compressed.
    """
    if len(body) < 5 or body[0] != 0:
        raise ValueError("the gRPC response has no message")
    length = int.from_bytes(body[1:5], "big")
    if len(body) < 5 + length:
        raise ValueError("the gRPC message is cut short")
    return body[5 : 5 + length]


def _walk(message: bytes) -> Iterator[tuple[int, Value]]:
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} in field {number}")
        data = message[position : position + length]
        if len(data) != length:
            raise ValueError(f"field {number} is cut short")
        position += length
        yield number, data if kind == 2 else int.from_bytes(data, "little")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        octet = message[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if not octet & 0x80:
            return value, position
    raise ValueError("a varint is cut short or too long")
