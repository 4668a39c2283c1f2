"""Files that a declaration leads to, loaded if they can be; why one cannot is kept for the user to see.

Nobody named these files on the command line, so that one that is no good is a remark and no error.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509

from pytest_etcdtls.declared.files import exists
from pytest_etcdtls.declared.member import DeclaredMember
from pytest_etcdtls.errors import UsageError
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.pki.loading import load_certificates, load_identity, load_trust
from pytest_etcdtls.target import TrustBundle


@dataclass(slots=True)
class FoundFiles:
    """Loads files and remembers what was wrong with them."""

    _problems: dict[str, None] = field(default_factory=dict)
    _pairs: dict[tuple[Path, Path], Identity | None] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why files were not used, one sentence each, in the order in which they were met."""
        return tuple(self._problems)

    def pair(
        self, certificate: Path | None, key: Path | None, name: str, words: tuple[str, str]
    ) -> Identity | None:
        """Return an identity; ``None`` if one of its files is not here or they are no pair.

        Args:
            certificate: the file; ``None`` if it is not here.
            key: likewise.
            name: of the identity.
            words: what led to the files, the certificate's first.
        """
        if certificate is None or key is None or not (exists(certificate) and exists(key)):
            return None
        files = (certificate, key)
        if files not in self._pairs:
            try:
                self._pairs[files] = load_identity(certificate, key, name, options=words)
            except UsageError as error:
                self._problems[str(error)] = None
                self._pairs[files] = None
        pair = self._pairs[files]
        return pair and replace(pair, name=name)

    def chain(self, path: Path | None, words: str) -> tuple[x509.Certificate, ...]:
        """Return the certificates of a file, leaf first; none if it is not here or holds none."""
        if path is None or not exists(path):
            return ()
        try:
            return load_certificates(path, option=words)
        except UsageError as error:
            self._problems[str(error)] = None
            return ()

    def bundle(self, path: Path | None, words: str) -> TrustBundle | None:
        """Return the certificates of a file of CAs; ``None`` if it is not here or holds none."""
        if path is None or not exists(path):
            return None
        try:
            return TrustBundle(load_trust(path, option=words), str(path))
        except UsageError as error:
            self._problems[str(error)] = None
            return None


def said(told: DeclaredMember, name: str) -> str:
    """Return the place and the words that declare a setting."""
    setting = told.declaration.settings.get(name)
    return name if setting is None else f"{setting.place}: {setting.spelled}"
