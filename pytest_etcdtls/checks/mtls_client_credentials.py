"""Client certificates and their CAs, as far as we hold them: keys, signatures and validity.

No listener serves them, so their faults do not show on the wire. Served certificates, and the CAs above them,
have checks of their own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from cryptography import x509

from pytest_etcdtls.checks.cert_form import ends_soon, state_of, when
from pytest_etcdtls.declared.files import HeldCertificate, HeldCertificates
from pytest_etcdtls.facts.listener import Policy
from pytest_etcdtls.pki.authority import specimen
from pytest_etcdtls.pki.certificate import (
    STRONG,
    allowed_keys,
    describe_key,
    is_allowed,
    is_strong,
    name_text,
    public_key,
    shown,
    signature_hash,
)
from pytest_etcdtls.pki.path import is_self_signed
from pytest_etcdtls.pki.profile import AUTHORITY, CLIENT
from pytest_etcdtls.registry import check
from pytest_etcdtls.reproduce import show_file
from pytest_etcdtls.results import Finding, Statement
from pytest_etcdtls.thresholds import Thresholds

Clients = Annotated[HeldCertificates, "clients"]
ClientCAs = Annotated[HeldCertificates, "client-cas"]

_STRONG_HASHES = frozenset({"sha256", "sha384", "sha512"})


def _instead(held: HeldCertificates, certificate: x509.Certificate) -> Mapping[str, Any]:
    first = replace(held.certificates[0], certificate=certificate)
    return {"held": replace(held, certificates=(first,))}


def _an_hour_left(held: HeldCertificates, policy: Policy) -> Mapping[str, Any]:
    ends = held.certificates[0].certificate.not_valid_after_utc
    return {"held": replace(held, observed_at=ends - timedelta(hours=1))}


def _weak_client(held: HeldCertificates, policy: Policy) -> Mapping[str, Any]:
    return _instead(held, specimen(replace(CLIENT, rsa_bits=1024))[0])


@check("mtls.client-certificate-strength", on=set(), counterexample=_weak_client)
def clients_keys_are_strong(held: Clients, policy: Policy) -> Iterator[Statement]:
    """The keys of client certificates are strong.

    An attacker who computes a client's private key from its certificate has that client's access. A
    certificate is not secret: in TLS 1.2 it is sent in clear text.

    Spec: NIST SP 800-131A section 3
    Severity: high
    Level: SHOULD
    Remediation: issue a new client certificate with an ECDSA P-256 or RSA 2048 key.
    """
    yield from _weak_keys(held, policy.of("mtls.client-certificate-strength"))


def _weak_ca(held: HeldCertificates, policy: Policy) -> Mapping[str, Any]:
    return _instead(held, specimen(authority=replace(AUTHORITY, rsa_bits=1024))[1])


@check("mtls.client-ca-strength", on=set(), counterexample=_weak_ca)
def the_keys_of_clients_cas_are_strong(held: ClientCAs, policy: Policy) -> Iterator[Statement]:
    """The keys of the CAs that verify client certificates are strong.

    An attacker who computes the private key of such a CA can issue certificates that etcd accepts, and read
    and write every key.

    Spec: NIST SP 800-131A section 3
    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Severity: critical
    Level: MUST
    Remediation: replace the CA: add the new one to --trusted-ca-file or --peer-trusted-ca-file, restart
        member by member, renew the clients' certificates, remove the old one and restart again.
    """
    yield from _weak_keys(held, policy.of("mtls.client-ca-strength"))


def _weak_keys(held: HeldCertificates, thresholds: Thresholds) -> Iterator[Finding]:
    for one in held.certificates:
        key = public_key(one.certificate)
        if not is_strong(key):
            yield Finding(
                message=f"{one.what} has a weak key",
                expected=STRONG,
                observed=describe_key(key),
                evidence=_evidence(one),
                reproduce=(show_file(one.source),),
            )
        elif not is_allowed(key, thresholds):
            yield Finding(
                message=f"{one.what} has a key that the profile does not allow",
                expected=allowed_keys(thresholds),
                observed=describe_key(key),
                evidence=_evidence(one),
                reproduce=(show_file(one.source),),
            )


def _sha1(held: HeldCertificates, policy: Policy) -> Mapping[str, Any]:
    return _instead(held, specimen(replace(CLIENT, signature_hash="sha1"))[0])


@check("mtls.client-certificate-signature", on=set(), counterexample=_sha1)
def clients_certificates_are_signed_with_a_good_hash(held: Clients, policy: Policy) -> Iterator[Statement]:
    """Client certificates and their chains are signed with a hash of the SHA-2 family.

    Collisions of SHA-1 and MD5 can be computed, and with them certificates that a CA never issued. An etcd
    that was built with Go 1.18 or newer refuses such a client, so the next upgrade may lock it out.

    Spec: RFC 8446 section 4.4.2.4
    Spec: NIST SP 800-131A section 9
    Follows: mtls.trusted-client
    Severity: high
    Level: SHOULD
    Remediation: issue a new client certificate, signed with SHA-256.
    """
    thresholds = policy.of("mtls.client-certificate-signature")
    hashes = _STRONG_HASHES & (thresholds.signature_hashes or _STRONG_HASHES)
    expected = "SHA-256, SHA-384 or SHA-512, or Ed25519"
    if thresholds.signature_hashes is not None:
        expected = f"{', '.join(sorted(hashes))}{thresholds.source('signature_hashes')}"
    for one in held.certificates:
        name = signature_hash(one.certificate)
        if name is not None and name not in hashes and not is_self_signed(one.certificate):
            yield Finding(
                message=f"{one.what} is signed with {name}",
                expected=expected,
                observed=f"{name}, by {name_text(one.certificate.issuer)}",
                evidence=_evidence(one),
                reproduce=(show_file(one.source),),
            )


@check("mtls.client-certificate-expires", on=set(), counterexample=_an_hour_left)
def clients_certificates_do_not_expire_soon(held: Clients, policy: Policy) -> Iterator[Statement]:
    """Client certificates are valid for longer than --etcd-expiry-days from now.

    A client is refused as soon as its certificate expires. Listeners do not show this in advance.

    Spec: RFC 5280 section 4.1.2.5
    Severity: medium
    Level: SHOULD
    Remediation: renew the client's certificate; etcd needs no restart for that.
    """
    yield from expiring(held, policy)


@check("mtls.client-ca-expires", on=set(), counterexample=_an_hour_left)
def clients_cas_do_not_expire_soon(held: ClientCAs, policy: Policy) -> Iterator[Statement]:
    """The CAs of clients are valid for longer than --etcd-expiry-days from now.

    When such a CA expires, every client with a certificate from it is refused at once. etcd reads its bundle
    only at start, so replacing a CA takes time.

    Spec: RFC 5280 section 6.1.3
    Spec: etcd --trusted-ca-file, --peer-trusted-ca-file
    Severity: medium
    Level: SHOULD
    Remediation: add the new CA to --trusted-ca-file or --peer-trusted-ca-file, restart member by member,
        renew the clients' certificates, then remove the old one.
    """
    yield from expiring(held, policy)


def expiring(held: HeldCertificates, policy: Policy) -> Iterator[Finding]:
    """Yield a finding for each certificate that is not valid now, or expires within the policy's days."""
    for one in held.certificates:
        if state := state_of(one.certificate, held.observed_at):
            begins, ends = one.certificate.not_valid_before_utc, one.certificate.not_valid_after_utc
            yield Finding(
                message=f"{one.what} {state}",
                expected=f"more than {policy.expiry_days} days left",
                observed=f"valid from {when(begins)} to {when(ends)} ({one.source})",
                evidence=_evidence(one),
                reproduce=(show_file(one.source),),
            )
        else:
            words = f"{one.what} ({one.source})"
            yield from ends_soon(one.certificate, words, held.observed_at, policy, show_file(one.source))


def _evidence(one: HeldCertificate) -> dict[str, str]:
    return {"subject": shown(one.certificate), "source": one.source}
