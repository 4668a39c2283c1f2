"""How a flag is spelled in one etcd: asked of the binary's own ``--help``, not of a table of versions.

Does not know what is configured, only names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from pytest_etcdtls.declared.version import version_key
from pytest_etcdtls.errors import UsageError

_HELP_FLAG = re.compile(r"^\s+--([a-z0-9-]+)", re.MULTILINE)

_UNDOCUMENTED = {
    "unsafe-no-fsync": (3, 4, 10),
    "client-cert-file": (3, 5, 0),
    "client-key-file": (3, 5, 0),
    "peer-client-cert-file": (3, 5, 0),
    "peer-client-key-file": (3, 5, 0),
}
"""Flags that some etcds have and do not mention in their help, by the first version that has them."""


class UnknownFlagError(UsageError):
    """An etcd lacks a flag that a configuration needs."""


@dataclass(frozen=True, slots=True)
class FlagSet:
    """The flags of one etcd.

    Attributes:
        version: of that etcd.
        names: without dashes in front.
    """

    version: str
    names: frozenset[str]

    @classmethod
    def from_help(cls, version: str, text: str) -> Self:
        """Read what ``etcd --help`` printed, and add what that version has without mentioning it."""
        hidden = {name for name, first in _UNDOCUMENTED.items() if version_key(version) >= first}
        return cls(version, frozenset(_HELP_FLAG.findall(text)) | hidden)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def spell(self, name: str) -> str:
        """Return the flag's name in this etcd, where up to 3.6 it may begin with ``experimental-``.

        Raises:
            UnknownFlagError: if this etcd has no such flag.
        """
        for candidate in (name, f"experimental-{name}"):
            if candidate in self.names:
                return candidate
        raise UnknownFlagError(f"etcd {self.version} has no --{name}")
