"""The user's settings: read once from a :class:`Source`, checked, immutable. Reading opens no connection.

This module has the source, and the conversion of single values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pytest_etcdtls.errors import UnreadableFileError, UsageError, did_you_mean
from pytest_etcdtls.untrusted.regular_files import read_regular

STDIN: Final = "-"
"""The value that stands for standard input."""
MAXIMUM_SIZE: Final = 4 * 1024 * 1024
"""The largest file or input that an option names, in octets: a list of twenty thousand clusters, or four
Secrets (``MaxSecretSize`` of Kubernetes is one mebibyte)."""


class Source:
    """Values by option name, ``etcd_cacert`` for ``--etcd-cacert``.

    Attributes:
        environment: the environment with etcdctl's variables, and with the passphrase of private keys.
    """

    environment: Mapping[str, str] = MappingProxyType({})

    def value(self, name: str) -> object:
        """Return the value: a text, a flag, or a list of texts; ``None`` if it is not given."""
        raise NotImplementedError

    def directory(self, name: str) -> Path:
        """Return the directory of relative paths in a value of the option."""
        raise NotImplementedError

    def origin(self, name: str) -> str:
        """Return the file that gives the value; empty for the run's own settings.

        Command line, ini file and environment are the run's own. A password goes only to a server that a CA
        of the same origin verifies.
        """
        return ""

    def standard_input(self, name: str) -> bytes:
        """Return standard input for an option, and one octet more than :data:`MAXIMUM_SIZE` at most.

        Raises:
            UsageError: if it cannot be read.
        """
        raise UsageError(f"{option(name)} -: standard input is for the command line: name a file")

    def ask(self, question: str) -> str | None:
        """Ask a person for a secret; return ``None`` if nobody can be asked."""
        return None

    def text(self, name: str) -> str | None:
        """Return the value; ``None`` if it is not given."""
        value = self.value(name)
        return None if value is None else str(value)

    def texts(self, name: str, *, commas: bool = False) -> tuple[str, ...]:
        """Return every value of a repeatable option, split at commas on request."""
        value = self.value(name)
        given = value if isinstance(value, list | tuple) else [] if value is None else [value]
        parts = (part for text in map(str, given) for part in (text.split(",") if commas else (text,)))
        return tuple(part.strip() for part in parts)

    def flag(self, name: str) -> bool:
        """Return whether the flag is set."""
        return bool(self.value(name))

    def path(self, name: str) -> Path | None:
        """Return the value as an absolute path."""
        value = self.text(name)
        return None if value is None else self.resolve(name, value)

    def resolve(self, name: str, value: str) -> Path:
        """Return a path in a value of the option as an absolute path."""
        return self.directory(name) / os.path.expanduser(value)


def read_input(source: Source, name: str, value: str, *, smaller: str, form: str) -> str:
    """Return the text of the file that a value of an option names, or of standard input.

    Raises:
        UsageError: if it cannot be read, is too large, or is not text in UTF-8. The last two say what to do.
    """
    where = f"{option(name)} {value}"
    try:
        if value == STDIN:
            data = source.standard_input(name)
            if len(data) > MAXIMUM_SIZE:
                raise UsageError(f"{where} is larger than {MAXIMUM_SIZE // 1024**2} MiB: {smaller}")
        else:
            data = read_regular(source.resolve(name, value), MAXIMUM_SIZE)
        return data.decode("utf-8-sig")
    except UnreadableFileError as error:
        raise UsageError(f"{where} {error}") from error
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not text in UTF-8: {form}") from None


def option(name: str) -> str:
    """Return the option's spelling on the command line."""
    return "--" + name.replace("_", "-")


def integer(source: Source, name: str, default: int, *, least: int = 1) -> int:
    """Return a whole number.

    Raises:
        UsageError: if the value is not a whole number or is too small.
    """
    text = source.text(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{option(name)} {text!r} is not a whole number") from None
    if value < least:
        raise UsageError(f"{option(name)} {text!r}: it must be at least {least}")
    return value


def seconds(source: Source, name: str, default: float) -> float:
    """Return a duration in seconds: positive, at most an hour.

    Raises:
        UsageError: if the value is not such a duration.
    """
    text = source.text(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 3600:
        raise UsageError(f"{option(name)} {text!r} is not a number of seconds above 0, at most 3600")
    return value


def choice(source: Source, name: str, default: str, choices: Sequence[str]) -> str:
    """Return one of the choices.

    Raises:
        UsageError: if the value is not one of them.
    """
    text = source.text(name)
    if text is None:
        return default
    if text not in choices:
        meant = did_you_mean(text, choices)
        raise UsageError(f"{option(name)} {text!r}: use one of {', '.join(choices)}{meant}")
    return text
