"""A certificate authority: issues, revokes and signs certificate lists, in memory.

Knows nothing of etcd, and writes no files.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

from cryptography import x509

from pytest_etcdtls.pki.certificate import Issuer, build_certificate, key_identifier
from pytest_etcdtls.pki.crl import build_crl
from pytest_etcdtls.pki.identity import Identity, PrivateKey
from pytest_etcdtls.pki.profile import AUTHORITY, KeyType, Profile, generate_key
from pytest_etcdtls.pki.reading import extension, public_key


class CertificateAuthority:
    """A CA with its key.

    Attributes:
        certificate: its own.
        parent: the CA that signed it; ``None`` for a root, and for one that was loaded.
        key_type: kind of the keys that it issues certificates for by default.
    """

    def __init__(
        self,
        certificate: x509.Certificate,
        key: PrivateKey,
        key_type: KeyType,
        parent: CertificateAuthority | None,
    ) -> None:
        """Use :meth:`create`, :meth:`intermediate` or :meth:`from_key`."""
        self.certificate = certificate
        self.key_type = key_type
        self.parent = parent
        self._key = key
        self._revoked: dict[int, datetime] = {}
        self._crl_number = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.certificate.subject.rfc4514_string()}>"

    @classmethod
    def create(
        cls,
        common_name: str,
        key_type: KeyType = KeyType.ECDSA_P256,
        *,
        valid_from: timedelta | None = None,
        valid_for: timedelta | None = None,
        profile: Profile = AUTHORITY,
    ) -> Self:
        """Return a new root CA.

        Args:
            common_name: its subject's CN.
            key_type: of its key, unless the profile says otherwise, and of the keys of what it issues.
            valid_from: notBefore relative to now, instead of the profile's.
            valid_for: from notBefore to notAfter, instead of the profile's.
            profile: what else its certificate shall contain.
        """
        profile = _with_validity(replace(profile, common_name=common_name), valid_from, valid_for)
        key = generate_key(profile.key_type or key_type, rsa_bits=profile.rsa_bits)
        return cls(build_certificate(profile, key), key, key_type, None)

    @classmethod
    def from_key(
        cls, certificate: x509.Certificate, key: PrivateKey, *, key_type: KeyType = KeyType.ECDSA_P256
    ) -> Self:
        """Return the CA of a certificate and key at hand; it counts as the anchor, whoever signed it.

        Raises:
            ValueError: if the key does not belong to the certificate.
        """
        if public_key(certificate) != key.public_key():
            subject = certificate.subject.rfc4514_string()
            raise ValueError(f"the key does not belong to the certificate of {subject}")
        return cls(certificate, key, key_type, None)

    @property
    def key(self) -> PrivateKey:
        """The CA's private key; never to be shown."""
        return self._key

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """Certificates to send between a leaf of this CA and the root: this one first, () for a root."""
        return () if self.parent is None else (self.certificate, *self.parent.chain)

    @property
    def root(self) -> CertificateAuthority:
        """The CA at the top, whose certificate is the trust anchor."""
        return self if self.parent is None else self.parent.root

    def intermediate(self, common_name: str, *, profile: Profile = AUTHORITY) -> CertificateAuthority:
        """Return a new CA that is signed by this one."""
        profile = replace(profile, common_name=common_name)
        key = generate_key(profile.key_type or self.key_type, rsa_bits=profile.rsa_bits)
        certificate = build_certificate(profile, key, self._issuer())
        return CertificateAuthority(certificate, key, self.key_type, self)

    def issue(
        self,
        profile: Profile,
        *,
        name: str,
        key: PrivateKey | None = None,
        hosts: tuple[str, ...] = (),
        not_before: datetime | None = None,
    ) -> Identity:
        """Return an identity with a new certificate; its chain is the leaf and the intermediates.

        Args:
            profile: what the certificate shall contain.
            name: the identity's.
            key: an existing key to certify; ``None`` for a new one.
            hosts: names that the profile's ``subject_alt_names`` of ``None`` stands for.
            not_before: instead of the profile's ``valid_from``.

        Raises:
            ValueError: if the profile asks for what cannot be encoded.
        """
        if key is None:
            key = generate_key(profile.key_type or self.key_type, rsa_bits=profile.rsa_bits)
        leaf = build_certificate(profile, key, self._issuer(), hosts=hosts, not_before=not_before)
        chain = () if profile.self_signed else self.chain
        return Identity(name=name, chain=(leaf, *chain), key=key, origin="made in memory")

    def revoke(self, certificate: x509.Certificate) -> None:
        """Put the certificate's serial number on the lists that :meth:`crl` makes from now on."""
        self._revoked[certificate.serial_number] = datetime.now(UTC)

    def crl(
        self, encoding: Literal["der", "pem"] = "der", *, valid_for: timedelta = timedelta(days=90)
    ) -> bytes:
        """Return a certificate revocation list (RFC 5280 section 5) of what was revoked so far.

        Args:
            encoding: etcd from 3.6 on reads DER only, before it reads both.
            valid_for: from thisUpdate, one hour ago, to nextUpdate; shorter than an hour is stale.
        """
        self._crl_number += 1
        return build_crl(
            self._issuer(), self._revoked, number=self._crl_number, encoding=encoding, valid_for=valid_for
        )

    def _issuer(self) -> Issuer:
        return Issuer(self.certificate.subject, self._key, self._key_identifier())

    def _key_identifier(self) -> bytes:
        identifier = extension(self.certificate, x509.SubjectKeyIdentifier)
        return identifier.digest if identifier else key_identifier(self._key.public_key())


def _with_validity(profile: Profile, valid_from: timedelta | None, valid_for: timedelta | None) -> Profile:
    return replace(
        profile,
        valid_from=profile.valid_from if valid_from is None else valid_from,
        valid_for=profile.valid_for if valid_for is None else valid_for,
    )
