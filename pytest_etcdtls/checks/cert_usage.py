"""What the served certificate may be used for: as a server, as a client of other etcds, for signatures."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from pytest_etcdtls.checks.judgement import EVERY_ANSWER, changed, serving
from pytest_etcdtls.checks.registry import EVERY_LISTENER, check
from pytest_etcdtls.checks.results import CannotJudge, Finding, Note, Statement, not_applicable, not_verified
from pytest_etcdtls.declared.cures import client_certificates, reissued
from pytest_etcdtls.errors import missing
from pytest_etcdtls.facts.access import ServedClient
from pytest_etcdtls.facts.api import serves_grpc_only
from pytest_etcdtls.facts.certificates import CertificateMessage, Dialling, ServedByMembers
from pytest_etcdtls.facts.listener import ServedChain
from pytest_etcdtls.pki.certificate import (
    is_generated,
    key_usages,
    load,
    public_key,
    purposes,
    shown,
)
from pytest_etcdtls.pki.go_parser import BASIC_CONSTRAINTS, SUBJECT_ALT_NAME, MalformedError, Reader, details
from pytest_etcdtls.pki.go_verify import CLIENT_AUTH, allows, is_current, is_self_signed
from pytest_etcdtls.pki.profile import AUTHORITY
from pytest_etcdtls.role import Protocol, Role
from pytest_etcdtls.target import Listener, Target
from pytest_etcdtls.tls.attempt import Response
from pytest_etcdtls.tls.command import (
    HASHED_KEY,
    IS_CA,
    ISSUER,
    STATUS,
    USAGES,
    Command,
    compare,
    curl,
    show_chain,
    show_leaf,
)

_UNAVAILABLE = 503
_EXPIRED = b"expired certificate"
"""How Go's TLS names the alert certificate_expired, with which etcd refuses its own gateway."""
GENERATED = not_applicable("etcd generated the certificate, see cert.generated")
"""The outcome of checks on a certificate that etcd generated, which cert.generated reports."""


def _extended(chain: ServedChain) -> str:
    return f"extendedKeyUsage {', '.join(purposes(chain.leaf) or ()) or '(empty)'}"


_for_clients_only = serving("chain", extended_key_usage=("clientAuth",))


@check("cert.server-usage", on=EVERY_LISTENER, counterexample=_for_clients_only, cure=reissued)
def the_certificate_is_for_servers(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """The extended key usage, if present, allows serverAuth.

    Clients refuse the certificate. A certificate without the extension may be used for every purpose.

    Spec: RFC 5280 section 4.2.1.12
    Severity: high
    Level: MUST
    Remediation: issue the certificate of --{peer}cert-file with extendedKeyUsage serverAuth, clientAuth.
    """
    if not allows(chain.leaf):
        yield Finding(
            message="the certificate is not for servers",
            expected="extendedKeyUsage with serverAuth, or none",
            observed=_extended(chain),
            reproduce=(show_leaf(here.url, USAGES),),
        )


_no_digital_signature = serving("chain", key_usage=frozenset({"keyEncipherment"}))


@check("cert.key-usage", on=EVERY_LISTENER, counterexample=_no_digital_signature)
def the_key_may_sign(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """The key usage, if present, allows digitalSignature.

    A server signs every TLS 1.3 handshake, and every TLS 1.2 handshake with ECDHE. Java and BoringSSL refuse
    the certificate, and OpenSSL does if keyEncipherment is missing as well. Go does not check the key usage,
    so the certificate works with etcd and etcdctl.

    Spec: RFC 8446 section 4.4.2.2
    Spec: RFC 5280 section 4.2.1.3
    Severity: medium
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with keyUsage digitalSignature (and
        keyEncipherment for an RSA key).
    """
    usages = key_usages(chain.leaf)
    if usages is not None and "digitalSignature" not in usages:
        yield Finding(
            message="the key usage does not allow signatures",
            expected="keyUsage with digitalSignature, or none",
            observed=f"keyUsage {', '.join(sorted(usages)) or '(empty)'}",
            reproduce=(show_leaf(here.url, USAGES),),
        )


def _gateway_down(
    chain: ServedChain, served: ServedClient, dialling: Dialling, **_: object
) -> Mapping[str, Any]:
    unavailable = Response(status=_UNAVAILABLE, body=b'{"error":"tls: bad certificate","code":14}')
    return {
        **serving("chain", extended_key_usage=("serverAuth",))(chain=chain),
        **changed(EVERY_ANSWER, response=unavailable)(served=served),
        "dialling": replace(dialling, with_another=False),
    }


@check(
    "cert.client-usage",
    on={Role.CLIENT, Role.CLIENT_HTTP, Role.PEER},
    counterexample=_gateway_down,
    cure=reissued,
)
def the_certificate_is_for_clients_too(
    here: Listener, target: Target, chain: ServedChain, served: ServedClient, dialling: Dialling
) -> Iterator[Statement]:
    """A certificate that etcd also uses as a client allows clientAuth.

    With serverAuth alone in the extended key usage, the JSON gateway answers 503 and the member cannot
    connect to others: the gateway uses the certificate for etcd's own client port, and members use it for
    each other's peer ports. From 3.5 on etcd can use another certificate for that. The gateway shows whether
    it does; the peer port does not, so a cluster of several members is judged only if its configuration is
    known.

    Spec: RFC 5280 section 4.2.1.12
    Spec: etcd --{peer}cert-file, --{peer}client-cert-file
    Severity: high
    Level: MUST on peer, else SHOULD
    Remediation: issue the certificate of --{peer}cert-file with both clientAuth and serverAuth, or give etcd
        (3.5 and newer) a separate client certificate: --{peer}client-cert-file and --{peer}client-key-file.
    """
    if allows(chain.leaf, CLIENT_AUTH):
        return
    if is_generated(chain.leaf):
        yield GENERATED
    elif dialling.with_another:
        yield Note("etcd dials with another certificate than the one that it serves")
    elif here.role is not Role.PEER:
        yield from _at_the_gateway(here, target, chain, served)
    elif dialling.with_another is None and dialling.members != 1:
        text = "it lacks clientAuth, but members of a running cluster may dial with another certificate"
        yield not_verified(missing(text, "--etcd-config"))
    else:
        yield _not_for_clients(chain, "members cannot dial each other with it", show_leaf(here.url, USAGES))


def _at_the_gateway(
    here: Listener, target: Target, chain: ServedChain, served: ServedClient
) -> Iterator[Statement]:
    client = served.client
    if client is None:
        yield not_verified("it has no clientAuth; needs an accepted client to try the gateway")
        return
    answers = [attempt.response for attempt in client.served_over(Protocol.GATEWAY)]
    statuses = {response.status for response in answers if response is not None}
    bodies = b"".join(response.body for response in answers if response is not None)
    if _UNAVAILABLE in statuses and _EXPIRED in bodies and is_current(chain.leaf, chain.observed_at):
        yield Note("the gateway dials with another certificate, which has expired: see api.gateway-works")
    elif _UNAVAILABLE in statuses:
        line = curl(here.url, client=client.identity, protocol=Protocol.GATEWAY, look=STATUS)
        yield _not_for_clients(chain, "the gateway answers 503", line)
    elif statuses:
        yield Note("the gateway works nevertheless: it dials with another certificate, or none is requested")
    else:
        raise serves_grpc_only(here, target)


def _not_for_clients(chain: ServedChain, consequence: str, line: Command) -> Finding:
    return Finding(
        message=f"the certificate is not for clients: {consequence}",
        expected="extendedKeyUsage with clientAuth as well, or none",
        observed=_extended(chain),
        reproduce=(line,),
    )


_FOR_SERVERS = frozenset({"serverAuth", "2.16.840.1.113730.4.1", "1.3.6.1.4.1.311.10.3.3"})
"""Extended key usages that OpenSSL accepts for a server: serverAuth, Netscape's and Microsoft's SGC."""

_NS_CERT_TYPE = "2.16.840.1.113730.1.1"
_NS_SSL_SERVER = 1
"""Number of the bit."""


def _path(message: CertificateMessage) -> Iterator[x509.Certificate | CannotJudge | Note]:
    """Yield the leaf and the CAs above it, or the reason why they are not judged."""
    try:
        leaf = load(message.certificates[0])
    except ValueError:
        yield not_verified(
            "this client cannot parse the served certificate: see cert.well-formed and cert.parsable"
        )
        return
    if is_generated(leaf):
        yield GENERATED
        return
    yield leaf
    yield from message.issuers
    if not message.issuers:
        yield Note("the CAs above the served certificate are not known, so they were not judged")


_any_purpose = serving("message", extended_key_usage=("2.5.29.37.0",))


@check("cert.openssl-purpose", on=EVERY_LISTENER, counterexample=_any_purpose)
def openssl_accepts_the_server_certificate(
    here: Listener, message: CertificateMessage
) -> Iterator[Statement]:
    """OpenSSL accepts the certificate and its CAs for the purpose serverAuth.

    OpenSSL does not accept anyExtendedKeyUsage as serverAuth, neither in the served certificate nor in a CA
    above it, and it refuses a server whose nsCertType does not include server. Clients that use OpenSSL, such
    as every version of Python, then refuse the handshake. Go accepts both.

    Spec: RFC 5280 section 4.2.1.12
    Spec: OpenSSL openssl-verification-options, Certificate Extensions
    Severity: medium
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with extendedKeyUsage serverAuth, clientAuth and
        without nsCertType, from a CA without extendedKeyUsage.
    """
    for number, certificate in enumerate(_path(message)):
        if isinstance(certificate, CannotJudge | Note):
            yield certificate
            continue
        named = purposes(certificate)
        if named is not None and "anyExtendedKeyUsage" in named and not _FOR_SERVERS & set(named):
            yield _refused(here, certificate, "OpenSSL and Python", f"extendedKeyUsage {', '.join(named)}")
        if number == 0 and _ns_cert_type_excludes_servers(certificate):
            yield _refused(here, certificate, "OpenSSL and Python", "nsCertType without SSL server")


def _ns_cert_type_excludes_servers(certificate: x509.Certificate) -> bool:
    cert_type = details(certificate).extensions.get(_NS_CERT_TYPE)
    if cert_type is None:
        return False
    try:
        octets, _ = Reader(cert_type.value).bit_string()
    except MalformedError:
        return False
    return not octets or not octets[0] & 0x80 >> _NS_SSL_SERVER


_without_key_usage = serving("message", dataclasses.replace(AUTHORITY, key_usage=frozenset()))


@check("cert.x509-strict", on=EVERY_LISTENER, counterexample=_without_key_usage)
def strict_clients_accept_the_chain(here: Listener, message: CertificateMessage) -> Iterator[Statement]:
    """The chain follows the rules of Python 3.13 and openssl -x509_strict.

    From 3.13 on, ssl.create_default_context sets VERIFY_X509_STRICT and refuses a chain that breaks a rule of
    RFC 5280: a CA without keyUsage or of version 1, basicConstraints that are not critical, empty names. Go,
    earlier versions of Python, and OpenSSL by default accept it. Missing key identifiers are reported by
    cert.key-identifiers.

    Spec: RFC 5280 section 4.2
    Spec: Python ssl.VERIFY_X509_STRICT
    Severity: low
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file, or its CA, again with what is missing; a CA has
        critical basicConstraints CA:TRUE and keyUsage keyCertSign, cRLSign.
    """
    for number, certificate in enumerate(_path(message)):
        if isinstance(certificate, CannotJudge | Note):
            yield certificate
            continue
        for problem in _strict_problems(certificate, is_issuer=number > 0):
            yield _refused(here, certificate, "Python 3.13 and newer", problem)


def _refused(here: Listener, certificate: x509.Certificate, who: str, problem: str) -> Finding:
    return Finding(
        message=f"{who} clients refuse {shown(certificate)}",
        expected="a chain that these clients accept as well as Go",
        observed=problem,
        reproduce=(show_chain(here.url),),
    )


def _strict_problems(certificate: x509.Certificate, *, is_issuer: bool) -> Iterator[str]:
    """Yield the rules of OpenSSL's ``check_chain`` under ``X509_V_FLAG_X509_STRICT`` that are broken.

    Rules that Go enforces too are left out: an issuer that is no CA, or may not sign, is reported by
    cert.issuer-is-ca.
    """
    fields, usages = details(certificate), key_usages(certificate)
    is_ca, path_length = bool(fields.is_ca), fields.path_length
    if certificate.version is not x509.Version.v3:
        if is_issuer and is_self_signed(certificate):
            yield f"version {certificate.version.name[1:]}, which has no basicConstraints"
        return
    if is_issuer and not is_ca:
        return
    if is_ca and not fields.extensions[BASIC_CONSTRAINTS].critical:
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


def _empty_names(certificate: x509.Certificate, *, is_ca: bool, signs_crls: bool) -> Iterator[str]:
    fields = details(certificate)
    names = fields.extensions.get(SUBJECT_ALT_NAME)
    critical = names is not None and names.critical
    if not list(certificate.issuer):
        yield "an empty issuer"
    if not list(certificate.subject):
        if is_ca or signs_crls or names is None:
            yield "an empty subject"
        elif not critical:
            yield "an empty subject with a subjectAltName that is not critical (OpenSSL 3, not 4)"
    if names is not None and not fields.names and not critical:
        yield "an empty subjectAltName"


_made_by_etcd = serving("chain", common_name=None, organization="etcd", self_signed=True)


@check("cert.generated", on=EVERY_LISTENER, counterexample=_made_by_etcd, cure=client_certificates)
def the_certificate_is_not_generated(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """The served certificate was issued by a CA, not generated by etcd.

    With --auto-tls the generated settings replace client-cert-auth and the trusted CA, so that every client
    is accepted. Each member also signs a certificate for itself, which clients cannot verify; it is stored in
    the data directory and eventually expires there.

    Spec: CIS Kubernetes 2.3, 2.6
    Spec: etcd --auto-tls, --peer-auto-tls
    Follows: config.auto-tls-drops-client-auth
    Severity: critical
    Level: MUST
    Remediation: remove --{peer}auto-tls and give etcd a certificate of your CA with --{peer}cert-file and
        --{peer}key-file, and --{peer}client-cert-auth=true with --{peer}trusted-ca-file.
    """
    if is_generated(chain.leaf):
        yield Finding(
            message="etcd generated this certificate for itself (auto-tls)",
            expected="a certificate of your CA",
            observed=f"subject and issuer {shown(chain.leaf)}",
            reproduce=(show_leaf(here.url, ISSUER),),
        )


@check("cert.not-a-ca", on=EVERY_LISTENER, counterexample=serving("chain", ca=True))
def the_certificate_is_not_a_ca(here: Listener, chain: ServedChain) -> Iterator[Statement]:
    """The served certificate is not a CA certificate.

    An attacker who obtains the server's key can issue certificates that chain to the same root. If etcd
    trusts that root, this includes client certificates.

    Spec: RFC 5280 section 4.2.1.9
    Severity: high
    Level: SHOULD
    Remediation: issue the certificate of --{peer}cert-file with basicConstraints CA:FALSE.
    """
    fields = details(chain.leaf)
    if not fields.is_ca:
        return
    if is_generated(chain.leaf):
        yield GENERATED
        return
    yield Finding(
        message="the served certificate is a CA certificate",
        expected="basicConstraints CA:FALSE, or none",
        observed="CA:TRUE" + ("" if fields.path_length is None else f", pathlen:{fields.path_length}"),
        reproduce=(show_leaf(here.url, IS_CA),),
    )


def _one_for_all(served: ServedByMembers) -> Mapping[str, Any]:
    _, first = served.chains[0]
    chains = tuple(
        (listener, replace(chain, certificates=first.certificates)) for listener, chain in served.chains
    )
    return {"served": replace(served, chains=chains)}


@check("cert.own-key-per-member", on=set(), counterexample=_one_for_all)
def every_member_has_keys_of_its_own(served: ServedByMembers) -> Iterator[Statement]:
    """Every member serves its own keys.

    If a shared key is stolen from one node, it impersonates every member and cannot be replaced on one member
    alone.

    Spec: etcd Documentation, transport security model
    Follows: cert.matches-expected-file
    Severity: medium
    Level: SHOULD
    Remediation: give each member its own certificate and key in --cert-file, --key-file, --peer-cert-file and
        --peer-key-file.
    """
    by_key: dict[str, list[Listener]] = {}
    for listener, chain in served.chains:
        by_key.setdefault(_fingerprint(chain), []).append(listener)
    for fingerprint, users in by_key.items():
        members = dict.fromkeys(listener.member for listener in users)
        if len(members) > 1:
            yield Finding(
                message=f"the members {', '.join(members)} share a key",
                expected="a key of its own for each member",
                observed=", ".join(listener.url for listener in users),
                evidence={"SHA-256 of the public key": fingerprint},
                reproduce=compare(
                    *(show_leaf(listener.url, HASHED_KEY) for listener in users[:2]),
                    look="the same hash from both: one key",
                ),
            )


def _fingerprint(chain: ServedChain) -> str:
    """Return the SHA-256 of the public key; of the whole certificate if its key cannot be read."""
    key = public_key(chain.leaf)
    if key is None:
        return chain.leaf.fingerprint(SHA256()).hex()
    digest = Hash(SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()
