"""Command lines: how they start etcd.

A command is an argument vector already (``/proc/PID/cmdline``, the ``command`` of a container), or one
command of a shell, whose words ``shlex`` splits. As much of the shell is read as packages and manifests ship:
quotes, backslashes, ``$NAME`` and ``${NAME}`` (Shell Command Language, 2.2 and 2.6). Nothing is executed. A
value that only an execution would tell, as ``$(nproc)``, leaves a word *unresolved*. That is an error only
where the word decides about TLS.

Of a script of several commands, as OpenShift's pod has, the one that starts etcd is read. Others can change
what it is given only through variables. An assignment that stands alone at the top of the script counts; a
variable that is set in another way, as by ``read`` or in a branch, is unresolved. A script that starts etcd
twice, or reads another script, is refused, and so are launchers that ship with nothing. What these start is
known when it runs, and then ``/proc`` has it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, pairwise, takewhile
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import SourceLine
from pytest_etcdtls.declared.flags import names
from pytest_etcdtls.errors import UsageError

_SHELLS = names("sh bash ash dash")
_RUNTIMES = names("docker podman")
_LAUNCHERS = names(
    """
    chrt dumb-init gosu nerdctl nohup numactl runuser setpriv su-exec sudo systemd-cat systemd-run
    taskset time timeout tini
    """
)
"""Programs that start the program named in their arguments, each with options of its own; refused."""


class Word(Struct, frozen=True):
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
    def program(self) -> str:
        """The name of the program that it names."""
        return PurePosixPath(self.text).name

    @property
    def is_etcd(self) -> bool:
        """Whether it names the etcd program."""
        return "=" not in self.text and self.program in ("etcd", "etcd.exe")


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


class ProgramStart(Struct, frozen=True, kw_only=True):
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


PROXIES: Final = frozenset({"gateway", "grpc-proxy"})
"""Subcommands of etcd that start a proxy, not a member."""


def is_proxy(started: ProgramStart) -> bool:
    """Return whether etcd is started as a proxy."""
    return len(started.program) > 1 and started.program[1].text in PROXIES


INSTEAD: Final = (
    "pass --etcd-pid on the node of etcd, or a copy of the running process as --etcd-config (cat "
    "/proc/PID/environ /proc/PID/cmdline > etcd.cmdline), or --etcd-endpoint without a declaration"
)
"""The way around a declaration that is not read."""


def not_read(place: SourceLine, what: str) -> UsageError:
    """Return the error for a start of etcd that is recognised and not read."""
    return UsageError(f"{place}: {what} is not read: {INSTEAD}")


class Expansion:
    """Counts the characters that variables expand to: those that contain each other reach any size."""

    _MAXIMUM = 4 * 1024 * 1024

    def __init__(self) -> None:
        self._length = 0

    def value(self, variable: Variable) -> str:
        """Return the value of a variable.

        Raises:
            UsageError: if all values together are longer than a declaration can need.
        """
        self._length += len(variable.value)
        if self._length > self._MAXIMUM:
            raise UsageError(
                f"{variable.place}: variables expand to more than {self._MAXIMUM} characters, which no "
                "declaration of etcd has: pass the part that starts etcd"
            )
        return variable.value


_LONGEST_LINE = 32 * 1024


def split_line(line: str, place: SourceLine, operators: str = "") -> list[str]:
    """Return the words of one line, with quotes and backslashes resolved.

    Args:
        line: the line.
        place: its position, for messages.
        operators: characters that are words of their own outside of quotes.

    Raises:
        UsageError: if a quotation mark is not closed, or the line is too long.
    """
    if len(line) > _LONGEST_LINE:
        raise UsageError(
            f"{place}: the command is longer than {_LONGEST_LINE} characters, no start of etcd is"
        )
    lexer = shlex.shlex(line, posix=True, punctuation_chars=operators)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError as error:
        what = "a quotation mark is not closed" if "quotation" in str(error) else "a backslash ends the line"
        raise UsageError(f"{place}: {what}") from error


_OPERATORS = "();<>|&"
_IDLE = re.compile(r"^[ \t]*(?:#.*|set [-+][a-z]+(?: pipefail)?)$", re.MULTILINE)
"""Comments, and lines such as ``set -euo pipefail``."""
_BETWEEN_WORDS = re.compile(r"(?<=\s)\\\n|\\\n(?=\s)")
_REFERENCE = re.compile(
    r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\}|\([^()]*\)|\{[^{}]*\}|[\d@*#?!$-])|`[^`]*`", re.ASCII
)
_NOT_READ = (
    (re.compile("\0"), "a NUL character"),
    (re.compile(r"\\[$`]"), "an escaped $"),
    (re.compile(r"\$(?![A-Za-z_{(\d@*#?!$-])", re.ASCII), "a $ that stands for itself"),
    (re.compile(r"\\\\\n"), "an escaped backslash at the end of a line"),
)
"""Where ``shlex`` and a shell differ, or its words do not tell what was quoted."""


def split_script(script: Word, variables: Mapping[str, Variable], expansion: Expansion) -> Iterator[Word]:
    """Yield the words of a script that is one command and is run without arguments.

    Raises:
        UsageError: if it is more than that.
    """
    if script.unresolved:
        raise not_read(
            script.place, f"a script with {', '.join(script.unresolved)}, which is not in this file,"
        )
    text = _IDLE.sub("", script.text).rstrip()
    for pattern, what in _NOT_READ:
        if pattern.search(text):
            raise not_read(script.place, what)
    if "'" in text and ("$" in text or "`" in text):
        raise not_read(script.place, "single quotation marks beside a $")
    line = text.count("\n") - text.lstrip().count("\n")
    for piece in _BETWEEN_WORDS.split(text.lstrip()):
        command, place = piece.replace("\\\n", ""), script.place.below(line)
        line += piece.count("\n") + 1
        if "\n" in command:
            raise not_read(place, "a script of several commands or lines")
        # A NUL keeps the place of each reference while shlex splits.
        references = _REFERENCE.finditer(command)
        marked = _REFERENCE.sub("\0", command)
        if "$" in marked or "`" in marked:
            raise not_read(place, "an expansion within another one, or arithmetic,")
        for word in split_line(marked, place, _OPERATORS):
            if word.startswith("#") or (word and not set(word).difference(_OPERATORS)):
                raise not_read(place, f"{word[:2]!r} in the command of a shell")
            literals, missing = word.split("\0"), []
            expanded = literals[:1]
            for literal in literals[1:]:
                reference = next(references)
                name = reference[1] or reference[2] or reference[0]
                variable = variables.get(name)
                if variable is None or variable.unresolved:
                    missing.append(name)
                elif variable.value and not re.search(r"\s", variable.value):
                    expanded.append(expansion.value(variable))
                else:  # without quotation marks, a shell makes several words of it, or none
                    raise not_read(place, f"the variable {name}, which is empty or has blanks,")
                expanded.append(literal)
            if missing not in (["$@"], ["$*"]):
                yield Word("".join(expanded), place, tuple(missing))
            elif "".join(expanded):
                raise not_read(place, f"{missing[0]} within a word")


_PREFIXES = frozenset({"exec", "env"})
_PRIORITIES = re.compile(r"nice|ionice")
_PRIORITY = re.compile(r"-n|-c|-?-?\d+|-[nc]\d+|--adjustment=-?\d+")
"""``nice`` and ``ionice``, which change how etcd is scheduled, and the words that say how."""
_ASSIGNMENT = re.compile(r"[A-Za-z_][^=]*=")
_ETCD = re.compile(r"(?:^|[\s;&|(]|bin/)etcd(?:\s*$|\s+[-\"$\\;&|>g])", re.MULTILINE)
"""A start of etcd in a script, also in a form that is not read."""
_MENTION = re.compile(r"\b(?:echo|printf|logger|pgrep|pkill|pidof|killall)\b[^\n;&|]*")
"""A command that names etcd and does not start it."""
_COMMAND = re.compile(
    r"^[ \t]*(?:(?:exec|env|[A-Za-z_]\w*=\S*)[ \t]+)*"
    r"(?:(?:io)?nice(?:[ \t]+-\S+|[ \t]+-?\d+)*[ \t]+)*(?:[^\s=]*/)?"
    rf"(?:etcd|{'|'.join(sorted(_RUNTIMES | _LAUNCHERS))})(?=\s|$)",
    re.MULTILINE,
)


_PROGRAM = re.compile(r"(?:^|[\s/])etcd(?=\s|$)")


def is_command(text: str) -> bool:
    """Return whether a line of a text begins as a command that starts etcd, or that may do so."""
    return text.startswith("#!") or _COMMAND.search(text) is not None


def _script_of(words: Sequence[Word]) -> int | None:
    """Return the index of a shell's script in a command, ``None`` without one.

    In ``bash -euo pipefail -c SCRIPT`` it is 4: each ``o`` among the options takes the word behind them.
    """
    if not words or words[0].program not in _SHELLS:
        return None
    is_command, number = False, 1
    while number < len(words) and re.fullmatch(r"[-+]\w+", option := words[number].text):
        is_command = is_command or "c" in option[1:]
        number += 1 + option.count("o")
    return number if is_command and number < len(words) else None


def find_etcd(
    words: Sequence[Word], environment: Sequence[Variable], expansion: Expansion
) -> ProgramStart | None:
    """Return how the words start etcd; ``None`` if they start something else.

    Raises:
        UsageError: if etcd is started in a way that is not read.
    """
    number = _script_of(words)
    if number is not None:
        if _ETCD.search(_MENTION.sub("", words[number].text)) is None:
            return None
        if len(words) > number + 1:
            raise not_read(words[number + 1].place, "a script and its arguments")
        return find_in_script(words[number], environment, expansion)
    before = list(takewhile(lambda word: word.program in _PREFIXES or _ASSIGNMENT.match(word.text), words))
    command = _without_priorities(words[len(before) :])
    environment = (*environment, *(_variable(word) for word in before if word.program not in _PREFIXES))
    if not command:
        return None
    if command[0].is_etcd:
        return ProgramStart(program=tuple(command), environment=environment)
    if command[0].program in _RUNTIMES:
        return _in_container(command, environment)
    if command[0].program in _LAUNCHERS and any(
        word.is_etcd and following.is_flag for word, following in pairwise(command)
    ):
        raise not_read(command[0].place, f"the launcher {command[0].program}")
    return None


def _without_priorities(command: Sequence[Word]) -> Sequence[Word]:
    """Return a command without ``nice -n -19`` and ``ionice -c2 -n0`` before it."""
    while command and _PRIORITIES.fullmatch(command[0].program):
        command = [*dropwhile(lambda word: _PRIORITY.fullmatch(word.text), command[1:])]
    return command


_QUOTED = r"\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"|(?<!\S)#[^\n]*"
"""What a shell takes as it is: quoted text and comments."""
_TOKEN = re.compile(rf"{_QUOTED}|(?P<end>\n|;|&&|\|\|?|(?<![<>])&(?!>))|(?P<depth>[()])", re.DOTALL)
_QUOTED_OR_REDIRECTION = re.compile(rf"{_QUOTED}|(?P<redirection>\s+\d?>{{1,2}}&?\s*[^\s'\"]+)", re.DOTALL)
_BRANCHES = names("if then elif else case for while until do")
_ENDS_OF_BRANCHES = names("fi done esac")
_ONE_ASSIGNED = re.compile(
    r"\s*([A-Za-z_]\w*)(?:=((?:\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"|\$\([^()]*\)|`[^`]*`|[^\s'\"\\`()])*))?(?=\s|$)",
    re.DOTALL,
)
_SETS = re.compile(r"\b([A-Za-z_]\w*)\+?=|\b(?:read|for|unset|local|getopts)\s+(?:-\w+\s+)*([A-Za-z_]\w*)")


def _commands(script: Word) -> Iterator[Word]:
    """Yield the commands of a script, each at its line; what is in parentheses stays together."""
    text, begin, depth, line = script.text, 0, 0, 0
    ends = []
    for token in _TOKEN.finditer(text):
        if token["depth"]:
            depth = max(0, depth + (1 if token["depth"] == "(" else -1))
        elif token["end"] and not depth:
            ends.append(token.span())
    for end, following in (*ends, (len(text), len(text))):
        command = text[begin:end]
        yield Word(command.strip(), script.place.below(line + _lines_before(command)))
        line += text.count("\n", begin, following)
        begin = following


def _lines_before(text: str) -> int:
    return text[: len(text) - len(text.lstrip())].count("\n")


def _the_start(
    script: Word, environment: Sequence[Variable], expansion: Expansion
) -> tuple[Word, dict[str, Variable], Sequence[Variable]]:
    """Return the command of a script that starts etcd, the script's variables, and those that etcd has.

    A script of one command is returned without redirections.

    Raises:
        UsageError: if no command or several do, or what they start depends on another script.
    """
    commands = [one for one in _commands(script) if one.text and not one.text.startswith("#")]
    commands = [one for one in commands if not _IDLE.fullmatch(one.text)]
    starts = [
        number
        for number, one in enumerate(commands)
        if _COMMAND.match(_last_of(one.text)) and _PROGRAM.search(one.text)
    ]
    known = {variable.name: variable for variable in environment}
    if script.unresolved or len(commands) < 2 or len(starts) != 1:
        return Word(_without_redirections(script.text), script.place, script.unresolved), known, environment
    number, exported, depth = starts[0], set(known), 0
    for one in commands[:number]:
        first = one.text.split(None, 1)[0]
        if first in (".", "source", "eval", "set", "alias") or "<<" in one.text:
            raise not_read(one.place, f"a script with {'a here-document' if '<<' in one.text else first}")
        depth += (first in _BRANCHES) - (first in _ENDS_OF_BRANCHES)
        _assign(one, known, exported, expansion, in_branch=depth > 0)
    for one in commands[number + 1 :]:
        if one.is_flag:
            raise not_read(one.place, "a line with flags, after one without a backslash at its end,")
    start = commands[number]
    command = _without_redirections(_last_of(start.text))
    of_etcd = [variable for name, variable in known.items() if name in exported]
    return Word(command, start.place), known, of_etcd


def _without_redirections(command: str) -> str:
    return _QUOTED_OR_REDIRECTION.sub(lambda match: "" if match["redirection"] else match[0], command)


def _last_of(command: str) -> str:
    """Return a command without the words of a branch before it."""
    words = command.split(None, 1)
    return _last_of(words[1]) if len(words) == 2 and words[0] in ("then", "else", "do", "{") else command


def _assign(
    command: Word, known: dict[str, Variable], exported: set[str], expansion: Expansion, *, in_branch: bool
) -> None:
    """Add the variables that a command sets."""
    is_exported = re.match(r"export\s", command.text) is not None
    assigned = _assigned(command.text[len("export") :] if is_exported else command.text)
    if assigned and not in_branch and (is_exported or all(value is not None for _, value in assigned)):
        for name, value in assigned:
            if value is not None:
                known[name] = _value_of(name, Word(value, command.place), known, expansion)
            if is_exported:
                exported.add(name)
        return
    is_exported = re.search(r"\b(export|declare|typeset)\s", command.text) is not None
    for found in _SETS.finditer(command.text):
        name = found[1] or found[2]
        known[name] = Variable(name, "", command.place, "set by the script")
        exported |= {name} if is_exported else set()


def _assigned(text: str) -> list[tuple[str, str | None]]:
    """Return the names, and values as written, of a command that only assigns; none of another one."""
    assigned, end = [], 0
    while end < len(text):
        one = _ONE_ASSIGNED.match(text, end)
        if one is None:
            return []
        assigned.append((one[1], one[2]))
        end = one.end()
    return assigned


def _value_of(name: str, value: Word, known: Mapping[str, Variable], expansion: Expansion) -> Variable:
    try:
        words = list(split_script(value, known, expansion)) if value.text else []
    except UsageError:
        words = [Word("", value.place, ("set by the script",))]
    if len(words) > 1 or any(word.unresolved for word in words):
        return Variable(name, "", value.place, "set by the script")
    return Variable(name, words[0].text if words else "", value.place)


def find_in_script(script: Word, environment: Sequence[Variable], expansion: Expansion) -> ProgramStart:
    """Return how a script starts etcd.

    Raises:
        UsageError: if it has no command that starts etcd, or several.
    """
    script, variables, environment = _the_start(script, environment, expansion)
    words = list(split_script(script, variables, expansion))
    if words and words[0].is_flag:
        words.insert(0, Word("etcd", words[0].place))
    started = find_etcd(words, environment, expansion)
    if started is None:
        raise not_read(script.place, "another command than etcd itself")
    return started


def _variable(assignment: Word) -> Variable:
    name, _, value = assignment.text.partition("=")
    return Variable(name, value, assignment.place, ", ".join(assignment.unresolved))


_OPTION = re.compile(r"(?:(-e)=?|(--env|--env-file)(?:=|$))(.*)", re.DOTALL)
_OPTION_NOT_READ = re.compile(r"--entrypoint\b|-[dit]+e")


def _in_container(command: Sequence[Word], inherited: Sequence[Variable]) -> ProgramStart | None:
    """Return how ``docker run`` starts etcd, with the variables that its options set, and no others."""
    # A word ``etcd`` after an option, as in ``docker run --name etcd``, is that option's value.
    starts = (
        number
        for number, (previous, word) in enumerate(pairwise(command), 1)
        if word.is_etcd and ("bin/" in word.text or not previous.text.startswith("-"))
    )
    start = next(starts, None)
    if start is None:
        return None
    of_host = {variable.name: variable for variable in inherited}
    environment: list[Variable] = []
    files: list[Word] = []
    options = iter(command[:start])
    for word in command[: start - 1]:
        if word.unresolved and not word.text.strip("\"'"):
            raise not_read(word.place, f"{command[0].program} with options in {', '.join(word.unresolved)}")
    for word in options:
        if _OPTION_NOT_READ.match(word.text):
            raise not_read(word.place, f"{command[0].program}'s {word.text.partition('=')[0]}")
        option = _OPTION.fullmatch(word.text)
        if option is None:
            continue
        value = Word(option[3], word.place, word.unresolved) if option[3] else next(options, word)
        if option[2] == "--env-file":
            files.append(value)
        elif "=" in value.text:
            environment.append(_variable(value))
        elif value.text in of_host:
            environment.append(of_host[value.text])
    image = command[start - 1].text
    return ProgramStart(
        program=tuple(command[start:]),
        environment=tuple(environment),
        environment_files=tuple(files),
        image=image if re.fullmatch(r"[^-].*:[\w.-]+", image) else None,
    )
