"""How to tell a certificate that etcd generated for itself (``--auto-tls``, ``--peer-auto-tls``).

Knows nothing of what follows from it.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

_SUBJECT: Final = [(NameOID.ORGANIZATION_NAME, "etcd")]
"""``SelfCert`` in etcd's client/pkg/transport: an organization, no common name."""


def is_generated(certificate: x509.Certificate) -> bool:
    """Return whether etcd made the certificate: issuer and subject are O=etcd and nothing else.

    What else stands in it changes: from 3.6 on it is marked as a CA and has a subjectKeyIdentifier, before
    it is not and has none.
    """
    return all(
        [(attribute.oid, attribute.value) for attribute in name] == _SUBJECT
        for name in (certificate.subject, certificate.issuer)
    )
