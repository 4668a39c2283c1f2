"""Environment files as systemd reads them (``EnvironmentFile=`` in systemd.exec(5)).

Does not know which variables there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pytest_etcdtls.declared.declaration import Place
from pytest_etcdtls.declared.systemd_words import at
from pytest_etcdtls.declared.words import Variable
from pytest_etcdtls.errors import UsageError

_BEGIN = re.compile(r"[ \t]*(export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_IN_DOUBLE_QUOTES = '"\\`$'


def read_variables(text: str, file: str, *, of_unit: bool = False) -> Iterator[Variable]:
    """Yield the variables in the order of the file.

    Args:
        text: of the file.
        file: its path, for places.
        of_unit: systemd alone reads it. It passes over lines that are no assignment, and over those with
            ``export`` in front, which a shell would read.

    Raises:
        UsageError: if a line is no assignment, or a quote is not closed.
    """
    index, first = 0, Place(file, 1)
    while index < len(text):
        place = at(first, text, index)
        end = text.find("\n", index)
        end = len(text) if end < 0 else end
        line = text[index:end].strip()
        match = _BEGIN.match(text, index)
        if not line or line[0] in "#;":
            index = end + 1
        elif match and not (of_unit and match[1]):
            value, index = _value(text, match.end(), place)
            yield Variable(match[2], value, place)
        elif of_unit:
            index = end + 1
        else:
            raise UsageError(f"{place}: {line[:60]!r} is not NAME=VALUE, as an environment file has it")


def _value(text: str, index: int, place: Place) -> tuple[str, int]:
    """Return a value and where the next line begins."""
    found: list[str] = []
    begun = False  # unquoted text has begun: from here on quotation marks are part of it
    kept = 0  # how many of the pieces stay although blanks at the end go
    while index < len(text):
        char = text[index]
        index += 1
        if char == "\n":
            break
        if char == "\\":
            following = text[index : index + 1]
            index += 1
            begun = True
            found += [following] if following != "\n" else []
            kept = len(found)
        elif char in "\"'" and not begun:
            piece, index = _quoted(text, index, char, place)
            found.append(piece)
            kept = len(found)
        elif begun or not char.isspace():
            begun = True
            found.append(char)
            kept = kept if char.isspace() else len(found)
    return "".join(found[:kept]), index


def _quoted(text: str, index: int, quote: str, place: Place) -> tuple[str, int]:
    found: list[str] = []
    while index < len(text):
        char = text[index]
        index += 1
        if char == quote:
            return "".join(found), index
        if char == "\\" and quote == '"' and text[index : index + 1] in (*_IN_DOUBLE_QUOTES, "\n"):
            if text[index] != "\n":
                found.append(text[index])
            index += 1
        else:
            found.append(char)
    raise UsageError(f"{place}: a quotation mark {quote} is not closed")
