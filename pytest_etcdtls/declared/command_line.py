"""A bare command line: as typed, in a script, as ``ps`` shows it, as ``/proc/PID/cmdline`` holds it.

Knows that the program is etcd, not what its arguments mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_etcdtls.declared.declaration import Declaration, Form, Place
from pytest_etcdtls.declared.merge import assemble
from pytest_etcdtls.declared.program import find_etcd, find_in_script
from pytest_etcdtls.declared.words import Invocation, Variable, Word
from pytest_etcdtls.declared.yaml_nodes import documents, items, place_of, text_of
from pytest_etcdtls.errors import UsageError


def from_command_line(
    argv: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    source: str = "the command line",
    find: Callable[[str], Path | None] | None = None,
) -> Declaration:
    """Return the declaration that a started etcd's own command line is.

    Args:
        argv: program and arguments.
        environment: that etcd was started with; variables that are not etcd's do not matter.
        source: where it comes from, in words.
        find: returns where a path of etcd's is here, for ``--config-file``; ``None`` takes paths as they are.

    Raises:
        UsageError: if it is no etcd server's, or its configuration file cannot be read.
    """
    place = Place(source)

    def open_file(path: str, named_at: Place) -> tuple[str, str] | None:
        here = Path(path) if find is None else find(path)
        if here is None or not here.is_file():
            return None
        try:
            return str(here), here.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{named_at}: {here} cannot be read: {error}") from error

    invocation = Invocation(
        program=tuple(Word(text, place) for text in argv),
        environment=tuple(Variable(name, value, place) for name, value in (environment or {}).items()),
    )
    return assemble(invocation, form=Form.COMMAND_LINE, source=source, open_file=open_file)


def read_command_line(text: str, file: str) -> Invocation:
    """Return how etcd is started by a text.

    Raises:
        UsageError: if no command in it starts etcd, or several do.
    """
    if "\0" in text:
        return _of_words([Word(part, Place(file)) for part in text.split("\0") if part], file)
    if text.lstrip().startswith(("- ", "[")):
        roots = documents(text, file)
        nodes = items(roots[0]) if roots else []
        return _of_words([Word(text_of(node) or "", place_of(node, file)) for node in nodes], file)
    found = find_in_script(Word(text, Place(file, 1)), ())
    if len(found) != 1:
        raise UsageError(f"{file}: {len(found) or 'no'} commands in it start etcd, and exactly one is wanted")
    return found[0]


def _of_words(words: list[Word], file: str) -> Invocation:
    if words and words[0].text.startswith("-"):
        words.insert(0, Word("etcd", words[0].place))
    found = find_etcd(words, ())
    if found is None:
        program = words[0].text if words else "nothing"
        raise UsageError(f"{file}: this is not etcd's command line but that of {program}")
    return found
