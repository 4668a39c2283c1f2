"""Command lines: words, shell syntax, and the etcd program in them.

The simple commands of a POSIX shell are read: quotes, backslashes, ``$NAME``, ``${NAME:-default}`` and
assignments (Shell Command Language, 2.2 and 2.6). ``shlex`` is not used, because it expands no variables and
gives no line for a word. Nothing is executed. What only an execution would tell (``$(...)``, positional
parameters, variables of the caller) leaves a word *unresolved*, which is an error only where the word decides
about TLS.

Conditions and loops are not followed: every command that starts etcd is found, whichever would be executed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final

from pytest_etcdtls.dataclass import dataclass
from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.declared.flags import names
from pytest_etcdtls.errors import UsageError

_LAUNCHERS = names("docker env exec ionice nice podman")
"""Programs that start the program named in their arguments, in the units and manifests of packages."""

_OTHER_LAUNCHERS = names(
    """
    chrt dumb-init gosu nerdctl nohup numactl runuser setpriv su-exec sudo systemd-cat taskset time timeout
    tini
    """
)
"""Programs that do so too, each with options of its own, and are refused."""

_SHELLS = frozenset({"sh", "bash", "ash", "dash"})
_RUNTIMES = frozenset({"docker", "podman"})


@dataclass(frozen=True, slots=True)
class Word:
    """One word.

    Attributes:
        text: the text without quotes, variables expanded.
        place: the line that contains it.
        unresolved: names of variables in it whose value is not in the file.
    """

    text: str
    place: SourceLine
    unresolved: tuple[str, ...] = ()

    @property
    def is_flag(self) -> bool:
        """Whether it has the form of a flag."""
        return re.match(r"--?[A-Za-z]", self.text) is not None

    @property
    def is_etcd(self) -> bool:
        """Whether it names the etcd program."""
        return "=" not in self.text and PurePosixPath(self.text).name in ("etcd", "etcd.exe")


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Attributes:
        unresolved: why its value is not known; empty if it is.
    """

    name: str
    value: str = field(repr=False)
    place: SourceLine
    unresolved: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStart:
    """How a program is started.

    Attributes:
        program: the program and its arguments.
        environment: its variables, in the order in which they are set.
        environment_files: files read before those, as a container runtime reads them.
        image: the image of the container that the command runs it in; ``None`` if it names none.
    """

    program: tuple[Word, ...]
    environment: tuple[Variable, ...] = ()
    environment_files: tuple[Word, ...] = ()
    image: str | None = None


_ALLOWED: Final = {
    "words": 50_000,
    "characters of variables": 4 * 1024 * 1024,
    "scripts within scripts": 100,
    "commands that start etcd": 100,
}


class Allowance:
    """What reading one declaration may cost: variables that contain each other can expand to any size."""

    def __init__(self) -> None:
        self._left = dict(_ALLOWED)

    def take(self, kind: str, place: SourceLine, number: int = 1) -> None:
        """Count what is read; ``kind`` is a key of the table of what is allowed.

        Raises:
            UsageError: if it is more than a declaration can need.
        """
        self._left[kind] -= number
        if self._left[kind] < 0:
            raise UsageError(
                f"{place}: more than {_ALLOWED[kind]} {kind}, which no declaration of etcd has: pass the "
                "part that starts etcd"
            )


class Lines:
    """The line numbers in a text.

    Args:
        text: the text.
        place: the position of its first line.
    """

    def __init__(self, text: str, place: SourceLine) -> None:
        self._place = place
        self._ends = [end.start() for end in re.finditer("\n", text)] if place.line is not None else []

    def at(self, index: int) -> SourceLine:
        """Return the line of an index in the text."""
        line = self._place.line
        return (
            self._place
            if line is None
            else SourceLine(self._place.file, line + bisect_left(self._ends, index))
        )


def split_off_etcd(words: Sequence[Word]) -> tuple[tuple[Word, ...], tuple[Word, ...]] | None:
    """Return the words before the etcd program, and the program with its arguments.

    Return ``None`` if the words do not start etcd. A word ``etcd`` after an option, as in
    ``docker run --name etcd``, is that option's value.

    Raises:
        UsageError: if a program that is not followed starts etcd.
    """
    first = next((word for word in words if "=" not in word.text), None)
    if first is None:
        return None
    program = PurePosixPath(first.text).name
    if program in _OTHER_LAUNCHERS and any(word.is_etcd and flag.is_flag for word, flag in pairwise(words)):
        raise UsageError(
            f"{first.place}: etcd is started by {program}, whose arguments are not read; pass a copy in "
            "which the command begins with etcd, or the command line of the running process"
        )
    if not (first.is_etcd or program in _LAUNCHERS):
        return None
    runtime = any(PurePosixPath(word.text).name in _RUNTIMES for word in words)
    for number, word in enumerate(words):
        before = words[number - 1].text if number else ""
        follows_option = runtime and before.startswith("-") and before != "--"
        if word.is_etcd and ("bin/" in word.text or not follows_option):
            return tuple(words[:number]), tuple(words[number:])
    return None


PROXIES: Final = frozenset({"gateway", "grpc-proxy"})
"""Subcommands of etcd that start a proxy, not a member."""

_KEYWORDS: Final = frozenset({"then", "else", "do", "{"})
"""Words of the shell that a command may follow directly."""


def is_proxy(started: ProgramStart) -> bool:
    """Return whether etcd is started as a proxy."""
    return len(started.program) > 1 and started.program[1].text in PROXIES


_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^{}$`]*))?\})")
_OPERATORS = ";&|()<>\n"
_SET_BEFORE = frozenset({"export", "env"})


@dataclass
class _Reader:
    """A text that is parsed from left to right."""

    text: str
    lines: Lines
    variables: Mapping[str, Variable]
    allowance: Allowance
    index: int = 0
    pieces: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def here(self) -> SourceLine:
        return self.lines.at(self.index)

    def next(self) -> str:
        char = self.text[self.index]
        self.index += 1
        return char


def split_commands(
    text: str, place: SourceLine, variables: Mapping[str, Variable], allowance: Allowance
) -> Iterator[list[Word]]:
    """Yield the words of each simple command.

    Raises:
        UsageError: if a quote is not closed, or the allowance is exceeded.
    """
    known = dict(variables)
    reader = _Reader(text, Lines(text, place), known, allowance)
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
            is_redirection = char in "<>" and text[reader.index - 2].isdecimal()
            if command and is_redirection and command[-1].text.isdecimal():
                command.pop()  # the file descriptor: 2>&1
            if command:
                yield command
                known |= assignments(command)
            command = []
        else:
            word = _word(reader)
            allowance.take("words", word.place)
            if word.text or word.unresolved not in (("$@",), ("$*",)):  # a script is run without arguments
                command.append(word)
    if command:
        yield command


def assignments(command: list[Word]) -> dict[str, Variable]:
    """Return the variables that the words before a command set, including ``export`` and ``env``."""
    variables: dict[str, Variable] = {}
    for word in command:
        if match := _ASSIGNMENT.fullmatch(word.text):
            variables[match[1]] = Variable(match[1], match[2], word.place, ", ".join(word.unresolved))
        elif word.text not in _SET_BEFORE:
            break
    return variables


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


def _quoted(reader: _Reader, place: SourceLine) -> None:
    end = reader.text.find("'", reader.index)
    if end < 0:
        raise UsageError(f"{place}: a quotation mark ' is not closed")
    reader.pieces.append(reader.text[reader.index : end])
    reader.index = end + 1


def _double_quoted(reader: _Reader, place: SourceLine) -> None:
    while reader.index < len(reader.text):
        char = reader.next()
        if char == '"':
            return
        # POSIX, Shell Command Language 2.2.3: before other characters a backslash is literal.
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
    """Expand the parameter or command substitution whose first character was just read."""
    start = reader.index - 1
    if match := _VARIABLE.match(reader.text, start):
        reader.index = match.end()
        name, default = match[1] or match[2], match[3]
        variable = reader.variables.get(name)
        if variable.unresolved if variable is not None else default is None:
            reader.missing.append(name)
        if variable is not None:
            reader.allowance.take("characters of variables", variable.place, len(variable.value))
        reader.pieces.append(variable.value if variable is not None else default or "")
        return
    end = _end_of_substitution(reader.text, start)
    if end == start:
        reader.pieces.append(reader.text[start])
        return
    first, line_end, _ = reader.text[start:end].partition("\n")
    reader.missing.append(first.rstrip("\\ ") + " ...)" if line_end else first)
    reader.index = end


def _end_of_substitution(text: str, start: int) -> int:
    """Return where ``$(...)``, backquotes or a complex ``${...}`` end; ``start`` if none begins there."""
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


_SETS = ("-e", "--env")
_READS = ("--env-file",)


def find_etcd(
    words: Sequence[Word], environment: Sequence[Variable], allowance: Allowance
) -> ProgramStart | None:
    """Return how the words start etcd; ``None`` if they start something else.

    Raises:
        UsageError: if a quote in a script is not closed, or the allowance is exceeded.
    """
    if (
        len(words) > 2
        and words[0].text.rpartition("/")[2] in _SHELLS
        and re.fullmatch(r"-\w*c", words[1].text)
    ):
        allowance.take("scripts within scripts", words[2].place)
        starts = find_in_script(words[2], environment, allowance)
        return starts[0] if starts else None
    split = split_off_etcd(words)
    if split is None:
        return None
    allowance.take("commands that start etcd", split[1][0].place)
    set_before = assignments(list(words)).values()
    if not any(word.text.rpartition("/")[2] in _RUNTIMES for word in split[0]):
        return ProgramStart(program=split[1], environment=(*environment, *set_before))
    # A container has only the variables that the runtime's options set.
    return ProgramStart(
        program=split[1],
        environment=tuple(_variables(split[0], {one.name: one for one in (*environment, *set_before)})),
        environment_files=tuple(value for option, value in _options(split[0]) if option in _READS),
        image=_image(split[0]),
    )


def find_in_script(script: Word, environment: Sequence[Variable], allowance: Allowance) -> list[ProgramStart]:
    """Return every start of etcd in a shell script.

    Raises:
        UsageError: if a quote in it is not closed, or the allowance is exceeded.
    """
    before = list(environment)
    starts: list[ProgramStart] = []
    variables = {variable.name: variable for variable in environment}
    for command in split_commands(script.text, script.place, variables, allowance):
        if command[0].text in _KEYWORDS:
            command = command[1:]
        words = [Word("etcd", command[0].place), *command] if command and command[0].is_flag else command
        started = find_etcd(words, before, allowance)
        if started is None:
            before += assignments(words).values()
        else:
            starts.append(started)
    return starts


def _options(words: Sequence[Word]) -> Iterator[tuple[str, Word]]:
    """Yield the options that take a value, with their value: ``-e NAME=value``, ``--env-file=FILE``."""
    for number, word in enumerate(words):
        option, equals, rest = word.text.partition("=")
        if option in (*_SETS, *_READS) and (equals or number + 1 < len(words)):
            yield option, Word(rest, word.place, word.unresolved) if equals else words[number + 1]


def _variables(words: Sequence[Word], inherited: Mapping[str, Variable]) -> Iterator[Variable]:
    for option, value in _options(words):
        name, equals, text = value.text.partition("=")
        if option in _SETS and equals:
            yield Variable(name, text, value.place, ", ".join(value.unresolved))
        elif option in _SETS and name in inherited:
            yield inherited[name]


def _image(words: Sequence[Word]) -> str | None:
    """Return the image in a container runtime's command: the word directly before the etcd program."""
    last = words[-1].text if words else ""
    return last if re.search(r":[\w.-]+$", last) and not last.startswith("-") else None
