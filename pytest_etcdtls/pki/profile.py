"""Identities, and what a certificate contains: key types and issuing profiles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

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


class KeyType(StrEnum):
    """Kind of a generated key, in the words of ``--etcd-key-type``."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_4096 = "rsa-4096"
    ED25519 = "ed25519"


def generate_key(key_type: KeyType, *, rsa_bits: int | None = None) -> PrivateKey:
    """Return a new private key.

    Args:
        key_type: its kind.
        rsa_bits: size of an RSA modulus to generate instead, for weak keys; at least 1024 bits.

    Raises:
        ValueError: if ``rsa_bits`` is below 1024, which the cryptography library does not generate.
    """
    if rsa_bits is not None:
        return rsa.generate_private_key(65537, rsa_bits)
    match key_type:
        case KeyType.ECDSA_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.ECDSA_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.RSA_2048:
            return rsa.generate_private_key(65537, 2048)
        case KeyType.RSA_4096:
            return rsa.generate_private_key(65537, 4096)
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()


@dataclass(frozen=True, slots=True)
class OtherExtension:
    """An extension with any content, well-formed or not.

    Attributes:
        oid: dotted.
        value: the content of extnValue; ``None`` to leave the extension out.
    """

    oid: str
    value: bytes | None
    critical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What to put into one certificate; the defaults are those of a correct leaf.

    Attributes:
        common_name: the subject's CN; ``None`` for none. With neither CN nor O the subject is empty, and the
            subjectAltName critical (RFC 5280 section 4.2.1.6).
        organization: the subject's O.
        subject_alt_names: IP literals become iPAddress, all else dNSName. ``None`` means the names of the
            host that it is issued for, ``()`` that there is no such extension at all.
        dns_names: further entries that become dNSName whatever they look like (``10.0.0.1`` as a name).
        key_usage: bits by their RFC 5280 names (``digitalSignature``); ``None`` means what fits the key
            (digitalSignature, for RSA keyEncipherment as well), the empty set no such extension.
        extended_key_usage: ``serverAuth``, ``clientAuth`` or dotted OIDs; ``None`` for no such extension.
        valid_from: notBefore, relative to the time of issue.
        valid_for: from notBefore to notAfter.
        key_type: kind of the key; ``None`` for the issuer's default.
        rsa_bits: an RSA key of this size instead, for weak ones (1024).
        self_signed: sign with the certificate's own key, with its subject as issuer.
        ca: the cA flag of basicConstraints, which is always there and critical.
        path_length: pathLenConstraint of a CA.
        serial_number: ``None`` for a random positive one of at most 20 octets (RFC 5280 section 4.1.2.2).
            Any integer can be had, zero, negative and longer ones too.
        signature_hash: ``sha1``, ``sha256``, ``sha384``, ``sha512``; ``None`` for what fits the signing
            key. Ed25519 has none, it is ignored there.
        subject_key_identifier: whether there is one.
        authority_key_identifier: whether there is one.
        unknown_critical_extension: dotted OID of a critical extension that nobody knows; ``None`` for none.
        other_extensions: further ones; one takes the place of what the profile gives under the same OID.
    """

    common_name: str | None
    organization: str | None = None
    subject_alt_names: tuple[str, ...] | None = ()
    dns_names: tuple[str, ...] = ()
    key_usage: frozenset[str] | None = None
    extended_key_usage: tuple[str, ...] | None = None
    valid_from: timedelta = timedelta(hours=-1)
    valid_for: timedelta = timedelta(days=90)
    key_type: KeyType | None = None
    rsa_bits: int | None = None
    self_signed: bool = False
    ca: bool = False
    path_length: int | None = None
    serial_number: int | None = None
    signature_hash: str | None = None
    subject_key_identifier: bool = True
    authority_key_identifier: bool = True
    unknown_critical_extension: str | None = None
    other_extensions: tuple[OtherExtension, ...] = ()


SERVER = Profile(
    common_name="etcd-server", subject_alt_names=None, extended_key_usage=("serverAuth", "clientAuth")
)
"""A member's client port. clientAuth as well: etcd's gateway dials its own port with this certificate."""

PEER = Profile(
    common_name="etcd-peer", subject_alt_names=None, extended_key_usage=("serverAuth", "clientAuth")
)
"""A member's peer port, and with the same certificate a client of the other members."""

CLIENT = Profile(common_name="client", extended_key_usage=("clientAuth",))
"""A client; no subjectAltName, so that etcd's SAN rule lets it in from any address."""

PEER_CLIENT = replace(CLIENT, common_name="etcd-peer")
"""A client of peer ports: the peers' common name, which ``--peer-cert-allowed-cn`` may ask for."""

AUTHORITY = Profile(
    common_name=None,
    key_usage=frozenset({"keyCertSign", "cRLSign"}),
    valid_for=timedelta(days=365),
    ca=True,
)
"""A CA; its common name is given when it is made."""

KEY_USAGES = {
    "digitalSignature": "digital_signature",
    "contentCommitment": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}
