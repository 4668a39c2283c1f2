"""Identities, key types, certificate profiles, and the plan of a cluster's PKI. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from msgspec import Struct

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A named good or bad credential.

    Attributes:
        name: the name used in reports: ``none``, ``client``, ``foreign-ca``, ``expired`` ...
        chain: certificates to send, leaf first; empty for ``none``.
        key: private key of the leaf, ``None`` for ``none``. It is never printed.
        origin: where the identity comes from, for reports: a file's path, or that it was issued in memory.
        certificate_file: path of the certificate, for commands to paste; ``None`` if it is only in memory.
        key_file: path of the key; ``None`` if it is only in memory.
        passphrase: what the key file is encrypted with; ``None`` if it is not. It is never printed.
        recipe: ``openssl`` lines that make an equivalent identity, for an issued one, or ``kubectl`` lines
            that get it, for one of a Secret. They write ``NAME.crt`` and ``NAME.key``, where NAME is the
            identity's name.
    """

    name: str
    chain: tuple[x509.Certificate, ...] = ()
    key: PrivateKey | None = field(default=None, repr=False)
    origin: str = "made"
    certificate_file: str | None = None
    key_file: str | None = None
    passphrase: bytes | None = field(default=None, repr=False)
    recipe: tuple[str, ...] = ()


NO_CERTIFICATE = Identity(name="none", origin="no certificate is presented")


class KeyType(StrEnum):
    """The type of a generated key, as in ``--etcd-key-type``."""

    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA_2048 = "rsa-2048"
    RSA_4096 = "rsa-4096"
    ED25519 = "ed25519"


def generate_key(key_type: KeyType, *, rsa_bits: int | None = None) -> PrivateKey:
    """Return a new private key.

    Args:
        key_type: type of the key.
        rsa_bits: generate an RSA key of this size instead, for weak keys; at least 1024 bits.

    Raises:
        ValueError: if ``rsa_bits`` is below 1024, which the cryptography library does not support.
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


class OtherExtension(Struct, frozen=True):
    """An extension with arbitrary content, which may be malformed.

    Attributes:
        oid: the dotted OID.
        value: the content of extnValue; ``None`` to omit the extension.
    """

    oid: str
    value: bytes | None
    critical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The contents of one certificate. The defaults are those of a correct leaf.

    Attributes:
        common_name: CN of the subject; ``None`` for none. With neither CN nor O, the subject is empty and the
            subjectAltName critical (RFC 5280 section 4.2.1.6).
        organization: O of the subject.
        subject_alt_names: an IP literal becomes iPAddress, any other name dNSName. ``None`` means the names
            of the host that the certificate is issued for, ``()`` no such extension.
        dns_names: further names that become dNSName, including IP literals (``10.0.0.1`` as a name).
        key_usage: bits by their RFC 5280 names (``digitalSignature``). ``None`` means the bits that fit the
            key (digitalSignature; for RSA also keyEncipherment), the empty set no such extension.
        extended_key_usage: ``serverAuth``, ``clientAuth`` or dotted OIDs; ``None`` for no such extension.
        valid_from: notBefore, relative to the time of issue.
        valid_for: time from notBefore to notAfter.
        key_type: type of the key; ``None`` for the issuer's default.
        rsa_bits: use an RSA key of this size instead, for weak keys (1024).
        self_signed: sign with the certificate's own key, with its subject as issuer.
        ca: the cA flag of basicConstraints. The extension is always present and critical.
        path_length: pathLenConstraint of a CA.
        serial_number: any integer, including zero, negative numbers and numbers of more than 20 octets;
            ``None`` for a random positive one of at most 20 octets (RFC 5280 section 4.1.2.2).
        signature_hash: ``sha1``, ``sha256``, ``sha384``, ``sha512``; ``None`` for the hash that fits the
            signing key. It is ignored for Ed25519, which has none.
        subject_key_identifier: whether the certificate has a subjectKeyIdentifier.
        authority_key_identifier: whether the certificate has an authorityKeyIdentifier.
        unknown_critical_extension: dotted OID of an unknown critical extension; ``None`` for none.
        other_extensions: further extensions. One replaces the profile's extension with the same OID.
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
"""For a member's client port. It has clientAuth too: etcd's gateway dials its own port with it."""

PEER = Profile(
    common_name="etcd-peer", subject_alt_names=None, extended_key_usage=("serverAuth", "clientAuth")
)
"""For a member's peer port. The member is also a client of the other members with this certificate."""

CLIENT = Profile(common_name="client", extended_key_usage=("clientAuth",))
"""For a client. It has no subjectAltName, so that etcd's SAN check accepts it from any address."""

PEER_CLIENT = replace(CLIENT, common_name="etcd-peer")
"""For a client of peer ports. It has the peers' CN, which ``--peer-cert-allowed-cn`` may require."""

AUTHORITY = Profile(
    common_name=None,
    key_usage=frozenset({"keyCertSign", "cRLSign"}),
    valid_for=timedelta(days=365),
    ca=True,
)
"""For a CA. The common name is set when the CA is created."""

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


class CALayout(StrEnum):
    """Which CA signs which certificates."""

    PER_PORT = "per-port"
    """client-ca signs server and client certificates, peer-ca signs peer certificates."""
    SHARED = "shared"
    """One CA for everything."""
    PER_ROLE = "per-role"
    """server-ca, client-ca and peer-ca. etcd's gateway needs ``--client-cert-file`` with this layout: it
    dials its own port, and client-ca did not sign ``server.crt``."""
    INTERMEDIATE = "intermediate"
    """As ``per-port``, with an intermediate CA between each root and its leaves."""
    KUBEADM = "kubeadm"
    """kubeadm's single CA, files, subjects, usages and names."""


class SentChain(StrEnum):
    """The certificates that a member sends in addition to its leaf."""

    COMPLETE = "complete"
    """Every intermediate, as required."""
    LEAF_ONLY = "leaf-only"
    """No other certificate. A client cannot verify a leaf that an intermediate CA signed."""
    WITH_ROOT = "with-root"
    """The intermediates and the root, which is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PKIPlan:
    """The PKI to generate for a cluster.

    In kubeadm's layout, a profile at its default means kubeadm's own profile, and a common name of ``None``
    means the node's name.

    Attributes:
        layout: which CA signs which certificates.
        key_type: type of all keys whose profile sets none. ``None`` means ECDSA P-256, in kubeadm's layout
            RSA 2048. Generating an RSA key takes 0.1 to 1 second.
        server: profile of the certificates for the members' client ports.
        peer: profile of the certificates for the members' peer ports.
        client: profile of client certificates, including the revoked one.
        peer_client: profile of the certificates for clients of peer ports.
        client_authority: profile of the CA that etcd trusts for client certificates; the only CA in some
            layouts.
        server_authority: profile of the CA of the certificates on client ports, if the layout has one.
        peer_authority: profile of the peers' CA, if the layout has one.
        intermediate_authority: profile of the CAs between root and leaves, if the layout has them.
        server_exceptions: profiles that replace ``server``, by member name.
        sent_chain: the chain that the members send. It is ignored in kubeadm's layout, which has no
            intermediates.
        one_key: all members use the same key on both ports. It is ignored in kubeadm's layout.
    """

    layout: CALayout = CALayout.PER_PORT
    key_type: KeyType | None = None
    server: Profile = SERVER
    peer: Profile = PEER
    client: Profile = CLIENT
    peer_client: Profile = PEER_CLIENT
    client_authority: Profile = AUTHORITY
    server_authority: Profile = AUTHORITY
    peer_authority: Profile = AUTHORITY
    intermediate_authority: Profile = AUTHORITY
    server_exceptions: Mapping[str, Profile] = field(default_factory=lambda: MappingProxyType({}))
    sent_chain: SentChain = SentChain.COMPLETE
    one_key: bool = False


class MemberNames(Struct, frozen=True):
    """A member's name, and the host names and addresses that it is reached under."""

    name: str
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
