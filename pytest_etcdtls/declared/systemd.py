"""systemd units, drop-ins and environment files, with as much of their syntax as units of etcd use.

Other syntax is refused with its line: C escapes, multi-line values, prefixes that change the command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

from pytest_etcdtls.declared.declaration import RunAs, SourceLine
from pytest_etcdtls.declared.start import Expansion, ProgramStart, Variable, Word, not_read
from pytest_etcdtls.errors import UsageError

_BRACED = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WHOLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_OTHER_ESCAPE = re.compile(r"(?:[^\\]|\\[\\\"])*(\\(?:[^\\\"]|$))")
_LONGEST_LINE = 32 * 1024


def split_words(text: str, place: SourceLine) -> list[Word]:
    r"""Return the words of a value, which begins at ``place``, with quotes resolved.

    Raises:
        UsageError: if a quote is not closed on its line, or there are escapes other than ``\\`` and ``\"``,
            or single quotes beside them, in which ``shlex`` and systemd differ.
    """
    words: list[Word] = []
    for number, line in enumerate(text.split("\n")):
        here = place.below(number)
        if escape := _OTHER_ESCAPE.match(line):
            raise UsageError(
                f"{here}: the escape {escape[1]!r} is not read: pass a copy with the character itself"
            )
        if "\\" in line and "'" in line:
            raise UsageError(
                f"{here}: escapes beside quotation marks ' are not read: pass a copy without them"
            )
        if len(line) > _LONGEST_LINE:
            raise UsageError(
                f"{here}: the command is longer than {_LONGEST_LINE} characters: no start of etcd is so long"
            )
        try:
            words += [Word(word, here) for word in shlex.split(line)]
        except ValueError as error:
            raise UsageError(f"{here}: a quotation mark is not closed") from error
    return words


def substitute(words: list[Word], variables: Mapping[str, Variable], expansion: Expansion) -> Iterator[Word]:
    """Yield the words with variables expanded: a word ``$NAME`` to words, ``${NAME}`` in a word to text.

    Raises:
        UsageError: if the variables are too long together.
    """
    for word in words:
        whole = _WHOLE.fullmatch(word.text)
        if whole is None:
            yield _inside(word, variables, expansion)
        elif (variable := variables.get(whole[1])) is not None and variable.unresolved:
            yield Word("", word.place, (variable.name,))
        elif variable is not None:
            yield from split_words(expansion.value(variable), variable.place)


def _inside(word: Word, variables: Mapping[str, Variable], expansion: Expansion) -> Word:
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[1] is None:  # systemd.service(5), "Command lines": $$ is one dollar sign
            return "$"
        variable = variables.get(match[1])
        if variable is None:
            return ""
        if variable.unresolved:
            missing.append(match[1])
        return expansion.value(variable)

    return Word(_BRACED.sub(value, word.text), word.place, (*word.unresolved, *missing))


_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)", re.DOTALL)
_VALUE = re.compile(r"""([^"'\\]*)|"([^"\\]*)"|'([^'\\]*)'""")


def read_variables(text: str, file: str, *, of_unit: bool = False) -> Iterator[Variable]:
    """Yield the variables in the order of the file.

    Args:
        text: the content of the file.
        file: its path, for line references.
        of_unit: whether systemd alone reads it. It ignores lines that are not assignments, and those that
            begin with ``export``, which a shell would execute.

    Raises:
        UsageError: if a line is not an assignment, or a value has escapes or is quoted in part.
    """
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        pieces, place = [lines[number].strip()], SourceLine(file, number + 1)
        number += 1
        if not pieces[0] or pieces[0][0] in "#;":
            continue
        # systemd.exec(5), EnvironmentFile=: the line end is discarded, and blanks after it are kept.
        while pieces[-1].endswith("\\") and number < len(lines):
            pieces[-1] = pieces[-1][:-1]
            pieces.append(lines[number])
            number += 1
        line = "".join(pieces)
        match = _ASSIGNMENT.fullmatch(line)
        if of_unit and (match is None or match.start(1)):
            continue
        if match is None:
            # Not shown: it may be a file with a password.
            raise UsageError(f"{place}: the line is not NAME=VALUE, as an environment file has it")
        value = _VALUE.fullmatch(match[2].rstrip())
        if value is None:
            raise UsageError(
                f"{place}: the value of {match[1]} has a backslash, or quotation marks that do not enclose "
                'all of it, which are not read: pass a copy with NAME=VALUE or NAME="VALUE" on one line'
            )
        yield Variable(match[1], next(group for group in value.groups() if group is not None), place)


_SPECIFIER = re.compile(r"%(.)")


def expand_specifiers(word: Word, unit: str) -> Word:
    """Return the word with the specifiers of the unit's name expanded. Others, as ``%H``, stay unresolved.

    Args:
        word: a word of the unit.
        unit: the unit's full name, ``etcd@one.service``; empty if it is not known.
    """
    stem = unit.removesuffix(".service")
    prefix, at_sign, instance = stem.partition("@")
    values = {"%": "%"}
    if unit:
        values["p"] = prefix  # in Debian's etcd.service
    if unit and (instance or not at_sign):  # in the template itself, the instance is not known
        values["i"] = instance
    missing = [match[0] for match in _SPECIFIER.finditer(word.text) if match[1] not in values]
    text = _SPECIFIER.sub(lambda match: values.get(match[1], match[0]), word.text)
    return Word(text, word.place, (*word.unresolved, *missing))


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
    """Return the drop-ins of a unit in the order of systemd.unit(5): by name, in any directory.

    Of equal names, the file in the directory with precedence is used. A unit outside systemd's directories
    has the drop-ins in ``NAME.d`` beside it.
    """
    directory = path.absolute().parent
    root = root_of(path)
    inside = any(directory == root / known for known in _UNIT_DIRECTORIES)
    places = [root / known for known in _UNIT_DIRECTORIES] if inside else [directory]
    # The unit's own and, for an instance, its template's.
    prefix, at_sign, _ = path.name.partition("@")
    names = [f"{path.name}.d", *([f"{prefix}@.service.d"] if at_sign else [])]
    by_name: dict[str, Path] = {}
    for place in places:
        for name in names:
            for file in sorted((place / name).glob("*.conf")):
                by_name.setdefault(file.name, file)
    return [by_name[name] for name in sorted(by_name)]


def unit_name(path: Path, text: str) -> str:
    """Return the unit's name from the heading of ``systemctl cat`` or the file's name; empty if unknown."""
    heading = _UNIT_HEADER.match(text)
    if heading is not None and len(name := PurePosixPath(heading[1]).name) <= _LONGEST_NAME:
        return name
    return path.name if path.suffix == ".service" else ""


_SECTION = re.compile(r"\[([^\]]+)\]")
_HEADER = re.compile(r"# (/\S+)")
_EXEC_PREFIXES = "-+!@:|"
"""systemd.service(5), table "Special executable prefixes"."""

OpenFile = Callable[[str, SourceLine], tuple[str, str] | None]
"""Takes a path and the line that names it; returns the path on this machine and the text, or ``None``."""


class Directive(Struct, frozen=True):
    """One assignment in a section: ``Key=value``. A value over several lines keeps its line ends."""

    key: str
    value: str
    place: SourceLine


def read_service(file: str, text: str) -> Iterator[Directive]:
    """Yield the directives of the section ``[Service]`` of a unit or a drop-in.

    ``systemctl cat`` prints all of them as one text, with a comment for each.

    Raises:
        UsageError: if a line is not a section, a directive or a comment.
    """
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
            raise UsageError(f"{place}: the line is neither [Section] nor Key=value, as a unit has it")


def _continued(value: str, lines: list[str], number: int) -> tuple[list[str], int]:
    """Return the lines of a value, empty ones for comments, and the number of the next line."""
    pieces = [value]
    while pieces[-1].endswith("\\"):
        pieces[-1] = pieces[-1][:-1]
        if number == len(lines):
            break
        line = lines[number].strip()
        number += 1
        # systemd.syntax(7): comment lines that follow a backslash are ignored, and the value goes on.
        pieces.append("\\" if line[:1] in ("#", ";") else line)
    return pieces, number


def invocation(directives: Sequence[Directive], unit: str, open_file: OpenFile) -> ProgramStart:
    """Return how etcd is started.

    Args:
        directives: those of the section ``[Service]``.
        unit: the unit's full name; empty if it is not known.
        open_file: opens environment files.

    Raises:
        UsageError: if the ``ExecStart=`` in force does not start etcd, an environment file is missing, or
            the unit has a directive or a prefix that is not read.
    """
    for directive in directives:
        if directive.key in ("PassEnvironment", "UnsetEnvironment") and directive.value.strip():
            raise not_read(directive.place, f"{directive.key}=")
    environment = tuple(_environment(directives, unit, open_file))
    commands = _in_force(directives, "ExecStart")
    if not commands:
        where = directives[0].place.file if directives else "the unit"
        raise UsageError(f"{where}: no ExecStart= is in force in its section [Service]")
    command = commands[-1]
    if len(commands) > 1:
        raise UsageError(
            f"{command.place}: {len(commands)} ExecStart= are in force, which systemd refuses for a service "
            "that keeps running: put an empty ExecStart= before the last one"
        )
    expansion = Expansion()
    variables = {variable.name: variable for variable in environment}
    program = tuple(_command(command, unit, variables, expansion))
    if not program or not program[0].is_etcd:
        starts = program[0].text if program else "nothing"
        raise not_read(command.place, f"a unit that starts {starts}, not etcd itself,")
    return ProgramStart(program=program, environment=environment, run_as=_run_as(directives, command))


def _run_as(directives: Sequence[Directive], command: Directive) -> RunAs | None:
    """Return the user of a unit; ``None`` where its rights are others' too (systemd.exec(5))."""
    last = {directive.key: directive for directive in directives}
    user = last.get("User")
    prefix = command.value.lstrip()[: -len(command.value.lstrip().lstrip(_EXEC_PREFIXES)) or None]
    may_read_all = any("CAP_DAC_" in one.value for one in directives if one.key == "AmbientCapabilities")
    if user is None or not user.value.strip() or "%" in user.value or set(prefix) & set("+!") or may_read_all:
        return None
    others = (directive.value.split() for directive in _in_force(directives, "SupplementaryGroups"))
    return RunAs(
        place=user.place,
        setting="User=",
        user=user.value.strip(),
        group=last["Group"].value.strip() if "Group" in last else "",
        others=tuple(name for names in others for name in names),
    )


def _in_force(directives: Sequence[Directive], key: str) -> list[Directive]:
    """Return the directives of a key that no later empty directive resets."""
    in_force: list[Directive] = []
    for directive in directives:
        if directive.key == key and directive.value.strip():
            in_force.append(directive)
        elif directive.key == key:
            in_force = []
    return in_force


def _command(
    directive: Directive, unit: str, variables: dict[str, Variable], expansion: Expansion
) -> Iterator[Word]:
    words = split_words(directive.value, directive.place)
    program = words[0].text.lstrip(_EXEC_PREFIXES)
    prefix = words[0].text.removesuffix(program)
    if set(prefix) & set("@:|"):
        raise not_read(directive.place, f"the prefix {prefix} of ExecStart=")
    words[0] = Word(program, words[0].place)
    yield from substitute([expand_specifiers(word, unit) for word in words], variables, expansion)


def _environment(directives: Sequence[Directive], unit: str, open_file: OpenFile) -> Iterator[Variable]:
    """Yield the variables in order; later ones override earlier ones."""
    for directive in _in_force(directives, "Environment"):
        for word in split_words(directive.value, directive.place):
            expanded = expand_specifiers(word, unit)
            name, equals, value = expanded.text.partition("=")
            if equals:
                yield Variable(name, value, word.place, ", ".join(expanded.unresolved))
    # systemd.exec(5): files override Environment=, wherever they stand in the unit.
    for directive in _in_force(directives, "EnvironmentFile"):
        yield from _file(directive, unit, open_file)


def _file(directive: Directive, unit: str, open_file: OpenFile) -> Iterator[Variable]:
    optional = directive.value.startswith("-")
    path = expand_specifiers(Word(directive.value.removeprefix("-").strip(), directive.place), unit)
    opened = None if path.unresolved else open_file(path.text, directive.place)
    if opened is not None:
        yield from read_variables(opened[1], opened[0], of_unit=True)
    elif not optional:
        name = PurePosixPath(path.text).name
        raise UsageError(
            f"{directive.place}: EnvironmentFile={path.text} is not here; put a copy of it as {name} beside "
            "the unit, or name the directory that it is under with --etcd-pki-dir"
        )
