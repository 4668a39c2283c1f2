"""The flags of an etcd, by its own ``--help``.

The names of flags differ by version, so a command line is made from what the binary lists, and a setting
without a flag there is an error instead of a cluster without the setting.
"""

from __future__ import annotations

import re
from typing import Self

from msgspec import Struct

from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.versions import version_key

_PRINTED_VERSION = re.compile(r"^etcd Version: (\S+)", re.MULTILINE)
_HELP_FLAG = re.compile(r"^\s+--([a-z0-9-]+)", re.MULTILINE)
_UNDOCUMENTED = {
    "unsafe-no-fsync": (3, 4, 10),
    "client-cert-file": (3, 5, 0),
    "client-key-file": (3, 5, 0),
    "peer-client-cert-file": (3, 5, 0),
    "peer-client-key-file": (3, 5, 0),
}
"""Flags that are missing in the output of ``etcd --help``, with the first version that has them."""


def printed_version(output: str) -> str | None:
    """Return the version in the output of ``etcd --version``; ``None`` if it is not etcd's."""
    match = _PRINTED_VERSION.search(output)
    return match[1] if match else None


class UnknownFlagError(UsageError):
    """The version of etcd lacks a flag that the configuration needs."""


class FlagSet(Struct, frozen=True):
    """The flags of one version of etcd.

    Attributes:
        version: the version of etcd.
        names: flag names without leading dashes.
    """

    version: str
    names: frozenset[str]

    @classmethod
    def from_help(cls, version: str, text: str) -> Self:
        """Parse the output of ``etcd --help``, and add the undocumented flags of the version."""
        hidden = {name for name, first in _UNDOCUMENTED.items() if version_key(version) >= first}
        return cls(version, frozenset(_HELP_FLAG.findall(text)) | hidden)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def spell(self, name: str) -> str:
        """Return the flag's name in this version of etcd. Up to 3.6 it may begin with ``experimental-``.

        Raises:
            UnknownFlagError: if this version of etcd has no such flag.
        """
        for candidate in (name, f"experimental-{name}"):
            if candidate in self.names:
                return candidate
        raise UnknownFlagError(f"etcd {self.version} has no --{name}")
