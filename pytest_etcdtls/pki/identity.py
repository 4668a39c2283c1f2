"""An identity: what a TLS client presents, kept in memory.

Knows neither how it was issued nor what a server makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A named good or bad credential.

    Attributes:
        name: the word used in reports: ``none``, ``client``, ``foreign-ca``, ``expired`` ...
        chain: certificates to send, leaf first; empty for ``none``.
        key: private key of the leaf, ``None`` for ``none``; never shown.
        origin: where it comes from, for reports: a file's path, ``minted in memory`` ...
        certificate_file: path of the certificate, for commands to paste; ``None`` if it is only in memory.
        key_file: path of the key, likewise.
        recipe: ``openssl`` lines that make an equivalent identity, for one that was made here. They write
            ``NAME.crt`` and ``NAME.key``, with NAME the identity's name.
    """

    name: str
    chain: tuple[x509.Certificate, ...] = ()
    key: PrivateKey | None = field(default=None, repr=False)
    origin: str = "made"
    certificate_file: str | None = None
    key_file: str | None = None
    recipe: tuple[str, ...] = ()


NO_CERTIFICATE = Identity(name="none", origin="no certificate is presented")
