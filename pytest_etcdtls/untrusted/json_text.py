"""Untrusted JSON is read in bounded time and memory."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias, cast

from pytest_etcdtls.errors import UnreadableJSONError, escaped

JSONValue: TypeAlias = bool | int | float | str | list["JSONValue"] | dict[str, "JSONValue"] | None
"""The value of a JSON text."""

JSON_SIZE: Final = 1024 * 1024
"""Octets of a JSON text, by default."""
JSON_DEPTH: Final = 64
"""Arrays and objects within each other. What etcd, its log and our report write has less than 16."""
_OCTETS_OF_A_VALUE: Final = 16
"""Octets of the accepted size for each accepted value. An empty object has three, and takes 72 in memory."""
JSON_DIGITS: Final = 40
"""Characters of a number; an unsigned number of 64 bits has 20."""


_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def read_json(
    data: bytes | str, *, size: int = JSON_SIZE, depth: int = JSON_DEPTH, raw: bool = False
) -> JSONValue:
    """Read an untrusted JSON text (RFC 8259).

    Lone surrogates become U+FFFD, as in Go. Of several members with the same name, the last one counts.

    Args:
        data: the text; bytes are UTF-8, a byte order mark is skipped.
        size: octets or characters that it may have.
        depth: how many arrays and objects may be within each other.
        raw: texts keep their control characters, for a text that is parsed again or compared; else texts and
            names have the escapes of :func:`printable`.

    Raises:
        UnreadableJSONError: if it is no JSON, too large or too deep, has too many values, a number that is
            too long or not finite (``NaN`` and ``Infinity`` are no JSON), or is not UTF-8. It is a
            :class:`ValueError`.
    """
    if len(data) > size:
        raise UnreadableJSONError(f"longer than {size} octets")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        if sum(map(text.count, "[{,")) > (most := size // _OCTETS_OF_A_VALUE):
            raise UnreadableJSONError(f"more than {most} values")
        _check_depth(text, depth)
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
    except UnreadableJSONError:
        raise
    except UnicodeDecodeError as error:
        raise UnreadableJSONError(f"no UTF-8 at octet {error.start}") from error
    except ValueError as error:
        raise UnreadableJSONError(f"no JSON: {error}") from error
    # Unescaped, JSON contains no control character but DEL (RFC 8259 section 7). Most lines of a log are so.
    if text.isascii() and "\\" not in text and "\x7f" not in text:
        return cast("JSONValue", value)
    return _with_texts(value, _unpaired if raw else _shown)


def _check_depth(text: str, limit: int) -> None:
    # json.loads recurses for each level, and raises RecursionError at a depth that depends on the caller.
    if text.count("[") + text.count("{") <= limit:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > limit:
                raise UnreadableJSONError(f"nested deeper than {limit}")
        elif match[0] in "]}":
            depth -= 1


def _whole(text: str) -> int:
    _check_digits(text)
    return int(text)


def _finite(text: str) -> float:
    _check_digits(text)
    value = float(text)
    if not math.isfinite(value):
        raise UnreadableJSONError(f"the number {text} is too large")
    return value


def _check_digits(text: str) -> None:
    if len(text) > JSON_DIGITS:
        raise UnreadableJSONError(f"a number of {len(text)} characters")


def _no_number(name: str) -> NoReturn:
    raise UnreadableJSONError(f"{name} is no JSON")


def _unpaired(text: str) -> str:
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)


def _shown(text: str) -> str:
    return escaped(_unpaired(text))


def _with_texts(value: JSONValue, change: Callable[[str], str]) -> JSONValue:
    match value:
        case str():
            return change(value)
        case list():
            return [_with_texts(item, change) for item in value]
        case dict():
            return {change(name): _with_texts(item, change) for name, item in value.items()}
        case _:
            return value
