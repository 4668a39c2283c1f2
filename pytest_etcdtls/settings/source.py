"""Where settings come from: a protocol, and the conversion of single words.

Knows neither pytest nor what a setting is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pytest_etcdtls.errors import UsageError


class Source(Protocol):
    """Values by option name, ``etcd_cacert`` for ``--etcd-cacert``."""

    def text(self, name: str) -> str | None:
        """Return the value, ``None`` if it is not given."""
        ...

    def texts(self, name: str, *, commas: bool = False) -> tuple[str, ...]:
        """Return every value of a repeatable option, split at commas on request."""
        ...

    def flag(self, name: str) -> bool:
        """Return whether it is switched on."""
        ...

    def path(self, name: str) -> Path | None:
        """Return the value as an absolute path."""
        ...

    def resolve(self, name: str, value: str) -> Path:
        """Return a path that is part of a value of that option, made absolute."""
        ...


def option(name: str) -> str:
    """Return the option's spelling on the command line."""
    return "--" + name.replace("_", "-")


def integer(source: Source, name: str, default: int, *, least: int = 1) -> int:
    """Return a whole number.

    Raises:
        UsageError: if it is none, or too small.
    """
    text = source.text(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{option(name)} {text!r} is not a whole number") from None
    if value < least:
        raise UsageError(f"{option(name)} {text!r}: at least {least}")
    return value


def seconds(source: Source, name: str, default: float) -> float:
    """Return a positive time in seconds, at most an hour.

    Raises:
        UsageError: if it is none.
    """
    text = source.text(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 3600:
        raise UsageError(f"{option(name)} {text!r} is not a number of seconds between 0 and 3600")
    return value


def word(source: Source, name: str, default: str, choices: Sequence[str]) -> str:
    """Return one of the choices.

    Raises:
        UsageError: if it is another word.
    """
    text = source.text(name)
    if text is None:
        return default
    if text not in choices:
        raise UsageError(f"{option(name)} {text!r}: one of {', '.join(choices)}")
    return text
