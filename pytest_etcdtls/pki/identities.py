"""The identities that a run issues, and the openssl commands that make equivalent ones.

Go judges the validity of a client's certificate by the server's clock (crypto/tls,
``processCertsFromClient``: ``CurrentTime: c.config.time()``), which may differ from ours and is not known
before a client is accepted. Every certificate of the path must be valid then (crypto/x509, ``isValid``). So
the identities depend on no clock: one that must be valid is valid as long as its CA, ``expired`` ends before
the CA begins, and ``not-yet-valid`` begins after the CA ends. One whose CA the server does not trust is
always valid, since it must be refused for its CA alone. No key outlives the run.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from pytest_etcdtls.errors import NotVerifiedError, missing
from pytest_etcdtls.pki.authority import (
    CertificateAuthority,
    Issuer,
    build_certificate,
    distinguished_name,
    general_name,
    key_identifier,
)
from pytest_etcdtls.pki.certificate import public_key
from pytest_etcdtls.pki.go_parser import details
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT, Identity, KeyType, Profile, generate_key
from pytest_etcdtls.untrusted.printable import pasted

COMMON_NAME: Final = "pytest-etcdtls"
"""Common name of the issued client certificates, which makes them recognisable in logs."""
WRONG_COMMON_NAME: Final = "pytest-etcdtls-wrong-cn"
WRONG_ADDRESS: Final = "192.0.2.1"
"""A documentation address (RFC 5737). etcd checks it directly; a DNS name would need its resolver."""

VALID_COUNTERPARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "expired": "issued",
        "not-yet-valid": "issued",
        "server-auth-only": "issued",
        "wrong-cn": "issued",
        "wrong-hostname": "issued",
        "wrong-san": "issued",
        "intermediate-missing": "intermediate-sent",
    }
)
"""The valid counterpart of each bad identity; the two differ in one point only."""

ISSUED_NAMES: Final = ("issued", *VALID_COUNTERPARTS, "intermediate-sent")
"""All names that :func:`issue_identities` accepts."""

_SUB_CA = "pytest-etcdtls intermediate CA"
_ONE_DAY = timedelta(days=1)
_FIRST: Final = datetime(1950, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The first time that a certificate can name, and the one of no expiration (RFC 5280 section 4.1.2.5)."""
_ALWAYS: Final = (_FIRST, _LAST)

_Times = tuple[datetime, datetime]
"""notBefore and notAfter."""

_LINE: Final = "%s\\n"
"""The format by which printf prints each word on a line of its own."""

_LEAF_PROFILE = replace(CLIENT, common_name=COMMON_NAME)
_FOREIGN_CA: Final = "pytest-etcdtls foreign CA"

_CLIENT_USAGES: Final = ("keyUsage=critical,digitalSignature", "extendedKeyUsage=clientAuth")
_SERVER_USAGES: Final = ("keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth")
_GENPKEY: Final = {
    KeyType.ECDSA_P256: "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
    KeyType.ECDSA_P384: "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
    KeyType.RSA_2048: "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    KeyType.ED25519: "-algorithm ED25519",
}


class _Model(Struct, frozen=True):
    """The properties of the CA to imitate, as far as they are known."""

    subject: x509.Name
    key_identifier: bytes | None = None
    key_type: KeyType = KeyType.ECDSA_P256


def self_signed() -> Identity:
    """Return a self-signed client certificate."""
    key = generate_key(KeyType.ECDSA_P256)
    return Identity(
        name="self-signed",
        chain=(build_certificate(_valid(_LEAF_PROFILE, _ALWAYS), key, not_before=_FIRST),),
        key=key,
        origin="made in memory",
        recipe=_leaf_recipe("self-signed", COMMON_NAME, None),
    )


def foreign_ca() -> Identity:
    """Return a client certificate of a CA that the server does not trust. Only the leaf is sent."""
    key = generate_key(KeyType.ECDSA_P256)
    issuer = Issuer(distinguished_name(_FOREIGN_CA), key, key_identifier(key.public_key()))
    files = ("foreign-ca-authority.crt", "foreign-ca-authority.key")
    recipe = (
        *_authority_recipe("foreign-ca-authority", _FOREIGN_CA),
        *_leaf_recipe("foreign-ca", COMMON_NAME, files),
    )
    return _client("foreign-ca", issuer, recipe)


def lookalike_ca(announced: Sequence[x509.Name], trusted: Sequence[x509.Certificate]) -> Identity:
    """Return a client certificate of a CA with a trusted CA's name and a different key.

    Its issuer equals, byte for byte in DER, the name of a CA that the server announces. Its
    authorityKeyIdentifier is that of the trusted CA with this name, if it is known. An announced name whose
    CA is known is preferred, then the first announced name, then the first trusted CA.

    Args:
        announced: names from the CertificateRequest, parsed from DER so that they keep their encoding.
        trusted: certificates that the server is known to trust.

    Raises:
        NotVerifiedError: if neither an announced name nor a trusted CA is known.
    """
    model = _model(announced, trusted)
    key = generate_key(model.key_type)
    identifier = model.key_identifier or key_identifier(key.public_key())
    certificate = build_certificate(
        _valid(AUTHORITY, _ALWAYS),
        key,
        subject=model.subject,
        subject_key_identifier=identifier,
        not_before=_FIRST,
    )
    files = ("lookalike-ca-authority.crt", "lookalike-ca-authority.key")
    recipe = (
        *_lookalike_authority_recipe(
            "lookalike-ca-authority", certificate.public_bytes(Encoding.DER), _GENPKEY[model.key_type]
        ),
        *_leaf_recipe("lookalike-ca", COMMON_NAME, files),
    )
    return _client("lookalike-ca", Issuer(model.subject, key, identifier), recipe)


def _client(name: str, issuer: Issuer, recipe: tuple[str, ...]) -> Identity:
    key = generate_key(KeyType.ECDSA_P256)
    leaf = build_certificate(_valid(_LEAF_PROFILE, _ALWAYS), key, issuer, not_before=_FIRST)
    return Identity(name=name, chain=(leaf,), key=key, origin="made in memory", recipe=recipe)


def _model(announced: Sequence[x509.Name], trusted: Sequence[x509.Certificate]) -> _Model:
    # NOTE: Names are compared as DER: names that are equal as text may differ in their string types.
    known = {certificate.subject.public_bytes(): certificate for certificate in reversed(trusted)}
    for name in announced:
        if certificate := known.get(name.public_bytes()):
            return _model_of(certificate)
    if announced:
        return _Model(announced[0])
    if trusted:
        return _model_of(trusted[0])
    text = "the server announces no CA, and no CA that it trusts is known, so no CA can be imitated"
    options = ("--etcd-trusted-ca", "--etcd-peer-trusted-ca")
    raise NotVerifiedError(missing(text, *options, passing=" or ".join(options)))


def _model_of(certificate: x509.Certificate) -> _Model:
    key, identifier = public_key(certificate), details(certificate).subject_key or None
    if identifier is None and key is not None:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key).digest
    return _Model(certificate.subject, identifier, _key_type(key))


def _key_type(key: object) -> KeyType:
    """Return the key type that gives the same signature algorithm as the imitated CA."""
    match key:
        case rsa.RSAPublicKey():
            return KeyType.RSA_2048
        case ed25519.Ed25519PublicKey():
            return KeyType.ED25519
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return KeyType.ECDSA_P384
        case _:
            return KeyType.ECDSA_P256


def issue_identities(
    authority: CertificateAuthority,
    *,
    common_name: str = COMMON_NAME,
    subject_alt_names: tuple[str, ...] = (),
    ca_files: tuple[str, str] = ("ca.crt", "ca.key"),
) -> dict[str, Identity]:
    """Issue the identities of :data:`ISSUED_NAMES`, valid as the CA is, unless that is their fault.

    Args:
        authority: the CA that signs.
        common_name: CN of every identity but ``wrong-cn``. If etcd allows certain names only, one of them.
        subject_alt_names: names of every identity but ``wrong-san`` and ``wrong-hostname``, which has none.
            If etcd allows certain hostnames only, one of them and, on a peer port, our address as etcd sees
            it.
        ca_files: paths of the CA's certificate and key, for the recipes.
    """
    key = generate_key(KeyType.ECDSA_P256)
    times = _times(authority.certificate)
    good = times["issued"]
    sub_ca: CertificateAuthority | None = None
    issued = {}
    for name, profile in _profiles(common_name, subject_alt_names).items():
        signer = authority
        if name.startswith("intermediate"):
            signer = sub_ca = sub_ca or authority.intermediate(
                _SUB_CA, profile=_valid(replace(AUTHORITY, path_length=0), good), not_before=good[0]
            )
        valid = times.get(name, good)
        identity = signer.issue(_valid(profile, valid), name=name, key=key, not_before=valid[0])
        if name == "intermediate-missing":
            identity = replace(identity, chain=identity.chain[:1])
        recipe = _recipe(name, profile, ca_files, times.get(name) if name != "issued" else None)
        issued[name] = replace(identity, origin="issued in memory", recipe=recipe)
    return issued


def revoked(authority: CertificateAuthority, *, serial: int, ca_files: tuple[str, str]) -> Identity:
    """Return a client certificate with a serial number on the CRL of the CA, valid as the CA is.

    ``ca_files`` are the paths of the CA's certificate and key, for the recipe.
    """
    valid = _times(authority.certificate)["issued"]
    profile = _valid(replace(_LEAF_PROFILE, serial_number=serial), valid)
    key = generate_key(KeyType.ECDSA_P256)
    identity = authority.issue(profile, name="revoked", key=key, not_before=valid[0])
    recipe = _leaf_recipe("revoked", COMMON_NAME, ca_files, serial=serial)
    return replace(identity, origin="issued in memory", recipe=recipe)


def _times(authority: x509.Certificate) -> dict[str, _Times]:
    """Return the validity of the good identity, and of those whose fault it is, by name.

    The CA that a server trusts may be another certificate of the same key, so our clock counts as well.
    """
    now = datetime.now(UTC)
    begin = max(_FIRST + 2 * _ONE_DAY, min(authority.not_valid_before_utc, now - timedelta(hours=1)))
    end = min(_LAST - 2 * _ONE_DAY, max(authority.not_valid_after_utc, now + _ONE_DAY))
    return {
        "issued": (begin, end),
        "expired": (begin - 2 * _ONE_DAY, begin - _ONE_DAY),
        "not-yet-valid": (end + _ONE_DAY, end + 2 * _ONE_DAY),
    }


def _valid(profile: Profile, times: _Times) -> Profile:
    return replace(profile, valid_for=times[1] - times[0])


def _profiles(common_name: str, subject_alt_names: tuple[str, ...]) -> dict[str, Profile]:
    good = replace(
        CLIENT,
        common_name=common_name,
        subject_alt_names=subject_alt_names,
        key_type=KeyType.ECDSA_P256,
    )
    return {
        "issued": good,
        "expired": good,
        "not-yet-valid": good,
        "server-auth-only": replace(good, extended_key_usage=("serverAuth",)),
        "wrong-cn": replace(good, common_name=WRONG_COMMON_NAME),
        "wrong-hostname": replace(good, subject_alt_names=()),
        "wrong-san": replace(good, subject_alt_names=(WRONG_ADDRESS,)),
        "intermediate-missing": good,
        "intermediate-sent": good,
    }


def _recipe(
    name: str, profile: Profile, ca_files: tuple[str, str], validity: _Times | None
) -> tuple[str, ...]:
    signer, sub_ca = ca_files, f"{name}-authority"
    before: tuple[str, ...] = ()
    if name.startswith("intermediate"):
        before = _authority_recipe(sub_ca, _SUB_CA, ca_files)
        signer = (f"{sub_ca}.crt", f"{sub_ca}.key")
    leaf = _leaf_recipe(
        name,
        str(profile.common_name),
        signer,
        usages=_SERVER_USAGES if name == "server-auth-only" else _CLIENT_USAGES,
        subject_alt_name=_names(profile),
        validity=validity,
    )
    after = (f"{pasted('cat', f'{sub_ca}.crt')} >> {name}.crt",) if name == "intermediate-sent" else ()
    return (*before, *leaf, *after)


def _names(profile: Profile) -> str | None:
    """Return the subjectAltName in openssl's syntax."""
    names = [general_name(name) for name in profile.subject_alt_names or ()]
    kinds = ("IP" if isinstance(name, x509.IPAddress) else "DNS" for name in names)
    return ",".join(f"{kind}:{name.value}" for kind, name in zip(kinds, names, strict=True)) or None


def _leaf_recipe(
    name: str,
    common_name: str,
    signer: tuple[str, str] | None,
    *,
    usages: tuple[str, ...] = _CLIENT_USAGES,
    subject_alt_name: str | None = None,
    validity: _Times | None = None,
    serial: int | None = None,
) -> tuple[str, ...]:
    """Return the shell lines that make a leaf.

    Args:
        name: name of the identity and of its files.
        common_name: CN of the subject.
        signer: files of the CA's certificate and key; ``None`` for a self-signed certificate.
        usages: in the syntax of openssl's ``x509v3_config``, as is ``subject_alt_name``.
        subject_alt_name: ``None`` for no such extension.
        validity: notBefore and notAfter; ``None`` for one day from now.
        serial: serial number of a certificate that is valid for one day; ``None`` for a random one.
    """
    names = () if subject_alt_name is None else (f"subjectAltName={subject_alt_name}",)
    extensions = _extensions(name, ("basicConstraints=critical,CA:FALSE", *usages, *names))
    request = (_request(name, common_name), extensions)
    if validity is None or signer is None:
        return (*request, _sign(name, signer, serial))
    return (*request, *_sign_with_dates(name, signer, validity))


def _authority_recipe(name: str, common_name: str, signer: tuple[str, str] | None = None) -> tuple[str, ...]:
    """Return the shell lines that make a CA, self-signed or signed by another CA."""
    extensions = _extensions(
        name, ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
    )
    return (_request(name, common_name), extensions, _sign(name, signer))


def _lookalike_authority_recipe(name: str, certificate: bytes, new_key: str) -> tuple[str, ...]:
    """Return the shell lines that make a CA with the names and identifiers of another (DER) and a new key."""
    encoded = base64.b64encode(certificate).decode()
    files = ("-in", f"{name}.der", "-signkey", f"{name}.key", "-days", "1", "-out", f"{name}.crt")
    decode = pasted("openssl", "base64", "-d", "-A", "-out", f"{name}.der")
    return (
        f"{pasted('printf', '%s', encoded)} | {decode}",
        pasted("openssl", "genpkey", *new_key.split(), "-out", f"{name}.key"),
        pasted("openssl", "x509", "-inform", "DER", *files),
    )


def _request(name: str, common_name: str) -> str:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
    return pasted("openssl", "req", "-new", *key, "-subj", f"/CN={common_name}", "-out", f"{name}.csr")


def _extensions(name: str, lines: tuple[str, ...]) -> str:
    identifiers = ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid")
    return f"{pasted('printf', _LINE, *lines, *identifiers)} > {name}.ext"


def _sign(name: str, signer: tuple[str, str] | None, serial: int | None = None) -> str:
    by = ("-signkey", f"{name}.key") if signer is None else ("-CA", signer[0], "-CAkey", signer[1])
    command = ("openssl", "x509", "-req", "-in", f"{name}.csr", *by, "-days", "1")
    number = "$(openssl rand -hex 16)" if serial is None else f"{serial:x}"
    files = pasted("-extfile", f"{name}.ext", "-out", f"{name}.crt")
    return f"{pasted(*command)} -set_serial 0x{number} {files}"


def _sign_with_dates(name: str, signer: tuple[str, str], validity: _Times) -> tuple[str, ...]:
    # `openssl x509` accepts dates since 3.4 only; `openssl ca` always did, but needs a configuration file.
    lines = (
        *("[ca]", "default_ca=d", "[d]", f"database={name}.db", "new_certs_dir=.", "rand_serial=yes"),
        *("default_md=default", "policy=p", "[p]", "commonName=supplied"),
    )
    by = ("-cert", signer[0], "-keyfile", signer[1])
    dates = "-startdate {:%Y%m%d%H%M%SZ} -enddate {:%Y%m%d%H%M%SZ}".format(*validity).split()
    files = ("-extfile", f"{name}.ext", "-in", f"{name}.csr", "-out", f"{name}.crt")
    return (
        f": > {name}.db",
        f"{pasted('printf', _LINE, *lines)} > {name}.cnf",
        pasted("openssl", "ca", "-batch", "-notext", "-config", f"{name}.cnf", *by, *dates, *files),
    )
