"""Values of options: command line before ini file, each read where it is, none replaced for being falsy.

Knows nothing of what the values mean.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_etcdtls.options.table import LIVE, OPTIONS, Option

_BY_NAME = {option.name: option for option in OPTIONS}


class Values:
    """Reads options by the name of their ini twin.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def text(self, name: str) -> str | None:
        """Return the value, ``None`` if it is given nowhere."""
        value = self._value(name)
        return None if value is None else str(value)

    def texts(self, name: str, *, commas: bool = False) -> tuple[str, ...]:
        """Return every value in order, split at commas on request; the ini's if the command line has none."""
        values = self._list(name)
        if commas:
            values = [part for value in values for part in value.split(",")]
        return tuple(value.strip() for value in values)

    def flag(self, name: str) -> bool:
        """Return whether it is switched on."""
        return bool(self._value(name))

    def path(self, name: str) -> Path | None:
        """Return the value as a path, relative to the ini file's directory if it stands there."""
        value = self.text(name)
        return None if value is None else self.resolve(name, value)

    def resolve(self, name: str, value: str) -> Path:
        """Return a path out of a value of that option, as :meth:`path` does."""
        return self._directory(name) / Path(value).expanduser()

    def _list(self, name: str) -> list[str]:
        value = self._value(name)
        return [str(item) for item in value] if isinstance(value, list) else []

    def _value(self, name: str) -> object:
        option = _BY_NAME[name]
        given = self._given(option)
        if given is None and option.ini and not self._replaced(option):
            return self._config.getini(name)
        return given

    def _replaced(self, option: Option) -> bool:
        """Return whether the ini's endpoint or declaration is of a cluster that the command line replaces."""
        return option in LIVE and any(self._given(other) is not None for other in LIVE)

    def _given(self, option: Option) -> object:
        return self._config.getoption(option.dest, None)

    def _directory(self, name: str) -> Path:
        inipath = self._config.inipath
        if self._given(_BY_NAME[name]) is not None or inipath is None:
            return self._config.invocation_params.dir
        return inipath.parent
