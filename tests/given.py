"""Options as a user passes them, a source of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_etcdtls.settings import Source


class Given(Source):
    """Values of options, by the names of their ini options.

    Args:
        directory: relative paths begin there.
        environment: with etcdctl's variables.
        stdin: what is on standard input.
    """

    def __init__(
        self,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        /,
        **values: object,
    ) -> None:
        self._directory = directory or Path()
        self._values = values
        self._stdin = stdin
        self.environment = environment or {}

    def standard_input(self, name: str) -> bytes:
        return super().standard_input(name) if self._stdin is None else self._stdin

    def value(self, name: str) -> object:
        return self._values.get(name)

    def directory(self, _: str) -> Path:
        return self._directory
