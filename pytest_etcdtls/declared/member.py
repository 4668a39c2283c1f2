"""One declared member as a whole: its declaration, its files here, and what a version of etcd makes of both.

Reads the CRL files once; opens nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from pytest_etcdtls.declared.crl_file import CRLFile, read_crl
from pytest_etcdtls.declared.declaration import Declaration
from pytest_etcdtls.declared.effective import effective
from pytest_etcdtls.declared.effective_listener import Effective
from pytest_etcdtls.declared.files import Whereabouts, require, whereabouts
from pytest_etcdtls.declared.reading import read_declaration
from pytest_etcdtls.declared.trap import Trap
from pytest_etcdtls.declared.traps import find_traps

FILES = (
    *("cert-file", "key-file", "trusted-ca-file", "client-cert-file", "client-key-file", "client-crl-file"),
    *("peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-file"),
    *("peer-client-key-file", "peer-crl-file"),
)
"""The settings that name a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredMember:
    """A member as it was declared.

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

    @classmethod
    def of(cls, declaration: Declaration, pki_dir: Path | None = None) -> Self:
        """Return the member of a declaration; its CRL files are read now."""
        where = whereabouts(declaration, pki_dir)
        settings = [declaration.settings.get(f"{side}-crl-file") for side in ("client", "peer")]
        crls = {setting.value: read_crl(setting, where) for setting in settings if setting and setting.value}
        return cls(declaration=declaration, where=where, crls=MappingProxyType(crls))

    @classmethod
    def read(cls, path: Path, pki_dir: Path | None = None) -> Self:
        """Return the member that a file declares (``--etcd-config``, ``--etcd-pki-dir``).

        Raises:
            UsageError: if it is not to be had, or is not what an etcd is declared with.
        """
        return cls.of(read_declaration(path, pki_dir=pki_dir), pki_dir)

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

    def effective(self, version: str | None = None) -> Effective:
        """Return what that version makes of it; ``None`` takes the declaration's own, else today's etcd."""
        return effective(self.declaration, version, self.crls)

    def traps(self, version: str | None = None) -> tuple[Trap, ...]:
        """Return what in it does not do what it says, in that version."""
        return find_traps(self.declaration, version, self.crls)
