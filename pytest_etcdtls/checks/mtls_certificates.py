"""Client certificates: on which port they are accepted, and the keys, signatures and dates of held ones.

A certificate is accepted on the port that it was issued for and on no other, also when a session is resumed.
No listener serves client certificates, so their faults do not show on the wire.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any

from msgspec.structs import replace

from pytest_etcdtls.checks.cert_form import by_each_clock, ends_soon, state_of, when
from pytest_etcdtls.checks.judgement import SERVED, changed, judge, serving
from pytest_etcdtls.checks.mtls_refusals import as_if_accepted
from pytest_etcdtls.checks.refused_clients import DECODE_ERROR
from pytest_etcdtls.checks.registry import CLIENT_AND_PEER, check
from pytest_etcdtls.checks.results import Finding, Note, Statement, inconclusive, not_applicable, not_verified
from pytest_etcdtls.facts.access_matrix import AccessMatrix
from pytest_etcdtls.facts.declared_files import HeldCertificate, HeldCertificates
from pytest_etcdtls.facts.listener import Policy
from pytest_etcdtls.facts.refusal import SANRule, by_etcd
from pytest_etcdtls.facts.release import EtcdRelease
from pytest_etcdtls.facts.sessions import ForeignSession, Resumed, Resumption
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
from pytest_etcdtls.pki.go_verify import is_self_signed, signature_problem
from pytest_etcdtls.pki.profile import NO_CERTIFICATE
from pytest_etcdtls.pki.thresholds import Thresholds
from pytest_etcdtls.role import Role, TLSVersion
from pytest_etcdtls.target import Listener
from pytest_etcdtls.tls.attempt import Ending
from pytest_etcdtls.tls.command import (
    GET_VERSION,
    GOOD_CLIENT,
    KEY,
    SIGNATURE,
    Command,
    compare,
    s_client,
    show_file,
)
from pytest_etcdtls.untrusted.printable import plural

_CLIENT_PAIR_SINCE = (3, 5)
"""The first release line with ``--client-cert-file``."""


def _judge(matrix: AccessMatrix, unauthenticated: AccessMatrix, who: str) -> Iterator[Statement]:
    """Judge the role where unauthenticated clients are refused; otherwise roles do not matter."""
    if unauthenticated.cases.accepted:
        yield not_applicable("clients without a certificate are accepted, see mtls.no-certificate")
        return
    # From 1.25 on Go sends it for a certificate that does not parse (crypto/tls, processCertsFromClient).
    if {attempt.alert for attempt in matrix.cases.attempts} == {DECODE_ERROR}:
        reason = "etcd does not parse this certificate, so it does not show which CAs the port trusts"
        yield not_verified(f"{reason}: see mtls.trusted-client")
        return
    yield from judge(matrix, who)


@check("mtls.client-certificate-on-peer-port", on={Role.PEER}, counterexample=as_if_accepted)
def a_client_certificate_is_refused_on_the_peer_port(
    matrix: Annotated[AccessMatrix, "client-certificate"], unauthenticated: Annotated[AccessMatrix, "none"]
) -> Iterator[Statement]:
    """A client certificate is refused on the peer port.

    The peer port serves snapshots and takes part in raft. With one CA for both ports, as kubeadm sets it up,
    every client's key gives access to it.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: etcd --peer-trusted-ca-file
    Follows: mtls.no-certificate
    Severity: medium
    Level: SHOULD
    Remediation: use a separate CA for peers in --peer-trusted-ca-file, or name the peers with
        --peer-cert-allowed-cn. Members connect to each other with --peer-cert-file, or with
        --peer-client-cert-file; that CA must issue this certificate as well.
    """
    if not any(case.closes for case in matrix.cases) and matrix.san_rule is not SANRule.ACCEPTS:
        reason = "etcd closed the connection by its SAN rule: from its own address it may be accepted"
        yield not_verified(reason)
        return
    yield from _judge(matrix, unauthenticated, "a client's certificate on the peer port")


@check("mtls.peer-certificate-on-client-port", on={Role.CLIENT}, counterexample=as_if_accepted)
def a_peer_certificate_is_refused_on_the_client_port(
    matrix: Annotated[AccessMatrix, "peer-certificate"], unauthenticated: Annotated[AccessMatrix, "none"]
) -> Iterator[Statement]:
    """A peer certificate is refused on the client port.

    A leaked peer key then also gives access to the client API, where it reads and writes keys.

    Spec: etcd THREAT_MODEL.md, Peer-to-Peer Boundary
    Spec: etcd --trusted-ca-file
    Follows: mtls.no-certificate
    Severity: low
    Level: SHOULD
    Remediation: use a separate CA for clients in --trusted-ca-file. If that CA does not also issue the
        certificate of --cert-file, the JSON gateway needs a certificate of its own from that CA, with
        --client-cert-file and --client-key-file (etcd 3.5 and newer).
    """
    yield from _judge(matrix, unauthenticated, "a peer's certificate on the client port")


@check("mtls.server-certificate-as-client", on={Role.CLIENT}, counterexample=as_if_accepted)
def the_served_certificate_is_no_client_certificate(
    matrix: Annotated[AccessMatrix, "server-certificate"],
    unauthenticated: Annotated[AccessMatrix, "none"],
    etcd: EtcdRelease,
) -> Iterator[Statement]:
    """The certificate that the client port serves is refused as a client certificate.

    A leaked server key otherwise gives client access. etcd's JSON gateway connects to its own port with the
    served certificate, so by default that certificate is accepted. From 3.5 on the gateway can have a
    certificate of its own.

    Spec: etcd --client-cert-file, --client-key-file
    Spec: RFC 5280 section 4.2.1.12
    Follows: cert.signature-hash
    Severity: low
    Level: SHOULD
    Remediation: give the gateway its own certificate with --client-cert-file and --client-key-file, and serve
        a certificate with the extended key usage serverAuth alone.
    """
    statements = list(_judge(matrix, unauthenticated, "the served certificate, as a client certificate,"))
    if etcd.release.line < _CLIENT_PAIR_SINCE and any(isinstance(one, Finding) for one in statements):
        yield not_applicable(f"etcd {etcd.release} has no --client-cert-file for its gateway, which needs it")
        return
    yield from statements


def _session_refused(resumption: Resumption, **_: object) -> Mapping[str, Any]:
    def refused(resumed: Resumed) -> Resumed:
        again = replace(resumed.fresh, ending=Ending.OTHER, alert=80, resumed=True, response=None)
        return replace(resumed, again=again)

    return {"resumption": replace(resumption, good=tuple(refused(resumed) for resumed in resumption.good))}


@check("mtls.resumption-keeps-verdict", on=CLIENT_AND_PEER, counterexample=_session_refused)
def a_resumed_session_is_judged_like_a_full_handshake(
    here: Listener, resumption: Resumption
) -> Iterator[Statement]:
    """A resumed session is accepted exactly when a full handshake would be.

    A resumed handshake sends no certificate. If the server does not verify the remembered certificate again,
    above all against the revocation list, a revoked client keeps its access. If the server forgets the
    certificate, good clients are refused from their second connection on.

    Spec: RFC 8446 section 2.2
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Spec: etcd --{side}-crl-file
    Follows: mtls.no-certificate
    Severity: high
    Level: MUST
    Remediation: let etcd itself terminate TLS on this port: it judges a resumed session by revocation list
        and SANs like any other.
    """
    for resumed in resumption.good:
        yield from _judge_good(here, resumed)
    controls = {resumed.version: resumed.fresh for resumed in resumption.good}
    for resumed in resumption.revoked:
        again = resumed.again and by_etcd(resumed.again, controls.get(resumed.version))
        yield from _judge_revoked(here, replace(resumed, again=again))


def _judge_good(here: Listener, resumed: Resumed) -> Iterator[Statement]:
    again, place = resumed.again, f"{resumed.identity} in {resumed.version}"
    if resumed.fresh.ending is not Ending.SERVED:
        yield not_verified(f"{place} is not accepted with a full handshake: {resumed.fresh.describe()}")
    elif again is None:
        yield Note(f"{resumed.version}: the server issues no session")
    elif again.ending is Ending.SERVED:
        yield Note(f"{resumed.version}: {'resumed' if again.resumed else 'not resumed'}")
    elif again.ending in (Ending.UNCLEAR, Ending.CLOSED):
        yield inconclusive(f"{place} with its session: {again.describe()}")
    else:
        yield Finding(
            message=f"the good client is accepted, but not with its session, in {resumed.version}",
            expected=resumed.fresh.describe(),
            observed=again.describe(),
            evidence={"identity": resumed.identity},
            reproduce=_resume(here.url, here.url, resumed.version, resumed.identity),
        )


def _judge_revoked(here: Listener, resumed: Resumed) -> Iterator[Statement]:
    again, place = resumed.again, f"{resumed.identity} in {resumed.version}"
    if resumed.fresh.ending is Ending.SERVED or again is None:
        return
    if again.ending is Ending.SERVED:
        yield Finding(
            message=f"a client that is refused otherwise is accepted with its session, in {resumed.version}",
            expected=resumed.fresh.describe(),
            observed=again.describe(),
            evidence={"identity": resumed.identity},
            reproduce=_resume(here.url, here.url, resumed.version, resumed.identity),
        )
    elif again.ending is Ending.UNCLEAR:
        yield inconclusive(f"{place} with its session: {again.describe()}")


_accepted_on_other_port = changed("foreign.presented.*.2", **SERVED, resumed=True)


@check("mtls.ticket-not-transferable", on=CLIENT_AND_PEER, counterexample=_accepted_on_other_port)
def a_session_of_the_other_port_is_refused(here: Listener, foreign: ForeignSession) -> Iterator[Statement]:
    """A session from the member's other port is refused.

    A client of the client port could otherwise use the peer port, without a certificate that is valid there:
    ports that share their ticket keys accept each other's clients.

    Spec: RFC 8446 section 4.6.1
    Spec: RFC 9325 section 3.4
    Spec: etcd THREAT_MODEL.md, Client-to-Server Boundary
    Severity: critical
    Level: MUST
    Remediation: let etcd itself terminate TLS on both ports: it has ticket keys of its own for each listener.
    """
    for version, fresh, tried in foreign.presented:
        again = by_etcd(tried, fresh)
        if again.ending is Ending.UNCLEAR:
            yield inconclusive(f"{version}: {again.purpose}: {again.describe()}")
        elif again.ending is Ending.SERVED and not again.resumed:
            reason = (
                "a client without a certificate is accepted without a session too, see mtls.no-certificate"
            )
            yield not_applicable(reason)
        elif again.ending is Ending.SERVED:
            yield Finding(
                message=f"a session of {foreign.other} is accepted in {version}",
                expected="a full handshake, in which a client without a certificate is refused",
                observed=f"resumed; {again.describe()}",
                reproduce=_resume(foreign.other, here.url, version, GOOD_CLIENT),
            )


def _resume(issuer: str, presented_to: str, version: TLSVersion, client: str) -> tuple[Command, ...]:
    again = client if issuer == presented_to else NO_CERTIFICATE.name
    return compare(
        s_client(issuer, version, "-sess_out session.pem", client, GET_VERSION),
        s_client(presented_to, version, "-sess_in session.pem", again, GET_VERSION),
        look='"Reused" and "HTTP" in the second output: accepted with a session',
    )


Clients = Annotated[HeldCertificates, "clients"]
ClientCAs = Annotated[HeldCertificates, "client-cas"]

_STRONG_HASHES = frozenset({"sha256", "sha384", "sha512"})


def an_hour_left(held: HeldCertificates, policy: Policy) -> Mapping[str, Any]:
    """Return the counterexample of the checks that held certificates do not expire soon."""
    ends = held.certificates[0].certificate.not_valid_after_utc
    return {"held": replace(held, observed_at=ends - timedelta(hours=1))}


_weak = serving("held", rsa_bits=1024)


@check("mtls.client-certificate-strength", on=set(), counterexample=_weak)
def client_keys_are_strong(held: Clients, policy: Policy) -> Iterator[Statement]:
    """The keys of client certificates are strong.

    An attacker who computes a client's private key from its certificate has that client's access. A
    certificate is not secret: in TLS 1.2 it is sent in clear text.

    Spec: NIST SP 800-131A section 3
    Severity: high
    Level: SHOULD
    Remediation: issue a new client certificate with an ECDSA P-256 or RSA 2048 key.
    """
    yield from _weak_keys(held, policy.of("mtls.client-certificate-strength"))


@check("mtls.client-ca-strength", on=set(), counterexample=_weak)
def client_ca_keys_are_strong(held: ClientCAs, policy: Policy) -> Iterator[Statement]:
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
    for given in held.certificates:
        key = public_key(given.certificate)
        strong = is_strong(key)
        if not strong or not is_allowed(key, thresholds):
            what = "key that the profile does not allow" if strong else "weak key"
            yield Finding(
                message=f"{given.name} has a {what}",
                expected=allowed_keys(thresholds) if strong else STRONG,
                observed=describe_key(key),
                evidence=_evidence(given),
                reproduce=(show_file(given.source, KEY),),
            )


@check(
    "mtls.client-certificate-signature",
    on=set(),
    counterexample=serving("held", signature_hash="sha1"),
)
def client_signatures_use_sha2(held: Clients, policy: Policy) -> Iterator[Statement]:
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
    for given in held.certificates:
        name = signature_hash(given.certificate)
        problem = signature_problem(given.certificate) or (name if name not in hashes else None)
        if problem and not is_self_signed(given.certificate):
            yield Finding(
                message=f"{given.name} is signed with {problem}",
                expected=expected,
                observed=f"{problem}, by {name_text(given.certificate.issuer)}",
                evidence=_evidence(given),
                reproduce=(show_file(given.source, SIGNATURE),),
            )


@check("mtls.client-certificate-expires", on=set(), counterexample=an_hour_left)
def client_certificates_do_not_expire_soon(held: Clients, policy: Policy) -> Iterator[Statement]:
    """Client certificates are valid for longer than --etcd-expiry-days from now.

    A client is refused as soon as its certificate expires. Listeners do not show this in advance.

    Spec: RFC 5280 section 4.1.2.5
    Follows: config.dials-with-valid-certificates
    Severity: medium
    Level: SHOULD
    Remediation: renew the client's certificate; etcd needs no restart for that.
    """
    yield from expiring(held, policy)


@check("mtls.client-ca-expires", on=set(), counterexample=an_hour_left)
def client_cas_do_not_expire_soon(held: ClientCAs, policy: Policy) -> Iterator[Statement]:
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


def expiring(held: HeldCertificates, policy: Policy) -> Iterator[Statement]:
    """Judge for each certificate, by each clock, whether it is valid and not only for the policy's days."""
    for given in held.certificates:
        states = {now: state_of(given.certificate, now) for now in (held.observed_at, *held.members_time)}
        state = states[held.observed_at]
        other = next((now for now, found in states.items() if found != state), None)
        if other is not None:
            different = by_each_clock(given.certificate, (held.observed_at, other))
            yield not_verified(f"{given.name} {different}, see api.clock-agrees")
        elif state:
            begins, ends = given.certificate.not_valid_before_utc, given.certificate.not_valid_after_utc
            yield Finding(
                message=f"{given.name} {state}",
                expected=f"more than {plural(policy.expiry_days, 'day')} left",
                observed=f"valid from {when(begins)} to {when(ends)} ({given.source})",
                evidence=_evidence(given),
                reproduce=(show_file(given.source),),
            )
        else:
            name = f"{given.name} ({given.source})"
            yield from ends_soon(given.certificate, name, tuple(states), policy, show_file(given.source))


def _evidence(given: HeldCertificate) -> dict[str, str]:
    return {"subject": shown(given.certificate), "source": given.source}
