"""Finds etcd's program in what is started: alone, behind a launcher, in a script, in a container.

Knows that the program is etcd, not what its arguments mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pytest_etcdtls.declared.shell_words import assignments, split_commands
from pytest_etcdtls.declared.words import Invocation, Variable, Word, split_off_etcd

_SHELLS = frozenset({"sh", "bash", "ash", "dash"})
_RUNTIMES = frozenset({"docker", "podman", "nerdctl"})
_SETS = ("-e", "--env")
_READS = ("--env-file",)


def find_etcd(words: Sequence[Word], environment: Sequence[Variable]) -> Invocation | None:
    """Return how the words start etcd; ``None`` if they start something else.

    Args:
        words: of one command.
        environment: that it is given.
    """
    if (
        len(words) > 2
        and words[0].text.rpartition("/")[2] in _SHELLS
        and re.fullmatch(r"-\w*c", words[1].text)
    ):
        found = find_in_script(words[2], environment)
        return found[0] if found else None
    split = split_off_etcd(words)
    if split is None:
        return None
    set_before = assignments(list(words)).values()
    if not any(word.text.rpartition("/")[2] in _RUNTIMES for word in split[0]):
        return Invocation(program=split[1], environment=(*environment, *set_before))
    # A container inherits nothing but what its runtime is told to set.
    return Invocation(
        program=split[1],
        environment=tuple(_variables(split[0], {one.name: one for one in (*environment, *set_before)})),
        environment_files=tuple(value for option, value in _options(split[0]) if option in _READS),
        image=_image(split[0]),
    )


def find_in_script(script: Word, environment: Sequence[Variable]) -> list[Invocation]:
    """Return every start of etcd in a shell's script.

    Raises:
        UsageError: if a quote in it is not closed.
    """
    before = list(environment)
    found: list[Invocation] = []
    variables = {variable.name: variable for variable in environment}
    for command in split_commands(script.text, script.place, variables):
        words = [Word("etcd", command[0].place), *command] if command[0].is_flag else command
        started = find_etcd(words, before)
        if started is None:
            before += assignments(words).values()
        else:
            found.append(started)
    return found


def _options(words: Sequence[Word]) -> Iterator[tuple[str, Word]]:
    """Yield the options that take a value, with it: ``-e NAME=value``, ``--env-file=FILE``."""
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
    """Return the image in a container runtime's command: what stands directly before etcd's program."""
    last = words[-1].text if words else ""
    return last if re.search(r":[\w.-]+$", last) and not last.startswith("-") else None
