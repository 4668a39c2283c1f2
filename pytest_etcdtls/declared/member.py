"""One declared member: its declaration and where its files are here. A value; it reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_etcdtls.declared.crl_file import CRLFile
from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.files import Whereabouts, require

FILES = (
    *("cert-file", "key-file", "trusted-ca-file", "client-cert-file", "client-key-file", "client-crl-file"),
    *("peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-file"),
    *("peer-client-key-file", "peer-crl-file"),
)
"""The settings that name a file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeclaredMember:
    """A member as it was declared. What is computed of it is kept by its identity.

    Attributes:
        declaration: what it was told to be.
        where: where its files are here.
        crls: its CRL files, by declared path.
        others: settings of which the file here is known to be another member's; it counts as not here.
    """

    declaration: Declaration
    where: Whereabouts
    crls: Mapping[str, CRLFile]
    others: frozenset[str] = frozenset()

    def file(self, name: str) -> Path | None:
        """Return where the file of a setting is here; ``None`` if it is not, or none is declared."""
        text = self.declaration.text(name)
        return None if text is None or name in self.others else self.where.find(text)

    def required(self, name: str) -> Path | None:
        """Return where the file of a setting is here; ``None`` if none is declared.

        Raises:
            UsageError: if one is declared and is not here; the message names the line.
        """
        if self.declaration.text(name) is None:
            return None
        return require(self.declaration.settings[name], self.where)
