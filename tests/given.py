"""Options as a user passes them, a source of settings."""

from __future__ import annotations

from pathlib import Path


class Given:
    """Values of options, by the names of their ini options.

    Args:
        directory: relative paths begin there.
    """

    def __init__(self, directory: Path | None = None, /, **values: object) -> None:
        self._directory = directory or Path()
        self._values = values

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        return None if value is None else str(value)

    def texts(self, name: str, *, commas: bool = False) -> tuple[str, ...]:
        value = self._values.get(name, ())
        texts = map(str, value) if isinstance(value, list | tuple) else [str(value)]
        return tuple(part for text in texts for part in (text.split(",") if commas else [text]))

    def flag(self, name: str) -> bool:
        return bool(self._values.get(name))

    def path(self, name: str) -> Path | None:
        value = self.text(name)
        return None if value is None else self.resolve(name, value)

    def resolve(self, _: str, value: str) -> Path:
        return self._directory / value

    def origin(self, _: str) -> str:
        return ""
