"""systemd units, drop-ins and environment files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.declared.shell import Allowance, Lines, ProgramStart, Variable, Word, find_etcd
from pytest_etcdtls.errors import UsageError

_ESCAPES = {**dict(zip("abfnrtvs", "\a\b\f\n\r\t\v ", strict=True)), "\\": "\\", '"': '"', "'": "'"}
_NUMERIC = re.compile(r"x([0-9A-Fa-f]{2})|([0-7]{3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})")
_BLANKS = " \t\n\r"
_BRACED = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WHOLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


def split_words(text: str, place: SourceLine) -> list[Word]:
    """Return the words of a value with quotes and escapes resolved.

    Args:
        text: the value, with lines as in the file.
        place: the position of its first line.

    Raises:
        UsageError: if a quote is not closed.
    """
    words: list[Word] = []
    lines, index = Lines(text, place), 0
    while True:
        while index < len(text) and text[index] in _BLANKS:
            index += 1
        if index == len(text):
            return words
        where = lines.at(index)
        word, index = _word(text, index, where)
        words.append(Word(word, where))


def _word(text: str, index: int, place: SourceLine) -> tuple[str, int]:
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


def substitute(
    words: list[Word], variables: Mapping[str, Variable], allowance: Allowance | None = None
) -> Iterator[Word]:
    """Yield the words with variables expanded: a word ``$NAME`` to words, ``${NAME}`` in a word to text.

    Raises:
        UsageError: if the allowance is exceeded.
    """
    allowance = allowance or Allowance()
    for word in words:
        if whole := _WHOLE.fullmatch(word.text):
            yield from _whole(word, variables.get(whole[1]), allowance)
        else:
            yield _inside(word, variables, allowance)


def _whole(word: Word, variable: Variable | None, allowance: Allowance) -> Iterator[Word]:
    if variable is None:
        return
    if variable.unresolved:
        yield Word("", word.place, (variable.name,))
        return
    allowance.take("characters of variables", variable.place, len(variable.value))
    for part in split_words(variable.value, variable.place):
        yield Word(part.text, part.place)


def _inside(word: Word, variables: Mapping[str, Variable], allowance: Allowance) -> Word:
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        variable = variables.get(match[1])
        if variable is not None and variable.unresolved:
            missing.append(match[1])
        if variable is None:
            return ""
        allowance.take("characters of variables", variable.place, len(variable.value))
        return variable.value

    return Word(_BRACED.sub(value, word.text), word.place, (*word.unresolved, *missing))


_BEGIN = re.compile(r"[ \t]*(export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_IN_DOUBLE_QUOTES = '"\\`$'


def read_variables(text: str, file: str, *, of_unit: bool = False) -> Iterator[Variable]:
    """Yield the variables in the order of the file.

    Args:
        text: the content of the file.
        file: its path, for line references.
        of_unit: whether only systemd reads it. systemd ignores lines that are not assignments, and lines
            that begin with ``export``, which a shell would execute.

    Raises:
        UsageError: if a line is not an assignment, or a quote is not closed.
    """
    lines, index = Lines(text, SourceLine(file, 1)), 0
    while index < len(text):
        place = lines.at(index)
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


def _value(text: str, index: int, place: SourceLine) -> tuple[str, int]:
    """Return a value and the index where the next line begins."""
    found: list[str] = []
    begun = False  # unquoted text has begun: quotation marks after it are part of the value
    kept = 0  # the number of pieces that are kept when trailing blanks are removed
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


def _quoted(text: str, index: int, quote: str, place: SourceLine) -> tuple[str, int]:
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


_SPECIFIER = re.compile(r"%(.)")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Specifiers:
    """The values of the specifiers that units of etcd have: those of the unit's name.

    Attributes:
        unit: the full name of the unit, ``etcd@one.service``; empty if it is not known.
    """

    unit: str = ""

    def expand(self, word: Word) -> Word:
        """Return the word with the supported specifiers expanded. Others, such as ``%H``, stay unresolved."""
        missing: list[str] = []

        def value(match: re.Match[str]) -> str:
            found = self._value(match[1])
            if found is None:
                missing.append(match[0])
            return match[0] if found is None else found

        return Word(_SPECIFIER.sub(value, word.text), word.place, (*word.unresolved, *missing))

    def _value(self, letter: str) -> str | None:
        if letter == "%":
            return "%"
        if not self.unit:
            return None
        stem = self.unit.rpartition(".")[0] or self.unit
        prefix, at_sign, instance = stem.partition("@")
        if at_sign and not instance and letter in "iInN":
            return None  # the template itself: the instance is not known
        values = {
            "n": self.unit,
            "N": stem,
            "p": prefix,  # in Debian's etcd.service
            "i": instance,
            "I": _unescape(instance),
        }
        return values.get(letter)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text.replace("-", "/"))


_UNIT_DIRECTORIES = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
"""Unit directories below the root, in order of precedence."""

_UNIT_HEADER = re.compile(r"# (/\S+\.service)$", re.MULTILINE)
_LONGEST_NAME = 255
"""The longest name of a unit in characters (``UNIT_NAME_MAX``)."""


def root_of(path: Path) -> Path:
    """Return the directory that is used as ``/`` if a unit is in one of systemd's directories."""
    directory = path.absolute().parent.as_posix()
    for known in _UNIT_DIRECTORIES:
        if directory.endswith(f"/{known}"):
            return Path(directory[: -len(known)])
    return Path("/")


def drop_ins(path: Path) -> list[Path]:
    """Return the drop-ins of a unit in the order in which systemd reads them: by name, in any directory.

    Of equal names, the file in the directory with precedence is used. A unit outside systemd's directories
    has the drop-ins in ``NAME.d`` in its own directory.
    """
    directory = path.absolute().parent
    root = root_of(path)
    inside = any(directory == root / known for known in _UNIT_DIRECTORIES)
    places = [root / known for known in _UNIT_DIRECTORIES] if inside else [directory]
    by_name: dict[str, Path] = {}
    for place in places:
        for name in _drop_in_directories(path.name):
            for found in sorted((place / name).glob("*.conf")):
                by_name.setdefault(found.name, found)
    return [by_name[name] for name in sorted(by_name)]


def _drop_in_directories(unit: str) -> list[str]:
    """Return the names of the directories: the unit's own and, for an instance, its template's."""
    prefix, at_sign, _ = unit.partition("@")
    template = [f"{prefix}@.service.d"] if at_sign else []
    return [f"{unit}.d", *template]


def unit_name(path: Path, text: str) -> str:
    """Return the unit's name from the heading of ``systemctl cat`` or the file's name; empty if unknown."""
    heading = _UNIT_HEADER.match(text)
    if heading is not None and len(name := PurePosixPath(heading[1]).name) <= _LONGEST_NAME:
        return name
    return path.name if path.suffix == ".service" else ""


_SECTION = re.compile(r"\[([^\]]+)\]")
_HEADER = re.compile(r"# (/\S+)")
_EXEC_PREFIXES = "@-:+!|"

OpenFile = Callable[[str, SourceLine], tuple[str, str] | None]
"""Takes a path and the line that names it; returns the path on this machine and the text, or ``None``."""


@dataclass(frozen=True, slots=True)
class Directive:
    """One assignment in a section: ``Key=value``. A value over several lines keeps its line ends."""

    key: str
    value: str
    place: SourceLine


def read_service(texts: Sequence[tuple[str, str]]) -> list[Directive]:
    """Return the directives of the section ``[Service]``.

    Args:
        texts: path and text of the unit and of its drop-ins, in the order in which systemd reads them.
            ``systemctl cat`` prints them as one text, with a comment for each.

    Raises:
        UsageError: if a line is not a section, a directive or a comment.
    """
    return [directive for file, text in texts for directive in _directives(file, text)]


def _directives(file: str, text: str) -> Iterator[Directive]:
    section, offset = "", 0
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line, place = lines[number].strip(), SourceLine(file, number + 1 - offset)
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
    """Return the lines of a value and the number of the next line. Comments in it become empty lines."""
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


def invocation(directives: Sequence[Directive], specifiers: Specifiers, open_file: OpenFile) -> ProgramStart:
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
    allowance = Allowance()
    started = [
        found
        for command in commands
        if (
            found := find_etcd(
                list(_command(command, specifiers, variables, allowance)), environment, allowance
            )
        )
    ]
    if not started:
        raise UsageError(
            f"{commands[-1].place}: this unit does not start etcd but {commands[-1].value[:80]!r}"
        )
    return started[-1]


def _in_force(directives: Sequence[Directive], key: str) -> list[Directive]:
    """Return the directives of a key that no later empty directive resets."""
    found: list[Directive] = []
    for directive in directives:
        if directive.key == key and directive.value.strip():
            found.append(directive)
        elif directive.key == key:
            found = []
    return found


def _command(
    directive: Directive, specifiers: Specifiers, variables: dict[str, Variable], allowance: Allowance
) -> Iterator[Word]:
    words = split_words(directive.value, directive.place)
    allowance.take("words", directive.place, len(words))
    if not words:
        return
    first = words[0].text
    program = first.lstrip(_EXEC_PREFIXES)
    prefixes = first[: len(first) - len(program)]
    words[0] = Word(program, words[0].place)
    if "@" in prefixes and len(words) > 1:
        del words[1]  # argv[0]
    expanded = [specifiers.expand(word) for word in words]
    yield from expanded if ":" in prefixes else substitute(expanded, variables, allowance)


def _environment(
    directives: Sequence[Directive], specifiers: Specifiers, open_file: OpenFile
) -> Iterator[Variable]:
    """Yield the variables in order; later ones override. Files come after all ``Environment=``."""
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
