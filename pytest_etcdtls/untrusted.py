"""Untrusted data: files are opened and JSON is read within bounds, and text is made printable.

The data of a server, a log or a file may be hostile. Reading it with :func:`read_json` and showing it with
:func:`printable` takes bounded time and memory. The result is valid UTF-8 without control characters.

A path may be that of a pipe without a writer, which blocks, or of a device, which has no end. Only regular
files are opened. Each problem is an :class:`~pytest_etcdtls.errors.UnreadableFileError` that names it. A path
below ``/proc/PID/root`` is looked up inside that root (:mod:`pytest_etcdtls.process_root`).
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
import select
import shlex
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, TypeAlias, cast

from pytest_etcdtls.errors import UnreadableFileError, UnreadableJSONError, escaped, escaped_line
from pytest_etcdtls.process_root import looked_up, status_of

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

TEXT_LIMIT: Final = 256
"""Characters of an untrusted text within a message."""

_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def printable(text: str | bytes, limit: int = TEXT_LIMIT) -> str:
    r"""Return an untrusted text as one line that is safe to show.

    Every character that Python does not regard as printable is written as its escape, as in ``\x1b``: control
    characters of C0 and C1, line and paragraph separators, bidirectional and zero-width marks, lone
    surrogates and unassigned ones. So are characters that have no glyph, and the first octet of ``##[`` and
    ``##vso[``, with which a line of a CI log is a command. Other text stays as it is. Compare the values, not
    the results.

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

    No line but the first, before which something is printed, is a command in the log of a CI job.

    Args:
        text: lines that end in a line feed.
        limit: characters of the result.
    """
    first, *others = text[: limit + 1].split("\n")
    shown = "\n".join([escaped(first), *map(escaped_line, others)])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def listed(texts: Sequence[str], between: str = " ", most: int = 20) -> str:
    """Return texts in one, at most so many of them, with the number of those that are left out."""
    left = len(texts) - most
    return between.join([*texts[:most], *([f"and {left} more"] if left > 0 else [])])


def some(names: Sequence[str], most: int) -> str:
    """Return the first names in words, with the number of the others: ``a, b and 3 more``."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def shell_word(text: str) -> str:
    """Return a text as one word of a shell in one line.

    A line break between quotes would end the line that is copied, and the rest would be a command. Text that
    is not printable is written in ``$'...'`` (POSIX.1-2024 section 2.2.4; Bash and Zsh). A quotation mark is
    an escape there: for dash, which has no such quotes, the text between the outer two is one word. Zsh takes
    a word that begins with ``=`` for the path of a program.
    """
    if text.isprintable():
        return f"'{text}'" if text.startswith("=") and "'" not in text else shlex.quote(text)
    return "$'" + "".join(map(_shell_escape, text)) + "'"


def pasted(*words: str) -> str:
    """Return words as a command line. Every command in a message, a remedy or a report is made here."""
    return " ".join(map(shell_word, words))


def file_word(path: object) -> str:
    """Return a path as a word of a command. One that begins with a hyphen is no option."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _shell_escape(character: str) -> str:
    if character.isprintable() and character != "'":
        return r"\\" if character == "\\" else character
    return "".join(f"\\x{octet:02x}" for octet in character.encode("utf-8", "surrogateescape"))


_HOST = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")


def is_host(text: str) -> bool:
    """Return whether a text is an IP address without brackets, or may be the name of a host.

    The zone of an IPv6 address has only unreserved characters (RFC 6874 section 2). Other texts lead nowhere,
    and may be commands where a URL is pasted into a shell. A name that begins with a hyphen is an option of
    the program that gets it.
    """
    if ":" not in text:
        return _HOST.fullmatch(text) is not None
    address, percent, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return not percent or _ZONE.fullmatch(zone) is not None


def error_text(error: BaseException) -> str:
    """Return the type of an exception and its message, printable."""
    return f"{type(error).__name__}: {printable(str(error))}"


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


PIPE_SECONDS: Final = 10.0
"""Seconds within which the pipe of a shell's process substitution, ``<(vault read ...)``, must end."""

_CHUNK: Final = 65536
_KINDS: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
)
_DESCRIPTORS: Final = ("/dev/fd", "/proc/self/fd")
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: Path) -> BinaryIO:
    """Return a regular file, opened for reading; the caller closes it. Links are followed.

    Raises:
        UnreadableFileError: if there is no such file, it may not be read, or it is not a regular one.
    """
    return open(_descriptor(path), "rb")


def read_regular(path: Path, maximum: int) -> bytes:
    """Return the content of a regular file, or of a pipe that a shell's process substitution passes.

    Args:
        path: the file. Links are followed.
        maximum: octets that it may have. No more is kept in memory.

    Raises:
        UnreadableFileError: as :func:`open_regular`; also if the file is larger, or a pipe does not end
            within :data:`PIPE_SECONDS`.
    """
    if str(path.parent) in _DESCRIPTORS and (data := _read_pipe(path, maximum)) is not None:
        return data
    with open_regular(path) as file:
        try:
            data = file.read(maximum + 1)
        except (OSError, ValueError) as error:
            raise UnreadableFileError(f"cannot be read ({error})", "check the path") from error
    return _within(data, maximum)


def _within(data: bytes, maximum: int) -> bytes:
    if len(data) > maximum:
        size = f"{maximum // 1024**2} MiB" if maximum >= 1024**2 else f"{maximum // 1024} KiB"
        raise UnreadableFileError(f"is larger than {size}", "check that it is the file meant")
    return data


def _descriptor(path: Path) -> int:
    try:
        with looked_up(path) as here:
            _check_regular(os.stat(here))
            descriptor = os.open(here, _FLAGS)
        try:
            _check_regular(os.fstat(descriptor))  # another file may have the path by now
        except UnreadableFileError:
            os.close(descriptor)
            raise
    except FileNotFoundError as error:
        raise UnreadableFileError("does not exist", "check the path") from error
    except PermissionError as error:
        advice = "run as a user who may read it, or pass a copy that only you can read"
        raise UnreadableFileError("may not be read by this user", advice) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UnreadableFileError(f"cannot be read ({why})", "check the path") from error
    return descriptor


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableFileError("is a directory", "name the file in it")
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for applies, name in _KINDS if applies(status.st_mode)), "something else")
        raise UnreadableFileError(
            f"is no regular file but {kind}", "write the content to a file, and name that"
        )


def _read_pipe(path: Path, maximum: int) -> bytes | None:
    """Return the data of an open pipe of this process; ``None`` if it is not a pipe."""
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            return None
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return None
    deadline, data = time.monotonic() + PIPE_SECONDS, bytearray()
    try:
        while len(data) <= maximum:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise UnreadableFileError(
                    f"is a pipe that has not ended after {PIPE_SECONDS:g} s",
                    "write the content to a file that only you can read, and name that",
                )
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                break
            data += chunk
    except OSError as error:
        raise UnreadableFileError(f"cannot be read ({error.strerror})", "check the path") from error
    finally:
        os.close(descriptor)
    return _within(bytes(data), maximum)


def is_there(path: Path) -> bool:
    """Return whether the path exists; ``False`` also for one that cannot be looked up."""
    try:
        status_of(path)
    except (OSError, ValueError):
        return False
    return True
