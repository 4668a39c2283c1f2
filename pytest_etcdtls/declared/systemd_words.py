r"""Command lines and assignments of systemd units: quotes, escapes, variables.

As systemd.service(5) and systemd.syntax(7) say. A value that goes on over several lines comes in with its
line ends, which are blanks here and tell where a word stands. Does not know sections, directives or files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pytest_etcdtls.declared.declaration import Place
from pytest_etcdtls.declared.words import Variable, Word
from pytest_etcdtls.errors import UsageError

_ESCAPES = {**dict(zip("abfnrtvs", "\a\b\f\n\r\t\v ", strict=True)), "\\": "\\", '"': '"', "'": "'"}
_NUMERIC = re.compile(r"x([0-9A-Fa-f]{2})|([0-7]{3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})")
_BLANKS = " \t\n\r"
_BRACED = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WHOLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


def split_words(text: str, place: Place) -> list[Word]:
    """Return the words of a value, quotes and escapes resolved.

    Args:
        text: of the value, lines as in the file.
        place: of its first line.

    Raises:
        UsageError: if a quote is not closed.
    """
    words: list[Word] = []
    index = 0
    while True:
        while index < len(text) and text[index] in _BLANKS:
            index += 1
        if index == len(text):
            return words
        where = at(place, text, index)
        word, index = _word(text, index, where)
        words.append(Word(word, where))


def at(place: Place, text: str, index: int) -> Place:
    """Return the line of a position in a text whose first line is at ``place``."""
    return place if place.line is None else Place(place.file, place.line + text.count("\n", 0, index))


def _word(text: str, index: int, place: Place) -> tuple[str, int]:
    found: list[str] = []
    quote = ""
    while index < len(text) and (quote or text[index] not in _BLANKS):
        char = text[index]
        index += 1
        if char == "\\":
            piece, index = _escape(text, index)
            found.append(piece)
        elif char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        else:
            found.append(" " if char == "\n" else char)
    if quote:
        raise UsageError(f"{place}: a quotation mark {quote} is not closed")
    return "".join(found), index


def _escape(text: str, index: int) -> tuple[str, int]:
    if index < len(text) and text[index] in _ESCAPES:
        return _ESCAPES[text[index]], index + 1
    if match := _NUMERIC.match(text, index):
        number = next(group for group in match.groups() if group)
        return chr(int(number, 8 if match[2] else 16)), match.end()
    return "\\", index


def substitute(words: list[Word], variables: Mapping[str, Variable]) -> Iterator[Word]:
    """Yield the words with variables replaced: ``$NAME`` alone by words, ``${NAME}`` inside one by text."""
    for word in words:
        if whole := _WHOLE.fullmatch(word.text):
            yield from _whole(word, variables.get(whole[1]))
        else:
            yield _inside(word, variables)


def _whole(word: Word, variable: Variable | None) -> Iterator[Word]:
    if variable is None:
        return
    if variable.unresolved:
        yield Word("", word.place, (variable.name,))
        return
    for part in split_words(variable.value, variable.place):
        yield Word(part.text, part.place)


def _inside(word: Word, variables: Mapping[str, Variable]) -> Word:
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        variable = variables.get(match[1])
        if variable is not None and variable.unresolved:
            missing.append(match[1])
        return variable.value if variable is not None else ""

    return Word(_BRACED.sub(value, word.text), word.place, (*word.unresolved, *missing))
