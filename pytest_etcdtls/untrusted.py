"""Data of others: JSON is read within bounds, and text is made printable.

A server, a log or a file can hold anything. What is read with :func:`read_json` and shown with
:func:`printable` costs bounded time and memory, fits into UTF-8, and has nothing that a terminal acts on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, TypeAlias, cast

from pytest_etcdtls.errors import UnreadableJSONError

JSONValue: TypeAlias = bool | int | float | str | list["JSONValue"] | dict[str, "JSONValue"] | None
"""What a JSON text stands for."""

JSON_SIZE: Final = 1024 * 1024
"""Octets of a JSON text, unless the caller says otherwise."""
JSON_DEPTH: Final = 64
"""Arrays and objects within each other. What etcd, its log and our report write has less than 16."""
JSON_DIGITS: Final = 40
"""Characters of a number; an unsigned number of 64 bits has 20."""

TEXT_LIMIT: Final = 256
"""Characters of a text of others within a message."""

_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str | bytes, limit: int = TEXT_LIMIT) -> str:
    r"""Return a text of others as one line that is safe to show.

    Every character that Python does not regard as printable is written as its escape, as in ``\x1b``: control
    characters of C0 and C1, line and paragraph separators, bidirectional and zero-width marks, lone
    surrogates and unassigned ones. The result of a printable text is that text. Compare the values, not this.

    Args:
        text: bytes are read as UTF-8, and bytes that are not UTF-8 are written as escapes.
        limit: characters of the result; a longer one is cut and ends in an ellipsis. At least 1.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit + 4].decode("utf-8", "backslashreplace")
    shown = escaped(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def printable_lines(text: str, limit: int = 16 * 1024) -> str:
    """Return a text of several lines, each as :func:`printable` has it; other line separators are escaped.

    Args:
        text: lines that end in a line feed.
        limit: characters of the result.
    """
    if text.isprintable() and len(text) <= limit:
        return text
    shown = "\n".join(map(escaped, text[: limit + 1].split("\n")))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def listed(texts: Sequence[str], between: str = " ", most: int = 20) -> str:
    """Return texts in one, at most so many of them, with the number of those that are left out."""
    left = len(texts) - most
    return between.join([*texts[:most], *([f"and {left} more"] if left > 0 else [])])


def some(names: Sequence[str], most: int) -> str:
    """Return the first names in words, with the number of the others: ``a, b and 3 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def escaped(text: str) -> str:
    """Return a text of others with the escapes of :func:`printable`, in full."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def read_json(
    data: bytes | str, *, size: int = JSON_SIZE, depth: int = JSON_DEPTH, raw: bool = False
) -> JSONValue:
    """Read a JSON text (RFC 8259) of others.

    Lone surrogates become U+FFFD, as in Go. Of members with one name the last one counts.

    Args:
        data: the text; bytes are UTF-8, a byte order mark is skipped.
        size: octets or characters that it may have.
        depth: how many arrays and objects may be within each other.
        raw: texts keep their control characters, for a text that is parsed again or compared; else texts and
            names have the escapes of :func:`printable`.

    Raises:
        UnreadableJSONError: if it is no JSON, too large or too deep, has a number that is too long or not
            finite (``NaN`` and ``Infinity`` are no JSON), or is not UTF-8. It is a :class:`ValueError`.
    """
    if len(data) > size:
        raise UnreadableJSONError(f"longer than {size} octets")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        _refuse_depth(text, depth)
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
    except UnreadableJSONError:
        raise
    except UnicodeDecodeError as error:
        raise UnreadableJSONError(f"no UTF-8 at octet {error.start}") from error
    except ValueError as error:
        raise UnreadableJSONError(f"no JSON: {error}") from error
    # Without an escape, JSON has no control character but DEL. Most lines of a log are so.
    if text.isascii() and "\\" not in text and "\x7f" not in text:
        return cast("JSONValue", value)
    return _with_texts(value, _unpaired if raw else _shown)


def _refuse_depth(text: str, limit: int) -> None:
    """Refuse a text that nests deeper; json.loads recurses, and ends where the stack happens to end."""
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
    _refuse_digits(text)
    return int(text)


def _finite(text: str) -> float:
    _refuse_digits(text)
    value = float(text)
    if not math.isfinite(value):
        raise UnreadableJSONError(f"the number {text} is too large")
    return value


def _refuse_digits(text: str) -> None:
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
