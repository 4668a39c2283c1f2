"""Commands as a POSIX shell reads them, as far as an etcd is started that way.

Quotes, continued lines, comments, assignments and variables; no loops, no functions, and what a command
substitution would print is not known. Does not know etcd.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pytest_etcdtls.declared.declaration import Place
from pytest_etcdtls.declared.systemd_words import at
from pytest_etcdtls.declared.words import Variable, Word
from pytest_etcdtls.errors import UsageError

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}$`]*))?\})")
_OPERATORS = ";&|()<>\n"
_SET_BEFORE = frozenset({"export", "env", "declare", "readonly", "local"})


@dataclass
class _Reader:
    """A text that is read from left to right."""

    text: str
    place: Place
    variables: Mapping[str, Variable]
    index: int = 0
    pieces: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def here(self) -> Place:
        return at(self.place, self.text, self.index)

    def next(self) -> str:
        char = self.text[self.index]
        self.index += 1
        return char


def split_commands(text: str, place: Place, variables: Mapping[str, Variable]) -> Iterator[list[Word]]:
    """Yield the words of each simple command.

    Args:
        text: lines as in the file.
        place: of its first line.
        variables: those that are set beforehand.

    Raises:
        UsageError: if a quote is not closed.
    """
    known = dict(variables)
    reader = _Reader(text, place, known)
    command: list[Word] = []
    while reader.index < len(text):
        char = text[reader.index]
        if text.startswith("\\\n", reader.index):
            reader.index += 2
        elif char in " \t\r":
            reader.index += 1
        elif char == "#":
            end = text.find("\n", reader.index)
            reader.index = end if end >= 0 else len(text)
        elif char in _OPERATORS:
            reader.index += 1
            if command:
                yield command
                known |= assignments(command)
            command = []
        else:
            word = _word(reader)
            if word.text or word.unresolved not in (("$@",), ("$*",)):  # a script is run without arguments
                command.append(word)
    if command:
        yield command


def assignments(command: list[Word]) -> dict[str, Variable]:
    """Return the variables that the words in front of a command set, ``export`` and ``env`` included."""
    found: dict[str, Variable] = {}
    for word in command:
        if match := _ASSIGNMENT.fullmatch(word.text):
            found[match[1]] = Variable(match[1], match[2], word.place, ", ".join(word.unresolved))
        elif word.text not in _SET_BEFORE:
            break
    return found


def _word(reader: _Reader) -> Word:
    place = reader.here
    reader.pieces, reader.missing = [], []
    while reader.index < len(reader.text) and reader.text[reader.index] not in " \t\r" + _OPERATORS:
        char = reader.next()
        if char == "'":
            _quoted(reader, place)
        elif char == '"':
            _double_quoted(reader, place)
        elif char == "\\":
            _escaped(reader)
        elif char in "$`":
            _expand(reader)
        else:
            reader.pieces.append(char)
    return Word("".join(reader.pieces), place, tuple(reader.missing))


def _quoted(reader: _Reader, place: Place) -> None:
    end = reader.text.find("'", reader.index)
    if end < 0:
        raise UsageError(f"{place}: a quotation mark ' is not closed")
    reader.pieces.append(reader.text[reader.index : end])
    reader.index = end + 1


def _double_quoted(reader: _Reader, place: Place) -> None:
    while reader.index < len(reader.text):
        char = reader.next()
        if char == '"':
            return
        if char == "\\" and reader.text[reader.index : reader.index + 1] in ('"', "\\", "$", "`", "\n"):
            _escaped(reader)
        elif char in "$`":
            _expand(reader)
        else:
            reader.pieces.append(char)
    raise UsageError(f'{place}: a quotation mark " is not closed')


def _escaped(reader: _Reader) -> None:
    if reader.index < len(reader.text) and (char := reader.next()) != "\n":
        reader.pieces.append(char)


def _expand(reader: _Reader) -> None:
    """Replace what begins with the dollar sign or the backquote that was just read."""
    start = reader.index - 1
    if match := _VARIABLE.match(reader.text, start):
        reader.index = match.end()
        name, default = match[1] or match[2], match[3]
        variable = reader.variables.get(name)
        if variable.unresolved if variable is not None else default is None:
            reader.missing.append(name)
        reader.pieces.append(variable.value if variable is not None else default or "")
        return
    end = _end_of_substitution(reader.text, start)
    if end == start:
        reader.pieces.append(reader.text[start])
        return
    reader.missing.append(reader.text[start:end])
    reader.index = end


def _end_of_substitution(text: str, start: int) -> int:
    """Return where ``$(...)``, backquotes or an elaborate ``${...}`` end; ``start`` if none begins there."""
    if text[start] == "`":
        end = text.find("`", start + 1)
        return end + 1 if end >= 0 else len(text)
    opening = text[start + 1 : start + 2]
    closing = {"(": ")", "{": "}"}.get(opening)
    if closing is None:
        return start + 2 if opening and opening in "@*#?$!-0123456789" else start
    depth = 0
    for index in range(start + 1, len(text)):
        depth += (text[index] == opening) - (text[index] == closing)
        if depth == 0:
            return index + 1
    return len(text)
