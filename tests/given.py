"""Options as a user passes them, a source of settings."""

from __future__ import annotations

from pathlib import Path

from pytest_etcdtls.settings import Source


class Given(Source):
    """Values of options, by the names of their ini options.

    Args:
        directory: relative paths begin there.
    """

    def __init__(self, directory: Path | None = None, /, **values: object) -> None:
        self._directory = directory or Path()
        self._values = values

    def value(self, name: str) -> object:
        return self._values.get(name)

    def directory(self, _: str) -> Path:
        return self._directory
