"""A binary of etcd: its version and its flags, asked of itself."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from pathlib import Path

from pytest_etcdtls.cluster.etcd_process import clean_environment
from pytest_etcdtls.cluster.flags import FlagSet
from pytest_etcdtls.errors import UsageError

_VERSION = re.compile(r"^etcd Version: (\S+)", re.MULTILINE)
_SECONDS = 20.0


def binary_version(binary: Path) -> str:
    """Return what ``etcd --version`` says.

    Raises:
        UsageError: if it is not there, cannot be run, or is no etcd.
    """
    return _ask(binary)[0]


def binary_flags(binary: Path) -> FlagSet:
    """Return the flags that ``etcd --help`` lists.

    Raises:
        UsageError: as :func:`binary_version`.
    """
    return FlagSet.from_help(*_ask(binary))


def _ask(binary: Path) -> tuple[str, str]:
    """Return version and help text; a binary that has not changed is asked once."""
    try:
        changed = binary.stat().st_mtime_ns
    except OSError as error:
        raise UsageError(f"{binary} is no etcd binary: {error.strerror}") from error
    return _ask_once(binary, changed)


@functools.cache
def _ask_once(binary: Path, _changed: int) -> tuple[str, str]:
    version = _VERSION.search(_run(binary, "--version"))
    if version is None:
        raise UsageError(f"{binary} is no etcd binary: `{binary} --version` does not print an etcd version")
    return version[1], _run(binary, "--help")


def _run(binary: Path, argument: str) -> str:
    if binary.is_dir() or not os.access(binary, os.X_OK):
        raise UsageError(f"{binary} is no etcd binary: it is not an executable file")
    try:
        run = subprocess.run(
            [binary, argument],
            env=clean_environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{binary} is no etcd binary: `{binary} {argument}` does not end within {_SECONDS:g} s"
        raise UsageError(message) from error
    except OSError as error:
        raise UsageError(f"{binary} cannot be run: {error.strerror}") from error
    return run.stdout.decode(errors="replace")
