"""How a program is started: its words, its variables, and where each is written.

A declaration is read if it has an argument vector and an environment as they are. What makes these when it
runs (a shell, a launcher, a container runtime, the script of an image) is refused, never interpreted: the
running process has them. A value that is known only when it runs, as a specifier ``%H`` of systemd, leaves a
word *unresolved*. That is an error only where the word decides about TLS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from pytest_etcdtls.declared.declaration import Mount, RunAs, SourceLine
from pytest_etcdtls.errors import UsageError

INSTEAD: Final = (
    "pass --etcd-pid=auto on the node of etcd, or a copy of the running process as --etcd-config (cat "
    "/proc/PID/environ /proc/PID/cmdline > etcd.cmdline), or --etcd-endpoint without a declaration"
)
"""What an error message tells the user to do where a declaration is not read."""


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


class ProgramStart(Struct, frozen=True, kw_only=True):
    """How a program is started.

    Attributes:
        program: the program and its arguments.
        environment: its variables, in the order in which they are set.
        image: the image of the container that runs it; ``None`` if it is not known.
        run_as: the user that it is started as; ``None`` if that is not declared, or not known.
        pod: that of the container, behind its namespace if that is known; unique in the file.
        owner: what overwrites the pod's object; empty if that is not known.
        mounts: directories and files of the node that the container sees.
    """

    program: tuple[Word, ...]
    environment: tuple[Variable, ...] = ()
    image: str | None = None
    run_as: RunAs | None = None
    pod: str = ""
    owner: str = ""
    mounts: tuple[Mount, ...] = ()


PROXIES: Final = frozenset({"gateway", "grpc-proxy"})
"""Subcommands of etcd that start a proxy, not a member."""


def is_proxy(started: ProgramStart) -> bool:
    """Return whether etcd is started as a proxy."""
    return len(started.program) > 1 and started.program[1].text in PROXIES


def not_read(place: SourceLine, form: str) -> UsageError:
    """Return the error for a start of etcd that is recognised and not read."""
    return UsageError(f"{place}: {form} is not read: {INSTEAD}")


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
