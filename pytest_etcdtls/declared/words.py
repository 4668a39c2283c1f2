"""Words of a command line, each with the line that it stands on, and variables with theirs.

Values only. Does not know how a shell, systemd or Kubernetes splits a line into words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pytest_etcdtls.declared.declaration import Place
from pytest_etcdtls.declared.vocabulary import names

_LAUNCHERS = names(
    """
    chrt docker dumb-init env exec gosu ionice nerdctl nice nohup numactl podman runuser setpriv su-exec sudo
    systemd-cat taskset time timeout tini
    """
)
"""Programs that start the one that is named behind them."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word.

    Attributes:
        text: without quotes, variables replaced.
        place: where it stands.
        unresolved: names of variables in it whose value the file does not tell.
    """

    text: str
    place: Place
    unresolved: tuple[str, ...] = ()

    @property
    def is_flag(self) -> bool:
        """Whether it looks like a flag with its name."""
        return re.match(r"--?[A-Za-z]", self.text) is not None

    @property
    def is_etcd(self) -> bool:
        """Whether it names etcd's program."""
        return "=" not in self.text and PurePosixPath(self.text).name in ("etcd", "etcd.exe")


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable.

    Attributes:
        unresolved: why its value is not known; empty if it is.
    """

    name: str
    value: str = field(repr=False)
    place: Place
    unresolved: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """How a program is started.

    Attributes:
        program: and its arguments.
        environment: in the order in which it is set.
        environment_files: read before that, as a container's runtime reads them.
        image: of the container that the command runs it in; ``None`` if it names none.
    """

    program: tuple[Word, ...]
    environment: tuple[Variable, ...] = ()
    environment_files: tuple[Word, ...] = ()
    image: str | None = None


def split_off_etcd(words: Sequence[Word]) -> tuple[tuple[Word, ...], tuple[Word, ...]] | None:
    """Return what stands before etcd's program, and that with its arguments; ``None`` if it is not started.

    A word ``etcd`` behind an option, as in ``docker run --name etcd``, is that option's value.
    """
    first = next((word for word in words if "=" not in word.text), None)
    if first is None or not (first.is_etcd or PurePosixPath(first.text).name in _LAUNCHERS):
        return None
    for number, word in enumerate(words):
        before = words[number - 1].text if number else ""
        follows_option = before.startswith("-") and before != "--"
        if word.is_etcd and ("bin/" in word.text or not follows_option):
            return tuple(words[:number]), tuple(words[number:])
    return None
