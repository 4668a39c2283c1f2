"""What OpenSSL and Python refuse of the served chain although Go accepts it (docs/certificates.md)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytest_etcdtls.checks.cert_usage import GENERATED
from pytest_etcdtls.observations.chain import CertificateMessage
from pytest_etcdtls.pki import go_parser
from pytest_etcdtls.pki.auto_tls import is_generated
from pytest_etcdtls.pki.der import MalformedError, Reader
from pytest_etcdtls.pki.path import is_self_signed
from pytest_etcdtls.pki.profile import AUTHORITY, SERVER, Profile
from pytest_etcdtls.pki.reading import extension, key_usages, load, purposes, raw_extensions, shown
from pytest_etcdtls.pki.specimen import specimen
from pytest_etcdtls.registry import EVERY_LISTENER, check
from pytest_etcdtls.reproduce import show_chain
from pytest_etcdtls.results import Finding, Note, Outcome, Statement, Verdict

_FOR_SERVERS = frozenset({"serverAuth", "2.16.840.1.113730.4.1", "1.3.6.1.4.1.311.10.3.3"})
"""Extended key usages that OpenSSL takes for a server's: serverAuth, Netscape's and Microsoft's SGC."""

_NS_CERT_TYPE = "2.16.840.1.113730.1.1"
_NS_SSL_SERVER = 1
"""Number of the bit."""


def _message(
    message: CertificateMessage, leaf: Profile = SERVER, ca: Profile = AUTHORITY
) -> Mapping[str, Any]:
    served, issuer = specimen(leaf, authority=ca)
    der = served.public_bytes(Encoding.DER)
    return {"message": replace(message, certificates=(der,), issuers=(issuer,))}


def _path(message: CertificateMessage) -> Iterator[x509.Certificate | Verdict | Note]:
    """Yield the leaf and the CAs above it, or why they are not judged."""
    try:
        leaf = load(message.certificates[0])
    except ValueError:
        yield Verdict(
            Outcome.NOT_VERIFIED,
            "this client cannot parse the served certificate: see cert.well-formed and cert.parsable",
        )
        return
    if is_generated(leaf):
        yield GENERATED
        return
    yield leaf
    yield from message.issuers
    if not message.issuers:
        yield Note("the CAs above the served certificate are not known, so they were not judged")


def _any_purpose(message: CertificateMessage) -> Mapping[str, Any]:
    return _message(message, replace(SERVER, extended_key_usage=("2.5.29.37.0",)))


@check("cert.openssl-purpose", on=EVERY_LISTENER, counterexample=_any_purpose)
def openssl_takes_the_certificate_for_a_server(message: CertificateMessage) -> Iterator[Statement]:
    """The certificate and its CAs name serverAuth where they name any extended key usage.

    OpenSSL does not take anyExtendedKeyUsage for serverAuth, neither in the served certificate nor in a CA
    above it, and it refuses a server whose nsCertType does not say that it is one. Clients that are built on
    it, Python of every version among them, refuse the handshake. Go accepts both.

    Spec: RFC 5280 section 4.2.1.12
    Spec: OpenSSL openssl-verification-options, Certificate Extensions
    Severity: medium
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with extendedKeyUsage serverAuth, clientAuth and
        without nsCertType, from a CA without extendedKeyUsage.
    """
    for number, found in enumerate(_path(message)):
        if isinstance(found, Verdict | Note):
            yield found
            continue
        named = purposes(found)
        if named is not None and "anyExtendedKeyUsage" in named and not _FOR_SERVERS & set(named):
            yield _refused(message, found, "OpenSSL and Python", f"extendedKeyUsage {', '.join(named)}")
        if number == 0 and _ns_cert_type_excludes_servers(found):
            yield _refused(message, found, "OpenSSL and Python", "nsCertType without SSL server")


def _ns_cert_type_excludes_servers(certificate: x509.Certificate) -> bool:
    value = next((raw.value for raw in raw_extensions(certificate) if raw.oid == _NS_CERT_TYPE), None)
    if value is None:
        return False
    try:
        octets, _ = Reader(value).bit_string("malformed nsCertType")
    except MalformedError:
        return False
    return not octets or not octets[0] & 0x80 >> _NS_SSL_SERVER


def _without_key_usage(message: CertificateMessage) -> Mapping[str, Any]:
    return _message(message, ca=replace(AUTHORITY, key_usage=frozenset()))


@check("cert.x509-strict", on=EVERY_LISTENER, counterexample=_without_key_usage)
def strict_clients_accept_the_chain(message: CertificateMessage) -> Iterator[Statement]:
    """The chain keeps the rules that Python 3.13 and openssl -x509_strict insist on.

    From 3.13 on ssl.create_default_context sets VERIFY_X509_STRICT, and refuses a chain that breaks a rule of
    RFC 5280: a CA without keyUsage or of version 1, basicConstraints that are not critical, empty names. Go,
    earlier Pythons and OpenSSL by default accept it. Missing key identifiers are for cert.key-identifiers.

    Spec: RFC 5280 section 4.2
    Spec: Python ssl.VERIFY_X509_STRICT
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file, or its CA, anew with what is missing; a CA has
        critical basicConstraints CA:TRUE and keyUsage keyCertSign, cRLSign.
    """
    for number, found in enumerate(_path(message)):
        if isinstance(found, Verdict | Note):
            yield found
            continue
        for problem in _strict_problems(found, is_issuer=number > 0):
            yield _refused(message, found, "Python 3.13 and newer", problem)


def _refused(message: CertificateMessage, certificate: x509.Certificate, who: str, problem: str) -> Finding:
    return Finding(
        message=f"{who} clients refuse {shown(certificate)}",
        expected="a chain that these clients accept as well as Go",
        observed=problem,
        reproduce=(show_chain(message.url),),
    )


def _strict_problems(certificate: x509.Certificate, *, is_issuer: bool) -> Iterator[str]:
    """Yield the rules of OpenSSL's ``check_chain`` under ``X509_V_FLAG_X509_STRICT`` that are broken.

    What Go refuses too is left out: an issuer that is no CA, or may not sign, is for cert.issuer-is-ca.
    """
    is_ca, path_length, critical = _basic_constraints(certificate)
    usages = key_usages(certificate)
    if certificate.version is not x509.Version.v3:
        if is_issuer and is_self_signed(certificate):
            yield f"version {certificate.version.name[1:]}, which has no basicConstraints"
        return
    if is_issuer and not is_ca:
        return
    if is_ca and not critical:
        yield "basicConstraints not critical (refused where Python is built with OpenSSL 3, not 4)"
    if is_ca and usages is None:
        yield "a CA without keyUsage"
    if not is_ca and usages is not None and "keyCertSign" in usages:
        yield "keyUsage keyCertSign without basicConstraints CA:TRUE"
    if path_length is not None and not is_ca:
        yield "basicConstraints with a path length, but without CA:TRUE"
    elif path_length is not None and not is_issuer and usages is not None and "keyCertSign" not in usages:
        yield "basicConstraints with a path length, but keyUsage without keyCertSign"
    yield from _empty_names(certificate, is_ca=is_ca, signs_crls="cRLSign" in (usages or ()))


def _basic_constraints(certificate: x509.Certificate) -> tuple[bool, int | None, bool]:
    """Return CA, path length and whether it is critical.

    The library does not return a path length without CA:TRUE.
    """
    oid = x509.BasicConstraints.oid.dotted_string
    for raw in raw_extensions(certificate):
        if raw.oid == oid:
            try:
                return (*go_parser.basic_constraints(raw.value), raw.critical)
            except MalformedError:
                break
    return False, None, True


def _empty_names(certificate: x509.Certificate, *, is_ca: bool, signs_crls: bool) -> Iterator[str]:
    names = extension(certificate, x509.SubjectAlternativeName)
    oid = x509.SubjectAlternativeName.oid.dotted_string
    critical = any(raw.critical for raw in raw_extensions(certificate) if raw.oid == oid)
    if not list(certificate.issuer):
        yield "an empty issuer"
    if not list(certificate.subject):
        if is_ca or signs_crls or names is None:
            yield "an empty subject"
        elif not critical:
            yield "an empty subject with a subjectAltName that is not critical (OpenSSL 3, not 4)"
    if names is not None and not list(names) and not critical:
        yield "an empty subjectAltName"
