"""systemd units and their drop-ins: which program is started, and with which environment.

Follows systemd.syntax(7), systemd.unit(5) and systemd.exec(5). Knows that the program is etcd, not what its
arguments mean. Opens no file: drop-ins and environment files come from a function of the caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pytest_etcdtls.declared.declaration import Place
from pytest_etcdtls.declared.environment_file import read_variables
from pytest_etcdtls.declared.program import find_etcd
from pytest_etcdtls.declared.specifiers import Specifiers
from pytest_etcdtls.declared.systemd_words import split_words, substitute
from pytest_etcdtls.declared.words import Invocation, Variable, Word
from pytest_etcdtls.errors import UsageError

_SECTION = re.compile(r"\[([^\]]+)\]")
_HEADER = re.compile(r"# (/\S+)")
_EXEC_PREFIXES = "@-:+!|"

OpenFile = Callable[[str, Place], tuple[str, str] | None]
"""Given a path and where it is named, returns the file's path here and its text; ``None`` if it is absent."""


@dataclass(frozen=True, slots=True)
class Directive:
    """One line of a section: ``Key=value``; a value over several lines keeps its line ends."""

    key: str
    value: str
    place: Place


def read_service(texts: Sequence[tuple[str, str]]) -> list[Directive]:
    """Return the directives of the section ``[Service]``.

    Args:
        texts: path and text of the unit and then of its drop-ins, in the order in which systemd reads them.
            ``systemctl cat`` prints them as one text, with a comment for each.

    Raises:
        UsageError: if a line is neither section, directive nor comment.
    """
    return [directive for file, text in texts for directive in _directives(file, text)]


def _directives(file: str, text: str) -> Iterator[Directive]:
    section, offset = "", 0
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line, place = lines[number].strip(), Place(file, number + 1 - offset)
        number += 1
        if header := _HEADER.fullmatch(line):
            file, offset = header[1], number
        elif not line or line[0] in "#;":
            continue
        elif match := _SECTION.fullmatch(line):
            section = match[1]
        elif "=" in line:
            key, _, value = line.partition("=")
            pieces, number = _continued(value.lstrip(), lines, number)
            if section == "Service":
                yield Directive(key.rstrip(), "\n".join(pieces), place)
        else:
            raise UsageError(f"{place}: {line[:60]!r} is neither [Section] nor Key=value, as a unit has it")


def _continued(value: str, lines: list[str], number: int) -> tuple[list[str], int]:
    """Return the lines of a value and the number of the next line; comments inside are empty lines."""
    pieces = [value]
    goes_on = value.endswith("\\")
    while goes_on:
        pieces[-1] = pieces[-1].removesuffix("\\")
        if number == len(lines):
            break
        line = lines[number].strip()
        number += 1
        is_comment = line[:1] in ("#", ";")
        pieces.append("\\" if is_comment else line)
        goes_on = pieces[-1].endswith("\\")
    return pieces, number


def invocation(directives: Sequence[Directive], specifiers: Specifiers, open_file: OpenFile) -> Invocation:
    """Return how etcd is started.

    Raises:
        UsageError: if no ``ExecStart=`` in force starts etcd, or an environment file is missing.
    """
    environment = tuple(_environment(directives, specifiers, open_file))
    variables = {variable.name: variable for variable in environment}
    commands = _in_force(directives, "ExecStart")
    if not commands:
        where = directives[0].place.file if directives else "the unit"
        raise UsageError(f"{where}: no ExecStart= is in force in its section [Service]")
    started = [
        found
        for command in commands
        if (found := find_etcd(list(_command(command, specifiers, variables)), environment))
    ]
    if not started:
        raise UsageError(
            f"{commands[-1].place}: this unit does not start etcd but {commands[-1].value[:80]!r}"
        )
    return started[-1]


def _in_force(directives: Sequence[Directive], key: str) -> list[Directive]:
    """Return the directives of a key that an empty one after them does not reset."""
    found: list[Directive] = []
    for directive in directives:
        if directive.key == key:
            found = [*found, directive] if directive.value.strip() else []
    return found


def _command(directive: Directive, specifiers: Specifiers, variables: dict[str, Variable]) -> Iterator[Word]:
    words = split_words(directive.value, directive.place)
    if not words:
        return
    first = words[0].text
    program = first.lstrip(_EXEC_PREFIXES)
    prefixes = first[: len(first) - len(program)]
    words[0] = Word(program, words[0].place)
    if "@" in prefixes and len(words) > 1:
        del words[1]  # the name that the program sees as its own
    expanded = [specifiers.expand(word) for word in words]
    yield from expanded if ":" in prefixes else substitute(expanded, variables)


def _environment(
    directives: Sequence[Directive], specifiers: Specifiers, open_file: OpenFile
) -> Iterator[Variable]:
    """Yield what is set, in the order in which later ones win: files come after all ``Environment=``."""
    removed = {
        word.text
        for found in _in_force(directives, "UnsetEnvironment")
        for word in split_words(found.value, found.place)
    }
    for directive in _in_force(directives, "Environment"):
        for word in split_words(directive.value, directive.place):
            expanded = specifiers.expand(word)
            name, equals, value = expanded.text.partition("=")
            if equals and name not in removed and word.text not in removed:
                yield Variable(name, value, word.place, ", ".join(expanded.unresolved))
    for directive in _in_force(directives, "EnvironmentFile"):
        yield from (found for found in _file(directive, specifiers, open_file) if found.name not in removed)


def _file(directive: Directive, specifiers: Specifiers, open_file: OpenFile) -> Iterator[Variable]:
    optional = directive.value.startswith("-")
    path = specifiers.expand(Word(directive.value.removeprefix("-").strip(), directive.place))
    found = None if path.unresolved else open_file(path.text, directive.place)
    if found is not None:
        yield from read_variables(found[1], found[0], of_unit=True)
    elif not optional:
        name = PurePosixPath(path.text).name
        raise UsageError(
            f"{directive.place}: EnvironmentFile={path.text} is not here; put a copy of it as {name} beside "
            "the unit, or name the directory that it is under with --etcd-pki-dir"
        )
