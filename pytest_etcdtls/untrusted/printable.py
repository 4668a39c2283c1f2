"""Untrusted text is made printable, in bounded time and memory, or a word of a shell.

The text of a server, a log or a file may be hostile. What is returned is valid UTF-8 without control
characters.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Sequence
from typing import Final

from pytest_etcdtls.errors import escaped, escaped_line

NAME_LIMIT: Final = 80
"""Characters of one of several names in a sentence."""
TEXT_LIMIT: Final = 256
"""Characters of a name or a value."""
LINE_LIMIT: Final = 2048
"""Characters of a sentence, or of a line of a log."""
LONG_LIMIT: Final = 16 * 1024
"""Characters of a text that may have several lines."""


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


def printable_lines(text: str, limit: int = LONG_LIMIT) -> str:
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


def plural(count: int, word: str) -> str:
    """Return ``1 fault`` or ``2 faults``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


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


def comment(text: str) -> str:
    """Return a comment for a shell, of one line."""
    return f"# {escaped(text)}"


def file_word(path: object) -> str:
    """Return a path as a word of a command. One that begins with a hyphen is no option."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _shell_escape(character: str) -> str:
    if character.isprintable() and character != "'":
        return r"\\" if character == "\\" else character
    return "".join(f"\\x{octet:02x}" for octet in character.encode("utf-8", "surrogateescape"))


_HOST = re.compile(r"(?=.{1,253}\.?\Z)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")


def is_host(text: str) -> bool:
    """Return whether a text is an IP address without brackets, or may be the name of a host.

    A name has labels of 1 to 63 characters, and 253 in all (RFC 1035 section 2.3.4; isDomainName in Go's
    net/dnsclient.go). The zone of an IPv6 address has only unreserved characters (RFC 6874 section 2). Other
    texts lead nowhere, and may be commands where a URL is pasted into a shell. A name that begins with a
    hyphen is an option of the program that gets it.
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
