"""Whether served certificates follow RFC 5280: validity, encoding, serial numbers, extensions, keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from msgspec.structs import replace

from pytest_etcdtls.checks.judgement import serving
from pytest_etcdtls.checks.registry import EVERY_LISTENER, check
from pytest_etcdtls.checks.results import Finding, Statement, inconclusive, not_applicable, not_verified
from pytest_etcdtls.declared.cures import renewed
from pytest_etcdtls.facts.certificates import CertificateMessage, CertificationPath, Issuers
from pytest_etcdtls.facts.clock import MemberClock
from pytest_etcdtls.facts.listener import Policy, ServedChain
from pytest_etcdtls.pki.certificate import (
    STRONG,
    allowed_keys,
    describe_key,
    extension_name,
    is_allowed,
    is_generated,
    is_strong,
    is_strong_issuer,
    is_too_long,
    load,
    name_text,
    shown,
    signature_hash,
    span,
    unparsable,
)
from pytest_etcdtls.pki.go_parser import details, key_error, parse_error, unjudged
from pytest_etcdtls.pki.go_verify import (
    ancestors,
    is_self_signed,
    signature_problem,
    usable_key,
)
from pytest_etcdtls.pki.profile import AUTHORITY, OtherExtension
from pytest_etcdtls.pki.thresholds import LIFETIME_OF_THE_CHECKS
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.command import KEY, SERIAL, SERVED_KEYS, Command, show_chain, show_leaf
from pytest_etcdtls.untrusted.printable import plural


def when(moment: datetime) -> str:
    """Return a time as reports show it."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def state_of(certificate: x509.Certificate, now: datetime) -> str:
    """Return what is wrong with the current validity; empty if nothing is."""
    if now < certificate.not_valid_before_utc:
        return "is not yet valid"
    return "has expired" if now > certificate.not_valid_after_utc else ""


def by_each_clock(certificate: x509.Certificate, times: Sequence[datetime]) -> str:
    """Return the validity by the local clock and by the member's."""
    ours, theirs = (state_of(certificate, now) or "is valid" for now in times[:2])
    return f"{ours} by the local clock and {theirs} by the member's"


def _a_day_late(chain: ServedChain, **_: object) -> Mapping[str, Any]:
    return {"chain": replace(chain, observed_at=chain.leaf.not_valid_after_utc + timedelta(days=1))}


@check("cert.valid-now", on=EVERY_LISTENER, counterexample=_a_day_late, cure=renewed)
def the_certificate_is_valid_now(
    here: Listener, chain: ServedChain, clock: MemberClock
) -> Iterator[Statement]:
    """The served certificate is valid at the time of the handshake.

    Clients refuse the certificate, and so do other members and etcd's own gateway, which are clients too.

    Spec: RFC 5280 section 4.1.2.5
    Severity: critical
    Level: MUST
    Remediation: renew the pair of --{peer}cert-file and --{peer}key-file; etcd serves the new one at the next
        handshake, without a restart.
    """
    times = clock.times(chain.observed_at)
    for statement in not_valid_now(chain.leaf, "the certificate", times, show_leaf(here.url)):
        if isinstance(statement, Finding) and is_generated(chain.leaf):
            statement = dataclasses.replace(statement, remediation=_GENERATED)
        yield statement


_GENERATED = (
    "etcd generated it (--{peer}auto-tls) and keeps it in fixtures/{side} of its data directory: move that "
    "away and restart etcd, which generates another"
)


def not_valid_now(
    certificate: x509.Certificate, name: str, times: Sequence[datetime], reproduce: Command
) -> Iterator[Statement]:
    """Judge whether the named certificate is valid at the time of a handshake, by each clock."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    states = [state_of(certificate, now) for now in times]
    if len(set(states)) > 1:
        by_each = by_each_clock(certificate, times)
        yield inconclusive(f"{name} {by_each}, see api.clock-agrees")
    elif states[0]:
        state = f"expired {span(times[0] - end)} ago" if times[0] > end else states[0]
        yield Finding(
            message=f"{name} {state}",
            expected=f"{when(begin)} to {when(end)} includes the time of the handshake",
            observed=f"handshake at {when(times[0])}",
            reproduce=(reproduce,),
        )


def _an_hour_left(chain: ServedChain, **_: object) -> Mapping[str, Any]:
    return {"chain": replace(chain, observed_at=chain.leaf.not_valid_after_utc - timedelta(hours=1))}


@check("cert.expires-soon", on=EVERY_LISTENER, counterexample=_an_hour_left, cure=renewed)
def the_certificate_does_not_expire_soon(
    here: Listener, chain: ServedChain, policy: Policy, clock: MemberClock
) -> Iterator[Statement]:
    """The served certificate is valid for longer than --etcd-expiry-days from now.

    When the certificate expires, clients and members refuse it at once. etcd gives no warning before.

    Spec: RFC 5280 section 4.1.2.5
    Follows: cert.matches-expected-file
    Severity: medium
    Level: SHOULD
    Remediation: renew the pair of --{peer}cert-file and --{peer}key-file; etcd serves the new one at the next
        handshake, without a restart.
    """
    times = clock.times(chain.observed_at)
    if state := next(filter(None, (state_of(chain.leaf, now) for now in times)), ""):
        yield not_applicable(f"the certificate {state}, see cert.valid-now")
        return
    yield from ends_soon(chain.leaf, "the certificate", times, policy, show_leaf(here.url))


def ends_soon(
    certificate: x509.Certificate, name: str, times: Sequence[datetime], policy: Policy, reproduce: Command
) -> Iterator[Statement]:
    """Judge whether the named certificate expires within the policy's days, by each clock."""
    left = [certificate.not_valid_after_utc - now for now in times]
    soon = [time_left <= timedelta(days=policy.expiry_days) for time_left in left]
    if all(soon):
        yield Finding(
            message=f"{name} expires in {span(left[0])}",
            expected=f"more than {plural(policy.expiry_days, 'day')} left",
            observed=f"valid until {when(certificate.not_valid_after_utc)}",
            evidence={"subject": shown(certificate), "now": when(times[0])},
            reproduce=(reproduce,),
        )
    elif any(soon):
        yield not_verified(
            f"{name} expires in {span(min(left))} by one of the clocks, here and on the members, and in "
            f"{span(max(left))} by another, see api.clock-agrees"
        )


@check("cert.lifetime", on=EVERY_LISTENER, counterexample=serving("chain", valid_for=timedelta(days=3650)))
def the_lifetime_is_limited(here: Listener, chain: ServedChain, policy: Policy) -> Iterator[Statement]:
    """The served certificate is valid for at most 825 days, or a profile's limit.

    A stolen key works until the certificate expires, since clients do not check revocation lists for servers.
    kubeadm issues certificates for a year; Apple's platforms accept at most 825 days from a private CA.

    Spec: Apple 103769, requirements for trusted certificates
    Spec: RFC 5280 section 4.1.2.5
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file for a year or less and renew it in time; etcd
        serves the new one without a restart.
    """
    lifetime = chain.leaf.not_valid_after_utc - chain.leaf.not_valid_before_utc
    # notAfter is inclusive and kubeadm backdates by five minutes, so a day of grace is added.
    thresholds = policy.of("cert.lifetime")
    longest = thresholds.lifetime_days or LIFETIME_OF_THE_CHECKS
    if lifetime > timedelta(days=longest + 1):
        yield Finding(
            message=f"the certificate is valid for {plural(lifetime.days, 'day')}",
            expected=f"{plural(longest, 'day')} at most{thresholds.source('lifetime_days')}",
            observed=f"{when(chain.leaf.not_valid_before_utc)} to {when(chain.leaf.not_valid_after_utc)}",
            reproduce=(show_leaf(here.url),),
            remediation=_FOR_FEWER_DAYS.replace("DAYS", str(longest)) if thresholds.lifetime_days else "",
        )


_FOR_FEWER_DAYS = (
    "issue the certificate of --{peer}cert-file for at most DAYS days and renew it in time; etcd serves the "
    "new one without a restart"
)


_LONGEST_SERIAL = 20
"""In octets."""


def on_the_path(chain: ServedChain) -> tuple[x509.Certificate, ...]:
    """Return the served leaf and those following certificates that are its issuers."""
    leaf, *others = chain.certificates
    issuers = ancestors(leaf, others)
    return (leaf, *(found for found in others if found in issuers))


@check("cert.serial-number", on=EVERY_LISTENER, counterexample=serving("chain", serial_number=0))
def serial_numbers_are_valid(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """Serial numbers are not zero and have at most 20 octets.

    Go and OpenSSL accept other serial numbers, but some TLS libraries refuse them. RFC 5280 requires this of
    CAs. Go refuses negative ones, see cert.well-formed.

    Spec: RFC 5280 section 4.1.2.2
    Severity: medium
    Level: SHOULD
    Remediation: issue a new certificate for --{peer}cert-file, with a random serial number of at most 20
        octets.
    """
    for certificate in on_the_path(chain):
        serial = details(certificate).serial_number
        octets = serial.bit_length() // 8 + 1
        if serial == 0 or octets > _LONGEST_SERIAL:
            yield Finding(
                message=f"the serial number of {shown(certificate)} is "
                + (f"{octets} octets long" if serial else "zero"),
                expected="a positive number of at most 20 octets",
                observed=f"{serial:#x}",
                reproduce=(show_leaf(here.url, SERIAL),),
            )


_unknown_extension = serving("path", unknown_critical_extension="1.2.3.4")


@check("cert.critical-extensions", on=EVERY_LISTENER, counterexample=_unknown_extension)
def critical_extensions_are_known(here: Listener, path: CertificationPath) -> Iterator[Statement]:
    """Every critical extension is supported by Go's x509, on the root as well.

    Clients must refuse a critical extension that they do not support. Examples are an unknown extension, a
    critical subjectAltName without any name, and critical name constraints of an unsupported type.

    Spec: RFC 5280 section 4.2
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file, or its CA, without that extension, or mark it as
        not critical.
    """
    for certificate in path.certificates:
        unknown = details(certificate).unhandled
        if unknown:
            yield Finding(
                message=f"{shown(certificate)} has a critical extension that clients do not support",
                expected="critical extensions that Go's x509 handles",
                observed=", ".join(extension_name(oid) for oid in unknown),
                reproduce=(show_chain(here.url),),
            )


_no_key_identifier = serving("chain", authority_key_identifier=False)


@check("cert.key-identifiers", on=EVERY_LISTENER, counterexample=_no_key_identifier)
def key_identifiers_match(here: Listener, chain: ServedChain, issuers: Issuers) -> Iterator[Statement]:
    """The authorityKeyIdentifier matches the issuer's subjectKeyIdentifier.

    Python 3.13 and newer refuses certificates without these identifiers, and OpenSSL does not find an issuer
    whose identifier differs. Go does not need them. A root needs no authorityKeyIdentifier, a leaf no
    subjectKeyIdentifier.

    Spec: RFC 5280 section 4.2.1.1
    Spec: RFC 5280 section 4.2.1.2
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with authorityKeyIdentifier keyid, and its CA with
        a subjectKeyIdentifier.
    """
    below = chain.leaf
    for issuer in issuers.certificates:
        if wrong := _disagreement(below, issuer):
            yield Finding(
                message=f"the key identifiers of {shown(below)} and its issuer {shown(issuer)} do not agree",
                expected="an authorityKeyIdentifier that is the issuer's subjectKeyIdentifier",
                observed=wrong,
                reproduce=(show_chain(here.url),),
            )
        below = issuer


def _disagreement(certificate: x509.Certificate, issuer: x509.Certificate) -> str:
    referred, subject = details(certificate).authority_key, details(issuer).subject_key
    if not referred:
        return "no authorityKeyIdentifier"
    if not subject:
        return "the issuer has no subjectKeyIdentifier"
    return f"{referred.hex(':')} is not {subject.hex(':')}" if referred != subject else ""


def _position(message: CertificateMessage, number: int, der: bytes) -> str:
    """Return a description of the certificate: its position, and its subject as far as it can be parsed."""
    sent = len(set(message.certificates))
    place = f"certificate {number} of {sent}" if number <= sent else "a CA that is not served"
    try:
        return f"{place}, {shown(load(der))},"
    except ValueError:
        return place


def _all(message: CertificateMessage) -> Iterator[tuple[int, bytes]]:
    """Yield every certificate once: those that were sent, then the CAs that were not."""
    issuers = (issuer.public_bytes(Encoding.DER) for issuer in message.issuers)
    yield from enumerate(dict.fromkeys((*message.certificates, *issuers)), 1)


_malformed_address = serving(
    "message",
    # A subjectAltName with an iPAddress of five octets.
    other_extensions=(OtherExtension("2.5.29.17", bytes.fromhex("300787057f00000100")),),
)


@check("cert.well-formed", on=EVERY_LISTENER, counterexample=_malformed_address)
def go_parses_every_certificate(here: Listener, message: CertificateMessage) -> Iterator[Statement]:
    """Go can parse every served certificate and every one in the given CA file.

    A Go client parses the whole Certificate message before it verifies anything, and ends the handshake if
    any certificate in it fails. etcd itself parses only the first certificate of its file, so it serves the
    others unchanged. If a certificate in its CA file does not parse, a client of etcd does not start.

    Go does not parse, among others, a negative serial number (from 1.23 on), an elliptic curve key with
    explicit parameters instead of a named curve, and a critical authorityKeyIdentifier, subjectKeyIdentifier
    or authorityInfoAccess. A DSA key, an unusual URI, and extensions that constrain mailboxes, URIs or
    certificate policies are not judged: they make the check inconclusive.

    Spec: RFC 5280 section 4.1
    Spec: Go crypto/x509 ParseCertificate
    Spec: etcd client/pkg/tlsutil NewCertPool
    Severity: high
    Level: MUST
    Remediation: issue the malformed certificate again with a maintained tool, or remove it from the file of
        --{peer}cert-file if it is not part of the chain.
    """
    for number, der in _all(message):
        if problem := parse_error(der):
            yield Finding(
                message=f"{_position(message, number, der)} is malformed: Go clients refuse the handshake",
                expected="certificates that Go's x509.ParseCertificate accepts",
                observed=problem,
                reproduce=(show_chain(here.url),),
            )
        elif part := unjudged(der):
            yield inconclusive(not_judged(_position(message, number, der), f"has {part}"))


def not_judged(certificate: str, reason: str) -> str:
    """Return the reason why nobody can say whether Go accepts a certificate."""
    return f"{certificate} {reason}, which is not judged: connect with etcdctl to see whether Go accepts it"


_malformed_issuer_name = serving(
    "message",
    # An issuerAltName that is the ASN.1 NULL.
    other_extensions=(OtherExtension("2.5.29.18", b"\x05\x00"),),
)


@check("cert.parsable", on=EVERY_LISTENER, counterexample=_malformed_issuer_name)
def strict_clients_parse_every_certificate(
    here: Listener, message: CertificateMessage
) -> Iterator[Statement]:
    """Strict clients can parse every certificate, its extensions and its key.

    Clients with a stricter parser than Go's refuse the server. Go does not parse extensions that it does not
    use, and accepts some encodings that are not DER. Python's cryptography library, which this client uses,
    accepts neither. What it cannot parse is not judged; all other parts of the certificate are.

    Spec: RFC 5280 section 4.2
    Spec: X.690 section 11
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file again, without that extension or with a correct
        encoding.
    """
    for number, der in _all(message):
        if parse_error(der):
            continue
        try:
            problems = list(unparsable(load(der)))
        except ValueError as error:
            problems = [("certificate", str(error))]
        for part, problem in problems:
            yield Finding(
                message=f"{_position(message, number, der)} has a part that this client cannot parse: {part}",
                expected="a certificate that is DER throughout",
                observed=problem,
                reproduce=(show_chain(here.url),),
            )


_MALFORMED = not_verified("the key cannot be parsed, see cert.well-formed")


@check("cert.key-strength", on=EVERY_LISTENER, counterexample=serving("chain", rsa_bits=1024))
def the_key_is_strong(here: Listener, chain: ServedChain, policy: Policy) -> Iterator[Statement]:
    """The served certificate's key is strong and of a type that Go's TLS supports.

    An attacker who computes the private key from the public key can impersonate the server. OpenSSL by
    default refuses RSA below 2048 bits. Go refuses RSA below 1024 bits from 1.24 on, and above 8192 bits from
    1.20.7 on.

    Spec: NIST SP 800-131A section 3
    Spec: RFC 8446 section 4.2.3
    Severity: high
    Level: MUST
    Remediation: renew --{peer}cert-file and --{peer}key-file with an ECDSA P-256 or RSA 2048 key.
    """
    key = usable_key(chain.leaf)
    if key is None and key_error(details(chain.leaf).key):
        yield _MALFORMED
    elif not is_strong(key):
        yield Finding(
            message="the key of the certificate is weak, or of a type that clients do not accept",
            expected=STRONG,
            observed=describe_key(key),
            reproduce=(show_leaf(here.url, KEY),),
        )
    elif not is_allowed(key, thresholds := policy.of("cert.key-strength")):
        yield Finding(
            message="the profile does not allow the key of the certificate",
            expected=allowed_keys(thresholds),
            observed=describe_key(key),
            reproduce=(show_leaf(here.url, KEY),),
            remediation="renew --{peer}cert-file and --{peer}key-file with a key that the profile allows",
        )


_weak_issuer = serving("issuers", dataclasses.replace(AUTHORITY, rsa_bits=1024))


@check("cert.issuer-key-strength", on=EVERY_LISTENER, counterexample=_weak_issuer)
def the_issuers_keys_are_strong(
    here: Listener, issuers: Issuers, chain: ServedChain, policy: Policy
) -> Iterator[Statement]:
    """The keys of the CAs above the served certificate are strong.

    An attacker who computes the key of a CA can impersonate every server, and every client where etcd trusts
    the same CA. Go's TLS refuses RSA above 8192 bits in any served certificate.

    Spec: NIST SP 800-131A section 3
    Severity: critical
    Level: MUST
    Remediation: replace the CA: distribute a new one to clients and to --{peer}trusted-ca-file (read only at
        start), then renew the certificate of --{peer}cert-file.
    """
    served, thresholds = chain.certificates[1:], policy.of("cert.issuer-key-strength")
    for issuer in dict.fromkeys((*issuers.certificates, *served)):
        key = usable_key(issuer)
        weak = issuer in issuers.certificates and not is_strong_issuer(key)
        if key is None and key_error(details(issuer).key):
            yield _MALFORMED
            continue
        name = f"the key of the CA {shown(issuer)}"
        if weak or (issuer in served and is_too_long(key)):
            message, expected = f"{name} is weak, or of a type that clients do not accept", STRONG
        elif issuer in issuers.certificates and not is_allowed(key, thresholds):
            message, expected = f"the profile does not allow {name}", allowed_keys(thresholds)
        else:
            continue
        yield Finding(
            message=message,
            expected=expected,
            observed=describe_key(key),
            reproduce=(show_chain(here.url, SERVED_KEYS),),
        )


@check("cert.signature-hash", on=EVERY_LISTENER, counterexample=serving("path", signature_hash="sha1"))
def signatures_use_sha2(here: Listener, path: CertificationPath, policy: Policy) -> Iterator[Statement]:
    """The served certificate and its CAs are signed with a hash of the SHA-2 family.

    Collisions of SHA-1 and MD5 can be computed, and with them certificates that a CA never issued. Go 1.18
    and newer refuses SHA-1. With RSASSA-PSS, Go takes one hash for the message and the mask, and a salt of
    the hash's length. Self-signatures are not judged, nor is the signature on the given CA.

    Spec: RFC 8446 section 4.4.2.4
    Spec: NIST SP 800-131A section 9
    Severity: high
    Level: MUST
    Remediation: issue a new certificate for --{peer}cert-file, signed with SHA-256.
    """
    thresholds = policy.of("cert.signature-hash")
    hashes = thresholds.signature_hashes
    for certificate in path.certificates:
        if certificate in path.anchors or is_self_signed(certificate):
            continue
        name = signature_hash(certificate)
        if problem := signature_problem(certificate):
            yield Finding(
                message=f"{shown(certificate)} is signed with {problem}",
                expected="SHA-256, SHA-384 or SHA-512 with RSA or ECDSA, or Ed25519",
                observed=f"{problem}, by {name_text(certificate.issuer)}",
                reproduce=(show_chain(here.url, SERVED_KEYS),),
            )
        elif hashes is not None and name is not None and name not in hashes:
            yield Finding(
                message=f"{shown(certificate)} is signed with {name}, which the profile does not allow",
                expected=f"{', '.join(sorted(hashes))}{thresholds.source('signature_hashes')}",
                observed=f"{name}, by {name_text(certificate.issuer)}",
                reproduce=(show_chain(here.url, SERVED_KEYS),),
                remediation="issue a new certificate for --{peer}cert-file, signed with a hash that the "
                "profile allows",
            )
