"""The certificates, bundles and revocation lists of draws. CAs and keys are made once for many draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from oracle.crls import signed

from pytest_etcdtls.pki import identities
from pytest_etcdtls.pki.authority import CertificateAuthority, build_certificate
from pytest_etcdtls.pki.bundle import encode_certificates
from pytest_etcdtls.pki.profile import (
    AUTHORITY,
    CLIENT,
    NO_CERTIFICATE,
    PEER,
    PEER_CLIENT,
    SERVER,
    Identity,
    KeyType,
    OtherExtension,
    PrivateKey,
    generate_key,
)
from truth.drawing import Scenario

_DAY = timedelta(days=1)
_SAN = "2.5.29.17"
ALLOWED_NAMES = {"right": "localhost", "other": "elsewhere.truth.test", "wildcard": "node1.truth.test"}
"""The values of the flags for allowed hostnames."""
_NAME_OF_GOOD = {"right": "localhost", "other": "localhost", "wildcard": "*.truth.test"}
"""The name of the good client where hostnames are allowed."""
ALLOWED_CN = {"right": "etcd-peer", "other": "somebody", "two": "somebody,etcd-peer"}


@cache
def key_of(label: str) -> PrivateKey:
    """Return the key of that label, made once: ``ecdsa-p384 server``, ``rsa-1024 client``."""
    kind = label.partition(" ")[0]
    if kind == "rsa-1024":
        return generate_key(KeyType.RSA_2048, rsa_bits=1024)
    return generate_key(KeyType(kind))


@cache
def authority(name: str) -> CertificateAuthority:
    """Return a root CA of that name, made once."""
    return CertificateAuthority.create(f"truth {name} CA")


@cache
def sub_authority(name: str, kind: str) -> CertificateAuthority:
    """Return an intermediate CA of a root, made once for each kind."""
    profile = {
        "sub-ca-expired": replace(AUTHORITY, valid_from=-3 * _DAY, valid_for=2 * _DAY),
        "sub-ca-server-usage": replace(AUTHORITY, extended_key_usage=("serverAuth",)),
        "sub-ca-excluded": replace(AUTHORITY, other_extensions=(_NOT_LOCALHOST,)),
    }.get(kind, AUTHORITY)
    return authority(name).intermediate(f"truth {name} {kind}", profile=profile)


_NOT_LOCALHOST = OtherExtension(
    "2.5.29.30", x509.NameConstraints(None, [x509.DNSName("localhost")]).public_bytes(), critical=True
)


def _names(*names: x509.GeneralName) -> tuple[OtherExtension, ...]:
    return (OtherExtension(_SAN, x509.SubjectAlternativeName(names).public_bytes()),)


_EMPTY_NAMES = (OtherExtension(_SAN, b"\x30\x00"),)

_LEAF_CHANGES: Mapping[str, Mapping[str, object]] = {
    "no-usage": {"extended_key_usage": None},
    "server-usage": {"extended_key_usage": ("serverAuth",)},
    "code-usage": {"extended_key_usage": ("1.3.6.1.5.5.7.3.3",)},
    "expired": {"valid_from": -_DAY, "valid_for": _DAY - timedelta(seconds=5)},
    "not-yet-valid": {"valid_from": timedelta(hours=1)},
    "ends-soon": {"valid_for": timedelta(hours=2)},
    "address": {"subject_alt_names": ("127.0.0.1",)},
    "other-address": {"subject_alt_names": ("192.0.2.1",)},
    "localhost": {"subject_alt_names": ("localhost",)},
    "other-name": {"subject_alt_names": ("elsewhere.truth.test",)},
    "wildcard": {"subject_alt_names": ("*.truth.test",)},
    "other-address+localhost": {"subject_alt_names": ("192.0.2.1", "localhost")},
    "ipv6": {"subject_alt_names": ("::1",)},
    "address-as-name": {"dns_names": ("127.0.0.1",)},
    "uri": {"other_extensions": _names(x509.UniformResourceIdentifier("spiffe://truth.test/client"))},
    "empty-names": {"other_extensions": _EMPTY_NAMES},
    "critical": {"unknown_critical_extension": "1.3.6.1.4.1.55555.1"},
    "negative-serial": {"serial_number": -12345},
    "no-subject": {"common_name": None},
}


def leaf(side: str, kind: str, scenario: Scenario) -> Identity:
    """Return what the named good client of a side presents."""
    names = (_NAME_OF_GOOD[scenario[f"{side}-hostname"]],) if scenario[f"{side}-hostname"] != "none" else ()
    base = replace(PEER_CLIENT if side == "peer" else CLIENT, subject_alt_names=names)
    ca = trusted_side(side, scenario)
    label = f"{kind} {side}" if kind in ("rsa-1024", "rsa-2048", "ed25519") else f"ecdsa-p256 {side}"
    key = key_of(label)
    if kind == "foreign":
        return authority("foreign").issue(base, name=side, key=key)
    if kind == "self-signed":
        return Identity(name=side, chain=(build_certificate(base, key),), key=key)
    signer = authority(ca)
    if kind.startswith("sub-"):
        signer = sub_authority(ca, "sub-ca" if kind == "sub-ca-missing" else kind)
        if kind == "sub-ca-excluded":
            base = replace(base, subject_alt_names=(*names, "localhost"))
    made = signer.issue(replace(base, **_LEAF_CHANGES.get(kind, {})), name=side, key=key)  # type: ignore[arg-type]
    if kind == "sub-ca-missing":
        made = replace(made, chain=made.chain[:1])
    if kind == "stray-after":
        made = replace(made, chain=(*made.chain, authority("foreign").certificate))
    return made


@cache
def asked_identities(ca: str, common_name: str) -> Mapping[str, Identity]:
    """Return the identities that listeners are asked with, besides the named good one.

    Args:
        ca: the name of the CA whose clients are trusted.
        common_name: of the clients that are not bad for their name.
    """
    own = authority(ca)
    key = key_of(f"ecdsa-p256 asked {ca}")
    issued = identities.issue_identities(own, common_name=common_name)
    revoked_ = own.issue(
        replace(CLIENT, common_name=common_name, serial_number=REVOKED), name="revoked", key=key
    )
    return {
        "none": NO_CERTIFICATE,
        "foreign-ca": identities.foreign_ca(),
        "self-signed": identities.self_signed(),
        "lookalike-ca": identities.lookalike_ca([own.certificate.subject], [own.certificate]),
        **issued,
        "revoked": revoked_,
    }


REVOKED = 0x5EED


def _variant(side: str, **changes: object) -> x509.Certificate:
    """Return a certificate of the CA of a side with the same name and key, and other contents."""
    made = authority(side)
    profile = replace(AUTHORITY, common_name=f"truth {side} CA", **changes)  # type: ignore[arg-type]
    return build_certificate(profile, made.key)


@cache
def _renewed(side: str) -> x509.Certificate:
    """Return a CA of the same name with another key."""
    return CertificateAuthority.create(f"truth {side} CA").certificate


def bundle(side: str, kind: str) -> bytes:
    """Return the content of the bundle that a side trusts for its clients."""
    own, other = authority(side).certificate, authority("other").certificate
    sub = sub_authority(side, "sub-ca").certificate
    pem = encode_certificates
    makers: Mapping[str, bytes] = {
        "ca": pem([own]),
        "ca+other": pem([own, other]),
        "renewed": pem([_renewed(side)]),
        "old+renewed": pem([own, _renewed(side)]),
        "sub-ca": pem([sub]),
        "ca+sub-ca": pem([own, sub]),
        "other": pem([other]),
        "expired": pem([_variant(side, valid_from=-9 * _DAY, valid_for=8 * _DAY)]),
        "not-yet-valid": pem([_variant(side, valid_from=timedelta(hours=9))]),
        "server-usage": pem([_variant(side, extended_key_usage=("serverAuth",))]),
        "excluding": pem([_variant(side, other_extensions=(_NOT_LOCALHOST,))]),
    }
    return makers[kind]


def revocation_list(side: str, kind: str, serials: frozenset[int]) -> bytes | None:
    """Return the content of a revocation list, ``None`` for a file that is missing."""
    signer = authority("foreign" if kind == "foreign" else side)
    until = datetime.now(UTC) + (-_DAY if kind == "stale" else 30 * _DAY)
    der = signed(signer, *sorted(serials), next_update=until)
    pem = x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
    makers: Mapping[str, bytes | None] = {
        "der": der,
        "stale": der,
        "foreign": der,
        "pem": pem,
        "pem-crlf": pem.replace(b"\n", b"\r\n"),
        "junk": b"this is no revocation list\n",
        "missing": None,
    }
    return makers[kind]


def dials(scenario: Scenario) -> Identity:
    """Return the pair with which a member dials others, if it is not the one that it serves."""
    kind = scenario["peer-dials"]
    profile = replace(
        PEER,
        subject_alt_names=("192.0.2.1" if kind == "other-address" else "127.0.0.1",),
        extended_key_usage=("serverAuth",) if kind == "server-usage" else ("serverAuth", "clientAuth"),
    )
    signer = authority("foreign" if kind == "foreign" else trusted_side("peer", scenario))
    return signer.issue(profile, name="dials", key=key_of("ecdsa-p256 dials"))


def served(side: str, scenario: Scenario) -> Identity:
    """Return the key pair that a side serves."""
    prefix = "peer-served" if side == "peer" else "served"
    names, times, usage, chain = (
        scenario[f"{prefix}-{what}"] for what in ("names", "times", "usage", "chain")
    )
    kind = scenario["served-kind"] if side == "client" else "plain"
    # Members dial from the first address of loopback.
    addresses = tuple(dict.fromkeys(("127.0.0.1", scenario.address)))
    hosts = {
        "right": ("localhost", *addresses),
        "address": addresses,
        "localhost": ("localhost",),
        "other": ("elsewhere.truth.test", "192.0.2.1"),
        "wildcard": ("*.truth.test", *addresses),
        "ipv6": ("::1",),
    }.get(names, ())
    profile = replace(
        SERVER,
        common_name="127.0.0.1" if names == "cn-only" else "etcd-peer" if side == "peer" else "etcd-server",
        subject_alt_names=hosts,
        extended_key_usage={
            "both": ("serverAuth", "clientAuth"),
            "server": ("serverAuth",),
            "client": ("clientAuth",),
            "none": None,
            "any": ("2.5.29.37.0",),
        }[usage],
        **_TIMES[times],  # type: ignore[arg-type]
        **_KINDS.get(kind, {}),  # type: ignore[arg-type]
    )
    label = "rsa-1024" if kind == "rsa-1024" else scenario["key"]
    key, signer = key_of(f"{label} {side} served"), authority(signer_of_served(side, scenario))
    if chain == "self-signed":
        return Identity(name=side, chain=(build_certificate(profile, key),), key=key)
    if chain in ("sub-ca", "sub-ca-missing", "sub-ca-expired"):
        name = signer_of_served(side, scenario)
        signer = sub_authority(name, chain if chain == "sub-ca-expired" else "sub-ca")
    made = signer.issue(profile, name=side, key=key)
    if chain == "sub-ca-missing":
        return replace(made, chain=made.chain[:1])
    if chain in ("with-root", "stray"):
        more = signer if chain == "with-root" else authority("foreign")
        return replace(made, chain=(*made.chain, more.certificate))
    return made


_TIMES: Mapping[str, Mapping[str, object]] = {
    "right": {},
    "expired": {"valid_from": -9 * _DAY, "valid_for": _DAY},
    "just-expired": {"valid_from": -_DAY, "valid_for": _DAY - timedelta(seconds=5)},
    "not-yet-valid": {"valid_from": timedelta(hours=1)},
    "ends-soon": {"valid_for": 5 * _DAY},
    "long": {"valid_for": 4000 * _DAY},
}
_KINDS: Mapping[str, Mapping[str, object]] = {
    "sha1": {"signature_hash": "sha1"},
    "critical": {"unknown_critical_extension": "1.3.6.1.4.1.55555.1"},
    "is-a-ca": {"ca": True},
    "no-key-usage": {"key_usage": frozenset()},
    "encipherment-only": {"key_usage": frozenset({"keyEncipherment"})},
}


def trusted_side(side: str, scenario: Scenario) -> str:
    """Return the name of the CA whose clients a side trusts."""
    return "client" if scenario["layout"] == "shared" else side


def signer_of_served(side: str, scenario: Scenario) -> str:
    """Return the name of the CA that signs what a side serves."""
    if side == "client" and scenario["layout"] == "per-role":
        return "server"
    return trusted_side(side, scenario)
