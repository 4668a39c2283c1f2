"""Reads a file of certificates or keys, and words what is wrong with one. Decodes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pytest_etcdtls.errors import UsageError

MAXIMUM_SIZE: Final = 16 * 1024 * 1024
"""Octets that a file may have; a system's whole trust store has a fraction of one mebibyte."""


def credential_error(option: str, path: Path, happened: str, advice: str) -> UsageError:
    """Return the error that says which option named which file, what happened, and what to do."""
    return UsageError(f"{option} {path}: {happened}; {advice}")


def read_file(path: Path, option: str) -> bytes:
    """Return what is in the file; a pipe will do as well.

    Raises:
        UsageError: if it cannot be read, is empty, or too large to be what it should be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_SIZE + 1)
    except FileNotFoundError as error:
        raise credential_error(option, path, "does not exist", "check the path") from error
    except IsADirectoryError as error:
        raise credential_error(option, path, "is a directory", "name the file in it") from error
    except PermissionError as error:
        advice = "run as a user who may read it, or pass a copy that only you can read"
        raise credential_error(option, path, "may not be read by this user", advice) from error
    except (OSError, ValueError) as error:
        raise credential_error(option, path, f"cannot be read ({error})", "check the path") from error
    if not data.strip():
        raise credential_error(option, path, "is empty", "check how it was made, and pass the one meant")
    if len(data) > MAXIMUM_SIZE:
        raise credential_error(
            option, path, "is larger than 16 MiB", "pass a file of certificates or keys only"
        )
    return data
