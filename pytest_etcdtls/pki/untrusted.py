"""Bad identities that need nothing but the listener: self-signed, of a foreign CA, of a look-alike CA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.errors import NotVerifiedError
from pytest_etcdtls.pki import recipes
from pytest_etcdtls.pki.certificate import Issuer, build_certificate, key_identifier
from pytest_etcdtls.pki.identity import Identity
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, KeyType, generate_key
from pytest_etcdtls.pki.reading import extension, public_key

COMMON_NAME: Final = "pytest-etcdtls"
"""Subject of all that is made to be presented, so that it is recognised in logs."""
_ONE_DAY = timedelta(days=1)
_LEAF = replace(CLIENT, common_name=COMMON_NAME, valid_for=_ONE_DAY)
_FOREIGN_CA = replace(AUTHORITY, common_name="pytest-etcdtls foreign CA", valid_for=_ONE_DAY)

_GENPKEY: Final = {
    KeyType.ECDSA_P256: "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
    KeyType.ECDSA_P384: "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
    KeyType.RSA_2048: "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    KeyType.ED25519: "-algorithm ED25519",
}


@dataclass(frozen=True, slots=True)
class _Model:
    """What is known of the CA to look like."""

    subject: x509.Name
    key_identifier: bytes | None = None
    key_type: KeyType = KeyType.ECDSA_P256


def self_signed() -> Identity:
    """Return a client certificate that its own key has signed."""
    key = generate_key(KeyType.ECDSA_P256)
    return Identity(
        name="self-signed",
        chain=(build_certificate(_LEAF, key),),
        key=key,
        origin="made in memory",
        recipe=recipes.leaf_recipe("self-signed", COMMON_NAME, None),
    )


def foreign_ca() -> Identity:
    """Return a client certificate of a CA that nobody trusts; only the leaf is sent."""
    key = generate_key(KeyType.ECDSA_P256)
    certificate = build_certificate(_FOREIGN_CA, key)
    issuer = Issuer(certificate.subject, key, key_identifier(key.public_key()))
    files = ("foreign-ca-authority.crt", "foreign-ca-authority.key")
    recipe = (
        *recipes.authority_recipe("foreign-ca-authority", str(_FOREIGN_CA.common_name)),
        *recipes.leaf_recipe("foreign-ca", COMMON_NAME, files),
    )
    return _client("foreign-ca", issuer, recipe)


def lookalike_ca(announced: Sequence[x509.Name], trusted: Sequence[x509.Certificate]) -> Identity:
    """Return a client certificate of a CA that looks like a trusted one and has another key.

    Its issuer is, byte for byte in DER, the name of a CA that the server announces, and its
    authorityKeyIdentifier that of the trusted CA of this name, as far as known. Preferred is an announced
    name whose CA is known, then the first announced, then the first trusted.

    Args:
        announced: names of the CertificateRequest, parsed from DER so that they keep their encoding.
        trusted: certificates that the server is known to trust.

    Raises:
        NotVerifiedError: if neither is known, so that there is nothing to look like.
    """
    model = _model(announced, trusted)
    key = generate_key(model.key_type)
    identifier = model.key_identifier or key_identifier(key.public_key())
    certificate = build_certificate(
        _FOREIGN_CA, key, subject=model.subject, subject_key_identifier=identifier
    )
    files = ("lookalike-ca-authority.crt", "lookalike-ca-authority.key")
    recipe = (
        *recipes.lookalike_authority_recipe(
            "lookalike-ca-authority", certificate.public_bytes(Encoding.DER), _GENPKEY[model.key_type]
        ),
        *recipes.leaf_recipe("lookalike-ca", COMMON_NAME, files),
    )
    return _client("lookalike-ca", Issuer(model.subject, key, identifier), recipe)


def _client(name: str, issuer: Issuer, recipe: tuple[str, ...]) -> Identity:
    key = generate_key(KeyType.ECDSA_P256)
    leaf = build_certificate(_LEAF, key, issuer)
    return Identity(name=name, chain=(leaf,), key=key, origin="made in memory", recipe=recipe)


def _model(announced: Sequence[x509.Name], trusted: Sequence[x509.Certificate]) -> _Model:
    # NOTE: Names are compared as DER: two that are equal as text may differ in their string types.
    known = {certificate.subject.public_bytes(): certificate for certificate in reversed(trusted)}
    for name in announced:
        if certificate := known.get(name.public_bytes()):
            return _of(certificate)
    if announced:
        return _Model(announced[0])
    if trusted:
        return _of(trusted[0])
    raise NotVerifiedError(
        "the server announces no CA and none that it trusts is known, so there is none to look like: "
        "pass --etcd-trusted-ca or --etcd-peer-trusted-ca"
    )


def _of(certificate: x509.Certificate) -> _Model:
    key, identifier = public_key(certificate), extension(certificate, x509.SubjectKeyIdentifier)
    if identifier is not None:
        return _Model(certificate.subject, identifier.digest, _like(key))
    if key is None:
        return _Model(certificate.subject)
    return _Model(certificate.subject, x509.SubjectKeyIdentifier.from_public_key(key).digest, _like(key))


def _like(public_key: object) -> KeyType:
    """Return the kind of key with which the signature algorithm alone does not give the forgery away."""
    match public_key:
        case rsa.RSAPublicKey():
            return KeyType.RSA_2048
        case ed25519.Ed25519PublicKey():
            return KeyType.ED25519
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return KeyType.ECDSA_P384
        case _:
            return KeyType.ECDSA_P256
